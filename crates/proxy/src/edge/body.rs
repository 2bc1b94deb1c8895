//! Bodies at the edge: a request's body under its deadlines, an answer's body that keeps its connection busy.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use farthing_types::{Body, BodyError, Span};
use futures_util::task::AtomicWaker;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep_until};

use super::stall::Stall;
use super::state::{Busy, ConnState, RefusalCell};
use super::{EdgeConfig, Refusal};

/// Most bytes that are given for a stream of HTTP/2 at once: a frame's. Each that is asked for after them shows that the client takes them.
const PIECE: usize = 16 << 10;

/// What a request's body and its answer tell each other, whoever reads it: that it broke off, and that it is being answered.
#[derive(Debug, Default)]
pub(super) struct Signal {
    refusal: RefusalCell,
    waker: AtomicWaker,
    answering: AtomicBool,
    upload: AtomicWaker,
}

impl Signal {
    fn set(&self, refusal: Refusal) {
        self.refusal.set(refusal);
        self.waker.wake();
    }
    /// Resolves when the body broke off.
    pub(super) fn poll_failed(&self, cx: &Context<'_>) -> Poll<Refusal> {
        self.waker.register(cx.waker());
        self.refusal.get().map_or(Poll::Pending, Poll::Ready)
    }
    fn answering(&self, is: bool) {
        self.answering.store(is, Ordering::Release);
        self.upload.wake();
    }
    /// Whether the answer is under way; `cx` is woken when that changes.
    fn is_answering(&self, cx: &Context<'_>) -> bool {
        self.upload.register(cx.waker());
        self.answering.load(Ordering::Acquire)
    }
}

/// What a request body must keep to.
#[derive(Clone, Copy, Debug)]
struct Pace {
    min_rate: u64,
    grace: Span,
    idle: Span,
    max: u64,
}

/// A request body. Its deadlines run only while somebody reads it and the client has nothing to give: a slow reader behind us does not
/// count against the client. While its answer is under way they rest: the two may be a conversation, in which the client has nothing to say for as long
/// as it likes. What bounds that is what bounds the answer.
pub(super) struct Upload {
    incoming: Incoming,
    state: Arc<ConnState>,
    signal: Arc<Signal>,
    pace: Pace,
    bytes: u64,
    waited: Span,
    since: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
    over: bool,
}

impl Upload {
    pub(super) fn new(incoming: Incoming, state: Arc<ConnState>, signal: Arc<Signal>, config: &EdgeConfig) -> Self {
        let pace = Pace {
            min_rate: config.body_min_rate,
            grace: config.body_grace,
            idle: config.body_idle,
            max: config.max_body.unwrap_or(u64::MAX),
        };
        Self { incoming, state, signal, pace, bytes: 0, waited: Span::ZERO, since: None, timer: None, over: false }
    }

    fn fail(&mut self, refusal: Refusal, count: bool) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.over = true;
        if count {
            self.state.stats.count_refused(refusal);
        }
        self.signal.set(refusal);
        Poll::Ready(Some(Err(BodyError(refusal.detail().to_owned()))))
    }

    fn took(&mut self, frame: Frame<Bytes>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(since) = self.since.take() {
            self.waited += since.elapsed();
        }
        self.bytes += frame.data_ref().map_or(0, Bytes::len) as u64;
        if self.bytes > self.pace.max {
            return self.fail(Refusal::LargeBody, true);
        }
        Poll::Ready(Some(Ok(frame)))
    }

    /// How long the rate allows to wait in all, given the bytes that came.
    fn allowance(&self) -> Span {
        let earned = match self.pace.min_rate {
            0 => return Span::MAX,
            rate => Span::from_secs_f64(self.bytes as f64 / rate as f64),
        };
        self.pace.grace.saturating_add(earned)
    }

    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<Refusal> {
        if self.signal.is_answering(cx) {
            self.since = None;
            return Poll::Pending;
        }
        let since = *self.since.get_or_insert_with(Instant::now);
        let by_rate = self.allowance().saturating_sub(self.waited);
        let (span, refusal) = if by_rate < self.pace.idle { (by_rate, Refusal::BodySlow) } else { (self.pace.idle, Refusal::BodyIdle) };
        let at = since + span;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(at)));
        if timer.deadline() != at {
            timer.as_mut().reset(at);
        }
        timer.as_mut().poll(cx).map(|()| refusal)
    }
}

impl HttpBody for Upload {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        if this.over {
            return Poll::Ready(None);
        }
        match Pin::new(&mut this.incoming).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => this.took(frame),
            Poll::Ready(Some(Err(_))) => match this.state.body_fault.get() {
                Some(refusal) => this.fail(refusal, false),
                None => this.fail(Refusal::BodyBroken, true),
            },
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => match this.poll_late(cx) {
                Poll::Ready(refusal) => this.fail(refusal, true),
                Poll::Pending => Poll::Pending,
            },
        }
    }
    fn is_end_stream(&self) -> bool {
        self.over || self.incoming.is_end_stream()
    }
    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

/// An answer's body; the connection counts as busy until hyper has let go of it.
pub(super) struct Answer {
    body: Body,
    /// What is given on piece by piece.
    rest: Bytes,
    /// That of its stream, over HTTP/2.
    stall: Option<Arc<Stall>>,
    /// That of the request's body.
    upload: Option<Arc<Signal>>,
    _busy: Busy,
}

impl Answer {
    pub(super) fn new(body: Body, busy: Busy) -> Self {
        Self { body, rest: Bytes::new(), stall: Stall::of_stream(), upload: None, _busy: busy }
    }

    /// The answer to a request whose body may still be coming.
    pub(super) fn of_upload(mut self, upload: Option<Arc<Signal>>) -> Self {
        if let Some(upload) = &upload {
            upload.answering(true);
        }
        self.upload = upload;
        self
    }
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let Some(stall) = &this.stall else { return Pin::new(&mut this.body).poll_frame(cx) };
        if this.rest.is_empty() {
            let polled = Pin::new(&mut this.body).poll_frame(cx);
            match polled {
                Poll::Ready(Some(Ok(frame))) if frame.is_data() => this.rest = frame.into_data().unwrap_or_default(),
                // Whoever is waited for now, it is not the client.
                other => {
                    stall.end();
                    return other;
                }
            }
        }
        stall.begin();
        Poll::Ready(Some(Ok(Frame::data(this.rest.split_to(this.rest.len().min(PIECE))))))
    }
    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }
    fn size_hint(&self) -> SizeHint {
        let (mut hint, rest) = (self.body.size_hint(), self.rest.len() as u64);
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper.saturating_add(rest));
        }
        hint.set_lower(hint.lower().saturating_add(rest));
        hint
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if let Some(upload) = &self.upload {
            upload.answering(false);
        }
    }
}

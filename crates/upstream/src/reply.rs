//! A reply's body as it comes, under the call's deadline.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use farthing_types::{BodyError, Span};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::client::{Slot, after};

/// The wire's body; breaks off at the call's deadline or after too long a silence. The timer runs only while the upstream is waited for,
/// so a slow reader does not count against it.
pub(crate) struct ReplyBody {
    body: Incoming,
    ends: Instant,
    idle: Span,
    timer: Option<Pin<Box<Sleep>>>,
    waiting: bool,
    _slot: Slot,
}

impl ReplyBody {
    pub(crate) fn new(body: Incoming, ends: Instant, idle: Span, slot: Slot) -> Self {
        Self { body, ends, idle, timer: None, waiting: false, _slot: slot }
    }

    fn arm(&mut self) -> Pin<&mut Sleep> {
        let until = self.ends.min(after(Instant::now(), self.idle));
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(until)));
        if !self.waiting {
            self.waiting = true;
            timer.as_mut().reset(until);
        }
        timer.as_mut()
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) {
            this.waiting = false;
            return Poll::Ready(frame.map(|frame| frame.map_err(|error| BodyError(format!("upstream: {error}")))));
        }
        ready!(this.arm().poll(cx));
        let why = if Instant::now() >= this.ends { "the call's deadline passed" } else { "silent for too long" };
        Poll::Ready(Some(Err(BodyError(format!("upstream: {why}")))))
    }
    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

//! A reply's body as it comes, under the call's deadline.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use farthing_types::{BodyError, Span};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Instant;

use crate::client::{Slot, after};
use crate::deadline::Deadline;
use crate::lanes::Seat;
use crate::lines::OnLine;
use crate::pool::Rest;

/// The wire's body; breaks off at the call's deadline or after too long a silence. Time runs only while the upstream is waited for,
/// so a slow reader does not count against it.
pub(crate) struct ReplyBody {
    body: Incoming,
    /// What it comes over, where nobody else moves that on.
    line: Option<OnLine>,
    ends: Instant,
    idle: Span,
    deadline: Deadline,
    _seat: Option<Seat>,
    _slot: Slot,
}

impl ReplyBody {
    pub(crate) fn new((body, rest): (Incoming, Rest), (ends, idle): (Instant, Span), slot: Slot) -> Self {
        let (line, seat) = match rest {
            Rest::Coming(line) => (Some(line), None),
            Rest::Brought(seat) => (None, seat),
            Rest::Here => (None, None),
        };
        Self { body, line, ends, idle, deadline: Deadline::default(), _seat: seat, _slot: slot }
    }

    fn poll_wire(&mut self, cx: &mut Context<'_>) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        match &mut self.line {
            Some(line) => line.poll_frame(&mut self.body, cx),
            None => Pin::new(&mut self.body).poll_frame(cx),
        }
    }

    fn deadline(&mut self) -> &mut Deadline {
        match self.line.as_mut().and_then(OnLine::deadline) {
            Some(deadline) => deadline,
            None => &mut self.deadline,
        }
    }
}

impl Body for ReplyBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = this.poll_wire(cx) {
            this.deadline().clear();
            return Poll::Ready(frame.map(|frame| frame.map_err(|error| BodyError(format!("upstream: {error}")))));
        }
        if !this.deadline().is_set() {
            let until = this.ends.min(after(Instant::now(), this.idle));
            this.deadline().set(until);
        }
        ready!(this.deadline().poll(cx));
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

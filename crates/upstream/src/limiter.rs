//! Has each attempt wait for its turn under the limits of its provider.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use farthing_types::{Body, BodyError, Call, Clock, Failure, Reply, Reserved, Span, Tenant};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::StatusCode;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::Instant;

use crate::Origin;
use crate::retry::retry_after;

/// Where attempts wait for their turn.
pub trait Gate: Send + Sync {
    /// Waits for the turn of an attempt of `call`, no longer than `patience`. Dropping the future gives the place up.
    fn enter(&self, call: &Call, patience: Span) -> BoxFuture<'static, Result<Turn, Failure>>;
    /// The provider wants to be left alone for so long: by everybody, or by the calls of one payer, whose own credential they bear.
    fn rest(&self, payer: Option<&Tenant>, span: Span);
}

/// The turn of one attempt.
pub struct Turn {
    /// Its place among those under way.
    pub slot: Box<dyn Slot>,
    /// What is to be told the tokens that it has used.
    pub reserved: Box<dyn Reserved>,
}

/// A place among the attempts under way; given back when it is dropped.
pub trait Slot: Send + Sync {
    /// No byte was sent: the attempt counts nowhere.
    fn unsent(self: Box<Self>);
}

/// A gate in a specification.
#[derive(Clone)]
pub struct Gated {
    /// The gate.
    pub gate: Arc<dyn Gate>,
    /// Calls bear the credential of their client, for which the provider counts apart.
    pub by_payer: bool,
}

impl fmt::Debug for Gated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gated").field("by_payer", &self.by_payer).finish_non_exhaustive()
    }
}

/// Lets attempts through in their turn. One that is refused has not been sent.
///
/// The time of waiting counts against the call's deadline. An answer 429 with `Retry-After` is handed on as it is, and the gate gives no turn until
/// then. The place is held until the answer's body has ended.
pub struct Limiter(Arc<Shared>);

struct Shared {
    inner: Arc<dyn Origin>,
    gated: Gated,
    clock: Arc<dyn Clock>,
}

impl Limiter {
    /// Limits calls to `inner`; `clock` tells how far off a date in `Retry-After` is.
    pub fn new(inner: Arc<dyn Origin>, gated: Gated, clock: Arc<dyn Clock>) -> Self {
        Self(Arc::new(Shared { inner, gated, clock }))
    }
}

impl Origin for Limiter {
    fn fetch(&self, call: Call) -> BoxFuture<'static, Result<Reply, Failure>> {
        let shared = Arc::clone(&self.0);
        async move { shared.run(call).await }.boxed()
    }
}

impl Shared {
    async fn run(&self, mut call: Call) -> Result<Reply, Failure> {
        let began = Instant::now();
        let patience = call.claim.patience.min(call.deadline);
        let turn = self.gated.gate.enter(&call, patience).await?;
        let waited = began.elapsed();
        if !waited.is_zero() {
            call.deadline = call.deadline.saturating_sub(waited);
            call.sink.waited(waited);
        }
        call.sink.reserved(turn.reserved);
        let payer = call.payer.clone();
        match self.inner.fetch(call).await {
            Err(failure) => {
                if !failure.sent {
                    turn.slot.unsent();
                }
                Err(failure)
            }
            Ok(reply) => {
                self.heed(&reply, &payer);
                Ok(held(reply, turn.slot))
            }
        }
    }

    /// Leaves the provider alone where it asks for that.
    fn heed(&self, reply: &Reply, payer: &Tenant) {
        if reply.status != StatusCode::TOO_MANY_REQUESTS {
            return;
        }
        if let Some(span) = retry_after(&reply.headers, self.clock.now()) {
            self.gated.gate.rest(Some(payer).filter(|_| self.gated.by_payer), span);
        }
    }
}

/// The reply, whose body holds the place until it has ended.
fn held(mut reply: Reply, slot: Box<dyn Slot>) -> Reply {
    if reply.body.as_full().is_none() {
        reply.body = Body::stream(Slotted { inner: reply.body, slot: Some(slot) });
    }
    reply
}

struct Slotted {
    inner: Body,
    slot: Option<Box<dyn Slot>>,
}

impl HttpBody for Slotted {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) || self.inner.is_end_stream() {
            self.slot = None;
        }
        polled
    }
    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }
    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

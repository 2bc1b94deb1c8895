//! Streams of HTTP/2 whose clients take nothing. On a connection of HTTP/1 the guard sees that a write waits; on one of many streams each has a window of
//! its own, and only hyper knows which of them is shut: it holds the piece that it was given and asks for no other.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use farthing_types::Span;
use farthing_upstream::Deadline;
use parking_lot::Mutex;
use tokio::time::Instant;

tokio::task_local! {
    static STALL: Arc<Stall>;
}

/// Since when a stream's client is waited for.
#[derive(Debug, Default)]
pub(super) struct Stall(Mutex<Option<Instant>>);

impl Stall {
    /// That of the stream which this task serves; `None` over HTTP/1.
    pub(super) fn of_stream() -> Option<Arc<Self>> {
        STALL.try_with(Arc::clone).ok()
    }
    /// The client has something to take, from now on.
    pub(super) fn begin(&self) {
        *self.0.lock() = Some(Instant::now());
    }
    /// It has not.
    pub(super) fn end(&self) {
        *self.0.lock() = None;
    }
}

/// Polls a stream until it ends, or until its client has taken nothing for `span`: whether it was that.
pub(super) async fn watched<F: Future>(stream: F, span: Span) -> bool {
    let stall = Arc::new(Stall::default());
    let mut stream = pin!(STALL.scope(Arc::clone(&stall), stream));
    let mut deadline = Deadline::default();
    poll_fn(|cx| {
        if stream.as_mut().poll(cx).is_ready() {
            return Poll::Ready(false);
        }
        // Only the stream's own poll changes it.
        let Some(since) = *stall.0.lock() else {
            deadline.clear();
            return Poll::Pending;
        };
        deadline.set(since + span);
        deadline.poll(cx).map(|()| true)
    })
    .await
}

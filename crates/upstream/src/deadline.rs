//! A deadline for what is mostly over long before it.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use farthing_types::Span;
use tokio::time::{Instant, Sleep, sleep_until};

/// A deadline that costs a clock reading to move and touches the timer wheel only when it comes near.
#[derive(Default)]
pub struct Deadline {
    timer: Option<Pin<Box<Sleep>>>,
    at: Option<Instant>,
}

impl Deadline {
    /// There is none any more.
    pub fn clear(&mut self) {
        self.at = None;
    }
    /// It is at `at`, whatever it was.
    pub fn set(&mut self, at: Instant) {
        self.at = Some(at);
    }
    /// It is in `span` from now, unless it stands already.
    pub fn start(&mut self, span: Span) {
        if self.at.is_none() {
            self.at = Some(Instant::now() + span);
        }
    }
    /// Whether it stands.
    pub const fn is_set(&self) -> bool {
        self.at.is_some()
    }
    /// Ready when it has passed; never while there is none.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(at) = self.at else { return Poll::Pending };
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(at)));
        if timer.deadline() > at {
            timer.as_mut().reset(at);
        }
        loop {
            ready!(timer.as_mut().poll(cx));
            if timer.deadline() >= at {
                return Poll::Ready(());
            }
            timer.as_mut().reset(at);
        }
    }
}

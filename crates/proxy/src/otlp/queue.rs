//! Spans that wait to be sent: bounded in bytes, those under way among them.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::span::Span;

/// Spans of one delivery at most; so many wait for no others.
pub const TOGETHER: usize = 512;

/// A queue that drops what it has no room for.
#[derive(Debug)]
pub struct Queue {
    waiting: Mutex<Vec<Span>>,
    /// Of what waits and of what is under way.
    bytes: AtomicUsize,
    most: usize,
    dropped: AtomicU64,
    full: Notify,
}

impl Queue {
    /// A queue that holds so many bytes.
    pub fn new(most: usize) -> Self {
        Self { waiting: Mutex::default(), bytes: AtomicUsize::new(0), most, dropped: AtomicU64::new(0), full: Notify::new() }
    }

    /// Takes a span, or counts it as dropped.
    pub fn push(&self, span: Span) {
        let bytes = span.bytes();
        let room = self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |held| Some(held + bytes).filter(|sum| *sum <= self.most));
        if room.is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let mut waiting = self.waiting.lock();
        waiting.push(span);
        if waiting.len() == TOGETHER {
            self.full.notify_one();
        }
    }

    /// The oldest, as many as go together; they take room until they are [done](Self::done).
    pub fn take(&self) -> Vec<Span> {
        let mut waiting = self.waiting.lock();
        let taken = waiting.len().min(TOGETHER);
        let later = waiting.split_off(taken);
        std::mem::replace(&mut *waiting, later)
    }

    /// Spans that were taken are gone.
    pub fn done(&self, spans: Vec<Span>) {
        let bytes: usize = spans.iter().map(Span::bytes).sum();
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Whether as many wait as go together.
    pub fn is_full(&self) -> bool {
        self.waiting.lock().len() >= TOGETHER
    }

    /// Resolves once as many wait as go together.
    pub async fn filled(&self) {
        while !self.is_full() {
            self.full.notified().await;
        }
    }

    /// Spans that found no room.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Bytes that it holds.
    pub fn held(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use farthing_types::{Time, TraceContext};

    use super::super::span::Kind;
    use super::*;

    fn span(id: u64) -> Span {
        Span::new(TraceContext::start(1, id), Kind::Server, "GET", (Time::ZERO, Time::ZERO))
    }

    #[test]
    fn what_has_no_room_is_dropped_and_counted() {
        let one = span(1).bytes();
        let queue = Queue::new(3 * one + 1);
        (1..=5).for_each(|id| queue.push(span(id)));
        assert_eq!((queue.dropped(), queue.held()), (2, 3 * one));
        let taken = queue.take();
        assert_eq!(taken.iter().map(|span| span.at.span()).collect::<Vec<_>>(), [1, 2, 3], "the oldest stay");
        queue.push(span(6));
        assert_eq!(queue.dropped(), 3, "what is under way takes room");
        queue.done(taken);
        queue.push(span(7));
        assert_eq!((queue.dropped(), queue.held(), queue.take().len()), (3, one, 1));
    }

    #[test]
    fn a_delivery_is_of_a_bounded_number() {
        let queue = Queue::new(1 << 30);
        (0..TOGETHER as u64 + 10).for_each(|id| queue.push(span(id)));
        assert!(queue.is_full());
        assert_eq!((queue.take().len(), queue.take().len(), queue.take().len()), (TOGETHER, 10, 0));
    }
}

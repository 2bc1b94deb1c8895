//! Figures of limits.

use std::sync::Arc;

use farthing_types::{LimitSpec, LimitWhy, Span};

/// Upper ends of the buckets in which waits are counted.
pub const WAITS: [Span; 12] = [
    Span::from_millis(5),
    Span::from_millis(10),
    Span::from_millis(25),
    Span::from_millis(50),
    Span::from_millis(100),
    Span::from_millis(250),
    Span::from_millis(500),
    Span::from_secs(1),
    Span::from_millis(2_500),
    Span::from_secs(5),
    Span::from_secs(10),
    Span::from_secs(30),
];

/// Figures of a limit since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Calls that it let through.
    pub admitted: u64,
    /// Of these, over it: calls that always pass.
    pub passed_over: u64,
    /// Of these, after a wait before it.
    pub waited: u64,
    /// How long those waited, in the buckets of [`WAITS`] and beyond.
    pub waits: [u64; WAITS.len() + 1],
    /// The sum of their waits.
    pub waited_for: Span,
    /// Calls that it refused, in the order of [`LimitWhy::ALL`].
    pub refused: [u64; 4],
    /// Calls that used more tokens than were reserved for them.
    pub overruns: u64,
    /// Times that the provider asked to be left alone.
    pub held: u64,
    /// Calls that shared a counter because too many units have one.
    pub crowded: u64,
}

impl Stats {
    /// Counts a wait that ended well.
    pub fn wait(&mut self, span: Span) {
        let bucket = WAITS.iter().position(|end| span <= *end).unwrap_or(WAITS.len());
        self.waits[bucket] += 1;
        self.waited += 1;
        self.waited_for += span;
    }

    /// Counts a refusal.
    pub fn refuse(&mut self, why: LimitWhy) {
        self.refused[why as usize] += 1;
    }
}

/// A counter as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CounterView {
    /// Whose; empty where all share one.
    pub unit: Arc<str>,
    /// Requests that may go now, and until all are there again.
    pub requests: Option<(u64, Span)>,
    /// The same for tokens.
    pub tokens: Option<(u64, Span)>,
    /// Calls under way.
    pub running: u32,
    /// Calls that wait before it.
    pub waiting: usize,
    /// How long the provider wants to be left alone yet.
    pub held: Span,
    /// What the instance has of its rate, of [`WHOLE`](super::bucket::WHOLE).
    pub share: u32,
}

/// A limit as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitView {
    /// What it is.
    pub spec: Arc<LimitSpec>,
    /// Its figures.
    pub stats: Stats,
    /// Counters that are in use.
    pub counters: usize,
    /// Calls that wait before them.
    pub waiting: usize,
    /// The counters with the most waiting and the least left, at most so many as were asked for.
    pub busiest: Vec<CounterView>,
}

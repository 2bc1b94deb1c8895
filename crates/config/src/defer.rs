//! How calls that can wait go to the provider's batch endpoint.

use farthing_types::Span;

/// How calls of a route that can wait go to the provider's batch endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeferConfig {
    /// How long the first of a batch waits for others.
    pub window: Span,
    /// A request whose client waits for less is not deferred.
    pub min_deadline: Span,
    /// Most requests in a batch.
    pub max_size: u32,
    /// Most requests that wait, in all.
    pub max_waiting: u32,
    /// Most bytes of their bodies, and of a batch.
    pub max_bytes: u64,
    /// Most bytes of the answers to a batch.
    pub max_answer: u64,
    /// How long the provider's batches are thought to take, until some were seen.
    pub batch_time: Span,
    /// How long direct calls are thought to take, until some were seen.
    pub direct_time: Span,
    /// What is left of a deadline beyond the time that a direct call takes.
    pub margin: Span,
}

impl Default for DeferConfig {
    fn default() -> Self {
        Self {
            window: Span::from_secs(300),
            min_deadline: Span::from_secs(3_600),
            max_size: 2_000,
            max_waiting: 2_000,
            max_bytes: 64_000_000,
            max_answer: 256_000_000,
            batch_time: Span::from_secs(2 * 3_600),
            direct_time: Span::from_secs(60),
            margin: Span::from_secs(60),
        }
    }
}

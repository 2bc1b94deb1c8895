//! Numbers of a route's plan that experiments may move.

use farthing_types::Span;

/// `[routes.NAME.tune]`: bounds, and how they are looked at.
#[derive(Clone, Debug, PartialEq)]
pub struct TuneConfig {
    /// Bounds of the window of its batches; `None`: it stays.
    pub batch_window: Option<(Span, Span)>,
    /// Bounds of `refresh_ahead`.
    pub refresh_ahead: Option<(Span, Span)>,
    /// Bounds of `prefetch_confidence`.
    pub prefetch_confidence: Option<(f64, f64)>,
    /// Length of a window of its experiments; `None` as suits what is compared.
    pub window: Option<Span>,
    /// Within what time something must be shown of a value.
    pub within: Span,
    /// How long after a round the next one begins.
    pub again: Span,
    /// Smallest relative difference that is worth a change.
    pub worthwhile: f64,
    /// Excess of errors, stale and late answers that is tolerated.
    pub margin: f64,
    /// Answers that take longer count as late, where nothing else is promised.
    pub latency: Option<Span>,
}

impl Default for TuneConfig {
    fn default() -> Self {
        Self {
            batch_window: None,
            refresh_ahead: None,
            prefetch_confidence: None,
            window: None,
            within: Span::from_secs(21 * 86_400),
            again: Span::from_secs(30 * 86_400),
            worthwhile: 0.02,
            margin: 0.005,
            latency: None,
        }
    }
}

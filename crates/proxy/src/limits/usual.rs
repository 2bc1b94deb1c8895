//! How long a provider usually takes to answer: who waits for its turn must leave that much of its deadline, or its call is paid for in vain.

use std::sync::Arc;

use farthing_types::Span;
use parking_lot::Mutex;

/// Smoothed mean and mean deviation, with the gains of RFC 6298.
#[derive(Clone, Debug, Default)]
pub struct Usual(Arc<Mutex<Option<(Span, Span)>>>);

impl Usual {
    /// Notes how long an answer's head took.
    pub fn note(&self, took: Span) {
        let mut known = self.0.lock();
        *known = Some(match *known {
            None => (took, took / 2),
            Some((mean, deviation)) => ((mean * 7 + took) / 8, (deviation * 3 + took.abs_diff(mean)) / 4),
        });
    }

    /// What is left of `patience` for waiting. Half of it at least: a provider that was slow once is not out of reach for ever.
    pub fn leave(&self, patience: Span) -> Span {
        let needed = self.0.lock().map_or(Span::ZERO, |(mean, deviation)| mean + deviation * 4);
        patience - needed.min(patience / 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_usual_is_left_for_the_answer() {
        let usual = Usual::default();
        let second = Span::from_secs(1);
        assert_eq!(usual.leave(second), second, "nothing is known");
        for _ in 0..100 {
            usual.note(Span::from_millis(100));
        }
        let left = usual.leave(second);
        assert!(left > Span::from_millis(895) && left <= Span::from_millis(900), "{left:?}");
        usual.note(Span::from_secs(60));
        assert_eq!(usual.leave(second), second / 2);
    }
}

//! Staleness that was found out about copies, for the experiment that assigned them.

use farthing_experiment::Observation;
use farthing_freshness::Subject;
use farthing_types::{Money, Span, Time};

use crate::route::RouteState;
use crate::state::State;

impl State {
    /// What an entry's end tells about staleness, for the experiment that assigned its key.
    pub fn record_stale(&self, route: &RouteState, subject: &Subject, (at, stale): (Time, f64)) {
        let Some(variant) = self.variant_of_copy(route, subject, at) else { return };
        let seen = Observation { bill: Some(Money::ZERO), stale, stale_price: self.stale_price(route), ..Observation::default() };
        self.observe(&variant, seen);
    }
}

/// Expected stale answers among `hits` that were spread evenly over `last` after the fill, when the next fetch after `gap` found a change:
/// an answer of age a was stale with probability (1 - e^-ha) / (1 - e^-hg) under the key's change hazard h (1/s), the chance that the
/// first of the changes within the gap had come by then.
pub fn expected_stale(hits: u64, last: Span, gap: Span, hazard: f64) -> f64 {
    let (last, gap) = (last.min(gap).as_secs_f64(), gap.as_secs_f64());
    let (upto, within) = (hazard * last, hazard * gap);
    if last <= 0.0 || gap <= 0.0 {
        return 0.0;
    }
    // For small h the change is equally likely anywhere in the gap.
    let mean = if within < 1e-6 { last / (2.0 * gap) } else { (1.0 - -(-upto).exp_m1() / upto) / -(-within).exp_m1() };
    hits as f64 * mean.clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rare_change_leaves_half_of_evenly_spread_hits_stale() {
        let gap = Span::from_secs(100);
        assert!((expected_stale(10, gap, gap, 1e-9) - 5.0).abs() < 1e-3);
        assert!((expected_stale(10, gap, gap, 1e-5) - 5.0).abs() < 1e-2);
        assert_eq!(expected_stale(10, gap, Span::ZERO, 1.0), 0.0);
        assert!(expected_stale(10, Span::from_secs(10), gap, 1e-9) < 1.0);
    }

    #[test]
    fn frequent_changes_come_early() {
        let gap = Span::from_secs(100);
        let often = expected_stale(10, gap, gap, 0.1);
        assert!((often - 9.0).abs() < 0.05, "{often}");
        assert!(expected_stale(10, gap, gap, 1e3) <= 10.0);
    }
}

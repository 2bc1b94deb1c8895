//! Features of a unit of an experiment, by which contextual allocation draws its variant: what of the `strategy` predictor's features is known of a
//! single unit, from windows that were over before the draw.

use farthing_types::Time;
use serde::{Deserialize, Serialize};

use super::calendar::{DAY_S, is_weekend, turn};
use super::spec::FeatureSpec;

/// Number of features of a unit.
pub const UNIT_FEATURES: usize = 13;

/// The spec of contextual allocation. It has no predictor of its own: costs are learned per variant while the experiment runs.
pub const UNIT_SPEC: FeatureSpec = FeatureSpec { kind: "assignment", version: 1, names: &UNIT_NAMES, horizons: &[], answers: &["cost"] };

const UNIT_NAMES: [&str; UNIT_FEATURES] = [
    "log_rate_fast",
    "log_rate_slow",
    "cost_fast",
    "cost_slow",
    "root_cost_slow",
    "stale_share",
    "late_share",
    "error_share",
    "log_observed",
    "unknown",
    "hour_sin",
    "hour_cos",
    "weekend",
];

/// Windows over which what is known of a unit is averaged: a mean at first, a moving one afterwards.
const UNIT_MEMORY: f32 = 16.0;

/// What one closed window has shown of a unit.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct UnitSeen {
    /// Client requests.
    pub requests: u32,
    /// Money cost as a share of the experiment's cap.
    pub cost: f64,
    /// Share of the answers that were stale.
    pub stale: f64,
    /// Share that came late.
    pub late: f64,
    /// Share that failed.
    pub errors: f64,
}

/// What is known of a unit from the windows in which it was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct UnitHabits {
    windows: f32,
    last_requests: f32,
    requests: f32,
    last_cost: f32,
    cost: f32,
    stale: f32,
    late: f32,
    errors: f32,
}

impl UnitHabits {
    /// Takes a window that is over. What is not finite is taken as nothing.
    pub fn take(&mut self, seen: &UnitSeen) {
        let sound = |x: f64| if x.is_finite() { x.clamp(0.0, 1.0) as f32 } else { 0.0 };
        self.windows = (self.windows + 1.0).min(UNIT_MEMORY);
        let share = 1.0 / self.windows;
        let mean = |mean: &mut f32, x: f32| *mean += (x - *mean) * share;
        (self.last_requests, self.last_cost) = (seen.requests as f32, sound(seen.cost));
        mean(&mut self.requests, self.last_requests);
        mean(&mut self.cost, self.last_cost);
        mean(&mut self.stale, sound(seen.stale));
        mean(&mut self.late, sound(seen.late));
        mean(&mut self.errors, sound(seen.errors));
    }

    /// Mean cost of a window, as a share of the cap.
    pub const fn cost(&self) -> f32 {
        self.cost
    }
}

/// The features in the order of [`UNIT_SPEC`], for a window that begins at `begins`; `None` for a unit of which nothing is known. Each is of order one
/// and finite.
pub fn unit_features(habits: Option<&UnitHabits>, begins: Time) -> [f32; UNIT_FEATURES] {
    let known = habits.copied().unwrap_or_default();
    let s = begins.secs_f64();
    let day = turn(s, DAY_S);
    let log = |x: f32| x.ln_1p() / 3.0;
    [
        log(known.last_requests),
        log(known.requests),
        4.0 * known.last_cost,
        4.0 * known.cost,
        2.0 * known.cost.sqrt(),
        10.0 * known.stale,
        10.0 * known.late,
        10.0 * known.errors,
        log(known.windows),
        f32::from(u8::from(habits.is_none())),
        day.sin() as f32,
        day.cos() as f32,
        f32::from(u8::from(is_weekend(s))),
    ]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn features_are_finite_and_of_order_one(
            seen in proptest::collection::vec((any::<u32>(), proptest::array::uniform4(any::<f64>())), 0..40), s in 0..4_000_000_000i64,
        ) {
            let mut habits = UnitHabits::default();
            for (requests, [cost, stale, late, errors]) in seen {
                habits.take(&UnitSeen { requests, cost, stale, late, errors });
            }
            let features = unit_features(Some(&habits), Time::from_millis(s * 1_000));
            prop_assert!(features.iter().all(|f| f.is_finite() && f.abs() <= 10.0), "{features:?}");
        }
    }

    #[test]
    fn what_was_seen_last_and_on_the_whole() {
        let mut habits = UnitHabits::default();
        for requests in [10, 30] {
            habits.take(&UnitSeen { requests, cost: f64::from(requests) / 100.0, ..UnitSeen::default() });
        }
        let features = unit_features(Some(&habits), Time::ZERO);
        let of = |name: &str| features[UNIT_SPEC.names.iter().position(|n| *n == name).unwrap()];
        assert!((of("log_rate_fast") - 31f32.ln() / 3.0).abs() < 1e-6 && (of("log_rate_slow") - 21f32.ln() / 3.0).abs() < 1e-6);
        assert!((of("cost_fast") - 1.2).abs() < 1e-6 && (of("cost_slow") - 0.8).abs() < 1e-6 && of("unknown") == 0.0);
        assert_eq!(unit_features(None, Time::ZERO)[9], 1.0);
        let names: std::collections::BTreeSet<_> = UNIT_NAMES.iter().collect();
        assert_eq!(names.len(), UNIT_FEATURES);
    }
}

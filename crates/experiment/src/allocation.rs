//! How a window's probabilities are made: fixed, or by Thompson sampling with a floor. They are published before the window begins.

use std::sync::Arc;

use farthing_types::{Draw, DrawKind};
use serde::{Deserialize, Serialize};

use crate::contextual::{Contexts, Contextual};
use crate::spec::MAX_VARIANTS;

/// Unit-windows that must have been seen before probabilities follow them. More than the thousand below which early luck decides: the even
/// shares tell most, and over 20,000 rows the few hundred cost little.
pub const MIN_ADAPTIVE: u64 = 1_300;
/// Draws from the posterior where more than two variants compete.
const POSTERIOR_DRAWS: u32 = 4_096;
/// Published probabilities that are kept: of the window before (whose late findings still come), this one and the next.
pub(crate) const KEPT_ALLOCATIONS: usize = 3;

/// How the variants share the measured units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AllocationKind {
    /// The declared shares, always.
    #[default]
    Fixed,
    /// The probability that a variant is the cheapest, from the evidence before the window; none below the floor.
    Thompson {
        /// The least probability of a variant.
        floor: f64,
    },
    /// By SquareCB over what is known of each unit.
    Contextual(Contextual),
}

/// The probabilities that hold from a window on: an immutable part of the experiment's snapshot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Allocation {
    /// The first window in which they hold.
    pub from: i64,
    /// Probability of each variant; sums to 1 over the variants. Where units have contexts the mean over them.
    pub pmf: [f64; MAX_VARIANTS],
    /// Share of the measurement slice that takes part (0 to 1).
    pub ramp: f64,
    /// The contexts of units. They are not kept: the window that is open at a restart is left out, and the next one's are worked out anew.
    #[serde(skip)]
    pub contexts: Option<SharedContexts>,
}

impl Allocation {
    /// Probability of each variant for a unit, by the half of its digest that is logged.
    pub fn pmf_of(&self, unit: u64) -> [f64; MAX_VARIANTS] {
        self.contexts.as_ref().map_or(self.pmf, |contexts| contexts.0.of(unit).pmf.map(f64::from))
    }
}

/// Contexts that several snapshots share; equal when they are the same ones.
#[derive(Clone, Debug)]
pub struct SharedContexts(pub Arc<Contexts>);

impl PartialEq for SharedContexts {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// Adds probabilities to those that are published. Those of earlier windows stay as they are; those for the same or later ones are replaced.
pub(crate) fn publish(published: &mut Vec<Allocation>, next: Allocation) {
    published.retain(|a| a.from < next.from);
    published.push(next);
    let too_many = published.len().saturating_sub(KEPT_ALLOCATIONS);
    published.drain(..too_many);
}

/// What is believed of a challenger's effect on cost: a normal with this mean and deviation. 0 is control.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Belief {
    /// Mean of challenger minus control.
    pub mean: f64,
    /// Its standard error.
    pub deviation: f64,
}

/// Probability that each variant is the cheapest; `None` is a challenger that does not compete. `seed` and `window` fix the draws.
///
/// Two variants: the normal's tail. More: the share of joint draws in which each has the least cost, the challengers' errors taken as
/// independent (Thompson, "On the likelihood that one unknown probability exceeds another", Biometrika 1933).
pub fn cheapest(beliefs: &[Option<Belief>], draw: &Draw, scope: &str, window: i64) -> [f64; MAX_VARIANTS] {
    let mut pmf = [0.0; MAX_VARIANTS];
    let live: Vec<(usize, Belief)> = beliefs.iter().enumerate().filter_map(|(i, b)| b.map(|b| (i + 1, b))).take(MAX_VARIANTS - 1).collect();
    match live.as_slice() {
        [] => pmf[0] = 1.0,
        [(index, belief)] => {
            pmf[*index] = tail(belief);
            pmf[0] = 1.0 - pmf[*index];
        }
        several => {
            for n in 0..POSTERIOR_DRAWS {
                let sampled = several.iter().map(|(i, b)| (*i, b.mean + b.deviation * normal(draw, scope, (u128::from(n), *i), window)));
                let best = sampled.min_by(|a, b| a.1.total_cmp(&b.1)).filter(|(_, value)| *value < 0.0).map_or(0, |(i, _)| i);
                pmf[best] += 1.0 / f64::from(POSTERIOR_DRAWS);
            }
        }
    }
    pmf
}

/// Probability that the challenger is cheaper.
fn tail(belief: &Belief) -> f64 {
    if belief.deviation <= 0.0 || !belief.deviation.is_finite() || !belief.mean.is_finite() {
        return 0.5;
    }
    phi(-belief.mean / belief.deviation)
}

/// The standard normal's distribution function, to 7 digits (Abramowitz and Stegun, "Handbook of Mathematical Functions", 26.2.17).
pub fn phi(x: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.231_641_9 * x.abs());
    let poly = t * (0.319_381_530 + t * (-0.356_563_782 + t * (1.781_477_937 + t * (-1.821_255_978 + t * 1.330_274_429))));
    let upper = (-x * x / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt() * poly;
    if x >= 0.0 { 1.0 - upper } else { upper }
}

/// A standard normal from two uniform draws (Box and Muller).
fn normal(draw: &Draw, scope: &str, (n, variant): (u128, usize), window: i64) -> f64 {
    let unit = n << 8 | (variant as u128) << 1;
    let u = draw.uniform(DrawKind::Posterior, scope, unit, window).max(f64::MIN_POSITIVE);
    let v = draw.uniform(DrawKind::Posterior, scope, unit | 1, window);
    (-2.0 * u.ln()).sqrt() * (2.0 * std::f64::consts::PI * v).cos()
}

/// Each live variant's floor, and the rest by `pmf`. Mixing with even shares in place of lifting the small ones to the floor leaves more of the
/// units to a variant that is nearly, but not quite, known to be dearer. The floor gives way where there is no room for it.
pub fn with_floor(pmf: [f64; MAX_VARIANTS], live: [bool; MAX_VARIANTS], floor: f64) -> [f64; MAX_VARIANTS] {
    let count = live.iter().filter(|live| **live).count().max(1) as f64;
    let floor = floor.clamp(0.0, 1.0 / count);
    let all: f64 = (0..MAX_VARIANTS).filter(|i| live[*i]).map(|i| pmf[i].max(0.0)).sum();
    let rest = 1.0 - floor * count;
    let share = |p: f64| if all > 0.0 { p.max(0.0) / all } else { 1.0 / count };
    std::array::from_fn(|i| if live[i] { floor + rest * share(pmf[i]) } else { 0.0 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_normal_is_the_normal() {
        for (x, wanted) in [(0.0, 0.5), (1.0, 0.841_344_75), (-1.959_964, 0.025), (3.0, 0.998_650_1)] {
            assert!((phi(x) - wanted).abs() < 1e-6, "{x}: {}", phi(x));
        }
    }

    #[test]
    fn the_cheapest_gets_the_most() {
        let draw = Draw::new(3);
        let belief = |mean, deviation| Some(Belief { mean, deviation });
        let two = cheapest(&[belief(-1.0, 1.0)], &draw, "e", 4);
        assert!((two[1] - 0.841_344).abs() < 1e-5 && (two[0] + two[1] - 1.0).abs() < 1e-12);
        let three = cheapest(&[belief(-3.0, 1.0), belief(2.0, 1.0)], &draw, "e", 4);
        assert!(three[1] > 0.97 && three[2] < 0.01, "{three:?}");
        let even = cheapest(&[belief(0.0, 1.0), belief(0.0, 1.0), None], &draw, "e", 4);
        assert!((even[0] - 0.25).abs() < 0.03 && (even[1] - 0.375).abs() < 0.03 && even[3] == 0.0, "{even:?}");
        assert_eq!(cheapest(&[None], &draw, "e", 4)[0], 1.0, "nobody but control");
        assert_eq!(cheapest(&[belief(f64::NAN, 1.0)], &draw, "e", 4)[1], 0.5, "no knowledge");
    }

    proptest! {
        #[test]
        fn a_floor_keeps_a_distribution(raw in proptest::array::uniform4(0.0f64..1.0), live in proptest::array::uniform4(any::<bool>()), floor in 0.0f64..0.5) {
            prop_assume!(live.iter().any(|l| *l));
            let sum: f64 = raw.iter().sum::<f64>().max(1e-9);
            let pmf = with_floor(raw.map(|p| p / sum), live, floor);
            let count = live.iter().filter(|l| **l).count() as f64;
            prop_assert!((pmf.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{:?}", pmf);
            for i in 0..MAX_VARIANTS {
                prop_assert_eq!(pmf[i] > 0.0 || floor == 0.0, live[i] || floor == 0.0);
                prop_assert!(!live[i] || pmf[i] >= floor.min(1.0 / count) - 1e-9, "{:?}", pmf);
            }
        }
    }
}

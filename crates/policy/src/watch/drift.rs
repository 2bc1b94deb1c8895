//! A route whose answers change otherwise than its predictor foretells falls back: first to the live statistics alone, which learn as they go, then to the
//! rule; and comes back when the predictor, asked without acting, has foretold well for a while.

use super::calibration::{Calibration, Ratio};
use farthing_types::reasons;

/// Forecasts may be off by this factor before anything is done.
const TOLERANCE: f64 = 2.0;
/// Evidence at which a route falls back: in 64,000 labels a sound predictor reaches it with a probability of at most 2 %.
const ENOUGH: f64 = 1e5;
/// A champion that is new misleads where its forecasts are off by more than this factor ...
const NEW_TOLERANCE: f64 = 1.5;
/// ... with this evidence ...
const MISLEADS: f64 = 200.0;
/// ... and with so many times that against the live statistics: a world that changes misleads both.
const ALONE: f64 = 10.0;
/// A predictor that was closed out comes back after so many labels ...
const PROBATION: u64 = 300;
/// ... within which observed over foretold stays between one over this and this.
const CLOSE: f64 = 1.25;

reasons! {
    /// How far the predictor of a route is trusted.
    #[derive(Default)]
    Trust {
        /// It decides.
        #[default]
        Full = "full",
        /// The live statistics decide, as if it had said nothing.
        Statistics = "statistics",
        /// The rule decides.
        Rule = "rule",
    }
}

/// One route.
#[derive(Clone, Debug, PartialEq)]
pub struct Drift {
    trust: Trust,
    /// Of the predictor, whether it acts or not.
    predictor: Calibration,
    /// Of the live statistics, while they decide.
    statistics: Calibration,
    /// Both, since the predictor is in force.
    since: [Calibration; 2],
    turns: u64,
}

impl Default for Drift {
    fn default() -> Self {
        let [always, once] = [Calibration::always(TOLERANCE), Calibration::once(NEW_TOLERANCE)];
        Self { trust: Trust::Full, predictor: always.clone(), statistics: always, since: [once.clone(), once], turns: 0 }
    }
}

impl Drift {
    /// How far the predictor is trusted.
    pub const fn trust(&self) -> Trust {
        self.trust
    }
    /// How often the trust has changed.
    pub const fn turns(&self) -> u64 {
        self.turns
    }
    /// What came against what the predictor foretold, and the live statistics alone.
    pub fn ratios(&self) -> (Ratio, Ratio) {
        (self.predictor.ratio(), self.statistics.ratio())
    }

    /// Another predictor decides from now on: what is known of the one before says nothing about it.
    pub fn renew(&mut self) {
        *self = Self { turns: self.turns, ..Self::default() };
    }

    /// Learns what became of a copy: changes foretold by the predictor and by the live statistics alone, and whether there was any. Where
    /// `acts` is false (automation is frozen), nothing but the evidence changes. Says what holds from now on, when that is news.
    pub fn add(&mut self, (predictor, statistics): (f64, f64), changed: bool, acts: bool) -> Option<Trust> {
        self.predictor.add(predictor, changed);
        self.statistics.add(statistics, changed);
        self.since[0].add(predictor, changed);
        self.since[1].add(statistics, changed);
        let next = self.next().filter(|next| acts && *next != self.trust)?;
        if next == Trust::Full {
            self.predictor = Calibration::always(TOLERANCE);
        } else if self.trust == Trust::Full {
            // Begun anew, so that what is judged is how it does while it is closed out, and the statistics while they decide.
            (self.predictor, self.statistics) = (Calibration::always(TOLERANCE), Calibration::always(TOLERANCE));
        }
        self.trust = next;
        self.turns += 1;
        Some(next)
    }

    /// Whether the predictor has misled since it is in force, while the live statistics have not: a sound one does at any time with a probability of at most one in
    /// two hundred. Sooner sure than a fall of trust, which must hold for years: for a champion that is new and can go back.
    pub fn misleads(&self) -> bool {
        let [predictor, statistics] = self.since.each_ref().map(|calibration| calibration.ratio().evidence());
        predictor >= MISLEADS && predictor >= ALONE * statistics
    }

    /// Whether there is evidence for a fall that is not made, because nothing may act.
    pub fn warns(&self) -> bool {
        self.next().is_some_and(|next| next != self.trust)
    }

    fn next(&self) -> Option<Trust> {
        let (predictor, statistics) = self.ratios();
        let sound = |ratio: &Ratio| {
            ratio.labels >= PROBATION && ratio.evidence() < ENOUGH && ratio.ratio().is_some_and(|r| (1.0 / CLOSE..=CLOSE).contains(&r))
        };
        match self.trust {
            Trust::Full if predictor.evidence() >= ENOUGH => Some(Trust::Statistics),
            Trust::Statistics | Trust::Rule if sound(&predictor) => Some(Trust::Full),
            Trust::Statistics if statistics.evidence() >= ENOUGH => Some(Trust::Rule),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng, rngs::StdRng};

    struct World(StdRng);

    impl World {
        /// A label: predictor and statistics foretell so many times the true hazard.
        fn label(&mut self, drift: &mut Drift, (predictor, statistics): (f64, f64)) -> Option<Trust> {
            let hazard: f64 = self.0.random_range(0.05..0.8);
            let changed = self.0.random::<f64>() < -(-hazard).exp_m1();
            drift.add((hazard * predictor, hazard * statistics), changed, true)
        }
    }

    #[test]
    fn a_predictor_that_is_off_is_closed_out_and_comes_back_when_it_is_right_again() {
        let (mut world, mut drift) = (World(StdRng::seed_from_u64(1)), Drift::default());
        assert!((0..10_000).all(|_| world.label(&mut drift, (1.2, 1.0)).is_none()));
        let taken = (1..1_000).find(|_| world.label(&mut drift, (0.1, 1.0)) == Some(Trust::Statistics));
        assert!(taken.is_some_and(|taken| taken <= 250), "{taken:?}");
        assert!((0..3_000).all(|_| world.label(&mut drift, (0.1, 1.0)).is_none()), "it does not come back while it is off");
        let back = (1..6_000).find(|_| world.label(&mut drift, (1.0, 1.0)) == Some(Trust::Full));
        assert!(back.is_some() && drift.turns() == 2, "{back:?}");
    }

    #[test]
    fn a_new_one_that_misleads_is_found_sooner_and_a_sound_one_or_a_changed_world_is_not_blamed() {
        let until = |seed: u64, off: (f64, f64), most: usize| {
            let (mut world, mut drift) = (World(StdRng::seed_from_u64(seed)), Drift::default());
            (1..most).find(|_| {
                let hazard: f64 = world.0.random_range(0.05..0.8);
                let changed = world.0.random::<f64>() < -(-hazard).exp_m1();
                drift.add((hazard * off.0, hazard * off.1), changed, false);
                drift.misleads()
            })
        };
        for times in [10.0, 0.1] {
            assert!((0..50).all(|seed| until(seed, (times, 1.0), 300).is_some_and(|taken| taken < 150)), "{times}");
        }
        assert!((0..100).all(|seed| until(seed, (1.3, 1.0), 2_000).is_none()
            && until(seed, (0.8, 1.0), 2_000).is_none()
            && until(seed, (0.1, 0.1), 300).is_none()));
    }

    #[test]
    fn statistics_that_are_off_as_well_leave_the_rule() {
        let (mut world, mut drift) = (World(StdRng::seed_from_u64(2)), Drift::default());
        let turns: Vec<_> = (0..3_000).filter_map(|_| world.label(&mut drift, (12.0, 12.0))).collect();
        assert_eq!(turns, [Trust::Statistics, Trust::Rule]);
        drift.renew();
        assert_eq!((drift.trust(), drift.ratios().0.labels), (Trust::Full, 0));
    }

    #[test]
    fn frozen_it_warns_and_does_nothing() {
        let (mut world, mut drift) = (World(StdRng::seed_from_u64(3)), Drift::default());
        for _ in 0..500 {
            let hazard: f64 = world.0.random_range(0.05..0.8);
            assert_eq!(drift.add((hazard, hazard), true, false), None);
        }
        assert!(drift.warns() && drift.trust() == Trust::Full);
        assert!((0..500).all(|_| !Drift::default().warns()));
    }
}

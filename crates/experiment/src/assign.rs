//! Which variant a unit gets: a keyed hash of (experiment, unit, window), nothing stored.

use std::sync::Arc;

use farthing_types::{Draw, DrawKind, KeyHash, Time};

use crate::allocation::{self, Allocation};
use crate::spec::{self, ExperimentSpec, MAX_VARIANTS, SpecError, Variant};
use crate::unit::UnitKind;

/// The variant of a unit in a window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Assigned {
    /// Index into the experiment's variants.
    pub variant: usize,
    /// Probability with which it was drawn; 1 outside the slice.
    pub propensity: f64,
    /// Probability of every variant at that draw.
    pub pmf: [f32; MAX_VARIANTS],
    /// Window number: time since the epoch divided by the window's length.
    pub window: i64,
    /// Whether the unit is measured; the others follow the leader.
    pub in_slice: bool,
    /// Share of the units that are measured.
    pub inclusion: f64,
    /// Whether the time lies in the part of the window that is discarded.
    pub burn_in: bool,
    /// The uniform number behind it, for the log.
    pub draw: f64,
}

/// A checked experiment: an immutable snapshot, to be replaced when its leader changes, a variant is switched off or the
/// probabilities of a window to come are published.
#[derive(Clone, Debug, PartialEq)]
pub struct Experiment {
    spec: ExperimentSpec,
    window_ns: i64,
    off: [bool; MAX_VARIANTS],
    /// By window, the earliest first; never empty.
    allocations: Vec<Allocation>,
}

impl Experiment {
    /// Checks `spec`. The declared shares hold from the beginning of time, at the ramp's last step.
    ///
    /// # Errors
    /// Says which field is wrong and what it may be.
    pub fn new(spec: ExperimentSpec) -> Result<Self, SpecError> {
        spec::check(&spec)?;
        let window_ns = spec.window_ns();
        let ramp = spec.ramp.last().copied().unwrap_or(1.0);
        let first = Allocation { from: i64::MIN, pmf: spec.declared(), ramp, contexts: None };
        Ok(Self { spec, window_ns, off: [false; MAX_VARIANTS], allocations: vec![first] })
    }

    /// The description it was made from, with the leader now in force.
    pub fn spec(&self) -> &ExperimentSpec {
        &self.spec
    }
    /// The name.
    pub fn name(&self) -> &Arc<str> {
        &self.spec.name
    }
    /// The variants, control first.
    pub fn variants(&self) -> &[Variant] {
        &self.spec.variants
    }
    /// Whether `variant` has been switched off.
    pub fn is_off(&self, variant: usize) -> bool {
        self.off.get(variant).copied().unwrap_or(true)
    }
    /// The window of a moment.
    pub fn window(&self, now: Time) -> i64 {
        now.nanos().div_euclid(self.window_ns)
    }
    /// When a window begins.
    pub fn begins(&self, window: i64) -> Time {
        self.spec.begins(window)
    }
    /// The probabilities that are published, the earliest first.
    pub fn allocations(&self) -> &[Allocation] {
        &self.allocations
    }
    /// The probabilities of a window, as published.
    pub fn allocation(&self, window: i64) -> &Allocation {
        let later = self.allocations.iter().rposition(|a| a.from <= window);
        &self.allocations[later.unwrap_or(0)]
    }
    /// Probability of each variant in the slice in a window, switched-off ones 0.
    pub fn pmf(&self, window: i64) -> [f64; MAX_VARIANTS] {
        self.without_off(self.allocation(window).pmf)
    }

    fn without_off(&self, mut pmf: [f64; MAX_VARIANTS]) -> [f64; MAX_VARIANTS] {
        for variant in 1..MAX_VARIANTS {
            if self.off[variant] {
                pmf[0] += pmf[variant];
                pmf[variant] = 0.0;
            }
        }
        pmf
    }

    /// Which variants are there and not switched off.
    pub fn live(&self) -> [bool; MAX_VARIANTS] {
        std::array::from_fn(|index| index < self.spec.variants.len() && !self.off[index])
    }

    /// The same experiment with `leader` for units outside the slice; unchanged when there is no such live variant.
    #[must_use]
    pub fn with_leader(mut self, leader: usize) -> Self {
        if !self.is_off(leader) && leader < self.spec.variants.len() {
            self.spec.leader = leader;
        }
        self
    }

    /// The same experiment with `variant` switched off: its share goes to control. Control itself cannot be switched off.
    #[must_use]
    pub fn without(mut self, variant: usize) -> Self {
        if variant == 0 || variant >= self.spec.variants.len() || self.off[variant] {
            return self;
        }
        self.off[variant] = true;
        if self.spec.leader == variant {
            self.spec.leader = 0;
        }
        self
    }

    /// The same experiment with probabilities that hold from a window on. Those of earlier windows stay as they are; those published
    /// for the same or later windows are replaced.
    #[must_use]
    pub fn with(mut self, allocation: Allocation) -> Self {
        allocation::publish(&mut self.allocations, allocation);
        self
    }

    /// Whether a unit belongs to this experiment's part of its layer at `now`.
    pub fn holds(&self, draw: &Draw, unit: KeyHash, now: Time) -> bool {
        let Some(slot) = &self.spec.slot else { return true };
        let u = draw.uniform(DrawKind::Layer, &slot.layer, u128::from(unit.short()), self.lasting(self.window(now)));
        (slot.from..slot.upto).contains(&u)
    }

    /// The window number of draws that hold for good: a route in blocks is drawn anew each time, or it would be in or out for ever.
    fn lasting(&self, window: i64) -> i64 {
        if self.spec.unit == UnitKind::Block { window } else { 0 }
    }

    /// The variant of `unit` at `now`. A function of its arguments alone: equal on every instance that shares the draw's seed.
    /// Only what the log keeps of a key is drawn from, so that every assignment can be recomputed from it.
    pub fn assign(&self, draw: &Draw, unit: KeyHash, now: Time) -> Assigned {
        let short = unit.short();
        let unit = u128::from(short);
        let window = self.window(now);
        let into = now.nanos().rem_euclid(self.window_ns);
        let burn_in = u128::from(into.unsigned_abs()) < self.spec.burn_in.as_nanos();
        let allocation = self.allocation(window);
        let inclusion = self.spec.slice * allocation.ramp;
        let in_slice =
            inclusion >= 1.0 || (inclusion > 0.0 && draw.uniform(DrawKind::Slice, &self.spec.name, unit, self.lasting(window)) < inclusion);
        if !in_slice {
            let mut pmf = [0.0; MAX_VARIANTS];
            pmf[self.spec.leader] = 1.0;
            return Assigned { variant: self.spec.leader, propensity: 1.0, pmf, window, in_slice, inclusion, burn_in, draw: 0.0 };
        }
        let u = draw.uniform(DrawKind::Assignment, &self.spec.name, unit, window);
        let published = allocation.pmf_of(short);
        let variant = self.pick(&published, u);
        let pmf = self.without_off(published);
        Assigned { variant, propensity: pmf[variant], pmf: pmf.map(|p| p as f32), window, in_slice, inclusion, burn_in, draw: u }
    }

    /// Walks the shares as published, so that switching one variant off moves only that variant's units.
    fn pick(&self, pmf: &[f64; MAX_VARIANTS], u: f64) -> usize {
        let mut upto = 0.0;
        for (index, share) in pmf.iter().enumerate().take(self.spec.variants.len()) {
            upto += share;
            if u < upto {
                return if self.off[index] { 0 } else { index };
            }
        }
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use farthing_types::{Money, Overrides, Span};
    use proptest::prelude::*;

    use crate::allocation::{AllocationKind, KEPT_ALLOCATIONS};
    use crate::contextual::Contextual;
    use crate::spec::Slot;

    fn pair() -> ExperimentSpec {
        let variant = |name: &str, ttl: &str| Variant {
            name: name.into(),
            overrides: Overrides { ttl: Some(ttl.into()), ..Overrides::default() },
            share: 0.5,
        };
        ExperimentSpec::pair("ttl", variant("rule", "rule"), variant("model", "model"), Span::from_secs(60))
    }

    #[test]
    fn a_cache_strategy_is_refused_on_tenants() {
        let refused = Experiment::new(ExperimentSpec { unit: UnitKind::Tenant, ..pair() });
        assert!(matches!(refused, Err(SpecError::Interference { .. })), "{refused:?}");
        let text = refused.unwrap_err().to_string();
        assert!(text.contains("`ttl`") && text.contains("`tenant`") && text.contains("key, group, block"), "{text}");
        let mut routing = pair();
        routing.variants.iter_mut().for_each(|v| v.overrides = Overrides { routing: Some(false), ..Overrides::default() });
        assert!(Experiment::new(routing.clone()).is_err(), "routing by keys");
        assert!(Experiment::new(ExperimentSpec { unit: UnitKind::Tenant, ..routing }).is_ok());
    }

    #[test]
    fn bad_numbers_are_named() {
        let contextual = Contextual { uniform: 0.04, half_life: None, budget: None };
        let cases = [
            ("window", ExperimentSpec { window: Span::ZERO, ..pair() }),
            ("burn_in", ExperimentSpec { burn_in: Span::from_secs(60), ..pair() }),
            ("slice", ExperimentSpec { slice: f64::NAN, ..pair() }),
            ("leader", ExperimentSpec { leader: 2, ..pair() }),
            ("alpha", ExperimentSpec { alpha: 0.0, ..pair() }),
            ("cap", ExperimentSpec { cap: Some(Money::ZERO), ..pair() }),
            ("ramp", ExperimentSpec { ramp: vec![], ..pair() }),
            ("ramp", ExperimentSpec { ramp: vec![0.5, 0.1], ..pair() }),
            ("ramp", ExperimentSpec { ramp: vec![0.0, 0.1], ..pair() }),
            ("floor", ExperimentSpec { allocation: AllocationKind::Thompson { floor: 0.5 }, ..pair() }),
            ("floor", ExperimentSpec { allocation: AllocationKind::Thompson { floor: 0.0 }, ..pair() }),
            ("explore", ExperimentSpec { allocation: AllocationKind::Contextual(Contextual { uniform: 0.2, ..contextual }), ..pair() }),
            (
                "half_life",
                ExperimentSpec {
                    allocation: AllocationKind::Contextual(Contextual { half_life: Some(Span::ZERO), ..contextual }),
                    ..pair()
                },
            ),
            (
                "budget",
                ExperimentSpec {
                    allocation: AllocationKind::Contextual(Contextual { budget: Some(Money::from_nanos(-1)), ..contextual }),
                    ..pair()
                },
            ),
            ("margin", ExperimentSpec { margin: -0.1, ..pair() }),
            ("layer_upto", ExperimentSpec { slot: Some(Slot { layer: "l".into(), from: 0.5, upto: 0.5 }), ..pair() }),
        ];
        for (name, spec) in cases {
            match Experiment::new(spec) {
                Err(SpecError::Range { field, .. }) if field == name => {}
                other => panic!("{name}: {other:?}"),
            }
        }
        let mut shares = pair();
        shares.variants[0].share = 0.6;
        assert!(matches!(Experiment::new(shares), Err(SpecError::Shares { .. })));
        let mut names = pair();
        names.variants[1].name = "rule".into();
        assert!(matches!(Experiment::new(names), Err(SpecError::Duplicate { .. })));
        assert!(matches!(Experiment::new(ExperimentSpec { variants: vec![], ..pair() }), Err(SpecError::Variants { .. })));
    }

    #[test]
    fn coins_are_fair_fresh_in_each_window_and_kept_within_it() {
        let experiment = Experiment::new(pair()).unwrap();
        let draw = Draw::new(3);
        let at = |unit: u128, s: u64| experiment.assign(&draw, KeyHash(unit << 64), Time::ZERO + Span::from_secs(s));
        let share = (0..10_000).filter(|&u| at(u, 0).variant == 1).count();
        assert!((4_800..5_200).contains(&share), "{share}");
        assert!((0..1_000).all(|u| at(u, 0).variant == at(u, 59).variant));
        let moved = (0..10_000).filter(|&u| at(u, 0).variant != at(u, 60).variant).count();
        assert!((4_800..5_200).contains(&moved), "{moved}");
        assert!(at(1, 5).burn_in && !at(1, 10).burn_in && at(1, 60).burn_in);
    }

    #[test]
    fn the_slice_is_measured_and_the_rest_follows_the_leader() {
        let experiment = Experiment::new(ExperimentSpec { slice: 0.2, ..pair() }).unwrap().with_leader(1);
        let all: Vec<_> = (0..10_000).map(|u| experiment.assign(&Draw::new(1), KeyHash(u << 64), Time::ZERO)).collect();
        let slice = all.iter().filter(|a| a.in_slice).count();
        assert!((1_850..2_150).contains(&slice), "{slice}");
        assert!(all.iter().filter(|a| !a.in_slice).all(|a| a.variant == 1 && a.propensity == 1.0));
    }

    #[test]
    fn a_variant_switched_off_gives_its_units_to_control() {
        let experiment = Experiment::new(pair()).unwrap().with_leader(1).without(1);
        assert_eq!(experiment.spec().leader, 0);
        let all: Vec<_> = (0..100).map(|u| experiment.assign(&Draw::new(1), KeyHash(u << 64), Time::ZERO)).collect();
        assert!(all.iter().all(|a| a.variant == 0 && a.propensity == 1.0));
        assert!(!experiment.clone().without(0).is_off(0), "control stays");
        assert_eq!(experiment.clone().with_leader(1).spec().leader, 0, "a switched-off variant cannot lead");
    }

    #[test]
    fn probabilities_of_a_window_are_known_before_it_and_kept_after_it() {
        let even = Experiment::new(pair()).unwrap();
        let next = even.clone().with(Allocation { from: 10, pmf: [0.2, 0.8, 0.0, 0.0], ramp: 0.5, contexts: None });
        for (window, pmf, ramp) in [(9, [0.5, 0.5, 0.0, 0.0], 1.0), (10, [0.2, 0.8, 0.0, 0.0], 0.5), (99, [0.2, 0.8, 0.0, 0.0], 0.5)] {
            assert_eq!((next.pmf(window), next.allocation(window).ramp), (pmf, ramp), "{window}");
        }
        let all: Vec<_> = (0..10_000).map(|u| next.assign(&Draw::new(1), KeyHash(u << 64), next.begins(10))).collect();
        let slice = all.iter().filter(|a| a.in_slice).count();
        let second = all.iter().filter(|a| a.in_slice && a.variant == 1).count();
        assert!((4_800..5_200).contains(&slice) && (3_800..4_200).contains(&second), "{slice} {second}");
        let over = (11..20).fold(next.clone(), |e, from| e.with(Allocation { from, pmf: [0.3, 0.7, 0.0, 0.0], ramp: 1.0, contexts: None }));
        assert_eq!(over.allocations().len(), KEPT_ALLOCATIONS);
        assert_eq!(next.clone().with(Allocation { from: 10, pmf: [0.5; 4], ramp: 0.0, contexts: None }).allocations().len(), 2, "replaced");
        assert_eq!(next.without(1).pmf(10), [1.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn parts_of_a_layer_do_not_overlap() {
        let part = |name: &str, from, upto| {
            let slot = Some(Slot { layer: "money".into(), from, upto });
            Experiment::new(ExperimentSpec { name: name.into(), slot, ..pair() }).unwrap()
        };
        let (a, b) = (part("a", 0.0, 0.3), part("b", 0.3, 1.0));
        let held = |e: &Experiment| (0..10_000u128).map(|u| e.holds(&Draw::new(2), KeyHash(u << 64), Time::ZERO)).collect::<Vec<_>>();
        let (a, b) = (held(&a), held(&b));
        assert!(a.iter().zip(&b).all(|(a, b)| a != b), "each unit is in exactly one");
        let share = a.iter().filter(|held| **held).count();
        assert!((2_850..3_150).contains(&share), "{share}");
    }

    #[test]
    fn a_block_is_drawn_anew_also_for_the_slice() {
        let spec = ExperimentSpec { unit: UnitKind::Block, slice: 0.2, ..pair() };
        let experiment = Experiment::new(spec).unwrap();
        let in_slice = (0..5_000i64).filter(|w| experiment.assign(&Draw::new(1), KeyHash(7 << 64), experiment.begins(*w)).in_slice).count();
        assert!((850..1_150).contains(&in_slice), "{in_slice}");
    }

    proptest! {
        #[test]
        fn propensities_are_what_was_drawn_from(share in 0.01f64..0.98, unit in any::<u128>(), s in -1_000_000i64..1_000_000) {
            let mut spec = pair();
            spec.variants[0].share = share;
            spec.variants[1].share = 1.0 - share;
            let experiment = Experiment::new(spec).unwrap();
            let a = experiment.assign(&Draw::new(9), KeyHash(unit), Time::from_millis(s * 1000));
            prop_assert_eq!(a.propensity, experiment.variants()[a.variant].share);
            prop_assert_eq!(a.window, s.div_euclid(60));
            prop_assert_eq!(a.variant, usize::from(a.draw >= share));
        }
    }
}

//! What an experiment is, and which variant a unit gets: a keyed hash of (experiment, unit, window), nothing stored.

use std::sync::Arc;

use farthing_types::{Draw, DrawKind, KeyHash, Money, Overrides, Span, Time};

/// Live variants of one experiment, control included: an entry stores a TTL for each
/// (docs/adr/0002-ttl-per-variant.md).
pub const MAX_VARIANTS: usize = 4;

/// What the coin is tossed for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnitKind {
    /// A cache key: the unit for everything that touches shared cache state.
    #[default]
    Key,
    /// A tenant: only for strategies without shared state.
    Tenant,
}

impl UnitKind {
    /// The stable string.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Tenant => "tenant",
        }
    }
}

/// One variant: a named set of plan overrides. The first variant of an experiment is its control.
#[derive(Clone, Debug, PartialEq)]
pub struct Variant {
    /// Name, unique within the experiment.
    pub name: Arc<str>,
    /// What it changes about the plan.
    pub overrides: Overrides,
    /// Probability within the measurement slice; the shares of an experiment sum to 1.
    pub share: f64,
}

/// The plain description of an experiment, to be checked by [`Experiment::new`].
#[derive(Clone, Debug, PartialEq)]
pub struct ExperimentSpec {
    /// Name; part of the hash, so a new name is a new randomisation.
    pub name: Arc<str>,
    /// Control first, then the challengers.
    pub variants: Vec<Variant>,
    /// What the coin is tossed for.
    pub unit: UnitKind,
    /// Length of an assignment window: every unit gets a new coin in each.
    pub window: Span,
    /// Observations in this first part of each window are discarded: the longest TTL of the variants.
    pub burn_in: Span,
    /// Share of the units that are measured (0, 1]; the others follow the leader.
    pub slice: f64,
    /// Variant that units outside the slice get.
    pub leader: usize,
    /// Price of one stale answer, added to the bill: the outcome is money cost.
    pub price_stale: Money,
    /// Pre-declared cap of a unit-window's money cost; `None` takes it from the first rows, which are then not tested.
    pub cap: Option<Money>,
    /// Probability of a false alarm that is accepted, over all looks and all challengers.
    pub alpha: f64,
    /// Distinct units per variant below which no interval is given.
    pub min_units: u32,
    /// Units followed at once; more are left out (and counted). Each takes about 150 bytes.
    pub max_units: usize,
}

impl ExperimentSpec {
    /// An experiment of `control` against `challenger` on equal shares of every key, with the usual bounds.
    pub fn pair(name: impl Into<Arc<str>>, control: Variant, challenger: Variant, window: Span) -> Self {
        Self {
            name: name.into(),
            variants: vec![Variant { share: 0.5, ..control }, Variant { share: 0.5, ..challenger }],
            unit: UnitKind::Key,
            window,
            burn_in: window / 6,
            slice: 1.0,
            leader: 0,
            price_stale: Money::ZERO,
            cap: None,
            alpha: 0.05,
            min_units: 20,
            max_units: 65_536,
        }
    }
}

/// Why a description is not an experiment.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SpecError {
    /// Too few or too many variants.
    #[error("experiment {name}: {count} variants; give 2 to {MAX_VARIANTS}, control first")]
    Variants {
        /// The experiment.
        name: Arc<str>,
        /// What was given.
        count: usize,
    },
    /// Two variants share a name.
    #[error("experiment {name}: two variants are called {variant}; names must differ")]
    Duplicate {
        /// The experiment.
        name: Arc<str>,
        /// The name.
        variant: Arc<str>,
    },
    /// The shares are not a distribution over the variants with a floor.
    #[error("experiment {name}: shares sum to {sum}; they must be 0.01 or more each and sum to 1")]
    Shares {
        /// The experiment.
        name: Arc<str>,
        /// What they sum to.
        sum: f64,
    },
    /// A number is outside its range.
    #[error("experiment {name}: {field} = {value} is outside {range}")]
    Range {
        /// The experiment.
        name: Arc<str>,
        /// The field.
        field: &'static str,
        /// What was given.
        value: f64,
        /// What is allowed.
        range: &'static str,
    },
    /// Tenants share the cache, so whoever fills an entry decides for both variants and the difference measured would be zero.
    #[error("experiment {name}: variant {variant} changes the shared cache, so its unit must be `key`, not `{unit}`")]
    Interference {
        /// The experiment.
        name: Arc<str>,
        /// The variant.
        variant: Arc<str>,
        /// The refused unit.
        unit: &'static str,
    },
}

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
    /// Whether the time lies in the part of the window that is discarded.
    pub burn_in: bool,
    /// The uniform number behind it, for the log.
    pub draw: f64,
}

/// A checked experiment: an immutable snapshot, to be replaced when its leader changes or a variant is switched off.
#[derive(Clone, Debug, PartialEq)]
pub struct Experiment {
    spec: ExperimentSpec,
    window_ns: i64,
    off: [bool; MAX_VARIANTS],
    pmf: [f64; MAX_VARIANTS],
}

impl Experiment {
    /// Checks `spec`.
    ///
    /// # Errors
    /// Says which field is wrong and what it may be.
    pub fn new(spec: ExperimentSpec) -> Result<Self, SpecError> {
        check_variants(&spec)?;
        check_numbers(&spec)?;
        let window_ns = i64::try_from(spec.window.as_nanos()).unwrap_or(i64::MAX);
        let mut pmf = [0.0; MAX_VARIANTS];
        for (p, variant) in pmf.iter_mut().zip(&spec.variants) {
            *p = variant.share;
        }
        Ok(Self { spec, window_ns, off: [false; MAX_VARIANTS], pmf })
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
    /// Probability of each variant in the slice, switched-off ones 0.
    pub fn pmf(&self) -> [f64; MAX_VARIANTS] {
        self.pmf
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
        self.pmf[0] += self.pmf[variant];
        self.pmf[variant] = 0.0;
        if self.spec.leader == variant {
            self.spec.leader = 0;
        }
        self
    }

    /// The variant of `unit` at `now`. A function of its arguments alone: equal on every instance that shares the draw's seed.
    /// Only what the log keeps of a key is drawn from, so that every assignment can be recomputed from it.
    pub fn assign(&self, draw: &Draw, unit: KeyHash, now: Time) -> Assigned {
        let unit = u128::from(unit.short());
        let window = now.nanos().div_euclid(self.window_ns);
        let into = now.nanos().rem_euclid(self.window_ns);
        let burn_in = u128::from(into.unsigned_abs()) < self.spec.burn_in.as_nanos();
        let in_slice = self.spec.slice >= 1.0 || draw.uniform(DrawKind::Slice, &self.spec.name, unit, 0) < self.spec.slice;
        if !in_slice {
            let mut pmf = [0.0; MAX_VARIANTS];
            pmf[self.spec.leader] = 1.0;
            return Assigned { variant: self.spec.leader, propensity: 1.0, pmf, window, in_slice, burn_in, draw: 0.0 };
        }
        let u = draw.uniform(DrawKind::Assignment, &self.spec.name, unit, window);
        let variant = self.pick(u);
        Assigned { variant, propensity: self.pmf[variant], pmf: self.pmf.map(|p| p as f32), window, in_slice, burn_in, draw: u }
    }

    /// Walks the shares as declared, so that switching one variant off moves only that variant's units.
    fn pick(&self, u: f64) -> usize {
        let mut upto = 0.0;
        for (index, variant) in self.spec.variants.iter().enumerate() {
            upto += variant.share;
            if u < upto {
                return if self.off[index] { 0 } else { index };
            }
        }
        0
    }
}

fn check_variants(spec: &ExperimentSpec) -> Result<(), SpecError> {
    let name = || spec.name.clone();
    if !(2..=MAX_VARIANTS).contains(&spec.variants.len()) {
        return Err(SpecError::Variants { name: name(), count: spec.variants.len() });
    }
    for (index, variant) in spec.variants.iter().enumerate() {
        if spec.variants[..index].iter().any(|v| v.name == variant.name) {
            return Err(SpecError::Duplicate { name: name(), variant: variant.name.clone() });
        }
        // Every override of a plan touches shared cache state today; the first that does not needs a method on `Overrides`.
        if spec.unit != UnitKind::Key && variant.overrides != Overrides::default() {
            return Err(SpecError::Interference { name: name(), variant: variant.name.clone(), unit: spec.unit.as_str() });
        }
    }
    let sum: f64 = spec.variants.iter().map(|v| v.share).sum();
    let floor = spec.variants.iter().all(|v| v.share.is_finite() && v.share >= 0.01);
    if !floor || (sum - 1.0).abs() > 1e-6 {
        return Err(SpecError::Shares { name: name(), sum });
    }
    Ok(())
}

fn check_numbers(spec: &ExperimentSpec) -> Result<(), SpecError> {
    let window = spec.window.as_secs_f64();
    let checks = [
        ("window", window, window > 0.0 && spec.window.as_nanos() < i64::MAX as u128, "above 0 s and below 290 years"),
        ("burn_in", spec.burn_in.as_secs_f64(), spec.burn_in < spec.window, "0 to the window's length (excluded)"),
        ("slice", spec.slice, spec.slice > 0.0 && spec.slice <= 1.0, "(0, 1]"),
        ("leader", spec.leader as f64, spec.leader < spec.variants.len(), "the indexes of the variants"),
        ("alpha", spec.alpha, spec.alpha > 0.0 && spec.alpha < 0.5, "(0, 0.5)"),
        ("price_stale", spec.price_stale.as_usd_f64(), spec.price_stale >= Money::ZERO, "0 or more"),
        ("cap", spec.cap.map_or(1.0, Money::as_usd_f64), spec.cap.is_none_or(|c| c > Money::ZERO), "above 0"),
        ("max_units", spec.max_units as f64, spec.max_units > 0, "1 or more"),
    ];
    match checks.into_iter().find(|(_, _, ok, _)| !ok) {
        Some((field, value, _, range)) => Err(SpecError::Range { name: spec.name.clone(), field, value, range }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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
    }

    #[test]
    fn bad_numbers_are_named() {
        let cases = [
            ("window", ExperimentSpec { window: Span::ZERO, ..pair() }),
            ("burn_in", ExperimentSpec { burn_in: Span::from_secs(60), ..pair() }),
            ("slice", ExperimentSpec { slice: f64::NAN, ..pair() }),
            ("leader", ExperimentSpec { leader: 2, ..pair() }),
            ("alpha", ExperimentSpec { alpha: 0.0, ..pair() }),
            ("cap", ExperimentSpec { cap: Some(Money::ZERO), ..pair() }),
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

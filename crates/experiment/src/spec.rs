//! What an experiment is: its description, and the checks that make an [`Experiment`](crate::Experiment) of it.

use std::sync::Arc;

use farthing_types::{Money, Overrides, PlanField, Span, Time};
use serde::{Deserialize, Serialize};

use crate::allocation::AllocationKind;
use crate::conserve::Conservative;
use crate::unit::{self, UnitKind};

/// Live variants of one experiment, control included: an entry stores a TTL for each
/// (docs/adr/0002-ttl-per-variant.md).
pub const MAX_VARIANTS: usize = 4;
/// The longest layer of a ramp: so many steps at most.
pub const MAX_RAMP: usize = 8;

/// The outcome that is compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Metric {
    /// What its calls cost, and the price of its stale answers.
    #[default]
    MoneyCost,
    /// What its calls cost.
    Bill,
    /// What its calls cost, the price of its stale answers, and that of the time that clients wait.
    WithWaiting,
}

impl Metric {
    /// The stable string.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MoneyCost => "money-cost",
            Self::Bill => "bill",
            Self::WithWaiting => "with-waiting",
        }
    }

    /// The metric of this name.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::MoneyCost, Self::Bill, Self::WithWaiting].into_iter().find(|metric| metric.as_str() == text)
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

/// The part of a layer that an experiment has. Experiments of one layer have parts that do not overlap, so no unit is in two of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Slot {
    /// The layer's name; part of the hash.
    pub layer: Arc<str>,
    /// From which share of the units on.
    pub from: f64,
    /// Up to which.
    pub upto: f64,
}

/// The plain description of an experiment, to be checked by [`Experiment::new`](crate::Experiment::new).
#[derive(Clone, Debug, PartialEq)]
pub struct ExperimentSpec {
    /// Name; part of the hash, so a new name is a new randomisation.
    pub name: Arc<str>,
    /// Control first, then the challengers.
    pub variants: Vec<Variant>,
    /// What the coin is tossed for.
    pub unit: UnitKind,
    /// Its part of a layer; `None` is all of it.
    pub slot: Option<Slot>,
    /// Length of an assignment window: every unit gets a new coin in each.
    pub window: Span,
    /// Observations in this first part of each window are discarded: the longest TTL of the variants.
    pub burn_in: Span,
    /// Share of the units that are measured (0, 1]; the others follow the leader.
    pub slice: f64,
    /// Shares of the slice that take part, one step after the other; the last is for good.
    pub ramp: Vec<f64>,
    /// Least time on each step.
    pub ramp_hold: Span,
    /// What it may cost; then that bounds how likely challengers are, and none is drawn before control is known.
    pub conservative: Option<Conservative>,
    /// How the variants share the measured units.
    pub allocation: AllocationKind,
    /// Variant that units outside the slice get.
    pub leader: usize,
    /// The outcome that is compared.
    pub metric: Metric,
    /// Excess of a challenger's share of errors, stale or late answers over control's that is tolerated.
    pub margin: f64,
    /// Smallest relative difference in cost that is worth a change.
    pub worthwhile: f64,
    /// Price of one stale answer, added to the bill: the outcome is money cost.
    pub price_stale: Money,
    /// Pre-declared cap of a unit-window's money cost; `None` takes it from the first rows, which are then not tested.
    pub cap: Option<Money>,
    /// Probability of a false alarm that is accepted, over all looks and all challengers.
    pub alpha: f64,
    /// Distinct units per variant (blocks: windows) below which no interval is given.
    pub min_units: u32,
    /// Units followed at once; more are left out (and counted). Each takes about 150 bytes.
    pub max_units: usize,
}

impl ExperimentSpec {
    /// An experiment of `control` against `challenger` on equal shares of every key, with the usual bounds and at once at full size.
    pub fn pair(name: impl Into<Arc<str>>, control: Variant, challenger: Variant, window: Span) -> Self {
        Self {
            name: name.into(),
            variants: vec![Variant { share: 0.5, ..control }, Variant { share: 0.5, ..challenger }],
            unit: UnitKind::Key,
            slot: None,
            window,
            burn_in: window / 6,
            slice: 1.0,
            ramp: vec![1.0],
            ramp_hold: Span::ZERO,
            conservative: None,
            allocation: AllocationKind::Fixed,
            leader: 0,
            metric: Metric::MoneyCost,
            margin: 0.005,
            worthwhile: 0.02,
            price_stale: Money::ZERO,
            cap: None,
            alpha: 0.05,
            min_units: 20,
            max_units: 65_536,
        }
    }

    /// Length of a window, ns.
    pub(crate) fn window_ns(&self) -> i64 {
        i64::try_from(self.window.as_nanos()).unwrap_or(i64::MAX).max(1)
    }

    /// The window of a moment.
    pub fn window_at(&self, now: Time) -> i64 {
        now.nanos().div_euclid(self.window_ns())
    }

    /// When a window begins.
    pub fn begins(&self, window: i64) -> Time {
        Time::from_nanos(window.saturating_mul(self.window_ns()))
    }

    /// Windows before this one are over, their late findings included.
    pub fn over(&self, now: Time) -> i64 {
        let running = self.window_at(now);
        if now.since(self.begins(running)) < self.burn_in { running.saturating_sub(1) } else { running }
    }

    /// The declared share of each variant.
    pub(crate) fn declared(&self) -> [f64; MAX_VARIANTS] {
        std::array::from_fn(|index| self.variants.get(index).map_or(0.0, |v| v.share))
    }

    /// The probabilities that it begins with.
    pub(crate) fn initial(&self) -> [f64; MAX_VARIANTS] {
        match self.conservative {
            Some(_) => std::array::from_fn(|index| if index == 0 { 1.0 } else { 0.0 }),
            None => self.declared(),
        }
    }

    /// Part of a window that is measured.
    pub(crate) fn measured_share(&self) -> f64 {
        1.0 - self.burn_in.as_secs_f64() / self.window.as_secs_f64()
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
    /// Units share what the variants change, so the difference measured would not be that of the variants.
    #[error(
        "experiment {name}: variant {variant} changes `{}`, which cannot be compared by `{}`: {}; write unit = one of {}",
        field.as_str(), unit.as_str(), unit::Shared::of(*field).reason(), unit::safe_units(*field)
    )]
    Interference {
        /// The experiment.
        name: Arc<str>,
        /// The variant.
        variant: Arc<str>,
        /// What it changes.
        field: PlanField,
        /// The refused unit.
        unit: UnitKind,
    },
}

/// Checks a description.
pub(crate) fn check(spec: &ExperimentSpec) -> Result<(), SpecError> {
    check_variants(spec)?;
    check_numbers(spec)
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
        if let Some(field) = variant.overrides.fields().find(|field| unit::unsafe_for(*field, spec.unit).is_some()) {
            return Err(SpecError::Interference { name: name(), variant: variant.name.clone(), field, unit: spec.unit });
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
    let most = spec.variants.iter().map(|v| v.share).fold(1.0 / spec.variants.len() as f64, f64::min);
    let (floor, contextual) = match spec.allocation {
        AllocationKind::Fixed => (None, None),
        AllocationKind::Thompson { floor } => (Some(floor), None),
        AllocationKind::Contextual(contextual) => (None, Some(contextual)),
    };
    let explore = contextual.map_or(0.02, |c| c.uniform);
    let half_life = contextual.and_then(|c| c.half_life);
    let budget = contextual.and_then(|c| c.budget);
    let (from, upto) = spec.slot.as_ref().map_or((0.0, 1.0), |slot| (slot.from, slot.upto));
    let worst_step = spec.ramp.iter().copied().find(|step| !(*step > 0.0 && *step <= 1.0));
    let checks = [
        ("window", window, window > 0.0 && spec.window.as_nanos() < i64::MAX as u128, "above 0 s and below 290 years"),
        ("burn_in", spec.burn_in.as_secs_f64(), spec.burn_in < spec.window, "0 to the window's length (excluded)"),
        ("slice", spec.slice, spec.slice > 0.0 && spec.slice <= 1.0, "(0, 1]"),
        ("ramp", worst_step.unwrap_or(0.0), worst_step.is_none(), "(0, 1] in each step"),
        ("ramp", spec.ramp.len() as f64, (1..=MAX_RAMP).contains(&spec.ramp.len()), "1 to 8 steps"),
        ("ramp", spec.ramp.len() as f64, spec.ramp.is_sorted(), "steps that grow"),
        (
            "floor",
            floor.unwrap_or(0.0),
            floor.is_none_or(|f| f >= 0.01 && f <= most && f * (spec.variants.len() as f64) < 1.0),
            "0.01 to the least declared share, below 1 / variants",
        ),
        ("explore", explore, (0.02..=0.05).contains(&explore), "0.02 to 0.05"),
        ("half_life", half_life.map_or(0.0, |h| h.as_secs_f64()), half_life.is_none_or(|h| h >= spec.window), "a window or longer"),
        ("budget", budget.map_or(0.0, Money::as_usd_f64), budget.is_none_or(|b| b >= Money::ZERO), "0 or more"),
        ("may_cost", spec.conservative.map_or(0.0, |c| c.most), spec.conservative.is_none_or(|c| c.most > 0.0 && c.most < 1.0), "(0, 1)"),
        (
            "assumed_worst",
            spec.conservative.map_or(2.0, |c| c.worst),
            spec.conservative.is_none_or(|c| c.worst > 1.0 && c.worst.is_finite()),
            "above 1",
        ),
        (
            "may_cost",
            spec.conservative.map_or(0.0, |c| c.most),
            spec.conservative.is_none() || contextual.is_none(),
            "for shares that do not go by context: these have a budget of their own",
        ),
        ("layer_from", from, (0.0..1.0).contains(&from), "[0, 1)"),
        ("layer_upto", upto, upto > from && upto <= 1.0, "(layer_from, 1]"),
        ("leader", spec.leader as f64, spec.leader < spec.variants.len(), "the indexes of the variants"),
        ("margin", spec.margin, (0.0..0.5).contains(&spec.margin), "[0, 0.5)"),
        ("worthwhile", spec.worthwhile, (0.0..1.0).contains(&spec.worthwhile), "[0, 1)"),
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

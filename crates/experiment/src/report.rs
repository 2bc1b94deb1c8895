//! What is read out of experiments: for the API, the command line and the demo.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::contextual::Leaning;
use crate::guard::{GuardKind, SwitchOff};
use crate::unit::UnitKind;

/// A point with its always-valid interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The estimate.
    pub point: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// One variant so far, measured unit-windows only.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct VariantReport {
    /// Its name.
    pub name: Arc<str>,
    /// Distinct units that have had it.
    pub units: u64,
    /// Unit-windows.
    pub unit_windows: u64,
    /// Unit-windows drawn so far, the open window included, as the sample-ratio check counts them.
    pub units_drawn: u64,
    /// How many the logged probabilities make one expect.
    pub units_expected: f64,
    /// Client requests.
    pub requests: u64,
    /// Paid to providers, USD.
    pub bill_usd: f64,
    /// Bill plus priced stale answers, USD.
    pub cost_usd: f64,
    /// The sum of the squares of what its unit-windows cost.
    pub square_usd: f64,
    /// Stale answers per request.
    pub stale_share: f64,
    /// Failed requests per request.
    pub error_share: f64,
    /// Requests answered later than promised, per request.
    pub late_share: f64,
    /// The guardrail that switched it off.
    pub off: Option<GuardKind>,
}

impl VariantReport {
    /// Its units; of a route in blocks there is one, and what counts are its windows.
    pub(crate) const fn counted(&self, unit: UnitKind) -> u64 {
        if matches!(unit, UnitKind::Block) { self.unit_windows } else { self.units }
    }
}

/// A challenger against control.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// The challenger.
    pub variant: Arc<str>,
    /// The control.
    pub control: Arc<str>,
    /// Money cost per unit-window, challenger minus control (stabilised weights), USD; below 0 the challenger is cheaper.
    pub effect_usd: Option<Interval>,
    /// The same as a share of the mean that all units would have under control, which is taken as known; null also where that is not above zero.
    pub relative: Option<Interval>,
    /// The effect with equal weights for all unit-windows, USD.
    pub unweighted_usd: Option<f64>,
    /// Evidence (e-value) against "no difference in any window".
    pub evidence: f64,
    /// Whether the evidence has been enough at some time: the two differ.
    pub differs: bool,
    /// It is among those challengers of the experiment of which at most the experiment's `alpha` differ in nothing, on average ([`crate::ebh`]), as it
    /// stands now. Among several it is reached sooner than `differs`, which no finding at all may get wrong.
    pub found: bool,
    /// Unit-windows of both that were tested.
    pub rows: u64,
    /// Standard deviation that one unit-window adds to the estimate, USD; null before there are rows of both.
    pub spread_usd: Option<f64>,
    /// Why there is no interval: `not enough units`, `calibrating`, `sample ratio mismatch`.
    pub note: Option<&'static str>,
    /// False-alarm probability of interval and decision.
    pub alpha: f64,
}

/// Observations and unit-windows left out, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Dropped {
    /// Observations in the discarded first part of a window.
    pub burn_in: u64,
    /// Observations of a window that was closed already.
    pub late: u64,
    /// Observations of units for which there was no room.
    pub overflow: u64,
    /// Unit-windows whose variant changed within the window, because one was switched off.
    pub mixed: u64,
    /// Observations without a price.
    pub unpriced: u64,
    /// Unit-windows of windows that were not watched from their beginning: those in which the experiment or the process began.
    pub partial: u64,
    /// Unit-windows that are in the sums but had no room in the export.
    pub unexported: u64,
    /// Units with calls or stale answers in a window without a request: they are no unit-windows.
    #[serde(default)]
    pub orphans: u64,
    /// What these cost, USD.
    #[serde(default)]
    pub orphans_usd: f64,
}

/// The state of knowledge about an experiment.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// The experiment.
    pub name: Arc<str>,
    /// Control first.
    pub variants: Vec<VariantReport>,
    /// One per challenger.
    pub comparisons: Vec<Comparison>,
    /// Closed windows.
    pub windows: u64,
    /// Windows that were measured, those without a request included, and those not that were left out or in which nobody took part.
    pub watched: u64,
    /// Unit-windows of all units, in and outside of the slice, that the measured ones stand for.
    pub population: f64,
    /// Measured calls.
    pub calls: u64,
    /// Cap of a unit-window's money cost, USD; null while it is being found.
    pub cap_usd: Option<f64>,
    /// Share of tested unit-windows above the cap.
    pub capped_share: f64,
    /// Evidence (e-value) that the variants do not come in the logged proportions.
    pub ratio_evidence: f64,
    /// Whether that evidence blocks the read-out.
    pub ratio_alarm: bool,
    /// Variants that guardrails condemn.
    pub switched_off: Vec<SwitchOff>,
    /// What was left out.
    pub dropped: Dropped,
    /// What was learned of the variants by context; null where allocation does not go by it.
    pub learned: Option<Learned>,
}

/// What contextual allocation has learned.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Learned {
    /// Control first.
    pub variants: Vec<LearnedVariant>,
    /// Units with a context of their own.
    pub contexts: usize,
    /// How far the cost of a unit-window is from its prediction on average, USD (root of the mean square); null before it is known.
    pub deviation_usd: Option<f64>,
    /// What drawing other variants than the one predicted to be the cheapest has cost, by estimate, USD.
    pub explored_usd: f64,
    /// Of this, in the day (UTC) of the window that was closed last.
    pub explored_today_usd: f64,
    /// What a day may cost, USD; null without a limit.
    pub budget_usd: Option<f64>,
    /// Share of the exploration that this leaves in the window published last; null before one is.
    pub appetite: Option<f64>,
}

/// What was learned of a variant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LearnedVariant {
    /// Its name.
    pub name: Arc<str>,
    /// Unit-windows that it was learned from, as they count now.
    pub rows: f64,
    /// Its probability in the window published last, on average over the units; null before one is.
    pub probability: Option<f64>,
    /// Where it is predicted to be cheaper than control; null for control, and before there is enough to go by.
    pub leaning: Option<Leaning>,
}

/// The proven saving.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SavingReport {
    /// What the requests would have cost without Farthing: the ledger's claim corrected by the holdout, USD.
    pub base_usd: f64,
    /// The ledger's uncorrected claim, USD.
    pub claimed_base_usd: f64,
    /// Paid to providers, holdout included, USD.
    pub bill_usd: f64,
    /// 1 - bill / base, with its always-valid interval; null without enough holdout units.
    pub saving: Option<Interval>,
    /// Unit-windows in all.
    pub unit_windows: u64,
    /// Of these, in the holdout.
    pub holdout_unit_windows: u64,
    /// What the holdout has cost: paid for the held-out beyond what the others' rate makes of their claims, USD.
    pub holdout_cost_usd: f64,
    /// Windows that have ended.
    pub windows: u64,
    /// Why there is no interval.
    pub note: Option<&'static str>,
    /// Calls and requests without a price, not in the sums.
    pub unpriced: u64,
    /// Observations counted one by one because there was no room for their unit.
    pub overflow: u64,
}

//! The named checks.

use farthing_contract::bundle::GateCheck;
use serde::Serialize;

use super::{
    Against, CALIBRATION_BOUND, CalibrationBin, Evidence, Judgement, LATENCY_BOUND, MAX_QUESTIONS, MAX_TREES, MIN_BLOCKS, Opponent,
    ROUTE_BOUND, RouteChange,
};

/// What is asked; the strings are for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CheckName {
    /// There are enough blocks to believe an interval.
    EnoughBlocks,
    /// The lower end of the saving against the present champion lies above zero.
    SavingVsChampion,
    /// The same against the rules.
    SavingVsRules,
    /// The same against the live statistics without the predictor.
    SavingVsLive,
    /// No route of weight gets dearer.
    WorstRoute,
    /// What is predicted happens as often.
    Calibration,
    /// Median latency of a decision, measured here on the trees in Rust.
    LatencyP50,
    /// 99th percentile of the same.
    LatencyP99,
    /// Number of trees.
    Trees,
    /// Questions asked of one row.
    Questions,
}

impl CheckName {
    /// Every check, in the order of reports.
    pub const ALL: &'static [Self] = &[
        Self::EnoughBlocks,
        Self::SavingVsChampion,
        Self::SavingVsRules,
        Self::SavingVsLive,
        Self::WorstRoute,
        Self::Calibration,
        Self::LatencyP50,
        Self::LatencyP99,
        Self::Trees,
        Self::Questions,
    ];

    /// The stable string.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::EnoughBlocks => "enough-blocks",
            Self::SavingVsChampion => "saving-vs-champion",
            Self::SavingVsRules => "saving-vs-rules",
            Self::SavingVsLive => "saving-vs-live",
            Self::WorstRoute => "worst-route",
            Self::Calibration => "calibration",
            Self::LatencyP50 => "latency-p50",
            Self::LatencyP99 => "latency-p99",
            Self::Trees => "trees",
            Self::Questions => "questions",
        }
    }

    /// Whether its value is a measurement of this machine, which must not enter a bundle: the same data and seed give the same bytes.
    pub const fn of_the_machine(self) -> bool {
        matches!(self, Self::LatencyP50 | Self::LatencyP99)
    }
}

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The bound holds.
    Passed,
    /// It does not.
    Failed,
    /// Told, not binding.
    Reported,
    /// There is nothing to measure.
    Absent,
}

impl Verdict {
    /// The stable string.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Reported => "reported",
            Self::Absent => "absent",
        }
    }
}

/// One check.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Check {
    /// What was asked.
    pub name: CheckName,
    /// What was measured.
    pub value: Option<f64>,
    /// What it is held against.
    pub bound: f64,
    /// How it ended.
    pub verdict: Verdict,
    /// More, for people: the route, the interval, the reason.
    pub note: String,
}

impl Check {
    fn new(name: CheckName, value: f64, bound: f64, holds: bool) -> Self {
        let verdict = if holds { Verdict::Passed } else { Verdict::Failed };
        Self { name, value: Some(value), bound, verdict, note: String::new() }
    }
    fn absent(name: CheckName, bound: f64, why: &str) -> Self {
        Self { name, value: None, bound, verdict: Verdict::Absent, note: why.to_owned() }
    }
    fn noted(self, note: String) -> Self {
        Self { note, ..self }
    }

    /// As the manifest keeps it.
    pub fn record(&self) -> GateCheck {
        let value = self.value.filter(|v| v.is_finite() && !self.name.of_the_machine());
        GateCheck { name: self.name.as_str().to_owned(), value, bound: self.bound, verdict: self.verdict.as_str().to_owned() }
    }
}

/// All checks on what was found.
pub fn all(evidence: &Evidence, found: &Judgement) -> Vec<Check> {
    let enough = Check::new(CheckName::EnoughBlocks, found.effective_blocks, MIN_BLOCKS, found.effective_blocks >= MIN_BLOCKS);
    let size = &evidence.size;
    let latency = |name, value: f64, bound| Check::new(name, value, bound, value <= bound);
    let count = |name, value: Option<usize>, bound: usize| match value {
        Some(n) => Check::new(name, n as f64, bound as f64, n <= bound),
        None => Check::absent(name, bound as f64, "no tree ensemble"),
    };
    vec![
        enough.noted(format!("{} blocks of a key and a day", found.blocks)),
        saving(CheckName::SavingVsChampion, found.against(Opponent::Champion), &evidence.no_champion),
        saving(CheckName::SavingVsRules, found.against(Opponent::Rules), ""),
        saving(CheckName::SavingVsLive, found.against(Opponent::Live), "they have no part in this kind"),
        worst_route(found),
        calibration(evidence),
        latency(CheckName::LatencyP50, size.p50_us, LATENCY_BOUND.0),
        latency(CheckName::LatencyP99, size.p99_us, LATENCY_BOUND.1),
        count(CheckName::Trees, size.trees, MAX_TREES),
        count(CheckName::Questions, size.questions, MAX_QUESTIONS),
    ]
}

/// The value is the lower end of the interval.
fn saving(name: CheckName, against: Option<&Against>, why_absent: &str) -> Check {
    let Some(against) = against else {
        let absent = Check::absent(name, 0.0, why_absent);
        // Nothing is published that was not compared with the rules.
        let verdict = if name == CheckName::SavingVsRules { Verdict::Failed } else { Verdict::Absent };
        return Check { verdict, ..absent };
    };
    let Interval3 { value, low, high } = percent(against);
    let check = Check::new(name, against.saving.low, 0.0, against.saving.low > 0.0).noted(format!("{value:+.1} % [{low:+.1}, {high:+.1}]"));
    if name == CheckName::SavingVsLive { Check { verdict: Verdict::Reported, ..check } } else { check }
}

struct Interval3 {
    value: f64,
    low: f64,
    high: f64,
}

fn percent(against: &Against) -> Interval3 {
    let super::Interval { value, low, high } = against.saving;
    Interval3 { value: 100.0 * value, low: 100.0 * low, high: 100.0 * high }
}

fn worst_route(found: &Judgement) -> Check {
    let name = CheckName::WorstRoute;
    let binding = found.against.iter().filter(|a| a.opponent != Opponent::Live);
    let all = binding.flat_map(|a| a.routes.iter().map(move |r| (a.opponent, r)));
    let fails = |r: &RouteChange| r.change.value > ROUTE_BOUND && r.change.low > 0.0;
    let order = |a: &RouteChange, b: &RouteChange| fails(a).cmp(&fails(b)).then(a.change.value.total_cmp(&b.change.value));
    let Some((opponent, route)) = all.max_by(|a, b| order(a.1, b.1)) else {
        return Check { verdict: Verdict::Failed, ..Check::absent(name, ROUTE_BOUND, "no route of weight") };
    };
    let (value, low, high) = (100.0 * route.change.value, 100.0 * route.change.low, 100.0 * route.change.high);
    let holds = !fails(route);
    let why = if holds && route.change.value > ROUTE_BOUND { ", not told from chance" } else { "" };
    let note = format!("{} against {}: {value:+.1} % [{low:+.1}, {high:+.1}]{why}", route.route, opponent.as_str());
    Check::new(name, route.change.value, ROUTE_BOUND, holds).noted(note)
}

fn calibration(evidence: &Evidence) -> Check {
    let name = CheckName::Calibration;
    let Some(bins) = &evidence.calibration else { return Check::absent(name, CALIBRATION_BOUND, "it answers no probability") };
    let fails = |b: &CalibrationBin| b.error() > CALIBRATION_BOUND && b.is_off(bins.len());
    let order = |a: &CalibrationBin, b: &CalibrationBin| fails(a).cmp(&fails(b)).then(a.error().total_cmp(&b.error()));
    let Some(worst) = bins.iter().max_by(|a, b| order(a, b)) else {
        return Check { verdict: Verdict::Failed, ..Check::absent(name, CALIBRATION_BOUND, "no held-out prediction") };
    };
    let holds = !fails(worst);
    let why = if holds && worst.error() > CALIBRATION_BOUND { ", not told from chance" } else { "" };
    let note = format!("worst bin: predicted {:.3}, observed {:.3} of {}{why}", worst.predicted, worst.observed, worst.count);
    Check::new(name, worst.error(), CALIBRATION_BOUND, holds).noted(note)
}

//! The answer to an experiment: a verdict from a closed list, and what it stands on. A pure function of report and description.

use farthing_types::Span;
use serde::{Deserialize, Serialize};

use crate::effect::BETS;
use crate::guard::GuardKind;
use crate::power::{rows_for_bets, rows_for_interval};
use crate::report::{Comparison, Interval, Report};
use crate::spec::{ExperimentSpec, Metric};
use crate::trial::MIN_ROWS;

/// Share of tested unit-windows above the cap, of calls without a price, and of observations without room, beyond which a read-out is not valid.
const MOST_LEFT_OUT: f64 = 0.05;
const MONTH_S: f64 = 30.0 * 86_400.0;
const DAY_S: f64 = 86_400.0;

/// What an experiment says of a challenger.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "verdict")]
pub enum Verdict {
    /// It costs less, and harms nothing beyond the margin.
    Better,
    /// It costs more, or a guardrail has switched it off.
    Worse,
    /// Whatever difference there is, it is smaller than what is worth a change.
    NoWorthwhileDifference,
    /// There is not enough evidence yet.
    KeepRunning {
        /// About so many days more; `None` where nothing is known to tell it by.
        days: Option<u64>,
    },
    /// It cannot be read.
    NotValid {
        /// Why.
        reason: String,
    },
}

impl Verdict {
    /// The first line of an answer.
    pub fn line(&self) -> String {
        match self {
            Self::Better => "better".to_owned(),
            Self::Worse => "worse".to_owned(),
            Self::NoWorthwhileDifference => "no worthwhile difference".to_owned(),
            Self::KeepRunning { days: Some(days) } => format!("keep running (about {days} day{})", if *days == 1 { "" } else { "s" }),
            Self::KeepRunning { days: None } => "keep running (nobody can tell yet how long)".to_owned(),
            Self::NotValid { reason } => format!("not valid: {reason}"),
        }
    }

    /// Which of several challengers is told first.
    const fn rank(&self) -> u8 {
        match self {
            Self::NotValid { .. } => 0,
            Self::Better => 1,
            Self::KeepRunning { .. } => 2,
            Self::NoWorthwhileDifference => 3,
            Self::Worse => 4,
        }
    }
}

/// A share that must not grow by more than the margin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Guarded {
    /// What is guarded.
    pub guard: GuardKind,
    /// Share in control.
    pub control: f64,
    /// Share in the challenger.
    pub challenger: f64,
    /// Excess that is tolerated.
    pub margin: f64,
    /// `switched off`: beyond the margin for sure. `within` and `beyond`: what was seen so far.
    pub stands: String,
}

/// The answer about one challenger.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The challenger.
    pub variant: String,
    /// Compared with.
    pub control: String,
    /// The verdict.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// The verdict in words.
    pub line: String,
    /// Money cost per month, challenger minus control, USD; below 0 the challenger saves.
    pub usd_per_month: Option<Interval>,
    /// The same as a share of what control would cost all of the units; `None` also where that is nothing.
    pub relative: Option<Interval>,
    /// Staleness, latency and errors against their margins.
    pub guarded: Vec<Guarded>,
    /// Among several challengers: it differs, where at most `alpha` of those of which this is said do not, on average; `None` where it is the only one.
    #[serde(default)]
    pub found: Option<bool>,
    /// What the dollars are about.
    pub estimand: String,
    /// Days watched.
    pub days: f64,
    /// Units of the smaller of the two variants (blocks: windows).
    pub units: u64,
    /// Unit-windows that the comparison rests on.
    pub unit_windows: u64,
}

/// The answers about all challengers, the most telling first.
pub fn answers(report: &Report, spec: &ExperimentSpec) -> Vec<Answer> {
    let mut all: Vec<Answer> = (0..report.comparisons.len()).filter_map(|index| answer(report, spec, index)).collect();
    let saved = |a: &Answer| a.usd_per_month.map_or(0.0, |i| i.point);
    all.sort_by(|a, b| a.verdict.rank().cmp(&b.verdict.rank()).then(saved(a).total_cmp(&saved(b))));
    all
}

fn answer(report: &Report, spec: &ExperimentSpec, index: usize) -> Option<Answer> {
    let comparison = report.comparisons.get(index)?;
    let (control, own) = (report.variants.first()?, report.variants.get(index + 1)?);
    let verdict = verdict(report, spec, index);
    Some(Answer {
        variant: comparison.variant.to_string(),
        control: comparison.control.to_string(),
        line: verdict.line(),
        verdict,
        usd_per_month: comparison.effect_usd.map(|i| scaled(i, per_month(report, spec))),
        relative: comparison.relative,
        guarded: guarded(report, spec, index),
        found: (report.comparisons.len() > 1).then_some(comparison.found),
        estimand: estimand(comparison, spec),
        days: report.watched as f64 * spec.window.as_secs_f64() / DAY_S,
        units: control.counted(spec.unit).min(own.counted(spec.unit)),
        unit_windows: comparison.rows,
    })
}

fn scaled(interval: Interval, by: f64) -> Interval {
    Interval { point: interval.point * by, low: interval.low * by, high: interval.high * by }
}

/// Unit-windows of all units in a month, each with its unmeasured first part.
fn per_month(report: &Report, spec: &ExperimentSpec) -> f64 {
    let per_window = report.population / (report.watched as f64).max(1.0);
    per_window * MONTH_S / spec.window.as_secs_f64() / spec.measured_share()
}

fn verdict(report: &Report, spec: &ExperimentSpec, index: usize) -> Verdict {
    if let Some(reason) = invalid(report, spec) {
        return Verdict::NotValid { reason };
    }
    if report.variants.get(index + 1).is_some_and(|own| own.off.is_some()) {
        return Verdict::Worse;
    }
    let comparison = &report.comparisons[index];
    let Some(effect) = comparison.effect_usd else {
        return Verdict::KeepRunning { days: remaining(report, spec, comparison) };
    };
    if comparison.relative.is_some_and(|relative| relative.low > -spec.worthwhile && relative.high < spec.worthwhile) {
        return Verdict::NoWorthwhileDifference;
    }
    match comparison.differs {
        true if effect.high < 0.0 => Verdict::Better,
        true if effect.low > 0.0 => Verdict::Worse,
        _ => Verdict::KeepRunning { days: remaining(report, spec, comparison) },
    }
}

fn invalid(report: &Report, spec: &ExperimentSpec) -> Option<String> {
    let unpriced = report.dropped.unpriced as f64 / (report.calls as f64).max(1.0);
    let percent = |share: f64| format!("{:.1} %", share * 100.0);
    if report.ratio_alarm {
        Some("the variants do not come in the shares that were drawn (sample ratio mismatch)".to_owned())
    } else if unpriced > MOST_LEFT_OUT {
        Some(format!("{} of the calls have no price", percent(unpriced)))
    } else if orphaned(report) > MOST_LEFT_OUT {
        Some(format!(
            "{} of the cost belongs to units that nobody asked for in its window: give it a coarser `unit`",
            percent(orphaned(report))
        ))
    } else if without_room(report) > MOST_LEFT_OUT {
        Some(format!(
            "{} of what was seen belongs to units beyond the {} that have room: give a new experiment a smaller `slice`",
            percent(without_room(report)),
            spec.max_units
        ))
    } else if report.capped_share > MOST_LEFT_OUT {
        Some(format!("{} of the unit-windows cost more than the cap", percent(report.capped_share)))
    } else {
        None
    }
}

/// Share of the observations that are in no unit-window because there was no room for their unit: those that have come first were asked for most.
fn without_room(report: &Report) -> f64 {
    let out = report.dropped.overflow as f64;
    let counted = report.calls + report.variants.iter().map(|v| v.requests).sum::<u64>();
    out / (out + counted as f64).max(1.0)
}

/// Share of the cost that is in no unit-window.
fn orphaned(report: &Report) -> f64 {
    let usd = report.dropped.orphans_usd;
    usd / (usd + report.variants.iter().map(|v| v.cost_usd).sum::<f64>()).max(f64::MIN_POSITIVE)
}

/// Days until the comparison is decided one way or the other, by the spread seen and the point estimate as it stands.
fn remaining(report: &Report, spec: &ExperimentSpec, comparison: &Comparison) -> Option<u64> {
    let rows = comparison.rows as f64;
    let per_window = rows / (report.watched as f64).max(1.0);
    let spread = comparison.spread_usd.filter(|_| per_window > 0.0)?;
    let needed = match (comparison.effect_usd, comparison.relative) {
        (Some(effect), Some(relative)) if relative.point != 0.0 => {
            let mean = effect.point / relative.point;
            needed((spread, effect.point.abs(), (spec.worthwhile * mean - effect.point.abs()).max(0.0)), comparison.alpha)?
        }
        (Some(_), _) => return None,
        // Not enough units yet: as many windows again as the scarcest variant lacks.
        _ => {
            let fewest = report.variants.iter().map(|v| v.counted(spec.unit)).min().unwrap_or(0).max(1);
            rows * (f64::from(spec.min_units) / fewest as f64).max(MIN_ROWS as f64 / rows.max(1.0)).max(1.0)
        }
    };
    Some(days((needed - rows).max(per_window) / per_window, spec.window))
}

/// Unit-windows for a difference of this size to be told, or for all worthwhile ones to be ruled out, whichever is sooner.
fn needed((spread, effect, to_equal): (f64, f64, f64), alpha: f64) -> Option<f64> {
    let differs = rows_for_interval(spread, effect, alpha).zip(rows_for_bets(spread, effect, (alpha, BETS))).map(|(a, b)| a.max(b));
    let equal = rows_for_interval(spread, to_equal, alpha);
    match (differs, equal) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, other) => one.or(other),
    }
}

fn days(windows: f64, window: Span) -> u64 {
    let days = (windows * window.as_secs_f64() / DAY_S).ceil();
    // Beyond a century nobody counts.
    if days.is_finite() { days.clamp(1.0, 36_500.0) as u64 } else { 36_500 }
}

fn guarded(report: &Report, spec: &ExperimentSpec, index: usize) -> Vec<Guarded> {
    let (Some(control), Some(own)) = (report.variants.first(), report.variants.get(index + 1)) else { return Vec::new() };
    let shares = [
        (GuardKind::Stale, control.stale_share, own.stale_share),
        (GuardKind::Latency, control.late_share, own.late_share),
        (GuardKind::Errors, control.error_share, own.error_share),
    ];
    let line = |(guard, control, challenger): (GuardKind, f64, f64)| {
        let off = own.off == Some(guard);
        let stands = if off {
            "switched off"
        } else if challenger - control > spec.margin {
            "beyond"
        } else {
            "within"
        };
        Guarded { guard, control, challenger, margin: spec.margin, stands: stands.to_owned() }
    };
    shares.into_iter().map(line).collect()
}

fn estimand(comparison: &Comparison, spec: &ExperimentSpec) -> String {
    let outcome = match spec.metric {
        Metric::MoneyCost => "bill and priced stale answers",
        Metric::Bill => "bill",
        Metric::WithWaiting => "bill, priced stale answers and priced waiting",
    };
    let cut = spec.burn_in.as_secs_f64() / spec.window.as_secs_f64() * 100.0;
    format!(
        "mean difference in money cost ({outcome}, cut at the cap) of a {} in a window of {} s if it had `{}` instead of `{}`, over the time watched, times all {}s of a month; the first {cut:.0} % of each window is taken to be like the rest",
        spec.unit.as_str(),
        spec.window.as_secs_f64(),
        comparison.variant,
        comparison.control,
        spec.unit.as_str(),
    )
}

impl Answer {
    /// The answer as a text, the verdict first.
    pub fn text(&self) -> String {
        let mut text = format!("{}\n", self.line);
        text += &format!("  {} against {}\n", self.variant, self.control);
        match self.usd_per_month {
            Some(i) => {
                text += &format!("  cost per month: {:+.2} $ (between {:+.2} $ and {:+.2} $ at any time)\n", i.point, i.low, i.high);
            }
            None => text += "  cost per month: not known yet\n",
        }
        if let Some(i) = self.relative {
            text += &format!("  relative: {:+.2} % (between {:+.2} % and {:+.2} %)\n", i.point * 100.0, i.low * 100.0, i.high * 100.0);
        }
        for g in &self.guarded {
            text += &format!(
                "  {}: {:.2} % against {:.2} %, margin {:.2} points: {}\n",
                g.guard.as_str(),
                g.challenger * 100.0,
                g.control * 100.0,
                g.margin * 100.0,
                g.stands
            );
        }
        if let Some(found) = self.found {
            text += &format!("  among the challengers: {}\n", if found { "found to differ" } else { "not found to differ" });
        }
        text += &format!("  {:.1} days, {} units, {} unit-windows\n", self.days, self.units, self.unit_windows);
        text + &format!("  what it is about: {}\n", self.estimand)
    }
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;

//! How likely challengers may be drawn for an experiment to cost at most a given share more than control alone would have, at all times.
//!
//! Source: conservative bandits (Wu, Shariff, Lattimore and Szepesvari, "Conservative bandits", ICML 2016): explore as much as the money that is certainly left allows, by
//! bounds that hold at all times; docs/proving.md.

use serde::{Deserialize, Serialize};

use crate::report::{Report, VariantReport};
use crate::spec::MAX_VARIANTS;

/// Deviations of the cost of units that chance has drawn, or draws next, that are reckoned with.
const DEVIATIONS: f64 = 3.5;
/// Unit-windows of a challenger before its interval is believed.
const FEW: u64 = 100;
/// What is less likely is not drawn at all.
const LEAST: f64 = 0.002;

/// What an experiment may cost.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Conservative {
    /// Share of what control alone would have cost on the units of the slice, above 0 and below 1.
    pub most: f64,
    /// How many times control's cost a challenger is taken to cost before its interval is believed; above 1.
    pub worst: f64,
}

/// Probabilities of the next window: `wanted`, with as much less for the challengers as the money asks for. `now` are those of the window that is under way.
///
/// With `M` unit-windows drawn for challengers, `m` and `s` control's mean and root mean square, and `r` what a challenger costs more relative to control (the upper end of
/// its interval, or of the plain mean where that is higher), the excess is at most `(M m + 3.5 s sqrt(M)) r`; it is kept below `most` times control's mean for all unit-windows. Before control is known nothing is drawn.
pub fn restrained(
    report: &Report,
    conservative: Conservative,
    (wanted, now): (&[f64; MAX_VARIANTS], &[f64; MAX_VARIANTS]),
) -> [f64; MAX_VARIANTS] {
    let none: [f64; MAX_VARIANTS] = std::array::from_fn(|variant| if variant == 0 { 1.0 } else { 0.0 });
    let challengers = |pmf: &[f64; MAX_VARIANTS]| pmf.iter().skip(1).sum::<f64>();
    let (Some(control), likely) = (report.variants.first(), challengers(wanted)) else { return none };
    let windows = (report.watched as f64).max(1.0);
    let all = report.variants.iter().map(|variant| variant.unit_windows).sum::<u64>() as f64;
    let mean = control.cost_usd / (control.unit_windows as f64).max(1.0);
    if all <= 0.0 || mean <= 0.0 || likely <= 0.0 {
        return none;
    }
    let excess = (1..report.variants.len()).map(|challenger| excess(report, challenger, conservative)).fold(0.0, f64::max);
    if excess <= 0.0 {
        return *wanted;
    }
    // Windows that were left out have cost as well; whose they were is not known any more.
    let lost = (report.dropped.partial + report.dropped.mixed) as f64;
    let usual = all / windows;
    let drawn = all - control.unit_windows as f64 + lost + usual * challengers(now);
    let spread = DEVIATIONS * (control.square_usd / (control.unit_windows as f64).max(1.0)).sqrt() / mean;
    let money = conservative.most * (all + usual) / excess;
    let root = 0.5 * ((spread * spread + 4.0 * money).sqrt() - spread);
    // The next window may have twice as many units as usual.
    let may = ((root * root - drawn) / (2.0 * usual)).clamp(0.0, likely);
    if may < LEAST {
        return none;
    }
    std::array::from_fn(|variant| if variant == 0 { 1.0 - may } else { wanted[variant] * may / likely })
}

/// What a challenger costs more than control at most, as a share of control's cost.
fn excess(report: &Report, challenger: usize, conservative: Conservative) -> f64 {
    let worst = conservative.worst - 1.0;
    let seen = report.variants.get(challenger).map_or(0, |variant| variant.unit_windows);
    let interval = report.comparisons.get(challenger - 1).and_then(|comparison| comparison.relative).filter(|_| seen >= FEW);
    let Some((interval, (own, control))) = interval.zip(report.variants.get(challenger).zip(report.variants.first())) else { return worst };
    // The interval is of costs that are cut at the cap, which may be control's alone; the plain means are not.
    let each = |of: &VariantReport, sum: f64| sum / (of.unit_windows as f64).max(1.0);
    let spread = (each(own, own.square_usd) / own.unit_windows as f64).sqrt();
    let plain = (each(own, own.cost_usd) + DEVIATIONS * spread) / each(control, control.cost_usd).max(f64::MIN_POSITIVE) - 1.0;
    interval.high.max(plain).min(worst).max(0.0)
}

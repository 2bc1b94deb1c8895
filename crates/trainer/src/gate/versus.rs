//! Two `ttl` bundles on the same requests, at each budget with equally many stale answers.

use std::fmt::Write as _;

use farthing_contract::bundle::{Bundle, Manifest};
use farthing_replay::Trace;
use serde::Serialize;

use super::Champion;
use super::ttl::{calibration, duel};
use super::{Against, CalibrationBin, Opponent, Setting, judge};
use crate::learn::Watch;

/// A bundle that can be replayed.
pub struct Side {
    champion: Champion,
    manifest: Manifest,
}

impl Side {
    /// From a bundle of this build's features.
    ///
    /// # Errors
    /// Why it cannot be replayed.
    pub fn of(bundle: &Bundle) -> Result<Self, String> {
        Ok(Self { champion: Champion::of(bundle)?, manifest: bundle.manifest.clone() })
    }
}

/// One budget.
#[derive(Clone, Debug, Serialize)]
pub struct AtBudget {
    /// The budget.
    pub stale_budget: f64,
    /// A's stale share: at most the smaller of what both come to when they are steered to the budget.
    pub stale_share: f64,
    /// A's bill, dollars.
    pub money_usd: f64,
    /// B, tuned in hindsight to the same bound as A; the saving is A's.
    pub against: Against,
    /// Blocks of a key and a day, in equal ones.
    pub effective_blocks: f64,
}

/// The comparison.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Names of A and B.
    pub names: [String; 2],
    /// Per budget.
    pub budgets: Vec<AtBudget>,
    /// Calibration of A and B.
    pub calibration: [Vec<CalibrationBin>; 2],
    /// The verdict in a sentence.
    pub verdict: String,
}

/// Compares on everything from event `cut` on.
pub fn versus(at: (&Trace, usize), (a, b): (&Side, &Side), budgets: &[f64], (seed, watch): (u64, &dyn Watch)) -> Report {
    let mut found = Vec::new();
    for (n, budget) in budgets.iter().enumerate() {
        watch.step("replaying", n, budgets.len());
        found.extend(at_budget(at, (a, b), *budget, seed));
    }
    watch.step("replaying", budgets.len(), budgets.len());
    let names = [a, b].map(|side| side.champion.name.clone());
    let verdict = verdict(&names, &found);
    Report { names, budgets: found, calibration: [a, b].map(|side| calibration(at, &side.champion.levels)), verdict }
}

fn at_budget(at: (&Trace, usize), (a, b): (&Side, &Side), budget: f64, seed: u64) -> Option<AtBudget> {
    let kappas = [a, b].map(|side| side.manifest.kappa(budget).unwrap_or(0.01));
    let evidence = duel(at, (&a.champion, &b.champion), kappas, budget);
    let judged = judge(&evidence, &Setting { seed, ..Setting::default() });
    let against = judged.against(Opponent::Champion)?.clone();
    let (stale_share, money_usd, effective_blocks) = (judged.stale_share, judged.money_usd, judged.effective_blocks);
    Some(AtBudget { stale_budget: budget, stale_share, money_usd, against, effective_blocks })
}

fn verdict(names: &[String; 2], budgets: &[AtBudget]) -> String {
    let part = |b: &AtBudget| {
        let saving = b.against.saving;
        let (word, size) = match (saving.low > 0.0, saving.high < 0.0) {
            (true, _) => ("cheaper", 100.0 * saving.value),
            (_, true) => ("dearer", -100.0 * saving.value),
            _ => return format!("at {} % not told apart", 100.0 * b.stale_budget),
        };
        format!("at {} % {word} by {size:.1} %", 100.0 * b.stale_budget)
    };
    let parts: Vec<String> = budgets.iter().map(part).collect();
    format!("{} against {}: {}", names[0], names[1], parts.join(", "))
}

impl Report {
    /// Whether A is shown to be cheaper at every budget.
    pub fn cheaper(&self) -> bool {
        !self.budgets.is_empty() && self.budgets.iter().all(|b| b.against.saving.low > 0.0)
    }

    /// For a terminal.
    pub fn text(&self) -> String {
        let [a, b] = &self.names;
        let mut out = format!(
            "A {a}, B {b}; both tuned in hindsight to at most the stale answers of the more careful one; 95 % from a paired bootstrap over key and day\n"
        );
        let _ = writeln!(out, "{:<10}{:>10}{:>12}{:>12}{:>12}   saving of A", "budget", "stale", "bill of A", "bill of B", "blocks");
        for at in &self.budgets {
            let saving = at.against.saving;
            let _ = writeln!(
                out,
                "{:<10}{:>9.3}%{:>12.4}{:>12.4}{:>12.0}   {:+.2} % [{:+.2}, {:+.2}]",
                format!("{} %", 100.0 * at.stale_budget),
                100.0 * at.stale_share,
                at.money_usd,
                at.against.money_usd,
                at.effective_blocks,
                100.0 * saving.value,
                100.0 * saving.low,
                100.0 * saving.high
            );
            for r in &at.against.routes {
                let _ = writeln!(
                    out,
                    "  {:<30}{:>12.4}{:>12.4}   cost, stale answers priced {:+.1} % [{:+.1}, {:+.1}]",
                    r.route,
                    r.money_usd,
                    r.their_money_usd,
                    100.0 * r.change.value,
                    100.0 * r.change.low,
                    100.0 * r.change.high
                );
            }
        }
        let _ = writeln!(out, "{:<16}{:>12}{:>12}{:>12}{:>12}", "calibration", "A predicts", "observed", "B predicts", "observed");
        for (n, (a, b)) in self.calibration[0].iter().zip(&self.calibration[1]).enumerate() {
            let _ = writeln!(out, "  bin {:<10}{:>12.4}{:>12.4}{:>12.4}{:>12.4}", n + 1, a.predicted, a.observed, b.predicted, b.observed);
        }
        let _ = writeln!(out, "verdict     {}", self.verdict);
        out
    }
}

//! What a fit or an evaluation found, for people and for scripts.

use std::fmt::Write as _;

use farthing_contract::bundle::{Kind, OperatingPoint};
use serde::Serialize;

use crate::card::{self, Contents, Curve};
use crate::choice::Choice;
use crate::evaluate::{Comparison, Line};
use crate::gate::Judgement;
use crate::publish::Card;
use crate::rows::Rows;
use crate::trees::Ensemble;

/// Changes seen and expected among held-out copies of similar prediction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Calibration {
    /// Mean natural log of predicted over live hazard of the bin.
    pub correction: f64,
    /// Changes that were seen.
    pub seen: f64,
    /// Changes that the model expected.
    pub expected: f64,
    /// Changes that the live statistics alone expected.
    pub live: f64,
}

/// What `fit` found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct FitReport {
    /// Files read.
    pub files: usize,
    /// Whole answers from origins.
    pub fetches: usize,
    /// Rows of the requests table that a cache may answer.
    pub reads: usize,
    /// Training rows.
    pub rows: usize,
    /// Of these, rows that saw a change.
    pub changes: usize,
    /// Fetches whose features were computed anew.
    pub recomputed: usize,
    /// Of these, fetches whose features are exactly the proxy's.
    pub repeated: usize,
    /// Rows left out because their times cannot be.
    pub impossible: usize,
    /// Requests left out because no cache may answer them.
    pub passed: u64,
    /// Requests left out of what is judged because no fetch of their key tells what the answer was.
    pub unknown: u64,
    /// Routes of the log.
    pub routes: Vec<String>,
    /// Routes left out because their answers differ from call to call.
    pub left_out: Vec<String>,
    /// Start of the log, ns.
    pub from_ns: i64,
    /// Where it was cut, ns.
    pub split_ns: i64,
    /// End of the log, ns.
    pub to_ns: i64,
    /// Trees of the model.
    pub trees: usize,
    /// Questions of its deepest tree.
    pub depth: usize,
    /// Which learner was chosen, and why.
    pub choice: Choice,
    /// The candidate on the held-out part.
    pub comparison: Option<Comparison>,
    /// Why it could not be judged.
    pub unjudged: Option<String>,
    /// The gate's answer on the held-out part; without any check when it could not be judged.
    pub judgement: Judgement,
    /// Bills against stale shares on the held-out part.
    pub curves: Vec<Curve>,
    /// How far each feature moves the outputs, largest first.
    pub importance: Vec<(String, f64)>,
    /// Calibration on the held-out part.
    pub calibration: Vec<Calibration>,
    /// Operating points of what is published.
    pub operating_points: Vec<OperatingPoint>,
}

impl FitReport {
    /// Whether the model may be published unforced.
    pub fn passes(&self) -> bool {
        self.judgement.passed()
    }

    /// The verdict in a sentence.
    pub fn verdict(&self) -> String {
        match (&self.comparison, &self.unjudged) {
            (Some(c), _) if c.beats_rule() => {
                let over = if c.model.stale_share > c.stale_budget {
                    format!(" (above the budget of {:.2} %)", 100.0 * c.stale_budget)
                } else {
                    String::new()
                };
                let (saved, stale) = (100.0 * c.saving_against_rule, 100.0 * c.model.stale_share);
                let gate = self.judgement.sentence();
                format!("better than the rule: bill {saved:.1} % lower at the same stale share of {stale:.2} %{over}; {gate}")
            }
            (Some(c), _) => format!("not better than the rule: bill {:.1} % higher at equal staleness", -100.0 * c.saving_against_rule),
            (None, reason) => format!("not judged: {}", reason.as_deref().unwrap_or("no held-out range")),
        }
    }

    /// For a terminal.
    pub fn text(&self) -> String {
        let mut out = String::new();
        let days = (self.to_ns - self.from_ns) as f64 / 86_400e9;
        let _ = writeln!(out, "log         {} files, {} fetches, {} requests over {days:.2} days", self.files, self.fetches, self.reads);
        let _ = writeln!(
            out,
            "rows        {} of which {} saw a change; features of {} fetches computed anew, {} of them exactly as the proxy had them",
            self.rows, self.changes, self.recomputed, self.repeated
        );
        if self.impossible > 0 {
            let _ = writeln!(out, "left out    {} rows whose times lie before 1970 or after 2116", self.impossible);
        }
        if self.passed > 0 {
            let _ = writeln!(out, "left out    {} requests that no cache may answer (other methods than GET, ranges ...)", self.passed);
        }
        if self.unknown > 0 {
            let _ = writeln!(out, "left out    {} requests for what no fetch in the log tells the content of", self.unknown);
        }
        if !self.left_out.is_empty() {
            let _ = writeln!(out, "left out    {}: answers differ from call to call, nothing to cache", self.left_out.join(", "));
        }
        let _ = writeln!(out, "model       {} trees, at most {} questions deep", self.trees, self.depth);
        let _ = writeln!(out, "chosen      {}", self.choice.why());
        if let Some(comparison) = &self.comparison {
            out.push_str(&table(comparison));
        }
        for bin in &self.calibration {
            let (model, live) = (bin.seen / bin.expected.max(1e-9), bin.seen / bin.live.max(1e-9));
            let _ = writeln!(
                out,
                "calibration correction {:+.2}: seen / expected {model:.2} (live statistics {live:.2}), {} changes",
                bin.correction, bin.seen
            );
        }
        out.push_str(&self.judgement.text());
        let points: Vec<String> = self.operating_points.iter().map(|p| format!("{} %: {:.4}", 100.0 * p.stale_budget, p.kappa)).collect();
        let _ = writeln!(out, "points      call price / stale price by budget: {}", points.join(", "));
        let _ = writeln!(out, "verdict     {}", self.verdict());
        out
    }

    /// The model card of the bundle.
    pub fn card(&self, digest: &str, seed: u64) -> Card {
        card::card(&Contents {
            kind: Kind::Ttl,
            says: "Predicts by what factor the change hazard of a cached answer differs from what live statistics say, per age interval.",
            facts: self.facts(digest, seed),
            verdict: self.verdict(),
            judgement: &self.judgement,
            importance: self.importance.clone(),
            curves: &self.curves,
            stale_budget: self.comparison.as_ref().map(|c| c.stale_budget),
            limits: self.limits(),
        })
    }

    fn facts(&self, digest: &str, seed: u64) -> Vec<String> {
        vec![
            format!(
                "data: {} files, digest {digest}, {} to {} ns, {} fetches, {} rows, {} changes",
                self.files, self.from_ns, self.to_ns, self.fetches, self.rows, self.changes
            ),
            format!("learner: {}; {} trees, at most {} deep; seed {seed}", self.choice.why(), self.trees, self.depth),
            format!(
                "judged on the log's last {:.0} % of events by a model that learned from those before; what is published learned from all",
                100.0 * (1.0 - crate::fit::TRAIN_SHARE)
            ),
        ]
    }

    fn limits(&self) -> Vec<String> {
        let left_out = if self.left_out.is_empty() { "none here".to_owned() } else { self.left_out.join(", ") };
        vec![
            "sources that change by schedule beyond the live profile of the day and the hour".to_owned(),
            format!("answers that differ from call to call are left out: {left_out}"),
            "a change between two fetches is seen at the second: staleness on a log is that of the moments that were asked".to_owned(),
        ]
    }
}

/// The comparison as lines of a table.
pub fn table(comparison: &Comparison) -> String {
    let mut out = String::new();
    let _ = writeln!(
        out,
        "held out    {} reads, ${:.4} without a cache, stale budget {:.2} %",
        comparison.reads,
        comparison.base_usd,
        100.0 * comparison.stale_budget
    );
    let _ = writeln!(out, "{:<32}{:>12}{:>10}{:>10}{:>12}", "at the model's staleness", "bill", "share", "stale", "setting");
    for line in [
        &comparison.model,
        &comparison.table,
        &comparison.boost,
        &comparison.live,
        &comparison.rule,
        &comparison.fixed,
        &comparison.fixed_per_route,
    ] {
        push_line(&mut out, line);
    }
    if !comparison.tuned.is_empty() {
        let _ = writeln!(out, "tuned to the budget in hindsight");
    }
    comparison.tuned.iter().for_each(|line| push_line(&mut out, line));
    out
}

fn push_line(out: &mut String, line: &Line) {
    let setting = line.setting.map_or_else(|| "per route".to_owned(), |s| format!("{s:.4}"));
    let _ = writeln!(
        out,
        "  {:<30}{:>12.4}{:>9.1}%{:>9.2}%{:>12}",
        line.name,
        line.bill_usd,
        100.0 * line.bill_share,
        100.0 * line.stale_share,
        setting
    );
}

/// Bins of calibration.
const BINS: usize = 10;

/// Calibration of an ensemble on rows, in ten bins of equal size by the size of the correction.
///
/// For a row with cumulative hazard `s` before and `m` within the interval of its change, the changes expected up to the moment of the
/// change are `s + 1 - m / (e^m - 1)`: the compensator, whose mean equals the changes seen when the hazards are right.
pub fn calibration(ensemble: &Ensemble, rows: &Rows) -> Vec<Calibration> {
    let mut outputs = vec![0.0; ensemble.outputs()];
    let zeros = vec![0.0; ensemble.outputs()];
    let mut all: Vec<Calibration> = (0..rows.len())
        .map(|i| {
            ensemble.eval(rows.row(i), &mut outputs);
            let correction = outputs.iter().map(|o| f64::from(*o)).sum::<f64>() / outputs.len().max(1) as f64;
            let seen = f64::from(u8::from(rows.changed(i)));
            Calibration { correction, seen, expected: expected(&outputs, rows.exposure(i)), live: expected(&zeros, rows.exposure(i)) }
        })
        .collect();
    all.sort_by(|a, b| a.correction.total_cmp(&b.correction));
    let size = all.len().div_ceil(BINS).max(1);
    all.chunks(size).map(bin).collect()
}

fn expected(logs: &[f32], (survived, within): (&[f32], &[f32])) -> f64 {
    let sum = |exposure: &[f32]| exposure.iter().zip(logs).map(|(e, f)| f64::from(*e) * f64::from(*f).exp()).sum::<f64>();
    let (s, m) = (sum(survived), sum(within));
    // 1 - m / (e^m - 1) is about m / 2 for small m.
    s + if m <= 0.0 {
        0.0
    } else if m < 1e-6 {
        m / 2.0
    } else {
        1.0 - m / m.exp_m1()
    }
}

fn bin(rows: &[Calibration]) -> Calibration {
    let sum = |of: fn(&Calibration) -> f64| rows.iter().map(of).sum::<f64>();
    let n = rows.len().max(1) as f64;
    Calibration { correction: sum(|c| c.correction) / n, seen: sum(|c| c.seen), expected: sum(|c| c.expected), live: sum(|c| c.live) }
}

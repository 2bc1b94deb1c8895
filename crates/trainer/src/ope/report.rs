//! What an evaluation found, for people and for scripts.

use std::fmt::Write as _;

use farthing_experiment::{Estimated, OffPolicy};
use serde::Serialize;

use super::{Counts, Refused};

/// An estimate, dollars per decision.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Dollars {
    value: f64,
    low: f64,
    high: f64,
}

impl From<Estimated> for Dollars {
    fn from(e: Estimated) -> Self {
        Self { value: e.value, low: e.low, high: e.high }
    }
}

/// The report.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PolicyReport {
    /// The target, as it was named.
    pub target: String,
    /// What was read.
    pub counts: Counts,
    /// Why there is no estimate; none when there is one.
    pub refused: Option<&'static str>,
    /// The same in a sentence.
    pub reason: Option<String>,
    /// Decisions that were used, and units and windows among them.
    pub rows: usize,
    /// See [`PolicyReport::rows`].
    pub clusters: usize,
    /// Effective rows.
    pub effective: f64,
    /// Largest weight.
    pub max_weight: f64,
    /// Mean weight; 1 when the logged probabilities are right.
    pub mean_weight: f64,
    /// Mean cost of what was done, dollars per decision.
    pub logged: Option<Dollars>,
    /// Inverse propensity scoring.
    pub ips: Option<Dollars>,
    /// Self-normalised.
    pub snips: Option<Dollars>,
    /// Doubly robust: the one to go by.
    pub dr: Option<Dollars>,
    /// The model alone, without an interval.
    pub model: Option<f64>,
    /// What was done minus the target, doubly robust.
    pub saving: Option<Dollars>,
}

impl PolicyReport {
    /// From what [`super::evaluate`] answers.
    pub fn new(target: &str, (counts, found): (Counts, Result<OffPolicy, Refused>)) -> Self {
        let empty = Self {
            target: target.to_owned(),
            counts,
            refused: None,
            reason: None,
            rows: 0,
            clusters: 0,
            effective: 0.0,
            max_weight: 0.0,
            mean_weight: 0.0,
            logged: None,
            ips: None,
            snips: None,
            dr: None,
            model: None,
            saving: None,
        };
        match found {
            Err(refused) => Self { refused: Some(refused.as_str()), reason: Some(refused.to_string()), ..empty },
            Ok(o) => Self {
                rows: o.rows,
                clusters: o.clusters,
                effective: o.effective,
                max_weight: o.max_weight,
                mean_weight: o.mean_weight.value,
                logged: Some(o.logged.into()),
                ips: Some(o.ips.into()),
                snips: Some(o.snips.into()),
                dr: Some(o.dr.into()),
                model: Some(o.model),
                saving: Some(o.saving.into()),
                ..empty
            },
        }
    }

    /// For a terminal.
    pub fn text(&self) -> String {
        let Counts { no_choice, choices, young, unsettled } = self.counts;
        let mut out = format!("target      {}\n", self.target);
        let _ = writeln!(
            out,
            "log         {choices} choices ({no_choice} decisions were none), {young} too young, {unsettled} without outcome or price"
        );
        if let (Some(refused), Some(reason)) = (self.refused, &self.reason) {
            let _ = writeln!(out, "refused     {refused}: {reason}");
            return out;
        }
        let _ = writeln!(
            out,
            "overlap     {} rows of {} units and windows, worth {:.0} ({:.1} %), largest weight {:.1}, mean weight {:.3}",
            self.rows,
            self.clusters,
            self.effective,
            100.0 * self.effective / self.rows.max(1) as f64,
            self.max_weight,
            self.mean_weight
        );
        let lines =
            [("what was done", self.logged), ("IPS", self.ips), ("SNIPS", self.snips), ("DR", self.dr), ("saving (DR)", self.saving)];
        let _ = writeln!(out, "{:<16}{:>14}   95 % interval", "$ per decision", "estimate");
        for (name, estimate) in lines {
            if let Some(Dollars { value, low, high }) = estimate {
                let _ = writeln!(out, "  {name:<14}{value:>14.8}   {low:.8} to {high:.8}");
            }
        }
        out.push_str(&self.sentence());
        out
    }

    /// The verdict in a sentence.
    fn sentence(&self) -> String {
        match self.saving {
            Some(s) if s.low > 0.0 => "verdict     the target would have been cheaper than what was done\n".to_owned(),
            Some(s) if s.high < 0.0 => "verdict     the target would have been dearer than what was done\n".to_owned(),
            _ => "verdict     the log does not tell the target from what was done\n".to_owned(),
        }
    }
}

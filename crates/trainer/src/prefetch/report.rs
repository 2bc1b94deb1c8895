//! How a fit of `prefetch` went, for people, JSON and the manifest.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

/// The held-out comparison of model and rule.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Judged {
    /// Candidates that were asked about.
    pub candidates: u64,
    /// Net money of the model: a wait worth one call, plus a batch endpoint of ten; dollars.
    pub net: f64,
    /// The same by the rule.
    pub net_rule: f64,
    /// Mean log loss of the model's probabilities, with the live correction.
    pub log_loss: f64,
    /// The same of the rule's.
    pub log_loss_rule: f64,
    /// Expected calibration error of the model.
    pub calibration: f64,
    /// The same of the rule.
    pub calibration_rule: f64,
    /// Share of the things fetched ahead that were used by a request that would have missed.
    pub precision: f64,
    /// Share of the misses that are gone.
    pub removed: f64,
    /// Calls beyond those without prefetch.
    pub more_calls: f64,
    /// Billed calls saved with a batch endpoint of ten.
    pub fewer_billed: f64,
}

impl Judged {
    /// Whether the model earned more than the rule and told probabilities better.
    pub fn better(&self) -> bool {
        self.net > self.net_rule && self.net > 0.0 && self.log_loss < self.log_loss_rule
    }

    /// For the manifest.
    pub fn metrics(&self) -> BTreeMap<String, f64> {
        let figures = [
            ("net_usd", self.net),
            ("net_usd_rule", self.net_rule),
            ("log_loss", self.log_loss),
            ("log_loss_rule", self.log_loss_rule),
            ("calibration_error", self.calibration),
            ("precision", self.precision),
            ("misses_removed", self.removed),
            ("more_calls", self.more_calls),
            ("fewer_billed_batch_10", self.fewer_billed),
        ];
        figures.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

/// A fit as reported.
#[derive(Clone, Debug, Serialize)]
pub struct PrefetchReport {
    /// Files read.
    pub files: usize,
    /// Requests in them.
    pub requests: usize,
    /// Requests that do not say who asked.
    pub anonymous: usize,
    /// Routes.
    pub routes: usize,
    /// Rows learned from.
    pub rows: usize,
    /// Rows whose candidate was used.
    pub used: usize,
    /// Horizon, seconds.
    pub horizon_s: f64,
    /// Trees of the model.
    pub trees: usize,
    /// Its depth.
    pub depth: usize,
    /// The comparison, or why there is none.
    pub judged: Result<Judged, String>,
}

impl PrefetchReport {
    /// Whether it may be published.
    pub fn passes(&self) -> bool {
        self.judged.as_ref().is_ok_and(Judged::better)
    }

    /// The verdict in a sentence.
    pub fn verdict(&self) -> String {
        match &self.judged {
            Ok(j) if j.better() => format!("better than the rule: net ${:.4} against ${:.4}", j.net, j.net_rule),
            Ok(j) => format!(
                "not better than the rule: net ${:.4} against ${:.4}, log loss {:.4} against {:.4}",
                j.net, j.net_rule, j.log_loss, j.log_loss_rule
            ),
            Err(why) => format!("not judged: {why}"),
        }
    }

    /// The report for a terminal.
    pub fn text(&self) -> String {
        let mut out = String::new();
        let _ = writeln!(out, "log         {} requests on {} routes in {} files", self.requests, self.routes, self.files);
        if self.anonymous > 0 {
            let _ = writeln!(out, "anonymous   {} requests do not say who asked and teach nothing", self.anonymous);
        }
        let _ = writeln!(out, "learned     {} candidates, {} of them used within {} s", self.rows, self.used, self.horizon_s);
        let _ = writeln!(out, "model       {} trees of depth {}", self.trees, self.depth);
        if let Ok(j) = &self.judged {
            let _ = writeln!(out, "held out    {} candidates", j.candidates);
            let _ = writeln!(out, "  log loss  {:.4} (rule {:.4})", j.log_loss, j.log_loss_rule);
            let _ = writeln!(out, "  calibration error {:.4} (rule {:.4})", j.calibration, j.calibration_rule);
            let line =
                format!("precision {:.3}, misses removed {:.1} %, calls {:+.1} %", j.precision, j.removed * 100.0, j.more_calls * 100.0);
            let _ = writeln!(out, "  a wait worth one call: {line}");
            let _ = writeln!(out, "  batch of ten: billed calls {:+.1} %", -j.fewer_billed * 100.0);
        }
        let _ = writeln!(out, "verdict     {}", self.verdict());
        out
    }

    /// The thin model card.
    pub fn card(&self, data_digest: &str, seed: u64) -> String {
        let text = self.text();
        format!(
            "# Model card: prefetch\n\nPredicts whether a candidate is asked for within the horizon by a request that would have missed the cache; the economics \
             decide what that is worth (docs/prefetch.md). At the price of a call it can buy latency, never save money.\n\n```\n{text}```\n\n\
             Data {data_digest}, seed {seed}. Judged on the last {:.0} % of the time under two terms: a wait worth one call, a batch endpoint of ten.\n",
            (1.0 - super::TRAIN_SHARE) * 100.0
        )
    }
}

//! What a replay counted.

use std::ops::AddAssign;

use farthing_types::Money;

/// Predicted against observed, per range of the prediction.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Reliability {
    /// Candidates per tenth of the predicted probability.
    pub count: [u64; 10],
    /// Sum of their predictions.
    pub expected: [f64; 10],
    /// How many were used.
    pub used: [u64; 10],
    /// Sum of the log losses.
    pub log_loss: f64,
}

impl Reliability {
    /// A candidate given `p` was used or not.
    pub fn add(&mut self, p: f64, used: bool) {
        let bin = ((p * 10.0) as usize).min(9);
        self.count[bin] += 1;
        self.expected[bin] += p;
        self.used[bin] += u64::from(used);
        let told = if used { p } else { 1.0 - p };
        self.log_loss -= told.clamp(1e-4, 1.0).ln();
    }

    /// Mean log loss per candidate; a certainty that was wrong counts as one in ten thousand.
    pub fn mean_log_loss(&self) -> f64 {
        self.log_loss / (self.count.iter().sum::<u64>() as f64).max(1.0)
    }

    /// Expected calibration error: mean over candidates of the distance between predicted and observed share of their range.
    pub fn error(&self) -> f64 {
        let total: u64 = self.count.iter().sum();
        let distance: f64 = self.expected.iter().zip(&self.used).map(|(e, u)| (e - *u as f64).abs()).sum();
        if total == 0 { 0.0 } else { distance / total as f64 }
    }
}

/// Money and counts of a replay, with the same requests without prefetch beside them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Books {
    /// Client requests.
    pub requests: u64,
    /// Misses without prefetch: its calls.
    pub base_misses: u64,
    /// Misses with prefetch.
    pub misses: u64,
    /// Things fetched ahead.
    pub prefetches: u64,
    /// Of these, used while fresh by a request that would have missed.
    pub useful: u64,
    /// Billed calls in which things were fetched ahead; with a batch fewer than these.
    pub ahead_calls: u64,
    /// Candidates that were asked about.
    pub candidates: u64,
    /// Decisions by a model or table.
    pub by_model: u64,
    /// The bill without prefetch.
    pub base_bill: Money,
    /// The bill with prefetch.
    pub bill: Money,
    /// Worth of the calls that clients did not wait for.
    pub latency: Money,
    /// Prefetches refused by the budget.
    pub over_budget: u64,
}

impl Books {
    /// Share of the things fetched ahead that were useful; 1 when there were none.
    pub fn precision(&self) -> f64 {
        share(self.useful, self.prefetches, 1.0)
    }
    /// Share of the misses that are gone.
    pub fn removed(&self) -> f64 {
        (self.base_misses as f64 - self.misses as f64) / (self.base_misses as f64).max(1.0)
    }
    /// Upstream requests beyond those without prefetch, as a share of these; each thing counts, also in a batch.
    pub fn more_calls(&self) -> f64 {
        (self.misses as f64 + self.prefetches as f64 - self.base_misses as f64) / (self.base_misses as f64).max(1.0)
    }
    /// Billed calls saved, as a share of those without prefetch.
    pub fn fewer_billed(&self) -> f64 {
        let billed = (self.misses + self.ahead_calls) as f64;
        (self.base_misses as f64 - billed) / (self.base_misses as f64).max(1.0)
    }
    /// Saved money and latency beyond no prefetch; negative is a loss.
    pub fn net(&self) -> Money {
        self.base_bill - self.bill + self.latency
    }
    /// Share of decisions by model or table.
    pub fn model_share(&self) -> f64 {
        share(self.by_model, self.candidates, 0.0)
    }
}

fn share(part: u64, whole: u64, none: f64) -> f64 {
    if whole == 0 { none } else { part as f64 / whole as f64 }
}

impl AddAssign for Books {
    fn add_assign(&mut self, other: Self) {
        self.requests += other.requests;
        self.base_misses += other.base_misses;
        self.misses += other.misses;
        self.prefetches += other.prefetches;
        self.useful += other.useful;
        self.ahead_calls += other.ahead_calls;
        self.candidates += other.candidates;
        self.by_model += other.by_model;
        self.base_bill += other.base_bill;
        self.bill += other.bill;
        self.latency += other.latency;
        self.over_budget += other.over_budget;
    }
}

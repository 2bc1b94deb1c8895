//! The saving and its proof: who is held out, what was saved against them, what that may cost, and the record over restarts.
//!
//! The record stands beside the saved statistics (`<log>/statistics/savings-<instance>.json`); a run goes on with it. A window that was
//! open when a process ended is lost for the held-out and the others alike.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use arc_swap::ArcSwap;
use farthing_config::HoldoutConfig;
use farthing_experiment::{Holdout, SavingReport, SavingSums, Savings};
use farthing_types::{Draw, KeyHash, Money, Span, Time};
use parking_lot::Mutex;

use crate::files;

/// Probability that the interval of the saving ever misses it.
const ALPHA: f64 = 0.05;
/// Key-windows followed at once.
const MAX_UNITS: usize = 1_000_000;
const YEAR: Span = Span::from_secs(31_557_600);

/// See the module.
pub struct Proof {
    holdout: ArcSwap<Holdout>,
    savings: Mutex<Savings>,
    config: HoldoutConfig,
    /// Windows closed when the record was written last.
    written: AtomicU64,
}

/// The saving, and the holdout that proves it.
#[derive(Clone, Debug, serde::Serialize)]
pub struct ProofReport {
    /// The saving.
    #[serde(flatten)]
    pub report: SavingReport,
    /// Share of key-windows that is held out from the next window on.
    pub holdout_share: f64,
    /// What is configured; the share is below it where the holdout would cost too much of the bill.
    pub configured_share: f64,
    /// What the holdout costs in a year at the pace so far, USD; null before an hour of windows.
    pub holdout_usd_a_year: Option<f64>,
}

impl Proof {
    pub fn new(config: &HoldoutConfig) -> Self {
        Self {
            holdout: ArcSwap::from_pointee(Holdout::new(config.share, config.window)),
            savings: Mutex::new(Savings::new(ALPHA, MAX_UNITS)),
            config: config.clone(),
            written: AtomicU64::new(0),
        }
    }

    /// Whether a key is held out now; `scope` names its route.
    pub fn holds(&self, draw: &Draw, scope: &str, unit: KeyHash, now: Time) -> bool {
        self.config.share > 0.0 && self.holdout.load().holds(draw, scope, unit, now)
    }

    /// Adds to the record what was claimed and paid for `unit` at `at`; see [`Savings::record`].
    pub fn record(&self, unit: KeyHash, at: Time, held: bool, paid: (Option<Money>, Option<Money>)) {
        if self.config.share <= 0.0 {
            return;
        }
        let mut savings = self.savings.lock();
        let holdout = self.holdout.load();
        let window = holdout.window(at);
        if savings.record(unit, window, held.then(|| holdout.share_in(window)), paid) {
            let HoldoutConfig { share, max_cost, .. } = self.config;
            if let Some(next) = savings.sums().next_share(holdout.share(), share, max_cost) {
                tracing::info!(from = holdout.share(), to = next, "the holdout's share changes with what it costs");
                self.holdout.store(Arc::new(holdout.from_window(window + 1, next)));
            }
        }
    }

    /// The state of knowledge.
    pub fn report(&self) -> ProofReport {
        let (report, holdout) = (self.savings.lock().report(), self.holdout.load());
        let seen = holdout.length().as_secs_f64() * report.windows as f64;
        let a_year = YEAR.as_secs_f64() / seen * report.holdout_cost_usd;
        ProofReport {
            holdout_share: holdout.share(),
            configured_share: self.config.share,
            holdout_usd_a_year: (seen >= 3_600.0).then_some(a_year),
            report,
        }
    }

    /// Starts the record afresh, for a new period.
    pub fn reset(&self) {
        *self.savings.lock() = Savings::new(ALPHA, MAX_UNITS);
    }

    /// Goes on with what the run before has kept in `file`. Blocks.
    pub fn recall(&self, file: &Path) {
        let read = files::read(file).and_then(|bytes| bytes.map(|b| serde_json::from_slice(&b)).transpose().map_err(io::Error::from));
        match read {
            Ok(None) => {}
            Ok(Some(sums)) => self.go_on(sums),
            Err(error) => tracing::warn!(file = %file.display(), %error, "the proof of the saving begins anew"),
        }
    }

    fn go_on(&self, sums: SavingSums) {
        let mut savings = self.savings.lock();
        *savings = Savings::new(ALPHA, MAX_UNITS).after(sums);
        // What was found out about the cost holds from the first window on.
        let HoldoutConfig { share, window, max_cost } = self.config;
        if let Some(affordable) = sums.affordable(share, max_cost) {
            self.holdout.store(Arc::new(Holdout::new(affordable, window)));
        }
    }

    /// Keeps the record in `file`, when a window has closed since. Blocks.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn keep(&self, file: &Path) -> io::Result<()> {
        let sums = self.savings.lock().closed();
        if sums.windows() == self.written.load(Relaxed) {
            return Ok(());
        }
        files::write(file, &serde_json::to_vec(&sums)?)?;
        self.written.store(sums.windows(), Relaxed);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usd(usd: f64) -> Option<Money> {
        Some(Money::from_nanos((usd * 1e9) as i64))
    }

    /// A day in which 99 of 100 cents are saved, window by window.
    fn day(proof: &Proof, from: u64) {
        let draw = Draw::new(1);
        for window in from..from + 288 {
            let at = Time::ZERO + Span::from_secs(300 * window);
            for unit in 0..400u128 {
                let unit = KeyHash(unit << 64 | unit);
                let held = proof.holds(&draw, "r", unit, at);
                proof.record(unit, at, held, (usd(1.0), usd(if held { 1.0 } else { 0.01 })));
            }
        }
    }

    #[test]
    fn the_holdout_costs_no_more_than_it_may_and_a_restart_goes_on() {
        let (dir, config) = (tempfile::tempdir().unwrap(), HoldoutConfig::default());
        let (file, proof) = (dir.path().join("savings.json"), Proof::new(&config));
        day(&proof, 0);
        let before = proof.report();
        // Five percent of a bill of a hundredth, over what a held-out dollar costs more: .05 x .01 / (.95 x .99).
        assert!((before.holdout_share - 0.00053).abs() < 0.0001, "{before:?}");
        assert!(before.holdout_usd_a_year.unwrap() > 0.0 && before.report.saving.is_some());
        proof.keep(&file).unwrap();
        let again = Proof::new(&config);
        again.recall(&file);
        let after = again.report();
        assert!((after.holdout_share - before.holdout_share).abs() < 0.0001, "{after:?}");
        assert_eq!(after.report.windows, before.report.windows);
        assert!(after.report.unit_windows > 280 * 400 && after.report.saving.is_some(), "{after:?}");
    }

    #[test]
    fn a_share_of_nothing_holds_out_nobody_and_proves_nothing() {
        let proof = Proof::new(&HoldoutConfig { share: 0.0, ..HoldoutConfig::default() });
        day(&proof, 0);
        let report = proof.report();
        assert_eq!((report.report.unit_windows, report.report.saving, report.holdout_usd_a_year), (0, None, None));
    }

    #[test]
    fn a_damaged_record_begins_anew() {
        let dir = tempfile::tempdir().unwrap();
        let (file, proof) = (dir.path().join("savings.json"), Proof::new(&HoldoutConfig::default()));
        std::fs::write(&file, "{").unwrap();
        proof.recall(&file);
        assert_eq!(proof.report().report.unit_windows, 0);
    }
}

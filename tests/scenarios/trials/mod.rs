//! Experiments from end to end, in worlds whose truth is known: cache, batch, prefetch, routing and TTL model, each on against off.
//!
//! Every world is played three times with the same seed: as an experiment, started by an operator's order in the middle of a window and stopped
//! by another, and with all of its traffic on either variant. The difference between these two, by the provider's own count, is the truth that
//! the experiment's interval must hold. The export is left in target/results/trials, where the notebook's computation reads it.

mod prefetch;
mod run;
mod worlds;

use std::collections::BTreeSet;
use std::path::PathBuf;

use farthing_experiment::Interval;
use farthing_types::Span;
use serde_json::json;

use crate::world::{Answer, Asked};
use run::{Played, Visit, play};

/// A world with an experiment in it.
pub trait Study: Sync {
    /// Its name, and that of the experiment.
    fn name(&self) -> &'static str;
    /// The configuration as an operator writes it; the experiment is a draft of two variants.
    fn config(&self) -> String;
    /// The variants, control first.
    fn variants(&self) -> [&'static str; 2];
    /// Length of a window.
    fn window(&self) -> Span;
    /// Windows before the order, and measured ones.
    fn windows(&self) -> (u32, u32);
    /// Who asks what, in order of time.
    fn visits(&self, seed: u64, lasts: Span) -> Vec<Visit>;
    /// What the provider answers and bills.
    fn answer(&self, seed: u64, asked: &Asked) -> Answer;
    /// The unit that a path belongs to, whether a client asks for it or a call goes there.
    fn unit(&self, path: &str) -> String;
    /// What an answer lost because it was stale when it was sent, USD.
    fn stale_usd(&self, _seed: u64, _answered: (&str, &[u8]), _at: Span) -> f64 {
        0.0
    }
    /// Where its predictors are.
    fn models(&self) -> Option<&'static str> {
        None
    }
    /// What the answer must say.
    fn line(&self) -> &'static str;
}

/// What an experiment said, and what is true.
#[derive(Debug)]
struct Found {
    line: String,
    effect: Interval,
    truth: f64,
    /// Of control.
    mean: f64,
    month: Interval,
    month_truth: f64,
    rows: u64,
}

impl Found {
    fn covers(&self) -> bool {
        holds(self.effect, self.truth) && holds(self.month, self.month_truth)
    }
}

fn holds(interval: Interval, truth: f64) -> bool {
    interval.low <= truth && truth <= interval.high
}

/// Windows of which the comparison takes all rows, the number of these rows, and what they say was billed and asked for.
struct Exported {
    tested: BTreeSet<i64>,
    rows: usize,
    billed: f64,
    requests: u64,
}

fn exported(rows: &str) -> Exported {
    let mut lines = rows.lines();
    let columns: Vec<&str> = lines.next().unwrap().split(',').collect();
    let at = |name: &str| columns.iter().position(|column| *column == name).unwrap();
    let (window, tests, billed, requests) = (at("window"), at("tests"), at("bill_usd"), at("requests"));
    let cells: Vec<Vec<&str>> = lines.map(|line| line.split(',').collect()).collect();
    let of = |row: &[&str]| row[window].parse::<i64>().unwrap();
    // The first rows only set the cap.
    let calibrated: BTreeSet<i64> = cells.iter().filter(|row| row[tests] == "0").map(|row| of(row)).collect();
    let mut found = Exported { tested: BTreeSet::new(), rows: 0, billed: 0.0, requests: 0 };
    for row in cells.iter().filter(|row| !calibrated.contains(&of(row))) {
        found.tested.insert(of(row));
        found.rows += 1;
        found.billed += row[billed].parse::<f64>().unwrap();
        found.requests += row[requests].parse::<u64>().unwrap();
    }
    found
}

fn study(study: &'static dyn Study, seed: u64) -> Found {
    let of = |variant| play(study, seed, variant);
    let (tried, truth) = (of(None), study.variants().map(|variant| of(Some(variant))));
    let found = compare(study, &tried, &truth);
    println!("{} {seed}: {found:?}", study.name());
    keep(study, &tried);
    found
}

fn compare(study: &'static dyn Study, tried: &Played, truth: &[Played; 2]) -> Found {
    let Exported { tested, rows, billed, requests } = exported(&tried.rows);
    let report = &tried.view.report;
    let cap = report.cap_usd.unwrap_or_else(|| panic!("{}: {report:?}", study.name()));
    let asked: Vec<_> = tried.book.asked.iter().filter(|((_, window), _)| tested.contains(window)).collect();
    for one in truth {
        assert_eq!(one.book.asked, tried.book.asked, "{}: the same requests come whoever answers them", study.name());
    }
    // Every unit that was asked for in a window is a row, with its requests and what the provider billed for it.
    assert_eq!((rows, requests), (asked.len(), asked.iter().map(|(_, n)| u64::from(**n)).sum()), "{}: {report:?}", study.name());
    let counted: f64 = tested.iter().filter_map(|window| tried.book.billed.get(window)).sum();
    assert!((billed - counted).abs() <= 0.01 * counted, "{}: {billed} in the rows, {counted} by the provider", study.name());
    let means = [0, 1].map(|variant: usize| {
        let cost = |place| truth[variant].book.cost.get(place).copied().unwrap_or(0.0).min(cap);
        asked.iter().map(|(place, _)| cost(*place)).sum::<f64>() / asked.len() as f64
    });
    let whole = [0, 1].map(|variant: usize| tested.iter().filter_map(|window| truth[variant].book.whole.get(window)).sum::<f64>());
    let months = 30.0 * 86_400.0 / (tested.len() as f64 * study.window().as_secs_f64());
    let answer = &tried.view.answers[0];
    Found {
        line: answer.line.clone(),
        effect: report.comparisons[0].effect_usd.unwrap_or_else(|| panic!("{}: {report:?}", study.name())),
        truth: means[1] - means[0],
        mean: means[0],
        month: answer.usd_per_month.unwrap(),
        month_truth: (whole[1] - whole[0]) * months,
        rows: report.comparisons[0].rows,
    }
}

/// Leaves report and export where the notebook's computation finds them.
fn keep(study: &'static dyn Study, tried: &Played) {
    let dir = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/results/trials"));
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join(format!("{}.csv", study.name())), &tried.rows).unwrap();
    // As `farthing experiments show NAME --json` has them.
    let shown = json!({"answers": tried.view.answers, "report": tried.view.report});
    std::fs::write(dir.join(format!("{}.json", study.name())), shown.to_string()).unwrap();
}

/// One seed of a world.
fn holds_once(one: &'static dyn Study) {
    let found = study(one, 1);
    assert!(found.covers(), "{}: {found:?}", one.name());
    assert_eq!(found.line, one.line(), "{}: {found:?}", one.name());
}

/// Many seeds of a world: how often the interval holds the truth, and the word is right.
fn over_seeds(one: &'static dyn Study) {
    const SEEDS: u64 = 40;
    let all: Vec<Found> = (1..=SEEDS).map(|seed| study(one, seed)).collect();
    let share = |holds: &dyn Fn(&Found) -> bool| all.iter().filter(|found| holds(found)).count() as f64 / SEEDS as f64;
    let (covers, right) = (share(&Found::covers), share(&|found| found.line == one.line()));
    let errors: Vec<f64> = all.iter().map(|found| (found.effect.point - found.truth) / found.mean).collect();
    let mean = errors.iter().sum::<f64>() / SEEDS as f64;
    let deviation = (errors.iter().map(|error| (error - mean).powi(2)).sum::<f64>() / (SEEDS - 1) as f64 / SEEDS as f64).sqrt();
    let rows = all.iter().map(|found| found.rows).sum::<u64>() as f64 / SEEDS as f64;
    println!(
        "{}: {SEEDS} seeds of {rows:.0} rows: the interval covers in {:.1} %, the word is right in {:.1} %; mean error {:.2} % of control's cost (standard error {:.2})",
        one.name(),
        covers * 100.0,
        right * 100.0,
        mean * 100.0,
        deviation * 100.0
    );
    // One that asks for more time is not wrong.
    let wrong = share(&|found| found.line != one.line() && !found.line.starts_with("keep running"));
    assert!(covers >= 0.95 && right >= 0.85 && wrong == 0.0, "{}: {all:?}", one.name());
}

#[test]
fn what_a_cache_is_worth_is_found() {
    holds_once(&worlds::Cached);
}

#[test]
fn what_batches_are_worth_is_found() {
    holds_once(&worlds::Batched);
}

#[test]
fn what_fetching_ahead_costs_is_found() {
    holds_once(&prefetch::Ahead);
}

#[test]
fn what_routing_is_worth_is_found() {
    holds_once(&worlds::Routed);
}

#[test]
fn what_predicted_ttls_are_worth_is_found() {
    holds_once(&worlds::Modelled);
}

#[test]
#[ignore = "forty seeds; `make simulate` runs it"]
fn a_cache_over_seeds() {
    over_seeds(&worlds::Cached);
}

#[test]
#[ignore = "forty seeds; `make simulate` runs it"]
fn batches_over_seeds() {
    over_seeds(&worlds::Batched);
}

#[test]
#[ignore = "forty seeds; `make simulate` runs it"]
fn fetching_ahead_over_seeds() {
    over_seeds(&prefetch::Ahead);
}

#[test]
#[ignore = "forty seeds; `make simulate` runs it"]
fn routing_over_seeds() {
    over_seeds(&worlds::Routed);
}

#[test]
#[ignore = "forty seeds; `make simulate` runs it"]
fn predicted_ttls_over_seeds() {
    over_seeds(&worlds::Modelled);
}

//! Every scenario with all strategies, with none, with each alone and with all but one.

use std::fmt;

use farthing_types::Span;
use serde_json::{Value, json};

use crate::world::{Judgement, Ledger, On, Played, Scenario, play};

/// One way of running a scenario.
pub struct Run {
    /// `all`, `none`, `only cache`, `all but cache`.
    pub name: String,
    pub played: Played,
}

/// What a scenario came to.
pub struct Report {
    pub name: &'static str,
    sla: Span,
    size: f64,
    runs: Vec<Run>,
}

/// Runs a scenario in every way.
pub fn study(scenario: &'static dyn Scenario, size: f64) -> Report {
    let whole: On = scenario.strategies().iter().copied().collect();
    let mut ways = vec![("all".to_owned(), whole.clone()), ("none".to_owned(), On::new())];
    for one in &whole {
        ways.push((format!("only {one}"), On::from([*one])));
        ways.push((format!("all but {one}"), whole.iter().copied().filter(|other| other != one).collect()));
    }
    let mut runs: Vec<Run> = Vec::new();
    let mut done: Vec<(On, usize)> = Vec::new();
    for (name, on) in ways {
        // With two strategies the one alone is all but the other.
        if done.iter().any(|(before, _)| *before == on) {
            continue;
        }
        runs.push(Run { name, played: play(scenario, &on, size) });
        done.push((on, runs.len()));
    }
    Report { name: scenario.name(), sla: scenario.sla(), size, runs }
}

impl Report {
    fn run(&self, name: &str) -> &Played {
        &self.runs.iter().find(|run| run.name == name).unwrap().played
    }

    fn reduction(&self, played: &Played) -> f64 {
        1.0 - played.nanos as f64 / self.run("none").nanos as f64
    }

    /// The bill's reduction in one of the runs.
    pub fn reduction_of(&self, name: &str) -> f64 {
        self.reduction(self.run(name))
    }

    /// What was counted apart in one of the runs.
    pub fn watched(&self, name: &str) -> i64 {
        self.run(name).watched
    }

    /// Of the requests that the provider alone answered in time, the share that were in time.
    fn sla_met(&self, played: &Played) -> f64 {
        let pairs = || self.run("none").answers.iter().zip(&played.answers).filter(|((alone, _), _)| *alone <= self.sla);
        pairs().filter(|(_, (took, _))| *took <= self.sla).count() as f64 / pairs().count() as f64
    }

    fn count(played: &Played, kind: Judgement) -> usize {
        played.answers.iter().filter(|(_, judgement)| *judgement == kind).count()
    }

    fn matches(played: &Played) -> bool {
        (played.nanos, played.calls(), 0) == (played.ledger.nanos, played.ledger.calls, played.ledger.unpriced)
    }

    pub fn as_json(&self) -> Value {
        let all = self.run("all");
        let usd = |nanos: i64| nanos as f64 / 1e9;
        let ablation: serde_json::Map<String, Value> = self
            .runs
            .iter()
            .map(|run| (run.name.clone(), json!({"bill_usd": usd(run.played.nanos), "reduction": self.reduction(&run.played), "provider_calls": run.played.calls()})))
            .collect();
        json!({
            "requests": all.answers.len(),
            "bill_before_usd": usd(self.run("none").nanos),
            "bill_after_usd": usd(all.nanos),
            "reduction": self.reduction(all),
            "provider_calls": all.calls(),
            "hit_ratio": share(all.ledger.hits, all.ledger.requests),
            "followed_share": share(all.ledger.followed, all.ledger.requests),
            "mean_batch": mean_batch(all),
            "billed_again": all.again,
            "ledger_matches_provider": self.runs.iter().all(|run| Self::matches(&run.played)),
            "stale_after_event": Self::count(all, Judgement::Stale),
            "wrong_answers": self.runs.iter().map(|run| Self::count(&run.played, Judgement::Wrong)).sum::<usize>(),
            "p95_ms": p95(all).as_secs_f64() * 1e3,
            "sla_met": self.sla_met(all),
            "ablation": ablation,
        })
    }

    /// # Panics
    /// A bar is missed.
    pub fn check(&self, scenario: &dyn Scenario) {
        for run in &self.runs {
            let Played { nanos, ledger, .. } = &run.played;
            let calls = run.played.calls();
            assert!(Self::matches(&run.played), "{}, {}: provider {calls} calls, {nanos}; {ledger:?}", self.name, run.name);
            if let Some(limit) = scenario.rate() {
                assert!(keeps_to(&run.played, limit), "{}, {}: more than {limit:?} a second", self.name, run.name);
            }
            assert_eq!(Self::count(&run.played, Judgement::Wrong), 0, "{}, {}", self.name, run.name);
        }
        // What is not told of is stale: the measure measures.
        let untold = self.runs.iter().find(|run| run.name == "all but events");
        assert!(untold.is_none_or(|run| Self::count(&run.played, Judgement::Stale) > 0), "{self}");
        let all = self.run("all");
        assert_eq!(Self::count(all, Judgement::Stale), 0, "{}: stale after an event", self.name);
        assert!(self.reduction(all) >= scenario.reduction(), "{self}");
        assert!(self.sla_met(all) >= 0.999, "{self}");
        assert!(
            scenario.mean_batch().is_none_or(|least| mean_batch(all).is_some_and(|mean| mean > least)),
            "{self}: {:?}",
            mean_batch(all)
        );
        // A restart repeats nothing that is billed; without what it kept it would.
        assert!(all.again == 0 && (scenario.workers().is_none() || self.run("all but cache").again > 0), "{self}");
        scenario.also(self, self.size);
    }
}

/// Calls in a batch on average; `None` without any batch.
fn share(part: u64, whole: u64) -> f64 {
    part as f64 / (whole as f64).max(1.0)
}

fn mean_batch(played: &Played) -> Option<f64> {
    let Ledger { batches, members, .. } = played.ledger;
    (batches > 0).then(|| members as f64 / batches as f64)
}

/// Whether the provider saw no more than so many calls a second, and at once, over any ten seconds.
fn keeps_to(played: &Played, (rate, burst): (usize, usize)) -> bool {
    let most = 10 * rate + burst;
    played.arrivals.windows(most + 1).all(|some| some[most] - some[0] >= Span::from_secs(10))
}

fn p95(played: &Played) -> Span {
    let mut all: Vec<Span> = played.answers.iter().map(|(took, _)| *took).collect();
    all.sort_unstable();
    all[(all.len() * 95 / 100).min(all.len() - 1)]
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self.run("all");
        writeln!(
            f,
            "{}: {} requests, sla met {:.4}, p95 {:?}, stale after an event {}",
            self.name,
            all.answers.len(),
            self.sla_met(all),
            p95(all),
            Self::count(all, Judgement::Stale)
        )?;
        for run in &self.runs {
            writeln!(
                f,
                "  {:<16} {:>9} calls  {:>12.6} usd  {:>6.1} %",
                run.name,
                run.played.calls(),
                run.played.nanos as f64 / 1e9,
                100.0 * self.reduction(&run.played)
            )?;
        }
        Ok(())
    }
}

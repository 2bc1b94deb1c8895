//! The money phases: rules, training, the model, model against rule; all under one continuous load.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use farthing_config::{ExperimentConfig, VariantConfig};
use farthing_experiment::SavingReport;
use farthing_ledger::aggregate::RouteSnapshot;
use farthing_models::Kind;
use farthing_sim::Counts;
use farthing_types::{Clock, Money, Overrides, Span, Time};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::fit::{self, Fitted};
use super::progress::Progress;
use super::report::{Money3, Phase, Versus};
use super::speed::promote;
use super::stage::Stage;
use super::workload::Workload;

/// Longest time the trainer may take.
pub const FIT_LIMIT: Duration = Duration::from_secs(70);
/// How often progress is shown.
const TICK: Duration = Duration::from_millis(250);
/// Windows of the experiment.
const WINDOWS: f64 = 6.0;
/// Share of a window before the first of them: one that had begun would be left out.
const LEAD: f64 = 0.05;
/// Name of the experiment.
const EXPERIMENT: &str = "model-vs-rule";

/// What the money phases found.
pub struct Outcome {
    pub phases: Vec<Phase>,
    pub saving: SavingReport,
    pub version: Option<u32>,
    pub versus: Option<Versus>,
    pub swaps: u64,
    pub failed_after_swap: u64,
    pub notes: Vec<String>,
}

/// Shares of the given seconds: rules, model, experiment.
const SHARES: [f64; 3] = [0.4, 0.3, 0.3];

struct Run<'a> {
    stage: &'a Stage,
    progress: &'a mut Progress,
    load: JoinHandle<()>,
    seconds: f64,
}

/// Where counters stood when a phase began.
struct Mark {
    name: &'static str,
    at: Time,
    total: At,
    routes: Vec<(Arc<str>, At)>,
}

/// Counters of one route, or of all.
struct At {
    seen: Counts,
    money: Money3,
    decisions: BTreeMap<&'static str, u64>,
}

/// Runs the phases for about `seconds` and the time of the fit.
pub async fn run(stage: &Stage, work: &Workload, dir: &Path, seconds: f64, progress: &mut Progress) -> anyhow::Result<Outcome> {
    let stop = CancellationToken::new();
    let (driver, plan, clock) = (stage.driver.clone(), work.plan.clone(), stage.clock.clone());
    let stopped = stop.clone();
    let load = TaskTracker::new().spawn(async move { driver.replay(plan, clock, stopped).await });
    let mut run = Run { stage, progress, load, seconds };
    let mut money = run.all(dir).await?;
    stop.cancel();
    let _ = run.load.await; // it ends by itself; a panic in it shows as missing requests
    money.notes.extend(reconcile(stage).await);
    Ok(money)
}

/// What is told of a model that the gate did not let pass.
fn by_force(refused: &[String]) -> Option<String> {
    (!refused.is_empty()).then(|| {
        let checks = refused.join(", ");
        format!("the gate refuses this model on so short a log ({checks}); it went live by force, and the experiment says what it is worth")
    })
}

impl Run<'_> {
    async fn all(&mut self, dir: &Path) -> anyhow::Result<Outcome> {
        let mut phases = vec![self.phase("rules", self.seconds * SHARES[0]).await];
        let mut notes = Vec::new();
        // The trainer may move the alias itself, and the proxy follows: counted from before that.
        let failed_before = self.stage.driver.tally().total().failed;
        let version = match self.fit(dir, &mut phases).await? {
            Fitted::Published { refused } => {
                notes.extend(by_force(&refused));
                newest(self.stage).ok_or_else(|| "the trainer published nothing that can be read; rules decide".to_owned())
            }
            Fitted::Not(why) => Err(why),
        };
        let version = version.map_err(|why| {
            self.progress.say(&format!("no model: {why}"));
            notes.push(why);
        });
        let version = version.ok();
        self.stage.proxy.reset_savings();
        let Some(version) = version else {
            phases.push(self.phase("rules", self.seconds * SHARES[1]).await);
            let saving = self.stage.proxy.savings().report;
            return Ok(Outcome { phases, saving, version: None, versus: None, swaps: 0, failed_after_swap: 0, notes });
        };
        promote(&self.stage.proxy, version).await?;
        self.progress.say(&format!("model version {version} went live under load"));
        phases.push(self.phase("model", self.seconds * SHARES[1]).await);
        let saving = self.stage.proxy.savings().report;
        let versus = self.experiment(&mut phases).await?;
        let failed_after_swap = self.stage.driver.tally().total().failed - failed_before;
        Ok(Outcome { phases, saving, version: Some(version), versus: Some(versus), swaps: 1, failed_after_swap, notes })
    }

    /// Lets the load run for `seconds` (or to its end) and reports what happened in them.
    async fn phase(&mut self, name: &'static str, seconds: f64) -> Phase {
        let mark = Mark::now(name, self.stage);
        let ticks = (seconds / TICK.as_secs_f64()).ceil() as u64;
        for _ in 0..ticks.max(1) {
            if self.load.is_finished() {
                break;
            }
            tokio::time::sleep(TICK).await;
            self.progress.show(&mark.phase(self.stage));
        }
        mark.finish(self.stage, self.progress)
    }

    /// Trains on the log while rules go on deciding.
    async fn fit(&mut self, dir: &Path, phases: &mut Vec<Phase>) -> anyhow::Result<Fitted> {
        self.stage.proxy.flush_log().await?;
        let mark = Mark::now("training", self.stage);
        let dir = dir.to_owned();
        let mut training = tokio::task::spawn_blocking(move || fit::run(&dir, FIT_LIMIT));
        let fitted = loop {
            tokio::select! {
                fitted = &mut training => break fitted?,
                () = tokio::time::sleep(TICK) => self.progress.show(&mark.phase(self.stage)),
            }
        };
        phases.push(mark.finish(self.stage, self.progress));
        Ok(fitted)
    }

    /// Model against rule on randomly assigned key-windows.
    async fn experiment(&mut self, phases: &mut Vec<Phase>) -> anyhow::Result<Versus> {
        let seconds = self.seconds * SHARES[2];
        let window = Span::from_secs_f64(seconds / (WINDOWS + 4.0 * LEAD) * self.stage.clock.factor());
        let window = beginning(self.stage.clock.now() + window.mul_f64(LEAD), window);
        let variant = |name: &str, ttl: &str| VariantConfig {
            name: name.into(),
            share: 0.5,
            overrides: Overrides { ttl: Some(ttl.into()), ..Overrides::default() },
        };
        self.stage.proxy.start_experiment(&ExperimentConfig {
            name: EXPERIMENT.into(),
            hypothesis: "the fitted model costs less than the rule, stale answers priced in".into(),
            variants: vec![variant("rule", "rule"), variant("model", "model")],
            window,
            slice: 1.0,
            ramp: vec![1.0],
            min_units: 20,
            ..ExperimentConfig::default()
        })?;
        phases.push(self.phase("experiment", seconds).await);
        self.stage.proxy.stop_experiment(EXPERIMENT);
        let view = self.stage.proxy.experiment(EXPERIMENT);
        let report = view.map(|v| v.report);
        let comparison = report.as_ref().and_then(|r| r.comparisons.first().cloned());
        let rows = |index: usize| report.as_ref().and_then(|r| r.variants.get(index)).map_or(0, |v| v.unit_windows);
        Ok(Versus {
            relative: comparison.as_ref().and_then(|c| c.relative),
            effect_usd: comparison.as_ref().and_then(|c| c.effect_usd),
            evidence: comparison.as_ref().map_or(1.0, |c| c.evidence),
            differs: comparison.as_ref().is_some_and(|c| c.differs),
            unit_windows: [rows(0), rows(1)],
            note: comparison.and_then(|c| c.note),
            switched_off: report.and_then(|r| r.switched_off.first().map(|off| off.guard.as_str())),
        })
    }
}

impl Mark {
    fn now(name: &'static str, stage: &Stage) -> Self {
        let (totals, tally) = (stage.proxy.totals(), stage.driver.tally());
        let route = |(index, name): (usize, &Arc<str>)| {
            let ledger = totals.routes.get(name).cloned().unwrap_or_default();
            (name.clone(), At::new(tally.route(index), ledger, stage.provider.reading(index).billed))
        };
        let routes = stage.names.iter().enumerate().map(route).collect();
        Self { name, at: stage.clock.now(), total: At::new(tally.total(), totals.total, stage.provider.bill()), routes }
    }

    /// What happened since.
    fn phase(&self, stage: &Stage) -> Phase {
        let now = Self::now(self.name, stage);
        let mut phase = now.total.since(&self.total, self.name.into());
        phase.seconds = stage.clock.real_span(now.at.since(self.at)).as_secs_f64();
        let pairs = now.routes.iter().zip(&self.routes);
        phase.routes = pairs.map(|((name, now), (_, then))| now.since(then, name.clone())).collect();
        phase
    }

    fn finish(self, stage: &Stage, progress: &mut Progress) -> Phase {
        let phase = self.phase(stage);
        progress.done(&phase);
        phase
    }
}

impl At {
    fn new(seen: Counts, ledger: RouteSnapshot, metered: Money) -> Self {
        let [base, bill, metered] = [ledger.base_usd, ledger.bill_usd, metered].map(Money::as_usd_f64);
        Self { seen, money: Money3 { base, bill, metered }, decisions: ledger.decisions }
    }

    fn since(&self, then: &Self, name: Arc<str>) -> Phase {
        let money = Money3 {
            base: self.money.base - then.money.base,
            bill: self.money.bill - then.money.bill,
            metered: self.money.metered - then.money.metered,
        };
        let decided = |kind: &str| self.decisions.get(kind).copied().unwrap_or(0) - then.decisions.get(kind).copied().unwrap_or(0);
        let all: u64 = self.decisions.keys().map(|kind| decided(kind)).sum();
        let share = |kind: &str| decided(kind) as f64 / (all as f64).max(1.0);
        Phase { fallback_share: share("fallback"), ..Phase::new(name, self.seen.since(then.seen), money, share("model")) }
    }
}

/// About this length, so that a window begins at `at`: windows are counted from 1970 on.
fn beginning(at: Time, window: Span) -> Span {
    let at = at.since(Time::ZERO).as_nanos();
    let count = (at / window.as_nanos().max(1)).max(1);
    u64::try_from(at / count).map_or(window, Span::from_nanos)
}

/// The newest version of the `ttl` predictor that can be read.
fn newest(stage: &Stage) -> Option<u32> {
    let list = stage.proxy.models().list().unwrap_or_default();
    list.iter().filter(|v| v.kind == Kind::Ttl && v.problem.is_none()).map(|v| v.version).max()
}

/// The ledger against the providers' own meters, once nothing is under way any more. A difference is told, never smoothed.
async fn reconcile(stage: &Stage) -> Option<String> {
    let bills = || (stage.proxy.totals().total.bill_usd, stage.provider.bill());
    for _ in 0..20 {
        let (ledger, meters) = bills();
        if ledger == meters {
            return None;
        }
        // A call is settled a moment after its last client has its answer.
        tokio::time::sleep(TICK / 2).await;
    }
    let (ledger, meters) = bills();
    Some(format!("the ledger says ${ledger} was paid, the providers' meters say ${meters}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_begins_when_it_shall_and_is_as_long_as_it_was() {
        let (at, wanted) = (Time::from_millis(1_767_225_600_123), Span::from_secs(3_271));
        let window = beginning(at, wanted);
        let into = at.since(Time::ZERO).as_nanos() % window.as_nanos();
        assert!(into < 1_000_000 && window.abs_diff(wanted) < Span::from_secs(10), "{into} ns into one of {window:?}");
    }
}

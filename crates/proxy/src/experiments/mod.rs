//! Experiments at work: snapshots on the routes, records beside the ledger, the control loop between them, and what of them is kept.

mod assignments;
mod bears;
mod control;
mod kept;
mod named;
mod orders;
mod spec;
mod stale;
mod units;

use std::collections::BTreeMap;
use std::sync::Arc;

use farthing_config::ExperimentConfig;
use farthing_experiment::{Answer, Experiment, ExperimentSpec, Life, Observation, Report, Stage, Trial, answers};
use farthing_policy::plan;
use farthing_types::{Money, Time};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::StartError;
use crate::route::{RouteExperiment, RouteState};
use crate::state::State;

pub use bears::Bears;
pub use kept::{AuditLine, Folder, KeptError};
pub use orders::ExperimentError;
pub use spec::{check_experiments, experiment_spec};
pub use stale::expected_stale;
pub use units::{Asking, Variant};

/// The records of all experiments.
#[derive(Default)]
pub struct Trials {
    all: Mutex<BTreeMap<Arc<str>, Running>>,
    /// Where they are kept; whoever writes holds it, so that what was written last is what was last.
    folder: Mutex<Folder>,
    /// What the store of predictors knows of the versions that they name.
    told: Mutex<named::Told>,
    /// Told when a guardrail has acted, so that this is kept at once.
    pub wake: Notify,
}

#[derive(Clone)]
struct Running {
    config: ExperimentConfig,
    spec: ExperimentSpec,
    frozen: BTreeMap<String, String>,
    life: Life,
    /// What assigns now; `None` where the routes' own plans do.
    snapshot: Option<Arc<Experiment>>,
    trial: Trial,
    rows_bytes: u64,
    /// What of it was not kept yet.
    unkept: Unkept,
}

#[derive(Clone, Default)]
struct Unkept {
    standing: bool,
    evidence: bool,
    notes: Vec<AuditLine>,
}

/// An experiment for status pages.
#[derive(Clone, Debug)]
pub struct ExperimentView {
    /// What was configured.
    pub config: ExperimentConfig,
    /// What its coin is tossed for.
    pub unit: &'static str,
    /// Where it stands.
    pub life: Life,
    /// Variant that units outside the slice get.
    pub leader: Arc<str>,
    /// Probability of each variant in the slice now.
    pub pmf: Vec<f64>,
    /// What is known.
    pub report: Report,
    /// What that says.
    pub answers: Vec<Answer>,
}

impl Trials {
    /// None yet, to be kept below `state_dir`.
    pub fn below(state_dir: &std::path::Path) -> Self {
        Self { folder: Mutex::new(Folder::below(state_dir)), ..Self::default() }
    }

    /// All experiments, by name.
    pub fn views(&self, now: Time) -> Vec<ExperimentView> {
        self.all.lock().values().map(|running| running.view(now)).collect()
    }

    /// One experiment.
    pub fn view(&self, name: &str, now: Time) -> Option<ExperimentView> {
        self.all.lock().get(name).map(|running| running.view(now))
    }
}

impl Running {
    fn view(&self, now: Time) -> ExperimentView {
        let report = self.trial.report();
        let variants = self.spec.variants.len();
        let declared = || self.spec.variants.iter().map(|v| v.share).collect();
        let pmf = self.snapshot.as_ref().map_or_else(declared, |e| e.pmf(e.window(now)).into_iter().take(variants).collect());
        ExperimentView {
            config: self.config.clone(),
            unit: self.spec.unit.as_str(),
            leader: self.spec.variants.get(self.life.leader).map_or_else(|| "".into(), |v| v.name.clone()),
            pmf,
            answers: answers(&report, &self.spec),
            report,
            life: self.life.clone(),
        }
    }

    /// The snapshot of where it stands now.
    fn renew(&mut self) -> Result<(), StartError> {
        self.snapshot = self.life.snapshot(&self.spec)?.map(Arc::new);
        Ok(())
    }
}

impl State {
    /// Adds what a request or call did to its unit. A guardrail that trips by it acts at once.
    pub(crate) fn observe(&self, variant: &Variant, seen: Observation) {
        let tripped = self
            .trials
            .all
            .lock()
            .get_mut(variant.experiment().name())
            .is_some_and(|running| running.life.stage == Stage::Running && running.trial.record(variant.unit, &variant.assigned, seen));
        if tripped {
            self.steer_experiments(self.clock.now());
            self.trials.wake.notify_one();
        }
    }

    /// The price of a stale answer of a route: configured, or the call's price over the champion's kappa.
    pub(crate) fn stale_price(&self, route: &RouteState) -> Option<Money> {
        let derived = || {
            let call = self.pricing.flat(&route.route.name, &route.provider.name, self.clock.now())?;
            let kappa = self.predictors.ttl(None)?.manifest().kappa(route.route.stale_budget).filter(|k| *k > 0.0)?;
            Some(Money::from_nanos((call.nanos() as f64 / kappa) as i64))
        };
        route.route.price_stale.or_else(derived)
    }

    /// Whether the experiments that run could run on these routes.
    ///
    /// # Errors
    /// A plan of a variant that cannot be compiled.
    pub(crate) fn experiments_fit(&self, routes: &[Arc<RouteState>]) -> Result<(), StartError> {
        let all = self.trials.all.lock();
        routes.iter().try_for_each(|route| running_on(route, &all).map(drop))
    }

    /// Puts what assigns now on the routes, which are others than before.
    pub(crate) fn republish_experiments(&self) {
        if let Err(error) = self.publish_experiments(&self.trials.all.lock()) {
            tracing::error!(%error, "an experiment does not run on the routes that the configuration has now");
        }
    }

    /// Puts what assigns now on the routes.
    fn publish_experiments(&self, all: &BTreeMap<Arc<str>, Running>) -> Result<(), StartError> {
        for route in &self.live().routes {
            let here = running_on(route, all)?;
            route.experiment.store((!here.is_empty()).then(|| Arc::new(here)));
        }
        Ok(())
    }
}

/// The experiments that run on a route, with a plan for each variant.
///
/// # Errors
/// A plan that cannot be compiled.
fn running_on(route: &RouteState, all: &BTreeMap<Arc<str>, Running>) -> Result<Vec<Arc<RouteExperiment>>, StartError> {
    let mut here = Vec::new();
    for running in all.values().filter(|running| running.config.is_on(&route.route.name)) {
        let Some(experiment) = &running.snapshot else { continue };
        let compile = |v: &farthing_experiment::Variant| plan::compile(&route.facts, &v.overrides).map(Arc::new);
        let plans = experiment.variants().iter().map(compile).collect::<Result<_, _>>();
        let plans = plans.map_err(|source| StartError::Plan { route: route.route.name.clone(), source })?;
        let bears = Bears::of(experiment);
        here.push(Arc::new(RouteExperiment { experiment: experiment.clone(), plans, bears, latency: running.config.latency }));
    }
    Ok(here)
}

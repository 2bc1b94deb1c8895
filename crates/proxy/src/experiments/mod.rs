//! Experiments at work: snapshots on the routes, records beside the ledger, the control loop between them, and what of them is kept.

mod assignments;
mod bears;
mod control;
pub mod fleet;
mod kept;
mod named;
mod orders;
mod spec;
mod stale;
mod tuning;
mod units;

use std::collections::BTreeMap;
use std::sync::Arc;

use farthing_config::ExperimentConfig;
use farthing_experiment::unit::Shared as SharedState;
use farthing_experiment::{Answer, Assigned, Experiment, ExperimentSpec, Life, Observation, Report, Stage, Trial, answers, discoveries};
use farthing_policy::plan;
use farthing_types::{KeyHash, Money, Time};
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
pub use tuning::{KnobView, Past, TryingView, TuningView};
pub use units::{Asking, Variant};

/// Of the findings among all experiments at most this share is false, on average.
const ALL_ALPHA: f64 = 0.05;

/// The records of all experiments.
#[derive(Default)]
pub struct Trials {
    all: Mutex<BTreeMap<Arc<str>, Running>>,
    /// Where they are kept; whoever writes holds it, so that what was written last is what was last.
    folder: Mutex<Folder>,
    /// Numbers of plans that move by experiments. Its lock is taken before that of `all`, and never beside that of `folder` but by who keeps them.
    tuning: Mutex<Vec<tuning::RouteTuning>>,
    /// What the store of predictors knows of the versions that they name.
    told: Mutex<named::Told>,
    /// Told when a guardrail has acted, so that this is kept at once.
    pub wake: Notify,
    /// What is to be told to the fleet.
    desk: fleet::Desk,
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
    /// Where it is a fleet's: then `life` and `trial` are what the fleet has published.
    shared: Option<Box<fleet::Shared>>,
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
    /// Challengers that are found to differ among those of all experiments; empty in a view of one alone.
    pub found: Vec<Arc<str>>,
    /// Where it is a fleet's: what is known here of that.
    pub fleet: Option<fleet::FleetView>,
}

impl Trials {
    /// None yet, to be kept below `state_dir`.
    pub fn below(state_dir: &std::path::Path) -> Self {
        Self { folder: Mutex::new(Folder::below(state_dir)), ..Self::default() }
    }

    /// All experiments, by name.
    pub fn views(&self, now: Time) -> Vec<ExperimentView> {
        let mut views: Vec<ExperimentView> = self.all.lock().values().map(|running| running.view(now)).collect();
        let compared =
            |views: &[ExperimentView]| views.iter().flat_map(|v| v.report.comparisons.iter().map(|c| c.evidence)).collect::<Vec<_>>();
        let mut found = discoveries(&compared(&views), ALL_ALPHA).into_iter();
        for view in &mut views {
            let of = view.report.comparisons.iter().zip(&mut found).filter(|(_, found)| *found);
            view.found = of.map(|(comparison, _)| comparison.variant.clone()).collect();
        }
        views
    }

    /// One experiment.
    pub fn view(&self, name: &str, now: Time) -> Option<ExperimentView> {
        self.all.lock().get(name).map(|running| running.view(now))
    }
}

impl Running {
    fn view(&self, now: Time) -> ExperimentView {
        let mut report = self.trial.report();
        let fleet = self.shared.as_ref().map(|shared| shared.view(now));
        report.dropped.unexported += fleet.as_ref().map_or(0, |fleet| fleet.rows_missing);
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
            found: Vec::new(),
            life: self.life.clone(),
            fleet,
        }
    }

    /// Whether what its variants change bears on copies of answers, as the TTLs of a canary do. Those that change nothing stand for any that might.
    fn is_about_copies(&self) -> bool {
        let of =
            |variant: &farthing_experiment::Variant| variant.overrides.fields().any(|field| SharedState::of(field) == SharedState::Copies);
        if self.life.stage == Stage::Decided {
            return self.spec.variants.get(self.life.leader).is_some_and(of);
        }
        self.spec.variants.iter().any(of) || self.spec.variants.iter().all(|variant| variant.overrides.fields().next().is_none())
    }

    /// Adds what a request or call did to its unit; whether a guardrail has tripped by it.
    fn record(&mut self, unit: KeyHash, assigned: &Assigned, seen: Observation) -> bool {
        match &mut self.shared {
            Some(shared) => shared.collected.record(unit, assigned, seen),
            None => self.trial.record(unit, assigned, seen),
        }
    }

    /// The record whose guardrails act here.
    fn watches(&self) -> &Trial {
        self.shared.as_ref().map_or(&self.trial, |shared| shared.collected.own())
    }

    /// The snapshot of where it stands now.
    fn renew(&mut self) -> Result<(), StartError> {
        // What one of our own was decided for is the route's value from then on.
        let over = self.life.stage == Stage::Decided && tuning::is_own(&self.spec.name);
        let refused = self.shared.as_ref().is_some_and(|shared| shared.refused().is_some());
        self.snapshot = if over || refused { None } else { self.life.snapshot(&self.spec)?.map(Arc::new) };
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
            .is_some_and(|running| running.life.stage == Stage::Running && running.record(variant.unit, &variant.assigned, seen));
        if tripped {
            self.steer_experiments(self.clock.now());
            self.trials.wake.notify_one();
            self.trials.desk.wake.notify_one();
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
            let awaited = here.iter().find(|running| running.copies).map(|running| running.experiment.name().clone());
            route.experiment.store((!here.is_empty()).then(|| Arc::new(here)));
            self.canary_waits(route, awaited);
        }
        self.show_canaries();
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
        let (copies, latency) = (running.is_about_copies(), running.config.latency);
        here.push(Arc::new(RouteExperiment { experiment: experiment.clone(), plans, bears, copies, latency }));
    }
    Ok(here)
}

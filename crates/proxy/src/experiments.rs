//! Running experiments: snapshots on the routes, records beside the ledger, and the control loop between them.

use std::collections::BTreeMap;
use std::sync::Arc;

use farthing_config::ExperimentConfig;
use farthing_experiment::{Experiment, ExperimentSpec, Observation, Report, Trial, UnitKind};
use farthing_policy::plan;
use farthing_types::{KeyHash, Money, Span, Time};
use parking_lot::Mutex;

use crate::StartError;
use crate::request::Variant;
use crate::route::{RouteExperiment, RouteState};
use crate::state::State;

/// Keys followed at once in one experiment.
const MAX_UNITS: usize = 65_536;
/// Part of each window that is discarded, so that answers stored under the variant before do not count.
const BURN_IN: u32 = 6;

/// The records of all experiments.
#[derive(Default)]
pub struct Trials(Mutex<BTreeMap<Arc<str>, Running>>);

struct Running {
    config: ExperimentConfig,
    experiment: Arc<Experiment>,
    trial: Trial,
    started: Time,
    stopped: Option<Time>,
}

/// An experiment for status pages.
#[derive(Clone, Debug)]
pub struct ExperimentView {
    /// What was configured.
    pub config: ExperimentConfig,
    /// Since when it runs.
    pub started: Time,
    /// When it was stopped.
    pub stopped: Option<Time>,
    /// Variant that keys outside the slice get.
    pub leader: Arc<str>,
    /// What is known.
    pub report: Report,
}

impl Trials {
    /// Adds what a request or call did to its unit.
    pub fn record(&self, variant: &Variant, unit: KeyHash, seen: Observation) {
        if let Some(running) = self.0.lock().get_mut(variant.experiment.name())
            && running.stopped.is_none()
        {
            running.trial.record(unit, &variant.assigned, seen);
        }
    }

    /// All experiments, by name.
    pub fn views(&self) -> Vec<ExperimentView> {
        self.0.lock().values().map(Running::view).collect()
    }

    /// One experiment.
    pub fn view(&self, name: &str) -> Option<ExperimentView> {
        self.0.lock().get(name).map(Running::view)
    }
}

impl Running {
    fn view(&self) -> ExperimentView {
        let spec = self.experiment.spec();
        ExperimentView {
            config: self.config.clone(),
            started: self.started,
            stopped: self.stopped,
            leader: spec.variants.get(spec.leader).map_or_else(|| "".into(), |v| v.name.clone()),
            report: self.trial.report(),
        }
    }
}

impl State {
    /// Starts an experiment on its routes.
    ///
    /// # Errors
    /// A description that is no experiment, a route that has one already or is unknown, a model version that cannot go live.
    pub fn start_experiment(&self, config: &ExperimentConfig, now: Time) -> Result<(), StartError> {
        let routes: Vec<_> =
            self.routes.iter().filter(|r| config.routes.is_empty() || config.routes.contains(&r.route.name)).cloned().collect();
        if let Some(name) = config.routes.iter().find(|name| !self.routes.iter().any(|r| r.route.name == **name)) {
            return Err(StartError::NoRoute { experiment: config.name.clone(), route: name.clone() });
        }
        if let Some(busy) = routes.iter().find(|r| r.experiment.load().is_some()) {
            return Err(StartError::Layer { experiment: config.name.clone(), route: busy.route.name.clone() });
        }
        for version in config.variants.iter().filter_map(|v| v.overrides.model_version) {
            self.predictors.pin(version)?;
        }
        let experiment = Arc::new(Experiment::new(experiment_spec(config))?);
        self.trials.0.lock().insert(
            config.name.clone(),
            Running { config: config.clone(), trial: Trial::new(&experiment), experiment: experiment.clone(), started: now, stopped: None },
        );
        publish(&routes, &experiment)
    }

    /// Ends an experiment; its record stays. False when none of that name runs.
    pub fn stop_experiment(&self, name: &str, now: Time) -> bool {
        let mut all = self.trials.0.lock();
        let Some(running) = all.get_mut(name).filter(|r| r.stopped.is_none()) else { return false };
        running.trial.close_window();
        running.stopped = Some(now);
        for route in self.on(name) {
            route.experiment.store(None);
        }
        true
    }

    fn on<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Arc<RouteState>> {
        self.routes.iter().filter(move |r| r.experiment.load().as_ref().is_some_and(|e| &**e.experiment.name() == name))
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

    /// One turn of the control loop: switches that time or money turns, guardrails that switch variants off, a decided experiment that leads the
    /// rest of the keys.
    pub fn control(&self) {
        let now = self.clock.now();
        self.expire_bypass(now);
        self.follow_candidates();
        if self.may_act() {
            self.judge_caches(now);
        }
        self.judge_overheads();
        let mut changed = Vec::new();
        for running in self.trials.0.lock().values_mut().filter(|r| r.stopped.is_none()) {
            if let Some(next) = steer(running) {
                running.experiment = next.clone();
                changed.push(next);
            }
        }
        for experiment in changed {
            let routes: Vec<_> = self.on(experiment.name()).cloned().collect();
            if let Err(error) = publish(&routes, &experiment) {
                tracing::error!(experiment = %experiment.name(), %error, "experiment snapshot not published");
            }
        }
    }

    /// What an entry's end tells about staleness, for the experiment that assigned its key.
    pub fn record_stale(&self, route: &RouteState, key: KeyHash, at: Time, stale: f64) {
        let Some(running) = route.experiment.load_full() else { return };
        let assigned = running.experiment.assign(&self.draw, key, at);
        let variant = Variant { experiment: running.experiment.clone(), assigned };
        self.trials.record(
            &variant,
            key,
            Observation { bill: Some(Money::ZERO), stale, stale_price: self.stale_price(route), ..Observation::default() },
        );
    }
}

/// A configured experiment as its assignment and analysis see it.
pub fn experiment_spec(config: &ExperimentConfig) -> ExperimentSpec {
    let variants = config.variants.iter().map(|v| farthing_experiment::Variant {
        name: v.name.clone(),
        overrides: v.overrides.clone(),
        share: v.share,
    });
    ExperimentSpec {
        name: config.name.clone(),
        variants: variants.collect(),
        unit: UnitKind::Key,
        window: config.window,
        burn_in: config.window / BURN_IN,
        slice: config.slice,
        leader: 0,
        // Each stale answer brings the price of its own route.
        price_stale: Money::ZERO,
        cap: None,
        alpha: config.alpha,
        min_units: u32::try_from(config.min_units).unwrap_or(u32::MAX),
        max_units: MAX_UNITS,
    }
}

/// The next snapshot, when something changed.
fn steer(running: &mut Running) -> Option<Arc<Experiment>> {
    let before = running.experiment.spec().leader;
    let mut next = Experiment::clone(&running.experiment);
    let mut changed = false;
    for off in running.trial.switch_off() {
        if !next.is_off(off.variant) {
            tracing::warn!(experiment = %next.name(), variant = off.variant, guard = off.guard.as_str(), "guardrail switched a variant off");
            next = next.without(off.variant);
            changed = true;
        }
    }
    let report = running.trial.report();
    let best = report
        .comparisons
        .iter()
        .enumerate()
        .filter(|(index, c)| c.differs && !next.is_off(index + 1))
        .filter_map(|(index, c)| c.effect_usd.as_ref().filter(|i| i.high < 0.0).map(|i| (index + 1, i.point)))
        .min_by(|a, b| a.1.total_cmp(&b.1));
    if let Some((leader, _)) = best.filter(|(leader, _)| *leader != before) {
        tracing::info!(experiment = %next.name(), leader, "decided: keys outside the slice follow");
        next = next.with_leader(leader);
        changed = true;
    }
    changed.then(|| Arc::new(next))
}

fn publish(routes: &[Arc<RouteState>], experiment: &Arc<Experiment>) -> Result<(), StartError> {
    for route in routes {
        let compile = |variant: &farthing_experiment::Variant| plan::compile(&route.facts, &variant.overrides).map(Arc::new);
        let plans = experiment.variants().iter().map(compile).collect::<Result<_, _>>();
        let plans = plans.map_err(|source| StartError::Plan { route: route.route.name.clone(), source })?;
        route.experiment.store(Some(Arc::new(RouteExperiment { experiment: experiment.clone(), plans })));
    }
    Ok(())
}

/// Expected stale answers among `hits` that were spread evenly over `last` after the fill, when the next fetch after `gap` found a change:
/// an answer of age a was stale with probability (1 - e^-ha) / (1 - e^-hg) under the key's change hazard h (1/s), the chance that the
/// first of the changes within the gap had come by then.
pub fn expected_stale(hits: u64, last: Span, gap: Span, hazard: f64) -> f64 {
    let (last, gap) = (last.min(gap).as_secs_f64(), gap.as_secs_f64());
    let (upto, within) = (hazard * last, hazard * gap);
    if last <= 0.0 || gap <= 0.0 {
        return 0.0;
    }
    // For small h the change is equally likely anywhere in the gap.
    let mean = if within < 1e-6 { last / (2.0 * gap) } else { (1.0 - -(-upto).exp_m1() / upto) / -(-within).exp_m1() };
    hits as f64 * mean.clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rare_change_leaves_half_of_evenly_spread_hits_stale() {
        let gap = Span::from_secs(100);
        assert!((expected_stale(10, gap, gap, 1e-9) - 5.0).abs() < 1e-3);
        assert!((expected_stale(10, gap, gap, 1e-5) - 5.0).abs() < 1e-2);
        assert_eq!(expected_stale(10, gap, Span::ZERO, 1.0), 0.0);
        assert!(expected_stale(10, Span::from_secs(10), gap, 1e-9) < 1.0);
    }

    #[test]
    fn frequent_changes_come_early() {
        let gap = Span::from_secs(100);
        let often = expected_stale(10, gap, gap, 0.1);
        assert!((often - 9.0).abs() < 0.05, "{often}");
        assert!(expected_stale(10, gap, gap, 1e3) <= 10.0);
    }
}

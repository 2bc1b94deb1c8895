//! Orders to experiments, and taking up at the start what was kept of them.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use farthing_config::{Config, ExperimentConfig};
use farthing_experiment::fleet::FLEET_ALPHA;
use farthing_experiment::{Claim, Experiment, Life, Order, OrderError, Stage, Trial};
use farthing_types::Time;

use super::kept::{AuditLine, Folder, KeptError, Standing};
use super::{ExperimentView, Running, Unkept, experiment_spec, fleet, spec, tuning};
use crate::StartError;
use crate::reason::{self, LONGEST_REASON};
use crate::state::State;

/// Bytes of rows that are read at once.
const PIECE: usize = 4 << 20;

/// Why an order to an experiment was not carried out, or not kept.
#[derive(Debug, thiserror::Error)]
pub enum ExperimentError {
    /// There is none of that name.
    #[error("there is no experiment `{given}`; there are {}", known.join(", "))]
    Unknown {
        /// What was given.
        given: String,
        /// The experiments.
        known: Vec<String>,
    },
    /// The reason is missing or too long.
    #[error("reason: say why, in 1 to {LONGEST_REASON} bytes")]
    Reason,
    /// Where it stands does not allow it.
    #[error("experiment {name}: {source}")]
    Order {
        /// The experiment.
        name: Arc<str>,
        /// Why.
        source: OrderError,
    },
    /// It cannot run beside another, or without a model version.
    #[error(transparent)]
    Start(#[from] StartError),
    /// What is kept cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is a fleet's, and could not be told to it.
    #[error("{0}")]
    Fleet(&'static str),
    /// This instance takes no part in it.
    #[error("this instance takes no part in it: {0}")]
    Refused(String),
    /// It is in force, but a restart may undo it.
    #[error("in force, but not written down: a restart undoes it; see the log")]
    Unwritten,
}

impl State {
    /// Takes up the configured experiments where they stood, and begins those that are new. Blocks on small files.
    ///
    /// # Errors
    /// A description that is no experiment, that has changed since it began, or that cannot run beside another; a model version that cannot go
    /// live; a kept file that is damaged.
    pub fn open_experiments(&self, config: &Config, now: Time) -> Result<(), StartError> {
        // Before they are looked for: nobody removes them in between.
        self.tell_named(&config.experiments);
        for experiment in &config.experiments {
            let mut running = self.taken_up(experiment, now)?;
            // A fleet is asked first: the loop does this once nothing was heard of it.
            if running.life.stage == Stage::Draft
                && running.shared.is_none()
                && let Some(order) = configured(experiment)
            {
                running = self.ordered(running, &order, now).map_err(|error| match error {
                    ExperimentError::Start(error) => error,
                    other => StartError::Kept { reason: other.to_string() },
                })?;
                running.note(now, "configuration", format!("{} -> {}", Stage::Draft.as_str(), running.life.stage.as_str()), None);
            }
            if let Some(snapshot) = &running.snapshot {
                self.log_allocation(snapshot, now);
                self.log_variants(snapshot, now);
            }
            self.adopt(running)?;
        }
        self.publish_experiments(&self.trials.all.lock())?;
        self.keep_experiments();
        Ok(())
    }

    /// Starts an experiment that the configuration does not have.
    ///
    /// # Errors
    /// As [`State::open_experiments`].
    pub fn start_experiment(&self, config: &ExperimentConfig, now: Time) -> Result<(), StartError> {
        let config = ExperimentConfig { start: Stage::Running.as_str(), ..config.clone() };
        self.open_experiments(&Config { experiments: vec![config], ..Config::default() }, now)
    }

    fn taken_up(&self, config: &ExperimentConfig, now: Time) -> Result<Running, StartError> {
        if let Some(name) = config.routes.iter().find(|name| self.route_named(name).is_none()) {
            return Err(StartError::NoRoute { experiment: config.name.clone(), route: name.clone() });
        }
        let mut running = Running::draft(config, now)?;
        let folder = self.trials.folder.lock().clone();
        let (kept, window) = (folder.standing(&config.name)?, running.spec.window_at(now));
        // What the proxy tries by itself it tries for itself.
        if self.fleet.is_some() && !tuning::is_own(&config.name) {
            let experiment = Experiment::new(running.spec.clone())?;
            running.shared = Some(Box::new(fleet::Shared::new(&experiment, window, kept.as_ref().and_then(|kept| kept.fleet.clone()))));
        }
        if let Some(kept) = kept {
            running.take_up(kept, (&folder, window))?;
        }
        Ok(running)
    }

    /// Adds it to the others, when it can run beside them.
    fn adopt(&self, running: Running) -> Result<(), StartError> {
        let mut all = self.trials.all.lock();
        if running.life.stage != Stage::Draft {
            running.fits(all.values())?;
            self.pin(&running)?;
        }
        all.insert(running.spec.name.clone(), running);
        Ok(())
    }

    fn pin(&self, running: &Running) -> Result<(), StartError> {
        if matches!(running.life.stage, Stage::Draft | Stage::Stopped) {
            return Ok(());
        }
        running.config.variants.iter().filter_map(|v| v.overrides.model_version).try_for_each(|version| Ok(self.predictors.pin(version)?))
    }

    /// What becomes of it by an order. Its record begins anew when it starts to be measured.
    pub(super) fn ordered(&self, mut running: Running, order: &Order, now: Time) -> Result<Running, ExperimentError> {
        let window = running.spec.window_at(now);
        let name = running.spec.name.clone();
        let (before, share) = (running.life.stage, running.life.ramp.share);
        running.close_ended(now);
        running.life = running.life.step(order, &running.spec, (now, window)).map_err(|source| ExperimentError::Order { name, source })?;
        if before != Stage::Running && running.life.stage == Stage::Running {
            // The rest of this window would be compared by units that had another plan when it began.
            let experiment = Experiment::new(running.spec.clone()).map_err(StartError::from)?;
            running.trial = Trial::new(&experiment).keeping_rows().measuring_from(window.saturating_add(1));
            (running.rows_bytes, running.unkept.evidence) = (0, true);
        } else if before == Stage::Running && running.life.stage != Stage::Running {
            running.trial.end(window);
            running.unkept.evidence = true;
        } else if before == Stage::Running {
            running.trial.ramped((share, running.life.ramp.share), window);
            running.unkept.evidence = true;
        }
        running.unkept.standing = true;
        running.renew()?;
        Ok(running)
    }

    /// Carries out an operator's order to an experiment; blocks until it is kept.
    ///
    /// # Errors
    /// See [`ExperimentError`]; with [`ExperimentError::Unwritten`] it is in force all the same.
    pub fn order_experiment(&self, name: &str, order: &Order, reason: &str, now: Time) -> Result<ExperimentView, ExperimentError> {
        if !reason::is_said(reason) {
            return Err(ExperimentError::Reason);
        }
        let of_fleet = {
            let all = self.trials.all.lock();
            all.get(name).ok_or_else(|| unknown(&all, name))?.shared.is_some()
        };
        if of_fleet {
            return self.order_in_fleet(name, order, reason);
        }
        let unkept = || self.counters.experiments_unkept.load(std::sync::atomic::Ordering::Relaxed);
        let failed_before = unkept();
        let view = {
            let mut all = self.trials.all.lock();
            let running = all.get(name).ok_or_else(|| unknown(&all, name))?;
            let stage = running.life.stage;
            // The order may fail: what stands is replaced when it has not.
            let mut next = self.ordered(running.clone(), order, now)?;
            let others = |other: &&Running| other.spec.name != next.spec.name && !other.gives_way_to(&next);
            self.allow(&next, all.values().filter(others))?;
            all.retain(|_, other| !other.gives_way_to(&next));
            next.note(now, "operator", said(order, stage, &next.life), Some(reason.to_owned()));
            tracing::warn!(experiment = name, reason, "{}", said(order, stage, &next.life));
            if let Some(snapshot) = &next.snapshot {
                self.log_allocation(snapshot, now);
                self.log_variants(snapshot, now);
            }
            let view = next.view(now);
            all.insert(next.spec.name.clone(), next);
            self.publish_experiments(&all)?;
            view
        };
        self.keep_experiments();
        if unkept() > failed_before { Err(ExperimentError::Unwritten) } else { Ok(view) }
    }

    /// Whether what has become of it may run beside the others.
    pub(super) fn allow<'a>(&self, next: &Running, others: impl Iterator<Item = &'a Running>) -> Result<(), StartError> {
        if next.life.stage != Stage::Stopped {
            next.fits(others)?;
            self.pin(next)?;
        }
        Ok(())
    }

    /// Ends an experiment; its record stays. False when none of that name runs.
    pub fn stop_experiment(&self, name: &str, now: Time) -> bool {
        self.order_experiment(name, &Order::Stop, "stopped by the program", now).is_ok()
    }

    /// What was done with an experiment, the latest last. Blocks on a small file.
    ///
    /// # Errors
    /// None of that name, or a file that cannot be read.
    pub fn experiment_audit(&self, name: &str) -> Result<Vec<AuditLine>, ExperimentError> {
        self.known(name)?;
        let folder = self.trials.folder.lock();
        Ok(folder.audit(name)?)
    }

    /// Closed unit-windows of an experiment as lines of a CSV file, a piece of them from byte `from` on, and where the next begins. Blocks.
    ///
    /// # Errors
    /// None of that name, or a file that cannot be read.
    pub fn experiment_rows(&self, name: &str, from: u64) -> Result<(String, Option<u64>), ExperimentError> {
        self.known(name)?;
        self.keep_experiments();
        let folder = self.trials.folder.lock();
        let upto = self.trials.all.lock().get(name).map_or(0, |running| running.rows_bytes);
        let head = || (format!("{}\n", farthing_experiment::COLUMNS), None);
        Ok(folder.rows(name, (from, upto), PIECE)?.filter(|_| upto > 0).unwrap_or_else(head))
    }

    fn known(&self, name: &str) -> Result<(), ExperimentError> {
        let all = self.trials.all.lock();
        all.contains_key(name).then_some(()).ok_or_else(|| unknown(&all, name))
    }
}

/// What the configuration orders for a draft.
pub fn configured(config: &ExperimentConfig) -> Option<Order> {
    match config.start {
        start if start == Stage::Draft.as_str() => None,
        start if start == Stage::Shadow.as_str() => Some(Order::Shadow),
        _ => Some(Order::Start),
    }
}

fn unknown(all: &BTreeMap<Arc<str>, Running>, name: &str) -> ExperimentError {
    ExperimentError::Unknown { given: name.to_owned(), known: all.keys().map(ToString::to_string).collect() }
}

/// An order in words.
pub fn said(order: &Order, before: Stage, life: &Life) -> String {
    match order {
        Order::Traffic { share: None } => format!("traffic goes on by itself from {:.0} % of the slice", life.ramp.share * 100.0),
        Order::Traffic { .. } => format!("traffic {:.0} % of the slice, by hand", life.ramp.share * 100.0),
        Order::Decide { variant } => format!("{} -> {} for {variant}", before.as_str(), life.stage.as_str()),
        _ => format!("{} -> {}", before.as_str(), life.stage.as_str()),
    }
}

impl Running {
    /// What has not begun.
    pub(super) fn draft(config: &ExperimentConfig, now: Time) -> Result<Self, StartError> {
        let spec = experiment_spec(config);
        let experiment = Experiment::new(spec.clone())?;
        Ok(Self {
            config: config.clone(),
            spec,
            frozen: spec::frozen(config),
            life: Life::draft(now),
            snapshot: None,
            trial: Trial::new(&experiment).keeping_rows(),
            rows_bytes: 0,
            shared: None,
            unkept: Unkept { standing: true, ..Unkept::default() },
        })
    }

    /// Whether it is one of the proxy's own, on a route of an operator's that is to have an effect.
    pub(super) fn gives_way_to(&self, other: &Self) -> bool {
        let own = tuning::is_own(&self.spec.name) && !tuning::is_own(&other.spec.name) && self.snapshot.is_some();
        own && other.snapshot.is_some() && Claim::of(&self.spec, &self.config.routes).meets(&Claim::of(&other.spec, &other.config.routes))
    }

    pub(super) fn note(&mut self, at: Time, by: &'static str, what: String, reason: Option<String>) {
        self.unkept.notes.push(AuditLine { at, by: by.into(), what, reason });
    }

    /// Goes on where it stood, with the evidence there was.
    fn take_up(&mut self, kept: Standing, (folder, window): (&Folder, i64)) -> Result<(), StartError> {
        let changed = spec::changed(&kept.frozen, &self.frozen);
        if kept.life.stage != Stage::Draft && !changed.is_empty() {
            return Err(StartError::Frozen {
                experiment: self.spec.name.clone(),
                stage: kept.life.stage.as_str(),
                keys: changed.join(", "),
            });
        }
        self.life = kept.life;
        self.unkept.standing = false;
        if let Some((trial, rows_bytes, number)) = folder.evidence(&self.spec.name)? {
            let goes_on = self.life.stage == Stage::Running;
            // A fleet's evidence has whole windows only, and goes on; alone this instance lacks what it saw of the one that runs.
            let alone = number == 0 || self.shared.is_none();
            let trial = if goes_on && alone { trial.resume(window) } else { trial }.knowing(&self.life.off);
            self.rows_bytes = rows_bytes;
            self.trial = if self.shared.is_some() { trial } else { trial.keeping_rows() };
            if let Some(shared) = &mut self.shared {
                shared.know_evidence(number, self.life.started);
            }
        }
        if let Some(shared) = &mut self.shared {
            // What was switched off and not told before the restart stays off.
            shared.switched_off(&self.life.off);
            shared.collected.know(&self.life.off);
            self.trial.know(&self.life.off);
            self.trial.guard_at(FLEET_ALPHA);
        }
        if self.life.stage != Stage::Draft {
            tracing::info!(experiment = %self.spec.name, stage = self.life.stage.as_str(), "taken up where it stood before the restart");
        }
        self.renew()
    }

    /// Whether it can run beside the others.
    pub(super) fn fits<'a>(&self, others: impl Iterator<Item = &'a Self>) -> Result<(), StartError> {
        let mine = Claim::of(&self.spec, &self.config.routes);
        let mut running = others.filter(|other| other.snapshot.is_some());
        running.try_for_each(|other| spec::beside(&Claim::of(&other.spec, &other.config.routes), &mine))
    }
}

impl From<KeptError> for StartError {
    fn from(error: KeptError) -> Self {
        Self::Kept { reason: error.to_string() }
    }
}

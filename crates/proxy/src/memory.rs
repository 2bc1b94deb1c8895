//! Live statistics on disk: a restart forgets nothing, and the log can be repeated from the state in which a run began.
//!
//! `<log>/statistics/latest-<instance>.stats` is written at shutdown and every minute that brought something new; a run
//! starts from it and keeps the state it started from as `run-<id>.stats`. A file that is damaged, of another layout or of a
//! later time than the clock's is not used: the run starts empty, which is counted and said.
//!
//! Beside it stands `plans-<instance>.stats`, what routes know for the decision about their strategies, under the same conditions, and
//! `copies-<instance>.bin`: which copies there were, and how often providers were called. A run that starts without the
//! copies brings them back within the bound of a refill. `savings-<instance>.json` is the record of the saving (`proof`).

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use farthing_cache::SavedKey;
use farthing_contract::statistics::{FOLDER, KeyState, Saved, SavedError, SavedPlans, latest_file, plans_file, run_file};
use farthing_types::Time;

use crate::files;
use crate::pace::Losses;
use crate::state::State;

/// States at the start of runs that are kept; older ones go.
const RUNS_KEPT: usize = 16;

/// Why saved statistics were not used.
#[derive(Debug, thiserror::Error)]
enum Unused {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Bytes(#[from] SavedError),
    #[error("it is of a later time than the clock's")]
    Later,
}

/// The folder of a proxy's statistics.
pub struct Memory {
    dir: PathBuf,
    latest: PathBuf,
    plans: PathBuf,
    copies: PathBuf,
    /// The record of the saving.
    savings: PathBuf,
}

impl Memory {
    /// Below the log's folder, for an instance's name.
    pub fn new(log: &Path, instance: &str) -> Self {
        let dir = log.join(FOLDER);
        Self {
            latest: dir.join(latest_file(instance)),
            plans: dir.join(plans_file(instance)),
            copies: dir.join(format!("copies-{instance}.bin")),
            savings: dir.join(format!("savings-{instance}.json")),
            dir,
        }
    }

    /// What the run before left; nothing is left when there was none.
    fn load(&self, now: Time) -> Result<Option<Saved>, Unused> {
        let Some(bytes) = files::read(&self.latest)? else { return Ok(None) };
        let saved = Saved::decode(&bytes)?;
        if saved.at > now { Err(Unused::Later) } else { Ok(Some(saved)) }
    }

    /// What the run before knew for the decision about strategies; `Err` when there is a file that cannot be used.
    fn plans(&self, now: Time) -> Result<Option<SavedPlans>, Unused> {
        let Some(bytes) = files::read(&self.plans)? else { return Ok(None) };
        let saved = SavedPlans::decode(&bytes).ok_or(SavedError::Damaged)?;
        if saved.at > now { Err(Unused::Later) } else { Ok(Some(saved)) }
    }

    /// What the run before had; a file that cannot be read is one that is not there.
    fn losses(&self, now: Time) -> Option<Losses> {
        let losses = Losses::decode(&fs::read(&self.copies).ok()?)?;
        (losses.at <= now).then_some(losses)
    }

    /// Keeps the state from which `run` starts: the file that was loaded, or an empty one.
    fn begin(&self, run: u64, loaded: bool) -> io::Result<()> {
        fs::create_dir_all(&self.dir)?;
        let path = self.dir.join(run_file(run));
        // The latest file is replaced, never changed, so a second name for it keeps this state.
        if !(loaded && fs::hard_link(&self.latest, &path).is_ok()) {
            if loaded { fs::copy(&self.latest, &path).map(drop)? } else { files::write(&path, &Saved::default().encode())? }
        }
        self.prune(&path)
    }

    /// Removes the oldest states of runs beside the one of this run.
    fn prune(&self, own: &Path) -> io::Result<()> {
        let mut runs: Vec<(std::time::SystemTime, PathBuf)> = fs::read_dir(&self.dir)?
            .filter_map(Result::ok)
            .filter(|entry| entry.file_name().to_string_lossy().starts_with("run-"))
            .filter(|entry| entry.path() != own)
            .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
            .collect();
        runs.sort();
        let surplus = runs.len().saturating_sub(RUNS_KEPT - 1);
        runs.drain(..surplus).try_for_each(|(_, path)| fs::remove_file(path))
    }

    fn save(&self, saved: &Saved) -> io::Result<()> {
        files::write(&self.latest, &saved.encode())
    }

    fn save_plans(&self, plans: &SavedPlans) -> io::Result<()> {
        files::write(&self.plans, &plans.encode())
    }

    fn save_losses(&self, losses: &Losses) -> io::Result<()> {
        files::write(&self.copies, &losses.encode())
    }
}

impl State {
    /// Takes over what limits have given in the run before, and what it has learned; before the first request. Blocks on files.
    pub fn recall(&self) {
        self.recall_limits();
        let Some(memory) = &self.memory else { return };
        self.proof.recall(&memory.savings);
        if let Some(losses) = memory.losses(self.clock.now()) {
            self.expect(losses);
        }
        self.recall_plans(memory);
        let loaded = match memory.load(self.clock.now()) {
            Ok(loaded) => loaded,
            Err(reason) => {
                self.counters.statistics_refused.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(file = %memory.latest.display(), %reason, "saved statistics are not used: starting without");
                None
            }
        };
        if let Err(error) = memory.begin(self.stat_epoch, loaded.is_some()) {
            tracing::warn!(%error, "the state at the start is not kept: the features of this run cannot be recomputed");
        }
        let Some(saved) = loaded else { return };
        tracing::info!(keys = saved.keys.len(), routes = saved.routes.len(), "statistics of the run before are used");
        for (name, stats) in saved.routes {
            if let Some(route) = self.route_named(&name) {
                route.stats.lock().start_from(stats, route.route.stale_budget);
            }
        }
        for KeyState { key, place, stats } in saved.keys {
            self.cache.restore_key_stats(SavedKey { tag: key, place, stats });
        }
    }

    fn recall_plans(&self, memory: &Memory) {
        match memory.plans(self.clock.now()) {
            Ok(saved) => {
                for (name, stats) in saved.into_iter().flat_map(|saved| saved.routes) {
                    if let Some(route) = self.route_named(&name) {
                        route.planning.start_from(stats);
                    }
                }
            }
            Err(reason) => {
                self.counters.statistics_refused.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(file = %memory.plans.display(), %reason, "what routes knew for their strategies is not used: starting without");
            }
        }
    }

    /// Shares limits with the fleet, if there is one; before anything is recalled.
    pub fn join_limits(&self) {
        if let Some(fleet) = &self.fleet {
            self.live().limits.join(fleet, self.clock.now());
        }
    }

    /// Begins to tell the fleet of limits.
    pub fn start_limits(&self) {
        self.live().limits.start(self.clock.now());
    }

    /// Tells the fleet that nothing more of limits is used here.
    pub async fn leave_limits(&self) {
        let limits = self.live().limits.clone();
        limits.leave().await;
    }

    /// Takes over what limits have given in the run before. Blocks on a file.
    pub fn recall_limits(&self) {
        self.live().limits.recall(self.clock.now());
    }

    /// Writes down what limits have given. Blocks on a file.
    pub fn keep_limits(&self) {
        self.live().limits.keep(self.clock.now());
    }

    /// Saves the statistics when something entered since they were saved last. Blocks on files.
    pub fn remember(&self) {
        self.keep_audits();
        let Some(memory) = &self.memory else { return };
        if let Err(error) = self.proof.keep(&memory.savings) {
            tracing::warn!(file = %memory.savings.display(), %error, "the proof of the saving is not kept: a restart would begin it anew");
        }
        let live = self.live.load_full();
        let entered = live.routes.iter().map(|route| route.stats.lock().entered()).sum();
        if self.counters.statistics_saved.swap(entered, Ordering::Relaxed) == entered {
            return;
        }
        let routes = live.routes.iter().map(|route| (route.route.name.to_string(), route.stats.lock().stats.clone())).collect();
        let saved = Saved { run: self.stat_epoch, at: self.clock.now(), routes, keys: self.keys() };
        let plans = live.routes.iter().map(|route| (route.route.name.to_string(), route.planning.stats())).collect();
        let plans = SavedPlans { at: saved.at, routes: plans };
        let save = || memory.save(&saved).and_then(|()| memory.save_plans(&plans)).and_then(|()| memory.save_losses(&self.losses()));
        if let Err(error) = save() {
            self.counters.statistics_unsaved.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(file = %memory.latest.display(), %error, "statistics are not saved: a restart would forget them");
        }
    }

    /// What a start without the copies would lose.
    fn losses(&self) -> Losses {
        let at = self.clock.now();
        let rates = self.paces().into_iter().filter_map(|stats| Some((stats.provider.to_string(), stats.rate?))).collect();
        let mut losses = Losses { at, rates, capacity: self.cache.copies_capacity() as u64, copies: Vec::new() };
        self.cache.visit_copies(at, &mut |copy| losses.copies.push(copy));
        losses
    }

    /// Expects what the run before had: what is not there was lost.
    fn expect(&self, losses: Losses) {
        for route in &self.live().routes {
            if let Some((_, rate)) = losses.rates.iter().find(|(name, _)| **name == *route.provider.name) {
                route.pace.recall(*rate);
            }
        }
        if losses.capacity == self.cache.copies_capacity() as u64 {
            losses.copies.into_iter().for_each(|copy| self.cache.restore_copy(copy));
        }
    }

    /// Statistics of all keys, each once: where a key has an entry, the entry's.
    fn keys(&self) -> Vec<KeyState> {
        let (mut seen, mut keys) = (HashSet::new(), Vec::new());
        self.cache.visit_key_stats(&mut |SavedKey { tag, place, stats }| {
            if seen.insert((tag, place)) {
                keys.push(KeyState { key: tag, place, stats });
            }
        });
        keys
    }
}

/// [`State::remember`] off the runtime's threads.
pub async fn remember(state: &Arc<State>) {
    let state = state.clone();
    let _ = tokio::task::spawn_blocking(move || state.remember()).await;
}

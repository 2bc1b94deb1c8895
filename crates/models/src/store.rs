//! The store: versions on disk, and the generations that the aliases name.
//!
//! Everything here but [`Store::current`] reads files and builds sessions (milliseconds): call it off the request path.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use arc_swap::ArcSwap;
use farthing_contract::bundle::disk::{change_aliases, read_aliases};
use farthing_contract::bundle::{Alias, AliasState, Aliases, Bundle, BundleError, Check, Kind, Target};
use farthing_types::Time;
use parking_lot::Mutex;

use crate::count::{Counters, Counts};
use crate::generation::{Generation, TableReader, Tools};
use crate::{ModelsError, Runtime, read_table};

const KINDS: usize = Kind::ALL.len();
const ALIASES: usize = Alias::ALL.len();
/// A refused bundle is tried again after 1, 2, 4 ... polls, at most this many: it may only have been copied half.
const LONGEST_WAIT: u32 = 64;

/// How a store is opened.
pub struct StoreOptions {
    /// The native library; without it only tables can run.
    pub runtime: Option<Runtime>,
    /// Sessions per model: the number of worker threads.
    pub slots: usize,
    /// Reader of `table.bin`, [`read_table`] by default; without it tables are passed over.
    pub read_table: Option<TableReader>,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self { runtime: None, slots: 1, read_table: Some(read_table) }
    }
}

/// What one [`Store::poll`], promotion or rollback did to an alias.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The alias now names this version, and it decides.
    Moved {
        /// Kind.
        kind: Kind,
        /// Alias.
        alias: Alias,
        /// Version.
        version: u32,
    },
    /// The alias names nothing any more.
    Cleared {
        /// Kind.
        kind: Kind,
        /// Alias.
        alias: Alias,
    },
    /// What the alias file asks for was refused; what was live stays live.
    Refused {
        /// Kind.
        kind: Kind,
        /// Alias.
        alias: Alias,
        /// The version refused.
        version: u32,
        /// The whole message.
        problem: String,
    },
}

type Live = [[Option<Arc<Generation>>; ALIASES]; KINDS];

/// See the module.
pub struct Store {
    pub(crate) root: PathBuf,
    pub(crate) tools: Tools,
    live: ArcSwap<Live>,
    pub(crate) state: Mutex<State>,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) problems: BTreeMap<(Kind, Alias), Problem>,
    /// Why `aliases.json` could not be read at the last poll.
    pub(crate) file_problem: Option<String>,
}

/// A target that was refused, and when to try it again.
pub(crate) struct Problem {
    target: Target,
    pub(crate) text: String,
    polls_left: u32,
    wait: u32,
}

impl Store {
    /// Opens the store under `root` and loads what the aliases name. Never fails: what cannot be loaded is in [`Store::status`],
    /// and the proxy starts on tables and rules.
    pub fn open(root: impl Into<PathBuf>, options: StoreOptions) -> Self {
        let StoreOptions { runtime, slots, read_table } = options;
        let tools = Tools { runtime, slots: slots.max(1), read_table, counters: Arc::new(Counters::default()) };
        let store = Self { root: root.into(), tools, live: ArcSwap::default(), state: Mutex::default() };
        store.poll();
        store
    }

    /// The generation an alias names now; the one call of the request path. Wait-free; the caller holds the generation as long as it likes.
    pub fn current(&self, kind: Kind, alias: Alias) -> Option<Arc<Generation>> {
        self.live.load()[kind as usize][alias as usize].clone()
    }

    /// Root directory.
    pub fn root(&self) -> &Path {
        &self.root
    }
    /// Whether models (and not only tables) can run.
    pub fn has_runtime(&self) -> bool {
        self.tools.runtime.is_some()
    }
    /// Counts of generations.
    pub fn counts(&self) -> Counts {
        self.tools.counters.counts()
    }

    /// Reads, verifies, builds and warms a version without making it live.
    pub fn load(&self, kind: Kind, version: u32) -> Result<Arc<Generation>, ModelsError> {
        self.counted(self.read(kind, version, None)).map_err(Into::into)
    }

    /// Loads a version, then moves the alias to it, on disk and here. When anything fails, the old one stays.
    pub fn promote(&self, kind: Kind, version: u32, alias: Alias, now: Time) -> Result<Arc<Generation>, ModelsError> {
        let mut state = self.state.lock();
        let generation = self.counted(self.read(kind, version, None))?;
        let target = target_of(&generation);
        change_aliases(&self.root, |aliases| Ok(aliases.promote(kind, alias, target, now.nanos())))?;
        state.problems.remove(&(kind, alias));
        self.install(kind, alias, Some(Arc::clone(&generation)));
        Ok(generation)
    }

    /// Moves the alias back to the version it named before, after loading that. When anything fails, the present one stays.
    pub fn rollback(&self, kind: Kind, alias: Alias, now: Time) -> Result<Arc<Generation>, ModelsError> {
        let mut state = self.state.lock();
        let generation = change_aliases(&self.root, |aliases| {
            let target = aliases.rollback(kind, alias, now.nanos())?;
            self.counted(self.read(kind, target.version, Some(&target)))
        })?;
        state.problems.remove(&(kind, alias));
        self.install(kind, alias, Some(Arc::clone(&generation)));
        Ok(generation)
    }

    /// Takes the alias away from whatever it names, on disk and here.
    pub fn clear(&self, kind: Kind, alias: Alias) -> Result<(), ModelsError> {
        let mut state = self.state.lock();
        change_aliases(&self.root, |aliases| Ok(aliases.clear(kind, alias)))?;
        state.problems.remove(&(kind, alias));
        self.install(kind, alias, None);
        Ok(())
    }

    /// Follows `aliases.json` as others (the trainer, another instance, an operator) moved it. Call it every few seconds.
    pub fn poll(&self) -> Vec<Change> {
        let mut state = self.state.lock();
        let aliases = match read_aliases(&self.root) {
            Ok(aliases) => aliases,
            Err(error) => {
                let text = error.to_string();
                if state.file_problem.as_ref() != Some(&text) {
                    tracing::warn!(problem = text, "aliases unreadable, everything stays as it is");
                }
                state.file_problem = Some(text);
                return Vec::new();
            }
        };
        state.file_problem = None;
        let mut changes = Vec::new();
        for (kind, alias) in Kind::ALL.iter().flat_map(|kind| Alias::ALL.iter().map(move |alias| (*kind, *alias))) {
            changes.extend(self.follow(&mut state, (kind, alias), &aliases));
        }
        changes
    }

    fn follow(&self, state: &mut State, of: (Kind, Alias), aliases: &Aliases) -> Option<Change> {
        let (kind, alias) = of;
        let live = self.current(kind, alias);
        let Some(wanted) = aliases.get(kind, alias) else {
            state.problems.remove(&of);
            live?;
            self.install(kind, alias, None);
            return Some(Change::Cleared { kind, alias });
        };
        if live.as_ref().is_some_and(|generation| generation.is(kind, &wanted.current)) {
            state.problems.remove(&of);
            return None;
        }
        if state.problems.get_mut(&of).is_some_and(|problem| problem.not_yet(&wanted.current)) {
            return None;
        }
        match self.counted(self.read(kind, wanted.current.version, Some(&wanted.current))) {
            Ok(generation) => {
                state.problems.remove(&of);
                self.install(kind, alias, Some(generation));
                Some(Change::Moved { kind, alias, version: wanted.current.version })
            }
            Err(error) => {
                if live.is_none() {
                    self.stand_in(kind, alias, wanted);
                }
                Some(refusal(state, of, &wanted.current, &error))
            }
        }
    }

    /// Nothing is live and what is wanted cannot be: the latest earlier version that loads decides meanwhile.
    fn stand_in(&self, kind: Kind, alias: Alias, wanted: &AliasState) {
        let earlier = wanted.previous.iter().find_map(|target| self.read(kind, target.version, Some(target)).ok());
        if let Some(generation) = earlier {
            tracing::warn!(bundle = generation.manifest().name(), %alias, "an earlier version stands in");
            self.install(kind, alias, Some(generation));
        }
    }

    /// Reads and builds a version; `wanted` is what an alias was moved to. A generation that is live already is shared.
    fn read(&self, kind: Kind, version: u32, wanted: Option<&Target>) -> Result<Arc<Generation>, BundleError> {
        let bundle = Bundle::read(&self.root, kind, version)?;
        let found = bundle.target();
        if let Some(wanted) = wanted
            && *wanted != found
        {
            let detail = format!("digest {}, the alias was moved to {}", found.digest, wanted.digest);
            return Err(BundleError::refused(bundle.manifest.name(), Check::Digest, detail));
        }
        let live = self.live.load();
        let shared = live.iter().flatten().flatten().find(|generation| generation.is(kind, &found));
        shared.map_or_else(|| Generation::build(&bundle, &self.tools).map(Arc::new), |generation| Ok(Arc::clone(generation)))
    }

    fn counted<T>(&self, result: Result<T, BundleError>) -> Result<T, BundleError> {
        if result.is_err() {
            self.tools.counters.refused.fetch_add(1, Ordering::Relaxed);
        }
        result
    }

    /// Called with the state locked, so that no two changes overwrite each other.
    fn install(&self, kind: Kind, alias: Alias, generation: Option<Arc<Generation>>) {
        let mut live = Live::clone(&self.live.load());
        let place = &mut live[kind as usize][alias as usize];
        let same = match (&place, &generation) {
            (Some(old), Some(new)) => Arc::ptr_eq(old, new),
            (old, new) => old.is_none() && new.is_none(),
        };
        if same {
            return;
        }
        *place = generation;
        self.live.store(Arc::new(live));
        self.tools.counters.swaps.fetch_add(1, Ordering::Relaxed);
    }
}

impl Problem {
    /// Whether the same target shall wait for another poll.
    fn not_yet(&mut self, target: &Target) -> bool {
        let same = self.target == *target;
        if same && self.polls_left > 0 {
            self.polls_left -= 1;
            return true;
        }
        if !same {
            self.wait = 0;
        }
        false
    }
}

/// Notes a refusal and when to try again; says so in the log when it is news.
fn refusal(state: &mut State, of: (Kind, Alias), target: &Target, error: &BundleError) -> Change {
    let text = error.to_string();
    let before = state.problems.remove(&of);
    if before.as_ref().is_none_or(|problem| problem.text != text) {
        tracing::warn!(kind = %of.0, alias = %of.1, problem = text, "bundle refused, what was live stays live");
    }
    let wait = before.map_or(0, |problem| problem.wait.saturating_mul(2)).clamp(1, LONGEST_WAIT);
    let polls_left = wait - 1;
    state.problems.insert(of, Problem { target: target.clone(), text: text.clone(), polls_left, wait });
    Change::Refused { kind: of.0, alias: of.1, version: target.version, problem: text }
}

fn target_of(generation: &Generation) -> Target {
    Target { version: generation.version(), digest: generation.digest().to_string() }
}

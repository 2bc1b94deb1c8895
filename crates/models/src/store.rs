//! The store: versions on disk, and the generations that the aliases name.
//!
//! Everything here but [`Store::current`] reads files and builds sessions (milliseconds): call it off the request path.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use farthing_contract::bundle::disk::{append_history, history_path, read_aliases, read_history};
use farthing_contract::bundle::{
    ALIASES_FILE, Action, Alias, AliasState, Aliases, Bundle, BundleError, Check, Event, History, Kind, PublicKey, Target, signing,
};
use farthing_types::{Clock, RealClock, Span};
use parking_lot::Mutex;

use crate::count::{Counters, Counts};
use crate::generation::{Generation, TableReader, Tools};
use crate::mirror::Mirror;
use crate::{ModelsError, Remote, Runtime, read_table};

use farthing_contract::bundle::aliases::KEPT;

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
    /// A model that always takes longer is refused; `None`: none is.
    pub deadline: Option<Span>,
    /// File in which this instance remembers what it could not write into the store: a rollback needs no store to hold.
    pub own_history: Option<PathBuf>,
    /// Keys of which one must have signed a version before it may decide; none: nothing is asked for.
    pub trusted: Vec<PublicKey>,
    /// An object store that other instances share, which the folder is a mirror of; and the name of this instance there.
    pub remote: Option<(Arc<dyn Remote>, Arc<str>)>,
    /// Whether automation is frozen from the beginning: what the history names last decides, whatever others have put into the alias file.
    pub frozen: bool,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            runtime: None,
            slots: 1,
            read_table: Some(read_table),
            deadline: None,
            own_history: None,
            trusted: Vec::new(),
            remote: None,
            frozen: false,
        }
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
    pub(crate) own_history: Option<PathBuf>,
    trusted: Vec<PublicKey>,
    /// What the folder is a mirror of.
    pub(crate) mirror: Option<Mirror>,
    /// Versions that others put into the alias file are not followed.
    frozen: AtomicBool,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) problems: BTreeMap<(Kind, Alias), Problem>,
    /// Why `aliases.json` could not be read at the last poll.
    pub(crate) file_problem: Option<String>,
    /// Champions before this one, ready to decide again, latest first; at most [`KEPT`] for each kind.
    pub(crate) warm: BTreeMap<Kind, Vec<Arc<Generation>>>,
    /// Who moved what, in the store and by this instance alone.
    pub(crate) history: History,
    /// Rollbacks that the store does not know yet.
    pub(crate) untold: Vec<Event>,
    /// Length and time of the histories that were read last.
    read: [Option<(u64, SystemTime)>; 2],
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
        let StoreOptions { runtime, slots, read_table, deadline, own_history, remote, trusted, frozen } = options;
        let tools = Tools { runtime, slots: slots.max(1), read_table, deadline, counters: Arc::new(Counters::default()) };
        let (root, frozen): (PathBuf, _) = (root.into(), AtomicBool::new(frozen));
        let mirror = remote.map(|(remote, instance)| Mirror::new(root.clone(), remote, instance));
        let store = Self { root, tools, live: ArcSwap::default(), state: Mutex::default(), own_history, trusted, mirror, frozen };
        // What a run before could not tell is told by this one; what the store has learned since is passed over.
        let own = store.own_history.as_deref().and_then(|path| read_history(path).ok()).unwrap_or_default();
        store.state.lock().untold.extend(own.events().iter().filter(|event| event.action.rejects()).cloned());
        store.poll();
        store.warm_up();
        store
    }

    /// Loads the champions before the present ones, so that a rollback waits for no disk.
    fn warm_up(&self) {
        let mut state = self.state.lock();
        let Ok(aliases) = read_aliases(&self.root) else { return };
        for kind in Kind::ALL {
            let Some(live) = self.current(*kind, Alias::Champion) else { continue };
            let earlier = aliases.get(*kind, Alias::Champion).into_iter().flat_map(|named| &named.previous);
            let good = |target: &&Target| !live.is(*kind, target) && state.history.rejected(*kind, &target.digest).is_none();
            let warm = earlier.filter(good).filter_map(|target| self.read(*kind, target.version, Some(target)).ok());
            let warm: Vec<_> = warm.take(KEPT).collect();
            state.warm.insert(*kind, warm);
        }
    }

    /// Whether versions that others put into the alias file stay out until an operator of this store promotes them.
    pub fn freeze(&self, frozen: bool) {
        self.frozen.store(frozen, Ordering::Relaxed);
    }

    /// Whether they do.
    pub fn is_frozen(&self) -> bool {
        self.frozen.load(Ordering::Relaxed)
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
        self.bring(kind, version)?;
        self.counted(self.read(kind, version, None)).map_err(Into::into)
    }

    /// Follows `aliases.json` as others (the trainer, another instance, an operator) moved it. Call it every few seconds.
    pub fn poll(&self) -> Vec<Change> {
        // Before anything is locked that others wait for: it asks a server.
        self.mirror.iter().for_each(Mirror::pull);
        let changes = self.poll_here();
        self.mirror.iter().for_each(|mirror| mirror.tell(self.live_targets()));
        changes
    }

    fn poll_here(&self) -> Vec<Change> {
        let mut state = self.state.lock();
        self.reread(&mut state);
        self.tell_store(&mut state);
        let read = if self.is_gone() && self.runs_something() {
            Err(format!("{} is gone", self.root.join(ALIASES_FILE).display()))
        } else {
            read_aliases(&self.root).map_err(|error| error.to_string())
        };
        let aliases = match read {
            Ok(aliases) => aliases,
            Err(text) => {
                if state.file_problem.as_ref() != Some(&text) {
                    tracing::warn!(problem = text, "aliases unreadable, everything stays as it is");
                }
                state.file_problem = Some(text);
                self.remembered(&state);
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

    /// What the store and this instance know of changes.
    pub(crate) fn reread(&self, state: &mut State) {
        let shared = history_path(&self.root);
        let places = [Some(shared.as_path()), self.own_history.as_deref()];
        for (place, of) in places.into_iter().zip(0..).filter_map(|(place, of)| Some((place?, of))) {
            let stamp = std::fs::metadata(place).ok().and_then(|file| Some((file.len(), file.modified().ok()?)));
            let known: &mut Option<_> = &mut state.read[of];
            if stamp.is_none() || *known == stamp {
                continue;
            }
            // A file that cannot be read hides nothing that is known already.
            match read_history(place) {
                Ok(history) => {
                    *known = stamp;
                    if of == 0 { state.history.append(history) } else { state.history.insert(history) }
                }
                Err(error) => tracing::debug!(%error, "a history of predictors cannot be read"),
            }
        }
    }

    /// Whether there is no alias file: nothing was ever promoted, or the store cannot be reached.
    pub(crate) fn is_gone(&self) -> bool {
        !self.root.join(ALIASES_FILE).is_file()
    }

    pub(crate) fn runs_something(&self) -> bool {
        self.live.load().iter().flatten().any(Option::is_some)
    }

    /// The alias file cannot be read, and nothing is live: what was named last decides meanwhile.
    fn remembered(&self, state: &State) {
        for kind in Kind::ALL.iter().filter(|kind| self.current(**kind, Alias::Champion).is_none()) {
            let named = state.history.named(*kind, Alias::Champion);
            let good = named.iter().filter(|target| state.history.rejected(*kind, &target.digest).is_none());
            if let Some(generation) = good.take(KEPT + 1).find_map(|target| self.read(*kind, target.version, Some(target)).ok()) {
                tracing::warn!(bundle = generation.manifest().name(), "the alias file is unreadable; what it named last decides");
                self.live_only(*kind, Alias::Champion, Some(generation));
            }
        }
    }

    fn follow(&self, state: &mut State, of: (Kind, Alias), aliases: &Aliases) -> Option<Change> {
        let (kind, alias) = of;
        let live = self.current(kind, alias);
        let Some(wanted) = aliases.get(kind, alias) else {
            state.problems.remove(&of);
            live?;
            self.install(state, of, None);
            return Some(Change::Cleared { kind, alias });
        };
        if let Some(why) = self.held(state, of, (wanted, live.as_deref())) {
            if live.as_ref().is_none_or(|generation| state.history.rejected(kind, generation.digest()).is_some()) {
                self.stand_in(state, of, (wanted, false));
            }
            return why;
        }
        if live.as_ref().is_some_and(|generation| generation.is(kind, &wanted.current) && !generation.is_part()) {
            state.problems.remove(&of);
            return None;
        }
        if state.problems.get_mut(&of).is_some_and(|problem| problem.not_yet(&wanted.current)) {
            return None;
        }
        match self.counted(self.read(kind, wanted.current.version, Some(&wanted.current))) {
            Ok(generation) => {
                state.problems.remove(&of);
                self.note_move(state, of, (live.as_deref(), &wanted.current));
                self.install(state, of, Some(generation));
                Some(Change::Moved { kind, alias, version: wanted.current.version })
            }
            Err(error) => {
                if live.is_none() {
                    self.stand_in(state, of, (wanted, true));
                }
                Some(refusal(state, of, &wanted.current, &error.to_string()))
            }
        }
    }

    /// Whether what the file names stays out: it was rolled back, or automation is frozen and no operator asked for it.
    #[expect(clippy::option_option, reason = "held or not; and where it is, whether that is news")]
    fn held(&self, state: &mut State, of: (Kind, Alias), (wanted, live): (&AliasState, Option<&Generation>)) -> Option<Option<Change>> {
        let (kind, alias) = of;
        let why = if let Some(event) = state.history.rejected(kind, &wanted.current.digest) {
            rejection(&wanted.current, event)
        } else if self.frozen.load(Ordering::Relaxed) && self.is_news(state, of, (&wanted.current, live)) && !by_hand(state, of, wanted) {
            format!(
                "automation is frozen: {kind}/{} waits for `farthing freeze off`, or for `farthing models promote`",
                wanted.current.version
            )
        } else {
            return None;
        };
        let known = state.problems.get(&of).is_some_and(|problem| problem.text == why);
        Some((!known).then(|| refusal(state, (kind, alias), &wanted.current, &why)))
    }

    /// Whether the file names another version than decides; before anything does, than the history names last.
    fn is_news(&self, state: &State, (kind, alias): (Kind, Alias), (wanted, live): (&Target, Option<&Generation>)) -> bool {
        match live {
            Some(live) => !live.is(kind, wanted),
            None => state.history.named(kind, alias).first().is_some_and(|named| named != wanted),
        }
    }

    /// Writes down that somebody moved the file by other means than this store.
    fn note_move(&self, state: &mut State, (kind, alias): (Kind, Alias), (from, to): (Option<&Generation>, &Target)) {
        let Some(from) = from.filter(|_| state.history.named(kind, alias).first() != Some(to)) else { return };
        let event = Event {
            at_ns: RealClock::default().now().nanos(),
            kind,
            alias,
            action: Action::Follow,
            from: Some(target_of(from)),
            to: Some(to.clone()),
            by: "aliases.json".to_owned(),
            reason: "the alias file was moved".to_owned(),
            forced: false,
        };
        if let Err(error) = append_history(&history_path(&self.root), &event) {
            tracing::warn!(%error, "a move of an alias is not in the history");
        }
        state.history.push(&event);
    }

    /// What is wanted cannot be: the latest earlier champion that loads decides meanwhile; without one, what is sound of it beside the model,
    /// where it is `damaged` and not held. Nothing stands in for a candidate.
    fn stand_in(&self, state: &State, (kind, alias): (Kind, Alias), (wanted, damaged): (&AliasState, bool)) {
        if alias != Alias::Champion {
            return self.live_only(kind, alias, None);
        }
        let rejected = |digest: &str| state.history.rejected(kind, digest).is_some();
        let mut warm = state.warm.get(&kind).into_iter().flatten().filter(|generation| !rejected(generation.digest()));
        let mut earlier = wanted.previous.iter().filter(|target| !rejected(&target.digest));
        let earlier = || earlier.find_map(|target| self.read(kind, target.version, Some(target)).ok());
        let part = || damaged.then(|| self.read_part(kind, &wanted.current)).flatten();
        let generation = warm.next().cloned().or_else(earlier).or_else(part);
        match &generation {
            Some(generation) => {
                tracing::warn!(bundle = generation.manifest().name(), engine = generation.engine(), %alias, "another version stands in");
            }
            None => tracing::warn!(%kind, %alias, "nothing stands in: rules decide"),
        }
        self.live_only(kind, alias, generation);
    }

    /// The table of a version whose model is damaged.
    fn read_part(&self, kind: Kind, wanted: &Target) -> Option<Arc<Generation>> {
        let bundle = Bundle::read_without_model(&self.root, kind, wanted.version).ok().filter(|bundle| bundle.target() == *wanted)?;
        self.check_signed(kind, wanted.version, &bundle.digest).ok()?;
        Generation::build_part(&bundle, &self.tools).ok().map(Arc::new)
    }

    /// Reads and builds a version; `wanted` is what an alias was moved to. A generation that is live already is shared.
    pub(crate) fn read(&self, kind: Kind, version: u32, wanted: Option<&Target>) -> Result<Arc<Generation>, BundleError> {
        let bundle = Bundle::read(&self.root, kind, version)?;
        self.check_signed(kind, version, &bundle.digest)?;
        let found = bundle.target();
        if let Some(wanted) = wanted
            && *wanted != found
        {
            let detail = format!("digest {}, the alias was moved to {}", found.digest, wanted.digest);
            return Err(BundleError::refused(bundle.manifest.name(), Check::Digest, detail));
        }
        let live = self.live.load();
        let shared = live.iter().flatten().flatten().find(|generation| generation.is(kind, &found) && !generation.is_part());
        shared.map_or_else(|| Generation::build(&bundle, &self.tools).map(Arc::new), |generation| Ok(Arc::clone(generation)))
    }

    /// Whether one of the trusted keys has signed the version of this digest.
    pub(crate) fn check_signed(&self, kind: Kind, version: u32, digest: &str) -> Result<(), BundleError> {
        signing::check(&self.root, (kind, version), digest, &self.trusted)
    }

    pub(crate) fn counted<T>(&self, result: Result<T, BundleError>) -> Result<T, BundleError> {
        if result.is_err() {
            self.tools.counters.refused.fetch_add(1, Ordering::Relaxed);
        }
        result
    }

    /// Called with the state locked, so that no two changes overwrite each other. The champion that goes stays warm.
    pub(crate) fn install(&self, state: &mut State, (kind, alias): (Kind, Alias), generation: Option<Arc<Generation>>) {
        if alias == Alias::Champion {
            let left = self.current(kind, alias).filter(|left| !left.is_part());
            let warm = state.warm.entry(kind).or_default();
            let digest = generation.as_ref().map(|generation| generation.digest().clone());
            warm.retain(|kept| Some(kept.digest()) != digest.as_ref() && left.as_ref().is_none_or(|left| left.digest() != kept.digest()));
            warm.splice(0..0, left.filter(|left| Some(left.digest()) != digest.as_ref()));
            warm.retain(|kept| generation.is_some() && state.history.rejected(kind, kept.digest()).is_none());
            warm.truncate(KEPT);
        }
        self.live_only(kind, alias, generation);
    }

    /// Puts a generation in force, and nothing else.
    pub(crate) fn live_only(&self, kind: Kind, alias: Alias, generation: Option<Arc<Generation>>) {
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
fn refusal(state: &mut State, of: (Kind, Alias), target: &Target, error: &str) -> Change {
    let text = error.to_owned();
    let before = state.problems.remove(&of);
    if before.as_ref().is_none_or(|problem| problem.text != text) {
        tracing::warn!(kind = %of.0, alias = %of.1, problem = text, "bundle refused, what was live stays live");
    }
    let wait = before.map_or(0, |problem| problem.wait.saturating_mul(2)).clamp(1, LONGEST_WAIT);
    let polls_left = wait - 1;
    state.problems.insert(of, Problem { target: target.clone(), text: text.clone(), polls_left, wait });
    Change::Refused { kind: of.0, alias: of.1, version: target.version, problem: text }
}

/// Whether the last that is known of the alias is that somebody moved it there on purpose.
fn by_hand(state: &State, of: (Kind, Alias), wanted: &AliasState) -> bool {
    state.history.last_move(of.0, of.1).is_some_and(|event| event.to.as_ref() == Some(&wanted.current) && event.by.starts_with("operator"))
}

/// What is said of a version that was rolled back.
pub(crate) fn rejection(target: &Target, event: &Event) -> String {
    let Event { kind, by, reason, .. } = event;
    format!(
        "{kind}/{} was rolled back by {by} ({reason}); `farthing models promote {kind} {} --force` lets it in again",
        target.version, target.version
    )
}

pub(crate) fn target_of(generation: &Generation) -> Target {
    Target { version: generation.version(), digest: generation.digest().to_string() }
}

//! An object store that instances share: the folder of a store is a mirror of it.
//!
//! There lie the versions as on disk, and one object ([`Shared`]) with aliases and history. A version is brought here as a whole, checked against its
//! digests, before an alias is followed to it; what is ordered here is written there first, and only where nobody was quicker. While it cannot be reached what is here goes on.

mod bundles;
mod instances;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use farthing_contract::bundle::disk::{
    MAX_MANIFEST, append_history, change_aliases, history_path, read_aliases, read_history, write_atomic,
};
use farthing_contract::bundle::{ALIASES_FILE, Action, Alias, Aliases, BundleError, Event, Kind, SHARED_FILE, Shared, Target};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::{Got, Remote, When};

pub use instances::{Differing, Instance};

/// Beside the aliases: what of the store was mirrored last.
const MIRROR_FILE: &str = ".mirror.json";
/// How often an order is given again that others were quicker than.
const TRIES: u32 = 5;
/// Looks that are left out at most while the store cannot be reached.
const LONGEST_REST: u32 = 7;

/// `ttl/champion`.
pub fn place_of(kind: Kind, alias: Alias) -> String {
    format!("{kind}/{alias}")
}

/// Writes there what is about to be written here.
pub type Commit<'a> = dyn FnMut(&Aliases, Option<&Event>) -> Result<(), BundleError> + 'a;

/// What was known of the store last. The object's bytes are not kept: what they said is.
#[derive(Default)]
struct Known {
    tag: Option<String>,
    shared: Shared,
    /// Looks that are left out still.
    rest: u32,
    failures: u32,
    /// What this instance has said, and when.
    said: Option<(BTreeMap<String, Target>, i64)>,
}

#[derive(Serialize, Deserialize)]
struct Mirrored {
    tag: String,
    shared: String,
}

/// See the module. What is known is locked before the folder.
pub struct Mirror {
    remote: Arc<dyn Remote>,
    instance: Arc<str>,
    known: Mutex<Known>,
    /// What is wrong, for whoever asks meanwhile.
    problem: Mutex<Option<String>>,
    loaded: std::sync::Once,
}

impl Mirror {
    pub fn new(remote: Arc<dyn Remote>, instance: Arc<str>) -> Self {
        Self { remote, instance, known: Mutex::default(), problem: Mutex::default(), loaded: std::sync::Once::new() }
    }

    /// What is wrong; `None` while all is well.
    pub fn problem(&self) -> Option<String> {
        self.problem.lock().clone()
    }

    /// Takes over what the store says, unless it could not be reached lately.
    pub fn pull(&self, root: &Path) {
        let mut known = self.known.lock();
        self.loaded.call_once(|| self.remember(root, &mut known));
        if known.rest > 0 {
            known.rest -= 1;
            return;
        }
        let pulled = self.pull_now(root, &mut known);
        // That somebody was quicker is seen with the next look.
        self.note(&mut known, pulled.err().filter(|error| !matches!(error, BundleError::Moved { .. })));
    }

    fn note(&self, known: &mut Known, error: Option<BundleError>) {
        match &error {
            Some(BundleError::Io { .. }) => {
                known.failures = known.failures.saturating_add(1);
                known.rest = (1_u32 << known.failures.min(10)).saturating_sub(1).min(LONGEST_REST);
            }
            _ => known.failures = 0,
        }
        let text = error.map(|error| format!("{error}; what is here goes on"));
        let mut problem = self.problem.lock();
        if let Some(text) = text.as_ref().filter(|text| problem.as_ref() != Some(*text)) {
            tracing::warn!(problem = text, "the store of predictors");
        }
        *problem = text;
    }

    /// What was mirrored before the last end.
    fn remember(&self, root: &Path, known: &mut Known) {
        let Ok(bytes) = std::fs::read(root.join(MIRROR_FILE)) else { return };
        let Ok(mirrored) = serde_json::from_slice::<Mirrored>(&bytes) else { return };
        if let Ok(shared) = Shared::parse(&self.path(SHARED_FILE), mirrored.shared.as_bytes()) {
            (known.tag, known.shared) = (Some(mirrored.tag), shared);
        }
    }

    /// After what it tells of is in the folder: else a start would take what is there for a change that was made here.
    fn save(&self, root: &Path, known: &Known) -> Result<(), BundleError> {
        let Some(tag) = known.tag.clone() else { return Ok(()) };
        let shared = String::from_utf8(known.shared.to_bytes()?).unwrap_or_default();
        write_atomic(&root.join(MIRROR_FILE), &serde_json::to_vec(&Mirrored { tag, shared }).unwrap_or_default())
    }

    fn pull_now(&self, root: &Path, known: &mut Known) -> Result<(), BundleError> {
        match self.get(SHARED_FILE, MAX_MANIFEST, known.tag.as_deref())? {
            Got::Absent if known.tag.is_some() => {
                Err(self.away("it is gone: put it back, or remove .mirror.json here to make it anew".to_owned(), SHARED_FILE))
            }
            Got::Absent => self.seed(root, known),
            Got::Unchanged => self.unchanged(root, known),
            Got::Is { bytes, tag } => self.take(root, known, (Shared::parse(&self.path(SHARED_FILE), &bytes)?, tag)),
        }
    }

    /// Versions first, then the history, the aliases last.
    fn take(&self, root: &Path, known: &mut Known, (shared, tag): (Shared, String)) -> Result<(), BundleError> {
        let mut brought = self.bring_named(root, &shared.aliases);
        for (kind, _, state) in shared.aliases.iter() {
            brought = brought.and(self.bring_signatures(root, kind, &state.current));
        }
        for (kind, before) in shared.aliases.iter().flat_map(|(kind, _, state)| state.previous.iter().map(move |before| (kind, before))) {
            // What can be had of them: they are for going back.
            if let Err(error) = self.bring(root, kind, before) {
                tracing::debug!(%error, "an earlier version is not in the store");
            }
        }
        change_aliases(root, |aliases| {
            let path = history_path(root);
            let here = read_history(&path)?;
            shared.history.beyond(&here).iter().try_for_each(|event| append_history(&path, event))?;
            aliases.clone_from(&shared.aliases);
            Ok(())
        })?;
        (known.tag, known.shared) = (Some(tag), shared);
        self.save(root, known)?;
        brought
    }

    /// All versions that aliases name, as many as can be had.
    fn bring_named(&self, root: &Path, aliases: &Aliases) -> Result<(), BundleError> {
        let mut all = Ok(());
        for (kind, _, state) in aliases.iter() {
            // One that cannot be had holds up no other.
            all = all.and(self.bring(root, kind, &state.current));
        }
        all
    }

    /// The first instance brings what it has.
    fn seed(&self, root: &Path, known: &mut Known) -> Result<(), BundleError> {
        let aliases = read_aliases(root)?;
        if aliases == Aliases::default() {
            return Ok(());
        }
        self.push_own(root, known, &aliases)
    }

    /// Nobody there has moved anything: whoever has here, such as a trainer beside us, is told of.
    fn unchanged(&self, root: &Path, known: &mut Known) -> Result<(), BundleError> {
        if !root.join(ALIASES_FILE).is_file() {
            // That a folder was emptied is no order to the others.
            change_aliases(root, |aliases| {
                aliases.clone_from(&known.shared.aliases);
                Ok(())
            })?;
        }
        let here = read_aliases(root)?;
        if here != known.shared.aliases {
            return self.push_own(root, known, &here);
        }
        self.bring_named(root, &known.shared.aliases)
    }

    fn push_own(&self, root: &Path, known: &mut Known, aliases: &Aliases) -> Result<(), BundleError> {
        let here = read_history(&history_path(root))?;
        // That this instance has followed others is its own affair.
        let events: Vec<Event> = here.beyond(&known.shared.history).into_iter().filter(|event| event.action != Action::Follow).collect();
        self.commit(root, known, aliases, &events)?;
        self.save(root, known)
    }

    /// Writes aliases and events there, unless another instance was quicker; new versions before that.
    fn commit(&self, root: &Path, known: &mut Known, aliases: &Aliases, events: &[Event]) -> Result<(), BundleError> {
        for (kind, alias, state) in aliases.iter() {
            let there = known.shared.aliases.get(kind, alias);
            if there.is_none_or(|named| named.current != state.current) {
                self.push(root, kind, &state.current)?;
            }
            if there.is_none() {
                // What is still here of those before, so that everybody can go back.
                state.previous.iter().for_each(|before| drop(self.push(root, kind, before)));
            }
        }
        let mut shared = Shared { aliases: aliases.clone(), history: known.shared.history.clone() };
        events.iter().for_each(|event| shared.history.push(event));
        let when = known.tag.as_deref().map_or(When::Absent, When::Is);
        let bytes = shared.to_bytes()?;
        // As others read it: without what is too old.
        let shared = Shared::parse(&self.path(SHARED_FILE), &bytes)?;
        match self.put(SHARED_FILE, bytes, when)? {
            Some(tag) => {
                (known.tag, known.shared) = (Some(tag), shared);
                Ok(())
            }
            None => Err(BundleError::Moved { what: self.remote.name() }),
        }
    }

    /// Gives an order: `here` changes the folder and calls what it is given just before.
    pub fn change<T>(
        &self,
        root: &Path,
        (kind, alias): (Kind, Alias),
        here: impl Fn(&mut Commit<'_>) -> Result<T, BundleError>,
    ) -> Result<T, BundleError> {
        let mut known = self.known.lock();
        self.loaded.call_once(|| self.remember(root, &mut known));
        if known.rest > 0 {
            return Err(self.away("not reached lately; it is tried again within seconds".to_owned(), SHARED_FILE));
        }
        self.pull_for_order(root, &mut known)?;
        for _ in 0..TRIES {
            let seen = known.shared.aliases.get(kind, alias).cloned();
            let mut there = false;
            let done = here(&mut |aliases, event| {
                self.commit(root, &mut known, aliases, event.map(std::slice::from_ref).unwrap_or_default())?;
                there = true;
                Ok(())
            });
            match done {
                Err(BundleError::Moved { .. }) => {
                    self.pull_for_order(root, &mut known)?;
                    if known.shared.aliases.get(kind, alias) != seen.as_ref() {
                        return Err(BundleError::Moved { what: format!("{kind} {alias}") });
                    }
                }
                Err(error) => {
                    // What is there and not here comes with the next look.
                    known.tag = known.tag.take().filter(|_| !there);
                    if matches!(error, BundleError::Io { .. }) && !there {
                        self.note(&mut known, Some(self.away(error.to_string(), SHARED_FILE)));
                    }
                    return Err(error);
                }
                Ok(done) => {
                    if let Err(error) = self.save(root, &known) {
                        tracing::warn!(%error, "what was mirrored is not written down: a start takes over what the store says");
                    }
                    return Ok(done);
                }
            }
        }
        Err(BundleError::Moved { what: format!("{kind} {alias}") })
    }

    /// An order is given on what is there now. What is wrong with single versions does not hold it up.
    fn pull_for_order(&self, root: &Path, known: &mut Known) -> Result<(), BundleError> {
        match self.pull_now(root, known) {
            Err(error @ (BundleError::Io { .. } | BundleError::Aliases { .. })) => {
                let again = self.away(error.to_string(), SHARED_FILE);
                self.note(known, Some(again));
                Err(error)
            }
            Err(error) => {
                tracing::debug!(%error, "the store of predictors");
                Ok(())
            }
            Ok(()) => {
                self.note(known, None);
                Ok(())
            }
        }
    }

    fn get(&self, object: &str, most: u64, unless: Option<&str>) -> Result<Got, BundleError> {
        self.remote.get(object, most, unless).map_err(|why| self.away(why, object))
    }

    fn put(&self, object: &str, bytes: Vec<u8>, when: When<'_>) -> Result<Option<String>, BundleError> {
        self.remote.put(object, bytes, when).map_err(|why| self.away(why, object))
    }

    fn path(&self, object: &str) -> PathBuf {
        format!("{}/{object}", self.remote.name()).into()
    }

    fn away(&self, why: String, object: &str) -> BundleError {
        BundleError::Io { path: self.path(object), source: std::io::Error::other(why) }
    }
}

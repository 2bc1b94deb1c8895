//! An object store that instances share: the folder of a store is a mirror of it.
//!
//! There lie the versions as on disk, and one object ([`Shared`]) with aliases and history. A version is brought here as a whole, checked against its
//! digests, before an alias is followed to it; what is ordered here is written there first, and only where nobody was quicker. While it cannot be reached what is here goes on.

mod bundles;
mod instances;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use farthing_contract::bundle::disk::{
    MAX_MANIFEST, append_history, change_aliases, history_path, read_aliases, read_history, write_atomic,
};
use farthing_contract::bundle::{ALIASES_FILE, Action, Alias, Aliases, BundleError, Event, Kind, SHARED_FILE, Shared, Target};
use farthing_types::Time;
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
    said: Option<(BTreeMap<String, Target>, Time)>,
}

#[derive(Serialize, Deserialize)]
struct Mirrored {
    tag: String,
    shared: String,
}

/// See the module. What is known is locked before the folder.
pub struct Mirror {
    /// The folder.
    root: PathBuf,
    remote: Arc<dyn Remote>,
    instance: Arc<str>,
    known: Mutex<Known>,
    /// What is wrong, for whoever asks meanwhile.
    problem: Mutex<Option<String>>,
}

impl Mirror {
    /// Of the folder `root`, in an instance of this name; goes on where the last run has ended.
    pub fn new(root: PathBuf, remote: Arc<dyn Remote>, instance: Arc<str>) -> Self {
        let mirror = Self { root, remote, instance, known: Mutex::default(), problem: Mutex::default() };
        *mirror.known.lock() = mirror.remembered().unwrap_or_default();
        mirror
    }

    /// What is wrong; `None` while all is well.
    pub fn problem(&self) -> Option<String> {
        self.problem.lock().clone()
    }

    /// Takes over what the store says, unless it could not be reached lately.
    pub fn pull(&self) {
        let mut known = self.known.lock();
        if known.rest > 0 {
            known.rest -= 1;
            return;
        }
        let pulled = self.pull_now(&mut known);
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
    fn remembered(&self) -> Option<Known> {
        let bytes = std::fs::read(self.root.join(MIRROR_FILE)).ok()?;
        let mirrored: Mirrored = serde_json::from_slice(&bytes).ok()?;
        let shared = Shared::parse(&self.path(SHARED_FILE), mirrored.shared.as_bytes()).ok()?;
        Some(Known { tag: Some(mirrored.tag), shared, ..Known::default() })
    }

    /// After what it tells of is in the folder: else a start would take what is there for a change that was made here.
    fn save(&self, known: &Known) -> Result<(), BundleError> {
        let Some(tag) = known.tag.clone() else { return Ok(()) };
        let shared = String::from_utf8(known.shared.to_bytes()?).unwrap_or_default();
        write_atomic(&self.root.join(MIRROR_FILE), &serde_json::to_vec(&Mirrored { tag, shared }).unwrap_or_default())
    }

    fn pull_now(&self, known: &mut Known) -> Result<(), BundleError> {
        match self.get(SHARED_FILE, MAX_MANIFEST, known.tag.as_deref())? {
            Got::Absent if known.tag.is_some() => {
                Err(self.away("it is gone: put it back, or remove .mirror.json here to make it anew".to_owned(), SHARED_FILE))
            }
            Got::Absent => self.seed(known),
            Got::Unchanged => self.unchanged(known),
            Got::Is { bytes, tag } => self.take(known, (Shared::parse(&self.path(SHARED_FILE), &bytes)?, tag)),
        }
    }

    /// Versions first, then the history, the aliases last.
    fn take(&self, known: &mut Known, (shared, tag): (Shared, String)) -> Result<(), BundleError> {
        let mut brought = self.bring_named(&shared.aliases);
        for (kind, _, state) in shared.aliases.iter() {
            brought = brought.and(self.bring_signatures(kind, &state.current));
        }
        for (kind, before) in shared.aliases.iter().flat_map(|(kind, _, state)| state.previous.iter().map(move |before| (kind, before))) {
            // What can be had of them: they are for going back.
            if let Err(error) = self.bring(kind, before) {
                tracing::debug!(%error, "an earlier version is not in the store");
            }
        }
        change_aliases(&self.root, |aliases| {
            let path = history_path(&self.root);
            let here = read_history(&path)?;
            shared.history.beyond(&here).iter().try_for_each(|event| append_history(&path, event))?;
            aliases.clone_from(&shared.aliases);
            Ok(())
        })?;
        (known.tag, known.shared) = (Some(tag), shared);
        self.save(known)?;
        brought
    }

    /// All versions that aliases name, as many as can be had.
    fn bring_named(&self, aliases: &Aliases) -> Result<(), BundleError> {
        let mut all = Ok(());
        for (kind, _, state) in aliases.iter() {
            // One that cannot be had holds up no other.
            all = all.and(self.bring(kind, &state.current));
        }
        all
    }

    /// The first instance brings what it has.
    fn seed(&self, known: &mut Known) -> Result<(), BundleError> {
        let aliases = read_aliases(&self.root)?;
        if aliases == Aliases::default() {
            return Ok(());
        }
        self.push_own(known, &aliases)
    }

    /// Nobody there has moved anything: whoever has here, such as a trainer beside us, is told of.
    fn unchanged(&self, known: &mut Known) -> Result<(), BundleError> {
        if !self.root.join(ALIASES_FILE).is_file() {
            // That a folder was emptied is no order to the others.
            change_aliases(&self.root, |aliases| {
                aliases.clone_from(&known.shared.aliases);
                Ok(())
            })?;
        }
        let here = read_aliases(&self.root)?;
        if here != known.shared.aliases {
            return self.push_own(known, &here);
        }
        self.bring_named(&known.shared.aliases)
    }

    fn push_own(&self, known: &mut Known, aliases: &Aliases) -> Result<(), BundleError> {
        let here = read_history(&history_path(&self.root))?;
        // That this instance has followed others is its own affair.
        let events: Vec<Event> = here.beyond(&known.shared.history).into_iter().filter(|event| event.action != Action::Follow).collect();
        self.commit(known, aliases, &events)?;
        self.save(known)
    }

    /// Writes aliases and events there, unless another instance was quicker; new versions before that.
    fn commit(&self, known: &mut Known, aliases: &Aliases, events: &[Event]) -> Result<(), BundleError> {
        for (kind, alias, state) in aliases.iter() {
            let there = known.shared.aliases.get(kind, alias);
            if there.is_none_or(|named| named.current != state.current) {
                self.push(kind, &state.current)?;
            }
            if there.is_none() {
                // What is still here of those before, so that everybody can go back.
                state.previous.iter().for_each(|before| drop(self.push(kind, before)));
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
        (kind, alias): (Kind, Alias),
        here: impl Fn(&mut Commit<'_>) -> Result<T, BundleError>,
    ) -> Result<T, BundleError> {
        let mut known = self.known.lock();
        if known.rest > 0 {
            return Err(self.away("not reached lately; it is tried again within seconds".to_owned(), SHARED_FILE));
        }
        self.pull_for_order(&mut known)?;
        for _ in 0..TRIES {
            let seen = known.shared.aliases.get(kind, alias).cloned();
            let mut there = false;
            let done = here(&mut |aliases, event| {
                self.commit(&mut known, aliases, event.map(std::slice::from_ref).unwrap_or_default())?;
                there = true;
                Ok(())
            });
            match done {
                Err(BundleError::Moved { .. }) => {
                    self.pull_for_order(&mut known)?;
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
                    if let Err(error) = self.save(&known) {
                        tracing::warn!(%error, "what was mirrored is not written down: a start takes over what the store says");
                    }
                    return Ok(done);
                }
            }
        }
        Err(BundleError::Moved { what: format!("{kind} {alias}") })
    }

    /// An order is given on what is there now. What is wrong with single versions does not hold it up.
    fn pull_for_order(&self, known: &mut Known) -> Result<(), BundleError> {
        match self.pull_now(known) {
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

    /// All of an object; `None` where there is none.
    fn whole(&self, object: &str, most: u64) -> Result<Option<Vec<u8>>, BundleError> {
        Ok(match self.get(object, most, None)? {
            Got::Is { bytes, .. } => Some(bytes),
            Got::Absent | Got::Unchanged => None,
        })
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

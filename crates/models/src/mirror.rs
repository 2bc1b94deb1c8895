//! An object store that instances share: the folder of a store is a mirror of it.
//!
//! There lie the versions as on disk, and one object ([`Shared`]) with aliases and history. A version is brought here as a whole, checked against its
//! digests, before an alias is followed to it; what is ordered here is written there first, and only where nobody was quicker. While it cannot be reached what is here goes on.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use farthing_contract::bundle::disk::{
    MAX_FILES, MAX_MANIFEST, append_history, change_aliases, history_path, place, read_aliases, read_history, sha256, version_dir,
    write_atomic,
};
use farthing_contract::bundle::{
    ALIASES_FILE, Action, Alias, Aliases, Bundle, BundleError, Check, Event, Kind, MANIFEST_FILE, Manifest, SHARED_FILE, Shared, Target,
};
use farthing_types::{Clock, RealClock, Span};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

/// Beside the aliases: what of the store was mirrored last.
const MIRROR_FILE: &str = ".mirror.json";
/// Where instances say what decides in them.
const INSTANCES: &str = "instances";
/// Most bytes of what one says.
const MAX_INSTANCE: u64 = 64 << 10;
/// Instances that are listed at most.
const MAX_INSTANCES: usize = 1_000;
/// How often an order is given again that others were quicker than.
const TRIES: u32 = 5;
/// Looks that are left out at most while the store cannot be reached.
const LONGEST_REST: u32 = 7;
/// An instance says anew what decides in it, also when nothing has changed.
const SAID_AGAIN: Span = Span::from_secs(30);
/// One that has said nothing for so long is no more.
const GONE: Span = Span::from_secs(7 * 86_400);

/// What an object is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Got {
    /// There is none.
    Absent,
    /// It is the one that was known.
    Unchanged,
    /// It is this.
    Is {
        /// All of it.
        bytes: Vec<u8>,
        /// Changes with it.
        tag: String,
    },
}

/// On what condition an object is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When<'a> {
    /// In any case.
    Always,
    /// There is none.
    Absent,
    /// It still has this tag.
    Is(&'a str),
}

/// Objects by name, below one prefix. All of it blocks, within a deadline; errors say what was wrong, without credentials.
pub trait Remote: Send + Sync {
    /// `s3://bucket/prefix`.
    fn name(&self) -> String;

    /// An object of at most `most` bytes, unless it is the one known by a tag.
    ///
    /// # Errors
    /// The store cannot be reached, or refuses; a longer object.
    fn get(&self, object: &str, most: u64, unless: Option<&str>) -> Result<Got, String>;

    /// Writes an object as a whole; its tag, or `None` when the condition does not hold.
    ///
    /// # Errors
    /// The store cannot be reached, or refuses. The object may be written all the same.
    fn put(&self, object: &str, bytes: Vec<u8>, when: When<'_>) -> Result<Option<String>, String>;

    /// Names of the objects in a folder and below.
    ///
    /// # Errors
    /// The store cannot be reached, or refuses.
    fn list(&self, folder: &str) -> Result<Vec<String>, String>;

    /// Removes an object.
    ///
    /// # Errors
    /// The store cannot be reached, or refuses.
    fn remove(&self, object: &str) -> Result<(), String>;
}

/// What decides in an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// Its name.
    pub name: String,
    /// When it said so, ns since the epoch.
    pub said_ns: i64,
    /// By `kind/alias`.
    pub live: BTreeMap<String, Target>,
}

/// An alias that an instance does not follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Differing {
    /// `kind/alias`.
    pub place: String,
    /// What the alias names.
    pub wanted: Option<Target>,
    /// What decides there.
    pub live: Option<Target>,
}

impl Instance {
    /// The aliases that it does not follow.
    pub fn differs(&self, aliases: &Aliases) -> Vec<Differing> {
        let wanted: BTreeMap<String, Target> =
            aliases.iter().map(|(kind, alias, state)| (place_of(kind, alias), state.current.clone())).collect();
        let places: std::collections::BTreeSet<&String> = wanted.keys().chain(self.live.keys()).collect();
        let differing = places.into_iter().filter(|place| wanted.get(*place) != self.live.get(*place));
        differing
            .map(|place| Differing { place: place.clone(), wanted: wanted.get(place).cloned(), live: self.live.get(place).cloned() })
            .collect()
    }
}

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
        let brought = self.bring_named(root, &shared.aliases);
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
        aliases.iter().fold(Ok(()), |all, (kind, _, state)| all.and(self.bring(root, kind, &state.current)))
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

    /// Brings a version here, if the store has it and the folder does not.
    pub fn bring_version(&self, root: &Path, kind: Kind, version: u32) -> Result<(), BundleError> {
        if version_dir(root, kind, version).is_dir() {
            return Ok(());
        }
        match self.get(&object(kind, version, MANIFEST_FILE), MAX_MANIFEST, None)? {
            Got::Is { bytes, .. } => self.fetch(root, (kind, version), bytes),
            Got::Absent | Got::Unchanged => Ok(()),
        }
    }

    /// Has the store have a version before an order is given, so that the order itself is short.
    pub fn offer(&self, root: &Path, kind: Kind, version: u32) -> Result<(), BundleError> {
        let (_, digest, _) = Bundle::read_manifest(root, kind, version)?;
        self.push(root, kind, &Target { version, digest })
    }

    fn bring(&self, root: &Path, kind: Kind, target: &Target) -> Result<(), BundleError> {
        // Another bundle under the number here is told by whoever loads it.
        if version_dir(root, kind, target.version).is_dir() {
            return Ok(());
        }
        let name = format!("{kind}/{}", target.version);
        let manifest = self.get(&object(kind, target.version, MANIFEST_FILE), MAX_MANIFEST, None)?;
        let Got::Is { bytes, .. } = manifest else {
            return Err(BundleError::refused(name, Check::Manifest, format!("{} has none", self.remote.name())));
        };
        let found = sha256(&bytes);
        if found != target.digest {
            let detail = format!("digest {found} in {}, the alias was moved to {}", self.remote.name(), target.digest);
            return Err(BundleError::refused(name, Check::Digest, detail));
        }
        self.fetch(root, (kind, target.version), bytes)
    }

    /// Gets the files of a manifest, checks them, and puts all of it into its place.
    fn fetch(&self, root: &Path, (kind, version): (Kind, u32), manifest_bytes: Vec<u8>) -> Result<(), BundleError> {
        let name = format!("{kind}/{version}");
        let refused = |check, detail: String| BundleError::refused(name.clone(), check, detail);
        let manifest = Manifest::parse(&name, &manifest_bytes)?;
        if (manifest.kind, manifest.version) != (kind, version) {
            return Err(refused(Check::Place, format!("the manifest is of {}", manifest.name())));
        }
        manifest.check()?;
        let total = manifest.files.values().fold(0_u64, |sum, file| sum.saturating_add(file.bytes));
        if total > MAX_FILES {
            return Err(refused(Check::Files, format!("{total} bytes in all, at most {MAX_FILES} are read")));
        }
        let mut files = Vec::new();
        for (file, wanted) in &manifest.files {
            let object = object(kind, version, file);
            let Got::Is { bytes, .. } = self.get(&object, wanted.bytes, None)? else {
                return Err(refused(Check::Files, format!("{}/{object} is not there", self.remote.name())));
            };
            if bytes.len() as u64 != wanted.bytes || sha256(&bytes) != wanted.sha256 {
                return Err(refused(Check::Files, format!("{}/{object} is not what the manifest says", self.remote.name())));
            }
            files.push((file.clone(), bytes));
        }
        files.push((MANIFEST_FILE.to_owned(), manifest_bytes));
        place(root, (kind, version), &files)?;
        tracing::info!(bundle = name, from = self.remote.name(), "a version was brought here");
        Ok(())
    }

    /// Has the store have a version: its files, and the manifest last.
    fn push(&self, root: &Path, kind: Kind, target: &Target) -> Result<(), BundleError> {
        let manifest = object(kind, target.version, MANIFEST_FILE);
        let name = format!("{kind}/{}", target.version);
        let other = |what: String| BundleError::refused(name.clone(), Check::Digest, format!("{what}: give this one another number"));
        if let Got::Is { bytes, .. } = self.get(&manifest, MAX_MANIFEST, None)? {
            let same = sha256(&bytes) == target.digest;
            return if same { Ok(()) } else { Err(other(format!("{} has another {name}", self.remote.name()))) };
        }
        let bundle = Bundle::read(root, kind, target.version)?;
        if bundle.digest != target.digest {
            return Err(BundleError::refused(name, Check::Digest, "it is not the one that the alias was moved to"));
        }
        for file in bundle.manifest.files.keys() {
            let (place, bytes) = (object(kind, target.version, file), bundle.file(file).unwrap_or_default());
            if self.put(&place, bytes.to_vec(), When::Absent)?.is_none() {
                // What is left of an upload that broke off may be the same file.
                let there = self.get(&place, bytes.len() as u64, None);
                if !matches!(there, Ok(Got::Is { bytes: ref known, .. }) if known == bytes) {
                    return Err(other(format!("{}/{place} is there and another file", self.remote.name())));
                }
            }
        }
        let path = bundle.dir.join(MANIFEST_FILE);
        let bytes = std::fs::read(&path).map_err(|source| BundleError::Io { path, source })?;
        if sha256(&bytes) != target.digest || self.put(&manifest, bytes, When::Absent)?.is_none() {
            return Err(other(format!("{} has got another {name} meanwhile", self.remote.name())));
        }
        Ok(())
    }

    /// Versions that are in the store.
    pub fn versions(&self, kind: Kind) -> Result<Vec<u32>, BundleError> {
        let folder = kind.to_string();
        let names = self.remote.list(&folder).map_err(|why| self.away(why, &folder))?;
        let version =
            |name: &String| name.strip_prefix(&folder)?.strip_prefix('/')?.strip_suffix(MANIFEST_FILE)?.strip_suffix('/')?.parse().ok();
        Ok(names.iter().filter_map(version).collect())
    }

    /// Says what decides here, for whoever asks which instances follow. That it could not be said is no harm to anybody.
    pub fn tell(&self, live: BTreeMap<String, Target>) {
        let mut known = self.known.lock();
        let now = RealClock::default().now().nanos();
        let again = i64::try_from(SAID_AGAIN.as_nanos()).unwrap_or(i64::MAX);
        let fresh = known.said.as_ref().is_some_and(|(said, at)| *said == live && now.saturating_sub(*at) < again);
        if fresh || known.rest > 0 {
            return;
        }
        let instance = Instance { name: self.instance.to_string(), said_ns: now, live: live.clone() };
        let bytes = serde_json::to_vec(&instance).unwrap_or_default();
        match self.put(&format!("{INSTANCES}/{}.json", self.instance), bytes, When::Always) {
            Ok(_) => known.said = Some((live, now)),
            Err(error) => tracing::debug!(%error, "what decides here could not be told"),
        }
    }

    /// What all instances have said; of those that have said nothing for a week nothing is kept.
    pub fn instances(&self) -> Result<Vec<Instance>, BundleError> {
        let names = self.remote.list(INSTANCES).map_err(|why| self.away(why, INSTANCES))?;
        let now = RealClock::default().now().nanos();
        let gone = i64::try_from(GONE.as_nanos()).unwrap_or(i64::MAX);
        let mut all = Vec::new();
        for name in names.iter().take(MAX_INSTANCES) {
            let Got::Is { bytes, .. } = self.get(name, MAX_INSTANCE, None)? else { continue };
            let Ok(instance) = serde_json::from_slice::<Instance>(&bytes) else { continue };
            if now.saturating_sub(instance.said_ns) < gone {
                all.push(instance);
            } else if let Err(why) = self.remote.remove(name) {
                tracing::debug!(why, "an instance that is no more is still listed");
            }
        }
        Ok(all)
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

/// `ttl/3/model.onnx`.
fn object(kind: Kind, version: u32, file: &str) -> String {
    format!("{kind}/{version}/{file}")
}

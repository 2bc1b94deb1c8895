//! What the command line, the admin API and `/readyz` show of a store.

use std::collections::BTreeMap;
use std::path::PathBuf;

use farthing_contract::bundle::disk::{read_aliases, versions};
use farthing_contract::bundle::{Alias, Aliases, Bundle, Event, Kind, Manifest, Target};
use farthing_types::Span;
use serde::Serialize;

use crate::store::Store;
use crate::{Counts, Differing, Generation, Instance, ModelsError};

/// How long a question waits for an order that is being carried out.
const PATIENCE: Span = Span::from_millis(100);

/// One version on disk.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct VersionInfo {
    /// Kind.
    pub kind: Kind,
    /// Version.
    pub version: u32,
    /// Digest, if the manifest can be read.
    pub digest: Option<String>,
    /// Aliases that name it.
    pub aliases: Vec<Alias>,
    /// Whether it decides in this process now.
    pub live: bool,
    /// When it was written, ns since the epoch.
    pub created_ns: Option<i64>,
    /// Rows it was trained on.
    pub rows: Option<u64>,
    /// Figures of the held-out time range.
    pub metrics: BTreeMap<String, f64>,
    /// Why it could not be read, or may not decide: nobody who is trusted has signed it.
    pub problem: Option<String>,
    /// Why it must not be promoted again unless forced: it was rolled back.
    pub rejected: Option<String>,
}

impl VersionInfo {
    /// One of which nothing more is known.
    const fn of(kind: Kind, version: u32) -> Self {
        Self {
            kind,
            version,
            digest: None,
            aliases: Vec::new(),
            live: false,
            created_ns: None,
            rows: None,
            metrics: BTreeMap::new(),
            problem: None,
            rejected: None,
        }
    }
}

/// One alias.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AliasInfo {
    /// Kind.
    pub kind: Kind,
    /// Alias.
    pub alias: Alias,
    /// What `aliases.json` names.
    pub wanted: Option<Target>,
    /// The version that is live.
    pub live: Option<u32>,
    /// Its digest.
    pub digest: Option<String>,
    /// What runs of it: `model`, `table`.
    pub engine: Option<&'static str>,
    /// Why the wanted version is not live.
    pub problem: Option<String>,
}

/// The whole store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Status {
    /// The native library, if it is loaded.
    pub library: Option<PathBuf>,
    /// Aliases that name something or decide.
    pub aliases: Vec<AliasInfo>,
    /// Why `aliases.json` cannot be read, or what is wrong with the store that the folder is a mirror of.
    pub aliases_problem: Option<String>,
    /// Counts of generations.
    pub counts: Counts,
}

impl Status {
    /// Whether everything that should decide does, by its model.
    pub fn is_ok(&self) -> bool {
        let sound = |alias: &AliasInfo| alias.problem.is_none() && alias.engine == Some("model");
        self.library.is_some() && self.aliases_problem.is_none() && self.aliases.iter().all(sound)
    }
}

impl Store {
    /// All versions on disk, by kind and version. A broken one is listed with its problem.
    pub fn list(&self) -> Result<Vec<VersionInfo>, ModelsError> {
        let aliases = self.known_aliases();
        let mut found = Vec::new();
        let mut mirror = self.mirror.as_ref().filter(|mirror| mirror.problem().is_none());
        for kind in Kind::ALL {
            let here = versions(&self.root, *kind)?;
            let there = mirror.and_then(|mirror| mirror.versions(*kind).ok());
            // One that is away is not asked for each kind.
            mirror = mirror.filter(|_| there.is_some());
            found.extend(here.iter().map(|version| self.info(*kind, *version, &aliases)));
            let not_here = there.unwrap_or_default().into_iter().filter(|version| !here.contains(version));
            found.extend(not_here.map(|version| VersionInfo {
                problem: Some("in the store, not here yet: whoever asks for it has it brought".to_owned()),
                ..VersionInfo::of(*kind, version)
            }));
        }
        found.sort_by_key(|info| (info.kind, info.version));
        Ok(found)
    }

    /// What decides in each instance that shares an object store with this one, by name, and which aliases it does not follow. Empty without such a store.
    ///
    /// # Errors
    /// The store cannot be reached.
    pub fn instances(&self) -> Result<Vec<(Instance, Vec<Differing>)>, ModelsError> {
        let Some(mirror) = &self.mirror else { return Ok(Vec::new()) };
        let (instances, aliases) = (mirror.instances()?, self.known_aliases());
        let with_differing = |instance: Instance| {
            let differing = instance.differs(&aliases);
            (instance, differing)
        };
        let mut all: Vec<_> = instances.into_iter().map(with_differing).collect();
        all.sort_by(|(a, _), (b, _)| a.name.cmp(&b.name));
        Ok(all)
    }

    /// Manifest and state of one version.
    pub fn show(&self, kind: Kind, version: u32) -> Result<(VersionInfo, Manifest), ModelsError> {
        let (manifest, _, _) = Bundle::read_manifest(&self.root, kind, version)?;
        Ok((self.info(kind, version, &self.known_aliases()), manifest))
    }

    /// What is wanted and what runs.
    pub fn status(&self) -> Status {
        let aliases = self.known_aliases();
        // An order may be waiting for an object store: whoever asks how things are does not.
        let state = self.state.try_lock_for(PATIENCE);
        let mut infos = Vec::new();
        for (kind, alias) in Kind::ALL.iter().flat_map(|kind| Alias::ALL.iter().map(move |alias| (*kind, *alias))) {
            let wanted = aliases.get(kind, alias).map(|state| state.current.clone());
            let live = self.current(kind, alias);
            if wanted.is_none() && live.is_none() {
                continue;
            }
            let problem = state.as_ref().and_then(|state| Some(state.problems.get(&(kind, alias))?.text.clone()));
            let engine = live.as_deref().map(Generation::engine);
            let digest = live.as_ref().map(|generation| generation.digest().to_string());
            infos.push(AliasInfo { kind, alias, wanted, live: live.map(|generation| generation.version()), digest, engine, problem });
        }
        let library = self.tools.runtime.as_ref().map(|runtime| runtime.path().to_path_buf());
        Status {
            library,
            aliases: infos,
            aliases_problem: state.and_then(|state| state.file_problem.clone()).or_else(|| self.mirror.as_ref()?.problem()),
            counts: self.counts(),
        }
    }

    /// For lists: an unreadable alias file is told by [`Store::status`], the versions are shown all the same.
    fn known_aliases(&self) -> Aliases {
        read_aliases(&self.root).unwrap_or_default()
    }

    fn info(&self, kind: Kind, version: u32, aliases: &Aliases) -> VersionInfo {
        let named = |alias: &&Alias| aliases.get(kind, **alias).is_some_and(|state| state.current.version == version);
        let lives = |alias: &Alias| self.current(kind, *alias).is_some_and(|generation| generation.version() == version);
        let aliases = Alias::ALL.iter().filter(named).copied().collect();
        let mut info = VersionInfo { aliases, live: Alias::ALL.iter().any(lives), ..VersionInfo::of(kind, version) };
        match Bundle::read_manifest(&self.root, kind, version) {
            Ok((manifest, digest, _)) => {
                let rejected = |event: &Event| format!("rolled back by {}: {}", event.by, event.reason);
                info.rejected = self.state.lock().history.rejected(kind, &digest).map(rejected);
                info.problem = self.check_signed(kind, version, &digest).err().map(|error| error.to_string());
                info.digest = Some(digest);
                info.created_ns = Some(manifest.created_ns);
                info.rows = Some(manifest.training.rows);
                info.metrics = manifest.metrics;
            }
            Err(error) => info.problem = Some(error.to_string()),
        }
        info
    }
}

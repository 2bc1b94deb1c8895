//! The configuration that a fleet keeps (SPEC O3): its instances take it from the fleet's Redis in place of their own files, each with the keys that are its own.
//!
//! What stands there is text with who pushed it, [signed](document); which of two is newer, and what is brought back after a loss, is decided [purely](step). An
//! instance takes over a version as it takes over its file: all of it or nothing, and says what it made of it. It [keeps](keep) the newest version and the one
//! that is in force, and starts with them where Redis is away.

mod document;
mod follow;
mod keep;
mod push;
mod step;
mod view;

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use farthing_config::{Config, FleetConfig};
use farthing_fleet::{Fault, Handle, Shelf, ShelfFront, ShelfMember};
use farthing_types::{Clock, RealClock, Span};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::task::TaskTracker;

use document::signing_key;
pub use document::{Document, digest};
pub use push::{Push, PushError, Pushed};
pub use view::{MemberConfig, SharedStanding};

use crate::files;
use crate::fleet::{self, Fleet, FleetError};
use crate::l2::redis_config;
use crate::reload::{Digest, Unread};

/// How long the start waits for an answer of Redis.
const FIRST: Span = Span::from_secs(1);
/// Between two tries of that.
const PAUSE: Span = Span::from_millis(20);

/// Reads a shared text, called by the name in errors, together with this instance's own.
pub type ReadShared = dyn Fn(&str, &str) -> Result<(Config, Digest), Unread> + Send + Sync;

/// A version as an instance knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// Its number.
    pub version: u64,
    /// What it says.
    pub document: Document,
}

impl Version {
    /// What errors call it.
    pub fn name(&self) -> String {
        format!("version {} of the fleet's configuration", self.version)
    }
}

/// Why a version is not in force here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Which, by its mark.
    mark: String,
    /// Why.
    pub problem: String,
    /// It waits for a restart, and nothing else is wrong with it.
    pub restart: bool,
}

#[derive(Debug, Default)]
struct Known {
    newest: Option<Version>,
    /// `None`: the instance's own file is.
    in_force: Option<Version>,
    refused: Option<Refusal>,
    /// What stands in front and is not of this fleet.
    foreign: Option<ShelfFront>,
    /// Redis has answered since the start.
    heard: bool,
    trouble: Option<Fault>,
    unkept: Option<String>,
    members: Vec<ShelfMember>,
    /// It serves, and what it goes by is what it will go by.
    serves: bool,
}

impl Known {
    /// Why the newest version is not in force; `None` where it is, or was not tried yet.
    fn refusal(&self) -> Option<(&Refusal, &Version)> {
        self.refused.as_ref().zip(self.newest.as_ref()).filter(|(refused, newest)| refused.mark == newest.document.mark())
    }
}

/// See the module.
pub struct SharedConfig {
    fleet: Arc<str>,
    instance: Arc<str>,
    key: [u8; 32],
    path: Option<PathBuf>,
    read: Box<ReadShared>,
    /// Until the fleet's own handle takes its place.
    shelf: ArcSwap<Shelf>,
    clock: Arc<dyn Clock>,
    runtime: tokio::runtime::Handle,
    tasks: TaskTracker,
    known: Mutex<Known>,
    /// Held while a version is put in force, from the look at the newest on.
    turn: Mutex<()>,
    /// Held while what is known is kept, so that the last one that is written is the last one that was known.
    disk: Mutex<()>,
    wake: Notify,
}

impl SharedConfig {
    /// Of the fleet that an instance's own part names; `None`: there is none, or it wants its own file alone. Connects in the background, on the runtime that it is
    /// called on. Blocks on small files.
    ///
    /// # Errors
    /// See [`FleetError`].
    pub fn open(own: &Config, read: Box<ReadShared>) -> Result<Option<Arc<Self>>, FleetError> {
        let Some(fleet) = own.fleet.as_ref().filter(|fleet| fleet.shared_config) else { return Ok(None) };
        let (tasks, path) = (TaskTracker::new(), files::of_instance(own, keep::FILE));
        let handle = Handle::start(&redis_config(&fleet.server, fleet.deadline), &tasks)?;
        let key = signing_key(own.salt.secret.expose());
        let kept = path.as_ref().map(|path| keep::read(path, &fleet.name, &key)).transpose();
        let kept = kept.unwrap_or_else(|error| {
            tracing::warn!(%error, file = keep::FILE, "the kept configuration of the fleet cannot be read; it is not used");
            None
        });
        let (newest, in_force) = kept.unwrap_or_default();
        Ok(Some(Arc::new(Self {
            fleet: fleet.name.clone(),
            instance: fleet::instance_name(own, fleet.instance.as_ref())?,
            key,
            path,
            read,
            shelf: ArcSwap::from_pointee(shelf(handle, fleet)),
            clock: Arc::new(RealClock::default()),
            runtime: tokio::runtime::Handle::current(),
            tasks,
            // What was in force before the start is a candidate, and in force only once it is again.
            known: Mutex::new(Known { newest, in_force, ..Known::default() }),
            turn: Mutex::default(),
            disk: Mutex::default(),
            wake: Notify::new(),
        })))
    }

    /// Asks for the newest version before anything is served; waits for a second at most.
    pub async fn first(self: &Arc<Self>) {
        let asking = async {
            while self.look().await.is_err() {
                tokio::time::sleep(PAUSE).await;
            }
        };
        if tokio::time::timeout(FIRST, asking).await.is_err() {
            let kept = self.known.lock().newest.as_ref().map(|newest| newest.version);
            tracing::warn!(
                kept,
                "the fleet's configuration could not be asked for: what was kept of it is used, else this instance's own file"
            );
        }
    }

    /// Chooses what to start with, once: the newest version that this instance can run, else the one that was in force last; `None`: its own file.
    pub fn begin(&self, could_run: impl Fn(&Config) -> Result<(), String>) -> Option<(Config, Digest)> {
        let mut known = self.known.lock();
        let last = known.in_force.take();
        let newest = known.newest.clone();
        let other = last.filter(|last| newest.as_ref().is_some_and(|newest| newest.document != last.document));
        for version in newest.into_iter().chain(other) {
            let read = (self.read)(&version.name(), &version.document.text).map_err(|unread| unread.problem);
            match read.and_then(|(config, digest)| could_run(&config).map(|()| (config, digest))) {
                Ok(found) => {
                    known.in_force = Some(version);
                    return Some(found);
                }
                Err(problem) => {
                    tracing::error!(version = version.version, problem, "this instance cannot run the fleet's configuration");
                    let mark = version.document.mark();
                    if known.newest.as_ref().is_some_and(|newest| newest.document.mark() == mark) {
                        known.refused = Some(Refusal { mark, problem, restart: false });
                    }
                }
            }
        }
        None
    }

    /// The newest version that is known here.
    pub fn newest(&self) -> Option<Version> {
        self.known.lock().newest.clone()
    }

    /// The version that is in force; `None`: this instance's own file is.
    pub fn in_force(&self) -> Option<Version> {
        self.known.lock().in_force.clone()
    }

    /// Somebody says that there is another one.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// From now on by way of the handle that the fleet has anyway.
    fn settle(&self, fleet: &Fleet) {
        self.known.lock().serves = true;
        self.shelf.store(Arc::new(shelf(fleet.handle().clone(), fleet.config())));
    }

    /// Keeps what is known. Blocks.
    fn keep(&self) {
        let Some(path) = &self.path else { return };
        let _disk = self.disk.lock();
        let (newest, in_force) = {
            let known = self.known.lock();
            (known.newest.clone(), known.in_force.clone())
        };
        let done = keep::write(path, (newest.as_ref(), in_force.as_ref()), &self.key);
        self.known.lock().unkept = done.err().map(|error| {
            tracing::error!(%error, file = %path.display(), "the fleet's configuration could not be kept");
            error.to_string()
        });
    }
}

fn shelf(handle: Handle, fleet: &FleetConfig) -> Shelf {
    Shelf::new(handle, ["document", "members"].map(|what| fleet::key(fleet, "config", what)), fleet.deadline)
}

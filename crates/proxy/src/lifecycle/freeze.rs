//! The operator's freeze (SPEC M7): automation stops at once, whatever it would do next, until it is let go on. What is in force stands in
//! `state_dir/freeze.json`, so that a restart does not end it. Safeguards go on: a candidate that does harm is still taken back, TTLs that
//! leave too many stale answers are still cut. The store is told as well ([`farthing_models::Store::note_frozen`]): the trainer's loop stops with us.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use farthing_config::Config;
use farthing_types::Time;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::files;
use crate::reason::{self, LONGEST_REASON};
use crate::state::State;

const FILE: &str = "freeze.json";

/// An order to stop automation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FreezeOrder {
    /// Since when, on the proxy's clock.
    pub since: Time,
    /// Why.
    pub reason: Arc<str>,
}

/// Why an order was not carried out, or not kept.
#[derive(Debug, thiserror::Error)]
pub enum FreezeError {
    /// The reason is missing or too long.
    #[error("reason: say why, in 1 to {LONGEST_REASON} bytes")]
    Reason,
    /// It is in force, but a restart ends it.
    #[error("in force, but not written down, so a restart undoes it: {}: {source}", path.display())]
    Unwritten {
        /// Where.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// What was written down cannot be read.
    #[error("{}: {reason}; correct the file, or remove it to start without a freeze", path.display())]
    Damaged {
        /// Where.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// Whether automation is frozen.
pub struct Freeze {
    path: Option<PathBuf>,
    /// Under what name the store knows this instance: the same after a restart.
    instance: String,
    on: AtomicBool,
    /// The store knows what is in force.
    told: AtomicBool,
    /// That it could not be told was said.
    failed: AtomicBool,
    order: Mutex<Option<FreezeOrder>>,
}

impl Freeze {
    /// What the run before has left; blocks on a small file.
    ///
    /// # Errors
    /// [`FreezeError::Damaged`]: to start without what an operator has ordered would be worse than not to start.
    pub fn open(config: &Config) -> Result<Self, FreezeError> {
        let path = files::of_instance(config, FILE);
        let order = path.as_deref().map_or(Ok(None), kept)?;
        if let Some(order) = &order {
            tracing::warn!(reason = &*order.reason, "automation is frozen, from before the restart");
        }
        let (on, [told, failed]) = (AtomicBool::new(order.is_some()), [false; 2].map(AtomicBool::new));
        Ok(Self { instance: instance(config), path, on, told, failed, order: Mutex::new(order) })
    }

    /// The name of this instance in the store of predictors.
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// Whether it is in force.
    pub fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    /// The order in force.
    pub fn order(&self) -> Option<FreezeOrder> {
        self.order.lock().clone()
    }

    /// Writes what is in force; the lock is held, so that the last order is the one that stays written.
    fn save(&self, order: Option<&FreezeOrder>) -> Result<(), FreezeError> {
        let Some(path) = &self.path else { return Ok(()) };
        files::write_json(path, &order).map_err(|source| FreezeError::Unwritten { path: path.clone(), source })
    }
}

impl State {
    /// Stops automation (`Some`) or lets it go on; whether that is news. Blocks until it is written down.
    ///
    /// # Errors
    /// See [`FreezeError`]; with [`FreezeError::Unwritten`] it is in force all the same.
    pub fn freeze(&self, on: bool, reason: &str) -> Result<bool, FreezeError> {
        if !reason::is_said(reason) {
            return Err(FreezeError::Reason);
        }
        let mut order = self.freeze.order.lock();
        let news = on != order.is_some();
        *order = on.then(|| FreezeOrder { since: self.clock.now(), reason: reason.into() });
        self.freeze.on.store(on, Ordering::Relaxed);
        self.predictors.store().freeze(on);
        self.freeze.told.store(false, Ordering::Relaxed);
        if on {
            tracing::warn!(reason, "automation is frozen");
        } else if news {
            tracing::info!(reason, "automation goes on");
        }
        self.freeze.save(order.as_ref())?;
        drop(order);
        self.tell_freeze();
        Ok(news)
    }

    /// Tells the store whether this instance is frozen, where it does not know yet. Blocks on a small file.
    pub(crate) fn tell_freeze(&self) {
        // Under the lock, so that the last order is the one that is told.
        let order = self.freeze.order.lock();
        if self.freeze.told.load(Ordering::Relaxed) {
            return;
        }
        let what = order.as_ref().map(|order| (order.since, &*order.reason));
        match self.predictors.store().note_frozen(&self.freeze.instance, what) {
            Ok(()) => {
                self.freeze.told.store(true, Ordering::Relaxed);
                self.freeze.failed.store(false, Ordering::Relaxed);
            }
            Err(error) if !self.freeze.failed.swap(true, Ordering::Relaxed) => {
                tracing::warn!(%error, "the store does not know whether this instance is frozen: a trainer's loop on it goes by what it knew; tried again");
            }
            Err(_) => {}
        }
    }
}

/// The machine's name and, by a digest, the place of this instance's own state: two of one machine are two.
fn instance(config: &Config) -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let place = std::path::absolute(&config.state_dir).unwrap_or_else(|_| config.state_dir.clone());
    let digest = blake3::hash(place.as_os_str().as_encoded_bytes()).to_hex();
    format!("{}-{}", if host.trim().is_empty() { "proxy" } else { host.trim() }, &digest[..8])
}

/// What stands in the file.
fn kept(path: &Path) -> Result<Option<FreezeOrder>, FreezeError> {
    let damaged = |reason: String| FreezeError::Damaged { path: path.to_owned(), reason };
    let Some(text) = files::read(path).map_err(|e| damaged(e.to_string()))? else { return Ok(None) };
    serde_json::from_slice(&text).map_err(|e| damaged(e.to_string()))
}

//! What limits have given, over a restart: written to `state_dir/limits.json` each second. A process that is killed forgets a second of it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use farthing_ledger::limit::SavedCounter;
use farthing_types::Time;
use serde::{Deserialize, Serialize};

use super::desk::Desk;
use crate::files;

#[derive(Serialize, Deserialize)]
struct Saved {
    at: Time,
    counters: Vec<SavedCounter>,
}

/// The file; see the module.
#[derive(Debug)]
pub struct Kept {
    path: PathBuf,
    /// What the book said of its changes when it was written last.
    written: AtomicU64,
}

impl Kept {
    pub fn new(state_dir: &Path) -> Self {
        Self { path: state_dir.join("limits.json"), written: AtomicU64::new(0) }
    }

    /// Takes over what the run before has given. Blocks.
    pub fn recall(&self, desk: &Desk, now: Time) {
        let read = files::read(&self.path)
            .and_then(|bytes| bytes.map(|bytes| serde_json::from_slice::<Saved>(&bytes)).transpose().map_err(io::Error::from));
        match read {
            Ok(None) => {}
            // A clock that was put back brings nothing of what is missing.
            Ok(Some(saved)) => desk.with(|book| book.restore(saved.counters, now.since(saved.at), desk.now())),
            Err(error) => tracing::warn!(file = %self.path.display(), %error, "limits begin as if nothing had been used"),
        }
    }

    /// Writes down what has been given, unless that stands there already: what time brings back since is reckoned at the start. Blocks.
    pub fn keep(&self, desk: &Desk, now: Time) {
        let Some((changes, counters)) = desk.with(|book| {
            let changes = book.changes();
            (changes != self.written.load(Relaxed)).then(|| (changes, book.saved(desk.now())))
        }) else {
            return;
        };
        let written = serde_json::to_vec(&Saved { at: now, counters }).map_err(io::Error::from);
        match written.and_then(|bytes| files::write(&self.path, &bytes)) {
            Ok(()) => self.written.store(changes, Relaxed),
            Err(error) => tracing::warn!(file = %self.path.display(), %error, "a restart would forget what limits have given"),
        }
    }
}

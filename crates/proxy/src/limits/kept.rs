//! What limits have given, over a restart: written to `state_dir/limits.json` each second. A process that is killed forgets a second of it.

use std::io;
use std::path::{Path, PathBuf};

use farthing_ledger::limit::SavedCounter;
use farthing_types::Time;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::desk::Desk;
use crate::memory::write;

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Saved {
    at: Time,
    counters: Vec<SavedCounter>,
}

/// The file; see the module.
#[derive(Debug)]
pub struct Kept {
    path: PathBuf,
    /// Nothing was missing when it was written last, or it was never written.
    blank: Mutex<bool>,
}

impl Kept {
    pub fn new(state_dir: &Path) -> Self {
        Self { path: state_dir.join("limits.json"), blank: Mutex::new(false) }
    }

    /// Takes over what the run before has given. Blocks.
    pub fn recall(&self, desk: &Desk, now: Time) {
        let saved = match std::fs::read(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            read => read.and_then(|bytes| serde_json::from_slice::<Saved>(&bytes).map_err(io::Error::from)),
        };
        match saved {
            // A clock that was put back brings nothing of what is missing.
            Ok(saved) => desk.with(|book| book.restore(saved.counters, now.since(saved.at), desk.now())),
            Err(error) => tracing::warn!(file = %self.path.display(), %error, "limits begin as if nothing had been used"),
        }
    }

    /// Writes down what has been given. Blocks.
    pub fn keep(&self, desk: &Desk, now: Time) {
        let counters = desk.with(|book| book.saved(desk.now()));
        let mut blank = self.blank.lock();
        if *blank && counters.is_empty() {
            return;
        }
        let saved = Saved { at: now, counters };
        let written = serde_json::to_vec(&saved).map_err(io::Error::from).and_then(|bytes| {
            self.path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
            write(&self.path, &bytes)
        });
        match written {
            Ok(()) => *blank = saved.counters.is_empty(),
            Err(error) => tracing::warn!(file = %self.path.display(), %error, "a restart would forget what limits have given"),
        }
    }
}

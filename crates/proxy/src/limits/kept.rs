//! What limits have given, over a restart: written to `state_dir/limits.json` each second. A process that is killed forgets a second of it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use farthing_ledger::limit::SavedCounter;
use farthing_ledger::limit::fleet::Kept as Shares;
use farthing_types::Time;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::desk::Desk;
use super::fleet::Link;
use crate::files;

#[derive(Serialize, Deserialize)]
struct Saved {
    at: Time,
    counters: Vec<SavedCounter>,
    /// What the instance has of them, where a fleet shares them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fleet: Option<Shares>,
}

/// The file; see the module.
#[derive(Debug)]
pub struct Kept {
    path: PathBuf,
    /// What the book said of its changes when it was written last.
    written: AtomicU64,
    /// When that was.
    written_at: Mutex<Option<Time>>,
}

impl Kept {
    pub fn new(state_dir: &Path) -> Self {
        Self { path: state_dir.join("limits.json"), written: AtomicU64::new(0), written_at: Mutex::default() }
    }

    /// Takes over what the run before has given. Blocks.
    pub fn recall(&self, (desk, link): (&Desk, Option<&Arc<Link>>), now: Time) {
        let read = files::read(&self.path)
            .and_then(|bytes| bytes.map(|bytes| serde_json::from_slice::<Saved>(&bytes)).transpose().map_err(io::Error::from));
        match read {
            Ok(None) => {}
            Ok(Some(Saved { at, counters, fleet })) => desk.with(|book| {
                let times = (desk.now(), now);
                // Who was in a fleet, and is no more, has limits of its own.
                if let Some(link) = link {
                    link.begin(book, fleet, times);
                }
                // A clock that was put back brings nothing of what is missing.
                book.restore(counters, now.since(at), times.0);
            }),
            Err(error) => tracing::warn!(file = %self.path.display(), %error, "limits begin as if nothing had been used"),
        }
    }

    /// Writes down what has been given, unless that stands there already: what time brings back since is reckoned at the start. Blocks.
    pub fn keep(&self, (desk, link): (&Desk, Option<&Arc<Link>>), now: Time) {
        // How long shares may be used is told anew all the time.
        let old = link.is_some_and(|link| self.written_at.lock().is_none_or(|at| now.since(at) >= link.keeps_every()));
        let Some((changes, counters, fleet)) = desk.with(|book| {
            let (changes, times) = (book.changes(), (desk.now(), now));
            let news = old || changes != self.written.load(Relaxed);
            news.then(|| (changes, book.saved(times.0), link.and_then(|link| link.kept(book, times))))
        }) else {
            return;
        };
        let written = serde_json::to_vec(&Saved { at: now, counters, fleet }).map_err(io::Error::from);
        match written.and_then(|bytes| files::write(&self.path, &bytes)) {
            Ok(()) => {
                self.written.store(changes, Relaxed);
                *self.written_at.lock() = Some(now);
            }
            Err(error) => tracing::warn!(file = %self.path.display(), %error, "a restart would forget what limits have given"),
        }
    }
}

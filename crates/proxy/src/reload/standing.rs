//! Which configuration is in force, since when, and what became of others.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use farthing_types::{Time, reasons};
use parking_lot::{Mutex, MutexGuard};

/// What tells configurations apart: the first half of the SHA-256 of the file, 32 hexadecimal digits.
pub type Digest = Arc<str>;

reasons! {
    /// What became of a reload.
    Outcome {
        /// It is in force.
        Applied = "applied",
        /// It says what is in force already.
        Unchanged = "unchanged",
        /// It changes what needs a restart.
        Restart = "restart",
        /// It cannot be read, or could not run.
        Invalid = "invalid",
    }
}

/// How the configuration stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Digest of the one in force.
    pub digest: Digest,
    /// Since when, wall time.
    pub since: Time,
    /// Reloads since the start by what became of them.
    pub outcomes: Vec<(Outcome, u64)>,
    /// When the last one was refused and why, where none has succeeded since; and the digest of what was refused, where it could be read.
    pub refused: Option<(Time, String, Option<Digest>)>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Reloads {
    turn: Mutex<()>,
    standing: Mutex<(Option<Digest>, Time)>,
    outcomes: [AtomicU64; Outcome::ALL.len()],
    refused: Mutex<Option<(Time, String, Option<Digest>)>>,
}

/// Held by the reload that is at work.
pub struct ReloadTurn<'a>(#[expect(dead_code, reason = "it is held, not looked at")] MutexGuard<'a, ()>);

impl Reloads {
    /// Waits for the turn of a reload.
    pub fn turn(&self) -> ReloadTurn<'_> {
        ReloadTurn(self.turn.lock())
    }

    /// This one is in force since then.
    pub fn begin(&self, digest: Digest, since: Time) {
        *self.standing.lock() = (Some(digest), since);
    }

    /// A reload is in force, or says what is.
    pub fn done(&self, outcome: Outcome, digest: Digest, at: Time) {
        self.outcomes[outcome as usize].fetch_add(1, Relaxed);
        *self.refused.lock() = None;
        let mut standing = self.standing.lock();
        *standing = (Some(digest), if outcome == Outcome::Applied { at } else { standing.1 });
    }

    /// A reload was refused.
    pub fn refuse(&self, outcome: Outcome, problem: String, (digest, at): (Option<Digest>, Time)) {
        self.outcomes[outcome as usize].fetch_add(1, Relaxed);
        *self.refused.lock() = Some((at, problem, digest));
    }

    /// How it stands.
    pub fn standing(&self) -> Standing {
        let (digest, since) = self.standing.lock().clone();
        Standing {
            digest: digest.unwrap_or_else(|| "unknown".into()),
            since,
            outcomes: Outcome::ALL.iter().map(|outcome| (*outcome, self.outcomes[*outcome as usize].load(Relaxed))).collect(),
            refused: self.refused.lock().clone(),
        }
    }

    /// What is wrong, for the list of parts.
    pub fn problem(&self) -> Option<String> {
        let refused = self.refused.lock();
        refused.as_ref().map(|(_, problem, _)| format!("the last reload was refused, and the configuration before is in force: {problem}"))
    }
}

//! What limits have given, over a restart: written to `state_dir/limits.json` each second. A process that is killed forgets a second of it.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use farthing_config::Config;
use farthing_ledger::limit::SavedCounter;
use farthing_ledger::limit::fleet::{Kept as Shares, Member, Terms};
use farthing_types::{Span, Time};
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
    /// Whether it is of an instance of a fleet.
    in_fleet: bool,
    /// The shares of one that does not run: they are kept as they are.
    asleep: Mutex<Option<Shares>>,
}

impl Kept {
    pub fn new(config: &Config) -> Self {
        Self {
            path: config.state_dir.join("limits.json"),
            written: AtomicU64::new(0),
            written_at: Mutex::default(),
            in_fleet: config.fleet.is_some(),
            asleep: Mutex::default(),
        }
    }

    /// Takes over what the run before has given. Blocks.
    pub fn recall(&self, (desk, link): (&Desk, Option<&Arc<Link>>), now: Time) {
        let read = files::read(&self.path)
            .and_then(|bytes| bytes.map(|bytes| serde_json::from_slice::<Saved>(&bytes)).transpose().map_err(io::Error::from));
        match read {
            Ok(None) => {}
            Ok(Some(Saved { at, counters, fleet })) => desk.with(|book| {
                let times = (desk.now(), now);
                match (link, fleet) {
                    (Some(link), fleet) => link.begin(book, fleet, times),
                    (None, Some(shares)) if self.in_fleet => {
                        // What is missing is missing of the shares.
                        let _nobody_is_told = Member::new(book, asleep(), Some(shares.clone()), times);
                        *self.asleep.lock() = Some(shares);
                    }
                    // Who was in a fleet, and is no more, has limits of its own.
                    (None, _) => {}
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
        let Some((changes, counters, shares)) = desk.with(|book| {
            let (changes, times) = (book.changes(), (desk.now(), now));
            let news = old || changes != self.written.load(Relaxed);
            news.then(|| (changes, book.saved(times.0), link.and_then(|link| link.kept(book, times))))
        }) else {
            return;
        };
        let fleet = shares.or_else(|| self.asleep.lock().clone());
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

/// Of an instance that is only looked at.
fn asleep() -> Terms {
    let nobody = || Arc::from("-");
    Terms { id: nobody(), life: nobody(), start: 0, alone: Span::MAX, most: 0, first: 0 }
}

#[cfg(test)]
mod tests {
    use farthing_types::{LimitScope, LimitSpec};

    use crate::limits::Limits;

    use super::*;

    /// A tenant is forgotten by a program that is not the instance: what that has of the fleet's limits stays.
    #[test]
    fn who_is_not_running_keeps_its_shares_and_who_has_left_does_not() {
        let at = Time::from_millis(1_764_201_600_000);
        let left = serde_json::json!({
            "at": at, "counters": [{"limit": "l", "unit": "acme", "requests": 3, "tokens": 0, "held": {"secs": 0, "nanos": 0}}],
            "fleet": {
                "parts": [250_000, 250_000], "until": at.nanos() + 3_600_000_000_000_i64, "history": [[at, 250_000]],
                "full": false, "generation": "g", "epoch": 1, "known": [],
            },
        });
        for (fleet, stays) in [(Some(crate::fleet::tests::config()), true), (None, false)] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("limits.json");
            std::fs::write(&path, left.to_string()).unwrap();
            let spec = LimitSpec { name: "l".into(), scope: LimitScope::Tenant, concurrency: Some(9), ..LimitSpec::default() };
            let config = Config { state_dir: dir.path().to_owned(), limits: vec![spec], fleet, ..Config::default() };
            let limits = Limits::new(&config);
            limits.recall(at);
            limits.forget("acme", at);
            let kept = std::fs::read_to_string(&path).unwrap();
            assert!(!kept.contains("acme"), "{kept}");
            assert_eq!(kept.contains("\"fleet\""), stays, "{kept}");
        }
    }
}

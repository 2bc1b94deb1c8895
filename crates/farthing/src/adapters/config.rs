//! The configuration of the running proxy, and the record of changes.

use std::sync::Arc;

use farthing_admin::{AuditControl, ChangeNote, ConfigChange, ConfigControl, ConfigInfo, ConfigQuestion, ConfigReport, ControlError};
use farthing_config::{Change, Config};
use farthing_ledger::costs::utc;
use farthing_proxy::{ChangeRecord, Proxy, ReloadError, ReloadOutcome, Reloaded, UnreadConfig};

use super::Running;

/// A configuration that was read.
pub struct Read {
    /// The configuration, or everything that is wrong.
    pub config: Result<Config, String>,
    /// Digest of its text; `None` where that could not be read.
    pub digest: Option<Arc<str>>,
}

/// Where the configuration came from at the start, so that it can be read again.
pub trait Source: Send + Sync {
    /// Reads it again, or the text that stands in for the file.
    fn read(&self, instead: Option<&str>) -> Read;
    /// The file; `None` where it came from flags alone.
    fn file(&self) -> Option<String>;
}

/// Reads the configuration again and puts it in force, all or nothing.
///
/// # Errors
/// What is wrong, or needs a restart; the one before stays in force.
pub fn reload(proxy: &Proxy, source: &dyn Source) -> Result<(Reloaded, Arc<str>), String> {
    // Where the fleet keeps one, that is read again, with this instance's own part as it is now.
    let shared = proxy.shared_config().and_then(|shared| shared.apply(proxy));
    let done = shared.unwrap_or_else(|| proxy.reload(|| read_again(source)));
    done.map_err(|refused| refused.problem)
}

fn read_again(source: &dyn Source) -> Result<(Config, Arc<str>), UnreadConfig> {
    let Read { config, digest } = source.read(None);
    match config {
        Ok(config) => Ok((config, digest.unwrap_or_else(|| "unknown".into()))),
        Err(problem) => Err(UnreadConfig { problem, digest }),
    }
}

/// The same by a signal: nobody waits for an answer, so what came of it is in the log and in the record of changes.
pub fn reload_by_signal(proxy: &Proxy, source: &dyn Source) {
    let before = proxy.config_standing().digest.to_string();
    let outcome = match reload(proxy, source) {
        Ok(_) => "done".to_owned(),
        // Why is in the log and in `farthing config show`: it may name tenants, and this record outlives them.
        Err(_) => "refused".to_owned(),
    };
    let after = proxy.config_standing().digest.to_string();
    let (by, what) = ("signal".to_owned(), "SIGHUP: reload of the configuration".to_owned());
    proxy.note_change(ChangeRecord { at: proxy.wall_now(), by, what, outcome, before, after, ..ChangeRecord::default() });
}

pub(super) fn change(change: Change) -> ConfigChange {
    ConfigChange { key: change.key, from: change.from, to: change.to, restart: change.restart.map(str::to_owned) }
}

fn refused(error: &ReloadError) -> ControlError {
    ControlError::Refused(error.to_string())
}

impl Running {
    pub(super) fn source(&self) -> Result<&dyn Source, ControlError> {
        self.source.as_deref().ok_or_else(|| ControlError::Unavailable("there is no configuration to read again".to_owned()))
    }
}

impl ConfigControl for Running {
    fn config(&self) -> ConfigInfo {
        let standing = self.proxy.config_standing();
        let count = |wanted| standing.outcomes.iter().find(|(outcome, _)| *outcome == wanted).map_or(0, |(_, count)| *count);
        ConfigInfo {
            digest: standing.digest.to_string(),
            file: self.source.as_ref().and_then(|source| source.file()),
            fleet_version: self.proxy.shared_config().and_then(|shared| shared.in_force()).map(|version| version.version),
            since: utc(standing.since),
            applied: count(ReloadOutcome::Applied),
            unchanged: count(ReloadOutcome::Unchanged),
            restart: count(ReloadOutcome::Restart),
            invalid: count(ReloadOutcome::Invalid),
            refused_at: standing.refused.as_ref().map(|(at, ..)| utc(*at)),
            refused: standing.refused.map(|(_, problem, _)| problem),
        }
    }

    fn access(&self) -> Option<Arc<Config>> {
        Some(self.proxy.config())
    }

    fn reload(&self) -> Result<ConfigReport, ControlError> {
        let (done, digest) = reload(&self.proxy, self.source()?).map_err(ControlError::Refused)?;
        Ok(ConfigReport {
            digest: digest.to_string(),
            changes: done.changes.into_iter().map(change).collect(),
            purged: done.purged.iter().map(ToString::to_string).collect(),
        })
    }

    fn diff(&self, question: &ConfigQuestion) -> Result<ConfigReport, ControlError> {
        let newest = self.proxy.shared_config().and_then(|shared| shared.newest()).map(|version| version.document.text);
        let Read { config, digest } = self.source()?.read(question.text.as_deref().or(newest.as_deref()));
        let changes = self.proxy.foresee(&config.map_err(ControlError::Refused)?).map_err(|error| refused(&error))?;
        Ok(ConfigReport {
            digest: digest.map(|digest| digest.to_string()).unwrap_or_default(),
            changes: changes.into_iter().map(change).collect(),
            purged: Vec::new(),
        })
    }
}

impl AuditControl for Running {
    fn note(&self, note: ChangeNote) {
        let ChangeNote { by, said, peer, what, with, outcome, before, after, .. } = note;
        self.proxy.note_change(ChangeRecord { at: self.proxy.wall_now(), by, said, peer, what, with, outcome, before, after });
    }

    fn changes(&self, most: usize) -> Result<Vec<ChangeNote>, ControlError> {
        let found =
            self.proxy.latest_changes(most).map_err(|error| ControlError::Failed(format!("the audit log cannot be read: {error}")))?;
        let found = found.ok_or_else(|| ControlError::Unavailable("changes are not kept: there is no state_dir".to_owned()))?;
        let note = |record: ChangeRecord| {
            let ChangeRecord { at, by, said, peer, what, with, outcome, before, after } = record;
            ChangeNote { at: utc(at), by, said, peer, what, with, outcome, before, after }
        };
        Ok(found.into_iter().map(note).collect())
    }

    fn digest(&self) -> String {
        self.proxy.config_standing().digest.to_string()
    }
}

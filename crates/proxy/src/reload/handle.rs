//! What a running proxy is asked and told about its configuration.

use farthing_config::{Change, Config};
use farthing_ledger::watch::config_refused;
use farthing_types::Time;

use super::{Digest, NotReloaded, Outcome, ReloadError, Reloaded, Standing, Unread};
use crate::assembly::Proxy;
use crate::changes::ChangeRecord;

impl Proxy {
    /// The time of the day.
    pub fn wall_now(&self) -> Time {
        self.state().wall_now()
    }

    /// Notes a change that was ordered, in the audit log. Blocks.
    pub fn note_change(&self, record: ChangeRecord) {
        self.state().changes.note(record);
    }

    /// The latest changes, the last one last; `None` where no folder keeps them. Blocks.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn latest_changes(&self, most: usize) -> std::io::Result<Option<Vec<ChangeRecord>>> {
        self.state().changes.latest(most)
    }

    /// Changes that are in the audit log, and that are not because it could not be written.
    pub fn change_counts(&self) -> (u64, u64) {
        self.state().changes.counts()
    }

    /// Names the configuration in force.
    pub fn config_is(&self, digest: Digest) {
        self.state().reloads.begin(digest, self.state().wall_now());
    }

    /// Which configuration is in force, and what became of others.
    pub fn config_standing(&self) -> Standing {
        self.state().reloads.standing()
    }

    /// What another configuration would change, and what of it needs a restart. Changes nothing. Blocks.
    ///
    /// # Errors
    /// It could not run at all.
    pub fn foresee(&self, config: &Config) -> Result<Vec<Change>, ReloadError> {
        let mut config = config.clone();
        config.keep_salt_of(&self.state().config());
        self.state().foresee(&config, &|spec| farthing_upstream::build(spec, self.state().clock.clone()))
    }

    /// Reads another configuration and puts it in force, all of it or nothing; what became of it is counted, and a refusal told. One is carried out at a time,
    /// from the reading on, so that what was read last is what stays. Blocks.
    ///
    /// # Errors
    /// What is wrong, or needs a restart; the one before is in force.
    pub fn reload(&self, read: impl FnOnce() -> Result<(Config, Digest), Unread>) -> Result<(Reloaded, Digest), NotReloaded> {
        let state = self.state();
        let turn = state.reloads.turn();
        let (mut config, digest) = read().map_err(|Unread { problem, digest }| {
            self.refused_config(Outcome::Invalid, &problem, digest);
            NotReloaded { outcome: Outcome::Invalid, problem }
        })?;
        config.keep_salt_of(&state.config());
        match state.reload(&turn, config, &|spec| farthing_upstream::build(spec, state.clock.clone())) {
            Ok(reloaded) => {
                tell(&reloaded, &digest);
                let outcome = if reloaded.changes.is_empty() { Outcome::Unchanged } else { Outcome::Applied };
                state.reloads.done(outcome, digest.clone(), state.wall_now());
                Ok((reloaded, digest))
            }
            Err(error) => {
                let outcome = if matches!(error, ReloadError::Start(_)) { Outcome::Invalid } else { Outcome::Restart };
                let problem = error.to_string();
                self.refused_config(outcome, &problem, Some(digest));
                Err(NotReloaded { outcome, problem })
            }
        }
    }

    /// Notes and tells that a configuration was refused.
    pub(crate) fn refused_config(&self, outcome: Outcome, problem: &str, digest: Option<Digest>) {
        tracing::error!(outcome = outcome.as_str(), problem, "the configuration was not reloaded; the one before is in force");
        self.state().alerts.raise(config_refused(digest.as_deref().unwrap_or("unread"), problem, self.now()));
        self.state().reloads.refuse(outcome, problem.to_owned(), (digest, self.state().wall_now()));
    }
}

fn tell(reloaded: &Reloaded, digest: &Digest) {
    for change in &reloaded.changes {
        tracing::info!(key = change.key, from = change.from, to = change.to, "the configuration has changed");
    }
    for route in &reloaded.purged {
        tracing::info!(%route, "its copies are purged: they were made by other rules, or come from elsewhere");
    }
    tracing::info!(%digest, changes = reloaded.changes.len(), "the configuration is in force");
}

//! The configuration that the fleet of the running proxy keeps.

use std::sync::Arc;

use farthing_admin::{
    ConfigPush, ConfigPushed, ConfigRollback, ConfigText, ConfigVersion, ControlError, FleetConfig, FleetConfigControl, InstanceConfig,
    OrderedBy,
};
use farthing_ledger::costs::utc;
use farthing_proxy::{MemberConfig, Push, PushError, Pushed, SharedConfig, SharedVersion};

use super::Running;
use super::config::change;

fn version(of: &SharedVersion) -> ConfigVersion {
    let document = &of.document;
    ConfigVersion {
        version: of.version,
        digest: document.digest().to_string(),
        at: utc(document.at),
        by: document.by.clone(),
        said: document.said.clone(),
        instance: document.instance.clone(),
        note: document.note.clone(),
        again: document.again,
    }
}

/// What an instance goes by, as it is told.
pub fn instance(of: MemberConfig) -> InstanceConfig {
    let (refuses, refused) = of.refused.unzip();
    let MemberConfig { instance, ago, version, digest, restart, .. } = of;
    InstanceConfig { instance, ago_s: ago.as_secs(), version, digest, refuses, refused, restart }
}

fn pushed(done: Pushed) -> ConfigPushed {
    let Pushed { version, digest, changes, purged, refused } = done;
    let (changes, purged) = (changes.into_iter().map(change).collect(), purged.iter().map(ToString::to_string).collect());
    ConfigPushed { version, digest: digest.to_string(), changes, purged, refused }
}

fn refused(error: &PushError) -> ControlError {
    let told = error.to_string();
    match error {
        PushError::Conflict(_) => ControlError::Conflict(told),
        PushError::Invalid(_) | PushError::Restart(_) => ControlError::Refused(told),
        PushError::Away { .. } => ControlError::Unavailable(told),
    }
}

impl Running {
    fn shared(&self) -> Result<&Arc<SharedConfig>, ControlError> {
        let none = "this instance goes by its own file alone: there is no [fleet], or it says shared_config = false";
        self.proxy.shared_config().ok_or_else(|| ControlError::Unavailable(none.to_owned()))
    }

    fn kept(&self, number: u64) -> Result<SharedVersion, ControlError> {
        let found = self.shared()?.history().map_err(|error| refused(&error))?;
        let gone = || {
            ControlError::NotFound(format!("version {number} is not there, or not any more: farthing config history lists those that are"))
        };
        found.into_iter().find(|of| of.version == number).ok_or_else(gone)
    }

    fn put(&self, push: Push) -> Result<ConfigPushed, ControlError> {
        self.shared()?.push(&self.proxy, push).map(pushed).map_err(|error| refused(&error))
    }
}

impl FleetConfigControl for Running {
    fn standing(&self) -> Result<FleetConfig, ControlError> {
        let shared = self.shared()?;
        let standing = shared.standing();
        let away = standing.trouble.map(|fault| format!("the fleet's redis does not answer: {fault}"));
        Ok(FleetConfig {
            version: standing.version,
            newest: standing.newest.as_ref().map(version),
            refused: standing.refused.map(|refused| refused.problem),
            problem: shared.problem().or(away),
            instances: standing.members.into_iter().map(instance).collect(),
        })
    }

    fn versions(&self) -> Result<Vec<ConfigVersion>, ControlError> {
        let found = self.shared()?.history().map_err(|error| refused(&error))?;
        Ok(found.iter().map(version).collect())
    }

    fn version(&self, number: u64) -> Result<ConfigText, ControlError> {
        let found = self.kept(number)?;
        Ok(ConfigText { version: version(&found), text: found.document.text })
    }

    fn push(&self, order: &ConfigPush, by: &OrderedBy) -> Result<ConfigPushed, ControlError> {
        let ConfigPush { over, note, restart, dry_run, text } = order.clone();
        let OrderedBy { by, said } = by.clone();
        self.put(Push { text, over, restart, dry_run, by, said, note, again: None })
    }

    fn rollback(&self, order: &ConfigRollback, by: &OrderedBy) -> Result<ConfigPushed, ControlError> {
        let ConfigRollback { version, over, note, restart, dry_run } = order.clone();
        let (found, OrderedBy { by, said }) = (self.kept(version)?, by.clone());
        self.put(Push { text: found.document.text, over: Some(over), restart, dry_run, by, said, note, again: Some(version) })
    }
}

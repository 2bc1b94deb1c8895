//! The configuration of a running instance, and who changed what.

use std::sync::Arc;

use farthing_config::Config;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::ControlError;

/// The configuration.
pub trait ConfigControl: Send + Sync {
    /// Which is in force.
    fn config(&self) -> ConfigInfo;

    /// The configuration whose tokens are asked for, where it can change while the API answers.
    fn access(&self) -> Option<Arc<Config>>;

    /// Reads it again where it came from, and puts it in force: all of it, or nothing. Blocks.
    ///
    /// # Errors
    /// [`ControlError::Refused`] with everything that is wrong, or that needs a restart; what was in force stays. [`ControlError::Unavailable`] where there
    /// is nothing to read.
    fn reload(&self) -> Result<ConfigReport, ControlError>;

    /// What another one would change; changes nothing. Blocks.
    ///
    /// # Errors
    /// [`ControlError::Refused`] with everything that is wrong.
    fn diff(&self, question: &ConfigQuestion) -> Result<ConfigReport, ControlError>;
}

/// The configuration that a fleet keeps.
pub trait FleetConfigControl: Send + Sync {
    /// How it stands here and elsewhere, as far as is known here; asks nobody.
    ///
    /// # Errors
    /// [`ControlError::Unavailable`]: this instance goes by its own file alone.
    fn standing(&self) -> Result<FleetConfig, ControlError>;

    /// The versions that are still kept, the latest first. Blocks on a server.
    ///
    /// # Errors
    /// [`ControlError::Unavailable`]: the server does not answer, or this instance goes by its own file alone.
    fn versions(&self) -> Result<Vec<ConfigVersion>, ControlError>;

    /// One of them with its text. Blocks on a server.
    ///
    /// # Errors
    /// As for all of them; [`ControlError::NotFound`] where it is not there, or not any more.
    fn version(&self, version: u64) -> Result<ConfigText, ControlError>;

    /// Judges a configuration and puts it there. Blocks on a server.
    ///
    /// # Errors
    /// [`ControlError::Conflict`]: it was made from another version than the one that is there. [`ControlError::Refused`] with everything that is wrong.
    fn push(&self, order: &ConfigPush, by: &OrderedBy) -> Result<ConfigPushed, ControlError>;

    /// Puts what an earlier version said there as a new one. Blocks on a server.
    ///
    /// # Errors
    /// As for a push; [`ControlError::NotFound`] where that version is not there any more.
    fn rollback(&self, order: &ConfigRollback, by: &OrderedBy) -> Result<ConfigPushed, ControlError>;
}

/// Who orders something.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OrderedBy {
    /// By what right, as in the record of changes.
    pub by: String,
    /// Who that says it is; nobody has checked that.
    pub said: Option<String>,
}

/// A configuration for a fleet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ConfigPush {
    /// The version that it was made from: nothing is pushed where there is another one by now. 0, or nothing: there is none.
    #[serde(default)]
    pub over: Option<u64>,
    /// What is said about it.
    #[serde(default)]
    pub note: Option<String>,
    /// It may change what running instances cannot take over; they take it when they start.
    #[serde(default)]
    pub restart: bool,
    /// It is judged, and nothing else.
    #[serde(default)]
    pub dry_run: bool,
    /// Its text (TOML), without the keys that are an instance's own. Secrets and files that it names are looked up by each instance.
    pub text: String,
}

/// What an earlier version said, again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ConfigRollback {
    /// That version.
    pub version: u64,
    /// The version that is to be replaced.
    pub over: u64,
    /// What is said about it.
    #[serde(default)]
    pub note: Option<String>,
    /// As of a push.
    #[serde(default)]
    pub restart: bool,
    /// As of a push.
    #[serde(default)]
    pub dry_run: bool,
}

/// What became of a push.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConfigPushed {
    /// Its number; null: it was judged only.
    pub version: Option<u64>,
    /// Digest of its text.
    pub digest: String,
    /// What is another than what was in force on the instance that was asked, key by key.
    pub changes: Vec<ConfigChange>,
    /// Routes of that instance whose copies were purged.
    pub purged: Vec<String>,
    /// Why it is not in force there: it waits for a restart, or could not be taken over after all.
    pub refused: Option<String>,
}

/// A version of the configuration that a fleet keeps.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConfigVersion {
    /// Its number.
    pub version: u64,
    /// The first 32 hexadecimal digits of its text's SHA-256.
    pub digest: String,
    /// When it was pushed, RFC 3339.
    pub at: String,
    /// By what right.
    pub by: String,
    /// Who that said it was; nobody has checked that.
    pub said: Option<String>,
    /// The instance that took it.
    pub instance: String,
    /// What was said about it.
    pub note: Option<String>,
    /// The version that it says again.
    pub again: Option<u64>,
}

/// The same with its text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConfigText {
    /// Which it is.
    pub version: ConfigVersion,
    /// The text (TOML).
    pub text: String,
}

/// What an instance of a fleet goes by.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InstanceConfig {
    /// Its name.
    pub instance: String,
    /// When it was last heard of, seconds ago.
    pub ago_s: u64,
    /// The version that is in force; 0: its own file; null: it has only just started, or is of another release.
    pub version: Option<u64>,
    /// Digest of that text; empty for its own file.
    pub digest: String,
    /// The version that is not in force there.
    pub refuses: Option<u64>,
    /// Why.
    pub refused: Option<String>,
    /// That one waits for a restart, and nothing else is wrong with it.
    pub restart: bool,
}

/// The configuration that a fleet keeps, and what its instances go by.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FleetConfig {
    /// The version that is in force on this instance; 0: its own file.
    pub version: u64,
    /// The newest version that is known here; null: there is none.
    pub newest: Option<ConfigVersion>,
    /// Why that one is not in force here.
    pub refused: Option<String>,
    /// What is wrong with the way to it: Redis does not answer, or what it has is not the fleet's.
    pub problem: Option<String>,
    /// What each instance goes by that was heard of in the last hour, this one included, as of a few seconds ago.
    pub instances: Vec<InstanceConfig>,
}

/// The record of changes.
pub trait AuditControl: Send + Sync {
    /// Adds one. Blocks; what cannot be written is counted, and stops nothing.
    fn note(&self, change: ChangeNote);

    /// The latest, the last one last. Blocks.
    ///
    /// # Errors
    /// Nothing is kept, or it cannot be read.
    fn changes(&self, most: usize) -> Result<Vec<ChangeNote>, ControlError>;

    /// Digest of the configuration in force.
    fn digest(&self) -> String;
}

/// Which configuration is in force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConfigInfo {
    /// The first 32 hexadecimal digits of the SHA-256 of the file, or of what the fleet keeps.
    pub digest: String,
    /// The file; absent where it came from flags alone.
    pub file: Option<String>,
    /// The version of the fleet's configuration that it is, together with this instance's own part of the file; absent where it is the file alone.
    #[serde(default)]
    pub fleet_version: Option<u64>,
    /// Since when it is in force, RFC 3339.
    pub since: String,
    /// Reloads that were put in force, since the start.
    pub applied: u64,
    /// Reloads that said what was in force already.
    pub unchanged: u64,
    /// Reloads that would have needed a restart.
    pub restart: u64,
    /// Reloads that could not be read, or not run.
    pub invalid: u64,
    /// When the last reload was refused, RFC 3339, where none has succeeded since.
    pub refused_at: Option<String>,
    /// Why.
    pub refused: Option<String>,
}

/// Asks what a configuration would change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ConfigQuestion {
    /// Its text (TOML); the instance's own file where there is none. Secrets and files that it names are looked up by the instance.
    pub text: Option<String>,
}

/// What a reload changed, or would.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConfigReport {
    /// Digest of the configuration that it is about.
    pub digest: String,
    /// What is another, key by key.
    pub changes: Vec<ConfigChange>,
    /// Routes whose copies were purged: they were made by other rules, or come from elsewhere. Empty for a question.
    pub purged: Vec<String>,
}

/// One key that is another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConfigChange {
    /// The key, such as `routes.geo.max_ttl`.
    pub key: String,
    /// Before; secrets are not shown.
    pub from: String,
    /// After.
    pub to: String,
    /// Why that needs a restart; absent where it does not.
    pub restart: Option<String>,
}

/// One change that was ordered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ChangeNote {
    /// When it was answered, RFC 3339; filled in by who keeps it.
    pub at: String,
    /// By what right: a token's name and role, `token` for `admin.token`, `loopback`, `signal`.
    pub by: String,
    /// Who it says it was (`x-farthing-actor`); nobody has checked that.
    pub said: Option<String>,
    /// From which address.
    pub peer: Option<String>,
    /// What was ordered, such as `POST /api/v1/bypass/on`.
    pub what: String,
    /// With which words: the body, cut where it is long.
    pub with: String,
    /// What came of it: a status of HTTP, or a word.
    pub outcome: String,
    /// Digest of the configuration before.
    pub before: String,
    /// And after.
    pub after: String,
}

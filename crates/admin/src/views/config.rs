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
    /// The first 32 hexadecimal digits of the file's SHA-256.
    pub digest: String,
    /// The file; absent where it came from flags alone.
    pub file: Option<String>,
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

//! Predictors: versions and aliases.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::ControlError;

/// The store of predictors. All methods may read files and build sessions: they are called off the async threads.
pub trait ModelsControl: Send + Sync {
    /// Versions on disk (of one kind, or of all), and what decides.
    ///
    /// # Errors
    /// Unknown kind, or an unreadable store.
    fn list(&self, kind: Option<&str>) -> Result<ModelList, ControlError>;
    /// One version with its manifest.
    ///
    /// # Errors
    /// There is no such version, or it cannot be read.
    fn show(&self, kind: &str, version: u32) -> Result<ModelDetail, ControlError>;
    /// Loads a version, with all its checks, without letting it decide.
    ///
    /// # Errors
    /// [`ControlError::Refused`] with the check it failed.
    fn load(&self, kind: &str, version: u32) -> Result<ModelVersion, ControlError>;
    /// Moves an alias to a version, after loading it with all checks; requests meanwhile use the old one.
    ///
    /// # Errors
    /// As [`ModelsControl::load`], and for a version that was rolled back before and is not forced; the alias then stays where it was.
    fn promote(&self, kind: &str, alias: &str, version: u32, order: &ModelOrder) -> Result<AliasState, ControlError>;
    /// Moves an alias back to the version it had before.
    ///
    /// # Errors
    /// There is none, or it is not good any more.
    fn rollback(&self, kind: &str, alias: &str, order: &ModelOrder) -> Result<AliasState, ControlError>;
    /// Takes an alias away; `champion` stays.
    ///
    /// # Errors
    /// It names nothing, or the store cannot be written.
    fn clear(&self, kind: &str, alias: &str, order: &ModelOrder) -> Result<Vec<AliasState>, ControlError>;
    /// Who moved which alias, when and why; newest first.
    ///
    /// # Errors
    /// Unknown kind.
    fn history(&self, kind: Option<&str>) -> Result<Vec<ModelEvent>, ControlError>;
}

/// Who orders a change, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelOrder {
    /// Who; kept in the history as `operator NAME`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Why; kept in the history.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Also a version that was rolled back before.
    #[serde(default)]
    pub force: bool,
}

/// One change of an alias.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ModelEvent {
    /// When, RFC 3339.
    pub at: String,
    /// Kind.
    pub kind: String,
    /// Alias.
    pub alias: String,
    /// `promote`, `rollback`, `clear`, `reject`, or `follow`: the alias file was moved by other means.
    pub action: String,
    /// The version it named before.
    pub from: Option<u32>,
    /// The version it names since.
    pub to: Option<u32>,
    /// Who.
    pub by: String,
    /// Why.
    pub reason: String,
    /// A version that had been rolled back was let in again.
    pub forced: bool,
}

/// Versions and aliases.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ModelList {
    /// The native library; null when tables and rules decide.
    pub library: Option<String>,
    /// Versions on disk.
    pub versions: Vec<ModelVersion>,
    /// Aliases.
    pub aliases: Vec<AliasState>,
    /// Generations in memory: loaded since start.
    pub loaded: u64,
    /// Generations in memory: freed since start.
    pub freed: u64,
}

/// One version on disk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ModelVersion {
    /// Kind: `ttl`, `strategy`, `prefetch`, `cost`.
    pub kind: String,
    /// Version.
    pub version: u32,
    /// Digest; null when the manifest cannot be read.
    pub digest: Option<String>,
    /// Aliases that name it.
    pub aliases: Vec<String>,
    /// Whether it decides in this process now.
    pub live: bool,
    /// When it was written, ns since 1970 UTC.
    pub created_ns: Option<i64>,
    /// Rows it was trained on.
    pub rows: Option<u64>,
    /// Figures of the held-out time range.
    pub metrics: BTreeMap<String, f64>,
    /// Why it could not be read.
    pub problem: Option<String>,
    /// Why it must not be promoted again unless forced: it was rolled back.
    pub rejected: Option<String>,
}

/// One version with its manifest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ModelDetail {
    /// The version.
    pub version: ModelVersion,
    /// The manifest as it stands on disk.
    pub manifest: Value,
}

/// One alias.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AliasState {
    /// Kind.
    pub kind: String,
    /// `champion`, `challenger`, `shadow`.
    pub alias: String,
    /// The version it names.
    pub version: Option<u32>,
    /// The version that is live; differs while a named one is refused.
    pub live: Option<u32>,
    /// Digest of what is live.
    pub digest: Option<String>,
    /// What runs of it: `model`, `table`.
    pub engine: Option<String>,
    /// Why the named version is not live.
    pub problem: Option<String>,
}

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
    /// Who moved which alias, when and why; newest first. Blocks on a file.
    fn history(&self) -> Vec<ModelEvent>;
    /// What decides in each instance that shares an object store of predictors; none without one. Blocks on a server.
    ///
    /// # Errors
    /// The store cannot be reached.
    fn instances(&self) -> Result<Vec<ModelInstance>, ControlError>;
    /// Versions beside the champion.
    fn candidates(&self) -> Vec<CandidateInfo>;
    /// How forecasts have come true, and how far features have moved.
    fn drift(&self) -> DriftInfo;
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
    /// `promote`, `rollback`, `clear`, `reject`, `follow`: the alias file was moved by other means; or `drift`: nothing was moved, its version misleads.
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
    /// Why it could not be read, or may not decide: nobody who is trusted has signed it.
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

/// Changes that came against those that were foretold; older ones fade.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ForecastInfo {
    /// Copies that were fetched again, in all.
    pub labels: u64,
    /// Changes seen, lately.
    pub observed: f64,
    /// Changes foretold, lately.
    pub expected: f64,
    /// Seen over foretold; null while too little is known.
    pub ratio: Option<f64>,
    /// Evidence that forecasts are off by more than a factor of two; 1 is none.
    pub evidence: f64,
}

/// One guard of a canary.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct GuardInfo {
    /// `calls`, `errors`, `stale` or `bill`.
    pub guard: String,
    /// Evidence of harm; 1 is none, at 1,000 the candidate is taken back.
    pub evidence: f64,
}

/// An instance that shares an object store of predictors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ModelInstance {
    /// Its name.
    pub name: String,
    /// When it said last what decides in it, RFC 3339.
    pub said: String,
    /// The same, seconds ago. It says so every 30 seconds, and when that changes.
    pub said_s: u64,
    /// Aliases that it does not follow.
    pub differs: Vec<ModelDifference>,
}

/// An alias that an instance does not follow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ModelDifference {
    /// `kind/alias`.
    pub alias: String,
    /// The version that the alias names; null: none.
    pub wanted: Option<u32>,
    /// The version that decides in the instance; null: none.
    pub live: Option<u32>,
}

/// A version beside the champion.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CandidateInfo {
    /// `challenger` or `shadow`.
    pub alias: String,
    /// Its version.
    pub version: u32,
    /// Its digest.
    pub digest: String,
    /// Since when it is scored, RFC 3339.
    pub since: String,
    /// `shadow` (scored, decides nothing) or `canary` (decides for some keys).
    pub stage: String,
    /// Share of keys that it decides for in the canary.
    pub share: f64,
    /// Fills at which it was asked.
    pub fills: u64,
    /// Mean distance of its TTLs from the champion's, as a natural log.
    pub disagreement: f64,
    /// Mean time that it took to answer, microseconds.
    pub latency_us: f64,
    /// What its copies would have cost by what came to pass, over the champion's; null while nothing has.
    pub bill_against_champion: Option<f64>,
    /// How its forecasts have come true.
    pub forecasts: ForecastInfo,
    /// The same of the champion.
    pub champion: ForecastInfo,
    /// Guards that compare its keys with as many of the champion's.
    pub guards: Vec<GuardInfo>,
    /// What its keys cost over the champion's in the canary, calls and stale answers; null while too little is known.
    #[serde(default)]
    pub money_against_champion: Option<f64>,
    /// Keys times windows that this stands on: the champion's, the challenger's.
    #[serde(default)]
    pub key_windows: [u64; 2],
    /// Evidence that its keys cost at most `models.autopilot_margin` more; 1 is none, the autopilot promotes at 100.
    #[serde(default)]
    pub shown: f64,
    /// Seconds in which the autopilot must be sure of it; null where none decides.
    #[serde(default)]
    pub autopilot_left_s: Option<f64>,
    /// Routes on which it is not asked, and does not decide, until an experiment on their copies has ended.
    #[serde(default)]
    pub waits: Vec<CandidateWait>,
}

/// A route on which a candidate waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CandidateWait {
    /// The route.
    pub route: String,
    /// The experiment that it waits for.
    pub experiment: String,
}

/// How the forecasts of a route have come true.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RouteDriftInfo {
    /// The route.
    pub route: String,
    /// `full`; `statistics`: the live statistics decide; `rule`: the rule does.
    pub trust: String,
    /// There is evidence to trust it less, and nothing may act: automation is frozen, or `models.drift_acts` is off.
    pub warns: bool,
    /// How often the trust has changed since the start.
    pub turns: u64,
    /// Of the predictor.
    pub predictor: ForecastInfo,
    /// Of the live statistics alone.
    pub statistics: ForecastInfo,
}

/// How far a feature has moved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FeatureInfo {
    /// Its name.
    pub feature: String,
    /// Population stability index against the reference, less what chance gives.
    pub shift: f64,
    /// More than 0.25.
    pub shifted: bool,
}

/// All that is known of drift.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DriftInfo {
    /// Routes of which anything is known.
    pub routes: Vec<RouteDriftInfo>,
    /// Features of the last 1,000 decisions, the farthest first; empty before so many.
    pub features: Vec<FeatureInfo>,
    /// `golden-rows` of the bundle, or the `first-window` of decisions seen; empty before any.
    pub reference: String,
    /// Rows of that.
    pub reference_rows: u64,
    /// What chance alone gives; it was taken off.
    pub noise: f64,
}

//! Budgets.

use std::pin::Pin;

use farthing_types::Money;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::ControlError;

/// The budgets of this instance.
pub trait BudgetsControl: Send + Sync {
    /// All of them with their counters.
    fn budgets(&self) -> BudgetsView;
    /// Requests that were held back lately, the latest first; one of them, or those of one budget.
    fn refusals(&self, request: Option<&str>, budget: Option<&str>) -> Vec<RefusalView>;
    /// Adds money to a budget for some time.
    ///
    /// # Errors
    /// A budget or a time that does not exist; a disk that does not take it.
    fn raise(&self, budget: String, raise: RaiseRequest) -> Raising;
    /// Waits no longer for an instance that has not told what it spent since Redis lost its data; by its name or id.
    ///
    /// # Errors
    /// An instance that is not waited for, or a Redis that does not answer.
    fn write_off(&self, member: String) -> WritingOff;
}

/// A write-off under way.
pub type WritingOff = Pin<Box<dyn Future<Output = Result<(), ControlError>> + Send>>;

/// A raise under way.
pub type Raising = Pin<Box<dyn Future<Output = Result<CounterRow, ControlError>> + Send>>;

/// All budgets.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BudgetsView {
    /// The budgets, in the order of their names.
    pub budgets: Vec<BudgetRow>,
    /// Why it cannot be written down what may be spent, while that is so: budgets that fail closed hold back then.
    pub fault: Option<String>,
    /// Requests that wait for room now.
    pub waiting: u64,
    /// Calls since start that cost more than was set aside for them.
    pub overruns: u64,
    /// Calls since start of which no bound was known, let through.
    pub unbounded: u64,
    /// Refreshes and other calls nobody waits for, left out since start.
    pub left_out: u64,
    /// The instances that share them; null where there is no fleet.
    #[serde(default)]
    pub fleet: Option<BudgetFleetView>,
}

/// Instances that share budgets, as one of them knows it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BudgetFleetView {
    /// This one's id, which its ledger keeps.
    pub id: String,
    /// Why nothing more is granted now.
    pub trouble: Option<String>,
    /// All that are known of.
    pub members: Vec<BudgetMemberView>,
    /// Losses of Redis' data that this instance has noticed since its start.
    pub losses: u64,
}

/// One of them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BudgetMemberView {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Nothing was heard of it for so long that what it holds is quarantined.
    pub away: bool,
    /// It has told what it may spend since Redis lost its data.
    pub told: bool,
}

/// What others of the fleet hold of a counter.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CounterFleetView {
    /// What they have spent, as they told last.
    #[schema(value_type = String)]
    pub spent_usd: Money,
    /// Unspent allowances of those that are away: counted as spent until they tell.
    #[schema(value_type = String)]
    pub quarantined_usd: Money,
    /// Nothing is granted until all have told.
    pub withheld: bool,
    /// Who holds what, this instance included.
    pub holders: Vec<HolderView>,
}

/// What an instance holds of a counter.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct HolderView {
    /// Its name.
    pub name: String,
    /// What it may spend in the window in all.
    #[schema(value_type = String)]
    pub allowed_usd: Money,
    /// What it has spent of it.
    #[schema(value_type = String)]
    pub spent_usd: Money,
    /// It is away.
    pub away: bool,
}

/// A budget.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BudgetRow {
    /// Its name.
    pub name: String,
    /// Dollars of one window.
    #[schema(value_type = String, example = "500")]
    pub limit_usd: Money,
    /// `day`, `month` or `ever`.
    pub window: String,
    /// Time zone in which windows begin.
    pub time_zone: String,
    /// Whose calls it counts, in words.
    pub counts: String,
    /// Who has a counter of its own: `tenant`, `team`, `service` or `key`.
    pub per: Option<String>,
    /// Whom it holds back: `hard`, `high-passes`, `soft`.
    pub enforce: String,
    /// What becomes of requests that it holds back, of high, medium and low priority.
    pub on_exceeded: Vec<String>,
    /// Its counters in the present window.
    pub counters: Vec<CounterRow>,
}

/// A counter in its present window.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CounterRow {
    /// The tenant, team, service or key; empty where all share one counter.
    pub unit: String,
    /// Begin of the window, RFC 3339; null for one without end.
    pub since: Option<String>,
    /// End of the window.
    pub until: Option<String>,
    /// The limit now, raises included.
    #[schema(value_type = String)]
    pub limit_usd: Money,
    /// What providers have charged.
    #[schema(value_type = String)]
    pub spent_usd: Money,
    /// What they may have charged beyond: answers that never came or broke off, calls without a price.
    #[schema(value_type = String)]
    pub uncertain_usd: Money,
    /// Granted before a crash and not accounted for: counts as spent.
    #[schema(value_type = String)]
    pub lost_usd: Money,
    /// Set aside for calls under way.
    #[schema(value_type = String)]
    pub reserved_usd: Money,
    /// What is left.
    #[schema(value_type = String)]
    pub left_usd: Money,
    /// Requests held back in the window since the start of this process.
    pub held_back: u64,
    /// What was added for some time.
    pub raises: Vec<RaiseView>,
    /// What others of the fleet hold; null where there is none.
    #[serde(default)]
    pub fleet: Option<CounterFleetView>,
}

/// Money added for some time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RaiseView {
    /// How much.
    #[schema(value_type = String)]
    pub by_usd: Money,
    /// Until when, RFC 3339.
    pub until: String,
    /// Why.
    pub note: String,
}

/// An order to add money to a budget for some time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RaiseRequest {
    /// How many dollars.
    #[schema(value_type = String, example = "50")]
    pub by_usd: Money,
    /// Until when, RFC 3339; the end of the window without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// Whose counter, where each has its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// Why: kept with it.
    #[serde(default)]
    pub note: String,
}

/// A request that was held back.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RefusalView {
    /// Its id.
    pub request: String,
    /// When, RFC 3339.
    pub at: String,
    /// Who asked.
    pub tenant: String,
    /// The route.
    pub route: String,
    /// How much it mattered.
    pub priority: String,
    /// The budget that held it back.
    pub budget: String,
    /// The unit of its counter.
    pub unit: String,
    /// `exceeded`, `unpriced`, `fault` or `too-many-units`.
    pub why: String,
    /// The most that the call could have cost; null when no bound is known.
    #[schema(value_type = Option<String>)]
    pub needed_usd: Option<Money>,
    /// Spent, uncertain and lost then.
    #[schema(value_type = String)]
    pub used_usd: Money,
    /// Set aside for other calls then.
    #[schema(value_type = String)]
    pub reserved_usd: Money,
    /// The limit then.
    #[schema(value_type = String)]
    pub limit_usd: Money,
    /// When the next window begins.
    pub resets: Option<String>,
    /// Whether an older copy was served in its place.
    pub stood_in: bool,
}

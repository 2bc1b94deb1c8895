//! Admin API: axum router with OpenAPI, problem documents and bearer token, over small traits that the proxy implements.
//!
//! [`router`] builds the service from [`Parts`]; [`serve`] runs it on a listener until told to stop. The handlers know
//! nothing of the proxy: they see [`StatusView`] and its like, and the views they return are the API's documents.

mod api;
mod audit;
mod brisk;
mod dashboard;
mod guard;
mod places;
mod problem;
mod server;
mod views;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_audit;
#[cfg(test)]
mod tests_bypass;
#[cfg(test)]
mod tests_connections;
#[cfg(test)]
mod tests_dashboard;
#[cfg(test)]
mod tests_experiments;
#[cfg(test)]
mod tests_freeze;
#[cfg(test)]
mod tests_money;
#[cfg(test)]
mod tests_sinks;

pub use api::{openapi, router};
pub use problem::{Problem, ProblemDocument};
pub use server::{ServeError, serve};
pub use views::alerts::{AlertInfo, AlertsView, MonthForecast};
pub use views::budgets::{
    BudgetFleetView, BudgetMemberView, BudgetRow, BudgetsControl, BudgetsView, CounterFleetView, CounterRow, HolderView, RaiseRequest,
    RaiseView, Raising, RefusalView, WritingOff,
};
pub use views::bypass::{BypassControl, BypassInfo, BypassRequest, OwnTimeInfo, SwitchInfo};
pub use views::cache::{CacheControl, CacheStats, FleetTold, PurgeReport, PurgeRequest, WarmReport, WarmRequest, WarmedTarget, Warming};
pub use views::config::{
    AuditControl, ChangeNote, ConfigChange, ConfigControl, ConfigInfo, ConfigPush, ConfigPushed, ConfigQuestion, ConfigReport,
    ConfigRollback, ConfigText, ConfigVersion, FleetConfig, FleetConfigControl, InstanceConfig, OrderedBy,
};
pub use views::costs::{CostAnswer, CostFigures, CostPoint, CostQuestion, CostRow, CostsView, NetSaving, StrategyImpact, UnobservedHost};
pub use views::decisions::{DecisionView, DecisionsView};
pub use views::events::{DeliveryReport, EventSourceInfo, EventsControl, EventsDelivery};
pub use views::experiments::{
    ExperimentAudit, ExperimentDetail, ExperimentRequest, ExperimentRows, ExperimentSummary, ExperimentVariant, ExperimentsView,
    RouteTuning, TunedPast, TunedValue, TuningTrial,
};
pub use views::explanations::{EconomicsView, ExplanationView, FeatureMove, IntervalView, PlanStep, PlanView};
pub use views::forget::{ForgetControl, ForgetReport, ForgetRequest, ForgetRunning};
pub use views::freeze::{FreezeControl, FreezeInfo, FreezeRequest};
pub use views::limits::{LimitCounter, LimitRow, LimitsControl, LimitsInstance, LimitsShared, LimitsView, LoadRow, RefusedCount};
pub use views::models::{
    AliasState, CandidateInfo, CandidateWait, DriftInfo, FeatureInfo, ForecastInfo, GuardInfo, ModelDetail, ModelDifference, ModelEvent,
    ModelInstance, ModelList, ModelOrder, ModelVersion, ModelsControl, RouteDriftInfo,
};
pub use views::plans::{PlanInfo, ShadowPlan};
pub use views::prices::{MonthlyVolume, PricesControl, PricesReport, UnpricedTarget};
pub use views::routes::{AheadInfo, AuditInfo, NotSaved, ProviderInfo, RouteInfo, RoutesView, VolatileField, VolatileReport};
pub use views::sinks::{SinkInfo, SinksView};
pub use views::status::{Costs, FleetInfo, Part, Phase, Quantiles, Readiness, RouteCosts, Status, StatusView, Tally, TenantCosts, Totals};
pub use views::{ControlError, MetricsView, Parts};

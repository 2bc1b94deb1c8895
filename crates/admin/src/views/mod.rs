//! What the handlers see: one small trait for each part, and the documents they return.

pub mod alerts;
pub mod budgets;
pub mod bypass;
pub mod cache;
pub mod config;
pub mod costs;
pub mod decisions;
pub mod events;
pub mod experiments;
pub mod explanations;
pub mod forget;
pub mod freeze;
pub mod limits;
pub mod models;
pub mod plans;
pub mod prices;
pub mod routes;
pub mod sinks;
pub mod status;

use std::sync::Arc;

use alerts::AlertsView;
use budgets::BudgetsControl;
use bypass::BypassControl;
use cache::CacheControl;
use config::{AuditControl, ConfigControl, FleetConfigControl};
use costs::CostsView;
use decisions::DecisionsView;
use events::EventsControl;
use experiments::ExperimentsView;
use forget::ForgetControl;
use freeze::FreezeControl;
use limits::LimitsControl;
use models::ModelsControl;
use prices::PricesControl;
use routes::RoutesView;
use sinks::SinksView;
use status::StatusView;

/// Everything behind the API.
#[derive(Clone)]
pub struct Parts {
    /// Status, readiness, costs.
    pub status: Arc<dyn StatusView>,
    /// Routes.
    pub routes: Arc<dyn RoutesView>,
    /// Predictors.
    pub models: Arc<dyn ModelsControl>,
    /// Experiments.
    pub experiments: Arc<dyn ExperimentsView>,
    /// Logged decisions.
    pub decisions: Arc<dyn DecisionsView>,
    /// The cache.
    pub cache: Arc<dyn CacheControl>,
    /// The configuration.
    pub config: Arc<dyn ConfigControl>,
    /// The one that a fleet keeps.
    pub fleet_config: Arc<dyn FleetConfigControl>,
    /// Who changed what.
    pub audit: Arc<dyn AuditControl>,
    /// Questions about money.
    pub costs: Arc<dyn CostsView>,
    /// Alerts about money.
    pub alerts: Arc<dyn AlertsView>,
    /// Forgetting tenants.
    pub forget: Arc<dyn ForgetControl>,
    /// Sources of events.
    pub events: Arc<dyn EventsControl>,
    /// Budgets.
    pub budgets: Arc<dyn BudgetsControl>,
    /// The bypass switch.
    pub bypass: Arc<dyn BypassControl>,
    /// The freeze.
    pub freeze: Arc<dyn FreezeControl>,
    /// Limits.
    pub limits: Arc<dyn LimitsControl>,
    /// Prices.
    pub prices: Arc<dyn PricesControl>,
    /// Sinks of the log.
    pub sinks: Arc<dyn SinksView>,
    /// Metrics.
    pub metrics: Arc<dyn MetricsView>,
}

/// The metrics.
pub trait MetricsView: Send + Sync {
    /// All metrics in OpenMetrics text format.
    fn text(&self) -> String;
}

/// Why something was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// There is no such thing.
    #[error("{0}")]
    NotFound(String),
    /// It was refused: the request, or what it names, is not good. What was live stays live.
    #[error("{0}")]
    Refused(String),
    /// Whoever asks has not shown that they may.
    #[error("{0}")]
    Unauthorized(String),
    /// Somebody else was quicker: what it was made from is not what there is.
    #[error("{0}")]
    Conflict(String),
    /// It cannot be done now.
    #[error("{0}")]
    Unavailable(String),
    /// It failed.
    #[error("{0}")]
    Failed(String),
}

//! The request path: typed stages above, [`Origin`](farthing_upstream::Origin) below. The only composer.
//!
//! [`Proxy::start`] builds everything from a checked configuration; `serve` takes one request from top to bottom; `run` is the
//! lower half, which fills, refreshes and passes on without a client. See docs/life-of-a-request.md.

mod admission;
pub mod alerts;
mod answer;
mod asking;
pub mod assembly;
mod audit;
mod batching;
mod blocking;
mod bounded;
mod budgets;
mod canonical;
mod changes;
mod choose;
mod clients;
mod compile;
mod compress;
mod content;
mod defer;
pub mod edge;
pub mod events;
pub mod experiments;
mod files;
mod fills;
mod fleet;
mod flight;
pub mod forget;
mod forward;
mod identify;
mod ids;
mod inside;
mod items;
mod journal;
mod l2;
pub mod lifecycle;
mod limits;
mod listeners;
mod live;
mod load;
mod lookup;
mod memory;
mod model_store;
pub mod otlp;
mod pace;
mod passing;
mod plans;
mod predictors;
mod prefetch;
mod prices;
mod pricing;
pub mod problem;
mod promises;
mod prompts;
mod proof;
mod purging;
mod reason;
mod reload;
mod reply;
mod request;
pub mod retention;
mod route;
mod routing;
mod run;
mod serve;
mod settle;
mod shared_config;
mod shortcut;
pub mod sinks;
mod state;
mod stats;
mod stream;
mod switches;
mod tags;
pub mod telemetry;
mod telemetry_limits;
mod texts;
mod ticketed;
mod trace;
mod tuned;
mod unsent;
pub mod volatile;
mod warm;
mod warm_clock;
mod wishes;
mod writes;

use std::sync::Arc;

use farthing_types::RouteName;

pub use assembly::{Proxy, check_log, check_parts, could_run};
pub use audit::{RouteAudit, Skipped as AuditSkipped};
pub use batching::BatchReport;
pub use budgets::{BudgetsReport, FleetReport as FleetBudgetsReport, RaiseError, RefusalReport, WriteOffError};
pub use changes::ChangeRecord;
pub use defer::DeferReport;
pub use experiments::{AuditLine, ExperimentError, ExperimentView, KnobView, Past, TryingView, TuningView, experiment_spec};
pub use farthing_upstream::LegReport;
pub use fills::FillOutcome;
pub use fleet::{Fleet, FleetError, FleetStats, Identity};
pub use forward::HostReport as UnobservedHost;
pub use inside::Inside;
pub use items::{ListStats, Source as ItemSource};
pub use l2::{L2Error, L2Stats};
pub use lifecycle::freeze::{FreezeError, FreezeOrder};
pub use lifecycle::{CandidateView, DriftReport, FeatureShift, RouteDrift};
pub use limits::{LimitsFleet, LimitsReport};
pub use load::{LoadReport, TierLoad, Weight};
pub use pace::PaceStats;
pub use plans::{Made as PlanMade, PlanReport, dropped};
pub use predictors::champion;
pub use prefetch::{Off as PrefetchOff, Refused as PrefetchRefused, RouteBooks as PrefetchBooks};
pub use prices::book as price_book;
pub use pricing::{Charged, PricingStats};
pub use prompts::PromptReport;
pub use proof::ProofReport;
pub use reload::{
    Digest, NotReloaded, Outcome as ReloadOutcome, ReloadError, Reloaded, Standing as ConfigStanding, Unread as UnreadConfig,
};
pub use route::{economics as route_economics, facts as route_facts, rules as route_rules, ttl_params};
pub use routing::RoutingReport;
pub use shared_config::{
    Document as SharedDocument, MemberConfig, Push, PushError, Pushed, ReadShared, SharedConfig, SharedStanding, Version as SharedVersion,
    digest as config_digest,
};
pub use switches::{BypassError, Order as BypassOrder, OwnPart, RouteSwitches, Strategy as SwitchedStrategy, SwitchView};
pub use warm::{WarmOrder, WarmOutcome, WarmRefused, WarmReport, Warmed};
pub use warm_clock::WarmBooks;

/// Why a proxy could not be started, or an experiment not be run.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A route names a provider that does not exist.
    #[error("route `{route}`: there is no provider `{provider}`; add [providers.{provider}]")]
    NoProvider {
        /// The route.
        route: RouteName,
        /// The provider.
        provider: Arc<str>,
    },
    /// A plan cannot be compiled.
    #[error("route `{route}`: {source}")]
    Plan {
        /// The route.
        route: RouteName,
        /// Why.
        source: farthing_policy::PlanError,
    },
    /// An upstream cannot be built.
    #[error(transparent)]
    Upstream(#[from] farthing_upstream::UpstreamError),
    /// A route's calls cannot be made together as configured.
    #[error("route `{route}`: calls cannot be made together as [routes.{route}.batch] says; `farthing check` names what is wrong")]
    Batch {
        /// The route.
        route: RouteName,
    },
    /// A budget's time zone.
    #[error(transparent)]
    Zone(#[from] farthing_ledger::budget::UnknownZone),
    /// Budgets cannot be kept.
    #[error(transparent)]
    Budgets(farthing_ledger::budget::StoreError),
    /// Prices contradict each other.
    #[error(transparent)]
    Prices(#[from] farthing_ledger::PriceError),
    /// What an operator lets pass by cannot be read.
    #[error(transparent)]
    Bypass(#[from] switches::BypassError),
    /// Whether an operator has frozen automation cannot be read.
    #[error(transparent)]
    Freeze(#[from] lifecycle::freeze::FreezeError),
    /// A sink of the log cannot work as it is described.
    #[error(transparent)]
    Sink(#[from] farthing_sinks::OpenError),
    /// The object store of predictors cannot work as it is described.
    #[error("[models.store] {0}")]
    ModelStore(String),
    /// The log cannot be started.
    #[error(transparent)]
    Log(#[from] farthing_ledger::LogError),
    /// The data port cannot be opened.
    #[error("the data port {addr} cannot be opened: {source}; choose another with --listen")]
    Listen {
        /// The address.
        addr: std::net::SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
    /// Certificates that clients are shown.
    #[error(transparent)]
    Tls(#[from] farthing_tls::TlsError),
    /// The webhook of alerts cannot be called.
    #[error("alerts.webhook cannot be called as it is written: {0}")]
    Webhook(String),
    /// The collector of traces cannot be called.
    #[error("telemetry.otlp cannot be used as it is written: {0}")]
    Traces(String),
    /// The keys of an issuer of tokens.
    #[error("[[jwt]] `{name}`: {reason}")]
    Jwt {
        /// The issuer.
        name: Arc<str>,
        /// Why.
        reason: String,
    },
    /// The instance cannot belong to its fleet.
    #[error(transparent)]
    Fleet(#[from] FleetError),
    /// L2 cannot be opened.
    #[error(transparent)]
    L2(#[from] L2Error),
    /// A source of events can never be reached.
    #[error("[events.{name}] {source}")]
    Events {
        /// The source.
        name: Arc<str>,
        /// Why.
        source: farthing_fleet::ConfigError,
    },
    /// The system gave no random numbers.
    #[error("the system gives no random numbers: {0}")]
    Random(String),
    /// A description is no experiment.
    #[error(transparent)]
    Experiment(#[from] farthing_experiment::SpecError),
    /// An experiment names a route that does not exist.
    #[error("experiment `{experiment}`: there is no route `{route}`")]
    NoRoute {
        /// The experiment.
        experiment: Arc<str>,
        /// The route.
        route: RouteName,
    },
    /// Another experiment runs on the route, and a request carries one draw.
    #[error(
        "experiments `{other}` and `{experiment}` share route `{route}`: put them into one `layer` with parts that do not overlap, or stop one"
    )]
    Layer {
        /// The experiment.
        experiment: Arc<str>,
        /// The one that runs.
        other: Arc<str>,
        /// The route.
        route: Arc<str>,
    },
    /// Another experiment bears on the same.
    #[error(transparent)]
    Conflict(#[from] farthing_experiment::Conflict),
    /// A description has changed since the experiment began.
    #[error("experiment `{experiment}` is {stage} and {keys} changed since it began: restore that, or give the new one another name")]
    Frozen {
        /// The experiment.
        experiment: Arc<str>,
        /// Where it stands.
        stage: &'static str,
        /// What changed.
        keys: String,
    },
    /// What was kept of experiments cannot be taken up.
    #[error("experiments: {reason}")]
    Kept {
        /// Why.
        reason: String,
    },
    /// A model version cannot go live.
    #[error(transparent)]
    Models(#[from] farthing_models::ModelsError),
}

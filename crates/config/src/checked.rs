//! The checked configuration: what the rest of Farthing sees. Every value is in range and every name resolves.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use farthing_types::{BudgetSpec, Coding, LimitSpec, Money, Overrides, RouteName, Span};

use crate::{
    AdminToken, AlertsConfig, EventsConfig, FarthingKey, FleetConfig, ForwardConfig, JwtIssuer, L2Config, OverloadConfig, Provider,
    RetentionConfig, Route, Secret, SelfCostConfig, SinkConfig, TelemetryConfig, TenantRights, TlsConfig,
};

/// The whole configuration of one instance.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    /// The data port and the limits of its edge.
    pub data: ListenConfig,
    /// What is done for clients that take it for their proxy; `None`: nothing.
    pub forward: Option<ForwardConfig>,
    /// The admin port.
    pub admin: AdminConfig,
    /// Routes in the order in which they are tried: longer path prefixes first, routes with hosts before those without.
    pub routes: Vec<Arc<Route>>,
    /// Providers that routes refer to; every `Route::provider` is in here.
    pub providers: Vec<Arc<Provider>>,
    /// Keys of our own that clients may present.
    pub keys: Vec<FarthingKey>,
    /// Issuers whose tokens are taken in place of keys.
    pub jwt: Vec<JwtIssuer>,
    /// What tenants may do.
    pub tenants: Vec<TenantRights>,
    /// Memory of the cache.
    pub cache: CacheConfig,
    /// Where answers are kept beside memory; `None`: nowhere.
    pub l2: Option<L2Config>,
    /// The fleet that this instance belongs to; `None`: it is alone.
    pub fleet: Option<FleetConfig>,
    /// Sources of events that say what has changed.
    pub events: Vec<EventsConfig>,
    /// Money that may be spent over a time.
    pub budgets: Vec<BudgetSpec>,
    /// Requests, tokens and calls at a time.
    pub limits: Vec<LimitSpec>,
    /// What may be under way in the whole process.
    pub overload: OverloadConfig,
    /// Where this instance keeps what is its own; empty: nowhere.
    pub state_dir: PathBuf,
    /// The Parquet log.
    pub log: LogConfig,
    /// How long its rows stay.
    pub retention: RetentionConfig,
    /// Where its finished files are shipped to.
    pub sinks: Vec<SinkConfig>,
    /// What is told of requests to programs that watch them.
    pub telemetry: TelemetryConfig,
    /// Predictors.
    pub models: ModelsConfig,
    /// Experiments that run from the start.
    pub experiments: Vec<ExperimentConfig>,
    /// The share of keys that is never optimised, to prove the saving.
    pub holdout: HoldoutConfig,
    /// Answers that are checked at the origin.
    pub audit: AuditConfig,
    /// Fetching ahead.
    pub prefetch: PrefetchConfig,
    /// Which strategies there are at all; routes are read by it already.
    pub strategies: crate::StrategyFlags,
    /// How it is decided which of them a route uses.
    pub plans: crate::PlanConfig,
    /// How long Farthing itself may take.
    pub overhead: crate::OverheadConfig,
    /// Alerts about money.
    pub alerts: AlertsConfig,
    /// What Farthing itself costs; `None`: unknown.
    pub self_cost: Option<SelfCostConfig>,
    /// Seed of all draws; equal on instances that shall decide alike.
    pub seed: u64,
    /// Key of all digests (cache keys, tenants of passed-through credentials); equal on instances that share logs.
    pub salt: Salt,
}

impl Config {
    /// The route of this name.
    pub fn route(&self, name: &str) -> Option<&Arc<Route>> {
        self.routes.iter().find(|route| &*route.name == name)
    }
    /// The provider of this name.
    pub fn provider(&self, name: &str) -> Option<&Arc<Provider>> {
        self.providers.iter().find(|provider| &*provider.name == name)
    }
}

/// The deployment's salt and where it is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Salt {
    /// The secret: 64 hexadecimal digits when generated, any text when configured.
    pub secret: Secret,
    /// The file it should be kept in; `None` when the operator supplied it.
    pub file: Option<PathBuf>,
    /// True when it was made up by this process and is not on disk yet ([`Config::persist_salt`]).
    pub fresh: bool,
}

impl Default for Salt {
    /// A fixed salt, for tests: a loaded configuration never has it.
    fn default() -> Self {
        Self { secret: Secret::new("unsalted"), file: None, fresh: false }
    }
}

/// The data port.
#[derive(Clone, Debug, PartialEq)]
pub struct ListenConfig {
    /// Address to listen on; port 0 asks the system for one.
    pub addr: SocketAddr,
    /// Time a client has to send a request head.
    pub header_timeout: Span,
    /// Fewest bytes per second a client must send of a request body, after `body_grace`.
    pub body_rate: u64,
    /// Time before `body_rate` is enforced.
    pub body_grace: Span,
    /// Time an idle keep-alive connection is kept.
    pub idle_timeout: Span,
    /// Most connections at a time; more wait to be accepted.
    pub max_connections: usize,
    /// Most bytes of a request head (431 beyond).
    pub max_header_bytes: usize,
    /// Most header fields of a request (431 beyond).
    pub max_headers: usize,
    /// Most bytes of any request body (413 beyond); a route may allow less.
    pub max_body: u64,
    /// Time at shutdown in which new requests are still taken, and `/readyz` says that it ends.
    pub drain_delay: Span,
    /// Time running requests get to end after that.
    pub drain: Span,
    /// Codings in which answers may go to clients that accept them, the best first; none leaves all answers as they are.
    pub compress: Vec<Coding>,
    /// Smallest answer that is compressed, in bytes.
    pub compress_min: u64,
    /// Interim answers (1xx) of providers go on to clients of HTTP/1.1.
    pub interim: bool,
    /// TLS towards clients; `None`: it speaks plain HTTP.
    pub tls: Option<TlsConfig>,
}

impl Default for ListenConfig {
    fn default() -> Self {
        Self {
            addr: SocketAddr::from((Ipv4Addr::LOCALHOST, 8787)),
            header_timeout: Span::from_secs(10),
            body_rate: 1_000,
            body_grace: Span::from_secs(10),
            idle_timeout: Span::from_secs(75),
            max_connections: 10_000,
            max_header_bytes: 64_000,
            max_headers: 100,
            max_body: 100_000_000,
            drain_delay: Span::ZERO,
            drain: Span::from_secs(15),
            compress: Vec::new(),
            compress_min: 1_024,
            interim: true,
            tls: None,
        }
    }
}

/// The admin port.
#[derive(Clone, Debug, PartialEq)]
pub struct AdminConfig {
    /// Address to listen on; port 0 asks the system for one. Not loopback only together with a token.
    pub addr: SocketAddr,
    /// A token that may do everything; without any only loopback clients are answered.
    pub token: Option<Secret>,
    /// Tokens with a name and a role.
    pub tokens: Vec<AdminToken>,
    /// Most bytes of a request body.
    pub max_body: usize,
    /// TLS towards its clients; `None`: it speaks plain HTTP.
    pub tls: Option<TlsConfig>,
}

impl Default for AdminConfig {
    fn default() -> Self {
        Self { addr: SocketAddr::from((Ipv4Addr::LOCALHOST, 8788)), token: None, tokens: Vec::new(), max_body: 1_000_000, tls: None }
    }
}

/// Memory of the cache, all in bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct CacheConfig {
    /// Size of the memory cache, heads and overhead included.
    pub l1_bytes: u64,
    /// Largest body of an answer that is held whole, for late joiners and to be stored; a larger one streams through.
    pub share_buffer: u64,
    /// How much all running answers together may hold.
    pub in_flight_bytes: u64,
    /// Most followers of one running call; more go their own way.
    pub max_followers: usize,
    /// How long the slowest reader of a shared answer may hold the others up before it is cut.
    pub reader_grace: Span,
    /// How often a call whose leader vanished is handed to a follower.
    pub max_handovers: u32,
    /// Size of the table of per-key statistics for keys that are not in the cache.
    pub statistics_bytes: u64,
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self {
            l1_bytes: 100_000_000,
            share_buffer: 4_000_000,
            in_flight_bytes: 64_000_000,
            max_followers: 10_000,
            reader_grace: Span::from_secs(5),
            max_handovers: 3,
            statistics_bytes: 33_554_432,
        }
    }
}

/// The Parquet log.
#[derive(Clone, Debug, PartialEq)]
pub struct LogConfig {
    /// Whether a log is written.
    pub enabled: bool,
    /// Its directory.
    pub dir: PathBuf,
    /// Longest time a row waits before it is in a finished file.
    pub flush: Span,
    /// Size of buffered rows that ends a file before `flush`.
    pub flush_bytes: u64,
    /// Most bytes of rows that wait for the writer; more are dropped and counted.
    pub queue_bytes: u64,
    /// Requests in a second from which alike ones of the same 100 ms share a row.
    pub row_rate: u32,
    /// Whether rows are journaled before they are in files.
    pub journal: bool,
    /// Longest time between a journaled row and its being safe from a power cut.
    pub journal_sync: Span,
    /// Bytes on the disk that are set aside for records of money.
    pub journal_reserve: u64,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            dir: PathBuf::from("logs"),
            flush: Span::from_secs(10),
            flush_bytes: 32_000_000,
            queue_bytes: 64_000_000,
            row_rate: 5_000,
            journal: true,
            journal_sync: Span::from_millis(500),
            journal_reserve: 16_000_000,
        }
    }
}

/// Predictors.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelsConfig {
    /// The store: `<dir>/<kind>/<version>/`.
    pub dir: PathBuf,
    /// The object store that `dir` is a mirror of; `None`: it is none.
    pub store: Option<crate::ModelStoreConfig>,
    /// The ONNX Runtime library; looked for in the usual places when absent.
    pub onnxruntime: Option<PathBuf>,
    /// Time after which an inference counts as late.
    pub deadline: Span,
    /// How often the control loop looks at experiments and outcomes.
    pub control_interval: Span,
    /// Share of keys that a challenger decides for once it has proved itself in shadow; 0: it stays there.
    pub canary_share: f64,
    /// Copies whose fate it must have foretold before.
    pub shadow_labels: u64,
    /// A route whose answers change otherwise than foretold falls back; else that is only told.
    pub drift_acts: bool,
    /// A challenger that is shown not to be dearer is promoted by the proxy itself; one that is not in time is taken back.
    pub autopilot: bool,
    /// By what share it may be dearer.
    pub autopilot_margin: f64,
    /// Within what time it must be shown, while automation is not frozen.
    pub autopilot_within: Span,
    /// Ed25519 keys of which one must have signed a predictor before it may decide; none: nothing is asked for.
    pub trusted_keys: Vec<[u8; 32]>,
}

impl Default for ModelsConfig {
    fn default() -> Self {
        Self {
            dir: PathBuf::from("models"),
            store: None,
            onnxruntime: None,
            deadline: Span::from_micros(200),
            control_interval: Span::from_secs(60),
            canary_share: 0.05,
            shadow_labels: 200,
            drift_acts: true,
            autopilot: false,
            autopilot_margin: 0.05,
            autopilot_within: Span::from_secs(14 * 86_400),
            trusted_keys: Vec::new(),
        }
    }
}

/// An experiment: variants of the plan, compared on randomly assigned units.
#[derive(Clone, Debug, PartialEq)]
pub struct ExperimentConfig {
    /// Its name; part of the assignment, so a new name is a new assignment.
    pub name: Arc<str>,
    /// What it is to show.
    pub hypothesis: String,
    /// The outcome that is compared: `money-cost` or `bill`.
    pub metric: &'static str,
    /// Excess of errors, stale and late answers over control's that is tolerated.
    pub margin: f64,
    /// Smallest relative difference that is worth a change.
    pub worthwhile: f64,
    /// The stage it begins in: `draft`, `shadow` or `running`.
    pub start: &'static str,
    /// The routes it runs on; empty means all.
    pub routes: Vec<RouteName>,
    /// At least two; the first is the control.
    pub variants: Vec<VariantConfig>,
    /// What the coin is tossed for: `key`, `group`, `block`, `tenant`, `session`; the finest that is safe when absent.
    pub unit: Option<&'static str>,
    /// Its layer, and the part of it (from, up to) that is its own.
    pub layer: Option<(Arc<str>, f64, f64)>,
    /// How long a unit keeps its variant.
    pub window: Span,
    /// The share of units that is measured; the rest follows the leader.
    pub slice: f64,
    /// Shares of the slice that take part, one after the other.
    pub ramp: Vec<f64>,
    /// Least time on each of them.
    pub ramp_hold: Span,
    /// The least probability of a variant under Thompson sampling; `None` keeps the shares as they are.
    pub thompson: Option<f64>,
    /// Allocation by what is known of each unit; `None` where it does not go by that.
    pub contextual: Option<ContextualConfig>,
    /// What it may cost beyond control, as a share of the slice's cost, and how many times control's cost a challenger is taken to cost at first.
    pub may_cost: Option<(f64, f64)>,
    /// Answers that take longer count as late, where nothing else is promised.
    pub latency: Option<Span>,
    /// Fewest unit-windows before an effect is reported as decided.
    pub min_units: u64,
    /// Error probability of its interval.
    pub alpha: f64,
}

impl ExperimentConfig {
    /// Whether it runs on a route.
    pub fn is_on(&self, route: &RouteName) -> bool {
        self.routes.is_empty() || self.routes.contains(route)
    }
}

impl Default for ExperimentConfig {
    fn default() -> Self {
        Self {
            name: "".into(),
            hypothesis: String::new(),
            metric: "money-cost",
            margin: 0.005,
            worthwhile: 0.02,
            start: "running",
            routes: Vec::new(),
            variants: Vec::new(),
            unit: None,
            layer: None,
            window: Span::from_secs(3_600),
            slice: 0.2,
            ramp: vec![0.1, 0.5, 1.0],
            ramp_hold: Span::from_secs(3_600),
            thompson: None,
            contextual: None,
            may_cost: None,
            latency: None,
            min_units: 1_000,
            alpha: 0.05,
        }
    }
}

/// How an experiment allocates by context.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ContextualConfig {
    /// Share of the unit-windows that is drawn evenly, always.
    pub uniform: f64,
    /// After this what was seen counts half; `None` forgets nothing.
    pub half_life: Option<Span>,
    /// What exploration may cost in a day, by estimate.
    pub budget: Option<Money>,
}

/// One variant of an experiment.
#[derive(Clone, Debug, PartialEq)]
pub struct VariantConfig {
    /// Its name.
    pub name: Arc<str>,
    /// Its share in the measurement slice; the shares of an experiment sum to 1.
    pub share: f64,
    /// What it changes.
    pub overrides: Overrides,
}

/// Fetching ahead.
#[derive(Clone, Debug, PartialEq)]
pub struct PrefetchConfig {
    /// How far ahead a request still counts as following another.
    pub horizon: Span,
    /// Share of the decisions near the threshold that are drawn.
    pub explore: f64,
    /// Most calls ahead to one provider under way at a time.
    pub at_once: usize,
}

impl Default for PrefetchConfig {
    fn default() -> Self {
        Self { horizon: Span::from_secs(30), explore: 0.05, at_once: 8 }
    }
}

/// Answers from the cache that are checked at the origin, to know how many are stale.
#[derive(Clone, Debug, PartialEq)]
pub struct AuditConfig {
    /// Share of answers that are checked; 0: none.
    pub share: f64,
    /// Most that may be spent on it in a day, UTC.
    pub per_day: Money,
}

impl Default for AuditConfig {
    fn default() -> Self {
        Self { share: 0.0, per_day: Money::from_nanos(1_000_000_000) }
    }
}

/// The savings holdout.
#[derive(Clone, Debug, PartialEq)]
pub struct HoldoutConfig {
    /// Share of keys that is never optimised, per window, at most.
    pub share: f64,
    /// How long a key stays in or out.
    pub window: Span,
    /// Largest part of the bill that it may cost; the share is lowered to hold it.
    pub max_cost: f64,
}

impl Default for HoldoutConfig {
    fn default() -> Self {
        Self { share: 0.01, window: Span::from_secs(300), max_cost: 0.05 }
    }
}

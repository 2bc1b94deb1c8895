//! What all requests share.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64};
use std::sync::{Arc, OnceLock};

use arc_swap::{ArcSwap, Guard};
use farthing_cache::{Cache, FormRoom};
use farthing_config::Config;
use farthing_freshness::Keyer;
use farthing_ledger::{Aggregates, LogHandle};
use farthing_policy::Guarded;
use farthing_types::{Clock, Draw, Time};
use farthing_upstream::Upstream;
use tokio_util::task::TaskTracker;

use crate::alerts::Alerts;
use crate::audit::Audits;
use crate::batching::BatchReport;
use crate::budgets::Budgets;
use crate::changes::ChangeBook;
use crate::compress::Compressed;
use crate::events::SourceState;
use crate::experiments::Trials;
use crate::fills::FillCounts;
use crate::fleet::Fleet;
use crate::forward::Forwarding;
use crate::ids::Ids;
use crate::l2::L2;
use crate::lifecycle::Lifecycle;
use crate::lifecycle::freeze::Freeze;
use crate::limits::LimitsReport;
use crate::listeners::Listeners;
use crate::live::Live;
use crate::load::Load;
use crate::memory::Memory;
use crate::otlp::Traces;
use crate::pace::PaceStats;
use crate::predictors::Predictors;
use crate::prefetch::Prefetch;
use crate::pricing::Pricing;
use crate::proof::Proof;
use crate::reload::Reloads;
use crate::route::RouteState;
use crate::shared_config::SharedConfig;
use crate::shortcut::Shortcuts;
use crate::sinks::Sinks;
use crate::switches::Bypass;
use crate::volatile::Volatile;
use crate::warm_clock::Warmth;

/// What all requests share.
pub struct State {
    /// What the configuration in force comes to.
    pub live: ArcSwap<Live>,
    /// How often it was another one: what was remembered under the one before counts no more.
    pub turns: AtomicU64,
    /// Who changed what and when.
    pub changes: Arc<ChangeBook>,
    /// What is done for clients that take this process for their proxy.
    pub forwarding: Forwarding,
    /// Certificates that clients are shown.
    pub listeners: Listeners,
    /// Which configuration is in force, and what became of others.
    pub reloads: Reloads,
    /// The one that its fleet keeps, where it goes by that.
    pub shared_config: OnceLock<Arc<SharedConfig>>,
    /// The proxy's time: decisions, ages, log.
    pub clock: Arc<dyn Clock>,
    /// Real time: how long our own work takes.
    pub real: Arc<dyn Clock>,
    /// The source of draws.
    pub draw: Draw,
    /// Computes keys.
    pub keyer: Keyer,
    /// Key of credential digests.
    pub salt: [u8; 32],
    /// Sources of events.
    pub events: Vec<Arc<SourceState>>,
    /// L1 and flights.
    pub cache: Cache,
    /// The fleet; `None` where this instance is alone.
    pub fleet: Option<Arc<Fleet>>,
    /// The tier below; `None` where none is configured.
    pub l2: Option<L2>,
    /// What became of calls that instances share.
    pub fills: FillCounts,
    /// Totals since start.
    pub totals: Aggregates,
    /// The Parquet log.
    pub log: Option<LogHandle>,
    /// Where its finished files are shipped to.
    pub sinks: Sinks,
    /// Where traces are sent to; `None`: nowhere, and nothing is recorded.
    pub traces: Option<Arc<Traces>>,
    /// Alerts about money.
    pub alerts: Arc<Alerts>,
    /// Money that may be spent.
    pub budgets: Budgets,
    /// What is under way.
    pub load: Arc<Load>,
    /// Prices in force, and what they need to be applied.
    pub pricing: Pricing,
    /// Tenants that are being forgotten.
    pub(crate) forgetting: crate::forget::Forgetting,
    /// Predictors in force.
    pub predictors: Predictors,
    /// Where predictors meet rules.
    pub guarded: Guarded,
    /// The same for the decision about strategies: late answers are counted by kind.
    pub strategy_guarded: Guarded,
    /// Predictors beside the champion, and what watches all of them.
    pub lifecycle: Lifecycle,
    /// Answers that are checked at the origin.
    pub audits: Audits,
    /// Whether automation is frozen.
    pub freeze: Freeze,
    /// What the operator lets pass by.
    pub bypass: Bypass,
    /// When the caches were judged last, ns; 0 before the first time.
    pub judged: AtomicI64,
    /// Records of experiments.
    pub trials: Trials,
    /// Another instance has moved an alias of a predictor.
    pub models_moved: tokio::sync::Notify,
    /// What was saved, against keys that are held out.
    pub proof: Proof,
    /// Fetching ahead.
    pub prefetch: Prefetch,
    /// What may be warmed by the clock, and what was.
    pub(crate) warmth: Warmth,
    /// Ids.
    pub ids: Ids,
    /// Room for entries' bodies in content codings.
    pub forms: Arc<FormRoom>,
    /// Requests known by the bytes of their heads.
    pub shortcuts: Shortcuts,
    /// Where the live statistics outlive the process; `None` without a log.
    pub memory: Option<Memory>,
    /// Names this run of the live statistics in the log.
    pub stat_epoch: u64,
    /// Hash of the features that this build computes.
    pub spec_hash: Arc<str>,
    /// What differs between answers fetched at once.
    pub volatile: Volatile,
    /// Fills, refreshes and other work that outlives a request.
    pub tasks: TaskTracker,
    /// Events without a route.
    pub counters: Counters,
}

/// Events without a route.
#[derive(Debug, Default)]
pub struct Counters {
    /// Requests that no route took.
    pub unrouted: AtomicU64,
    /// Fills that panicked.
    pub panics: AtomicU64,
    /// Answers from memory to requests that were known by the bytes of their heads.
    pub recalled: AtomicU64,
    /// Background refreshes started.
    pub refreshes: AtomicU64,
    /// Requests that wait for a call now.
    pub waiting: AtomicU64,
    /// Requests with the method `PURGE` that were ours to answer.
    pub purge_requests: AtomicU64,
    /// Purges by rules about writes and events.
    pub ruled: AtomicU64,
    /// Texts of such rules that a field left without a value: they purged nothing.
    pub unfilled: AtomicU64,
    /// Answers too long for a canonical digest.
    pub undigested: AtomicU64,
    /// Saved statistics that could not be used at the start.
    pub statistics_refused: AtomicU64,
    /// Times that the statistics could not be saved.
    pub statistics_unsaved: AtomicU64,
    /// Times that something of an experiment could not be kept.
    pub experiments_unkept: AtomicU64,
    /// Variants of experiments that a guardrail has switched off.
    pub variants_switched_off: AtomicU64,
    /// Requests and answers in the statistics when they were saved last.
    pub statistics_saved: AtomicI64,
    /// Answers that went out compressed.
    pub compressed: Arc<Compressed>,
    /// Rows of the log that were removed because they were older than their retention.
    pub pruned: AtomicU64,
}

impl State {
    /// What the configuration in force comes to; for one look.
    pub fn live(&self) -> Guard<Arc<Live>> {
        self.live.load()
    }

    /// The configuration in force.
    pub fn config(&self) -> Arc<Config> {
        self.live().config.clone()
    }

    /// The route of that name.
    pub fn route_named(&self, name: &str) -> Option<Arc<RouteState>> {
        self.live().named(name).cloned()
    }

    /// Figures of the lines in front of the providers that have a route, by name.
    pub fn paces(&self) -> Vec<PaceStats> {
        let live = self.live();
        let stats = live.routes.iter().map(|route| (route.provider.name.clone(), route.pace.stats()));
        stats.collect::<BTreeMap<_, _>>().into_values().collect()
    }

    /// What is told of the limits, with so many counters of each at most; `None` where there is none.
    pub fn limits(&self, most: usize) -> Option<LimitsReport> {
        self.live().limits.report(most)
    }

    /// What the batches of each route did that has any.
    pub fn batches(&self) -> Vec<BatchReport> {
        let report = |route: &Arc<RouteState>| {
            let batching = route.batching.as_ref()?;
            Some(BatchReport { route: route.route.name.clone(), stats: batching.stats.clone(), lists: batching.lists.clone() })
        };
        self.live().routes.iter().filter_map(report).collect()
    }

    /// The ways to the providers that have a route: name, whose credential is sent, upstream. Each once.
    pub fn upstreams(&self) -> Vec<(Arc<str>, &'static str, Arc<Upstream>)> {
        let live = self.live();
        let all = live.routes.iter().flat_map(|route| route.ways());
        let ways: BTreeMap<_, _> = all.map(|(name, whose, upstream)| ((name, whose), upstream)).collect();
        ways.into_iter().map(|((name, whose), upstream)| (name, whose, upstream)).collect()
    }

    /// Real time, for latencies.
    pub fn real_now(&self) -> Time {
        self.real.now()
    }

    /// The time of the day: see [`farthing_types::Clock::wall`].
    pub fn wall_now(&self) -> Time {
        self.real.wall()
    }
}

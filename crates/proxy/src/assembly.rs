//! Builds a running proxy from a checked configuration, and is its handle.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use farthing_cache::{Cache, CacheStats, Purge, Purged};
use farthing_config::{Config, ExperimentConfig};
use farthing_contract::features::TTL_SPEC;
use farthing_experiment::{Holdout, SavingReport, Savings};
use farthing_freshness::Keyer;
use farthing_ledger::costs::{CostStore, FlushedLog, Limits};
use farthing_ledger::{Aggregates, AggregatesSnapshot, LogConfig, LogError, LogMetrics, LogWriter};
use farthing_models::{Counts, Runtime, Store, StoreOptions};
use farthing_policy::Guarded;
use farthing_types::{Clock, Draw, RealClock, Span, Time};
use farthing_upstream::BreakerState;
use http::HeaderMap;
use parking_lot::Mutex;
use rand::TryRngCore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::StartError;
use crate::alerts::{self, Alerts};
use crate::edge::{Drained, Edge, EdgeConfig, EdgeStats};
use crate::events::{self, Delivered, DeliveryError, SourceState};
use crate::experiments::{ExperimentView, Trials};
use crate::ids::Ids;
use crate::l2::{L2, L2Stats};
use crate::memory::{self, Memory};
use crate::pace::PaceStats;
use crate::predictors::Predictors;
use crate::route::RouteState;
use crate::serve::Service;
use crate::shortcut::Shortcuts;
use crate::state::{Counters, State};
use crate::stats::Events;
use crate::volatile::{self, Volatile};
use crate::warm::{self, WarmOrder, WarmRefused, WarmReport};
use crate::{prices, route};

/// How long a predictor that was late too often rests.
const PREDICTOR_REST: Span = Span::from_secs(30);
/// Key-windows of the holdout followed at once.
const MAX_SAVINGS_UNITS: usize = 1_000_000;
/// Error probability of the saving's interval.
const SAVINGS_ALPHA: f64 = 0.05;
/// How often aliases on disk are looked at, in real time.
const POLL: Span = Span::from_secs(2);
/// Turns of the control loop between sweeps of expired entries.
const SWEEP_TURNS: u64 = 30;
/// How long an expired entry is kept for validation and for standing in when the provider fails.
pub(crate) const KEEP_EXPIRED: Span = Span::from_secs(24 * 3_600);
/// How long a finished log may take to be written at shutdown or on demand.
const LOG_WAIT: Span = Span::from_secs(30);
/// How long a question about money waits for rows that are in no file yet.
const FRESH_WAIT: Span = Span::from_secs(5);

/// A running proxy.
pub struct Proxy {
    state: Arc<State>,
    addr: SocketAddr,
    edge: Arc<EdgeStats>,
    log: Mutex<Option<LogWriter>>,
    stop: CancellationToken,
    serving: Mutex<Option<JoinHandle<Drained>>>,
    runtime: Result<(), String>,
    draining: AtomicBool,
}

/// Why a part is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its name: `models`, `log`, `upstream:<name>`.
    pub name: String,
    /// Null when it is well, else what is wrong and what happens instead.
    pub problem: Option<String>,
}

impl Proxy {
    /// Opens the data port and starts to answer. `clock` is the time of decisions, ages and log; latencies run on real time.
    ///
    /// A missing ONNX Runtime or model is no error: rules and table decide, and [`Proxy::parts`] says so.
    ///
    /// # Errors
    /// A configuration that cannot run, or a port that cannot be opened.
    pub async fn start(config: Arc<Config>, clock: Arc<dyn Clock>) -> Result<Arc<Self>, StartError> {
        let edge = Edge::bind(edge_config(&config)).await.map_err(|e| StartError::Listen { addr: e.listen, source: e.source })?;
        let (addr, stats) = (edge.local_addr(), edge.stats());
        let real = Arc::new(RealClock::default());
        let log = open_log(&config, &real)?;
        let (store, runtime) = open_models(&config).await;
        let events = Arc::new(Events::default());
        let wire = clock.clone();
        let upstream = move |spec| farthing_upstream::build(spec, wire.clone());
        let sources = events::sources(&config);
        let routes = route::compile(&config, &sources, &upstream)?;
        let l2 = match &config.l2 {
            Some(l2) => Some(L2::open(l2, (keyer(&config).0, KEEP_EXPIRED), clock.now()).await?),
            None => None,
        };
        let state =
            Arc::new(build((&config, routes, sources), (clock, real), log.as_ref().map(LogWriter::handle), store, (events.clone(), l2))?);
        events.connect(&state);
        let recalling = state.clone();
        let _ = tokio::task::spawn_blocking(move || recalling.recall()).await;
        let now = state.clock.now();
        for experiment in &config.experiments {
            state.start_experiment(experiment, now)?;
        }
        let stop = CancellationToken::new();
        let service = Arc::new(Service { state: state.clone() });
        let serving = state.tasks.spawn(edge.serve(service, stop.clone()));
        events::start(&state, &stop)?;
        alerts::start(&state, &stop)?;
        let control = control(state.clone(), stop.clone());
        state.tasks.spawn(control);
        Ok(Arc::new(Self {
            state,
            addr,
            edge: stats,
            log: Mutex::new(log),
            stop,
            serving: Mutex::new(Some(serving)),
            runtime,
            draining: AtomicBool::new(false),
        }))
    }

    /// The address of the data port.
    pub fn data_addr(&self) -> SocketAddr {
        self.addr
    }
    /// The configuration it runs.
    pub fn config(&self) -> &Arc<Config> {
        &self.state.config
    }
    /// The proxy's time.
    pub fn now(&self) -> Time {
        self.state.clock.now()
    }
    /// Totals since start.
    pub fn totals(&self) -> AggregatesSnapshot {
        self.state.totals.snapshot()
    }
    /// Counters and sizes of the cache.
    pub fn cache_stats(&self) -> CacheStats {
        self.state.cache.stats()
    }
    /// Figures of L2; `None` where there is none.
    pub fn l2_stats(&self) -> Option<L2Stats> {
        self.state.l2.as_ref().map(L2::stats)
    }
    /// Fetches what is ordered into the cache, within its limit.
    ///
    /// # Errors
    /// See [`WarmRefused`].
    pub async fn warm(&self, order: WarmOrder) -> Result<WarmReport, WarmRefused> {
        warm::warm(&self.state, order).await
    }
    /// The lines in front of the providers that have a route, by name.
    pub fn paces(&self) -> Vec<PaceStats> {
        self.state.paces()
    }
    /// Counters of the edge.
    pub fn edge_stats(&self) -> &EdgeStats {
        &self.edge
    }
    /// The store of predictors.
    pub fn models(&self) -> &Store {
        self.state.predictors.store()
    }
    /// Generations of predictors built, live and freed.
    pub fn model_counts(&self) -> Counts {
        self.models().counts()
    }
    /// All experiments.
    pub fn experiments(&self) -> Vec<ExperimentView> {
        self.state.trials.views()
    }
    /// One experiment.
    pub fn experiment(&self, name: &str) -> Option<ExperimentView> {
        self.state.trials.view(name)
    }
    /// Starts an experiment.
    ///
    /// # Errors
    /// See [`StartError`]: the description, its routes, its model versions.
    pub fn start_experiment(&self, config: &ExperimentConfig) -> Result<(), StartError> {
        self.state.start_experiment(config, self.now())
    }
    /// Ends an experiment; its record stays. False when none of that name runs.
    pub fn stop_experiment(&self, name: &str) -> bool {
        self.state.stop_experiment(name, self.now())
    }
    /// The saving against the holdout.
    pub fn savings(&self) -> SavingReport {
        self.state.savings.lock().report()
    }
    /// Where the answers of a route differ when they are fetched at once; `None` when there is no such route.
    pub fn volatile(&self, route: &str) -> Option<volatile::Report> {
        let state = self.state.routes.iter().find(|state| *state.route.name == *route)?;
        Some(self.state.volatile.report(state))
    }
    /// Starts the record of savings afresh, for a new period.
    pub fn reset_savings(&self) {
        *self.state.savings.lock() = Savings::new(SAVINGS_ALPHA, MAX_SAVINGS_UNITS);
    }
    /// Purges entries; `soft` makes them stale instead.
    pub fn purge(&self, purge: &Purge, soft: bool) -> Purged {
        self.state.cache.purge(purge, soft, self.now())
    }
    /// How many entries a purge would hit.
    pub fn purge_dry_run(&self, purge: &Purge) -> usize {
        self.state.cache.purge_dry_run(purge)
    }
    /// The sources of events.
    pub fn event_sources(&self) -> &[Arc<SourceState>] {
        &self.state.events
    }
    /// Takes a delivery for a source of events; resolves when what it says has been obeyed.
    ///
    /// # Errors
    /// See [`DeliveryError`].
    pub fn deliver(
        &self,
        source: &str,
        delivery: (HeaderMap, Bytes),
    ) -> impl Future<Output = Result<Delivered, DeliveryError>> + Send + use<> {
        let found = self.state.events.iter().find(|known| *known.config.name == *source).cloned();
        let (unknown, now) = (DeliveryError::Unknown(source.to_owned()), self.now());
        async move {
            match found {
                Some(source) => events::deliver(source, delivery, now).await,
                None => Err(unknown),
            }
        }
    }
    /// Background refreshes started, requests without a route, fills that panicked.
    pub fn counters(&self) -> &Counters {
        &self.state.counters
    }
    /// Requests that wait for a call now.
    pub fn waiting(&self) -> usize {
        usize::try_from(self.counters().waiting.load(Ordering::Relaxed)).unwrap_or(usize::MAX)
    }
    /// Late answers of the predictor, and whether it is closed out for them.
    pub fn predictor_lateness(&self) -> (u64, bool) {
        (self.state.guarded.late(), self.state.guarded.breaker_open())
    }
    /// Rows, drops and files of the log; `None` when it is off.
    pub fn log_metrics(&self) -> Option<LogMetrics> {
        self.state.log.as_ref().map(farthing_ledger::LogHandle::metrics)
    }
    /// The log's folder; `None` when it is off.
    pub fn log_dir(&self) -> Option<&Path> {
        self.state.log.as_ref().map(|_| self.state.config.log.dir.as_path())
    }
    /// The money in the log; `None` when it is off.
    pub fn cost_store(&self) -> Option<CostStore> {
        let recent = FlushedLog::new(self.state.log.clone()?, FRESH_WAIT);
        Some(CostStore::new(self.log_dir()?, Some(Arc::new(recent)), Limits::default()))
    }
    /// Alerts about money.
    pub fn alerts(&self) -> &Arc<Alerts> {
        &self.state.alerts
    }
    /// Digest of the prices in force.
    pub fn price_digest(&self) -> Arc<str> {
        self.state.prices.digest()
    }
    /// Whether it is ending.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Writes everything logged so far into files.
    ///
    /// # Errors
    /// Rows that were dropped, or a writer that does not answer.
    pub async fn flush_log(&self) -> Result<(), LogError> {
        let Some(handle) = self.state.log.clone() else { return Ok(()) };
        tokio::task::spawn_blocking(move || handle.flush(LOG_WAIT)).await.unwrap_or(Err(LogError::NoAnswer(LOG_WAIT)))
    }

    /// The parts that can be degraded, each with its problem if it has one.
    pub fn parts(&self) -> Vec<Part> {
        let part = |name: &str, problem: Option<String>| Part { name: name.to_owned(), problem };
        let status = self.models().status();
        let models = match &self.runtime {
            Err(problem) => Some(format!("{problem}; tables and rules decide")),
            Ok(()) => status.aliases.iter().find_map(|a| a.problem.clone()).or_else(|| self.no_champion()).or_else(|| self.resting()),
        };
        let log = self.log_metrics().filter(|m| !m.healthy).map(|m| format!("rows are dropped ({} so far)", m.dropped()));
        let mut parts = vec![part("models", models), part("log", log)];
        parts.extend(self.state.l2.as_ref().map(|l2| part("l2", l2.problem())));
        parts.extend(self.state.events.iter().map(|source| part(&format!("events:{}", source.config.name), source.problem())));
        for route in &self.state.routes {
            let upstreams = std::iter::once(&route.pass).chain(&route.swap);
            let open = upstreams.into_iter().any(|u| u.health().state() != BreakerState::Closed);
            let problem = open.then(|| format!("the breaker of `{}` is not closed: calls fail fast", route.pass.name()));
            parts.push(part(&format!("upstream:{}", route.route.name), problem));
        }
        parts
    }

    /// Said as long as routes wait for a model that is not there.
    fn no_champion(&self) -> Option<String> {
        let waits = self.state.routes.iter().any(|r| r.route.cache && r.plan.ttl.source == farthing_policy::TtlSource::Model);
        let none = self.state.predictors.ttl(None).is_none();
        (waits && none).then(|| "no `ttl` champion: rules decide (farthing-train fit ttl, then farthing models promote)".to_owned())
    }

    /// Said as long as the model is closed out for being late.
    fn resting(&self) -> Option<String> {
        let (late, open) = self.predictor_lateness();
        open.then(|| format!("the model was late {late} times: table and rules decide until it has rested"))
    }

    /// Ends: no new requests, running ones drain, the log is written.
    pub async fn shutdown(&self) -> Option<LogMetrics> {
        self.draining.store(true, Ordering::Release);
        self.stop.cancel();
        let serving = self.serving.lock().take();
        if let Some(serving) = serving {
            let _ = serving.await;
        }
        self.state.tasks.close();
        let _ = tokio::time::timeout(self.state.config.data.drain, self.state.tasks.wait()).await;
        self.state.cache.shutdown(self.now());
        if let Some(l2) = &self.state.l2 {
            l2.close().await;
        }
        memory::remember(&self.state).await;
        let log = self.log.lock().take();
        match log {
            Some(log) => tokio::task::spawn_blocking(move || log.close()).await.ok(),
            None => None,
        }
    }
}

fn edge_config(config: &Config) -> EdgeConfig {
    let data = &config.data;
    EdgeConfig {
        listen: data.addr,
        header_timeout: data.header_timeout,
        body_min_rate: data.body_rate,
        body_grace: data.body_grace,
        idle_timeout: data.idle_timeout,
        max_connections: data.max_connections,
        max_connections_per_ip: data.max_connections,
        max_header_bytes: data.max_header_bytes,
        max_headers: data.max_headers,
        max_body: Some(data.max_body),
        drain: data.drain,
        ..EdgeConfig::default()
    }
}

pub(crate) fn open_log(config: &Config, real: &Arc<RealClock>) -> Result<Option<LogWriter>, StartError> {
    let log = &config.log;
    if !log.enabled {
        return Ok(None);
    }
    let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
    let settings = LogConfig {
        flush_every: log.flush,
        max_file_bytes: size(log.flush_bytes),
        queue_bytes: size(log.queue_bytes),
        row_rate: log.row_rate,
        ..LogConfig::default()
    };
    Ok(Some(LogWriter::open(log.dir.clone(), settings, real.clone())?))
}

/// Opens the store off the runtime's threads: it reads files and builds sessions.
async fn open_models(config: &Arc<Config>) -> (Store, Result<(), String>) {
    let models = config.models.clone();
    let slots = std::thread::available_parallelism().map_or(2, usize::from);
    let open = move || {
        let runtime = Runtime::load(models.onnxruntime.as_deref());
        let problem = runtime.as_ref().map(|_| ()).map_err(ToString::to_string);
        let options = StoreOptions { runtime: runtime.ok(), slots, ..StoreOptions::default() };
        (Store::open(models.dir, options), problem)
    };
    match tokio::task::spawn_blocking(open).await {
        Ok(opened) => opened,
        Err(error) => (Store::open(config.models.dir.clone(), StoreOptions::default()), Err(error.to_string())),
    }
}

pub(crate) type Clocks = (Arc<dyn Clock>, Arc<RealClock>);

/// Puts the parts together.
///
/// # Errors
/// Prices that contradict each other, a system without random numbers.
pub(crate) fn build(
    (config, routes, sources): (&Arc<Config>, Vec<Arc<RouteState>>, Vec<Arc<SourceState>>),
    (clock, real): Clocks,
    log: Option<farthing_ledger::LogHandle>,
    store: Store,
    (events, l2): (Arc<Events>, Option<L2>),
) -> Result<State, StartError> {
    let (keyer, salt) = keyer(config);
    let start = rand::rngs::OsRng.try_next_u64().map_err(|e| StartError::Random(e.to_string()))?;
    let totals = Aggregates::default();
    let log_on = log.is_some();
    Ok(State {
        routes,
        events: sources,
        cache: Cache::with_l2(cache_config(config, keyer), events, l2.as_ref().map(|l2| l2.tier.clone())),
        l2,
        draw: Draw::new(config.seed),
        keyer,
        salt,
        totals,
        log,
        alerts: Arc::new(Alerts::new(config)),
        prices: prices::book(config)?,
        predictors: Predictors::new(store),
        guarded: Guarded::new(real.clone(), config.models.deadline, PREDICTOR_REST),
        trials: Trials::default(),
        holdout: Holdout::new(config.holdout.share, config.holdout.window),
        savings: Mutex::new(Savings::new(SAVINGS_ALPHA, MAX_SAVINGS_UNITS)),
        ids: Ids::new(start),
        shortcuts: Shortcuts::default(),
        memory: log_on.then(|| Memory::new(&config.log.dir, &LogConfig::default().instance)),
        stat_epoch: rand::rngs::OsRng.try_next_u64().map_err(|e| StartError::Random(e.to_string()))?,
        spec_hash: TTL_SPEC.hash().into(),
        volatile: Volatile::default(),
        tasks: TaskTracker::new(),
        counters: Counters::default(),
        config: config.clone(),
        clock,
        real,
    })
}

/// What keys are computed with, and the salt that it comes from.
pub(crate) fn keyer(config: &Config) -> (Keyer, [u8; 32]) {
    let salt = *blake3::hash(config.salt.secret.expose().as_bytes()).as_bytes();
    let (head, _) = salt.split_first_chunk::<16>().unwrap_or((&[0; 16], &[]));
    (Keyer::new(*head), salt)
}

fn cache_config(config: &Config, keyer: Keyer) -> farthing_cache::CacheConfig {
    let cache = &config.cache;
    let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
    farthing_cache::CacheConfig {
        l1_bytes: size(cache.l1_bytes),
        share_buffer_bytes: size(cache.share_buffer),
        in_flight_bytes: size(cache.in_flight_bytes),
        reader_grace: cache.reader_grace,
        max_followers: cache.max_followers,
        max_handovers: cache.max_handovers,
        stats_bytes: size(cache.statistics_bytes),
        ..farthing_cache::CacheConfig::new(keyer)
    }
}

/// The control loop of the single instance: guardrails and leaders of experiments, aliases on disk, entries past use.
async fn control(state: Arc<State>, stop: CancellationToken) {
    let mut turns = 0u64;
    let mut turn = tokio::time::interval(POLL.min(state.config.models.control_interval));
    turn.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = turn.tick() => {}
        }
        state.control();
        turns += 1;
        if turns.is_multiple_of(SWEEP_TURNS) {
            state.cache.sweep(KEEP_EXPIRED, state.clock.now());
            memory::remember(&state).await;
        }
        let polled = state.clone();
        let changes = tokio::task::spawn_blocking(move || polled.predictors.store().poll()).await.unwrap_or_default();
        for change in changes {
            tracing::info!(?change, "predictors");
        }
    }
}

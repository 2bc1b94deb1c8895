//! Builds a running proxy from a checked configuration, and ends it.

mod handle;

pub use handle::Part;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use farthing_cache::{Cache, FormRoom};
use farthing_config::{Config, ModelsConfig};
use farthing_contract::bundle::PublicKey;
use farthing_contract::features::TTL_SPEC;
use farthing_freshness::Keyer;
use farthing_ledger::{Aggregates, LogConfig, LogMetrics, LogWriter, Volumes};
use farthing_models::{Runtime, Store, StoreOptions};
use farthing_policy::Guarded;
use farthing_types::{Clock, Draw, RealClock, Span};
use parking_lot::Mutex;
use rand::TryRngCore;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::StartError;
use crate::alerts::{self, Alerts};
use crate::audit::Audits;
use crate::budgets::{self, Budgets};
use crate::changes::ChangeBook;
use crate::clients::Clients;
use crate::compile::{Around, Compiled, compile};
use crate::edge::{Drained, Edge, EdgeConfig, EdgeStats};
use crate::events::{self, SourceState};
use crate::experiments::{self, Trials};
use crate::files;
use crate::fills::FillCounts;
use crate::fleet::{self, Fleet};
use crate::forward::Forwarding;
use crate::ids::Ids;
use crate::l2::L2;
use crate::lifecycle::Lifecycle;
use crate::lifecycle::freeze::Freeze;
use crate::listeners::Listeners;
use crate::live::Live;
use crate::load::Load;
use crate::memory::{self, Memory};
use crate::model_store;
use crate::otlp::Traces;
use crate::predictors::Predictors;
use crate::prefetch::Prefetch;
use crate::prices;
use crate::pricing::Pricing;
use crate::proof::Proof;
use crate::reload::Reloads;
use crate::serve::Service;
use crate::shortcut::Shortcuts;
use crate::sinks::Sinks;
use crate::state::{Counters, State};
use crate::stats::Events;
use crate::switches::Bypass;
use crate::volatile::Volatile;
use crate::warm_clock::{self, Warmth};

/// How long a predictor that was late too often rests.
const PREDICTOR_REST: Span = Span::from_secs(30);
/// Compressed bodies may take this part of what their entries may.
const FORMS: u64 = 8;
/// How often aliases on disk are looked at, in real time.
const POLL: Span = Span::from_secs(2);
/// Turns of the control loop between sweeps of expired entries.
const SWEEP_TURNS: u64 = 30;
/// How long an expired entry is kept for validation and for standing in when the provider fails.
pub(crate) const KEEP_EXPIRED: Span = Span::from_secs(24 * 3_600);
/// How long a finished log may take to be written at shutdown or on demand.
pub(crate) const LOG_WAIT: Span = Span::from_secs(30);
/// How long a question about money waits for rows that are in no file yet.
const FRESH_WAIT: Span = Span::from_secs(5);

/// How long the last spans may take to be delivered, where draining took all its time.
const LAST_SPANS: Span = Span::from_secs(1);

/// What this instance remembers of changes of predictors that the store could not take.
const OWN_HISTORY: &str = "models-history.jsonl";
/// How long the first request waits for the keys of issuers at the start.
const FIRST_KEYS: Span = Span::from_secs(2);

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
        let freeze = Freeze::open(&config)?;
        let (store, runtime) = open_models(&config, freeze.is_on()).await?;
        let events = Arc::new(Events::default());
        let wire = clock.clone();
        let upstream = move |spec| farthing_upstream::build(spec, wire.clone());
        let sources = events::sources(&config);
        let fleet = Fleet::open(&config)?;
        let hearing = fleet.as_ref().map(|fleet| fleet.hearing());
        let routes = compile(&config, Around { events: &sources, hearing, before: None, build: &upstream })?;
        let l2 = match &config.l2 {
            Some(l2) => Some(L2::open(l2, (keyer(&config).0, KEEP_EXPIRED), clock.now()).await?),
            None => None,
        };
        if let Some(fleet) = fleet.as_ref().filter(|fleet| fleet.leases_fills()) {
            match l2.as_ref().filter(|l2| l2.tier.is_shared()) {
                Some(l2) => l2.lease_fills(fleet.identity().incarnation, fleet.deadline()),
                None => tracing::info!("without an [l2] in Redis each instance of the fleet makes its own calls"),
            }
        }
        let state = Arc::new(build(
            (&config, routes, sources),
            (clock, real),
            log.as_ref().map(LogWriter::handle),
            (store, freeze),
            (events.clone(), l2, fleet),
        )?);
        events.connect(&state);
        state.join_limits();
        let recalling = state.clone();
        let _ = tokio::task::spawn_blocking(move || recalling.recall()).await;
        let now = state.clock.now();
        let resuming = state.clone();
        let _ = tokio::task::spawn_blocking(move || resuming.resume_batches()).await;
        state.open_experiments(&config, now)?;
        state.open_tuning(&config, now)?;
        experiments::fleet::first(&state).await;
        state.budgets.start();
        state.start_limits();
        let stop = CancellationToken::new();
        let tokens = state.live().clients.tokens.clone();
        tokens.start(&state.tasks, &state.clock, &stop)?;
        tokens.first_reading(FIRST_KEYS).await;
        let service = Arc::new(Service { state: state.clone() });
        state.forwarding.answers_at(addr);
        state.forwarding.answers_at(config.admin.addr);
        state.listeners.follow(&state.tasks, &state.real, &stop);
        let edge = edge.with_tls(state.listeners.data.clone());
        let serving = state.tasks.spawn(edge.serve(service, stop.clone()));
        fleet::bus::start(&state);
        experiments::fleet::start(&state);
        events::start(&state, &stop)?;
        if let Some(levels) = state.budgets.levels() {
            state.alerts.set_budgets(levels);
        }
        alerts::start(&state, &stop)?;
        let control = control(state.clone(), stop.clone());
        state.tasks.spawn(control);
        let models = follow_models(state.clone(), stop.clone());
        state.tasks.spawn(models);
        let books = keep_books(state.clone(), stop.clone());
        state.tasks.spawn(books);
        state.tasks.spawn(crate::retention::run(state.clone(), stop.clone()));
        let warming = warm_clock::run(state.clone(), stop.clone());
        state.tasks.spawn(warming);
        state.sinks.start(&stop);
        if let Some(traces) = &state.traces {
            traces.start();
        }
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

    pub(crate) const fn state(&self) -> &Arc<State> {
        &self.state
    }
    /// Ends: says so for a while, then takes no new requests; running ones drain, the log is written.
    pub async fn shutdown(&self) -> Option<LogMetrics> {
        self.draining.store(true, Ordering::Release);
        tokio::time::sleep(self.state.config().data.drain_delay).await;
        self.stop.cancel();
        let serving = self.serving.lock().take();
        if let Some(serving) = serving {
            let _ = serving.await;
        }
        if let Some(fleet) = &self.state.fleet {
            fleet.close();
        }
        self.state.tasks.close();
        let until = tokio::time::Instant::now() + self.state.config().data.drain;
        let _ = tokio::time::timeout_at(until, self.state.tasks.wait()).await;
        self.state.cache.shutdown(self.now());
        self.state.settle_plans();
        if let Some(traces) = &self.state.traces {
            traces.finish(until.max(tokio::time::Instant::now() + LAST_SPANS)).await;
        }
        if let Some(l2) = &self.state.l2 {
            l2.close().await;
        }
        memory::remember(&self.state).await;
        self.state.budgets.leave().await;
        self.state.leave_limits().await;
        let kept = self.state.clone();
        let close = move || {
            kept.keep_limits();
            kept.keep_experiments();
            kept.budgets.close();
        };
        let _ = tokio::task::spawn_blocking(close).await;
        let log = self.log.lock().take();
        let metrics = match log {
            Some(log) => tokio::task::spawn_blocking(move || log.close()).await.ok(),
            None => None,
        };
        self.state.sinks.finish(self.state.config().data.drain).await;
        metrics
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
        tunnels: config.routes.iter().any(|route| route.upgrade.is_some()),
        connect: config.forward.is_some(),
        interim: config.data.interim,
        ..EdgeConfig::default()
    }
}

/// Whether the parts that are opened at a start could be, as far as that can be told without opening them.
///
/// # Errors
/// The first that could not.
pub fn check_parts(config: &Config) -> Result<(), StartError> {
    if config.log.enabled {
        farthing_ledger::look_at_dir(&config.log.dir)?;
    }
    crate::sinks::check(config)?;
    crate::otlp::check(config)?;
    experiments::check_experiments(config)
}

/// Whether a configuration could run here, as far as that can be told without running it: what `farthing check` looks at, and what its routes come to.
///
/// # Errors
/// What is wrong.
pub fn could_run(config: &Config) -> Result<(), String> {
    let told = |error: StartError| error.to_string();
    check_parts(config).map_err(told)?;
    prices::book(config).map_err(|error| told(error.into()))?;
    let clock: Arc<dyn Clock> = Arc::new(RealClock::default());
    let build = move |spec| farthing_upstream::build(spec, clock.clone());
    compile(config, Around { events: &events::sources(config), hearing: None, before: None, build: &build }).map(drop).map_err(told)
}

/// Whether the log can be written where it shall be; makes its folder. Where that breaks later, a process serves on without it.
///
/// # Errors
/// What is in the way.
pub fn check_log(config: &Config) -> Result<(), StartError> {
    if config.log.enabled {
        farthing_ledger::check_dir(&config.log.dir)?;
    }
    Ok(())
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
        journal: log.journal,
        journal_sync: log.journal_sync,
        journal_reserve: log.journal_reserve,
        ..LogConfig::default()
    };
    Ok(Some(LogWriter::open(log.dir.clone(), settings, real.clone())?))
}

/// Opens the store off the runtime's threads: it reads files and builds sessions.
async fn open_models(config: &Arc<Config>, frozen: bool) -> Result<(Store, Result<(), String>), StartError> {
    let models = config.models.clone();
    let remote = model_store::of(config)?;
    let own_history = files::of_instance(config, OWN_HISTORY);
    let slots = std::thread::available_parallelism().map_or(2, usize::from);
    let open = move || {
        let runtime = Runtime::load(models.onnxruntime.as_deref());
        let problem = runtime.as_ref().map(|_| ()).map_err(ToString::to_string);
        let deadline = Some(models.deadline);
        let runtime = runtime.ok();
        let options =
            StoreOptions { runtime, slots, deadline, own_history, remote, frozen, trusted: trusted(&models), ..StoreOptions::default() };
        (Store::open(models.dir, options), problem)
    };
    Ok(match tokio::task::spawn_blocking(open).await {
        Ok(opened) => opened,
        Err(error) => {
            let options = StoreOptions { trusted: trusted(&config.models), frozen, ..StoreOptions::default() };
            (Store::open(config.models.dir.clone(), options), Err(error.to_string()))
        }
    })
}

fn trusted(models: &ModelsConfig) -> Vec<PublicKey> {
    models.trusted_keys.iter().copied().map(PublicKey::new).collect()
}

pub(crate) type Clocks = (Arc<dyn Clock>, Arc<RealClock>);

/// Puts the parts together.
///
/// # Errors
/// Prices that contradict each other, a system without random numbers.
pub(crate) fn build(
    (config, compiled, sources): (&Arc<Config>, Compiled, Vec<Arc<SourceState>>),
    (clock, real): Clocks,
    log: Option<farthing_ledger::LogHandle>,
    (store, freeze): (Store, Freeze),
    (events, l2, fleet): (Arc<Events>, Option<L2>, Option<Arc<Fleet>>),
) -> Result<State, StartError> {
    let (keyer, salt) = keyer(config);
    let start = rand::rngs::OsRng.try_next_u64().map_err(|e| StartError::Random(e.to_string()))?;
    let totals = Aggregates::default();
    let log_on = log.is_some();
    let book = prices::book(config)?;
    let volumes = log.as_ref().map_or_else(Volumes::default, |log| prices::volumes(&book, (log, &config.log.dir), clock.now()));
    let pricing = Pricing::new(book, volumes);
    let lifecycle = Lifecycle::new(config, (real.clone(), config.models.deadline, PREDICTOR_REST));
    let state = State {
        prefetch: Prefetch::new(config, &compiled.routes, &real),
        live: ArcSwap::from_pointee(Live::new(config.clone(), Clients::new(config, &salt)?, compiled)),
        turns: AtomicU64::new(0),
        changes: Arc::new(ChangeBook::new(config)),
        forwarding: Forwarding::new(rand::rngs::OsRng.try_next_u64().map_err(|e| StartError::Random(e.to_string()))?),
        listeners: Listeners::open(config, real.wall())?,
        reloads: Reloads::default(),
        shared_config: OnceLock::new(),
        events: sources,
        cache: Cache::in_fleet(
            cache_config(config, keyer),
            events,
            l2.as_ref().map(|l2| l2.tier.clone()),
            fleet.as_ref().map(|fleet| fleet.hearing().clone()),
        ),
        budgets: Budgets::open(config, fleet.as_ref(), clock.clone())?,
        fleet,
        fills: FillCounts::default(),
        l2,
        draw: Draw::new(config.seed),
        keyer,
        salt,
        totals,
        log,
        sinks: Sinks::open(config, clock.clone(), real.clone())?,
        traces: match &config.telemetry.otlp {
            Some(otlp) => Some(Traces::open(otlp, config.data.tls.is_some(), (real.clone(), Draw::new(config.seed)))?),
            None => None,
        },
        forgetting: Default::default(),
        alerts: Arc::new(Alerts::new(config)),
        load: Arc::new(Load::new(&config.overload)),
        pricing,
        predictors: Predictors::new(store),
        guarded: Guarded::new(real.clone(), config.models.deadline, PREDICTOR_REST),
        strategy_guarded: Guarded::new(real.clone(), config.models.deadline, PREDICTOR_REST),
        lifecycle,
        audits: Audits::new(config),
        freeze,
        bypass: Bypass::open(config, clock.now())?,
        judged: AtomicI64::new(0),
        trials: Trials::below(&config.state_dir),
        models_moved: Notify::new(),
        proof: Proof::new(&config.holdout),
        ids: Ids::new(start),
        shortcuts: Shortcuts::default(),
        memory: log_on.then(|| Memory::new(&config.log.dir, &LogConfig::default().instance)),
        stat_epoch: rand::rngs::OsRng.try_next_u64().map_err(|e| StartError::Random(e.to_string()))?,
        spec_hash: TTL_SPEC.hash().into(),
        volatile: Volatile::default(),
        warmth: Warmth::default(),
        tasks: TaskTracker::new(),
        counters: Counters::default(),
        forms: FormRoom::new(usize::try_from(config.cache.l1_bytes / FORMS).unwrap_or(usize::MAX)),
        clock,
        real,
    };
    // From before the restart.
    state.predictors.store().freeze(state.freeze.is_on());
    state.tell_freeze();
    state.follow_candidates();
    state.make_ready(&state.live.load_full());
    state.recall_audits();
    Ok(state)
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

/// Writes down what was spent and what limits have given, and wakes who waits for a new window.
async fn keep_books(state: Arc<State>, stop: CancellationToken) {
    let limits = state.live().limits.are_kept();
    if state.budgets.is_empty() && !limits {
        return;
    }
    let mut turn = tokio::time::interval(budgets::TICK);
    turn.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = turn.tick() => {}
        }
        let kept = state.clone();
        let at_risk = state.log.as_ref().is_some_and(farthing_ledger::LogHandle::billing_at_risk);
        let outside = at_risk.then_some("the records of what is billed find no room on the disk");
        let tick = move || {
            kept.budgets.tick(outside);
            kept.keep_limits();
        };
        let _ = tokio::task::spawn_blocking(tick).await;
    }
}

/// Follows the aliases of predictors: now and then, and at once when another instance tells of a move. By itself, because it may have to ask a server.
async fn follow_models(state: Arc<State>, stop: CancellationToken) {
    let mut turn = tokio::time::interval(POLL.min(state.config().models.control_interval));
    turn.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = turn.tick() => {}
            () = state.models_moved.notified() => {}
        }
        let polled = state.clone();
        let _broken = tokio::task::spawn_blocking(move || polled.poll_models()).await;
    }
}

/// The control loop of the single instance: guardrails and leaders of experiments, entries past use.
async fn control(state: Arc<State>, stop: CancellationToken) {
    let mut turns = 0u64;
    let mut turn = tokio::time::interval(POLL.min(state.config().models.control_interval));
    turn.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let due;
        tokio::select! {
            () = stop.cancelled() => return,
            _ = turn.tick() => due = true,
            // A guardrail has acted: that is to outlive us.
            () = state.trials.wake.notified() => due = false,
        }
        state.control();
        let keeping = state.clone();
        let _ = tokio::task::spawn_blocking(move || keeping.keep_experiments()).await;
        if !due {
            continue;
        }
        turns += 1;
        if turns.is_multiple_of(SWEEP_TURNS) {
            state.cache.sweep(KEEP_EXPIRED, state.clock.now());
            memory::remember(&state).await;
        }
        let planned = state.clone();
        if tokio::task::spawn_blocking(move || planned.plan_routes()).await.is_err() {
            state.counters.panics.fetch_add(1, Ordering::Relaxed);
            tracing::error!("a decision about the strategies of routes panicked; the ones in force stay");
        }
    }
}

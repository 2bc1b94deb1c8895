//! A proxy without a port: requests are handed in, providers are any [`Origin`]. For simulations in virtual time, which must meet the
//! very path that serves.

use std::sync::Arc;

use farthing_cache::l2::Store as L2Store;
use farthing_cache::{CacheStats, Purge};
use farthing_config::Config;
use farthing_ledger::{AggregatesSnapshot, LogError, LogMetrics, LogWriter};
use farthing_models::Store;
use farthing_types::{Body, Clock, RealClock, Span};
use farthing_upstream::{Origin, UpstreamSpec};
use futures_util::future::BoxFuture;
use http::{Request, Response};

use crate::StartError;
use crate::assembly::{KEEP_EXPIRED, build, keyer, open_log};
use crate::audit::RouteAudit;
use crate::batching::BatchReport;
use crate::budgets::BudgetsReport;
use crate::compile::{Around, compile};
use crate::defer::DeferReport;
use crate::edge::{Handler, PeerInfo};
use crate::experiments::{AuditLine, ExperimentError, ExperimentView, TuningView};
use crate::forget::{ForgetReport, forget};
use crate::ids::Ids;
use crate::l2::L2;
use crate::lifecycle::freeze::{Freeze, FreezeError};
use crate::lifecycle::{CandidateView, DriftReport};
use crate::limits::{LimitsReport, MOST_COUNTERS};
use crate::load::LoadReport;
use crate::plans::PlanReport;
use crate::prefetch::RouteBooks;
use crate::pricing::PricingStats;
use crate::prompts::PromptReport;
use crate::reload::{ReloadError, Reloaded};
use crate::routing::RoutingReport;
use crate::serve::{Service, serve};
use crate::state::State;
use crate::stats::Events;
use crate::switches::{BypassError, Order, RouteSwitches};

/// See the module. It has no control loop: nothing sweeps, no experiment is decided, no alias is followed, so that what happens
/// depends on the requests alone.
pub struct Inside {
    pub(crate) state: Arc<State>,
    log: Option<LogWriter>,
}

impl Inside {
    /// A proxy under `config` whose time is `clock`; `client` makes what stands for the wire of each upstream.
    ///
    /// # Errors
    /// A configuration that cannot run.
    pub fn new(
        config: &Arc<Config>,
        clock: Arc<dyn Clock>,
        store: Store,
        client: &dyn Fn(&UpstreamSpec) -> Arc<dyn Origin>,
    ) -> Result<Self, StartError> {
        Self::with_l2(config, clock, (store, None), client)
    }

    /// As [`Inside::new`]; latencies run on `clock`, too, so that promises of time can be kept and broken where time stands still.
    ///
    /// # Errors
    /// A configuration that cannot run.
    pub fn timed(
        config: &Arc<Config>,
        clock: Arc<dyn Clock>,
        store: Store,
        client: &dyn Fn(&UpstreamSpec) -> Arc<dyn Origin>,
    ) -> Result<Self, StartError> {
        Self::assemble(config, (clock.clone(), Some(clock)), (store, None), client)
    }

    /// As [`Inside::new`], above a store that keeps answers outside of memory, to the bounds of `config.l2`.
    ///
    /// # Errors
    /// A configuration that cannot run.
    pub fn with_l2(
        config: &Arc<Config>,
        clock: Arc<dyn Clock>,
        stores: (Store, Option<Arc<dyn L2Store>>),
        client: &dyn Fn(&UpstreamSpec) -> Arc<dyn Origin>,
    ) -> Result<Self, StartError> {
        Self::assemble(config, (clock, None), stores, client)
    }

    /// As [`Inside::with_l2`], with latencies measured by the same clock.
    ///
    /// # Errors
    /// A configuration that cannot run.
    pub fn timed_with_l2(
        config: &Arc<Config>,
        clock: Arc<dyn Clock>,
        stores: (Store, Option<Arc<dyn L2Store>>),
        client: &dyn Fn(&UpstreamSpec) -> Arc<dyn Origin>,
    ) -> Result<Self, StartError> {
        Self::assemble(config, (clock.clone(), Some(clock)), stores, client)
    }

    fn assemble(
        config: &Arc<Config>,
        (clock, latencies): (Arc<dyn Clock>, Option<Arc<dyn Clock>>),
        (store, l2): (Store, Option<Arc<dyn L2Store>>),
        client: &dyn Fn(&UpstreamSpec) -> Arc<dyn Origin>,
    ) -> Result<Self, StartError> {
        let real = Arc::new(RealClock::default());
        let log = open_log(config, &real)?;
        let events = Arc::new(Events::default());
        let sources = crate::events::sources(config);
        let upstream = |spec| Ok(farthing_upstream::around(client(&spec), spec, clock.clone()));
        let routes = compile(config, Around { events: &sources, hearing: None, before: None, build: &upstream })?;
        let handle = log.as_ref().map(LogWriter::handle);
        let over = |(store, bounds)| L2::over(store, bounds, (keyer(config).0, KEEP_EXPIRED));
        let l2 = l2.zip(config.l2.as_ref()).map(over);
        let mut state =
            build((config, routes, sources), (clock, real), handle, (store, Freeze::open(config)?), (events.clone(), l2, None))?;
        // Ids enter draws (the jitter of retries): the same requests shall meet the same ones.
        state.ids = Ids::new(config.seed);
        state.real = latencies.unwrap_or(state.real);
        let state = Arc::new(state);
        events.connect(&state);
        let now = state.clock.now();
        state.open_experiments(config, now)?;
        state.open_tuning(config, now)?;
        Ok(Self { state, log })
    }

    /// Puts another configuration in force; `client` is what stands for the wire of upstreams that are made anew. Blocks.
    ///
    /// # Errors
    /// See [`ReloadError`].
    pub fn reload(&self, config: Config, client: &dyn Fn(&UpstreamSpec) -> Arc<dyn Origin>) -> Result<Reloaded, ReloadError> {
        self.state.reload(&self.state.reloads.turn(), config, &|spec| {
            Ok(farthing_upstream::around(client(&spec), spec, self.state.clock.clone()))
        })
    }

    /// Answers a request.
    pub fn ask(&self, request: Request<Body>) -> BoxFuture<'static, Response<Body>> {
        serve(&self.state, request, None)
    }

    /// Answers a request as it comes over a connection, which may take this for its proxy.
    pub fn ask_over(&self, request: Request<Body>, peer: PeerInfo) -> BoxFuture<'static, Response<Body>> {
        Arc::new(Service { state: self.state.clone() }).handle(request, peer)
    }

    /// Counters and sizes of the cache.
    pub fn cache_stats(&self) -> CacheStats {
        self.state.cache.stats()
    }

    /// Totals since the start.
    pub fn totals(&self) -> AggregatesSnapshot {
        self.state.totals.snapshot()
    }

    /// What the batches of each route did that has any.
    pub fn batches(&self) -> Vec<BatchReport> {
        self.state.batches()
    }

    /// How the providers of each route stand that has several.
    pub fn routings(&self) -> Vec<RoutingReport> {
        self.state.routings()
    }

    /// What came of calls that could wait, of each route that lets them.
    pub fn defers(&self) -> Vec<DeferReport> {
        self.state.defers()
    }

    /// Settles what an earlier run, under the same `state_dir`, had left in the provider's batches: in tasks of its own. Blocks.
    pub fn resume_batches(&self) {
        self.state.resume_batches();
    }

    /// What came of marks in prompts, of each route that has some.
    pub fn prompts(&self) -> Vec<PromptReport> {
        self.state.prompts()
    }

    /// What of prices and usage was not as it should be.
    pub fn pricing_stats(&self) -> PricingStats {
        self.state.pricing.stats()
    }

    /// Takes over what limits have given in a run before, under the same `state_dir`. Blocks.
    pub fn recall_limits(&self) {
        self.state.recall_limits();
    }

    /// Writes down what limits have given, for another run. Blocks.
    pub fn keep_limits(&self) {
        self.state.keep_limits();
    }

    /// Waits until no call is under way, and what budgets set aside is written down.
    pub async fn settle(&self) {
        while !self.state.tasks.is_empty() {
            // By the timer, so that what waits for one gets on where time stands still.
            tokio::time::sleep(Span::from_millis(1)).await;
        }
        self.state.budgets.written().await;
    }

    /// One turn of the control loop: experiments, switches.
    pub fn control(&self) {
        self.state.control();
        self.state.keep_experiments();
    }

    /// One experiment.
    pub fn experiment(&self, name: &str) -> Option<ExperimentView> {
        self.state.trials.view(name, self.state.clock.now())
    }

    /// How numbers of plans stand that experiments may move.
    pub fn tunings(&self) -> Vec<TuningView> {
        self.state.tunings(self.state.clock.now())
    }

    /// Carries out an operator's order to an experiment. Blocks.
    ///
    /// # Errors
    /// See [`ExperimentError`].
    pub fn order_experiment(
        &self,
        name: &str,
        order: &farthing_experiment::Order,
        reason: &str,
    ) -> Result<ExperimentView, ExperimentError> {
        self.state.order_experiment(name, order, reason, self.state.clock.now())
    }

    /// What was done with an experiment. Blocks.
    ///
    /// # Errors
    /// See [`ExperimentError`].
    pub fn experiment_audit(&self, name: &str) -> Result<Vec<AuditLine>, ExperimentError> {
        self.state.experiment_audit(name)
    }

    /// Its closed unit-windows. Blocks.
    ///
    /// # Errors
    /// See [`ExperimentError`].
    pub fn experiment_rows(&self, name: &str) -> Result<String, ExperimentError> {
        self.state.experiment_rows(name, 0).map(|(text, _)| text)
    }

    /// Takes in what has come on each route, and decides about its strategies where it is time to.
    pub fn plan(&self) {
        self.state.plan_routes();
    }

    /// What warming by the clock has done, by route.
    pub fn warmed_by_clock(&self) -> std::collections::BTreeMap<farthing_types::RouteName, crate::WarmBooks> {
        self.state.warmth.books()
    }

    /// Looks at the clock, and warms the routes whose time has come.
    pub async fn warm_by_clock(&self) {
        crate::warm_clock::turn(&self.state).await;
    }

    /// Follows aliases of predictors on disk. Blocks.
    pub fn poll_models(&self) {
        self.state.tell_freeze();
        self.state.predictors.store().poll();
        self.state.distrust_sent_back();
    }

    /// Saves the live statistics beside the log. Blocks.
    pub fn remember(&self) {
        self.state.remember();
    }

    /// Takes over those of a run before, and what limits have given in it. Blocks.
    pub fn recall(&self) {
        self.state.recall();
    }

    /// How the decision about strategies stands on each route.
    pub fn plans(&self) -> Vec<PlanReport> {
        self.state.live().routes.iter().map(|route| route.plan_report()).collect()
    }

    /// The switches of each route.
    pub fn switches(&self) -> Vec<RouteSwitches> {
        self.state.switches()
    }

    /// Lets everything pass by. Blocks.
    ///
    /// # Errors
    /// See [`BypassError`].
    pub fn bypass_on(&self, order: Order) -> Result<(), BypassError> {
        self.state.bypass_on(order)
    }

    /// Ends the bypass of a route, or every one. Blocks.
    ///
    /// # Errors
    /// See [`BypassError`].
    pub fn bypass_off(&self, route: Option<&str>, reason: &str) -> Result<bool, BypassError> {
        self.state.bypass_off(route, reason)
    }

    /// Versions beside the champion, and what is known of them.
    pub fn candidates(&self) -> Vec<CandidateView> {
        self.state.follow_candidates();
        self.state.candidates()
    }

    /// How forecasts have come true, and how far features have moved.
    pub fn drift(&self) -> DriftReport {
        self.state.drift()
    }

    /// Stops automation, or lets it go on. Blocks.
    ///
    /// # Errors
    /// See [`FreezeError`].
    pub fn freeze(&self, on: bool, reason: &str) -> Result<bool, FreezeError> {
        self.state.freeze(on, reason)
    }

    /// What audits have found, route by route.
    pub fn audits(&self) -> Vec<RouteAudit> {
        self.state.route_audits()
    }

    /// Writes down what audits have found, for another run. Blocks.
    pub fn keep_audits(&self) {
        self.state.keep_audits();
    }

    /// The store of predictors.
    pub fn models(&self) -> &Arc<Store> {
        self.state.predictors.store()
    }

    /// Purges entries; how many.
    pub fn purge(&self, purge: &Purge) -> usize {
        self.state.cache.purge(purge, false, self.state.clock.now()).entries
    }

    /// Makes entries stale; how many.
    pub fn soften(&self, purge: &Purge) -> usize {
        self.state.cache.purge(purge, true, self.state.clock.now()).entries
    }

    /// Does what is done every second for the budgets. Blocks.
    pub fn tick_budgets(&self) {
        self.state.budgets.tick(None);
    }

    /// What is told of the budgets; `None` where there is none.
    pub fn budgets(&self) -> Option<BudgetsReport> {
        self.state.budgets.report()
    }

    /// What is told of the limits; `None` where there is none.
    pub fn limits(&self) -> Option<LimitsReport> {
        self.state.limits(MOST_COUNTERS)
    }

    /// What is under way.
    pub fn load(&self) -> LoadReport {
        self.state.load.report()
    }

    /// How fetching ahead stands on each route.
    pub fn prefetch(&self) -> Vec<RouteBooks> {
        self.state.prefetch.report(&self.state)
    }

    /// Forgets a tenant.
    pub async fn forget(&self, tenant: &str) -> ForgetReport {
        forget(&self.state, tenant).await
    }

    /// Writes everything logged so far into files. Blocks.
    ///
    /// # Errors
    /// Rows that were dropped, or a writer that does not answer.
    pub fn flush_log(&self) -> Result<(), LogError> {
        self.log.as_ref().map_or(Ok(()), |log| log.handle().flush(crate::assembly::LOG_WAIT))
    }

    /// Ends: running calls end, the log is written, and what waits to be written to L2. That itself is its owner's to close.
    pub async fn close(self) -> Option<LogMetrics> {
        self.state.tasks.close();
        self.state.tasks.wait().await;
        self.state.cache.shutdown(self.state.clock.now());
        self.state.settle_plans();
        if let Some(l2) = &self.state.l2 {
            l2.close().await;
        }
        self.state.budgets.close();
        self.log.map(LogWriter::close)
    }
}

//! What can be asked of a running proxy, and ordered.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use farthing_cache::{CacheStats, Purge, Purged};
use farthing_config::{Config, ExperimentConfig};
use farthing_ledger::budget::Raise;
use farthing_ledger::costs::{CostStore, Limits, OpenLog};
use farthing_ledger::{AggregatesSnapshot, LogError, LogMetrics, PriceError};
use farthing_models::{AliasInfo, Counts, Status, Store};
use farthing_sinks::SinkState;
use farthing_tls::Certificates;
use farthing_types::{Money, RouteName, Time};
use farthing_upstream::{BreakerState, Upstream};
use http::HeaderMap;

use crate::StartError;
use crate::alerts::Alerts;
use crate::audit::{RouteAudit, Skipped as AuditSkipped};
use crate::batching::BatchReport;
use crate::budgets::{BudgetsReport, RaiseError, WriteOffError};
use crate::edge::EdgeStats;
use crate::events::{self, Delivered, DeliveryError, SourceState};
use crate::experiments::{AuditLine, ExperimentError, ExperimentView, TuningView};
use crate::fills::FillOutcome;
use crate::fleet::FleetStats;
use crate::forward::HostReport;
use crate::l2::{L2, L2Stats};
use crate::lifecycle::freeze::{FreezeError, FreezeOrder};
use crate::lifecycle::{CandidateView, DriftReport};
use crate::limits::{LimitsReport, MOST_COUNTERS};
use crate::load::LoadReport;
use crate::otlp::TraceStats;
use crate::pace::PaceStats;
use crate::plans::PlanReport;
use crate::prefetch::RouteBooks;
use crate::prices;
use crate::pricing::PricingStats;
use crate::proof::ProofReport;
use crate::routing::RoutingReport;
use crate::state::Counters;
use crate::switches::{BypassError, Order, RouteSwitches};
use crate::volatile::{self};
use crate::warm::{self, WarmOrder, WarmRefused, WarmReport};
use crate::warm_clock::WarmBooks;

use super::{FRESH_WAIT, LOG_WAIT, Proxy};

/// Why a part is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its name: `models`, `log`, `upstream:<name>`.
    pub name: String,
    /// Null when it is well, else what is wrong and what happens instead.
    pub problem: Option<String>,
}

impl Proxy {
    /// The address of the data port.
    pub fn data_addr(&self) -> SocketAddr {
        self.addr
    }
    /// This process answers at `addr`, too: nobody reaches it there through the data port.
    pub fn answers_at(&self, addr: SocketAddr) {
        self.state.forwarding.answers_at(addr);
    }
    /// What passed unobserved since start, by host.
    pub fn unobserved(&self) -> Vec<HostReport> {
        self.state.forwarding.unobserved.report()
    }
    /// The certificates of the data port; `None`: it speaks plain HTTP.
    pub fn data_tls(&self) -> Option<Arc<Certificates>> {
        self.state.listeners.data.clone()
    }
    /// The certificates of the admin port; `None`: it speaks plain HTTP.
    pub fn admin_tls(&self) -> Option<Arc<Certificates>> {
        self.state.listeners.admin.clone()
    }
    /// The configuration it runs.
    pub fn config(&self) -> Arc<Config> {
        self.state.config()
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
    /// Calls that instances share which ended so.
    pub fn fills(&self, outcome: FillOutcome) -> u64 {
        self.state.fills.get(outcome)
    }
    /// Figures of the fleet; `None` where this instance is alone.
    pub fn fleet_stats(&self) -> Option<FleetStats> {
        self.state.fleet.as_ref().map(|fleet| fleet.stats(self.now()))
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
    /// How fetching ahead stands on each route.
    pub fn prefetch(&self) -> Vec<RouteBooks> {
        self.state.prefetch.report(&self.state)
    }
    /// What fetching ahead could not learn from: requests that found no room on their way, requests that had to make room for others, and
    /// candidates whose outcome could not be awaited.
    pub fn prefetch_lost(&self) -> [u64; 3] {
        self.state.prefetch.lost()
    }
    /// The lines in front of the providers that have a route, by name.
    pub fn paces(&self) -> Vec<PaceStats> {
        self.state.paces()
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
    pub fn defers(&self) -> Vec<crate::defer::DeferReport> {
        self.state.defers()
    }
    /// What came of marks in prompts, of each route that has some.
    pub fn prompts(&self) -> Vec<crate::prompts::PromptReport> {
        self.state.prompts()
    }
    /// Bytes of bodies in content codings that entries keep.
    pub fn form_bytes(&self) -> usize {
        self.state.forms.used()
    }
    /// The ways to providers: name, whose credential is sent (`client`, `own`), upstream.
    pub fn upstreams(&self) -> Vec<(Arc<str>, &'static str, Arc<Upstream>)> {
        self.state.upstreams()
    }
    /// Counters of the edge.
    pub fn edge_stats(&self) -> &EdgeStats {
        &self.edge
    }
    /// The store of predictors.
    pub fn models(&self) -> &Arc<Store> {
        self.state.predictors.store()
    }
    /// Generations of predictors built, live and freed.
    pub fn model_counts(&self) -> Counts {
        self.models().counts()
    }
    /// All experiments.
    pub fn experiments(&self) -> Vec<ExperimentView> {
        self.state.trials.views(self.now())
    }
    /// One experiment.
    pub fn experiment(&self, name: &str) -> Option<ExperimentView> {
        self.state.trials.view(name, self.now())
    }
    /// How numbers of plans stand that experiments may move.
    pub fn tunings(&self) -> Vec<TuningView> {
        self.state.tunings(self.now())
    }
    /// Starts an experiment.
    ///
    /// # Errors
    /// See [`StartError`]: the description, its routes, its model versions.
    pub fn start_experiment(&self, config: &ExperimentConfig) -> Result<(), StartError> {
        self.state.start_experiment(config, self.now())
    }
    /// How the decision about strategies stands on each route.
    pub fn plans(&self) -> Vec<PlanReport> {
        self.state.live().routes.iter().map(|route| route.plan_report()).collect()
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
        self.state.order_experiment(name, order, reason, self.now())
    }
    /// What was done with an experiment, the latest last. Blocks.
    ///
    /// # Errors
    /// See [`ExperimentError`].
    pub fn experiment_audit(&self, name: &str) -> Result<Vec<AuditLine>, ExperimentError> {
        self.state.experiment_audit(name)
    }
    /// Closed unit-windows of an experiment as lines of a CSV file, a piece of them from byte `from` on, and where the next begins. Blocks.
    ///
    /// # Errors
    /// See [`ExperimentError`].
    pub fn experiment_rows(&self, name: &str, from: u64) -> Result<(String, Option<u64>), ExperimentError> {
        self.state.experiment_rows(name, from)
    }
    /// The switches of each route: what is bypassed, what has switched itself off.
    pub fn switches(&self) -> Vec<RouteSwitches> {
        self.state.switches()
    }
    /// What the operator lets pass by now.
    pub fn bypasses(&self) -> Vec<Order> {
        self.state.bypass.orders(self.now())
    }
    /// Lets everything pass by, from now on. Blocks.
    ///
    /// # Errors
    /// See [`BypassError`].
    pub fn bypass_on(&self, order: Order) -> Result<(), BypassError> {
        self.state.order_bypass(order)
    }
    /// Ends the bypass of a route, or every one; whether there was any. Blocks.
    ///
    /// # Errors
    /// See [`BypassError`].
    pub fn bypass_off(&self, route: Option<&str>, reason: &str) -> Result<bool, BypassError> {
        self.state.order_bypass_off(route, reason)
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
    /// What audits have found, route by route.
    pub fn audits(&self) -> Vec<RouteAudit> {
        self.state.route_audits()
    }
    /// Answers that were drawn for an audit and not checked, by reason; and what audits have cost today.
    pub fn audits_skipped(&self) -> (Vec<(AuditSkipped, u64)>, Money) {
        (self.state.audits.skipped().collect(), self.state.audits.spent(self.now()))
    }
    /// The order by which automation is frozen.
    pub fn frozen(&self) -> Option<FreezeOrder> {
        self.state.freeze.order()
    }
    /// Stops automation, or lets it go on; whether that is news. Blocks.
    ///
    /// # Errors
    /// See [`FreezeError`].
    pub fn freeze(&self, on: bool, reason: &str) -> Result<bool, FreezeError> {
        self.state.order_freeze(on, reason)
    }
    /// Ends an experiment; its record stays. False when none of that name runs.
    pub fn stop_experiment(&self, name: &str) -> bool {
        self.state.stop_experiment(name, self.now())
    }
    /// The saving against the holdout.
    pub fn savings(&self) -> ProofReport {
        self.state.proof.report()
    }
    /// Where the answers of a route differ when they are fetched at once; `None` when there is no such route.
    pub fn volatile(&self, route: &str) -> Option<volatile::Report> {
        let state = self.state.route_named(route)?;
        Some(self.state.volatile.report(&state))
    }
    /// Starts the record of savings afresh, for a new period.
    pub fn reset_savings(&self) {
        self.state.proof.reset();
    }
    /// Purges entries, here and on all instances of the fleet; `soft` makes them stale instead.
    pub fn purge(&self, purge: &Purge, soft: bool) -> Purged {
        self.state.purge(purge, soft)
    }
    /// Whether the other instances have been told of all that was purged here; `None` where there are none. Blocks for a short time.
    pub fn is_told(&self) -> Option<bool> {
        self.state.is_told()
    }
    /// Has the other instances look at the aliases of predictors.
    pub fn say_models(&self) {
        self.state.say_models();
    }
    /// How many entries a purge would hit.
    pub fn purge_dry_run(&self, purge: &Purge) -> usize {
        self.state.cache.purge_dry_run(purge)
    }
    /// What is told of the budgets; `None` where there is none.
    pub fn budgets(&self) -> Option<BudgetsReport> {
        self.state.budgets.report()
    }
    /// What is told of the limits; `None` where there is none.
    pub fn limits(&self) -> Option<LimitsReport> {
        self.state.limits(MOST_COUNTERS)
    }
    /// The same without single counters.
    pub fn limit_totals(&self) -> Option<LimitsReport> {
        self.state.limits(0)
    }
    /// What is under way.
    pub fn load(&self) -> LoadReport {
        self.state.load.report()
    }
    /// Adds money to a budget for some time: to its counter of a unit, where it has one for each.
    ///
    /// # Errors
    /// See [`RaiseError`].
    pub async fn raise_budget(&self, counter: (&str, Option<&str>), raise: Raise) -> Result<(), RaiseError> {
        self.state.budgets.raise(counter, raise).await
    }
    /// Waits no longer for an instance that shares budgets and has not told what it spent.
    ///
    /// # Errors
    /// See [`WriteOffError`].
    pub async fn write_off(&self, member: &str) -> Result<(), WriteOffError> {
        self.state.budgets.write_off(member).await
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
        let (late, open) = self.state.prefetch.lateness();
        (self.state.guarded.late() + late, self.state.guarded.breaker_open() || open)
    }
    /// Rows, drops and files of the log; `None` when it is off.
    pub fn log_metrics(&self) -> Option<LogMetrics> {
        self.state.log.as_ref().map(farthing_ledger::LogHandle::metrics)
    }
    /// The sinks of the log.
    pub fn sinks(&self) -> Vec<Arc<SinkState>> {
        self.state.sinks.states()
    }
    /// What became of spans; `None` where nothing is traced.
    pub fn traces(&self) -> Option<TraceStats> {
        self.state.traces.as_ref().map(|traces| traces.stats())
    }
    /// What warming by the clock has done, by route.
    pub fn warmed_by_clock(&self) -> BTreeMap<RouteName, WarmBooks> {
        self.state.warmth.books()
    }
    /// Real time, as the file system has it.
    pub fn real_now(&self) -> Time {
        self.state.real_now()
    }
    /// The log's folder; `None` when it is off.
    pub fn log_dir(&self) -> Option<PathBuf> {
        self.state.log.as_ref().map(|_| self.state.live().config.log.dir.clone())
    }
    /// The money in the log; `None` when it is off.
    pub fn cost_store(&self) -> Option<CostStore> {
        let recent = OpenLog::new(self.state.log.clone()?, FRESH_WAIT);
        Some(CostStore::new(&self.log_dir()?, Some(Arc::new(recent)), Limits::default()))
    }
    /// Alerts about money.
    pub fn alerts(&self) -> &Arc<Alerts> {
        &self.state.alerts
    }
    /// Digest of the prices in force.
    pub fn price_digest(&self) -> Arc<str> {
        self.state.pricing.book().digest()
    }
    /// Puts the prices of `config` in force, all or nothing; answers their digest. Nothing else of it is taken over.
    ///
    /// # Errors
    /// Prices that contradict each other; the old ones stay in force, and the refusal is counted.
    pub fn reload_prices(&self, config: &Config) -> Result<Arc<str>, PriceError> {
        let pricing = &self.state.pricing;
        let digest = prices::book(config).map(|book| pricing.replace(book)).inspect_err(|_| pricing.refuse())?;
        tracing::info!(%digest, "prices are in force");
        Ok(digest)
    }
    /// Counts a reload of prices that could not even be read.
    pub fn refuse_prices(&self) {
        self.state.pricing.refuse();
    }
    /// What of prices and usage was not as it should be.
    pub fn pricing_stats(&self) -> PricingStats {
        self.state.pricing.stats()
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
            Ok(()) => wanted_but_not_live(&status).or_else(|| self.no_champion()).or_else(|| self.resting()),
        };
        let log = self.log_metrics().filter(|m| !m.healthy).map(|m| crate::journal::dropping(&m));
        let mut parts = vec![part("models", models), part("log", log)];
        parts.extend(
            self.log_metrics().filter(|_| self.config().log.journal).map(|metrics| part("journal", crate::journal::problem(&metrics))),
        );
        let shared = || self.shared_config().and_then(|shared| shared.problem());
        parts.push(part("config", self.state.reloads.problem().or_else(shared)));
        let wall = self.wall_now();
        parts.extend(self.state.listeners.all().map(|certificates| part(certificates.table(), certificates.problem(wall))));
        let unwritten = self.change_counts().1;
        let audit = (unwritten > 0).then(|| format!("{unwritten} changes could not be written to the audit log below state_dir"));
        parts.extend(audit.map(|problem| part("audit", Some(problem))));
        parts.extend(self.bypasses().iter().map(|order| {
            let of = order.route.as_deref().unwrap_or("all routes");
            part("bypass", Some(format!("on for {of}, nothing is saved there ({}); end it with farthing bypass off", order.reason)))
        }));
        let frozen = |order: FreezeOrder| format!("automation is frozen ({}); let it go on with farthing freeze off", order.reason);
        parts.extend(self.frozen().map(|order| part("freeze", Some(frozen(order)))));
        parts.extend(self.state.fleet.as_ref().map(|fleet| part("fleet", fleet.problem(self.now()))));
        parts.extend(self.state.fleet.as_ref().map(|_| part("experiments", self.state.experiments_problem())));
        parts.extend(self.state.l2.as_ref().map(|l2| part("l2", l2.problem())));
        let no_grants = |budgets: BudgetsReport| {
            let fleet = budgets.fleet.and_then(|fleet| fleet.trouble);
            budgets.fault.or(fleet).map(|why| format!("hard budgets hold back beyond what is granted: {why}"))
        };
        parts.extend(self.budgets().map(|budgets| part("budgets", no_grants(budgets))));
        let shared = self.state.limits(0).and_then(|limits| limits.fleet);
        parts.extend(shared.map(|shared| part("limits", shared.problem())));
        parts.extend(self.state.traces.iter().map(|traces| part("traces", traces.problem())));
        parts.extend(self.sinks().iter().map(|sink| part(&format!("sink:{}", sink.name), sink.problem())));
        parts.extend(self.state.events.iter().map(|source| part(&format!("events:{}", source.config.name), source.problem())));
        parts.extend(self.state.live().clients.tokens.watched().map(|(name, watched)| part(&format!("jwt:{name}"), watched.problem())));
        for route in &self.state.live().routes {
            let mut open: Vec<_> = route.ways().filter(|way| way.2.health().state() != BreakerState::Closed).map(|way| way.0).collect();
            open.dedup();
            let what = if route.routing.is_some() { "calls go to the others" } else { "calls fail fast" };
            let problem = (!open.is_empty()).then(|| format!("the breaker of `{}` is not closed: {what}", open.join("`, `")));
            parts.push(part(&format!("upstream:{}", route.route.name), problem));
        }
        parts
    }

    /// Said as long as routes wait for a model that is not there.
    fn no_champion(&self) -> Option<String> {
        let waits = self.state.live().routes.iter().any(|r| r.route.cache && r.plan.ttl.source == farthing_policy::TtlSource::Model);
        let none = self.state.predictors.ttl(None).is_none();
        (waits && none).then(|| "no `ttl` champion: rules decide (farthing-train fit ttl, then farthing models promote)".to_owned())
    }

    /// Said as long as the model is closed out for being late.
    fn resting(&self) -> Option<String> {
        let (late, open) = self.predictor_lateness();
        open.then(|| format!("the model was late {late} times: table and rules decide until it has rested"))
    }
}

/// What is not as `aliases.json` says, and who decides meanwhile.
fn wanted_but_not_live(status: &Status) -> Option<String> {
    let decides = |info: &AliasInfo| match (info.live, info.engine) {
        (Some(live), Some(engine)) => format!("{}/{live} ({engine}) decides", info.kind),
        _ => "rules decide".to_owned(),
    };
    let of_alias = |info: &AliasInfo| Some(format!("{}; {}", info.problem.as_ref()?, decides(info)));
    status.aliases.iter().find_map(of_alias).or_else(|| status.aliases_problem.clone())
}

//! Metrics: one collector that reads the totals when it is scraped, so that a request pays nothing for being counted twice.

mod ahead;
mod alerts;
mod clients;
mod config;
mod defer;
mod fleet;
mod forward;
mod l2;
mod lists;
mod models;
mod plans;
mod prompts;
mod redis;
mod routing;
mod sinks;
mod switches;
mod tls;
mod traces;
mod watch;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use farthing_ledger::aggregate::HistogramSnapshot;
use farthing_ledger::aggregate::RouteSnapshot;
use farthing_ledger::budget::CounterView;
use farthing_ledger::{LogMetrics, SavedBy};
use farthing_policy::batch::{Alone, Flush};
use farthing_types::Money;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

#[path = "telemetry_upstreams.rs"]
mod upstreams;

use crate::assembly::Proxy;
use crate::batching::BatchReport;
use crate::budgets::BudgetsReport;
use crate::edge::{Closed, EdgeStats, Refusal, TunnelEnd};
use crate::pace::PaceStats;
use crate::pricing::PricingStats;
use crate::telemetry_limits;

/// The text that `/metrics` serves.
///
/// # Errors
/// When the text cannot be formatted, which memory alone can cause.
pub fn render(proxy: &Arc<Proxy>) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("farthing");
    registry.register_collector(Box::new(Totals(proxy.clone())));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry)?;
    Ok(text)
}

struct Totals(Arc<Proxy>);

impl fmt::Debug for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Totals")
    }
}

type Labels<'a> = Vec<(&'static str, &'a str)>;

/// One metric family being written.
struct Family<'a> {
    name: &'static str,
    help: &'static str,
    unit: Option<Unit>,
    kind: MetricType,
    rows: Vec<(Labels<'a>, f64)>,
}

impl<'a> Family<'a> {
    fn counter(name: &'static str, help: &'static str) -> Self {
        Self { name, help, unit: None, kind: MetricType::Counter, rows: Vec::new() }
    }
    fn gauge(name: &'static str, help: &'static str) -> Self {
        Self { kind: MetricType::Gauge, ..Self::counter(name, help) }
    }
    fn usd(self) -> Self {
        Self { unit: Some(Unit::Other("usd".into())), ..self }
    }
    fn add(&mut self, labels: Labels<'a>, value: f64) {
        self.rows.push((labels, value));
    }
    fn with(mut self, labels: Labels<'a>, value: f64) -> Self {
        self.add(labels, value);
        self
    }

    fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut metric = encoder.encode_descriptor(self.name, self.help, self.unit.as_ref(), self.kind)?;
        for (labels, value) in &self.rows {
            let row = metric.encode_family(labels)?;
            self.value(*value, row)?;
        }
        Ok(())
    }

    fn value(&self, value: f64, row: MetricEncoder<'_>) -> fmt::Result {
        match self.kind {
            MetricType::Counter => ConstCounter::new(value).encode(row),
            _ => ConstGauge::new(value).encode(row),
        }
    }
}

impl Collector for Totals {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let totals = self.0.totals();
        let routes: Vec<(&str, &RouteSnapshot)> = totals.routes.iter().map(|(name, route)| (&**name, route)).collect();
        for family in money(&routes).into_iter().chain(counts(&routes)) {
            family.encode(&mut encoder)?;
        }
        for family in process(&self.0).into_iter().chain(events(&self.0)).chain(clients::families(&self.0.state().live().clients)) {
            family.encode(&mut encoder)?;
        }
        let windows = self.0.state().experiment_windows();
        for family in fleet::experiments(&windows) {
            family.encode(&mut encoder)?;
        }
        for family in self.0.fleet_stats().iter().flat_map(|stats| fleet::families(stats, &|outcome| self.0.fills(outcome))) {
            family.encode(&mut encoder)?;
        }
        for family in config::families(&self.0.config_standing(), self.0.change_counts()) {
            family.encode(&mut encoder)?;
        }
        let unobserved = self.0.unobserved();
        for family in forward::families(&self.0.state().forwarding, &unobserved) {
            family.encode(&mut encoder)?;
        }
        for family in tls::families(&self.0.state().listeners) {
            family.encode(&mut encoder)?;
        }
        if let Some(shared) = self.0.shared_config() {
            for family in config::shared(&shared.standing()) {
                family.encode(&mut encoder)?;
            }
        }
        for family in alerts::families(&self.0.alerts().stats()) {
            family.encode(&mut encoder)?;
        }
        prices(&self.0.price_digest(), &self.0.pricing_stats(), &mut encoder)?;
        let made_together = self.0.batches();
        for family in batches(&made_together).into_iter().chain(lists::families(&made_together)) {
            family.encode(&mut encoder)?;
        }
        for family in sinks::sinks(&self.0.sinks(), self.0.real_now()) {
            family.encode(&mut encoder)?;
        }
        for family in self.0.traces().iter().flat_map(traces::families) {
            family.encode(&mut encoder)?;
        }
        for family in refills(&self.0.paces()) {
            family.encode(&mut encoder)?;
        }
        for family in upstreams::families(&self.0.upstreams()).into_iter().chain(upstreams::answers(&self.0)) {
            family.encode(&mut encoder)?;
        }
        for family in routing::families(&self.0.routings()) {
            family.encode(&mut encoder)?;
        }
        for family in ahead::families(&self.0.prefetch(), self.0.prefetch_lost()) {
            family.encode(&mut encoder)?;
        }
        for family in ahead::warmed(&self.0.warmed_by_clock()) {
            family.encode(&mut encoder)?;
        }
        for family in plans::tuned(&self.0.tunings()) {
            family.encode(&mut encoder)?;
        }
        for family in plans::families(&self.0.plans()) {
            family.encode(&mut encoder)?;
        }
        for family in defer::families(&self.0.defers()) {
            family.encode(&mut encoder)?;
        }
        for family in prompts::families(&self.0.prompts()) {
            family.encode(&mut encoder)?;
        }
        for family in switches::families(&self.0.switches()) {
            family.encode(&mut encoder)?;
        }
        let predictors = self.0.models().status();
        let versions = models::versions(&predictors);
        for family in models::families(&predictors, &versions) {
            family.encode(&mut encoder)?;
        }
        let (candidates, drift, audits) = (self.0.candidates(), self.0.drift(), self.0.audits());
        let (skipped, spent) = self.0.audits_skipped();
        let watched = watch::models(&candidates, &drift, self.0.frozen().is_some());
        for family in watched.into_iter().chain(watch::audits(&audits, &skipped, spent)) {
            family.encode(&mut encoder)?;
        }
        for family in self.0.budgets().iter().flat_map(budgets) {
            family.encode(&mut encoder)?;
        }
        if let Some(report) = self.0.limit_totals() {
            telemetry_limits::limits(&report, &mut encoder)?;
        }
        telemetry_limits::load(&self.0.load(), &mut encoder)?;
        latencies(&routes, &mut encoder)
    }
}

fn money<'a>(routes: &[(&'a str, &'a RouteSnapshot)]) -> Vec<Family<'a>> {
    let mut bill = Family::counter("bill", "Paid to providers, whatever for").usd();
    let mut paid = Family::counter("calls", "Paid to providers, by what the calls were made for").usd();
    let mut base = Family::counter("base", "What the same requests would have cost without Farthing").usd();
    let mut saved = Family::counter("saved", "Saved, by cause").usd();
    let mut missed = Family::counter("uncached_base", "Base cost of answers not served from the cache, by reason").usd();
    for (route, totals) in routes {
        bill.add(vec![("route", route)], totals.bill_usd.as_usd_f64());
        base.add(vec![("route", route)], totals.base_usd.as_usd_f64());
        for (purpose, tally) in &totals.calls {
            paid.add(vec![("route", route), ("purpose", purpose)], tally.usd.as_usd_f64());
        }
        // What marks in prompts came to may fall: they have figures of their own.
        for (cause, tally) in totals.saved.iter().filter(|(cause, _)| **cause != SavedBy::PromptCache.as_str()) {
            saved.add(vec![("route", route), ("cause", cause)], tally.usd.as_usd_f64());
        }
        for (reason, tally) in &totals.uncached {
            missed.add(vec![("route", route), ("reason", reason)], tally.usd.as_usd_f64());
        }
    }
    vec![bill, paid, base, saved, missed]
}

fn counts<'a>(routes: &[(&'a str, &'a RouteSnapshot)]) -> Vec<Family<'a>> {
    let mut requests = Family::counter("requests", "Answered requests, by outcome");
    let mut uncached = Family::counter("uncached", "Answers not served from the cache, by reason");
    let mut calls = Family::counter("calls", "Calls to providers, by purpose");
    let mut attempts = Family::counter("call_attempts", "Attempts of calls that were sent");
    let mut unpriced = Family::counter("unpriced", "Requests and calls whose price is unknown");
    let mut decisions = Family::counter("decisions", "TTL decisions, by who decided");
    let mut checked = Family::counter("stale_checked", "Cached answers whose staleness became known");
    let mut stale = Family::counter("stale_served", "Of these, expected stale ones");
    let mut sla = Family::counter("sla", "Requests with an SLA: met, or missed by whose time it was");
    for (route, totals) in routes {
        for (outcome, count) in &totals.sla {
            sla.add(vec![("route", route), ("outcome", outcome)], *count as f64);
        }
        for (outcome, tally) in &totals.outcomes {
            requests.add(vec![("route", route), ("outcome", outcome)], tally.count as f64);
        }
        for (reason, tally) in &totals.uncached {
            uncached.add(vec![("route", route), ("reason", reason)], tally.count as f64);
        }
        for (purpose, tally) in &totals.calls {
            calls.add(vec![("route", route), ("purpose", purpose)], tally.count as f64);
        }
        for (by, count) in &totals.decisions {
            decisions.add(vec![("route", route), ("by", by)], *count as f64);
        }
        attempts.add(vec![("route", route)], totals.attempts as f64);
        unpriced.add(vec![("route", route)], totals.unpriced as f64);
        checked.add(vec![("route", route)], totals.checked as f64);
        stale.add(vec![("route", route)], totals.stale as f64);
    }
    vec![requests, uncached, calls, attempts, unpriced, decisions, checked, stale, sla]
}

fn events(proxy: &Proxy) -> Vec<Family<'_>> {
    let mut up = Family::gauge("events_up", "1 unless the source of events is down");
    let mut outages = Family::counter("events_outages", "Times that the source went down");
    let mut gaps = Family::counter("events_gaps", "Times that events may have been missed, so that its routes were purged");
    let mut events = Family::counter("events", "Events, by what became of them");
    for source in proxy.event_sources() {
        let (name, counts) = (&*source.config.name, &source.counts);
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64;
        up.add(vec![("source", name)], f64::from(u8::from(!source.is_down())));
        outages.add(vec![("source", name)], read(&counts.outages));
        gaps.add(vec![("source", name)], read(&counts.gaps));
        let unmatched = read(&counts.unmatched);
        for (outcome, count) in [
            ("obeyed", read(&counts.events) - unmatched),
            ("unmatched", unmatched),
            ("malformed", read(&counts.malformed)),
            ("unsigned", read(&counts.unsigned)),
            ("repeated", read(&counts.repeated)),
        ] {
            events.add(vec![("source", name), ("outcome", outcome)], count);
        }
    }
    vec![up, outages, gaps, events]
}

fn process(proxy: &Proxy) -> Vec<Family<'static>> {
    let (cache, models) = (proxy.cache_stats(), proxy.model_counts());
    let (late, open) = proxy.predictor_lateness();
    let counters = proxy.counters();
    let mut families = vec![
        Family::gauge("cache_entries", "Entries in memory").with(vec![], cache.entries as f64),
        Family::gauge("cache_bytes", "Bytes of entries in memory").with(vec![], cache.bytes as f64),
        Family::gauge("in_flight_bytes", "Bytes of bodies under way").with(vec![], cache.in_flight_bytes as f64),
        Family::counter("cache_evicted", "Entries evicted").with(vec![], cache.evicted as f64),
        Family::counter("cache_purged", "Entries purged").with(vec![], cache.purged as f64),
        Family::counter("handovers", "Calls handed over to a follower").with(vec![], cache.handovers as f64),
        Family::counter("recalled", "Answers from memory to requests known by the bytes of their heads")
            .with(vec![], counters.recalled.load(Ordering::Relaxed) as f64),
        Family::counter("refreshes", "Background refreshes").with(vec![], counters.refreshes.load(Ordering::Relaxed) as f64),
        Family::counter("purge_requests", "Requests with the method PURGE that were ours to answer")
            .with(vec![], counters.purge_requests.load(Ordering::Relaxed) as f64),
        Family::counter("rule_purges", "Purges by rules about writes and events, and of groups that writes name")
            .with(vec![], counters.ruled.load(Ordering::Relaxed) as f64),
        Family::counter("rule_purges_unfilled", "Texts of such rules that purged nothing: a field had no value")
            .with(vec![], counters.unfilled.load(Ordering::Relaxed) as f64),
        Family::counter("unrouted", "Requests that no route took").with(vec![], counters.unrouted.load(Ordering::Relaxed) as f64),
        Family::counter("log_rows_pruned", "Rows of the log removed because they were older than their retention")
            .with(vec![], counters.pruned.load(Ordering::Relaxed) as f64),
        Family::counter("fill_panics", "Fills that panicked").with(vec![], counters.panics.load(Ordering::Relaxed) as f64),
        Family::counter("statistics_refused", "Saved statistics that could not be used at the start")
            .with(vec![], counters.statistics_refused.load(Ordering::Relaxed) as f64),
        Family::counter("statistics_unsaved", "Times that the statistics could not be saved")
            .with(vec![], counters.statistics_unsaved.load(Ordering::Relaxed) as f64),
        Family::counter("experiments_unkept", "Times that something of an experiment could not be kept")
            .with(vec![], counters.experiments_unkept.load(Ordering::Relaxed) as f64),
        Family::counter("variants_switched_off", "Variants of experiments that a guardrail has switched off")
            .with(vec![], counters.variants_switched_off.load(Ordering::Relaxed) as f64),
        Family::counter(
            "bodies_undigested",
            "Answers too long for a canonical digest: compared byte by byte, or not at all where none was stored",
        )
        .with(vec![], counters.undigested.load(Ordering::Relaxed) as f64),
        Family::counter("predictor_late", "Predictions that came late").with(vec![], late as f64),
        Family::gauge("predictor_breaker_open", "1 while late predictions close the model out").with(vec![], f64::from(u8::from(open))),
        Family::gauge("model_generations_live", "Generations of predictors in memory").with(vec![], models.live as f64),
        Family::counter("model_generations_freed", "Generations of predictors freed").with(vec![], models.freed as f64),
        Family::counter("model_bundles_refused", "Bundles that failed a check").with(vec![], models.refused as f64),
    ];
    families.extend(edge(proxy.edge_stats()));
    families.extend(proxy.l2_stats().iter().flat_map(l2::families));
    families.extend(proxy.log_metrics().iter().flat_map(log));
    families
}

/// Figures of a budget are sums over its counters: how many of those there are is not ours to bound.
fn budgets(report: &BudgetsReport) -> Vec<Family<'_>> {
    let mut limit = Family::gauge("budget_limit", "What may be spent in the present window, all counters of the budget together").usd();
    let mut used = Family::gauge("budget_used", "Spent in the present window, with what is uncertain or lost in a crash").usd();
    let mut reserved = Family::gauge("budget_reserved", "Set aside for calls under way").usd();
    let mut near = Family::gauge("budget_counters_near", "Counters that are near their limit or beyond");
    let mut held_back = Family::gauge("budget_held_back", "Requests held back in the present window");
    for spec in &report.specs {
        let of = || vec![("budget", &*spec.name)];
        let counters: Vec<_> = report.counters.iter().filter(|view| view.counter.budget == spec.name).collect();
        let sum = |amount: fn(&CounterView) -> Money| counters.iter().map(|view| amount(view)).sum::<Money>().as_usd_f64();
        limit.add(of(), sum(|view| view.limit));
        used.add(of(), sum(CounterView::used));
        reserved.add(of(), sum(|view| view.reserved));
        let is_near = |view: &&&CounterView| view.used().nanos() as f64 >= view.limit.nanos() as f64 * spec.warn_at;
        near.add(of(), counters.iter().filter(is_near).count() as f64);
        held_back.add(of(), counters.iter().map(|view| view.blocked).sum::<u64>() as f64);
    }
    let ok = f64::from(u8::from(report.fault.is_none()));
    let count = |name, help, value: u64| Family::counter(name, help).with(vec![], value as f64);
    let mut families = vec![
        limit,
        used,
        reserved,
        near,
        held_back,
        Family::gauge("budgets_healthy", "1 while it can be written down what may be spent").with(vec![], ok),
        Family::gauge("budget_waiting", "Requests that wait for room in a budget").with(vec![], report.waiting as f64),
        count("budget_overruns", "Calls that cost more than could be set aside for them", report.overruns),
        count("budget_unbounded", "Calls of which no bound was known, let through", report.unbounded),
        count("budget_faults_passed", "Calls let through although they could not be written down", report.faults_passed),
        count("budget_left_out", "Calls that nobody waits for, left out for want of room", report.left_out),
    ];
    families.extend(report.fleet.iter().flat_map(|fleet| fleet::budgets(report, fleet)));
    families
}

fn log(log: &LogMetrics) -> [Family<'static>; 12] {
    let flag = |name, help, set: bool| Family::gauge(name, help).with(vec![], f64::from(u8::from(set)));
    let counter = |name, help, value: u64| Family::counter(name, help).with(vec![], value as f64);
    let gauge = |name, help, value: u64| Family::gauge(name, help).with(vec![], value as f64);
    let mut lost = Family::counter("log_rows_lost", "Log rows dropped, by table and reason");
    for (table, counts) in &log.tables {
        for (reason, count) in [
            ("queue", counts.dropped_queue),
            ("write", counts.dropped_write),
            ("disk-full", counts.dropped_disk),
            ("billing", counts.dropped_billing),
        ] {
            lost.add(vec![("table", *table), ("reason", reason)], count as f64);
        }
    }
    let journal = &log.journal;
    [
        counter("log_rows", "Log rows written to files", log.rows()),
        counter("log_rows_dropped", "Log rows dropped", log.dropped()),
        lost,
        flag("log_healthy", "1 while the log can be written", log.healthy),
        flag("journal_records_all", "1 while all rows are journaled; 0 without a journal or while the disk is full", journal.records_all),
        flag("billing_at_risk", "1 while records of money would be lost if the process died", journal.billing_at_risk),
        gauge("journal_held_bytes", "Bytes of records of money in memory that found no room on the disk", journal.held_bytes),
        gauge("journal_kept_segments", "Segments of the journal that could not be made into files yet", journal.kept_segments),
        counter("journal_replayed_segments", "Segments of the journal that were read back", journal.replayed_segments),
        counter("journal_replayed_rows", "Rows in them", journal.replayed_rows),
        counter("journal_torn_bytes", "Bytes cut from the ends of segments whose process died while it wrote", journal.torn_bytes),
        counter("journal_damaged", "Damaged places in segments of the journal", journal.damaged),
    ]
}

fn prices(digest: &str, stats: &PricingStats, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let mut unpriced = Family::counter(
        "unpriced_attempts",
        "Attempts of calls without a price, by reason; targets beyond the first 256 are counted as `other`",
    );
    for (provider, target, reason, attempts) in &stats.unpriced {
        unpriced.add(vec![("provider", provider), ("target", target), ("reason", reason.as_str())], *attempts as f64);
    }
    let mut unread = Family::counter("usage_unread", "Answers whose usage was not read to their end, by reason");
    for (reason, answers) in &stats.stopped {
        unread.add(vec![("reason", reason.as_str())], *answers as f64);
    }
    let mut volume = Family::gauge("price_volume", "What monthly meters have counted");
    for (owner, meter, month, amount) in &stats.volumes {
        volume.add(vec![("owner", owner), ("meter", meter), ("month", month)], *amount);
    }
    let families = [
        Family::gauge("price_book_info", "1; its label is the digest of the prices in force").with(vec![("digest", digest)], 1.0),
        unpriced,
        Family::counter("usage_estimated", "Calls whose usage was estimated, in whole or in part").with(vec![], stats.estimated as f64),
        Family::counter("usage_contradictory", "Answers whose usage contradicts itself").with(vec![], stats.contradictory as f64),
        Family::counter("usage_events_stripped", "Events with usage taken out of streams whose clients did not ask")
            .with(vec![], stats.stripped as f64),
        unread,
        volume,
        Family::counter("price_reloads", "Times that prices were read again")
            .with(vec![("outcome", "applied")], stats.reloaded as f64)
            .with(vec![("outcome", "refused")], stats.refused as f64),
    ];
    families.iter().try_for_each(|family| family.encode(encoder))
}

fn batches(reports: &[BatchReport]) -> [Family<'_>; 6] {
    let mut batches = Family::counter("batches", "Batch calls, by what ended the waiting for members");
    let mut members = Family::counter("batch_members", "Calls in batch calls");
    let mut alone = Family::counter("batch_alone", "Calls that went alone although batching is on, by reason");
    let mut failed = Family::counter("batches_failed", "Batch calls that failed as a whole");
    let mut rests = Family::counter("batch_rests", "Times that batches failed one after the other, so that calls went alone for a while");
    let mut concluded = Family::counter("batch_concluded", "404s concluded from a list that lacked what was asked for");
    for BatchReport { route, stats, .. } in reports {
        for reason in Flush::ALL {
            batches.add(vec![("route", route), ("flush", reason.as_str())], stats.batches(*reason) as f64);
        }
        for reason in Alone::ALL {
            alone.add(vec![("route", route), ("reason", reason.as_str())], stats.went_alone(*reason) as f64);
        }
        members.add(vec![("route", route)], stats.members() as f64);
        failed.add(vec![("route", route)], stats.batches_failed() as f64);
        rests.add(vec![("route", route)], stats.rests() as f64);
        concluded.add(vec![("route", route)], stats.answers_concluded() as f64);
    }
    [batches, members, alone, failed, rests, concluded]
}

fn refills(paces: &[PaceStats]) -> [Family<'_>; 4] {
    let mut rate = Family::gauge("provider_rate", "Calls to a provider per second, without those that bring lost copies back");
    let mut waiting = Family::gauge("refill_waiting", "Calls that wait to bring a lost copy back");
    let mut held = Family::counter("refill_held", "Calls that had to wait to bring a lost copy back");
    let mut late = Family::counter("refill_late", "Calls that went beyond the bound of a refill, to come in time");
    for pace in paces {
        let provider = || vec![("provider", &*pace.provider)];
        rate.add(provider(), pace.rate.unwrap_or_default());
        waiting.add(provider(), pace.waiting as f64);
        held.add(provider(), pace.held as f64);
        late.add(provider(), pace.late as f64);
    }
    [rate, waiting, held, late]
}

fn edge(stats: &EdgeStats) -> [Family<'static>; 8] {
    let mut refused = Family::counter("edge_refused", "Requests refused at the edge, by reason");
    for reason in Refusal::ALL {
        refused.add(vec![("reason", reason.as_str())], stats.refused(*reason) as f64);
    }
    let mut closed = Family::counter("edge_closed", "Connections closed by the edge, by reason");
    for reason in Closed::ALL {
        closed.add(vec![("reason", reason.as_str())], stats.closed(*reason) as f64);
    }
    let mut stalled = Family::counter("edge_stalled_streams", "Streams of HTTP/2 whose clients took nothing of the answer for too long");
    stalled.add(Vec::new(), stats.stalled() as f64);
    let [from_clients, to_clients] = stats.tunnel_bytes();
    let mut tunnels = Family::counter("tunnels", "Tunnels that were opened: of WebSockets and of CONNECT");
    tunnels.add(Vec::new(), stats.tunnels() as f64);
    let mut ended = Family::counter("tunnels_closed", "Tunnels that ended, by reason; those open are the difference");
    for end in TunnelEnd::ALL {
        ended.add(vec![("reason", end.as_str())], stats.tunnels_closed(*end) as f64);
    }
    let mut bytes = Family::counter("tunnel_bytes", "Bytes through tunnels");
    bytes.add(vec![("way", "up")], from_clients as f64);
    bytes.add(vec![("way", "down")], to_clients as f64);
    let mut time = Family::counter("tunnel_seconds", "How long tunnels that have ended lasted, together");
    time.add(Vec::new(), stats.tunnel_time().as_secs_f64());
    let mut early = Family::counter(
        "edge_interim",
        "Interim answers (1xx) of providers: passed on, or left out because they came too late or the client took nothing",
    );
    for (outcome, count) in ["passed", "left-out"].into_iter().zip(stats.early()) {
        early.add(vec![("outcome", outcome)], count as f64);
    }
    [refused, closed, stalled, tunnels, ended, bytes, time, early]
}

fn latencies(routes: &[(&str, &RouteSnapshot)], encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let seconds = Unit::Seconds;
    let mut write = |name: &str, help: &str, pick: &dyn Fn(&RouteSnapshot) -> HistogramSnapshot| -> fmt::Result {
        let mut metric = encoder.encode_descriptor(name, help, Some(&seconds), MetricType::Gauge)?;
        for (route, totals) in routes {
            let histogram = pick(totals);
            for (quantile, q) in [("0.5", 0.5), ("0.95", 0.95), ("0.99", 0.99)] {
                let labels = [("route", *route), ("quantile", quantile)];
                let seconds = histogram.quantile(q).unwrap_or_default().as_secs_f64();
                ConstGauge::new(seconds).encode(metric.encode_family(&labels)?)?;
            }
        }
        Ok(())
    };
    write("request_duration", "Time from head to last byte, quantiles since start", &|r| r.latency.clone())?;
    write("overhead", "Time spent in Farthing until the head, quantiles since start", &|r| r.overhead.clone())
}

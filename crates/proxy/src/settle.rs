//! Settling: each answered request and each ended call goes to totals, log, experiment and savings record exactly once.

mod rows;

use std::sync::Arc;

use farthing_contract::features::HeadFacts;
use farthing_contract::log;
use farthing_experiment::{Metric, Observation};
use farthing_freshness::entry::Packed;
use farthing_ledger::usage::service;
use farthing_ledger::{Amounts, CallSettled, CostRecord, Paid, RequestSettled, Served, UsageReading};
use farthing_policy::switches::Slice;
use farthing_types::{
    BatchPart, CallId, CallReport, DecisionId, FailureKind, KeyHash, Money, Outcome, Priority, Purpose, Rate, RequestId, SlaOutcome, Span,
    Time, TraceContext, UncachedReason,
};
use http::{Method, StatusCode};

use crate::canonical::Digests;
use crate::flight::Flight;
use crate::identify::Identity;
use crate::items::Part;
use crate::lifecycle::Side;
use crate::load::Loaded;
use crate::pricing::Charged;
use crate::promises;
use crate::request::{Received, Variant};
use crate::route::RouteState;
use crate::state::State;
use crate::stats::{Entered, Noted};
use crate::switches::Laps;
use crate::trace;
use rows::attempt_row;

pub use rows::{micros, millis};

/// What a request's settlement needs of the request itself.
#[derive(Clone)]
pub struct Account {
    /// Its id.
    pub id: RequestId,
    /// When it came, on the proxy's clock.
    pub at: Time,
    /// The same in real time.
    pub started: Time,
    /// Its route.
    pub route: Arc<RouteState>,
    /// Its client.
    pub identity: Identity,
    /// Its method.
    pub method: Method,
    /// Its key.
    pub key: KeyHash,
    /// How much it matters; `None` where it was refused before that was known.
    pub priority: Option<Priority>,
    /// Within what time it is promised to be answered.
    pub sla: Option<Span>,
    /// How long it has waited for its turn under limits and for room in a budget.
    pub queued: Span,
    /// How long it has waited for calls that brought no answer.
    pub failed: Span,
    /// How long it has waited for another instance's call.
    pub elsewhere: Span,
    /// How long L2 and leases of calls were asked, without that.
    pub l2: Span,
    /// When that began and ended, in real time; `None` where nobody was asked.
    pub looked: Option<(Time, Time)>,
    /// How long its first stages took, where it tells.
    pub laps: Laps,
    /// Whether it goes without waiting for others, to compare with those that wait; `None` where that was not drawn.
    pub slice: Option<Slice>,
    /// The decision about the route's strategies that was in force; `None` before the first.
    pub plan: Option<DecisionId>,
    /// The trace that it is part of.
    pub trace: Option<TraceContext>,
    /// Its free tags.
    pub tags: Option<Arc<str>>,
    /// The experiment's draw.
    pub variant: Option<Variant>,
    /// The side of a canary that the key is on; `None` for keys that none watches.
    pub side: Option<Side>,
    /// Whether the key is held out.
    pub holdout: bool,
    /// Whether the holdout could have drawn the key.
    pub measured: bool,
    /// Whether it is compared in the experiment.
    pub compared: bool,
    /// How it entered the live statistics; `None` when it did not.
    pub noted: Option<Noted>,
    /// The short form of what it asks of caches.
    pub asked: Option<Arc<str>>,
    /// The key whose copy it dropped.
    pub invalidates: Option<KeyHash>,
    /// What it counts for in the load of the process, for as long as anything of it is under way.
    pub load: Option<Arc<Loaded>>,
    /// Which places of a request's list it stands for; `None` for a request of its own.
    pub part: Option<Part>,
}

impl Account {
    /// The account of a request that ends before its plan.
    pub fn early(received: &Received, identity: Identity) -> Self {
        Self {
            id: received.id,
            at: received.at,
            started: received.started,
            route: received.route.clone(),
            identity,
            method: received.head.method.clone(),
            key: KeyHash::default(),
            priority: None,
            sla: None,
            queued: Span::ZERO,
            failed: Span::ZERO,
            elsewhere: Span::ZERO,
            l2: Span::ZERO,
            looked: None,
            laps: received.laps,
            slice: None,
            plan: None,
            trace: trace::of(&received.head.headers),
            tags: None,
            variant: None,
            side: None,
            holdout: false,
            measured: false,
            compared: false,
            noted: None,
            asked: None,
            invalidates: None,
            load: None,
            part: None,
        }
    }

    /// What of a time was Farthing's own: not the waits for a turn, for room and for another instance's call.
    pub const fn ours(&self, time: Span) -> Span {
        time.saturating_sub(self.queued).saturating_sub(self.elsewhere)
    }
}

/// How a request was answered.
#[derive(Clone, Debug)]
pub struct Settled {
    /// The outcome.
    pub outcome: Outcome,
    /// The tier that had it, where one had it.
    pub tier: Option<&'static str>,
    /// For the cost record; a lead that a 304 answered is `Revalidated`.
    pub served: Served,
    /// Why it was not served from the cache.
    pub uncached: Option<UncachedReason>,
    /// Status sent.
    pub status: u16,
    /// Body bytes sent; `None` when the client left first.
    pub bytes_out: Option<u64>,
    /// Whole time from head to last byte; `None` when the client left first.
    pub latency: Option<Span>,
    /// Whole time as a promise counts it; `None` when the client left while it could still be kept.
    pub took: Option<Span>,
    /// Time of it that was waited for the provider, beyond `overhead`.
    pub waited: Span,
    /// Age of the served entry.
    pub age: Option<Span>,
    /// TTL in force and who chose it.
    pub ttl: Option<(Span, Arc<str>)>,
    /// The call that answered it.
    pub call: Option<CallId>,
    /// The span of the request that had made that, where it was joined.
    pub follows: Option<TraceContext>,
    /// The provider that answered that, where the route has several.
    pub provider: Option<Arc<str>>,
    /// The decision under which the entry was stored.
    pub decision: Option<DecisionId>,
    /// The prices.
    pub paid: Paid,
    /// Time spent in Farthing until the head, waits for a turn and for room not among it.
    pub overhead: Span,
    /// What went wrong.
    pub error: Option<&'static str>,
}

impl State {
    /// Settles an answered request; an item of a list once for each of its places.
    pub fn settle_request(&self, account: &Account, settled: &Settled) {
        let Some(part) = &account.part else { return self.settle_one(account, settled, 0) };
        let again = Account { noted: None, ..account.clone() };
        for (nth, settled) in part.settlements(settled).enumerate() {
            self.settle_one(if nth == 0 { account } else { &again }, &settled, nth);
        }
    }

    fn settle_one(&self, account: &Account, settled: &Settled, nth: usize) {
        let cost = CostRecord::settle(settled.served, settled.paid);
        let sla = promises::kept(account, settled);
        self.totals.request(&RequestSettled {
            route: &account.route.route.name,
            tenant: &account.identity.tenant,
            outcome: settled.outcome,
            uncached: settled.uncached,
            cost,
            latency: settled.latency,
            overhead: Some(settled.overhead),
            sla,
        });
        self.learn_waiting(account, settled, sla);
        self.learn_overhead(account, settled);
        trace::tell(account, settled);
        if let Some(traces) = self.traces.as_ref().filter(|_| nth == 0) {
            traces.request(account, settled, (&cost, sla), self.real_now());
        }
        self.prove(account, settled, (&cost, sla));
        if let Some(log) = &self.log {
            log.write(self.request_row(account, settled, (&cost, sla)));
        }
    }

    /// The request's part in the experiment and the savings record; the money of calls is added by [`State::settle_call`].
    fn prove(&self, account: &Account, settled: &Settled, (cost, sla): (&CostRecord, Option<SlaOutcome>)) {
        if settled.outcome == Outcome::Refused {
            return;
        }
        if account.measured {
            self.proof.record(account.key, account.at, account.holdout, (cost.base, Some(Money::ZERO)));
        }
        if let Some(variant) = account.variant.as_ref().filter(|_| account.compared && !account.holdout) {
            let errors = u32::from(settled.status >= 500);
            let late = u32::from(promises::is_late(sla, variant.running.latency, settled));
            let waiting = waiting(variant, account, settled);
            self.observe(variant, Observation { bill: Some(Money::ZERO), requests: 1, errors, late, waiting, ..Observation::default() });
        }
    }

    /// Settles an ended call: one log row for each attempt, the bill to its payer.
    pub fn settle_call(&self, flight: &Flight, end: &CallEnd) {
        self.price_call(flight, end);
        let mut reports = flight.reports();
        let charged = flight.charged(Charged::default);
        // A call that was given up without an attempt of its own: the breaker was open, or too many calls were under way.
        if let Some(failure) = end.failure.filter(|_| reports.last().is_none_or(|last| last.failure.is_none())) {
            reports.push(untried(flight, failure, (reports.len(), self.clock.now())));
        }
        let failed = end.failure.is_some() || reports.last().and_then(|last| last.status).is_some_and(|status| status.is_server_error());
        self.note_call(&flight.route, flight.key, failed);
        let attempts: Option<Money> = charged.costs.iter().copied().sum();
        let route = &flight.route;
        if let Some(routing) = &route.routing {
            routing.settled(flight, &reports, charged);
        }
        self.prompt_ended(flight, &reports, charged);
        self.deferred_ended(flight, charged);
        if let Some(held) = flight.settling(charged.tokens_used(&reports)) {
            let provider = reports.last().map_or(&route.provider.name, |report| flight.provider(report));
            let metered = self.pricing.flat(&route.route.name, provider, flight.at).is_none();
            let broke_off = charged.estimated || (metered && end.bytes.is_none() && end.failure.is_none());
            held.settle(reports.iter().enumerate().map(|(index, report)| (report, charged.cost(index))), broke_off);
        }
        // An attempt for a batch is one attempt, whoever shares its bill.
        let sent = reports.iter().filter(|r| r.sent && r.batch.as_ref().is_none_or(BatchPart::counts)).count() as u64;
        self.totals.call(&CallSettled {
            route: &route.route.name,
            tenant: &flight.payer,
            purpose: flight.purpose,
            attempts: sent,
            cost: attempts,
            unkept: end.stored.and_then(Result::err),
        });
        if flight.purpose == Purpose::Audit {
            self.audited(flight, end, attempts);
        }
        if flight.measured {
            self.proof.record(flight.key, flight.at, flight.holdout, (Some(Money::ZERO), attempts));
        }
        if let Some(variant) = flight.variant.as_ref().filter(|_| flight.compared && !flight.holdout) {
            self.observe(variant, Observation { bill: attempts, ..Observation::default() });
        }
        learn_latency(flight, &reports, end);
        if let Some(traces) = &self.traces {
            traces.call(flight, &reports, (charged, end));
        }
        let Some(log) = &self.log else { return };
        let last = reports.len().saturating_sub(1);
        for (index, report) in reports.iter().enumerate() {
            let mut row = attempt_row(flight, report, charged.cost(index));
            row.price_book = Some(charged.book.clone());
            row.limit_wait_us = Some(micros(flight.waited())).filter(|waited| *waited > 0 && index == last);
            flight.attribute(&mut row);
            if index == last {
                end.enrich(&mut row);
                charged.enrich(&mut row);
                if flight.is_deferred() {
                    row.service_tier = service::in_batch(end.usage.service.as_deref());
                }
                self.enter(&mut row, flight, end);
            }
            log.write(row);
        }
    }

    /// Settles an entry that ended: what its decision was worth.
    pub fn settle_entry(&self, ended: &Ended<'_>) {
        let entry = ended.entry;
        // Copies under the origin's own freshness have no decision. A replay asks only why they are gone.
        if entry.decision().is_none() && ended.changed.is_some() {
            return;
        }
        let decision = entry.decision().unwrap_or_default();
        if let Some(log) = &self.log {
            log.write(log::OutcomeRow {
                ts_ns: ended.at.nanos(),
                decision_id: decision.0,
                route: entry.shape().route.clone(),
                key_hash: entry.primary().short(),
                opened_ns: entry.fetched_at().nanos(),
                closed_by: ended.by,
                hits: i64::try_from(ended.hits).unwrap_or(i64::MAX),
                served_expired: i64::try_from(ended.served_expired).unwrap_or(i64::MAX),
                changed: ended.changed,
                gap_ms: ended.changed.map(|_| millis(ended.at.since(entry.fetched_at()))),
                last_hit_ms: ended.last_hit.map(|at| millis(at.since(entry.fetched_at()))),
                paid_nanousd: entry.price().map(Money::nanos),
                saved_nanousd: entry.price().map(|p| p.times(i64::try_from(ended.hits).unwrap_or(i64::MAX)).nanos()),
            });
        }
    }
}

/// Price of the time that a client has waited, where its experiment counts that: at the route's price for a wait of as long as a call usually takes, which
/// its variants do not bear on.
fn waiting(variant: &Variant, account: &Account, settled: &Settled) -> Money {
    if variant.experiment().spec().metric != Metric::WithWaiting {
        return Money::ZERO;
    }
    let Some((took, made)) = settled.took.or(settled.latency).zip(account.route.planning.made()) else { return Money::ZERO };
    Rate::per_million(made.terms.wait_price.nanos()).cost(u64::try_from(took.as_micros()).unwrap_or(u64::MAX))
}

/// Notes how long a call took that brought a whole answer: for whoever waits for one, apart from its turn and its batch.
fn learn_latency(flight: &Flight, reports: &[CallReport], end: &CallEnd) {
    let (Some(report), Some(bytes), Some(ended)) = (reports.last(), end.bytes, end.ended) else { return };
    if !report.status.is_some_and(|status| status.is_success() || status == StatusCode::NOT_MODIFIED) {
        return;
    }
    if flight.is_deferred() {
        return;
    }
    let began = if report.started > Time::ZERO { report.started } else { flight.at };
    let bytes = end.head.map_or(bytes, |head| head.body_bytes);
    flight.route.planning.note_call(ended.since(began), bytes);
    if let Some(defer) = &flight.route.defer {
        defer.note_direct(ended.since(began));
    }
}

/// An entry's end.
pub struct Ended<'a> {
    /// The entry.
    pub entry: &'a Packed,
    /// When it ended.
    pub at: Time,
    /// Why: `replaced`, `revalidated`, `evicted`, `purged`, `shutdown`.
    pub by: &'static str,
    /// Answers served from it.
    pub hits: u64,
    /// Of these, after its TTL had passed.
    pub served_expired: u64,
    /// The last one.
    pub last_hit: Option<Time>,
    /// Whether the origin's answer had changed; `None` when it was not asked again.
    pub changed: Option<bool>,
}

/// A call's end, beyond its attempts.
#[derive(Clone, Debug, Default)]
pub struct CallEnd {
    /// The provider confirmed the stored entry (304).
    pub revalidated: bool,
    /// Price of a full answer of the entry that was confirmed.
    pub entry_price: Option<Money>,
    /// Stored, or why not; `None` when that was not the question.
    pub stored: Option<Result<(), UncachedReason>>,
    /// The logged TTL decision.
    pub decision: Option<DecisionId>,
    /// Body bytes received; `None` when the transfer broke off.
    pub bytes: Option<u64>,
    /// Body bytes received, whether or not more were to come.
    pub received: Option<u64>,
    /// What the answer said of its usage.
    pub usage: UsageReading,
    /// What its head said where meters look.
    pub head_amounts: Amounts,
    /// Digests of the whole body.
    pub digests: Option<Digests>,
    /// What the fetch told about the key: previous digest, time since, changed.
    pub observed: Option<Observed>,
    /// `Last-Modified`.
    pub last_modified: Option<Time>,
    /// Explicit freshness of the origin.
    pub origin_ttl: Option<Span>,
    /// Whether ETag or Last-Modified differ from the previous answer.
    pub validator_changed: Option<bool>,
    /// Whether the call belongs to a keyed request.
    pub keyed: bool,
    /// How the answer entered the live statistics.
    pub entered: Option<Entered>,
    /// Facts of its head, as a decision about it saw them.
    pub head: Option<HeadFacts>,
    /// The short form of what the head says about reuse.
    pub answer: Option<Arc<str>>,
    /// When the body had ended.
    pub ended: Option<Time>,
    /// Why no answer came.
    pub failure: Option<FailureKind>,
    /// We broke off before any answer came, because nobody waited: what was sent is billed all the same.
    pub abandoned: bool,
}

/// The difference to the previous fetch of the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observed {
    /// Canonical digest then.
    pub previous: u64,
    /// Time since then.
    pub gap: Span,
    /// Whether it differs now.
    pub changed: bool,
}

impl CallEnd {
    /// Takes over what was learned and decided about the answer.
    pub fn take(&mut self, chosen: Self) {
        (self.observed, self.decision, self.entered, self.head) = (chosen.observed, chosen.decision, chosen.entered, chosen.head);
    }

    fn enrich(&self, row: &mut log::CallRow) {
        row.bytes_in = self.bytes.and_then(|n| i64::try_from(n).ok());
        row.body_hash = self.digests.map(|d| d.exact);
        row.canonical_hash = self.digests.map(|d| d.canonical);
        row.prev_canonical_hash = self.observed.map(|o| o.previous);
        row.gap_ms = self.observed.map(|o| millis(o.gap));
        row.changed = self.observed.map(|o| o.changed);
        row.validator_changed = self.validator_changed;
        row.answer = self.answer.clone();
        row.ended_ns = self.ended.map(Time::nanos);
        row.last_modified_ns = self.last_modified.map(Time::nanos);
        row.origin_ttl_s = self.origin_ttl.map(|ttl| i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX));
        row.stored = self.stored == Some(Ok(()));
        row.not_stored_reason = self.stored.and_then(Result::err).map(UncachedReason::as_str);
        row.decision_id = self.decision.map(|d| d.0);
        row.service_tier = self.usage.service.clone();
        row.usage_contradictory = self.usage.usage.map(|_| self.usage.contradictory);
        if let Some(target) = &self.usage.target {
            row.target = Some(target.clone());
        }
    }
}

/// Stands for the attempt that was not made.
fn untried(flight: &Flight, failure: FailureKind, (attempt, started): (usize, Time)) -> CallReport {
    CallReport {
        call: flight.id,
        attempt: u16::try_from(attempt).unwrap_or(u16::MAX),
        started,
        head_after: Span::ZERO,
        status: None,
        failure: Some(failure),
        upstream: flight.route.pass.name().clone(),
        sent: false,
        batch: None,
        routed: None,
    }
}

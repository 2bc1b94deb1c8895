//! One of a route's providers: how it is reached, what is measured of it, and what its attempts report.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use farthing_policy::routing::{Measured, Measures, Noted, RoutedBy};
use farthing_types::{CallReport, CallSink, MappedAnswer, Money, Reserved, Routed, Span, Time, TraceContext};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::mapping::Mapping;
use crate::adapter::{Adapter, RequestMap};
use crate::breaker::Standing;
use crate::{Breaker, BreakerSpec, BreakerState, Health, Origin, Upstream};

/// How long who cannot be relied on is waited for: so many times as long as it usually takes, within these bounds; the last where that is not known.
const PATIENCE: (u32, Span, Span) = (3, Span::from_millis(100), Span::from_secs(2));
/// How much the latest answer counts in what is usual.
const LATEST: f64 = 0.1;

/// One of a route's providers, as it is configured.
pub struct Leg {
    /// Its name: who bills.
    pub provider: Arc<str>,
    /// How it is reached.
    pub upstream: Arc<Upstream>,
    /// What the operator thinks of its answers, 0 to 1.
    pub quality: f64,
    /// How it is spoken to.
    pub adapter: Adapter,
    /// When the route leaves it alone because its answers cannot be mapped.
    pub breaker: BreakerSpec,
}

/// What is told of one of a route's providers.
#[derive(Clone, Debug, PartialEq)]
pub struct LegReport {
    /// The provider.
    pub provider: Arc<str>,
    /// What is measured.
    pub measured: Measured,
    /// The operator's word times the measured share of required fields.
    pub quality: f64,
    /// What the last call that it was weighed for would have cost.
    pub price: Option<Money>,
    /// Its breaker, or that of its answers on this route where that is worse.
    pub breaker: BreakerState,
    /// Calls that it got, by reason.
    pub chosen: Vec<(RoutedBy, u64)>,
    /// Of these, calls that it failed.
    pub failed: u64,
    /// Of these, answers that could not be brought into the route's shape.
    pub unmapped: u64,
    /// Calls that it has no way to be asked for.
    pub unfit: u64,
}

/// A provider at work.
pub(super) struct Running {
    pub(super) provider: Arc<str>,
    pub(super) origin: Arc<dyn Origin>,
    pub(super) request: RequestMap,
    /// Its answers are read before they are handed on.
    pub(super) reads: bool,
    /// Its calls wait for their turn under limits of the provider before it is asked.
    pub(super) gated: bool,
    quality: f64,
    health: Vec<Arc<Health>>,
    measures: Mutex<Measures>,
    /// Seconds to an answer, which does not fade: what it took before it was down.
    usual: Mutex<Option<f64>>,
    price: Mutex<Option<Money>>,
    chosen: [AtomicU64; RoutedBy::ALL.len()],
    failed: AtomicU64,
    unmapped: AtomicU64,
    unfit: AtomicU64,
}

impl Running {
    pub(super) fn new(leg: Leg) -> Self {
        let Leg { provider, upstream, quality, adapter: Adapter { request, answer }, breaker } = leg;
        let (reads, gated) = (answer.reads(), upstream.is_gated());
        let mut health = vec![upstream.health().clone()];
        let mut origin = upstream.leg().clone();
        if reads {
            let mapped = Breaker::new(Arc::new(Mapping::new(origin, provider.clone(), answer)), provider.clone(), breaker);
            health.push(mapped.health().clone());
            origin = Arc::new(mapped);
        }
        Self {
            provider,
            origin,
            request,
            reads,
            gated,
            quality,
            health,
            measures: Mutex::default(),
            usual: Mutex::default(),
            price: Mutex::default(),
            chosen: Default::default(),
            failed: AtomicU64::new(0),
            unmapped: AtomicU64::new(0),
            unfit: AtomicU64::new(0),
        }
    }

    /// Whether calls pass.
    pub(super) fn standing(&self) -> Standing {
        self.health.iter().map(|health| health.standing()).max().unwrap_or(Standing::Closed)
    }

    pub(super) fn health(&self) -> &[Arc<Health>] {
        &self.health
    }

    /// Weighs it for a call of this price: what is measured, and its quality.
    pub(super) fn weigh(&self, price: Option<Money>, now: Time) -> (Measured, f64) {
        *self.price.lock() = price;
        let measured = self.measures.lock().read(now);
        (measured, self.quality * measured.completeness)
    }

    /// How long it is waited for where it cannot be relied on.
    pub(super) fn patience(&self) -> Span {
        let (times, least, most) = PATIENCE;
        let usual = self.usual.lock().and_then(|seconds| Span::try_from_secs_f64(seconds).ok());
        usual.map_or(most, |usual| usual.saturating_mul(times).clamp(least, most))
    }

    pub(super) fn count(&self, by: RoutedBy) {
        self.chosen[by as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_unfit(&self) {
        self.unfit.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes what became of a call that it got.
    pub(super) fn note(&self, noted: Noted, unmapped: bool, now: Time) {
        self.measures.lock().note(noted, now);
        if let Some(took) = noted.took.filter(|_| !noted.failed) {
            let (mut usual, took) = (self.usual.lock(), took.as_secs_f64());
            *usual = Some(usual.map_or(took, |usual| usual + LATEST * (took - usual)));
        }
        self.failed.fetch_add(u64::from(noted.failed), Ordering::Relaxed);
        self.unmapped.fetch_add(u64::from(unmapped), Ordering::Relaxed);
    }

    pub(super) fn report(&self, now: Time) -> LegReport {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let measured = self.measures.lock().read(now);
        let worse = |state: &BreakerState| match state {
            BreakerState::Closed => 0,
            BreakerState::HalfOpen => 1,
            BreakerState::Open => 2,
        };
        LegReport {
            provider: self.provider.clone(),
            measured,
            quality: self.quality * measured.completeness,
            price: *self.price.lock(),
            breaker: self.health.iter().map(|health| health.state()).max_by_key(worse).unwrap_or(BreakerState::Closed),
            chosen: RoutedBy::ALL.iter().copied().zip(&self.chosen).map(|(by, count)| (by, read(count))).collect(),
            failed: read(&self.failed),
            unmapped: read(&self.unmapped),
            unfit: read(&self.unfit),
        }
    }
}

/// Writes into the reports of one attempt which provider it went to. A report whose answer is still to be read waits for that.
pub(super) struct LegSink {
    inner: Arc<dyn CallSink>,
    routed: Routed,
    reads: bool,
    held: Mutex<Option<CallReport>>,
    complete: Mutex<Option<f64>>,
    /// Rung when a limit has given the attempt its turn.
    turn: Notify,
}

impl LegSink {
    pub(super) fn new(inner: Arc<dyn CallSink>, routed: Routed, reads: bool) -> Arc<Self> {
        Arc::new(Self { inner, routed, reads, held: Mutex::default(), complete: Mutex::default(), turn: Notify::new() })
    }

    /// The share of required fields that the answer has, where it was looked at.
    pub(super) fn complete(&self) -> Option<f64> {
        *self.complete.lock()
    }

    /// Resolves, once, when a limit of the provider has given the attempt its turn.
    pub(super) async fn turn(&self) {
        self.turn.notified().await;
    }

    /// Hands on the report that waits; its answer is not read any more.
    pub(super) fn release(&self) {
        let held = self.held.lock().take();
        if let Some(report) = held {
            self.inner.attempt(report);
        }
    }
}

impl CallSink for LegSink {
    fn attempt(&self, report: CallReport) {
        self.release();
        let waits = self.reads && report.status.is_some();
        let report = CallReport { routed: Some(self.routed.clone()), ..report };
        if waits { *self.held.lock() = Some(report) } else { self.inner.attempt(report) }
    }
    fn waited(&self, span: Span) {
        self.inner.waited(span);
    }
    fn reserved(&self, tokens: Box<dyn Reserved>) {
        self.inner.reserved(tokens);
        self.turn.notify_one();
    }
    fn span(&self) -> Option<TraceContext> {
        self.inner.span()
    }
    fn mapped(&self, read: MappedAnswer) {
        *self.complete.lock() = read.complete;
        let held = self.held.lock().take();
        if let Some(mut report) = held {
            report.failure = report.failure.or(read.failure);
            report.routed = Some(Routed { answer: Some(read.answer), ..self.routed.clone() });
            self.inner.attempt(report);
        }
    }
}

impl Drop for LegSink {
    fn drop(&mut self) {
        self.release();
    }
}

//! Traces for OpenTelemetry: spans are made where requests and calls are settled, wait in a queue that is bounded in bytes, and are delivered in the background.
//!
//! What a span tells is what the log tells of the same request: names, numbers and ids. No path, header, body, key or tenant is in one: what has gone to a
//! collector cannot be forgotten.

mod attempts;
mod deliver;
mod queue;
mod request;
mod span;
mod wire;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use farthing_config::{Config, OtlpConfig};
use farthing_types::{CallId, Clock, Draw, Purpose, RealClock, TraceContext};
use http::Method;
use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::StartError;
use crate::settle::Account;
use crate::trace;
use deliver::Exporter;
use queue::Queue;

/// Bits of a trace's id that chance decides by (W3C Trace Context Level 2, "random-trace-id").
const RANDOM_BITS: u32 = 56;

/// What records spans and delivers them.
pub struct Traces {
    config: OtlpConfig,
    /// A trace begun here is recorded where the random bits of its id are no less (OpenTelemetry, "TraceIdRatioBased": consistent sampling).
    threshold: u64,
    queue: Queue,
    counts: Counts,
    exporter: Mutex<Option<Exporter>>,
    tasks: TaskTracker,
    /// Said when the last span is there.
    last: CancellationToken,
    /// What clients speak.
    scheme: &'static str,
}

/// What became of spans and deliveries.
#[derive(Debug, Default)]
struct Counts {
    sent: AtomicU64,
    refused: AtomicU64,
    given_up: AtomicU64,
    faults: AtomicU64,
    down: AtomicBool,
}

/// Figures for those who watch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TraceStats {
    /// Spans that the collector has taken.
    pub sent: u64,
    /// Spans for which the queue had no room.
    pub dropped: u64,
    /// Spans that the collector has refused.
    pub refused: u64,
    /// Spans that were not taken in time.
    pub given_up: u64,
    /// Deliveries that failed and were, or could be, tried again.
    pub faults: u64,
    /// Bytes of spans that wait or are under way.
    pub held: usize,
    /// The collector is left alone for a while, for it has failed too often; or it has refused the last delivery.
    pub down: bool,
}

/// Where a call hangs in a trace.
#[derive(Clone, Debug)]
pub struct Caused {
    /// The trace, and whether it is recorded. Its span is the request that caused the call, where that has one.
    by: TraceContext,
    /// A request is settled under that span.
    by_request: bool,
    /// The method that it was asked with.
    method: Method,
}

impl Caused {
    /// The span of the call.
    pub const fn call(&self, id: CallId) -> TraceContext {
        self.by.child(id.0)
    }

    /// Whom those who wait for the call are linked to: the request that caused it, or the call where none did.
    pub const fn leader(&self, id: CallId) -> TraceContext {
        if self.by_request { self.by } else { self.call(id) }
    }

    /// Whether it is recorded.
    pub const fn is_recorded(&self) -> bool {
        self.by.is_sampled()
    }
}

impl Traces {
    /// As it is configured; nobody needs to be reachable, and nothing is delivered yet. `secured`: clients speak TLS.
    ///
    /// # Errors
    /// A collector that can never be reached as it is described.
    pub(crate) fn open(config: &OtlpConfig, secured: bool, (clock, draw): (Arc<dyn Clock>, Draw)) -> Result<Arc<Self>, StartError> {
        let exporter = Exporter::new(config, clock, draw)?;
        let scheme = if secured { "https" } else { "http" };
        Ok(Arc::new(Self { scheme, ..Self::with(config, exporter) }))
    }

    fn with(config: &OtlpConfig, exporter: Exporter) -> Self {
        Self {
            threshold: threshold(config.sample),
            queue: Queue::new(config.queue_bytes),
            config: config.clone(),
            counts: Counts::default(),
            exporter: Mutex::new(Some(exporter)),
            tasks: TaskTracker::new(),
            last: CancellationToken::new(),
            scheme: "http",
        }
    }

    /// Whether a trace that begins here is recorded.
    pub const fn samples(&self, trace: u128) -> bool {
        trace as u64 & ((1 << RANDOM_BITS) - 1) >= self.threshold
    }

    /// The span of a request, and its parent where another process has that.
    fn of_request(&self, account: &Account) -> (TraceContext, Option<u64>) {
        let own = trace::begun(account.id);
        match account.trace.filter(|trace| trace.trace() != own) {
            Some(trace) => (trace.child(account.id.0), Some(trace.span())),
            None => (TraceContext::start(own, account.id.0).recorded(self.samples(own)), None),
        }
    }

    /// The span of a request, or of an item of one that carries a list.
    fn of_account(&self, account: &Account) -> TraceContext {
        let (request, _) = self.of_request(account);
        match account.part {
            Some(_) => request.child(request.span() ^ account.key.short()),
            None => request,
        }
    }

    /// Where a call hangs that is made for a request, or ahead of all.
    pub fn caused(&self, account: &Account, purpose: Purpose) -> Caused {
        let by_request = !matches!(purpose, Purpose::Warm | Purpose::Prefetch | Purpose::Audit);
        Caused { by: self.of_account(account), by_request, method: account.method.clone() }
    }

    /// Delivers until [`Self::finish`].
    pub(crate) fn start(self: &Arc<Self>) {
        if let Some(exporter) = self.exporter.lock().take() {
            self.tasks.spawn(exporter.run(self.clone(), self.last.clone()));
        }
    }

    /// Delivers what is there, until then; what is not taken is gone.
    pub(crate) async fn finish(&self, until: Instant) {
        self.last.cancel();
        self.tasks.close();
        if tokio::time::timeout_at(until, self.tasks.wait()).await.is_err() {
            tracing::warn!("not all spans were delivered to the collector of traces before the end");
        }
    }

    /// Figures.
    pub fn stats(&self) -> TraceStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        TraceStats {
            sent: read(&self.counts.sent),
            dropped: self.queue.dropped(),
            refused: read(&self.counts.refused),
            given_up: read(&self.counts.given_up),
            faults: read(&self.counts.faults),
            held: self.queue.held(),
            down: self.counts.down.load(Ordering::Relaxed),
        }
    }

    /// What is wrong; `None` while the collector takes what it gets.
    pub fn problem(&self) -> Option<String> {
        let down = self.counts.down.load(Ordering::Relaxed);
        down.then(|| "the collector of traces takes nothing: spans are dropped or refused, requests are not concerned".to_owned())
    }
}

/// Whether the collector of a configuration can be reached as it is described. Nobody is asked.
///
/// # Errors
/// Why not.
pub fn check(config: &Config) -> Result<(), StartError> {
    let Some(otlp) = &config.telemetry.otlp else { return Ok(()) };
    Exporter::new(otlp, Arc::new(RealClock::default()), Draw::new(config.seed)).map(drop)
}

/// What the random bits must reach for `share` of all traces.
fn threshold(share: f64) -> u64 {
    let all = (1u64 << RANDOM_BITS) as f64;
    ((1.0 - share.clamp(0.0, 1.0)) * all).round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Ids;
    use farthing_types::RequestId;

    #[test]
    fn a_share_of_traces_is_recorded() {
        let ids = Ids::new(7);
        for share in [0.0, 0.01, 0.3, 1.0] {
            let threshold = threshold(share);
            let drawn = (0..100_000).filter(|_| trace::begun(RequestId(ids.next())) as u64 & ((1 << RANDOM_BITS) - 1) >= threshold).count();
            // Six standard errors.
            let error = 6.0 * (share * (1.0 - share) / 100_000.0_f64).sqrt();
            assert!((drawn as f64 / 100_000.0 - share).abs() <= error, "{share}: {drawn}");
        }
    }
}

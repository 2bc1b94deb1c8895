//! The load driver: sends requests when they are due whether or not earlier ones were answered (open loop, up to a bound),
//! over keep-alive connections, and judges each answer against the truth.

mod connection;
pub mod histogram;
mod judge;
mod tally;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use farthing_types::{Clock, RealClock, ScaledClock, Span, Time};
use http::{Request, header};
use http_body_util::Empty;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use connection::Connection;
use judge::{Asked, Said, Verdict, judge};
pub use tally::{Counts, Seen, Tally};

use crate::truth::Truth;

/// A request that is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Planned {
    /// When, on the trace's time line; a steady run ignores it.
    pub at: Time,
    /// Number of the route.
    pub route: u16,
    /// The document.
    pub key: u32,
}

/// One route as the driver sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Path before the key, with a trailing slash: `/r/geo/geo/` through the proxy, `/geo/` directly.
    pub path: String,
    /// Whether every answer differs from every other.
    pub nondeterministic: bool,
}

/// Where to send requests and how to judge answers.
#[derive(Clone)]
pub struct DriverSpec {
    /// The server: a proxy or a provider.
    pub server: SocketAddr,
    /// One for each route of the truth.
    pub targets: Vec<Target>,
    /// Requests under way at once; each has a connection of its own.
    pub workers: usize,
    /// What the origin would have answered.
    pub truth: Arc<dyn Truth>,
    /// The clock of the truth.
    pub clock: Arc<dyn Clock>,
}

/// Sends planned requests. Cheap to clone: clones share the counters.
#[derive(Clone)]
pub struct Driver {
    spec: Arc<DriverSpec>,
    tally: Arc<Tally>,
    real: Arc<RealClock>,
}

/// When the requests of a run are due, as a wait from now.
#[derive(Clone)]
enum Pace {
    /// At their times on a scaled clock.
    Scaled(Arc<ScaledClock>),
    /// At equal distances in real time.
    Steady { start: Time, gap_ns: f64, real: Arc<RealClock> },
}

impl Pace {
    /// The wait until request number `index` is due, and how late it is already.
    fn wait(&self, index: usize, at: Time) -> (Span, Span) {
        match self {
            Self::Scaled(clock) => {
                let now = clock.now();
                (clock.real_span(at.since(now)), clock.real_span(now.since(at)))
            }
            Self::Steady { start, gap_ns, real } => {
                let due = *start + Span::from_nanos((index as f64 * gap_ns) as u64);
                let now = real.now();
                (due.since(now), now.since(due))
            }
        }
    }
}

struct Run {
    plan: Arc<[Planned]>,
    cursor: AtomicUsize,
    pace: Pace,
    stop: CancellationToken,
}

impl Driver {
    /// A driver with fresh counters.
    pub fn new(spec: DriverSpec) -> Self {
        let tally = Arc::new(Tally::new(spec.targets.len()));
        Self { spec: Arc::new(spec), tally, real: Arc::new(RealClock::default()) }
    }

    /// The live counters.
    pub fn tally(&self) -> Arc<Tally> {
        self.tally.clone()
    }

    /// Sends `plan` (sorted by time) at its times on `clock`, until its end or until `stop`.
    pub async fn replay(&self, plan: Arc<[Planned]>, clock: Arc<ScaledClock>, stop: CancellationToken) {
        self.run(plan, Pace::Scaled(clock), stop).await;
    }

    /// Sends `plan` in order at `rate` requests per second of real time, until its end or until `stop`.
    pub async fn steady(&self, plan: Arc<[Planned]>, rate: f64, stop: CancellationToken) {
        let pace = Pace::Steady { start: self.real.now(), gap_ns: 1e9 / rate.max(0.001), real: self.real.clone() };
        self.run(plan, pace, stop).await;
    }

    async fn run(&self, plan: Arc<[Planned]>, pace: Pace, stop: CancellationToken) {
        let run = Arc::new(Run { plan, cursor: AtomicUsize::new(0), pace, stop });
        let (workers, connections) = (TaskTracker::new(), TaskTracker::new());
        for _ in 0..self.spec.workers.max(1) {
            workers.spawn(self.clone().worker(run.clone(), connections.clone()));
        }
        workers.close();
        workers.wait().await;
        // The workers' ends of the connections are gone, so their tasks end by themselves.
        connections.close();
        connections.wait().await;
    }

    async fn worker(self, run: Arc<Run>, connections: TaskTracker) {
        let mut connection = Connection::new(self.spec.server, connections);
        loop {
            let index = run.cursor.fetch_add(1, Ordering::Relaxed);
            let Some(planned) = run.plan.get(index) else { return };
            let (wait, _) = run.pace.wait(index, planned.at);
            if !wait.is_zero() {
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    () = run.stop.cancelled() => return,
                }
            } else if run.stop.is_cancelled() {
                return;
            }
            let (_, late) = run.pace.wait(index, planned.at);
            let mut seen = self.ask(&mut connection, planned).await;
            seen.from_due_ns = seen.latency_ns.saturating_add(nanos(late));
            self.tally.add(usize::from(planned.route), &seen);
        }
    }

    async fn ask(&self, connection: &mut Connection, planned: &Planned) -> Seen {
        let route = usize::from(planned.route);
        let failed = Seen { failed: true, ..Seen::default() };
        let Some(target) = self.spec.targets.get(route) else { return failed };
        let Some(request) = self.request(target, planned.key) else { return failed };
        let (sent, began) = (self.spec.clock.now(), self.real.now());
        let answer = connection.get(request).await;
        let latency_ns = nanos(self.real.now().since(began));
        let answered = self.spec.clock.now();
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                tracing::debug!(%error, route, key = planned.key, "request failed");
                return Seen { latency_ns, ..failed };
            }
        };
        let said = Said::read(&answer.headers);
        let asked = Asked { route, key: planned.key, nondeterministic: target.nondeterministic, sent, answered };
        let verdict = judge(&asked, &*self.spec.truth, answer.status, &answer.body, &said);
        if verdict == Verdict::Failed {
            tracing::debug!(status = %answer.status, route, key = planned.key, "not the document");
        }
        Seen {
            failed: verdict == Verdict::Failed,
            hit: said.hit,
            stale: verdict == Verdict::Stale,
            by_model: said.by_model,
            latency_ns,
            from_due_ns: latency_ns,
            overhead_ns: said.overhead_ns,
        }
    }

    fn request(&self, target: &Target, key: u32) -> Option<Request<Empty<Bytes>>> {
        Request::get(format!("{}{key}", target.path)).header(header::HOST, self.spec.server.to_string()).body(Empty::new()).ok()
    }
}

fn nanos(span: Span) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

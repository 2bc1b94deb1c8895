//! The pool of an upstream that may speak HTTP/2: see [`crate::pool`].
//!
//! hyper's client opens one HTTP/2 connection to a host and never a second: calls beyond the number of streams that the other end allows would wait
//! within it, unseen by anybody, until their time is over. So there are several clients, one beside the other, and none is given more calls than a
//! connection surely takes.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use farthing_types::{Body, Span};
use http::Version;
use hyper_util::client::legacy;
use hyper_util::rt::TokioTimer;
use parking_lot::Mutex;
use tokio_util::task::TaskTracker;

use crate::connect::Connector;
use crate::{Protocol, UpstreamSpec};

/// Most calls under way on a connection: servers are told to allow no fewer (RFC 9113 section 6.5.2), and most allow no more.
const CALLS: usize = 100;
/// Most bytes of one answer that come without being read. The connection has as much for each of its calls: an answer that nobody reads must not keep
/// the others from coming, which it does where all of them share less than what each may take.
const WINDOW: u32 = 512 << 10;

pub(crate) type Http = legacy::Client<Connector, Body>;

/// The pool.
pub(crate) struct Lanes {
    connector: Connector,
    protocol: Protocol,
    max_idle: usize,
    /// Most calls of the upstream.
    calls: usize,
    /// What answers in HTTP/1.1 takes one call at a time on a connection, of which one client has as many as it needs.
    single: AtomicBool,
    kept: Mutex<Kept>,
}

struct Kept {
    /// How long unused connections are kept.
    idle: Span,
    /// Those behind are used when those before are full. One that nobody uses loses its connection and is a few bytes then.
    lanes: Vec<Lane>,
}

struct Lane {
    http: Http,
    /// One beside our own for each call.
    under_way: Arc<()>,
}

/// A call's place in a lane, until its answer has ended.
pub(crate) struct Seat {
    _under_way: Arc<()>,
}

impl Lane {
    fn calls(&self) -> usize {
        Arc::strong_count(&self.under_way) - 1
    }
}

impl Lanes {
    pub(crate) fn new(spec: &UpstreamSpec, connector: Connector) -> Self {
        Self {
            connector,
            protocol: spec.protocol,
            max_idle: spec.pool_max_idle,
            calls: spec.max_concurrent.max(1),
            single: AtomicBool::new(spec.protocol == Protocol::Http1),
            kept: Mutex::new(Kept { idle: spec.pool_idle, lanes: Vec::new() }),
        }
    }

    /// The client for one more call.
    pub(crate) fn seat(&self) -> (Http, Seat) {
        let most = if self.single.load(Ordering::Relaxed) { 1 } else { self.calls.div_ceil(CALLS) };
        let mut kept = self.kept.lock();
        let Kept { idle, lanes } = &mut *kept;
        let free = lanes.iter().take(most).position(|lane| lane.calls() < CALLS);
        let index = match free {
            Some(index) => index,
            None if lanes.len() < most => {
                lanes.push(Lane { http: self.build(*idle), under_way: Arc::default() });
                lanes.len() - 1
            }
            None => (0..most).min_by_key(|index| lanes[*index].calls()).unwrap_or_default(),
        };
        let Lane { http, under_way } = &lanes[index];
        (http.clone(), Seat { _under_way: Arc::clone(under_way) })
    }

    /// An answer came in this version.
    pub(crate) fn note(&self, version: Version) {
        let single = version < Version::HTTP_2;
        if self.single.load(Ordering::Relaxed) != single {
            self.single.store(single, Ordering::Relaxed);
        }
    }

    /// Unused connections are kept for so long from now on; those there are now are left as soon as nobody uses them.
    pub(crate) fn keep_for(&self, idle_ms: u64) {
        let mut kept = self.kept.lock();
        kept.idle = Span::from_millis(idle_ms);
        let left = std::mem::take(&mut kept.lanes);
        drop(kept);
        drop(left);
    }

    fn build(&self, idle: Span) -> Http {
        let calls = u32::try_from(self.calls.min(CALLS)).unwrap_or(1);
        legacy::Client::builder(Tracked(TaskTracker::new()))
            .pool_idle_timeout(idle)
            .pool_max_idle_per_host(if idle.is_zero() { 0 } else { self.max_idle })
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .http2_only(self.protocol == Protocol::Http2)
            .http2_initial_stream_window_size(WINDOW)
            .http2_initial_connection_window_size(WINDOW * calls)
            // A frozen peer under many multiplexed calls is found by pings, not by each call's deadline.
            .http2_keep_alive_interval(Span::from_secs(20))
            .http2_keep_alive_timeout(Span::from_secs(10))
            .http1_max_headers(256)
            .build(self.connector.clone())
    }
}

/// Runs the pool's connection tasks under a tracker of their own.
#[derive(Clone)]
struct Tracked(TaskTracker);

impl<F> hyper::rt::Executor<F> for Tracked
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, future: F) {
        drop(self.0.spawn(future));
    }
}

//! The pool of an upstream's connections, and for how long one of them may lie unused.
//!
//! A request that goes out on a connection which the other end is just closing is lost, and cannot be made again safely. So connections are
//! left before that end would: after [`UpstreamSpec::pool_idle`], or sooner where answers say so (`Keep-Alive: timeout=5`).

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use farthing_types::{Body, Span};
use http::{HeaderMap, Request};
use hyper_util::client::legacy;
use hyper_util::client::legacy::ResponseFuture;
use hyper_util::rt::TokioTimer;
use parking_lot::Mutex;
use tokio_util::task::TaskTracker;

use crate::connect::Connector;
use crate::{Protocol, UpstreamSpec};

type Http = legacy::Client<Connector, Body>;

/// The pool.
pub(crate) struct Pool {
    name: Arc<str>,
    http: ArcSwap<Http>,
    connector: Connector,
    protocol: Protocol,
    max_idle: usize,
    /// How long an unused connection is kept, ms.
    idle_ms: AtomicU64,
    changes: Mutex<()>,
}

impl Pool {
    pub(crate) fn new(spec: &UpstreamSpec, connector: Connector) -> Self {
        let http = build(spec.protocol, (spec.pool_idle, spec.pool_max_idle), connector.clone());
        let idle_ms = u64::try_from(spec.pool_idle.as_millis()).unwrap_or(u64::MAX).into();
        let (name, protocol, max_idle) = (Arc::clone(&spec.name), spec.protocol, spec.pool_max_idle);
        Self { name, http: ArcSwap::from_pointee(http), connector, protocol, max_idle, idle_ms, changes: Mutex::default() }
    }

    /// Sends a request by the client of now, and goes on with that.
    pub(crate) fn request(&self, request: Request<Body>) -> ResponseFuture {
        self.http.load().request(request)
    }

    /// Takes note of how long the other end keeps connections: the shortest that it ever said holds.
    pub(crate) fn heed(&self, headers: &HeaderMap) {
        let Some(told) = told(headers) else { return };
        if told >= self.idle_ms.load(Ordering::Relaxed) {
            return;
        }
        let _one_at_a_time = self.changes.lock();
        if told < self.idle_ms.load(Ordering::Relaxed) {
            self.idle_ms.store(told, Ordering::Relaxed);
            tracing::info!(
                upstream = &*self.name,
                idle_ms = told,
                "unused connections are left sooner: the other end keeps them no longer"
            );
            let http = build(self.protocol, (Span::from_millis(told), self.max_idle), self.connector.clone());
            // Unused connections of the old one are closed with it.
            self.http.store(Arc::new(http));
        }
    }
}

/// For how many ms a connection may lie unused after an answer with these fields; `None` where they do not say.
fn told(headers: &HeaderMap) -> Option<u64> {
    let fields = headers.get_all("keep-alive").iter().filter_map(|value| value.to_str().ok()).flat_map(|text| text.split(','));
    let named = fields.filter_map(|field| field.split_once('=')).filter(|(name, _)| name.trim().eq_ignore_ascii_case("timeout"));
    let shortest = named.filter_map(|(_, secs)| secs.trim().trim_matches('"').parse::<u64>().ok()).min()?;
    // Its clock began before the answer came here, and a request takes its time to get there.
    let told = shortest.saturating_mul(1_000);
    Some(if shortest > 1 { told - 1_000 } else { told / 2 })
}

fn build(protocol: Protocol, (idle, max_idle): (Span, usize), connector: Connector) -> Http {
    legacy::Client::builder(Tracked(TaskTracker::new()))
        .pool_idle_timeout(idle)
        .pool_max_idle_per_host(if idle.is_zero() { 0 } else { max_idle })
        .pool_timer(TokioTimer::new())
        .timer(TokioTimer::new())
        .http2_only(protocol == Protocol::Http2)
        .http2_adaptive_window(true)
        // A frozen peer under many multiplexed calls is found by pings, not by each call's deadline.
        .http2_keep_alive_interval(Span::from_secs(20))
        .http2_keep_alive_timeout(Span::from_secs(10))
        .http1_max_headers(256)
        .build(connector)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_answers_tell_of_their_connection_is_heeded_with_a_margin() {
        let of = |text: &str| told(&HeaderMap::from_iter([(http::HeaderName::from_static("keep-alive"), text.parse().unwrap())]));
        for (text, ms) in
            [("timeout=5", 4_000), ("timeout=5, max=100", 4_000), ("max=7, Timeout=\"72\"", 71_000), ("timeout=1", 500), ("timeout=0", 0)]
        {
            assert_eq!(of(text), Some(ms), "{text}");
        }
        for text in ["max=5", "timeout", "timeout=soon", "timeout=-1", ""] {
            assert_eq!(of(text), None, "{text}");
        }
        assert!(of("timeout=18446744073709551615").is_some() && told(&HeaderMap::new()).is_none());
    }
}

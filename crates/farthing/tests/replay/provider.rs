//! A provider in memory whose answers follow a world with known truth.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use farthing_replay::{World, WorldKey};
use farthing_types::{Body, Call, CallReport, Clock, Failure, FailureKind, Reply, Span, Time};
use farthing_upstream::Origin;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH, LAST_MODIFIED, SET_COOKIE};
use http::{HeaderMap, HeaderValue, StatusCode};

/// Tokio's paused time as the proxy's clock: it advances only when nothing else can be done.
pub struct Paused {
    start: tokio::time::Instant,
    base: Time,
}

impl Paused {
    pub fn new(base: Time) -> Self {
        Self { start: tokio::time::Instant::now(), base }
    }
    pub async fn until(&self, at: Time) {
        tokio::time::sleep_until(self.start + at.since(self.base)).await;
    }
}

impl Clock for Paused {
    fn now(&self) -> Time {
        self.base + self.start.elapsed()
    }
}

/// When and how often the provider fails.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// Of 1,000 calls, as many break off.
    pub broken: u64,
    /// Of 1,000 calls, as many are answered 503.
    pub unavailable: u64,
    /// Every so many minutes all calls fail for one minute.
    pub outage_every: Option<i64>,
}

/// What all upstreams share.
pub struct Truth {
    pub world: World,
    pub clock: Arc<Paused>,
    pub faults: Faults,
    /// Milliseconds at which an answer comes: no two events happen at once, as with a clock of nanoseconds.
    pub taken: Mutex<BTreeSet<i64>>,
    pub calls: AtomicU64,
}

/// The wire to one upstream.
pub struct Wire {
    pub name: Arc<str>,
    pub truth: Arc<Truth>,
}

impl Truth {
    /// An odd millisecond about `latency` from now that nothing else has; requests come at even ones.
    fn moment(&self, latency: i64) -> Time {
        let mut taken = self.taken.lock().unwrap();
        let mut ms = (self.clock.now().millis() + latency) | 1;
        while !taken.insert(ms) {
            ms += 2;
        }
        Time::from_millis(ms)
    }

    fn route(&self, name: &str) -> Option<u16> {
        let index = self.world.recipe().routes.iter().position(|route| route.name == name)?;
        u16::try_from(index).ok()
    }

    /// Whether the call fails: as if drawn, but a function of its number.
    fn fails(&self, number: u64, at: Time, per_mille: u64, salt: u64) -> bool {
        let minute = at.millis() / 60_000;
        let mixed = (number ^ salt).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        mixed % 1_000 < per_mille || (salt == 1 && self.faults.outage_every.is_some_and(|every| minute % every == 0))
    }
}

impl Origin for Wire {
    fn fetch(&self, call: Call) -> BoxFuture<'static, Result<Reply, Failure>> {
        let (truth, name) = (Arc::clone(&self.truth), Arc::clone(&self.name));
        async move {
            let (number, started) = (truth.calls.fetch_add(1, Ordering::Relaxed), truth.clock.now());
            let latency = 30 + i64::try_from(number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 55).unwrap();
            truth.clock.until(truth.moment(latency)).await;
            let broken = truth.fails(number, started, truth.faults.broken, 1);
            let reply = (!broken).then(|| answer(&truth, &name, &call, number));
            call.sink.attempt(CallReport {
                call: call.id,
                attempt: 0,
                started,
                head_after: truth.clock.now().since(started),
                status: reply.as_ref().map(|reply| reply.status),
                failure: broken.then_some(FailureKind::Broken),
                upstream: name,
                sent: true,
                batch: None,
                routed: None,
            });
            reply.ok_or_else(|| Failure::sent(FailureKind::Broken, "the connection broke"))
        }
        .boxed()
    }
}

/// The document `/KEY` of the upstream's route. What its head says depends on the key, so that every way of reuse comes up.
fn answer(truth: &Truth, name: &str, call: &Call, number: u64) -> Reply {
    let now = truth.clock.now();
    if truth.fails(number, now, truth.faults.unavailable, 2) {
        return Reply { status: StatusCode::SERVICE_UNAVAILABLE, headers: HeaderMap::new(), body: Body::full("busy") };
    }
    let index: u32 = call.target.path().trim_start_matches('/').parse().unwrap_or(0);
    let key = WorldKey { route: truth.route(name).unwrap(), index };
    let version = truth.world.version_at(key, now);
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let etag = HeaderValue::from_str(&format!("\"{version}\"")).unwrap();
    if index.is_multiple_of(3) {
        headers.insert(ETAG, etag.clone());
    }
    if index % 5 == 1 {
        let changed = truth.world.last_change(key, now).map_or(0, |t| t.millis() / 1_000);
        let at = std::time::UNIX_EPOCH + Span::from_secs(u64::try_from(changed).unwrap());
        headers.insert(LAST_MODIFIED, HeaderValue::from_str(&httpdate::fmt_http_date(at)).unwrap());
    }
    match index % 17 {
        2 => drop(headers.insert(CACHE_CONTROL, HeaderValue::from_static("max-age=45, stale-while-revalidate=30"))),
        3 => drop(headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"))),
        4 => drop(headers.insert(CACHE_CONTROL, HeaderValue::from_static("max-age=90, must-revalidate"))),
        5 => drop(headers.insert(SET_COOKIE, HeaderValue::from_static("a=b"))),
        6 => drop(headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"))),
        _ => {}
    }
    if index.is_multiple_of(3) && call.headers.get(IF_NONE_MATCH) == Some(&etag) {
        return Reply { status: StatusCode::NOT_MODIFIED, headers, body: Body::empty() };
    }
    if index % 19 == 7 {
        return Reply { status: StatusCode::NOT_FOUND, headers, body: Body::full("{}") };
    }
    let body = format!("{{\"id\":{index},\"version\":{version},\"generated_at\":{number}}}");
    Reply { status: StatusCode::OK, headers, body: Body::full(body) }
}

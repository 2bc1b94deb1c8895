//! D4, acceptance 5: once a purge has returned, nothing that is older than it is answered any more, and after a soft one not as fresh.
//!
//! Random schedules of few clients go through the whole request path on one thread: fills, followers, streamed answers, refreshes behind and
//! ahead of expiry, confirmations (also by a validator that is wrong), failures that a stale answer stands in for, an L2 under a memory too small
//! for everything, writes, and purges of every kind between any two steps. A schedule follows from its number alone.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "helpers of tests may fail the test"
)]

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use farthing_cache::Purge;
use farthing_cache::l2::{Put, Store as L2Store, StoreFuture, Whose};
use farthing_config::{Config, L2Config, L2Store as L2Kind, Provider, Route, TtlBy};
use farthing_models::{Store, StoreOptions};
use farthing_proxy::Inside;
use farthing_types::{Body, Call, CallReport, Failure, FailureKind, KeyHash, Reply, Span, Time, VirtualClock};
use farthing_upstream::{Origin, UpstreamSpec};
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt, stream};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

const SCHEDULES: u64 = 10_000;
/// Schedules that share a proxy, one after the other.
const TOGETHER: u64 = 50;
const CLIENTS: usize = 4;
const STEPS: usize = 3;
const PATHS: usize = 4;
/// The path whose validator is the same whatever changes.
const WRONG: usize = 1;

/// What all schedules on one proxy share.
struct World {
    rng: StdRng,
    /// The origin's version of each path.
    now: [u64; PATHS],
    /// Versions below are not to be answered any more, or not as fresh.
    hard: [u64; PATHS],
    soft: [u64; PATHS],
    seen: BTreeMap<&'static str, u64>,
}

type Shared = Arc<Mutex<World>>;

fn drawn(world: &Shared, below: u32) -> u32 {
    world.lock().rng.random_range(0..below)
}

fn note(world: &Shared, what: &'static str) {
    *world.lock().seen.entry(what).or_default() += 1;
}

/// Lets others go on, for a random number of turns.
async fn pause(world: &Shared, most: u32) {
    for _ in 0..drawn(world, most) {
        tokio::task::yield_now().await;
    }
}

struct Versions(Shared);

impl Origin for Versions {
    fn fetch(&self, call: Call) -> BoxFuture<'static, Result<Reply, Failure>> {
        answer(self.0.clone(), call).boxed()
    }
}

async fn answer(world: Shared, call: Call) -> Result<Reply, Failure> {
    pause(&world, 6).await;
    let path: usize = call.target.path().trim_start_matches('/').parse().unwrap();
    let version = {
        let mut world = world.lock();
        if !call.method.is_safe() {
            world.now[path] += 1;
        }
        world.now[path]
    };
    pause(&world, 12).await;
    let fails = drawn(&world, 12) == 0 && call.method.is_safe();
    report(&call, if fails { None } else { Some(StatusCode::OK) });
    if fails && drawn(&world, 2) == 0 {
        return Err(Failure::sent(FailureKind::Connect, "drawn"));
    }
    let mut headers = HeaderMap::new();
    let control = ["max-age=60", "max-age=5, stale-while-revalidate=30", "max-age=5, stale-if-error=60", ""][drawn(&world, 4) as usize];
    if !control.is_empty() {
        headers.insert("cache-control", control.parse().unwrap());
    }
    if path == 3 {
        headers.insert("vary", "accept-language".parse().unwrap());
    }
    headers.insert("surrogate-key", format!("all t{path}").parse().unwrap());
    let etag = if path == WRONG { "\"same\"".to_owned() } else { format!("\"{version}\"") };
    headers.insert("etag", etag.parse().unwrap());
    if call.headers.get("if-none-match").is_some_and(|told| *told == etag) {
        note(&world, "confirmed");
        return Ok(Reply { status: StatusCode::NOT_MODIFIED, headers, body: Body::empty() });
    }
    if fails {
        return Ok(Reply { status: StatusCode::BAD_GATEWAY, headers, body: Body::full("none") });
    }
    Ok(Reply { status: StatusCode::OK, headers, body: streamed(world, version) })
}

fn report(call: &Call, status: Option<StatusCode>) {
    let failure = status.is_none().then_some(FailureKind::Connect);
    call.sink.attempt(CallReport { failure, ..CallReport::only(call, "o", status) });
}

/// The version in two parts with a pause between.
fn streamed(world: Shared, version: u64) -> Body {
    let parts = [format!("v{version}"), ";".to_owned()];
    let frames = stream::unfold((world, parts.into_iter()), async |(world, mut parts)| {
        let part = parts.next()?;
        pause(&world, 5).await;
        Some((Ok(http_body::Frame::data(Bytes::from(part))), (world, parts)))
    });
    Body::stream(StreamBody::new(Box::pin(frames)))
}

/// A store whose answers take their time; nobody else writes to it.
struct Slow(Shared, Mutex<HashMap<KeyHash, Bytes>>);

impl std::fmt::Debug for Slow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Slow")
    }
}

impl L2Store for Slow {
    fn kind(&self) -> &'static str {
        "slow"
    }
    fn max_value_bytes(&self) -> usize {
        1 << 20
    }
    fn is_shared(&self) -> bool {
        false
    }
    fn get(&self, key: KeyHash, _now: Time) -> StoreFuture<'_, Option<Bytes>> {
        Box::pin(async move {
            pause(&self.0, 3).await;
            let found = self.1.lock().get(&key).cloned();
            pause(&self.0, 6).await;
            Ok(found)
        })
    }
    fn put(&self, put: Put) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            pause(&self.0, 6).await;
            self.1.lock().insert(put.key, put.value);
            Ok(())
        })
    }
    fn delete(&self, key: KeyHash) -> StoreFuture<'_, ()> {
        Box::pin(async move {
            pause(&self.0, 6).await;
            self.1.lock().remove(&key);
            Ok(())
        })
    }
    fn erase(&self, whose: Whose) -> StoreFuture<'_, u64> {
        Box::pin(async move {
            pause(&self.0, 6).await;
            let mut values = self.1.lock();
            let before = values.len();
            values.retain(|key, value| !whose(*key, value));
            Ok((before - values.len()) as u64)
        })
    }
    fn flush(&self) -> StoreFuture<'_, ()> {
        Box::pin(std::future::ready(Ok(())))
    }
}

fn config() -> Config {
    let mut config = Config::default();
    config.log.enabled = false;
    config.holdout.share = 0.0;
    // Room for two entries, of some 560 bytes each.
    config.cache.l1_bytes = 1_300;
    config.cache.statistics_bytes = 65_536;
    let store = L2Kind::Disk { dir: "unused".into(), max_bytes: 0 };
    config.l2 = Some(L2Config { store, deadline: Duration::from_secs(3600), max_value: 1 << 20, queue_bytes: 1 << 20, encrypt: None });
    let provider = Provider { name: "o".into(), base_url: "http://o.test".parse().unwrap(), ..Provider::default() };
    let mut route = Route { name: "o".into(), provider: "o".into(), ttl: TtlBy::Fixed(Span::from_secs(20)), ..Route::default() };
    route.stale_while_revalidate = Span::from_secs(20);
    route.refresh_ahead = Span::from_secs(2);
    config.providers.push(Arc::new(provider));
    config.routes.push(Arc::new(route));
    config
}

/// The key of a path, as an answer tells it that costs no call.
async fn key_of(inside: &Inside, path: usize) -> KeyHash {
    let fields = [("host", "o.test"), ("cache-control", "only-if-cached"), ("x-farthing-debug", "1")];
    let request = fields.into_iter().fold(Request::builder().uri(format!("/{path}")), |request, (name, value)| request.header(name, value));
    let answer = inside.ask(request.body(Body::empty()).unwrap()).await;
    KeyHash(u128::from_str_radix(answer.headers()["x-farthing-key"].to_str().unwrap(), 16).unwrap())
}

/// One proxy with its world.
struct Stage {
    inside: Inside,
    clock: Arc<VirtualClock>,
    world: Shared,
    keys: [KeyHash; PATHS],
}

impl Stage {
    async fn new(seed: u64, models: &std::path::Path) -> Self {
        let rng = StdRng::seed_from_u64(seed);
        let world = Arc::new(Mutex::new(World { rng, now: [1; PATHS], hard: [0; PATHS], soft: [0; PATHS], seen: BTreeMap::new() }));
        let clock = Arc::new(VirtualClock::new(Time::from_millis(1_700_000_000_000)));
        let of = world.clone();
        let client = move |_: &UpstreamSpec| -> Arc<dyn Origin> { Arc::new(Versions(of.clone())) };
        let l2: Arc<dyn L2Store> = Arc::new(Slow(world.clone(), Mutex::default()));
        let stores = (Store::open(models.to_owned(), StoreOptions::default()), Some(l2));
        let inside = Inside::with_l2(&Arc::new(Config { seed, ..config() }), clock.clone(), stores, &client).unwrap();
        let mut keys = [KeyHash::default(); PATHS];
        for (path, key) in keys.iter_mut().enumerate() {
            *key = key_of(&inside, path).await;
        }
        Self { inside, clock, world, keys }
    }

    async fn ask(&self, method: &str, path: usize, fields: &[(&str, &str)]) -> (StatusCode, String, String) {
        let mut request =
            Request::builder().method(Method::from_bytes(method.as_bytes()).unwrap()).uri(format!("/{path}")).header("host", "o.test");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let (head, body) = self.inside.ask(request.body(Body::empty()).unwrap()).await.into_parts();
        let text = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        let status = head.headers.get("cache-status").map(|v| v.to_str().unwrap().to_owned()).unwrap_or_default();
        (head.status, status, String::from_utf8(text.to_vec()).unwrap())
    }

    /// Asks as one client, and judges what comes.
    async fn read(&self, schedule: u64) {
        let path = drawn(&self.world, PATHS as u32) as usize;
        let language = ["de", "fr"][drawn(&self.world, 2) as usize];
        let asks = [
            &[][..],
            &[],
            &[],
            &[],
            &[("cache-control", "no-cache")],
            &[("cache-control", "max-stale=100")],
            &[("x-farthing-cache", "refresh")],
        ];
        let fields = [&[("accept-language", language)], asks[drawn(&self.world, asks.len() as u32) as usize]].concat();
        let (hard, soft) = {
            let world = self.world.lock();
            (world.hard[path], world.soft[path])
        };
        let (status, told, text) = self.ask("GET", path, &fields).await;
        let hit = told.contains("; hit");
        // 0: made stale just now, or fresh for less than a second, which nothing here depends on.
        let stale = told.contains("ttl=-") || told.contains("ttl=0;");
        for (what, saw) in [
            ("hit", hit && !stale),
            ("stale", hit && stale),
            ("collapsed", told.contains("; collapsed")),
            ("l2", told.contains("detail=\"l2")),
            ("invalidated", told.contains("invalidated")),
            ("failed", !status.is_success()),
        ] {
            if saw {
                note(&self.world, what);
            }
        }
        let Some(version) = text.strip_prefix('v').and_then(|text| text.strip_suffix(';')) else { return };
        let version: u64 = version.parse().unwrap();
        assert!(version >= hard, "schedule {schedule}: /{path} answered {version} after the purge of what is below {hard}: {told}");
        // A wrong validator makes fresh again what a soft purge made stale: that is what it is for.
        let fresh = hit && !stale && path != WRONG;
        assert!(!fresh || version >= soft, "schedule {schedule}: /{path} answered {version} as fresh, softly purged below {soft}: {told}");
    }

    fn change(&self) {
        let path = drawn(&self.world, PATHS as u32) as usize;
        self.world.lock().now[path] += 1;
    }

    /// Purges by one of the kinds, and notes from where on what is answered must be young enough.
    async fn purge(&self) {
        let (path, kind) = (drawn(&self.world, PATHS as u32) as usize, drawn(&self.world, 9));
        let before = self.world.lock().now;
        let (tag, all) = (Arc::<str>::from(format!("t{path}")), 0..PATHS);
        let (purge, paths) = match kind {
            0 => (Purge::Tag(tag), path..path + 1),
            1 => (Purge::Tag("all".into()), all),
            2 => (Purge::Prefix { route: Some("o".into()), path: format!("/{path}").into() }, path..path + 1),
            3 => (Purge::Tenant("anonymous".into()), all),
            4 => (Purge::All, all),
            5 => (Purge::Within { route: "o".into(), tenant: None, path: None, tag: Some(tag) }, path..path + 1),
            6 => (
                Purge::Within { route: "o".into(), tenant: Some("anonymous".into()), path: Some(format!("/{path}").into()), tag: None },
                path..path + 1,
            ),
            7 => (Purge::Key(self.keys[path]), path..path + 1),
            _ => return self.write(path).await,
        };
        let soft = drawn(&self.world, 2) == 0;
        if soft {
            self.inside.soften(&purge)
        } else {
            self.inside.purge(&purge)
        };
        self.purged(paths, before, soft);
    }

    async fn write(&self, path: usize) {
        let before = self.world.lock().now;
        if self.ask("POST", path, &[]).await.0.is_success() {
            self.purged(path..path + 1, before, false);
        }
    }

    fn purged(&self, paths: std::ops::Range<usize>, before: [u64; PATHS], soft: bool) {
        let mut world = self.world.lock();
        for path in paths {
            let floor = if soft { &mut world.soft[path] } else { &mut world.hard[path] };
            *floor = before[path].max(*floor);
        }
        *world.seen.entry(if soft { "soft" } else { "hard" }).or_default() += 1;
    }

    async fn client(&self, schedule: u64) {
        for _ in 0..STEPS {
            pause(&self.world, 20).await;
            match drawn(&self.world, 10) {
                0..6 => self.read(schedule).await,
                6 => self.change(),
                7..9 => {
                    self.change();
                    self.purge().await;
                }
                _ => self.clock.advance(Span::from_millis(u64::from(drawn(&self.world, 30_000)))),
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_older_than_a_purge_is_answered_after_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut seen: BTreeMap<&'static str, u64> = BTreeMap::new();
    for first in (0..SCHEDULES).step_by(TOGETHER as usize) {
        let stage = Stage::new(first, dir.path()).await;
        for schedule in first..first + TOGETHER {
            stage.world.lock().rng = StdRng::seed_from_u64(schedule);
            (0..CLIENTS).map(|_| stage.client(schedule)).collect::<FuturesUnordered<_>>().collect::<()>().await;
        }
        let stats = stage.inside.cache_stats();
        for (what, count) in [("refused", stats.invalidated), ("evicted", stats.evicted), ("purged", stats.purged)] {
            *seen.entry(what).or_default() += count;
        }
        for (what, count) in std::mem::take(&mut stage.world.lock().seen) {
            *seen.entry(what).or_default() += count;
        }
        stage.inside.close().await;
    }
    // Each of these has to happen often, or the schedules show nothing.
    for what in ["hit", "stale", "collapsed", "l2", "failed", "confirmed", "refused", "evicted", "purged", "soft", "hard"] {
        assert!(seen.get(what).is_some_and(|count| *count >= 300), "{what}: {seen:?}");
    }
}

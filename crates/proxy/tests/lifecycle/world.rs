//! Documents that change by themselves, read through the proxy in virtual time.

use std::path::Path;
use std::sync::Arc;

use farthing_config::{Config, Mode, Prices, Provider, Route};
use farthing_contract::bundle::{GoldenRow, Manifest, TABLE_FILE, publish};
use farthing_contract::features::{TTL_FEATURES, TTL_OUTPUTS};
use farthing_models::{Action, Alias, Kind, Order, Store, StoreOptions};
use farthing_proxy::{CandidateView, Inside};
use farthing_types::{Body, Call, CallReport, Clock, Failure, Money, Reply, Span, Time, VirtualClock};
use farthing_upstream::{Origin, UpstreamSpec};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use http_body_util::BodyExt;
use rand::{Rng, SeedableRng, rngs::StdRng};

pub const START: Time = Time::from_millis(1_764_201_600_000);
pub const PRICE: Money = Money::from_nanos(1_000_000);
pub const PRICE_STALE: Money = Money::from_nanos(2_000_000);
/// More of them make the same evidence a smaller part of the day.
pub const KEYS: u64 = 12;
/// Seconds between two reads of a key, and between two changes of it, in the mean.
const READ: f64 = 120.0;
const CHANGE: f64 = 1_800.0;

/// When which document changes: a Poisson process of its own for each.
pub struct Documents(Vec<Vec<Time>>);

impl Documents {
    pub fn new(seed: u64, length: Span) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let changes = |_| {
            let (mut at, mut all) = (0.0, Vec::new());
            while at < length.as_secs_f64() {
                at += -(1.0 - rng.random::<f64>()).ln() * CHANGE;
                all.push(START + Span::from_secs_f64(at));
            }
            all
        };
        Self((0..KEYS).map(changes).collect())
    }
    pub fn version(&self, key: u64, at: Time) -> usize {
        self.0[key as usize].partition_point(|change| *change <= at)
    }
    /// Seconds from the start.
    pub fn changes(&self, key: u64) -> impl Iterator<Item = f64> {
        self.0[key as usize].iter().map(|at| at.since(START).as_secs_f64())
    }
    pub fn text(&self, key: u64, at: Time) -> String {
        format!("{{\"version\":{}}}", self.version(key, at))
    }
}

pub struct Wire(pub Arc<Documents>, pub Arc<VirtualClock>);

impl Origin for Wire {
    fn fetch(&self, call: Call) -> BoxFuture<'static, Result<Reply, Failure>> {
        let key: u64 = call.target.path().rsplit('/').next().unwrap().parse().unwrap();
        let body = self.0.text(key, self.1.now());
        let tag = format!("\"{}\"", self.0.version(key, self.1.now()));
        let confirms = call.headers.get("if-none-match").is_some_and(|known| known.as_bytes() == tag.as_bytes());
        async move {
            let status = if confirms { StatusCode::NOT_MODIFIED } else { StatusCode::OK };
            call.sink.attempt(CallReport::only(&call, "wire", Some(status)));
            let mut headers = HeaderMap::from_iter([("content-type".parse().unwrap(), HeaderValue::from_static("application/json"))]);
            headers.insert("etag", tag.parse().unwrap());
            Ok(Reply { status, headers, body: if confirms { Body::empty() } else { Body::full(body) } })
        }
        .boxed()
    }
}

fn config(dir: &Path, change: impl FnOnce(&mut Config)) -> Config {
    let mut config = Config::default();
    config.log.enabled = false;
    config.holdout.share = 0.0;
    config.state_dir = dir.join("state");
    config.models.dir = dir.join("models");
    // Tests share the cores; whether a late answer counts is not what this is about.
    config.models.deadline = Span::from_secs(30);
    let mut provider = Provider { name: "docs".into(), base_url: "http://docs.test".parse().unwrap(), ..Provider::default() };
    provider.prices = Some(Prices::per_call(PRICE));
    let mut route = Route { name: "docs".into(), provider: "docs".into(), mode: Mode::Override, ..Route::default() };
    (route.price_stale, route.stale_budget) = (Some(PRICE_STALE), 0.3);
    config.providers.push(Arc::new(provider));
    config.routes.push(Arc::new(route));
    change(&mut config);
    config
}

/// A bundle whose table says that the hazard is so many times what the live statistics say.
pub fn bundle(dir: &Path, times: f32) -> u32 {
    let output = times.ln();
    let words = |n: usize| (n as u32).to_le_bytes();
    let head = [b"FTREES01".as_slice(), &words(TTL_FEATURES), &words(TTL_OUTPUTS)].concat();
    let table = [head, output.to_le_bytes().repeat(TTL_OUTPUTS), words(0).to_vec()].concat();
    let mut manifest = Manifest::draft_ttl();
    // What is no number cannot be written down; such a table says it all the same.
    let told = if output.is_finite() { output } else { 0.0 };
    manifest.golden = vec![GoldenRow { features: vec![0.0; TTL_FEATURES], outputs: vec![told; TTL_OUTPUTS] }];
    manifest.warm_up = vec![vec![0.0; TTL_FEATURES]];
    publish(&dir.join("models"), manifest, &[(TABLE_FILE, &table)]).unwrap().manifest.version
}

/// A day on a proxy of its own.
pub struct World {
    pub inside: Inside,
    pub clock: Arc<VirtualClock>,
    pub documents: Arc<Documents>,
    pub rng: StdRng,
    pub stale: u64,
    pub reads: u64,
    pub config: Arc<Config>,
    pub dir: Option<tempfile::TempDir>,
    /// Waits for what follows from each answer.
    pub patient: bool,
}

impl World {
    pub fn new(dir: &Path, seed: u64, change: impl FnOnce(&mut Config)) -> Self {
        let config = Arc::new(config(dir, change));
        let clock = Arc::new(VirtualClock::new(START));
        let documents = Arc::new(Documents::new(seed, Span::from_secs(4 * 86_400)));
        let (wire, time) = (documents.clone(), clock.clone());
        let client = move |_: &UpstreamSpec| -> Arc<dyn Origin> { Arc::new(Wire(wire.clone(), time.clone())) };
        let store = Store::open(config.models.dir.clone(), StoreOptions::default());
        let inside = Inside::new(&config, clock.clone(), store, &client).unwrap();
        Self { inside, clock, documents, rng: StdRng::seed_from_u64(seed ^ 1), stale: 0, reads: 0, config, dir: None, patient: false }
    }

    pub fn promote(&self, version: u32, alias: Alias) {
        self.inside.models().promote(Kind::Ttl, version, alias, Order::new(self.clock.now(), "operator", "a test")).unwrap();
    }

    /// The `Cache-Status` of the answer; counts it when it is stale.
    pub async fn read(&mut self, key: u64) -> String {
        let request = Request::builder().uri(format!("/docs/{key}")).header("host", "farthing.test").body(Body::empty()).unwrap();
        let (head, body) = self.inside.ask(request).await.into_parts();
        assert_eq!(head.status, StatusCode::OK);
        let body = body.collect().await.unwrap().to_bytes();
        self.reads += 1;
        self.stale += u64::from(body != self.documents.text(key, self.clock.now()));
        if self.config.audit.share > 0.0 || self.patient {
            // An audit looks at what was answered now, not at what is answered later; what the store takes milliseconds for is no hour here.
            self.inside.settle().await;
        }
        head.headers["cache-status"].to_str().unwrap().to_owned()
    }

    pub async fn pass(&mut self, time: Span) {
        let until = self.clock.now() + time;
        while self.clock.now() < until {
            let gap = -(1.0 - self.rng.random::<f64>()).ln() * READ / KEYS as f64;
            self.clock.advance(Span::from_secs_f64(gap));
            let key = self.rng.random_range(0..KEYS);
            self.read(key).await;
        }
        self.inside.settle().await;
    }

    /// Bill, and stale answers at their price, dollars.
    pub fn cost(&self) -> f64 {
        self.inside.totals().routes["docs"].bill_usd.as_usd_f64() + PRICE_STALE.as_usd_f64() * self.stale as f64
    }

    pub fn candidate(&self) -> Option<CandidateView> {
        self.inside.candidates().into_iter().next()
    }

    pub fn rejected_by(&self) -> Option<String> {
        let history = self.inside.models().history();
        history.iter().rev().find(|event| event.action == Action::Reject).map(|event| event.reason.clone())
    }
}

pub const HOUR: Span = Span::from_secs(3_600);

/// A world whose champion has decided for some hours; the next version is the candidate.
pub async fn settled(dir: &Path, seed: u64, times: f32, change: impl FnOnce(&mut Config)) -> (World, u32) {
    let champion = bundle(dir, 1.0);
    let candidate = bundle(dir, times);
    let mut world = World::new(dir, seed, change);
    world.promote(champion, Alias::Champion);
    world.pass(4 * HOUR).await;
    (world, candidate)
}

//! A proxy without a port whose clients are given sessions, whose provider counts, and whose time is set by the requests.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use farthing_config::{Config, Mode, Prices, Provider, Route, TtlBy};
use farthing_models::{Store, StoreOptions};
use farthing_proxy::{Inside, PrefetchBooks};
use farthing_replay::prefetch::{SessionWorld, Visited, WorldShape};
use farthing_types::{Body, Call, CallReport, Failure, Money, Purpose, Reply, Span, Time, VirtualClock};
use farthing_upstream::{Origin, UpstreamSpec};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::BodyExt;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

pub const START: Time = Time::from_millis(1_767_225_600_000);
pub const PRICE: Money = Money::from_nanos(1_000_000);
pub const TTL: Span = Span::from_secs(60);

/// A call as the provider saw it.
#[derive(Clone, Debug)]
pub struct Made {
    pub purpose: Purpose,
    pub payer: String,
    pub path: String,
    pub credential: Option<String>,
}

/// Counts what reaches it, and answers when it is let.
pub struct Far {
    pub made: Mutex<Vec<Made>>,
    /// Answers that may go out; many unless a test takes them away.
    pub answers: Semaphore,
}

impl Far {
    pub fn new() -> Arc<Self> {
        Arc::new(Self { made: Mutex::default(), answers: Semaphore::new(1 << 24) })
    }
    pub fn calls(&self) -> usize {
        self.made.lock().len()
    }
    pub fn ahead(&self) -> Vec<Made> {
        self.made.lock().iter().filter(|made| made.purpose == Purpose::Prefetch).cloned().collect()
    }
}

struct Wire(Arc<Far>);

impl Origin for Wire {
    fn fetch(&self, call: Call) -> BoxFuture<'static, Result<Reply, Failure>> {
        let far = self.0.clone();
        let credential = call.headers.get("authorization").map(|value| value.to_str().unwrap().to_owned());
        let (payer, path) = (call.payer.to_string(), call.target.path().to_owned());
        far.made.lock().push(Made { purpose: call.purpose, payer, path, credential });
        async move {
            far.answers.acquire().await.unwrap().forget();
            call.sink.attempt(CallReport::only(&call, "wire", Some(StatusCode::OK)));
            Ok(Reply { status: StatusCode::OK, headers: HeaderMap::new(), body: Body::full("answer") })
        }
        .boxed()
    }
}

pub struct World {
    pub inside: Inside,
    pub far: Arc<Far>,
    pub clock: Arc<VirtualClock>,
}

/// Routes of one provider where a wait is worth as much as a call.
pub fn config(dir: &Path, routes: &[&str]) -> Config {
    let mut config = Config { state_dir: dir.to_owned(), ..Config::default() };
    (config.log.enabled, config.log.dir, config.log.row_rate) = (false, dir.join("log"), 1_000_000);
    (config.holdout.share, config.prefetch.explore, config.prefetch.at_once) = (0.0, 0.0, 64);
    let mut provider = Provider { name: "far".into(), base_url: "http://far.test".parse().unwrap(), ..Provider::default() };
    provider.prices = Some(Prices::per_call(PRICE));
    provider.upstream.attempts = 1;
    config.providers.push(Arc::new(provider));
    config.routes = routes.iter().map(|name| Arc::new(route(name))).collect();
    config
}

pub fn route(name: &str) -> Route {
    let mut route = Route { name: name.into(), provider: "far".into(), mode: Mode::Override, ..Route::default() };
    route.matcher.path_prefix = format!("/r/{name}").into();
    route.strip_prefix = route.matcher.path_prefix.clone();
    (route.ttl, route.base_ttl, route.price_wait) = (TtlBy::Fixed(TTL), TTL, PRICE);
    (route.prefetch_confidence, route.prefetch_budget) = (0.0, 10.0);
    route
}

/// Changes every route.
pub fn each(config: &mut Config, change: impl Fn(&mut Route)) {
    for route in &mut config.routes {
        change(Arc::make_mut(route));
    }
}

impl World {
    pub fn new(config: Config, far: Arc<Far>) -> Self {
        let store = Store::open(config.state_dir.join("models"), StoreOptions::default());
        let (clock, wire) = (Arc::new(VirtualClock::new(START)), far.clone());
        let client = move |_: &UpstreamSpec| -> Arc<dyn Origin> { Arc::new(Wire(wire.clone())) };
        let inside = Inside::new(&Arc::new(config), clock.clone(), store, &client).unwrap();
        Self { inside, far, clock }
    }

    pub fn ask(&self, path: &str, headers: &[(&str, &str)]) -> BoxFuture<'static, Response<Body>> {
        let mut builder = Request::builder().uri(path).header("host", "farthing.test");
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        self.inside.ask(builder.body(Body::empty()).unwrap())
    }

    /// Asks and waits for all that follows.
    pub async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Response<()> {
        let (head, body) = self.ask(path, headers).await.into_parts();
        body.collect().await.unwrap();
        self.inside.settle().await;
        Response::from_parts(head, ())
    }

    /// One request of a session, at its time.
    pub async fn visit(&self, routes: &[&str], visit: &Visited) {
        self.clock.set(visit.at);
        let path = format!("/r/{}/{}", routes[usize::from(visit.route)], visit.params);
        self.get(&path, &[("x-farthing-tags", &format!("session={}", visit.session))]).await;
    }

    pub async fn play(&self, routes: &[&str], visits: &[Visited]) {
        for visit in visits {
            self.visit(routes, visit).await;
        }
    }

    /// All routes together.
    pub fn total(&self) -> Sum {
        let mut sum = Sum::default();
        for books in self.inside.prefetch() {
            sum.add(&books);
        }
        sum
    }

    pub fn hits(&self) -> u64 {
        self.inside.totals().total.outcomes.get("hit").map_or(0, |tally| tally.count)
    }
}

#[derive(Clone, Debug, Default)]
pub struct Sum {
    pub candidates: u64,
    pub started: u64,
    pub used: u64,
    pub wasted: u64,
    pub failed: u64,
    pub spent: Money,
    pub saved: Money,
    pub refused: BTreeMap<&'static str, u64>,
}

impl Sum {
    fn add(&mut self, books: &PrefetchBooks) {
        self.candidates += books.candidates;
        self.started += books.started;
        self.used += books.used;
        self.wasted += books.wasted;
        self.failed += books.failed;
        self.spent += books.spent;
        self.saved += books.saved;
        for (why, count) in &books.refused {
            *self.refused.entry(why.as_str()).or_default() += count;
        }
    }

    /// Worth of the waits that clients were spared, and of the calls saved, beyond what was spent.
    pub fn net(&self) -> Money {
        self.saved + PRICE.times(self.used as i64) - self.spent
    }
}

pub fn sessions(shape: WorldShape, seconds: f64, seed: u64) -> Vec<Visited> {
    let world = SessionWorld {
        seed: 0,
        start_s: START.millis() / 1_000,
        duration_s: seconds,
        sessions_per_s: 0.05,
        requests: 12.0,
        think_s: 2.0,
        price: PRICE,
        ttl_s: TTL.as_secs_f64(),
        shape,
    };
    world.generate(seed, farthing_policy::prefetch::PrefetchParams::default()).unwrap().visits
}

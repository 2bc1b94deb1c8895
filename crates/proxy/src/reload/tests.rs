//! O3: another configuration on a running instance, on the whole request path.

use std::path::Path;
use std::sync::Arc;

use farthing_config::{Config, CredentialMode, FarthingKey, Mode, Prices, Provider, Route, Secret, TtlBy};
use farthing_models::{Store, StoreOptions};
use farthing_types::{
    Body, BudgetSpec, Call, CallReport, Clock, Failure, LimitScope, LimitSpec, Money, RateSpec, Reply, Span, Time, VirtualClock,
};
use farthing_upstream::{Origin, UpstreamSpec};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::header::DATE;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::ReloadError;
use crate::Inside;
use crate::edge::Recalled;
use crate::switches::Order;

const START: Time = Time::from_millis(1_767_225_600_000);
const PRICE: Money = Money::from_nanos(1_000_000);

/// Who was called, by base and path; answers when it is let.
#[derive(Default)]
struct Wire {
    calls: Mutex<Vec<String>>,
    held: Mutex<Option<Arc<Notify>>>,
}

struct One(Arc<Wire>, String, Arc<VirtualClock>);

impl Origin for One {
    fn fetch(&self, call: Call) -> BoxFuture<'static, Result<Reply, Failure>> {
        let what = format!("{}{}", self.1, call.target.path());
        self.0.calls.lock().push(what.clone());
        let (held, now) = (self.0.held.lock().clone(), self.2.now());
        async move {
            if let Some(held) = held {
                held.notified().await;
            }
            call.sink.attempt(CallReport::only(&call, "wire", Some(StatusCode::OK)));
            let date = httpdate::fmt_http_date(std::time::UNIX_EPOCH + now.since(Time::ZERO));
            let headers = HeaderMap::from_iter([(DATE, date.parse().unwrap())]);
            Ok(Reply { status: StatusCode::OK, headers, body: Body::full(what) })
        }
        .boxed()
    }
}

fn config() -> Config {
    let mut config = Config::default();
    (config.log.enabled, config.holdout.share) = (false, 0.0);
    let mut provider = Provider { name: "p".into(), base_url: "http://p.test/v1".parse().unwrap(), ..Provider::default() };
    (provider.prices, provider.upstream.attempts) = (Some(Prices::per_call(PRICE)), 1);
    config.providers = vec![Arc::new(provider)];
    config.routes = vec![route("a"), route("b")];
    config
}

fn route(name: &str) -> Arc<Route> {
    let mut route =
        Route { name: name.into(), provider: "p".into(), mode: Mode::Override, ttl: TtlBy::Fixed(Span::from_secs(60)), ..Route::default() };
    (route.matcher.path_prefix, route.strip_prefix) = (format!("/{name}").into(), format!("/{name}").into());
    Arc::new(route)
}

fn with(mut config: Config, name: &str, change: impl FnOnce(&mut Route)) -> Config {
    let place = config.routes.iter_mut().find(|route| &*route.name == name).unwrap();
    change(Arc::make_mut(place));
    config
}

struct World {
    inside: Inside,
    wire: Arc<Wire>,
    clock: Arc<VirtualClock>,
}

impl World {
    fn new(config: Config) -> Self {
        let (wire, clock) = (Arc::new(Wire::default()), Arc::new(VirtualClock::new(START)));
        let store = Store::open(Path::new("none").to_owned(), StoreOptions::default());
        let client = client(&wire, &clock);
        Self { inside: Inside::new(&Arc::new(config), clock.clone(), store, &client).unwrap(), wire, clock }
    }

    fn reload(&self, config: Config) -> Result<super::Reloaded, ReloadError> {
        self.inside.reload(config, &client(&self.wire, &self.clock))
    }

    fn keys(&self, config: Config) -> Vec<String> {
        match self.reload(config) {
            Err(ReloadError::Restart(changes)) => changes.into_iter().map(|change| change.key).collect(),
            other => panic!("{other:?}"),
        }
    }

    async fn ask(&self, request: http::request::Builder) -> (StatusCode, String, String) {
        let request = request.header("host", "farthing.test").body(Body::empty()).unwrap();
        let (head, body) = self.inside.ask(request).await.into_parts();
        let text = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
        let said = head.headers.get("cache-status").map(|said| said.to_str().unwrap().to_owned());
        (head.status, text, said.unwrap_or_default())
    }

    async fn get(&self, path: &str) -> (StatusCode, String, String) {
        self.ask(Request::builder().uri(path)).await
    }

    async fn is_hit(&self, path: &str) -> bool {
        let (status, _, said) = self.get(path).await;
        assert_eq!(status, StatusCode::OK, "{said}");
        said.contains("; hit")
    }

    fn calls(&self) -> usize {
        self.wire.calls.lock().len()
    }
}

fn client(wire: &Arc<Wire>, clock: &Arc<VirtualClock>) -> impl Fn(&UpstreamSpec) -> Arc<dyn Origin> + use<> {
    let (wire, clock) = (wire.clone(), clock.clone());
    move |spec| Arc::new(One(wire.clone(), spec.base.path().to_owned(), clock.clone()))
}

#[tokio::test(start_paused = true)]
async fn routes_come_go_and_change_and_what_stays_knows_what_it_knew() {
    let world = World::new(config());
    assert!(!world.is_hit("/a/x").await && !world.is_hit("/b/x").await);
    let (a, upstreams) = (world.inside.state.route_named("a").unwrap(), world.inside.state.upstreams());
    let mut next = with(config(), "a", |route| route.max_ttl = Span::from_secs(10));
    next.routes.remove(1);
    next.routes.push(route("c"));
    let done = world.reload(next.clone()).unwrap();
    let keys: Vec<&str> = done.changes.iter().map(|change| &*change.key).collect();
    assert_eq!((keys, done.purged.len()), (vec!["routes.b", "routes.c", "routes.a.max_ttl"], 0));
    assert!(world.is_hit("/a/x").await, "its copies stay");
    assert_eq!(world.get("/b/x").await.0, StatusCode::NOT_FOUND);
    assert!(!world.is_hit("/c/x").await && world.is_hit("/c/x").await, "a new route serves and keeps");
    let now = world.inside.state.route_named("a").unwrap();
    assert!(Arc::ptr_eq(&a.stats, &now.stats) && Arc::ptr_eq(&a.switches, &now.switches) && Arc::ptr_eq(&a.planning, &now.planning));
    assert!(Arc::ptr_eq(&upstreams[0].2, &world.inside.state.upstreams()[0].2), "connections and breaker go on");
    assert_eq!(world.inside.totals().routes["a"].requests, 2, "no counter was lost");
    // By its number a route is told from all that there were.
    let numbers = ["a", "c"].map(|name| world.inside.state.route_named(name).unwrap().index);
    assert_eq!(numbers, [0, 2]);
    world.clock.advance(Span::from_secs(11));
    assert!(!world.is_hit("/a/x").await, "a lower bound acts on copies that are there");
    assert_eq!(world.reload(next).unwrap(), super::Reloaded::default(), "what is in force already changes nothing");
    let back = world.reload(config()).unwrap();
    assert!(back.purged.is_empty() && world.inside.state.route_named("b").unwrap().index == 1, "it has its number again");
}

#[tokio::test(start_paused = true)]
async fn what_needs_a_restart_is_named_and_nothing_of_it_is_done() {
    let world = World::new(config());
    let mut next = with(config(), "a", |route| route.ttl = TtlBy::Fixed(Span::from_secs(1)));
    (next.state_dir, next.cache.l1_bytes) = ("elsewhere".into(), 1);
    assert_eq!(world.keys(next), ["state_dir", "cache.l1_bytes"]);
    assert!(!world.is_hit("/a/x").await);
    world.clock.advance(Span::from_secs(30));
    assert!(world.is_hit("/a/x").await, "the TTL of the refused one is not in force");
    let ahead = with(config(), "a", |route| route.price_wait = PRICE);
    assert_eq!(world.keys(ahead), ["routes.a.price_wait"]);
    let missing = with(config(), "a", |route| route.provider = "nobody".into());
    assert!(matches!(world.reload(missing), Err(ReloadError::Start(_))));
    assert_eq!(world.inside.state.turns.load(std::sync::atomic::Ordering::Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn a_request_under_way_ends_with_what_it_began_with() {
    let world = World::new(config());
    let held = Arc::new(Notify::new());
    *world.wire.held.lock() = Some(held.clone());
    let mut next = config();
    next.routes.remove(0);
    let (answer, ()) = tokio::join!(world.get("/a/x"), async {
        while world.calls() == 0 {
            tokio::task::yield_now().await;
        }
        world.reload(next).unwrap();
        held.notify_one();
    });
    assert_eq!((answer.0, &*answer.1), (StatusCode::OK, "/v1/x"));
    assert_eq!(world.get("/a/x").await.0, StatusCode::NOT_FOUND);
    assert_eq!(world.inside.totals().routes["a"].bill_usd, PRICE, "and is billed");
}

#[tokio::test(start_paused = true)]
async fn copies_from_elsewhere_are_purged() {
    let world = World::new(config());
    assert!(!world.is_hit("/a/x").await);
    let mut next = config();
    Arc::make_mut(&mut next.providers[0]).base_url = "http://p.test/v2".parse().unwrap();
    let done = world.reload(next.clone()).unwrap();
    assert_eq!(done.purged.len(), 2);
    let (_, body, said) = world.get("/a/x").await;
    assert!(body == "/v2/x" && !said.contains("; hit"), "{said}");
    let keyed = with(next, "b", |route| route.pii = vec![farthing_config::PersonalField::Query("email".into())]);
    let of_b = [farthing_types::RouteName::from("b")];
    assert_eq!(world.reload(keyed.clone()).unwrap().purged, of_b);
    // What was read of another field says nothing under this one.
    let targeted = with(keyed, "b", |route| route.targeted = Some(Vec::new()));
    assert_eq!(world.reload(targeted).unwrap().purged, of_b);
    assert!(world.is_hit("/a/x").await);
}

/// A head that was known by its bytes, and whose key is taken away, is refused at once.
#[tokio::test(start_paused = true)]
async fn a_key_that_is_taken_away_opens_nothing() {
    let (secret, key) = FarthingKey::generate("acme").unwrap();
    let mut keyed = with(config(), "a", |route| route.credential = CredentialMode::Swap);
    let provider = Arc::make_mut(&mut keyed.providers[0]);
    (provider.credential, provider.credential_place) = (Some(Secret::new("upstream secret")), farthing_config::CredentialPlace::Bearer);
    let mut without = keyed.clone();
    keyed.keys.push(key);
    let world = World::new(keyed.clone());
    let head = format!("GET /a/x HTTP/1.1\r\nhost: farthing.test\r\nauthorization: Bearer {}\r\n\r\n", secret.expose());
    let request = || Request::builder().uri("/a/x").header("authorization", format!("Bearer {}", secret.expose()));
    let state = &world.inside.state;
    assert_eq!(world.ask(request()).await.0, StatusCode::OK);
    assert!(matches!(state.recall_head(head.as_bytes()), Recalled::Unknown));
    let Recalled::Wanted(raw) = state.recall_head(head.as_bytes()) else { panic!("met twice") };
    let request_known = request().extension(raw);
    assert_eq!(world.ask(request_known).await.0, StatusCode::OK);
    assert!(matches!(state.recall_head(head.as_bytes()), Recalled::Answer(_)));
    // One that was on its way with the name from before remembers nothing for those after.
    without.keys.clear();
    world.reload(without).unwrap();
    assert!(!matches!(state.recall_head(head.as_bytes()), Recalled::Answer(_)));
    assert_eq!(world.ask(request().extension(raw)).await.0, StatusCode::UNAUTHORIZED);
    world.reload(keyed).unwrap();
    assert_eq!(world.ask(request().extension(raw)).await.0, StatusCode::OK);
    assert!(!matches!(state.recall_head(head.as_bytes()), Recalled::Answer(_)), "a name of another configuration");
}

/// Time goes on here: what budgets may spend is written down by a thread of its own.
#[tokio::test]
async fn limits_and_budgets_count_on() {
    let dir = tempfile::tempdir().unwrap();
    let limit = |count| LimitSpec {
        name: "l".into(),
        scope: LimitScope::Route,
        requests: Some(RateSpec { count, period: Span::from_secs(3_600), burst: count }),
        on_limit: [farthing_types::OnLimit::Refuse; 3],
        ..LimitSpec::default()
    };
    let budget = |calls: i64| BudgetSpec { name: "m".into(), limit: Money::from_nanos(PRICE.nanos() * calls), ..BudgetSpec::default() };
    let settings = |count, calls| {
        let mut config = Config { state_dir: dir.path().to_owned(), ..config() };
        (config.limits, config.budgets) = (vec![limit(count)], vec![budget(calls)]);
        config
    };
    let world = World::new(settings(3, 100));
    for n in 0..3 {
        assert_eq!(world.get(&format!("/a/{n}")).await.0, StatusCode::OK);
    }
    assert_eq!(world.get("/a/3").await.0, StatusCode::TOO_MANY_REQUESTS);
    world.reload(settings(6, 100)).unwrap();
    assert_eq!(world.get("/a/4").await.0, StatusCode::TOO_MANY_REQUESTS, "what was given is not given again");
    // Another route has a counter of its own, and the budget counts both.
    world.reload(settings(100, 4)).unwrap();
    assert_eq!(world.get("/b/0").await.0, StatusCode::OK);
    assert_eq!(world.get("/b/1").await.0, StatusCode::TOO_MANY_REQUESTS, "four calls are spent of four");
    world.reload(settings(100, 5)).unwrap();
    assert_eq!(world.get("/b/2").await.0, StatusCode::OK);
    let mut window = settings(100, 5);
    window.budgets[0].window = farthing_types::BudgetWindow::Day;
    assert_eq!(world.keys(window), ["budgets.m.window"]);
    let mut none = settings(100, 5);
    none.limits.clear();
    assert_eq!(world.keys(none), ["limits.l"]);
}

#[tokio::test(start_paused = true)]
async fn an_order_holds_on_routes_that_come_later() {
    let world = World::new(config());
    world.inside.bypass_on(Order { route: None, since: START, until: None, reason: "trouble".into() }).unwrap();
    let mut next = config();
    next.routes.push(route("c"));
    world.reload(next).unwrap();
    assert!(!world.is_hit("/c/x").await && !world.is_hit("/c/x").await && !world.is_hit("/a/x").await, "bypassed");
    assert!(world.get("/c/x").await.2.contains("bypassed"));
}

#[tokio::test(start_paused = true)]
async fn prices_are_those_of_the_configuration() {
    let world = World::new(config());
    let mut next = config();
    Arc::make_mut(&mut next.providers[0]).prices = Some(Prices::per_call(Money::from_nanos(5)));
    world.reload(next).unwrap();
    assert!(!world.is_hit("/a/x").await);
    assert_eq!(world.inside.totals().routes["a"].bill_usd, Money::from_nanos(5));
}

#[tokio::test(start_paused = true)]
async fn what_only_override_may_keep_goes_with_it() {
    let world = World::new(config());
    assert!(!world.is_hit("/a/x").await && world.is_hit("/a/x").await && !world.is_hit("/b/x").await);
    let purged = world.reload(with(config(), "a", |route| route.mode = Mode::Learned)).unwrap().purged;
    assert_eq!(purged.iter().map(|name| &**name).collect::<Vec<_>>(), ["a"]);
    assert!(!world.is_hit("/a/x").await && world.is_hit("/b/x").await);
    assert!(world.reload(config()).unwrap().purged.is_empty(), "the other way nothing is lost");
}

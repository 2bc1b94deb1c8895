//! D6: before a time of the day what is asked for most is fetched, unless it is fresh, within its money; nothing else is, and nothing without being told to.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests may fail the test")]

mod common;

use std::sync::Arc;

use farthing_config::{Config, CredentialPlace, Profile, TtlBy, WarmConfig};
use farthing_models::{Store, StoreOptions};
use farthing_proxy::{Inside, WarmBooks};
use farthing_types::{Body, Call, CallReport, Clock, Failure, Reply, Span, Time};
use farthing_upstream::{Origin, UpstreamSpec};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::{Request, StatusCode};
use http_body_util::BodyExt;

use common::{PRICE, START, Shop, changed};

/// The time of timers, so that both stand still and go on together.
struct Timeline(tokio::time::Instant);

impl Clock for Timeline {
    fn now(&self) -> Time {
        START + self.0.elapsed()
    }
}

struct Wire(Arc<Shop>);

impl Origin for Wire {
    fn fetch(&self, call: Call) -> BoxFuture<'static, Result<Reply, Failure>> {
        let (shop, target, body) = (self.0.clone(), call.target.clone(), call.body.as_full().unwrap());
        async move {
            let reply = shop.answer(target, body).await;
            call.sink.attempt(CallReport::only(&call, "wire", Some(StatusCode::OK)));
            Ok(reply)
        }
        .boxed()
    }
}

struct World {
    inside: Inside,
    shop: Arc<Shop>,
    clock: Arc<Timeline>,
    _models: tempfile::TempDir,
}

/// START is midnight; copies are fresh for ten minutes, and the peak is awaited at 06:30.
fn config(warm: Option<WarmConfig>) -> Config {
    let mut config = common::config();
    let mut provider = (*config.providers[0]).clone();
    // What may be billed is one attempt, for which no credential is needed.
    (provider.upstream.attempts, provider.credential_place) = (1, CredentialPlace::None);
    config.providers[0] = Arc::new(provider);
    changed(config, |route| {
        (route.shared, route.ttl, route.warm) = (true, TtlBy::Fixed(Span::from_secs(600)), warm);
    })
}

fn at_half_past_six(calls: i64) -> WarmConfig {
    WarmConfig { at: vec![390], zone: "UTC".into(), limit: PRICE.times(calls), keys: 100, rate: 1_000.0, within: Span::from_secs(600) }
}

impl World {
    fn new(config: Config) -> Self {
        let (shop, models) = (Arc::new(Shop::default()), tempfile::tempdir().unwrap());
        let wire = shop.clone();
        let client = move |_: &UpstreamSpec| -> Arc<dyn Origin> { Arc::new(Wire(wire.clone())) };
        let store = Store::open(models.path(), StoreOptions::default());
        let clock = Arc::new(Timeline(tokio::time::Instant::now()));
        let inside = Inside::timed_with_l2(&Arc::new(config), clock.clone(), (store, None), &client).unwrap();
        Self { inside, shop, clock, _models: models }
    }

    async fn ask(&self, path: &str) {
        self.ask_with(path, &[]).await;
    }

    async fn ask_with(&self, path: &str, fields: &[(&str, &str)]) {
        let mut request = Request::builder().uri(path).header("host", "farthing.test");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::empty()).unwrap();
        let (head, body) = self.inside.ask(request).await.into_parts();
        assert_eq!(head.status, StatusCode::OK);
        body.collect().await.unwrap();
    }

    /// Yesterday: much was asked for twenty times, some twice, some once.
    async fn a_morning(&self) {
        for _ in 0..20 {
            self.ask("/things/much").await;
            self.ask("/things/also?page=2").await;
        }
        for _ in 0..5 {
            self.ask("/things/some").await;
        }
        self.ask("/things/once").await;
    }

    /// The clock goes on, and is looked at every quarter of a minute; what was called meanwhile.
    async fn until(&self, minute: u64) -> Vec<String> {
        let before = self.shop.calls.lock().len();
        let now = self.clock.now().since(START).as_secs();
        for second in (now..minute * 60).step_by(15) {
            tokio::time::sleep(Span::from_secs(15.min(minute * 60 - second))).await;
            self.inside.warm_by_clock().await;
        }
        self.shop.calls.lock()[before..].to_vec()
    }

    fn books(&self) -> WarmBooks {
        self.inside.warmed_by_clock().remove("shop").unwrap_or_default()
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_asked_for_most_is_there_before_the_peak() {
    let world = World::new(config(Some(at_half_past_six(100))));
    world.a_morning().await;
    assert_eq!(world.until(389).await, Vec::<String>::new(), "not before its time");
    // It is fresh: whoever asked for it has paid.
    world.ask("/things/some").await;
    assert_eq!(
        world.until(391).await,
        ["/things/also?page=2", "/things/much"],
        "the hottest, once; not what is fresh, not what hardly anybody wants"
    );
    let books = world.books();
    assert_eq!((books.spent, books.left_out), (PRICE.times(2), 0));
    assert_eq!((books.outcomes["fetched"], books.outcomes["fresh"]), (2, 1));
    let before = world.shop.calls.lock().len();
    world.ask("/things/much").await;
    assert_eq!(world.shop.calls.lock().len(), before, "the peak finds it");
    assert!(world.until(720).await.is_empty(), "once a day");
}

#[tokio::test(start_paused = true)]
async fn it_spends_no_more_than_it_may_and_nothing_untold() {
    let world = World::new(config(Some(at_half_past_six(1))));
    world.a_morning().await;
    assert_eq!(world.until(391).await.len(), 1, "one call is paid for");
    assert_eq!(world.books().spent, PRICE);
    let off = World::new(config(None));
    off.a_morning().await;
    assert!(off.until(391).await.is_empty());
}

/// Where keys hold headers, what only its clients' headers lead to takes nobody's place.
#[tokio::test(start_paused = true)]
async fn keys_that_nobody_can_ask_for_by_the_path_are_left_out() {
    let warm = WarmConfig { keys: 1, ..at_half_past_six(100) };
    let world = World::new(changed(config(Some(warm)), |route| route.profile = Profile::Api));
    for _ in 0..20 {
        world.ask_with("/things/much", &[("accept", "text/plain")]).await;
    }
    for _ in 0..5 {
        world.ask("/things/some").await;
    }
    assert_eq!(world.until(391).await, ["/things/some"]);
}

//! The loop behind every source, driven by one that says what a test tells it.

use std::time::Duration;

use farthing_config::{EventRule, FilledBy, Provider, Purges, Route, SigningKey, Template, TtlBy};
use farthing_models::{Store, StoreOptions};
use farthing_types::{Body, Call, CallReport, Failure, Reply, Span, VirtualClock};
use farthing_upstream::{Origin, UpstreamSpec};
use futures_util::FutureExt;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::json;
use tokio::sync::mpsc;

use super::driver::Driver;
use super::*;
use crate::Inside;

const DOWN_AFTER: Duration = Duration::from_secs(5);

/// Answers each call with its number, fresh for an hour; fails while it is told to.
struct Counting(AtomicU64, Arc<AtomicBool>);

impl Origin for Counting {
    fn fetch(&self, call: Call) -> BoxFuture<'static, Result<Reply, Failure>> {
        let number = self.0.fetch_add(1, Ordering::SeqCst) + 1;
        let failure = self.1.load(Ordering::SeqCst).then_some(farthing_types::FailureKind::Connect);
        let mut headers = HeaderMap::new();
        headers.insert("cache-control", "max-age=3600".parse().unwrap());
        headers.insert("cache-tag", "all,product-7".parse().unwrap());
        async move {
            let status = failure.is_none().then_some(StatusCode::OK);
            call.sink.attempt(CallReport { failure, sent: false, ..CallReport::only(&call, "o", status) });
            match failure {
                None => Ok(Reply { status: StatusCode::OK, headers, body: Body::full(number.to_string()) }),
                Some(kind) => Err(Failure::sent(kind, "told to")),
            }
        }
        .boxed()
    }
}

struct Told {
    news: mpsc::UnboundedReceiver<News>,
    remembers: bool,
}

impl EventSource for Told {
    fn next(&mut self) -> BoxFuture<'_, News> {
        async {
            match self.news.recv().await {
                Some(news) => news,
                None => std::future::pending().await,
            }
        }
        .boxed()
    }
    fn remembers(&self) -> bool {
        self.remembers
    }
}

struct Stage {
    inside: Inside,
    clock: Arc<VirtualClock>,
    tell: mpsc::UnboundedSender<News>,
    stop: CancellationToken,
    fails: Arc<AtomicBool>,
    _dir: tempfile::TempDir,
}

fn config() -> Config {
    let mut config = Config::default();
    config.log.enabled = false;
    config.holdout.share = 0.0;
    let provider = Provider { name: "o".into(), base_url: "http://o.test".parse().unwrap(), ..Provider::default() };
    let route = Route {
        name: "o".into(),
        provider: "o".into(),
        ttl: TtlBy::Fixed(Span::from_secs(60)),
        events: Some("shop".into()),
        ..Route::default()
    };
    let template = |text: &str| Template::parse(text, FilledBy::Event).unwrap();
    let purges = Purges { tags: vec![template("product-{subject}"), template("shelf-{data:/shelf}")], ..Purges::default() };
    config.events = vec![EventsConfig {
        name: "shop".into(),
        from: EventsFrom::Webhook { keys: vec![SigningKey::new(*b"k")] },
        down_after: Some(DOWN_AFTER),
        soft_on_gap: false,
        rules: vec![EventRule { kind: "product.*".into(), purges }],
    }];
    config.providers.push(Arc::new(provider));
    config.routes.push(Arc::new(route));
    config
}

impl Stage {
    fn new(remembers: bool) -> Self {
        let (clock, fails) = (Arc::new(VirtualClock::new(Time::from_millis(1_700_000_000_000))), Arc::new(AtomicBool::new(false)));
        let dir = tempfile::tempdir().unwrap();
        let told = fails.clone();
        let client = move |_: &UpstreamSpec| -> Arc<dyn Origin> { Arc::new(Counting(AtomicU64::new(0), told.clone())) };
        let store = Store::open(dir.path().to_owned(), StoreOptions::default());
        let inside = Inside::new(&Arc::new(config()), clock.clone(), store, &client).unwrap();
        let (tell, news) = mpsc::unbounded_channel();
        let stop = CancellationToken::new();
        let driver = Driver::new(inside.state.clone(), inside.state.events[0].clone(), None);
        inside.state.tasks.spawn(driver.run(Box::new(Told { news, remembers }), stop.clone()));
        Self { inside, clock, tell, stop, fails, _dir: dir }
    }

    fn shared(&self) -> &SourceState {
        &self.inside.state.events[0]
    }

    async fn ask(&self) -> (StatusCode, String, String) {
        let request = Request::builder().uri("/7").header("host", "o.test").body(Body::empty()).unwrap();
        let (head, body) = self.inside.ask(request).await.into_parts();
        let text = body.collect().await.unwrap().to_bytes();
        (head.status, String::from_utf8(text.to_vec()).unwrap(), head.headers["cache-status"].to_str().unwrap().to_owned())
    }

    /// Tells the loop, and waits until it has obeyed.
    async fn says(&self, arrival: Arrival) -> u64 {
        let (obeyed, told) = oneshot::channel();
        self.tell.send(News::Came(Arrival { obeyed: Some(obeyed), ..arrival })).unwrap();
        told.await.unwrap()
    }

    /// Lets time go by for both clocks.
    async fn passes(&self, span: Duration) {
        self.clock.advance(span);
        tokio::time::advance(span).await;
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
    }

    async fn end(self) {
        self.stop.cancel();
        self.inside.close().await;
    }
}

fn event(kind: &str, subject: &str) -> Arrival {
    Arrival { events: vec![Event { kind: kind.into(), subject: Some(subject.into()), data: json!({}), at: None }], ..Arrival::default() }
}

#[tokio::test(start_paused = true)]
async fn an_event_purges_what_the_rules_say() {
    let stage = Stage::new(true);
    assert_eq!(stage.ask().await.1, "1");
    assert_eq!(stage.says(event("product.changed", "8")).await, 0);
    assert_eq!(stage.says(event("order.changed", "7")).await, 0);
    assert_eq!(stage.ask().await.1, "1");
    assert_eq!(stage.says(event("product.changed", "7")).await, 1);
    assert_eq!(stage.ask().await.1, "2");
    let counts = &stage.shared().counts;
    assert_eq!((counts.events.load(Ordering::Relaxed), counts.unmatched.load(Ordering::Relaxed)), (3, 1));
    assert_eq!(stage.inside.state.counters.unfilled.load(Ordering::Relaxed), 2, "no shelf was named");
    stage.end().await;
}

#[tokio::test(start_paused = true)]
async fn while_a_source_is_down_what_is_stored_is_kept_for_less_time() {
    let stage = Stage::new(true);
    stage.says(Arrival::default()).await;
    assert_eq!(stage.ask().await.1, "1");
    stage.passes(DOWN_AFTER - Duration::from_millis(1)).await;
    assert!(!stage.shared().is_down());
    stage.tell.send(News::Trouble("redis does not answer (late)".to_owned())).unwrap();
    stage.passes(Duration::from_millis(2)).await;
    assert!(stage.shared().is_down() && stage.shared().problem().unwrap().contains("does not answer (late): answers of o"));
    assert_eq!(stage.ask().await.1, "1", "younger than ttl_when_down");
    stage.passes(Duration::from_secs(6)).await;
    // Older than that, but the provider fails: the route allows what is old then.
    stage.fails.store(true, Ordering::SeqCst);
    let (status, text, told) = stage.ask().await;
    assert_eq!((status, text.as_str()), (StatusCode::OK, "1"), "{told}");
    stage.fails.store(false, Ordering::SeqCst);
    // The failed call speaks for a second.
    stage.passes(Duration::from_secs(1)).await;
    let (_, text, told) = stage.ask().await;
    assert!(text != "1" && told.contains("fwd=stale") && told.contains("detail=\"events-down\""), "{text} {told}");
    assert_eq!(stage.ask().await.1, text, "what is new is served for as long again");
    // It is back and lost nothing: everything is as it was.
    stage.says(Arrival::default()).await;
    assert!(!stage.shared().is_down() && stage.shared().problem().is_none());
    stage.passes(Duration::from_secs(3)).await;
    stage.says(Arrival::default()).await;
    stage.clock.advance(Duration::from_secs(600));
    assert_eq!(stage.ask().await.1, text);
    assert_eq!((stage.shared().counts.outages.load(Ordering::Relaxed), stage.shared().counts.gaps.load(Ordering::Relaxed)), (1, 0));
    stage.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_may_have_been_missed_purges_everything_of_the_sources_routes() {
    let stage = Stage::new(true);
    assert_eq!(stage.ask().await.1, "1");
    assert_eq!(stage.says(Arrival { missed: true, ..Arrival::default() }).await, 1);
    assert_eq!(stage.ask().await.1, "2");
    stage.end().await;

    // A source that does not repeat what nobody heard: an outage is a gap.
    let stage = Stage::new(false);
    stage.says(Arrival::default()).await;
    assert_eq!(stage.ask().await.1, "1");
    stage.passes(DOWN_AFTER + Duration::from_millis(1)).await;
    assert!(stage.shared().is_down());
    stage.says(Arrival::default()).await;
    assert!(!stage.shared().is_down());
    assert_eq!(stage.ask().await.1, "2");
    assert_eq!(stage.shared().counts.gaps.load(Ordering::Relaxed), 1);
    stage.end().await;
}

/// With an L2 there are answers from before the process: what it missed has to be obeyed first.
#[tokio::test(start_paused = true)]
async fn a_source_counts_as_down_until_all_that_waits_has_been_obeyed() {
    assert!(SourceState::new(&config().events[0], Vec::new(), true).is_down());
    let stage = Stage::new(true);
    stage.shared().down.store(true, Ordering::SeqCst);
    stage.says(Arrival { more: true, ..event("product.changed", "7") }).await;
    assert!(stage.shared().is_down());
    stage.says(event("product.changed", "8")).await;
    assert!(!stage.shared().is_down());
    assert_eq!(stage.shared().counts.outages.load(Ordering::Relaxed), 0);
    stage.end().await;
}

#[test]
fn subjects_are_taken_apart() {
    let event = Event { kind: "t".into(), subject: Some("shop 1/a&b".into()), data: json!({"id": 7, "tags": []}), at: None };
    let value = |field| (event.value(&field, false), event.value(&field, true));
    let both = |meant: &str, path: &str| (Some(meant.to_owned()), Some(path.to_owned()));
    assert_eq!(value(Field::Subject), both("shop 1/a&b", "shop%201/a%26b"));
    assert_eq!(value(Field::SubjectPart(2)), both("a&b", "a%26b"));
    assert_eq!(value(Field::SubjectPart(3)), (None, None));
    assert_eq!((value(Field::Data("/id".into())), value(Field::Data("/tags".into()))), (both("7", "7"), (None, None)));
}

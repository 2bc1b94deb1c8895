//! Requests that are known by the bytes of their heads are learned from as well.

use std::path::Path;
use std::sync::Arc;

use farthing_config::{Config, Mode, Prices, Provider, Route, TtlBy};
use farthing_models::{Store, StoreOptions};
use farthing_types::{Body, Call, CallReport, Clock, Failure, Money, Purpose, Reply, Span, Time, VirtualClock};
use farthing_upstream::{Origin, UpstreamSpec};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::header::DATE;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use parking_lot::Mutex;

use crate::Inside;
use crate::edge::{RawHead, Recalled};

const START: Time = Time::from_millis(1_767_225_600_000);

#[derive(Default)]
struct Wire(Arc<Mutex<Vec<Purpose>>>, Arc<VirtualClock>);

impl Origin for Wire {
    fn fetch(&self, call: Call) -> BoxFuture<'static, Result<Reply, Failure>> {
        self.0.lock().push(call.purpose);
        call.sink.attempt(CallReport::only(&call, "wire", Some(StatusCode::OK)));
        let mut headers = HeaderMap::new();
        headers.insert(DATE, httpdate::fmt_http_date(std::time::UNIX_EPOCH + self.1.now().since(Time::ZERO)).parse().unwrap());
        async move { Ok(Reply { status: StatusCode::OK, headers, body: Body::full("answer") }) }.boxed()
    }
}

fn config(dir: &Path) -> Config {
    let mut config = Config { state_dir: dir.to_owned(), ..Config::default() };
    (config.log.enabled, config.holdout.share) = (false, 0.0);
    let prices = Some(Prices::per_call(Money::from_nanos(1_000)));
    config.providers = vec![Arc::new(Provider { prices, ..Provider::default() })];
    config.routes = [("list", 86_000), ("detail", 60)]
        .map(|(name, ttl)| {
            let mut route = Route { name: name.into(), mode: Mode::Override, ttl: TtlBy::Fixed(Span::from_secs(ttl)), ..Route::default() };
            route.matcher.path_prefix = format!("/{name}").into();
            (route.price_wait, route.prefetch_budget) = (Money::from_nanos(1_000), 10.0);
            Arc::new(route)
        })
        .into();
    config
}

async fn ask(inside: &Inside, path: &str, raw: Option<RawHead>) {
    let mut request = Request::builder().uri(path).header("host", "h").body(Body::empty()).unwrap();
    raw.map(|raw| request.extensions_mut().insert(raw));
    inside.ask(request).await.into_body().collect().await.unwrap();
    inside.settle().await;
}

#[tokio::test(start_paused = true)]
async fn answers_without_parsing_are_learned_from() {
    let dir = tempfile::tempdir().unwrap();
    let (clock, purposes) = (Arc::new(VirtualClock::new(START)), Arc::<Mutex<Vec<Purpose>>>::default());
    let (wire, time) = (purposes.clone(), clock.clone());
    let client = move |_: &UpstreamSpec| -> Arc<dyn Origin> { Arc::new(Wire(wire.clone(), time.clone())) };
    let store = Store::open(dir.path().join("models"), StoreOptions::default());
    let inside = Inside::new(&Arc::new(config(dir.path())), clock.clone(), store, &client).unwrap();
    let head = b"GET /list HTTP/1.1\r\nhost: h\r\n\r\n";
    assert!(matches!(inside.state.recall_head(head), Recalled::Unknown));
    let Recalled::Wanted(raw) = inside.state.recall_head(head) else { panic!("met twice") };
    ask(&inside, "/list", Some(raw)).await;
    ask(&inside, "/list", Some(raw)).await;
    for _ in 0..60 {
        clock.advance(Span::from_secs(300));
        assert!(matches!(inside.state.recall_head(head), Recalled::Answer(_)), "never the usual way");
        inside.settle().await;
        clock.advance(Span::from_secs(2));
        ask(&inside, "/detail", None).await;
    }
    let ahead = purposes.lock().iter().filter(|purpose| **purpose == Purpose::Prefetch).count();
    assert!(ahead > 20, "{:?}", inside.prefetch());
}

//! Lists of ids in the URL, over a provider of users.

use std::sync::Arc;

use farthing_config::{BatchConfig, BatchFormat, Config, IdListConfig, Mode, Prices, Provider, Route, TtlBy};
use farthing_models::{Store, StoreOptions};
use farthing_proxy::Inside;
use farthing_types::{Body, Call, CallReport, Failure, Money, Reply, Span, VirtualClock};
use farthing_upstream::{Origin, UpstreamSpec};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use http_body_util::BodyExt;
use parking_lot::Mutex;

use crate::world::START;

/// Users 1 to 9; the list has them in the order of their ids, as databases do.
#[derive(Default)]
struct Users(Mutex<Vec<String>>);

struct Wire(Arc<Users>);

fn user(id: u32) -> String {
    format!("{{\"id\":{id},\"name\":\"user {id}\"}}")
}

impl Origin for Wire {
    fn fetch(&self, call: Call) -> BoxFuture<'static, Result<Reply, Failure>> {
        let target = call.target.to_string();
        self.0.0.lock().push(target.clone());
        let known = |id: &u32| (1..10).contains(id);
        let answer = if let Some(ids) = target.strip_prefix("/users?ids=") {
            let mut ids: Vec<u32> = ids.split(',').map(|id| id.parse().unwrap()).filter(known).collect();
            ids.sort_unstable();
            Some(format!("{{\"users\":[{}]}}", ids.into_iter().map(user).collect::<Vec<_>>().join(",")))
        } else {
            target.strip_prefix("/users/").and_then(|id| id.parse().ok()).filter(known).map(user)
        };
        let status = if answer.is_some() { StatusCode::OK } else { StatusCode::NOT_FOUND };
        call.sink.attempt(CallReport::only(&call, "wire", Some(status)));
        let headers = HeaderMap::from_iter([("content-type".parse().unwrap(), HeaderValue::from_static("application/json"))]);
        async move { Ok(Reply { status, headers, body: Body::full(answer.unwrap_or_else(|| "{}".to_owned())) }) }.boxed()
    }
}

fn inside(dir: &std::path::Path, users: &Arc<Users>) -> Inside {
    let mut config = Config { state_dir: dir.to_owned(), ..Config::default() };
    config.log.dir = dir.join("logs");
    config.holdout.share = 0.0;
    let mut provider = Provider { name: "users".into(), base_url: "http://users.test".parse().unwrap(), ..Provider::default() };
    provider.prices = Some(Prices::per_call(Money::from_nanos(1_000)));
    let mut route = Route { name: "users".into(), provider: "users".into(), mode: Mode::Override, ..Route::default() };
    (route.ttl, route.deadline) = (TtlBy::Fixed(Span::from_secs(60)), Span::from_secs(10));
    let ids = IdListConfig {
        single: ("/users/".into(), "".into()),
        list: ("/users?ids=".into(), "".into()),
        separator: ",".into(),
        items: "/users".into(),
        id: "/id".into(),
        missing: "{}".into(),
        answer: ("{\"users\":[".into(), "]}".into()),
    };
    route.batch = Some(BatchConfig { split: true, ..BatchConfig::new(BatchFormat::IdList(ids)) });
    config.providers.push(Arc::new(provider));
    config.routes.push(Arc::new(route));
    let wire = users.clone();
    let client = move |_: &UpstreamSpec| -> Arc<dyn Origin> { Arc::new(Wire(wire.clone())) };
    let store = Store::open(dir.join("models"), StoreOptions::default());
    Inside::new(&Arc::new(config), Arc::new(VirtualClock::new(START)), store, &client).unwrap()
}

async fn get(inside: &Inside, path: &str) -> (StatusCode, Option<String>, String) {
    let request = Request::builder().uri(path).header("host", "farthing.test").body(Body::empty()).unwrap();
    let (head, body) = inside.ask(request).await.into_parts();
    let items = head.headers.get("x-farthing-items").map(|items| items.to_str().unwrap().to_owned());
    (head.status, items, String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap())
}

#[tokio::test(start_paused = true)]
async fn lists_of_ids_share_copies_with_single_calls_and_leave_out_what_there_is_not() {
    let (dir, users) = (tempfile::tempdir().unwrap(), Arc::new(Users::default()));
    let inside = inside(dir.path(), &users);
    get(&inside, "/users/3").await;
    let (status, items, body) = get(&inside, "/users?ids=5,3,12,1").await;
    assert_eq!((status, &*body), (StatusCode::OK, &*format!("{{\"users\":[{},{},{}]}}", user(5), user(3), user(1))));
    assert_eq!(items.as_deref(), Some("known=1, joined=0, called=3, repeated=0, stale=0"));
    // Each is a copy of its own now.
    assert_eq!(get(&inside, "/users/1").await.2, user(1));
    assert_eq!(get(&inside, "/users?ids=1,5").await.2, format!("{{\"users\":[{},{}]}}", user(1), user(5)));
    assert_eq!(*users.0.lock(), ["/users/3", "/users?ids=5,12,1"]);
    // One that is left goes alone, and may not be there either.
    assert_eq!(get(&inside, "/users?ids=1,77").await.2, format!("{{\"users\":[{}]}}", user(1)));
    assert_eq!(users.0.lock().last().unwrap(), "/users/77");
    // What could be read in more than one way is not touched.
    let (_, items, _) = get(&inside, "/users?ids=1,2&full=1").await;
    assert_eq!(items, None);
    inside.settle().await;
    assert_eq!(inside.totals().total.bill_usd, Money::from_nanos(1_000 * 2));
}

//! D2, S1: what a client's `Connection` names ends at Farthing, and no entry that others are answered from is another one for it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests may fail the test")]

#[path = "common/configs.rs"]
mod common;

use std::sync::Arc;

use common::{START, changed, config};
use farthing_config::{Config, Mode, Profile};
use farthing_models::{Store, StoreOptions};
use farthing_proxy::Inside;
use farthing_types::{Body, Call, CallReport, Clock, Failure, Reply, Time, VirtualClock};
use farthing_upstream::{Origin, UpstreamSpec};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::header::DATE;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;

/// Answers in the language it was asked for, to the principal that it was shown, and says so.
struct Shop(Arc<VirtualClock>);

impl Origin for Shop {
    fn fetch(&self, call: Call) -> BoxFuture<'static, Result<Reply, Failure>> {
        call.sink.attempt(CallReport::only(&call, "shop", Some(StatusCode::OK)));
        let asked = |name: &str| call.headers.get(name).map_or("none", |value| value.to_str().unwrap()).to_owned();
        let text = format!("{} {} {}", asked("accept-language"), asked("authorization"), asked("cookie"));
        let date = httpdate::fmt_http_date(std::time::UNIX_EPOCH + self.0.now().since(Time::ZERO));
        let mut headers = HeaderMap::from_iter([(DATE, date.parse().unwrap())]);
        headers.insert("cache-control", "max-age=60".parse().unwrap());
        headers.insert("vary", "accept-language".parse().unwrap());
        std::future::ready(Ok(Reply { status: StatusCode::OK, headers, body: Body::full(text) })).boxed()
    }
}

fn inside(config: Config) -> Inside {
    let clock = Arc::new(VirtualClock::new(START));
    let own = clock.clone();
    let client = move |_: &UpstreamSpec| -> Arc<dyn Origin> { Arc::new(Shop(own.clone())) };
    let store = Store::open(std::path::PathBuf::from("none"), StoreOptions::default());
    Inside::new(&Arc::new(config), clock, store, &client).unwrap()
}

async fn ask(inside: &Inside, fields: &[(&str, &str)]) -> String {
    let request =
        fields.iter().fold(Request::get("/page").header("host", "f.test"), |request, (name, value)| request.header(*name, *value));
    let body = inside.ask(request.body(Body::empty()).unwrap()).await.into_body();
    String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

#[tokio::test]
async fn a_field_that_connection_names_makes_no_entry_for_those_who_send_it_on() {
    for (mode, profile) in [(Mode::Respect, Profile::Http), (Mode::Override, Profile::Http), (Mode::Override, Profile::Api)] {
        let inside = inside(changed(config(), |route| (route.mode, route.profile, route.shared) = (mode, profile, true)));
        let poison = [("connection", "close, Accept-Language"), ("accept-language", "de")];
        assert_eq!(ask(&inside, &poison).await, "none none none", "{mode:?}");
        assert_eq!(ask(&inside, &[("accept-language", "de")]).await, "de none none", "{mode:?}");
        assert_eq!(ask(&inside, &[]).await, "none none none", "{mode:?}");
        assert_eq!(inside.cache_stats().stored, 2, "{mode:?}: who sends none on has what came to none");
    }
}

/// A credential that ends here is nobody's: neither is its sender told apart by it, nor the provider.
#[tokio::test]
async fn a_credential_that_connection_names_is_none() {
    let inside = inside(changed(config(), |route| route.mode = Mode::Respect));
    let hidden = [("connection", "authorization, cookie"), ("authorization", "Bearer a"), ("cookie", "a=b")];
    assert_eq!(ask(&inside, &hidden).await, "none none none");
    assert_eq!(ask(&inside, &[("authorization", "Bearer a")]).await, "none Bearer a none");
    assert_eq!(ask(&inside, &[]).await, "none none none");
    // What is for Farthing alone may be named so, and is heard.
    let own = [("connection", "x-farthing-cache"), ("x-farthing-cache", "off")];
    let found = inside.cache_stats().found;
    assert_eq!(ask(&inside, &own).await, "none none none");
    assert_eq!(inside.cache_stats().found, found);
}

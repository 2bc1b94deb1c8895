//! A provider of embeddings that bills tokens, behind a proxy on a clock that stands still.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use farthing_cache::l2::Store as L2Store;
use farthing_config::{BatchConfig, BatchFormat, Config, Mode, Prices, Provider, Route, TokenRates, TtlBy};
use farthing_contract::log::{Row, Value};
use farthing_ledger::read;
use farthing_models::{Store, StoreOptions};
use farthing_proxy::{Inside, ItemSource, ListStats};
use farthing_types::{Body, Call, CallReport, Failure, FailureKind, Money, Reply, Span, Time, VirtualClock};
use farthing_upstream::{Origin, UpstreamSpec};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use http_body_util::BodyExt;
use parking_lot::Mutex;
use serde_json::{Value as Json, json};

pub const START: Time = Time::from_millis(1_764_201_600_000);
/// What a token costs, in nano-dollars.
pub const TOKEN: i64 = 7;

/// What the provider does with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Answers.
    Well,
    /// Answers in the opposite order of the indexes.
    Reversed,
    /// Refuses the request, as one that it cannot take; bills nothing.
    Refuse(u16),
    /// Breaks off before the head.
    Break,
    /// Answers without one of the embeddings; bills all the same.
    Short,
    /// Answers in the name of another model.
    Renamed,
}

/// What reached the provider, what it does next, and what it bills.
#[derive(Default)]
pub struct Provided {
    pub calls: Mutex<Vec<Vec<String>>>,
    pub acts: Mutex<VecDeque<Act>>,
    pub bill: Mutex<i64>,
}

pub struct Wire {
    provided: Arc<Provided>,
    takes: Span,
}

/// The tokens that the provider counts for an input.
pub fn tokens(input: &str) -> i64 {
    input.len() as i64 + 1
}

/// What the provider says of an input.
pub fn vector(input: &str) -> Json {
    json!([input.len(), input])
}

fn inputs(body: &Json) -> Vec<String> {
    match &body["input"] {
        Json::Array(all) => all.iter().map(|one| one.as_str().unwrap().to_owned()).collect(),
        one => vec![one.as_str().unwrap().to_owned()],
    }
}

impl Origin for Wire {
    fn fetch(&self, call: Call) -> BoxFuture<'static, Result<Reply, Failure>> {
        let (provided, takes) = (self.provided.clone(), self.takes);
        async move {
            let (report, body) = (CallReport::only(&call, "wire", None), call.body.collect().await.unwrap().to_bytes());
            let body: Json = serde_json::from_slice(&body).unwrap();
            let inputs = inputs(&body);
            provided.calls.lock().push(inputs.clone());
            let act = provided.acts.lock().pop_front().unwrap_or(Act::Well);
            tokio::time::sleep(takes).await;
            if act == Act::Break {
                call.sink.attempt(CallReport { failure: Some(FailureKind::Broken), ..report });
                return Err(Failure::sent(FailureKind::Broken, "the connection broke"));
            }
            let used: i64 = inputs.iter().map(|input| tokens(input)).sum();
            let (status, answer) = match act {
                Act::Refuse(status) => (status, json!({"error": {"message": "no"}})),
                _ => (200, answer(&inputs, used, act)),
            };
            if status == 200 {
                *provided.bill.lock() += used * TOKEN;
            }
            let status = StatusCode::from_u16(status).unwrap();
            call.sink.attempt(CallReport { status: Some(status), ..report });
            let mut headers = HeaderMap::new();
            headers.insert("content-type", HeaderValue::from_static("application/json"));
            headers.insert("surrogate-key", HeaderValue::from_static("vectors"));
            headers.insert("x-ratelimit-remaining-requests", HeaderValue::from_static("9"));
            Ok(Reply { status, headers, body: Body::full(answer.to_string()) })
        }
        .boxed()
    }
}

fn answer(inputs: &[String], used: i64, act: Act) -> Json {
    let one = |(index, input): (usize, &String)| json!({"object": "embedding", "index": index, "embedding": vector(input)});
    let mut data: Vec<Json> = inputs.iter().enumerate().map(one).collect();
    match act {
        Act::Reversed => data.reverse(),
        Act::Short => _ = data.pop(),
        _ => {}
    }
    let model = if act == Act::Renamed { "other" } else { "m" };
    json!({"object": "list", "data": data, "model": model, "usage": {"prompt_tokens": used, "total_tokens": used}})
}

pub struct World {
    pub inside: Inside,
    pub provided: Arc<Provided>,
    pub clock: Arc<VirtualClock>,
    pub dir: tempfile::TempDir,
}

/// What a client gets.
#[derive(Clone, Debug)]
pub struct Got {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Json,
}

impl Got {
    /// Where its items came from: known, joined, called, repeated, stale.
    pub fn items(&self) -> Option<[usize; 5]> {
        let words = self.headers.get("x-farthing-items")?.to_str().unwrap().split(", ");
        let counts: Vec<usize> = words.map(|word| word.split_once('=').unwrap().1.parse().unwrap()).collect();
        Some(counts.try_into().unwrap())
    }

    /// Whatever it has is of these inputs; where it was answered item by item, it has all of them in their order.
    pub fn has_nothing_of_others(&self, inputs: &[&str]) {
        if self.status != StatusCode::OK {
            return;
        }
        if self.items().is_some() {
            return self.is_of(inputs);
        }
        for one in self.body["data"].as_array().unwrap() {
            assert_eq!(one["embedding"], vector(inputs[one["index"].as_u64().unwrap() as usize]));
        }
    }

    /// Its embeddings are those of these inputs, under their indexes; in their order, where it was answered item by item.
    pub fn is_of(&self, inputs: &[&str]) {
        assert_eq!(self.status, StatusCode::OK, "{}", self.body);
        let data = self.body["data"].as_array().unwrap();
        assert_eq!(data.len(), inputs.len());
        for (place, one) in data.iter().enumerate() {
            let index = one["index"].as_u64().unwrap() as usize;
            assert!(self.items().is_none() || index == place);
            assert_eq!(one["embedding"], vector(inputs[index]));
        }
    }
}

fn config(dir: &Path) -> Config {
    let mut config = Config { state_dir: dir.to_owned(), ..Config::default() };
    config.log.dir = dir.join("logs");
    config.log.row_rate = u32::MAX;
    config.holdout.share = 0.0;
    let mut provider = Provider { name: "ai".into(), base_url: "http://ai.test".parse().unwrap(), ..Provider::default() };
    let rates = TokenRates { input: Some("0.000000007".parse().unwrap()), ..TokenRates::default() };
    provider.prices = Some(Prices { targets: [("m".to_owned(), rates.clone()), ("other".to_owned(), rates)].into(), ..Prices::default() });
    provider.upstream.attempts = 1;
    let mut route = Route { name: "ai".into(), provider: "ai".into(), mode: Mode::Override, idempotent: true, ..Route::default() };
    (route.ttl, route.deadline) = (TtlBy::Fixed(Span::from_secs(60)), Span::from_secs(10));
    route.batch = Some(BatchConfig { split: true, min_rate: 1e6, max_size: 100, ..BatchConfig::new(BatchFormat::Embeddings) });
    config.providers.push(Arc::new(provider));
    config.routes.push(Arc::new(route));
    config
}

impl World {
    pub fn new(change: impl FnOnce(&mut Config)) -> Self {
        Self::over(change, None)
    }

    /// Above a tier outside of memory.
    pub fn over(change: impl FnOnce(&mut Config), l2: Option<Arc<dyn L2Store>>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = config(dir.path());
        change(&mut config);
        let provided = Arc::new(Provided::default());
        let wire = provided.clone();
        let client =
            move |_: &UpstreamSpec| -> Arc<dyn Origin> { Arc::new(Wire { provided: wire.clone(), takes: Span::from_millis(100) }) };
        let store = Store::open(dir.path().join("models"), StoreOptions::default());
        let clock = Arc::new(VirtualClock::new(START));
        let inside = Inside::with_l2(&Arc::new(config), clock.clone(), (store, l2), &client).unwrap();
        Self { inside, provided, clock, dir }
    }

    /// Asks for an input, or for a list of them.
    pub async fn ask(&self, input: impl Into<Json>, fields: &[(&str, &str)]) -> Got {
        let body = json!({"input": input.into(), "model": "m"}).to_string();
        let mut builder = Request::builder().method(Method::POST).uri("/v1/embeddings").header("host", "farthing.test");
        builder = builder.header("content-type", "application/json").header("content-length", body.len());
        for (name, value) in fields {
            builder = builder.header(*name, *value);
        }
        let (head, body) = self.inside.ask(builder.body(Body::full(body)).unwrap()).await.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Got { status: head.status, headers: head.headers, body: serde_json::from_slice(&body).unwrap_or_default() }
    }

    pub async fn list(&self, inputs: &[&str]) -> Got {
        self.ask(inputs, &[]).await
    }

    /// Each call's inputs, in the order in which the calls came.
    pub fn calls(&self) -> Vec<Vec<String>> {
        self.provided.calls.lock().clone()
    }

    /// What the provider does with the next calls.
    pub fn next(&self, acts: &[Act]) {
        self.provided.acts.lock().extend(acts);
    }

    pub fn stats(&self) -> Arc<ListStats> {
        self.inside.batches().remove(0).lists.unwrap()
    }

    pub fn items(&self) -> [u64; 5] {
        let stats = self.stats();
        std::array::from_fn(|index| stats.items(ItemSource::ALL[index]))
    }

    /// The provider's bill is the ledger's, once nothing is under way.
    pub async fn is_billed(&self) -> i64 {
        self.inside.settle().await;
        let totals = self.inside.totals();
        let bill = *self.provided.bill.lock();
        assert_eq!((totals.total.bill_usd, totals.total.unpriced), (Money::from_nanos(bill), 0));
        bill
    }
}

pub fn rows<R: Row>(dir: &Path, columns: &[&str], mut each: impl FnMut(&[Value<'_>])) {
    read::rows(&dir.join("logs"), R::TABLE, columns, &mut |cells| {
        each(cells);
        ControlFlow::Continue(())
    })
    .unwrap();
}

pub fn names(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|n| format!("text {n}")).collect()
}

pub fn refs(names: &[String]) -> Vec<&str> {
    names.iter().map(String::as_str).collect()
}

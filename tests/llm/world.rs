//! A proxy in virtual time, and a provider behind it that keeps prompts as Anthropic documents it and counts in its own arithmetic.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use farthing_config::{Config, Dialect, Prices, PromptCacheConfig, Provider, Route};
use farthing_contract::log::{CallRow, Request as RequestRow, Row, Value};
use farthing_ledger::read;
use farthing_models::{Store, StoreOptions};
use farthing_proxy::Inside;
use farthing_sim::messages::MessagesRequest;
use farthing_sim::prompts::{PromptKeeper, PromptPrices, PromptUsage};
use farthing_types::{Body, Call, CallReport, Clock, Failure, Money, Rate, Reply, Span, Time, TokenRates, VirtualClock};
use farthing_upstream::{Origin, UpstreamSpec};
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, stream};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use parking_lot::Mutex;
use serde_json::Value as Json;

/// 2026-11-10 00:00 UTC.
pub const START: Time = Time::from_millis(1_794_268_800_000);

fn rate(usd: &str) -> Rate {
    usd.parse().unwrap()
}

/// Anthropic's proportions.
pub fn anthropic() -> PromptPrices {
    PromptPrices {
        input: rate("0.000003"),
        read: rate("0.0000003"),
        write: rate("0.00000375"),
        write_1h: rate("0.000006"),
        output: rate("0.000015"),
    }
}

/// What the provider has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    pub calls: u64,
    pub billed: Money,
    /// What the same calls would have cost with all input plain.
    pub plain: Money,
    pub read: u64,
    pub written: u64,
    pub refused: u64,
}

/// How the provider behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Temper {
    Usual,
    /// Takes money for writes, and never has what it has written.
    Forgetful,
    /// Answers 503.
    Overloaded,
    /// Knows no marks: 400.
    Strict,
    /// Takes a second to its head.
    Slow,
}

/// See the module.
pub struct Vendor {
    prices: PromptPrices,
    keeper: Mutex<PromptKeeper>,
    pub counted: Mutex<Counted>,
    pub temper: Mutex<Temper>,
    pub bodies: Mutex<Vec<Bytes>>,
    clock: Arc<VirtualClock>,
}

struct Endpoint(Arc<Vendor>);

impl Origin for Endpoint {
    fn fetch(&self, call: Call) -> BoxFuture<'static, Result<Reply, Failure>> {
        let vendor = self.0.clone();
        async move {
            if *vendor.temper.lock() == Temper::Slow {
                tokio::time::sleep(Span::from_secs(1)).await;
            }
            Ok(vendor.answer(&call))
        }
        .boxed()
    }
}

impl Vendor {
    fn answer(&self, call: &Call) -> Reply {
        let body = call.body.as_full().unwrap();
        let report = |status| call.sink.attempt(CallReport::only(call, "vendor", Some(status)));
        if *self.temper.lock() == Temper::Overloaded {
            report(StatusCode::SERVICE_UNAVAILABLE);
            return reply(StatusCode::SERVICE_UNAVAILABLE, "application/json", Body::full("{\"type\":\"error\"}"));
        }
        self.bodies.lock().push(body.clone());
        if *self.temper.lock() == Temper::Strict && String::from_utf8_lossy(&body).contains("cache_control") {
            self.counted.lock().refused += 1;
            report(StatusCode::BAD_REQUEST);
            return reply(StatusCode::BAD_REQUEST, "application/json", Body::full("{\"type\":\"error\"}"));
        }
        let asked = match MessagesRequest::parse(&body) {
            Ok(asked) => asked,
            Err(why) => {
                self.counted.lock().refused += 1;
                report(StatusCode::BAD_REQUEST);
                return reply(StatusCode::BAD_REQUEST, "application/json", Body::full(why));
            }
        };
        let who = call.headers.get("x-api-key").map(|key| key.to_str().unwrap().to_owned()).unwrap_or_default();
        let mut usage = self.keeper.lock().call(self.clock.now(), asked.owner(&who), asked.blocks());
        if *self.temper.lock() == Temper::Forgetful {
            (usage.write, usage.read) = (usage.write + usage.read, 0);
        }
        // A test says how long its answers are.
        let told: Json = serde_json::from_slice(&body).unwrap();
        let output = if asked.stream { asked.output() } else { told["metadata"]["output"].as_u64().unwrap_or(10) };
        self.count(&usage, output);
        report(StatusCode::OK);
        if asked.stream {
            let frames = asked.events(1, &usage).into_iter().map(|event| Ok(Frame::data(event)));
            return reply(StatusCode::OK, "text/event-stream", Body::stream(StreamBody::new(stream::iter(frames))));
        }
        let PromptUsage { input, read, write, write_1h } = usage;
        let body = serde_json::json!({
            "model": told["model"], "type": "message", "content": [{"type": "text", "text": "yes"}],
            "usage": {
                "input_tokens": input, "cache_read_input_tokens": read, "cache_creation_input_tokens": write + write_1h,
                "cache_creation": {"ephemeral_5m_input_tokens": write, "ephemeral_1h_input_tokens": write_1h}, "output_tokens": output,
            },
        });
        reply(StatusCode::OK, "application/json", Body::full(body.to_string()))
    }

    fn count(&self, usage: &PromptUsage, output: u64) {
        let PromptUsage { input, read, write, write_1h } = *usage;
        let mut counted = self.counted.lock();
        counted.calls += 1;
        counted.billed += self.prices.cost(usage, output);
        counted.plain += self.prices.cost(&PromptUsage { input: input + read + write + write_1h, ..PromptUsage::default() }, output);
        counted.read += read;
        counted.written += write + write_1h;
    }

    pub fn take(&self) -> Counted {
        *self.counted.lock()
    }
}

fn reply(status: StatusCode, media: &'static str, body: Body) -> Reply {
    let headers = HeaderMap::from_iter([(http::header::CONTENT_TYPE, HeaderValue::from_static(media))]);
    Reply { status, headers, body }
}

/// See the module.
pub struct World {
    pub inside: Inside,
    pub vendor: Arc<Vendor>,
    pub clock: Arc<VirtualClock>,
    dir: tempfile::TempDir,
}

impl World {
    /// With marks as `marks` says, and a route that a test changes.
    pub fn new(prices: PromptPrices, marks: Option<PromptCacheConfig>, change: impl FnOnce(&mut Config, &mut Route)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        (config.log.dir, config.log.row_rate, config.log.queue_bytes) = (dir.path().join("logs"), u32::MAX, 4_000_000_000);
        config.holdout.share = 0.0;
        let PromptPrices { input, read, write, write_1h, output } = prices;
        let rates = TokenRates {
            input: Some(input),
            cached_input: Some(read),
            cache_write: Some(write),
            cache_write_1h: Some(write_1h),
            output: Some(output),
            ..TokenRates::default()
        };
        config.providers.push(Arc::new(Provider {
            name: "claude".into(),
            base_url: "http://claude.test".parse().unwrap(),
            dialect: Dialect::Anthropic,
            prices: Some(Prices { targets: [("m".to_owned(), rates)].into(), ..Prices::default() }),
            ..Provider::default()
        }));
        let mut route = Route { name: "claude".into(), provider: "claude".into(), prompt_cache: marks, cache: false, ..Route::default() };
        change(&mut config, &mut route);
        config.routes.push(Arc::new(route));
        let clock = Arc::new(VirtualClock::new(START));
        let min_tokens = marks.map_or(1_024, |marks| u64::from(marks.min_tokens));
        let vendor = Arc::new(Vendor {
            prices,
            keeper: Mutex::new(PromptKeeper::new(min_tokens)),
            counted: Mutex::default(),
            temper: Mutex::new(Temper::Usual),
            bodies: Mutex::default(),
            clock: clock.clone(),
        });
        let origin = vendor.clone();
        let client = move |_: &UpstreamSpec| -> Arc<dyn Origin> { Arc::new(Endpoint(origin.clone())) };
        let store = Store::open(dir.path().join("models"), StoreOptions::default());
        let inside = Inside::new(&Arc::new(config), clock.clone(), store, &client).unwrap();
        Self { inside, vendor, clock, dir }
    }

    /// Asks, and answers status and body.
    pub async fn ask(&self, who: &str, body: &Json) -> (StatusCode, Bytes) {
        self.send(who, &[], Bytes::from(body.to_string())).await
    }

    pub async fn send(&self, who: &str, headers: &[(&'static str, &'static str)], body: Bytes) -> (StatusCode, Bytes) {
        let mut builder = Request::builder().method(Method::POST).uri("/v1/messages").header("host", "f.test").header("x-api-key", who);
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        let answer = self.inside.ask(builder.header("content-type", "application/json").body(Body::full(body)).unwrap()).await;
        let (head, body) = answer.into_parts();
        (head.status, body.collect().await.map(|body| body.to_bytes()).unwrap_or_default())
    }

    pub fn wait(&self, seconds: u64) {
        self.clock.advance(Span::from_secs(seconds));
    }

    /// The last body that the provider got.
    pub fn sent(&self) -> Json {
        serde_json::from_slice(self.vendor.bodies.lock().last().unwrap()).unwrap()
    }

    /// Ends, and reads what the log says.
    pub async fn end(self) -> (Counted, Logged) {
        let Self { inside, vendor, dir, .. } = self;
        inside.settle().await;
        let saved = inside.totals().routes.get("claude").and_then(|route| route.saved.get("prompt_cache")).map(|tally| tally.usd);
        assert_eq!(inside.close().await.unwrap().dropped(), 0);
        let mut logged = Logged::read(&dir.path().join("logs"));
        logged.totals = saved.unwrap_or_default();
        (vendor.take(), logged)
    }
}

/// Sums of the log's requests, and of those whose cause of saving is one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Requests {
    pub base: Money,
    pub cost: Money,
    /// `base - cost` of those with the cause.
    pub saved: Money,
    /// How many have it.
    pub caused: u64,
}

impl Requests {
    pub fn read(dir: &Path, by: &str) -> Self {
        let mut sums = Self::default();
        read::rows(dir, RequestRow::TABLE, &["base_nanousd", "cost_nanousd", "saved_by"], &mut |cells| {
            let [Value::I64(base), Value::I64(cost), cause] = cells else { panic!("an unpriced request: {cells:?}") };
            sums.base += Money::from_nanos(*base);
            sums.cost += Money::from_nanos(*cost);
            if matches!(cause, Value::Text(cause) if *cause == by) {
                sums.saved += Money::from_nanos(base - cost);
                sums.caused += 1;
            }
            ControlFlow::Continue(())
        })
        .unwrap();
        sums
    }
}

/// Sums of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Logged {
    pub bill: Money,
    pub cost: Money,
    pub base: Money,
    /// `base - cost` of the requests whose cause is the provider's prompt cache.
    pub saved: Money,
    /// The same as the running totals have it.
    pub totals: Money,
    pub read: u64,
    pub written: u64,
    /// Decisions, in the order of the calls.
    pub decisions: Vec<String>,
}

impl Logged {
    fn read(dir: &Path) -> Self {
        let mut logged = Self::default();
        let columns =
            ["cost_nanousd", "tokens_cached_input", "tokens_cache_write", "tokens_cache_write_1h", "prompt_cache", "unmarked_nanousd"];
        read::rows(dir, CallRow::TABLE, &columns, &mut |cells| {
            let [Value::I64(cost), read, write, hour, decision, unmarked] = cells else { panic!("an unpriced call: {cells:?}") };
            let count = |value: &Value<'_>| if let Value::I64(n) = value { u64::try_from(*n).unwrap() } else { 0 };
            logged.bill += Money::from_nanos(*cost);
            logged.read += count(read);
            logged.written += count(write) + count(hour);
            let decision = if let Value::Text(decision) = decision { (*decision).to_owned() } else { "none".to_owned() };
            assert!(decision != "marked" || matches!(unmarked, Value::I64(_)) || *cost == 0, "{cells:?}");
            logged.decisions.push(decision);
            ControlFlow::Continue(())
        })
        .unwrap();
        let Requests { base, cost, saved, .. } = Requests::read(dir, "prompt_cache");
        Self { base, cost, saved, ..logged }
    }

    /// What provider and ledger must agree on, to the nano-dollar and to the token.
    pub fn agrees(&self, counted: &Counted) {
        assert_eq!((self.bill, self.cost, self.base), (counted.billed, counted.billed, counted.plain));
        assert_eq!((self.read, self.written), (counted.read, counted.written));
        assert_eq!((self.saved, self.totals), (counted.plain - counted.billed, counted.plain - counted.billed));
    }
}

//! A provider that keeps prompts by itself, and the keys that Farthing gives them.
//!
//! The provider is modelled as OpenAI describes it ("Prompt caching" in its API guide): a request goes to a machine that follows from the beginning
//! of its prompt and from its `prompt_cache_key`; what comes more often than about fifteen times a minute with the same beginning and key is spread
//! over more machines; each machine keeps the prompts that it saw. How many machines there are is not told.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use farthing_config::{Config, Dialect, Prices, PromptCacheConfig, Provider, Route};
use farthing_models::{Store, StoreOptions};
use farthing_policy::prompt_cache::{PromptCache, PromptCacheTerms};
use farthing_proxy::Inside;
use farthing_types::{Body, Call, CallReport, Clock, Draw, DrawKind, Failure, Money, Rate, Reply, Span, Time, TokenRates, VirtualClock};
use farthing_upstream::{Origin, UpstreamSpec};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use http_body_util::BodyExt;
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::world::{Counted, START};

/// Machines that a prompt may go to.
const MACHINES: u64 = 64;
/// Requests a minute that one machine takes of a beginning and key.
const A_MINUTE: f64 = 15.0;
/// Nano-dollars a token: the trace's price rule.
const INPUT: i64 = 2_500;
const CACHED: i64 = 1_250;
const OUTPUT: i64 = 10_000;

/// See the module.
pub struct Machines {
    /// Tokens of a block, and of the shortest prefix that is kept.
    terms: (u64, u64),
    kept: Mutex<HashMap<u64, PromptCache>>,
    /// Rate of each beginning and key.
    rates: Mutex<HashMap<u64, (Time, f64)>>,
    counted: Mutex<Counted>,
    clock: Arc<VirtualClock>,
}

struct Endpoint(Arc<Machines>);

impl Origin for Endpoint {
    fn fetch(&self, call: Call) -> BoxFuture<'static, Result<Reply, Failure>> {
        let machines = self.0.clone();
        async move { Ok(machines.answer(&call)) }.boxed()
    }
}

fn hash(text: &str) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

impl Machines {
    fn machine(&self, now: Time, beginning: &str, key: &str) -> u64 {
        let name = hash(&format!("{beginning}/{key}"));
        let mut rates = self.rates.lock();
        let (at, rate) = rates.entry(name).or_insert((now, 0.0));
        *rate = *rate * (-now.since(*at).as_secs_f64() / 60.0).exp() + 1.0;
        *at = now;
        let spread = (*rate / A_MINUTE).ceil().max(1.0);
        let calls = u128::from(self.counted.lock().calls);
        let which = (Draw::new(3).uniform(DrawKind::Sample, "machine", calls, 0) * spread) as u64;
        hash(&format!("{name}/{which}")) % MACHINES
    }

    fn answer(&self, call: &Call) -> Reply {
        let told: Value = serde_json::from_slice(&call.body.as_full().unwrap()).unwrap();
        let texts: Vec<&str> = told["messages"].as_array().unwrap().iter().map(|turn| turn["content"].as_str().unwrap()).collect();
        let mut so_far = String::new();
        let mut blocks = Vec::with_capacity(texts.len());
        for text in &texts {
            so_far.push_str(text.split(' ').next().unwrap());
            blocks.push(hash(&so_far));
        }
        let input = texts.iter().map(|text| text.split_whitespace().count() as u64).sum::<u64>();
        let output = told["metadata"]["output"].as_u64().unwrap();
        let now = self.clock.now();
        let machine = self.machine(now, texts[0], told["prompt_cache_key"].as_str().unwrap_or_default());
        let (block, least) = self.terms;
        let new = || PromptCache::new(PromptCacheTerms { ttl: Span::from_secs(300), block, capacity: 1_000_000 });
        let cached = self.kept.lock().entry(machine).or_insert_with(new).call(now, &blocks, input);
        let cached = if cached < least { 0 } else { cached };
        let mut counted = self.counted.lock();
        let cost = |plain: u64, cached: u64| {
            let part = |tokens: u64, nanos: i64| i64::try_from(tokens).unwrap() * nanos;
            Money::from_nanos(part(plain, INPUT) + part(cached, CACHED) + part(output, OUTPUT))
        };
        counted.calls += 1;
        counted.billed += cost(input - cached, cached);
        counted.plain += cost(input, 0);
        counted.read += cached;
        drop(counted);
        call.sink.attempt(CallReport::only(call, "machines", Some(StatusCode::OK)));
        let usage = json!({"prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output,
            "prompt_tokens_details": {"cached_tokens": cached}});
        let body = json!({"model": "m", "choices": [{"message": {"content": "yes"}}], "usage": usage}).to_string();
        let headers = HeaderMap::from_iter([(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
        Reply { status: StatusCode::OK, headers, body: Body::full(body) }
    }
}

/// A proxy in front of it.
pub struct Chat {
    pub inside: Inside,
    pub machines: Arc<Machines>,
    pub clock: Arc<VirtualClock>,
    _dir: tempfile::TempDir,
}

impl Chat {
    /// `terms`: tokens of a block, and of the shortest prefix that is kept.
    pub fn new(keys: Option<PromptCacheConfig>, terms: (u64, u64)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.log.enabled = false;
        config.holdout.share = 0.0;
        let rate = |nanos: i64| Some(Rate::per_unit(Money::from_nanos(nanos)));
        let rates = TokenRates { input: rate(INPUT), cached_input: rate(CACHED), output: rate(OUTPUT), ..TokenRates::default() };
        config.providers.push(Arc::new(Provider {
            name: "gpt".into(),
            base_url: "http://gpt.test".parse().unwrap(),
            dialect: Dialect::OpenAi,
            prices: Some(Prices { targets: [("m".to_owned(), rates)].into(), ..Prices::default() }),
            ..Provider::default()
        }));
        let route = Route { name: "gpt".into(), provider: "gpt".into(), prompt_cache: keys, cache: false, ..Route::default() };
        config.routes.push(Arc::new(route));
        let clock = Arc::new(VirtualClock::new(START));
        let machines =
            Arc::new(Machines { terms, kept: Mutex::default(), rates: Mutex::default(), counted: Mutex::default(), clock: clock.clone() });
        let origin = machines.clone();
        let client = move |_: &UpstreamSpec| -> Arc<dyn Origin> { Arc::new(Endpoint(origin.clone())) };
        let store = Store::open(dir.path().join("models"), StoreOptions::default());
        let inside = Inside::new(&Arc::new(config), clock.clone(), store, &client).unwrap();
        Self { inside, machines, clock, _dir: dir }
    }

    pub async fn ask(&self, body: &Value) {
        let builder = Request::builder().method(Method::POST).uri("/v1/chat/completions").header("authorization", "Bearer a");
        let request = builder.header("host", "f.test").header("content-type", "application/json").body(Body::full(body.to_string()));
        let (head, body) = self.inside.ask(request.unwrap()).await.into_parts();
        let body: Bytes = body.collect().await.unwrap().to_bytes();
        assert_eq!(head.status, StatusCode::OK, "{body:?}");
    }

    /// What the provider has counted; the ledger says the same, and credits nothing to keys.
    pub async fn counted(&self) -> Counted {
        self.inside.settle().await;
        let (counted, totals) = (*self.machines.counted.lock(), self.inside.totals().total);
        assert_eq!((totals.bill_usd, totals.base_usd, totals.unpriced), (counted.billed, counted.billed, 0));
        counted
    }
}

#[tokio::test(start_paused = true)]
async fn conversations_stay_where_they_are_kept_and_alike_prompts_share_a_place() {
    let keys = PromptCacheConfig { min_tokens: 8, ..PromptCacheConfig::default() };
    let play = async |keys: Option<PromptCacheConfig>| {
        let chat = Chat::new(keys, (10, 10));
        let turn = |role: &str, name: String| json!({"role": role, "content": format!("{name}{}", " wrd".repeat(9))});
        // Forty users in turn, each a turn longer in every round, all with the same system prompt.
        for round in 0..6 {
            for user in 0..40 {
                let turns = (0..=2 * round).map(|n| turn("user", format!("{user}.{n}")));
                let messages: Vec<Value> = std::iter::once(turn("system", "s".to_owned())).chain(turns).collect();
                chat.ask(&json!({"model": "m", "metadata": {"output": 1}, "messages": messages})).await;
                chat.clock.advance(Span::from_secs(1));
            }
        }
        let told = chat.inside.prompts();
        let counted = chat.counted().await;
        (counted, told)
    };
    let (with, told) = play(Some(keys)).await;
    let (without, none) = play(None).await;
    assert_eq!(told[0].stats.read, with.read);
    assert!(none.is_empty());
    assert!(with.billed < without.billed, "{with:?} {without:?}");
    // A client's own key stays.
    let chat = Chat::new(Some(keys), (10, 10));
    let messages = json!([{"role": "user", "content": "q wrd wrd wrd wrd wrd wrd wrd wrd wrd wrd"}]);
    chat.ask(&json!({"model": "m", "metadata": {"output": 1}, "messages": messages, "prompt_cache_key": "mine"})).await;
    let decided = &chat.inside.prompts()[0].stats.decided;
    assert!(decided.iter().any(|(why, count)| why.as_str() == "client" && *count == 1), "{decided:?}");
}

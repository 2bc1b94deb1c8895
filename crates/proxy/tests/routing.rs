//! H1, H2, R3: a route with two providers of different shapes. The whole request path; what stands for the wire bills, and answers as a test says.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "helpers of tests may fail the test"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

use farthing_config::{Config, Flags, System};
use farthing_models::{Store, StoreOptions};
use farthing_proxy::{BypassOrder, Inside};
use farthing_types::{Body, Call, CallReport, Clock, Failure, FailureKind, Money, Reply, Span, Time};
use farthing_upstream::{Origin, UpstreamSpec};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use http_body_util::BodyExt;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

const START: Time = Time::from_millis(1_794_268_800_000);
const DEAR: i64 = 4_000_000;
const CHEAP: i64 = 1_000_000;

const CONFIG: &str = r#"
salt = { env = "PATH" }
[providers.prime]
base_url = "http://prime.test"
price = "0.004"
[providers.thrift]
base_url = "http://thrift.test"
price = "0.001"
[routes.w]
path_prefix = "/"
mode = "override"
ttl = "fixed:60s"
priority = "low"
required = ["/temp"]
[[routes.w.providers]]
provider = "prime"
[[routes.w.providers]]
provider = "thrift"
quality = 0.9
[routes.w.providers.adapter]
path = "/current/{city}"
to = "/v2/{city}/now"
answer = { "/temp" = "/data/t" }
error = { "/error" = "/fault" }
"#;

/// What a provider does.
#[derive(Clone, Copy, PartialEq)]
enum Does {
    Answers,
    Lacks,
    Is503,
    Is404,
    Hangs,
    Refuses,
}

struct Provider {
    name: &'static str,
    price: i64,
    takes: Span,
    does: Mutex<Does>,
    asked: AtomicUsize,
    billed: AtomicI64,
}

struct Wire(Arc<Provider>);

impl Origin for Wire {
    fn fetch(&self, call: Call) -> BoxFuture<'static, Result<Reply, Failure>> {
        let provider = self.0.clone();
        provider.asked.fetch_add(1, Ordering::SeqCst);
        async move { provider.answer(call).await }.boxed()
    }
}

/// Reports an attempt whose client gives it up.
struct Given(Call, &'static str);

impl Drop for Given {
    fn drop(&mut self) {
        self.0.sink.attempt(CallReport { failure: Some(FailureKind::Broken), ..CallReport::only(&self.0, self.1, None) });
    }
}

impl Provider {
    async fn answer(&self, call: Call) -> Result<Reply, Failure> {
        let does = *self.does.lock();
        if does == Does::Refuses {
            call.sink.attempt(CallReport { failure: Some(FailureKind::Connect), sent: false, ..CallReport::only(&call, self.name, None) });
            return Err(Failure::unsent(FailureKind::Connect, "refused"));
        }
        if does == Does::Hangs {
            let _given = Given(call, self.name);
            return std::future::pending().await;
        }
        sleep(self.takes).await;
        let v2 = call.target.path().starts_with("/v2/");
        let (status, body) = match does {
            Does::Is503 => (503, if v2 { r#"{"fault":"busy"}"# } else { r#"{"error":"busy"}"# }),
            Does::Is404 => (404, if v2 { r#"{"fault":"none"}"# } else { r#"{"error":"none"}"# }),
            Does::Lacks => (200, r#"{"data":{},"temp":null}"#),
            _ => (200, if v2 { r#"{"data":{"t":21.50,"more":1}}"# } else { r#"{"temp":21.50}"# }),
        };
        if status == 200 {
            self.billed.fetch_add(self.price, Ordering::SeqCst);
        }
        let status = StatusCode::from_u16(status).unwrap();
        call.sink.attempt(CallReport::only(&call, self.name, Some(status)));
        let mut headers = HeaderMap::new();
        headers.insert("content-type", HeaderValue::from_static("application/json"));
        headers.insert("etag", HeaderValue::from_static("\"theirs\""));
        Ok(Reply { status, headers, body: Body::full(body) })
    }
}

struct PausedClock(Instant);

impl Clock for PausedClock {
    fn now(&self) -> Time {
        START + self.0.elapsed()
    }
}

struct World {
    inside: Inside,
    providers: [Arc<Provider>; 2],
    _dir: tempfile::TempDir,
}

struct Got {
    status: u16,
    headers: HeaderMap,
    body: String,
    took: Span,
}

impl Got {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

impl World {
    fn new(more: &str) -> Self {
        Self::of(&format!("{CONFIG}\n{more}"))
    }

    fn of(config: &str) -> Self {
        let provider = |name, price, takes| {
            let (asked, billed) = (AtomicUsize::new(0), AtomicI64::new(0));
            Arc::new(Provider { name, price, takes: Span::from_millis(takes), does: Mutex::new(Does::Answers), asked, billed })
        };
        let providers = [provider("prime", DEAR, 50), provider("thrift", CHEAP, 80)];
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::parse(config, "f.toml", &Flags::default(), &System).unwrap();
        (config.state_dir, config.log.enabled, config.holdout.share) = (dir.path().to_owned(), false, 0.0);
        let store = Store::open(dir.path().join("models"), StoreOptions::default());
        let all = providers.clone();
        let client = move |spec: &UpstreamSpec| -> Arc<dyn Origin> {
            let provider = all.iter().find(|provider| *provider.name == *spec.name).unwrap();
            Arc::new(Wire(provider.clone()))
        };
        let inside = Inside::new(&Arc::new(config), Arc::new(PausedClock(Instant::now())), store, &client).unwrap();
        Self { inside, providers, _dir: dir }
    }

    fn does(&self, place: usize, does: Does) {
        *self.providers[place].does.lock() = does;
    }

    fn asked(&self) -> [usize; 2] {
        [0, 1].map(|place: usize| self.providers[place].asked.load(Ordering::SeqCst))
    }

    async fn send(&self, method: &str, path: &str, body: &str) -> Got {
        let began = Instant::now();
        let request = Request::builder().method(method).uri(path).header("host", "w.test").header("x-farthing-debug", "1");
        let request = request
            .header("authorization", "Bearer of-a-client")
            .header("content-length", body.len())
            .body(Body::full(body.to_owned()))
            .unwrap();
        let (head, body) = self.inside.ask(request).await.into_parts();
        let body = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
        Got { status: head.status.as_u16(), headers: head.headers, body, took: began.elapsed() }
    }

    async fn get(&self, path: &str) -> Got {
        self.send("GET", path, "").await
    }

    /// Asks for three cities a minute later, in a window of their own: how often each provider was asked.
    async fn window(&self, window: u32) -> [usize; 2] {
        sleep(Span::from_secs(60)).await;
        let before = self.asked();
        for city in 0..3 {
            assert_eq!(self.get(&format!("/current/c{window}-{city}")).await.status, 200);
        }
        let after = self.asked();
        [after[0] - before[0], after[1] - before[1]]
    }

    /// The ledger's bill and attempts are the providers', to the nano-dollar.
    async fn check(&self) {
        self.inside.settle().await;
        let totals = self.inside.totals().total;
        let billed: i64 = self.providers.iter().map(|provider| provider.billed.load(Ordering::SeqCst)).sum();
        assert_eq!(totals.bill_usd.nanos(), billed);
        assert!(self.inside.pricing_stats().unpriced.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn failover_changes_no_field_name() {
    let world = World::new("");
    let cheap = world.get("/current/oslo").await;
    assert_eq!((cheap.status, cheap.body.as_str()), (200, r#"{"temp":21.50}"#));
    assert_eq!((cheap.header("x-farthing-provider"), cheap.header("x-farthing-routed-by")), ("thrift", "score"));
    assert_eq!((cheap.header("x-farthing-cost-usd"), cheap.header("etag")), ("0.001", ""));
    world.does(1, Does::Is503);
    let dear = world.get("/current/rome").await;
    assert_eq!((dear.status, dear.body.as_str()), (200, r#"{"temp":21.50}"#));
    assert_eq!((dear.header("x-farthing-provider"), dear.header("x-farthing-routed-by")), ("prime", "failover"));
    assert_eq!(dear.header("x-farthing-cost-usd"), "0.004");
    // Errors, too: whoever says it.
    world.does(0, Does::Is404);
    for does in [Does::Is404, Does::Is503] {
        world.does(1, does);
        let none = world.get("/current/atlantis").await;
        assert_eq!((none.status, none.body.as_str()), (404, r#"{"error":"none"}"#));
    }
    world.check().await;
}

/// C4: who switches everything off gets what there was without Farthing.
#[tokio::test(start_paused = true)]
async fn under_a_bypass_the_first_is_asked_alone() {
    let world = World::new("");
    let order = BypassOrder { route: None, since: START, until: None, reason: "trouble".into() };
    world.inside.bypass_on(order).unwrap();
    let got = world.get("/current/oslo").await;
    assert_eq!((got.status, got.header("x-farthing-provider"), got.header("x-farthing-routed-by")), (200, "prime", "only"));
    world.does(0, Does::Is503);
    assert_eq!((world.get("/current/oslo").await.status, world.asked()[1]), (503, 0));
    world.inside.bypass_off(None, "over").unwrap();
    assert_eq!(world.get("/current/oslo").await.header("x-farthing-provider"), "thrift");
    world.check().await;
}

#[tokio::test(start_paused = true)]
async fn what_stood_in_is_not_kept_and_what_was_chosen_is() {
    let world = World::new("");
    world.get("/current/oslo").await;
    world.get("/current/oslo").await;
    assert_eq!(world.asked(), [0, 1], "a hit");
    world.does(1, Does::Is503);
    for asked in 1..3 {
        assert_eq!(world.get("/current/rome").await.header("x-farthing-routed-by"), "failover");
        assert_eq!(world.asked()[0], asked);
    }
    let unkept = &world.inside.totals().routes["w"].unkept;
    assert_eq!(unkept["fallback"].count, 2);
    world.check().await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_lacks_something_is_paid_for_and_never_seen() {
    let world = World::new("");
    world.does(1, Does::Lacks);
    let got = world.get("/current/oslo").await;
    assert_eq!((got.status, got.body.as_str(), got.header("x-farthing-provider")), (200, r#"{"temp":21.50}"#, "prime"));
    assert_eq!(world.providers[1].billed.load(Ordering::SeqCst), CHEAP);
    world.check().await;
    let totals = world.inside.totals().total;
    assert_eq!((totals.bill_usd.nanos(), totals.attempts), (DEAR + CHEAP, 2));
    // One that may not be made again is told as a failure, in our words.
    sleep(Span::from_secs(900)).await;
    let post = world.send("POST", "/current/oslo", "").await;
    assert_eq!((post.status, world.asked()), (502, [1, 2]));
    assert!(post.body.contains("unmapped") && !post.body.contains("data"), "{}", post.body);
    world.check().await;
}

#[tokio::test(start_paused = true)]
async fn the_saving_is_against_the_first_provider() {
    let world = World::new("");
    world.get("/current/oslo").await;
    world.get("/current/oslo").await;
    world.check().await;
    let totals = world.inside.totals();
    let route = &totals.routes["w"];
    assert_eq!((route.base_usd.nanos(), route.bill_usd.nanos()), (2 * DEAR, CHEAP));
    assert_eq!((route.saved["route"].usd.nanos(), route.saved["l1"].usd.nanos()), (DEAR - CHEAP, DEAR));
}

/// J1: what answers say of their money is what the ledger says.
#[tokio::test(start_paused = true)]
async fn answers_tell_the_money_of_the_ledger() {
    let world = World::of(&CONFIG.replacen(
        "price = \"0.001\"",
        "prices = { per_call = \"0.001\", errors_billed = true, not_modified = \"0\" }",
        1,
    ));
    let told = |got: &Got| ["x-farthing-cost-usd", "x-farthing-saved-usd"].map(|name| got.header(name).to_owned());
    let mut sums = [0; 2];
    let mut add = |got: &Got| {
        let money = told(got).map(|text| text.parse::<Money>().unwrap().nanos());
        sums = [sums[0] + money[0], sums[1] + money[1]];
    };
    let both = join_all([world.get("/current/oslo"), world.get("/current/oslo")]).await;
    let hit = world.get("/current/oslo").await;
    let mut all: Vec<_> = both.iter().chain([&hit]).map(told).collect();
    all.sort();
    let wanted = [["0", "0.004"], ["0", "0.004"], ["0.001", "0.003"]];
    assert_eq!(all, wanted.map(|money| money.map(ToOwned::to_owned)));
    both.iter().chain([&hit]).for_each(&mut add);
    // The first attempt is billed, too, and was in vain.
    world.does(1, Does::Is503);
    world.providers[1].billed.fetch_add(CHEAP, Ordering::SeqCst);
    let failover = world.get("/current/rome").await;
    assert_eq!(told(&failover), ["0.005", "-0.001"]);
    add(&failover);
    world.check().await;
    let total = world.inside.totals().total;
    assert_eq!(sums, [total.bill_usd, total.base_usd - total.bill_usd].map(Money::nanos));
}

/// An experiment between variants that say this. By blocks of time, so that what one learns of the providers is not the other's at the same time.
fn experiment(variants: [&str; 2]) -> String {
    let [one, other] = variants;
    format!(
        "[experiments.choice]\nhypothesis = \"choosing is cheaper\"\nunit = \"block\"\nwindow = \"1m\"\nslice = 1.0\nramp = [1.0]\n\
         [[experiments.choice.variants]]\n{one}\n[[experiments.choice.variants]]\n{other}\n"
    )
}

#[tokio::test(start_paused = true)]
async fn a_variant_of_an_experiment_asks_the_first_alone() {
    let world = World::new(&experiment(["name = \"first\"\nrouting = false", "name = \"chosen\""]));
    for window in 0..40 {
        let asked = world.window(window).await;
        assert!(asked == [3, 0] || asked == [0, 3], "one variant in a window: {asked:?}");
    }
    let [first, chosen] = world.asked();
    assert!(first >= 30 && chosen >= 30, "{first} {chosen}");
}

#[tokio::test(start_paused = true)]
async fn variants_choose_by_weights_of_their_own() {
    let world = World::new(&experiment(["name = \"fast\"\nweights.low.latency = 1", "name = \"cheap\"\nweights.low = { cost = 1 }"]));
    // Both are measured before they are compared.
    for city in 0..40 {
        sleep(Span::from_secs(3)).await;
        world.get(&format!("/current/before-{city}")).await;
    }
    let mut seen = std::collections::BTreeSet::new();
    for window in 0..20 {
        seen.insert(world.window(window).await);
    }
    assert_eq!(seen, [[0, 3], [3, 0]].into(), "one choice in a window, and both of them over time");
}

#[tokio::test(start_paused = true)]
async fn a_provider_goes_down_at_load() {
    for down in [Does::Hangs, Does::Refuses, Does::Is503] {
        let world = Arc::new(World::new(""));
        let mut asks = Vec::new();
        let (mut sent_to_it, mut opened) = (0, None);
        // A hundred a second for a minute; after ten seconds the cheap one is gone.
        for number in 0..6_000 {
            if number == 1_000 {
                world.does(1, down);
            }
            let open = world.inside.routings()[0].router.legs[1].breaker.as_str() == "open";
            if open && opened.is_none() {
                (opened, sent_to_it) = (Some(number), world.asked()[1]);
            }
            let asked = world.clone();
            asks.push(tokio::spawn(async move { (number, asked.get(&format!("/current/c{number}")).await) }));
            sleep(Span::from_millis(10)).await;
        }
        let answers: Vec<(usize, Got)> = join_all(asks).await.into_iter().map(Result::unwrap).collect();
        let failed = answers.iter().filter(|(_, got)| got.status != 200).count();
        assert!(failed * 1_000 < answers.len(), "{failed} failed");
        assert!(answers.iter().all(|(_, got)| got.body == r#"{"temp":21.50}"#));
        let opened = opened.unwrap();
        // From then on one call in each cool-down of five seconds finds out whether it is back, and waits no longer than three times what is usual.
        let longest = answers.iter().filter(|(number, _)| *number > opened).map(|(_, got)| got.took).max().unwrap();
        assert!(longest <= Span::from_millis(300), "{longest:?}");
        let tries = world.asked()[1] - sent_to_it;
        assert!(tries <= 12, "{tries}");
        world.check().await;
    }
}

/// What budgets set aside is written to a disk, so this runs in real time.
#[tokio::test]
async fn a_budget_holds_whoever_is_asked() {
    let world = World::new("[budgets.all]\nlimit = \"0.1\"\nwindow = \"ever\"\n");
    for round in 0..12 {
        let does = if round % 3 == 0 { Does::Lacks } else { Does::Answers };
        world.does(1, does);
        let paths: Vec<String> = (0..10).map(|number| format!("/current/r{round}n{number}")).collect();
        let asks = paths.iter().map(|path| world.get(path));
        for got in join_all(asks).await {
            assert!(matches!(got.status, 200 | 429), "{}", got.status);
        }
    }
    world.check().await;
    let billed: i64 = world.providers.iter().map(|provider| provider.billed.load(Ordering::SeqCst)).sum();
    assert!(billed <= 100_000_000 && billed > 60_000_000, "{billed}");
}

#[tokio::test]
async fn where_money_is_short_the_cheapest_is_asked_alone() {
    // Three rounds of both cost fifteen, three of the cheap one three.
    let world = World::new("[budgets.all]\nlimit = \"0.01\"\nwindow = \"ever\"\non_exceeded = \"cheapest\"\n");
    world.does(1, Does::Is503);
    let got = world.get("/current/oslo").await;
    assert_eq!((got.status, got.header("x-farthing-routed-by")), (503, "cheapest"), "{}", got.body);
    assert_eq!(world.asked()[0], 0);
    world.does(1, Does::Answers);
    for number in 0..20 {
        let got = world.get(&format!("/current/c{number}")).await;
        assert!(got.status == 429 || got.header("x-farthing-provider") == "thrift", "{}", got.status);
    }
    world.check().await;
    let billed = world.providers[1].billed.load(Ordering::SeqCst);
    assert!((7_000_000..=10_000_000).contains(&billed), "{billed}");
}

const PROMPTS: &str = r#"
salt = { env = "PATH" }
[providers.prime]
base_url = "http://prime.test"
dialect = "openai"
[providers.prime.prices.targets.m]
input_per_million = "2.50"
cached_input_per_million = "0.25"
output_per_million = "1.00"
[providers.thrift]
base_url = "http://thrift.test"
dialect = "openai"
[providers.thrift.prices.targets.m]
input_per_million = "1.20"
cached_input_per_million = "0.12"
output_per_million = "1.00"
[routes.w]
path_prefix = "/"
priority = "low"
idempotent = true
cache = false
[[routes.w.providers]]
provider = "prime"
[[routes.w.providers]]
provider = "thrift"
"#;

#[tokio::test(start_paused = true)]
async fn a_prompt_that_a_provider_has_kept_is_money() {
    let world = World::of(PROMPTS);
    let prompt = |about: &str, question: &str| {
        let text = about.repeat(2_000);
        format!(r#"{{"model":"m","max_tokens":5,"messages":[{{"role":"user","content":"{text} {question}"}}]}}"#)
    };
    world.does(1, Does::Is503);
    assert_eq!(world.send("POST", "/chat", &prompt("abc", "first")).await.header("x-farthing-provider"), "prime");
    world.does(1, Does::Answers);
    sleep(Span::from_secs(60)).await;
    for (prompt, provider) in [(prompt("xyz", "first"), "thrift"), (prompt("abc", "second"), "prime"), (prompt("xyz", "second"), "thrift")]
    {
        assert_eq!(world.send("POST", "/chat", &prompt).await.header("x-farthing-provider"), provider, "{}", &prompt[50..90]);
    }
    // Five minutes without a use, and it is forgotten.
    sleep(Span::from_secs(301)).await;
    assert_eq!(world.send("POST", "/chat", &prompt("abc", "third")).await.header("x-farthing-provider"), "thrift");
}

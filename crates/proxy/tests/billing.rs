//! J1, J2: what providers bill is what the ledger says, to the nano-dollar and to the unit: over random requests with streams, hang-ups, retries,
//! failures, followers, hits and refreshes, on the very path that serves. `make simulate` runs a million.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests may fail the test, and a long run tells its figures"
)]

mod bill;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use bill::provider::{Provider, Units};
use farthing_contract::log::{CallRow, Request as RequestRow, Row, Value};
use farthing_ledger::read;
use farthing_models::{Store, StoreOptions};
use farthing_proxy::Inside;
use farthing_types::{Body, Span, Time, VirtualClock};
use farthing_upstream::{Origin, UpstreamSpec};
use futures_util::future::join_all;
use http::Request;
use http_body_util::BodyExt;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// 2026-11-10 00:00 UTC.
const START: Time = Time::from_millis(1_794_268_800_000);

/// How a client behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Client {
    Patient,
    /// Leaves after so many frames.
    Leaves(usize),
    /// Leaves before the head may have come.
    Gone,
}

struct World {
    inside: Inside,
    provider: Arc<Provider>,
    clock: Arc<VirtualClock>,
    rng: StdRng,
    dir: tempfile::TempDir,
}

impl World {
    fn new(seed: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(VirtualClock::new(START));
        let provider = Arc::new(Provider::new(seed));
        let origin = provider.clone();
        let client = move |spec: &UpstreamSpec| -> Arc<dyn Origin> { origin.clone().at(&spec.name) };
        let store = Store::open(dir.path().join("models"), StoreOptions::default());
        let config = Arc::new(bill::config(dir.path()));
        let inside = Inside::new(&config, clock.clone(), store, &client).unwrap();
        Self { inside, provider, clock, rng: StdRng::seed_from_u64(seed), dir }
    }

    fn client(&mut self, route: &str) -> Client {
        match self.rng.random_range(0..20) {
            0 | 1 => Client::Leaves(self.rng.random_range(0..6)),
            // Until its head has come, a stream that is broken off has told nothing of its usage.
            2 if route != "claude" => Client::Gone,
            _ => Client::Patient,
        }
    }

    /// One burst: several clients at once, often for the same.
    async fn burst(&mut self) -> u64 {
        let among = match self.rng.random_range(0..6) {
            0 => Some("items"),
            1 => Some("vectors"),
            _ => None,
        };
        let clients: Vec<(Client, bool, Request<Body>)> = (0..self.rng.random_range(1..9))
            .map(|_| {
                let (route, asks, request) = bill::request(&mut self.rng, among);
                (self.client(route), asks, request)
            })
            .collect();
        let count = clients.len() as u64;
        let inside = &self.inside;
        join_all(clients.into_iter().map(|(client, asks, request)| ask(inside, client, asks, request))).await;
        self.clock.advance(Span::from_millis(self.rng.random_range(0..1_500)));
        count
    }
}

async fn ask(inside: &Inside, client: Client, asks: bool, request: Request<Body>) {
    let streams = request.uri().path().ends_with("completions");
    let answer = inside.ask(request);
    if client == Client::Gone {
        // Polled a few times, then dropped.
        let _ = tokio::time::timeout(Span::from_nanos(1), answer).await;
        return;
    }
    let mut body = answer.await.into_body();
    let (mut frames, mut text) = (0, Vec::new());
    while client != Client::Leaves(frames) {
        match body.frame().await {
            Some(Ok(frame)) => text.extend_from_slice(frame.data_ref().unwrap()),
            _ => break,
        }
        frames += 1;
    }
    let text = String::from_utf8(text).unwrap();
    if streams && text.starts_with("data:") {
        let told = text.contains("\"usage\":{");
        assert!(asks || !told, "usage that nobody asked for: {text}");
        assert!(told || !asks || !text.contains("[DONE]"), "usage that was asked for is missing: {text}");
    }
}

/// Sums of the calls in the log, by route.
fn logged(dir: &std::path::Path) -> BTreeMap<String, Units> {
    let columns = [
        "route",
        "cost_nanousd",
        "tokens_input",
        "tokens_cached_input",
        "tokens_output",
        "tokens_reasoning",
        "sent",
        "metered",
        "call_id",
        "batch_id",
        "status",
        "unpriced_reason",
        "error_class",
        "attempt",
        "bytes_in",
    ];
    let mut sums: BTreeMap<String, Units> = BTreeMap::new();
    read::rows(dir, CallRow::TABLE, &columns, &mut |cells| {
        let [Value::Text(route), Value::I64(cost), input, cached, output, reasoning, Value::Bool(sent), metered, call, batch, ..] = cells
        else {
            panic!("an unpriced call: {cells:?}")
        };
        let count = |value: &Value<'_>| if let Value::I64(n) = value { u64::try_from(*n).unwrap() } else { 0 };
        let sum = sums.entry((*route).to_owned()).or_default();
        // The first member of a batch stands for its attempt.
        sum.attempts += u64::from(*sent && (*batch == Value::Null || batch == call));
        sum.nanos += cost;
        sum.input += count(input) + count(cached);
        sum.output += count(output) + count(reasoning);
        if let Value::Text(metered) = metered {
            sum.metered += metered.split(',').map(|pair| pair.split_once('=').unwrap().1.parse::<u64>().unwrap()).sum::<u64>();
        }
        ControlFlow::Continue(())
    })
    .unwrap();
    sums
}

/// Sums of base and cost over the requests in the log, and how many there are by cause.
fn requests(dir: &std::path::Path) -> (i64, i64, BTreeMap<String, u64>) {
    let (mut base, mut cost, mut causes) = (0, 0, BTreeMap::new());
    read::rows(dir, RequestRow::TABLE, &["base_nanousd", "cost_nanousd", "saved_by", "outcome"], &mut |cells| {
        let [Value::I64(one), Value::I64(paid), cause, Value::Text(outcome)] = cells else { panic!("an unpriced request: {cells:?}") };
        (base, cost) = (base + one, cost + paid);
        let cause = if let Value::Text(cause) = cause { (*cause).to_owned() } else { format!("none, {outcome}") };
        *causes.entry(cause).or_default() += 1;
        ControlFlow::Continue(())
    })
    .unwrap();
    (base, cost, causes)
}

async fn run(seed: u64, wanted: u64) {
    let mut world = World::new(seed);
    let mut asked = 0;
    while asked < wanted {
        asked += world.burst().await;
        if asked % 64 < 8 {
            world.inside.settle().await;
            // Batches that failed one after the other rest for half a minute.
            tokio::time::advance(Span::from_secs(31)).await;
        }
    }
    world.inside.settle().await;
    let World { inside, provider, dir, .. } = world;
    let (totals, stats) = (inside.totals(), inside.pricing_stats());
    for report in inside.batches() {
        let (members, failed) = (report.stats.members(), report.stats.batches_failed());
        assert!(members > 20 && failed > 0, "{}: {members} members, {failed} batches failed", report.route);
    }
    let log = inside.close().await.unwrap();
    assert_eq!(log.dropped(), 0);

    let billed = provider.billed();
    let rows = logged(&dir.path().join("logs"));
    for (route, units) in &billed {
        assert_eq!(rows.get(route), Some(units), "seed {seed}, {asked} requests, route {route}");
        assert_eq!(totals.routes[route.as_str()].bill_usd.nanos(), units.nanos, "{route}");
        let attempts: u64 = totals.routes[route.as_str()].attempts;
        assert_eq!(attempts, units.attempts, "{route}");
    }
    assert_eq!(rows.len(), billed.len());
    assert_eq!((stats.unpriced.len(), stats.contradictory), (0, 0), "{stats:?}");

    let (base, cost, causes) = requests(&dir.path().join("logs"));
    assert_eq!(totals.routes.values().map(|route| route.base_usd.nanos()).sum::<i64>(), base);
    let bill: i64 = billed.values().map(|units| units.nanos).sum();
    // Nobody pays for a refresh, nor for a call whose client has left.
    assert!(cost <= bill && base > bill, "base {base}, cost {cost}, bill {bill}");
    for cause in ["l1", "stale", "dedupe", "revalidated", "batch"] {
        assert!(causes.contains_key(cause), "{cause} never happened: {causes:?}");
    }
    println!(
        "seed {seed}: {asked} requests, {} attempts, bill {bill} nano-dollars, {causes:?}",
        billed.values().map(|u| u.attempts).sum::<u64>()
    );
    assert!(stats.stripped > 0 && stats.estimated > 0, "{stats:?}");
}

#[tokio::test(start_paused = true)]
async fn providers_bill_what_the_ledger_says() {
    for seed in 1..4 {
        run(seed, 2_000).await;
    }
}

#[tokio::test(start_paused = true)]
#[ignore = "a million requests; `make simulate` runs it"]
async fn providers_bill_what_the_ledger_says_over_a_million_requests() {
    let wanted = std::env::var("FARTHING_REQUESTS").ok().and_then(|text| text.parse().ok());
    run(7, wanted.unwrap_or(1_000_000)).await;
}

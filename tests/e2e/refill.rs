//! Cold starts: what a flush, a purge of everything or a lost disk costs the provider, and that nobody fails for it.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use farthing_cache::Purge;
use farthing_config::{L2Config, L2Redis, L2Store, TtlBy};
use farthing_proxy::PaceStats;
use farthing_tests::origin::ok;
use farthing_tests::{Origin, Setup, Started};
use farthing_types::Money;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use crate::events::until;
use crate::l2::servers::Server;
use crate::l2::until_connected;

/// Documents that everybody asks for: four of five requests.
const HOT: usize = 100;
/// Requests a second.
const RATE: usize = 200;
const PRICE: &str = "0.002";

/// A provider that notes when it was asked for what.
struct Provider {
    origin: Origin,
    calls: Arc<Mutex<Vec<(Instant, String)>>>,
}

impl Provider {
    async fn start() -> Self {
        let calls: Arc<Mutex<Vec<(Instant, String)>>> = Arc::default();
        let noted = calls.clone();
        let origin = Origin::simple(move |seen, _| {
            noted.lock().unwrap().push((Instant::now(), seen.target.clone()));
            ok(format!("answer to {}", seen.target))
        })
        .await;
        Self { origin, calls }
    }

    fn between(&self, from: Instant, to: Instant) -> usize {
        self.calls.lock().unwrap().iter().filter(|(at, _)| (from..to).contains(at)).count()
    }

    /// Calls since `from` for what it had answered before.
    fn again(&self, from: Instant) -> usize {
        self.calls.lock().unwrap().iter().filter(|(at, target)| *at >= from && target.starts_with("/hot/")).count()
    }
}

fn hot(n: usize) -> String {
    format!("/api/hot/{}", n % HOT)
}

async fn start(provider: &Provider, l2: Option<&Server>, l1_bytes: u64) -> Started {
    started(setup(provider, l2, l1_bytes)).await
}

fn setup(provider: &Provider, l2: Option<&Server>, l1_bytes: u64) -> Setup {
    let mut setup = Setup::new(provider.origin.addr)
        .route(|r| (r.ttl, r.deadline) = (TtlBy::Fixed(Duration::from_secs(3_600)), Duration::from_secs(30)));
    setup.config.cache.l1_bytes = l1_bytes;
    setup.config.l2 = l2.map(|server| L2Config {
        store: L2Store::Redis(L2Redis { addresses: vec![server.url()], ..L2Redis::default() }),
        deadline: Duration::from_secs(2),
        max_value: 100_000,
        queue_bytes: 16_000_000,
        encrypt: None,
    });
    setup
}

async fn started(setup: Setup) -> Started {
    let started = setup.start().await;
    until_connected(&[&started]).await;
    started
}

async fn fill(proxy: &Started) {
    for n in 0..HOT {
        assert_eq!(proxy.client.get(&hot(n), &[]).await.status, 200);
    }
}

/// Four of five requests are for what is hot, each fifth for something new; how long the longest took. No request may fail.
async fn load(proxy: &Started, seconds: usize, name: &str) -> Duration {
    let mut tick = interval(Duration::from_secs(1) / RATE as u32);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut asked = JoinSet::new();
    for n in 0..seconds * RATE {
        tick.tick().await;
        let target = if n % 5 == 0 { format!("/api/new/{name}-{n}") } else { hot(n * 4 / 5) };
        let client = proxy.client;
        asked.spawn(async move {
            let since = Instant::now();
            let answer = client.get(&target, &[]).await;
            assert_eq!(answer.status, 200, "{answer:?}");
            since.elapsed()
        });
    }
    asked.join_all().await.into_iter().max().unwrap_or_default()
}

fn refills(proxy: &Started) -> (u64, Money) {
    let total = proxy.proxy.totals().total;
    total.calls.get("refill").map_or((0, Money::ZERO), |tally| (tally.count, tally.usd))
}

fn pace(proxy: &Started) -> PaceStats {
    proxy.proxy.paces().remove(0)
}

/// The bound, as the provider sees it: from the loss on, never more than twice the rate before and one call.
fn bounded(provider: &Provider, before: (Instant, Instant), lost: Instant) -> f64 {
    let rate = provider.between(before.0, before.1) as f64 / (before.1 - before.0).as_secs_f64();
    let mut worst: f64 = 0.0;
    for tenths in 20..=50 {
        let span = Duration::from_millis(tenths * 100);
        let calls = provider.between(lost, lost + span) as f64;
        assert!(calls <= 2.0 * rate * span.as_secs_f64() + 1.0, "{calls} calls in {span:?}, {rate} a second before");
        worst = worst.max(calls / span.as_secs_f64() / rate);
    }
    worst
}

/// Acceptance 7: FLUSHALL under load.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_flushall_the_provider_sees_at_most_twice_the_rate_and_nobody_fails() {
    let Some(server) = Server::start(&[]) else { return };
    let provider = Provider::start().await;
    let first = start(&provider, Some(&server), 100_000_000).await;
    fill(&first).await;
    until("written", || first.proxy.l2_stats().unwrap().queued_bytes == 0).await;
    first.proxy.shutdown().await;
    // Next to nothing fits into its memory: what is hot is answered by Redis.
    let proxy = start(&provider, Some(&server), 3_600).await;
    let began = Instant::now();
    fill(&proxy).await;
    load(&proxy, 4, "before").await;
    let lost = Instant::now();
    assert_eq!(server.ask(&["FLUSHALL"]), "+OK");
    let longest = load(&proxy, 5, "after").await;
    // A call is settled a moment after its client has the answer.
    until("settled", || refills(&proxy).0 >= provider.again(lost) as u64).await;
    let (count, usd) = refills(&proxy);
    let worst = bounded(&provider, (began, lost), lost);
    println!("FLUSHALL: at most {worst:.2} times the rate before; longest {longest:?}; {count} refills, {usd} $; {:?}", pace(&proxy));
    assert_eq!(pace(&proxy).late, 0);
    let again = provider.again(lost);
    // Nearly nothing fits into memory: what is asked for again before Redis has it is bought twice.
    assert!((HOT - 10..=HOT + HOT / 20).contains(&again), "{again}: what was hot is bought again, once");
    assert_eq!((count, usd), (again as u64, PRICE.parse::<Money>().unwrap().times(again as i64)), "to the nano-dollar");
}

/// The same where memory is all there is, and an operator empties it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_purge_of_everything_is_bounded_too() {
    let provider = Provider::start().await;
    let proxy = start(&provider, None, 100_000_000).await;
    fill(&proxy).await;
    let began = Instant::now();
    load(&proxy, 3, "before").await;
    let (lost, purged) = (Instant::now(), proxy.proxy.purge(&Purge::All, false));
    assert!(purged.entries > HOT);
    load(&proxy, 3, "after").await;
    // A call is settled a moment after its client has the answer.
    until("settled", || refills(&proxy).0 >= HOT as u64).await;
    let (count, usd) = refills(&proxy);
    let (rate, calls) = (provider.between(began, lost) as f64 / 3.0, provider.between(lost, lost + Duration::from_secs(2)) as f64);
    println!("purge: {calls} calls in two seconds, {rate} a second before; {:?}", pace(&proxy));
    assert_eq!(provider.again(lost), HOT);
    assert_eq!((count, usd), (HOT as u64, PRICE.parse::<Money>().unwrap().times(HOT as i64)));
    assert_eq!(pace(&proxy).late, 0);
}

/// A start with nothing left: what the run before knew of its copies and of the provider's rate bounds it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_without_the_copies_knows_what_it_has_lost() {
    let provider = Provider::start().await;
    let before = setup(&provider, None, 100_000_000);
    let logs = tempfile::tempdir().unwrap();
    let configured = |mut setup: Setup| {
        setup.config.log.dir = logs.path().to_owned();
        setup
    };
    let first = started(configured(before)).await;
    fill(&first).await;
    load(&first, 3, "before").await;
    let rate = pace(&first).rate.expect("known");
    first.proxy.shutdown().await;
    let second = started(configured(setup(&provider, None, 100_000_000))).await;
    let known = pace(&second).rate.expect("known from the run before");
    // A little less, because nobody asked while it ended.
    assert!((0.5..=1.01).contains(&(known / rate)), "{known} {rate}");
    let lost = Instant::now();
    let asked: Vec<_> = (0..HOT)
        .map(|n| {
            let client = second.client;
            tokio::task::spawn(async move { client.get(&hot(n), &[]).await.status.as_u16() })
        })
        .collect();
    assert_eq!(second.client.get("/api/new/one", &[]).await.status, 200);
    assert!(!asked.iter().all(tokio::task::JoinHandle::is_finished), "what is new does not wait for what was lost");
    for answer in asked {
        assert_eq!(answer.await.unwrap(), 200);
    }
    until("settled", || refills(&second).0 == HOT as u64).await;
    assert!(lost.elapsed() >= Duration::from_millis(500), "a hundred at once would be a flood: {:?}", lost.elapsed());
}

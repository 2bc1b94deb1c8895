//! What a purge costs beside 100,000 and 1,000,000 entries in memory: by key, by path and by tag, which an index finds, and one that has to look at
//! everything, which each of them had to before there was an index. In turn, in one run. And how long a look into memory takes while purges of a kind
//! go on without a pause. The bar is 1 ms for what an index finds. `make bench` runs it.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    clippy::panic,
    missing_docs,
    reason = "a measurement tells its figures, and ends where it cannot be made"
)]

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use farthing_cache::{Cache, CacheConfig, Join, Joined, NoEvents, Purge, SharedHead};
use farthing_freshness::entry::KeyStats;
use farthing_freshness::{Entry, Facts, Keyer, Subject, VariantTtl};
use farthing_types::{By, CallId, Clock, KeyHash, Money, RealClock, Span, Time};
use http::{HeaderMap, StatusCode};

const COUNTS: [u64; 2] = [100_000, 1_000_000];
const ROUNDS: u64 = 31;
/// Entries that have a tag in common.
const TOGETHER: u64 = 10;
const BAR_US: f64 = 1_000.0;
/// How long looks are timed beside each kind.
const BESIDE: Span = Span::from_secs(2);

fn subject(n: u64) -> Arc<Subject> {
    let key = KeyHash((u128::from(n) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835));
    Arc::new(Subject { key, tenant: "acme".into(), route: "geo".into(), path: format!("/v1/items/{n}").into() })
}

fn entry(n: u64, subject: &Arc<Subject>, now: Time) -> Entry {
    Entry {
        subject: Arc::clone(subject),
        selected: None,
        status: StatusCode::OK,
        headers: HeaderMap::new().into(),
        body: bytes::Bytes::from_static(b"{}"),
        trailers: None,
        fetched_at: now,
        facts: Facts::default(),
        variants: vec![VariantTtl { variant: "".into(), ttl: Span::from_secs(86_400), stale: Span::ZERO, by: By::Rule("static") }],
        stats: KeyStats::default(),
        price: Some(Money::from_nanos(1_000_000)),
        call: CallId(n),
        decision: None,
        tags: vec!["all".into(), format!("some-{}", n / TOGETHER).into()],
        epoch: 0,
        canonical_hash: 0,
    }
}

fn fill(cache: &Cache, n: u64, now: Time) {
    let subject = subject(n);
    let joined = cache.join(Join { subject: &subject, headers: &HeaderMap::new(), seen: None, now });
    let Joined::Lead(ticket) = joined else { panic!("{n} is there already") };
    let filled = ticket.share(SharedHead::new(StatusCode::OK, HeaderMap::new(), CallId(n)), now).finish(None);
    filled.store(entry(n, &subject, now), now).unwrap();
}

/// The `q` quantile, by nearest rank.
fn quantile(values: &[f64], q: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[((sorted.len() as f64 * q).ceil() as usize).clamp(1, sorted.len()) - 1]
}

/// The purge of a kind in round `n`.
type Make = fn(u64) -> Purge;

const KINDS: [(&str, Make); 4] = [
    ("key", |n| Purge::Key(subject(n * TOGETHER).key)),
    ("path", |n| Purge::Path { route: "geo".into(), tenant: "acme".into(), path: subject(n * TOGETHER).path.clone() }),
    ("tag", |n| Purge::Tag(format!("some-{n}").into())),
    ("everything looked at, nothing found", |_| Purge::Tenant("nobody".into())),
];

/// What each kind takes, us; what it has purged is put back.
fn times(cache: &Cache, entries: u64, clock: &RealClock) -> Vec<Vec<f64>> {
    let mut out: Vec<Vec<f64>> = KINDS.iter().map(|_| Vec::new()).collect();
    for round in 0..ROUNDS {
        let n = round * (entries / TOGETHER / ROUNDS);
        for ((_, purge), times) in KINDS.iter().zip(&mut out) {
            let (purge, began) = (purge(n), clock.now());
            let purged = black_box(cache.purge(&purge, false, began)).entries;
            times.push(clock.now().since(began).as_nanos() as f64 / 1e3);
            for back in (n * TOGETHER..).take(purged) {
                fill(cache, back, began);
            }
        }
    }
    out
}

/// How long looks take, us, while purges of a kind go on; and how many those are. They find nothing, so that all rounds are alike.
fn beside(cache: &Cache, entries: u64, purge: Make) -> (Vec<f64>, u64) {
    let (over, purges) = (AtomicBool::new(false), AtomicU64::new(0));
    let clock = RealClock::default();
    let looks = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                cache.purge(&purge(entries + purges.fetch_add(1, Ordering::Relaxed)), false, clock.now());
            }
        });
        let (until, none) = (clock.now() + BESIDE, HeaderMap::new());
        let keys: Vec<KeyHash> = (0..1_024).map(|n| subject(n * (entries / 1_024)).key).collect();
        let mut looks = Vec::new();
        for key in keys.iter().cycle() {
            let began = clock.now();
            if began >= until {
                break;
            }
            black_box(cache.lookup(*key, &none, began));
            looks.push(clock.now().since(began).as_nanos() as f64 / 1e3);
        }
        over.store(true, Ordering::Relaxed);
        looks
    });
    (looks, purges.into_inner())
}

/// Figures of a cache of so many entries, as a JSON object.
fn count(entries: u64) -> String {
    let clock = RealClock::default();
    let cache = Cache::new(CacheConfig { l1_bytes: 8 << 30, ..CacheConfig::new(Keyer::new([3; 16])) }, Arc::new(NoEvents));
    (0..entries).for_each(|n| fill(&cache, n, clock.now()));
    let stats = cache.stats();
    assert_eq!(stats.entries as u64, entries, "{stats:?}");
    eprintln!("{entries} entries, accounted {:.0} B each", stats.bytes as f64 / entries as f64);
    let times = times(&cache, entries, &clock);
    let everything = quantile(times.last().unwrap(), 0.5);
    let (mut kinds, mut holds) = (Vec::new(), true);
    for (at, ((kind, purge), times)) in KINDS.iter().zip(&times).enumerate() {
        let (looks, purges) = beside(&cache, entries, *purge);
        let [low, middle, high] = [0.25, 0.5, 0.75].map(|q| quantile(times, q));
        let [look, slow] = [0.5, 0.999].map(|q| quantile(&looks, q));
        holds &= at + 1 == KINDS.len() || middle <= BAR_US;
        let ratio = everything / middle;
        eprintln!(
            "  {kind}: {middle:.1} us (quartiles {low:.1}, {high:.1}), {ratio:.0} times less than everything; a look while {purges} go on p50 {look:.2} us, p99.9 {slow:.1} us"
        );
        kinds.push(format!(
            "{{\"kind\":\"{kind}\",\"us\":{middle:.2},\"us_quartiles\":[{low:.2},{high:.2}],\"everything\":{ratio:.1},\"look_p50_us\":{look:.3},\
             \"look_p999_us\":{slow:.3},\"purges_meanwhile\":{purges}}}"
        ));
    }
    format!("{{\"entries\":{entries},\"bar_us\":{BAR_US},\"holds\":{holds},\"kinds\":[{}]}}", kinds.join(","))
}

fn main() {
    println!("[{}]", COUNTS.map(count).join(","));
}

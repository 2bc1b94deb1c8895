//! What an answer from memory takes from the lookup to the head and body that are sent, of 100,000 answers of 1 KiB: each in turn (from cold memory, in
//! no order) and one over and over. Once with the fields as a map, as a request that was parsed gets them, and once as they are written for a head that
//! came before. What makes entries smaller must not make this slower. And what they take before anybody asks for them. `make bench` runs it.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::panic,
    missing_docs,
    reason = "a measurement tells its figures, and ends where it cannot be made"
)]

use std::hint::black_box;
use std::sync::Arc;

use bytes::Bytes;
use farthing_cache::{Cache, CacheConfig, Cached, Join, Joined, NoEvents, SharedHead};
use farthing_freshness::entry::KeyStats;
use farthing_freshness::semantics::{Judged, acceptable, conditional, verdict};
use farthing_freshness::{Entry, Facts, Keyer, Mode, RequestFacts, Rules, Subject, VariantTtl, Verdict};
use farthing_types::{By, CallId, Clock, DecisionId, KeyHash, Money, RealClock, Span, Time};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const OBJECTS: u64 = 100_000;
const ROUNDS: usize = 7;

fn subject(n: u64) -> Arc<Subject> {
    let key = KeyHash((u128::from(n) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835));
    Arc::new(Subject { key, tenant: "acme".into(), route: "docs".into(), path: format!("/v1/documents/{n:08}").into() })
}

fn headers() -> HeaderMap {
    let pairs = [
        ("content-type", "application/json; charset=utf-8"),
        ("content-length", "1024"),
        ("date", "Thu, 26 Nov 2026 10:00:00 GMT"),
        ("server", "provider/1.0"),
        ("x-request-id", "0123456789abcdef0123456789abcdef"),
    ];
    pairs.into_iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
}

fn fill(cache: &Cache, n: u64, now: Time) {
    let subject = subject(n);
    let Joined::Lead(ticket) = cache.join(Join { subject: &subject, headers: &HeaderMap::new(), seen: None, now }) else {
        panic!("{n} is there already")
    };
    let entry = Entry {
        subject: Arc::clone(&subject),
        selected: None,
        status: StatusCode::OK,
        headers: headers().into(),
        body: Bytes::from(vec![b'x'; 1_024]),
        trailers: None,
        fetched_at: now,
        facts: Facts { initial_age: Span::from_millis(37), date: now, ..Facts::default() },
        variants: vec![VariantTtl { variant: "".into(), ttl: Span::from_millis(86_400_123), stale: Span::ZERO, by: By::Model(1) }],
        stats: KeyStats::default(),
        price: Some(Money::from_nanos(1_000_000)),
        call: CallId(n),
        decision: Some(DecisionId(n)),
        tags: Vec::new(),
        epoch: 0,
        canonical_hash: n,
    };
    let filled = ticket.share(SharedHead::new(StatusCode::OK, HeaderMap::new(), CallId(n)), now).finish(None);
    filled.store(entry, now).unwrap();
}

/// Resident memory of this process, bytes.
fn resident() -> f64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<f64>().unwrap() * 4_096.0
}

struct Bench {
    cache: Cache,
    clock: RealClock,
    request: HeaderMap,
    facts: RequestFacts,
    rules: Rules,
}

impl Bench {
    fn found(&self, key: KeyHash, now: Time) -> (Arc<Cached>, Span) {
        let found = self.cache.lookup(key, &self.request, now);
        let Some(entry) = found.filter(|entry| acceptable(entry, &self.request)) else { panic!("it is not there") };
        let judged = Judged::new(&entry, "", entry.soft_purged());
        let Verdict::Fresh { age, .. } = verdict(&judged, &self.facts, &self.rules, now) else { panic!("it is not fresh") };
        entry.on_hit(now, false);
        black_box((entry.tier(), entry.variant("").map(|chosen| chosen.ttl), entry.price(), entry.decision()));
        (entry, age)
    }

    fn mapped(&self, key: KeyHash, now: Time) {
        let (entry, age) = self.found(key, now);
        black_box(conditional::serve(&entry, &Method::GET, &self.request, age));
    }

    fn written(&self, key: KeyHash, now: Time) {
        let (entry, _) = self.found(key, now);
        let mut out = Vec::with_capacity(768);
        for (name, value) in entry.headers().iter() {
            out.extend_from_slice(name);
            out.extend_from_slice(b": ");
            out.extend_from_slice(value);
            out.extend_from_slice(b"\r\n");
        }
        black_box((out, entry.body()));
    }

    /// Nanoseconds of each, medians of rounds.
    fn times(&self, keys: &[KeyHash]) -> [f64; 2] {
        let ways: [fn(&Self, KeyHash, Time); 2] = [Self::mapped, Self::written];
        let mut each = [Vec::new(), Vec::new()];
        for _ in 0..ROUNDS {
            for (way, each) in ways.iter().zip(&mut each) {
                let began = self.clock.now();
                keys.iter().for_each(|key| way(self, *key, began));
                each.push(self.clock.now().since(began).as_nanos() as f64 / keys.len() as f64);
            }
        }
        each.map(|mut times| {
            times.sort_by(f64::total_cmp);
            times[times.len() / 2]
        })
    }
}

fn main() {
    let config = CacheConfig { l1_bytes: 4 << 30, ..CacheConfig::new(Keyer::new([3; 16])) };
    let bench = Bench {
        cache: Cache::new(config, Arc::new(NoEvents)),
        clock: RealClock::default(),
        request: HeaderMap::new(),
        facts: RequestFacts::read(&Method::GET, &HeaderMap::new()),
        rules: Rules::new(Mode::Learned),
    };
    let store = |numbers: std::ops::Range<u64>| numbers.for_each(|n| fill(&bench.cache, n, bench.clock.now()));
    // Tables of fixed size have been made by then.
    store(0..OBJECTS / 10);
    let before = resident();
    store(OBJECTS / 10..OBJECTS);
    let resident = (resident() - before) / (OBJECTS - OBJECTS / 10) as f64;
    let accounted = bench.cache.stats().bytes as f64 / OBJECTS as f64;
    // A stride that is prime to their number visits each once.
    let all: Vec<KeyHash> = (0..OBJECTS).map(|n| subject(n * 61_803 % OBJECTS).key).collect();
    let [mapped, written] = bench.times(&all);
    let [hot_mapped, hot_written] = bench.times(&vec![subject(1).key; all.len()]);
    println!(
        "{{\"accounted_bytes_each\":{accounted:.0},\"resident_bytes_each\":{resident:.0},\"in_turn_ns\":{{\"mapped\":{mapped:.0},\"written\":{written:.0}}},\
         \"one_ns\":{{\"mapped\":{hot_mapped:.0},\"written\":{hot_written:.0}}}}}"
    );
}

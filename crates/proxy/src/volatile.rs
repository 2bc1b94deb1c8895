//! Where answers differ that were fetched at once: request ids, times of generation, traces. They say nothing about change, but make
//! every answer look changed. Found here off the clients' path, proposed with examples, used only when an operator has
//! put them under `volatile` of the route.
//!
//! The bodies of the last fetches are held, 8 MiB in all. When a key is fetched again within ten seconds and its canonical
//! digest differs, both are compared leaf by leaf; places in arrays are taken together (`*`). A pointer is proposed when it differed
//! in nearly every such pair.

use std::collections::{BTreeMap, HashMap, VecDeque};

use bytes::Bytes;
use farthing_types::{KeyHash, Span, Time};
use http::HeaderMap;
use parking_lot::Mutex;
use serde_json::Value;

use crate::canonical::{self, Digests};
use crate::route::RouteState;

/// Fetches of a key this close are "at once".
const AT_ONCE: Span = Span::from_secs(10);
/// Bytes of all bodies held.
const HELD: usize = 8 << 20;
/// Fetches remembered, whatever their length.
const FETCHES: usize = 16_384;
/// A longer body is not held.
const LONGEST: usize = 64 << 10;
/// Pointers followed on a route; the one that differed least makes room.
const POINTERS: usize = 64;
/// A pair that differs in more places is another document, not the same one asked twice.
const MOST: usize = 32;
/// Pairs that differ, from which pointers are proposed ...
const PAIRS: u64 = 5;
/// ... and the share of them in which the pointer differs.
const SHARE: f64 = 0.9;
/// Longest example, in characters.
const EXAMPLE: usize = 48;

/// Finds them, for all routes.
#[derive(Default)]
pub struct Volatile(Mutex<Found>);

#[derive(Default)]
struct Found {
    held: Held,
    routes: BTreeMap<String, Pairs>,
}

/// The last body of each key that was fetched lately.
#[derive(Default)]
struct Held {
    last: HashMap<KeyHash, (Time, u64, Bytes)>,
    /// In order of fetching; a key that was fetched again comes twice, the first time with an older time.
    order: VecDeque<(Time, KeyHash)>,
    bytes: usize,
}

impl Held {
    /// Holds a body; answers the one before when that was fetched at once with it.
    fn swap(&mut self, (key, at): (KeyHash, Time), canonical: u64, body: Bytes) -> Option<(u64, Bytes)> {
        self.order.push_back((at, key));
        self.bytes += body.len();
        let before = self.last.insert(key, (at, canonical, body));
        if let Some((_, _, old)) = &before {
            self.bytes -= old.len();
        }
        while self.order.front().is_some_and(|(then, _)| self.bytes > HELD || self.order.len() > FETCHES || at.since(*then) > AT_ONCE) {
            let Some((then, key)) = self.order.pop_front() else { break };
            if self.last.get(&key).is_some_and(|(at, ..)| *at == then)
                && let Some((_, _, old)) = self.last.remove(&key)
            {
                self.bytes -= old.len();
            }
        }
        before.filter(|(then, ..)| at.since(*then) <= AT_ONCE && *then <= at).map(|(_, canonical, body)| (canonical, body))
    }
}

/// What pairs of a route have shown.
#[derive(Clone, Debug, Default)]
struct Pairs {
    seen: u64,
    differing: u64,
    apart: u64,
    explained: u64,
    pointers: BTreeMap<String, Pointer>,
}

#[derive(Clone, Debug)]
struct Pointer {
    differed: u64,
    examples: [String; 2],
    looks: Looks,
}

/// What the values of a pointer look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Looks {
    /// A time: ISO 8601, or seconds, milliseconds or nanoseconds since 1970.
    Time,
    /// An id: long digits and letters without a meaning.
    Id,
    /// Anything else, a value of the document among it: look twice before confirming.
    Other,
}

impl Looks {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Time => "time",
            Self::Id => "id",
            Self::Other => "other",
        }
    }
}

/// What is known of a route.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Pairs of answers fetched at once.
    pub pairs: u64,
    /// Of these, pairs that differed, with the confirmed pointers left out.
    pub differing: u64,
    /// Of these, pairs that differed in more places than can be told.
    pub apart: u64,
    /// Of those that differed, pairs that would be equal without the pointers that were proposed then.
    pub explained: u64,
    /// Pointers that the configuration already leaves out.
    pub confirmed: Vec<String>,
    /// Pointers to look at, those that differed most often first.
    pub proposed: Vec<Proposal>,
}

/// A pointer to look at.
#[derive(Clone, Debug, PartialEq)]
pub struct Proposal {
    /// JSON pointer (RFC 6901); `*` stands for every element of an array.
    pub pointer: String,
    /// Pairs in which it differed.
    pub differed: u64,
    /// Two of its values, shortened.
    pub examples: [String; 2],
    /// What they look like.
    pub looks: Looks,
}

impl Volatile {
    /// Looks at a fetched body. To be called off the clients' path.
    pub fn look(&self, route: &RouteState, fetched: (KeyHash, Time), answer: (&HeaderMap, &Bytes), digests: Digests) {
        self.compare((&route.route.name, &route.route.volatile), fetched, answer, digests.canonical);
    }

    fn compare(
        &self,
        (route, confirmed): (&str, &[std::sync::Arc<str>]),
        fetched: (KeyHash, Time),
        (headers, body): (&HeaderMap, &Bytes),
        canonical: u64,
    ) {
        let Some(text) = canonical::text(headers, body).filter(|text| text.len() <= LONGEST) else { return };
        // A copy, so that a small body does not keep a large buffer.
        let before = self.0.lock().held.swap(fetched, canonical, Bytes::copy_from_slice(&text));
        let Some((then, old)) = before else { return };
        let places = (then != canonical).then(|| differing(&old, &text, confirmed)).flatten();
        let mut found = self.0.lock();
        if !found.routes.contains_key(route) {
            found.routes.insert(route.to_owned(), Pairs::default());
        }
        if let Some(pairs) = found.routes.get_mut(route) {
            pairs.note(then != canonical, places);
        }
    }

    /// What is known of a route.
    pub fn report(&self, route: &RouteState) -> Report {
        let confirmed: Vec<String> = route.route.volatile.iter().map(ToString::to_string).collect();
        let found = self.0.lock();
        found.routes.get(&*route.route.name).map_or_else(Report::default, Pairs::report).with(confirmed)
    }
}

impl Report {
    fn with(self, confirmed: Vec<String>) -> Self {
        Self { confirmed, ..self }
    }
}

impl Pairs {
    fn note(&mut self, differs: bool, places: Option<BTreeMap<String, [String; 2]>>) {
        self.seen += 1;
        if !differs {
            return;
        }
        self.differing += 1;
        let Some(places) = places else {
            self.apart += 1;
            return;
        };
        for (pointer, examples) in &places {
            let looks = looks(examples);
            let known = self.pointers.entry(pointer.clone()).or_insert_with(|| Pointer { differed: 0, examples: examples.clone(), looks });
            known.differed += 1;
            known.examples.clone_from(examples);
            // One value that looks like nothing is enough for a second look.
            known.looks = if known.looks == looks { looks } else { Looks::Other };
        }
        self.explained += u64::from(places.keys().all(|pointer| self.proposes(pointer)));
        while self.pointers.len() > POINTERS {
            let least = self.pointers.iter().min_by_key(|(_, pointer)| pointer.differed).map(|(name, _)| name.clone());
            least.map(|name| self.pointers.remove(&name));
        }
    }

    fn proposes(&self, pointer: &str) -> bool {
        let told = self.differing - self.apart;
        told >= PAIRS && self.pointers.get(pointer).is_some_and(|p| p.differed as f64 >= SHARE * told as f64)
    }

    fn report(&self) -> Report {
        let proposed = self.pointers.iter().filter(|(name, _)| self.proposes(name));
        let mut proposed: Vec<Proposal> = proposed
            .map(|(name, p)| Proposal { pointer: name.clone(), differed: p.differed, examples: p.examples.clone(), looks: p.looks })
            .collect();
        proposed.sort_by(|a, b| b.differed.cmp(&a.differed).then_with(|| a.pointer.cmp(&b.pointer)));
        Report {
            pairs: self.seen,
            differing: self.differing,
            apart: self.apart,
            explained: self.explained,
            confirmed: Vec::new(),
            proposed,
        }
    }
}

/// Pointers at which two bodies differ, with both values; `None` when these are too many, or a body is not JSON.
fn differing(old: &[u8], new: &[u8], confirmed: &[std::sync::Arc<str>]) -> Option<BTreeMap<String, [String; 2]>> {
    let [mut old, mut new] = [old, new].map(|body| serde_json::from_slice::<Value>(body).unwrap_or(Value::Null));
    for pointer in confirmed {
        canonical::drop_pointer(&mut old, pointer);
        canonical::drop_pointer(&mut new, pointer);
    }
    let mut places = BTreeMap::new();
    let mut pointer = String::new();
    (walk(&old, &new, &mut pointer, &mut places) && !places.is_empty()).then_some(places)
}

/// Notes where two values differ; false when there are too many places.
fn walk(old: &Value, new: &Value, pointer: &mut String, places: &mut BTreeMap<String, [String; 2]>) -> bool {
    if old == new {
        return true;
    }
    let length = pointer.len();
    let fits = match (old, new) {
        (Value::Object(a), Value::Object(b)) => {
            let names: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            names.into_iter().all(|name| {
                pointer.push('/');
                pointer.push_str(&name.replace('~', "~0").replace('/', "~1"));
                let fits = match (a.get(name), b.get(name)) {
                    (Some(old), Some(new)) => walk(old, new, pointer, places),
                    one => {
                        places.entry(pointer.clone()).or_insert_with(|| [one.0, one.1].map(|v| v.map_or_else(|| "absent".into(), example)));
                        true
                    }
                };
                pointer.truncate(length);
                fits
            })
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => a.iter().zip(b).all(|(a, b)| {
            pointer.push_str("/*");
            let fits = walk(a, b, pointer, places);
            pointer.truncate(length);
            fits
        }),
        // The document as a whole, or a part with another shape.
        _ if pointer.is_empty() => false,
        _ => {
            places.entry(pointer.clone()).or_insert_with(|| [example(old), example(new)]);
            true
        }
    };
    fits && places.len() <= MOST
}

/// A value as it may be shown: shortened, a container by its size.
fn example(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("[{} elements]", items.len()),
        Value::Object(members) => format!("{{{} members}}", members.len()),
        other => {
            let text = other.to_string();
            if text.chars().count() <= EXAMPLE { text } else { text.chars().take(EXAMPLE - 1).chain(['…']).collect() }
        }
    }
}

fn looks(examples: &[String; 2]) -> Looks {
    let text = |example: &String| example.trim_matches('"').to_owned();
    let values = examples.each_ref().map(text);
    if values.iter().all(|v| is_time(v)) {
        Looks::Time
    } else if values.iter().all(|v| is_id(v)) {
        Looks::Id
    } else {
        Looks::Other
    }
}

/// ISO 8601, an HTTP date, or a count since 1970 between the years 2001 and 2100.
fn is_time(text: &str) -> bool {
    let iso = || {
        let head = text.as_bytes().get(..10);
        head.is_some_and(|h| h.iter().enumerate().all(|(i, b)| if i == 4 || i == 7 { *b == b'-' } else { b.is_ascii_digit() }))
    };
    let count = || {
        let number: f64 = text.parse().ok()?;
        Some([1.0, 1e3, 1e6, 1e9].iter().any(|unit| (1e9..4.1e9).contains(&(number / unit))))
    };
    iso() || httpdate::parse_http_date(text).is_ok() || count().unwrap_or(false)
}

/// At least eight letters, digits and separators, digits among them, and no words.
fn is_id(text: &str) -> bool {
    let marks = |b: u8| matches!(b, b'-' | b'_' | b'.' | b':' | b'/' | b'+' | b'=' | b'\xe2' | b'\x80' | b'\xa6');
    text.len() >= 8 && text.bytes().all(|b| b.is_ascii_alphanumeric() || marks(b)) && text.bytes().any(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use http::header::CONTENT_TYPE;
    use proptest::prelude::*;

    use super::*;

    struct Bench {
        volatile: Volatile,
        confirmed: Vec<std::sync::Arc<str>>,
        now: i64,
    }

    impl Bench {
        fn new(confirmed: &[&str]) -> Self {
            Self { volatile: Volatile::default(), confirmed: confirmed.iter().map(|p| (*p).into()).collect(), now: 1_700_000_000_000 }
        }
        fn fetch(&mut self, key: u128, after_ms: i64, body: &Value) {
            self.now += after_ms;
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
            let body = Bytes::from(body.to_string());
            let digests = canonical::digests(&headers, &body, &self.confirmed);
            self.volatile.compare(
                ("geo", &self.confirmed),
                (KeyHash(key), Time::from_millis(self.now)),
                (&headers, &body),
                digests.canonical,
            );
        }
        fn report(&self) -> Report {
            self.volatile.0.lock().routes.get("geo").map(Pairs::report).unwrap_or_default()
        }
        fn pointers(&self) -> Vec<String> {
            self.report().proposed.into_iter().map(|p| p.pointer).collect()
        }
    }

    fn answer(n: i64, price: i64) -> Value {
        serde_json::json!({
            "meta": { "request_id": format!("{:016x}", n * 7_919), "version": 3 },
            "items": [{ "id": 1, "price": price, "generated_at": 1_700_000_000 + n }, { "id": 2, "price": 8, "generated_at": 1_700_000_900 + n }],
        })
    }

    #[test]
    fn what_differs_at_once_is_proposed_with_examples() {
        let mut bench = Bench::new(&[]);
        for n in 0..12 {
            bench.fetch(1, 900, &answer(n, n / 6));
        }
        assert_eq!(bench.pointers(), ["/items/*/generated_at", "/meta/request_id"]);
        let report = bench.report();
        assert_eq!((report.pairs, report.differing), (11, 11));
        assert_eq!(report.explained, 6, "five pairs were needed for the proposal, and one of the rest differs in the price, too");
        assert_eq!(report.proposed.iter().map(|p| p.looks).collect::<Vec<_>>(), [Looks::Time, Looks::Id]);
        assert!(report.proposed[0].examples.iter().all(|e| e.starts_with("17000000")), "{:?}", report.proposed[0].examples);
    }

    #[test]
    fn what_differs_after_a_while_is_not() {
        let mut bench = Bench::new(&[]);
        for n in 0..12 {
            bench.fetch(1, 10_001, &answer(n, n));
        }
        assert_eq!(bench.report(), Report::default());
    }

    #[test]
    fn other_keys_are_other_documents() {
        let mut bench = Bench::new(&[]);
        for n in 0..12 {
            bench.fetch(n as u128, 10, &answer(n, n));
        }
        assert_eq!(bench.report().pairs, 0);
    }

    #[test]
    fn confirmed_ones_are_no_difference_any_more() {
        let mut bench = Bench::new(&["/items/*/generated_at", "/meta/request_id"]);
        for n in 0..12 {
            bench.fetch(1, 900, &answer(n, 4));
        }
        let report = bench.report();
        assert_eq!((report.pairs, report.differing, report.proposed.len()), (11, 0, 0));
    }

    #[test]
    fn few_pairs_and_other_documents_propose_nothing() {
        let mut bench = Bench::new(&[]);
        (0..5).for_each(|n| bench.fetch(1, 100, &answer(n, 4)));
        assert!(bench.pointers().is_empty(), "four pairs are too few");
        let mut bench = Bench::new(&[]);
        for n in 0..12i64 {
            let names: serde_json::Map<String, Value> = (0..40).map(|i| (format!("f{i}"), Value::from(n * i + n))).collect();
            bench.fetch(1, 100, &Value::Object(names));
            bench.fetch(2, 100, &Value::from(n));
        }
        let report = bench.report();
        assert_eq!((report.apart, report.proposed.len()), (22, 0));
    }

    #[test]
    fn what_is_held_is_bounded() {
        let mut bench = Bench::new(&[]);
        for n in 0..2_000u128 {
            bench.fetch(n, 1, &serde_json::json!({ "n": n as u64, "pad": "x".repeat(20_000) }));
            let found = bench.volatile.0.lock();
            assert!(found.held.bytes <= HELD && found.held.last.len() <= found.held.order.len() && found.held.order.len() < 600);
        }
        bench.fetch(1, 60_000, &answer(1, 1));
        let found = bench.volatile.0.lock();
        assert_eq!((found.held.last.len(), found.held.order.len()), (1, 1));
    }

    #[test]
    fn long_examples_are_shortened() {
        assert_eq!(example(&Value::from("y".repeat(500))).chars().count(), EXAMPLE);
        assert_eq!(example(&serde_json::json!([1, 2])), "[2 elements]");
    }

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            (0..5i64).prop_map(Value::from),
            "[a-c~/]{0,3}".prop_map(Value::from)
        ];
        leaf.prop_recursive(3, 20, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::btree_map("[a-c~/*]{1,2}", inner, 0..4).prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    fn canonical_of(body: &Value, volatile: &[std::sync::Arc<str>]) -> u64 {
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
        canonical::digests(&headers, &Bytes::from(body.to_string()), volatile).canonical
    }

    proptest! {
        /// Whatever two documents are: with the pointers at which they differ left out, they have one canonical digest.
        #[test]
        fn leaving_out_what_differs_makes_two_documents_equal(a in json(), b in json()) {
            let (x, y) = (a.to_string(), b.to_string());
            let Some(places) = differing(x.as_bytes(), y.as_bytes(), &[]) else { return Ok(()) };
            prop_assert_ne!(canonical_of(&a, &[]), canonical_of(&b, &[]));
            let all: Vec<std::sync::Arc<str>> = places.keys().map(|p| p.as_str().into()).collect();
            prop_assert_eq!(canonical_of(&a, &all), canonical_of(&b, &all), "{} {} {:?}", a, b, places);
            prop_assert!(differing(x.as_bytes(), y.as_bytes(), &all).is_none());
        }

        /// Leaving pointers out twice, or in another order, is the same; what they do not name still counts.
        #[test]
        fn pointers_left_out_commute(body in json(), other in 0..1_000i64) {
            let pointers = |names: &[&str]| names.iter().map(|p| std::sync::Arc::<str>::from(*p)).collect::<Vec<_>>();
            let (there, back) = (pointers(&["/a", "/b/*/c", "/a"]), pointers(&["/b/*/c", "/a"]));
            prop_assert_eq!(canonical_of(&body, &there), canonical_of(&body, &back));
            let wrap = |v: i64| serde_json::json!({ "kept": v, "a": body });
            prop_assert_eq!(canonical_of(&wrap(other), &there), canonical_of(&serde_json::json!({ "kept": other, "a": other }), &there));
            prop_assert_ne!(canonical_of(&wrap(other), &there), canonical_of(&wrap(other + 1), &there));
        }
    }
}

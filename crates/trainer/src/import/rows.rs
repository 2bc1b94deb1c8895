//! From foreign records to rows of the log: keys and tenants as salted digests, what was seen of a key before, all bounded.

use std::collections::HashMap;
use std::num::NonZeroU64;
use std::sync::Arc;

use farthing_contract::log::{CallRow, Request};
use farthing_freshness::key::{BodyKey, Credentials, KeyParts, KeySpec, Keyer, Profile};
use farthing_types::{Money, UncachedReason};
use http::{HeaderMap, Method, Uri};

use super::endpoints::Place;
use super::fingerprint;
use super::record::{Record, Reuse, What};
use super::skipped::Reason;

/// Entries of each table of texts before it is begun anew.
const TEXTS: usize = 65_536;
/// Keys whose last fetch is remembered, a power of two: 32 MiB.
const KEYS: usize = 1 << 20;
/// Keys whose changes are remembered; keys beyond have unknown content.
const CHANGING: usize = 1 << 21;

/// What the rows are made under.
#[derive(Clone, Debug)]
pub struct Terms {
    /// Key of all digests.
    pub salt: [u8; 16],
    /// Each client has a cache of its own.
    pub private: bool,
    /// Price of a call that names none.
    pub price: Option<Money>,
}

impl Terms {
    /// Explicit lifetime, and why an answer must not be kept: one client's own cache keeps what is private, and only caches of many heed
    /// `s-maxage`.
    fn of(&self, reuse: Reuse) -> (Option<i64>, Option<UncachedReason>) {
        if self.private {
            return (reuse.ttl_s, reuse.forbidden.filter(|reason| *reason != UncachedReason::Private));
        }
        (reuse.shared_ttl_s.or(reuse.ttl_s), reuse.forbidden)
    }
}

/// Makes rows.
pub struct Rows {
    terms: Terms,
    keyer: Keyer,
    spec: KeySpec,
    /// Keys by method, host and target: most lines ask for what an earlier one asked for.
    known: HashMap<u64, u64>,
    tenants: HashMap<u64, Arc<str>>,
    words: HashMap<String, Arc<str>>,
    last: Vec<Last>,
    changing: HashMap<u64, (u64, Option<i64>)>,
    anybody: Arc<str>,
}

/// The last fetch of a key; the place is shared by keys of the same low bits, the later one stays.
#[derive(Clone, Copy, Default)]
struct Last {
    key: u64,
    at_ns: i64,
    hash: Option<NonZeroU64>,
    etag: Option<NonZeroU64>,
}

/// A row of the requests and one of the calls.
pub type Pair = (Request, CallRow);

impl Rows {
    /// Nothing seen yet.
    pub fn new(terms: Terms) -> Self {
        let keyer = Keyer::new(terms.salt);
        let spec = KeySpec { profile: Profile::Http, body: BodyKey::Exact, credentials: Arc::new(Credentials::default()) };
        Self {
            terms,
            keyer,
            spec,
            known: HashMap::new(),
            tenants: HashMap::new(),
            words: HashMap::new(),
            last: vec![Last::default(); KEYS],
            changing: HashMap::new(),
            anybody: "imported".into(),
        }
    }

    /// The rows of a record; none for one that only tells of a change.
    ///
    /// # Errors
    /// When the target is no URL.
    pub fn make(&mut self, record: &Record<'_>, place: &Place, id: u64, price: Option<Money>) -> Result<Option<Pair>, Reason> {
        let key = self.key(record, place, id)?;
        if record.is_change {
            self.change(key, record.bytes);
            if record.status.is_none() {
                return Ok(None);
            }
        }
        let tenant = self.tenant(record);
        let changing = self.changing.get(&key).copied();
        let status = record.status.unwrap_or(200);
        let mut before = self.before(key, record.at_ns);
        let version = changing.map(|(version, _)| mixed(key, version));
        let confirms = status == 304;
        let hash = if confirms { version.or_else(|| before.confirmed(record)) } else { record.body.or(version) };
        if confirms && hash.is_none() {
            // Another content than the one before, which the log does not show: that is compared with the next one that it shows.
            self.note(key, record, before.hash);
            before.hash = None;
        } else {
            self.note(key, record, hash);
        }
        let bytes = record.bytes.filter(|b| *b > 0).or_else(|| changing.and_then(|(_, b)| b)).or(record.bytes);
        let cost = record.cost.or(price).or(self.terms.price).map(Money::nanos);
        let (origin_ttl_s, forbidden) = self.terms.of(record.reuse);
        let request = Request {
            ts_ns: record.at_ns,
            request_id: id,
            weight: 1,
            tenant: Arc::clone(&tenant),
            route: Arc::clone(&place.route),
            endpoint: Some(Arc::clone(&place.endpoint)),
            method: self.word(&record.method),
            key_hash: key,
            outcome: "bypass",
            uncached_reason: Some(UncachedReason::Observe.as_str()),
            status,
            bytes_out: bytes,
            call_id: Some(id),
            base_nanousd: cost,
            cost_nanousd: cost,
            latency_us: record.latency_us,
            ..Request::default()
        };
        let mut call = CallRow {
            ts_ns: record.at_ns,
            call_id: id,
            tenant,
            route: Arc::clone(&place.route),
            endpoint: Some(Arc::clone(&place.endpoint)),
            provider: Arc::clone(&place.provider),
            upstream: Arc::clone(&place.provider),
            target: record.model.as_ref().map(|model| self.word(model)),
            key_hash: key,
            purpose: "user",
            fetch_reason: UncachedReason::Observe.as_str(),
            status: Some(status),
            sent: true,
            latency_us: record.latency_us.unwrap_or(0),
            bytes_in: bytes,
            // The digest of a 304 is that of an empty body.
            body_hash: record.body.filter(|_| record.body != record.etag && !confirms),
            canonical_hash: hash,
            last_modified_ns: record.last_modified_ns,
            origin_ttl_s,
            not_stored_reason: forbidden.map(UncachedReason::as_str),
            tokens_input: record.tokens[0],
            tokens_cached_input: record.tokens[1],
            tokens_output: record.tokens[2],
            cost_nanousd: cost,
            ..CallRow::default()
        };
        before.compare(&mut call, record);
        Ok(Some((request, call)))
    }

    /// The key; a request whose body is not known is like no other unless it is a GET or HEAD.
    fn key(&mut self, record: &Record<'_>, place: &Place, id: u64) -> Result<u64, Reason> {
        let tenant = if self.terms.private { record.client.as_deref().unwrap_or_default() } else { "" };
        match &record.what {
            What::Endpoint { key: None, .. } => Ok(self.digest(&[b"row", &id.to_le_bytes()])),
            What::Endpoint { key: Some(key), .. } => {
                Ok(self.digest(&[tenant.as_bytes(), place.route.as_bytes(), place.endpoint.as_bytes(), key.as_bytes()]))
            }
            What::Url { host, target } => {
                let safe = matches!(&*record.method, "GET" | "HEAD");
                let body = match &record.request_body {
                    Some(body) if !safe => body.as_bytes(),
                    None if !safe => &id.to_le_bytes(),
                    _ => &[],
                };
                let host = host.as_deref().unwrap_or_default();
                let told = [tenant.as_bytes(), record.method.as_bytes(), host.as_bytes(), target.as_bytes(), body];
                let told = told.iter().fold(fingerprint::Fingerprint::default(), |mut print, part| {
                    print.update(part);
                    print.update(&(part.len() as u64).to_le_bytes());
                    print
                });
                let told = told.finish()[0];
                if let Some(key) = self.known.get(&told) {
                    return Ok(*key);
                }
                let key = self.url_key((tenant, &place.route, &record.method), (host, target), body)?;
                remember(&mut self.known, told, key);
                Ok(key)
            }
        }
    }

    /// As the proxy digests it: sorted query, credentials left out.
    fn url_key(&self, (tenant, route, method): (&str, &str, &str), (authority, target): (&str, &str), body: &[u8]) -> Result<u64, Reason> {
        let method = Method::from_bytes(method.as_bytes()).map_err(|_| Reason::Request)?;
        let target = uri(target).ok_or(Reason::Target)?;
        let parts = KeyParts { tenant, route, method: &method, authority, target: &target, headers: &HeaderMap::new(), body };
        Ok(self.keyer.primary(&self.spec, &parts).short())
    }

    fn digest(&self, parts: &[&[u8]]) -> u64 {
        let mut bytes = Vec::with_capacity(parts.iter().map(|p| p.len() + 8).sum());
        for part in parts {
            bytes.extend_from_slice(&(part.len() as u64).to_le_bytes());
            bytes.extend_from_slice(part);
        }
        self.keyer.principal(&bytes).short()
    }

    /// A salted digest of who asked.
    fn tenant(&mut self, record: &Record<'_>) -> Arc<str> {
        let Some(client) = &record.client else { return Arc::clone(&self.anybody) };
        let told = fingerprint::of(client.as_bytes());
        if let Some(tenant) = self.tenants.get(&told) {
            return Arc::clone(tenant);
        }
        let tenant: Arc<str> = format!("p-{:016x}", self.digest(&[b"client", client.as_bytes()])).into();
        remember(&mut self.tenants, told, Arc::clone(&tenant));
        tenant
    }

    fn word(&mut self, text: &str) -> Arc<str> {
        if let Some(word) = self.words.get(text) {
            return Arc::clone(word);
        }
        let word: Arc<str> = text.chars().take(100).collect::<String>().into();
        remember(&mut self.words, text.to_owned(), Arc::clone(&word));
        word
    }

    fn change(&mut self, key: u64, bytes: Option<i64>) {
        if self.changing.len() < CHANGING || self.changing.contains_key(&key) {
            let (version, held) = self.changing.entry(key).or_insert((0, None));
            *version += 1;
            *held = bytes;
        }
    }

    /// What was known of a key before a fetch of it.
    fn before(&self, key: u64, at_ns: i64) -> Before {
        // The low bits are as good as any: keys are digests.
        let last = self.last.get(key as usize & (KEYS - 1)).copied().unwrap_or_default();
        if last.key != key || last.at_ns == 0 || last.at_ns > at_ns {
            return Before::default();
        }
        Before { gap_ms: Some((at_ns - last.at_ns) / 1_000_000), hash: last.hash.map(u64::from), etag: last.etag.map(u64::from) }
    }

    fn note(&mut self, key: u64, record: &Record<'_>, hash: Option<u64>) {
        if let Some(slot) = self.last.get_mut(key as usize & (KEYS - 1)) {
            let filled = |bits: Option<u64>| bits.and_then(NonZeroU64::new);
            *slot = Last { key, at_ns: record.at_ns, hash: filled(hash), etag: filled(record.etag) };
        }
    }
}

fn mixed(key: u64, version: u64) -> u64 {
    fingerprint::of(&[key.to_le_bytes(), version.to_le_bytes()].concat())
}

fn remember<K: std::hash::Hash + Eq, V>(table: &mut HashMap<K, V>, key: K, value: V) {
    if table.len() >= TEXTS {
        table.clear();
    }
    table.insert(key, value);
}

/// What was known of a key when it was fetched again.
#[derive(Clone, Copy, Debug, Default)]
struct Before {
    gap_ms: Option<i64>,
    hash: Option<u64>,
    etag: Option<u64>,
}

impl Before {
    /// The content that a 304 confirms. Its own digest is that of an empty body; an ETag on it is the content's.
    fn confirmed(&self, record: &Record<'_>) -> Option<u64> {
        // Where a log has no digests, ETags stand for them.
        let by_etag = record.etag.filter(|_| record.body == record.etag);
        match (record.etag, self.etag) {
            (Some(now), Some(before)) if now != before => by_etag.filter(|_| self.hash == self.etag),
            _ => self.hash.or(by_etag),
        }
    }

    fn compare(self, call: &mut CallRow, record: &Record<'_>) {
        let both = self.hash.zip(call.canonical_hash);
        (call.gap_ms, call.prev_canonical_hash) = (self.gap_ms, self.hash);
        call.changed = both.map(|(before, now)| before != now);
        // Where the ETag stands for the body, both changed together.
        call.validator_changed = both.filter(|_| record.etag.is_some() && record.etag == record.body).map(|(before, now)| before != now);
    }
}

/// A target as a URI; bytes that none may hold are percent-encoded first, as a browser would have done.
fn uri(target: &str) -> Option<Uri> {
    if let Ok(uri) = target.parse::<Uri>()
        && target.starts_with('/')
    {
        return Some(uri);
    }
    let mut text = String::with_capacity(target.len() + 16);
    if !target.starts_with('/') {
        text.push('/');
    }
    for byte in target.bytes() {
        match byte {
            b'!'..=b'~' if !matches!(byte, b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}') => text.push(char::from(byte)),
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(private: bool) -> Rows {
        Rows::new(Terms { salt: [7; 16], private, price: Some(Money::from_nanos(5)) })
    }

    fn place() -> Place {
        Place { route: "geo".into(), endpoint: "/geo/{id}".into(), provider: "api.test".into() }
    }

    fn asks(method: &'static str, target: &'static str, client: &'static str) -> Record<'static> {
        Record {
            method: method.into(),
            what: What::Url { host: None, target: target.into() },
            client: Some(client.into()),
            ..Record::default()
        }
    }

    fn key(rows: &mut Rows, record: &Record<'_>, id: u64) -> u64 {
        rows.make(record, &place(), id, None).unwrap().unwrap().0.key_hash
    }

    #[test]
    fn keys_are_those_of_the_proxy_and_hold_no_credential() {
        let mut rows = rows(false);
        let plain = key(&mut rows, &asks("GET", "/geo?a=1&b=2", "x"), 1);
        assert_eq!(plain, key(&mut rows, &asks("GET", "/geo?b=2&key=SECRET&a=1", "y"), 2));
        assert_ne!(plain, key(&mut rows, &asks("HEAD", "/geo?a=1&b=2", "x"), 3));
        assert_ne!(plain, key(&mut rows, &asks("GET", "/geo?a=1&b=3", "x"), 4));
        assert_ne!(key(&mut rows, &asks("POST", "/geo", "x"), 5), key(&mut rows, &asks("POST", "/geo", "x"), 6), "bodies are not known");
        let uri: Uri = "/geo?a=1&b=2".parse().unwrap();
        let parts =
            KeyParts { tenant: "", route: "geo", method: &Method::GET, authority: "", target: &uri, headers: &HeaderMap::new(), body: &[] };
        assert_eq!(plain, Keyer::new([7; 16]).primary(&rows.spec, &parts).short());
    }

    #[test]
    fn private_keys_are_told_apart_by_client() {
        for (private, same) in [(false, true), (true, false)] {
            let mut rows = rows(private);
            assert_eq!(key(&mut rows, &asks("GET", "/a", "x"), 1) == key(&mut rows, &asks("GET", "/a", "y"), 2), same);
        }
    }

    #[test]
    fn what_was_seen_before_is_compared_and_nothing_is_invented() {
        let mut rows = rows(false);
        let at = |s: i64, body| Record { at_ns: s * 1_000_000_000, body, ..asks("GET", "/a", "1.2.3.4") };
        let mut call = |record: Record<'_>| rows.make(&record, &place(), 1, None).unwrap().unwrap().1;
        let first = call(at(10, None));
        assert_eq!((first.gap_ms, first.changed, first.canonical_hash, first.cost_nanousd), (None, None, None, Some(5)));
        assert_eq!(call(at(12, Some(9))).gap_ms, Some(2_000));
        assert_eq!(call(at(13, Some(9))).changed, Some(false));
        assert_eq!(call(at(14, Some(8))).changed, Some(true));
        let late = call(at(11, Some(8)));
        assert_eq!((late.gap_ms, late.changed), (None, None), "out of order");
        assert!(late.tenant.starts_with("p-") && !late.tenant.contains("1.2.3.4"));
    }

    #[test]
    fn a_304_confirms_what_was_there() {
        let mut rows = rows(false);
        let mut at = 0;
        let mut call = |status, body: Option<u64>, etag: Option<u64>| {
            at += 1_000_000_000;
            let record = Record { at_ns: at, status: Some(status), body, etag, ..asks("GET", "/a", "x") };
            rows.make(&record, &place(), 1, None).unwrap().unwrap().1
        };
        // Digests alone.
        assert_eq!(call(304, Some(7), None).canonical_hash, None, "of what, is not known");
        assert_eq!(call(200, Some(9), None).changed, None);
        let confirmed = call(304, Some(7), None);
        assert_eq!((confirmed.changed, confirmed.canonical_hash, confirmed.body_hash), (Some(false), Some(9), None));
        assert_eq!(call(200, Some(9), None).changed, Some(false));
        // Digests and ETags, the latter also without the former.
        assert_eq!(call(200, Some(9), Some(1)).changed, Some(false));
        assert_eq!(call(304, Some(7), Some(1)).changed, Some(false));
        assert_eq!(call(304, Some(1), Some(1)).changed, Some(false));
        let other = call(304, Some(7), Some(2));
        assert_eq!((other.canonical_hash, other.prev_canonical_hash, other.changed), (None, None, None), "not shown");
        assert_eq!(call(200, Some(8), Some(2)).changed, Some(true));
        // ETags alone stand for digests.
        assert_eq!(call(200, Some(2), Some(2)).changed, Some(true));
        assert_eq!(call(304, Some(2), Some(2)).changed, Some(false));
        assert_eq!(call(304, Some(3), Some(3)).changed, Some(true));
        assert_eq!(call(200, Some(3), Some(3)).changed, Some(false));
        // One that names neither.
        assert_eq!(call(304, None, None).changed, Some(false));
    }

    #[test]
    fn changes_give_versions_and_no_rows_of_their_own() {
        let mut rows = rows(false);
        let ask = |is_change, status| Record {
            at_ns: 1,
            is_change,
            status,
            bytes: is_change.then_some(50),
            what: What::Endpoint { endpoint: "/x".into(), key: Some("k".into()), provider: None },
            ..Record::default()
        };
        let mut make = |record| rows.make(&record, &place(), 1, None).unwrap();
        assert_eq!(make(ask(false, None)).unwrap().1.canonical_hash, None, "before the first change nothing is known");
        assert_eq!(make(ask(true, None)), None);
        let (a, b) = (make(ask(false, None)).unwrap().1, make(ask(false, None)).unwrap().1);
        assert!(a.canonical_hash.is_some() && a.canonical_hash == b.canonical_hash && a.bytes_in == Some(50));
        let written = make(ask(true, Some(201))).unwrap().1;
        assert!(written.canonical_hash != a.canonical_hash);
    }

    #[test]
    fn what_an_origin_forbids_many_clients_it_may_allow_one() {
        use super::super::record::cache_control;
        for (text, many, one) in [
            ("private, max-age=60", (Some(60), Some("private")), (Some(60), None)),
            ("max-age=60, s-maxage=5", (Some(5), None), (Some(60), None)),
            ("no-store", (None, Some("origin-no-store")), (None, Some("origin-no-store"))),
        ] {
            for (private, expected) in [(false, many), (true, one)] {
                let record = Record { reuse: cache_control(text), ..asks("GET", "/a", "x") };
                let call = rows(private).make(&record, &place(), 1, None).unwrap().unwrap().1;
                assert_eq!((call.origin_ttl_s, call.not_stored_reason), expected, "{text} {private}");
            }
        }
    }

    #[test]
    fn odd_targets_still_have_keys() {
        for target in ["/a b", "/\u{e4}", "?q=1", "/a|b<c>", ""] {
            assert!(uri(target).is_some(), "{target}");
        }
        assert_eq!(uri("/a b").unwrap(), "/a%20b");
    }
}

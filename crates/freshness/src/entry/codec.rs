//! The flat form of an entry.
//!
//! Little endian: magic `FRTH`, version u8, flags u8, then 16 bytes of checksum (blake3 of everything behind it), then
//! the fields in the order of [`encode`]. Lengths and counts are u32; `Option` is a byte 0 or 1 before the value; spans and
//! the optional times are nanoseconds, `fetched_at` is milliseconds. A release reads every version that an
//! earlier one wrote; fixtures in `tests` hold it to that.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use farthing_contract::features::KEY_STATS_BYTES;
use farthing_types::{By, CallId, DecisionId, KeyHash, Money, Span, Time};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::{Entry, Fields, KeyStats, MAX_VARIANTS, Subject, VariantTtl};
use crate::key::Selected;
use crate::semantics::Facts;

/// Version of the flat form; the first byte after the magic.
pub const FORMAT_VERSION: u8 = 1;

const MAGIC: &[u8; 4] = b"FRTH";
const CHECKSUM: usize = 16;
const PREFIX: usize = MAGIC.len() + 2 + CHECKSUM;

/// Why bytes are no entry for what was asked. All of them count as a miss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// Not of this format, or of a version that this release cannot read.
    Foreign,
    /// The checksum or a length does not fit.
    Damaged,
    /// An entry, but for another key or tenant.
    OtherKey,
}

impl DecodeError {
    /// The stable string for the metric.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Foreign => "foreign",
            Self::Damaged => "damaged",
            Self::OtherKey => "other-key",
        }
    }
}

pub(super) fn encode(entry: &Entry) -> Vec<u8> {
    let mut w = Writer(Vec::with_capacity(entry.body.len() + 1024));
    w.0.extend_from_slice(MAGIC);
    w.0.extend_from_slice(&[FORMAT_VERSION, 0]);
    w.0.extend_from_slice(&[0; CHECKSUM]);
    w.subject(&entry.subject);
    w.opt(entry.selected.as_ref(), |w, s| {
        w.u128(s.key.0);
        w.count(s.names.len());
        s.names.iter().for_each(|n| w.bytes(n.as_str().as_bytes()));
    });
    w.u32(u32::from(entry.status.as_u16()));
    w.fields(&entry.headers);
    w.bytes(&entry.body);
    w.opt(entry.trailers.as_deref(), Writer::headers);
    w.i64(entry.fetched_at.millis());
    w.facts(&entry.facts);
    w.count(entry.variants.len().min(MAX_VARIANTS));
    entry.variants.iter().take(MAX_VARIANTS).for_each(|v| w.variant(v));
    w.0.extend_from_slice(&entry.stats.encode());
    w.opt(entry.price.as_ref(), |w, p| w.i64(p.nanos()));
    w.u64(entry.call.0);
    w.opt(entry.decision.as_ref(), |w, d| w.u64(d.0));
    w.count(entry.tags.len());
    entry.tags.iter().for_each(|t| w.bytes(t.as_bytes()));
    w.u64(entry.epoch);
    w.u64(entry.canonical_hash);
    let sum = checksum(w.0.get(PREFIX..).unwrap_or_default());
    if let Some(slot) = w.0.get_mut(PREFIX - CHECKSUM..PREFIX) {
        slot.copy_from_slice(&sum);
    }
    w.0
}

pub(super) fn decode(bytes: &Bytes, expected: &Arc<Subject>) -> Result<Entry, DecodeError> {
    let head = bytes.get(..PREFIX).ok_or(DecodeError::Foreign)?;
    // Flags are for later releases: what they would mean cannot be ignored.
    if !head.starts_with(MAGIC) || head.get(MAGIC.len()..MAGIC.len() + 2) != Some(&[FORMAT_VERSION, 0][..]) {
        return Err(DecodeError::Foreign);
    }
    let content = bytes.slice(PREFIX..);
    if head.get(PREFIX - CHECKSUM..) != Some(&checksum(&content)[..]) {
        return Err(DecodeError::Damaged);
    }
    let mut r = Reader(content);
    let subject = r.subject().ok_or(DecodeError::Damaged)?;
    if subject.key != expected.key || subject.tenant != expected.tenant {
        return Err(DecodeError::OtherKey);
    }
    let entry = r.entry(subject).ok_or(DecodeError::Damaged)?;
    if r.0.is_empty() { Ok(entry) } else { Err(DecodeError::Damaged) }
}

fn checksum(content: &[u8]) -> [u8; CHECKSUM] {
    let mut out = [0; CHECKSUM];
    out.copy_from_slice(blake3::hash(content).as_bytes().split_at(CHECKSUM).0);
    out
}

struct Writer(Vec<u8>);

impl Writer {
    fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }
    fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }
    fn i64(&mut self, value: i64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }
    fn u128(&mut self, value: u128) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }
    fn count(&mut self, n: usize) {
        self.u32(u32::try_from(n).unwrap_or(u32::MAX));
    }
    fn bytes(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.0.extend_from_slice(bytes);
    }
    fn span(&mut self, span: Span) {
        self.u64(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX));
    }
    fn opt<T>(&mut self, value: Option<&T>, put: impl FnOnce(&mut Self, &T)) {
        self.0.push(u8::from(value.is_some()));
        if let Some(value) = value {
            put(self, value);
        }
    }
    fn opt_span(&mut self, span: Option<Span>) {
        self.opt(span.as_ref(), |w, s| w.span(*s));
    }
    fn subject(&mut self, subject: &Subject) {
        self.u128(subject.key.0);
        self.bytes(subject.tenant.as_bytes());
        self.bytes(subject.route.as_bytes());
        self.bytes(subject.path.as_bytes());
    }
    fn fields(&mut self, fields: &Fields) {
        let fields = fields.view();
        self.count(fields.whole().count());
        for (name, value) in fields.whole() {
            self.bytes(name);
            self.bytes(value);
        }
    }
    fn headers(&mut self, headers: &HeaderMap) {
        self.count(headers.len());
        for (name, value) in headers {
            self.bytes(name.as_str().as_bytes());
            self.bytes(value.as_bytes());
        }
    }
    fn variant(&mut self, variant: &VariantTtl) {
        self.bytes(variant.variant.as_bytes());
        self.span(variant.ttl);
        self.span(variant.stale);
        let (kind, number, text) = match &variant.by {
            By::Rule(name) => (0, 0, *name),
            By::Table(version) => (1, *version, ""),
            By::Model(version) => (2, *version, ""),
            By::Fallback(reason) => (3, 0, *reason),
            By::Override(who) => (4, 0, &**who),
        };
        self.0.push(kind);
        self.u32(number);
        self.bytes(text.as_bytes());
    }
    fn facts(&mut self, facts: &Facts) {
        let flags = u8::from(facts.no_cache) | u8::from(facts.must_revalidate) << 1 | u8::from(facts.immutable) << 2;
        self.0.push(flags);
        self.span(facts.initial_age);
        for span in [facts.explicit, facts.heuristic, facts.stale_while_revalidate, facts.stale_if_error] {
            self.opt_span(span);
        }
        self.i64(facts.date.nanos());
        self.opt(facts.last_modified.as_ref(), |w, t| w.i64(t.nanos()));
        self.opt(facts.etag.as_ref(), |w, e| w.bytes(e.as_bytes()));
    }
}

/// Reads from the front; `None` whenever something does not fit.
struct Reader(Bytes);

impl Reader {
    fn take(&mut self, n: usize) -> Option<Bytes> {
        (n <= self.0.len()).then(|| self.0.split_to(n))
    }
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.as_ref().try_into().ok()
    }
    fn u8(&mut self) -> Option<u8> {
        Some(u8::from_le_bytes(self.array()?))
    }
    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.array()?))
    }
    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.array()?))
    }
    fn i64(&mut self) -> Option<i64> {
        Some(i64::from_le_bytes(self.array()?))
    }
    fn u128(&mut self) -> Option<u128> {
        Some(u128::from_le_bytes(self.array()?))
    }
    fn bytes(&mut self) -> Option<Bytes> {
        let n = self.u32()?;
        self.take(usize::try_from(n).ok()?)
    }
    fn text(&mut self) -> Option<Arc<str>> {
        Some(Arc::from(std::str::from_utf8(&self.bytes()?).ok()?))
    }
    fn span(&mut self) -> Option<Span> {
        Some(Span::from_nanos(self.u64()?))
    }
    /// `Some(None)` is an absent value, `None` a misfit.
    fn opt<T>(&mut self, get: impl FnOnce(&mut Self) -> Option<T>) -> Option<Option<T>> {
        match self.u8()? {
            0 => Some(None),
            1 => Some(Some(get(self)?)),
            _ => None,
        }
    }
    /// A list; its members take at least four bytes each, so that a wrong count cannot ask for much memory.
    fn list<T>(&mut self, mut get: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let n = usize::try_from(self.u32()?).ok()?;
        if n > self.0.len() / 4 {
            return None;
        }
        (0..n).map(|_| get(self)).collect()
    }
    fn name(&mut self) -> Option<HeaderName> {
        HeaderName::from_bytes(&self.bytes()?).ok()
    }
    fn value(&mut self) -> Option<HeaderValue> {
        HeaderValue::from_maybe_shared(self.bytes()?).ok()
    }
    fn headers(&mut self) -> Option<HeaderMap> {
        let list = self.list(|r| Some((r.name()?, r.value()?)))?;
        let mut out = HeaderMap::with_capacity(list.len());
        for (name, value) in list {
            out.try_append(name, value).ok()?;
        }
        Some(out)
    }
    fn subject(&mut self) -> Option<Arc<Subject>> {
        Some(Arc::new(Subject { key: KeyHash(self.u128()?), tenant: self.text()?, route: self.text()?, path: self.text()? }))
    }
    fn selected(&mut self) -> Option<Selected> {
        let key = KeyHash(self.u128()?);
        Some(Selected { key, names: self.list(Self::name)?.into() })
    }
    fn variant(&mut self) -> Option<VariantTtl> {
        let (variant, ttl, stale) = (self.text()?, self.span()?, self.span()?);
        let (kind, number, text) = (self.u8()?, self.u32()?, self.text()?);
        let by = match kind {
            0 => known(&text).map_or_else(|| By::Override(Arc::clone(&text)), By::Rule),
            1 => By::Table(number),
            2 => By::Model(number),
            3 => known(&text).map_or_else(|| By::Override(Arc::clone(&text)), By::Fallback),
            4 => By::Override(text),
            _ => return None,
        };
        Some(VariantTtl { variant, ttl, stale, by })
    }
    fn facts(&mut self) -> Option<Facts> {
        let flags = self.u8()?;
        Some(Facts {
            no_cache: flags & 1 != 0,
            must_revalidate: flags & 2 != 0,
            immutable: flags & 4 != 0,
            initial_age: self.span()?,
            explicit: self.opt(Self::span)?,
            heuristic: self.opt(Self::span)?,
            stale_while_revalidate: self.opt(Self::span)?,
            stale_if_error: self.opt(Self::span)?,
            date: Time::from_nanos(self.i64()?),
            last_modified: self.opt(|r| Some(Time::from_nanos(r.i64()?)))?,
            etag: self.opt(Self::value)?,
        })
    }
    fn entry(&mut self, subject: Arc<Subject>) -> Option<Entry> {
        Some(Entry {
            subject,
            selected: self.opt(Self::selected)?,
            status: StatusCode::from_u16(u16::try_from(self.u32()?).ok()?).ok()?,
            headers: self.headers()?.into(),
            body: self.bytes()?,
            trailers: self.opt(Self::headers)?.map(Box::new),
            fetched_at: Time::from_millis(self.i64()?),
            facts: self.facts()?,
            variants: self.list(Self::variant).filter(|v| v.len() <= MAX_VARIANTS)?,
            stats: KeyStats::decode(&self.array::<KEY_STATS_BYTES>()?),
            price: self.opt(|r| Some(Money::from_nanos(r.i64()?)))?,
            call: CallId(self.u64()?),
            decision: self.opt(|r| Some(DecisionId(r.u64()?)))?,
            tags: self.list(Self::text)?,
            epoch: self.u64()?,
            canonical_hash: self.u64()?,
        })
    }
}

/// Names of rules and fallbacks are `'static` in the program; those read back are kept here, once each and boundedly many.
/// `None` when there is no room: such a name comes back as an override's, which prints the same text.
fn known(text: &str) -> Option<&'static str> {
    const LONGEST: usize = 64;
    static NAMES: [OnceLock<&'static str>; 64] = [const { OnceLock::new() }; 64];
    if text.len() > LONGEST {
        return None;
    }
    NAMES.iter().map(|slot| *slot.get_or_init(|| Box::leak(text.into()))).find(|name| *name == text)
}

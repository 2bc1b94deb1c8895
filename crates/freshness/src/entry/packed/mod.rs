//! An entry as memory has it: the same as an [`Entry`], in as few bytes as that takes.
//!
//! One block holds what is looked at seldom, the fields and the body, one behind the other; the few words beside it say where these begin. What an
//! entry has in common with others is in its [`Shape`]. Nothing is rounded and nothing is left out: [`Packed::to_entry`] gives back what was packed.

mod numbers;

use std::sync::Arc;

use bytes::Bytes;
use farthing_types::{By, CallId, DecisionId, KeyHash, Money, Span, Time};
use http::header::ETAG;
use http::{HeaderMap, HeaderValue, StatusCode};

use super::fields::FieldsOf;
use super::{Entry, Fields, KeyStats, Named, Shape, Subject, VariantTtl};
use crate::key::Selected;
use crate::semantics::{Facts, Reuse};
use numbers::{Reader, Writer};

/// What an entry has, and how; bits of [`Packed::has`].
mod has {
    pub(super) const NO_CACHE: u16 = 1;
    pub(super) const MUST_REVALIDATE: u16 = 1 << 1;
    pub(super) const IMMUTABLE: u16 = 1 << 2;
    pub(super) const EXPLICIT: u16 = 1 << 3;
    pub(super) const HEURISTIC: u16 = 1 << 4;
    pub(super) const WHILE_REVALIDATE: u16 = 1 << 5;
    pub(super) const IF_ERROR: u16 = 1 << 6;
    /// Spans that a head may have.
    pub(super) const SPANS: u16 = EXPLICIT | HEURISTIC | WHILE_REVALIDATE | IF_ERROR;
    pub(super) const LAST_MODIFIED: u16 = 1 << 7;
    /// The `ETag` is that of the head.
    pub(super) const ETAG_OF_HEAD: u16 = 1 << 8;
    /// The head has another `ETag`, or none.
    pub(super) const ETAG_OF_ITS_OWN: u16 = 1 << 9;
    pub(super) const PRICE: u16 = 1 << 10;
    pub(super) const DECISION: u16 = 1 << 11;
    pub(super) const TRAILERS: u16 = 1 << 12;
    pub(super) const TAGS: u16 = 1 << 13;
    /// Its shape is its own, so that its bytes are.
    pub(super) const OWN_SHAPE: u16 = 1 << 14;
    pub(super) const HAZARD: u16 = 1 << 15;
}

/// What a variant decided about an entry: [`VariantTtl`], where it lies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ChosenTtl<'a> {
    /// How long the copy is fresh, from `fetched_at`.
    pub ttl: Span,
    /// How much longer it may be served while it is renewed in the background.
    pub stale: Span,
    /// Who decided.
    pub by: &'a By,
}

impl<'a> From<&'a VariantTtl> for ChosenTtl<'a> {
    fn from(own: &'a VariantTtl) -> Self {
        Self { ttl: own.ttl, stale: own.stale, by: &own.by }
    }
}

/// An entry in memory, immutable. Of the statistics as of its fill only the hazard is left: those of now are kept beside it.
#[derive(Debug)]
pub struct Packed {
    /// Details, then fields, then body.
    block: Bytes,
    /// The key under which it is stored; halves, so that it needs no more room for its place.
    key: [u64; 2],
    shape: Arc<Shape>,
    fetched_at: Time,
    fields_at: u32,
    body_at: u32,
    has: u16,
    status: StatusCode,
}

impl Packed {
    /// Packs an entry that has this shape; `own`: nobody else has it, so that its bytes are this entry's.
    pub fn of(entry: &Entry, (shape, own): (Arc<Shape>, bool), mark: u64) -> Self {
        let mut w = Writer(Vec::with_capacity(192));
        let has = details(&mut w, entry, mark);
        let (fields_at, fields) = (w.0.len(), entry.headers.as_bytes());
        let mut block = Vec::with_capacity(fields_at + fields.len() + entry.body.len());
        [&w.0[..], fields, &entry.body[..]].into_iter().for_each(|part| block.extend_from_slice(part));
        let key = entry.stored_key().0;
        let place = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        Self {
            block: block.into(),
            key: [(key >> 64) as u64, key as u64],
            fetched_at: entry.fetched_at,
            fields_at: place(fields_at),
            body_at: place(fields_at + fields.len()),
            has: has | if own { has::OWN_SHAPE } else { 0 },
            status: entry.status,
            shape,
        }
    }

    /// Packs an entry by itself.
    pub fn alone(entry: &Entry) -> Self {
        Self::of(entry, (Arc::new(Shape::of(entry)), true), 0)
    }

    /// The same as an entry, with these statistics and this purge sequence number.
    pub fn to_entry(&self, stats: &KeyStats, epoch: u64) -> Entry {
        let cold = self.cold();
        Entry {
            subject: Arc::new(self.subject()),
            selected: self.selected(),
            status: self.status,
            headers: self.headers().to_fields(),
            body: self.body(),
            trailers: self.trailers().map(Box::new),
            fetched_at: self.fetched_at,
            facts: self.facts(),
            variants: self.variants().collect(),
            stats: *stats,
            price: self.price(),
            call: cold.call,
            decision: self.decision(),
            tags: cold.tags().map(Arc::from).collect(),
            epoch,
            canonical_hash: cold.canonical_hash,
        }
    }

    /// The key under which it is stored: the second-level key when it has one.
    #[inline]
    pub const fn stored_key(&self) -> KeyHash {
        KeyHash((self.key[0] as u128) << 64 | self.key[1] as u128)
    }
    /// The words by which purges know it.
    pub const fn named(&self) -> &dyn Named {
        self
    }
    /// What it has in common with others.
    pub const fn shape(&self) -> &Arc<Shape> {
        &self.shape
    }
    /// Whether it has a second-level key.
    pub fn is_selected(&self) -> bool {
        self.shape.selected_by.is_some()
    }
    /// The status.
    #[inline]
    pub const fn status(&self) -> StatusCode {
        self.status
    }
    /// End-to-end headers, without `Age`.
    #[inline]
    pub fn headers(&self) -> FieldsOf<'_> {
        let fields = self.block.get(self.fields_at as usize..self.body_at as usize).unwrap_or_default();
        FieldsOf::new(fields, &self.block)
    }
    /// The whole body; shares this memory.
    #[inline]
    pub fn body(&self) -> Bytes {
        self.block.slice(self.body_at as usize..)
    }
    /// How many these are.
    #[inline]
    pub const fn body_len(&self) -> usize {
        self.block.len() - self.body_at as usize
    }
    /// When the answer (or its last 304) arrived.
    #[inline]
    pub const fn fetched_at(&self) -> Time {
        self.fetched_at
    }
    /// The call that fetched it.
    pub fn call(&self) -> CallId {
        self.cold().call
    }
    /// Digest of the canonical body, to tell whether the next fetch changed something.
    pub fn canonical_hash(&self) -> u64 {
        self.cold().canonical_hash
    }
    #[inline]
    const fn has(&self, what: u16) -> bool {
        self.has & what != 0
    }
    /// Whether it has purge tags.
    pub const fn is_tagged(&self) -> bool {
        self.has(has::TAGS)
    }

    /// What its head allows of its reuse.
    #[inline]
    pub fn reuse(&self) -> Reuse {
        let mut r = Reader(&self.block);
        let initial_age = r.span();
        let mut span = |what| if self.has(what) { Some(r.span()) } else { None };
        Reuse {
            initial_age,
            explicit: span(has::EXPLICIT),
            heuristic: span(has::HEURISTIC),
            stale_while_revalidate: span(has::WHILE_REVALIDATE),
            stale_if_error: span(has::IF_ERROR),
            no_cache: self.has(has::NO_CACHE),
            must_revalidate: self.has(has::MUST_REVALIDATE),
            immutable: self.has(has::IMMUTABLE),
        }
    }

    /// What variants have chosen, in the entry's order.
    #[inline]
    fn chosen(&self) -> impl Iterator<Item = (&Arc<str>, ChosenTtl<'_>)> {
        let mut r = self.behind(0);
        self.shape.variants.iter().map(move |(name, by)| (name, ChosenTtl { ttl: r.span(), stale: r.span(), by }))
    }
    /// Behind the spans of the head, and so many numbers more.
    #[inline]
    fn behind(&self, more: usize) -> Reader<'_> {
        let mut r = Reader(&self.block);
        r.skip(1 + (self.has & has::SPANS).count_ones() as usize + more);
        r
    }
    fn variants(&self) -> impl Iterator<Item = VariantTtl> {
        self.chosen().map(|(name, c)| VariantTtl { variant: Arc::clone(name), ttl: c.ttl, stale: c.stale, by: c.by.clone() })
    }
    /// As [`VariantTtl::of`].
    #[inline]
    pub fn variant(&self, variant: &str) -> Option<ChosenTtl<'_>> {
        let mut first = None;
        for (name, chosen) in self.chosen() {
            if **name == *variant {
                return Some(chosen);
            }
            first = first.or(Some(chosen));
        }
        first
    }
    /// The age up to which some variant takes it for fresh.
    pub fn fresh_for(&self) -> Span {
        self.chosen().map(|(_, c)| c.ttl).max().or(self.reuse().explicit).unwrap_or_default()
    }
    /// As [`Entry::longest`].
    pub fn longest(&self) -> Span {
        self.reuse().longest(self.chosen().map(|(_, c)| (c.ttl, c.stale)))
    }

    /// What the call cost; `None` when unknown.
    #[inline]
    pub fn price(&self) -> Option<Money> {
        self.has(has::PRICE).then(|| Money::from_nanos(self.behind(2 * self.shape.variants.len()).signed()))
    }
    /// The logged TTL decision.
    #[inline]
    pub fn decision(&self) -> Option<DecisionId> {
        let priced = usize::from(self.has(has::PRICE));
        self.has(has::DECISION).then(|| DecisionId(self.behind(2 * self.shape.variants.len() + priced).number()))
    }
    fn cold(&self) -> Cold<'_> {
        let numbers = (self.has & (has::PRICE | has::DECISION)).count_ones() as usize;
        let mut r = self.behind(2 * self.shape.variants.len() + numbers);
        Cold {
            mark: r.number(),
            call: CallId(u64::from_le_bytes(r.array())),
            canonical_hash: u64::from_le_bytes(r.array()),
            hazard: if self.has(has::HAZARD) { f64::from_le_bytes(r.array()) } else { 1.0 },
            date: Time::from_nanos(self.fetched_at.nanos().wrapping_add(r.signed())),
            last_modified: if self.has(has::LAST_MODIFIED) { Some(Time::from_nanos(r.signed())) } else { None },
            etag: if self.has(has::ETAG_OF_ITS_OWN) { Some(r.bytes()) } else { None },
            primary: if self.is_selected() { KeyHash(u128::from_le_bytes(r.array())) } else { self.stored_key() },
            path: r.text(),
            rest: r,
            has: self.has,
        }
    }

    /// The number up to which the fleet's purges had been carried out when its call began.
    pub fn mark(&self) -> u64 {
        self.cold().mark
    }
    /// The key's change hazard (1/s) as of the fill, where its kind has `prior`.
    pub fn hazard(&self, prior: f64) -> f64 {
        self.cold().hazard * prior
    }
    /// The primary key.
    pub fn primary(&self) -> KeyHash {
        if self.is_selected() { self.cold().primary } else { self.stored_key() }
    }
    /// The path (without query).
    pub fn path(&self) -> &str {
        self.cold().path
    }
    /// What it answers.
    pub fn subject(&self) -> Subject {
        let Shape { tenant, route, .. } = &*self.shape;
        let cold = self.cold();
        Subject { key: cold.primary, tenant: Arc::clone(tenant), route: Arc::clone(route), path: cold.path.into() }
    }
    /// The second-level key, when the answer had a `Vary`.
    pub fn selected(&self) -> Option<Selected> {
        self.shape.selected_by.as_ref().map(|names| Selected { names: Arc::clone(names), key: self.stored_key() })
    }
    /// Purge tags.
    pub fn tags(&self) -> impl Iterator<Item = &str> {
        self.is_tagged().then(|| self.cold().tags()).into_iter().flatten()
    }
    /// Trailers, when the provider sent some.
    pub fn trailers(&self) -> Option<HeaderMap> {
        if !self.has(has::TRAILERS) {
            return None;
        }
        Some(FieldsOf::new(self.cold().trailers(), &self.block).to_map(0))
    }
    /// The `ETag`, as received.
    pub fn etag(&self) -> Option<HeaderValue> {
        if self.has(has::ETAG_OF_HEAD) {
            return self.headers().value(&ETAG);
        }
        self.cold().etag.and_then(|etag| HeaderValue::from_maybe_shared(self.block.slice_ref(etag)).ok())
    }
    /// `Last-Modified`.
    pub fn last_modified(&self) -> Option<Time> {
        self.cold().last_modified
    }
    /// What RFC 9111 needs to know.
    pub fn facts(&self) -> Facts {
        let (reuse, cold) = (self.reuse(), self.cold());
        Facts { date: cold.date, last_modified: cold.last_modified, etag: self.etag(), ..Facts::of(reuse) }
    }

    /// Bytes of the allocations behind it: the block, what shares it once the first client has it, and its shape where nobody else has that.
    pub fn allocations(&self) -> [usize; 3] {
        [self.block.len(), SHARED, if self.has(has::OWN_SHAPE) { self.shape.bytes() } else { 0 }]
    }
}

/// Bytes of the counter that `Bytes` makes when it is first shared.
const SHARED: usize = 24;

/// What is looked at seldom.
struct Cold<'a> {
    mark: u64,
    call: CallId,
    canonical_hash: u64,
    hazard: f64,
    date: Time,
    last_modified: Option<Time>,
    etag: Option<&'a [u8]>,
    primary: KeyHash,
    path: &'a str,
    rest: Reader<'a>,
    has: u16,
}

impl<'a> Cold<'a> {
    fn tags(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let mut r = self.rest;
        let count = if self.has & has::TAGS == 0 { 0 } else { r.number() };
        (0..count).map(move |_| r.text())
    }
    fn trailers(&self) -> &'a [u8] {
        let mut r = self.rest;
        if self.has & has::TAGS != 0 {
            (0..r.number()).for_each(|_| _ = r.bytes());
        }
        r.bytes()
    }
}

/// Writes what is not in [`Packed`] itself, most needed first; what of it there is.
fn details(w: &mut Writer, entry: &Entry, mark: u64) -> u16 {
    let Facts {
        initial_age,
        explicit,
        heuristic,
        no_cache,
        must_revalidate,
        immutable,
        stale_while_revalidate,
        stale_if_error,
        date,
        last_modified,
        etag,
    } = &entry.facts;
    let flags = [(*no_cache, has::NO_CACHE), (*must_revalidate, has::MUST_REVALIDATE), (*immutable, has::IMMUTABLE)];
    let mut has: u16 = flags.into_iter().filter(|(set, _)| *set).map(|(_, bit)| bit).sum();
    let mut some = |there: bool, bit: u16| {
        has |= if there { bit } else { 0 };
        there
    };
    w.span(*initial_age);
    let spans = [
        (explicit, has::EXPLICIT),
        (heuristic, has::HEURISTIC),
        (stale_while_revalidate, has::WHILE_REVALIDATE),
        (stale_if_error, has::IF_ERROR),
    ];
    for (span, bit) in spans {
        some(span.is_some(), bit);
        span.iter().for_each(|span| w.span(*span));
    }
    entry.variants.iter().for_each(|v| [v.ttl, v.stale].into_iter().for_each(|span| w.span(span)));
    some(entry.price.is_some(), has::PRICE);
    entry.price.iter().for_each(|price| w.signed(price.nanos()));
    some(entry.decision.is_some(), has::DECISION);
    entry.decision.iter().for_each(|decision| w.number(u128::from(decision.0)));
    w.number(u128::from(mark));
    [entry.call.0, entry.canonical_hash].iter().for_each(|n| w.0.extend_from_slice(&n.to_le_bytes()));
    // That of a key of which nothing is known is its kind's.
    let hazard = entry.stats.hazard(1.0);
    if some(hazard.to_bits() != 1f64.to_bits(), has::HAZARD) {
        w.0.extend_from_slice(&hazard.to_le_bytes());
    }
    w.signed(date.nanos().wrapping_sub(entry.fetched_at.nanos()));
    some(last_modified.is_some(), has::LAST_MODIFIED);
    last_modified.iter().for_each(|at| w.signed(at.nanos()));
    let of_head = etag.is_some() && entry.headers.view().get(&ETAG) == etag.as_ref().map(HeaderValue::as_bytes);
    some(of_head, has::ETAG_OF_HEAD);
    if some(etag.is_some() && !of_head, has::ETAG_OF_ITS_OWN) {
        etag.iter().for_each(|etag| w.bytes(etag.as_bytes()));
    }
    if entry.selected.is_some() {
        w.0.extend_from_slice(&entry.subject.key.0.to_le_bytes());
    }
    w.bytes(entry.subject.path.as_bytes());
    if some(!entry.tags.is_empty(), has::TAGS) {
        w.number(entry.tags.len() as u128);
        entry.tags.iter().for_each(|tag| w.bytes(tag.as_bytes()));
    }
    some(entry.trailers.is_some(), has::TRAILERS);
    entry.trailers.iter().for_each(|trailers| w.bytes(Fields::of(trailers).as_bytes()));
    has
}

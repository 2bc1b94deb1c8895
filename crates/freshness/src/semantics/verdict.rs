//! May a stored answer be served now?

use farthing_types::{Span, Time, UncachedReason};
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING};
use http::{HeaderMap, HeaderValue};

use super::{Lifetime, Mode, RequestFacts, Reuse, Rules};
use crate::entry::{ChosenTtl, Packed};

/// What is judged: everything [`verdict`] looks at.
#[derive(Clone, Copy, Debug)]
pub struct Judged<'a> {
    /// What the entry's head allows.
    pub facts: Reuse,
    /// When it was fetched or last validated.
    pub fetched_at: Time,
    /// The TTL of the variant now assigned to the key ([`Packed::variant`]).
    pub chosen: Option<ChosenTtl<'a>>,
    /// Whether a soft purge made it stale.
    pub soft_purged: bool,
}

impl<'a> Judged<'a> {
    /// An entry as `variant` sees it.
    pub fn new(entry: &'a Packed, variant: &str, soft_purged: bool) -> Self {
        Self { facts: entry.reuse(), fetched_at: entry.fetched_at(), chosen: entry.variant(variant), soft_purged }
    }
}

/// How a stored answer may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Serve it.
    Fresh {
        /// Value of the `Age` field.
        age: Span,
        /// Time left.
        left: Span,
    },
    /// Serve it and renew it in the background.
    StaleWhileRevalidate {
        /// Value of the `Age` field.
        age: Span,
        /// Time since it became stale.
        past: Span,
    },
    /// Call the origin; serve it should the call fail.
    StaleIfError {
        /// Value of the `Age` field.
        age: Span,
        /// Why it may not be served at once.
        reason: UncachedReason,
    },
    /// Call the origin (conditionally, where there is a validator); do not serve it unvalidated.
    Revalidate {
        /// Why.
        reason: UncachedReason,
    },
}

impl Verdict {
    /// For a `reason` that freshness does not know: what would be served is not; only a call that fails may be answered with it.
    #[must_use]
    pub fn held_back(self, judged: &Judged<'_>, rules: &Rules, reason: UncachedReason) -> Self {
        let (Self::Fresh { age, .. } | Self::StaleWhileRevalidate { age, .. }) = self else { return self };
        let stands_in = !rules.stale_if_error.is_zero() && !judged.facts.must_revalidate;
        if stands_in { Self::StaleIfError { age, reason } } else { Self::Revalidate { reason } }
    }
}

/// Judges a stored answer for a request. The client's directives can shorten what the entry allows; only `max-stale` accepts
/// more, and only where the origin did not forbid staleness.
pub fn verdict(judged: &Judged<'_>, request: &RequestFacts, rules: &Rules, now: Time) -> Verdict {
    let freshness = Freshness::of(judged, rules, now);
    if rules.mode == Mode::Observe {
        return Verdict::Revalidate { reason: UncachedReason::Observe };
    }
    if request.no_cache {
        return Verdict::Revalidate { reason: UncachedReason::RequestDirective };
    }
    if judged.facts.no_cache && rules.obeys() {
        return Verdict::Revalidate { reason: UncachedReason::Expired };
    }
    let too_old = request.max_age.is_some_and(|limit| freshness.age > limit);
    let too_near = request.min_fresh.is_some_and(|need| freshness.left < need);
    if freshness.fresh() && !too_old && !too_near {
        return Verdict::Fresh { age: freshness.age, left: freshness.left };
    }
    if freshness.fresh() {
        return freshness.failing(request, UncachedReason::RequestDirective);
    }
    freshness.stale(request, too_old || too_near)
}

/// Where an entry stands between fresh and gone.
struct Freshness {
    age: Span,
    left: Span,
    past: Span,
    window: Span,
    error_window: Span,
    never_stale: bool,
    capped: bool,
}

impl Freshness {
    fn of(judged: &Judged<'_>, rules: &Rules, now: Time) -> Self {
        let facts = &judged.facts;
        let age = facts.age(judged.fetched_at, now);
        let resident = now.since(judged.fetched_at);
        let (lifetime, counted, window) = match facts.lifetime(rules.mode) {
            Lifetime::Explicit(span) | Lifetime::Heuristic(span) => (span, age, facts.stale_while_revalidate.unwrap_or_default()),
            Lifetime::Chosen => {
                let chosen = judged.chosen.map_or((Span::ZERO, Span::ZERO), |c| (c.ttl, c.stale));
                (chosen.0, resident, facts.stale_while_revalidate.filter(|_| rules.obeys()).unwrap_or(chosen.1))
            }
            Lifetime::None => (Span::ZERO, age, Span::ZERO),
        };
        let cap = rules.max_age.unwrap_or(Span::MAX);
        let (left, past) = (lifetime.saturating_sub(counted), counted.saturating_sub(lifetime));
        Self {
            age,
            left: if judged.soft_purged { Span::ZERO } else { left.min(cap.saturating_sub(resident)) },
            past,
            window,
            error_window: facts.stale_if_error.filter(|_| rules.obeys()).unwrap_or(rules.stale_if_error),
            never_stale: facts.must_revalidate && rules.obeys(),
            capped: resident >= cap,
        }
    }

    /// A lifetime of exactly the age is over (RFC 9111 section 4.2: fresh if lifetime > age).
    fn fresh(&self) -> bool {
        !self.left.is_zero()
    }

    fn stale(&self, request: &RequestFacts, refused: bool) -> Verdict {
        let accepted = self.past < self.window || request.max_stale.is_some_and(|limit| self.past <= limit);
        if accepted && !refused && !self.never_stale && !self.capped {
            return Verdict::StaleWhileRevalidate { age: self.age, past: self.past };
        }
        self.failing(request, UncachedReason::Expired)
    }

    /// The origin must be asked; what if it fails?
    fn failing(&self, request: &RequestFacts, reason: UncachedReason) -> Verdict {
        let window = self.error_window.max(request.stale_if_error.unwrap_or_default());
        let allowed = (self.fresh() || self.past < window) && !self.never_stale && !self.capped;
        if allowed { Verdict::StaleIfError { age: self.age, reason } } else { Verdict::Revalidate { reason } }
    }
}

/// Content codings that clients and origins agree upon in `Accept-Encoding` (the registry of RFC 9110 section 18.6). An origin applies any
/// other one whoever asks.
const NEGOTIATED: [&[u8]; 9] = [b"gzip", b"x-gzip", b"deflate", b"br", b"zstd", b"compress", b"x-compress", b"dcb", b"dcz"];

/// Whether a client that sent `request` can read the entry's content codings. A mismatch is a miss with
/// [`UncachedReason::Vary`]: profile `api` does not key on `Accept-Encoding`, and origins forget to say `Vary: Accept-Encoding`.
pub fn acceptable(entry: &Packed, request: &HeaderMap) -> bool {
    reads(entry.headers().all(&CONTENT_ENCODING), request)
}

/// The same for an answer that is not stored yet, by its head.
pub fn acceptable_head(head: &HeaderMap, request: &HeaderMap) -> bool {
    reads(head.get_all(CONTENT_ENCODING).iter().map(HeaderValue::as_bytes), request)
}

fn reads<'a>(codings: impl Iterator<Item = &'a [u8]>, request: &HeaderMap) -> bool {
    let codings = codings.flat_map(|value| value.split(|b| *b == b','));
    let mut negotiated = codings.map(<[u8]>::trim_ascii).filter(|coding| NEGOTIATED.iter().any(|known| known.eq_ignore_ascii_case(coding)));
    negotiated.all(|coding| accepts(request, coding))
}

fn accepts(request: &HeaderMap, coding: &[u8]) -> bool {
    let mut star = false;
    for value in request.get_all(ACCEPT_ENCODING) {
        for member in value.as_bytes().split(|b| *b == b',') {
            let (name, refused) = weigh(member);
            if name.eq_ignore_ascii_case(coding) || (name.eq_ignore_ascii_case(b"gzip") && coding.eq_ignore_ascii_case(b"x-gzip")) {
                return !refused;
            }
            star |= name == b"*" && !refused;
        }
    }
    star
}

/// A member of `Accept-Encoding`: its name, and whether its weight is zero.
fn weigh(member: &[u8]) -> (&[u8], bool) {
    let mut parts = member.split(|b| *b == b';').map(<[u8]>::trim_ascii);
    let name = parts.next().unwrap_or_default();
    let weight = |part: &[u8]| {
        let (field, value) = part.split_at_checked(2)?;
        let value = std::str::from_utf8(value).ok().filter(|_| field.eq_ignore_ascii_case(b"q="))?;
        value.parse::<f32>().ok()
    };
    (name, parts.filter_map(weight).any(|q| q == 0.0))
}

//! May this answer be stored, and what does it say about its freshness?

use farthing_types::{Span, Time, UncachedReason};
use http::header::{AGE, DATE, ETAG, EXPIRES, LAST_MODIFIED, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use super::date::parse_date;
use super::directives::seconds;
use super::{Bans, Directives, Mode, RequestFacts, Rules};

/// The longest heuristic freshness (RFC 9111 section 4.2.2 leaves it to the cache; a day is the customary cap).
const HEURISTIC_CAP: Span = Span::from_secs(24 * 3600);
/// The longest heuristic freshness of a negative answer: a failure must not outlive its cause for long on a guess.
const NEGATIVE_CAP: Span = Span::from_secs(60);
/// The share of the time since `Last-Modified` that heuristic freshness may take (RFC 9111 section 4.2.2).
const HEURISTIC_SHARE: u32 = 10;

/// The head of an answer and when it travelled.
#[derive(Clone, Copy, Debug)]
pub struct Received<'a> {
    /// The status.
    pub status: StatusCode,
    /// End-to-end headers.
    pub headers: &'a HeaderMap,
    /// When the request went out.
    pub requested_at: Time,
    /// When the head came in.
    pub received_at: Time,
}

/// What RFC 9111 needs to know about a stored answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// Age when it arrived (`corrected_initial_age`, RFC 9111 section 4.2.3).
    pub initial_age: Span,
    /// Freshness lifetime that the origin gave (`s-maxage` on shared routes, `max-age`, `Expires`), counted from the
    /// answer's generation. `None`: the origin is silent.
    pub explicit: Option<Span>,
    /// Heuristic freshness from `Last-Modified`; only where the origin is silent.
    pub heuristic: Option<Span>,
    /// `no-cache`: every reuse needs validation.
    pub no_cache: bool,
    /// `must-revalidate` (or what amounts to it on a shared route): never stale.
    pub must_revalidate: bool,
    /// `immutable`.
    pub immutable: bool,
    /// `stale-while-revalidate`.
    pub stale_while_revalidate: Option<Span>,
    /// `stale-if-error`.
    pub stale_if_error: Option<Span>,
    /// `Date`, or the time of arrival.
    pub date: Time,
    /// `Last-Modified`.
    pub last_modified: Option<Time>,
    /// `ETag`, as received.
    pub etag: Option<HeaderValue>,
}

/// The part of [`Facts`] that is looked at whenever a stored answer is judged.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Reuse {
    /// As in [`Facts`], like the others.
    pub initial_age: Span,
    /// Freshness lifetime that the origin gave.
    pub explicit: Option<Span>,
    /// Heuristic freshness.
    pub heuristic: Option<Span>,
    /// `stale-while-revalidate`.
    pub stale_while_revalidate: Option<Span>,
    /// `stale-if-error`.
    pub stale_if_error: Option<Span>,
    /// `no-cache`.
    pub no_cache: bool,
    /// `must-revalidate`.
    pub must_revalidate: bool,
    /// `immutable`.
    pub immutable: bool,
}

impl Reuse {
    /// Who decides about freshness under `mode`. Only [`Lifetime::Chosen`] asks for a prediction.
    pub const fn lifetime(&self, mode: Mode) -> Lifetime {
        match (mode, self.explicit, self.heuristic) {
            (Mode::Override, ..) | (Mode::Learned, None, _) => Lifetime::Chosen,
            (_, Some(span), _) => Lifetime::Explicit(span),
            (_, None, Some(span)) => Lifetime::Heuristic(span),
            (_, None, None) => Lifetime::None,
        }
    }

    /// The age of the answer at `now` when it was received at `fetched_at` (`current_age`, RFC 9111 section 4.2.3).
    pub fn age(&self, fetched_at: Time, now: Time) -> Span {
        self.initial_age.saturating_add(now.since(fetched_at))
    }

    /// The age after which the answer may be served no more, where variants have chosen these TTLs and stale windows.
    pub fn longest(&self, chosen: impl Iterator<Item = (Span, Span)>) -> Span {
        let chosen = chosen.map(|(ttl, stale)| ttl.saturating_add(stale)).max().unwrap_or_default();
        let explicit = self.explicit.unwrap_or_default();
        chosen.max(explicit.saturating_add(self.stale_while_revalidate.unwrap_or_default()))
    }
}

/// Who says how long an answer is fresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// The origin: this long from the answer's generation.
    Explicit(Span),
    /// The heuristic of RFC 9111 section 4.2.2: this long from the answer's generation.
    Heuristic(Span),
    /// Farthing: a predicted (or configured) TTL counted from `fetched_at`.
    Chosen,
    /// Nobody: storable only to be validated.
    None,
}

impl Facts {
    /// Reads the head of an answer for a route.
    pub fn read(received: &Received<'_>, rules: &Rules) -> Self {
        let directives = Directives::read_response(received.headers, rules);
        let date = time_of(received.headers, &DATE).unwrap_or(received.received_at);
        let explicit = explicit(&directives, received, date, rules.shared);
        let last_modified = time_of(received.headers, &LAST_MODIFIED);
        let guessable = heuristic_cap(received.status, &directives).filter(|_| explicit.is_none());
        let shared_revalidate = rules.shared && (directives.proxy_revalidate || directives.s_maxage.is_some());
        Self {
            initial_age: initial_age(received, date),
            explicit,
            heuristic: last_modified.zip(guessable).map(|(modified, cap)| (date.since(modified) / HEURISTIC_SHARE).min(cap)),
            no_cache: directives.no_cache,
            must_revalidate: directives.must_revalidate || shared_revalidate,
            immutable: directives.immutable,
            stale_while_revalidate: directives.stale_while_revalidate,
            stale_if_error: directives.stale_if_error,
            date,
            last_modified,
            etag: received.headers.get(ETAG).cloned(),
        }
    }

    /// What it allows of the answer's reuse.
    pub const fn reuse(&self) -> Reuse {
        Reuse {
            initial_age: self.initial_age,
            explicit: self.explicit,
            heuristic: self.heuristic,
            stale_while_revalidate: self.stale_while_revalidate,
            stale_if_error: self.stale_if_error,
            no_cache: self.no_cache,
            must_revalidate: self.must_revalidate,
            immutable: self.immutable,
        }
    }

    /// The facts of an answer of which nothing but this is known.
    pub fn of(reuse: Reuse) -> Self {
        let Reuse { initial_age, explicit, heuristic, stale_while_revalidate, stale_if_error, no_cache, must_revalidate, immutable } =
            reuse;
        Self {
            initial_age,
            explicit,
            heuristic,
            no_cache,
            must_revalidate,
            immutable,
            stale_while_revalidate,
            stale_if_error,
            ..Self::default()
        }
    }

    /// As [`Reuse::lifetime`].
    pub const fn lifetime(&self, mode: Mode) -> Lifetime {
        self.reuse().lifetime(mode)
    }

    /// Whether a later call can be made conditional.
    pub fn has_validator(&self) -> bool {
        self.etag.is_some() || self.last_modified.is_some()
    }

    /// As [`Reuse::age`].
    pub fn age(&self, fetched_at: Time, now: Time) -> Span {
        self.reuse().age(fetched_at, now)
    }
}

/// Whether an answer may be stored on a route for reuse.
///
/// # Errors
/// The one reason why it may not.
pub fn may_store(request: &RequestFacts, received: &Received<'_>, rules: &Rules) -> Result<Facts, UncachedReason> {
    let facts = Facts::read(received, rules);
    may_keep(request, received.status, (&facts, Bans::read(received, rules)), rules)?;
    Ok(facts)
}

/// As [`may_store`], for an answer whose head was read before.
///
/// # Errors
/// The one reason why it may not be stored.
pub fn may_keep(request: &RequestFacts, status: StatusCode, (facts, bans): (&Facts, Bans), rules: &Rules) -> Result<(), UncachedReason> {
    super::may_lookup(request, rules)?;
    // What belongs to one request is no less its own because of the status.
    may_renew(request, bans, rules)?;
    let storable = storable(status);
    if storable == Storable::Never {
        return Err(UncachedReason::Status);
    }
    let told = match rules.mode {
        Mode::Override => false,
        Mode::Respect => facts.explicit.is_some() || facts.heuristic.is_some(),
        Mode::Learned | Mode::Observe => facts.explicit.is_some(),
    };
    if storable != Storable::ByDefault && !told {
        return Err(UncachedReason::Status);
    }
    let useless = match facts.lifetime(rules.mode) {
        Lifetime::None => !facts.has_validator(),
        Lifetime::Explicit(span) | Lifetime::Heuristic(span) => {
            span <= facts.initial_age && !facts.has_validator() && facts.stale_while_revalidate.is_none() && facts.stale_if_error.is_none()
        }
        Lifetime::Chosen => facts.no_cache && rules.obeys() && !facts.has_validator(),
    };
    if useless { Err(UncachedReason::NoFreshness) } else { Ok(()) }
}

/// Whether an entry may be renewed by a 304 after which its head says this, and be handed on to others than who asked: as an answer of its
/// own, but that it needs no freshness.
///
/// # Errors
/// The one reason why it may not.
pub fn may_renew(request: &RequestFacts, bans: Bans, rules: &Rules) -> Result<(), UncachedReason> {
    match bans.vary_star {
        true => Err(UncachedReason::Vary),
        false if rules.obeys() => obey(request, bans, rules),
        false => Ok(()),
    }
}

/// Whether a stored answer of this status may stand in for a failed call. A stored error is no better than the one it would hide.
pub fn may_stand_in(stored: StatusCode) -> bool {
    !stored.is_client_error() && !stored.is_server_error()
}

/// Whether a stored answer may stand in for one with this status where `stale-if-error` allows it (RFC 5861 section 4).
pub fn is_stood_in_for(status: StatusCode) -> bool {
    matches!(status.as_u16(), 500 | 502 | 503 | 504)
}

/// Whether an answer may take the place of a stored one, if there is one: a failure must not push out a good answer, which may stand in
/// for it.
///
/// # Errors
/// The reason why it may not.
pub fn may_replace(stored: Option<StatusCode>, answer: StatusCode) -> Result<(), UncachedReason> {
    let good = stored.is_some_and(|stored| stored.is_success());
    if good && answer.is_server_error() { Err(UncachedReason::Status) } else { Ok(()) }
}

/// The origin's prohibitions: `no-store` and Set-Cookie always, `private` and Authorization on shared routes.
fn obey(request: &RequestFacts, bans: Bans, rules: &Rules) -> Result<(), UncachedReason> {
    if bans.no_store {
        return Err(UncachedReason::OriginNoStore);
    }
    if bans.set_cookie {
        return Err(UncachedReason::SetCookie);
    }
    // RFC 9111 section 3.5: what makes an answer to an authorised request shareable.
    if rules.shared && (bans.private || (request.authorization && !bans.shareable)) {
        return Err(UncachedReason::Private);
    }
    Ok(())
}

/// Which statuses are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Storable {
    /// Complete successes and permanent redirects.
    ByDefault,
    /// Negative answers: when the origin says for how long, and in `Respect` for a short time by the heuristic of the RFC.
    Negative,
    /// All other final statuses, only when the origin itself says for how long, or `public` (RFC 9111 section 3).
    WhenTold,
    /// Answers to a condition, a range or a credential of one request, and those that RFC 6585 keeps out of caches.
    Never,
}

fn storable(status: StatusCode) -> Storable {
    match status.as_u16() {
        200 | 203 | 204 | 300 | 301 | 308 => Storable::ByDefault,
        404 | 405 | 410 | 414 | 501 => Storable::Negative,
        0..=199 | 206 | 304 | 401 | 407 | 412 | 416 | 428 | 429 | 431 | 511 => Storable::Never,
        _ => Storable::WhenTold,
    }
}

/// The longest heuristic freshness; `None` where the heuristic does not apply (RFC 9111 section 4.2.2).
fn heuristic_cap(status: StatusCode, directives: &Directives) -> Option<Span> {
    match storable(status) {
        Storable::ByDefault => Some(HEURISTIC_CAP),
        Storable::Negative => Some(NEGATIVE_CAP),
        Storable::WhenTold if directives.public => Some(NEGATIVE_CAP),
        Storable::WhenTold | Storable::Never => None,
    }
}

/// Statuses of RFC 9110 whose demands on caches are implemented here: what `must-understand` asks about.
pub(super) fn is_understood(status: StatusCode) -> bool {
    let known =
        matches!(status.as_u16(), 200..=205 | 300..=303 | 305 | 307 | 308 | 400..=411 | 413..=415 | 417 | 421 | 422 | 426 | 500..=505);
    known && storable(status) != Storable::Never
}

/// Fields that one proxy says to the next; they are not stored (RFC 9111 section 3.1).
const PROXY_FIELDS: [HeaderName; 3] = [PROXY_AUTHENTICATE, HeaderName::from_static("proxy-authentication-info"), PROXY_AUTHORIZATION];

/// An answer's headers as they are stored: without fields for proxies, and without those that `no-cache="f"` keeps from being sent
/// again (RFC 9111 sections 3.1 and 5.2.2.4).
pub fn without_unstored(mut headers: HeaderMap, rules: &Rules) -> HeaderMap {
    let fields = if rules.obeys() { Directives::read_response(&headers, rules).no_cache_fields } else { Vec::new() };
    for name in PROXY_FIELDS.iter().chain(&fields) {
        headers.remove(name);
    }
    headers
}

fn explicit(directives: &Directives, received: &Received<'_>, date: Time, shared: bool) -> Option<Span> {
    if let Some(span) = directives.s_maxage.filter(|_| shared) {
        return Some(span);
    }
    if directives.max_age.is_some() {
        return directives.max_age;
    }
    if directives.targeted {
        return None;
    }
    let mut values = received.headers.get_all(EXPIRES).iter();
    let first = values.next()?;
    // Two fields, or one that is no date ("0"), mean already expired (RFC 9111 section 5.3).
    let at = if values.next().is_some() { None } else { parse_date(first) };
    Some(at.map_or(Span::ZERO, |at| at.since(date)))
}

/// `corrected_initial_age` of RFC 9111 section 4.2.3.
fn initial_age(received: &Received<'_>, date: Time) -> Span {
    let apparent = received.received_at.since(date);
    // Our time stamps are finer than HTTP's: within the second of `Date` an answer has no apparent age.
    let apparent = Span::from_secs(apparent.as_secs());
    corrected_age(apparent, told_age(received.headers), received.received_at.since(received.requested_at))
}

/// The `Age` that caches before us tell: the first member where it is a list, nothing where that is no number (RFC 9111 section 5.1).
/// What a parameter follows is still a number: taking an old answer for a new one is the worse mistake.
pub(super) fn told_age(headers: &HeaderMap) -> Span {
    let text = headers.get(AGE).and_then(|v| v.to_str().ok());
    seconds(text.and_then(|text| text.split([',', ';']).next())).unwrap_or_default()
}

/// The age of an answer on arrival: by its `Date`, or by its `Age` and the time it travelled, whichever is more.
pub(super) fn corrected_age(apparent: Span, told: Span, travelled: Span) -> Span {
    apparent.max(told.saturating_add(travelled))
}

pub(super) fn time_of(headers: &HeaderMap, name: &HeaderName) -> Option<Time> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?;
    if values.next().is_some() { None } else { parse_date(first) }
}

/// HEAD and GET are the methods whose answers a client may validate by itself.
pub(super) fn is_read(method: &Method) -> bool {
    method == Method::GET || method == Method::HEAD
}

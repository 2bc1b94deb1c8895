//! The short form in which the log keeps what heads say about reuse: enough to judge a request or an answer again, in replay, under
//! other rules. Words separated by spaces; an empty form is null. Nothing else of a head is kept.

use std::fmt::Write;

use farthing_types::{Span, Time};
use http::header::{DATE, ETAG, HeaderValue, SET_COOKIE};
use http::{HeaderMap, Method, StatusCode};

use super::store::{corrected_age, is_understood, time_of, told_age};
use super::{Directives, Facts, Received, RequestFacts, Rules};
use crate::key::{Vary, vary};

/// What a client asks of the cache with `x-farthing-cache`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum CacheControl {
    /// Everything.
    #[default]
    On,
    /// Nothing.
    Off,
    /// Read, do not store.
    ReadOnly,
    /// Store, do not read (`write-only`, `refresh`).
    Refresh,
}

impl CacheControl {
    const fn word(self) -> Option<&'static str> {
        match self {
            Self::On => None,
            Self::Off => Some("cache=off"),
            Self::ReadOnly => Some("cache=read-only"),
            Self::Refresh => Some("cache=refresh"),
        }
    }
}

/// A word that is none of the form's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a word of the log's short form of heads; it was written by a later version")]
pub struct UnknownWord(pub String);

/// The words of a form.
#[derive(Default)]
struct Words(String);

impl Words {
    fn flag(&mut self, word: &str, set: bool) {
        if set {
            self.put(format_args!("{word}"));
        }
    }
    fn span(&mut self, word: &str, span: Option<Span>) {
        match span {
            None => {}
            Some(Span::MAX) => self.put(format_args!("{word}")),
            Some(span) => self.put(format_args!("{word}={}", span.as_secs())),
        }
    }
    fn put(&mut self, word: std::fmt::Arguments<'_>) {
        if !self.0.is_empty() {
            self.0.push(' ');
        }
        // Writing to a String cannot fail.
        let _ = self.0.write_fmt(word);
    }
    fn done(self) -> Option<String> {
        (!self.0.is_empty()).then_some(self.0)
    }
}

fn split(word: &str) -> (&str, Option<Span>) {
    match word.split_once('=') {
        Some((name, value)) => (name, value.parse().ok().map(Span::from_secs)),
        None => (word, None),
    }
}

fn millis(word: &str) -> Option<Span> {
    word.split_once('=')?.1.strip_suffix("ms")?.parse().ok().map(Span::from_millis)
}

impl RequestFacts {
    /// The short form of what the request asks for, `control` included; `None` where it asks for nothing special.
    pub fn noted(&self, control: CacheControl) -> Option<String> {
        let mut words = Words::default();
        words.flag("no-cache", self.no_cache);
        words.flag("no-store", self.no_store);
        words.flag("only-if-cached", self.only_if_cached);
        words.span("max-age", self.max_age);
        words.span("max-stale", self.max_stale);
        words.span("min-fresh", self.min_fresh);
        words.span("stale-if-error", self.stale_if_error);
        words.flag("authorization", self.authorization);
        words.flag("cookie", self.cookie);
        words.flag("precondition", self.precondition);
        if let Some(word) = control.word() {
            words.flag(word, true);
        }
        words.done()
    }

    /// The request that a short form stands for.
    ///
    /// # Errors
    /// [`UnknownWord`].
    pub fn from_noted(method: Method, text: &str) -> Result<(Self, CacheControl), UnknownWord> {
        let mut facts = Self { method, ..Self::read(&Method::GET, &HeaderMap::new()) };
        let mut control = CacheControl::On;
        for word in text.split_ascii_whitespace() {
            match split(word) {
                ("no-cache", _) => facts.no_cache = true,
                ("no-store", _) => facts.no_store = true,
                ("only-if-cached", _) => facts.only_if_cached = true,
                ("max-age", span) => facts.max_age = span.or(Some(Span::MAX)),
                ("max-stale", span) => facts.max_stale = span.or(Some(Span::MAX)),
                ("min-fresh", span) => facts.min_fresh = span.or(Some(Span::MAX)),
                ("stale-if-error", span) => facts.stale_if_error = span.or(Some(Span::MAX)),
                ("authorization", _) => facts.authorization = true,
                ("cookie", _) => facts.cookie = true,
                ("precondition", _) => facts.precondition = true,
                ("cache", _) => control = control_of(word)?,
                _ => return Err(UnknownWord(word.to_owned())),
            }
        }
        Ok((facts, control))
    }
}

fn control_of(word: &str) -> Result<CacheControl, UnknownWord> {
    let all = [CacheControl::Off, CacheControl::ReadOnly, CacheControl::Refresh];
    all.into_iter().find(|c| c.word() == Some(word)).ok_or_else(|| UnknownWord(word.to_owned()))
}

/// What forbids an answer's reuse.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bans {
    /// `no-store`, or `must-understand` with a status that we do not know.
    pub no_store: bool,
    /// It sets a cookie.
    pub set_cookie: bool,
    /// `private`.
    pub private: bool,
    /// `public`, `must-revalidate` or `s-maxage`: an answer to an authorised request that may be shared all the same (RFC 9111
    /// section 3.5).
    pub shareable: bool,
    /// `public`: a status that is not stored by default may be.
    pub public: bool,
    /// `Vary: *`.
    pub vary_star: bool,
}

impl Bans {
    /// Reads an answer's head as a route sees it.
    pub fn read(received: &Received<'_>, rules: &Rules) -> Self {
        Self::of(&Directives::read_response(received.headers, rules), received)
    }

    fn of(directives: &Directives, received: &Received<'_>) -> Self {
        let headers = received.headers;
        Self {
            // A 304 is about the stored answer, whose status was understood.
            no_store: if directives.must_understand {
                received.status != StatusCode::NOT_MODIFIED && !is_understood(received.status)
            } else {
                directives.no_store
            },
            set_cookie: headers.contains_key(SET_COOKIE),
            private: directives.private,
            shareable: directives.public || directives.must_revalidate || directives.s_maxage.is_some(),
            public: directives.public,
            vary_star: vary(headers) == Vary::Star,
        }
    }
}

/// The short form of what an answer's head says about reuse beyond its explicit freshness and `Last-Modified`, which have columns of
/// their own; `None` where it says nothing. `facts` are those of the same head on the same route.
pub fn answer_noted(received: &Received<'_>, facts: &Facts, rules: &Rules) -> Option<String> {
    let directives = Directives::read_response(received.headers, rules);
    let bans = Bans::of(&directives, received);
    let mut words = Words::default();
    words.flag("etag", received.headers.contains_key(ETAG));
    words.flag("no-store", bans.no_store);
    words.flag("set-cookie", bans.set_cookie);
    words.flag("private", bans.private);
    words.flag("shareable", bans.shareable);
    words.flag("public", bans.public);
    words.flag("vary-star", bans.vary_star);
    words.flag("targeted", directives.targeted);
    words.flag("no-cache", facts.no_cache);
    words.flag("must-revalidate", facts.must_revalidate);
    words.flag("immutable", facts.immutable);
    words.span("stale-while-revalidate", facts.stale_while_revalidate);
    words.span("stale-if-error", facts.stale_if_error);
    if let Some(heuristic) = facts.heuristic {
        words.put(format_args!("heuristic={}ms", heuristic.as_millis()));
    }
    words.span("age", Some(told_age(received.headers)).filter(|age| !age.is_zero()));
    let date = time_of(received.headers, &DATE).unwrap_or(received.received_at);
    words.span("apparent", Some(Span::from_secs(received.received_at.since(date).as_secs())).filter(|span| !span.is_zero()));
    words.done()
}

/// What the log says of an answer in its other columns.
#[derive(Clone, Copy, Debug, Default)]
pub struct Logged {
    /// When the call went out.
    pub requested_at: Time,
    /// When the head came in.
    pub received_at: Time,
    /// Explicit freshness lifetime.
    pub explicit: Option<Span>,
    /// `Last-Modified`.
    pub last_modified: Option<Time>,
}

impl Facts {
    /// The answer that a short form stands for.
    ///
    /// # Errors
    /// [`UnknownWord`].
    pub fn from_noted(text: &str, logged: &Logged) -> Result<(Self, Bans), UnknownWord> {
        let Logged { received_at, explicit, last_modified, .. } = *logged;
        let mut facts = Self { explicit, last_modified, date: received_at, ..Self::default() };
        let mut bans = Bans::default();
        let (mut aged, mut apparent) = (Span::ZERO, Span::ZERO);
        for word in text.split_ascii_whitespace() {
            match split(word) {
                ("etag", _) => facts.etag = Some(HeaderValue::from_static("\"logged\"")),
                ("no-store", _) => bans.no_store = true,
                ("set-cookie", _) => bans.set_cookie = true,
                ("private", _) => bans.private = true,
                ("shareable", _) => bans.shareable = true,
                ("public", _) => bans.public = true,
                ("vary-star", _) => bans.vary_star = true,
                // For readers: by which field is in the other words already.
                ("targeted", _) => {}
                ("no-cache", _) => facts.no_cache = true,
                ("must-revalidate", _) => facts.must_revalidate = true,
                ("immutable", _) => facts.immutable = true,
                ("stale-while-revalidate", span) => facts.stale_while_revalidate = span.or(Some(Span::MAX)),
                ("stale-if-error", span) => facts.stale_if_error = span.or(Some(Span::MAX)),
                ("heuristic", _) => facts.heuristic = millis(word),
                ("age", span) => aged = span.unwrap_or_default(),
                ("apparent", span) => apparent = span.unwrap_or_default(),
                _ => return Err(UnknownWord(word.to_owned())),
            }
        }
        facts.initial_age = corrected_age(apparent, aged, received_at.since(logged.requested_at));
        Ok((facts, bans))
    }
}

/// Lays what a request asks for, and what the rules of HTTP leave of it, over the steps (cache, dedupe) that its route plans; `off`:
/// the client wants nothing of either.
pub fn restrict<E: From<farthing_types::UncachedReason>>(
    (cache, dedupe): (Result<(), E>, Result<(), E>),
    request: &RequestFacts,
    off: bool,
    rules: &Rules,
) -> (Result<(), E>, Result<(), E>) {
    use farthing_types::UncachedReason as Reason;
    let own = |reason: Reason| Err(E::from(reason));
    if off {
        return (own(Reason::RequestDirective), own(Reason::RequestDirective));
    }
    let Err(reason) = super::may_lookup(request, rules) else { return (cache, dedupe) };
    // What the cache must not touch because of its content may still be joined by the same principal. What it does not understand may not; nor may what would be
    // nobody else's because of this very request, for whoever waited would have waited in vain.
    let alone = matches!(reason, Reason::Method | Reason::PassThrough | Reason::RequestCookie | Reason::RequestDirective);
    (cache.and(own(reason)), if alone { dedupe.and(own(reason)) } else { dedupe })
}

#[cfg(test)]
mod tests {
    use http::header::{AGE, AUTHORIZATION, CACHE_CONTROL, LAST_MODIFIED};
    use proptest::prelude::*;

    use super::*;
    use crate::Mode;

    fn span() -> impl Strategy<Value = Option<Span>> {
        prop_oneof![Just(None), Just(Some(Span::MAX)), (0..100_000u64).prop_map(|s| Some(Span::from_secs(s)))]
    }

    proptest! {
        #[test]
        fn requests_read_back(
            flags in any::<[bool; 6]>(), spans in [span(), span(), span(), span()], control in 0..4usize, get in any::<bool>()
        ) {
            let method = if get { Method::GET } else { Method::POST };
            let facts = RequestFacts {
                method: method.clone(),
                no_cache: flags[0], no_store: flags[1], only_if_cached: flags[2],
                max_age: spans[0], max_stale: spans[1], min_fresh: spans[2], stale_if_error: spans[3],
                authorization: flags[3], cookie: flags[4], precondition: flags[5],
            };
            let control = [CacheControl::On, CacheControl::Off, CacheControl::ReadOnly, CacheControl::Refresh][control];
            let text = facts.noted(control).unwrap_or_default();
            prop_assert_eq!(RequestFacts::from_noted(method, &text), Ok((facts, control)));
        }

        /// What is judged from the log is what was judged from the head.
        #[test]
        fn answers_read_back(
            words in proptest::collection::vec(0..9usize, 0..5), age in 0..3u64, late_ms in 0..5_000u64, modified in any::<bool>(), shared in any::<bool>()
        ) {
            let all = ["no-store", "private", "public", "max-age=60", "s-maxage=9", "must-revalidate", "stale-while-revalidate=5", "no-cache", "stale-if-error=7"];
            let mut headers = HeaderMap::new();
            for word in words {
                headers.append(CACHE_CONTROL, HeaderValue::from_static(all[word]));
            }
            if age > 0 {
                headers.insert(AGE, HeaderValue::from(age));
                headers.insert(ETAG, HeaderValue::from_static("\"x\""));
            }
            if modified {
                headers.insert(LAST_MODIFIED, HeaderValue::from_static("Thu, 01 Jan 2026 00:00:00 GMT"));
            }
            let requested_at = Time::from_millis(1_767_300_000_000);
            let received = Received { status: StatusCode::OK, headers: &headers, requested_at, received_at: requested_at + Span::from_millis(late_ms) };
            let rules = Rules { shared, ..Rules::new(Mode::Learned) };
            let facts = Facts::read(&received, &rules);
            let text = answer_noted(&received, &facts, &rules).unwrap_or_default();
            let logged = Logged { requested_at, received_at: received.received_at, explicit: facts.explicit, last_modified: facts.last_modified };
            let (read, bans) = Facts::from_noted(&text, &logged).unwrap();
            prop_assert_eq!(bans, Bans::read(&received, &rules));
            prop_assert_eq!(read.etag.is_some(), facts.etag.is_some());
            prop_assert_eq!(Facts { etag: facts.etag.clone(), heuristic: read.heuristic, ..read.clone() }, Facts { heuristic: read.heuristic, ..facts.clone() });
            prop_assert_eq!(read.heuristic.map(|h| h.as_millis()), facts.heuristic.map(|h| h.as_millis()));
            let mut asked = HeaderMap::new();
            asked.insert(AUTHORIZATION, HeaderValue::from_static("Bearer x"));
            let request = RequestFacts::read(&Method::GET, &asked);
            let judged = super::super::may_store(&request, &received, &rules).map(|_| ());
            prop_assert_eq!(super::super::may_keep(&request, StatusCode::OK, (&read, bans), &rules), judged);
        }
    }

    #[test]
    fn a_targeted_field_is_told_and_what_it_says_reads_back() {
        let headers =
            crate::semantics::oracle::map(&[("cache-control", "no-store"), ("farthing-cache-control", "max-age=60, must-revalidate")]);
        let at = Time::from_millis(1_767_300_000_000);
        let received = Received { status: StatusCode::OK, headers: &headers, requested_at: at, received_at: at };
        let rules = Rules::new(Mode::Respect);
        let text = answer_noted(&received, &Facts::read(&received, &rules), &rules).unwrap();
        assert_eq!(text, "shareable targeted must-revalidate");
        let (facts, bans) = Facts::from_noted(&text, &Logged { requested_at: at, received_at: at, ..Logged::default() }).unwrap();
        assert!(facts.must_revalidate && !bans.no_store);
        let plain = Rules { targets: Some(crate::semantics::Targets::NONE), ..rules };
        assert_eq!(answer_noted(&received, &Facts::read(&received, &plain), &plain).as_deref(), Some("no-store"));
    }

    #[test]
    fn a_word_of_a_later_version_is_named() {
        let error = RequestFacts::from_noted(Method::GET, "no-cache soon").unwrap_err();
        assert!(error.to_string().contains("`soon`"));
        assert!(Facts::from_noted("etag later", &Logged::default()).is_err());
        assert!(RequestFacts::from_noted(Method::GET, "cache=perhaps").is_err());
    }
}

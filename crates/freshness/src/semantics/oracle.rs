//! Freshness against an independent implementation of the RFC (`http-cache-semantics`), and what that one leaves out.
//!
//! Known differences, where ours is the stricter and so only "never more than the oracle" holds: Set-Cookie and Cookie
//! forbid reuse on private routes too; no-cache binds `max-stale`; `s-maxage` implies revalidation on shared routes; RFC 6585
//! keeps 429 out of caches; heuristic freshness is capped at a day, of negative answers at a minute. The oracle stores a closed list of
//! statuses, RFC 9111 section 3 any final one with explicit freshness: those have their own test. The oracle ignores apparent age, so
//! `Date` is the time of arrival here; apparent age has its own test.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_cache_semantics::{BeforeRequest, CacheOptions, CachePolicy};
use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::entry::{ChosenTtl, VariantTtl};
use farthing_types::{By, Time, UncachedReason};

pub(super) const NOW: Time = Time::from_millis(1_700_000_000_000);

fn wall(time: Time) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_nanos(time.nanos() as u64)
}

pub(super) fn date(time: Time) -> String {
    httpdate::fmt_http_date(wall(time))
}

pub(super) fn map(pairs: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
    }
    headers
}

#[derive(Clone, Debug)]
struct Case {
    shared: bool,
    status: u16,
    directives: Vec<String>,
    age: Option<u64>,
    expires: Option<i64>,
    modified: Option<u64>,
    vary: bool,
    cookie: bool,
    authorization: bool,
    request: Vec<String>,
    after: u64,
}

fn number(name: &'static str) -> impl Strategy<Value = String> {
    (0u64..40).prop_map(move |n| format!("{name}={n}"))
}

fn words(list: &'static [&'static str]) -> impl Strategy<Value = Vec<String>> {
    proptest::sample::subsequence(list, 0..=list.len().min(2)).prop_map(|words| words.iter().map(ToString::to_string).collect())
}

fn response_directives() -> impl Strategy<Value = Vec<String>> {
    let flags = words(&["private", "public", "no-store", "no-cache", "must-revalidate"]);
    (flags, option::of(number("max-age")), option::weighted(0.3, number("s-maxage"))).prop_map(|(mut all, max_age, shared)| {
        all.extend(max_age);
        all.extend(shared);
        all
    })
}

fn request_directives() -> impl Strategy<Value = Vec<String>> {
    let one = prop_oneof![
        number("max-age"),
        number("min-fresh"),
        number("max-stale"),
        Just("max-stale".to_owned()),
        Just("no-cache".to_owned()),
        Just("no-store".to_owned()),
    ];
    proptest::collection::vec(one, 0..3).prop_map(|mut all| {
        // What comes twice is read as the stricter here and as the last by the oracle.
        all.sort_by(|a, b| a.split('=').next().cmp(&b.split('=').next()));
        all.dedup_by(|a, b| a.split('=').next() == b.split('=').next());
        all
    })
}

prop_compose! {
    fn case()(
        (shared, vary, cookie, authorization) in (any::<bool>(), prop::bool::weighted(0.1), prop::bool::weighted(0.1), prop::bool::weighted(0.2)),
        status in prop::sample::select(vec![200u16, 200, 200, 203, 204, 206, 301, 302, 303, 404, 410, 429, 501]),
        directives in response_directives(), request in request_directives(),
        age in option::weighted(0.3, 0u64..30), expires in option::weighted(0.3, -20i64..40),
        modified in option::weighted(0.4, (0u64..60).prop_map(|n| n * 10)), after in 0u64..60,
    ) -> Case {
        Case { shared, status, directives, age, expires, modified, vary, cookie, authorization, request, after }
    }
}

impl Case {
    fn response(&self) -> HeaderMap {
        let mut headers = map(&[("date", &date(NOW))]);
        let mut put = |name: &'static str, value: String| drop(headers.insert(name, HeaderValue::from_str(&value).unwrap()));
        if !self.directives.is_empty() {
            put("cache-control", self.directives.join(", "));
        }
        self.age.into_iter().for_each(|age| put("age", age.to_string()));
        if let Some(seconds) = self.expires {
            put("expires", date(Time::from_millis(NOW.millis() + seconds * 1000)));
        }
        self.modified.into_iter().for_each(|ago| put("last-modified", date(NOW - Span::from_secs(ago))));
        if self.vary {
            put("vary", "*".to_owned());
        }
        if self.cookie {
            put("set-cookie", "a=b".to_owned());
        }
        headers
    }

    fn request(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if !self.request.is_empty() {
            headers.insert("cache-control", HeaderValue::from_str(&self.request.join(", ")).unwrap());
        }
        if self.authorization {
            headers.insert("authorization", HeaderValue::from_static("x"));
        }
        headers
    }

    fn ours(&self) -> bool {
        let headers = self.response();
        let rules = Rules { shared: self.shared, ..Rules::new(Mode::Respect) };
        let request = RequestFacts::read(&Method::GET, &self.request());
        let status = StatusCode::from_u16(self.status).unwrap();
        let received = Received { status, headers: &headers, requested_at: NOW, received_at: NOW };
        let Ok(facts) = may_store(&request, &received, &rules) else { return false };
        let judged = Judged { facts: facts.reuse(), fetched_at: NOW, chosen: None, soft_purged: false };
        let verdict = verdict(&judged, &request, &rules, NOW + Span::from_secs(self.after));
        matches!(verdict, Verdict::Fresh { .. } | Verdict::StaleWhileRevalidate { .. })
    }

    fn oracle(&self) -> bool {
        let request = |headers: HeaderMap| {
            let mut request = Request::get("http://x.test/").body(()).unwrap();
            *request.headers_mut() = headers;
            request
        };
        let mut response = Response::builder().status(self.status).body(()).unwrap();
        *response.headers_mut() = self.response();
        let options = CacheOptions { shared: self.shared, immutable_min_time_to_live: Duration::ZERO, ..CacheOptions::default() };
        let policy = CachePolicy::new_options(&request(self.request()), &response, wall(NOW), options);
        let again = policy.before_request(&request(self.request()), wall(NOW + Span::from_secs(self.after)));
        policy.is_storable() && matches!(again, BeforeRequest::Fresh(_))
    }

    /// Whether ours is meant to be stricter here.
    fn stricter(&self) -> bool {
        let has = |list: &[String], name: &str| list.iter().any(|d| d.split('=').next() == Some(name));
        let max_stale = has(&self.request, "max-stale");
        // What is never fresh and cannot be validated is not kept, so there is nothing that max-stale could accept.
        let fleeting = self.modified.is_none();
        let never_stale = has(&self.directives, "no-cache") || (self.shared && has(&self.directives, "s-maxage"));
        let explicit = self.expires.is_some() || has(&self.directives, "max-age") || (self.shared && has(&self.directives, "s-maxage"));
        self.cookie || (max_stale && (never_stale || !explicit || fleeting)) || (self.status == 302 && !explicit) || self.status == 429
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, ..ProptestConfig::default() })]
    #[test]
    fn never_more_than_the_rfc_and_not_less_without_a_reason(case in case()) {
        let (ours, oracle) = (case.ours(), case.oracle());
        // max-stale: "no more than" includes equality (RFC 9111 section 5.2.1.2), the oracle leaves it out.
        // So it is asked about an answer a second younger, by whichever of the facts can make it so.
        let younger = [
            Case { after: case.after.saturating_sub(1), ..case.clone() },
            Case { age: case.age.map(|age| age.saturating_sub(1)), ..case.clone() },
            Case { expires: case.expires.map(|expires| expires + 1), ..case.clone() },
        ];
        let boundary = case.request.iter().any(|d| d.starts_with("max-stale=")) && younger.iter().any(Case::oracle);
        prop_assert!(!ours || oracle || boundary, "served more than the oracle");
        if !case.stricter() {
            prop_assert!(ours || !oracle, "served less than the oracle");
        }
    }
}

proptest! {
    /// A targeted field says what `Cache-Control` would say in its place, and `Expires` is void.
    #[test]
    fn a_targeted_field_means_what_cache_control_means(case in case(), other in response_directives()) {
        let mut plain = Case { expires: None, ..case.clone() };
        // An empty field counts as absent.
        plain.directives.push("unknown".to_owned());
        let rules = Rules { shared: case.shared, ..Rules::new(Mode::Respect) };
        let status = StatusCode::from_u16(case.status).unwrap();
        let request = RequestFacts::read(&Method::GET, &case.request());
        let judge = |headers: &HeaderMap| may_store(&request, &Received { status, ..received(headers) }, &rules);
        let mut targeted = case.response();
        targeted.insert("farthing-cache-control", HeaderValue::from_str(&plain.directives.join(", ")).unwrap());
        targeted.insert("cache-control", HeaderValue::from_str(&other.join(", ")).unwrap());
        prop_assert_eq!(judge(&targeted), judge(&plain.response()));
    }
}

fn received<'a>(headers: &'a HeaderMap) -> Received<'a> {
    Received { status: StatusCode::OK, headers, requested_at: NOW, received_at: NOW }
}

fn get() -> RequestFacts {
    RequestFacts::read(&Method::GET, &HeaderMap::new())
}

#[test]
fn age_counts_date_age_and_the_journey() {
    let headers = map(&[("date", &date(NOW - Span::from_secs(10))), ("age", "3"), ("cache-control", "max-age=60")]);
    let slow = Received { requested_at: NOW - Span::from_secs(8), ..received(&headers) };
    let rules = Rules::new(Mode::Respect);
    assert_eq!(Facts::read(&received(&headers), &rules).initial_age, Span::from_secs(10));
    assert_eq!(Facts::read(&slow, &rules).initial_age, Span::from_secs(11));
    let facts = Facts::read(&slow, &rules);
    assert_eq!(facts.age(NOW, NOW + Span::from_secs(5)), Span::from_secs(16));
    // Fractions of a second do not make an answer old that was made this second.
    let headers = map(&[("date", &date(NOW))]);
    let now = NOW + Span::from_millis(900);
    let facts = Facts::read(&Received { requested_at: now, received_at: now, ..received(&headers) }, &rules);
    assert_eq!(facts.initial_age, Span::ZERO);
}

type Fields = &'static [(&'static str, &'static str)];
/// Mode, shared, response fields, what is found.
type ModeCase = (Mode, bool, Fields, Result<Lifetime, UncachedReason>);

/// Mode, response fields, shared -> what may be stored and who says for how long.
#[test]
fn modes_obey_as_designed() {
    use Lifetime::{Chosen, Explicit, Heuristic};
    let ten = Span::from_secs(10);
    // A hundred seconds before NOW.
    let fields: Fields = &[("last-modified", "Tue, 14 Nov 2023 22:11:40 GMT"), ("date", "Tue, 14 Nov 2023 22:13:20 GMT")];
    let cases: &[ModeCase] = &[
        (Mode::Respect, false, &[], Err(UncachedReason::NoFreshness)),
        (Mode::Respect, false, &[("etag", "\"a\"")], Ok(Lifetime::None)),
        (Mode::Respect, false, fields, Ok(Heuristic(ten))),
        (Mode::Learned, false, fields, Ok(Chosen)),
        (Mode::Learned, false, &[], Ok(Chosen)),
        (Mode::Learned, false, &[("cache-control", "max-age=10")], Ok(Explicit(ten))),
        (Mode::Learned, false, &[("cache-control", "max-age=10, s-maxage=5")], Ok(Explicit(ten))),
        (Mode::Learned, true, &[("cache-control", "max-age=99, s-maxage=10")], Ok(Explicit(ten))),
        (Mode::Override, false, &[("cache-control", "max-age=10")], Ok(Chosen)),
        (Mode::Override, true, &[("cache-control", "no-store, private")], Ok(Chosen)),
        (Mode::Override, false, &[("set-cookie", "a=b")], Ok(Chosen)),
        (Mode::Override, false, &[("vary", "*")], Err(UncachedReason::Vary)),
        (Mode::Observe, false, &[("cache-control", "max-age=10")], Err(UncachedReason::Observe)),
        (Mode::Learned, false, &[("cache-control", "no-store")], Err(UncachedReason::OriginNoStore)),
        (Mode::Learned, false, &[("cache-control", "private")], Ok(Chosen)),
        (Mode::Learned, true, &[("cache-control", "private")], Err(UncachedReason::Private)),
        (Mode::Learned, false, &[("set-cookie", "a=b")], Err(UncachedReason::SetCookie)),
        (Mode::Learned, false, &[("cache-control", "no-cache")], Err(UncachedReason::NoFreshness)),
        (Mode::Learned, false, &[("cache-control", "max-age=0")], Err(UncachedReason::NoFreshness)),
        (Mode::Learned, false, &[("expires", "0")], Err(UncachedReason::NoFreshness)),
    ];
    for (mode, shared, fields, expected) in cases {
        let rules = Rules { shared: *shared, ..Rules::new(*mode) };
        let headers = map(fields);
        let found = may_store(&get(), &received(&headers), &rules).map(|facts| facts.lifetime(*mode));
        assert_eq!(found, *expected, "{mode:?} shared={shared} {fields:?}");
    }
}

#[test]
fn authorised_answers_are_shared_only_when_the_origin_says_so() {
    let rules = Rules { shared: true, ..Rules::new(Mode::Learned) };
    let request = RequestFacts::read(&Method::GET, &map(&[("authorization", "x")]));
    let store = |fields: &[(&str, &str)], rules: &Rules| may_store(&request, &received(&map(fields)), rules).map(drop);
    assert_eq!(store(&[("cache-control", "max-age=9")], &rules), Err(UncachedReason::Private));
    for allowed in ["public, max-age=9", "s-maxage=9", "must-revalidate, max-age=9"] {
        assert_eq!(store(&[("cache-control", allowed)], &rules), Ok(()), "{allowed}");
    }
    assert_eq!(store(&[("cache-control", "max-age=9")], &Rules::new(Mode::Learned)), Ok(()), "a private route is one principal's");
}

#[test]
fn requests_that_pass_by_the_cache_say_why() {
    let rules = Rules::new(Mode::Learned);
    let may = |method: Method, fields: &[(&str, &str)], rules: &Rules| may_lookup(&RequestFacts::read(&method, &map(fields)), rules);
    assert_eq!(may(Method::GET, &[], &rules), Ok(()));
    assert_eq!(may(Method::POST, &[], &rules), Err(UncachedReason::Method));
    assert_eq!(may(Method::POST, &[], &Rules { any_method: true, ..rules }), Ok(()));
    assert_eq!(may(Method::GET, &[("cookie", "a=b")], &rules), Err(UncachedReason::RequestCookie));
    assert_eq!(may(Method::GET, &[("cookie", "a=b")], &Rules::new(Mode::Override)), Ok(()));
    assert_eq!(may(Method::GET, &[("cache-control", "no-store")], &rules), Err(UncachedReason::RequestDirective));
    assert_eq!(may(Method::GET, &[("if-match", "\"a\"")], &rules), Err(UncachedReason::PassThrough));
    assert_eq!(may(Method::GET, &[], &Rules::new(Mode::Observe)), Err(UncachedReason::Observe));
}

#[test]
fn statuses_are_stored_when_the_origin_says_for_how_long() {
    let store = |status: u16, fields: &[(&str, &str)], mode| {
        let status = StatusCode::from_u16(status).unwrap();
        may_store(&get(), &Received { status, ..received(&map(fields)) }, &Rules::new(mode)).map(drop)
    };
    let (told, modified) = ([("cache-control", "max-age=9")], [("last-modified", "Tue, 14 Nov 2023 22:00:00 GMT")]);
    let public = [modified[0], ("cache-control", "public")];
    for status in [201, 202, 299, 302, 303, 307, 400, 403, 404, 410, 422, 499, 500, 502, 503, 599] {
        assert_eq!(store(status, &told, Mode::Learned), Ok(()), "{status}");
        assert_eq!(store(status, &[("etag", "\"a\"")], Mode::Learned), Err(UncachedReason::Status), "{status}");
        assert_eq!(store(status, &modified, Mode::Learned), Err(UncachedReason::Status), "{status}");
        assert_eq!(store(status, &modified, Mode::Respect).is_ok(), matches!(status, 404 | 410), "{status}");
        assert_eq!(store(status, &public, Mode::Respect), Ok(()), "{status}");
        assert_eq!(store(status, &told, Mode::Override), Err(UncachedReason::Status), "{status}");
    }
    for status in [103, 206, 304, 401, 407, 412, 416, 428, 429, 431, 511] {
        assert_eq!(store(status, &told, Mode::Respect), Err(UncachedReason::Status), "{status}");
    }
}

#[test]
fn must_understand_is_for_caches_that_do() {
    let store = |status: u16, directives: &str| {
        let (status, headers) = (StatusCode::from_u16(status).unwrap(), map(&[("cache-control", directives)]));
        may_store(&get(), &Received { status, ..received(&headers) }, &Rules::new(Mode::Respect)).is_ok()
    };
    assert!(store(200, "max-age=9, no-store, must-understand") && store(404, "max-age=9, must-understand"));
    assert!(!store(599, "max-age=9, no-store, must-understand") && !store(599, "max-age=9, must-understand"));
    assert!(store(599, "max-age=9") && !store(200, "max-age=9, no-store"));
}

#[test]
fn targeted_fields_govern_shared_routes_and_expires_is_void_then() {
    let read = |fields: &[(&str, &str)], shared| {
        let headers = map(fields);
        let rules = Rules { shared, ..Rules::new(Mode::Respect) };
        may_store(&get(), &received(&headers), &rules).map(|facts| facts.lifetime(Mode::Respect))
    };
    let fields = [("cache-control", "no-store"), ("cdn-cache-control", "max-age=10"), ("expires", "0")];
    assert_eq!(read(&fields, true), Ok(Lifetime::Explicit(Span::from_secs(10))));
    assert_eq!(read(&fields, false), Err(UncachedReason::OriginNoStore));
    let late = [("cdn-cache-control", "public"), ("expires", "Tue, 14 Nov 2090 22:13:20 GMT"), ("etag", "\"a\"")];
    assert_eq!(read(&late, true), Ok(Lifetime::None));
    let own = [("farthing-cache-control", "private, max-age=10"), ("cdn-cache-control", "max-age=20")];
    assert_eq!(read(&own, true), Err(UncachedReason::Private));
    assert_eq!(read(&own, false), Ok(Lifetime::Explicit(Span::from_secs(10))));
}

#[test]
fn a_confirmation_that_is_one_clients_alone_renews_nothing() {
    let renew = |fields: &[(&str, &str)], mode, shared| {
        let headers = map(fields);
        let rules = Rules { shared, ..Rules::new(mode) };
        may_renew(&get(), Bans::read(&Received { status: StatusCode::NOT_MODIFIED, ..received(&headers) }, &rules), &rules)
    };
    for shared in [false, true] {
        for mode in [Mode::Respect, Mode::Learned] {
            assert_eq!(renew(&[], mode, shared), Ok(()));
            assert_eq!(renew(&[("set-cookie", "a=b")], mode, shared), Err(UncachedReason::SetCookie));
            assert_eq!(renew(&[("cache-control", "no-store")], mode, shared), Err(UncachedReason::OriginNoStore));
            assert_eq!(renew(&[("cache-control", "no-store, must-understand")], mode, shared), Ok(()));
            let private = if shared { Err(UncachedReason::Private) } else { Ok(()) };
            assert_eq!(renew(&[("cache-control", "private")], mode, shared), private);
            assert_eq!(renew(&[("vary", "*")], mode, shared), Err(UncachedReason::Vary));
        }
        assert_eq!(renew(&[("set-cookie", "a=b"), ("cache-control", "no-store, private")], Mode::Override, shared), Ok(()));
    }
}

#[test]
fn the_first_age_counts_and_one_that_is_no_number_does_not() {
    let age = |values: &[&str]| {
        let fields: Vec<_> = values.iter().map(|value| ("age", *value)).collect();
        Facts::read(&received(&map(&fields)), &Rules::new(Mode::Respect)).initial_age.as_secs()
    };
    assert_eq!((age(&["7"]), age(&["7, 0"]), age(&["0,7"]), age(&["0", "7"]), age(&["7", "0"])), (7, 7, 0, 0, 7));
    assert_eq!((age(&["abc"]), age(&["-7"]), age(&["7.0"]), age(&[""]), age(&["7;a=b"])), (0, 0, 0, 0, 7));
}

#[test]
fn fields_that_must_not_be_sent_again_are_not_stored() {
    let headers = map(&[
        ("cache-control", "no-cache=\"x-a, x-b\", max-age=9"),
        ("x-a", "1"),
        ("x-b", "1"),
        ("x-c", "1"),
        ("proxy-authenticate", "x"),
    ]);
    let stored = |mode| without_unstored(headers.clone(), &Rules::new(mode)).keys().map(|n| n.as_str().to_owned()).collect::<Vec<_>>();
    assert_eq!(stored(Mode::Respect), ["cache-control", "x-c"]);
    assert_eq!(stored(Mode::Override), ["cache-control", "x-a", "x-b", "x-c"]);
    let facts = Facts::read(&received(&headers), &Rules::new(Mode::Respect));
    assert!(!facts.no_cache);
}

fn chosen(ttl: u64, stale: u64) -> VariantTtl {
    VariantTtl { variant: "".into(), ttl: Span::from_secs(ttl), stale: Span::from_secs(stale), by: By::Rule("static") }
}

fn judge(facts: &Facts, chosen: Option<&VariantTtl>, rules: &Rules, request: &[(&str, &str)], after: u64) -> Verdict {
    let judged = Judged { facts: facts.reuse(), fetched_at: NOW, chosen: chosen.map(ChosenTtl::from), soft_purged: false };
    verdict(&judged, &RequestFacts::read(&Method::GET, &map(request)), rules, NOW + Span::from_secs(after))
}

#[test]
fn a_chosen_ttl_ends_stale_windows_follow_and_clients_can_only_shorten() {
    let rules = Rules { stale_if_error: Span::from_secs(100), ..Rules::new(Mode::Learned) };
    let (facts, ttl) = (Facts::default(), chosen(10, 5));
    let at = |request: &[(&str, &str)], after| judge(&facts, Some(&ttl), &rules, request, after);
    let seconds = Span::from_secs;
    assert_eq!(at(&[], 4), Verdict::Fresh { age: seconds(4), left: seconds(6) });
    assert_eq!(at(&[], 10), Verdict::StaleWhileRevalidate { age: seconds(10), past: seconds(0) });
    assert_eq!(at(&[], 15), Verdict::StaleIfError { age: seconds(15), reason: UncachedReason::Expired });
    assert_eq!(at(&[], 110), Verdict::Revalidate { reason: UncachedReason::Expired });
    let shorter = [("cache-control", "max-age=3")];
    assert_eq!(at(&shorter, 4), Verdict::StaleIfError { age: seconds(4), reason: UncachedReason::RequestDirective });
    assert!(matches!(at(&[("cache-control", "max-age=99")], 20), Verdict::StaleIfError { .. }));
    assert!(matches!(at(&[("cache-control", "min-fresh=7")], 4), Verdict::StaleIfError { .. }));
    assert_eq!(at(&[("cache-control", "no-cache")], 1), Verdict::Revalidate { reason: UncachedReason::RequestDirective });
    assert!(matches!(at(&[("cache-control", "max-stale=30")], 40), Verdict::StaleWhileRevalidate { .. }));
    assert!(matches!(judge(&facts, None, &rules, &[], 0), Verdict::StaleIfError { .. }), "no TTL, no reuse");
}

#[test]
fn caps_and_prohibitions_outlive_everything() {
    let rules = Rules { stale_if_error: Span::from_secs(100), ..Rules::new(Mode::Learned) };
    let ttl = chosen(50, 50);
    let capped = Rules { max_age: Some(Span::from_secs(20)), ..rules };
    assert!(matches!(judge(&Facts::default(), Some(&ttl), &capped, &[], 19), Verdict::Fresh { left, .. } if left == Span::from_secs(1)));
    for request in [&[][..], &[("cache-control", "max-stale")], &[("cache-control", "stale-if-error=1000")]] {
        assert!(matches!(judge(&Facts::default(), Some(&ttl), &capped, request, 20), Verdict::Revalidate { .. }), "terms are terms");
        let strict = Facts { must_revalidate: true, ..Facts::default() };
        assert!(matches!(judge(&strict, Some(&ttl), &rules, request, 50), Verdict::Revalidate { .. }));
    }
    let no_cache = Facts { no_cache: true, ..Facts::default() };
    assert!(matches!(judge(&no_cache, Some(&ttl), &rules, &[], 1), Verdict::Revalidate { .. }));
    assert!(matches!(judge(&no_cache, Some(&ttl), &Rules { mode: Mode::Override, ..rules }, &[], 1), Verdict::Fresh { .. }));
    let observe = Rules::new(Mode::Observe);
    assert!(matches!(judge(&Facts::default(), Some(&ttl), &observe, &[], 1), Verdict::Revalidate { reason: UncachedReason::Observe }));
    let purged = Judged { facts: Reuse::default(), fetched_at: NOW, chosen: Some((&ttl).into()), soft_purged: true };
    assert!(matches!(verdict(&purged, &get(), &rules, NOW + Span::from_secs(1)), Verdict::StaleWhileRevalidate { .. }));
}

#[test]
fn the_origins_stale_windows_count_where_it_is_obeyed() {
    let facts = Facts {
        explicit: Some(Span::from_secs(10)),
        stale_while_revalidate: Some(Span::from_secs(5)),
        stale_if_error: Some(Span::from_secs(20)),
        ..Facts::default()
    };
    let rules = Rules::new(Mode::Respect);
    assert!(matches!(judge(&facts, None, &rules, &[], 14), Verdict::StaleWhileRevalidate { .. }));
    assert!(matches!(judge(&facts, None, &rules, &[], 29), Verdict::StaleIfError { .. }));
    assert!(matches!(judge(&facts, None, &rules, &[], 30), Verdict::Revalidate { .. }));
    let ttl = chosen(100, 0);
    assert!(matches!(judge(&facts, Some(&ttl), &rules, &[], 30), Verdict::Revalidate { .. }), "a chosen TTL does not lengthen it");
    assert!(matches!(judge(&facts, Some(&ttl), &Rules::new(Mode::Override), &[], 30), Verdict::Fresh { .. }));
}

#[test]
fn a_coding_the_client_cannot_read_is_noticed() {
    let br = map(&[("content-encoding", "br")]);
    for (accept, ok) in [("gzip, br", true), ("BR;q=0.5", true), ("*", true), ("br;q=0, *", false), ("gzip", false), ("*;q=0", false)] {
        assert_eq!(acceptable_head(&br, &map(&[("accept-encoding", accept)])), ok, "{accept}");
    }
    assert!(!acceptable_head(&br, &HeaderMap::new()) && acceptable_head(&HeaderMap::new(), &HeaderMap::new()));
    let both = map(&[("content-encoding", "gzip, br")]);
    assert!(
        !acceptable_head(&both, &map(&[("accept-encoding", "gzip")])) && acceptable_head(&both, &map(&[("accept-encoding", "br, gzip")]))
    );
    assert!(acceptable_head(&map(&[("content-encoding", "x-ours")]), &HeaderMap::new()), "nobody asks for what no client can name");
}

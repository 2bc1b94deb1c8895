use farthing_types::{CallId, KeyHash};

use super::conditional::*;
use super::oracle::{NOW, date, map};
use super::*;
use crate::Entry;
use crate::entry::{KeyStats, Packed, Subject};
use crate::key::Selected;
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};

fn entry(fields: &[(&str, &str)]) -> Packed {
    Packed::alone(&built(fields))
}

fn built(fields: &[(&str, &str)]) -> Entry {
    let headers = map(fields);
    let received = Received { status: StatusCode::OK, headers: &headers, requested_at: NOW, received_at: NOW };
    Entry {
        subject: std::sync::Arc::new(Subject { key: KeyHash(1), tenant: "".into(), route: "r".into(), path: "/".into() }),
        selected: None::<Selected>,
        status: StatusCode::OK,
        facts: Facts::read(&received, &Rules::new(Mode::Respect)),
        headers: headers.into(),
        body: Bytes::from_static(b"0123456789"),
        trailers: None,
        fetched_at: NOW,
        variants: Vec::new(),
        stats: KeyStats::default(),
        price: None,
        call: CallId(1),
        decision: None,
        tags: Vec::new(),
        epoch: 0,
        canonical_hash: 0,
    }
}

fn ask(entry: &Packed, request: &[(&str, &str)]) -> Served {
    serve(entry, &Method::GET, &map(request), Span::from_millis(7_900))
}

#[test]
fn entity_tags_compare_weakly() {
    let entry = entry(&[("etag", "W/\"a,b\""), ("content-type", "text/plain"), ("content-length", "10")]);
    for (tags, status) in
        [("\"a,b\"", 304), ("W/\"a,b\"", 304), ("\"x\", W/\"a,b\"", 304), ("*", 304), ("\"a\"", 200), ("\"x\",\"y\"", 200), ("", 200)]
    {
        let served = ask(&entry, &[("if-none-match", tags)]);
        assert_eq!(served.status, status, "{tags}");
        assert_eq!(served.headers["age"], "7");
        assert_eq!(served.body.is_empty(), status == 304);
        assert_eq!(served.headers.contains_key("content-length"), status == 200);
    }
    let none = ask(&entry, &[("if-none-match", "\"x\""), ("if-modified-since", &date(NOW + Span::from_secs(9)))]);
    assert_eq!(none.status, 200, "If-None-Match outranks If-Modified-Since");
    let head = serve(&entry, &Method::HEAD, &map(&[("if-none-match", "\"a,b\"")]), Span::ZERO);
    assert_eq!(head.status, 304);
    let post = serve(&entry, &Method::POST, &map(&[("if-none-match", "\"a,b\"")]), Span::ZERO);
    assert_eq!(post.status, 200);
}

#[test]
fn dates_compare_whole_seconds() {
    let entry = entry(&[("last-modified", &date(NOW))]);
    for (seconds, status) in [(-1i64, 200), (0, 304), (1, 304)] {
        let since = farthing_types::Time::from_millis(NOW.millis() + seconds * 1000);
        assert_eq!(ask(&entry, &[("if-modified-since", &date(since))]).status, status, "{seconds}");
    }
    assert_eq!(ask(&entry, &[("if-modified-since", "yesterday")]).status, 200);
}

#[test]
fn single_ranges_are_cut_from_the_entry() {
    let entry = entry(&[("etag", "\"a\""), ("content-type", "text/plain")]);
    let cases: &[(&str, u16, &str, Option<&str>)] = &[
        ("bytes=0-3", 206, "0123", Some("bytes 0-3/10")),
        ("bytes=8-", 206, "89", Some("bytes 8-9/10")),
        ("bytes=-3", 206, "789", Some("bytes 7-9/10")),
        ("bytes=-99", 206, "0123456789", Some("bytes 0-9/10")),
        ("bytes=5-99999999999999999999999", 206, "56789", Some("bytes 5-9/10")),
        ("BYTES=0-0", 206, "0", Some("bytes 0-0/10")),
        ("bytes=10-", 416, "", Some("bytes */10")),
        ("bytes=-0", 416, "", Some("bytes */10")),
        ("bytes=3-1", 200, "0123456789", None),
        ("bytes=0-1,3-4", 200, "0123456789", None),
        ("lines=0-1", 200, "0123456789", None),
        ("bytes=+1-2", 200, "0123456789", None),
        ("bytes", 200, "0123456789", None),
    ];
    for (range, status, body, content_range) in cases {
        let served = ask(&entry, &[("range", range)]);
        assert_eq!(served.status, *status, "{range}");
        assert_eq!(served.body, *body, "{range}");
        assert_eq!(served.headers.get("content-range").map(|v| v.to_str().unwrap()), *content_range, "{range}");
        assert_eq!(served.headers["content-length"], body.len().to_string().as_str());
    }
    let head = serve(&entry, &Method::HEAD, &map(&[("range", "bytes=0-3")]), Span::ZERO);
    assert_eq!((head.status.as_u16(), head.body.len(), &head.headers["content-length"]), (200, 0, &"10".parse().unwrap()));
}

#[test]
fn if_range_needs_a_strong_match() {
    let modified = date(NOW);
    let strong = entry(&[("etag", "\"a\""), ("last-modified", &modified)]);
    let status = |entry: &Packed, condition: &str| ask(entry, &[("range", "bytes=0-0"), ("if-range", condition)]).status.as_u16();
    assert_eq!(status(&strong, "\"a\""), 206);
    assert_eq!(status(&strong, "\"b\""), 200);
    assert_eq!(status(&strong, "W/\"a\""), 200);
    assert_eq!(status(&strong, &modified), 206);
    assert_eq!(status(&strong, &date(NOW + Span::from_secs(1))), 200, "exactly the date, not just later");
    assert_eq!(status(&entry(&[("etag", "W/\"a\"")]), "W/\"a\""), 200);
    assert_eq!(status(&entry(&[]), "nonsense"), 200);
}

#[test]
fn calls_are_validated_with_what_the_entry_has() {
    let modified = date(NOW);
    let both = validators(&entry(&[("etag", "W/\"a\""), ("last-modified", &modified)]));
    assert_eq!((both["if-none-match"].to_str().unwrap(), both["if-modified-since"].to_str().unwrap()), ("W/\"a\"", &*modified));
    assert!(validators(&entry(&[("last-modified", "nonsense")])).is_empty());
    let mut headers = map(&[("range", "bytes=0-1"), ("if-none-match", "*"), ("if-range", "x"), ("if-match", "*"), ("accept", "a")]);
    strip_conditions(&mut headers);
    assert_eq!(headers.len(), 1);
}

#[test]
fn a_304_renews_the_head_but_not_what_describes_the_body() {
    let old = date(NOW - Span::from_secs(100));
    let stored =
        [("etag", "\"a\""), ("content-type", "text/plain"), ("cache-control", "max-age=5"), ("date", &*old), ("x-a", "1"), ("x-b", "1")];
    let entry = entry(&stored);
    let now = NOW + Span::from_secs(50);
    let told = map(&[
        ("etag", "\"a\""),
        ("cache-control", "max-age=60"),
        ("content-type", "image/png"),
        ("content-length", "0"),
        ("x-a", "2"),
        ("x-a", "3"),
    ]);
    let received = Received { status: StatusCode::NOT_MODIFIED, headers: &told, requested_at: now, received_at: now };
    let Renewed { headers, facts, .. } = merge_304(&entry, &received, &Rules::new(Mode::Respect)).unwrap();
    assert_eq!(facts.explicit, Some(Span::from_secs(60)));
    assert_eq!(facts.initial_age, Span::ZERO, "without a Date of its own the 304 is as old as its arrival");
    assert_eq!(headers["content-type"], "image/png");
    assert!(!headers.contains_key("content-length"));
    assert_eq!(headers.get_all("x-a").iter().collect::<Vec<_>>(), ["2", "3"]);
    assert_eq!(headers["x-b"], "1");
    let other = map(&[("etag", "\"b\"")]);
    assert!(merge_304(&entry, &Received { headers: &other, ..received }, &Rules::new(Mode::Respect)).is_none());
}

#[test]
fn a_head_answer_tells_of_change() {
    let modified = date(NOW - Span::from_secs(9));
    let entry = entry(&[("etag", "\"a\""), ("last-modified", &modified), ("cache-control", "max-age=5")]);
    let changed = |status, fields: &[(&str, &str)]| {
        head_tells_change(&entry, &Received { status, headers: &map(fields), requested_at: NOW, received_at: NOW })
    };
    let ok = StatusCode::OK;
    assert!(!changed(ok, &[("etag", "\"a\""), ("last-modified", &modified), ("content-length", "10"), ("x-a", "1")]));
    assert!(!changed(ok, &[]) && !changed(StatusCode::GONE, &[("etag", "\"b\"")]));
    for fields in [
        &[("etag", "\"b\"")][..],
        &[("etag", "\"a\""), ("content-length", "11")],
        &[("etag", "\"a\""), ("last-modified", &date(NOW))],
        &[("content-length", "9")],
    ] {
        assert!(changed(ok, fields), "{fields:?}");
    }
}

#[test]
fn what_is_for_us_alone_still_holds_after_a_304_that_does_not_say_it() {
    let entry = entry(&[("etag", "\"a\""), ("cache-control", "no-store"), ("farthing-cache-control", "max-age=60"), ("x", "1")]);
    let merged = |told: &[(&str, &str)]| {
        let headers = map(told);
        let received = Received { status: StatusCode::NOT_MODIFIED, headers: &headers, requested_at: NOW, received_at: NOW };
        let Renewed { headers, facts, bans } = merge_304(&entry, &received, &Rules::new(Mode::Respect)).unwrap();
        assert_eq!(may_renew(&RequestFacts::read(&Method::GET, &HeaderMap::new()), bans, &Rules::new(Mode::Respect)), Ok(()));
        (facts.explicit.map(|span| span.as_secs()), headers.contains_key("farthing-cache-control"))
    };
    assert_eq!(merged(&[("etag", "\"a\""), ("cache-control", "no-store")]), (Some(60), true));
    assert_eq!(merged(&[("farthing-cache-control", "max-age=7")]), (Some(7), true));
    let served = ask(&entry, &[]);
    assert!(!served.headers.contains_key("farthing-cache-control") && served.headers.contains_key("x"));
}

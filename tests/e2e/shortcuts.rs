//! D1, K1: a request whose head came before, byte by byte, is answered from memory without being parsed again; nothing about the answer,
//! its price or its record tells which way it took.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use farthing_cache::Purge;
use farthing_config::{CredentialMode, CredentialPlace, Mode, Secret};
use farthing_proxy::BypassOrder;
use farthing_tests::origin::answer_of;
use farthing_tests::{Answer, Origin, Setup, Started};
use farthing_types::{Outcome, Span, Time, VirtualClock};
use http::{HeaderMap, HeaderName, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::identity::{EXP, issuer_of, token};

/// One connection, spoken byte by byte.
pub(crate) struct Wire(TcpStream);

impl Wire {
    pub(crate) async fn to(started: &Started) -> Self {
        let mut wire = Self(TcpStream::connect(started.client.addr).await.unwrap());
        // The first request of a connection is parsed in any case.
        wire.ask("GET /api/first HTTP/1.1\r\nhost: h\r\n\r\n").await;
        wire
    }

    pub(crate) async fn ask(&mut self, head: &str) -> Answer {
        self.0.write_all(head.as_bytes()).await.unwrap();
        let (mut bytes, mut buf) = (Vec::new(), [0u8; 4_096]);
        loop {
            let read = self.0.read(&mut buf).await.unwrap();
            assert!(read > 0, "closed after {}", String::from_utf8_lossy(&bytes));
            bytes.extend_from_slice(&buf[..read]);
            if let Some(answer) = parse(&bytes) {
                return answer;
            }
        }
    }
}

fn parse(bytes: &[u8]) -> Option<Answer> {
    let end = bytes.windows(4).position(|w| w == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..end]).unwrap();
    let (status, fields) = head.split_once("\r\n").unwrap();
    let mut headers = HeaderMap::new();
    for (name, value) in fields.lines().map(|line| line.split_once(": ").unwrap()) {
        headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
    }
    let status = StatusCode::from_bytes(&status.as_bytes()[9..12]).unwrap();
    let length: usize = headers.get("content-length").map_or(0, |length| length.to_str().unwrap().parse().unwrap());
    let body = bytes.get(end + 4..end + 4 + length)?.to_vec().into();
    Some(Answer { status, headers, body })
}

pub(crate) fn recalled(started: &Started) -> u64 {
    started.proxy.counters().recalled.load(Ordering::Relaxed)
}

const PLAIN: &str = "GET /api/doc HTTP/1.1\r\nhost: h\r\nconnection: keep-alive\r\n\r\n";

#[tokio::test]
async fn the_answer_is_the_same_as_by_the_usual_way_and_costs_and_counts_the_same() {
    let fields = [
        ("cache-control", "max-age=60"),
        ("date", "Thu, 26 Nov 2026 10:00:00 GMT"),
        ("age", "3"),
        ("x-two", "a"),
        ("x-two", "b"),
        ("cache-status", "behind; hit"),
        ("x-farthing-saved-usd", "99"),
        ("etag", "\"v\""),
    ];
    let origin = Origin::simple(move |_, n| answer_of(StatusCode::OK, &fields, format!("body {n}"))).await;
    let (started, _clock) = Setup::new(origin.addr).start_virtual().await;
    let mut wire = Wire::to(&started).await;
    let mut answers = Vec::new();
    for _ in 0..10 {
        answers.push(wire.ask(PLAIN).await);
    }
    // The first was a call, the second made the head known, the third was remembered.
    assert!((7..=8).contains(&recalled(&started)), "{}", recalled(&started));
    let (usual, short) = (&answers[1], &answers[9]);
    assert!(usual.is_hit() && usual.body == short.body, "{short:?}");
    let told = |answer: &Answer| {
        let own = ["x-farthing-request-id", "server-timing"];
        let mut lines: Vec<_> =
            answer.headers.iter().filter(|(name, _)| !own.contains(&name.as_str())).map(|(n, v)| format!("{n}: {v:?}")).collect();
        lines.sort();
        (lines, own.map(|name| answer.headers.get_all(name).iter().count()))
    };
    assert_eq!(told(usual), told(short));
    assert_ne!(usual.header("x-farthing-request-id"), short.header("x-farthing-request-id"));

    let total = started.proxy.totals().total;
    assert_eq!(total.outcome(Outcome::Hit), 9, "{total:?}");
    assert_eq!((total.base_usd.nanos(), total.bill_usd.nanos()), (11 * 2_000_000, 2 * 2_000_000), "{total:?}");
    assert_eq!(started.proxy.edge_stats().requests(), 11);
    assert_eq!(origin.calls(), 2);
}

#[tokio::test]
async fn whatever_changes_between_two_equal_requests_is_asked_anew() {
    let version = Arc::new(AtomicUsize::new(1));
    let now = version.clone();
    let fields = [("cache-control", "max-age=60"), ("date", "Thu, 26 Nov 2026 10:00:00 GMT")];
    let origin = Origin::simple(move |_, _| answer_of(StatusCode::OK, &fields, now.load(Ordering::Relaxed).to_string())).await;
    let (started, clock) = Setup::new(origin.addr).route(|r| r.mode = Mode::Respect).start_virtual().await;
    let mut wire = Wire::to(&started).await;
    for _ in 0..5 {
        assert_eq!(wire.ask(PLAIN).await.text(), "1");
    }
    assert!(recalled(&started) > 0);

    version.store(2, Ordering::Relaxed);
    started.proxy.purge(&Purge::All, false);
    assert_eq!(wire.ask(PLAIN).await.text(), "2", "purged");
    assert_eq!(wire.ask(PLAIN).await.text(), "2");
    version.store(3, Ordering::Relaxed);
    clock.advance(Span::from_secs(59));
    assert_eq!(wire.ask(PLAIN).await.header("age"), "59");
    clock.advance(Span::from_secs(1));
    assert_eq!(wire.ask(PLAIN).await.text(), "3", "expired");
    started.proxy.purge(&Purge::All, true);
    version.store(4, Ordering::Relaxed);
    assert_eq!(wire.ask(PLAIN).await.text(), "4", "purged softly");
}

#[tokio::test]
async fn what_needs_more_than_a_plain_answer_takes_the_usual_way() {
    let fields = [("cache-control", "max-age=60"), ("date", "Thu, 26 Nov 2026 10:00:00 GMT"), ("etag", "\"v\"")];
    let origin = Origin::simple(move |seen, _| {
        let who = seen.headers.get("authorization").map_or("nobody", |v| v.to_str().unwrap());
        answer_of(StatusCode::OK, &fields, who.to_owned())
    })
    .await;
    let (started, _clock) = Setup::new(origin.addr).start_virtual().await;
    let mut wire = Wire::to(&started).await;
    for (field, status) in [
        ("if-none-match: \"v\"", 304),
        ("range: bytes=0-1", 206),
        ("cache-control: no-cache", 200),
        ("x-farthing-debug: 1", 200),
        ("x-farthing-cache: refresh", 200),
        ("x-farthing-tags: a", 200),
        ("cookie: a=b", 200),
    ] {
        for _ in 0..5 {
            let answer = wire.ask(&format!("GET /api/doc HTTP/1.1\r\nhost: h\r\n{field}\r\n\r\n")).await;
            assert_eq!(answer.status.as_u16(), status, "{field}");
        }
        assert_eq!(recalled(&started), 0, "{field}");
    }
    // Principals differ in the bytes of their heads, so neither meets what is remembered of the other.
    for who in ["a", "b", "a", "b", "a", "b", "a", "b", "a", "b"] {
        let answer = wire.ask(&format!("GET /api/doc HTTP/1.1\r\nhost: h\r\nauthorization: Bearer {who}\r\n\r\n")).await;
        assert_eq!(answer.text(), format!("Bearer {who}"));
    }
    assert!(recalled(&started) > 0);
}

#[tokio::test]
async fn a_held_out_key_is_never_recalled() {
    let fields = [("cache-control", "max-age=60"), ("date", "Thu, 26 Nov 2026 10:00:00 GMT")];
    let origin = Origin::simple(move |_, n| answer_of(StatusCode::OK, &fields, n.to_string())).await;
    let mut setup = Setup::new(origin.addr);
    setup.config.holdout.share = 0.5;
    let (started, clock) = setup.start_virtual().await;
    let mut wire = Wire::to(&started).await;
    let (mut held, mut hits) = (0, 0);
    for _ in 0..40 {
        for _ in 0..4 {
            let answer = wire.ask(PLAIN).await;
            held += usize::from(answer.header("cache-status").contains("holdout"));
            hits += usize::from(answer.is_hit());
        }
        clock.advance(started.proxy.config().holdout.window);
    }
    assert!(held > 30 && held % 4 == 0 && hits > 30 && recalled(&started) > 10, "held {held}, hits {hits}, {}", recalled(&started));
}

/// B1: a token that has expired is no token any more, however well its request is known.
#[tokio::test]
async fn no_answer_is_recalled_for_a_token_past_its_time() {
    let fields = [("cache-control", "max-age=3600"), ("date", "Tue, 02 Oct 2096 07:05:40 GMT")];
    let origin = Origin::simple(move |_, _| answer_of(StatusCode::OK, &fields, "body")).await;
    let dir = tempfile::tempdir().unwrap();
    let mut setup = Setup::new(origin.addr)
        .route(|r| (r.credential, r.mode) = (CredentialMode::Swap, Mode::Respect))
        .provider(|p| (p.credential_place, p.credential) = (CredentialPlace::Bearer, Some(Secret::new("sk"))));
    setup.config.jwt = vec![issuer_of(dir.path())];
    let clock = Arc::new(VirtualClock::new(Time::from_millis((EXP - 60) * 1_000)));
    let started = setup.start_on(clock.clone()).await;
    let mut wire = Wire(TcpStream::connect(started.client.addr).await.unwrap());
    let head = format!("GET /api/doc HTTP/1.1\r\nhost: h\r\nauthorization: Bearer {}\r\n\r\n", token("/good/RS256"));
    for _ in 0..6 {
        assert_eq!(wire.ask(&head).await.status, StatusCode::OK);
    }
    let before = recalled(&started);
    assert!(before >= 3, "{before}");
    clock.advance(Span::from_secs(59));
    assert_eq!((wire.ask(&head).await.status, recalled(&started)), (StatusCode::OK, before + 1));
    clock.advance(Span::from_secs(1));
    let refused = wire.ask(&head).await;
    assert_eq!((refused.status, recalled(&started)), (StatusCode::UNAUTHORIZED, before + 1));
    assert!(refused.text().contains("token-expired"), "{}", refused.text());
    assert_eq!(origin.calls(), 1);
}

/// B4: each request of a trace has a parent of its own; one that came twice is answered all the same, by the way that tells its trace.
#[tokio::test]
async fn a_request_with_a_trace_takes_the_usual_way() {
    let fields = [("cache-control", "max-age=60"), ("date", "Thu, 26 Nov 2026 10:00:00 GMT")];
    let origin = Origin::simple(move |_, _| answer_of(StatusCode::OK, &fields, "body")).await;
    let (started, _clock) = Setup::new(origin.addr).start_virtual().await;
    let mut wire = Wire::to(&started).await;
    let traced = "GET /api/doc HTTP/1.1\r\nhost: h\r\ntraceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n\r\n";
    for _ in 0..5 {
        assert_eq!(wire.ask(traced).await.text(), "body");
    }
    assert_eq!((recalled(&started), origin.calls()), (0, 2), "the other call is that of the first request of the connection");
}

/// C4: the switch holds at once for what is known by the bytes of its head, too.
#[tokio::test]
async fn the_bypass_switch_holds_at_once() {
    let fields = [("cache-control", "max-age=60"), ("date", "Thu, 26 Nov 2026 10:00:00 GMT")];
    let origin = Origin::simple(move |_, n| answer_of(StatusCode::OK, &fields, n.to_string())).await;
    let (started, clock) = Setup::new(origin.addr).start_virtual().await;
    let mut wire = Wire::to(&started).await;
    let mut last = String::new();
    for _ in 0..5 {
        last = wire.ask(PLAIN).await.text();
    }
    let before = recalled(&started);
    assert!(before > 0);
    let since = started.proxy.now();
    let order = BypassOrder { route: None, since, until: Some(since + Span::from_secs(10)), reason: "trouble".into() };
    started.proxy.bypass_on(order).unwrap();
    for _ in 0..3 {
        let answer = wire.ask(PLAIN).await;
        assert!(answer.header("cache-status").contains("bypassed") && answer.text() != last, "{answer:?}");
    }
    assert_eq!(recalled(&started), before);
    clock.advance(Span::from_secs(10));
    assert_eq!(wire.ask(PLAIN).await.text(), last, "its time is over, and the copy is still good");
}

/// M5: what is answered without parsing is audited like the rest, and the money has a line of its own.
#[tokio::test]
async fn answers_without_parsing_are_audited_too() {
    let fields = [("cache-control", "max-age=60"), ("date", "Thu, 26 Nov 2026 10:00:00 GMT")];
    let origin = Origin::simple(move |seen, n| {
        // Every answer of the document differs, so every audited copy is stale.
        answer_of(StatusCode::OK, &fields, if seen.target.ends_with("/doc") { format!("body {n}") } else { "first".to_owned() })
    })
    .await;
    let mut setup = Setup::new(origin.addr);
    setup.config.audit.share = 0.5;
    let (started, _clock) = setup.start_virtual().await;
    let mut wire = Wire::to(&started).await;
    for _ in 0..200 {
        assert_eq!(wire.ask(PLAIN).await.status, StatusCode::OK);
    }
    assert!(recalled(&started) > 50, "{}", recalled(&started));
    started.proxy.shutdown().await;
    let audit = started.proxy.audits()[0].audit;
    let (checked, stale) = audit.total;
    assert!(checked >= 5 && stale == checked, "{audit:?}");
    let total = started.proxy.totals().total;
    assert_eq!((total.calls["audit"].count, origin.calls() as u64), (checked, checked + 2), "{total:?}");
    let (skipped, spent) = started.proxy.audits_skipped();
    assert_eq!(spent, total.calls["audit"].usd);
    assert!(audit.scale < 1.0, "the budget is broken, and told: {audit:?} {skipped:?}");
}

//! D2, D8: who may have what for how long, as the RFCs say, on the wire.

use std::time::Duration;

use farthing_config::{Mode, Profile, PurgeBy, TargetedField};
use farthing_tests::origin::answer_of;
use farthing_tests::{Answer, Client, Origin, Setup, Started};
use http::{Method, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// An origin that answers every request with its number and these fields.
async fn origin(fields: &'static [(&'static str, &'static str)]) -> Origin {
    Origin::simple(move |_, n| answer_of(StatusCode::OK, fields, n.to_string())).await
}

async fn proxy(origin: &Origin, mode: Mode, shared: bool) -> Started {
    Setup::new(origin.addr).route(|r| (r.mode, r.shared) = (mode, shared)).start().await
}

async fn as_principal(client: Client, who: &str) -> Answer {
    client.get("/api/doc", &[("authorization", &format!("Bearer {who}"))]).await
}

fn uncached(started: &Started, reason: &str) -> u64 {
    started.proxy.totals().total.uncached.get(reason).map_or(0, |tally| tally.count)
}

#[tokio::test]
async fn an_authorised_answer_is_its_principals_alone() {
    for fields in [&[("cache-control", "max-age=60")], &[("cache-control", "private, max-age=60")]] {
        let origin = origin(fields).await;
        let started = proxy(&origin, Mode::Respect, false).await;
        assert_eq!(as_principal(started.client, "a").await.text(), "0");
        let hit = as_principal(started.client, "a").await;
        assert!(hit.is_hit() && hit.text() == "0", "{hit:?}");
        let other = as_principal(started.client, "b").await;
        assert!(!other.is_hit() && other.text() == "1", "{other:?}");
        assert_eq!(uncached(&started, "cold"), 2);

        let started = proxy(&origin, Mode::Respect, true).await;
        for n in 2..5 {
            assert_eq!(as_principal(started.client, "a").await.text(), n.to_string());
        }
        assert_eq!(uncached(&started, "private"), 3);
    }
}

#[tokio::test]
async fn a_silent_origin_is_cached_where_freshness_is_learned_and_the_reason_is_counted_where_not() {
    let origin = origin(&[]).await;
    let respect = proxy(&origin, Mode::Respect, false).await;
    for n in 0..2 {
        let answer = as_principal(respect.client, "a").await;
        assert_eq!(answer.text(), n.to_string());
        assert_eq!(answer.header("cache-status"), "farthing; fwd=uri-miss; detail=\"no-freshness\"");
    }
    assert_eq!(uncached(&respect, "no-freshness"), 2);
    let learned = proxy(&origin, Mode::Learned, false).await;
    assert_eq!(as_principal(learned.client, "a").await.text(), "2");
    assert!(as_principal(learned.client, "a").await.is_hit());
}

#[tokio::test]
async fn a_write_drops_what_its_answer_names_and_a_failed_one_nothing() {
    for profile in [Profile::Http, Profile::Api] {
        let origin = Origin::simple(|seen, n| match seen.method {
            Method::GET => answer_of(StatusCode::OK, &[("cache-control", "max-age=60")], n.to_string()),
            Method::DELETE => answer_of(StatusCode::CONFLICT, &[("location", "/made")], ""),
            _ => answer_of(StatusCode::CREATED, &[("location", "made?v=1"), ("content-location", "http://elsewhere.test/else")], ""),
        })
        .await;
        let started = Setup::new(origin.addr).route(|r| (r.mode, r.profile) = (Mode::Respect, profile)).start().await;
        let client = started.client;
        let targets = ["/api/items", "/api/made?v=1", "/api/else"];
        for target in targets {
            client.get(target, &[("accept", "text/plain")]).await;
        }
        client.send(Method::DELETE, targets[0], &[], "").await;
        for target in targets {
            assert!(client.get(target, &[("accept", "text/plain")]).await.is_hit(), "{target}");
        }
        client.send(Method::POST, targets[0], &[("content-type", "text/plain")], "new").await;
        for (target, hit) in targets.into_iter().zip([false, false, true]) {
            assert_eq!(client.get(target, &[("accept", "text/plain")]).await.is_hit(), hit, "{target}");
        }
    }
}

#[tokio::test]
async fn a_head_answer_that_tells_of_a_change_drops_the_entry() {
    let origin = Origin::simple(|seen, n| {
        let etag = if seen.target == "/changed" && n > 1 { "\"b\"" } else { "\"a\"" };
        let body = if seen.method == Method::HEAD { "" } else { "body" };
        answer_of(StatusCode::OK, &[("cache-control", "max-age=60, stale-if-error=600"), ("etag", etag)], body)
    })
    .await;
    let (started, clock) = Setup::new(origin.addr).route(|r| r.mode = Mode::Respect).start_virtual().await;
    let client = started.client;
    for target in ["/api/same", "/api/changed"] {
        client.get(target, &[]).await;
    }
    assert!(client.send(Method::HEAD, "/api/same", &[], "").await.is_hit());
    clock.advance(Duration::from_secs(61));
    for target in ["/api/same", "/api/changed"] {
        assert_eq!(client.send(Method::HEAD, target, &[], "").await.status, StatusCode::OK);
    }
    drop(origin);
    assert_eq!(client.get("/api/same", &[]).await.text(), "body", "it stands in for the origin that is gone");
    assert_eq!(client.get("/api/changed", &[]).await.status, StatusCode::BAD_GATEWAY);
}

#[tokio::test]
async fn shared_routes_obey_what_is_said_to_caches_in_front_of_the_origin() {
    let fields = &[("cache-control", "no-store"), ("cdn-cache-control", "max-age=60")];
    let origin = origin(fields).await;
    for (shared, hit) in [(true, true), (false, false)] {
        let started = proxy(&origin, Mode::Respect, shared).await;
        started.client.get("/api/doc", &[]).await;
        let answer = started.client.get("/api/doc", &[]).await;
        assert_eq!((answer.is_hit(), answer.header("cdn-cache-control")), (hit, "max-age=60"));
    }
}

#[tokio::test]
async fn fields_named_by_no_cache_are_sent_once_only() {
    let origin = origin(&[("cache-control", "no-cache=\"x-once\", max-age=60"), ("x-once", "1"), ("x-more", "1")]).await;
    let started = proxy(&origin, Mode::Respect, false).await;
    assert_eq!(started.client.get("/api/doc", &[]).await.header("x-once"), "1");
    let hit = started.client.get("/api/doc", &[]).await;
    assert!(hit.is_hit());
    assert_eq!((hit.header("x-once"), hit.header("x-more")), ("", "1"));
}

#[tokio::test]
async fn a_failure_with_freshness_is_kept_but_not_in_place_of_a_good_answer() {
    let origin = Origin::simple(|seen, n| match (&*seen.target, n) {
        ("/good", 0) => answer_of(StatusCode::OK, &[("cache-control", "max-age=10")], "good"),
        _ => answer_of(StatusCode::SERVICE_UNAVAILABLE, &[("cache-control", "max-age=100")], "bad"),
    })
    .await;
    let (started, clock) = Setup::new(origin.addr).route(|r| r.mode = Mode::Respect).start_virtual().await;
    let client = started.client;
    assert_eq!(client.get("/api/good", &[]).await.text(), "good");
    clock.advance(Duration::from_secs(11));
    for _ in 0..2 {
        assert_eq!(client.get("/api/good", &[]).await.text(), "good", "it stands in");
    }
    assert_eq!(client.get("/api/bad", &[]).await.status, StatusCode::SERVICE_UNAVAILABLE);
    let kept = client.get("/api/bad", &[]).await;
    assert!(kept.is_hit() && kept.status == StatusCode::SERVICE_UNAVAILABLE);
    clock.advance(Duration::from_secs(101));
    assert!(!client.get("/api/bad", &[]).await.is_hit(), "a stored failure stands in for nothing");
}

#[tokio::test]
async fn a_confirmed_answer_says_so() {
    let origin = Origin::simple(|seen, _| {
        let status = if seen.headers.contains_key("if-none-match") { StatusCode::NOT_MODIFIED } else { StatusCode::OK };
        answer_of(status, &[("cache-control", "no-cache"), ("etag", "\"a\"")], if status == StatusCode::OK { "body" } else { "" })
    })
    .await;
    let started = proxy(&origin, Mode::Respect, false).await;
    started.client.get("/api/doc", &[]).await;
    let confirmed = started.client.get("/api/doc", &[]).await;
    assert_eq!((confirmed.status, &*confirmed.text()), (StatusCode::OK, "body"));
    assert_eq!(confirmed.header("cache-status"), "farthing; fwd=stale; fwd-status=304; detail=\"expired\"");
}

#[tokio::test]
async fn what_is_said_to_us_alone_governs_every_route_and_goes_no_further() {
    let origin = Origin::simple(|seen, n| {
        let confirms = seen.headers.contains_key("if-none-match");
        let own: &[_] = if confirms { &[] } else { &[("farthing-cache-control", "max-age=60")] };
        let n = n.to_string();
        let fields = [&[("cache-control", "no-store"), ("etag", "\"a\""), ("x-n", &*n)], own].concat();
        answer_of(if confirms { StatusCode::NOT_MODIFIED } else { StatusCode::OK }, &fields, if confirms { "" } else { "body" })
    })
    .await;
    for shared in [false, true] {
        let calls = origin.calls();
        let (started, clock) = Setup::new(origin.addr).route(|r| (r.mode, r.shared) = (Mode::Respect, shared)).start_virtual().await;
        for turn in 0..10 {
            if turn == 5 {
                clock.advance(Duration::from_secs(61));
            }
            let answer = started.client.get("/api/doc", &[]).await;
            assert_eq!((answer.is_hit(), &*answer.text()), (turn % 5 != 0, "body"), "turn {turn}");
            assert!(!answer.headers.contains_key("farthing-cache-control"));
            assert_eq!(answer.header("cache-control"), "no-store", "what is for others is passed on");
        }
        assert_eq!(origin.calls() - calls, 2, "the confirmation said nothing new to us");
    }
    let observed = proxy(&origin, Mode::Observe, false).await;
    assert_eq!(observed.client.get("/api/doc", &[]).await.header("farthing-cache-control"), "max-age=60");
    let started = Setup::new(origin.addr).route(|r| (r.mode, r.targeted) = (Mode::Respect, Some(vec![]))).start().await;
    for _ in 0..2 {
        let answer = started.client.get("/api/doc", &[]).await;
        assert!(!answer.is_hit() && !answer.headers.contains_key("farthing-cache-control"));
    }
    assert_eq!(uncached(&started, "origin-no-store"), 2);
}

#[tokio::test]
async fn a_private_route_heeds_what_its_list_says() {
    let origin =
        origin(&[("cache-control", "max-age=60"), ("cdn-cache-control", "no-store"), ("farthing-cache-control", "max-age=60")]).await;
    let cdn = vec![TargetedField::Cdn, TargetedField::Farthing];
    for (targeted, hit) in [(None, true), (Some(cdn), false), (Some(vec![]), true)] {
        let started = Setup::new(origin.addr).route(|r| (r.mode, r.targeted) = (Mode::Respect, targeted)).start().await;
        started.client.get("/api/doc", &[]).await;
        assert_eq!(started.client.get("/api/doc", &[]).await.is_hit(), hit);
    }
}

/// An origin that sends hints before each answer.
async fn hinting() -> (std::net::SocketAddr, tokio::task::JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move {
        let mut connections = tokio::task::JoinSet::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            connections.spawn(async move {
                let (mut seen, mut buf) = (Vec::new(), [0; 4_096]);
                while let Ok(read @ 1..) = stream.read(&mut buf).await {
                    seen.extend_from_slice(&buf[..read]);
                    if !seen.ends_with(b"\r\n\r\n") {
                        continue;
                    }
                    seen.clear();
                    let answer = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\nsurrogate-key: t\r\nx-hint: 1\r\n\r\n\
                        HTTP/1.1 200 OK\r\ncache-control: max-age=60\r\ncontent-length: 4\r\n\r\nbody";
                    stream.write_all(answer.as_bytes()).await.unwrap();
                }
            });
        }
    });
    (addr, tasks)
}

/// All that comes for one request on a connection of its own.
async fn raw(addr: std::net::SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut all = Vec::new();
    stream.read_to_end(&mut all).await.unwrap();
    String::from_utf8(all).unwrap()
}

#[tokio::test]
async fn hints_reach_the_client_that_waits_and_are_not_stored() {
    let (origin, _tasks) = hinting().await;
    let started = Setup::new(origin).route(|r| r.mode = Mode::Respect).start().await;
    let addr = started.client.addr;
    let hint = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\nx-hint: 1\r\n\r\nHTTP/1.1 200 OK\r\n";
    let get = |version: &str| format!("GET /api/doc HTTP/{version}\r\nhost: h\r\nconnection: close\r\n\r\n");
    let first = raw(addr, &get("1.1")).await;
    assert!(first.starts_with(hint) && first.ends_with("body"), "{first}");
    assert_eq!(first.matches("x-hint").count(), 1, "{first}");
    let hit = raw(addr, &get("1.1")).await;
    assert!(hit.starts_with("HTTP/1.1 200 OK\r\n") && hit.contains("farthing; hit") && !hit.contains("x-hint"), "{hit}");
    let passed = raw(addr, "DELETE /api/doc HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n").await;
    assert!(passed.starts_with(hint) && passed.ends_with("body"), "{passed}");
    let old = raw(addr, &get("1.0")).await;
    assert!(old.starts_with("HTTP/1.0 200 OK\r\n") && !old.contains("x-hint"), "{old}");
    assert_eq!(started.proxy.edge_stats().early(), [2, 0]);
    let mut deaf = Setup::new(origin);
    deaf.config.data.interim = false;
    let started = deaf.start().await;
    let without = raw(started.client.addr, &get("1.1")).await;
    assert!(without.starts_with("HTTP/1.1 200 OK\r\n") && !without.contains("x-hint"), "{without}");
}

#[tokio::test]
async fn groups_of_an_origin_are_dropped_when_a_write_says_so() {
    let origin = Origin::simple(|seen, n| {
        let fields: &[_] = match (&seen.method, &*seen.target) {
            (&Method::POST, "/fails") => return answer_of(StatusCode::CONFLICT, &[("cache-group-invalidation", "\"b\"")], ""),
            (&Method::POST, _) => &[("cache-group-invalidation", "\"a\", \"none\""), ("cache-group-invalidation", "\"A\"")],
            (_, "/ab") => &[("cache-groups", "\"a\", \"b\"")],
            (_, "/b") => &[("cache-groups", "\"b\"")],
            // Of a read it means nothing.
            (_, "/plain") => &[("cache-group-invalidation", "\"a\", \"b\"")],
            _ => &[],
        };
        answer_of(StatusCode::OK, &[fields, &[("cache-control", "max-age=60")]].concat(), n.to_string())
    })
    .await;
    let started = Setup::new(origin.addr).route(|r| (r.mode, r.purge_by) = (Mode::Respect, PurgeBy::Own)).start().await;
    let client = started.client;
    let hits = async |who: &str| {
        let mut out = Vec::new();
        for target in ["/api/ab", "/api/b", "/api/plain"] {
            out.push(client.get(target, &[("authorization", who)]).await.is_hit());
        }
        out
    };
    for who in ["Bearer x", "Bearer y"] {
        hits(who).await;
        assert_eq!(hits(who).await, [true, true, true]);
    }
    let wrote = client.send(Method::POST, "/api/write", &[("authorization", "Bearer x")], "").await;
    assert_eq!(wrote.header("cache-group-invalidation"), "\"a\", \"none\"", "caches behind us are told as well");
    assert_eq!(hits("Bearer x").await, [false, true, true]);
    assert_eq!(hits("Bearer y").await, [false, true, true], "everybody's");
    assert_eq!(client.send(Method::POST, "/api/fails", &[], "").await.status, StatusCode::CONFLICT);
    assert_eq!(hits("Bearer x").await, [false, false, true]);
    let group = format!("group, http://{} b", origin.addr);
    for (name, value) in [("surrogate-key", &*group), ("cache-tag", &*group)] {
        client.send(Method::from_bytes(b"PURGE").unwrap(), "/api/", &[("authorization", "Bearer x"), (name, value)], "").await;
    }
    assert_eq!(hits("Bearer x").await, [true, true, true], "no field of tags names a group");
}

#[tokio::test]
async fn a_cookie_that_comes_with_a_confirmation_is_one_clients_alone() {
    let origin = Origin::simple(|seen, n| {
        let confirms = seen.headers.contains_key("if-none-match");
        let cookie = format!("session={n}");
        let own: &[_] = if confirms { &[("set-cookie", &*cookie)] } else { &[] };
        let fields = [&[("cache-control", "max-age=10"), ("etag", "\"a\"")], own].concat();
        answer_of(if confirms { StatusCode::NOT_MODIFIED } else { StatusCode::OK }, &fields, if confirms { "" } else { "body" })
    })
    .await;
    let (started, clock) = Setup::new(origin.addr).route(|r| (r.mode, r.shared) = (Mode::Learned, true)).start_virtual().await;
    started.client.get("/api/doc", &[]).await;
    assert!(started.client.get("/api/doc", &[]).await.is_hit());
    clock.advance(Duration::from_secs(11));
    let confirmed = started.client.get("/api/doc", &[]).await;
    assert_eq!((confirmed.status, &*confirmed.text(), confirmed.header("set-cookie")), (StatusCode::OK, "body", "session=1"));
    for n in 2..4 {
        let next = started.client.get("/api/doc", &[]).await;
        assert!(!next.is_hit() && next.header("set-cookie") != "session=1", "request {n}: {next:?}");
    }
    assert!(uncached(&started, "set-cookie") > 0);
}

#[tokio::test]
async fn only_if_cached_allows_a_head_no_call() {
    let origin = origin(&[]).await;
    let started = proxy(&origin, Mode::Learned, false).await;
    let head = started.client.send(Method::HEAD, "/api/doc", &[("cache-control", "only-if-cached")], "").await;
    assert_eq!(head.status, StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(started.client.get("/api/doc", &[]).await.text(), "0", "the origin has seen nothing before");
}

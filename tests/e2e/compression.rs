//! I2: clients that ask for compressed answers, over real connections: curl over HTTP/1.1 and HTTP/2, and heads that came before byte by byte.

use std::sync::atomic::Ordering;
use std::time::Duration;

use farthing_tests::origin::answer_of;
use farthing_tests::skip::skip;
use farthing_tests::{Answer, Origin, Setup, Started};
use farthing_types::Coding;
use http::StatusCode;
use tokio::process::Command;

use crate::shortcuts::{Wire, recalled};

fn document() -> String {
    format!("[{}]", "{\"name\": \"thing\", \"price\": \"1.20\"},".repeat(60))
}

async fn world(compress: &[Coding]) -> (Origin, Started) {
    let fields = [
        ("cache-control", "max-age=60"),
        ("date", "Thu, 26 Nov 2026 10:00:00 GMT"),
        ("content-type", "application/json"),
        ("accept-ranges", "bytes"),
    ];
    let origin = Origin::simple(move |_, _| answer_of(StatusCode::OK, &fields, document())).await;
    let mut setup = Setup::new(origin.addr);
    setup.config.data.compress = compress.to_vec();
    let (started, _clock) = setup.start_virtual().await;
    (origin, started)
}

/// The answer to a head that came before; one that comes while the last answer is not all written is parsed, and is sent again.
async fn recall(started: &Started, wire: &mut Wire, head: &str) -> Answer {
    for _ in 0..100 {
        let before = recalled(started);
        let answer = wire.ask(head).await;
        if recalled(started) > before {
            return answer;
        }
    }
    panic!("never known by its bytes: {head}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_decodes_what_it_asked_for_over_either_http() {
    let (origin, started) = world(Coding::ALL).await;
    let url = format!("http://{}/api/doc", started.client.addr);
    let mut sizes = Vec::new();
    for http in ["--http1.1", "--http2-prior-knowledge"] {
        for wish in [&["--compressed"][..], &["--compressed", "-H", "accept-encoding: gzip"], &[]] {
            let mut curl = Command::new("curl");
            curl.args(["-sS", http, "-w", "\n%{size_download} %{http_code}", &url]).args(wish);
            let Ok(output) = curl.output().await else { return skip("compressed answers: curl is not on PATH") };
            let told = String::from_utf8_lossy(&output.stdout);
            if told.is_empty() && String::from_utf8_lossy(&output.stderr).contains("support") {
                skip("compressed answers over HTTP/2: this curl has none");
                continue;
            }
            let (body, figures) = told.rsplit_once('\n').unwrap();
            let (size, status) = figures.split_once(' ').unwrap();
            assert!(body == document() && status == "200", "{http} {wish:?}: {figures} {}", String::from_utf8_lossy(&output.stderr));
            let size: usize = size.parse().unwrap();
            assert_eq!(size < document().len() / 5, !wish.is_empty(), "{http} {wish:?}: {size} bytes");
            sizes.push(size);
        }
    }
    assert_eq!(origin.calls(), 1, "{sizes:?}");
}

#[tokio::test]
async fn a_head_that_came_before_is_answered_alike_compressed_or_not() {
    let (origin, started) = world(&[Coding::Gzip]).await;
    // Not compressed on its way in.
    assert_eq!(started.client.get("/api/doc", &[]).await.text(), document());
    // The answer is stored a moment after its first client has it.
    for _ in 0..1_000 {
        if started.client.get("/api/doc", &[]).await.is_hit() {
            break;
        }
    }
    let mut wire = Wire::to(&started).await;
    for accept in ["accept-encoding: gzip\r\n", ""] {
        let head = format!("GET /api/doc HTTP/1.1\r\nhost: h\r\n{accept}\r\n");
        let usual = wire.ask(&format!("GET /api/doc HTTP/1.1\r\nhost: h\r\nx-new: {}\r\n{accept}\r\n", accept.len())).await;
        let short = recall(&started, &mut wire, &head).await;
        for name in ["content-encoding", "content-length", "vary", "accept-ranges", "content-type", "age"] {
            let all = |answer: &Answer| answer.headers.get_all(name).iter().cloned().collect::<Vec<_>>();
            assert_eq!(all(&usual), all(&short), "{accept:?} {name}");
        }
        assert_eq!(usual.body, short.body);
        assert_eq!((short.header("vary"), short.headers.contains_key("content-encoding")), ("accept-encoding", !accept.is_empty()));
    }
    let told = wire.ask("HEAD /api/doc HTTP/1.1\r\nhost: h\r\naccept-encoding: gzip\r\n\r\n").await;
    assert_eq!(
        (told.header("content-encoding"), told.headers.get("content-length")),
        ("gzip", None),
        "no length is better than a wrong one"
    );
    let compressed = &started.proxy.counters().compressed;
    let (before, _) = compressed.bytes.get();
    assert_eq!(before as usize, document().len(), "compressed once, for all of them");
    assert!(compressed.reused.load(Ordering::Relaxed) >= 1 && started.proxy.form_bytes() > 0);
    started.proxy.purge(&farthing_cache::Purge::All, false);
    assert_eq!(started.proxy.form_bytes(), 0, "what is purged takes its forms along");
    assert_eq!(origin.calls(), 2);
}

#[tokio::test]
async fn without_compression_nothing_is_said_of_it_and_providers_are_not_asked_for_it() {
    let (origin, started) = world(&[]).await;
    let mut wire = Wire::to(&started).await;
    let head = "GET /api/doc HTTP/1.1\r\nhost: h\r\naccept-encoding: gzip\r\n\r\n";
    for answer in [wire.ask(head).await, recall(&started, &mut wire, head).await] {
        assert!(answer.text() == document() && !answer.headers.contains_key("vary"), "{:?}", answer.headers);
    }
    let asked: Vec<bool> = origin.seen().iter().map(|seen| seen.headers.contains_key("accept-encoding")).collect();
    assert_eq!(asked, [false, true], "only where the client did");
}

/// H2, I1: routes to one provider share what is known of it.
#[tokio::test]
async fn a_breaker_is_about_the_provider_and_its_metrics_say_so() {
    let origin = Origin::simple(|_, _| answer_of(StatusCode::SERVICE_UNAVAILABLE, &[], "down")).await;
    let mut setup =
        Setup::new(origin.addr).provider(|p| (p.upstream.attempts, p.upstream.breaker_cooldown) = (1, Duration::from_secs(3_600)));
    let mut second = (*setup.config.routes[0]).clone();
    (second.name, second.matcher.path_prefix, second.strip_prefix) = ("second".into(), "/second".into(), "/second".into());
    setup.config.routes.push(std::sync::Arc::new(second));
    let started = setup.start().await;
    for n in 0..10 {
        assert_eq!(started.client.get(&format!("/api/{n}"), &[]).await.text(), "down");
    }
    let refused = started.client.get("/second/x", &[]).await;
    assert!((refused.status, origin.calls()) == (StatusCode::SERVICE_UNAVAILABLE, 10) && refused.text().contains("breaker"), "{refused:?}");
    let metrics = farthing_proxy::telemetry::render(&started.proxy).unwrap();
    let provider = &started.proxy.config().providers[0].name;
    for line in [
        format!("farthing_upstream_breaker_open{{provider=\"{provider}\",credential=\"client\"}} 1"),
        format!("farthing_upstream_breaker_refused_total{{provider=\"{provider}\",credential=\"client\"}} 1"),
        format!("farthing_upstream_answers_total{{provider=\"{provider}\",credential=\"client\",http=\"1.1\"}} 10"),
        format!("farthing_upstream_retries_total{{provider=\"{provider}\",credential=\"client\"}} 0"),
    ] {
        assert!(metrics.contains(&line), "{line}\n{}", metrics.lines().filter(|l| l.contains("upstream")).collect::<Vec<_>>().join("\n"));
    }
}

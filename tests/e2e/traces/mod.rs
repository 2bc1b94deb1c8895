//! O1: traces by OTLP, as a collector gets them: the tree of a request, links of those who share a call, what is recorded, what is never told,
//! and that nobody waits for a collector.

mod collector;
mod read;
mod shared;

use std::time::Duration;

use farthing_config::TtlBy;
use farthing_tests::origin::{answer_of, ok};
use farthing_tests::{Origin, Setup};
use http::{Method, StatusCode};

use collector::{CLIENT, Collector, SERVER, Span, told};

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const UNRECORDED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";

fn one(spans: &[Span], which: impl Fn(&Span) -> bool) -> &Span {
    let found: Vec<&Span> = spans.iter().filter(|span| which(span)).collect();
    let [found] = found[..] else { panic!("{} of them among {spans:#?}", found.len()) };
    found
}

fn kept(setup: Setup) -> Setup {
    setup.route(|route| {
        route.mode = farthing_config::Mode::Override;
        route.ttl = TtlBy::Fixed(Duration::from_secs(60));
    })
}

#[tokio::test]
async fn a_request_is_a_tree_in_the_trace_that_it_came_with() {
    let origin = Origin::simple(|_, _| ok("{}")).await;
    let collector = Collector::start().await;
    let started = told(kept(Setup::new(origin.addr)), &collector).start().await;
    let missed = started.client.get("/api/things/1", &[("traceparent", PARENT)]).await;
    let hit = started.client.get("/api/things/1", &[]).await;
    started.proxy.shutdown().await;
    let spans = collector.spans();
    assert_eq!(spans.len(), 3, "{spans:#?}");

    let server = one(&spans, |span| span.kind == SERVER && span.of("farthing.outcome") == "lead");
    assert_eq!((server.trace(), server.parent()), ("0af7651916cd43dd8448eb211c80319c".into(), "b7ad6b7169203331".into()));
    assert_eq!((server.id(), &*server.of("farthing.request_id")), (missed.header("x-farthing-request-id").to_owned(), &*server.id()));
    assert_eq!(server.flags & 0x300, 0x300, "its parent is another process's");
    assert_eq!((&*server.name, &*server.of("http.request.method"), &*server.of("http.route")), ("GET /api", "GET", "/api"));
    assert_eq!((&*server.of("http.response.status_code"), &*server.of("url.scheme")), ("200", "http"));
    assert_eq!((&*server.of("farthing.cost_nanousd"), &*server.of("farthing.saved_nanousd")), ("2000000", "0"));
    assert!(!server.failed() && server.of("error.type").is_empty());

    let call = one(&spans, |span| span.kind == CLIENT);
    assert_eq!((call.trace(), call.parent()), (server.trace(), server.id()));
    assert_eq!(origin.seen()[0].headers["traceparent"].to_str().unwrap(), call.as_parent(), "the provider's spans hang below");
    assert_eq!((&*call.of("server.address"), &*call.of("server.port")), ("127.0.0.1", &*origin.addr.port().to_string()));
    assert_eq!((&*call.of("farthing.provider"), &*call.of("farthing.cost_nanousd")), ("origin", "2000000"));
    assert!(call.start_time_unix_nano >= server.start_time_unix_nano && call.end_time_unix_nano <= server.end_time_unix_nano);

    let second = one(&spans, |span| span.of("farthing.outcome") == "hit");
    assert_eq!(second.id(), hit.header("x-farthing-request-id"));
    assert!(second.parent().is_empty() && second.trace().ends_with(&second.id()), "a trace of its own, which ends in its id");
    assert_eq!((&*second.of("farthing.cost_nanousd"), &*second.of("farthing.saved_nanousd")), ("0", "2000000"));
    assert_eq!((&*second.of("farthing.saved_by"), &*second.of("farthing.tier")), ("l1", "l1"));

    let delivery = &collector.deliveries()[0];
    let resource = delivery.resource_spans[0].resource.as_ref().unwrap();
    let keys: Vec<&str> = resource.attributes.iter().map(|pair| &*pair.key).collect();
    assert_eq!(keys, ["service.name", "zone"]);
}

/// S4, S5: what clients and providers say to each other is nobody's business.
#[tokio::test]
async fn nothing_of_what_is_said_is_told() {
    let origin = Origin::simple(|_, _| answer_of(StatusCode::OK, &[("x-answer", "hunter2")], "hunter2")).await;
    let collector = Collector::start().await;
    let started = told(Setup::new(origin.addr), &collector).start().await;
    let headers = [("authorization", "Bearer hunter2"), ("x-own", "hunter2"), ("traceparent", PARENT), ("tracestate", "hunter=hunter2")];
    started.client.get("/api/users/hunter2?key=hunter2", &headers).await;
    started.client.send(Method::POST, "/api/hunter2", &headers, "hunter2").await;
    started.client.send(Method::from_bytes(b"HUNTER2").unwrap(), "/api/hunter2", &headers, "hunter2").await;
    started.proxy.shutdown().await;
    assert_eq!(collector.spans().len(), 6);
    for seen in collector.0.seen() {
        let text = String::from_utf8_lossy(&seen.body).to_lowercase();
        assert!(!text.contains("hunter"), "{text}");
    }
}

#[tokio::test]
async fn each_attempt_is_a_span_and_the_provider_hears_of_its_own() {
    let origin = Origin::simple(|_, n| if n == 0 { answer_of(StatusCode::SERVICE_UNAVAILABLE, &[], "") } else { ok("{}") }).await;
    let collector = Collector::start().await;
    let setup = Setup::new(origin.addr).provider(|provider| provider.upstream.attempts = 2);
    let started = told(setup, &collector).start().await;
    let answer = started.client.get("/api/1", &[("traceparent", PARENT)]).await;
    assert_eq!(answer.status, StatusCode::OK);
    started.proxy.shutdown().await;
    let spans = collector.spans();
    let server = one(&spans, |span| span.kind == SERVER);
    let first = one(&spans, |span| span.kind == CLIENT && span.of("http.request.resend_count").is_empty());
    let second = one(&spans, |span| span.kind == CLIENT && span.of("http.request.resend_count") == "1");
    assert_eq!((first.parent(), second.parent()), (server.id(), server.id()));
    assert!(first.failed() && first.of("error.type") == "503" && !second.failed());
    let told: Vec<String> = origin.seen().iter().map(|seen| seen.headers["traceparent"].to_str().unwrap().to_owned()).collect();
    assert_eq!(told, [first.as_parent(), second.as_parent()]);
    assert!(second.start_time_unix_nano >= first.end_time_unix_nano);
}

#[tokio::test]
async fn whoever_began_the_trace_says_whether_it_is_recorded() {
    let origin = Origin::simple(|_, _| ok("{}")).await;
    let collector = Collector::start().await;
    let mut setup = told(Setup::new(origin.addr), &collector);
    setup.config.telemetry.otlp.as_mut().unwrap().sample = 0.0;
    let started = setup.start().await;
    started.client.get("/api/1", &[("traceparent", UNRECORDED)]).await;
    started.client.get("/api/2", &[]).await;
    started.client.get("/api/3", &[("traceparent", PARENT)]).await;
    started.proxy.shutdown().await;
    let spans = collector.spans();
    assert_eq!(spans.len(), 2, "the request that is recorded elsewhere, and its call: {spans:#?}");
    assert!(spans.iter().all(|span| PARENT.contains(&span.trace())));
    let flags: Vec<String> = origin.seen().iter().map(|seen| seen.headers["traceparent"].to_str().unwrap()[53..].to_owned()).collect();
    assert_eq!(flags, ["00", "00", "01"], "providers are told the same");
}

/// What a route observes alone is told, and nothing of it is changed.
#[tokio::test]
async fn a_route_that_is_observed_passes_traces_as_they_came() {
    let origin = Origin::simple(|_, _| ok("{}")).await;
    let collector = Collector::start().await;
    let setup = Setup::new(origin.addr).route(|route| route.mode = farthing_config::Mode::Observe);
    let started = told(setup, &collector).start().await;
    started.client.get("/api/1", &[("traceparent", PARENT)]).await;
    started.proxy.shutdown().await;
    assert_eq!(origin.seen()[0].headers["traceparent"], PARENT);
    assert_eq!(collector.spans().len(), 2);
}

#[tokio::test]
async fn nobody_waits_for_a_collector() {
    let origin = Origin::simple(|_, _| ok("{}")).await;
    let hanging = Collector::hanging().await;
    let mut setup = told(kept(Setup::new(origin.addr)), &hanging);
    let otlp = setup.config.telemetry.otlp.as_mut().unwrap();
    // Room for a few spans.
    otlp.queue_bytes = 65_536;
    let started = setup.start().await;
    for _ in 0..300 {
        assert_eq!(started.client.get("/api/1", &[]).await.status, StatusCode::OK);
    }
    let stats = started.proxy.traces().unwrap();
    assert!(stats.dropped > 0 && stats.held <= 65_536 && stats.sent == 0, "{stats:?}");
    let metrics = farthing_proxy::telemetry::render(&started.proxy).unwrap();
    assert!(metrics.contains(&format!("farthing_traces_spans_total{{outcome=\"dropped\"}} {}", stats.dropped)), "{metrics}");

    let refusing = Collector::refusing(StatusCode::BAD_REQUEST).await;
    let started = told(Setup::new(origin.addr), &refusing).start().await;
    started.client.get("/api/1", &[]).await;
    started.proxy.shutdown().await;
    let stats = started.proxy.traces().unwrap();
    assert_eq!((stats.refused, stats.sent, stats.held), (2, 0, 0), "{stats:?}");
}

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use farthing_config::{AdminConfig, Secret};
use farthing_types::{DecisionId, RequestId};
use http::{Method, Request, StatusCode, header};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::*;

/// Stands in for the proxy. Version 9 fails its checks; phase is what the test says.
pub(crate) struct Fake {
    phase: Phase,
}

fn version(version: u32) -> ModelVersion {
    ModelVersion {
        kind: "ttl".to_owned(),
        version,
        digest: Some("abc".to_owned()),
        aliases: Vec::new(),
        live: false,
        created_ns: Some(1),
        rows: Some(10),
        metrics: BTreeMap::new(),
        problem: None,
        rejected: None,
    }
}

fn kind_known(kind: &str) -> Result<(), ControlError> {
    if kind == "ttl" { Ok(()) } else { Err(ControlError::NotFound(format!("no kind `{kind}`"))) }
}

impl StatusView for Fake {
    fn readiness(&self) -> Readiness {
        Readiness { status: self.phase, parts: vec![Part { name: "models".to_owned(), ok: false, detail: "no library".to_owned() }] }
    }
    fn status(&self) -> Status {
        Status {
            version: "1".to_owned(),
            readiness: self.readiness(),
            data_addr: "127.0.0.1:1".to_owned(),
            started_ns: 0,
            uptime_s: 1.0,
            total: Totals { requests: 2, base_usd: "0.004".parse().unwrap(), ..Totals::default() },
            predictor: None,
            saving: None,
            fleet: None,
        }
    }
    fn costs(&self) -> Costs {
        Costs { total: Totals::default(), routes: Vec::new(), tenants: Vec::new(), saving: None }
    }
}
impl RoutesView for Fake {
    fn routes(&self) -> Vec<RouteInfo> {
        Vec::new()
    }
    fn volatile(&self, route: &str) -> Option<crate::VolatileReport> {
        (route == "geo").then(|| crate::VolatileReport {
            route: route.to_owned(),
            pairs: 3,
            differing: 0,
            apart: 0,
            explained: 0,
            confirmed: Vec::new(),
            proposed: Vec::new(),
        })
    }
}
impl ModelsControl for Fake {
    fn list(&self, kind: Option<&str>) -> Result<ModelList, ControlError> {
        kind.map_or(Ok(()), kind_known)?;
        Ok(ModelList { library: None, versions: vec![version(1)], aliases: Vec::new(), loaded: 1, freed: 0 })
    }
    fn show(&self, kind: &str, number: u32) -> Result<ModelDetail, ControlError> {
        kind_known(kind)?;
        Ok(ModelDetail { version: version(number), manifest: json!({}) })
    }
    fn load(&self, kind: &str, number: u32) -> Result<ModelVersion, ControlError> {
        kind_known(kind)?;
        if number == 9 { Err(ControlError::Refused("golden row 3 differs".to_owned())) } else { Ok(version(number)) }
    }
    fn promote(&self, kind: &str, alias: &str, number: u32, order: &ModelOrder) -> Result<AliasState, ControlError> {
        self.load(kind, number)?;
        if number == 8 && !order.force {
            return Err(ControlError::Refused("it was rolled back; --force".to_owned()));
        }
        let state = AliasState {
            kind: kind.to_owned(),
            alias: alias.to_owned(),
            version: Some(number),
            live: Some(number),
            digest: None,
            engine: None,
            problem: None,
        };
        Ok(state)
    }
    fn clear(&self, _kind: &str, alias: &str, _order: &ModelOrder) -> Result<Vec<AliasState>, ControlError> {
        if alias == "champion" { Err(ControlError::Refused("roll it back".to_owned())) } else { Ok(Vec::new()) }
    }
    fn history(&self) -> Vec<ModelEvent> {
        Vec::new()
    }
    fn instances(&self) -> Result<Vec<crate::ModelInstance>, ControlError> {
        Ok(Vec::new())
    }
    fn candidates(&self) -> Vec<CandidateInfo> {
        Vec::new()
    }
    fn drift(&self) -> DriftInfo {
        DriftInfo::default()
    }
    fn rollback(&self, _kind: &str, alias: &str, _order: &ModelOrder) -> Result<AliasState, ControlError> {
        if alias == "shadow" {
            panic!("a store that breaks");
        }
        Err(ControlError::Refused(format!("{alias} has no earlier version")))
    }
}
impl DecisionsView for Fake {
    fn decision(&self, id: DecisionId) -> Result<Option<DecisionView>, ControlError> {
        Ok((id.0 == 0xff).then(|| DecisionView {
            id: id.to_string(),
            at_ns: 1,
            kind: "ttl".to_owned(),
            route: "geo".to_owned(),
            key: "k".to_owned(),
            call_id: None,
            experiment: None,
            value: 60.0,
            by: "model:1".to_owned(),
            variant: None,
            features: BTreeMap::new(),
            outputs: Vec::new(),
        }))
    }
    fn explain(&self, request: RequestId) -> Result<ExplanationView, ControlError> {
        Err(ControlError::NotFound(format!("{request} is not there")))
    }
    fn plan(&self, request: RequestId) -> Result<PlanView, ControlError> {
        Ok(PlanView { request_id: request.to_string(), ..PlanView::default() })
    }
}
impl CacheControl for Fake {
    fn stats(&self) -> CacheStats {
        CacheStats { entries: 3, ..CacheStats::default() }
    }
    fn purge(&self, request: &PurgeRequest) -> Result<PurgeReport, ControlError> {
        Ok(PurgeReport { entries: request.tags.len() as u64, flights: 0, dry_run: request.dry_run, fleet: None })
    }
    fn warm(&self, request: WarmRequest) -> Warming {
        Box::pin(async move {
            match &*request.route {
                "geo" => Ok(WarmReport { spent_usd: request.limit_usd.unwrap_or_default(), ..WarmReport::default() }),
                other => Err(ControlError::NotFound(format!("no route is called `{other}`"))),
            }
        })
    }
}
impl ForgetControl for Fake {
    fn forget(&self, tenant: String) -> ForgetRunning {
        Box::pin(std::future::ready(ForgetReport { finished: true, left: vec![tenant], ..ForgetReport::default() }))
    }
}
impl EventsControl for Fake {
    fn sources(&self) -> Vec<EventSourceInfo> {
        Vec::new()
    }
    fn deliver(&self, source: &str, headers: http::HeaderMap, body: axum::body::Bytes) -> EventsDelivery {
        let outcome = match source {
            "shop" if headers.contains_key("webhook-signature") => {
                Ok(DeliveryReport { events: 1, entries: body.len() as u64, repeated: false })
            }
            "shop" => Err(ControlError::Unauthorized("no header webhook-signature".to_owned())),
            _ => Err(ControlError::NotFound(format!("no source `{source}`"))),
        };
        Box::pin(std::future::ready(outcome))
    }
}
impl MetricsView for Fake {
    fn text(&self) -> String {
        "# EOF\n".to_owned()
    }
}

impl PricesControl for Fake {
    fn prices(&self) -> PricesReport {
        PricesReport { digest: "0011".to_owned(), ..PricesReport::default() }
    }
    fn reload(&self) -> Result<PricesReport, ControlError> {
        match self.phase {
            Phase::Starting => Err(ControlError::Refused("farthing.toml:3: providers.p.prices.per_call: found 1".to_owned())),
            _ => Ok(self.prices()),
        }
    }
}

pub(crate) fn parts(phase: Phase) -> Parts {
    let fake = Arc::new(Fake { phase });
    Parts {
        status: fake.clone(),
        routes: fake.clone(),
        models: fake.clone(),
        experiments: fake.clone(),
        decisions: fake.clone(),
        budgets: fake.clone(),
        bypass: fake.clone(),
        freeze: fake.clone(),
        limits: fake.clone(),
        cache: fake.clone(),
        config: fake.clone(),
        fleet_config: fake.clone(),
        audit: Arc::new(crate::tests_audit::Notes::default()),
        costs: fake.clone(),
        alerts: fake.clone(),
        events: fake.clone(),
        prices: fake.clone(),
        forget: fake.clone(),
        sinks: fake.clone(),
        metrics: fake,
    }
}

pub(crate) fn app(token: Option<&str>) -> Router {
    router(parts(Phase::Degraded), &AdminConfig { token: token.map(Secret::new), max_body: 1_000, ..AdminConfig::default() })
}

pub(crate) fn request(method: &str, path: &str, body: Value) -> Request<Body> {
    let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, "localhost:8788")
        .header(header::CONTENT_TYPE, "application/json")
        .body(body)
        .unwrap();
    request.extensions_mut().insert(ConnectInfo(SocketAddr::from(([127, 0, 0, 1], 5))));
    request
}

pub(crate) async fn send(app: &Router, request: Request<Body>) -> (StatusCode, String, String) {
    let response = app.clone().oneshot(request).await.unwrap();
    let kind = response.headers().get(header::CONTENT_TYPE).map(|v| v.to_str().unwrap().to_owned()).unwrap_or_default();
    let status = response.status();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (status, kind, String::from_utf8(bytes.to_vec()).unwrap())
}

pub(crate) async fn call(method: &str, path: &str, body: Value) -> (StatusCode, Value) {
    let (status, kind, text) = send(&app(None), request(method, path, body)).await;
    if !status.is_success() && path != "/readyz" {
        assert_eq!(kind, "application/problem+json", "{method} {path}: {text}");
        let document: ProblemDocument = serde_json::from_str(&text).unwrap();
        assert_eq!(document.status, status.as_u16());
        assert!(document.kind.starts_with("urn:farthing:problem:") && !document.detail.is_empty());
    }
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

#[tokio::test]
async fn views_answer() {
    for path in [
        "routes",
        "status",
        "costs",
        "costs/totals",
        "experiments",
        "models",
        "models/ttl/versions",
        "models/ttl/versions/3",
        "cache/stats",
        "events",
    ] {
        let (status, _) = call("GET", &format!("/api/v1/{path}"), Value::Null).await;
        assert_eq!(status, StatusCode::OK, "{path}");
    }
    let (_, body) = call("GET", "/api/v1/status", Value::Null).await;
    assert_eq!(body["total"]["base_usd"], "0.004", "money is a decimal text");
    let (status, body) = call("GET", "/metrics", Value::Null).await;
    assert_eq!((status, body), (StatusCode::OK, Value::String("# EOF\n".to_owned())));
}

#[tokio::test]
async fn ready_means_that_the_data_port_answers() {
    for (phase, expected) in [
        (Phase::Ok, StatusCode::OK),
        (Phase::Degraded, StatusCode::OK),
        (Phase::Starting, StatusCode::SERVICE_UNAVAILABLE),
        (Phase::Draining, StatusCode::SERVICE_UNAVAILABLE),
    ] {
        let app = router(parts(phase), &AdminConfig::default());
        for path in ["/readyz", "/healthz"] {
            let (status, _, text) = send(&app, request("GET", path, Value::Null)).await;
            let body: Readiness = serde_json::from_str(&text).unwrap();
            assert_eq!((status, body.status), (expected, phase), "{path}");
        }
        assert_eq!(send(&app, request("GET", "/livez", Value::Null)).await.0, StatusCode::OK);
    }
}

#[tokio::test]
async fn models_are_changed_and_refusals_say_why() {
    let (status, body) = call("PUT", "/api/v1/models/ttl/aliases/champion", json!({ "version": 2 })).await;
    assert_eq!((status, &body["live"]), (StatusCode::OK, &json!(2)));
    assert_eq!(call("POST", "/api/v1/models/ttl/versions/2/load", Value::Null).await.0, StatusCode::OK);
    let (status, body) = call("PUT", "/api/v1/models/ttl/aliases/champion", json!({ "version": 9 })).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(body["detail"], "golden row 3 differs");
    let again = |force| json!({ "version": 8, "force": force, "by": "anna", "reason": "it was the weather" });
    assert_eq!(call("PUT", "/api/v1/models/ttl/aliases/champion", again(false)).await.0, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(call("PUT", "/api/v1/models/ttl/aliases/champion", again(true)).await.0, StatusCode::OK);
    assert_eq!(call("DELETE", "/api/v1/models/ttl/aliases/challenger", json!({})).await, (StatusCode::OK, json!([])));
    assert_eq!(call("DELETE", "/api/v1/models/ttl/aliases/champion", json!({})).await.0, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(call("GET", "/api/v1/models/history", Value::Null).await, (StatusCode::OK, json!([])));
    let (status, body) = call("POST", "/api/v1/models/ttl/rollback", json!({})).await;
    assert_eq!((status, &body["detail"]), (StatusCode::UNPROCESSABLE_ENTITY, &json!("champion has no earlier version")));
    assert_eq!(call("POST", "/api/v1/models/ttl/rollback", json!({ "alias": "shadow" })).await.0, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(call("GET", "/api/v1/models/nose/versions", Value::Null).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn bad_requests_are_problems() {
    for (method, path, body, expected) in [
        ("GET", "/nothing", Value::Null, StatusCode::NOT_FOUND),
        ("GET", "/api/v1/experiments/none", Value::Null, StatusCode::NOT_FOUND),
        ("GET", "/api/v1/routes/none/volatile", Value::Null, StatusCode::NOT_FOUND),
        ("DELETE", "/api/v1/status", Value::Null, StatusCode::METHOD_NOT_ALLOWED),
        ("GET", "/api/v1/decisions/xyz", Value::Null, StatusCode::BAD_REQUEST),
        ("GET", "/api/v1/decisions/+0000000000000ff", Value::Null, StatusCode::BAD_REQUEST),
        ("GET", "/api/v1/decisions/0000000000000001", Value::Null, StatusCode::NOT_FOUND),
        ("GET", "/api/v1/decisions/00000000000000ff", Value::Null, StatusCode::OK),
        ("GET", "/api/v1/requests/12/explanation", Value::Null, StatusCode::BAD_REQUEST),
        ("GET", "/api/v1/requests/00000000000000ff/explanation", Value::Null, StatusCode::NOT_FOUND),
        ("GET", "/api/v1/models/ttl/versions/two", Value::Null, StatusCode::BAD_REQUEST),
        ("PUT", "/api/v1/models/ttl/aliases/champion", json!({ "vers": 1 }), StatusCode::UNPROCESSABLE_ENTITY),
        ("POST", "/api/v1/cache/purge", json!({}), StatusCode::BAD_REQUEST),
        ("POST", "/api/v1/cache/purge", json!({ "tags": ["a", "b"], "dry_run": true }), StatusCode::OK),
        ("POST", "/api/v1/cache/purge", json!({ "tag": "a" }), StatusCode::UNPROCESSABLE_ENTITY),
        ("POST", "/api/v1/cache/warm", json!({ "route": "geo", "targets": ["/a"], "limit_usd": "0.5" }), StatusCode::OK),
        ("POST", "/api/v1/cache/warm", json!({ "route": "geo", "targets": [] }), StatusCode::BAD_REQUEST),
        ("POST", "/api/v1/cache/warm", json!({ "route": "sea", "targets": ["/a"] }), StatusCode::NOT_FOUND),
        ("POST", "/api/v1/cache/warm", json!({ "route": "geo", "targets": ["/a"], "limit": 1 }), StatusCode::UNPROCESSABLE_ENTITY),
        ("POST", "/api/v1/cache/purge", json!({ "tags": ["a".repeat(2_000)] }), StatusCode::PAYLOAD_TOO_LARGE),
    ] {
        assert_eq!(call(method, path, body).await.0, expected, "{method} {path}");
    }
    let mut cut = request("POST", "/api/v1/cache/purge", Value::Null);
    *cut.body_mut() = Body::from("{\"tags\":");
    assert_eq!(send(&app(None), cut).await.0, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_token_is_asked_for_from_everybody() {
    let app = app(Some("s3cret"));
    let with = |value: &str| {
        let mut request = request("GET", "/api/v1/status", Value::Null);
        request.headers_mut().insert(header::AUTHORIZATION, value.parse().unwrap());
        request
    };
    for (value, expected) in [
        ("Bearer s3cret", 200),
        ("bearer s3cret", 200),
        ("Bearer s3cre", 401),
        ("Bearer s3cret2", 401),
        ("Basic s3cret", 401),
        ("s3cret", 401),
    ] {
        let (status, _, body) = send(&app, with(value)).await;
        assert_eq!(status.as_u16(), expected, "{value}");
        let wrong = value.to_ascii_lowercase().starts_with("bearer ");
        let says = if wrong { "none of admin.token and [[admin.tokens]]" } else { "send the admin token" };
        assert!(expected == 200 || body.contains(says), "{value}: {body}");
    }
    for path in ["/api/v1/status", "/metrics", "/openapi.json", "/nothing"] {
        assert_eq!(send(&app, request("GET", path, Value::Null)).await.0, StatusCode::UNAUTHORIZED, "{path}");
    }
    assert_eq!(send(&app, request("GET", "/readyz", Value::Null)).await.0, StatusCode::OK);
    let mut remote = with("Bearer s3cret");
    remote.extensions_mut().insert(ConnectInfo(SocketAddr::from(([203, 0, 113, 9], 5))));
    assert_eq!(send(&app, remote).await.0, StatusCode::OK);
}

/// Whoever sends events has a secret of the source, and neither our token nor our machine.
#[tokio::test]
async fn signed_deliveries_need_no_token() {
    for app in [app(Some("s3cret")), app(None)] {
        let from_outside = |method: &str, path: &str, body: Value| {
            let mut request = request(method, path, body);
            request.extensions_mut().insert(ConnectInfo(SocketAddr::from(([203, 0, 113, 9], 5))));
            request.headers_mut().insert(header::HOST, "hooks.example.com".parse().unwrap());
            request
        };
        let mut signed = from_outside("POST", "/api/v1/events/shop", json!({}));
        signed.headers_mut().insert("webhook-signature", "v1,AAAA".parse().unwrap());
        let (status, _, text) = send(&app, signed).await;
        assert_eq!((status, text.as_str()), (StatusCode::OK, "{\"events\":1,\"entries\":2,\"repeated\":false}"));
        let (status, kind, _) = send(&app, from_outside("POST", "/api/v1/events/shop", json!({}))).await;
        assert_eq!((status, kind.as_str()), (StatusCode::UNAUTHORIZED, "application/problem+json"));
        assert_eq!(send(&app, from_outside("POST", "/api/v1/events/none", json!({}))).await.0, StatusCode::NOT_FOUND);
        assert_eq!(
            send(&app, from_outside("POST", "/api/v1/events/shop", json!("x".repeat(2_000)))).await.0,
            StatusCode::PAYLOAD_TOO_LARGE
        );
        for (method, path) in [("GET", "/api/v1/events"), ("GET", "/api/v1/events/shop"), ("POST", "/api/v1/events/../cache/purge")] {
            let status = send(&app, from_outside(method, path, Value::Null)).await.0;
            assert!([401, 403, 404].contains(&status.as_u16()), "{method} {path}: {status}");
        }
    }
}

#[tokio::test]
async fn without_a_token_only_loopback_is_answered() {
    let app = app(None);
    let from = |peer: &str| {
        let mut request = request("GET", "/api/v1/status", Value::Null);
        request.extensions_mut().insert(ConnectInfo::<SocketAddr>(peer.parse().unwrap()));
        request
    };
    for (peer, expected) in
        [("127.0.0.9:1", 200), ("[::1]:1", 200), ("[::ffff:127.0.0.1]:1", 200), ("10.0.0.1:1", 403), ("[2001:db8::1]:1", 403)]
    {
        assert_eq!(send(&app, from(peer)).await.0.as_u16(), expected, "{peer}");
    }
    let mut unknown = request("GET", "/api/v1/status", Value::Null);
    unknown.extensions_mut().clear();
    assert_eq!(send(&app, unknown).await.0, StatusCode::FORBIDDEN, "an unknown peer is not taken for a local one");
}

#[tokio::test]
async fn pages_in_a_local_browser_cannot_act() {
    let app = app(None);
    let asked_as = |host: &str| {
        let mut request = request("GET", "/api/v1/status", Value::Null);
        request.headers_mut().insert(header::HOST, host.parse().unwrap());
        request
    };
    for (host, expected) in
        [("127.0.0.1:8788", 200), ("localhost", 200), ("[::1]:8788", 200), ("evil.example", 403), ("127.0.0.1.evil.example", 403)]
    {
        assert_eq!(send(&app, asked_as(host)).await.0.as_u16(), expected, "{host}");
    }
    let purge = |origin: &str| {
        let mut request = request("POST", "/api/v1/cache/purge", json!({ "all": true }));
        request.headers_mut().insert(header::ORIGIN, origin.parse().unwrap());
        request
    };
    assert_eq!(send(&app, purge("https://evil.example")).await.0, StatusCode::FORBIDDEN);
    assert_eq!(send(&app, purge("null")).await.0, StatusCode::FORBIDDEN);
    assert_eq!(send(&app, purge("http://localhost:8788")).await.0, StatusCode::OK);
}

#[tokio::test]
async fn the_description_lists_every_endpoint() {
    let (status, kind, text) = send(&app(None), request("GET", "/openapi.json", Value::Null)).await;
    assert_eq!((status, kind.as_str()), (StatusCode::OK, "application/json"));
    let document: Value = serde_json::from_str(&text).unwrap();
    let paths = document["paths"].as_object().unwrap();
    assert!(paths.len() >= 16, "{:?}", paths.keys());
    for (path, methods) in paths {
        for (method, operation) in methods.as_object().unwrap() {
            assert!(!operation["summary"].as_str().unwrap_or_default().is_empty(), "{method} {path} says nothing of itself");
            let concrete =
                path.replace("{id}", "00000000000000ff").replace("{kind}", "ttl").replace("{version}", "1").replace("{alias}", "champion");
            let body = if method == "get" { Value::Null } else { json!({ "version": 1, "all": true }) };
            let (status, ..) = send(&app(None), request(&method.to_uppercase(), &concrete, body)).await;
            assert_ne!(status, StatusCode::METHOD_NOT_ALLOWED, "{method} {path}");
            let declared = operation["responses"].as_object().unwrap().contains_key(status.as_str());
            assert!(declared, "{method} {path} answers {status}, which its description does not name");
        }
    }
    assert!(document["components"]["securitySchemes"]["token"].is_object());
}

#[tokio::test(start_paused = true)]
async fn a_slow_head_is_cut_off() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = serve(listener, app(None), None, async move {
        let _ = stopped.await;
    });
    let client = async {
        let mut stream = tokio::net::TcpStream::connect(addr).await.unwrap();
        stream.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Slow").await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        assert!(!answer.starts_with(b"HTTP/1.1 200"), "{answer:?}");
        stop.send(()).unwrap();
    };
    let (served, ()) = tokio::join!(serving, client);
    served.unwrap();
}

#[tokio::test]
async fn it_serves_and_stops() {
    use hyper_util::rt::TokioIo;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = serve(listener, app(None), None, async move {
        let _ = stopped.await;
    });
    let client = async {
        let stream = tokio::net::TcpStream::connect(addr).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        let asking = async {
            let request = Request::builder().method(Method::GET).uri("/api/v1/status").header(header::HOST, addr.to_string());
            let response = sender.send_request(request.body(String::new()).unwrap()).await.unwrap();
            assert_eq!(response.status(), StatusCode::OK);
            drop(sender);
            stop.send(()).unwrap();
        };
        let ((), _) = tokio::join!(asking, connection);
    };
    let (served, ()) = tokio::join!(serving, client);
    served.unwrap();
}

#[tokio::test]
async fn a_tenant_is_forgotten_by_name() {
    let (status, body) = call("POST", "/api/v1/forget", json!({"tenant": "acme"})).await;
    assert_eq!((status, &body["finished"], &body["left"]), (StatusCode::OK, &json!(true), &json!(["acme"])));
    for (body, wanted) in [(json!({"tenant": ""}), StatusCode::BAD_REQUEST), (json!({"tenants": "a"}), StatusCode::UNPROCESSABLE_ENTITY)] {
        assert_eq!(call("POST", "/api/v1/forget", body).await.0, wanted);
    }
}

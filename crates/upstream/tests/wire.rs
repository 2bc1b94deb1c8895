//! The client against real servers in this process: HTTP/1.1, HTTP/2 and TLS, and servers that misbehave byte by byte.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests may fail the test")]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use farthing_types::{Body, BodyError, Call, CallId, CallReport, CallSink, FailureKind, Purpose, RealClock};
use farthing_upstream::{
    BreakerSpec, Credential, Origin, Place, Protocol, RetrySpec, Roots, Secret, Upstream, UpstreamError, UpstreamSpec, build,
};
use futures_util::stream;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

#[path = "wire/framing.rs"]
mod framing;
#[path = "wire/pool.rs"]
mod pool;
#[path = "wire/shared.rs"]
mod shared;

#[derive(Default)]
struct Reports(Mutex<Vec<CallReport>>);
impl CallSink for Reports {
    fn attempt(&self, report: CallReport) {
        self.0.lock().push(report);
    }
}
impl Reports {
    fn single(&self) -> CallReport {
        let reports = self.0.lock();
        assert_eq!(reports.len(), 1, "{reports:?}");
        reports[0].clone()
    }
}

fn call(method: Method, target: &str, body: Body, sink: &Arc<Reports>) -> Call {
    Call {
        id: CallId(9),
        route: "r".into(),
        payer: "t".into(),
        purpose: Purpose::User,
        key: None,
        method,
        target: target.parse().unwrap(),
        headers: HeaderMap::new(),
        body,
        repeatable: false,
        deadline: Duration::from_secs(20),
        claim: farthing_types::Claim::default(),
        batch: None,
        routing: None,
        sink: Arc::clone(sink) as Arc<dyn CallSink>,
    }
}

/// A specification without retries, so that each failure is seen.
fn spec(base: &str) -> UpstreamSpec {
    let mut spec = UpstreamSpec::new("u", base.parse().unwrap());
    spec.retry = RetrySpec { attempts: 1, ..RetrySpec::default() };
    spec.breaker = BreakerSpec { consecutive: 0, min_calls: 128, window: 128, ..BreakerSpec::default() };
    spec
}

fn upstream(spec: UpstreamSpec) -> Arc<dyn Origin> {
    counted(spec)
}

/// The same with its counters.
fn counted(spec: UpstreamSpec) -> Arc<Upstream> {
    build(spec, Arc::new(RealClock::default())).unwrap()
}

fn chunks(parts: &[&'static str], trailers: Option<HeaderMap>) -> Body {
    let data = parts.iter().map(|part| Ok::<_, BodyError>(Frame::data(Bytes::from_static(part.as_bytes())))).collect::<Vec<_>>();
    Body::stream(StreamBody::new(stream::iter(data.into_iter().chain(trailers.map(|t| Ok(Frame::trailers(t)))))))
}

async fn text(body: Body) -> String {
    String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

type Echoed = Response<http_body_util::combinators::BoxBody<Bytes, hyper::Error>>;

/// Tells what it was asked in headers, and sends body and trailers back.
async fn echo(request: Request<Incoming>) -> Result<Echoed, Infallible> {
    let (parts, body) = request.into_parts();
    let authority = parts.uri.authority().map(ToString::to_string);
    let host = parts.headers.get("host").and_then(|h| h.to_str().ok()).map(str::to_owned);
    let mut response = Response::new(body.boxed());
    let headers = response.headers_mut();
    headers.insert("x-version", HeaderValue::from_static(if parts.version == Version::HTTP_2 { "2" } else { "1" }));
    headers.insert("x-target", parts.uri.path_and_query().unwrap().as_str().parse().unwrap());
    headers.insert("x-host", authority.or(host).unwrap().parse().unwrap());
    for name in ["x-mine", "authorization", "x-api-key", "te", "connection", "content-length", "transfer-encoding"] {
        if let Some(value) = parts.headers.get(name) {
            headers.insert(http::HeaderName::try_from(format!("seen-{name}")).unwrap(), value.clone());
        }
    }
    if parts.headers.contains_key("trailer") {
        headers.insert("trailer", HeaderValue::from_static("x-sum"));
    }
    headers.insert("keep-alive", HeaderValue::from_static("timeout=5"));
    Ok(response)
}

struct Server {
    addr: SocketAddr,
    _tasks: JoinSet<()>,
}

impl Server {
    async fn start(tls: Option<tokio_rustls::TlsAcceptor>, http2: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let tls = tls.clone();
                connections.spawn(async move {
                    match tls {
                        None => serve(stream, http2).await,
                        Some(tls) => {
                            let Ok(stream) = tls.accept(stream).await else { return };
                            let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                            serve(stream, http2).await;
                        }
                    }
                });
            }
        });
        Self { addr, _tasks: tasks }
    }

    /// A server whose every connection is handled by `script` on raw bytes.
    async fn raw<F>(script: impl Fn(TcpStream) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(script(stream));
            }
        });
        Self { addr, _tasks: tasks }
    }
}

async fn serve(stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static, http2: bool) {
    let io = TokioIo::new(stream);
    if http2 {
        drop(hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(io, service_fn(echo)).await);
    } else {
        drop(hyper::server::conn::http1::Builder::new().serve_connection(io, service_fn(echo)).await);
    }
}

async fn read_head(stream: &mut TcpStream) -> String {
    let (mut head, mut byte) = (Vec::new(), [0u8]);
    while !head.ends_with(b"\r\n\r\n") && stream.read_exact(&mut byte).await.is_ok() {
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

#[tokio::test]
async fn requests_and_answers_pass_as_they_are() {
    for (protocol, version) in [(Protocol::Http1, "1"), (Protocol::Http2, "2")] {
        let server = Server::start(None, protocol == Protocol::Http2).await;
        let origin = upstream(UpstreamSpec { protocol, ..spec(&format!("http://{}/v1/", server.addr)) });
        let reports = Arc::new(Reports::default());
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", HeaderValue::from_static("11"));
        let mut call = call(Method::POST, "/a%2Fb//c?x=%7e&y", chunks(&["hello", " world"], Some(trailers)), &reports);
        for (name, value) in [
            ("x-mine", "\t caf\u{e9}"),
            ("trailer", "x-sum"),
            ("te", "trailers"),
            ("connection", "x-hop"),
            ("x-hop", "1"),
            ("host", "evil"),
        ] {
            call.headers.insert(name, HeaderValue::from_bytes(value.trim().as_bytes()).unwrap());
        }
        let reply = origin.fetch(call).await.unwrap();
        assert_eq!(reply.status, 200);
        assert_eq!(reply.headers["x-version"], version);
        assert_eq!(reply.headers["x-target"], "/v1/a%2Fb//c?x=%7e&y");
        assert_eq!(reply.headers["x-host"], server.addr.to_string());
        assert_eq!(reply.headers["seen-x-mine"].as_bytes(), "caf\u{e9}".as_bytes());
        assert_eq!(reply.headers["seen-te"], "trailers");
        assert!(!reply.headers.contains_key("keep-alive") && !reply.headers.contains_key("transfer-encoding"));
        let collected = reply.body.collect().await.unwrap();
        assert_eq!(collected.trailers().unwrap()["x-sum"], "11");
        assert_eq!(collected.to_bytes(), "hello world");
        let report = reports.single();
        assert_eq!((report.status, report.failure, report.sent, report.attempt), (Some(StatusCode::OK), None, true, 0));
        assert_eq!(&*report.upstream, "u");
    }
}

#[tokio::test]
async fn bodies_keep_their_length_and_gets_keep_their_bodies() {
    let server = Server::start(None, false).await;
    let origin = upstream(spec(&format!("http://{}", server.addr)));
    let reports = Arc::new(Reports::default());
    for (method, body, length, coding, echoed) in [
        (Method::GET, Body::empty(), None, None, ""),
        (Method::POST, Body::full("hello"), Some("5"), None, "hello"),
        (Method::POST, Body::empty(), Some("0"), None, ""),
        (Method::GET, chunks(&["hel", "lo"], None), None, Some("chunked"), "hello"),
        (Method::PUT, chunks(&["hel", "lo"], None), Some("5"), None, "hello"),
    ] {
        let mut call = call(method, "/", body, &reports);
        if let Some(length) = length {
            // A lie about a whole body is corrected; about a stream it could only be found out at its end.
            let told = if call.body.as_full().is_some_and(|b| !b.is_empty()) { "77" } else { length };
            call.headers.insert("content-length", HeaderValue::from_static(told));
        }
        let reply = origin.fetch(call).await.unwrap();
        let seen = |name: &str| reply.headers.get(name).map(|v| v.to_str().unwrap().to_owned());
        assert_eq!((seen("seen-content-length").as_deref(), seen("seen-transfer-encoding").as_deref()), (length, coding));
        assert_eq!(text(reply.body).await, echoed);
    }
}

#[tokio::test]
async fn our_credential_replaces_the_clients() {
    let server = Server::start(None, false).await;
    let base = format!("http://{}", server.addr);
    let reports = Arc::new(Reports::default());
    let client_call = || {
        let mut call = call(Method::GET, "/a?key=client&b=1&appid=client", Body::empty(), &reports);
        call.headers.insert("authorization", HeaderValue::from_static("Bearer client"));
        call.headers.insert("x-api-key", HeaderValue::from_static("client"));
        call
    };
    let reply = upstream(UpstreamSpec { credential: Some(Credential::bearer(Secret::new("ours"))), ..spec(&base) });
    let reply = reply.fetch(client_call()).await.unwrap();
    assert_eq!(reply.headers["seen-authorization"], "Bearer ours");
    assert!(!reply.headers.contains_key("seen-x-api-key"));
    assert_eq!(reply.headers["x-target"], "/a?b=1&appid=client");

    let query = Credential::new(Place::Query("appid".into()), Secret::new("ours"));
    let reply = upstream(UpstreamSpec { credential: Some(query), ..spec(&base) }).fetch(client_call()).await.unwrap();
    assert_eq!(reply.headers["x-target"], "/a?b=1&appid=ours");
    assert!(!reply.headers.contains_key("seen-authorization"));

    let reply = upstream(spec(&base)).fetch(client_call()).await.unwrap();
    assert_eq!(reply.headers["seen-authorization"], "Bearer client");
    assert_eq!(reply.headers["x-target"], "/a?key=client&b=1&appid=client");
}

fn certificate(alpn: &[&[u8]]) -> (tokio_rustls::TlsAcceptor, Roots) {
    let own = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let key = tokio_rustls::rustls::pki_types::PrivateKeyDer::try_from(own.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let builder = tokio_rustls::rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_no_client_auth().with_single_cert(vec![own.cert.der().clone()], key).unwrap();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    (Arc::new(config).into(), Roots::Pem(own.cert.pem().into_bytes().into()))
}

#[tokio::test]
async fn tls_negotiates_the_version_and_checks_the_certificate() {
    let reports = Arc::new(Reports::default());
    for (alpn, version) in [(&[b"h2".as_slice(), b"http/1.1"][..], "2"), (&[b"http/1.1".as_slice()], "1"), (&[], "1")] {
        let (acceptor, roots) = certificate(alpn);
        let server = Server::start(Some(acceptor), false).await;
        let base = format!("https://{}", server.addr);
        let reply = upstream(UpstreamSpec { roots, ..spec(&base) }).fetch(call(Method::GET, "/", Body::empty(), &reports)).await.unwrap();
        assert_eq!(reply.headers["x-version"], version);
    }
    reports.0.lock().clear();
    let (acceptor, _) = certificate(&[]);
    let server = Server::start(Some(acceptor), false).await;
    let failure =
        upstream(spec(&format!("https://{}", server.addr))).fetch(call(Method::POST, "/", Body::full("x"), &reports)).await.unwrap_err();
    assert_eq!((failure.kind, failure.sent), (FailureKind::Connect, false), "{failure}");
    assert!(!reports.single().sent);
}

#[tokio::test]
async fn an_upstream_that_is_not_there() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    drop(listener);
    let reports = Arc::new(Reports::default());
    let failure =
        upstream(spec(&format!("http://{addr}"))).fetch(call(Method::GET, "/?key=s3cret", Body::empty(), &reports)).await.unwrap_err();
    assert_eq!((failure.kind, failure.sent), (FailureKind::Connect, false));
    assert!(!failure.detail.contains("s3cret"), "{failure}");
    assert_eq!(reports.single().failure, Some(FailureKind::Connect));
}

#[tokio::test]
async fn servers_that_misbehave() {
    for (answer, kind) in [
        ("", FailureKind::Broken),
        ("HTTP/1.1 200 OK\r\nX: ", FailureKind::Broken),
        ("SSH-2.0-OpenSSH\r\n\r\n", FailureKind::Protocol),
        ("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", FailureKind::Protocol),
    ] {
        let server = Server::raw(move |mut stream| async move {
            read_head(&mut stream).await;
            drop(stream.write_all(answer.as_bytes()).await);
        })
        .await;
        let reports = Arc::new(Reports::default());
        let failure =
            upstream(spec(&format!("http://{}", server.addr))).fetch(call(Method::GET, "/", Body::empty(), &reports)).await.unwrap_err();
        assert_eq!((failure.kind, failure.sent), (kind, true), "{answer}: {failure}");
        assert_eq!((reports.single().failure, reports.single().sent), (Some(kind), true));
    }
}

/// Takes interim answers.
#[derive(Default)]
struct Hints(Mutex<Vec<(StatusCode, HeaderMap)>>);
impl CallSink for Hints {
    fn attempt(&self, _report: CallReport) {}
    fn wants_interim(&self) -> bool {
        true
    }
    fn interim(&self, status: StatusCode, headers: HeaderMap) {
        self.0.lock().push((status, headers));
    }
}

#[tokio::test]
async fn interim_answers_go_to_whoever_wants_them_before_the_answer() {
    let server = Server::raw(|mut stream| async move {
        read_head(&mut stream).await;
        let answer = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\nLink: y\r\nConnection: z\r\nZ: 1\r\n\r\n\
            HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        drop(stream.write_all(answer.as_bytes()).await);
        read_head(&mut stream).await;
    })
    .await;
    let hints = Arc::new(Hints::default());
    let call = Call { sink: hints.clone(), ..call(Method::GET, "/", Body::empty(), &Arc::default()) };
    let reply = upstream(spec(&format!("http://{}", server.addr))).fetch(call).await.unwrap();
    let seen = std::mem::take(&mut *hints.0.lock());
    let links = |headers: &HeaderMap| headers.get_all("link").iter().map(|v| v.to_str().unwrap().to_owned()).collect::<Vec<_>>();
    let told: Vec<_> = seen.iter().map(|(status, headers)| (status.as_u16(), links(headers), headers.len())).collect();
    assert_eq!(told, [(102, vec![], 0), (103, vec!["x".to_owned(), "y".to_owned()], 2)]);
    assert!(!reply.headers.contains_key("link"));
    assert_eq!(text(reply.body).await, "ok");
}

#[tokio::test]
async fn interim_answers_are_skipped_and_redirects_cookies_codings_untouched() {
    let server = Server::raw(|mut stream| async move {
        read_head(&mut stream).await;
        let answer = "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 302 Found\r\nLocation: /b\r\nSet-Cookie: a=b\r\n\
            Content-Encoding: gzip\r\nContent-Length: 4\r\n\r\n\x1f\x0bzz";
        drop(stream.write_all(answer.as_bytes()).await);
        read_head(&mut stream).await;
    })
    .await;
    let reports = Arc::new(Reports::default());
    let reply = upstream(spec(&format!("http://{}", server.addr))).fetch(call(Method::GET, "/", Body::empty(), &reports)).await.unwrap();
    assert_eq!(
        (reply.status, &reply.headers["content-encoding"], &reply.headers["set-cookie"]),
        (StatusCode::FOUND, &"gzip".parse().unwrap(), &"a=b".parse().unwrap())
    );
    assert_eq!(text(reply.body).await, "\x1f\x0bzz");
}

#[tokio::test]
async fn a_head_that_does_not_come_and_a_body_that_stops() {
    let server = Server::raw(|mut stream| async move {
        let head = read_head(&mut stream).await;
        if head.starts_with("GET /body") {
            drop(stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhel").await);
        }
        std::future::pending::<()>().await;
    })
    .await;
    let short = Duration::from_millis(40);
    let base = format!("http://{}", server.addr);
    let origin = upstream(UpstreamSpec { head_deadline: short, ..spec(&base) });
    let reports = Arc::new(Reports::default());
    let failure = origin.fetch(call(Method::GET, "/head", Body::empty(), &reports)).await.unwrap_err();
    assert_eq!((failure.kind, failure.sent), (FailureKind::Timeout, true), "{failure}");
    assert_eq!(reports.single().failure, Some(FailureKind::Timeout));

    let origin = upstream(UpstreamSpec { body_idle: short, ..spec(&base) });
    let reply = origin.fetch(call(Method::GET, "/body", Body::empty(), &reports)).await.unwrap();
    let error = reply.body.collect().await.unwrap_err();
    assert!(error.0.contains("silent"), "{error}");

    let origin = upstream(spec(&base));
    let mut hasty = call(Method::GET, "/body", Body::empty(), &reports);
    hasty.deadline = Duration::from_millis(500);
    let error = origin.fetch(hasty).await.unwrap().body.collect().await.unwrap_err();
    assert!(error.0.contains("deadline"), "{error}");
}

#[tokio::test]
async fn a_request_body_that_breaks_off_is_the_clients_failure() {
    let server = Server::start(None, false).await;
    let frames = vec![Ok(Frame::data(Bytes::from("hel"))), Err(BodyError("client gone".into()))];
    let body = Body::stream(StreamBody::new(stream::iter(frames)));
    let reports = Arc::new(Reports::default());
    let raw = Server::raw(|mut stream| async move {
        let mut sink = Vec::new();
        drop(stream.read_to_end(&mut sink).await);
    })
    .await;
    let failure = upstream(spec(&format!("http://{}", raw.addr))).fetch(call(Method::POST, "/", body, &reports)).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::RequestBody, "{failure}");
    assert_eq!(reports.single().failure, Some(FailureKind::RequestBody));
    drop(server);
}

#[tokio::test]
async fn a_call_that_is_given_up_is_still_reported() {
    let (asked, mut seen) = tokio::sync::mpsc::unbounded_channel();
    let server = Server::raw(move |mut stream| {
        let asked = asked.clone();
        async move {
            read_head(&mut stream).await;
            asked.send(()).unwrap();
            std::future::pending::<()>().await;
        }
    })
    .await;
    let origin = upstream(spec(&format!("http://{}", server.addr)));
    let reports = Arc::new(Reports::default());
    let mut fetching = origin.fetch(call(Method::GET, "/", Body::empty(), &reports));
    tokio::select! {
        _ = &mut fetching => unreachable!("there is no answer"),
        _ = seen.recv() => {}
    }
    drop(fetching);
    let report = reports.single();
    assert_eq!((report.failure, report.sent), (Some(FailureKind::Broken), true));
}

#[tokio::test]
async fn connections_are_reused_and_a_retry_goes_through_all_layers() {
    let accepted = Arc::new(Mutex::new(0));
    let counter = Arc::clone(&accepted);
    let server = Server::raw(move |mut stream| {
        let number = {
            let mut accepted = counter.lock();
            *accepted += 1;
            *accepted
        };
        async move {
            while !read_head(&mut stream).await.is_empty() {
                if number == 1 {
                    return; // the first connection breaks after the request
                }
                drop(stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await);
            }
        }
    })
    .await;
    let base = format!("http://{}", server.addr);
    let origin = upstream(UpstreamSpec { retry: RetrySpec { backoff: Duration::from_millis(1), ..RetrySpec::default() }, ..spec(&base) });
    let reports = Arc::new(Reports::default());
    for _ in 0..5 {
        let reply = origin.fetch(call(Method::GET, "/", Body::empty(), &reports)).await.unwrap();
        assert_eq!(text(reply.body).await, "ok");
    }
    assert_eq!(*accepted.lock(), 2);
    let attempts: Vec<(u16, Option<FailureKind>)> = reports.0.lock().iter().map(|r| (r.attempt, r.failure)).collect();
    assert_eq!(attempts[..3], [(0, Some(FailureKind::Broken)), (1, None), (0, None)]);
}

#[tokio::test]
async fn a_stream_refused_unprocessed_counts_as_unsent() {
    let server = Server::raw(|stream| async move {
        let mut connection = h2::server::handshake(stream).await.unwrap();
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            let refused = request.uri().path() == "/refused";
            respond.send_reset(if refused { h2::Reason::REFUSED_STREAM } else { h2::Reason::INTERNAL_ERROR });
        }
    })
    .await;
    let origin = upstream(UpstreamSpec { protocol: Protocol::Http2, ..spec(&format!("http://{}", server.addr)) });
    for (target, sent) in [("/refused", false), ("/other", true)] {
        let reports = Arc::new(Reports::default());
        let failure = origin.fetch(call(Method::POST, target, Body::full("x"), &reports)).await.unwrap_err();
        assert_eq!((failure.kind, failure.sent), (FailureKind::Broken, sent), "{failure}");
        assert_eq!(reports.single().sent, sent);
    }
}

#[tokio::test]
async fn too_many_calls_at_once_are_refused() {
    let server = Server::raw(|mut stream| async move {
        read_head(&mut stream).await;
        drop(stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nok").await);
        std::future::pending::<()>().await;
    })
    .await;
    let base = format!("http://{}", server.addr);
    let origin = counted(UpstreamSpec { max_concurrent: 1, connect_deadline: Duration::from_millis(300), ..spec(&base) });
    let reports = Arc::new(Reports::default());
    let held = origin.fetch(call(Method::GET, "/", Body::empty(), &reports)).await.unwrap();
    assert_eq!((origin.traffic().under_way(), origin.traffic().queued()), (1, 0));
    let failure = origin.fetch(call(Method::GET, "/", Body::empty(), &reports)).await.unwrap_err();
    assert_eq!((failure.kind, failure.sent), (FailureKind::Refused, false));
    drop(held);
    assert!(origin.fetch(call(Method::GET, "/", Body::empty(), &reports)).await.is_ok());
    let traffic = origin.traffic();
    assert_eq!((traffic.under_way(), traffic.queued(), traffic.crowded()), (0, 1, 1));
}

#[test]
fn what_cannot_work_is_said_at_once_and_without_secrets() {
    let error = |spec: UpstreamSpec| build(spec, Arc::new(RealClock::default())).err().unwrap();
    let base = error(spec("ftp://me:s3cret@h/"));
    assert!(matches!(base, UpstreamError::Base { .. }) && !base.to_string().contains("s3cret"), "{base}");
    let credential = error(UpstreamSpec { credential: Some(Credential::bearer(Secret::new("s3cret\n"))), ..spec("http://h") });
    assert!(matches!(credential, UpstreamError::Credential { .. }) && !credential.to_string().contains("s3cret"), "{credential}");
    let roots = error(UpstreamSpec { roots: Roots::Pem(b"nothing".as_slice().into()), ..spec("https://h") });
    assert!(matches!(roots, UpstreamError::Roots { .. }), "{roots}");
}

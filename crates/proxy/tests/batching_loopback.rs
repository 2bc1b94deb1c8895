//! E3, E4, Z3 over loopback: a page asks for twenty things at once, and the provider is called once.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "helpers of tests may fail the test, and spawn what ends with it"
)]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use farthing_config::{BatchConfig, BatchFormat, BatchWindow, Config, Mode, Provider, Route};
use farthing_proxy::Proxy;
use farthing_types::{Body, RealClock, Span};
use futures_util::future::join_all;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Answers an envelope in the order of its own; the thing with number 7 is broken.
async fn answer(request: Request<Incoming>, calls: Arc<AtomicUsize>) -> Result<Response<Body>, Infallible> {
    calls.fetch_add(1, Ordering::SeqCst);
    let asked: Value = serde_json::from_slice(&request.into_body().collect().await.unwrap().to_bytes()).unwrap_or_default();
    let one = |request: &Value| {
        let status = if request["url"] == "/widgets/7" { 500 } else { 200 };
        json!({ "id": request["id"], "status": status, "body": { "is": request["url"] } })
    };
    let responses: Vec<Value> = asked["requests"].as_array().into_iter().flatten().rev().map(one).collect();
    Ok(Response::new(Body::full(json!({ "responses": responses }).to_string())))
}

async fn provider(calls: Arc<AtomicUsize>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::task::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let calls = calls.clone();
            let service = service_fn(move |request| answer(request, calls.clone()));
            tokio::task::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    addr
}

/// Status line and body.
async fn get(addr: SocketAddr, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let request = format!("GET /shop{path} HTTP/1.1\r\nhost: farthing.test\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap().to_owned(), body.to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_widgets_are_one_call() {
    let calls = Arc::new(AtomicUsize::new(0));
    let upstream = provider(calls.clone()).await;
    let dir = tempfile::tempdir().unwrap();
    let mut config = Config::default();
    config.data.addr = SocketAddr::from(([127, 0, 0, 1], 0));
    config.log.enabled = false;
    config.models.dir = dir.path().join("models");
    config.holdout.share = 0.0;
    config.providers.push(Arc::new(Provider {
        name: "shop".into(),
        base_url: format!("http://{upstream}").parse().unwrap(),
        ..Provider::default()
    }));
    let mut route = Route { name: "shop".into(), provider: "shop".into(), mode: Mode::Override, ..Route::default() };
    (route.matcher.path_prefix, route.strip_prefix) = ("/shop".into(), "/shop".into());
    // It goes when it is full, so no clock has a part in it.
    let window = BatchWindow::Fixed(Span::from_secs(10));
    let format = BatchFormat::Rest { path: "/batch".into() };
    route.batch = Some(BatchConfig { window, max_size: 20, min_rate: 0.0, ..BatchConfig::new(format) });
    config.routes.push(Arc::new(route));
    let proxy = Proxy::start(Arc::new(config), Arc::new(RealClock::default())).await.unwrap();

    let paths: Vec<String> = (0..20).map(|n| format!("/widgets/{n}")).collect();
    let answers = join_all(paths.iter().map(|path| get(proxy.data_addr(), path))).await;
    for (path, (status, body)) in paths.iter().zip(answers) {
        let expected = if path == "/widgets/7" { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::OK };
        assert!(status.contains(expected.as_str()) && body.contains(&json!({ "is": path }).to_string()), "{path}: {status} {body}");
    }
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    assert_eq!(proxy.batches()[0].stats.members(), 20);
    proxy.shutdown().await;
}

//! The listener's caps and end, and HTTP/2.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use farthing_proxy::edge::{Edge, EdgeConfig, Handler, PeerInfo, Refusal};
use farthing_types::Body;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::support::{exchange, read_answers, start, to_end};

/// Sends the request's body and trailers back; `/hang` never answers.
#[derive(Default)]
struct Echo(Arc<Notify>);

impl Handler for Echo {
    fn handle(self: Arc<Self>, request: Request<Body>, peer: PeerInfo) -> BoxFuture<'static, Response<Body>> {
        async move {
            assert!(peer.addr.ip().is_loopback() && peer.connection > 0);
            if request.uri().path() == "/hang" {
                self.0.notify_one();
                std::future::pending::<()>().await;
            }
            Response::new(request.into_body())
        }
        .boxed()
    }
}

#[tokio::test]
async fn one_address_cannot_take_all_connections() {
    let edge = start(EdgeConfig { max_connections_per_ip: 2, ..EdgeConfig::default() }, Arc::new(Echo::default())).await;
    let mut open = Vec::new();
    for _ in 0..2 {
        let mut client = TcpStream::connect(edge.addr).await.unwrap();
        client.write_all(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
        assert_eq!(read_answers(&mut client, 1).await, [200]);
        open.push(client);
    }
    let text = String::from_utf8(exchange(edge.addr, b"").await).unwrap();
    assert!(text.starts_with("HTTP/1.1 503 ") && text.contains("problem+json"), "{text}");
    assert_eq!((edge.stats.refused(Refusal::AddressCap), edge.stats.accepted(), edge.stats.active()), (1, 2, 2));
    assert!(edge.stop().await.clean);
}

#[tokio::test]
async fn above_the_cap_clients_wait_for_a_place() {
    let edge = start(EdgeConfig { max_connections: 1, ..EdgeConfig::default() }, Arc::new(Echo::default())).await;
    let request = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nok";
    let mut first = TcpStream::connect(edge.addr).await.unwrap();
    first.write_all(request).await.unwrap();
    assert_eq!(read_answers(&mut first, 1).await, [200]);
    let mut second = TcpStream::connect(edge.addr).await.unwrap();
    second.write_all(request).await.unwrap();
    first.write_all(request).await.unwrap();
    assert_eq!(read_answers(&mut first, 1).await, [200]);
    assert_eq!(edge.stats.accepted(), 1);
    drop(first);
    assert_eq!(read_answers(&mut second, 1).await, [200]);
    edge.stop().await;
}

#[tokio::test]
async fn a_request_that_never_ends_is_cut_after_the_time_to_drain() {
    let handler = Arc::new(Echo::default());
    let reached = Arc::clone(&handler.0);
    let edge = start(EdgeConfig { drain: Duration::from_millis(30), ..EdgeConfig::default() }, handler).await;
    let mut client = TcpStream::connect(edge.addr).await.unwrap();
    client.write_all(b"GET /hang HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
    reached.notified().await;
    let addr = edge.addr;
    let drained = edge.stop().await;
    assert_eq!((drained.clean, drained.cut), (false, 1));
    assert_eq!(to_end(&mut client).await, b"");
    assert!(TcpStream::connect(addr).await.is_err(), "the listener is closed");
}

#[tokio::test]
async fn a_stream_that_never_ends_is_cut_too() {
    let handler = Arc::new(Echo::default());
    let (reached, left) = (Arc::clone(&handler.0), Arc::downgrade(&handler));
    let edge = start(EdgeConfig { drain: Duration::from_millis(30), ..EdgeConfig::default() }, handler).await;
    let stream = TcpStream::connect(edge.addr).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(connection);
    let mut hanging = JoinSet::new();
    hanging.spawn(async move { sender.send_request(Request::get("http://h/hang").body(Full::new(Bytes::new())).unwrap()).await });
    reached.notified().await;
    let drained = edge.stop().await;
    assert_eq!((drained.clean, drained.cut), (false, 1));
    assert!(hanging.join_next().await.unwrap().unwrap().is_err());
    assert!(left.upgrade().is_none(), "no task holds the handler");
}

#[tokio::test]
async fn a_taken_port_is_named() {
    let edge = Edge::bind(EdgeConfig { listen: "127.0.0.1:0".parse().unwrap(), ..EdgeConfig::default() }).await.unwrap();
    let error = Edge::bind(EdgeConfig { listen: edge.local_addr(), ..EdgeConfig::default() }).await.err().unwrap();
    assert!(error.to_string().contains(&edge.local_addr().to_string()), "{error}");
}

#[tokio::test]
async fn http2_by_prior_knowledge_with_bodies_and_trailers() {
    let edge = start(EdgeConfig { max_body: Some(100), ..EdgeConfig::default() }, Arc::new(Echo::default())).await;
    let stream = TcpStream::connect(edge.addr).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(connection);

    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", "1".parse().unwrap());
    let frames: Vec<Result<_, std::io::Error>> =
        vec![Ok(http_body::Frame::data(Bytes::from("hello"))), Ok(http_body::Frame::trailers(trailers))];
    let body = StreamBody::new(futures_util::stream::iter(frames)).boxed();
    let request = Request::post("http://h/a").body(body).unwrap();
    let answer = sender.send_request(request).await.unwrap();
    assert_eq!(answer.status(), 200);
    let collected = answer.into_body().collect().await.unwrap();
    assert_eq!(collected.trailers().unwrap()["x-sum"], "1");
    assert_eq!(collected.to_bytes(), "hello");

    let full = |text: &'static str| Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed();
    for (request, status) in [
        (Request::get("http://h/a").header("host", "g").body(full("")).unwrap(), 400),
        (Request::get("http://h!x/a").body(full("")).unwrap(), 400),
        (Request::post("http://h/a").header("content-length", "101").body(full(&"x".repeat(101).leak()[..])).unwrap(), 413),
        (Request::get("http://h/a").header("host", "H").body(full("")).unwrap(), 200),
    ] {
        let answer = sender.send_request(request).await.unwrap();
        assert_eq!(answer.status(), StatusCode::from_u16(status).unwrap());
    }
    drop(sender);
    assert!(edge.stop().await.clean);
}

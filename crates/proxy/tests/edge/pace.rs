//! Slow clients and slow handlers, over pipes and on a paused clock: time passes only while everybody waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use farthing_proxy::edge::{Closed, EdgeConfig, EdgeStats, Handler, PeerInfo, Refusal, Server};
use farthing_types::Body;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::support::{read_answers, to_end};

/// Does what the path says.
#[derive(Default)]
struct Scripted {
    dropped: Arc<AtomicBool>,
}

struct OnDrop(Arc<AtomicBool>);
impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

impl Handler for Scripted {
    fn handle(self: Arc<Self>, request: Request<Body>, _peer: PeerInfo) -> BoxFuture<'static, Response<Body>> {
        let dropped = Arc::clone(&self.dropped);
        async move {
            match request.uri().path() {
                "/slow" => sleep(Duration::from_secs(3_600)).await,
                "/never" => {
                    let _guard = OnDrop(dropped);
                    std::future::pending::<()>().await;
                }
                "/late" => {
                    sleep(Duration::from_secs(3_600)).await;
                    let body = request.into_body().collect().await.map(|body| body.to_bytes());
                    return Response::new(Body::full(body.unwrap_or_else(|e| e.0.into())));
                }
                "/large" => return Response::new(Body::full(vec![b'x'; 1 << 20])),
                "/panic" => panic!("made to"),
                _ => drop(request.into_body().collect().await),
            }
            Response::new(Body::full("done"))
        }
        .boxed()
    }
}

struct Pipe {
    client: DuplexStream,
    stats: Arc<EdgeStats>,
    stop: CancellationToken,
    dropped: Arc<AtomicBool>,
    task: JoinSet<()>,
}

impl Pipe {
    fn open() -> Self {
        let config = EdgeConfig {
            header_timeout: Duration::from_secs(5),
            body_idle: Duration::from_secs(10),
            body_grace: Duration::from_secs(20),
            body_min_rate: 100,
            idle_timeout: Duration::from_secs(60),
            max_body: Some(1_000),
            ..EdgeConfig::default()
        };
        let (client, io) = tokio::io::duplex(4_096);
        let (handler, stats, stop) = (Scripted::default(), Arc::<EdgeStats>::default(), CancellationToken::new());
        let dropped = Arc::clone(&handler.dropped);
        let server = Server::new(config, Arc::new(handler), Arc::clone(&stats), stop.clone());
        let addr = "127.0.0.1:1".parse().unwrap();
        let mut task = JoinSet::new();
        task.spawn(async move { server.serve(io, PeerInfo { addr, local: addr, connection: 1 }).await });
        Self { client, stats, stop, dropped, task }
    }
    async fn write(&mut self, bytes: &[u8]) {
        self.client.write_all(bytes).await.unwrap();
    }
    async fn rest(&mut self) -> String {
        String::from_utf8_lossy(&to_end_slowly(&mut self.client).await).into_owned()
    }
    async fn end(mut self) -> Arc<EdgeStats> {
        drop(self.client);
        self.task.join_next().await.unwrap().unwrap();
        self.stats
    }
}

/// As [`to_end`], without its patience: on the paused clock that would pass at once.
async fn to_end_slowly(client: &mut DuplexStream) -> Vec<u8> {
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).await.unwrap();
    answer
}

#[tokio::test(start_paused = true)]
async fn a_head_that_drips_is_cut_off() {
    let mut pipe = Pipe::open();
    let began = Instant::now();
    pipe.write(b"GET / HTTP/1.1\r\n").await;
    for _ in 0..4 {
        sleep(Duration::from_secs(1)).await;
        pipe.write(b"X: y\r\n").await;
    }
    let text = pipe.rest().await;
    assert!(text.starts_with("HTTP/1.1 408 ") && text.contains("head-timeout"), "{text}");
    assert!(began.elapsed() < Duration::from_secs(7));
    let stats = pipe.end().await;
    assert_eq!((stats.refused(Refusal::HeadTimeout), stats.closed(Closed::Refused)), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_silent_client_is_closed_without_a_word() {
    let mut pipe = Pipe::open();
    let began = Instant::now();
    assert_eq!(pipe.rest().await, "");
    assert_eq!(began.elapsed().as_secs(), 5);
    assert_eq!(pipe.end().await.closed(Closed::Idle), 1);
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_closed_after_its_last_request() {
    let mut pipe = Pipe::open();
    for _ in 0..3 {
        pipe.write(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
        assert_eq!(read_answers(&mut pipe.client, 1).await, [200]);
        sleep(Duration::from_secs(50)).await;
    }
    pipe.write(b"\r\n").await; // an old habit after a request; still idle
    let began = Instant::now();
    assert_eq!(pipe.rest().await, "");
    assert!(began.elapsed() <= Duration::from_secs(61));
    let stats = pipe.end().await;
    assert_eq!((stats.requests(), stats.closed(Closed::Idle)), (3, 1));
}

#[tokio::test(start_paused = true)]
async fn a_slow_handler_is_not_the_clients_fault() {
    let mut pipe = Pipe::open();
    pipe.write(b"GET /slow HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").await;
    let text = pipe.rest().await;
    assert!(text.ends_with("done"), "{text}");
    assert_eq!(pipe.end().await.closed(Closed::Done), 1);
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_reads_late_is_not_the_clients_fault() {
    let mut pipe = Pipe::open();
    pipe.write(b"POST /late HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello").await;
    let text = pipe.rest().await;
    assert!(text.ends_with("hello"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_stops_is_cut_off() {
    let mut pipe = Pipe::open();
    let began = Instant::now();
    pipe.write(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nhel").await;
    let text = pipe.rest().await;
    assert!(text.starts_with("HTTP/1.1 408 ") && text.contains("body-idle"), "{text}");
    assert!(began.elapsed() < Duration::from_secs(12));
    assert_eq!(pipe.end().await.refused(Refusal::BodyIdle), 1);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_drips_is_cut_off() {
    let mut pipe = Pipe::open();
    pipe.write(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 900\r\n\r\n").await;
    let began = Instant::now();
    for _ in 0..3 {
        sleep(Duration::from_secs(6)).await;
        pipe.write(b"x").await;
    }
    let text = pipe.rest().await;
    assert!(text.starts_with("HTTP/1.1 408 ") && text.contains("body-slow"), "{text}");
    assert!(began.elapsed() >= Duration::from_secs(20) && began.elapsed() < Duration::from_secs(23));
    assert_eq!(pipe.end().await.refused(Refusal::BodySlow), 1);
}

#[tokio::test(start_paused = true)]
async fn a_body_at_the_least_rate_passes() {
    let mut pipe = Pipe::open();
    pipe.write(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\nConnection: close\r\n\r\n").await;
    for _ in 0..5 {
        sleep(Duration::from_secs(2)).await;
        pipe.write(&[b'x'; 200]).await;
    }
    let text = pipe.rest().await;
    assert!(text.ends_with("done"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_grows_too_large_is_refused() {
    let mut pipe = Pipe::open();
    pipe.write(b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n400\r\n").await;
    pipe.write(&[b'x'; 1_024]).await;
    let text = pipe.rest().await;
    assert!(text.starts_with("HTTP/1.1 413 ") && text.contains("large-body"), "{text}");
    assert_eq!(pipe.end().await.refused(Refusal::LargeBody), 1);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_is_cut_off() {
    let mut pipe = Pipe::open();
    pipe.write(b"GET /large HTTP/1.1\r\nHost: h\r\n\r\n").await;
    pipe.task.join_next().await.unwrap().unwrap();
    assert_eq!(pipe.stats.closed(Closed::WriteStall), 1);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_frees_the_handler() {
    let mut pipe = Pipe::open();
    pipe.write(b"GET /never HTTP/1.1\r\nHost: h\r\n\r\n").await;
    sleep(Duration::from_secs(1)).await;
    let dropped = Arc::clone(&pipe.dropped);
    assert!(!dropped.load(Ordering::Acquire));
    pipe.end().await;
    assert!(dropped.load(Ordering::Acquire));
}

#[tokio::test(start_paused = true)]
async fn a_panic_costs_one_request() {
    let mut pipe = Pipe::open();
    pipe.write(b"GET /panic HTTP/1.1\r\nHost: h\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
    assert_eq!(read_answers(&mut pipe.client, 2).await, [500, 200]);
    assert_eq!(pipe.end().await.refused(Refusal::Defect), 1);
}

#[tokio::test(start_paused = true)]
async fn stopping_waits_for_the_request_under_way() {
    let mut pipe = Pipe::open();
    pipe.write(b"GET /slow HTTP/1.1\r\nHost: h\r\n\r\n").await;
    sleep(Duration::from_secs(1)).await;
    pipe.stop.cancel();
    let text = String::from_utf8_lossy(&to_end_slowly(&mut pipe.client).await).into_owned();
    assert!(text.ends_with("done") && text.to_ascii_lowercase().contains("connection: close"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn stopping_ends_an_idle_connection_at_once() {
    let mut pipe = Pipe::open();
    pipe.write(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
    assert_eq!(read_answers(&mut pipe.client, 1).await, [200]);
    let began = Instant::now();
    pipe.stop.cancel();
    assert_eq!(to_end(&mut pipe.client).await, b"");
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_waits_for_permission_gets_it() {
    let mut pipe = Pipe::open();
    pipe.write(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n").await;
    let mut interim = [0u8; 25];
    pipe.client.read_exact(&mut interim).await.unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    pipe.write(b"hello").await;
    assert!(pipe.rest().await.ends_with("done"));
}

#[tokio::test(start_paused = true)]
async fn an_idle_http2_connection_is_closed_but_not_a_busy_one() {
    let mut pipe = Pipe::open();
    let (server_end, client_end) = tokio::io::duplex(1);
    drop(server_end);
    let io = TokioIo::new(std::mem::replace(&mut pipe.client, client_end));
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(connection);
    let request = Request::get("http://h/slow").body(Full::new(Bytes::new())).unwrap();
    assert_eq!(sender.send_request(request).await.unwrap().status(), 200);
    let began = Instant::now();
    assert!(tasks.join_next().await.unwrap().unwrap().is_ok());
    assert!(began.elapsed() >= Duration::from_secs(60) && began.elapsed() <= Duration::from_secs(121), "{:?}", began.elapsed());
    assert_eq!(pipe.end().await.closed(Closed::Idle), 1);
}

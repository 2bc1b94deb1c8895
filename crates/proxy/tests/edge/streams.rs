//! Streams of one HTTP/2 connection: none keeps another from coming, and none is held by a client that takes nothing. On a paused clock but for the first.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use farthing_proxy::edge::{Closed, EdgeConfig, EdgeStats, Handler, PeerInfo, Refusal, Server};
use farthing_types::{Body, BodyError};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, StreamExt};
use h2::client::SendRequest;
use h2::{Reason, RecvStream};
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::support::{PATIENCE, start};

const LARGE: usize = 100_000;
/// Longer than any time that is kept here, on the paused clock.
const LONG: Duration = Duration::from_secs(600);

/// Does what the path says, and tells what became of bodies.
struct Scripted {
    reached: Arc<Notify>,
    told: UnboundedSender<&'static str>,
    tasks: parking_lot::Mutex<JoinSet<()>>,
}

struct OnDrop(UnboundedSender<&'static str>);
impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.send("dropped").ok();
    }
}

impl Scripted {
    fn new() -> (Arc<Self>, UnboundedReceiver<&'static str>) {
        let (told, telling) = unbounded_channel();
        (Arc::new(Self { reached: Arc::default(), told, tasks: parking_lot::Mutex::default() }), telling)
    }
}

impl Handler for Scripted {
    fn handle(self: Arc<Self>, request: Request<Body>, _peer: PeerInfo) -> BoxFuture<'static, Response<Body>> {
        async move {
            let data = |text: &'static str| Ok::<_, BodyError>(Frame::data(Bytes::from_static(text.as_bytes())));
            match request.uri().path() {
                "/held" => {
                    self.reached.notify_one();
                    std::future::pending::<()>().await;
                }
                "/large" => {
                    let held = OnDrop(self.told.clone());
                    let whole = stream::iter([Ok::<_, BodyError>(Frame::data(vec![b'x'; LARGE].into()))]);
                    return Response::new(Body::stream(StreamBody::new(whole.map(move |frame| {
                        let _held = &held;
                        frame
                    }))));
                }
                "/slow" => {
                    let late = stream::once(async move {
                        sleep(Duration::from_secs(3_600)).await;
                        data("late")
                    });
                    return Response::new(Body::stream(StreamBody::new(stream::iter([data("first")]).chain(late.boxed()))));
                }
                "/short" => return Response::new(Body::full("x".repeat(100))),
                // Answers at once, and reads on.
                "/early" => {
                    let (mut body, told) = (request.into_body(), self.told.clone());
                    self.tasks.lock().spawn(async move {
                        let broken = loop {
                            match body.frame().await {
                                Some(Ok(_)) => {}
                                Some(Err(_)) => break true,
                                None => break false,
                            }
                        };
                        told.send(if broken { "broken" } else { "whole" }).ok();
                    });
                    return Response::new(Body::full("done"));
                }
                _ => {}
            }
            Response::new(request.into_body())
        }
        .boxed()
    }
}

/// A connection over a pipe, whose client has windows of this size.
struct Piped {
    sender: SendRequest<Bytes>,
    told: UnboundedReceiver<&'static str>,
    stats: Arc<EdgeStats>,
    tasks: JoinSet<()>,
}

impl Piped {
    async fn open(window: u32) -> Self {
        let config = EdgeConfig { body_idle: Duration::from_secs(10), ..EdgeConfig::default() };
        let (handler, told) = Scripted::new();
        let (client, io) = tokio::io::duplex(1 << 16);
        let stats = Arc::<EdgeStats>::default();
        let server = Server::new(config, handler, Arc::clone(&stats), CancellationToken::new());
        let addr = "127.0.0.1:1".parse().unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { server.serve(io, PeerInfo { addr, local: addr, connection: 1 }).await });
        let (sender, connection) = h2::client::Builder::new().initial_window_size(window).handshake(client).await.unwrap();
        tasks.spawn(async move { drop(connection.await) });
        Self { sender, told, stats, tasks }
    }

    async fn get(&mut self, path: &str) -> RecvStream {
        let request = Request::get(format!("http://h{path}")).body(()).unwrap();
        let (answer, _) = self.sender.send_request(request, true).unwrap();
        answer.await.unwrap().into_body()
    }
}

#[tokio::test]
async fn an_upload_that_nobody_reads_keeps_no_other_from_its_connection() {
    let (handler, _told) = Scripted::new();
    let reached = Arc::clone(&handler.reached);
    let edge = start(EdgeConfig { drain: Duration::from_millis(30), ..EdgeConfig::default() }, handler).await;
    let stream = TcpStream::connect(edge.addr).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { drop(connection.await) });
    let post = |path: &str, bytes: usize| Request::post(format!("http://h{path}")).body(Full::new(Bytes::from(vec![b'x'; bytes]))).unwrap();
    let held = sender.send_request(post("/held", 8 << 20));
    tasks.spawn(async move { drop(held.await) });
    reached.notified().await;
    for _ in 0..20 {
        let answer = tokio::time::timeout(PATIENCE, sender.send_request(post("/echo", 12))).await.expect("it is answered").unwrap();
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes().len(), 12);
    }
    edge.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_nothing_loses_its_stream() {
    let mut piped = Piped::open(0).await;
    let began = Instant::now();
    let mut body = piped.get("/large").await;
    let error = timeout(LONG, body.data()).await.expect("it ends").unwrap().unwrap_err();
    assert_eq!(error.reason(), Some(Reason::CANCEL), "{error}");
    assert!((10..12).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    assert_eq!(piped.told.recv().await, Some("dropped"));
    assert_eq!((piped.stats.stalled(), piped.stats.active()), (1, 1));
    // The others go on.
    assert!(piped.get("/echo").await.data().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_its_time_and_a_provider_that_does_keep_the_stream() {
    let mut piped = Piped::open(1 << 14).await;
    let (mut body, mut bytes) = (piped.get("/large").await, 0);
    while let Some(data) = body.data().await {
        let length = data.unwrap().len();
        bytes += length;
        sleep(Duration::from_secs(8)).await;
        body.flow_control().release_capacity(length).unwrap();
    }
    assert_eq!(bytes, LARGE);
    let mut body = piped.get("/slow").await;
    assert_eq!(body.data().await.unwrap().unwrap(), "first");
    assert_eq!(body.data().await.unwrap().unwrap(), "late");
    assert_eq!(piped.stats.stalled(), 0);
}

/// Short of a piece, all of it is hyper's: nobody waits for the client any more, and the connection is no longer in use.
#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_take_the_end_of_an_answer_loses_its_connection() {
    let mut piped = Piped::open(10).await;
    let mut body = piped.get("/short").await;
    assert_eq!(body.data().await.unwrap().unwrap().len(), 10);
    let end = timeout(LONG, body.data()).await.expect("it ends");
    assert!(end.is_none_or(|data| data.is_err()));
    piped.tasks.join_next().await.unwrap().unwrap();
    assert_eq!((piped.stats.closed(Closed::Idle), piped.stats.active()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_conversation_may_be_silent_for_as_long_as_its_answer_lasts() {
    let mut piped = Piped::open(1 << 16).await;
    let request = Request::post("http://h/echo").body(()).unwrap();
    let (answer, mut upload) = piped.sender.send_request(request, false).unwrap();
    let mut body = answer.await.unwrap().into_body();
    for word in ["one", "two", "three"] {
        upload.send_data(word.into(), false).unwrap();
        assert_eq!(body.data().await.unwrap().unwrap(), word);
        sleep(Duration::from_secs(300)).await;
    }
    upload.send_data(Bytes::new(), true).unwrap();
    while let Some(end) = body.data().await {
        assert_eq!(end.unwrap(), "");
    }
    assert_eq!(piped.stats.refused(Refusal::BodyIdle), 0);
}

#[tokio::test(start_paused = true)]
async fn an_upload_goes_on_by_its_own_clock_when_its_answer_is_over() {
    let mut piped = Piped::open(1 << 16).await;
    let request = Request::post("http://h/early").body(()).unwrap();
    let (answer, mut upload) = piped.sender.send_request(request, false).unwrap();
    upload.send_data("slow".into(), false).unwrap();
    let mut body = answer.await.unwrap().into_body();
    assert_eq!(body.data().await.unwrap().unwrap(), "done");
    let began = Instant::now();
    assert_eq!(timeout(LONG, piped.told.recv()).await, Ok(Some("broken")));
    assert!(began.elapsed() <= Duration::from_secs(11), "{:?}", began.elapsed());
    assert_eq!(piped.stats.refused(Refusal::BodyIdle), 1);
}

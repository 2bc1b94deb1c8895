//! Interim answers: each before its own answer and after the one before, whole, however slowly the client reads.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use farthing_proxy::edge::{Closed, Early, EdgeConfig, EdgeStats, Handler, PeerInfo, Server};
use farthing_types::Body;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::{HeaderMap, Request, Response, StatusCode};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::support::PATIENCE;

/// `/3/7/200` gets three interim answers, sent from another task, and then one of 200 bytes; 7 in each tells whose they are.
struct Hints {
    /// Handles that are used after their answer.
    late: mpsc::UnboundedSender<Early>,
}

fn hints(id: &str, n: usize) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("x-of", format!("{id}-{n}").parse().unwrap());
    headers
}

impl Handler for Hints {
    fn handle(self: Arc<Self>, request: Request<Body>, _peer: PeerInfo) -> BoxFuture<'static, Response<Body>> {
        async move { answer(&request.uri().path().split('/').map(str::to_owned).collect::<Vec<_>>()) }.boxed()
    }

    fn handle_early(self: Arc<Self>, request: Request<Body>, _peer: PeerInfo, early: Early) -> BoxFuture<'static, Response<Body>> {
        let parts: Vec<String> = request.uri().path().split('/').map(str::to_owned).collect();
        async move {
            let (count, id) = (parts[1].parse::<usize>().unwrap(), parts[2].clone());
            let mut sending = JoinSet::new();
            sending.spawn(async move {
                for n in 0..count {
                    early.send(StatusCode::EARLY_HINTS, &hints(&id, n));
                    if n % 2 == 0 {
                        tokio::task::yield_now().await;
                    }
                }
                early
            });
            drop(self.late.send(sending.join_next().await.unwrap().unwrap()));
            answer(&parts)
        }
        .boxed()
    }
}

fn answer(parts: &[String]) -> Response<Body> {
    let mut response = Response::new(Body::full(Bytes::from(vec![b'b'; parts[3].parse().unwrap()])));
    response.headers_mut().insert("x-of", parts[2].parse().unwrap());
    response
}

struct Pipe {
    client: DuplexStream,
    stats: Arc<EdgeStats>,
    late: mpsc::UnboundedReceiver<Early>,
    task: JoinSet<()>,
}

fn open(capacity: usize) -> Pipe {
    let (client, io) = tokio::io::duplex(capacity);
    let (sender, late) = mpsc::unbounded_channel();
    let stats = Arc::<EdgeStats>::default();
    let server = Server::new(EdgeConfig::default(), Arc::new(Hints { late: sender }), Arc::clone(&stats), CancellationToken::new());
    let addr = "127.0.0.1:1".parse().unwrap();
    let mut task = JoinSet::new();
    task.spawn(async move { server.serve(io, PeerInfo { addr, local: addr, connection: 1 }).await });
    Pipe { client, stats, late, task }
}

/// Reads heads, and the bodies of those that have one: status and `x-of` of each.
async fn read(stream: &mut (impl tokio::io::AsyncRead + Unpin), bytes: &mut Vec<u8>, count: usize) -> Vec<String> {
    let (mut found, mut buf) = (Vec::new(), [0u8; 512]);
    loop {
        while let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n").filter(|_| found.len() < count) {
            let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
            let field = |name: &str| head.lines().find_map(|line| Some(line.strip_prefix(name)?.trim().to_owned()));
            let length: usize = field("content-length:").map_or(0, |text| text.parse().unwrap());
            if bytes.len() < end + 4 + length {
                break;
            }
            let status = head.strip_prefix("http/1.1 ").and_then(|rest| rest.get(..3)).unwrap_or_else(|| panic!("no head: {head}"));
            found.push(format!("{status} {}", field("x-of:").unwrap_or_default()));
            bytes.drain(..end + 4 + length);
        }
        if found.len() == count {
            return found;
        }
        let read = tokio::time::timeout(PATIENCE, stream.read(&mut buf)).await.expect("an answer").unwrap();
        assert!(read > 0, "closed after {found:?}");
        bytes.extend_from_slice(&buf[..read]);
    }
}

/// Pipes of a few bytes make every write partial; requests that come together make hyper hold an answer while the next one is at work.
#[tokio::test]
async fn they_keep_their_place_among_all_answers() {
    let mut sent = 0;
    for seed in 0..120 {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut pipe = open([40, 300, 70_000][seed as usize % 3]);
        let (mut reader, mut writer) = tokio::io::split(pipe.client);
        let (mut bytes, mut id) = (Vec::new(), 0);
        for _ in 0..10 {
            let (mut requests, mut expected) = (String::new(), Vec::new());
            for _ in 0..*[1, 1, 2, 4].choose(&mut rng).unwrap() {
                let (count, size) = (rng.random_range(0..4), *[0, 10, 900, 9_000].choose(&mut rng).unwrap());
                requests.push_str(&format!("GET /{count}/{id}/{size} HTTP/1.1\r\nhost: h\r\n\r\n"));
                expected.extend((0..count).map(|n| format!("103 {id}-{n}")));
                expected.push(format!("200 {id}"));
                (id, sent) = (id + 1, sent + count);
            }
            let write = async { writer.write_all(requests.as_bytes()).await.unwrap() };
            let ((), found) = tokio::join!(write, read(&mut reader, &mut bytes, expected.len()));
            assert_eq!(found, expected, "seed {seed}");
            while let Ok(early) = pipe.late.try_recv() {
                let before = pipe.stats.early();
                early.send(StatusCode::EARLY_HINTS, &hints("late", 0));
                assert_eq!(pipe.stats.early(), [before[0], before[1] + 1], "its answer has begun");
            }
        }
        assert!(bytes.is_empty(), "seed {seed}");
    }
    assert!(sent > 1_000, "{sent}");
}

#[tokio::test]
async fn a_client_of_http_1_0_gets_none() {
    let mut pipe = open(4_096);
    pipe.client.write_all(b"GET /3/7/5 HTTP/1.0\r\nhost: h\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    tokio::time::timeout(PATIENCE, pipe.client.read_to_end(&mut answer)).await.expect("it closes").unwrap();
    assert!(answer.starts_with(b"HTTP/1.0 200") && answer.ends_with(b"bbbbb"), "{}", String::from_utf8_lossy(&answer));
    assert_eq!(pipe.stats.early(), [0, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_none_is_cut_off_like_any_other() {
    let mut pipe = open(50);
    pipe.client.write_all(b"GET /3/7/5 HTTP/1.1\r\nhost: h\r\n\r\n").await.unwrap();
    tokio::time::timeout(Duration::from_secs(60), pipe.task.join_next()).await.expect("the stall ends it").unwrap().unwrap();
    assert_eq!(pipe.stats.closed(Closed::WriteStall), 1);
}

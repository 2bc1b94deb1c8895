//! Answers by the bytes of a head: they keep their place among the others, and whatever is not just such a head takes the usual way.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use farthing_proxy::edge::{Closed, EdgeConfig, EdgeStats, Handler, PeerInfo, RawHead, Recalled, Server, Wire};
use farthing_types::{Body, KeyHash};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::{Request, Response};
use http_body_util::BodyExt;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::support::PATIENCE;

/// Says who answers, the path, and how many bytes the request's body had. Paths with `known` are known by their heads.
#[derive(Default)]
struct Knows {
    recalled: AtomicU64,
    handled: AtomicU64,
    named: AtomicU64,
}

fn text(path: &str, body: usize) -> String {
    format!("{path} {body} {}", "x".repeat(path.len() * 37 % 900))
}

/// The target, where these bytes are one head.
fn target(head: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(head).ok()?.strip_prefix("GET ")?;
    let (target, rest) = text.split_once(' ')?;
    (rest == "HTTP/1.1\r\nhost: h\r\n\r\n").then_some(target)
}

impl Handler for Knows {
    fn handle(self: Arc<Self>, request: Request<Body>, _peer: PeerInfo) -> BoxFuture<'static, Response<Body>> {
        async move {
            self.handled.fetch_add(1, Ordering::Relaxed);
            let (head, body) = request.into_parts();
            if let Some(RawHead(KeyHash(number), _)) = head.extensions.get() {
                assert!(head.uri.path().ends_with(&format!("/{number}")), "{} named {number}", head.uri);
                self.named.fetch_add(1, Ordering::Relaxed);
            }
            let length = body.collect().await.map_or(0, |body| body.to_bytes().len());
            if head.uri.path().starts_with("/slow") {
                tokio::task::yield_now().await;
            }
            Response::new(Body::full(text(head.uri.path(), length)))
        }
        .boxed()
    }

    fn recall(&self, head: &[u8]) -> Recalled {
        let Some(target) = target(head) else { return Recalled::Unknown };
        let body = Bytes::from(text(target, 0));
        if let Some(number) = target.strip_prefix("/wanted/") {
            return Recalled::Wanted(RawHead(KeyHash(number.parse().unwrap()), 0));
        }
        if !target.starts_with("/known/") {
            return Recalled::Unknown;
        }
        self.recalled.fetch_add(1, Ordering::Relaxed);
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len()).into_bytes();
        Recalled::Answer(Wire { head, body })
    }
}

struct Pipe {
    client: DuplexStream,
    handler: Arc<Knows>,
    stats: Arc<EdgeStats>,
    stop: CancellationToken,
    task: JoinSet<()>,
}

impl Pipe {
    fn open(capacity: usize) -> Self {
        let (client, io) = tokio::io::duplex(capacity);
        let (handler, stats, stop) = (Arc::new(Knows::default()), Arc::<EdgeStats>::default(), CancellationToken::new());
        let server = Server::new(EdgeConfig::default(), handler.clone(), Arc::clone(&stats), stop.clone());
        let addr = "127.0.0.1:1".parse().unwrap();
        let mut task = JoinSet::new();
        task.spawn(async move { server.serve(io, PeerInfo { addr, local: addr, connection: 1 }).await });
        Self { client, handler, stats, stop, task }
    }
}

/// Reads answers with a Content-Length each, until there are so many; their bodies.
async fn bodies(stream: &mut (impl tokio::io::AsyncRead + Unpin), bytes: &mut Vec<u8>, count: usize) -> Vec<String> {
    let (mut found, mut buf) = (Vec::new(), [0u8; 512]);
    loop {
        while let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n").filter(|_| found.len() < count) {
            let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
            assert!(head.starts_with("http/1.1 200 ok"), "{head}");
            let length: usize = head.split("content-length:").nth(1).unwrap().lines().next().unwrap().trim().parse().unwrap();
            if bytes.len() < end + 4 + length {
                break;
            }
            found.push(String::from_utf8(bytes[end + 4..end + 4 + length].to_vec()).unwrap());
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

fn request(rng: &mut StdRng) -> (String, String) {
    let kind = ["known", "known", "wanted", "plain", "slow", "post"].choose(rng).unwrap();
    let path = format!("/{kind}/{}", rng.random_range(0..50));
    match *kind {
        "post" => {
            let length = rng.random_range(0..60);
            (format!("POST {path} HTTP/1.1\r\nhost: h\r\ncontent-length: {length}\r\n\r\n{}", "b".repeat(length)), text(&path, length))
        }
        _ => (format!("GET {path} HTTP/1.1\r\nhost: h\r\n\r\n"), text(&path, 0)),
    }
}

/// However requests are cut, run together and mixed, each is answered once and in its place: pipes of a few bytes make every write partial,
/// and whatever is written while an answer is under way comes at the worst time.
#[tokio::test]
async fn answers_keep_their_order_among_all_others() {
    let (mut recalled, mut handled, mut named) = (0, 0, 0);
    for seed in 0..150 {
        let mut rng = StdRng::seed_from_u64(seed);
        let pipe = Pipe::open([48, 300, 70_000][seed as usize % 3]);
        let (mut reader, mut writer) = tokio::io::split(pipe.client);
        let mut bytes = Vec::new();
        for _ in 0..12 {
            let batch: Vec<_> = (0..*[1, 1, 1, 2, 3].choose(&mut rng).unwrap()).map(|_| request(&mut rng)).collect();
            let (sent, wanted): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
            let all = sent.concat().into_bytes();
            let cut = if rng.random_bool(0.3) { rng.random_range(0..all.len()) } else { 0 };
            let write = async {
                for part in [&all[..cut], &all[cut..]] {
                    writer.write_all(part).await.unwrap();
                    tokio::task::yield_now().await;
                }
            };
            let ((), found) = tokio::join!(write, bodies(&mut reader, &mut bytes, wanted.len()));
            assert_eq!(found, wanted, "seed {seed}");
        }
        let knows = &pipe.handler;
        let counts = [&knows.recalled, &knows.handled, &knows.named].map(|count| count.load(Ordering::Relaxed));
        assert_eq!(pipe.stats.requests(), counts[0] + counts[1], "seed {seed}");
        (recalled, handled, named) = (recalled + counts[0], handled + counts[1], named + counts[2]);
    }
    assert!(recalled > 200 && handled > 1_500 && named > 80, "recalled {recalled}, handled {handled}, named {named}");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_no_recalled_answer_is_cut_off_like_any_other() {
    let mut pipe = Pipe::open(200);
    // The first request of a connection is parsed in any case.
    for _ in 0..2 {
        pipe.client.write_all(b"GET /known/123456789012345 HTTP/1.1\r\nhost: h\r\n\r\n").await.unwrap();
        if pipe.handler.handled.load(Ordering::Relaxed) == 0 {
            bodies(&mut pipe.client, &mut Vec::new(), 1).await;
        }
    }
    tokio::time::timeout(Duration::from_secs(60), pipe.task.join_next()).await.expect("the stall ends it").unwrap().unwrap();
    assert_eq!((pipe.handler.recalled.load(Ordering::Relaxed), pipe.stats.closed(Closed::WriteStall)), (1, 1));
}

#[tokio::test]
async fn once_connections_end_nothing_is_recalled() {
    let mut pipe = Pipe::open(4_096);
    pipe.client.write_all(b"GET /slow/1 HTTP/1.1\r\nhost: h\r\n\r\n").await.unwrap();
    bodies(&mut pipe.client, &mut Vec::new(), 1).await;
    pipe.stop.cancel();
    // It may arrive before hyper has closed or after, but nobody answers it and keeps the connection.
    let _ = pipe.client.write_all(b"GET /known/1 HTTP/1.1\r\nhost: h\r\n\r\n").await;
    tokio::time::timeout(PATIENCE, pipe.task.join_next()).await.expect("it ends").unwrap().unwrap();
    assert_eq!(pipe.handler.recalled.load(Ordering::Relaxed), 0);
}

//! A byte-recording origin, a forwarding handler, and a client that speaks raw bytes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use farthing_proxy::edge::{Drained, Edge, EdgeConfig, EdgeStats, Handler, PeerInfo};
use farthing_types::call::NoSink;
use farthing_types::{Body, Call, CallId, Purpose, RealClock};
use farthing_upstream::{Origin as _, Upstream, UpstreamSpec, build};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::{Request, Response, StatusCode};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Longer than anything here takes; only a broken test waits so long.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A raw TCP server that records every byte and answers each complete request with 200 and `ok`.
pub struct Origin {
    pub addr: SocketAddr,
    record: Arc<(Mutex<Vec<u8>>, Notify)>,
    _tasks: JoinSet<()>,
}

impl Origin {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let record = Arc::new((Mutex::new(Vec::new()), Notify::new()));
        let mut tasks = JoinSet::new();
        let recorder = Arc::clone(&record);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(answer(stream, Arc::clone(&recorder)));
            }
        });
        Self { addr, record, _tasks: tasks }
    }
    pub fn recorded(&self) -> Vec<u8> {
        self.record.0.lock().clone()
    }
    pub fn forget(&self) {
        self.record.0.lock().clear();
    }
    pub async fn wait_for(&self, bytes: &[u8]) {
        let seen = async {
            while !self.recorded().windows(bytes.len()).any(|window| window == bytes) {
                self.record.1.notified().await;
            }
        };
        tokio::time::timeout(PATIENCE, seen).await.expect("the origin sees the bytes");
    }
}

async fn answer(mut stream: TcpStream, record: Arc<(Mutex<Vec<u8>>, Notify)>) {
    let (mut buf, mut mine) = ([0u8; 4_096], Vec::new());
    while let Ok(read @ 1..) = stream.read(&mut buf).await {
        record.0.lock().extend_from_slice(&buf[..read]);
        record.1.notify_one();
        mine.extend_from_slice(&buf[..read]);
        while let Some((_, length)) = first_request(&mine).unwrap_or(None) {
            mine.drain(..length);
            if stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.is_err() {
                return;
            }
        }
    }
}

/// The requests in `bytes`, each as request line, space, body; an error when anything is left over or malformed. A second reading of the
/// framing, made for the test and independent of the code under test.
pub fn requests(mut bytes: &[u8]) -> Result<Vec<String>, String> {
    let mut seen = Vec::new();
    while !bytes.is_empty() {
        let (request, length) = first_request(bytes)?.ok_or("an incomplete request")?;
        seen.push(request);
        bytes = &bytes[length..];
    }
    Ok(seen)
}

fn first_request(bytes: &[u8]) -> Result<Option<(String, usize)>, String> {
    let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") else { return Ok(None) };
    let head: Vec<String> = bytes[..end].split(|b| *b == b'\n').map(|line| String::from_utf8_lossy(line).trim_end().to_owned()).collect();
    let all = |name: &str| {
        let fields = head[1..].iter().filter_map(|line| line.split_once(':')).filter(|(n, _)| n.eq_ignore_ascii_case(name));
        fields.map(|(_, value)| value.trim().to_owned()).collect::<Vec<_>>()
    };
    if all("host").len() != 1 {
        return Err(format!("{:?} hosts", all("host")));
    }
    let (body, length) = match (all("content-length").as_slice(), all("transfer-encoding").as_slice()) {
        ([], []) => (Vec::new(), end + 4),
        ([length], []) => {
            let total = end + 4 + length.parse::<usize>().map_err(|e| e.to_string())?;
            if bytes.len() < total {
                return Ok(None);
            }
            (bytes[end + 4..total].to_vec(), total)
        }
        ([], [coding]) if coding == "chunked" => match dechunk(&bytes[end + 4..])? {
            Some((body, length)) => (body, end + 4 + length),
            None => return Ok(None),
        },
        other => return Err(format!("ambiguous framing {other:?}")),
    };
    Ok(Some((format!("{} {}", head[0], String::from_utf8_lossy(&body)), length)))
}

fn dechunk(bytes: &[u8]) -> Result<Option<(Vec<u8>, usize)>, String> {
    let (mut body, mut at) = (Vec::new(), 0);
    loop {
        let Some(line) = bytes[at..].windows(2).position(|w| w == b"\r\n") else { return Ok(None) };
        let text = std::str::from_utf8(&bytes[at..at + line]).map_err(|e| e.to_string())?;
        let size = usize::from_str_radix(text, 16).map_err(|e| format!("{text}: {e}"))?;
        at += line + 2;
        if size == 0 {
            let Some(end) = bytes[at..].windows(2).position(|w| w == b"\r\n") else { return Ok(None) };
            return if end == 0 { Ok(Some((body, at + 2))) } else { Err("trailers were not announced".to_owned()) };
        }
        if bytes.len() < at + size + 2 {
            return Ok(None);
        }
        body.extend_from_slice(&bytes[at..at + size]);
        at += size + 2;
    }
}

/// Hands every request to an upstream.
pub struct Forward(Arc<Upstream>);

impl Forward {
    pub fn to(addr: SocketAddr) -> Self {
        let spec = UpstreamSpec::new("origin", format!("http://{addr}").parse().unwrap());
        Self(build(spec, Arc::new(RealClock::default())).unwrap())
    }
}

impl Handler for Forward {
    fn handle(self: Arc<Self>, request: Request<Body>, _peer: PeerInfo) -> BoxFuture<'static, Response<Body>> {
        let (parts, body) = request.into_parts();
        let call = Call {
            id: CallId(1),
            route: "r".into(),
            payer: "t".into(),
            purpose: Purpose::User,
            key: None,
            method: parts.method,
            target: parts.uri,
            headers: parts.headers,
            body,
            repeatable: false,
            deadline: PATIENCE,
            claim: farthing_types::Claim::default(),
            batch: None,
            routing: None,
            sink: Arc::new(NoSink),
        };
        async move {
            let (status, body) = match self.0.fetch(call).await {
                Ok(reply) => (reply.status, reply.body),
                Err(failure) => (StatusCode::BAD_GATEWAY, Body::full(failure.to_string())),
            };
            let mut response = Response::new(body);
            *response.status_mut() = status;
            response
        }
        .boxed()
    }
}

/// An edge that runs.
pub struct Running {
    pub addr: SocketAddr,
    pub stats: Arc<EdgeStats>,
    pub stop: CancellationToken,
    pub task: JoinSet<Drained>,
}

impl Running {
    pub async fn stop(mut self) -> Drained {
        self.stop.cancel();
        tokio::time::timeout(PATIENCE, self.task.join_next()).await.expect("the edge ends").unwrap().unwrap()
    }
}

pub async fn start(config: EdgeConfig, handler: Arc<dyn Handler>) -> Running {
    let edge = Edge::bind(EdgeConfig { listen: "127.0.0.1:0".parse().unwrap(), ..config }).await.unwrap();
    let (addr, stats, stop) = (edge.local_addr(), edge.stats(), CancellationToken::new());
    let mut task = JoinSet::new();
    task.spawn(edge.serve(handler, stop.clone()));
    Running { addr, stats, stop, task }
}

/// Sends `bytes` and reads until the edge closes.
pub async fn exchange(addr: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut client = TcpStream::connect(addr).await.unwrap();
    client.write_all(bytes).await.unwrap();
    to_end(&mut client).await
}

pub async fn to_end(stream: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let mut answer = Vec::new();
    tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("the edge closes").unwrap();
    answer
}

/// Reads `count` answers with a Content-Length each; their statuses.
pub async fn read_answers(stream: &mut (impl AsyncRead + Unpin), count: usize) -> Vec<u16> {
    let (mut bytes, mut statuses, mut buf) = (Vec::new(), Vec::new(), [0u8; 4_096]);
    while statuses.len() < count {
        let read = tokio::time::timeout(PATIENCE, stream.read(&mut buf)).await.expect("an answer").unwrap();
        assert!(read > 0, "closed after {statuses:?}: {}", String::from_utf8_lossy(&bytes));
        bytes.extend_from_slice(&buf[..read]);
        while let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
            let length: usize = head.split("content-length:").nth(1).unwrap_or("0").lines().next().unwrap().trim().parse().unwrap();
            if bytes.len() < end + 4 + length {
                break;
            }
            statuses.push(head.split(' ').nth(1).unwrap().parse().unwrap());
            bytes.drain(..end + 4 + length);
        }
    }
    statuses
}

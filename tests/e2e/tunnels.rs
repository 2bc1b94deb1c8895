//! A4: WebSockets are tunnelled byte by byte, with the credential of the provider, as one call; and nothing that is none gets through one.

use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use farthing_config::{CredentialPlace, Secret, UpgradeConfig};
use farthing_contract::log::{CallRow, Request as RequestRow, Row, Value};
use farthing_ledger::read::rows;
use farthing_proxy::edge::{Closed, TunnelEnd};
use farthing_tests::skip::skip;
use farthing_tests::{Setup, Started};
use farthing_types::{LimitScope, LimitSpec, OnLimit};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio::task::JoinSet;

use crate::clients::{python, script, text};

const SOCKET: &str =
    "connection: keep-alive, Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
const PATIENCE: Duration = Duration::from_secs(30);

/// Echoes what comes through a WebSocket, and refuses those to `/refused`; keeps the heads that came.
struct Echo {
    addr: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
    _tasks: JoinSet<()>,
}

impl Echo {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (addr, heads) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(Vec::new())));
        let (mut tasks, seen) = (JoinSet::new(), heads.clone());
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(echo(stream, seen.clone()));
            }
        });
        Self { addr, heads, _tasks: tasks }
    }
}

async fn echo(mut stream: TcpStream, heads: Arc<Mutex<Vec<String>>>) {
    loop {
        let head = read_head(&mut stream).await;
        heads.lock().push(head.clone());
        if head.is_empty() {
            return;
        }
        if !head.to_lowercase().contains("upgrade: websocket") || head.starts_with("GET /refused") {
            let refused = "HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno";
            let plain = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nplain";
            stream.write_all(if head.starts_with("GET /refused") { refused } else { plain }.as_bytes()).await.unwrap();
            continue;
        }
        let accepted = "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
        stream.write_all(accepted.as_bytes()).await.unwrap();
        let (mut read, mut write) = stream.split();
        let _either_may_be_cut = tokio::io::copy(&mut read, &mut write).await;
        return;
    }
}

async fn read_head(stream: &mut TcpStream) -> String {
    let (mut head, mut byte) = (Vec::new(), [0u8]);
    while !head.ends_with(b"\r\n\r\n") && stream.read_exact(&mut byte).await.is_ok() {
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

fn setup(echo: &Echo, change: impl FnOnce(&mut UpgradeConfig)) -> Setup {
    let mut upgrade = UpgradeConfig::default();
    change(&mut upgrade);
    Setup::new(echo.addr).route(|route| route.upgrade = Some(upgrade))
}

/// Sends a head, and what comes right after it.
async fn ask(started: &Started, path: &str, fields: &str, more: &[u8]) -> (TcpStream, String) {
    let mut stream = TcpStream::connect(started.client.addr).await.unwrap();
    let head = format!("GET /api{path} HTTP/1.1\r\nhost: farthing.test\r\n{fields}\r\n");
    stream.write_all(&[head.as_bytes(), more].concat()).await.unwrap();
    let head = tokio::time::timeout(PATIENCE, read_head(&mut stream)).await.unwrap();
    (stream, head)
}

async fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    let read = stream.read_to_end(&mut rest);
    let _a_cut_connection_may_be_reset = tokio::time::timeout(PATIENCE, read).await.expect("it ends");
    rest
}

/// Rows of a table, as text.
fn logged(started: &Started, table: &'static farthing_contract::log::Table, columns: &[&str]) -> Vec<Vec<String>> {
    let mut all = Vec::new();
    let mut visit = |cells: &[Value<'_>]| {
        all.push(cells.iter().map(farthing_ledger::read::text).collect());
        ControlFlow::Continue(())
    };
    rows(&started.dir.path().join("logs"), table, columns, &mut visit).unwrap();
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_websocket_is_tunnelled_both_ways_and_is_one_call() {
    let echo = Echo::start().await;
    let mut setup = setup(&echo, |_| ()).provider(|provider| {
        (provider.credential_place, provider.credential) = (CredentialPlace::Bearer, Some(Secret::new("sk-real")));
    });
    let key = setup.key("acme");
    let started = setup.start().await;
    // A head may follow at once: after the answer it is no request any more.
    let early = b"GET /api/smuggled HTTP/1.1\r\nhost: farthing.test\r\n\r\n";
    let (mut stream, head) = ask(&started, "/socket?a=1", &format!("{SOCKET}authorization: Bearer {key}\r\n"), early).await;
    assert!(head.starts_with("HTTP/1.1 101 ") && head.contains("sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
    assert!(head.contains("upgrade: websocket") && head.contains("connection: upgrade") && !head.contains("content-length"), "{head}");
    let mut sent: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
    sent.extend_from_slice(b"\r\n\r\nGET /api/other HTTP/1.1\r\n\r\n");
    let (mut read, mut write) = stream.split();
    let mut came = Vec::new();
    let all = early.len() + sent.len();
    // Nothing is read before all is sent: what goes up does not wait for what comes down.
    let upward = async {
        write.write_all(&sent).await.unwrap();
        write.shutdown().await.unwrap();
    };
    let (_, read) = tokio::time::timeout(PATIENCE, async { tokio::join!(upward, read.read_to_end(&mut came)) }).await.unwrap();
    assert_eq!(read.unwrap(), all);
    assert!(came.starts_with(early) && came[early.len()..] == sent[..]);
    let heads = echo.heads.lock().clone();
    assert!(heads.len() == 1 && heads[0].starts_with("GET /socket?a=1 HTTP/1.1\r\n"), "{heads:?}");
    assert!(heads[0].contains("authorization: Bearer sk-real\r\n") && !heads[0].contains(&key), "{heads:?}");
    assert!(
        heads[0].contains("sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n") && heads[0].contains("connection: upgrade\r\n"),
        "{heads:?}"
    );
    started.proxy.shutdown().await.unwrap();
    let stats = started.proxy.edge_stats();
    assert_eq!((stats.tunnels(), stats.tunnels_closed(TunnelEnd::Done), stats.active()), (1, 1, 0));
    assert_eq!(stats.tunnel_bytes(), [all as u64; 2]);
    let requests = logged(&started, RequestRow::TABLE, &["status", "outcome", "uncached_reason", "cost_nanousd", "bytes_out", "tenant"]);
    assert_eq!(requests, [["101", "bypass", "pass-through", "2000000", &all.to_string(), "acme"]]);
    assert_eq!(logged(&started, CallRow::TABLE, &["status", "cost_nanousd"]), [["101", "2000000"]]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_websocket_gets_no_tunnel() {
    let echo = Echo::start().await;
    let started = setup(&echo, |upgrade| upgrade.origins = vec!["https://app.example".into()]).start().await;
    for fields in [
        SOCKET.replace("websocket\r\n", "h3c\r\n"),
        SOCKET.replace("keep-alive, Upgrade", "keep-alive"),
        SOCKET.replace("upgrade: websocket\r\n", "upgrade: websocket\r\nupgrade: h2c\r\n"),
        format!("{SOCKET}content-length: 5\r\n"),
        format!("{SOCKET}transfer-encoding: chunked\r\n"),
    ] {
        let (_, head) = ask(&started, "/socket", &fields, b"").await;
        assert!(head.starts_with("HTTP/1.1 501 "), "{fields}: {head}");
    }
    assert_eq!(echo.heads.lock().len(), 0, "none of it went out");
    // A page of another site has no business here; that of the same host, and those that are named, have.
    for (origin, status) in [("https://evil.example", 403), ("null", 403), ("http://farthing.test", 101), ("https://app.example", 101)] {
        let (_, head) = ask(&started, "/socket", &format!("{SOCKET}origin: {origin}\r\n"), b"").await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{origin}: {head}");
    }
    // Where the provider refuses, its answer comes, and the connection speaks HTTP as before: what follows is a request of its own.
    let next = b"GET /api/next HTTP/1.1\r\nhost: farthing.test\r\nconnection: close\r\n\r\n";
    let (mut stream, head) = ask(&started, "/refused", SOCKET, next).await;
    assert!(head.starts_with("HTTP/1.1 403 "), "{head}");
    let rest = String::from_utf8(rest(&mut stream).await).unwrap();
    assert!(rest.starts_with("noHTTP/1.1 200 OK\r\n") && rest.ends_with("plain"), "{rest}");
    // Without the table none is tunnelled.
    let plain = Setup::new(echo.addr).start().await;
    assert!(ask(&plain, "/socket", SOCKET, b"").await.1.starts_with("HTTP/1.1 501 "));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tunnel_is_bounded_by_limits_silence_and_the_end_of_the_process() {
    let echo = Echo::start().await;
    let mut setup = setup(&echo, |_| ()).route(|route| route.deadline = Duration::from_millis(200));
    setup.config.data.drain = Duration::from_millis(50);
    setup.config.limits.push(LimitSpec {
        name: "one".into(),
        scope: LimitScope::Route,
        concurrency: Some(1),
        on_limit: [OnLimit::Refuse; 3],
        ..LimitSpec::default()
    });
    let started = setup.start().await;
    let (mut stream, head) = ask(&started, "/socket", SOCKET, b"").await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    let (_, second) = ask(&started, "/socket", SOCKET, b"").await;
    assert!(second.starts_with("HTTP/1.1 429 "), "it takes the place as long as it is open: {second}");
    // The route's deadline is that of the handshake: the tunnel still works after it.
    let since = tokio::time::Instant::now();
    while since.elapsed() < Duration::from_millis(300) {
        stream.write_all(b"ping").await.unwrap();
        let mut echoed = [0; 4];
        tokio::time::timeout(PATIENCE, stream.read_exact(&mut echoed)).await.unwrap().unwrap();
        assert_eq!(&echoed, b"ping");
    }
    started.proxy.shutdown().await.unwrap();
    assert!(rest(&mut stream).await.is_empty());
    let stats = started.proxy.edge_stats();
    assert_eq!((stats.tunnels_closed(TunnelEnd::Cut), stats.closed(Closed::Cut), stats.active()), (1, 1, 0));
    assert_eq!(logged(&started, CallRow::TABLE, &["status", "cost_nanousd"]), [["101", "2000000"]]);

    let mut quiet = self::setup(&echo, |upgrade| upgrade.idle = Duration::from_millis(50)).start().await;
    let (mut stream, _) = ask(&quiet, "/socket", SOCKET, b"").await;
    assert!(rest(&mut stream).await.is_empty());
    quiet.proxy.shutdown().await.unwrap();
    assert_eq!(quiet.proxy.edge_stats().tunnels_closed(TunnelEnd::Idle), 1);
    quiet = self::setup(&echo, |upgrade| upgrade.longest = Duration::from_millis(50)).start().await;
    let (mut stream, _) = ask(&quiet, "/socket", SOCKET, b"").await;
    assert!(rest(&mut stream).await.is_empty());
    quiet.proxy.shutdown().await.unwrap();
    assert_eq!(quiet.proxy.edge_stats().tunnels_closed(TunnelEnd::Longest), 1);
}

/// A client that people use, with only the base URL changed, against a server that they use.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_for_websockets_works_through_a_tunnel() {
    let Some(python) = python() else { return skip("a WebSocket client: no target/venv (make deps)") };
    let known = Command::new(&python).args(["-c", "import websockets"]).output().await.unwrap();
    if !known.status.success() {
        return skip("a WebSocket client: target/venv is older than scripts/requirements-test.txt (make deps)");
    }
    let mut server =
        Command::new(&python).arg(script("websocket_server.py")).stdout(std::process::Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let mut port = String::new();
    let mut lines = tokio::io::BufReader::new(server.stdout.take().unwrap());
    tokio::io::AsyncBufReadExt::read_line(&mut lines, &mut port).await.unwrap();
    let addr: SocketAddr = format!("127.0.0.1:{}", port.trim()).parse().unwrap();
    let started = Setup::new(addr).route(|route| route.upgrade = Some(UpgradeConfig::default())).start().await;
    let url = format!("ws://{}/api/echo", started.client.addr);
    let output = Command::new(&python).arg(script("websocket_client.py")).arg(&url).output().await.unwrap();
    assert!(output.status.success(), "{}", text(&output));
    started.proxy.shutdown().await.unwrap();
    assert_eq!(started.proxy.edge_stats().tunnels_closed(TunnelEnd::Done), 1);
}

//! A2, S6: clients that take Farthing for their proxy, and those who would misuse it: curl and Python's clients, raw bytes, and hosts that must not be
//! reached.

use std::net::SocketAddr;
use std::process::Output;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use farthing_config::ForwardConfig;
use farthing_proxy::edge::TunnelEnd;
use farthing_tests::skip::skip;
use farthing_tests::{Origin, Setup};
use farthing_types::{Body, Span};
use http::Response;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio::task::JoinSet;

use crate::clients::{python, script, text};
use crate::secured::{Authority, Secured};

const PATIENCE: Duration = Duration::from_secs(30);

async fn origin() -> Origin {
    Origin::simple(|seen, _| {
        let answer =
            Response::builder().header("cache-control", "max-age=60").header("proxy-authenticate", "Basic").header("keep-alive", "x");
        answer.body(Body::full(Bytes::from(format!("origin {}", seen.target)))).unwrap()
    })
    .await
}

/// A proxy whose route `/api` leads to the origin, which a route takes by the host `api.test`, too.
fn setup(origin: &Origin, change: impl FnOnce(&mut ForwardConfig)) -> Setup {
    let mut setup = Setup::new(origin.addr);
    let mut hosted = setup.config.routes[0].as_ref().clone();
    (hosted.name, hosted.strip_prefix) = ("hosted".into(), "".into());
    (hosted.matcher.path_prefix, hosted.matcher.hosts) = ("/".into(), vec!["api.test".into()]);
    setup.config.routes.insert(0, Arc::new(hosted));
    let mut forward = ForwardConfig::default();
    change(&mut forward);
    setup.config.forward = Some(forward);
    setup
}

/// Hosts of this machine may be reached, by any port.
fn open(forward: &mut ForwardConfig) {
    forward.networks = vec!["127.0.0.0/8".parse().unwrap(), "::1".parse().unwrap()];
}

fn any_port(port: u16, hosts: &[&str]) -> Vec<farthing_config::HostRule> {
    hosts.iter().map(|host| format!("{host}:{port}").parse().unwrap()).collect()
}

/// Sends bytes, and reads the head of the answer.
async fn ask(addr: SocketAddr, bytes: &[u8]) -> (TcpStream, String) {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let (mut head, mut byte) = (Vec::new(), [0]);
    let reading = async {
        while !head.ends_with(b"\r\n\r\n") && stream.read_exact(&mut byte).await.is_ok() {
            head.push(byte[0]);
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.expect("an answer");
    (stream, String::from_utf8(head).unwrap())
}

/// Sends bytes, and reads the whole answer of a connection that ends.
async fn told(addr: SocketAddr, bytes: &[u8]) -> String {
    let (mut stream, head) = ask(addr, bytes).await;
    let mut rest = Vec::new();
    let length: usize =
        head.to_lowercase().split("content-length: ").nth(1).map_or(0, |rest| rest.lines().next().unwrap().parse().unwrap());
    rest.resize(length, 0);
    tokio::time::timeout(PATIENCE, stream.read_exact(&mut rest)).await.expect("a body").unwrap();
    head + &String::from_utf8(rest).unwrap()
}

async fn curl(args: &[&str], url: &str) -> Option<Output> {
    let mut curl = Command::new("curl");
    for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "NO_PROXY", "no_proxy"] {
        curl.env_remove(name);
    }
    curl.args(["-sS", "-w", " %{http_code} %{http_connect}"]).args(args).arg(url).output().await.ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_takes_it_for_its_proxy() {
    let (origin, authority) = (origin().await, Authority::new());
    let secured = Secured::start(&authority).await;
    let port = secured.addr.port();
    let mut setup = setup(&origin, |forward| {
        open(forward);
        (forward.auth, forward.tunnel) = (true, any_port(port, &["localhost"]));
    });
    let key = setup.key("acme");
    let started = setup.start().await;
    let proxy = format!("http://any:{key}@{}", started.client.addr);
    let Some(first) = curl(&["-x", &proxy], "http://api.test/x?y=1").await else { return skip("the forward proxy: curl is not on PATH") };
    assert_eq!(text(&first), "origin /x?y=1 200 000");
    // By the provider's own URL, and once more by the host: hits of a route each.
    let by_url = format!("http://{}/x?y=1", origin.addr);
    for (url, calls) in [("http://api.test/x?y=1", 1), (&by_url, 2), (&by_url, 2)] {
        assert_eq!(text(&curl(&["-x", &proxy], url).await.unwrap()), "origin /x?y=1 200 000", "{url}");
        assert_eq!(origin.calls(), calls, "{url}");
    }
    let seen = origin.seen();
    assert!(
        seen.iter()
            .all(|seen| !seen.headers.keys().any(|name| name.as_str().starts_with("proxy-") || name.as_str().starts_with("x-farthing")))
    );
    // Past all routes: what is encrypted stays so, to the end.
    let url = format!("https://localhost:{port}/");
    let ca = authority.file();
    let through = curl(&["-x", &proxy, "--cacert", ca.to_str().unwrap()], &url).await.unwrap();
    assert_eq!(text(&through), "secret 200 200");
    let refused = curl(&["-x", &format!("http://{}", started.client.addr), "--cacert", ca.to_str().unwrap()], &url).await.unwrap();
    assert!(text(&refused).contains(" 407"), "{}", text(&refused));
    let elsewhere = curl(&["-x", &proxy], "https://other.test/").await.unwrap();
    assert!(text(&elsewhere).contains(" 403"), "{}", text(&elsewhere));
    let unobserved = started.proxy.unobserved();
    assert_eq!((unobserved.len(), &*unobserved[0].host, unobserved[0].tunnels, unobserved[0].passed), (1, "localhost", 1, 0));
    assert!(unobserved[0].up > 100 && unobserved[0].down > 100, "{unobserved:?}");
    // It is nobody's request, and has no money.
    assert_eq!(started.proxy.totals().total.requests, 4);
    let metrics = farthing_proxy::telemetry::render(&started.proxy).unwrap();
    for line in [
        "farthing_forward_unobserved_total{host=\"localhost\",kind=\"tunnel\"} 1",
        "farthing_forward_refused_total{reason=\"forward-key\"} 1",
        "farthing_forward_refused_total{reason=\"forward-host\"} 1",
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pythons_clients_find_it_in_their_environment() {
    let Some(python) = python() else { return skip("Python's clients of the forward proxy: no target/venv (make deps)") };
    let (origin, other, authority) = (origin().await, origin().await, Authority::new());
    let secured = Secured::start(&authority).await;
    let started = setup(&origin, |forward| {
        open(forward);
        (forward.tunnel, forward.pass) = (any_port(secured.addr.port(), &["localhost"]), any_port(other.addr.port(), &["127.0.0.1"]));
    });
    let started = started.start().await;
    let proxy = format!("http://{}", started.client.addr);
    let mut client = Command::new(&python);
    client.arg(script("forward_client.py"));
    client.args([
        "http://api.test/a",
        &format!("https://localhost:{}/", secured.addr.port()),
        &format!("http://{}/b", other.addr),
        "http://new.test/",
    ]);
    for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"] {
        client.env(name, &proxy);
    }
    client.env("SSL_CERT_FILE", authority.file()).env("REQUESTS_CA_BUNDLE", authority.file()).env_remove("NO_PROXY").env_remove("no_proxy");
    let output = client.output().await.unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    for name in ["requests", "httpx", "urllib"] {
        let of = &told[name];
        if name == "requests" && of[0][1].as_str().is_some_and(|text| text.starts_with("ModuleNotFoundError")) {
            skip("Python's requests through the forward proxy: not in target/venv (make deps)");
            continue;
        }
        assert_eq!((&of[0][0], &of[0][1]), (&200.into(), &"origin /a".into()), "{name} {told}");
        assert!(of[0][2].as_str().unwrap().starts_with("farthing"), "{name} {told}");
        assert_eq!((&of[1][0], &of[1][1]), (&200.into(), &"secret".into()), "{name} {told}");
        assert_eq!((&of[2][0], &of[2][1]), (&200.into(), &"origin /b".into()), "{name} {told}");
        assert!(of[2][3].as_str().unwrap().contains("farthing-"), "{name} {told}");
        assert!(of[3][0] == 403 && of[3][1].as_str().unwrap().contains("forward.pass"), "{name} {told}");
    }
    assert!(other.seen().iter().all(|seen| seen.target == "/b" && seen.headers["via"].to_str().unwrap().starts_with("1.1 farthing-")));
}

/// What is passed on is without the fields that are between client and proxy, in both directions, and with the host of the URL.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_passes_is_stripped_of_what_is_between_two() {
    let (origin, other) = (origin().await, origin().await);
    let started = setup(&origin, |forward| {
        open(forward);
        forward.pass = any_port(other.addr.port(), &["127.0.0.1", "localhost"]);
    });
    let started = started.start().await;
    let to = other.addr;
    let head = format!(
        "POST http://{to}/p?q=1 HTTP/1.1\r\nhost: {to}\r\nproxy-authorization: Basic eDp5\r\nproxy-connection: keep-alive\r\nconnection: keep-alive, x-mine\r\n\
         x-mine: 1\r\nx-farthing-tenant: t\r\nte: gzip\r\nx-other: 2\r\ncontent-length: 5\r\n\r\nhello"
    );
    let answer = told(started.client.addr, head.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("origin /p?q=1"), "{answer}");
    assert!(!answer.contains("proxy-authenticate") && !answer.contains("keep-alive") && answer.contains("via: 1.1 farthing-"), "{answer}");
    let seen = other.seen();
    let mut names: Vec<&str> = seen[0].headers.keys().map(http::HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!((&*seen[0].body, names), (&b"hello"[..], vec!["content-length", "host", "via", "x-other"]));
    assert_eq!(seen[0].headers["host"], to.to_string());
    let report = &started.proxy.unobserved()[0];
    assert_eq!((report.passed, report.tunnels, report.up, report.down), (1, 0, 5, 13));
    // A body of unknown length is one also where hyper expects none.
    let search = format!(
        "GET http://{to}/s HTTP/1.1\r\nhost: {to}\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
    );
    assert!(told(started.client.addr, search.as_bytes()).await.starts_with("HTTP/1.1 200 OK"));
    assert_eq!(&*other.seen()[1].body, b"hello");
    // What came back from it once is not let in again.
    let via = seen[0].headers["via"].to_str().unwrap();
    let looped = told(
        started.client.addr,
        format!("GET http://{to}/ HTTP/1.1\r\nhost: {to}\r\nvia: 1.0 x, {via}\r\nconnection: close\r\n\r\n").as_bytes(),
    )
    .await;
    assert!(looped.starts_with("HTTP/1.1 508"), "{looped}");
    assert_eq!(other.calls(), 2);
}

/// A listener that nobody may reach: it counts who does.
struct Victim {
    addr: SocketAddr,
    reached: Arc<std::sync::atomic::AtomicUsize>,
    _tasks: JoinSet<()>,
}

impl Victim {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (addr, reached) = (listener.local_addr().unwrap(), Arc::<std::sync::atomic::AtomicUsize>::default());
        let (mut tasks, count) = (JoinSet::new(), reached.clone());
        tasks.spawn(async move {
            while listener.accept().await.is_ok() {
                count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            }
        });
        Self { addr, reached, _tasks: tasks }
    }
}

/// Requests that would lead a proxy where it must not go, each refused with its status and reason, and none reaches the machine that it names.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_requests_lead_nowhere() {
    let (origin, victim) = (origin().await, Victim::start().await);
    let port = victim.addr.port();
    // Everything is allowed by name: what is left is what the addresses say.
    let any = |rule: String| vec![rule.parse().unwrap(), "*".parse().unwrap()];
    let started =
        setup(&origin, |forward| (forward.pass, forward.tunnel) = (any(format!("*:{port}")), any(format!("*:{port}")))).start().await;
    let connect = |to: &str| format!("CONNECT {to} HTTP/1.1\r\nhost: {to}\r\n\r\n");
    let get = |to: &str| format!("GET http://{to}/ HTTP/1.1\r\nhost: {to}\r\nconnection: close\r\n\r\n");
    let local = [
        format!("127.0.0.1:{port}"),
        format!("localhost:{port}"),
        format!("LOCALHOST.:{port}"),
        format!("127.1:{port}"),
        format!("2130706433:{port}"),
        format!("0x7f.0.0.1:{port}"),
        format!("0177.0.0.1:{port}"),
        format!("0.0.0.0:{port}"),
        format!("0:{port}"),
        format!("[::1]:{port}"),
        format!("[::]:{port}"),
        format!("[::ffff:127.0.0.1]:{port}"),
        format!("[::ffff:7f00:1]:{port}"),
        format!("[::127.0.0.1]:{port}"),
        format!("[64:ff9b::7f00:1]:{port}"),
        format!("[2002:7f00:1::]:{port}"),
        "169.254.169.254:80".to_owned(),
        "169.254.169.254:443".to_owned(),
        "[fd00:ec2::254]:80".to_owned(),
        "10.0.0.1:80".to_owned(),
        "192.168.0.1:443".to_owned(),
        "172.16.0.1:80".to_owned(),
        "100.64.0.1:80".to_owned(),
        "224.0.0.1:80".to_owned(),
        "255.255.255.255:80".to_owned(),
        "[fe80::1]:80".to_owned(),
        "[ff02::1]:80".to_owned(),
    ];
    for to in &local {
        for bytes in [connect(to), get(to)] {
            let answer = told(started.client.addr, bytes.as_bytes()).await;
            // Some texts are no names for every resolver: then nothing is reached either.
            let resolved = answer.starts_with("HTTP/1.1 403") && answer.contains("forward-address");
            let unknown = answer.starts_with("HTTP/1.1 502") && !to.starts_with("127.0.0.1") && !to.starts_with('[');
            assert!(resolved || unknown, "{to}: {answer}");
        }
    }
    // The proxy's own port, and ports that no rule names.
    let own = started.client.addr;
    for to in [format!("127.0.0.1:{}", own.port()), "example.test:22".to_owned(), "example.test:25".to_owned(), "127.0.0.1:6379".to_owned()]
    {
        let answer = told(own, connect(&to).as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 403"), "{to}: {answer}");
    }
    for (name, bytes, status) in [
        ("user in the URL", format!("GET http://me@127.0.0.1:{port}/ HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\n\r\n"), 400),
        ("host of another", format!("GET http://api.test/ HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\n\r\n"), 400),
        ("host of another behind CONNECT", format!("CONNECT api.test:443 HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\n\r\n"), 400),
        ("two hosts", "GET http://api.test/ HTTP/1.1\r\nhost: api.test\r\nhost: x\r\n\r\n".to_owned(), 400),
        ("no host", "GET http://api.test/ HTTP/1.1\r\n\r\n".to_owned(), 400),
        ("another scheme", "GET ftp://api.test/ HTTP/1.1\r\nhost: api.test\r\n\r\n".to_owned(), 400),
        ("a file", "GET file:///etc/passwd HTTP/1.1\r\nhost: api.test\r\n\r\n".to_owned(), 400),
        ("a URL behind CONNECT", "CONNECT http://api.test:443 HTTP/1.1\r\nhost: api.test:443\r\n\r\n".to_owned(), 400),
        ("no port behind CONNECT", "CONNECT api.test HTTP/1.1\r\nhost: api.test\r\n\r\n".to_owned(), 400),
        ("a body behind CONNECT", "CONNECT api.test:443 HTTP/1.1\r\nhost: api.test:443\r\ncontent-length: 5\r\n\r\nhello".to_owned(), 400),
        ("port 0", "CONNECT api.test:0 HTTP/1.1\r\nhost: api.test:0\r\n\r\n".to_owned(), 400),
        ("a port too large", "CONNECT api.test:65536 HTTP/1.1\r\nhost: api.test:65536\r\n\r\n".to_owned(), 400),
        ("control characters", "CONNECT api.test:443\x0b HTTP/1.1\r\nhost: api.test:443\r\n\r\n".to_owned(), 400),
        ("an encoded host", "GET http://127%2e0.0.1/ HTTP/1.1\r\nhost: 127%2e0.0.1\r\n\r\n".to_owned(), 400),
        ("https for a host that only passes", "GET https://elsewhere.test/ HTTP/1.1\r\nhost: elsewhere.test\r\n\r\n".to_owned(), 403),
    ] {
        let answer = told(own, bytes.as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{name}: {answer}");
    }
    assert_eq!((victim.reached.load(std::sync::atomic::Ordering::SeqCst), origin.calls()), (0, 0));
    assert!(started.proxy.unobserved().is_empty());
}

/// Where the operator opens the network of this machine, its other ports are reached, and those of the process itself are not: the admin port trusts who
/// comes from here.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_ports_of_the_process_itself_are_never_reached() {
    let (origin, admin) = (origin().await, Victim::start().await);
    let started = setup(&origin, |forward| {
        open(forward);
        forward.networks.push("0.0.0.0/0".parse().unwrap());
        forward.ports = (1..=65_535).collect();
        forward.tunnel = vec!["*".parse().unwrap()];
    });
    let started = started.start().await;
    started.proxy.answers_at(admin.addr);
    for host in ["127.0.0.1", "127.0.0.2", "localhost", "0.0.0.0"] {
        for port in [admin.addr.port(), started.client.addr.port()] {
            let answer =
                told(started.client.addr, format!("CONNECT {host}:{port} HTTP/1.1\r\nhost: {host}:{port}\r\n\r\n").as_bytes()).await;
            assert!(answer.starts_with("HTTP/1.1 403") && answer.contains("ourselves"), "{host}:{port} {answer}");
        }
    }
    let to = origin.addr;
    let (_, head) = ask(started.client.addr, format!("CONNECT {to} HTTP/1.1\r\nhost: {to}\r\n\r\n").as_bytes()).await;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && !head.contains("content-length") && !head.contains("upgrade"), "{head}");
    assert_eq!(admin.reached.load(std::sync::atomic::Ordering::SeqCst), 0);
}

/// Sends back what comes.
async fn echo() -> (SocketAddr, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (addr, mut tasks) = (listener.local_addr().unwrap(), JoinSet::new());
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            connections.spawn(async move {
                let (mut read, mut write) = stream.split();
                let _either_may_be_cut = tokio::io::copy(&mut read, &mut write).await;
            });
        }
    });
    (addr, tasks)
}

/// A tunnel carries what it likes, also what is sent before the answer, and what looks like a request; it ends with either end, with silence, and with the
/// process; and what a client sends behind a CONNECT that is refused is for nobody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tunnel_is_blind_and_bounded() {
    let (origin, (to, _tasks)) = (origin().await, echo().await);
    let mut setup = setup(&origin, |forward| {
        open(forward);
        (forward.tunnel, forward.idle) = (any_port(to.port(), &["127.0.0.1"]), Span::from_secs(3));
    });
    setup.config.data.drain = Span::from_millis(100);
    let started = setup.start().await;
    let connect = format!("CONNECT {to} HTTP/1.1\r\nhost: {to}\r\n\r\n");
    let smuggled = b"GET /api/smuggled HTTP/1.1\r\nhost: farthing.test\r\n\r\n\x16\x03\x01\0\xff";
    let (mut stream, head) = ask(started.client.addr, &[connect.as_bytes(), smuggled].concat()).await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    let mut back = vec![0; smuggled.len()];
    tokio::time::timeout(PATIENCE, stream.read_exact(&mut back)).await.unwrap().unwrap();
    assert_eq!(back, smuggled);
    let (mut read, mut write) = stream.split();
    let large = vec![7u8; 1 << 20];
    let mut came = vec![0; large.len()];
    let (sent, got) = tokio::join!(write.write_all(&large), read.read_exact(&mut came));
    sent.and(got.map(|_| ())).unwrap();
    assert!(came == large && origin.calls() == 0);
    // The client ends, and the other end then does.
    write.shutdown().await.unwrap();
    assert_eq!(tokio::time::timeout(PATIENCE, read.read(&mut [0; 8])).await.unwrap().unwrap(), 0);
    // Silence.
    let (mut quiet, _) = ask(started.client.addr, connect.as_bytes()).await;
    assert_eq!(tokio::time::timeout(PATIENCE, quiet.read(&mut [0; 8])).await.expect("it is closed").unwrap_or(0), 0);
    let stats = started.proxy.edge_stats();
    assert_eq!((stats.tunnels(), stats.tunnels_closed(TunnelEnd::Idle)), (2, 1));
    let report = &started.proxy.unobserved()[0];
    let bytes = (smuggled.len() + large.len()) as u64;
    assert_eq!((report.tunnels, report.up, report.down), (2, bytes, bytes));
    // Refused: what follows is no request.
    let refused =
        [b"CONNECT other.test:443 HTTP/1.1\r\nhost: other.test:443\r\n\r\n".as_slice(), b"GET /api/after HTTP/1.1\r\nhost: h\r\n\r\n"]
            .concat();
    let (mut stream, head) = ask(started.client.addr, &refused).await;
    assert!(head.starts_with("HTTP/1.1 403") && head.to_lowercase().contains("connection: close"), "{head}");
    let mut rest = Vec::new();
    tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("it is closed").unwrap();
    assert!(!String::from_utf8_lossy(&rest).contains("HTTP/1.1") && origin.calls() == 0);
    // In HTTP/1.0, as older clients ask, without a host.
    let (_open, head) = ask(started.client.addr, format!("CONNECT {to} HTTP/1.0\r\n\r\n").as_bytes()).await;
    assert!(head.starts_with("HTTP/1.0 200"), "{head}");
    started.proxy.shutdown().await;
    assert!(started.proxy.edge_stats().tunnels_closed(TunnelEnd::Cut) >= 1);
}

/// Without the table there is no proxy.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_table_connect_is_refused() {
    let origin = origin().await;
    let started = Setup::new(origin.addr).start().await;
    let answer = told(started.client.addr, b"CONNECT h.test:443 HTTP/1.1\r\nhost: h.test:443\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 501") && answer.contains("[forward]"), "{answer}");
}

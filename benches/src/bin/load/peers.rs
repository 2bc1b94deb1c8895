//! The servers side by side: started as processes on free ports, ended with the bench.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::client::Ask;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    /// The answer comes from the peer's cache; bare hyper answers the same bytes by itself.
    Hit,
    /// The same, each request with an id of its own: no head comes twice.
    NewHead,
    /// Every request goes to the origin.
    PassThrough,
    /// A question to an LLM by OpenAI's API, under a key of ours: who asks, what it costs and the log, nothing cached.
    Chat,
}

/// A key made for this bench alone, and the digest that its configuration holds.
const CHAT_FIELDS: &str =
    "Content-Type: application/json\r\nAuthorization: Bearer fth-0d6cc84bd328-b4d303ebd56d2bbe1cc1f72a54d18a9e5d3f34c450cdbcc0\r\n";
const KEY_SHA256: &str = "d29a51acdcd0a0eefc59f46833615f1e8c704851633f9adc77fd40deecccbfb0";
const QUESTION: &str = r#"{"model":"gpt-4o","temperature":0.7,"max_tokens":200,"messages":[{"role":"system","content":"You are a historian of money. Answer in one sentence, with one example that a child understands, and never give a date without its source."},{"role":"user","content":"What did a farthing buy in the London of 1750, and how long did a labourer work for one?"}]}"#;

impl Case {
    /// All, in the order in which they are measured.
    pub const ALL: [Self; 4] = [Self::Hit, Self::NewHead, Self::PassThrough, Self::Chat];

    /// Its name in results.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::NewHead => "hit, new head",
            Self::PassThrough => "pass-through",
            Self::Chat => "chat",
        }
    }

    /// What is asked for.
    pub const fn ask(self) -> Ask {
        match self {
            Self::Chat => Ask { target: "/openai/v1/chat/completions", ids: false, fields: CHAT_FIELDS, body: Some(QUESTION) },
            _ => Ask { target: "/r/bench/doc", ids: matches!(self, Self::NewHead), fields: "", body: None },
        }
    }

    /// Whether answers come from a cache.
    const fn is_hit(self) -> bool {
        !matches!(self, Self::PassThrough | Self::Chat)
    }
}

/// A running server. Its folder goes with it.
pub struct Peer {
    /// Its name in results.
    pub name: &'static str,
    /// Where it listens.
    pub addr: SocketAddr,
    child: Child,
    _dir: Option<TempDir>,
    /// Kept open for as long as the peer runs: it may print more.
    _lines: Option<Lines<BufReader<ChildStdout>>>,
}

impl Peer {
    /// User and system time of the process and its children, from `/proc`.
    pub fn cpu(&self) -> anyhow::Result<Duration> {
        let root = self.child.id().context("the server has ended")?;
        let mut ticks = 0;
        for pid in family(root) {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
            let fields: Vec<&str> = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_ascii_whitespace().collect();
            let field = |index: usize| fields.get(index).and_then(|f| f.parse::<u64>().ok()).unwrap_or(0);
            ticks += field(11) + field(12);
        }
        // Linux reports in ticks of 10 ms on every machine this runs on (USER_HZ).
        Ok(Duration::from_millis(ticks * 10))
    }
}

/// A process and its direct children (nginx and HAProxy keep a master).
fn family(root: u32) -> Vec<u32> {
    let mut all = vec![root];
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<u32>().ok()) else { continue };
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        let parent = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_ascii_whitespace().nth(1)?.parse::<u32>().ok());
        if parent == Some(root) {
            all.push(pid);
        }
    }
    all
}

async fn spawn(name: &'static str, command: &mut Command, dir: Option<TempDir>) -> anyhow::Result<Peer> {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true).spawn()?;
    let mut lines = BufReader::new(child.stdout.take().context("no standard output")?).lines();
    let addr = loop {
        let line = tokio::time::timeout(Duration::from_secs(20), lines.next_line()).await??.context("ended before it listened")?;
        if let Some((_, rest)) = line.split_once("http://127.0.0.1:") {
            let port: String = rest.chars().take_while(char::is_ascii_digit).collect();
            break SocketAddr::from(([127, 0, 0, 1], port.parse()?));
        }
    };
    Ok(Peer { name, addr, child, _dir: dir, _lines: Some(lines) })
}

/// A server that does not say where it listens: it is told, and waited for.
async fn spawn_at(name: &'static str, addr: SocketAddr, command: &mut Command, dir: TempDir) -> anyhow::Result<Peer> {
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true).spawn()?;
    let until = tokio::time::Instant::now() + Duration::from_secs(10);
    while tokio::net::TcpStream::connect(addr).await.is_err() {
        anyhow::ensure!(tokio::time::Instant::now() < until, "{name} does not listen on {addr}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(Peer { name, addr, child, _dir: Some(dir), _lines: None })
}

fn free() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// The origin of the pass-through case.
pub async fn origin() -> anyhow::Result<Peer> {
    spawn("origin", Command::new(std::env::current_exe()?).arg("bare-origin"), None).await
}

/// The peers of a case, bare hyper first. One that is not installed is left out and said.
pub async fn start(case: Case, origin: SocketAddr) -> anyhow::Result<Vec<Peer>> {
    let mut bare = Command::new(std::env::current_exe()?);
    match case {
        Case::Hit | Case::NewHead => bare.arg("bare-origin"),
        Case::PassThrough | Case::Chat => bare.arg("bare-proxy").arg(origin.to_string()),
    };
    let mut peers = vec![spawn("bare hyper", &mut bare, None).await?, farthing(case, origin).await?];
    // Varnish is a cache: forwarding everything is not its trade.
    for program in ["nginx", "haproxy", "varnishd"].into_iter().filter(|program| case.is_hit() || *program != "varnishd") {
        let Some(path) = find(program) else {
            println!("left out: {program} is not installed (make deps-bench)");
            continue;
        };
        peers.push(match program {
            "nginx" => nginx(&path, case, origin).await?,
            "haproxy" => haproxy(&path, case, origin).await?,
            _ => varnish(&path, origin).await?,
        });
    }
    Ok(peers)
}

fn find(program: &str) -> Option<PathBuf> {
    let paths = std::env::var_os("PATH")?;
    let all = std::env::split_paths(&paths).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    all.map(|dir| dir.join(program)).find(|p| p.exists())
}

async fn farthing(case: Case, origin: SocketAddr) -> anyhow::Result<Peer> {
    let dir = tempfile::tempdir()?;
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/release/farthing");
    if let Case::Chat = case {
        return llm(&program, origin, dir).await;
    }
    let mode = if case.is_hit() { "learned" } else { "observe" };
    let upstream = format!("bench=http://{origin}");
    let mut command = Command::new(program.canonicalize().context("target/release/farthing is missing: make proxy")?);
    command.args([
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--admin",
        "127.0.0.1:0",
        "--price",
        "0.001",
        "--mode",
        mode,
        "--upstream",
        &upstream,
    ]);
    command.arg("--log-dir").arg(dir.path().join("logs")).current_dir(dir.path());
    spawn("farthing", &mut command, Some(dir)).await
}

/// Farthing before an LLM: the preset of OpenAI with its prices, under a key of ours.
async fn llm(program: &Path, origin: SocketAddr, dir: TempDir) -> anyhow::Result<Peer> {
    let config = format!(
        "[data]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\n[providers.openai]\nbase_url = \"http://{origin}\"\ncredential = {{ env = \"BENCH_CREDENTIAL\" }}\n\
         [routes.openai]\nprovider = \"openai\"\ncredential = \"swap\"\n[[keys]]\nid = \"0d6cc84bd328\"\nsha256 = \"{KEY_SHA256}\"\ntenant = \"acme\"\n"
    );
    let file = dir.path().join("farthing.toml");
    std::fs::write(&file, config)?;
    let mut command = Command::new(program.canonicalize().context("target/release/farthing is missing: make proxy")?);
    command.arg("serve").arg("--config").arg(&file).current_dir(dir.path()).env("BENCH_CREDENTIAL", "sk-bench");
    spawn("farthing", &mut command, Some(dir)).await
}

async fn nginx(program: &Path, case: Case, origin: SocketAddr) -> anyhow::Result<Peer> {
    let (dir, addr) = (tempfile::tempdir()?, free()?);
    let root = dir.path().display();
    let cache = if case.is_hit() { "proxy_cache c; proxy_cache_key $uri; proxy_ignore_headers Vary;" } else { "" };
    let config = format!(
        "worker_processes auto; daemon off; pid {root}/pid; error_log {root}/error.log crit;\n\
         events {{ worker_connections 1024; }}\n\
         http {{ access_log {root}/access.log; client_body_temp_path {root}/b; proxy_temp_path {root}/p; fastcgi_temp_path {root}/f;\n\
         uwsgi_temp_path {root}/u; scgi_temp_path {root}/s; keepalive_requests 1000000000;\n\
         proxy_cache_path {root}/cache keys_zone=c:10m; open_file_cache max=1000;\n\
         upstream o {{ server {origin}; keepalive 256; keepalive_requests 1000000000; }}\n\
         server {{ listen {addr}; location / {{ proxy_pass http://o; proxy_http_version 1.1; proxy_set_header Connection \"\"; {cache} }} }} }}\n"
    );
    let file = dir.path().join("nginx.conf");
    std::fs::write(&file, config)?;
    let mut command = Command::new(program);
    command.arg("-c").arg(file).arg("-p").arg(dir.path());
    spawn_at("nginx", addr, &mut command, dir).await
}

async fn haproxy(program: &Path, case: Case, origin: SocketAddr) -> anyhow::Result<Peer> {
    let (dir, addr) = (tempfile::tempdir()?, free()?);
    let (cache, rules) = match case {
        Case::Hit | Case::NewHead => {
            ("cache c\n  total-max-size 16\n  max-age 3600\n", "  http-request cache-use c\n  http-response cache-store c\n")
        }
        Case::PassThrough | Case::Chat => ("", ""),
    };
    let config = format!(
        "global\n  maxconn 4096\ndefaults\n  mode http\n  timeout connect 5s\n  timeout client 30s\n  timeout server 30s\n  http-reuse always\n\
         {cache}frontend f\n  bind {addr}\n  default_backend b\nbackend b\n{rules}  server o {origin}\n"
    );
    let file = dir.path().join("haproxy.cfg");
    std::fs::write(&file, config)?;
    let mut command = Command::new(program);
    command.arg("-f").arg(file).arg("-db");
    spawn_at("haproxy", addr, &mut command, dir).await
}

async fn varnish(program: &Path, origin: SocketAddr) -> anyhow::Result<Peer> {
    let (dir, addr) = (tempfile::tempdir()?, free()?);
    let file = dir.path().join("bench.vcl");
    let (host, port) = (origin.ip(), origin.port());
    std::fs::write(&file, format!("vcl 4.1;\nbackend default {{ .host = \"{host}\"; .port = \"{port}\"; }}\n"))?;
    let mut command = Command::new(program);
    command.args(["-F", "-j", "none", "-s", "malloc,64m", "-a"]).arg(addr.to_string());
    command.arg("-f").arg(&file).arg("-n").arg(dir.path().join("work"));
    spawn_at("varnish", addr, &mut command, dir).await
}

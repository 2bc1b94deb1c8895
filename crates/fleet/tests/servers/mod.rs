//! Real Redis servers for tests: single ones and a Cluster of six, on free ports, in directories of their own. Also used by the tests of
//! `farthing-cache`, which includes this file.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use std::thread;
use std::time::{Duration, Instant};

/// How long a server may take for what it does in milliseconds on a free machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// The program: on PATH, or where `scripts/deps.sh` unpacked it.
fn program() -> Option<PathBuf> {
    let on_path = std::env::var_os("PATH").into_iter().flat_map(|p| std::env::split_paths(&p).collect::<Vec<_>>());
    let unpacked = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/redis/usr/bin");
    on_path.chain([unpacked]).map(|dir| dir.join("redis-server")).find(|file| file.exists())
}

/// Says loudly that there is no server; with STRICT=1 that fails the test.
fn missing() {
    let reason = "redis-server is not there (make deps gets it)";
    assert!(std::env::var("STRICT").as_deref() != Ok("1"), "STRICT=1: {reason}");
    let _nobody_reads = writeln!(std::io::stderr(), "SKIPPED: {reason}");
    if let Some(list) = std::env::var_os("FARTHING_SKIPPED") {
        let mut file = OpenOptions::new().create(true).append(true).open(list).unwrap();
        // One write: tests run at once and must not tear each other's lines.
        file.write_all(b"tests with Redis: redis-server is not there\n").unwrap();
    }
}

/// A port that nobody listens on now. Not one that the system gives for connections: between this look and the server's own bind any client
/// could be given it.
pub fn free_port() -> u16 {
    /// Several tests look at once, and none listens yet.
    static GIVEN: parking_lot::Mutex<BTreeSet<u16>> = parking_lot::Mutex::new(BTreeSet::new());
    loop {
        let drawn = RandomState::new().build_hasher().finish() % 12_000;
        let port = 20_000 + u16::try_from(drawn).unwrap();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() && GIVEN.lock().insert(port) {
            return port;
        }
    }
}

/// One server; killed when dropped.
pub struct Server {
    pub port: u16,
    dir: tempfile::TempDir,
    args: Vec<String>,
    child: Child,
    password: Option<String>,
}

impl Server {
    /// Starts a server with further arguments; `None`, loudly, where the program is not there.
    pub fn start(args: &[&str]) -> Option<Self> {
        Self::start_at(free_port(), args)
    }

    /// As [`Server::start`], with a password for the default user.
    pub fn with_password(password: &str, args: &[&str]) -> Option<Self> {
        let mut all = vec!["--requirepass", password];
        all.extend(args);
        let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
        Self::launch(dir, port, all.into_iter().map(str::to_owned).collect(), Some(password.to_owned()))
    }

    /// As [`Server::start`], on a port that the arguments name, too.
    pub fn start_at(port: u16, args: &[&str]) -> Option<Self> {
        Self::launch(tempfile::tempdir().unwrap(), port, args.iter().map(|a| (*a).to_owned()).collect(), None)
    }

    fn launch(dir: tempfile::TempDir, port: u16, args: Vec<String>, password: Option<String>) -> Option<Self> {
        let Some(program) = program() else {
            missing();
            return None;
        };
        let child = spawn(&program, dir.path(), port, &args);
        let mut server = Self { port, dir, args, child, password };
        server.wait_until_it_answers();
        Some(server)
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// `kill` with a signal: `-STOP`, `-CONT`, `-KILL`.
    pub fn signal(&self, signal: &str) {
        assert!(Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap().success());
    }

    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again on its port, with what it had on disk.
    pub fn restart(&mut self) {
        self.child = spawn(&program().unwrap(), self.dir.path(), self.port, &self.args);
        self.wait_until_it_answers();
    }

    fn wait_until_it_answers(&mut self) {
        let start = Instant::now();
        while !TcpStream::connect(("127.0.0.1", self.port)).is_ok_and(|_| self.args.iter().any(|a| a == "--tls-port") || self.ping()) {
            assert!(self.child.try_wait().unwrap().is_none(), "redis-server ended: {}", self.log());
            assert!(start.elapsed() < PATIENCE, "redis-server does not answer: {}", self.log());
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn ping(&self) -> bool {
        self.try_ask(&["PING"]).is_ok_and(|a| a == "+PONG")
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// Sends a command without the client under test; the answer's first line, or the text of a string.
    pub fn ask(&self, command: &[&str]) -> String {
        self.try_ask(command).unwrap()
    }

    fn try_ask(&self, command: &[&str]) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut lines = BufReader::new(stream.try_clone()?);
        if let Some(password) = &self.password {
            send(&mut stream, &["AUTH", password])?;
            assert_eq!(answer(&mut lines)?, "+OK");
        }
        send(&mut stream, command)?;
        answer(&mut lines)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _already_gone = self.child.kill();
        let _already_gone = self.child.wait();
    }
}

fn spawn(program: &Path, dir: &Path, port: u16, args: &[String]) -> Child {
    let log = OpenOptions::new().create(true).append(true).open(dir.join("log")).unwrap();
    let port = if args.iter().any(|a| a == "--tls-port") { 0 } else { port };
    Command::new(program)
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir"])
        .arg(dir)
        .args(args)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap()
}

fn send(stream: &mut TcpStream, command: &[&str]) -> std::io::Result<()> {
    let mut out = format!("*{}\r\n", command.len());
    for word in command {
        out.push_str(&format!("${}\r\n{word}\r\n", word.len()));
    }
    stream.write_all(out.as_bytes())
}

fn answer(lines: &mut BufReader<TcpStream>) -> std::io::Result<String> {
    let mut line = String::new();
    lines.read_line(&mut line)?;
    let line = line.trim_end().to_owned();
    match line.strip_prefix('$').and_then(|n| n.parse::<usize>().ok()) {
        Some(length) => {
            let mut text = vec![0; length];
            lines.read_exact(&mut text)?;
            Ok(String::from_utf8_lossy(&text).into_owned())
        }
        None => Ok(line),
    }
}

/// Three masters with a replica each.
pub struct Cluster {
    pub nodes: Vec<Server>,
}

impl Cluster {
    /// Starts six servers and makes a Cluster of them; `None`, loudly, where the program is not there.
    pub fn start() -> Option<Self> {
        let bus_ports: Vec<String> = (0..6).map(|_| free_port().to_string()).collect();
        let start = |bus: &String| {
            Server::start(&[
                "--cluster-enabled",
                "yes",
                "--cluster-node-timeout",
                "1500",
                "--cluster-replica-validity-factor",
                "0",
                "--repl-diskless-sync-delay",
                "0",
                "--cluster-port",
                bus,
            ])
        };
        let nodes: Vec<Server> = bus_ports.iter().map_while(start).collect();
        if nodes.len() < 6 {
            return None;
        }
        let cluster = Self { nodes };
        cluster.join(&bus_ports);
        Some(cluster)
    }

    fn join(&self, bus_ports: &[String]) {
        for (at, (first, last)) in [("0", "5460"), ("5461", "10922"), ("10923", "16383")].into_iter().enumerate() {
            assert_eq!(self.nodes[at].ask(&["CLUSTER", "ADDSLOTSRANGE", first, last]), "+OK");
        }
        for (at, node) in self.nodes.iter().enumerate() {
            assert_eq!(node.ask(&["CLUSTER", "SET-CONFIG-EPOCH", &(at + 1).to_string()]), "+OK");
            let first = self.nodes[0].port.to_string();
            assert_eq!(node.ask(&["CLUSTER", "MEET", "127.0.0.1", &first, &bus_ports[0]]), "+OK");
        }
        self.wait("all know each other", |node| node.ask(&["CLUSTER", "INFO"]).contains("cluster_known_nodes:6"));
        for at in 0..3 {
            let master = self.nodes[at].ask(&["CLUSTER", "MYID"]);
            let replicate = || self.nodes[at + 3].ask(&["CLUSTER", "REPLICATE", &master]);
            wait_for("the replica knows its master", || replicate() == "+OK");
        }
        self.wait("the cluster is ok", |node| {
            let info = node.ask(&["CLUSTER", "INFO"]);
            info.contains("cluster_state:ok") && info.contains("cluster_slots_ok:16384")
        });
        for replica in &self.nodes[3..] {
            wait_for("replicas are in step", || replica.ask(&["INFO", "replication"]).contains("master_link_status:up"));
        }
    }

    fn wait(&self, what: &str, holds: impl Fn(&Server) -> bool) {
        wait_for(what, || self.nodes.iter().all(&holds));
    }

    /// Waits until every replica has what its master has.
    pub fn wait_for_replicas(&self) {
        for at in 0..3 {
            let keys = |node: usize| self.nodes[node].ask(&["DBSIZE"]);
            wait_for("the replica has everything", || keys(at) == keys(at + 3));
        }
    }

    /// Waits until a node has taken its master's place.
    pub fn wait_for_promotion(&self, replica: usize) {
        wait_for("the replica takes over", || {
            let node = &self.nodes[replica];
            node.ask(&["ROLE"]).starts_with('*')
                && node.ask(&["INFO", "replication"]).contains("role:master")
                && node.ask(&["CLUSTER", "INFO"]).contains("cluster_state:ok")
        });
    }

    pub fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(Server::url).collect()
    }
}

/// Waits until `holds`; fails after [`PATIENCE`].
pub fn wait_for(what: &str, holds: impl Fn() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        thread::sleep(Duration::from_millis(20));
    }
}

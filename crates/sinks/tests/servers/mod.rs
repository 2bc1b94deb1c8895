//! Real servers for tests, on free ports, in directories of their own. Also used by the end-to-end tests, which include this file.
#![allow(dead_code, reason = "each test binary uses its part")]

pub mod clickhouse;
pub mod s3;

use std::fs::{self, OpenOptions};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How long a server may take for what it does in a second on a free machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// The superuser of test servers, and the password of everybody.
pub const ROOT: &str = "root_of_tests";
pub const PASSWORD: &str = "a password";

/// Where the programs are: Debian keeps them off PATH.
fn programs() -> Option<PathBuf> {
    let mut versions: Vec<PathBuf> =
        fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().map(|e| e.path().join("bin")).collect();
    versions.sort();
    let on_path = std::env::var_os("PATH").into_iter().flat_map(|p| std::env::split_paths(&p).collect::<Vec<_>>());
    versions.into_iter().rev().chain(on_path).find(|dir| dir.join("initdb").exists())
}

/// Says loudly that there is no server; with STRICT=1 that fails the test.
pub fn missing(what: &str, reason: &str) {
    assert!(std::env::var("STRICT").as_deref() != Ok("1"), "STRICT=1: {reason}");
    let _nobody_reads = writeln!(std::io::stderr(), "SKIPPED: {reason}");
    if let Some(list) = std::env::var_os("FARTHING_SKIPPED") {
        let mut file = OpenOptions::new().create(true).append(true).open(list).unwrap();
        // One write: tests run at once and must not tear each other's lines.
        file.write_all(format!("{what}: {reason}\n").as_bytes()).unwrap();
    }
}

/// A port that nobody listens on now, and none that the system gives for connections.
pub fn free_port() -> u16 {
    loop {
        let drawn = RandomState::new().build_hasher().finish() % 12_000;
        let port = 20_000 + u16::try_from(drawn).unwrap();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output().unwrap();
    String::from_utf8_lossy(&id.stdout).trim() == "0"
}

/// PostgreSQL refuses to run as root: then it runs as somebody without rights.
fn command(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(program);
    command
}

fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {text}");
    text
}

/// One server with a database `d` and a role `farthing` that owns nothing but its schema there; killed when dropped.
pub struct Server {
    pub port: u16,
    dir: tempfile::TempDir,
    programs: PathBuf,
    settings: Vec<String>,
    child: Child,
}

impl Server {
    /// Starts a server; `None`, loudly, where the programs are not there.
    pub fn start() -> Option<Self> {
        Self::start_with(|_| Vec::new())
    }

    /// Starts a server with further settings, which may name files put into its folder.
    pub fn start_with(settings: impl FnOnce(&Path) -> Vec<String>) -> Option<Self> {
        let Some(programs) = programs() else {
            missing("tests with PostgreSQL", "initdb and postgres are not there (make deps gets them)");
            return None;
        };
        let dir = tempfile::tempdir().unwrap();
        let settings = settings(dir.path());
        fs::write(dir.path().join("password"), PASSWORD).unwrap();
        if is_root() {
            run(Command::new("chown").args(["-R", "65534:65534"]).arg(dir.path()));
        }
        let data = dir.path().join("data");
        run(command(&programs.join("initdb"))
            .args(["--no-sync", "--auth=scram-sha-256", "--encoding=UTF8", "--no-locale", "-U", ROOT])
            .arg("--pwfile")
            .arg(dir.path().join("password"))
            .arg("-D")
            .arg(&data)
            .current_dir(dir.path()));
        let port = free_port();
        let child = Self::spawn(&programs, dir.path(), port, &settings);
        let mut server = Self { port, dir, programs, settings, child };
        server.wait_until_it_answers();
        server.ask_root("postgres", &format!("CREATE ROLE farthing LOGIN PASSWORD '{PASSWORD}'"));
        server.ask_root("postgres", "CREATE DATABASE d");
        server.ask_root("d", "CREATE SCHEMA farthing AUTHORIZATION farthing");
        Some(server)
    }

    fn spawn(programs: &Path, dir: &Path, port: u16, settings: &[String]) -> Child {
        let log = OpenOptions::new().create(true).append(true).open(dir.join("log")).unwrap();
        let mut command = command(&programs.join("postgres"));
        command.arg("-D").arg(dir.join("data")).args(["-p", &port.to_string(), "-k"]).arg(dir);
        // Only the machine's own death would show that nothing is synced.
        for setting in ["fsync=off", "listen_addresses=127.0.0.1", "max_connections=30", "shared_buffers=16MB"] {
            command.args(["-c", setting]);
        }
        for setting in settings {
            command.args(["-c", setting]);
        }
        command.current_dir(dir).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap()
    }

    /// The URL of the role, without its password.
    pub fn url(&self) -> String {
        format!("postgres://farthing@127.0.0.1:{}/d", self.port)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    fn wait_until_it_answers(&mut self) {
        let start = Instant::now();
        while !self.try_ask("postgres", ROOT, "SELECT 1").is_ok_and(|answer| answer == "1") {
            if self.child.try_wait().unwrap().is_some() {
                // What was killed may still hold its memory.
                assert!(start.elapsed() < PATIENCE, "postgres ended: {}", self.log());
                self.child = Self::spawn(&self.programs, self.dir.path(), self.port, &self.settings);
            }
            assert!(start.elapsed() < PATIENCE, "postgres does not answer: {}", self.log());
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// `kill` with a signal: `-STOP`, `-CONT`, of the server and all its processes.
    pub fn signal_all(&self, signal: &str) {
        let pid = self.child.id().to_string();
        let children = Command::new("ps").args(["--ppid", &pid, "-o", "pid="]).output().unwrap();
        let children = String::from_utf8(children.stdout).unwrap();
        let pids: Vec<&str> = std::iter::once(pid.as_str()).chain(children.split_whitespace()).collect();
        // One of them may have ended meanwhile.
        let _ = Command::new("kill").arg(signal).args(pids).stderr(Stdio::null()).status().unwrap();
    }

    /// Kills it without a chance to tidy up.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Ends it in order, but without waiting for its clients.
    pub fn stop(&mut self) {
        assert!(Command::new("kill").args(["-INT", &self.child.id().to_string()]).status().unwrap().success());
        self.child.wait().unwrap();
    }

    /// Starts it again on its port, with what it had on disk.
    pub fn restart(&mut self) {
        self.child = Self::spawn(&self.programs, self.dir.path(), self.port, &self.settings);
        self.wait_until_it_answers();
    }

    /// The answer to a question of the role, as lines of cells between `|`.
    pub fn ask(&self, sql: &str) -> String {
        self.try_ask("d", "farthing", sql).unwrap()
    }

    /// The same as the superuser, in a database.
    pub fn ask_root(&self, database: &str, sql: &str) -> String {
        self.try_ask(database, ROOT, sql).unwrap()
    }

    fn try_ask(&self, database: &str, user: &str, sql: &str) -> Result<String, String> {
        let output = self.psql(database, user).args(["-c", sql]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap().trim().to_owned();
        if output.status.success() { Ok(text) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
    }

    fn psql(&self, database: &str, user: &str) -> Command {
        let mut command = Command::new(self.programs.join("psql"));
        command.args([
            "-X",
            "-A",
            "-t",
            "-q",
            "-v",
            "ON_ERROR_STOP=1",
            "-h",
            "127.0.0.1",
            "-p",
            &self.port.to_string(),
            "-U",
            user,
            "-d",
            database,
        ]);
        command.env("PGPASSWORD", PASSWORD).env("PGSSLMODE", "prefer").stdin(Stdio::null());
        command
    }

    /// A session that holds a lock on a table until dropped.
    pub fn lock(&self, table: &str) -> Lock {
        let mut command = self.psql("d", "farthing");
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let stdin = child.stdin.as_mut().unwrap();
        writeln!(stdin, "BEGIN; LOCK TABLE {table} IN EXCLUSIVE MODE;").unwrap();
        stdin.flush().unwrap();
        self.until(
            &format!("SELECT count(*) FROM pg_locks WHERE mode = 'ExclusiveLock' AND granted AND relation = '{table}'::regclass"),
            "1",
        );
        Lock(child)
    }

    /// Waits until a question has an answer.
    pub fn until(&self, sql: &str, answer: &str) {
        let start = Instant::now();
        while self.ask(sql) != answer {
            assert!(start.elapsed() < PATIENCE, "{sql} never is {answer}, but {}", self.ask(sql));
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.signal_all("-CONT");
        let _already_gone = Command::new("kill").args(["-QUIT", &self.child.id().to_string()]).stderr(Stdio::null()).status();
        let _already_gone = self.child.wait();
    }
}

/// A lock that somebody holds.
pub struct Lock(Child);

impl Drop for Lock {
    fn drop(&mut self) {
        // The end of its input ends the session.
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

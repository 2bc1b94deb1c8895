//! The built programs, run as an operator runs them.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output, Stdio};
use std::time::Duration;

use farthing_tests::{Answer, Client};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// No step of a program takes that long; a test that waits longer has found a hang.
const HANGS: Duration = Duration::from_secs(60);

/// A program of this build, beside the tests.
pub fn built(name: &str) -> Option<PathBuf> {
    let exe = std::env::current_exe().ok()?;
    let path = exe.parent()?.parent()?.join(name);
    path.exists().then_some(path)
}

/// The trainer: named by the environment, or beside the tests.
pub fn trainer() -> Option<PathBuf> {
    let named = std::env::var_os("FARTHING_TRAIN").filter(|path| !path.is_empty()).map(PathBuf::from);
    named.filter(|path| path.is_file()).or_else(|| built("farthing-train"))
}

/// A command in `dir`, with nothing of the caller's settings in its environment.
pub fn command(program: &Path, dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(args).current_dir(dir).stdin(Stdio::null()).kill_on_drop(true);
    for name in ["FARTHING_CONFIG", "FARTHING_ADMIN", "FARTHING_ADMIN_TOKEN", "RUST_LOG"] {
        command.env_remove(name);
    }
    // Some releases of the native library report to their maker unless this is set; tests have nothing to report.
    command.env("ORT_DISABLE_TELEMETRY", "1");
    command
}

/// Runs a command to its end.
pub async fn run(mut command: Command) -> Output {
    tokio::time::timeout(HANGS, command.output()).await.expect("the program ends").unwrap()
}

/// What a program said, on both streams.
pub fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A running `farthing serve`, ended with the test.
pub struct Serving {
    child: Child,
    program: PathBuf,
    dir: PathBuf,
    /// Its data port.
    pub data: Client,
    /// Its admin port.
    pub admin: Client,
}

impl Serving {
    /// Starts it in `dir` on free ports, with further flags.
    pub async fn start(program: &Path, dir: &Path, args: &[&str]) -> Self {
        Self::start_with(program, dir, args, |_| ()).await
    }

    /// The same in an environment that `change` makes.
    pub async fn start_with(program: &Path, dir: &Path, args: &[&str], change: impl FnOnce(&mut Command)) -> Self {
        let mut command = command(program, dir, &["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
        change(&mut command);
        command.args(args);
        Self::run(command, program, dir).await
    }

    /// Starts it in `dir` with the data port and the admin port that its file names.
    pub async fn start_where_it_says(program: &Path, dir: &Path, file: &str) -> Self {
        Self::run(command(program, dir, &["serve", "--config", file]), program, dir).await
    }

    async fn run(mut command: Command, program: &Path, dir: &Path) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let greeting = tokio::time::timeout(HANGS, lines.next_line()).await.expect("serve greets").unwrap().expect("serve starts");
        let client = |mark: &str| {
            let rest = greeting.split_once(mark).unwrap_or_else(|| panic!("{mark:?} is not in {greeting:?}")).1;
            let text = rest.split([';', ' ']).next().unwrap().trim_start_matches("http://").trim_start_matches("https://");
            Client { addr: text.parse().unwrap_or_else(|e| panic!("{e}: {greeting:?}")) }
        };
        let (data, admin) = (client("answers at "), client("admin API at "));
        // What it prints later must never fill the pipe.
        tokio::task::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Self { child, program: program.to_owned(), dir: dir.to_owned(), data, admin }
    }

    /// A command that asks its admin port.
    pub async fn cli(&self, args: &[&str]) -> Output {
        let admin = format!("http://{}", self.admin.addr);
        let mut command = command(&self.program, &self.dir, args);
        command.args(["--admin", &admin]);
        run(command).await
    }

    /// A command that succeeds and prints one JSON document.
    pub async fn json(&self, args: &[&str]) -> Value {
        let output = self.cli(&[args, &["--json"]].concat()).await;
        assert!(output.status.success(), "{args:?}: {}", said(&output));
        serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{args:?}: {e}: {}", said(&output)))
    }

    /// `/readyz`: the answer and its document.
    pub async fn readiness(&self) -> (Answer, Value) {
        let answer = self.admin.get("/readyz", &[]).await;
        let document = serde_json::from_slice(&answer.body).unwrap_or_else(|e| panic!("{e}: {}", answer.text()));
        (answer, document)
    }

    /// Sends it a signal (`-TERM`, `-KILL`), and waits until it has ended.
    pub async fn signal(mut self, signal: &str) -> ExitStatus {
        self.send(signal);
        tokio::time::timeout(HANGS, self.child.wait()).await.expect("it ends when told").unwrap()
    }

    /// Stops it where it is; it does not know.
    pub fn pause(&self) {
        self.send("-STOP");
    }

    /// Has it read its configuration again.
    pub fn hang_up(&self) {
        self.send("-HUP");
    }

    /// Lets it go on.
    pub fn go_on(&self) {
        self.send("-CONT");
    }

    fn send(&self, signal: &str) {
        let pid = self.child.id().expect("it still runs").to_string();
        assert!(std::process::Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    /// Asks it to end in order, and waits until it has.
    pub async fn end(self) {
        let ended = self.signal("-TERM").await;
        assert!(ended.success(), "{ended}");
    }
}

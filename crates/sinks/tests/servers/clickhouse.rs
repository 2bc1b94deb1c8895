//! A real ClickHouse server, on a free port, in a directory of its own; what it holds is asked without the client that we ship with.

use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::{PASSWORD, PATIENCE, free_port, missing};

/// The user of tests, and one who may see no database but `other`.
pub const USER: &str = "farthing";
pub const STRANGER: &str = "stranger";

fn program() -> Option<PathBuf> {
    let on_path = std::env::var_os("PATH").into_iter().flat_map(|p| std::env::split_paths(&p).collect::<Vec<_>>());
    // Debian keeps it off the PATH of those who are not root.
    let mut all = on_path.chain(["/usr/sbin".into(), "/usr/bin".into()]).map(|dir| dir.join("clickhouse-server"));
    all.find(|path| path.exists())
}

/// A server, killed when dropped.
pub struct Clickhouse {
    pub port: u16,
    dir: tempfile::TempDir,
    program: PathBuf,
    child: Child,
}

impl Clickhouse {
    /// Starts a server; `None`, loudly, where the program is not there.
    pub fn start() -> Option<Self> {
        Self::start_with(|_| String::new())
    }

    /// Starts a server with further settings, as XML, which may name files put into its folder.
    pub fn start_with(settings: impl FnOnce(&Path) -> String) -> Option<Self> {
        let Some(program) = program() else {
            missing("tests with ClickHouse", "clickhouse-server is not there (make deps gets it)");
            return None;
        };
        let dir = tempfile::tempdir().unwrap();
        let settings = settings(dir.path());
        let port = free_port();
        fs::write(dir.path().join("config.xml"), config(dir.path(), port, &settings)).unwrap();
        fs::write(dir.path().join("users.xml"), users()).unwrap();
        let child = spawn(&program, dir.path());
        let mut server = Self { port, dir, program, child };
        server.wait_until_it_answers();
        Some(server)
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn wait_until_it_answers(&mut self) {
        let start = Instant::now();
        while !self.try_ask("SELECT 1").is_ok_and(|answer| answer == "1") {
            if self.child.try_wait().unwrap().is_some() {
                // What was killed may still hold its port.
                self.child = spawn(&self.program, self.dir.path());
            }
            assert!(start.elapsed() < PATIENCE, "clickhouse does not answer: {}", self.log());
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("errors")).unwrap_or_default()
    }

    /// `-STOP`, `-CONT` and others.
    pub fn signal(&self, signal: &str) {
        assert!(Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap().success());
    }

    /// Kills it without a chance to tidy up.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Ends it in order.
    pub fn stop(&mut self) {
        self.signal("-TERM");
        self.child.wait().unwrap();
    }

    /// Starts it again on its port, with what it had on disk.
    pub fn restart(&mut self) {
        self.child = spawn(&self.program, self.dir.path());
        self.wait_until_it_answers();
    }

    /// The answer to a question, as lines of cells between tabs.
    pub fn ask(&self, sql: &str) -> String {
        self.try_ask(sql).unwrap()
    }

    pub fn try_ask(&self, sql: &str) -> Result<String, String> {
        ask_at(self.port, sql)
    }

    /// Waits until a question has an answer.
    pub fn until(&self, sql: &str, answer: &str) {
        let start = Instant::now();
        while self.try_ask(sql).as_deref() != Ok(answer) {
            assert!(start.elapsed() < PATIENCE, "{sql} never is {answer}, but {:?}", self.try_ask(sql));
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// The same of a server on a port of this machine.
pub fn ask_at(port: u16, sql: &str) -> Result<String, String> {
    let (status, body) = post(port, sql).map_err(|error| error.to_string())?;
    let text = String::from_utf8(body).map_err(|error| error.to_string())?.trim_end().to_owned();
    if status == 200 { Ok(text) } else { Err(text) }
}

fn post(port: u16, sql: &str) -> std::io::Result<(u16, Vec<u8>)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    // Of HTTP/1.0, so that the answer comes without chunks.
    let head = format!(
        "POST /?wait_end_of_query=1&output_format_json_quote_64bit_integers=1 HTTP/1.0\r\nx-clickhouse-user: {USER}\r\nx-clickhouse-key: {PASSWORD}\r\ncontent-length: {}\r\n\r\n",
        sql.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(sql.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").ok_or_else(|| std::io::Error::other("no head"))?;
    let status = String::from_utf8_lossy(&answer[..end]).split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok((status.ok_or_else(|| std::io::Error::other("no status"))?, answer.split_off(end + 4)))
}

impl Drop for Clickhouse {
    fn drop(&mut self) {
        let _already_gone = self.child.kill();
        let _already_gone = self.child.wait();
    }
}

fn spawn(program: &Path, dir: &Path) -> Child {
    let mut command = Command::new(program);
    command.arg("--config-file").arg(dir.join("config.xml")).current_dir(dir);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log(dir)).spawn().unwrap()
}

fn log(dir: &Path) -> fs::File {
    OpenOptions::new().create(true).append(true).open(dir.join("errors")).unwrap()
}

fn config(dir: &Path, port: u16, settings: &str) -> String {
    let place = |name: &str| {
        fs::create_dir_all(dir.join(name)).unwrap();
        format!("{}/", dir.join(name).display())
    };
    format!(
        "<yandex><logger><level>warning</level><log>{log}</log><errorlog>{log}</errorlog></logger>\
         <http_port>{port}</http_port><listen_host>127.0.0.1</listen_host><path>{}</path><tmp_path>{}</tmp_path>\
         <user_files_path>{}</user_files_path><format_schema_path>{}</format_schema_path><users_config>users.xml</users_config>\
         <default_profile>default</default_profile><default_database>default</default_database>\
         <mark_cache_size>8388608</mark_cache_size><keep_alive_timeout>1</keep_alive_timeout>{settings}</yandex>",
        place("data"),
        place("tmp"),
        place("files"),
        place("schemas"),
        log = dir.join("errors").display(),
    )
}

fn users() -> String {
    let user = |name: &str, databases: &str| {
        format!(
            "<{name}><password>{PASSWORD}</password><networks><ip>127.0.0.1</ip></networks><profile>default</profile><quota>default</quota>{databases}</{name}>"
        )
    };
    format!(
        "<yandex><profiles><default>{words}</default></profiles><quotas><default></default></quotas><users>{}{}</users></yandex>",
        user(USER, ""),
        user(STRANGER, "<allow_databases><database>other</database></allow_databases>"),
        // Of what tests make themselves: new in the oldest servers.
        words = "<allow_experimental_low_cardinality_type>1</allow_experimental_low_cardinality_type>"
    )
}

//! A real server that speaks S3 (moto), on a free port; what it holds is asked without the library that we ship with.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::{PATIENCE, free_port, missing};

/// The bucket of tests.
pub const BUCKET: &str = "spend-logs";
/// It signs nobody off, but treats those who do not sign as strangers.
const SIGNED: &str = "AWS4-HMAC-SHA256 Credential=tests/20261127/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0";

fn program() -> Option<PathBuf> {
    let found = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().map(|dir| dir.join("target/s3/bin/moto_server"));
    found.filter(|path| path.exists()).last()
}

/// A server with an empty bucket, in memory; killed when dropped.
pub struct Store {
    pub port: u16,
    program: PathBuf,
    child: Child,
}

impl Store {
    /// Starts a server; `None`, loudly, where the program is not there.
    pub fn start() -> Option<Self> {
        let Some(program) = program() else {
            missing("tests with an S3 server", "target/s3 is not there (make deps gets it)");
            return None;
        };
        let port = free_port();
        let child = spawn(&program, port);
        let mut store = Self { port, program, child };
        store.make_bucket();
        Some(store)
    }

    fn make_bucket(&mut self) {
        let start = Instant::now();
        while !self.try_ask("PUT", &format!("/{BUCKET}"), &[]).is_ok_and(|(status, _)| status == 200) {
            assert!(start.elapsed() < PATIENCE, "the S3 server does not answer");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Kills it; all that it holds is lost.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again on its port, with an empty bucket.
    pub fn restart(&mut self) {
        self.child = spawn(&self.program, self.port);
        self.make_bucket();
    }

    /// `-STOP` and `-CONT`.
    pub fn signal(&self, signal: &str) {
        assert!(Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap().success());
    }

    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Names of all objects and their lengths.
    pub fn names(&self) -> BTreeMap<String, u64> {
        let (mut names, mut token) = (BTreeMap::new(), String::new());
        loop {
            let (status, body) = self.try_ask("GET", &format!("/{BUCKET}?list-type=2{token}"), &[]).unwrap();
            assert_eq!(status, 200);
            let text = String::from_utf8(body).unwrap();
            for object in text.split("<Contents>").skip(1) {
                names.insert(between(object, "Key").unwrap(), between(object, "Size").unwrap().parse().unwrap());
            }
            match between(&text, "NextContinuationToken") {
                Some(next) => token = format!("&continuation-token={next}"),
                None => return names,
            }
        }
    }

    pub fn get(&self, name: &str) -> Vec<u8> {
        let (status, body) = self.try_ask("GET", &format!("/{BUCKET}/{name}"), &[]).unwrap();
        assert_eq!(status, 200, "{name}");
        body
    }

    pub fn put(&self, name: &str, body: &[u8]) {
        assert_eq!(self.try_ask("PUT", &format!("/{BUCKET}/{name}"), body).unwrap().0, 200, "{name}");
    }

    pub fn delete(&self, name: &str) {
        assert_eq!(self.try_ask("DELETE", &format!("/{BUCKET}/{name}"), &[]).unwrap().0, 204, "{name}");
    }

    /// Uploads in parts that are neither complete nor given up.
    pub fn uploads(&self) -> usize {
        let (_, body) = self.try_ask("GET", &format!("/{BUCKET}?uploads"), &[]).unwrap();
        String::from_utf8(body).unwrap().matches("<UploadId>").count()
    }

    fn try_ask(&self, method: &str, target: &str, body: &[u8]) -> std::io::Result<(u16, Vec<u8>)> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let host = format!("127.0.0.1:{}", self.port);
        let head = format!(
            "{method} {target} HTTP/1.1\r\nhost: {host}\r\nauthorization: {SIGNED}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes())?;
        stream.write_all(body)?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").ok_or_else(|| std::io::Error::other("no head"))?;
        let status = String::from_utf8_lossy(&answer[..end]).split(' ').nth(1).and_then(|status| status.parse().ok());
        Ok((status.ok_or_else(|| std::io::Error::other("no status"))?, answer.split_off(end + 4)))
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let _already_gone = self.child.kill();
        let _already_gone = self.child.wait();
    }
}

fn spawn(program: &Path, port: u16) -> Child {
    let mut command = Command::new(program);
    command.args(["-H", "127.0.0.1", "-p", &port.to_string()]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn between(text: &str, tag: &str) -> Option<String> {
    let rest = text.split_once(&format!("<{tag}>"))?.1;
    Some(rest.split_once(&format!("</{tag}>"))?.0.to_owned())
}

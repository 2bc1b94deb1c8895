//! What stands between a sink and its server: holds rows back, or loses the answer to them.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// What is done with requests that bring rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// They pass.
    Pass,
    /// They pass, and their answer does not.
    LoseAnswer,
    /// They wait until released, whoever has gone meanwhile.
    Hold,
}

pub struct Relay {
    pub port: u16,
    mode: Arc<Mutex<Mode>>,
    pub held: Arc<Notify>,
    pub release: Arc<Notify>,
    /// What the server said to those that were held.
    pub said: Arc<Mutex<Option<String>>>,
    pub heard: Arc<Notify>,
}

impl Relay {
    pub async fn before(server: u16) -> Arc<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let relay = Arc::new(Self {
            port: listener.local_addr().unwrap().port(),
            mode: Arc::new(Mutex::new(Mode::Pass)),
            held: Arc::default(),
            release: Arc::default(),
            said: Arc::default(),
            heard: Arc::default(),
        });
        let accepting = relay.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let relay = accepting.clone();
                tokio::spawn(async move { relay.serve(client, server).await });
            }
        });
        relay
    }

    pub fn set(&self, mode: Mode) {
        *self.mode.lock() = mode;
    }

    /// One request after the other, each over a connection of its own to the server.
    async fn serve(&self, mut client: TcpStream, server: u16) {
        while let Some(request) = read(&mut client).await {
            let brings_rows = String::from_utf8_lossy(&request[..request.len().min(300)]).contains("query_id=farthing-ship-");
            let mode = if brings_rows { *self.mode.lock() } else { Mode::Pass };
            if mode == Mode::Hold {
                self.held.notify_one();
                self.release.notified().await;
            }
            let mut upstream = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
            upstream.write_all(&request).await.unwrap();
            let answer = read(&mut upstream).await.unwrap_or_default();
            if mode == Mode::Pass {
                if client.write_all(&answer).await.is_err() {
                    return;
                }
            } else {
                *self.said.lock() = Some(String::from_utf8_lossy(&answer).into_owned());
                self.heard.notify_one();
                return;
            }
        }
    }
}

/// A request or an answer as a whole, with its length or in chunks.
async fn read(from: &mut TcpStream) -> Option<Vec<u8>> {
    let mut all = Vec::new();
    while !is_whole(&all) {
        if from.read_buf(&mut all).await.ok()? == 0 {
            return None;
        }
    }
    Some(all)
}

fn is_whole(bytes: &[u8]) -> bool {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return false };
    let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
    match head.split("content-length: ").nth(1) {
        Some(length) => bytes.len() - end - 4 >= length.split('\r').next().unwrap().trim().parse::<usize>().unwrap(),
        // A head may end like the last chunk.
        None => bytes[end + 4..].ends_with(b"0\r\n\r\n"),
    }
}

//! The load: raw HTTP/1.1 over kept connections, so that the client costs as little as can be.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;

const CONNECTIONS: usize = 64;

/// What one round measured.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Requests answered.
    pub requests: u64,
    /// Requests per second.
    pub per_second: f64,
    /// CPU of the server per request, microseconds; set by the caller.
    pub cpu_us: f64,
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Ask {
    /// The target.
    pub target: &'static str,
    /// Whether each request carries an id of its own, as clients with tracing send one.
    pub ids: bool,
    /// Fields of the head beside the usual ones, each with its line's end.
    pub fields: &'static str,
    /// What is posted; without it the request is a GET.
    pub body: Option<&'static str>,
}

struct Connection {
    stream: TcpStream,
    request: Vec<u8>,
    buffer: Vec<u8>,
    /// The next id, where requests carry one.
    id: Option<u64>,
    /// Where it ends, at the end of the head.
    id_end: usize,
}

impl Connection {
    async fn open(addr: SocketAddr, ask: Ask) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        let (target, line) = (ask.target, if ask.ids { "X-Request-Id: 0000000000000000\r\n" } else { "" });
        let method = if ask.body.is_some() { "POST" } else { "GET" };
        let length = ask.body.map_or_else(String::new, |body| format!("Content-Length: {}\r\n", body.len()));
        let (fields, body) = (ask.fields, ask.body.unwrap_or_default());
        let head = format!("{method} {target} HTTP/1.1\r\nHost: {addr}\r\nAccept: */*\r\nUser-Agent: bench\r\n{fields}{length}{line}\r\n");
        let id_end = head.len() - 4;
        let request = (head + body).into_bytes();
        // Connections count in ranges of their own.
        let id = ask.ids.then(|| u64::from(stream.local_addr().map_or(0, |local| local.port())) << 40);
        Ok(Self { stream, request, buffer: Vec::with_capacity(8_192), id, id_end })
    }

    /// Writes the next id over the last one, which ends the head.
    fn renew(&mut self) {
        let Some(id) = &mut self.id else { return };
        *id += 1;
        let end = self.id_end;
        self.request[end - 16..end].copy_from_slice(format!("{id:016x}").as_bytes());
    }

    /// One request; the answer must be 200 with a Content-Length.
    async fn once(&mut self) -> anyhow::Result<()> {
        self.renew();
        self.stream.write_all(&self.request).await?;
        self.buffer.clear();
        loop {
            anyhow::ensure!(self.stream.read_buf(&mut self.buffer).await? > 0, "the server closed the connection");
            let Some(head) = find(&self.buffer, b"\r\n\r\n") else { continue };
            anyhow::ensure!(self.buffer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&self.buffer[..head]));
            let length = content_length(&self.buffer[..head]).context("no Content-Length")?;
            while self.buffer.len() < head + 4 + length {
                anyhow::ensure!(self.stream.read_buf(&mut self.buffer).await? > 0, "the server closed the connection");
            }
            return Ok(());
        }
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|w| w == needle)
}

fn content_length(head: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(head).ok()?;
    let value = text.lines().find_map(|l| l.split_once(':').filter(|(n, _)| n.eq_ignore_ascii_case("content-length")))?.1;
    value.trim().parse().ok()
}

/// Fills caches and pools.
pub async fn warm(addr: SocketAddr, ask: Ask) -> anyhow::Result<()> {
    let mut connection = Connection::open(addr, ask).await?;
    for _ in 0..200 {
        connection.once().await?;
    }
    Ok(())
}

/// As many requests as go through in `time`, over 64 connections.
pub async fn closed_loop(addr: SocketAddr, ask: Ask, time: Duration) -> anyhow::Result<Load> {
    let mut tasks = JoinSet::new();
    let until = Instant::now() + time;
    for _ in 0..CONNECTIONS {
        let mut connection = Connection::open(addr, ask).await?;
        tasks.spawn(async move {
            let mut done = 0u64;
            while Instant::now() < until {
                connection.once().await?;
                done += 1;
            }
            anyhow::Ok(done)
        });
    }
    let mut requests = 0;
    while let Some(done) = tasks.join_next().await {
        requests += done??;
    }
    Ok(Load { requests, per_second: requests as f64 / time.as_secs_f64(), cpu_us: 0.0 })
}

/// Latencies in microseconds at `rate` requests a second, counted from when each request was due.
pub async fn open_loop(addr: SocketAddr, ask: Ask, rate: f64, time: Duration) -> anyhow::Result<Vec<f64>> {
    let mut tasks = JoinSet::new();
    let start = Instant::now() + Duration::from_millis(50);
    let each = CONNECTIONS as f64 / rate;
    for n in 0..CONNECTIONS {
        let mut connection = Connection::open(addr, ask).await?;
        tasks.spawn(async move {
            let mut latencies = Vec::new();
            let mut due = start + Duration::from_secs_f64(n as f64 / rate);
            while due < start + time {
                tokio::time::sleep_until(due).await;
                // The timer has a resolution of 1 ms; what it adds is not the server's.
                let sent = Instant::now().max(due);
                connection.once().await?;
                latencies.push(sent.elapsed().as_secs_f64() * 1e6);
                due += Duration::from_secs_f64(each);
            }
            anyhow::Ok(latencies)
        });
    }
    let mut all = Vec::new();
    while let Some(latencies) = tasks.join_next().await {
        all.extend(latencies??);
    }
    Ok(all)
}

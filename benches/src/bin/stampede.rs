//! A thousand requests at once for one cold key, over sockets, with a provider that takes 100 ms: how many calls, and how much longer than the
//! provider the slowest waits. GET and an identical POST chat. The bar is one call and 150 ms.
#![allow(clippy::print_stdout)]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use farthing_bench::{Median, median, write};
use farthing_config::{Dialect, Mode, TtlBy};
use farthing_tests::origin::ok;
use farthing_tests::{Origin, Setup, Started};
use farthing_types::{Clock, RealClock};
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

const WAITERS: usize = 1_000;
const ROUNDS: usize = 7;
const UPSTREAM: Duration = Duration::from_millis(100);
const BAR_MS: f64 = 150.0;

#[derive(Serialize)]
struct Figures {
    waiters: usize,
    upstream_ms: f64,
    bar_ms: f64,
    kinds: Vec<Kind>,
}

#[derive(Serialize)]
struct Kind {
    method: String,
    /// Calls of each round.
    calls: Vec<usize>,
    /// How much longer than the provider the slowest waiter of each round waited, ms.
    beyond_ms: Vec<f64>,
    median_beyond_ms: Median,
    holds: bool,
}

async fn start(origin: &Origin) -> Started {
    let setup = Setup::new(origin.addr).provider(|p| p.dialect = Dialect::OpenAi).route(|r| {
        (r.ttl, r.mode, r.idempotent) = (TtlBy::Fixed(Duration::from_secs(3_600)), Mode::Override, true);
    });
    setup.start().await
}

async fn connections(started: &Started) -> anyhow::Result<Vec<SendRequest<Full<Bytes>>>> {
    let mut senders = Vec::with_capacity(WAITERS);
    let mut driven = JoinSet::new();
    for _ in 0..WAITERS {
        let (sender, connection) = handshake(TokioIo::new(TcpStream::connect(started.client.addr).await?)).await?;
        driven.spawn(async move { connection.await.is_ok() });
        senders.push(sender);
    }
    // They end with their senders.
    driven.detach_all();
    Ok(senders)
}

/// The slowest of all, ms.
async fn round(started: &Started, (method, number): (&Method, usize)) -> anyhow::Result<f64> {
    let clock = Arc::new(RealClock::default());
    let senders = connections(started).await?;
    let path = if *method == Method::GET { format!("/api/doc/{number}") } else { "/api/v1/chat/completions".to_owned() };
    let body = format!(r#"{{"model":"m","messages":[{{"role":"user","content":"question {number}"}}]}}"#);
    let body = if *method == Method::GET { Bytes::new() } else { body.into() };
    let mut asked = JoinSet::new();
    let began = clock.now();
    for mut sender in senders {
        let request = Request::builder().method(method).uri(&path).header("host", "farthing.test").body(Full::new(body.clone()))?;
        let clock = clock.clone();
        asked.spawn(async move {
            let response = sender.send_request(request).await?;
            anyhow::ensure!(response.status() == 200, "{}", response.status());
            response.into_body().collect().await?;
            Ok(clock.now().since(began).as_secs_f64() * 1e3)
        });
    }
    let mut slowest: f64 = 0.0;
    while let Some(took) = asked.join_next().await {
        slowest = slowest.max(took??);
    }
    Ok(slowest)
}

async fn kind(method: Method) -> anyhow::Result<Kind> {
    let origin = Origin::start(Arc::new(|_, _| {
        Box::pin(async {
            tokio::time::sleep(UPSTREAM).await;
            ok(r#"{"choices":[{"message":{"content":"answer"}}],"usage":{"prompt_tokens":9,"completion_tokens":3}}"#)
        })
    }))
    .await;
    let started = start(&origin).await;
    let (mut calls, mut beyond_ms) = (Vec::new(), Vec::new());
    for number in 0..ROUNDS {
        let before = origin.calls();
        beyond_ms.push(round(&started, (&method, number)).await? - UPSTREAM.as_secs_f64() * 1e3);
        calls.push(origin.calls() - before);
    }
    let worst = beyond_ms.iter().copied().fold(f64::MIN, f64::max);
    let holds = calls.iter().all(|calls| *calls == 1) && worst <= BAR_MS;
    println!("stampede {method}: calls {calls:?}; slowest waits for the provider + {worst:.0} ms in the worst round (bar {BAR_MS:.0})");
    Ok(Kind { method: method.to_string(), calls, median_beyond_ms: median(&beyond_ms), beyond_ms, holds })
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    let kinds = vec![kind(Method::GET).await?, kind(Method::POST).await?];
    let figures = Figures { waiters: WAITERS, upstream_ms: UPSTREAM.as_secs_f64() * 1e3, bar_ms: BAR_MS, kinds };
    println!("{}", write("stampede", &figures)?.display());
    Ok(())
}

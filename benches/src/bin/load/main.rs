//! The load bench: Farthing beside bare hyper, nginx, HAProxy and Varnish, as a report.
//!
//! Every server runs as a process of its own and answers the same bytes; CPU is its user and system time alone, over alternating rounds, and
//! compared as the ratio to bare hyper within the round (median with a bootstrap interval). Latency at a fixed rate is measured open loop, so
//! that a slow answer does not delay the next request.
#![allow(clippy::print_stdout)]

mod bare;
mod client;
mod peers;

use std::time::Duration;

use farthing_bench::{median, quantile, write};
use serde::Serialize;

use client::Load;
use peers::{Case, Peer};

/// One line of `target/results/load.json`.
#[derive(Serialize)]
struct Line {
    case: &'static str,
    peer: &'static str,
    cpu_us_per_request: f64,
    ratio_to_bare_hyper: f64,
    ratio_low: f64,
    ratio_high: f64,
    requests_per_s: f64,
    p50_us: f64,
    p95_us: f64,
    p99_us: f64,
}

/// Settings from the command line: `load [rounds] [seconds] [case ...]`, or a role of the processes it starts.
struct Settings {
    rounds: usize,
    round: Duration,
    /// Names of the cases to measure; all where there is none.
    cases: Vec<String>,
}

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match args.first().map(String::as_str) {
        Some("bare-origin") => return runtime.block_on(bare::origin()),
        Some("bare-proxy") => return runtime.block_on(bare::proxy(args.get(1).map_or("", String::as_str))),
        _ => {}
    }
    let number = |index: usize, default: u64| args.get(index).and_then(|a| a.parse().ok()).unwrap_or(default);
    let cases: Vec<String> = args.iter().skip(2).cloned().collect();
    if let Some(unknown) = cases.iter().find(|name| Case::ALL.iter().all(|case| case.name() != **name)) {
        anyhow::bail!("there is no case `{unknown}`: there are {}", Case::ALL.map(Case::name).join("; "));
    }
    let settings = Settings { rounds: number(0, 10) as usize, round: Duration::from_secs(number(1, 5)), cases };
    runtime.block_on(measure(&settings))
}

async fn measure(settings: &Settings) -> anyhow::Result<()> {
    let mut lines = Vec::new();
    let origin = peers::origin().await?;
    let named = |case: &Case| settings.cases.is_empty() || settings.cases.iter().any(|name| name == case.name());
    for case in Case::ALL.into_iter().filter(named) {
        let peers = peers::start(case, origin.addr).await?;
        for peer in &peers {
            client::warm(peer.addr, case.ask()).await?;
        }
        lines.extend(compare(case, &peers, settings).await?);
    }
    for line in &lines {
        println!(
            "{:<13} {:<12} {:>6.1} us CPU  {:>5.2}x [{:.2}, {:.2}]  {:>8.0}/s  at 2,000/s: p50 {:>6.0} p95 {:>6.0} p99 {:>6.0} us",
            line.case,
            line.peer,
            line.cpu_us_per_request,
            line.ratio_to_bare_hyper,
            line.ratio_low,
            line.ratio_high,
            line.requests_per_s,
            line.p50_us,
            line.p95_us,
            line.p99_us
        );
    }
    println!("{}", write("load", &lines)?.display());
    Ok(())
}

/// Alternates rounds over the peers of a case, then measures each at the fixed rate.
async fn compare(case: Case, peers: &[Peer], settings: &Settings) -> anyhow::Result<Vec<Line>> {
    let mut rounds: Vec<Vec<Load>> = vec![Vec::new(); peers.len()];
    for _ in 0..settings.rounds {
        for (peer, rounds) in peers.iter().zip(&mut rounds) {
            let before = peer.cpu()?;
            let mut load = client::closed_loop(peer.addr, case.ask(), settings.round).await?;
            load.cpu_us = (peer.cpu()?.saturating_sub(before)).as_micros() as f64 / load.requests.max(1) as f64;
            rounds.push(load);
        }
    }
    let bare: Vec<f64> = rounds.first().map(|r| r.iter().map(|l| l.cpu_us).collect()).unwrap_or_default();
    let mut lines = Vec::new();
    for (peer, loads) in peers.iter().zip(&rounds) {
        let ratios: Vec<f64> = loads.iter().zip(&bare).map(|(l, b)| l.cpu_us / b).collect();
        let ratio = median(&ratios);
        let of = |pick: fn(&Load) -> f64| quantile(&loads.iter().map(pick).collect::<Vec<_>>(), 0.5);
        let latencies = client::open_loop(peer.addr, case.ask(), 2_000.0, settings.round * 2).await?;
        lines.push(Line {
            case: case.name(),
            peer: peer.name,
            cpu_us_per_request: of(|l| l.cpu_us),
            ratio_to_bare_hyper: ratio.value,
            ratio_low: ratio.low,
            ratio_high: ratio.high,
            requests_per_s: of(|l| l.per_second),
            p50_us: quantile(&latencies, 0.5),
            p95_us: quantile(&latencies, 0.95),
            p99_us: quantile(&latencies, 0.99),
        });
    }
    Ok(lines)
}

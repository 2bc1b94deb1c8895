//! Leases on a real server and a real Cluster: the script does what the pure step says.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, clippy::disallowed_methods, reason = "a test")]

mod handles;
mod servers;

use std::time::{Duration, Instant};

use farthing_fleet::lease::{Ask, Claim, Ending, Holding, LeaseKey, LeaseOp, LeaseSaid, Record, Token, step};
use farthing_fleet::{Handle, RedisConfig};
use handles::{SOON, connected, patient};
use servers::{Cluster, Server};

const HOUR: Duration = Duration::from_secs(3_600);
const LEASE: LeaseKey<'_> = LeaseKey(b"{value}:lease");

fn ask(claim: u128, lasts: Duration) -> Ask {
    Ask { claim: Claim(claim), lasts, floor: Token(0), past: Token(0) }
}

async fn run(handle: &Handle, op: LeaseOp) -> LeaseSaid {
    LEASE.run(handle, op, SOON).await.unwrap()
}

async fn granted(handle: &Handle, ask: Ask) -> Holding {
    match run(handle, LeaseOp::Ask(ask)).await {
        LeaseSaid::Yours(token) => Holding { claim: ask.claim, token },
        said => panic!("{said:?}"),
    }
}

/// Operations that follow from a number: askings, renewals and ends of whoever has the lease and of others.
fn op(n: u64, record: Option<Record>) -> LeaseOp {
    let n = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33;
    let last = record.map_or(Holding { claim: Claim(0), token: Token(1) }, |record| record.last);
    let other = Holding { claim: Claim(u128::from(n % 5)), ..last };
    let whose = if n % 7 < 5 { last } else { other };
    match n % 11 {
        0..6 => {
            let floor = if n.is_multiple_of(13) { Token(last.token.0 + 1_000) } else { Token(0) };
            let past = if n % 17 < 9 { last.token } else { Token(0) };
            LeaseOp::Ask(Ask { floor, past, ..ask(u128::from(n % 5), HOUR) })
        }
        6..8 => LeaseOp::Renew(whose, HOUR),
        _ => LeaseOp::End(whose, Ending::ALL[n as usize % 4], HOUR),
    }
}

/// The server's answers are the pure step's, but for the time, which only the server knows.
async fn agrees(handle: &Handle) {
    let (mut record, mut seen) = (None, std::collections::HashSet::new());
    let mut now = 1_600_000_000_000_000;
    for n in 0..600 {
        let op = op(n, record);
        let said = run(handle, op).await;
        if let LeaseSaid::Yours(token) = said {
            now = now.max(token.0);
        }
        let (next, expected) = step(record, op, now);
        match (said, expected) {
            (LeaseSaid::Taken(token, left), LeaseSaid::Taken(same, _)) => {
                assert!(token == same && left <= HOUR && left > HOUR - Duration::from_secs(60), "{n}: {said:?}");
            }
            _ => assert_eq!(said, expected, "{n}: {op:?} on {record:?}"),
        }
        record = next;
        seen.insert(std::mem::discriminant(&said));
    }
    assert_eq!(seen.len(), 4, "every answer was met");
}

#[tokio::test]
async fn a_server_says_what_the_pure_step_says() {
    let Some(server) = Server::start(&[]) else { return };
    let handle = connected(patient(RedisConfig::single(server.url()))).await;
    agrees(&handle).await;
}

#[tokio::test]
async fn a_cluster_says_it_too_and_writes_beside_the_lease() {
    let Some(cluster) = Cluster::start() else { return };
    let handle = connected(patient(RedisConfig::cluster(cluster.urls()))).await;
    agrees(&handle).await;
    writes(&handle).await;
}

#[tokio::test]
async fn a_replica_that_takes_over_goes_on_with_what_it_has() {
    let Some(mut cluster) = Cluster::start() else { return };
    let handle = connected(patient(RedisConfig::cluster(cluster.urls()))).await;
    let holding = granted(&handle, ask(41, HOUR)).await;
    cluster.wait_for_replicas();
    let slot: u16 = cluster.nodes[0].ask(&["CLUSTER", "KEYSLOT", "value"]).trim_start_matches(':').parse().unwrap();
    let master = usize::from(slot > 5_460) + usize::from(slot > 10_922);
    cluster.nodes[master].kill();
    cluster.wait_for_promotion(master + 3);
    let start = Instant::now();
    let said = loop {
        assert!(start.elapsed() < Duration::from_secs(60), "nobody answers");
        if let Ok(said) = LEASE.run(&handle, LeaseOp::Renew(holding, HOUR), SOON).await {
            break said;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(said, LeaseSaid::Yours(holding.token), "it was replicated");
    assert_eq!(run(&handle, LeaseOp::End(holding, Ending::Released, HOUR)).await, LeaseSaid::Yours(holding.token));
    assert!(granted(&handle, ask(42, HOUR)).await.token > holding.token);
}

async fn write(handle: &Handle, holding: Holding, value: &'static str) -> LeaseSaid {
    LEASE.write(handle, (holding, HOUR), (b"value", value.as_bytes(), HOUR)).await.unwrap()
}

/// What is written under a lease is there exactly as long as the lease was the writer's.
async fn writes(handle: &Handle) {
    handle.delete(LEASE.0).await.unwrap();
    let first = granted(handle, ask(11, Duration::from_millis(1))).await;
    // Its time is over, and nobody else has it yet.
    let second = loop {
        if let LeaseSaid::Yours(token) = run(handle, LeaseOp::Ask(ask(12, HOUR))).await {
            break Holding { claim: Claim(12), token };
        }
    };
    assert!(second.token > first.token);
    assert_eq!(write(handle, first, "of a paused holder").await, LeaseSaid::Lost);
    assert_eq!(handle.get(b"value", 100).await.unwrap(), "");
    assert_eq!(write(handle, second, "new").await, LeaseSaid::Yours(second.token));
    assert_eq!(handle.get(b"value", 100).await.unwrap(), "new");
    assert_eq!(write(handle, second, "twice").await, LeaseSaid::Lost, "it has ended with the write");
    // Who comes next is told; who knows it already may have the lease.
    assert_eq!(run(handle, LeaseOp::Ask(ask(13, HOUR))).await, LeaseSaid::Ended(second.token, Ending::Done));
    let third = granted(handle, Ask { past: second.token, ..ask(13, HOUR) }).await;
    assert!(third.token > second.token);
}

#[tokio::test]
async fn a_clock_that_is_set_back_makes_no_lease_last_for_longer() {
    let Some(server) = Server::start(&[]) else { return };
    let handle = connected(patient(RedisConfig::single(server.url()))).await;
    // What stands there for an hour looks like one of a minute after the clock was set back.
    let holding = granted(&handle, ask(31, HOUR)).await;
    let minute = Duration::from_secs(60);
    for _ in 0..2 {
        let said = run(&handle, LeaseOp::Ask(ask(32, minute))).await;
        assert!(matches!(said, LeaseSaid::Taken(token, left) if token == holding.token && left <= minute), "{said:?}");
    }
    assert_eq!(run(&handle, LeaseOp::Renew(holding, HOUR)).await, LeaseSaid::Yours(holding.token), "it is still the holder's");
}

#[tokio::test]
async fn tokens_grow_over_an_emptied_server_and_past_what_an_asker_has_seen() {
    let Some(server) = Server::start(&[]) else { return };
    let handle = connected(patient(RedisConfig::single(server.url()))).await;
    writes(&handle).await;
    server.ask(&["FLUSHALL"]);
    let before = granted(&handle, ask(21, HOUR)).await;
    server.ask(&["FLUSHALL"]);
    assert_eq!(run(&handle, LeaseOp::Renew(before, HOUR)).await, LeaseSaid::Lost);
    assert_eq!(write(&handle, before, "old").await, LeaseSaid::Lost);
    let after = granted(&handle, ask(22, HOUR)).await;
    assert!(after.token > before.token);
    server.ask(&["FLUSHALL"]);
    // A server whose clock is an hour behind would give this.
    let ahead = Token(after.token.0 + 3_600_000_000);
    let later = granted(&handle, Ask { floor: ahead, ..ask(23, HOUR) }).await;
    assert_eq!(later.token.0, ahead.0 + 1);
}

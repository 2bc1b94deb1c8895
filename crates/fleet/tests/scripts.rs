//! Scripts on a real server and a real Cluster.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, clippy::disallowed_methods, reason = "a test")]

mod handles;
mod servers;

use std::time::{Duration, Instant};

use farthing_fleet::{Answer, Fault, RedisConfig, Script};
use handles::{SOON, connected, patient};
use servers::{Cluster, Server};

/// Moves one from the first key to the second, and tells both and the time.
const MOVE: &str = "
local from = redis.call('DECR', KEYS[1])
local into = redis.call('INCRBY', KEYS[2], ARGV[1])
return {from, into, redis.call('TIME'), redis.call('GET', KEYS[1])}";

/// From, into, seconds of the server.
fn moved(answer: &Answer) -> (i64, i64, i64) {
    let [from, into, time, text] = answer.list() else { panic!("{answer:?}") };
    assert_eq!(text.int(), from.int());
    (from.int().unwrap(), into.int().unwrap(), time.list()[0].int().unwrap())
}

#[tokio::test]
async fn a_script_is_loaded_once_and_again_where_it_is_gone() {
    let Some(server) = Server::start(&[]) else { return };
    let handle = connected(patient(RedisConfig::single(server.url()))).await;
    let script = Script::new(MOVE);
    let run = || handle.script(&script, &[b"{x}a", b"{x}b"], &[b"3"], SOON);
    let (from, into, first) = moved(&run().await.unwrap());
    assert_eq!((from, into), (-1, 3));
    server.ask(&["SCRIPT", "FLUSH"]);
    let (from, into, second) = moved(&run().await.unwrap());
    assert_eq!((from, into), (-2, 6));
    assert!(second >= first && first > 1_600_000_000, "the server's time");
    // One that fails half-way is refused, and not run a second time as if it were unknown.
    let broken = Script::new("redis.call('INCR', KEYS[1]) return redis.call('LPUSH', KEYS[1], 'x')");
    assert_eq!(handle.script(&broken, &[b"n"], &[], SOON).await, Err(Fault::Refused));
    assert_eq!(handle.script(&broken, &[b"n"], &[], SOON).await, Err(Fault::Refused));
    assert_eq!(server.ask(&["GET", "n"]), "2");
    assert_eq!(handle.script(&script, &[b"a", b"b"], &[b"3"], SOON).await, Err(Fault::Crossing));
    let stats = handle.stats();
    assert_eq!((stats.fault(Fault::Crossing), stats.fault(Fault::Refused), stats.opened), (1, 2, 0));
}

#[tokio::test]
async fn nothing_and_text_and_lists_come_back() {
    let Some(server) = Server::start(&[]) else { return };
    let handle = connected(patient(RedisConfig::single(server.url()))).await;
    for (text, answer) in [
        ("return nil", Answer::Nothing),
        ("return false", Answer::Nothing),
        ("return 2.9", Answer::Int(2)),
        ("return {}", Answer::List(vec![])),
        ("return {1, ARGV[1], false}", Answer::List(vec![Answer::Int(1), Answer::Bytes("x\0y".into()), Answer::Nothing])),
        ("return redis.call('SET', KEYS[1], 'v')", Answer::Bytes("OK".into())),
    ] {
        assert_eq!(handle.script(&Script::new(text), &[b"k"], &[b"x\0y"], SOON).await, Ok(answer), "{text}");
    }
}

#[tokio::test]
async fn a_frozen_server_is_late_and_a_script_may_run_all_the_same() {
    let Some(server) = Server::start(&[]) else { return };
    let handle = connected(patient(RedisConfig::single(server.url()))).await;
    let script = Script::new("return redis.call('INCR', KEYS[1])");
    assert_eq!(handle.script(&script, &[b"n"], &[], SOON).await, Ok(Answer::Int(1)));
    server.signal("-STOP");
    let start = Instant::now();
    assert_eq!(handle.script(&script, &[b"n"], &[], Duration::from_millis(100)).await, Err(Fault::Late));
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    server.signal("-CONT");
    servers::wait_for("it ran later", || server.ask(&["GET", "n"]) == "2");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_runs_scripts_where_their_keys_are() {
    let Some(mut cluster) = Cluster::start() else { return };
    let handle = connected(patient(RedisConfig::cluster(cluster.urls()))).await;
    let script = Script::new(MOVE);
    let run = async |n: u32| {
        let (a, b) = (format!("farthing:{{{n}}}:a"), format!("farthing:{{{n}}}:b"));
        handle.script(&script, &[a.as_bytes(), b.as_bytes()], &[b"1"], SOON).await
    };
    for round in 1..=2 {
        for n in 0..30 {
            let (from, into, _) = moved(&run(n).await.unwrap());
            assert_eq!((from, into), (-round, round), "{n}");
        }
    }
    assert_eq!(handle.script(&script, &[b"a", b"b"], &[b"1"], SOON).await, Err(Fault::Crossing));
    // A replica that takes over has the keys; the script it gets again where it lacks it.
    cluster.wait_for_replicas();
    cluster.nodes[0].kill();
    cluster.wait_for_promotion(3);
    let start = Instant::now();
    for n in 0..30 {
        let answer = loop {
            match run(n).await {
                Ok(answer) => break answer,
                Err(fault) => assert!(start.elapsed() < Duration::from_secs(30), "{fault}"),
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        // Nobody knows of a call without an answer whether it ran.
        assert!(moved(&answer).1 >= 3, "{answer:?}");
    }
}

//! Reading a stream of a real server: in order, over restarts, and noticing what was missed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, clippy::disallowed_methods, reason = "a test")]

mod servers;

use std::time::{Duration, Instant};

use farthing_fleet::{Fault, Position, RedisConfig, StreamNews, StreamReader};
use servers::Server;

const WAITING: Duration = Duration::from_millis(200);

fn reader(server: &Server, position: Option<Position>) -> StreamReader {
    StreamReader::new(&RedisConfig::single(server.url()), "events", position, WAITING).unwrap()
}

fn add(server: &Server, value: &str) {
    server.ask(&["XADD", "events", "*", "event", value]);
}

fn values(news: &StreamNews) -> Vec<String> {
    news.entries.iter().map(|entry| String::from_utf8(entry.fields[0].1.to_vec()).unwrap()).collect()
}

#[tokio::test]
async fn entries_come_in_order_and_none_is_missed_silently() {
    let Some(server) = Server::start(&[]) else { return };
    let mut events = reader(&server, None);
    let first = events.next().await.unwrap();
    assert!(first.missed && first.entries.is_empty(), "what was before is not known");
    let idle = events.next().await.unwrap();
    assert_eq!((idle.missed, idle.entries.len()), (false, 0), "a stream that does not exist is empty");
    for n in 0..200 {
        add(&server, &n.to_string());
    }
    let (one, two) = (events.next().await.unwrap(), events.next().await.unwrap());
    assert!(!one.missed && !two.missed && one.more && !two.more);
    assert_eq!([values(&one), values(&two)].concat(), (0..200).map(|n| n.to_string()).collect::<Vec<_>>());

    // Trimming what was read is no loss, nor is a reader that goes on from where another was.
    server.ask(&["XTRIM", "events", "MAXLEN", "0"]);
    assert!(!events.next().await.unwrap().missed);
    let kept = two.position.to_string().parse().unwrap();
    add(&server, "after");
    let mut other = reader(&server, Some(kept));
    assert_eq!(values(&other.next().await.unwrap()), ["after"]);
    assert_eq!(values(&events.next().await.unwrap()), ["after"]);

    // Trimming what was not read is.
    for n in 0..5 {
        add(&server, &n.to_string());
    }
    server.ask(&["XTRIM", "events", "MAXLEN", "3"]);
    let lost = events.next().await.unwrap();
    assert!(lost.missed && lost.entries.is_empty());
    add(&server, "next");
    let next = events.next().await.unwrap();
    assert_eq!((next.missed, values(&next)), (false, vec!["next".to_owned()]));
    server.ask(&["DEL", "events"]);
    assert!(events.next().await.unwrap().missed, "begun anew");
    server.ask(&["SET", "events", "no stream"]);
    assert_eq!(events.next().await, Err(Fault::Refused));
}

#[tokio::test]
async fn a_server_that_is_frozen_or_killed_is_a_fault_in_time_and_loses_nothing() {
    let Some(mut server) = Server::start(&["--appendonly", "yes", "--appendfsync", "always"]) else { return };
    let mut events = reader(&server, None);
    events.next().await.unwrap();
    add(&server, "one");
    assert_eq!(values(&events.next().await.unwrap()), ["one"]);
    server.signal("-STOP");
    let start = Instant::now();
    assert_eq!(events.next().await, Err(Fault::Late));
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    server.signal("-CONT");
    add(&server, "two");
    assert_eq!(values(&events.next().await.unwrap()), ["two"]);
    add(&server, "three");
    server.kill();
    assert!(events.next().await.is_err());
    server.restart();
    let back = events.next().await.unwrap();
    assert_eq!((back.missed, values(&back)), (false, vec!["three".to_owned()]));
}

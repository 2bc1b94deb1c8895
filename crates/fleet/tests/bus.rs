//! The bus on a real server and a real Cluster: one order for all, and no loss that is not noticed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, clippy::disallowed_methods, reason = "a test")]

mod handles;
mod servers;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use farthing_fleet::{Bus, BusNews, BusPosition, Fault, Password, RedisConfig};
use handles::{SOON, connected, patient};
use servers::{Cluster, Server};

const STREAM: &str = "farthing:{t:bus}:stream";

/// Nonces are never used twice.
fn nonce() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("n{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

struct Member {
    bus: Bus,
    name: &'static str,
    position: BusPosition,
}

impl Member {
    async fn of(config: RedisConfig, name: &'static str) -> Self {
        let handle = connected(patient(config)).await;
        let key = |what: &str| format!("farthing:{{t:bus}}:{what}").into_bytes();
        Self { bus: Bus::new(handle, [key("stream"), key("flags"), key("members")], SOON), name, position: BusPosition::default() }
    }

    async fn tell(&self, text: &str) -> u64 {
        self.bus.tell((&nonce(), text.as_bytes()), &[], &nonce(), self.position.number).await.unwrap().number
    }

    async fn hear(&mut self) -> BusNews {
        let news = self.bus.hear(&self.position, &nonce(), (self.name, "well")).await.unwrap();
        if let Some(last) = news.messages.last() {
            self.position = last.at.clone();
        }
        news
    }

    /// Everything until there is no more; whether all of it followed.
    async fn hear_all(&mut self) -> (bool, Vec<String>) {
        let (mut follows, mut heard) = (true, Vec::new());
        loop {
            let news = self.hear().await;
            follows &= news.follows;
            let text = |body: &Bytes| String::from_utf8(body.to_vec()).unwrap();
            heard.extend(news.messages.iter().map(|message| message.body.as_ref().map_or("(begin)".to_owned(), text)));
            if !news.more {
                return (follows, heard);
            }
        }
    }
}

fn texts(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

#[tokio::test]
async fn everybody_hears_everything_in_one_order() {
    let Some(server) = Server::start(&[]) else { return };
    let (mut a, mut b) =
        (Member::of(RedisConfig::single(server.url()), "a").await, Member::of(RedisConfig::single(server.url()), "b").await);
    assert_eq!(a.hear_all().await, (false, texts(&["(begin)"])), "what was before is not known");
    assert_eq!(a.hear_all().await, (true, vec![]));
    for n in 0..300 {
        let teller = if n % 3 == 0 { &b } else { &a };
        teller.tell(&n.to_string()).await;
    }
    let all: Vec<String> = (0..300).map(|n| n.to_string()).collect();
    assert_eq!(a.hear_all().await, (true, all.clone()));
    let (follows, heard) = b.hear_all().await;
    assert_eq!((follows, &heard[1..]), (false, &all[..]));
    assert_eq!(a.position, b.position);
    let members = b.hear().await.members;
    let mut names: Vec<_> = members.iter().map(|member| (member.name.as_str(), member.says.as_str())).collect();
    names.sort_unstable();
    assert_eq!(names, [("a", "well"), ("b", "well")]);
}

#[tokio::test]
async fn whatever_is_lost_is_noticed() {
    let Some(server) = Server::start(&[]) else { return };
    let mut a = Member::of(RedisConfig::single(server.url()), "a").await;
    let mut b = Member::of(RedisConfig::single(server.url()), "b").await;
    a.hear_all().await;
    b.hear_all().await;
    a.tell("one").await;
    b.hear_all().await;
    // Trimmed before it was read.
    a.tell("two").await;
    a.tell("three").await;
    server.ask(&["XTRIM", STREAM, "MAXLEN", "1"]);
    assert_eq!(a.hear_all().await, (false, texts(&["three"])));
    assert_eq!(b.hear_all().await, (false, texts(&["three"])));
    // Emptied; somebody tells something before anybody listens.
    let before = b.position.number;
    server.ask(&["FLUSHALL"]);
    assert!(a.tell("four").await > before, "numbers grow");
    assert_eq!(b.hear_all().await, (false, texts(&["(begin)", "four"])));
    assert_eq!(a.hear_all().await, (false, texts(&["(begin)", "four"])));
    // Another history with the same numbers, as of a replica that lacked the last messages.
    let last = a.position.number.to_string();
    a.tell("five").await;
    b.hear_all().await;
    let lost = b.position.number;
    server.ask(&["XDEL", STREAM, &format!("{lost}-0")]);
    server.ask(&["DEL", STREAM]);
    server.ask(&["XADD", STREAM, &format!("{last}-0"), "n", std::str::from_utf8(&a.position.nonce).unwrap(), "m", "four"]);
    for (number, text) in [(lost, "other five"), (lost + 1, "other six")] {
        server.ask(&["XADD", STREAM, &format!("{number}-0"), "n", &nonce(), "m", text]);
    }
    let (follows, heard) = b.hear_all().await;
    assert_eq!((follows, heard.last().map(String::as_str)), (false, Some("(begin)")), "it had heard another five");
    // Who tells something before it hears that sees that it does not follow on what it has heard.
    let told = a.bus.tell((&nonce(), b"seven"), &[], &nonce(), a.position.number).await.unwrap();
    assert!(told.number > a.position.number && told.after != a.position.nonce);
    // Who had not heard it learns all the same that something may be lost.
    assert_eq!(a.hear_all().await, (true, texts(&["other five", "other six", "(begin)", "seven"])));
    // A server whose stream is shorter than what was heard.
    server.ask(&["DEL", STREAM]);
    server.ask(&["XADD", STREAM, "7-0", "n", "x", "m", "old"]);
    let before = a.position.number;
    let (follows, _) = a.hear_all().await;
    assert!(!follows && a.position.number > before);
}

/// One without room tells what it knows and takes nothing new; a master without the replicas that it should have tells nothing.
#[tokio::test]
async fn a_full_server_is_heard_and_one_on_its_own_is_not() {
    let Some(server) = Server::start(&["--maxmemory-policy", "noeviction"]) else { return };
    let mut a = Member::of(RedisConfig::single(server.url()), "a").await;
    a.hear_all().await;
    a.tell("one").await;
    server.ask(&["CONFIG", "SET", "maxmemory", "1"]);
    assert_eq!(a.hear_all().await, (true, texts(&["one"])));
    assert_eq!(a.bus.tell((&nonce(), b"two"), &[], &nonce(), 0).await, Err(Fault::Refused));
    server.ask(&["CONFIG", "SET", "maxmemory", "0"]);
    server.ask(&["CONFIG", "SET", "min-replicas-to-write", "1"]);
    assert_eq!(a.bus.hear(&a.position, &nonce(), ("a", "")).await, Err(Fault::Refused));
}

/// What `docs/fleet.md` says that a user of its own needs.
#[tokio::test]
async fn a_user_with_few_rights_can_belong() {
    let Some(server) = Server::with_password("secret", &[]) else { return };
    let rights = ["+@scripting", "+@stream", "+@hash", "+@string", "+@keyspace", "+@connection", "+time"];
    let user = [&["ACL", "SETUSER", "fleet", "on", ">another", "~farthing:{t:*"], &rights[..]].concat();
    assert_eq!(server.ask(&user), "+OK");
    let user = Some("fleet".to_owned());
    let mut a = Member::of(RedisConfig { user, password: Some(Password::new("another")), ..RedisConfig::single(server.url()) }, "a").await;
    a.hear_all().await;
    a.tell("one").await;
    assert_eq!(a.hear_all().await, (true, texts(&["one"])));
    a.bus.tell((&nonce(), b"x"), &[("flag".to_owned(), "1".into())], &nonce(), 0).await.unwrap();
}

#[tokio::test]
async fn flags_that_are_up_are_told_to_who_comes() {
    let Some(server) = Server::start(&[]) else { return };
    let mut a = Member::of(RedisConfig::single(server.url()), "a").await;
    let flag = |name: &str, value: &'static str| vec![(name.to_owned(), Bytes::from_static(value.as_bytes()))];
    for flags in [flag("x", "1"), flag("y", "2"), flag("x", "")] {
        a.bus.tell((&nonce(), b"flag"), &flags, &nonce(), 0).await.unwrap();
    }
    assert_eq!(a.hear().await.flags, flag("y", "2"));
    assert!(a.hear().await.flags.is_empty(), "only who lacks something");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_loses_its_master_loses_nothing_unnoticed() {
    let Some(mut cluster) = Cluster::start() else { return };
    let mut a = Member::of(RedisConfig::cluster(cluster.urls()), "a").await;
    a.hear_all().await;
    a.tell("one").await;
    assert_eq!(a.hear_all().await, (true, texts(&["one"])));
    cluster.wait_for_replicas();
    let at = (0..3).find(|at| cluster.nodes[*at].ask(&["EXISTS", STREAM]) == ":1").unwrap();
    cluster.nodes[at].kill();
    cluster.wait_for_promotion(at + 3);
    let start = Instant::now();
    let news = loop {
        match a.bus.hear(&a.position, &nonce(), ("a", "")).await {
            Ok(news) => break news,
            Err(fault) => assert!(start.elapsed() < Duration::from_secs(30), "{fault}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    assert_eq!((news.follows, news.messages.len()), (true, 0));
}

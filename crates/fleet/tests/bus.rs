//! The bus on a real server and a real Cluster: one order for all, and no loss that is not noticed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, clippy::disallowed_methods, reason = "a test")]

mod handles;
mod servers;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use farthing_fleet::{Bus, BusAsked, BusFlag, BusNews, BusPlace, BusPosition, BusSaid, BusServer, EntryId, Fault, Password, RedisConfig};
use farthing_types::Time;
use handles::{SOON, connected, patient};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use servers::{Cluster, Server};

const STREAM: &str = "farthing:{t:bus}:stream";

/// Nonces are never used twice.
fn nonce() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("n{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

fn said(text: &str) -> BusSaid {
    BusSaid { nonce: nonce(), body: text.as_bytes().to_vec(), ..BusSaid::default() }
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
        Self {
            bus: Bus::new(handle, [key("stream"), key("flags"), key("members"), key("sources")], SOON),
            name,
            position: BusPosition::default(),
        }
    }

    async fn tell(&self, text: &str) -> u64 {
        self.bus.tell(&said(text), &nonce(), self.position.number).await.unwrap().number
    }

    fn asks(&self) -> BusAsked {
        BusAsked { after: self.position.clone(), ..BusAsked::default() }
    }

    async fn hear(&mut self) -> BusNews {
        let news = self.bus.hear(&self.asks(), &nonce(), (self.name, "well")).await.unwrap();
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
    let told = a.bus.tell(&said("seven"), &nonce(), a.position.number).await.unwrap();
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
    assert_eq!(a.bus.tell(&said("two"), &nonce(), 0).await, Err(Fault::Refused));
    server.ask(&["CONFIG", "SET", "maxmemory", "0"]);
    server.ask(&["CONFIG", "SET", "min-replicas-to-write", "1"]);
    assert_eq!(a.bus.hear(&a.asks(), &nonce(), ("a", "")).await, Err(Fault::Refused));
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
    let place = BusPlace { source: "shop".to_owned(), place: EntryId(1, 2), anew: false };
    let all = BusSaid { flags: vec![flag("flag", 1, "1")], of: Some(place), ..said("x") };
    assert!(a.bus.tell(&all, &nonce(), 0).await.unwrap().told);
}

fn flag(name: &str, at: i64, value: &'static str) -> BusFlag {
    BusFlag { name: name.to_owned(), at: Time::from_nanos(at), value: Bytes::from_static(value.as_bytes()) }
}

#[tokio::test]
async fn flags_that_are_up_are_told_to_who_comes() {
    let Some(server) = Server::start(&[]) else { return };
    let mut a = Member::of(RedisConfig::single(server.url()), "a").await;
    // Of two orders the later one holds, also where the earlier one is told once more, or late. Times are longer than what a script's numbers hold.
    for flag in [
        flag("x", year(), "1"),
        flag("y", year() + 7, "2"),
        flag("x", year() + 1, ""),
        flag("x", year(), "1"),
        flag("y", year() + 6, ""),
        flag("y", year() + 7, "other"),
    ] {
        a.bus.tell(&BusSaid { flags: vec![flag], ..said("flag") }, &nonce(), 0).await.unwrap();
    }
    assert_eq!(a.hear().await.flags, [flag("y", year() + 7, "2")]);
    assert!(a.hear().await.flags.is_empty(), "only who lacks something");
}

/// What all instances read from one source is told by the first of them; and in any case where the source may have begun anew.
#[tokio::test]
async fn what_all_have_read_is_told_once() {
    let Some(server) = Server::start(&[]) else { return };
    let mut a = Member::of(RedisConfig::single(server.url()), "a").await;
    a.hear_all().await;
    let place = |source: &str, millis, number, anew| BusPlace { source: source.to_owned(), place: EntryId(millis, number), anew };
    let tell =
        async |a: &Member, text: &str, of| a.bus.tell(&BusSaid { of: Some(of), ..said(text) }, &nonce(), a.position.number).await.unwrap();
    let first = tell(&a, "9-1", place("shop", 9, 1, false)).await;
    let other = tell(&a, "other", place("bazaar", 9, 0, false)).await;
    assert!(first.told && other.told);
    // A longer number is a greater one.
    for (place, told) in [
        (place("shop", 9, 1, false), false),
        (place("shop", 9, 0, false), false),
        (place("shop", 10, 0, false), true),
        (place("shop", 9, 5, false), false),
        (place("shop", 3, 0, true), true),
        (place("shop", 3, 1, false), true),
    ] {
        let done = tell(&a, &format!("{}", place.place), place.clone()).await;
        assert_eq!(done.told, told, "{place:?}");
        assert!(done.number > first.number);
    }
    assert_eq!(a.hear_all().await, (true, texts(&["9-1", "other", "10-0", "3-0", "3-1"])));
    // What was told of a source says nothing where the stream is lost.
    server.ask(&["DEL", STREAM]);
    assert!(tell(&a, "3-1", place("shop", 3, 1, false)).await.told);
}

/// What a server does is what its model does, which the simulation of purges runs.
#[tokio::test]
async fn the_model_does_what_the_server_does() {
    // Above any time: so numbers follow from what was heard alone.
    const HIGH: u64 = 8_000_000_000_000_000;
    let Some(server) = Server::start(&[]) else { return };
    let config = || RedisConfig::single(server.url());
    let members = [Member::of(config(), "a").await, Member::of(config(), "b").await, Member::of(config(), "c").await];
    let [mut positions, mut own] = [(); 2].map(|()| [(); 3].map(|()| BusPosition::default()));
    let (mut model, mut draws, mut seen) = (BusServer::default(), StdRng::seed_from_u64(7), [0; 4]);
    for round in 0..1_500u64 {
        let who = draws.random_range(0..3);
        match draws.random_range(0..100) {
            0..45 => {
                let at = |draws: &mut StdRng| year() + draws.random_range(0..40);
                let name = |draws: &mut StdRng| ["x", "y"][draws.random_range(0..2)];
                let flags = (0..draws.random_range(0..3))
                    .map(|_| flag(name(&mut draws), at(&mut draws), ["", "up"][draws.random_range(0..2)]))
                    .collect();
                let place = EntryId(draws.random_range(5..15), draws.random_range(0..12));
                let of =
                    draws.random_bool(0.4).then(|| BusPlace { source: name(&mut draws).to_owned(), place, anew: draws.random_bool(0.1) });
                let (said, beginning) = (BusSaid { flags, of, ..said(&round.to_string()) }, nonce());
                let known = positions[who].number.max(HIGH);
                let told = members[who].bus.tell(&said, &beginning, known).await.unwrap();
                assert_eq!(told, model.tell(&said, &beginning, known, 0), "{round}");
                seen[0] += u32::from(!told.told);
                // Also one that the server does not know.
                let nonce = if draws.random_bool(0.1) { "other".to_owned() } else { said.nonce };
                own[who] = if told.told { BusPosition { number: told.number, nonce: nonce.into() } } else { BusPosition::default() };
            }
            45..96 if model.beginnings() > 0 || positions[who].number > 0 => {
                let new = nonce();
                let told = if draws.random_bool(0.2) { own[who].clone() } else { BusPosition::default() };
                let asked = BusAsked { after: positions[who].clone(), told };
                let news = members[who].bus.hear(&asked, &new, ("m", "")).await.unwrap();
                let mut expected = model.hear(&asked, &new, 0);
                expected.members.clone_from(&news.members);
                let by_name = |flags: &[BusFlag]| {
                    let mut flags = flags.to_vec();
                    flags.sort_by(|a, b| a.name.cmp(&b.name));
                    flags
                };
                expected.flags = by_name(&expected.flags);
                seen[1] += u32::from(!news.follows && positions[who].number > 0);
                seen[2] += u32::from(!news.flags.is_empty());
                let last = news.messages.last().map(|last| last.at.clone());
                assert_eq!(BusNews { flags: by_name(&news.flags), ..news }, expected, "{round}");
                positions[who] = last.unwrap_or_else(|| positions[who].clone());
            }
            96 | 97 => {
                server.ask(&["XTRIM", STREAM, "MAXLEN", "3"]);
                model.trim(3);
            }
            98 if round > 300 => {
                server.ask(&["FLUSHALL"]);
                (model, seen[3]) = (BusServer::default(), seen[3] + 1);
            }
            _ => {}
        }
    }
    assert!(seen.iter().all(|count| *count > 3), "{seen:?}");
}

const fn year() -> i64 {
    1_700_000_000_000_000_000
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
        match a.bus.hear(&a.asks(), &nonce(), ("a", "")).await {
            Ok(news) => break news,
            Err(fault) => assert!(start.elapsed() < Duration::from_secs(30), "{fault}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    assert_eq!((news.follows, news.messages.len()), (true, 0));
}

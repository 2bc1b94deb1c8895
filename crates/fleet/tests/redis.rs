//! The handle against real servers: that it works, and that nothing a server does makes it wait for longer than its deadline.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, clippy::disallowed_methods, reason = "a test")]

mod handles;
mod servers;

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use farthing_fleet::{Fault, Handle, Password, RedisConfig, Script, Tls};
use handles::{connected, patient, until};
use servers::{Cluster, Server};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::TaskTracker;

const DEADLINE: Duration = Duration::from_millis(5);
/// What a busy machine may add to a deadline.
const SLACK: Duration = Duration::from_millis(250);
const HOUR: Duration = Duration::from_secs(3600);

/// Gets until one succeeds, for at most thirty seconds; none may take longer than the deadline.
async fn resumes(handle: &Handle, key: &[u8]) -> Vec<u8> {
    let start = Instant::now();
    loop {
        let one = Instant::now();
        let got = handle.get(key, 100).await;
        assert!(one.elapsed() < DEADLINE + SLACK, "{:?}", one.elapsed());
        if let Ok(value) = got {
            return value.to_vec();
        }
        assert!(start.elapsed() < Duration::from_secs(30), "{got:?} {:?}", handle.stats());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn values_are_set_read_cut_expired_and_deleted() {
    let Some(server) = Server::start(&[]) else { return };
    let handle = connected(patient(RedisConfig::single(server.url()))).await;
    assert_eq!(handle.get(b"k", 100).await.unwrap(), "");
    handle.set(b"k", b"a\r\nvalue", HOUR).await.unwrap();
    assert_eq!(handle.get(b"k", 100).await.unwrap(), "a\r\nvalue");
    assert_eq!(handle.get(b"k", 4).await.unwrap(), "a\r\nv", "no more than asked for is read");
    handle.delete(b"k").await.unwrap();
    assert_eq!(handle.get(b"k", 100).await.unwrap(), "");
    handle.set(b"k", b"soon", Duration::from_nanos(1)).await.unwrap();
    until("expired", || server.ask(&["EXISTS", "k"]) == ":0").await;
    // A key of another type is a refusal, and no reason to open the breaker.
    server.ask(&["LPUSH", "list", "x"]);
    for _ in 0..5 {
        assert_eq!(handle.get(b"list", 10).await, Err(Fault::Refused));
    }
    let stats = handle.stats();
    assert_eq!((stats.fault(Fault::Refused), stats.connected, stats.opened, stats.in_flight), (5, 1, 0, 0));
    assert!(stats.done >= 7);
}

#[tokio::test]
async fn a_full_server_refuses_writes_and_still_reads() {
    let Some(server) = Server::start(&["--maxmemory", "3mb", "--maxmemory-policy", "noeviction"]) else { return };
    let handle = connected(patient(RedisConfig::single(server.url()))).await;
    let large = vec![1; 100_000];
    let mut refused = 0;
    for n in 0..60 {
        match handle.set(format!("k{n}").as_bytes(), &large, HOUR).await {
            Ok(()) => {}
            Err(fault) => {
                assert_eq!(fault, Fault::Refused);
                refused += 1;
            }
        }
    }
    assert!(refused > 0);
    assert_eq!(handle.get(b"k0", 200_000).await.unwrap().len(), large.len());
    assert_eq!(handle.stats().opened, 0);
}

#[tokio::test]
async fn passwords_and_acl_users() {
    let Some(server) = Server::with_password("a secret", &[]) else { return };
    assert_eq!(server.ask(&["ACL", "SETUSER", "farthing", "on", ">another", "~farthing:*", "+@all"]), "+OK");
    let with = |user: Option<&str>, password: &str| RedisConfig {
        user: user.map(str::to_owned),
        password: Some(Password::new(password)),
        ..patient(RedisConfig::single(server.url()))
    };
    for (user, password) in [(None, "a secret"), (Some("farthing"), "another")] {
        let handle = connected(with(user, password)).await;
        handle.set(b"farthing:x", b"1", HOUR).await.unwrap();
        let elsewhere = handle.set(b"elsewhere", b"1", HOUR).await;
        assert_eq!(elsewhere, if user.is_some() { Err(Fault::Refused) } else { Ok(()) });
    }
    for (user, password) in [(None, "wrong"), (Some("farthing"), "a secret"), (Some("nobody"), "another")] {
        let tasks = TaskTracker::new();
        let handle = Handle::start(&with(user, password), &tasks).unwrap();
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(200) {
            assert_eq!(handle.get(b"farthing:x", 1).await, Err(Fault::Unavailable));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        // The task ends with the last handle.
        drop(handle);
        tasks.close();
        tokio::time::timeout(Duration::from_secs(10), tasks.wait()).await.unwrap();
    }
}

#[tokio::test]
async fn tls_with_an_authority_of_ones_own() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
    std::fs::write(file("cert"), certificate.pem()).unwrap();
    std::fs::write(file("key"), key.serialize_pem()).unwrap();
    let port = servers::free_port();
    let (port_text, cert, key) = (port.to_string(), file("cert"), file("key"));
    let args = [
        "--tls-port",
        &port_text,
        "--tls-cert-file",
        &cert,
        "--tls-key-file",
        &key,
        "--tls-ca-cert-file",
        &cert,
        "--tls-auth-clients",
        "no",
    ];
    let Some(_server) = Server::start_at(port, &args) else { return };
    let url = format!("rediss://localhost:{port}");
    let trusting = Tls { authorities: Some(certificate.pem().into_bytes()) };
    let handle = connected(RedisConfig { tls: trusting, ..patient(RedisConfig::single(url.clone())) }).await;
    handle.set(b"k", b"over tls", HOUR).await.unwrap();
    assert_eq!(handle.get(b"k", 100).await.unwrap(), "over tls");
    // Who does not know the authority does not talk to it.
    let handle = Handle::start(&patient(RedisConfig::single(url)), &TaskTracker::new()).unwrap();
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(300) {
        assert_eq!(handle.get(b"k", 1).await, Err(Fault::Unavailable));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn nobody_there_is_said_without_waiting_and_mended_in_the_background() {
    let Some(mut server) = Server::start(&[]) else { return };
    server.kill();
    let handle = Handle::start(&RedisConfig::single(server.url()), &TaskTracker::new()).unwrap();
    for _ in 0..100 {
        let start = Instant::now();
        assert_eq!(handle.get(b"k", 1).await, Err(Fault::Unavailable));
        assert!(start.elapsed() < SLACK);
    }
    server.restart();
    resumes(&handle, b"k").await;
}

/// A frozen peer: every operation ends within its deadline, the breaker opens, and it goes on when the peer does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_server_costs_a_few_deadlines_and_then_nothing() {
    let Some(server) = Server::start(&[]) else { return };
    let handle = connected(RedisConfig::single(server.url())).await;
    until_ok(&handle).await;
    for round in 0..3 {
        server.signal("-STOP");
        let (mut waits, mut late) = (Vec::new(), 0);
        for _ in 0..300 {
            let start = Instant::now();
            match handle.get(b"k", 100).await.unwrap_err() {
                Fault::Late => late += 1,
                fault => assert_eq!(fault, Fault::Unavailable),
            }
            waits.push(start.elapsed());
        }
        waits.sort();
        eprintln!("round {round}: {late} late of 300, p50 {:?}, p99 {:?}, longest {:?}", waits[150], waits[297], waits[299]);
        assert!(late <= 3, "the breaker opens after three");
        assert!(waits[299] < DEADLINE + SLACK && waits[270] < DEADLINE, "{:?} {:?}", waits[299], waits[270]);
        assert_eq!(handle.stats().open_breakers, 1);
        server.signal("-CONT");
        resumes(&handle, b"k").await;
        assert_eq!(handle.get(b"k", 100).await.unwrap(), "v");
    }
}

async fn until_ok(handle: &Handle) {
    let start = Instant::now();
    while handle.set(b"k", b"v", HOUR).await.is_err() {
        assert!(start.elapsed() < Duration::from_secs(30));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_is_found_again_when_it_is_back() {
    let Some(mut server) = Server::start(&[]) else { return };
    let handle = connected(RedisConfig::single(server.url())).await;
    until_ok(&handle).await;
    for _ in 0..3 {
        server.kill();
        let mut unavailable = 0;
        for _ in 0..200 {
            let start = Instant::now();
            let fault = handle.get(b"k", 100).await.unwrap_err();
            assert!(start.elapsed() < DEADLINE + SLACK);
            unavailable += usize::from(fault == Fault::Unavailable);
        }
        assert!(unavailable >= 195, "{unavailable}");
        server.restart();
        resumes(&handle, b"k").await;
    }
}

/// An address that leads to one server, and later to another, as a name or a virtual address does after a failover. Connections that there are stay
/// where they are.
async fn address(leads_to: Arc<AtomicU16>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let port = leads_to.load(Ordering::Relaxed);
            tokio::spawn(async move {
                let mut server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                let _ended = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    url
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_that_has_become_a_replica_is_left_for_the_one_that_the_address_leads_to() {
    let (Some(old), Some(new)) = (Server::start(&[]), Server::start(&[])) else { return };
    let leads_to = Arc::new(AtomicU16::new(old.port));
    let handle = connected(patient(RedisConfig::single(address(leads_to.clone()).await))).await;
    let script = Script::new("return redis.call('HSET', KEYS[1], 'a', '1')");
    handle.script(&script, &[b"h"], &[], Duration::from_secs(2)).await.unwrap();
    assert_eq!(old.ask(&["REPLICAOF", "127.0.0.1", &new.port.to_string()]), "+OK");
    assert_eq!(handle.script(&script, &[b"h"], &[], Duration::from_secs(2)).await, Err(Fault::Replica));
    assert!(handle.set(b"k", b"v", HOUR).await.is_err());
    leads_to.store(new.port, Ordering::Relaxed);
    until_ok(&handle).await;
    assert_eq!(new.ask(&["GET", "k"]), "v");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_at_once_are_bounded_and_none_waits_longer() {
    let Some(server) = Server::start(&[]) else { return };
    let handle = connected(RedisConfig { max_in_flight: 50, ..RedisConfig::single(server.url()) }).await;
    server.signal("-STOP");
    let one = |handle: Handle| async move {
        let start = Instant::now();
        let fault = handle.get(b"k", 1).await.unwrap_err();
        assert!(start.elapsed() < DEADLINE + SLACK);
        fault
    };
    // As one task: however slow the machine is, none gives up before the last has asked.
    let all = futures_util::future::join_all((0..500).map(|_| one(handle.clone())));
    let faults = tokio::task::unconstrained(all).await;
    let count = |fault| faults.iter().filter(|f| **f == fault).count();
    // Some take the place of those that gave up, until the breaker has opened.
    assert!(count(Fault::Late) <= 100 && count(Fault::Busy) > 0, "late {} busy {}", count(Fault::Late), count(Fault::Busy));
    assert_eq!(handle.stats().in_flight, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_loses_a_master_and_the_others_go_on() {
    let Some(mut cluster) = Cluster::start() else { return };
    let handle = connected(patient(RedisConfig::cluster(cluster.urls()))).await;
    let keys: Vec<String> = (0..200).map(|n| format!("farthing:l2:{n}")).collect();
    for key in &keys {
        handle.set(key.as_bytes(), key.as_bytes(), HOUR).await.unwrap();
    }
    let quick = connected(RedisConfig::cluster(cluster.urls())).await;
    cluster.wait_for_replicas();
    for how in ["-STOP", "-KILL"] {
        let at = if how == "-STOP" { 0 } else { 1 };
        if how == "-KILL" {
            cluster.nodes[at].kill()
        } else {
            cluster.nodes[at].signal(how)
        }
        let (mut hits, mut asked, start) = (0, 0, Instant::now());
        let mut longest = Duration::ZERO;
        while start.elapsed() < Duration::from_millis(700) {
            for key in &keys {
                let one = Instant::now();
                hits += usize::from(quick.get(key.as_bytes(), 100).await.is_ok_and(|v| v == key.as_bytes()));
                asked += 1;
                longest = longest.max(one.elapsed());
            }
        }
        eprintln!("{how}: {hits} hits of {asked} while a master of three is away, longest {longest:?}, {:?}", quick.stats());
        assert!(longest < DEADLINE + SLACK, "{longest:?}");
        assert!(hits * 3 > asked, "the other two masters go on: {hits} of {asked}");
        cluster.wait_for_promotion(at + 3);
        let start = Instant::now();
        for key in &keys {
            assert_eq!(resumes(&quick, key.as_bytes()).await, key.as_bytes(), "replicated before the master went");
        }
        eprintln!("{how}: all keys again {:?} after the promotion", start.elapsed());
        if how == "-STOP" {
            cluster.nodes[at].signal("-CONT");
        }
    }
}

//! Three instances behind HAProxy, as docs/examples/haproxy.cfg has it: a rolling restart fails no request, a kill -9 no idempotent one (K5).

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use farthing_tests::origin::{answer_of, ok};
use farthing_tests::skip::skip;
use farthing_tests::{Client, Origin};
use http::{Method, StatusCode};
use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::task::JoinSet;

use crate::l2::servers::{Server, free_port};
use crate::program::{Serving, built};

const CLIENTS: u64 = 12;
const EXAMPLE: &str = include_str!("../../docs/examples/haproxy.cfg");

struct Instance {
    dir: TempDir,
    ports: (u16, u16),
    running: Option<Serving>,
}

impl Instance {
    fn new(origin: &Origin, redis: &Server) -> Self {
        let (dir, ports) = (tempfile::tempdir().unwrap(), (free_port(), free_port()));
        let config = format!(
            "salt = {{ file = \"salt\" }}\n[data]\nlisten = \"127.0.0.1:{}\"\ndrain_delay = \"2s\"\n[admin]\nlisten = \"127.0.0.1:{}\"\n\
             [models]\ndir = \"no-models\"\n[holdout]\nshare = 0\n[l2]\nkind = \"redis\"\naddresses = [\"{}\"]\n\
             [providers.geo]\nbase_url = \"http://{}\"\nprice = \"0.002\"\n",
            ports.0,
            ports.1,
            redis.url(),
            origin.addr
        );
        std::fs::write(dir.path().join("salt"), "alike on all instances, and of some length").unwrap();
        std::fs::write(dir.path().join("farthing.toml"), config).unwrap();
        Self { dir, ports, running: None }
    }

    async fn start(&mut self, program: &Path) {
        self.running = Some(Serving::start_where_it_says(program, self.dir.path(), "farthing.toml").await);
    }

    async fn end(&mut self, signal: &str) {
        self.running.take().unwrap().signal(signal).await;
    }

    /// Requests that it has answered since it was started.
    async fn requests(&self) -> f64 {
        let text = self.running.as_ref().unwrap().admin.get("/metrics", &[]).await.text();
        let sum = text
            .lines()
            .filter(|line| line.starts_with("farthing_requests_total{"))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        sum.sum()
    }

    /// Waits until the balancer sends it requests.
    async fn until_asked(&self) {
        let asked = async {
            while self.requests().await < 20.0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), asked).await.expect("it is asked again");
    }
}

/// HAProxy in front of them, by the example in the documents, on ports of this test.
async fn balancer(program: &Path, dir: &Path, instances: &[Instance]) -> (Child, Client) {
    let port = free_port();
    // As many connections as in the example may be more than this machine allows.
    let mut text = EXAMPLE.replace("127.0.0.1:8080", &format!("127.0.0.1:{port}")).replace("maxconn 20000", "maxconn 500");
    for (instance, address) in instances.iter().zip(["10.0.0.1:8787", "10.0.0.2:8787", "10.0.0.3:8787"]) {
        let here = format!("127.0.0.1:{} port {}", instance.ports.0, instance.ports.1);
        assert_eq!(text.matches(&format!("{address}\n")).count(), 2, "{address}");
        text = text.replace(&format!("{address}\n"), &format!("{here}\n"));
    }
    let file = dir.join("haproxy.cfg");
    std::fs::write(&file, text).unwrap();
    let child = Command::new(program).arg("-db").arg("-f").arg(&file).stdin(Stdio::null()).kill_on_drop(true).spawn().unwrap();
    let client = Client { addr: ([127, 0, 0, 1], port).into() };
    let answers = async {
        while client.try_get("/r/geo/first", &[]).await.is_none_or(|answer| answer.status != StatusCode::OK) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), answers).await.expect("HAProxy answers");
    (child, client)
}

fn haproxy() -> Option<PathBuf> {
    let paths = std::env::var_os("PATH")?;
    let all = std::env::split_paths(&paths).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    all.map(|dir| dir.join("haproxy")).find(|path| path.exists())
}

#[derive(Default)]
struct Seen {
    done: AtomicBool,
    asked: AtomicU64,
    failed_gets: AtomicU64,
    failed_posts: AtomicU64,
    /// What the failed ones got.
    got: Mutex<Vec<String>>,
}

/// Asks without a pause: for known and for new documents, and every tenth time with a POST, which must not be sent twice.
async fn ask(client: Client, seen: Arc<Seen>, who: u64) {
    let mut n = 0_u64;
    while !seen.done.load(Relaxed) {
        n += 1;
        let (method, target, failed) = match n % 10 {
            0 => (Method::POST, "/r/geo/orders".to_owned(), &seen.failed_posts),
            1..=3 => (Method::GET, format!("/r/geo/new/{who}/{n}"), &seen.failed_gets),
            _ => (Method::GET, format!("/r/geo/known/{}", n % 50), &seen.failed_gets),
        };
        let answer = client.try_send(method, &target, &[], "").await;
        if answer.as_ref().is_none_or(|answer| answer.status != StatusCode::OK) {
            failed.fetch_add(1, Relaxed);
            seen.got.lock().push(format!("{target}: {answer:?}"));
        }
        seen.asked.fetch_add(1, Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_fails_no_request_and_a_kill_no_idempotent_one() {
    let Some(program) = built("farthing") else { return skip("rolling restart: no program beside the tests") };
    let Some(haproxy) = haproxy() else { return skip("rolling restart: haproxy is not there (make deps gets it)") };
    let Some(redis) = Server::start(&[]) else { return };
    let origin = Origin::simple(|seen, _| {
        if seen.method == Method::GET { answer_of(StatusCode::OK, &[("cache-control", "max-age=60")], "a document") } else { ok("ordered") }
    })
    .await;
    let mut instances: Vec<Instance> = (0..3).map(|_| Instance::new(&origin, &redis)).collect();
    for instance in &mut instances {
        instance.start(&program).await;
    }
    let dir = tempfile::tempdir().unwrap();
    let (_running, client) = balancer(&haproxy, dir.path(), &instances).await;
    let seen = Arc::new(Seen::default());
    let mut clients = JoinSet::new();
    (0..CLIENTS).for_each(|who| drop(clients.spawn(ask(client, seen.clone(), who))));
    for instance in &mut instances {
        instance.until_asked().await;
        instance.end("-TERM").await;
        instance.start(&program).await;
    }
    for instance in &instances {
        instance.until_asked().await;
    }
    let restarted = seen.asked.load(Relaxed);
    assert_eq!(
        (seen.failed_gets.load(Relaxed), seen.failed_posts.load(Relaxed)),
        (0, 0),
        "of {restarted} over a rolling restart: {:?}",
        seen.got.lock()
    );
    instances[1].end("-KILL").await;
    while seen.asked.load(Relaxed) < restarted + 1_000 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    instances[1].start(&program).await;
    instances[1].until_asked().await;
    seen.done.store(true, Relaxed);
    clients.join_all().await;
    let (asked, posts) = (seen.asked.load(Relaxed), seen.failed_posts.load(Relaxed));
    println!("{asked} requests, {restarted} of them over a rolling restart; {posts} POSTs lost to the kill");
    assert_eq!(seen.failed_gets.load(Relaxed), 0, "of {asked} over a kill");
    assert!(posts <= CLIENTS, "{posts}");
}

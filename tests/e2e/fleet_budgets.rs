//! G3: a budget that four real programs share holds through kill -9, SIGSTOP, and whatever becomes of Redis; and it is used.

use std::collections::HashSet;
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use farthing_ledger::watch::Random;
use farthing_tests::origin::ok;
use farthing_tests::skip::skip;
use farthing_tests::{Client, Origin};
use futures_util::future::join_all;
use http::StatusCode;
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::l2::servers::Server;
use crate::program::{Serving, built, said};

const INSTANCES: usize = 4;
/// Clients of each instance.
const CLIENTS: usize = 50;
/// Calls that the budget lets through, each for a tenth of a cent.
const LIMIT: usize = 3_000;
/// How long things go wrong.
const TROUBLE: Duration = Duration::from_secs(8);
/// After that all is well, and the rest of the budget is spent within this time.
const REST: Duration = Duration::from_secs(60);

/// What instances know as their Redis: it leads to another server when one fails over.
struct Wire {
    addr: SocketAddr,
    target: watch::Sender<u16>,
}

impl Wire {
    async fn new(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (target, seen) = watch::channel(port);
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let mut seen = seen.clone();
                tokio::spawn(async move {
                    let port = *seen.borrow_and_update();
                    let Ok(mut server) = TcpStream::connect(("127.0.0.1", port)).await else { return };
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
                        // A failover breaks what is connected.
                        _ = seen.changed() => {}
                    }
                });
            }
        });
        Self { addr, target }
    }
}

#[derive(Default)]
struct Counts {
    asked: AtomicUsize,
    /// 429 although more than a twentieth of the limit was neither billed nor lost or held by who is away.
    early: AtomicUsize,
    /// 503: the instance says that it cannot be granted anything.
    unavailable: AtomicUsize,
    refused: AtomicUsize,
    /// Calls that those may hold who were killed or are stopped, and those that were under way to the provider with whoever was killed.
    quarantined: AtomicUsize,
    over: AtomicBool,
}

struct World {
    program: std::path::PathBuf,
    origin: Arc<Origin>,
    dirs: Vec<tempfile::TempDir>,
    serving: Vec<Mutex<Option<Serving>>>,
    clients: Vec<Mutex<Client>>,
    /// What is asked for now, by instance.
    under_way: Vec<Mutex<HashSet<String>>>,
    wire: Wire,
    counts: Counts,
}

async fn start(program: &Path, origin: &Origin, dir: &Path, (redis, n): (SocketAddr, usize)) -> Serving {
    let config = format!(
        "salt = {{ file = {:?} }}\nstate_dir = {:?}\n[log]\nenabled = false\n[holdout]\nshare = 0\n[providers.geo]\nbase_url = \"http://{}\"\nprice = \"0.001\"\n\
         [providers.geo.upstream]\nattempts = 1\n[budgets.all]\nlimit = \"{}\"\nwindow = \"month\"\n[models]\ndir = {:?}\n\
         [fleet]\nname = \"test\"\ninstance = \"i{n}\"\naddresses = [\"redis://{redis}\"]\n",
        dir.join("salt"),
        dir.join("state"),
        origin.addr,
        LIMIT as f64 / 1_000.0,
        dir.join("models"),
    );
    std::fs::write(dir.join("salt"), "0123456789abcdef0123456789abcdef").unwrap();
    let file = dir.join("farthing.toml");
    std::fs::write(&file, config).unwrap();
    let file = file.to_string_lossy();
    tokio::time::timeout(Duration::from_secs(60), Serving::start(program, dir, &["--config", &file])).await.expect("serve names its port")
}

impl World {
    async fn new(program: &Path, redis: &Server) -> Self {
        let origin = Arc::new(Origin::simple(|_, n| ok(format!("answer {n}"))).await);
        let wire = Wire::new(redis.port).await;
        let dirs: Vec<_> = (0..INSTANCES).map(|_| tempfile::tempdir().unwrap()).collect();
        let starts = dirs.iter().enumerate().map(|(n, dir)| start(program, &origin, dir.path(), (wire.addr, n)));
        let serving = join_all(starts).await;
        Self {
            clients: serving.iter().map(|serving| Mutex::new(serving.data)).collect(),
            serving: serving.into_iter().map(|serving| Mutex::new(Some(serving))).collect(),
            program: program.to_owned(),
            origin,
            dirs,
            wire,
            counts: Counts::default(),
            under_way: (0..INSTANCES).map(|_| Mutex::default()).collect(),
        }
    }

    /// Waits until every instance may spend.
    async fn settle(&self) {
        let begun = Instant::now();
        for n in 0..INSTANCES {
            while self.ask(n, &format!("settle/{n}/{}", begun.elapsed().as_millis())).await != Some(StatusCode::OK) {
                assert!(begun.elapsed() < REST, "instance {n} is granted nothing");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }

    async fn ask(&self, n: usize, path: &str) -> Option<StatusCode> {
        let client = *self.clients[n].lock();
        self.under_way[n].lock().insert(format!("/{path}"));
        let answer = client.try_get(&format!("/r/geo/{path}"), &[]).await;
        self.under_way[n].lock().remove(&format!("/{path}"));
        Some(answer?.status)
    }

    /// Asks one instance for one thing after the other until all is spent.
    async fn client(&self, n: usize, name: usize) {
        let counts = &self.counts;
        let mut in_row = 0;
        for at in 0.. {
            if in_row >= 3 && counts.over.load(Ordering::Relaxed) {
                return;
            }
            let status = self.ask(n, &format!("{n}/{name}/{at}")).await;
            // Some have waited for money while others spent it.
            let left = LIMIT - self.origin.calls().min(LIMIT);
            let Some(status) = status else {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            counts.asked.fetch_add(1, Ordering::Relaxed);
            match status {
                StatusCode::OK => in_row = 0,
                StatusCode::TOO_MANY_REQUESTS => {
                    in_row += 1;
                    counts.refused.fetch_add(1, Ordering::Relaxed);
                    let free = left.saturating_sub(counts.quarantined.load(Ordering::Relaxed));
                    counts.early.fetch_add(usize::from(free > LIMIT / 20), Ordering::Relaxed);
                }
                StatusCode::SERVICE_UNAVAILABLE => {
                    in_row = 0;
                    counts.unavailable.fetch_add(1, Ordering::Relaxed);
                }
                other => panic!("{other}"),
            }
            if status != StatusCode::OK {
                // What every refusal says: not before a second has gone.
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }

    /// Lets things go wrong, by a seed, until the time is over; then mends all.
    async fn trouble(&self, seed: u64, servers: &mut [Server; 2]) {
        let (mut random, begun, mut current) = (Random::new(seed), Instant::now(), 0);
        // A slice, what is asked for ahead, and what is not told yet.
        let holds = LIMIT / 100;
        while begun.elapsed() < TROUBLE {
            tokio::time::sleep(Duration::from_millis(100 + random.below(500) as u64)).await;
            let span = Duration::from_millis(100 + random.below(1_400) as u64);
            let n = random.below(INSTANCES);
            match random.below(7) {
                0 | 1 => {
                    let serving = self.serving[n].lock().take().unwrap();
                    let asked = self.under_way[n].lock().clone();
                    serving.signal("-KILL").await;
                    // A call that was ordered counts, whether it was sent or not: nobody is left who knows.
                    let seen = self.origin.seen().into_iter().map(|seen| seen.target).collect();
                    let lost = asked.difference(&seen).count();
                    self.counts.quarantined.fetch_add(holds + lost, Ordering::Relaxed);
                    let serving = start(&self.program, &self.origin, self.dirs[n].path(), (self.wire.addr, n)).await;
                    *self.clients[n].lock() = serving.data;
                    *self.serving[n].lock() = Some(serving);
                }
                2 => {
                    self.counts.quarantined.fetch_add(holds, Ordering::Relaxed);
                    self.serving[n].lock().as_ref().unwrap().pause();
                    tokio::time::sleep(span).await;
                    self.serving[n].lock().as_ref().unwrap().go_on();
                    self.counts.quarantined.fetch_sub(holds, Ordering::Relaxed);
                }
                3 => {
                    servers[current].kill();
                    tokio::time::sleep(span / 2).await;
                    servers[current].restart();
                }
                4 => {
                    servers[current].signal("-STOP");
                    tokio::time::sleep(span).await;
                    servers[current].signal("-CONT");
                }
                5 => drop(servers[current].ask(&["FLUSHALL"])),
                _ => {
                    // The other one has nothing, or what a replica had a while ago.
                    let other = 1 - current;
                    match random.below(2) {
                        0 => drop(servers[other].ask(&["FLUSHALL"])),
                        _ => {
                            let port = servers[current].port.to_string();
                            servers[other].ask(&["REPLICAOF", "127.0.0.1", &port]);
                            tokio::time::sleep(span).await;
                            servers[other].ask(&["REPLICAOF", "NO", "ONE"]);
                            tokio::time::sleep(span / 4).await;
                        }
                    }
                    self.wire.target.send(servers[other].port).unwrap();
                    current = other;
                }
            }
        }
    }

    async fn end(self) {
        for serving in self.serving {
            serving.into_inner().unwrap().end().await;
        }
    }
}

/// What a run has measured, for who runs it by hand.
pub fn tell(text: &str) {
    let _nobody_reads = writeln!(std::io::stderr(), "{text}");
}

/// One run by a seed; requests, those refused early, those told that nothing can be granted.
async fn run(program: &Path, seed: u64) -> Option<[usize; 3]> {
    let mut servers = [Server::start(&[])?, Server::start(&[])?];
    let world = World::new(program, &servers[0]).await;
    world.settle().await;
    let clients = join_all((0..INSTANCES).flat_map(|n| (0..CLIENTS).map(move |name| (n, name))).map(|(n, name)| world.client(n, name)));
    let trouble = async {
        world.trouble(seed, &mut servers).await;
        let begun = Instant::now();
        while world.origin.calls() < LIMIT * 85 / 100 && begun.elapsed() < REST {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        world.counts.over.store(true, Ordering::Relaxed);
    };
    let all = tokio::time::timeout(REST * 3, async { tokio::join!(clients, trouble) }).await;
    let count = |count: &AtomicUsize| count.load(Ordering::Relaxed);
    let Counts { asked, early, unavailable, refused, .. } = &world.counts;
    let (calls, counted) = (world.origin.calls(), [count(asked), count(early), count(unavailable)]);
    tell(&format!("seed {seed}: billed {calls} of {LIMIT}, [asked, early, unavailable] = {counted:?}, refused {}", count(refused)));
    assert!(calls <= LIMIT, "seed {seed}: billed {calls} of {LIMIT}");
    if all.is_err() || calls < LIMIT * 85 / 100 {
        let serving = world.serving[0].lock().take().unwrap();
        panic!("seed {seed}: billed {calls}: it is not used: {}", said(&serving.cli(&["budgets"]).await));
    }
    world.end().await;
    Some(counted)
}

/// Runs by several seeds; how many calls were asked for, and how many of them were told that nothing can be granted now.
async fn runs(program: &Path, seeds: std::ops::Range<u64>) -> [usize; 2] {
    let mut sums = [0; 3];
    for seed in seeds {
        let Some(counted) = run(program, seed).await else { return [0; 2] };
        for (sum, count) in sums.iter_mut().zip(counted) {
            *sum += count;
        }
    }
    let [asked, early, unavailable] = sums;
    tell(&format!("{asked} requests, {early} refused early, {unavailable} told that nothing can be granted"));
    assert!(early * 100 < asked, "{early} of {asked} refused early");
    [asked, unavailable]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shared_budget_holds_through_deaths_of_instances_and_of_redis() {
    let Some(program) = built("farthing") else { return skip("shared budgets: the program is not built (cargo build -p farthing)") };
    runs(&program, 1..2).await;
}

/// All, or the one that is to be looked at.
fn seeds(all: std::ops::Range<u64>) -> std::ops::Range<u64> {
    let one = std::env::var("FARTHING_SEED").ok().and_then(|seed| seed.parse::<u64>().ok());
    one.map_or(all, |seed| seed..seed + 1)
}

/// `make simulate` runs it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a quarter of an hour"]
async fn a_shared_budget_holds_in_fifty_runs() {
    let program = built("farthing").expect("the program is built");
    let [asked, unavailable] = runs(&program, seeds(0..50)).await;
    // One seed may have Redis away for long; over all of them it is no more than that.
    assert!(unavailable * 100 <= asked, "{unavailable} of {asked} told that nothing can be granted");
}

/// Waits until something is so.
async fn until<F: Future<Output = bool>>(what: &str, holds: impl Fn() -> F) {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < REST, "{what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shared_budget_is_shown_raised_everywhere_and_freed_of_who_is_gone() {
    let Some(program) = built("farthing") else { return skip("shared budgets shown: the program is not built (cargo build -p farthing)") };
    let Some(redis) = Server::start(&[]) else { return };
    let origin = Origin::simple(|_, n| ok(format!("answer {n}"))).await;
    let (wire, dirs) = (Wire::new(redis.port).await, [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()]);
    let stays = start(&program, &origin, dirs[0].path(), (wire.addr, 0)).await;
    let goes = start(&program, &origin, dirs[1].path(), (wire.addr, 1)).await;
    let asked = AtomicUsize::new(0);
    let status = |of: Client| {
        let path = format!("/r/geo/{}", asked.fetch_add(1, Ordering::Relaxed));
        async move { of.get(&path, &[]).await.status }
    };
    until("both may spend", || async { status(stays.data).await == StatusCode::OK && status(goes.data).await == StatusCode::OK }).await;
    until("each sees what the other holds", || async {
        let shown = said(&stays.cli(&["budgets"]).await);
        shown.contains("shared by: i") && shown.contains("i0 may spend") && shown.contains("i1 may spend")
    })
    .await;
    assert!(goes.cli(&["budgets", "raise", "all", "--by", "1", "--note", "launch"]).await.status.success());
    until("the raise is known everywhere", || async { stays.json(&["budgets"]).await["budgets"][0]["counters"][0]["limit_usd"] == "4" })
        .await;
    assert!(!stays.cli(&["budgets", "write-off", "i1"]).await.status.success(), "it is there");
    goes.signal("-KILL").await;
    redis.ask(&["FLUSHALL"]);
    until("without the one that is gone nothing more is granted", || async { status(stays.data).await == StatusCode::SERVICE_UNAVAILABLE })
        .await;
    let shown = said(&stays.cli(&["budgets"]).await);
    assert!(shown.contains("these have not told yet what they spent: i1"), "{shown}");
    let (_, ready) = stays.readiness().await;
    assert!(ready.to_string().contains("i1"), "{ready}");
    let freed = stays.cli(&["budgets", "write-off", "i1"]).await;
    assert!(freed.status.success(), "{}", said(&freed));
    until("it is waited for no longer", || async { status(stays.data).await == StatusCode::OK }).await;
    let shown = stays.json(&["budgets"]).await;
    let holders = shown["budgets"][0]["counters"][0]["fleet"]["holders"].to_string();
    assert!(holders.contains("written-off"), "what was seen of it counts: {holders}");
    assert_eq!(shown["budgets"][0]["counters"][0]["limit_usd"], "4", "raises come back from who knows them");
    stays.end().await;
}

//! M3, M4: models change under load, and no request notices; what is unsound never goes live.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use farthing_models::{Alias, Kind, ModelsError};
use farthing_proxy::Proxy;
use farthing_tests::origin::ok;
use farthing_tests::skip::skip;
use farthing_tests::{Client, Origin, Setup};
use http::StatusCode;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;

use crate::bundles;
use crate::program::{self, Serving};

const CLIENTS: usize = 4;
const SWAPS: u64 = 200;
/// A bad version is tried after each so many swaps.
const BAD_EVERY: u64 = 10;
/// Answers within which a swap must show; all that was under way before it ends within a few.
const SHOWS_WITHIN: usize = 2_000;

/// Clients that ask for ever new documents, each twice: the first request buys it, so that a TTL is decided; the second shows by
/// whom. Any failure panics in its client, and so fails the test.
struct Load {
    stop: Arc<AtomicBool>,
    requests: Arc<AtomicU64>,
    clients: JoinSet<()>,
    seen: UnboundedReceiver<String>,
}

impl Load {
    fn start(client: Client, prefix: &'static str) -> Self {
        let (stop, requests) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (tell, seen) = unbounded_channel();
        let mut clients = JoinSet::new();
        for _ in 0..CLIENTS {
            clients.spawn(ask(client, prefix, (stop.clone(), requests.clone()), tell.clone()));
        }
        Self { stop, requests, clients, seen }
    }

    /// Waits until an answer says that `version` decided its TTL.
    async fn shows(&mut self, version: u32) {
        let wanted = format!("model:{version}");
        for _ in 0..SHOWS_WITHIN {
            let status = tokio::time::timeout(Duration::from_secs(60), self.seen.recv()).await.expect("requests are answered");
            let status = status.expect("the clients still run");
            // A second request may meet the end of the first one's call; then it shares that, and nobody decided.
            let by_model = status.contains("; hit") && status.contains("model:");
            assert!(by_model || status.contains("collapsed"), "{status}");
            if status.contains(&format!("{wanted}\"")) || status.ends_with(&wanted) {
                return;
            }
        }
        panic!("version {version} does not decide");
    }

    /// Ends the load; how many requests were answered, all of them well.
    async fn end(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.clients.join_next().await {
            ended.expect("no request fails");
        }
        self.requests.load(Ordering::Relaxed)
    }
}

async fn ask(client: Client, prefix: &'static str, (stop, number): (Arc<AtomicBool>, Arc<AtomicU64>), tell: UnboundedSender<String>) {
    while !stop.load(Ordering::Relaxed) {
        let path = format!("{prefix}/doc/{}", number.fetch_add(2, Ordering::Relaxed));
        let bought = client.get(&path, &[]).await;
        let again = client.get(&path, &[]).await;
        assert_eq!((bought.status, again.status), (StatusCode::OK, StatusCode::OK), "{} {}", bought.text(), again.text());
        assert_eq!(bought.body, again.body);
        if tell.send(again.header("cache-status").to_owned()).is_err() {
            return;
        }
    }
}

async fn documents() -> Origin {
    Origin::simple(|seen, _| ok(format!("{{\"document\":\"{}\"}}", seen.target))).await
}

async fn promote(proxy: &Arc<Proxy>, version: u32) -> Result<u32, ModelsError> {
    let proxy = proxy.clone();
    let work = move || proxy.models().promote(Kind::Ttl, version, Alias::Champion, proxy.now()).map(|g| g.version());
    tokio::task::spawn_blocking(work).await.unwrap()
}

fn champion(proxy: &Proxy) -> Option<u32> {
    proxy.models().current(Kind::Ttl, Alias::Champion).map(|generation| generation.version())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_swaps_under_load_fail_no_request() {
    if bundles::runtime().is_none() {
        return;
    }
    let origin = documents().await;
    let mut setup = Setup::new(origin.addr).route(|r| r.trust_shipped = true);
    // Tests share the cores; whether a late answer counts is not what this is about.
    setup.config.models.deadline = Duration::from_secs(30);
    let root = setup.config.models.dir.clone();
    // More than are kept warm, so that each swap builds one.
    let versions = [1.0, 2.0, 3.0, 4.0].map(|bias| bundles::good(&root, bias).manifest.version);
    let first = versions[0];
    let bad = bundles::bad(&root);
    let started = setup.start().await;
    let proxy = &started.proxy;
    assert_eq!(promote(proxy, first).await.unwrap(), first);

    let mut load = Load::start(started.client, "/api");
    load.shows(first).await;
    let (mut refused, mut now) = (0, first);
    for swap in 1..=SWAPS {
        now = versions[swap as usize % versions.len()];
        assert_eq!(promote(proxy, now).await.unwrap(), now);
        load.shows(now).await;
        if swap % BAD_EVERY == 0 {
            let (version, check) = bad[refused % bad.len()];
            let error = promote(proxy, version).await.unwrap_err().to_string();
            assert!(error.contains(&format!("ttl/{version}")) && error.contains(&format!("`{check}`")), "{error}");
            assert_eq!(champion(proxy), Some(now));
            load.shows(now).await;
            refused += 1;
        }
    }
    let requests = load.end().await;
    assert!(requests >= 2 * SWAPS, "{requests}");

    // Calls end a moment after their clients; with the proxy's tasks the last borrowers are gone.
    proxy.shutdown().await;
    let counts = proxy.model_counts();
    assert_eq!((counts.swaps, counts.refused), (SWAPS + 1, refused as u64), "{counts:?}");
    assert_eq!((counts.live, counts.freed), (3, counts.built - 3), "the champion and two before it: {counts:?}");
    assert!(counts.built > SWAPS, "{counts:?}");
    assert_eq!(champion(proxy), Some(now));
    let totals = proxy.totals().total;
    assert_eq!((totals.requests, totals.unpriced), (requests, 0), "each request is settled with its price");
    assert_eq!(totals.decisions.keys().copied().collect::<Vec<_>>(), ["model"], "{:?}", totals.decisions);
    assert_eq!(proxy.counters().panics.load(Ordering::Relaxed), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_shipped_bundle_and_a_trained_one_take_turns() {
    if bundles::runtime().is_none() {
        return;
    }
    let origin = documents().await;
    let mut setup = Setup::new(origin.addr).route(|r| {
        // Any TTL shows who decided.
        (r.trust_shipped, r.min_ttl) = (true, Duration::from_nanos(1));
    });
    setup.config.models.deadline = Duration::from_secs(30);
    let root = setup.config.models.dir.clone();
    let Some(shipped) = bundles::shipped(&root) else {
        return skip(&format!("swaps with the shipped bundle: none in {} (make models)", bundles::shipped_root().display()));
    };
    let versions = [shipped.manifest.version, bundles::good(&root, 1.0).manifest.version];
    // Documents that nobody asked for yet: the clock stands still, so that any TTL outlasts the second request.
    let (started, _clock) = setup.start_virtual().await;
    assert!(promote(&started.proxy, versions[0]).await.is_ok());
    let mut load = Load::start(started.client, "/api");
    for _ in 0..3 {
        for version in versions {
            assert_eq!(promote(&started.proxy, version).await.unwrap(), version);
            load.shows(version).await;
        }
    }
    load.end().await;
    started.proxy.shutdown().await;
    assert_eq!(started.proxy.model_counts().live, 2, "the champion and the one before it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_swaps_and_goes_back_under_load() {
    let Some(farthing) = program::built("farthing") else {
        return skip("models promote|rollback: the program is not built (cargo build -p farthing)");
    };
    if bundles::runtime().is_none() {
        return;
    }
    let origin = documents().await;
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("models");
    (1..=2).for_each(|bias| drop(bundles::good(&root, bias as f32)));
    let bad = bundles::bad(&root);
    let config = format!(
        "[models]\ndeadline = \"30s\"\n[holdout]\nshare = 0\n[providers.geo]\nbase_url = \"http://{}\"\nprice = \"0.002\"\n",
        origin.addr
    );
    std::fs::write(dir.path().join("farthing.toml"), config).unwrap();
    let serving = Serving::start(&farthing, dir.path(), &["--config", "farthing.toml"]).await;
    let first = serving.json(&["models", "promote", "ttl", "1"]).await;
    assert_eq!((&first["live"], &first["engine"]), (&1.into(), &"model".into()), "{first}");

    let mut load = Load::start(serving.data, "/r/geo");
    load.shows(1).await;
    let second = serving.json(&["models", "promote", "ttl", "2"]).await;
    assert_eq!((&second["kind"], &second["alias"]), (&"ttl".into(), &"champion".into()), "{second}");
    assert_eq!((&second["version"], &second["live"]), (&2.into(), &2.into()), "{second}");
    load.shows(2).await;
    for (version, check) in &bad {
        let refused = serving.cli(&["models", "promote", "ttl", &version.to_string(), "--json"]).await;
        assert_eq!(refused.status.code(), Some(1), "{}", program::said(&refused));
        assert!(program::said(&refused).contains(&format!("`{check}`")), "{}", program::said(&refused));
    }
    load.shows(2).await;
    let back = serving.json(&["models", "rollback", "ttl"]).await;
    assert_eq!((&back["version"], &back["live"]), (&1.into(), &1.into()), "{back}");
    load.shows(1).await;

    let again = serving.cli(&["models", "promote", "ttl", "2", "--json"]).await;
    assert_eq!(again.status.code(), Some(1), "{}", program::said(&again));
    assert!(program::said(&again).contains("rolled back") && program::said(&again).contains("--force"), "{}", program::said(&again));
    let challenger = serving.json(&["models", "challenge", "ttl", "2", "--force", "--by", "anna", "--reason", "once more"]).await;
    assert_eq!((&challenger["alias"], &challenger["live"]), (&"challenger".into(), &2.into()), "{challenger}");
    let candidates = serving.json(&["models", "candidates"]).await;
    assert_eq!((&candidates[0]["version"], &candidates[0]["stage"]), (&2.into(), &"shadow".into()), "{candidates}");
    serving.json(&["models", "clear", "ttl", "--by", "anna"]).await;
    let history = serving.json(&["models", "history"]).await;
    let told: Vec<_> = history
        .as_array()
        .unwrap()
        .iter()
        .take(3)
        .map(|event| (event["action"].as_str().unwrap(), event["by"].as_str().unwrap()))
        .collect();
    assert_eq!((told[0], told[1], told[2].0), (("clear", "operator anna"), ("promote", "operator anna"), "rollback"), "{history}");
    assert_eq!(history[1]["forced"], true, "{history}");

    let frozen = serving.json(&["freeze", "on", "--reason", "a launch"]).await;
    assert_eq!((&frozen["frozen"], &frozen["reason"]), (&true.into(), &"a launch".into()), "{frozen}");
    let status = serving.json(&["status"]).await;
    assert!(status.to_string().contains("automation is frozen"), "{status}");
    assert_eq!(serving.json(&["freeze", "off", "--reason", "over"]).await["frozen"], false);
    assert!(serving.json(&["models", "drift"]).await["routes"].is_array());

    let list = serving.json(&["models", "list"]).await;
    let live: Vec<_> = list["versions"].as_array().unwrap().iter().filter(|v| v["live"] == true).collect();
    assert!(live.len() == 1 && live[0]["version"] == 1, "{list}");
    assert!(list["library"].is_string(), "{list}");
    assert!(load.end().await > 0);
    serving.end().await;
}

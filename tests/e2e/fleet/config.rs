//! O3: the configuration that a fleet keeps, with real programs and a real Redis: pushed, taken over, refused, brought back, kept.

use std::path::Path;
use std::process::Output;
use std::time::{Duration, Instant};

use farthing_tests::Origin;
use farthing_tests::origin::answer_of;
use farthing_tests::skip::skip;
use http::StatusCode;
use serde_json::Value;

use crate::l2::servers::Server;
use crate::program::{Serving, built, said};

/// How a run of an instance is called, and what its environment says of the credential that the fleet's configuration names.
struct Instance<'a> {
    name: &'a str,
    key: Option<&'a str>,
}

struct World {
    program: std::path::PathBuf,
    origin: Origin,
    redis: Server,
    dir: tempfile::TempDir,
}

impl World {
    async fn new() -> Option<Self> {
        let Some(program) = built("farthing") else {
            skip("the configuration of a fleet: the program is not built (cargo build -p farthing)");
            return None;
        };
        let redis = Server::start(&[])?;
        let origin = Origin::simple(|_, _| answer_of(StatusCode::OK, &[("cache-control", "no-store")], "x")).await;
        Some(Self { program, origin, redis, dir: tempfile::tempdir().unwrap() })
    }

    /// Starts an instance by its own file, in a folder that its earlier runs had.
    async fn start(&self, of: Instance<'_>) -> Serving {
        let dir = self.dir.path().join(of.name);
        std::fs::create_dir_all(&dir).unwrap();
        let own = format!(
            "state_dir = \"state\"\nsalt = {{ file = \"salt\" }}\n[models]\ndir = \"no-models\"\n[log]\nenabled = false\n\
             [fleet]\nname = \"configured\"\ninstance = \"{}\"\ndeadline = \"300ms\"\naddresses = [\"{}\"]\n\
             # Until the fleet has one for all.\n[holdout]\nshare = 0\n[providers.own]\nbase_url = \"http://{}\"\nprice = \"0.002\"\n",
            of.name,
            self.redis.url(),
            self.origin.addr,
        );
        std::fs::write(dir.join("farthing.toml"), own).unwrap();
        std::fs::write(dir.join("salt"), "a salt that all of them share").unwrap();
        Serving::start_with(&self.program, &dir, &["--config", "farthing.toml"], |command| {
            of.key.into_iter().for_each(|key| _ = command.env("GEO_KEY", key));
        })
        .await
    }

    /// What the fleet shares; `more` is added.
    fn shared(&self, more: &str) -> String {
        format!(
            "[holdout]\nshare = 0\n[providers.geo]\nbase_url = \"http://{}\"\nprice = \"0.002\"\n[routes.geo]\nprovider = \"geo\"\n{more}",
            self.origin.addr
        )
    }

    /// Pushes a text from one of the instances.
    async fn push(&self, by: &Serving, text: &str, flags: &[&str]) -> Output {
        let file = self.dir.path().join("shared.toml");
        std::fs::write(&file, text).unwrap();
        by.cli(&[&["config", "push", file.to_str().unwrap(), "--wait", "60"], flags].concat()).await
    }
}

fn done(output: &Output) {
    assert!(output.status.success(), "{}", said(output));
}

fn refused(output: &Output, says: &[&str]) {
    let text = said(output);
    assert!(!output.status.success() && says.iter().all(|part| text.contains(part)), "{says:?}: {text}");
}

/// The version that each instance says it goes by, by name.
async fn versions(of: &Serving) -> Vec<(String, u64)> {
    let fleet: Value = serde_json::from_slice(&of.cli(&["config", "status", "--json"]).await.stdout).unwrap();
    let one = |of: &Value| Some((of["instance"].as_str()?.to_owned(), of["version"].as_u64()?));
    fleet["instances"].as_array().unwrap().iter().filter_map(one).collect()
}

async fn until_all_have(of: &Serving, wanted: &[(&str, u64)]) {
    let start = Instant::now();
    loop {
        let found = versions(of).await;
        if wanted.iter().all(|(name, version)| found.iter().any(|(has, of)| has == name && of == version)) {
            return;
        }
        assert!(start.elapsed() < Duration::from_secs(60), "{wanted:?}, and there is {found:?}");
    }
}

async fn status(of: &Serving, path: &str) -> StatusCode {
    of.data.get(path, &[]).await.status
}

/// The problem of the part `config`.
async fn problem(of: &Serving) -> String {
    let (answer, ready) = of.readiness().await;
    assert_eq!(answer.status, StatusCode::OK, "it serves whatever is wrong with that");
    let parts = ready["parts"].as_array().unwrap().clone();
    parts.iter().find(|part| part["name"] == "config").unwrap()["detail"].as_str().unwrap().to_owned()
}

fn metrics_say(text: &str, line: &str) -> bool {
    text.lines().any(|found| found == line)
}

fn audit(dir: &Path) -> String {
    std::fs::read_to_string(dir.join("state/audit.jsonl")).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_pushed_is_in_force_everywhere_or_named_where_it_is_not() {
    let Some(world) = World::new().await else { return };
    let (a, b) = (world.start(Instance { name: "a", key: Some("key-a") }).await, world.start(Instance { name: "b", key: None }).await);
    assert_eq!(status(&a, "/r/own/x").await, StatusCode::OK, "without one for all each goes by its own file");

    // The first one: on both, by what one was told.
    done(&world.push(&a, &world.shared(""), &["--note", "first"]).await);
    for instance in [&a, &b] {
        assert_eq!((status(instance, "/r/geo/x").await, status(instance, "/r/own/x").await), (StatusCode::OK, StatusCode::NOT_FOUND));
        let metrics = instance.admin.get("/metrics", &[]).await.text();
        assert!(metrics_say(&metrics, "farthing_fleet_config_version{} 1.0"), "{metrics}");
    }
    let digests = [a.json(&["config", "show"]).await["digest"].clone(), b.json(&["config", "show"]).await["digest"].clone()];
    assert_eq!(digests[0], digests[1]);
    assert!(said(&a.cli(&["config", "show"]).await).contains("of the fleet, version 1, and its own part of farthing.toml"));

    // Not over what somebody else has pushed.
    let second = world.shared("max_ttl = \"90s\"\n");
    refused(&world.push(&b, &second, &[]).await, &["the fleet has version 1 by now", "--over 1"]);
    let made_from = format!("# farthing: made from version 1\n{second}");
    done(&world.push(&b, &made_from, &[]).await);
    refused(&world.push(&a, &made_from, &[]).await, &["the fleet has version 2 by now"]);
    let shown = said(&a.cli(&["config", "show", "2"]).await);
    assert_eq!(shown, format!("# farthing: made from version 2\n{second}"));

    // What is wrong, an instance's own, or needs a restart is not pushed at all.
    let over = ["--over", "2"];
    refused(&world.push(&a, &second.replace("\"90s\"", "90"), &over).await, &["the pushed configuration:8: routes.geo.max_ttl"]);
    refused(&world.push(&a, &format!("{second}[data]\nlisten = \"127.0.0.1:1\"\n"), &over).await, &["data: an instance's own key"]);
    let restart = second.replace("share = 0", "share = 0.01");
    refused(&world.push(&a, &restart, &over).await, &["nothing was pushed", "holdout.share", "--restart"]);
    done(&world.push(&a, &restart, &["--over", "2", "--dry-run"]).await);
    assert_eq!(versions(&a).await.iter().map(|(_, version)| *version).max(), Some(2));

    // One instance lacks a secret: named, and it goes on by what it had.
    let secret = second.replace("[routes.geo]", "credential = { env = \"GEO_KEY\" }\ncredential_place = \"bearer\"\n[routes.geo]");
    let pushed = world.push(&a, &secret, &over).await;
    refused(
        &pushed,
        &["the fleet has version 3", "b: goes by version 2; version 3 was refused there", "the environment has no variable GEO_KEY"],
    );
    assert!(problem(&b).await.contains("GEO_KEY"), "{}", problem(&b).await);
    assert_eq!((status(&a, "/r/geo/y").await, status(&b, "/r/geo/y").await), (StatusCode::OK, StatusCode::OK));
    let metrics = b.admin.get("/metrics", &[]).await.text();
    assert!(metrics_say(&metrics, "farthing_fleet_config_refused{restart=\"false\"} 1.0"), "{metrics}");
    assert!(!a.cli(&["config", "status"]).await.status.success());
    let kept = world.redis.ask(&["HGET", "farthing:{configured:config}:document", "b:3"]);
    assert!(kept.contains("GEO_KEY") && !kept.contains("key-a"), "a reference stays one: {kept}");

    // Started anew it goes by what it had in force before.
    b.end().await;
    let b = world.start(Instance { name: "b", key: None }).await;
    until_all_have(&a, &[("a", 3), ("b", 2)]).await;
    assert_eq!((status(&b, "/r/geo/x").await, status(&b, "/r/own/x").await), (StatusCode::OK, StatusCode::NOT_FOUND));
    assert!(problem(&b).await.contains("GEO_KEY"), "{}", problem(&b).await);

    // Back to what all can run; who, what and when is known.
    done(&a.cli(&["config", "rollback", "2", "--note", "b has no key", "--wait", "60"]).await);
    until_all_have(&b, &[("a", 4), ("b", 4)]).await;
    assert_eq!(problem(&b).await, "ok");
    let history = a.json(&["config", "history"]).await;
    let of =
        |version: &Value| (version["version"].as_u64().unwrap(), version["again"].as_u64(), version["note"].as_str().map(str::to_owned));
    let history: Vec<_> = history.as_array().unwrap().iter().map(of).collect();
    assert_eq!(history[0], (4, Some(2), Some("b has no key".to_owned())));
    assert_eq!((history.len(), history[3].2.as_deref()), (4, Some("first")));
    let told = audit(&world.dir.path().join("b"));
    assert!(
        told.contains("version 4 of the fleet's configuration, pushed by loopback at a") && told.contains("\"outcome\":\"refused\""),
        "{told}"
    );
    assert!(audit(&world.dir.path().join("a")).contains("POST /api/v1/config/rollback"));

    // What needs a restart waits for it, instance by instance.
    done(&world.push(&a, &restart, &["--over", "4", "--restart"]).await);
    until_all_have(&a, &[("a", 4), ("b", 4)]).await;
    assert!(problem(&a).await.contains("restart needed, nothing was changed: holdout.share"));
    b.end().await;
    let b = world.start(Instance { name: "b", key: None }).await;
    until_all_have(&a, &[("a", 4), ("b", 5)]).await;
    assert_eq!((status(&b, "/r/geo/x").await, problem(&b).await), (StatusCode::OK, "ok".to_owned()));
    a.end().await;
    b.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_outlives_redis_and_is_brought_back() {
    let Some(mut world) = World::new().await else { return };
    let (a, b) = (world.start(Instance { name: "a", key: None }).await, world.start(Instance { name: "b", key: None }).await);
    done(&world.push(&a, &world.shared(""), &[]).await);
    done(&world.push(&a, &world.shared("max_ttl = \"90s\"\n"), &["--over", "1"]).await);

    // Emptied: whoever knows it brings it back under its number, and the next push goes over it.
    world.redis.ask(&["FLUSHALL"]);
    let start = Instant::now();
    while world.redis.ask(&["HGET", "farthing:{configured:config}:document", "v"]) != "2" {
        assert!(start.elapsed() < Duration::from_secs(60), "not brought back");
    }
    done(&world.push(&b, &world.shared("max_ttl = \"80s\"\n"), &["--over", "2"]).await);
    until_all_have(&a, &[("a", 3), ("b", 3)]).await;

    // What others write there is not obeyed.
    world.redis.ask(&[
        "HSET",
        "farthing:{configured:config}:document",
        "v",
        "9",
        "k",
        "9",
        "b:9",
        "[providers.evil]\nbase_url = \"http://evil.test\"\n",
    ]);
    let start = Instant::now();
    while !problem(&a).await.contains("not signed by an instance of this fleet") {
        assert!(start.elapsed() < Duration::from_secs(60), "{}", problem(&a).await);
    }
    assert_eq!(status(&a, "/r/geo/x").await, StatusCode::OK);
    done(&world.push(&a, &world.shared("max_ttl = \"70s\"\n"), &["--over", "3"]).await);
    until_all_have(&b, &[("a", 10), ("b", 10)]).await;
    assert_eq!((problem(&a).await, problem(&b).await), ("ok".to_owned(), "ok".to_owned()));

    // Away: who starts goes by what it had kept, who has kept nothing by its own file, and both say so; nothing can be pushed.
    world.redis.kill();
    b.end().await;
    let b = world.start(Instance { name: "b", key: None }).await;
    assert_eq!((status(&b, "/r/geo/x").await, status(&b, "/r/own/x").await), (StatusCode::OK, StatusCode::NOT_FOUND));
    assert!(problem(&b).await.contains("this instance goes by version 10, which it had kept"), "{}", problem(&b).await);
    let c = world.start(Instance { name: "c", key: None }).await;
    assert_eq!(status(&c, "/r/own/x").await, StatusCode::OK);
    assert!(problem(&c).await.contains("this instance goes by its own file"), "{}", problem(&c).await);
    assert!(metrics_say(&c.admin.get("/metrics", &[]).await.text(), "farthing_fleet_config_unheard{} 1.0"));
    refused(&world.push(&a, &world.shared(""), &["--over", "10"]).await, &["redis does not answer", "nothing was pushed"]);

    // And back, empty: the newcomer gets it from those who know it.
    world.redis.restart();
    until_all_have(&a, &[("a", 10), ("b", 10), ("c", 10)]).await;
    assert_eq!((status(&c, "/r/geo/x").await, problem(&c).await, problem(&b).await), (StatusCode::OK, "ok".to_owned(), "ok".to_owned()));
    for instance in [a, b, c] {
        instance.end().await;
    }
}

//! One experiment over three real programs: each unit has one variant everywhere, what all saw is one evidence, and it goes on whatever becomes of who decides.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use farthing_tests::origin::ok;
use farthing_tests::{Origin, Script, skip::skip};
use serde_json::Value;
use tempfile::TempDir;

use crate::l2::servers::Server;
use crate::program::{Serving, built, said};

const WINDOW_S: u64 = 5;
const KEYS: u64 = 60;

/// The experiment about which instances agree.
fn copies() -> String {
    format!("slice = 1.0\nramp = [1.0]\nmin_units = 20\nwindow = \"{WINDOW_S}s\"\n{}", variants(["without", "with"]))
}

/// `without` keeps nothing; the first is the control.
fn variants(names: [&str; 2]) -> String {
    let variant = |name: &str| {
        let off = if name == "without" { "cache = false\n" } else { "" };
        format!("[[experiments.copies.variants]]\nname = \"{name}\"\n{off}")
    };
    names.map(variant).concat()
}

async fn serve(program: &Path, (origin, redis): (&Origin, &Server), dir: &Path, experiment: &str) -> Serving {
    let config = format!(
        "state_dir = \"state\"\nsalt = {{ file = \"salt\" }}\n[models]\ndir = \"no-models\"\n[holdout]\nshare = 0\n\
         [fleet]\nname = \"trial\"\ndeadline = \"500ms\"\naddresses = [\"{}\"]\n\
         [providers.geo]\nbase_url = \"http://{}\"\nprice = \"0.002\"\n\
         [experiments.copies]\nhypothesis = \"copies save\"\nroutes = [\"geo\"]\n{experiment}",
        redis.url(),
        origin.addr,
    );
    std::fs::write(dir.join("farthing.toml"), config).unwrap();
    std::fs::write(dir.join("salt"), "a salt that all of them share").unwrap();
    Serving::start(program, dir, &["--config", "farthing.toml"]).await
}

/// One instance in each folder.
async fn serve_all(program: &Path, between: (&Origin, &Server), dirs: &[TempDir], experiment: &str) -> Vec<Serving> {
    let mut programs = Vec::new();
    for dir in dirs {
        programs.push(serve(program, between, dir.path(), experiment).await);
    }
    programs
}

async fn show(program: &Serving) -> Value {
    program.json(&["experiments", "show", "copies"]).await
}

/// Requests to all programs in turn until something holds.
async fn serving(programs: &[Serving], what: &str, holds: impl AsyncFn(&[Value]) -> bool) -> Vec<Value> {
    let start = Instant::now();
    let mut n = 0u64;
    loop {
        for _ in 0..30 {
            n += 1;
            let key = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33;
            let answer = programs[n as usize % programs.len()].data.get(&format!("/r/geo/k{}", key % KEYS), &[]).await;
            assert!(answer.status.is_success());
        }
        let mut shown = Vec::new();
        for program in programs {
            shown.push(show(program).await);
        }
        if holds(&shown).await {
            return shown;
        }
        assert!(start.elapsed() < Duration::from_secs(120), "{what}: {shown:#?}");
    }
}

fn windows(shown: &Value) -> u64 {
    shown["fleet"]["windows"].as_u64().unwrap_or(0)
}

fn unit_windows(shown: &Value) -> u64 {
    shown["report"]["variants"].as_array().unwrap().iter().map(|v| v["unit_windows"].as_u64().unwrap()).sum()
}

/// All know the same answer of at least so many windows.
fn agree(shown: &[Value], least: u64) -> bool {
    let same = |what: &dyn Fn(&Value) -> Value| shown.iter().all(|other| what(other) == what(&shown[0]));
    windows(&shown[0]) >= least && same(&|v| v["fleet"]["version"].clone()) && same(&|v| v["report"].clone())
}

/// What an instance exports: the variant of each unit in each window.
async fn exported(program: &Serving, dir: &Path) -> BTreeMap<(i64, String), (String, u64)> {
    let done = program.cli(&["experiments", "export", "copies", "--out", "rows.csv"]).await;
    assert!(done.status.success(), "{}", said(&done));
    let text = std::fs::read_to_string(dir.join("rows.csv")).unwrap();
    let mut rows = BTreeMap::new();
    for line in text.lines().skip(1) {
        let fields: Vec<&str> = line.split(',').collect();
        let before = rows.insert((fields[0].parse().unwrap(), fields[1].to_owned()), (fields[2].to_owned(), fields[8].parse().unwrap()));
        assert_eq!(before, None, "a unit counts once in a window: {line}");
    }
    rows
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_experiment_is_one_over_all_instances_and_outlives_who_decides() {
    let Some(program) = built("farthing") else {
        return skip("an experiment over a fleet: the program is not built (cargo build -p farthing)");
    };
    let Some(redis) = Server::start(&[]) else { return };
    let script: Script = Arc::new(|_, _| Box::pin(async { ok("same") }));
    let origin = Origin::start(script).await;
    let dirs: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
    let mut programs = serve_all(&program, (&origin, &redis), &dirs, &copies()).await;
    let shown = serving(&programs, "two windows", async |shown| agree(shown, 2)).await;
    let deciding: BTreeSet<usize> = (0..3).filter(|i| shown[*i]["fleet"]["decides"] == true).collect();
    assert_eq!(deciding.len(), 1, "{shown:#?}");
    let counted = unit_windows(&shown[0]);
    assert!(
        counted > KEYS / 2 && counted <= KEYS * windows(&shown[0]),
        "a unit counts once in a window, whichever instances it asked: {counted}"
    );
    // Who decides is killed; its rows stay behind, and another goes on.
    let holder = deciding.into_iter().next().unwrap();
    let before = windows(&shown[0]);
    let killed = programs.remove(holder);
    killed.signal("-KILL").await;
    let shown = serving(&programs, "another goes on", async |shown| agree(shown, before + 1)).await;
    let absent = shown[0]["fleet"]["absent"].as_array().unwrap();
    assert!(
        absent.iter().any(|of| of[0] == "unreported" && of[1].as_u64() > Some(0)),
        "the window of its death does not count: {shown:#?}"
    );
    assert_eq!(shown[0]["report"]["watched"], shown[0]["fleet"]["windows"], "what is reckoned by time goes by those that count");
    // It comes back, and knows at once.
    programs.insert(holder, serve(&program, (&origin, &redis), dirs[holder].path(), &copies()).await);
    assert!(windows(&show(&programs[holder]).await) > before, "a new process asks before it serves");
    // An order on any instance holds on all.
    let stopped = programs[holder].cli(&["experiments", "stop", "copies", "--reason", "enough"]).await;
    assert!(stopped.status.success(), "{}", said(&stopped));
    let shown = serving(&programs, "all have stopped", async |shown| shown.iter().all(|s| s["summary"]["stage"] == "stopped")).await;
    assert!(agree(&shown, before + 1), "{shown:#?}");
    // The two that were never away have all rows, and the same.
    let others: Vec<usize> = (0..3).filter(|i| *i != holder).collect();
    let rows = exported(&programs[others[0]], dirs[others[0]].path()).await;
    assert_eq!(rows, exported(&programs[others[1]], dirs[others[1]].path()).await);
    assert_eq!(rows.len() as u64, unit_windows(&shown[0]), "the export is what the report counts");
    let audit = programs[others[0]].cli(&["experiments", "audit", "copies"]).await;
    assert!(said(&audit).contains("running -> stopped") && said(&audit).contains("enough"), "{}", said(&audit));
    for program in programs {
        program.end().await;
    }
}

/// Who decides is stopped and goes on later; Redis is emptied. The answer goes on, and no row counts twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: make simulate"]
async fn a_stopped_holder_and_an_emptied_redis_cost_windows_and_nothing_else() {
    let Some(program) = built("farthing") else {
        return skip("an experiment over a fleet: the program is not built (cargo build -p farthing)");
    };
    let Some(redis) = Server::start(&[]) else { return };
    let script: Script = Arc::new(|_, _| Box::pin(async { ok("same") }));
    let origin = Origin::start(script).await;
    let dirs: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
    let mut programs = serve_all(&program, (&origin, &redis), &dirs, &copies()).await;
    let shown = serving(&programs, "a window", async |shown| agree(shown, 1)).await;
    let holder = (0..3).find(|i| shown[*i]["fleet"]["decides"] == true).unwrap();
    let (before, stopped) = (windows(&shown[0]), programs.remove(holder));
    stopped.pause();
    let shown = serving(&programs, "another decides", async |shown| agree(shown, before + 1)).await;
    stopped.go_on();
    programs.insert(holder, stopped);
    let before = windows(&shown[0]);
    let shown = serving(&programs, "all go on", async |shown| agree(shown, before + 1)).await;
    let (before, version) = (windows(&shown[0]), shown[0]["fleet"]["version"].as_u64());
    redis.ask(&["FLUSHALL"]);
    let shown = serving(&programs, "it is brought back", async |shown| agree(shown, before + 1)).await;
    assert!(shown[0]["fleet"]["version"].as_u64() > version);
    let absent = shown[0]["fleet"]["absent"].as_array().unwrap();
    assert!(absent.iter().any(|of| of[0] == "lost"), "{shown:#?}");
    // All at once.
    for program in programs.drain(..) {
        program.signal("-KILL").await;
    }
    redis.ask(&["FLUSHALL"]);
    programs = serve_all(&program, (&origin, &redis), &dirs, &copies()).await;
    let before = windows(&shown[0]);
    serving(&programs, "what was kept goes on", async |shown| agree(shown, before + 1)).await;
    let stopped = programs[0].cli(&["experiments", "stop", "copies", "--reason", "enough"]).await;
    assert!(stopped.status.success(), "{}", said(&stopped));
    let shown = serving(&programs, "all have stopped", async |shown| shown.iter().all(|s| s["summary"]["stage"] == "stopped")).await;
    let other = usize::from(holder == 0);
    let rows = exported(&programs[other], dirs[other].path()).await;
    let missing = shown[other]["fleet"]["rows_missing"].as_u64().unwrap();
    assert_eq!(rows.len() as u64 + missing, unit_windows(&shown[other]), "what is not in the export is told");
    for program in programs {
        program.end().await;
    }
}

/// A variant that is late is switched off by the instance that sees it, on all, and stays so without Redis and over a restart. Orders are all or nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_instance_switches_off_is_off_on_all_and_stays_off() {
    let Some(program) = built("farthing") else {
        return skip("guardrails of a fleet: the program is not built (cargo build -p farthing)");
    };
    let Some(mut redis) = Server::start(&[]) else { return };
    let script: Script = Arc::new(|_, _| {
        Box::pin(async {
            tokio::time::sleep(Duration::from_millis(120)).await;
            ok("slow")
        })
    });
    let origin = Origin::start(script).await;
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let experiment =
        format!("slice = 1.0\nramp = [1.0]\nwindow = \"24h\"\nlatency = \"100ms\"\nstart = \"draft\"\n{}", variants(["with", "without"]));
    let mut programs = serve_all(&program, (&origin, &redis), &dirs, &experiment).await;
    let is_off = |shown: &Value| shown["report"]["variants"][1]["off"] == "latency" && shown["summary"]["traffic"] == 0.0;
    let stage = |shown: &Value| shown["summary"]["stage"].as_str().unwrap_or_default().to_owned();
    until("what is published is heard", &programs, |shown| shown["fleet"]["version"].as_u64() > Some(0)).await;
    let started = programs[1].cli(&["experiments", "start", "copies", "--reason", "try"]).await;
    assert!(started.status.success(), "{}", said(&started));
    until("both run", &programs, |shown| stage(shown) == "running").await;
    let start = Instant::now();
    while !is_off(&show(&programs[0]).await) {
        assert!(start.elapsed() < Duration::from_secs(60), "{:#?}", show(&programs[0]).await);
        for of in 0..8 {
            let data = programs[0].data;
            // The first of a key may be late with either; then only the one without copies is.
            let asked = (0..25).map(|key| async move {
                for _ in 0..3 {
                    data.get(&format!("/r/geo/k{}", of * 25 + key), &[]).await;
                }
            });
            futures_util::future::join_all(asked).await;
        }
    }
    until("the other has heard", &programs, is_off).await;
    let audit = programs[1].cli(&["experiments", "audit", "copies"]).await;
    assert!(said(&audit).contains("switched off"), "{}", said(&audit));
    redis.kill();
    let refused = programs[1].cli(&["experiments", "stop", "copies", "--reason", "no redis"]).await;
    assert!(!refused.status.success() && said(&refused).contains("nothing was done"), "{}", said(&refused));
    let restarted = programs.pop().unwrap();
    restarted.end().await;
    programs.push(serve(&program, (&origin, &redis), dirs[1].path(), &experiment).await);
    assert!(is_off(&show(&programs[1]).await), "as it was kept");
    for program in programs {
        program.end().await;
    }
}

async fn until(what: &str, programs: &[Serving], holds: impl Fn(&Value) -> bool) {
    let start = Instant::now();
    for program in programs {
        loop {
            let shown = show(program).await;
            if holds(&shown) {
                break;
            }
            assert!(start.elapsed() < Duration::from_secs(60), "{what}: {shown:#?}");
        }
    }
}

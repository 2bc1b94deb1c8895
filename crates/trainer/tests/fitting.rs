//! Fits on logs of every kind: good, thin, odd. Nothing panics; the same data and seed give the same bytes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr, reason = "a test ends here when it fails")]

mod common;

use std::path::Path;
use std::process::{Command, Output};

use farthing_contract::bundle::{Alias, Bundle, Kind, SigningKey, disk, signing};
use farthing_contract::features::{TTL_FEATURES, TTL_OUTPUTS, TTL_SPEC};
use farthing_contract::log::{CallRow, Request};
use farthing_replay::{Process, Recipe};
use farthing_trainer::TrainError;
use farthing_trainer::evaluate::stream;
use farthing_trainer::fit::{Fit, Options, fit};
use farthing_trainer::gate::CheckName;
use farthing_trainer::learn::Unwatched;
use farthing_trainer::publish::SHIPPED_METRIC;
use farthing_trainer::read::{Fetch, Log, Read, read_log};
use farthing_trainer::trees::Ensemble;

fn recipe(hours: f64, process: Process) -> Recipe {
    common::world(hours, (40, 0.3), process)
}

fn log_of(recipe: &Recipe, seed: u64) -> Log {
    let trace = recipe.generate(seed).unwrap();
    stream::pass_through(&trace, trace.events.len())
}

fn fitted(log: &Log) -> Result<Fit, TrainError> {
    fit(log, Options::default(), &Unwatched)
}

fn answers(ensemble: &Ensemble, row: &[f32]) -> Vec<f32> {
    let mut out = vec![0.0; TTL_OUTPUTS];
    ensemble.eval(row, &mut out);
    out
}

fn fetches(count: i64, hash: impl Fn(i64) -> u64) -> Log {
    let fetch = |i: i64| Fetch { at_ns: (1_000 + 60 * i) * 1_000_000_000, key: 1, hash: hash(i), bytes: 10, ..Fetch::default() };
    Log { routes: vec!["only".into()], fetches: (0..count).map(fetch).collect(), ..Log::default() }
}

#[test]
fn thin_logs_are_refused_with_a_reason() {
    for log in [Log::default(), fetches(1, |_| 1), fetches(10, |_| 1)] {
        let error = fitted(&log).unwrap_err();
        assert!(matches!(error, TrainError::TooLittle(_)) && error.to_string().contains("nothing to learn from"), "{error}");
    }
    let flicker = Log {
        fetches: (0..50).map(|i| Fetch { at_ns: i * 1_000_000_000, key: 1, hash: i as u64, ..Fetch::default() }).collect(),
        ..fetches(0, |_| 0)
    };
    let error = fitted(&flicker).unwrap_err().to_string();
    assert!(error.contains("every route answers differently") && error.contains("only"), "{error}");
}

#[test]
fn one_route_that_never_or_always_changes_gives_a_finite_model() {
    for hash in [|_: i64| 1u64, |i: i64| i as u64] {
        let fit = fitted(&fetches(600, hash)).unwrap();
        for row in [[0.0; TTL_FEATURES], [1e6; TTL_FEATURES], [f32::NAN; TTL_FEATURES]] {
            assert!(answers(&fit.learned.model, &row).iter().all(|o| o.is_finite() && o.abs() < 10.0));
        }
    }
    let always = fitted(&fetches(600, |i| i as u64)).unwrap();
    let never = fitted(&fetches(600, |_| 1)).unwrap();
    let sum = |fit: &Fit| answers(&fit.learned.model, fit.learned.rows.row(fit.learned.rows.len() / 2)).iter().sum::<f32>();
    assert!(sum(&always) > sum(&never), "{} {}", sum(&always), sum(&never));
}

#[test]
fn features_that_are_not_numbers_do_no_harm() {
    let mut log = log_of(&recipe(12.0, Process::Never), 3);
    for (i, fetch) in log.fetches.iter_mut().enumerate() {
        fetch.features = Some(vec![if i % 2 == 0 { f32::NAN } else { f32::INFINITY }; TTL_FEATURES]);
    }
    let fit = fitted(&log).unwrap();
    assert!(answers(&fit.learned.model, &[0.0; TTL_FEATURES]).iter().all(|o| o.is_finite()));
}

#[test]
fn a_fit_beats_the_rule_and_stays_small() {
    let fit = fitted(&log_of(&recipe(48.0, Process::Never), 5)).unwrap();
    let comparison = fit.report.comparison.as_ref().unwrap();
    assert!(fit.report.passes() && comparison.saving_against_rule > 0.05, "{}", fit.report.text());
    assert!(
        fit.learned.model.trees.len() <= 50 && fit.report.depth <= 9,
        "{} trees, depth {}",
        fit.learned.model.trees.len(),
        fit.report.depth
    );
    assert!(fit.learned.points.len() >= 4, "{:?}", fit.learned.points);
    let text = fit.report.text();
    for part in ["held out", "best fixed TTL per route", "calibration", "verdict", "better than the rule"] {
        assert!(text.contains(part), "{part}\n{text}");
    }
}

fn train(recipe: &Path, out: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_farthing-train"));
    command.args(["fit", "ttl", "--recipe"]).arg(recipe).arg("--out").arg(out).args(more);
    command.output().unwrap()
}

fn write_recipe(dir: &Path, name: &str, recipe: &Recipe) -> std::path::PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, toml::to_string(recipe).unwrap()).unwrap();
    path
}

#[test]
fn the_same_data_and_seed_give_the_same_bundle() {
    let dir = tempfile::tempdir().unwrap();
    let recipe = write_recipe(dir.path(), "world.toml", &recipe(30.0, Process::Never));
    let key = SigningKey::from_seed([7; 32]).unwrap();
    let key_file = dir.path().join("signing.key");
    let mistaken = train(&recipe, &dir.path().join("c"), &["--sign", key_file.to_str().unwrap()]);
    assert!(
        mistaken.status.code() == Some(2) && String::from_utf8_lossy(&mistaken.stderr).contains("keygen"),
        "before anything is trained"
    );
    std::fs::write(&key_file, key.to_text()).unwrap();
    let digests = ["a", "b"].map(|name| {
        let signed = ["--json", "--force", "--sign", key_file.to_str().unwrap()];
        let out = train(&recipe, &dir.path().join(name), if name == "a" { &signed } else { &signed[..2] });
        let value: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
        assert_eq!(out.status.code(), Some(0), "{value}");
        value["published"]["digest"].as_str().unwrap().to_owned()
    });
    assert_eq!(digests[0], digests[1], "a signature stands beside the bundle");
    let root = dir.path().join("a");
    assert!(signing::check(&root, (Kind::Ttl, 1), &digests[0], &[key.public()]).is_ok());
    assert!(signing::check(&dir.path().join("b"), (Kind::Ttl, 1), &digests[0], &[key.public()]).is_err());
    let bundle = Bundle::read(&root, Kind::Ttl, 1).unwrap();
    assert_eq!(bundle.manifest.spec_hash, TTL_SPEC.hash());
    assert_eq!(bundle.manifest.metrics[SHIPPED_METRIC], 1.0, "a generated world is nobody's traffic");
    let gate = bundle.manifest.gate.as_ref().unwrap();
    assert_eq!(
        gate.checks.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(),
        CheckName::ALL.iter().map(|n| n.as_str()).collect::<Vec<_>>()
    );
    assert!(gate.forced != gate.passed, "force is noted exactly where a check failed: {gate:?}");
    assert_eq!((bundle.manifest.golden.len(), bundle.manifest.table_golden.len()), (256, 256));
    let table = Ensemble::from_bytes(bundle.file("table.bin").unwrap()).unwrap();
    for row in &bundle.manifest.table_golden {
        assert_eq!(answers(&table, &row.features), row.outputs);
    }
    let champion = disk::read_aliases(&root).unwrap().get(Kind::Ttl, Alias::Champion).unwrap().current.clone();
    assert_eq!((champion.version, champion.digest), (1, digests[0].clone()));
}

/// What no cache may answer, and what nobody knows the answers of, must not count as answers that never change.
#[test]
fn requests_that_no_cache_answers_do_not_judge_a_model() {
    let world = log_of(&recipe(6.0, Process::Never), 8);
    let write = |dir: &Path, more: &[Request]| {
        let row = |(id, read): (usize, &Read)| Request {
            ts_ns: read.at_ns,
            route: world.routes[read.route as usize].as_str().into(),
            method: "GET".into(),
            uncached_reason: Some("observe"),
            ..common::request(0, id as u64, read.key)
        };
        let call = |(id, fetch): (usize, &Fetch)| CallRow {
            ts_ns: fetch.at_ns,
            route: world.routes[fetch.route as usize].as_str().into(),
            ..common::call(0, id as u64, fetch.key, fetch.hash)
        };
        let mut calls: Vec<CallRow> = world.fetches.iter().enumerate().map(call).collect();
        // An observing proxy takes the digest of every answer.
        let digested = more.iter().filter(|r| r.uncached_reason == Some("observe") && &*r.method != "GET");
        calls.extend(digested.map(|r| CallRow { ts_ns: r.ts_ns, ..common::call(0, r.request_id, r.key_hash, 5) }));
        common::table(dir, &calls);
        common::table(dir, &[world.reads.iter().enumerate().map(row).collect::<Vec<_>>(), more.to_vec()].concat());
        read_log(dir.to_str().unwrap()).unwrap()
    };
    let judged = |more: &[Request]| {
        let dir = tempfile::tempdir().unwrap();
        let log = write(dir.path(), more);
        let report = fitted(&log).unwrap().report;
        let comparison = report.comparison.clone().unwrap();
        let checks: Vec<_> = report.judgement.checks.iter().filter(|c| !c.name.of_the_machine()).map(|c| (c.name, c.verdict)).collect();
        ((comparison.reads, comparison.base_usd, comparison.saving_against_rule, checks), report.passed, report.unknown)
    };
    let kinds = [("POST", "method"), ("POST", "observe"), ("DELETE", "disabled"), ("GET", "observe")];
    let more = |n: usize| {
        let (method, reason) = kinds[n % 4];
        Request {
            ts_ns: world.reads[n / 4].at_ns,
            method: method.into(),
            uncached_reason: Some(reason),
            ..common::request(0, 1_000_000 + n as u64, (1 << 40) + (n % 100) as u64)
        }
    };
    let rows: Vec<Request> = (0..4 * world.reads.len()).map(more).collect();
    let (alone, beside) = (judged(&[]), judged(&rows));
    assert_eq!(beside.0, alone.0);
    let all = world.reads.len() as u64;
    assert_eq!((alone.1, alone.2, beside.1, beside.2), (0, 0, 3 * all, all));
}

/// Routes with `idempotent` answer other methods from the cache: their requests count, those from before it was turned on as well.
#[test]
fn routes_that_answer_any_method_are_learned_from() {
    let dir = tempfile::tempdir().unwrap();
    let post = |at, reason| Request { method: "POST".into(), uncached_reason: Some(reason), ..common::request(at, at as u64, 7) };
    common::table(dir.path(), &[common::call(10, 1, 7, 1), common::call(20, 2, 7, 2)]);
    common::table(dir.path(), &[post(10, "observe"), post(20, "cold"), post(30, "method")]);
    let log = read_log(dir.path().to_str().unwrap()).unwrap();
    assert_eq!((log.reads.len(), log.fetches.len(), log.passed), (2, 2, 1));
}

/// The proxy keeps what is marked as shipped in shadow: a model of the operator's own log is not.
#[test]
fn what_a_log_taught_may_decide() {
    let dir = tempfile::tempdir().unwrap();
    let (logs, models) = (dir.path().join("logs"), dir.path().join("models"));
    let at = |i: u64| 1_767_225_600 + 60 * i as i64;
    common::table(&logs, &(1..600).map(|i| common::call(at(i), i, i % 3, 1 + i / 10)).collect::<Vec<_>>());
    common::table(&logs, &(1..600).map(|i| common::request(at(i), i, i % 3)).collect::<Vec<_>>());
    let mut command = Command::new(env!("CARGO_BIN_EXE_farthing-train"));
    let out = command.args(["fit", "ttl", "--force", "--logs"]).arg(&logs).arg("--out").arg(&models).output().unwrap();
    assert_eq!(out.status.code(), Some(0), "{}", String::from_utf8_lossy(&out.stderr));
    let metrics = Bundle::read(&models, Kind::Ttl, 1).unwrap().manifest.metrics;
    assert!(!metrics.is_empty() && !metrics.contains_key(SHIPPED_METRIC), "{metrics:?}");
}

#[test]
fn what_is_not_better_is_not_published_unless_forced() {
    let dir = tempfile::tempdir().unwrap();
    let (recipe, out) = (write_recipe(dir.path(), "world.toml", &recipe(0.4, Process::Never)), dir.path().join("models"));
    let refused = train(&recipe, &out, &[]);
    assert_eq!(refused.status.code(), Some(3), "{}", String::from_utf8_lossy(&refused.stderr));
    assert!(String::from_utf8_lossy(&refused.stdout).contains("give --force"));
    assert!(!out.join("ttl").exists());
    for (version, aliased) in [(1, 1), (2, 1)] {
        assert_eq!(train(&recipe, &out, &["--force"]).status.code(), Some(0));
        assert_eq!(disk::versions(&out, Kind::Ttl).unwrap().last(), Some(&version));
        let aliases = disk::read_aliases(&out).unwrap();
        assert_eq!(aliases.get(Kind::Ttl, Alias::Champion).unwrap().current.version, aliased, "only asked for does the alias move");
    }
    assert_eq!(train(&recipe, &out, &["--force", "--promote", "champion"]).status.code(), Some(0));
    assert_eq!(disk::read_aliases(&out).unwrap().get(Kind::Ttl, Alias::Champion).unwrap().current.version, 3);
}

#[test]
fn mistakes_on_the_command_line_are_explained() {
    let dir = tempfile::tempdir().unwrap();
    let run = |args: &[&str]| {
        let out = Command::new(env!("CARGO_BIN_EXE_farthing-train")).args(args).output().unwrap();
        (out.status.code(), String::from_utf8_lossy(&out.stderr).into_owned())
    };
    let (code, text) = run(&["fit", "ttl", "--logs", &format!("{}/**/*.parquet", dir.path().display())]);
    assert!(code == Some(1) && text.contains("no Parquet file matches"), "{text}");
    let (code, text) = run(&["fit", "ttl", "--logs", "x", "--stale-budget", "50"]);
    assert!(code == Some(2) && text.contains("between 0 and 1"), "{text}");
    std::fs::write(dir.path().join("r.toml"), "seed = 1\n").unwrap();
    let (code, text) = run(&["evaluate", "ttl", "--recipe", dir.path().join("r.toml").to_str().unwrap()]);
    assert!(code == Some(1) && text.contains("r.toml"), "{text}");
}

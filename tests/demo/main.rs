//! K3, J6, M3: the demo, run as a reader of the README runs it: one JSON object with everything in it.
//!
//! The short form shows that the loop closes and that no request is lost on the way. Whether the staleness budget holds is a matter of
//! how much the trainer could see, and so of the full length: see the ignored test, which `make test-full` runs.
//!
//! A program of its own, because the demo runs in real time: beside other tests on two cores it would measure them.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a test says what went wrong by failing; the support modules serve other tests, too"
)]

#[path = "../e2e/bundles.rs"]
mod bundles;
#[path = "../e2e/program.rs"]
mod program;

use std::path::{Path, PathBuf};
use std::process::Output;

use farthing_tests::skip::skip;
use serde_json::Value;

use crate::program::{command, said};

/// Seconds of the money phases in the short form: enough for some thousand requests on a busy machine and an unoptimised build.
const SHORT: &str = "12";
/// Longer than any form takes.
const HANGS: std::time::Duration = std::time::Duration::from_secs(240);

/// From so many requests of the model phase on, the holdout is large enough for an interval.
const ENOUGH: f64 = 1_500.0;

/// Fields that scripts read; each a number.
const NUMBERS: [&str; 10] = [
    "requests",
    "baseline_usd",
    "actual_usd",
    "saving_share",
    "hit_ratio",
    "stale_share",
    "stale_budget",
    "swaps",
    "failed_during_swap",
    "decisions_by_model_share",
];

/// One demo at a time.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

async fn demo(program: &Path, trainer: &Path, args: &[&str]) -> Output {
    let _alone = ALONE.lock().await;
    let dir = tempfile::tempdir().unwrap();
    let mut command = command(program, dir.path(), &["demo"]);
    command.args(args).env("FARTHING_TRAIN", trainer).env("TMPDIR", dir.path());
    let output = tokio::time::timeout(HANGS, command.output()).await.expect("the demo ends").unwrap();
    let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.is_empty(), "the demo leaves {left:?} behind");
    output
}

/// The one JSON object that a demo with `--json` prints.
fn report(output: &Output) -> Value {
    assert!(output.status.success(), "{}", said(output));
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let mut documents = serde_json::Deserializer::from_str(&text).into_iter::<Value>();
    let first = documents.next().unwrap_or_else(|| panic!("no JSON: {}", said(output))).unwrap();
    assert!(first.is_object() && documents.next().is_none(), "exactly one object: {text}");
    first
}

fn number(report: &Value, field: &str) -> f64 {
    report[field].as_f64().unwrap_or_else(|| panic!("`{field}` is {}: {report}", report[field]))
}

fn phase<'a>(report: &'a Value, name: &str) -> &'a Value {
    let phases = report["phases"].as_array().unwrap_or_else(|| panic!("{report}"));
    phases.iter().find(|phase| phase["name"] == name).unwrap_or_else(|| panic!("{name}: {report}"))
}

/// What must hold however short the demo is.
fn sound(report: &Value) {
    for field in NUMBERS {
        number(report, field);
    }
    for quantile in ["p50", "p95", "p99"] {
        assert!(number(&report["overhead_ms"], quantile) > 0.0, "{report}");
    }
    assert!(report["model_version"].as_u64().is_some_and(|version| version > 0), "{report}");
    assert!(number(report, "requests") > 0.0 && number(report, "swaps") >= 2.0, "{report}");
    assert_eq!(number(report, "failed_during_swap"), 0.0, "{report}");
    assert!(number(report, "decisions_by_model_share") > 0.9, "{report}");
    let [baseline, actual, saving] = ["baseline_usd", "actual_usd", "saving_share"].map(|field| number(report, field));
    assert!(actual > 0.0 && actual < baseline, "the model phase saves: {report}");
    assert!((saving - (1.0 - actual / baseline)).abs() < 1e-9, "{report}");
    if report["saving_low"].is_null() && report["saving_high"].is_null() {
        assert!(number(phase(report, "model"), "requests") < ENOUGH, "no interval: {report}");
    } else {
        let [low, high] = ["saving_low", "saving_high"].map(|field| number(report, field));
        assert!(low <= saving && saving <= high, "{report}");
    }
    assert!((0.0..=1.0).contains(&number(report, "hit_ratio")), "{report}");
}

fn programs() -> Option<(PathBuf, PathBuf)> {
    let missing = |what: &str| skip(&format!("the demo: {what}"));
    let Some(farthing) = program::built("farthing") else {
        missing("the program is not built (cargo build -p farthing)");
        return None;
    };
    let Some(trainer) = program::trainer() else {
        missing("the trainer is not built (make trainer)");
        return None;
    };
    bundles::runtime().map(|_| (farthing, trainer))
}

#[tokio::test]
async fn the_loop_closes_and_everything_is_told() {
    let Some((farthing, trainer)) = programs() else { return };
    let output = demo(&farthing, &trainer, &["--json", "--seconds", SHORT]).await;
    let report = report(&output);
    sound(&report);
    let phases: Vec<_> = report["phases"].as_array().unwrap().iter().map(|phase| phase["name"].as_str().unwrap()).collect();
    assert_eq!(phases, ["rules", "training", "model", "experiment"], "{report}");
    for phase in report["phases"].as_array().unwrap() {
        assert!(number(phase, "requests") > 0.0 && number(phase, "failed") == 0.0, "{phase}");
    }
    // The ledger against the providers' own meters: a difference would be told in a note.
    let notes = report["notes"].to_string();
    assert!(!notes.contains("meters say"), "{notes}");
}

#[tokio::test]
async fn without_a_trainer_rules_decide_and_that_is_told() {
    let Some(farthing) = program::built("farthing") else {
        return skip("the demo without a trainer: the program is not built (cargo build -p farthing)");
    };
    let output = demo(&farthing, Path::new("/nowhere/farthing-train"), &["--json", "--seconds", "5"]).await;
    let report = report(&output);
    assert!(report["model_version"].is_null() && report["experiment"].is_null(), "{report}");
    assert_eq!((number(&report, "decisions_by_model_share"), number(&report, "failed_during_swap")), (0.0, 0.0));
    let notes = report["notes"].to_string();
    assert!(notes.contains("farthing-train") && notes.contains("rules decide"), "{notes}");
}

#[tokio::test]
async fn a_trace_that_is_none_is_named() {
    let Some(farthing) = program::built("farthing") else {
        return skip("the demo's errors: the program is not built (cargo build -p farthing)");
    };
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("trace.parquet");
    std::fs::write(&path, "no Parquet").unwrap();
    for (flags, code, says) in [
        (["--trace", path.to_str().unwrap()], 1, "trace.parquet"),
        (["--trace", "absent.parquet"], 1, "absent.parquet"),
        (["--seconds", "1"], 2, "5..=3600"),
    ] {
        let output = demo(&farthing, Path::new("unused"), &flags).await;
        assert_eq!(output.status.code(), Some(code), "{}", said(&output));
        assert!(said(&output).contains(says) && !said(&output).contains("panicked"), "{}", said(&output));
        assert!(output.stdout.is_empty(), "{}", said(&output));
    }
}

/// At its full length, by the optimised build if there is one.
#[tokio::test]
#[ignore = "three minutes; make test-full runs it"]
async fn the_staleness_budget_holds_at_full_length() {
    let Some((farthing, trainer)) = programs() else { return };
    let optimised = farthing.parent().unwrap().with_file_name("release").join("farthing");
    let farthing = if optimised.is_file() { optimised } else { farthing };
    let report = report(&demo(&farthing, &trainer, &["--json"]).await);
    sound(&report);
    assert!(number(&report, "saving_low") > 0.0, "{report}");
    assert!(number(&report, "stale_share") <= number(&report, "stale_budget"), "{report}");
}

//! What the learned TTLs must be worth: money against the best fixed TTLs that hindsight finds.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr, reason = "a test ends here when it fails")]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use farthing_trainer::evaluate::{Evaluated, Evaluation, evaluate, read_recipe, stream};
use farthing_trainer::learn::Unwatched;
use farthing_trainer::read::read_trace;
use farthing_trainer::results::worlds;

fn demo() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/demo.toml")
}

/// Evaluates on the demo's world under a seed of its own.
fn world(seed: u64) -> Evaluated {
    let recipe = read_recipe(&demo()).unwrap();
    let trace = recipe.generate(seed).unwrap();
    let evaluation = Evaluation { stale: 0.005, thorough: false, stale_price: Some(recipe.stale_price), ..Evaluation::default() };
    evaluate(&trace, evaluation, &Unwatched).unwrap()
}

fn check(seed: u64) {
    let found = world(seed);
    let c = &found.comparison;
    let money = found.money_saving_against_fixed_per_route.unwrap();
    println!(
        "seed {seed}: bill {:.1} %, stale {:.2} %, money {:.1} % below the best fixed per route",
        100.0 * c.model.bill_share,
        100.0 * c.model.stale_share,
        100.0 * money
    );
    assert!(money >= 0.10 && c.saving_against_fixed_per_route >= 0.10, "seed {seed}\n{}", found.text());
    assert!(c.saving_against_rule > 0.10, "seed {seed}\n{}", found.text());
    assert!(c.model.stale_share <= 0.005, "seed {seed}\n{}", found.text());
}

/// Checks the worlds of some seeds, two at a time.
fn check_all(seeds: [&'static [u64]; 2]) {
    std::thread::scope(|scope| {
        let threads = seeds.map(|seeds| scope.spawn(|| seeds.iter().for_each(|seed| check(*seed))));
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

/// Two worlds at full size (345,000 requests each).
#[test]
fn generated_worlds() {
    check_all([&[1], &[2]]);
}

/// Three more.
#[test]
#[ignore = "many minutes: three more worlds at full size"]
fn more_generated_worlds() {
    check_all([&[3, 5], &[4]]);
}

/// Money in worlds whose truth is known, short: a tight schedule, and keys with rates of their own.
#[test]
#[ignore = "a minute or two"]
fn known_worlds_short() {
    let found = worlds::measure(&["stable", "periodic"], &[1], 0.4, &Unwatched).unwrap();
    println!("{found:?}");
    assert!(found[0].to_oracle[0] <= 1.05 && found[0].to_fixed[0] <= 0.95, "{:?}", found[0]);
    assert!(found[1].to_oracle[0] <= 0.70 && found[1].to_fixed[0] <= 0.90, "{:?}", found[1]);
    assert!(found[0].worst_route <= 1.25 && found[1].worst_route <= 1.0, "{found:?}");
}

/// The same in full, as `make results` measures it.
#[test]
#[ignore = "many minutes: five worlds, five seeds"]
fn known_worlds() {
    let found = worlds::measure(&worlds::NAMES, &[1, 2, 3, 4, 5], 1.0, &Unwatched).unwrap();
    let missed: Vec<_> = worlds::bars(&found).into_iter().filter(|bar| !bar.holds()).collect();
    assert!(missed.is_empty(), "{missed:#?}");
}

/// Real changes with overlaid reads: `FARTHING_DATA` names a folder with `reads7.parquet`, or with `api_changes.parquet` and
/// `make_reads.py` and a Python (`FARTHING_PYTHON`, else `python3`) that has pandas and pyarrow.
#[test]
fn real_changes() {
    let Some(folder) = std::env::var_os("FARTHING_DATA").map(PathBuf::from) else {
        return skip("FARTHING_DATA is not set");
    };
    let dir = tempfile::tempdir().unwrap();
    let Some(path) = reads(&folder, dir.path()) else {
        return skip(&format!("no reads7.parquet in {}, and make_reads.py did not run", folder.display()));
    };
    let trace = stream::of_trace(&read_trace(&path).unwrap());
    let found = evaluate(&trace, Evaluation::default(), &Unwatched).unwrap();
    println!("{}", found.text());
    let bill = |name: &str| found.comparison.tuned.iter().find(|l| l.name == name).unwrap().bill_usd;
    assert!(bill("model") <= 0.62 * bill("best fixed TTL"), "at a stale share of 1 %");
    assert!(found.comparison.ratio_to_fixed <= 0.62, "at the stale share that the model came to");
}

/// Says what was not tested, also in the list at the end of `make test`. Real traces are no part of the project: CI may do without them.
fn skip(why: &str) {
    let line = format!("optional: real traces of changes: {why}");
    eprintln!("SKIPPED: {line}");
    if let Some(list) = std::env::var_os("FARTHING_SKIPPED")
        && let Ok(mut file) = std::fs::OpenOptions::new().append(true).create(true).open(list)
    {
        let _ = writeln!(file, "{line}");
    }
}

fn reads(folder: &Path, scratch: &Path) -> Option<PathBuf> {
    let ready = folder.join("reads7.parquet");
    if ready.is_file() {
        return Some(ready);
    }
    let python = std::env::var_os("FARTHING_PYTHON").unwrap_or_else(|| "python3".into());
    let out = scratch.join("reads7.parquet");
    let mut command = Command::new(python);
    command.arg(folder.join("make_reads.py")).arg(folder.join("api_changes.parquet")).arg(&out).args(["--seed", "7"]);
    command.status().ok().filter(|status| status.success() && out.is_file()).map(|_| out)
}

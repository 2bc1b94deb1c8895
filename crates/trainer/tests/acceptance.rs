//! What the learned TTLs must be worth: money against the best fixed TTLs that hindsight finds.

use std::path::{Path, PathBuf};
use std::process::Command;

use farthing_trainer::evaluate::{Evaluated, Evaluation, evaluate, read_recipe, stream};
use farthing_trainer::learn::Unwatched;
use farthing_trainer::read::read_trace;

fn demo() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/demo.toml")
}

/// Evaluates on the demo's world at `rate` of its requests.
fn world(seed: u64, rate: f64) -> Evaluated {
    let mut recipe = read_recipe(&demo()).unwrap();
    recipe.rate *= rate;
    let trace = recipe.generate(seed).unwrap();
    let evaluation = Evaluation { stale: 0.005, thorough: false, stale_price: Some(recipe.stale_price), ..Evaluation::default() };
    evaluate(&trace, evaluation, &Unwatched).unwrap()
}

fn check(seed: u64, rate: f64) {
    let found = world(seed, rate);
    let c = &found.comparison;
    let money = found.money_saving_against_fixed_per_route.unwrap();
    println!(
        "seed {seed}: bill {:.1} %, stale {:.2} %, money {:.1} % below the best fixed per route",
        100.0 * c.model.bill_share,
        100.0 * c.model.stale_share,
        100.0 * money
    );
    assert!(money >= 0.10 && c.saving_against_fixed_per_route >= 0.10, "seed {seed}\n{}", found.text());
    assert!(c.fixed_per_route.stale <= c.model.stale, "the competitor is allowed the same staleness");
    assert!(c.saving_against_rule > 0.10, "seed {seed}\n{}", found.text());
    assert!(c.model.stale_share <= 0.0065, "seed {seed}: {}", c.model.stale_share);
}

/// At a third of the demo's traffic, so that it runs with every change; the full size is `whole_worlds`.
#[test]
fn generated_worlds() {
    (1..=5).for_each(|seed| check(seed, 0.35));
}

#[test]
#[ignore = "minutes: the five worlds at full size"]
fn whole_worlds() {
    (1..=5).for_each(|seed| check(seed, 1.0));
}

/// Real changes with overlaid reads: `FARTHING_DATA` names a folder with `reads7.parquet`, or with `api_changes.parquet` and
/// `make_reads.py` and a Python (`FARTHING_PYTHON`, else `python3`) that has pandas and pyarrow.
#[test]
fn real_changes() {
    let Some(folder) = std::env::var_os("FARTHING_DATA").map(PathBuf::from) else {
        eprintln!("SKIPPED real_changes: FARTHING_DATA is not set");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let Some(path) = reads(&folder, dir.path()) else {
        eprintln!("SKIPPED real_changes: no reads7.parquet in {}, and make_reads.py did not run", folder.display());
        return;
    };
    let trace = stream::of_trace(&read_trace(&path).unwrap());
    let found = evaluate(&trace, Evaluation::default(), &Unwatched).unwrap();
    println!("{}", found.text());
    let bill = |name: &str| found.comparison.tuned.iter().find(|l| l.name == name).unwrap().bill_usd;
    assert!(bill("model") <= 0.62 * bill("best fixed TTL"), "at a stale share of 1 %");
    assert!(found.comparison.ratio_to_fixed <= 0.62, "at the stale share that the model came to");
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

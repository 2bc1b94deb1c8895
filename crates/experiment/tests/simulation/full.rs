//! The whole tables, each into its part of target/results/simulate.json: `cargo test -p farthing-experiment --release --test simulation -- --ignored --nocapture`.

use std::path::Path;

use farthing_experiment::AllocationKind;
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::bandit::{Chooser, SQUARE_CB, Setting, mean as regret, turning};
use crate::contexts::{BY_CONTEXT, Kinds, live};
use crate::world::{Law, Run, World, count, decisions_until_off, median, run};
use crate::{conserve, tuning};

const RUNS: u64 = 2_000;
const LAWS: [Law; 4] = [Law::Light, Law::HeavyTail, Law::Cycle, Law::CarryOver];

const ALLOCATIONS: [(&str, AllocationKind); 3] = [
    ("fixed", AllocationKind::Fixed),
    ("thompson .1", AllocationKind::Thompson { floor: 0.1 }),
    ("thompson .2", AllocationKind::Thompson { floor: 0.2 }),
];

fn rate(runs: &[Run], what: impl Fn(&Run) -> bool) -> f64 {
    runs.iter().filter(|r| what(r)).count() as f64 / runs.len() as f64
}

/// About 20,000 unit-windows, looked at in each of 167 windows.
fn long(law: Law, allocation: AllocationKind, factor: f64) -> World {
    World { allocation, windows: 167, ..World::pair(law, factor) }
}

fn false_alarms(failed: &mut Vec<String>) -> Value {
    let mut cells = Vec::new();
    let mut above = 0;
    for (name, allocation) in ALLOCATIONS {
        for law in LAWS {
            let runs: Vec<Run> = (0..RUNS).map(|seed| run(&long(law, allocation, 1.0), seed)).collect();
            let (interval, bets) = (rate(&runs, |r| r.ever_excludes_zero), rate(&runs, |r| r.ever_differs));
            let (guard, ratio) = (rate(&runs, |r| r.guard_tripped), rate(&runs, |r| r.ratio_alarm));
            println!("A/A {name} {law:?}: interval {interval:.4} bets {bets:.4} guard {guard:.4} ratio {ratio:.4}");
            above += u32::from(interval > 0.06) + u32::from(bets > 0.06);
            if guard > 0.01 || ratio > 0.005 {
                failed.push(format!("guards, {name} {law:?}: {guard} {ratio}"));
            }
            cells.push(json!({"runs": RUNS, "allocation": name, "world": format!("{law:?}"), "interval": interval, "bets": bets, "guard": guard, "ratio": ratio}));
        }
    }
    if above > 1 {
        failed.push(format!("{above} cells find more than 6 % where nothing is"));
    }
    Value::Array(cells)
}

/// Contexts that are noise must not find anything either.
fn by_context(failed: &mut Vec<String>) -> Value {
    let mut cells = Vec::new();
    let mut above = 0;
    for (law, factor) in LAWS.into_iter().map(|law| (law, 1.0)).chain([(Law::Light, 1.05), (Law::Light, 1.2), (Law::Cycle, 1.2)]) {
        let runs: Vec<Run> = (0..RUNS).map(|seed| run(&long(law, BY_CONTEXT, factor), seed)).collect();
        let (interval, bets) = (rate(&runs, |r| r.ever_excludes_zero), rate(&runs, |r| r.ever_differs));
        let (missed, ratio) = (rate(&runs, |r| r.ever_misses_truth), rate(&runs, |r| r.ratio_alarm));
        println!("by context {law:?} {factor}: interval {interval:.4} bets {bets:.4} missed {missed:.4} ratio {ratio:.4}");
        above += u32::from(factor == 1.0 && interval > 0.06) + u32::from(factor == 1.0 && bets > 0.06);
        if missed > 0.06 || ratio > 0.005 {
            failed.push(format!("by context {law:?} {factor}: {missed} {ratio}"));
        }
        cells.push(json!({"runs": RUNS, "world": format!("{law:?}"), "factor": factor, "interval": interval, "bets": bets, "covered": 1.0 - missed, "ratio": ratio}));
    }
    if above > 1 {
        failed.push(format!("{above} cells find more than 6 % where nothing is"));
    }
    Value::Array(cells)
}

/// Regret of the learner alone, beside plainer choosers, and in an experiment of two kinds of units, beside allocations that know of one kind only.
fn regret_by_context(failed: &mut Vec<String>) -> Value {
    let choosers = [
        ("random", Chooser::Random),
        ("greedy", Chooser::Greedy),
        ("epsilon .05", Chooser::Epsilon(0.05)),
        ("epsilon .1", Chooser::Epsilon(0.1)),
        ("SquareCB", SQUARE_CB),
    ];
    let mut rows = serde_json::Map::new();
    for (name, chooser) in choosers {
        let [still, noisy] = [0.3, 0.6].map(|noise| regret(&Setting { noise, ..Setting::of(chooser) }, 40));
        let [never, forgets] = [1.0, 0.98].map(|keep| regret(&turning(chooser, keep), 40));
        println!("{name}: stationary {still:.4} (twice the noise {noisy:.4}), turning {never:.4}, with forgetting {forgets:.4}");
        rows.insert(name.to_owned(), json!({"stationary": still, "noisy": noisy, "turning": never, "turning_forgets": forgets}));
    }
    let of = |name: &str, what: &str| rows[name][what].as_f64().unwrap();
    let (square, tenth) = (of("SquareCB", "turning_forgets"), of("epsilon .1", "turning"));
    if of("SquareCB", "stationary") > 0.05 || square > 0.75 * tenth || square > 0.9 * of("epsilon .1", "turning_forgets") {
        failed.push("SquareCB".to_owned());
    }
    let mut kinds = serde_json::Map::new();
    for (name, allocation) in ALLOCATIONS.into_iter().chain([("contextual", BY_CONTEXT)]) {
        let lives: Vec<_> = (0..100).map(|seed| live(&Kinds { turns: Some(84), ..Kinds::of(allocation) }, seed)).collect();
        let mean = |from, upto| lives.iter().map(|l| l.mean_regret(from, upto)).sum::<f64>() / lives.len() as f64;
        let (whole, learned, turned) = (mean(0, 84), mean(24, 84), mean(124, 167));
        println!("two kinds, {name}: {whole:.4}, {learned:.4} from the second day on, {turned:.4} from forty windows after the turn on");
        kinds.insert(name.to_owned(), json!({"whole": whole, "from_window_24": learned, "from_40_after_turn": turned}));
        if name == "contextual" && (whole > 0.05 || turned > 0.06) {
            failed.push(format!("two kinds: {whole} {turned}"));
        }
    }
    json!({"learner": rows, "two_kinds": kinds})
}

fn coverage(failed: &mut Vec<String>) -> Value {
    let mut cells = Vec::new();
    for (name, allocation) in ALLOCATIONS {
        for law in [Law::Light, Law::HeavyTail, Law::Cycle] {
            for factor in [1.0, 1.05, 1.2] {
                let missed = count(RUNS, &long(law, allocation, factor), |r| r.ever_misses_truth) as f64 / RUNS as f64;
                println!("coverage {name} {law:?} {factor}: {:.4}", 1.0 - missed);
                if missed > 0.06 {
                    failed.push(format!("coverage {name} {law:?} {factor}: {missed} missed"));
                }
                cells.push(
                    json!({"runs": RUNS, "allocation": name, "world": format!("{law:?}"), "factor": factor, "covered": 1.0 - missed}),
                );
            }
        }
    }
    Value::Array(cells)
}

fn power(failed: &mut Vec<String>) -> Value {
    let runs: Vec<Run> = (0..500).map(|seed| run(&long(Law::Light, AllocationKind::Thompson { floor: 0.2 }, 1.22), seed)).collect();
    let even: Vec<Run> = (0..500).map(|seed| run(&long(Law::Light, AllocationKind::Fixed, 1.22), seed)).collect();
    let (interval, bets) = (median(runs.iter().map(|r| r.rows_to_find).collect()), median(runs.iter().map(|r| r.rows_to_bet).collect()));
    let paid = |runs: &[Run]| runs.iter().map(|r| r.in_last).sum::<u64>() as f64 / runs.iter().map(|r| r.rows).sum::<u64>() as f64;
    let regret = paid(&runs) / paid(&even);
    println!("+22 %: interval {interval}, bets {bets} unit-windows, regret {regret:.3} of an even split's");
    if interval > 3_500 || bets > 4_000 || regret > 0.45 {
        failed.push("power or regret".to_owned());
    }
    json!({"runs": 500, "interval_median": interval, "bets_median": bets, "regret_of_even": regret})
}

fn guardrail(failed: &mut Vec<String>) -> Value {
    let mut taken: Vec<u64> = (0..1_000).map(|seed| decisions_until_off(0.01, 0.10, 10_000, seed).unwrap_or(u64::MAX)).collect();
    taken.sort_unstable();
    let (middle, p95) = (taken[500], taken[950]);
    let alarms = (0..500).filter(|seed| decisions_until_off(0.01, 0.01, 100_000, *seed).is_some()).count() as f64 / 500.0;
    println!("errors 1 % -> 10 %: off after {middle} (p95 {p95}) decisions; false alarms in 1e5: {alarms:.4}");
    if middle > 200 || p95 > 375 || alarms > 0.01 {
        failed.push("guardrail".to_owned());
    }
    json!({"runs": 1_000, "median": middle, "p95": p95, "false_alarms_in_1e5": alarms})
}

fn many_shares(failed: &mut Vec<String>) -> Value {
    let mut cells = Vec::new();
    for shares in [vec![0.7, 0.3], vec![0.2, 0.8], vec![0.4, 0.3, 0.3]] {
        let world = World { shares: shares.clone(), ..World::pair(Law::Light, 1.0) };
        let runs: Vec<Run> = (0..RUNS).map(|seed| run(&world, seed)).collect();
        let (interval, bets) = (rate(&runs, |r| r.ever_excludes_zero), rate(&runs, |r| r.ever_differs));
        println!("A/A {shares:?}: interval {interval:.4} bets {bets:.4}");
        if interval > 0.06 || bets > 0.06 {
            failed.push(format!("{shares:?}"));
        }
        cells.push(json!({"runs": RUNS, "shares": shares, "interval": interval, "bets": bets}));
    }
    Value::Array(cells)
}

/// How often an experiment ever costs more than it may, and whether what is cheaper is found all the same.
fn conservative(failed: &mut Vec<String>) -> Value {
    let mut cells = Vec::new();
    for (factor, worst) in [(1.05, 3.0), (1.2, 3.0), (2.5, 3.0), (8.0, 10.0)] {
        let runs: Vec<_> = (0..RUNS / 4).map(|seed| conserve::run((300, 150), (factor, Some(worst)), seed)).collect();
        let beyond = runs.iter().filter(|kept| kept.beyond).count() as f64 / runs.len() as f64;
        let excess = runs.iter().map(|kept| kept.excess).sum::<f64>() / runs.len() as f64;
        println!("conservative x{factor}: beyond {beyond:.4}, excess {excess:.4} of {}", conserve::MOST);
        if beyond > 0.01 {
            failed.push(format!("x{factor}: {beyond}"));
        }
        cells.push(json!({"runs": runs.len(), "factor": factor, "assumed_worst": worst, "may_cost": conserve::MOST, "ever_beyond": beyond, "mean_excess": excess}));
    }
    let cheaper: Vec<_> = (0..RUNS / 20).map(|seed| conserve::run((300, 120), (0.7, Some(10.0)), seed)).collect();
    let found = cheaper.iter().filter(|kept| kept.differs).count() as f64 / cheaper.len() as f64;
    println!("conservative x0.7: found {found:.4}");
    if found < 0.95 {
        failed.push(format!("x0.7: found {found}"));
    }
    cells.push(json!({"runs": cheaper.len(), "factor": 0.7, "found": found}));
    Value::Array(cells)
}

/// Rounds over one value: how often one is moved that nothing hangs on, and how often the best is found.
fn tuning(failed: &mut Vec<String>) -> Value {
    let flat: Vec<_> = (0..RUNS).map(|seed| tuning::ends(tuning::flat, seed)).collect();
    let found: Vec<_> = (0..RUNS / 10).map(|seed| tuning::ends(tuning::best_at_80, seed)).collect();
    let moved = flat.iter().filter(|(_, promoted, _)| *promoted > 0).count() as f64 / flat.len() as f64;
    let best = found.iter().filter(|(value, ..)| *value == 80.0).count() as f64 / found.len() as f64;
    println!("tuning: moved without a reason {moved:.4}, best found {best:.4}");
    if moved > 0.05 || best < 0.95 {
        failed.push(format!("moved {moved}, best {best}"));
    }
    json!({"rounds": flat.len(), "moved_without_reason": moved, "rounds_with_a_best": found.len(), "best_found": best})
}

/// Puts a table into the file beside the others, and fails when it does not hold.
fn put(name: &str, table: fn(&mut Vec<String>) -> Value) {
    static FILE: Mutex<()> = Mutex::new(());
    let mut failed = Vec::new();
    let value = table(&mut failed);
    let _one_at_a_time = FILE.lock();
    let out = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/results");
    std::fs::create_dir_all(&out).unwrap();
    let path = out.join("simulate.json");
    let known = std::fs::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let mut tables: serde_json::Map<String, Value> = known.unwrap_or_default();
    tables.insert(name.to_owned(), json!({"holds": failed.is_empty(), "table": value}));
    std::fs::write(path, serde_json::to_vec_pretty(&tables).unwrap()).unwrap();
    assert!(failed.is_empty(), "{failed:?}");
}

#[test]
#[ignore = "minutes: run by make simulate"]
fn false_alarms_in_every_world() {
    put("false_alarms", false_alarms);
}

#[test]
#[ignore = "minutes: run by make simulate"]
fn coverage_in_every_world() {
    put("coverage", coverage);
}

#[test]
#[ignore = "minutes: run by make simulate"]
fn contextual_allocation_in_every_world() {
    put("contextual", by_context);
    put("contextual_regret", regret_by_context);
}

#[test]
#[ignore = "minutes: run by make simulate"]
fn what_an_experiment_may_cost() {
    put("conservative", conservative);
}

#[test]
#[ignore = "minutes: run by make simulate"]
fn values_that_are_moved() {
    put("tuning", tuning);
}

#[test]
#[ignore = "minutes: run by make simulate"]
fn power_and_regret() {
    put("power", power);
}

#[test]
#[ignore = "minutes: run by make simulate"]
fn guardrails_and_other_shares() {
    put("guardrail", guardrail);
    put("other_shares", many_shares);
}

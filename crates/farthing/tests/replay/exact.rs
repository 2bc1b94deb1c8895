//! A log that was written in virtual time is reproduced exactly: every outcome, every call, every decision, the bill.

use std::ops::ControlFlow;

use farthing_contract::log::{Request, Row, Value};

use crate::provider::Faults;
use crate::virtually::{Scenario, Written, replay, run};

const PLAIN: Scenario =
    Scenario { route: "", tables: "", faults: Faults { broken: 0, unavailable: 0, outage_every: None }, requests: 20_000, crowding: 1 };

/// Replays what was written under its own policy and shows what differs, should something differ.
fn is_exact(written: &Written) -> serde_json::Value {
    let (log, policy) = (written.log(), written.policy());
    let (report, code) = replay(&["--log", log.to_str().unwrap(), "--policy", policy.to_str().unwrap(), "--check"]);
    let fidelity = &report["policy"]["fidelity"];
    assert_eq!(fidelity["requests"], written.requests, "{fidelity:#}");
    assert_eq!(fidelity["exact"], true, "{fidelity:#}");
    assert_eq!(code, 0);
    report
}

fn share(report: &serde_json::Value, outcome: &str) -> f64 {
    let total = &report["policy"]["total"];
    total["outcomes"][outcome].as_f64().unwrap_or(0.0) / total["requests"].as_f64().unwrap()
}

#[test]
fn with_the_shipped_model() {
    let report = is_exact(&run(&Scenario { route: "trust_shipped = true", ..PLAIN }));
    let by: Vec<_> = report["policy"]["total"]["decisions"].as_object().unwrap().keys().cloned().collect();
    assert!(by.iter().all(|by| by.starts_with("model:") || by.starts_with("table:")), "{by:?}");
    assert!(share(&report, "hit") > 0.2 && share(&report, "lead") > 0.1, "{}", report["policy"]["total"]);
}

#[test]
fn with_rules_only_and_crowded_requests() {
    let report = is_exact(&run(&Scenario { route: "ttl = \"rule\"", crowding: 20, ..PLAIN }));
    assert!(share(&report, "follow") > 0.002, "{}", report["policy"]["total"]);
}

#[test]
fn with_an_untried_predictor_in_its_shadow() {
    let report = is_exact(&run(&Scenario { requests: 5_000, ..PLAIN }));
    let by: Vec<_> = report["policy"]["total"]["decisions"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(by, ["fallback:shipped-untried"]);
}

#[test]
fn with_an_experiment_and_a_holdout() {
    let tables = "[holdout]\nshare = 0.05\nwindow = \"30m\"\n[experiments.ttl]\nhypothesis = \"the model is cheaper\"\nwindow = \"20m\"\nslice = 0.8\nramp = [1.0]\n\
        [[experiments.ttl.variants]]\nname = \"rule\"\nttl = \"rule\"\n[[experiments.ttl.variants]]\nname = \"model\"\nttl = \"model\"\n";
    let report = is_exact(&run(&Scenario { tables, crowding: 4, ..PLAIN }));
    assert!(share(&report, "bypass") > 0.02, "{}", report["policy"]["total"]);
}

/// Stale answers are so dear that a predictor leaves the cache out wherever answers change; the log says when, and the replay keeps to it.
#[test]
fn with_strategies_that_a_predictor_chooses() {
    let route = "ttl = \"fixed:60s\"\nmode = \"override\"\nstrategy = \"model\"\nprice_stale = \"10\"";
    let written = run(&Scenario { route, tables: "[strategies]\ninterval = \"1ms\"", crowding: 4, ..PLAIN });
    let report = is_exact(&written);
    let mut left_out = 0;
    let mut visit = |cells: &[Value<'_>]| {
        left_out += u32::from(cells[0] == Value::Text("not-chosen"));
        ControlFlow::Continue(())
    };
    farthing_ledger::read::rows(&written.log(), Request::TABLE, &["uncached_reason"], &mut visit).unwrap();
    assert!(left_out > 100 && share(&report, "hit") > 0.02 && share(&report, "lead") > 0.8, "{left_out}: {}", report["policy"]["total"]);
}

#[test]
fn with_refresh_ahead() {
    let report = is_exact(&run(&Scenario { route: "ttl = \"rule\"\nrefresh_ahead = \"20s\"", crowding: 4, ..PLAIN }));
    assert!(report["policy"]["total"]["refreshes"].as_u64().unwrap() > 50, "{}", report["policy"]["total"]);
}

#[test]
fn with_stale_while_revalidate() {
    let route = "ttl = \"rule\"\nstale_while_revalidate = \"30s\"";
    let report = is_exact(&run(&Scenario { route, crowding: 4, ..PLAIN }));
    assert!(share(&report, "stale") > 0.005, "{}", report["policy"]["total"]);
    assert!(report["policy"]["total"]["refreshes"].as_u64().unwrap() > 100);
}

#[test]
fn with_a_provider_that_fails() {
    let faults = Faults { broken: 30, unavailable: 30, outage_every: Some(7) };
    let report = is_exact(&run(&Scenario { route: "ttl = \"rule\"\nstale_while_revalidate = \"20s\"", faults, crowding: 4, ..PLAIN }));
    assert!(share(&report, "failed") > 0.005 && share(&report, "stale") > 0.005, "{}", report["policy"]["total"]);
}

#[test]
fn in_every_mode() {
    for (mode, least) in [("respect", 0.01), ("override", 0.3), ("observe", 0.0)] {
        let route: &'static str = match mode {
            "respect" => "mode = \"respect\"",
            "override" => "mode = \"override\"\nttl = \"fixed:40s\"",
            _ => "mode = \"observe\"",
        };
        let report = is_exact(&run(&Scenario { route, requests: 6_000, crowding: 2, ..PLAIN }));
        assert!(share(&report, "hit") >= least, "{mode}: {}", report["policy"]["total"]);
    }
}

//! O4: what is shipped for Prometheus and Grafana names metrics that there are, and is read by Prometheus' own tool.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use farthing_tests::skip::skip;
use serde_json::Value;

use crate::root;

const RULES: &str = "deploy/prometheus/farthing.rules.yaml";
const RULES_TESTS: &str = "deploy/prometheus/farthing.rules.test.yaml";
const DASHBOARD: &str = "deploy/grafana/farthing.json";
const OPERATING: &str = "docs/operating.md";

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

fn sources(dir: &Path, out: &mut String) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path: PathBuf = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, out);
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push_str(&std::fs::read_to_string(path).unwrap());
        }
    }
}

/// Names of our metrics in a text.
fn named(text: &str) -> BTreeSet<&str> {
    let ends = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
    let names = text.match_indices("farthing_").map(|(at, _)| text[at..].split(ends).next().unwrap_or_default());
    names.collect()
}

/// A metric is registered by its name without the prefix, and mostly without its unit and the end that counters have.
#[test]
fn each_metric_that_is_named_is_there() {
    let mut code = String::new();
    sources(&root().join("crates/proxy/src"), &mut code);
    for path in [RULES, DASHBOARD] {
        let text = read(path);
        let names = named(&text);
        assert!(names.len() > 15, "{path}: {names:?}");
        for name in names {
            let mut short = name.trim_start_matches("farthing_").trim_end_matches("_total");
            let whole = format!("\"{short}\"");
            short = short.trim_end_matches("_usd").trim_end_matches("_seconds");
            assert!(code.contains(&whole) || code.contains(&format!("\"{short}\"")), "{path} names {name}, which nothing registers");
        }
    }
}

/// What an alert says to look at is explained.
#[test]
fn each_alert_stands_in_the_page_for_operators() {
    let (rules, page) = (read(RULES), read(OPERATING));
    let alerts: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() >= 19, "{alerts:?}");
    for alert in alerts {
        assert!(page.contains(&format!("`{alert}`")), "{alert} is not in {OPERATING}");
    }
}

#[test]
fn prometheus_reads_them_and_the_rules_do_what_they_say() {
    if Command::new("promtool").arg("--version").output().is_err() {
        return skip("alert rules: promtool is not there (make deps gets it)");
    }
    let dashboard: Value = serde_json::from_str(&read(DASHBOARD)).unwrap();
    let mut rules = "groups:\n- name: panels\n  rules:\n".to_owned();
    let mut questions = 0;
    for target in dashboard["panels"].as_array().unwrap().iter().flat_map(|panel| panel["targets"].as_array().into_iter().flatten()) {
        let asked = target["expr"].as_str().unwrap().replace("$__range", "1h").replace("$__rate_interval", "5m");
        let asked = asked.replace("$instance", ".*").replace("$route", ".*");
        assert!(!asked.contains('$'), "{asked}");
        writeln!(rules, "  - record: panel:{questions}\n    expr: {}", Value::from(asked)).unwrap();
        questions += 1;
    }
    assert!(questions > 20, "{questions}");
    let dir = tempfile::tempdir().unwrap();
    let panels = dir.path().join("panels.yaml");
    std::fs::write(&panels, rules).unwrap();
    for (order, file) in [("check", root().join(RULES)), ("check", panels), ("test", root().join(RULES_TESTS))] {
        let output = Command::new("promtool").args([order, "rules"]).arg(&file).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {said}", file.display());
    }
}

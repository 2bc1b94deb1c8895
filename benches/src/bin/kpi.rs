//! The board of headline figures, K1 to K10 of docs/requirements.md, from what the other targets have measured into `target/results/`.
//! A figure that was not measured is said to be so, with the target that measures it.
#![allow(clippy::print_stdout)]

use std::fmt::Write as _;
use std::path::Path;

use farthing_bench::{results, write};
use serde::Serialize;
use serde_json::Value;

/// What became of a figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    Holds,
    Missed,
    NotMeasured,
}

/// One line of the board.
#[derive(Debug, Serialize)]
struct Line {
    id: &'static str,
    what: &'static str,
    target: &'static str,
    measured: String,
    verdict: Verdict,
    /// Which target measures it.
    source: &'static str,
}

/// The files of results that are there.
struct Found {
    demo: Option<Value>,
    scenarios: Option<Value>,
    micro: Option<Value>,
    stampede: Option<Value>,
    alerts: Option<Value>,
}

/// A figure: how it reads, and whether it holds.
type Figure = Option<(String, bool)>;

fn main() -> anyhow::Result<()> {
    let read = |name: &str| load(&results(name));
    let found = Found {
        demo: read("demo")?,
        scenarios: read("scenarios")?,
        micro: read("micro")?,
        stampede: read("stampede")?,
        alerts: read("alerts")?,
    };
    let lines = board(&found);
    let mut text = String::new();
    for line in &lines {
        let verdict = match line.verdict {
            Verdict::Holds => "holds",
            Verdict::Missed => "MISSED",
            Verdict::NotMeasured => "not measured",
        };
        let _ = writeln!(text, "{:<4} {:<52} {:<28} {verdict:<13} {}  ({})", line.id, line.what, line.target, line.measured, line.source);
    }
    print!("{text}");
    println!("{}", write("kpi", &lines)?.display());
    Ok(())
}

/// The figures of a file; `None` when there is none.
fn load(path: &Path) -> anyhow::Result<Option<Value>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes).map_err(|e| anyhow::anyhow!("{}: {e}; measure it again", path.display()))?)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(anyhow::anyhow!("{}: {error}", path.display())),
    }
}

fn board(found: &Found) -> Vec<Line> {
    let demo = found.demo.as_ref();
    let scenarios = found.scenarios.as_ref();
    let line = |id, what, target, source, figure: Figure| {
        let (measured, verdict) = match figure {
            Some((measured, true)) => (measured, Verdict::Holds),
            Some((measured, false)) => (measured, Verdict::Missed),
            None => ("-".to_owned(), Verdict::NotMeasured),
        };
        Line { id, what, target, measured, verdict, source }
    };
    vec![
        line("K1", "time added to a request", "p95 < 5 ms, p99 < 10 ms", "make demo-json", demo.and_then(overhead)),
        line(
            "K2",
            "answered without a call: Z1, Z4, Z5",
            "> 70 %",
            "make scenarios",
            scenarios.and_then(|s| least(s, &["Z1", "Z4", "Z5"], "hit_ratio", 0.7)),
        ),
        line(
            "K3",
            "bill saved: every scenario",
            "50 %",
            "make scenarios",
            scenarios.and_then(|s| least(s, &["Z1", "Z2", "Z3", "Z4", "Z5", "Z6"], "reduction", 0.5)),
        ),
        line(
            "K3",
            "where traffic repeats: Z1, Z4, Z5",
            "70 %",
            "make scenarios",
            scenarios.and_then(|s| least(s, &["Z1", "Z4", "Z5"], "reduction", 0.7)),
        ),
        line("K3", "the generated trace, proved by its holdout", "50 %", "make demo-json", demo.and_then(saving)),
        line(
            "K4",
            "in time, of what the provider alone answered in time",
            "99.9 %",
            "make scenarios",
            scenarios.and_then(|s| least(s, &["Z1", "Z2", "Z3", "Z4", "Z5", "Z6"], "sla_met", 0.999)),
        ),
        line("K5", "availability", "99.99 %", "docs/requirements.md", None),
        line("K6", "the route among 10,000", "< 2 us", "make bench", found.micro.as_ref().and_then(matching)),
        line("K7", "calls in a batch: Z3, Z4", "> 5", "make scenarios", scenarios.and_then(|s| mean_batch(s, &["Z3", "Z4"]))),
        line("K8", "calls of a stampede on one key", "1", "make bench", found.stampede.as_ref().and_then(stampede)),
        line(
            "K8",
            "joined to a request under way: Z5",
            "> 10 %",
            "make scenarios",
            scenarios.and_then(|s| above(number(s, "/Z5/followed_share")?, 0.1)),
        ),
        line(
            "K9",
            "foretold overruns of a month that do not come",
            "< 5 %",
            "make simulate",
            found.alerts.as_ref().and_then(|alerts| below(number(alerts, "/predicted_overruns_false_share")?, 0.05)),
        ),
        line("K10", "decided by what stands in, in healthy operation", "< 1 %", "make demo-json", demo.and_then(fallbacks)),
    ]
}

fn number(value: &Value, pointer: &str) -> Option<f64> {
    value.pointer(pointer)?.as_f64()
}

fn percent(share: f64) -> String {
    format!("{:.2} %", share * 100.0)
}

fn above(share: f64, bar: f64) -> Figure {
    Some((percent(share), share > bar))
}

fn below(share: f64, bar: f64) -> Figure {
    Some((percent(share), share < bar))
}

/// The lowest of a field in these scenarios, at least `bar`.
fn least(scenarios: &Value, names: &[&str], field: &str, bar: f64) -> Figure {
    let shares: Option<Vec<(f64, &str)>> =
        names.iter().map(|name| Some((number(scenarios, &format!("/{name}/{field}"))?, *name))).collect();
    let (share, name) = shares?.into_iter().min_by(|a, b| a.0.total_cmp(&b.0))?;
    Some((format!("{} at least ({name})", percent(share)), share >= bar))
}

fn mean_batch(scenarios: &Value, names: &[&str]) -> Figure {
    let means: Option<Vec<f64>> = names.iter().map(|name| number(scenarios, &format!("/{name}/mean_batch"))).collect();
    let lowest = means?.into_iter().min_by(f64::total_cmp)?;
    Some((format!("{lowest:.1} at least"), lowest > 5.0))
}

fn overhead(demo: &Value) -> Figure {
    let (p95, p99) = (number(demo, "/overhead_ms/p95")?, number(demo, "/overhead_ms/p99")?);
    Some((format!("{p95:.3} ms, {p99:.3} ms"), p95 < 5.0 && p99 < 10.0))
}

fn saving(demo: &Value) -> Figure {
    let (share, low, high) = (number(demo, "/saving_share")?, number(demo, "/saving_low"), number(demo, "/saving_high"));
    let interval = low.zip(high).map_or_else(|| "no interval".to_owned(), |(low, high)| format!("[{}, {}]", percent(low), percent(high)));
    Some((format!("{} {interval}", percent(share)), share >= 0.5))
}

fn fallbacks(demo: &Value) -> Figure {
    let share = number(demo, "/decisions_by_fallback_share")?;
    Some((percent(share), share < 0.01))
}

fn matching(micro: &Value) -> Figure {
    let case = micro.as_array()?.iter().find(|figure| figure["case"] == "route of 10,000, by index")?;
    let (p50, p99) = (number(case, "/p50_us")?, number(case, "/p99_us")?);
    Some((format!("p50 {p50:.2} us, p99 {p99:.2} us"), p99 < 2.0))
}

fn stampede(stampede: &Value) -> Figure {
    let rounds = stampede["kinds"].as_array()?.iter().flat_map(|kind| kind["calls"].as_array().into_iter().flatten());
    let calls: Vec<u64> = rounds.filter_map(Value::as_u64).collect();
    let most = calls.iter().max()?;
    Some((format!("{most} at most in {} rounds", calls.len()), *most == 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn found(demo: Option<Value>, scenarios: Option<Value>) -> Found {
        Found { demo, scenarios, micro: None, stampede: None, alerts: None }
    }

    fn verdict(lines: &[Line], what: &str) -> Verdict {
        lines.iter().find(|line| line.what.contains(what)).unwrap().verdict
    }

    #[test]
    fn what_was_not_measured_is_said_to_be_so() {
        let lines = board(&found(None, None));
        assert!(lines.iter().all(|line| line.verdict == Verdict::NotMeasured));
        // One scenario of three is not the three.
        let lines = board(&found(None, Some(json!({"Z1": {"hit_ratio": 0.9}}))));
        assert_eq!(verdict(&lines, "answered without"), Verdict::NotMeasured);
    }

    #[test]
    fn the_worst_of_the_scenarios_decides() {
        let of = |last: f64| json!({"Z1": {"hit_ratio": 0.9}, "Z4": {"hit_ratio": 0.8}, "Z5": {"hit_ratio": last}});
        assert_eq!(verdict(&board(&found(None, Some(of(0.75)))), "answered without"), Verdict::Holds);
        assert_eq!(verdict(&board(&found(None, Some(of(0.69)))), "answered without"), Verdict::Missed);
    }

    #[test]
    fn both_bounds_of_the_overhead_count() {
        let of = |p95: f64, p99: f64| board(&found(Some(json!({"overhead_ms": {"p95": p95, "p99": p99}})), None));
        assert_eq!(verdict(&of(1.0, 2.0), "time added"), Verdict::Holds);
        assert_eq!(verdict(&of(1.0, 12.0), "time added"), Verdict::Missed);
    }

    #[test]
    fn alerts_that_are_false_too_often_are_missed() {
        let of = |share: f64| Found { alerts: Some(json!({"predicted_overruns_false_share": share})), ..found(None, None) };
        assert_eq!(verdict(&board(&of(0.04)), "foretold overruns"), Verdict::Holds);
        assert_eq!(verdict(&board(&of(0.06)), "foretold overruns"), Verdict::Missed);
    }

    #[test]
    fn one_call_too_many_is_a_missed_stampede() {
        let of = |calls: u64| {
            let kinds = json!({"kinds": [{"calls": [1, 1]}, {"calls": [1, calls]}]});
            stampede(&kinds).unwrap().1
        };
        assert!(of(1) && !of(2));
    }
}

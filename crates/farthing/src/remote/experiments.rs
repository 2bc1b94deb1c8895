//! `farthing experiments`.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use farthing_admin::{ExperimentAudit, ExperimentDetail, ExperimentRequest, ExperimentRows, ExperimentSummary, RouteTuning};
use farthing_experiment::contextual::Split;
use farthing_experiment::{Answer, Learned};
use farthing_types::Overrides;
use http::Method;
use serde_json::Value;

use super::client::ClientError;
use super::{AdminFlags, ask, print, segment};
use crate::table::render;

const PATH: &str = "/api/v1/experiments";

/// Flags of `farthing experiments`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    admin: AdminFlags,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// All experiments.
    List,
    /// The answer about each challenger, then figures by variant and the effect with its interval.
    Show {
        /// The experiment.
        #[arg(value_parser = segment)]
        name: String,
    },
    /// Numbers of plans that the proxy moves by experiments of its own: in force, under way, tried.
    Tuning,
    /// Measure from now on; the first whole window counts.
    Start {
        /// Only work out and log what variants would choose.
        #[arg(long)]
        shadow: bool,
        #[command(flatten)]
        order: OrderArgs,
    },
    /// End it without a decision.
    Stop(OrderArgs),
    /// End it in favour of a variant, which every unit has from now on; this stays.
    Decide {
        /// The variant.
        #[arg(long)]
        variant: String,
        #[command(flatten)]
        order: OrderArgs,
    },
    /// Change how much of the measurement slice takes part.
    Traffic {
        /// Per cent, 0 to 100; it stays there. 0 acts at once, others from the next window on.
        #[arg(long, value_name = "PER CENT", required_unless_present = "auto")]
        percent: Option<f64>,
        /// Let the ramp go on by itself.
        #[arg(long, conflicts_with = "percent")]
        auto: bool,
        #[command(flatten)]
        order: OrderArgs,
    },
    /// What was done with it, by whom and why.
    Audit {
        /// The experiment.
        #[arg(value_parser = segment)]
        name: String,
    },
    /// Its closed unit-windows as CSV (docs/experiments.md has the columns), for a notebook.
    Export {
        /// The experiment.
        #[arg(value_parser = segment)]
        name: String,
        /// Into this file; to the standard output without it.
        #[arg(long)]
        out: Option<PathBuf>,
    },
}

#[derive(Debug, clap::Args)]
struct OrderArgs {
    /// The experiment.
    #[arg(value_parser = segment)]
    name: String,
    /// Why; kept in the audit.
    #[arg(long)]
    reason: String,
}

/// Shows experiments and orders them about.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let flags = &args.admin;
    ask(flags, async |client| {
        let order = async |name: &OrderArgs, order: &str, variant: Option<&String>, share: Option<f64>| {
            let request = ExperimentRequest { reason: name.reason.clone(), variant: variant.cloned(), share };
            let stands: ExperimentDetail = client.call(Method::POST, &format!("{PATH}/{}/{order}", name.name), &request).await?;
            print(flags, &stands, stands_now);
            Ok::<(), ClientError>(())
        };
        match &args.command {
            Command::List => {
                let all: Vec<ExperimentSummary> = client.get(PATH).await?;
                print(flags, all.as_slice(), list);
            }
            Command::Show { name } => print(flags, &client.get(&format!("{PATH}/{name}")).await?, show),
            Command::Tuning => print(flags, client.get::<Vec<RouteTuning>>("/api/v1/tuning").await?.as_slice(), tuning),
            Command::Start { shadow, order: of } => order(of, if *shadow { "shadow" } else { "start" }, None, None).await?,
            Command::Stop(of) => order(of, "stop", None, None).await?,
            Command::Decide { variant, order: of } => order(of, "decide", Some(variant), None).await?,
            Command::Traffic { percent, order: of, .. } => order(of, "traffic", None, percent.map(|p| p / 100.0)).await?,
            Command::Audit { name } => {
                let lines: Vec<ExperimentAudit> = client.get(&format!("{PATH}/{name}/audit")).await?;
                print(flags, lines.as_slice(), audit);
            }
            Command::Export { name, out } => {
                let unwritten = |error: std::io::Error| {
                    let to = out.as_ref().map_or_else(|| "the standard output".to_owned(), |path| path.display().to_string());
                    ClientError::Unwritten(format!("{to}: {error}"))
                };
                let mut file = writer(out.as_deref()).map_err(unwritten)?;
                let mut from = Some(0);
                while let Some(at) = from {
                    let piece: ExperimentRows = client.get(&format!("{PATH}/{name}/export?from={at}")).await?;
                    file.write_all(piece.csv.as_bytes()).map_err(unwritten)?;
                    from = piece.next;
                }
                file.flush().map_err(unwritten)?;
            }
        }
        Ok(ExitCode::SUCCESS)
    })
}

fn writer(out: Option<&Path>) -> std::io::Result<Box<dyn Write>> {
    Ok(match out {
        Some(path) => Box::new(std::fs::File::create(path)?),
        None => Box::new(std::io::stdout().lock()),
    })
}

fn stands_now(detail: &ExperimentDetail) -> String {
    let ExperimentSummary { name, stage, traffic, ramps, leader, .. } = &detail.summary;
    let by = if *ramps { ", by itself" } else { "" };
    format!("{name} is {stage}: {:.0} % of the slice takes part{by}, the others have {leader}\n", traffic * 100.0)
}

fn audit(lines: &[ExperimentAudit]) -> String {
    let rows = lines.iter().map(|line| vec![line.at.clone(), line.by.clone(), line.what.clone(), line.reason.clone().unwrap_or_default()]);
    render(&["at", "by", "what", "reason"], rows)
}

fn tuning(all: &[RouteTuning]) -> String {
    if all.is_empty() {
        return "no route has a table [routes.NAME.tune]: nothing is moved\n".to_owned();
    }
    let values = all.iter().flat_map(|of| of.values.iter().map(move |value| (of, value))).map(|(of, value)| {
        let tried = of.trying.as_ref().filter(|trying| trying.key == value.key);
        let now = match (tried, &value.settled, &of.waits) {
            (Some(trying), ..) => {
                let left = trying.left_s / 86_400.0;
                let frozen = of.waits.as_ref().map_or(String::new(), |waits| format!("{waits}; "));
                format!("{frozen}tries {}: {} ({left:.1} days left; {})", trying.value, trying.verdict, trying.experiment)
            }
            (None, Some(since), _) => format!("settled since {since}"),
            (None, None, Some(waits)) => waits.clone(),
            (None, None, None) => "its turn comes".to_owned(),
        };
        let bounds = format!("{} to {}", value.low, value.high);
        vec![of.route.clone(), value.key.clone(), value.configured.clone(), value.value.clone(), bounds, value.rounds.to_string(), now]
    });
    let mut text = render(&["route", "value", "configured", "in force", "bounds", "round", "now"], values);
    let past: Vec<_> = all.iter().flat_map(|of| of.past.iter().map(move |past| (of, past))).collect();
    if !past.is_empty() {
        let rows = past.iter().map(|(of, past)| {
            let dollars = past.usd_per_month.map_or_else(|| "-".to_owned(), |usd| format!("{usd:+.2}"));
            let tried = format!("{} against {}", past.value, past.against);
            let (verdict, why) = (past.verdict.clone(), past.why.clone());
            vec![past.at.clone(), of.route.clone(), past.key.clone(), tried, past.outcome.clone(), verdict, dollars, why]
        });
        text.push('\n');
        text += &render(&["at", "route", "value", "tried", "outcome", "verdict", "$ a month", "because"], rows);
    }
    text
}

fn list(all: &[ExperimentSummary]) -> String {
    let rows = all.iter().map(|experiment| {
        let variants = experiment.variants.iter().map(|variant| match &variant.off {
            Some(why) => format!("{} (off: {why})", variant.name),
            None => format!("{} {:.0} %", variant.name, variant.share * 100.0),
        });
        vec![
            experiment.name.clone(),
            if experiment.routes.is_empty() { "all".to_owned() } else { experiment.routes.join(",") },
            experiment.stage.clone(),
            variants.collect::<Vec<_>>().join(", "),
            format!("{:.0} %", experiment.traffic * 100.0),
            experiment.windows.to_string(),
            experiment.verdict.clone(),
            experiment.hypothesis.clone(),
        ]
    });
    let table = render(&["experiment", "routes", "stage", "variants", "traffic", "windows", "verdict", "hypothesis"], rows);
    let found: Vec<String> = all.iter().flat_map(|of| of.found.iter().map(move |variant| format!("{} of {}", variant, of.name))).collect();
    match all.len() {
        0 | 1 => table,
        _ if found.is_empty() => format!("{table}\nnothing is found among all of them\n"),
        _ => format!("{table}\nfound to differ from control, at most 5 % of these wrongly (e-BH over all): {}\n", found.join(", ")),
    }
}

fn show(detail: &ExperimentDetail) -> String {
    let summary = &detail.summary;
    let report = &detail.report;
    let answers: Vec<Answer> = serde_json::from_value(detail.answers.clone()).unwrap_or_default();
    let mut text: String = answers.iter().map(Answer::text).collect();
    text +=
        &format!("\n{}: {}\n{} windows of {} s by {}; ", summary.name, summary.hypothesis, summary.windows, summary.window_s, summary.unit);
    text += &stands_now(detail);
    text.push('\n');
    text += &fleet(&detail.fleet);
    let list = |key: &str| report[key].as_array().map_or(&[][..], Vec::as_slice);
    let variants = list("variants").iter().map(|variant| {
        vec![
            plain(&variant["name"]),
            plain(&variant["units"]),
            plain(&variant["unit_windows"]),
            plain(&variant["requests"]),
            number(&variant["bill_usd"], 6),
            number(&variant["cost_usd"], 6),
            percent(&variant["stale_share"]),
            percent(&variant["error_share"]),
            percent(&variant["late_share"]),
            plain(&variant["off"]),
            changes(summary, &variant["name"]),
        ]
    });
    let heads = ["variant", "units", "unit-windows", "requests", "bill $", "cost $", "stale", "errors", "late", "off", "changes"];
    text += &render(&heads, variants);
    text.push('\n');
    let comparisons = list("comparisons").iter().map(|comparison| {
        let relative = &comparison["relative"];
        let effect = if relative.is_null() {
            "-".to_owned()
        } else {
            format!("{} ({} to {})", percent(&relative["point"]), percent(&relative["low"]), percent(&relative["high"]))
        };
        let verdict = if comparison["differs"].as_bool() == Some(true) { "they differ" } else { "open" };
        vec![
            format!("{} against {}", plain(&comparison["variant"]), plain(&comparison["control"])),
            effect,
            number(&comparison["evidence"], 2),
            verdict.to_owned(),
            plain(&comparison["note"]),
        ]
    });
    text += &render(&["comparison", "cost per unit-window", "evidence", "verdict", "note"], comparisons);
    text + &serde_json::from_value::<Option<Learned>>(report["learned"].clone())
        .ok()
        .flatten()
        .map(|known| learned(&known))
        .unwrap_or_default()
}

/// Of how old a report this is the answer, and which windows are not in it.
fn fleet(known: &Value) -> String {
    if known.is_null() {
        return String::new();
    }
    if known["version"] == 0 {
        return "fleet: nothing was heard of it yet\n".to_owned();
    }
    let mut text = format!(
        "fleet: {} windows count; published {:.0} s ago by {}",
        known["windows"],
        known["age_s"].as_f64().unwrap_or(0.0),
        plain(&known["by"])
    );
    let absent = known["absent"].as_array().map_or(&[][..], Vec::as_slice);
    let reasons: Vec<String> = absent.iter().map(|of| format!("{} {}", of[1], plain(&of[0]))).collect();
    if !reasons.is_empty() {
        text += &format!("; left out: {}", reasons.join(", "));
    }
    let last = &known["last_absent"];
    if last.is_object() {
        text += &format!(" (the last {}, {})", plain(&last["why"]), plain(&last["instance"]));
    }
    if known["rows_missing"].as_u64().unwrap_or(0) > 0 {
        text += &format!("; {} unit-windows are not in the export of this instance", known["rows_missing"]);
    }
    if let Some(why) = known["refused"].as_str() {
        text += &format!("\nthis instance takes no part: {why}");
    }
    text + "\n"
}

/// What contextual allocation has learned: for which units each challenger is predicted to be cheaper, and what finding out has cost.
fn learned(known: &Learned) -> String {
    let dollars = |usd: f64| format!("{usd:+.6} $");
    let rows = known.variants.iter().map(|variant| {
        let leaning = variant.leaning.as_ref();
        let where_it_tells = leaning.map(|l| {
            let split = |s: &Split| format!("{} <= {:.2}: {}, above: {}", s.feature, s.at, dollars(s.low_usd), dollars(s.high_usd));
            l.splits.iter().map(split).collect::<Vec<_>>().join("; ")
        });
        vec![
            variant.name.to_string(),
            format!("{:.0}", variant.rows),
            variant.probability.map_or_else(|| "-".to_owned(), |p| format!("{:.1} %", p * 100.0)),
            leaning.map_or_else(|| "-".to_owned(), |l| format!("{:.0} % of the units", l.cheapest * 100.0)),
            leaning.map_or_else(|| "-".to_owned(), |l| dollars(l.difference_usd)),
            where_it_tells.filter(|text| !text.is_empty()).unwrap_or_else(|| "-".to_owned()),
        ]
    });
    let mut text = format!("\nlearned by context ({} units):\n", known.contexts);
    text += &render(&["variant", "rows", "probability", "cheapest for", "against control", "which differs most by"], rows);
    if let Some(usd) = known.deviation_usd {
        text += &format!("  a unit-window is {usd:.6} $ from its prediction\n");
    }
    let of = known.budget_usd.map_or_else(String::new, |usd| format!(" of {usd:.2} $ a day"));
    text += &format!("  exploring has cost {:.2} $ by estimate, {:.2} $ today{of}\n", known.explored_usd, known.explored_today_usd);
    match known.appetite {
        Some(left) if left < 1.0 => {
            text + "  the day's money runs out: beside the uniform slice units get what is predicted to be the cheapest\n"
        }
        _ => text,
    }
}

/// What a variant changes about the plan.
fn changes(summary: &ExperimentSummary, name: &Value) -> String {
    let of = summary.variants.iter().find(|variant| name.as_str() == Some(&*variant.name));
    let said =
        of.and_then(|variant| serde_json::from_value::<Overrides>(variant.overrides.clone()).ok()).map(|overrides| overrides.to_string());
    said.filter(|said| !said.is_empty()).unwrap_or_else(|| "-".to_owned())
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn number(value: &Value, digits: usize) -> String {
    value.as_f64().map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
}

fn percent(value: &Value) -> String {
    value.as_f64().map_or_else(|| "-".to_owned(), |value| format!("{:.2} %", value * 100.0))
}

#[cfg(test)]
mod tests {
    use farthing_experiment::LearnedVariant;
    use farthing_experiment::contextual::Leaning;

    use super::*;

    #[test]
    fn what_is_moved_is_told_with_what_was_tried_and_what_it_waits_for() {
        use farthing_admin::{TunedPast, TunedValue, TuningTrial};
        let [twenty, forty] = ["20ms", "40ms"].map(str::to_owned);
        let value = TunedValue {
            key: "batch_window".to_owned(),
            configured: twenty.clone(),
            value: forty.clone(),
            low: "5ms".to_owned(),
            high: "200ms".to_owned(),
            settled: None,
            rounds: 1,
        };
        let past = TunedPast {
            at: "2026-11-27T00:00:00Z".to_owned(),
            experiment: "tune.lists.batch_window.1".to_owned(),
            key: "batch_window".to_owned(),
            against: twenty,
            value: forty.clone(),
            why: "there is most room above".to_owned(),
            outcome: "promoted".to_owned(),
            verdict: "better".to_owned(),
            usd_per_month: Some(-12.5),
        };
        let trying = TuningTrial {
            experiment: "tune.lists.batch_window.2".to_owned(),
            key: "batch_window".to_owned(),
            against: forty,
            value: "80ms".to_owned(),
            why: String::new(),
            verdict: "keep running (about 2 days)".to_owned(),
            left_s: 864_000.0,
        };
        let of = RouteTuning { route: "lists".to_owned(), values: vec![value], trying: Some(trying), waits: None, past: vec![past] };
        let text = tuning(std::slice::from_ref(&of));
        for part in [
            "tries 80ms: keep running (about 2 days) (10.0 days left; tune.lists.batch_window.2)",
            "5ms to 200ms",
            "40ms against 20ms",
            "-12.50",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let waits = RouteTuning { trying: None, waits: Some("waiting for experiment e".to_owned()), ..of };
        assert!(tuning(&[waits]).contains("waiting for experiment e"));
        assert!(tuning(&[]).contains("[routes.NAME.tune]"));
    }

    #[test]
    fn what_was_learned_is_told_with_where_and_at_what_price() {
        let split = Split { feature: "log_rate_fast".to_owned(), at: 0.5, low_usd: 0.002, high_usd: -0.003 };
        let leaning = Leaning { variant: 1, cheapest: 0.47, difference_usd: -0.0005, splits: vec![split] };
        let variant = |name: &str, leaning| LearnedVariant { name: name.into(), rows: 1_200.4, probability: Some(0.525), leaning };
        let known = Learned {
            variants: vec![variant("rule", None), variant("model", Some(leaning))],
            contexts: 60,
            deviation_usd: Some(0.0021),
            explored_usd: 3.217,
            explored_today_usd: 0.31,
            budget_usd: Some(5.0),
            appetite: Some(0.2),
        };
        let text = learned(&known);
        let model = text.lines().find(|line| line.contains("model")).unwrap();
        assert!(model.contains("52.5 %") && model.contains("47 % of the units") && model.contains("-0.000500 $"), "{text}");
        assert!(model.contains("log_rate_fast <= 0.50: +0.002000 $, above: -0.003000 $"), "{text}");
        assert!(
            text.contains("exploring has cost 3.22 $ by estimate, 0.31 $ today of 5.00 $ a day") && text.contains("runs out"),
            "{text}"
        );
        let early = Learned { budget_usd: None, appetite: None, deviation_usd: None, ..known };
        assert!(!learned(&early).contains("runs out") && !learned(&early).contains("a day"));
    }
}

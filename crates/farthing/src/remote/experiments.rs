//! `farthing experiments`.

use std::process::ExitCode;

use farthing_admin::{ExperimentDetail, ExperimentSummary};
use serde_json::Value;

use super::{AdminFlags, ask, print, segment};
use crate::table::render;

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
    /// Figures by variant, and the effect with its interval.
    Show {
        /// The experiment.
        #[arg(value_parser = segment)]
        name: String,
    },
}

/// Shows experiments.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let flags = &args.admin;
    ask(flags, async |client| {
        match &args.command {
            Command::List => {
                let all: Vec<ExperimentSummary> = client.get("/api/v1/experiments").await?;
                print(flags, all.as_slice(), list);
            }
            Command::Show { name } => print(flags, &client.get(&format!("/api/v1/experiments/{name}")).await?, show),
        }
        Ok(ExitCode::SUCCESS)
    })
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
            variants.collect::<Vec<_>>().join(", "),
            experiment.windows.to_string(),
            if experiment.differs { "they differ" } else { "open" }.to_owned(),
            experiment.hypothesis.clone(),
        ]
    });
    render(&["experiment", "routes", "variants", "windows", "verdict", "hypothesis"], rows)
}

fn show(detail: &ExperimentDetail) -> String {
    let summary = &detail.summary;
    let report = &detail.report;
    let mut text = format!("{}: {}\n{} windows of {} s\n\n", summary.name, summary.hypothesis, summary.windows, summary.window_s);
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
            plain(&variant["off"]),
        ]
    });
    text += &render(&["variant", "units", "unit-windows", "requests", "bill $", "cost $", "stale", "errors", "off"], variants);
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
    text + &render(&["comparison", "cost per unit-window", "evidence", "verdict", "note"], comparisons)
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

//! `farthing status`.

use std::fmt::Write;
use std::process::ExitCode;

use farthing_admin::{RouteInfo, Status, Totals};
use serde::Serialize;
use serde_json::Value;

use super::{AdminFlags, ask, print};
use crate::table::render;

/// Flags of `farthing status`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    admin: AdminFlags,
}

#[derive(Serialize)]
struct View {
    status: Status,
    routes: Vec<RouteInfo>,
}

/// Shows the instance; fails when its data port cannot answer.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    ask(&args.admin, async |client| {
        let view = View { status: client.get("/api/v1/status").await?, routes: client.get("/api/v1/routes").await? };
        print(&args.admin, &view, table);
        Ok(if view.status.readiness.status.answers() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    })
}

fn table(view: &View) -> String {
    let status = &view.status;
    let phase = format!("{:?}", status.readiness.status).to_lowercase();
    let mut text = format!("farthing {}, {phase}, up {}, data port {}\n", status.version, uptime(status.uptime_s), status.data_addr);
    if let Some(fleet) = &status.fleet {
        let version = |name: &String| fleet.configs.iter().find(|of| of.instance == *name).and_then(|of| of.version);
        let member = |name: &String| match version(name) {
            Some(version) if version > 0 => format!("{name}, configuration {version}"),
            _ => name.clone(),
        };
        let of = fleet.members.iter().map(member).collect::<Vec<_>>().join("; ");
        let _ = writeln!(text, "instance {} of fleet {} ({of})", fleet.instance, fleet.name); // cannot fail on a String
    }
    for part in status.readiness.parts.iter().filter(|part| !part.ok) {
        let _ = writeln!(text, "  {}: {}", part.name, part.detail); // cannot fail on a String
    }
    let _ = writeln!(text, "TTLs by {}\n", status.predictor.as_deref().unwrap_or("rules"));
    let all = [("all".to_owned(), String::new(), String::new(), &status.total)];
    let routes = view.routes.iter().map(|route| (route.name.clone(), route.path_prefix.clone(), route.mode.clone(), &route.totals));
    let rows = routes.chain(all).map(|(name, takes, mode, totals)| [vec![name, takes, mode], money(totals)].concat());
    text += &render(&["route", "takes", "mode", "requests", "hits", "bill $", "without $", "saving", "stale", "unpriced", "p95 ms"], rows);
    text += &extra(&status.total);
    text + &status.saving.as_ref().map_or_else(String::new, proof)
}

/// What was paid beside the calls that clients waited for, a line for each cause; nothing where there was none.
pub fn extra(totals: &Totals) -> String {
    let told = [("refill", "to bring lost copies back"), ("warm", "to warm"), ("refresh", "to refresh"), ("prefetch", "to fetch ahead")];
    let line = |(purpose, what): (&str, &str)| {
        let tally = totals.calls.get(purpose).filter(|tally| tally.count > 0)?;
        let unpriced = if tally.unpriced > 0 { format!(", {} unpriced", tally.unpriced) } else { String::new() };
        Some(format!("{purpose}: {} calls {what}, {} $ of the bill{unpriced}\n", tally.count, tally.usd))
    };
    told.into_iter().filter_map(line).collect()
}

/// The saving as the holdout proves it, or why it cannot yet.
fn proof(report: &Value) -> String {
    let (all, held) = (&report["unit_windows"], &report["holdout_unit_windows"]);
    let units = format!("{held} of {all} key-windows held out");
    let percent = |part: &str| report["saving"][part].as_f64().map(|share| format!("{:.1} %", share * 100.0));
    let usd = |name: &str| report[name].as_f64().unwrap_or_default();
    let proved = match (percent("point"), percent("low"), percent("high")) {
        (Some(point), Some(low), Some(high)) => format!(
            "\nproved saving {point}, between {low} and {high} (95 %, at any time): {:.6} $ instead of {:.6} $; {units}\n",
            usd("bill_usd"),
            usd("base_usd")
        ),
        _ => format!("\nno proved saving yet: {}; {units}\n", report["note"].as_str().unwrap_or("no interval")),
    };
    proved + &holdout(report)
}

/// What the holdout costs, before anybody asks.
pub(super) fn holdout(report: &Value) -> String {
    let number = |name: &str| report[name].as_f64();
    let (Some(share), Some(configured)) = (number("holdout_share"), number("configured_share")) else { return String::new() };
    if configured <= 0.0 {
        return "the saving is not measured: [holdout] share is 0\n".to_owned();
    }
    let lowered =
        if share < configured { format!(", lowered from {:.2} % by [holdout] max_cost", configured * 100.0) } else { String::new() };
    let (cost, bill) = (number("holdout_cost_usd").unwrap_or_default(), number("bill_usd").unwrap_or_default());
    let of_bill = if bill > 0.0 { format!(", {:.2} % of the bill", cost / bill * 100.0) } else { String::new() };
    let a_year = number("holdout_usd_a_year").map_or_else(String::new, |usd| format!("; about {usd:.2} $ a year"));
    format!("the holdout of {:.2} % of key-windows{lowered} has cost {cost:.6} ${of_bill}{a_year}\n", share * 100.0)
}

fn money(totals: &Totals) -> Vec<String> {
    let share = |share: Option<f64>| share.map_or_else(|| "-".to_owned(), |share| format!("{:.1} %", share * 100.0));
    let stale = (totals.checked > 0).then(|| totals.stale as f64 / totals.checked as f64);
    vec![
        totals.requests.to_string(),
        share(totals.hit_ratio),
        totals.bill_usd.to_string(),
        totals.base_usd.to_string(),
        share(totals.saving_share),
        share(stale),
        totals.unpriced.to_string(),
        totals.latency_ms.p95.map_or_else(|| "-".to_owned(), |p95| format!("{p95:.2}")),
    ]
}

fn uptime(seconds: f64) -> String {
    let seconds = seconds as u64;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min", seconds / 60),
        3_600..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use farthing_admin::{Tally, Totals};
    use farthing_experiment::{Interval, SavingReport};
    use serde_json::json;

    #[test]
    fn what_a_refill_cost_has_a_line_of_its_own() {
        let mut totals = Totals::default();
        assert_eq!(super::extra(&totals), "");
        totals.calls.insert("user".into(), Tally { count: 9, usd: "0.018".parse().unwrap(), unpriced: 0 });
        totals.calls.insert("refill".into(), Tally { count: 3, usd: "0.006".parse().unwrap(), unpriced: 1 });
        assert_eq!(super::extra(&totals), "refill: 3 calls to bring lost copies back, 0.006 $ of the bill, 1 unpriced\n");
    }

    #[test]
    fn the_saving_is_shown_with_its_interval_or_why_there_is_none() {
        let mut report = SavingReport {
            base_usd: 2.0,
            claimed_base_usd: 2.1,
            bill_usd: 0.8,
            saving: Some(Interval { point: 0.6, low: 0.55, high: 0.65 }),
            unit_windows: 900,
            holdout_unit_windows: 30,
            holdout_cost_usd: 0.04,
            windows: 30,
            note: None,
            unpriced: 0,
            overflow: 0,
        };
        let text = super::proof(&serde_json::to_value(&report).unwrap());
        for part in ["60.0 %", "between 55.0 % and 65.0 %", "0.800000 $ instead of 2.000000 $", "30 of 900"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert_eq!(
            super::holdout(&json!({"holdout_share": 0.0, "configured_share": 0.0})),
            "the saving is not measured: [holdout] share is 0\n"
        );
        let told = json!({"holdout_share": 0.002, "configured_share": 0.01, "holdout_cost_usd": 0.5, "bill_usd": 10.0, "holdout_usd_a_year": 26.0});
        assert_eq!(
            super::holdout(&told),
            "the holdout of 0.20 % of key-windows, lowered from 1.00 % by [holdout] max_cost has cost 0.500000 $, 5.00 % of the bill; about 26.00 $ a year\n"
        );
        (report.saving, report.note, report.holdout_unit_windows) = (None, Some("not enough units"), 3);
        let text = super::proof(&serde_json::to_value(&report).unwrap());
        assert!(text.contains("no proved saving yet: not enough units; 3 of 900"), "{text}");
    }
}

//! `farthing status`.

use std::fmt::Write;
use std::process::ExitCode;

use farthing_admin::{RouteInfo, Status, Totals};
use serde::Serialize;

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
    for part in status.readiness.parts.iter().filter(|part| !part.ok) {
        let _ = writeln!(text, "  {}: {}", part.name, part.detail); // cannot fail on a String
    }
    let _ = writeln!(text, "TTLs by {}\n", status.predictor.as_deref().unwrap_or("rules"));
    let all = [("all".to_owned(), String::new(), String::new(), &status.total)];
    let routes = view.routes.iter().map(|route| (route.name.clone(), route.path_prefix.clone(), route.mode.clone(), &route.totals));
    let rows = routes.chain(all).map(|(name, takes, mode, totals)| [vec![name, takes, mode], money(totals)].concat());
    text += &render(&["route", "takes", "mode", "requests", "hits", "bill $", "without $", "saving", "stale", "unpriced", "p95 ms"], rows);
    text
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

//! `farthing costs`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use farthing_admin::{CostAnswer, CostQuestion};
use farthing_ledger::costs::{CostStore, Limits, SelfCost};
use farthing_types::{Clock, Money, RealClock};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::{AdminFlags, ask, costs_table, print};
use crate::adapters::costs::{Beside, answer};

/// Flags of `farthing costs`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    admin: AdminFlags,
    /// 7d, 24h, today, yesterday, month, lastmonth, or two times FROM,TO (RFC 3339); days and months are those of UTC.
    #[arg(long, default_value = "7d")]
    window: String,
    /// Names to group by, with commas between: tenant, team, service, route, provider, target, upstream, purpose, experiment, variant,
    /// outcome, status, saved_by, tag:NAME.
    #[arg(long, value_name = "NAMES")]
    by: Option<String>,
    /// NAME:VALUE, with commas between; values of the same name are alternatives.
    #[arg(long, value_name = "FILTER")]
    filter: Option<String>,
    /// Most groups, dearest first; the others become one.
    #[arg(long, default_value = "20")]
    top: String,
    /// Steps of a series, such as 1d; they are in the JSON.
    #[arg(long, value_name = "TIME")]
    step: Option<String>,
    /// Read this log folder instead of asking a running proxy.
    #[arg(long, value_name = "DIR")]
    logs: Option<PathBuf>,
    /// What Farthing costs, dollars per month, where a folder is read; a running proxy knows `[self_cost]`.
    #[arg(long, value_name = "DOLLARS", requires = "logs")]
    self_cost: Option<Money>,
}

impl Args {
    fn question(&self) -> CostQuestion {
        CostQuestion {
            window: Some(self.window.clone()),
            aggregate: self.by.clone(),
            filter: self.filter.clone(),
            top: Some(self.top.clone()),
            step: self.step.clone(),
        }
    }
}

/// Shows money; fails when a part of the log cannot be read.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    match &args.logs {
        Some(dir) => {
            let told = of_folder(args, dir)?;
            Ok(show(args, &told))
        }
        None => ask(&args.admin, async |client| {
            let told: CostAnswer = client.get(&path(&args.question())).await?;
            Ok(show(args, &told))
        }),
    }
}

fn of_folder(args: &Args, dir: &Path) -> anyhow::Result<CostAnswer> {
    anyhow::ensure!(dir.is_dir(), "{} is not a directory; name the log with --logs", dir.display());
    let own = args.self_cost.map(|per_month| SelfCost { per_month, per_million_requests: Money::ZERO });
    let beside = Beside { now: RealClock::default().now(), own, proved: None };
    Ok(answer(&CostStore::new(dir, None, Limits::default()), &args.question(), beside)?)
}

fn show(args: &Args, told: &CostAnswer) -> ExitCode {
    print(&args.admin, told, costs_table::table);
    told.unreadable.iter().for_each(|problem| eprintln!("unreadable: {problem}"));
    if told.unreadable.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn path(question: &CostQuestion) -> String {
    let pairs = [
        ("window", &question.window),
        ("aggregate", &question.aggregate),
        ("filter", &question.filter),
        ("top", &question.top),
        ("step", &question.step),
    ];
    let pairs = pairs.iter().filter_map(|(name, value)| Some(format!("{name}={}", utf8_percent_encode(value.as_ref()?, NON_ALPHANUMERIC))));
    format!("/api/v1/costs?{}", pairs.collect::<Vec<_>>().join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_stands_in_a_url() {
        let question = CostQuestion {
            window: Some("2026-11-01T00:00:00+01:00,2026-11-02".to_owned()),
            filter: Some("tag:city:Zürich&x".to_owned()),
            ..CostQuestion::default()
        };
        let path = path(&question);
        assert_eq!(path, "/api/v1/costs?window=2026%2D11%2D01T00%3A00%3A00%2B01%3A00%2C2026%2D11%2D02&filter=tag%3Acity%3AZ%C3%BCrich%26x");
        assert!(path.parse::<http::Uri>().is_ok());
    }
}

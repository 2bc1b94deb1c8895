//! `farthing alerts`.

use std::process::ExitCode;

use farthing_admin::{AlertInfo, MonthForecast};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::{AdminFlags, ask, print};
use crate::table::render;

/// Flags of `farthing alerts`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    admin: AdminFlags,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Alerts about money, newest first, with what became of them.
    List,
    /// What the running month will have cost, with its interval.
    Forecast {
        /// Of one tenant; of everything when absent.
        #[arg(long)]
        tenant: Option<String>,
    },
}

/// Shows alerts, or where the month will end.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let flags = &args.admin;
    ask(flags, async |client| {
        match &args.command {
            Command::List => {
                let all: Vec<AlertInfo> = client.get("/api/v1/alerts").await?;
                print(flags, all.as_slice(), list);
            }
            Command::Forecast { tenant } => {
                let query = tenant.as_ref().map(|tenant| format!("?tenant={}", utf8_percent_encode(tenant, NON_ALPHANUMERIC)));
                let told: MonthForecast = client.get(&format!("/api/v1/costs/forecast{}", query.unwrap_or_default())).await?;
                print(flags, &told, forecast);
            }
        }
        Ok(ExitCode::SUCCESS)
    })
}

fn list(all: &[AlertInfo]) -> String {
    if all.is_empty() {
        return "no alerts\n".to_owned();
    }
    render(
        &["at", "kind", "delivery", "summary"],
        all.iter().map(|alert| vec![alert.at.clone(), alert.kind.clone(), delivery(&alert.delivery), alert.summary.clone()]),
    )
}

/// The state, and the last problem where there is one.
fn delivery(delivery: &Value) -> String {
    let state = delivery["state"].as_str().unwrap_or("-");
    delivery["problem"].as_str().map_or_else(|| state.to_owned(), |problem| format!("{state}: {problem}"))
}

fn forecast(told: &MonthForecast) -> String {
    let over = told.over.map_or_else(String::new, |over| format!("; more than alerts.per_month with {:.0} %", over * 100.0));
    format!(
        "{}: {} $ so far; about {:.2} $ at its end (80 %: {:.2} to {:.2} $){over}\n",
        told.month, told.so_far_usd, told.p50_usd, told.p10_usd, told.p90_usd
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_alert_and_a_forecast_are_one_line_each() {
        let alert = AlertInfo {
            id: "unpriced-1".to_owned(),
            number: 1,
            kind: "unpriced".to_owned(),
            at: "2026-11-01T00:00:00Z".to_owned(),
            subject: "openai/chat".to_owned(),
            summary: "3 calls have no known price".to_owned(),
            details: Value::Null,
            delivery: json!({ "state": "given-up", "attempts": 9, "problem": "answered 404" }),
        };
        let text = list(&[alert]);
        assert!(text.contains("2026-11-01T00:00:00Z  unpriced  given-up: answered 404  3 calls have no known price"), "{text}");
        assert_eq!(list(&[]), "no alerts\n");
        let told = MonthForecast {
            month: "2026-11".to_owned(),
            so_far_usd: "10.5".parse().unwrap(),
            p10_usd: 18.0,
            p50_usd: 20.0,
            p90_usd: 23.456,
            over: Some(0.25),
        };
        assert_eq!(
            forecast(&told),
            "2026-11: 10.5 $ so far; about 20.00 $ at its end (80 %: 18.00 to 23.46 $); more than alerts.per_month with 25 %\n"
        );
    }
}

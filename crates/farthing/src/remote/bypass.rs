//! `farthing bypass`.

use std::process::ExitCode;

use clap::Subcommand;
use farthing_admin::{BypassInfo, BypassRequest};
use farthing_types::Span;
use http::Method;

use super::{AdminFlags, ask, print, segment};

const PATH: &str = "/api/v1/bypass";

/// Flags of `farthing bypass`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    admin: AdminFlags,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show what passes by, since when and why (this is what no subcommand does).
    Show,
    /// Let everything pass by at once. Access rules, budgets and limits go on, and money is counted. It is kept, also through a restart.
    On {
        /// Of this route alone.
        #[arg(long, value_parser = segment)]
        route: Option<String>,
        /// For so long: 10m, 1h30m. Until it is switched off without it.
        #[arg(long = "for", value_name = "TIME", value_parser = span)]
        time: Option<Span>,
        /// Why; kept with it and logged.
        #[arg(long)]
        reason: String,
    },
    /// End it: everywhere, or on one route.
    Off {
        /// Of this route alone.
        #[arg(long, value_parser = segment)]
        route: Option<String>,
        /// Why; logged.
        #[arg(long)]
        reason: String,
    },
}

fn span(text: &str) -> Result<Span, String> {
    let whole = |span: &Span| span.as_secs() > 0;
    farthing_config::parse_span(text).filter(whole).ok_or_else(|| "write a time of a second or more, such as 90s, 10m or 1h30m".to_owned())
}

/// Shows and turns the bypass switch of a running proxy.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    ask(&args.admin, async |client| {
        let order = |route: &Option<String>, time: Option<Span>, reason: &str| BypassRequest {
            route: route.clone(),
            seconds: time.map(|time| time.as_secs()),
            reason: reason.to_owned(),
        };
        let now: Vec<BypassInfo> = match args.command.as_ref().unwrap_or(&Command::Show) {
            Command::Show => client.get(PATH).await?,
            Command::On { route, time, reason } => client.call(Method::POST, &format!("{PATH}/on"), &order(route, *time, reason)).await?,
            Command::Off { route, reason } => client.call(Method::POST, &format!("{PATH}/off"), &order(route, None, reason)).await?,
        };
        print(&args.admin, &now, |now| told(now));
        Ok(ExitCode::SUCCESS)
    })
}

fn told(orders: &[BypassInfo]) -> String {
    if orders.is_empty() {
        return "nothing passes by: every strategy does as configured\n".to_owned();
    }
    orders.iter().map(|order| line(order) + "\n").collect()
}

/// One order, in words.
pub fn line(order: &BypassInfo) -> String {
    let of = order.route.as_ref().map_or_else(|| "all routes".to_owned(), |route| format!("route {route}"));
    let until = order.until.as_ref().map_or_else(|| "until it is switched off".to_owned(), |until| format!("until {until}"));
    format!("bypass of {of} since {}, {until}: {}", order.since, order.reason)
}

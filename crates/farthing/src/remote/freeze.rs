//! `farthing freeze`.

use std::process::ExitCode;

use clap::Subcommand;
use farthing_admin::{FreezeInfo, FreezeRequest};
use http::Method;

use super::{AdminFlags, ask, print};

const PATH: &str = "/api/v1/freeze";

/// Flags of `farthing freeze`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    admin: AdminFlags,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show whether automation is frozen, since when and why (this is what no subcommand does).
    Show,
    /// Stop all automation at once: nothing is promoted, let on, switched off or tuned by itself. Safeguards go on. It is kept, also through a restart.
    On {
        /// Why; kept with it and logged.
        #[arg(long)]
        reason: String,
    },
    /// Let automation go on.
    Off {
        /// Why; logged.
        #[arg(long)]
        reason: String,
    },
}

/// Shows and turns the freeze of a running proxy.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    ask(&args.admin, async |client| {
        let order = |reason: &str| FreezeRequest { reason: reason.to_owned() };
        let now: FreezeInfo = match args.command.as_ref().unwrap_or(&Command::Show) {
            Command::Show => client.get(PATH).await?,
            Command::On { reason } => client.call(Method::POST, &format!("{PATH}/on"), &order(reason)).await?,
            Command::Off { reason } => client.call(Method::POST, &format!("{PATH}/off"), &order(reason)).await?,
        };
        print(&args.admin, &now, told);
        Ok(ExitCode::SUCCESS)
    })
}

fn told(info: &FreezeInfo) -> String {
    match (&info.since, &info.reason) {
        (Some(since), Some(reason)) if info.frozen => format!("automation is frozen since {since}: {reason}\n"),
        _ => "automation is not frozen\n".to_owned(),
    }
}

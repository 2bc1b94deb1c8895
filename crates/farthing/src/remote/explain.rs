//! `farthing explain`.

use std::path::PathBuf;
use std::process::ExitCode;

use farthing_admin::PlanView;

use super::{AdminFlags, ask, id, print};
use crate::explain;

/// Flags of `farthing explain`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// `x-farthing-request-id` of the answer: 16 hexadecimal digits.
    #[arg(value_name = "ID", value_parser = id)]
    request: u64,
    /// Read this folder of logs instead of asking a running proxy, which also knows what would change a reason.
    #[arg(long, value_name = "DIR")]
    log_dir: Option<PathBuf>,
    #[command(flatten)]
    admin: AdminFlags,
}

/// Shows what was done for a request and why.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    if let Some(log) = &args.log_dir {
        let view = explain::plan(log, args.request, &|_, _| None)?;
        print(&args.admin, &view, explain::plan_text);
        return Ok(ExitCode::SUCCESS);
    }
    ask(&args.admin, async |client| {
        let view: PlanView = client.get(&format!("/api/v1/requests/{:016x}/plan", args.request)).await?;
        print(&args.admin, &view, explain::plan_text);
        Ok(ExitCode::SUCCESS)
    })
}

//! `farthing demo`: simulated paid APIs, the real proxy, a bill.

use std::process::ExitCode;

/// Flags of `farthing demo`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print one JSON object instead of the table.
    #[arg(long)]
    pub json: bool,
}

/// Runs the demo.
pub fn run(_args: Args) -> anyhow::Result<ExitCode> {
    anyhow::bail!("the demo is not part of this build")
}

//! `farthing logs prune`.

use std::process::ExitCode;

use farthing_ledger::archive::{Pruned, prune};
use farthing_types::{Clock, RealClock};

use super::{exists, passed_over};
use crate::flags::ConfigFlags;
use crate::table::out;

/// Flags of `farthing logs prune`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    config: ConfigFlags,
    /// Say what would be removed, and remove nothing.
    #[arg(long)]
    dry_run: bool,
    /// Print JSON instead of a sentence.
    #[arg(long)]
    json: bool,
}

/// Removes what is due; fails when a file cannot be read.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let config = match args.config.load() {
        Ok(config) => config,
        Err(error) => return Ok(crate::check::refuse(&error)),
    };
    let dir = &config.log.dir;
    exists(dir)?;
    anyhow::ensure!(
        config.retention.removes(),
        "nothing is ever removed: write [retention] into the configuration, such as requests = \"90d\""
    );
    let pruned = prune(dir, &farthing_proxy::retention::rules(&config.retention), RealClock::default().now(), args.dry_run)?;
    if args.json {
        out(&(serde_json::to_string_pretty(&pruned)? + "\n"));
    } else {
        out(&told(&pruned, args.dry_run));
    }
    Ok(passed_over(&pruned.skipped))
}

fn told(pruned: &Pruned, dry: bool) -> String {
    let (would, files) = (if dry { "would be " } else { "" }, pruned.files_removed);
    format!(
        "{} rows {would}removed: {files} files gone, {} {would}written anew, {} partitions emptied, {} bytes free\n",
        pruned.rows, pruned.files_rewritten, pruned.partitions, pruned.bytes
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_says_would() {
        let pruned = Pruned { rows: 8, files_removed: 2, ..Pruned::default() };
        assert!(told(&pruned, true).starts_with("8 rows would be removed: 2 files gone"));
        assert!(told(&pruned, false).starts_with("8 rows removed"));
    }
}

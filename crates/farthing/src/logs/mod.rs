//! `farthing logs`: the door to the Parquet log; but for its sinks without a running proxy.

mod export;
mod ls;
mod prune;
mod schema;
mod sinks;
mod when;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use farthing_types::Time;

/// Flags of `farthing logs`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// The four tables with their columns.
    Schema(schema::Args),
    /// Partitions, files, rows, times and schema versions of each table; what waits in the journal; what is damaged.
    Ls(ls::Args),
    /// Copy rows into a folder of their own, verified, with a manifest of checksums: for the trainer and whoever else reads them.
    Export(export::Args),
    /// Remove what is older than `[retention]` says; a running proxy does so by itself once an hour.
    Prune(prune::Args),
    /// What a running proxy has shipped to each sink, what waits, and what went wrong last.
    Sinks(sinks::Args),
}

/// The log's folder.
#[derive(Clone, Debug, clap::Args)]
struct LogDir {
    /// Directory of the log.
    #[arg(long, default_value = "logs", value_name = "DIR")]
    log_dir: PathBuf,
}

impl LogDir {
    fn get(&self) -> anyhow::Result<&Path> {
        exists(&self.log_dir)?;
        Ok(&self.log_dir)
    }
}

fn exists(dir: &Path) -> anyhow::Result<()> {
    anyhow::ensure!(dir.is_dir(), "{} is not a directory; name the log with --log-dir", dir.display());
    Ok(())
}

/// Does what is asked; fails when there is no log, or something of it cannot be read.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    match &args.command {
        Command::Schema(args) => schema::run(args),
        Command::Ls(args) => ls::run(args),
        Command::Export(args) => export::run(args),
        Command::Prune(args) => prune::run(args),
        Command::Sinks(args) => sinks::run(args),
    }
}

/// Says what was passed over; the exit code for it.
fn passed_over(what: &[String]) -> ExitCode {
    what.iter().for_each(|file| eprintln!("unreadable: {file}"));
    if what.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// `2026-01-31 23:59:59` of nanoseconds since 1970 UTC.
fn utc(ns: i64) -> String {
    farthing_ledger::costs::utc(Time::from_nanos(ns)).replace('T', " ").replace('Z', "")
}

#[cfg(test)]
mod tests {
    #[test]
    fn times_are_of_the_calendar() {
        for (seconds, text) in [
            (0, "1970-01-01 00:00:00"),
            (951_782_400, "2000-02-29 00:00:00"),
            (1_795_478_399, "2026-11-23 23:59:59"),
            (-1, "1969-12-31 23:59:59"),
        ] {
            assert_eq!(super::utc(seconds * 1_000_000_000), text);
        }
    }
}

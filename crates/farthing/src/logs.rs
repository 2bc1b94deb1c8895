//! `farthing logs`: looks into the Parquet log without a running proxy.

use std::path::PathBuf;
use std::process::ExitCode;

use farthing_ledger::read;
use farthing_types::civil;

use crate::table::{out, render};

/// Flags of `farthing logs`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Files and rows of each table.
    Ls {
        /// Directory of the log.
        #[arg(long, default_value = "logs", value_name = "DIR")]
        log_dir: PathBuf,
        /// Print JSON instead of a table.
        #[arg(long)]
        json: bool,
    },
}

/// Shows what the log holds; fails when there is none or a file cannot be read.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let Command::Ls { log_dir, json } = &args.command;
    anyhow::ensure!(log_dir.is_dir(), "{} is not a directory; name the log with --log-dir", log_dir.display());
    let tables = read::summary(log_dir);
    if *json {
        out(&(serde_json::to_string_pretty(&tables)? + "\n"));
    } else {
        let span = |ns: Option<i64>| ns.map_or_else(|| "-".to_owned(), utc);
        let rows = tables.iter().map(|table| {
            vec![
                table.table.to_owned(),
                table.files.to_string(),
                table.rows.to_string(),
                table.bytes.to_string(),
                span(table.first_ns),
                span(table.last_ns),
            ]
        });
        out(&render(&["table", "files", "rows", "bytes", "first", "last"], rows));
    }
    let unreadable: Vec<&String> = tables.iter().flat_map(|table| &table.unreadable).collect();
    unreadable.iter().for_each(|file| eprintln!("unreadable: {file}"));
    Ok(if unreadable.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// `2026-01-31 23:59:59` of nanoseconds since 1970 UTC.
fn utc(ns: i64) -> String {
    let seconds = ns.div_euclid(1_000_000_000);
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}", second / 3_600, second / 60 % 60, second % 60)
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

//! `farthing logs export`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::ValueEnum;
use farthing_ledger::archive::{Format, Manifest, Order, Selection, export};
use farthing_types::{Clock, RealClock};

use super::when::when;
use super::{LogDir, passed_over};
use crate::table::{out, render};

/// Flags of `farthing logs export`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    dir: LogDir,
    /// Folder to write, new or empty.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Rows from here on: how long ago (7d, 12h), a day (2026-11-30) or a time in UTC (2026-11-30T18:00).
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Rows before this.
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Rows of this route.
    #[arg(long, value_name = "ROUTE")]
    route: Option<String>,
    /// Rows of this tenant, with its decisions and their outcomes.
    #[arg(long, value_name = "TENANT")]
    tenant: Option<String>,
    /// How rows are written; the trainer reads Parquet, as `--logs DIR`.
    #[arg(long, value_enum, default_value_t = FormatFlag::Parquet)]
    format: FormatFlag,
    /// Print the manifest instead of a table.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum FormatFlag {
    /// As the log: a folder for each table and hour.
    Parquet,
    /// One file for each table.
    Csv,
    /// One file for each table, an object on each line.
    Jsonl,
    /// One file, `focus.csv`: the bill by day, tenant, provider, target and tags in the columns of FOCUS 1.0, for FinOps tools.
    Focus,
}

/// Exports, and says what was written and what was passed over; fails when something was.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let now = RealClock::default().now().nanos();
    let time = |text: &Option<String>| text.as_deref().map(|text| when(text, now)).transpose().map_err(anyhow::Error::msg);
    let selection =
        Selection { since_ns: time(&args.since)?, until_ns: time(&args.until)?, route: args.route.clone(), tenant: args.tenant.clone() };
    let format = match args.format {
        FormatFlag::Parquet => Format::Parquet,
        FormatFlag::Csv => Format::Csv,
        FormatFlag::Jsonl => Format::Jsonl,
        FormatFlag::Focus => Format::Focus,
    };
    let manifest = export(&Order { dir: args.dir.get()?.to_owned(), out: args.out.clone(), selection, format })?;
    if args.json {
        out(&(serde_json::to_string_pretty(&manifest)? + "\n"));
    } else {
        out(&told(&manifest, args));
    }
    Ok(passed_over(&manifest.skipped))
}

fn told(manifest: &Manifest, args: &Args) -> String {
    let row = |(table, rows): (&&'static str, &u64)| {
        let files: Vec<_> = manifest.files.iter().filter(|file| file.table == *table).collect();
        let bytes: u64 = files.iter().map(|file| file.bytes).sum();
        vec![(*table).to_owned(), files.len().to_string(), rows.to_string(), bytes.to_string()]
    };
    let mut text = render(&["table", "files", "rows", "bytes"], manifest.rows.iter().map(row));
    text += &format!("Verified, with checksums in {}.\n", args.out.join("manifest.json").display());
    if let Some(calls) = manifest.unpriced_calls.filter(|calls| *calls > 0) {
        text += &format!("Not in it: {calls} calls whose cost is not known (`farthing routes` names what has no price).\n");
    }
    if manifest.in_journal.rows > 0 {
        text += &format!("Not in it: {} rows of the log that are in no file yet.\n", manifest.in_journal.rows);
    }
    text
}

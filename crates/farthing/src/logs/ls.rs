//! `farthing logs ls`.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

use farthing_contract::log::ALL;
use farthing_ledger::archive::{Holding, Holdings, JournalHolding, holdings};
use serde_json::{Value, json};

use super::{LogDir, passed_over, utc};
use crate::table::{out, render};

/// Flags of `farthing logs ls`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    dir: LogDir,
    /// Every hour on a line of its own.
    #[arg(long)]
    hours: bool,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
}

/// Several partitions together.
#[derive(Default)]
struct Sum {
    partitions: u64,
    files: u64,
    rows: u64,
    bytes: u64,
    first_ns: Option<i64>,
    last_ns: Option<i64>,
    versions: BTreeSet<u32>,
}

impl Sum {
    fn of<'a>(holdings: impl Iterator<Item = &'a Holding>) -> Self {
        holdings.fold(Self::default(), |mut sum, held| {
            sum.partitions += 1;
            sum.files += held.files;
            sum.rows += held.rows;
            sum.bytes += held.bytes;
            sum.first_ns = [sum.first_ns, held.first_ns].into_iter().flatten().min();
            sum.last_ns = [sum.last_ns, held.last_ns].into_iter().flatten().max();
            sum.versions.extend(&held.versions);
            sum
        })
    }

    fn cells(&self, table: &str, part: String) -> Vec<String> {
        let time = |ns: Option<i64>| ns.map_or_else(|| "-".to_owned(), utc);
        let versions: Vec<String> = self.versions.iter().map(u32::to_string).collect();
        let numbers = [self.files, self.rows, self.bytes].map(|number| number.to_string());
        let mut cells = vec![table.to_owned(), part];
        cells.extend(numbers);
        cells.extend([time(self.first_ns), time(self.last_ns), versions.join(",")]);
        cells
    }
}

/// Shows what the log holds; fails when there is none or a file cannot be read.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let held = holdings(args.dir.get()?);
    let unreadable: Vec<String> = held.partitions.iter().flat_map(|holding| holding.unreadable.clone()).collect();
    if args.json {
        out(&(serde_json::to_string_pretty(&as_json(&held))? + "\n"));
    } else {
        out(&told(&held, args.hours));
    }
    Ok(passed_over(&unreadable))
}

fn of<'a>(held: &'a Holdings, table: &str) -> Vec<&'a Holding> {
    held.partitions.iter().filter(|holding| holding.table == table).collect()
}

fn told(held: &Holdings, hours: bool) -> String {
    let mut rows = Vec::new();
    for table in ALL {
        let partitions = of(held, table.name);
        if hours {
            rows.extend(partitions.iter().map(|holding| Sum::of([*holding].into_iter()).cells(table.name, holding.partition.clone())));
        }
        let sum = Sum::of(partitions.into_iter());
        rows.push(sum.cells(table.name, format!("{} hours", sum.partitions)));
    }
    let table = render(&["table", "partitions", "files", "rows", "bytes", "first", "last", "schema"], rows);
    table + &journal(&held.journal)
}

fn journal(held: &JournalHolding) -> String {
    if held.segments == 0 {
        return String::new();
    }
    let unreadable = if held.unreadable > 0 { format!(", {} of them unreadable", held.unreadable) } else { String::new() };
    format!(
        "The journal has {} rows more in {} segments ({} bytes{unreadable}); they come into files within `log.flush`, those of a process that died with the next start.\n",
        held.rows, held.segments, held.bytes
    )
}

/// An object for each table; its partitions and the journal below.
fn as_json(held: &Holdings) -> Value {
    let table = |name: &str| {
        let partitions = of(held, name);
        let sum = Sum::of(partitions.iter().copied());
        let unreadable: Vec<&String> = partitions.iter().flat_map(|holding| &holding.unreadable).collect();
        json!({
            "table": name,
            "files": sum.files,
            "rows": sum.rows,
            "bytes": sum.bytes,
            "first_ns": sum.first_ns,
            "last_ns": sum.last_ns,
            "versions": sum.versions,
            "unreadable": unreadable,
            "partitions": partitions,
        })
    };
    let tables: BTreeMap<_, _> = [("tables", json!(ALL.map(|known| table(known.name)))), ("journal", json!(held.journal))].into();
    json!(tables)
}

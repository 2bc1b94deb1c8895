//! A sink in memory: for tests of whatever ships, with faults to order.

use std::collections::{BTreeMap, HashSet, VecDeque};

use farthing_contract::log::{ALL, Decision, Row, Table, Value};
use farthing_ledger::archive::FinishedFile;
use parking_lot::Mutex;

use crate::sink::within_day;
use crate::{Erased, Fault, FaultReason, LogId, Shipment, Sink, Work};

/// Which file: log, table, day, `hour=HH/NAME`.
type FileKey = (String, &'static str, i64, String);

/// Holds the texts of all rows.
#[derive(Debug, Default)]
pub struct Memory {
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    files: BTreeMap<FileKey, Vec<Vec<String>>>,
    faults: VecDeque<Option<Fault>>,
    asked: u64,
}

impl Memory {
    /// Has the next operations fail as told; `None` lets one pass.
    pub fn fail(&self, faults: impl IntoIterator<Item = Option<Fault>>) {
        self.held.lock().faults.extend(faults);
    }

    /// The rows of a table, cells as text, in no order that matters.
    pub fn rows(&self, table: &Table) -> Vec<Vec<String>> {
        let held = self.held.lock();
        held.files.iter().filter(|((_, of, ..), _)| *of == table.name).flat_map(|(_, rows)| rows.clone()).collect()
    }

    /// Operations so far.
    pub fn asked(&self) -> u64 {
        self.held.lock().asked
    }

    /// Loses a file, as a database does that goes over to a copy of itself which lags.
    pub fn lose_one(&self) {
        self.held.lock().files.pop_last();
    }

    fn next(&self) -> Result<(), Fault> {
        let mut held = self.held.lock();
        held.asked += 1;
        held.faults.pop_front().flatten().map_or(Ok(()), Err)
    }
}

/// What belongs to a tenant: said as plainly as can be, for comparison with what databases are asked to delete.
struct Own<'a> {
    tenant: &'a str,
    requests: HashSet<String>,
    calls: HashSet<String>,
    decisions: HashSet<String>,
    keys: HashSet<String>,
}

impl<'a> Own<'a> {
    fn of(files: &BTreeMap<FileKey, Vec<Vec<String>>>, tenant: &'a str) -> Self {
        let rows = || files.iter().flat_map(|((_, table, ..), rows)| rows.iter().map(move |row| (*table, row)));
        let named = |own: bool| rows().filter(move |(table, row)| cell(table, row, "tenant").is_some_and(|of| (of == tenant) == own));
        let of =
            |own: bool, name: &'static str| named(own).filter_map(move |(table, row)| cell(table, row, name)).collect::<HashSet<String>>();
        let keys = |own: bool| &of(own, "key_hash") | &of(own, "stat_key");
        let mut found = Self {
            tenant,
            requests: of(true, "request_id"),
            calls: of(true, "call_id"),
            decisions: of(true, "decision_id"),
            keys: &keys(true) - &keys(false),
        };
        let decided = rows().filter(|(table, row)| *table == Decision::TABLE.name && found.has(table, row));
        let ids: HashSet<String> = decided.filter_map(|(table, row)| cell(table, row, "decision_id")).collect();
        found.decisions.extend(ids);
        found
    }

    fn has(&self, table: &str, row: &[String]) -> bool {
        let within = |set: &HashSet<String>, name| cell(table, row, name).is_some_and(|id| set.contains(&id));
        match table {
            "decisions" => within(&self.calls, "call_id") || within(&self.requests, "request_id") || within(&self.keys, "key_hash"),
            "outcomes" => within(&self.decisions, "decision_id") || within(&self.keys, "key_hash"),
            _ => cell(table, row, "tenant").is_some_and(|of| of == self.tenant),
        }
    }
}

/// A cell by its column's name; `None` where it is empty or the table has no such column.
fn cell(table: &str, row: &[String], name: &str) -> Option<String> {
    let columns = ALL.into_iter().find(|known| known.name == table)?.columns;
    let place = columns.iter().position(|column| column.name == name)?;
    row.get(place).filter(|text| !text.is_empty()).cloned()
}

fn read(file: &FinishedFile) -> Result<Vec<Vec<String>>, Fault> {
    let mut rows = Vec::new();
    let read = file.rows(&mut |cells: &[Value<'_>]| rows.push(cells.iter().map(farthing_ledger::read::text).collect()));
    read.map(|_| rows).map_err(|error| Fault::new(FaultReason::Unreadable, error.to_string()))
}

impl Sink for Memory {
    fn kind(&self) -> &'static str {
        "memory"
    }

    fn prepare(&self) -> Work<'_, ()> {
        Box::pin(async { self.next() })
    }

    fn held<'a>(&'a self, log: &'a LogId, table: &'static Table, day: i64) -> Work<'a, HashSet<String>> {
        Box::pin(async move {
            self.next()?;
            let held = self.held.lock();
            let of = |key: &&FileKey| (key.0.as_str(), key.1, key.2) == (log.as_str(), table.name, day);
            Ok(held.files.keys().filter(of).map(|(.., name)| name.clone()).collect())
        })
    }

    fn ship<'a>(&'a self, log: &'a LogId, file: &'a FinishedFile) -> Work<'a, Shipment> {
        Box::pin(async move {
            self.next()?;
            let key = (log.as_str().to_owned(), file.table.name, file.hour.div_euclid(24), within_day(file));
            let mut held = self.held.lock();
            if held.files.contains_key(&key) {
                return Ok(Shipment::Held);
            }
            if !file.path.exists() {
                return Ok(Shipment::Gone);
            }
            let rows = read(file)?;
            let count = rows.len() as u64;
            held.files.insert(key, rows);
            Ok(Shipment::Shipped { rows: count, altered: 0 })
        })
    }

    fn forget<'a>(&'a self, tenant: &'a str) -> Work<'a, Erased> {
        Box::pin(async move {
            self.next()?;
            let mut held = self.held.lock();
            let own = Own::of(&held.files, tenant);
            let mut erased = Erased::default();
            for ((_, table, ..), rows) in &mut held.files {
                let before = rows.len();
                rows.retain(|row| !own.has(table, row));
                *erased.rows.entry(table).or_default() += (before - rows.len()) as u64;
            }
            Ok(erased)
        })
    }

    fn expire(&self, table: &'static Table, day: i64) -> Work<'_, u64> {
        Box::pin(async move {
            self.next()?;
            let mut days = HashSet::new();
            self.held.lock().files.retain(|(_, of, at, _), _| {
                let goes = *of == table.name && *at < day;
                goes.then(|| days.insert(*at));
                !goes
            });
            Ok(days.len() as u64)
        })
    }
}

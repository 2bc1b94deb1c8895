//! Removes everything of a tenant from the log's folder.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use farthing_contract::log::{ALL, Value};
use serde::Serialize;

use super::batches::{hours, parts};
use super::retain::{Retained, retain};
use super::traces::Traces;
use super::{ArchiveError, Selection, journal, remover};
use crate::journal::{AnyRow, NoSegment, Segment, SegmentId};

/// What was removed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Forgotten {
    /// Rows removed, by table.
    pub rows: std::collections::BTreeMap<&'static str, u64>,
    /// Files removed or written anew.
    pub files: u64,
    /// Files that could not be read, and why. They may hold what was to be forgotten.
    pub skipped: Vec<String>,
    /// Segments of the journal that hold rows of the tenant still, of another living process or written meanwhile, and such as cannot be
    /// read.
    pub segments_left: u64,
    /// Keys that only this tenant has used: whoever keeps statistics of keys drops these.
    #[serde(skip)]
    pub keys: HashSet<u64>,
}

/// Removes all rows of `tenant` from the log in `dir`, and what lies there half written. What a writer still holds must have been
/// flushed before. A tenant whose credential was passed through goes by the name it has in the log (`p-...`).
///
/// # Errors
/// Another process removes rows, or a file cannot be replaced or removed; what was done until then stays done, and forgetting
/// again does the rest.
pub fn forget(dir: &Path, tenant: &str) -> Result<Forgotten, ArchiveError> {
    let _guard = remover(dir)?;
    let traces = Traces::find(dir, tenant, &Selection::default());
    let mut forgotten = Forgotten { keys: traces.keys().clone(), ..Forgotten::default() };
    // Outcomes and decisions first: were the calls gone, nothing would tell any more whose they are.
    for table in ALL.into_iter().rev() {
        let columns = ["ts_ns", "tenant", "key_hash", "request_id", "call_id", "decision_id"];
        let rows = forgotten.rows.entry(table.name).or_default();
        for file in hours(dir, table).iter().flat_map(|(_, folder)| parts(folder)) {
            match retain(&file, table, &columns, &mut |batch| traces.rows(table, batch)) {
                Ok(Retained { removed, .. }) => {
                    *rows += removed;
                    forgotten.files += u64::from(removed > 0);
                }
                Err(ArchiveError::Read(error)) => forgotten.skipped.push(error.to_string()),
                Err(error) => return Err(error),
            }
        }
    }
    put_aside(dir)?;
    forgotten.segments_left = segments_with(dir, tenant);
    Ok(forgotten)
}

/// Segments of the journal that hold rows of the tenant, or may: such as cannot be read.
fn segments_with(dir: &Path, tenant: &str) -> u64 {
    let folder = journal(dir);
    let holds = |id: &SegmentId| {
        let Ok(bytes) = folder.disk.read(&folder.path(id)) else { return false };
        let segment = match Segment::read(&bytes) {
            Ok(segment) => segment,
            Err(error) => return error != NoSegment::Empty,
        };
        let mut found = false;
        segment.rows(&mut |table, row| {
            let named = table.columns.iter().position(|column| column.name == "tenant");
            row.visit(&mut |index, value| found |= named == Some(index) && value == Value::Text(tenant));
        });
        found
    };
    folder.segments().iter().filter(|id| holds(id)).count() as u64
}

/// Removes what of the journal was put aside because it cannot be read: nobody knows whose it is.
fn put_aside(dir: &Path) -> Result<(), ArchiveError> {
    let folder = journal(dir);
    for path in folder.disk.list(&folder.dir).iter().filter(|path| path.extension().is_some_and(|end| end == "damaged")) {
        fs::remove_file(path).map_err(ArchiveError::io(path))?;
    }
    Ok(())
}

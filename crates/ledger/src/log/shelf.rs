//! What was given to the filer and is not in files yet.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use crossbeam_channel::Receiver;
use farthing_contract::log::Table;

use super::filer::{Report, Sealed, peek};
use super::gathered::Part;
use crate::journal::{Folder, SegmentId};

/// Bytes of segments that cannot be made into files from which only records of money are journaled: the disk shall not fill up
/// with what nobody can read.
const CROWDED: u64 = 256 << 20;

/// Segments on their way into files.
pub(super) struct Shelf {
    reports: Receiver<Report>,
    segments: BTreeMap<SegmentId, Waiting>,
}

struct Waiting {
    /// The rows, where they are in memory.
    parts: Option<Arc<Vec<Part>>>,
    bytes: usize,
    kept: bool,
    /// Length of the segment's file.
    length: u64,
}

type Rows = Vec<(&'static Table, RecordBatch)>;

impl Shelf {
    pub(super) const fn new(reports: Receiver<Report>) -> Self {
        Self { reports, segments: BTreeMap::new() }
    }

    pub(super) fn put(&mut self, sealed: &Sealed, bytes: usize, length: u64) {
        let parts = sealed.parts.clone();
        let bytes = if parts.is_some() { bytes } else { 0 };
        self.segments.insert(sealed.id.clone(), Waiting { parts, bytes, kept: false, length });
    }

    /// Hears what became of them.
    pub(super) fn look(&mut self) {
        while let Ok(report) = self.reports.try_recv() {
            self.hear(report);
        }
    }

    /// Waits for the next report; false when there will be none.
    pub(super) fn wait(&mut self) -> bool {
        self.reports.recv().map(|report| self.hear(report)).is_ok()
    }

    fn hear(&mut self, report: Report) {
        match report {
            Report::Done(id) => {
                self.segments.remove(&id);
            }
            // The journal has them: memory is for what comes.
            Report::Kept(id) => {
                if let Some(waiting) = self.segments.get_mut(&id) {
                    (waiting.parts, waiting.bytes, waiting.kept) = (None, 0, true);
                }
            }
        }
    }

    /// Bytes of rows in memory.
    pub(super) fn bytes(&self) -> usize {
        self.segments.values().map(|waiting| waiting.bytes).sum()
    }
    /// Segments that could not be made into files.
    pub(super) fn kept(&self) -> usize {
        self.segments.values().filter(|waiting| waiting.kept).count()
    }
    pub(super) fn is_crowded(&self) -> bool {
        self.segments.values().filter(|waiting| waiting.kept).map(|waiting| waiting.length).sum::<u64>() > CROWDED
    }

    /// The rows of all of them, and which they are.
    pub(super) fn rows(&mut self, folder: &Folder) -> Result<(Rows, BTreeSet<SegmentId>), String> {
        self.look();
        let (mut rows, mut ids) = (Vec::new(), BTreeSet::new());
        let mut add = |parts: &[Part]| rows.extend(parts.iter().map(|part| (part.table, part.batch.clone())));
        for (id, waiting) in &self.segments {
            match &waiting.parts {
                Some(parts) => add(parts),
                // It may be filed between the look and here; then its files hold its rows.
                None => match peek(folder, id)? {
                    Some(parts) => add(&parts),
                    None => continue,
                },
            }
            ids.insert(id.clone());
        }
        Ok((rows, ids))
    }
}

//! Makes files of sealed segments, on a thread of its own: the journal never waits for it.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use crossbeam_channel::Sender;

use super::files::Files;
use super::gathered::{Gathered, Part};
use super::metrics::Counters;
use crate::journal::{Dead, Folder, Loss, NoSegment, Run, Segment, SegmentId, Unsynced};

/// A segment that nothing is added to any more.
pub(super) struct Sealed {
    pub(super) id: SegmentId,
    /// Whether its rows are in the journal, too.
    pub(super) journaled: bool,
    /// Its rows; to be read from the journal where absent.
    pub(super) parts: Option<Arc<Vec<Part>>>,
    /// To be synced before files are made: were some made of rows that the segment then lost in a power cut, the others would
    /// lack them.
    pub(super) unsynced: Option<Unsynced>,
}

impl Sealed {
    /// One to be read from the journal.
    pub(super) const fn on_disk(id: SegmentId) -> Self {
        Self { id, journaled: true, parts: None, unsynced: None }
    }
}

pub(super) enum Job {
    File(Sealed),
    /// Try again what could not be written.
    Retry,
    /// Let go of a dead run, its segments were given before.
    Release(Dead),
    /// Remove temporary files of the dead.
    Tidy(Run),
    /// Answer when everything before is done; with the error of whoever asks, or the last here.
    Barrier(Sender<Option<String>>, Option<String>),
}

/// What became of a segment.
pub(super) enum Report {
    /// Its rows are in files, or lost and counted.
    Done(SegmentId),
    /// Its rows are in the journal and will be tried again.
    Kept(SegmentId),
}

pub(super) struct Filer {
    files: Files,
    folder: Folder,
    counters: Arc<Counters>,
    reports: Sender<Report>,
    /// Segments that could not be made into files.
    kept: BTreeSet<SegmentId>,
    dead: Vec<Dead>,
    /// The last error since the barrier before.
    error: Option<String>,
}

/// Why a segment's rows are not in files.
#[derive(Debug, thiserror::Error)]
enum Unfiled {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Segment(#[from] NoSegment),
    #[error("{0}")]
    Parquet(String),
}

impl Filer {
    pub(super) fn new(files: Files, folder: Folder, counters: Arc<Counters>, reports: Sender<Report>) -> Self {
        Self { files, folder, counters, reports, kept: BTreeSet::new(), dead: Vec::new(), error: None }
    }

    pub(super) fn run(&mut self, job: Job) {
        match job {
            Job::File(sealed) => self.file(sealed),
            Job::Retry => self.retry(),
            Job::Release(dead) => self.release(dead),
            Job::Tidy(own) => self.files.remove_leftovers(&|run| *run == own || self.folder.lives(run)),
            Job::Barrier(answer, error) => {
                let _ = answer.send(error.or(self.error.take()));
            }
        }
    }

    fn retry(&mut self) {
        for id in std::mem::take(&mut self.kept) {
            self.file(Sealed::on_disk(id));
        }
        std::mem::take(&mut self.dead).into_iter().for_each(|dead| self.release(dead));
    }

    fn release(&mut self, dead: Dead) {
        if self.kept.iter().any(|id| id.run == dead.run) { self.dead.push(dead) } else { self.folder.release(dead) }
    }

    fn file(&mut self, mut sealed: Sealed) {
        if let Some(Err(error)) = sealed.unsynced.take().map(Unsynced::sync) {
            self.counters.unsynced(&error);
        }
        let id = &sealed.id;
        let filed = match &sealed.parts {
            Some(parts) => self.write(id, parts, sealed.journaled),
            None => self.replay(id),
        };
        let report = match filed {
            Ok(()) => {
                self.kept.remove(id);
                if sealed.journaled {
                    let _ = self.folder.disk.remove(&self.folder.path(id));
                }
                Report::Done(id.clone())
            }
            Err(error) => self.not_filed(id, &error),
        };
        self.counters.journal.kept.store(self.kept.len() as u64, Relaxed);
        let _ = self.reports.send(report);
    }

    fn not_filed(&mut self, id: &SegmentId, error: &Unfiled) -> Report {
        let file = self.folder.path(id);
        match error {
            Unfiled::Segment(NoSegment::Newer) => {
                tracing::warn!(file = %file.display(), %error, "journal segment left alone");
                self.error = Some(format!("{}: {error}", file.display()));
                Report::Done(id.clone())
            }
            Unfiled::Segment(NoSegment::Damaged) => {
                tracing::error!(file = %file.display(), %error, "journal segment cannot be read; it is put aside as .damaged");
                self.counters.journal.damaged.fetch_add(1, Relaxed);
                self.error = Some(format!("{}: {error}", file.display()));
                let _ = self.folder.disk.rename(&file, &file.with_extension("fj.damaged"));
                Report::Done(id.clone())
            }
            _ => {
                tracing::warn!(file = %file.display(), %error, "log files could not be written; their rows stay in the journal and are tried again");
                self.kept.insert(id.clone());
                self.counters.failed(error.to_string());
                self.error = Some(error.to_string());
                Report::Kept(id.clone())
            }
        }
    }

    /// Writes the files that are not there yet.
    fn write(&mut self, id: &SegmentId, parts: &[Part], journaled: bool) -> Result<(), Unfiled> {
        let mut failed = None;
        for part in parts {
            let (rows, counters) = (part.batch.num_rows() as u64, self.counters.of(part.table));
            match self.files.write(id, part) {
                Ok(None) => {}
                Ok(Some(bytes)) => {
                    counters.rows.fetch_add(rows, Relaxed);
                    counters.files.fetch_add(1, Relaxed);
                    counters.bytes.fetch_add(bytes, Relaxed);
                }
                Err(error) => {
                    let error = format!("{}: {error}", part.table.name);
                    if !journaled {
                        counters.dropped_write.fetch_add(rows, Relaxed);
                        tracing::warn!(table = part.table.name, rows, %error, "log rows dropped");
                        self.counters.failed(error.clone());
                        self.error = Some(error.clone());
                    }
                    failed = Some(error);
                }
            }
        }
        match failed {
            Some(error) if journaled => Err(Unfiled::Parquet(error)),
            Some(_) => Ok(()),
            None => {
                self.counters.wrote();
                Ok(())
            }
        }
    }

    /// Makes files of what the journal holds.
    fn replay(&mut self, id: &SegmentId) -> Result<(), Unfiled> {
        match read(&self.folder, id) {
            Ok((parts, loss)) => {
                self.write(id, &parts, true)?;
                // Once: what could not be written is read again.
                self.say(id, &loss);
                let journal = &self.counters.journal;
                journal.replayed_segments.fetch_add(1, Relaxed);
                journal.replayed_rows.fetch_add(parts.iter().map(|part| part.batch.num_rows() as u64).sum(), Relaxed);
                Ok(())
            }
            Err(Unfiled::Segment(NoSegment::Empty)) => Ok(()),
            // Somebody removed it.
            Err(Unfiled::Io(error)) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn say(&self, id: &SegmentId, loss: &Loss) {
        if *loss == Loss::default() {
            return;
        }
        let (journal, file) = (&self.counters.journal, self.folder.path(id));
        journal.torn_bytes.fetch_add(loss.torn, Relaxed);
        journal.damaged.fetch_add(loss.damaged, Relaxed);
        let message = format!("journal segment `{}`: {loss}", file.display());
        if loss.damaged > 0 {
            tracing::error!("{message}")
        } else {
            tracing::warn!("{message}")
        }
        *journal.last_repair.lock() = Some(message);
    }
}

/// The rows of a segment, as far as they can be read.
fn read(folder: &Folder, id: &SegmentId) -> Result<(Vec<Part>, Loss), Unfiled> {
    let bytes = folder.disk.read(&folder.path(id))?;
    let segment = Segment::read(&bytes)?;
    let mut gathered = Gathered::default();
    segment.rows(&mut |table, row| gathered.push(table, row, 0));
    let (parts, broken) = gathered.finish();
    match broken.first() {
        Some((_, _, error)) => Err(Unfiled::Parquet(error.to_string())),
        None => Ok((parts, segment.loss.clone())),
    }
}

/// The rows of a segment for a query; none when it is filed meanwhile.
pub(super) fn peek(folder: &Folder, id: &SegmentId) -> Result<Option<Vec<Part>>, String> {
    match read(folder, id) {
        Ok((parts, _)) => Ok(Some(parts)),
        Err(Unfiled::Io(error)) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(Unfiled::Segment(_)) => Ok(Some(Vec::new())),
        Err(error) => Err(error.to_string()),
    }
}

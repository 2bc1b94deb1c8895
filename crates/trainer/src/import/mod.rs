//! `import`: logs of others become Farthing's own request log, so that it can be learned from and advised on before it is deployed.
//!
//! A file is read as a stream ([`lines`], or slices of a Parquet file), its rows become [`record`]s by its [`format`], paths become
//! endpoint templates ([`endpoints`]), and rows of the tables `requests` and `calls` are written by the hour ([`crate::write`]). All
//! memory is bounded whatever the size of the input. The same files, mapping and salt give the same bytes.

pub mod cells;
pub mod columns;
pub mod combined;
pub mod copies;
pub mod endpoints;
pub mod fingerprint;
pub mod format;
pub mod json_lines;
pub mod lines;
pub mod litellm;
pub mod mapping;
pub mod record;
mod report;
mod rows;
mod salt;
mod segments;
pub mod skipped;
pub mod time;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use farthing_contract::log::{CallRow, Request};
use farthing_types::Money;

use crate::error::TrainError;
use crate::learn::Watch;
use crate::write::{ByHour, Parts};
use copies::{Identity, Known};
use endpoints::{Endpoints, Learning, Place};
use fingerprint::Fingerprint;
use format::{Format, Sink};
pub use lines::MAX_LINE;
use mapping::Mapping;
use record::{Record, What};
pub use report::Report;
use rows::{Pair, Rows, Terms};
pub use salt::read as read_salt;
use skipped::Reason;
pub use time::TimeFormat;

/// Rows from which templates and routes are learned, and the most that these rows may hold.
const SAMPLE: (usize, usize) = (20_000, 16 * 1024 * 1024);
/// Rows that are held before files are written.
const HELD: usize = 32_768;
/// Hosts and paths whose places are remembered.
const PLACES: usize = 65_536;

/// What is imported, and how.
pub struct Import<'a> {
    /// The format.
    pub format: &'static dyn Format,
    /// Files, or `-` for the standard input.
    pub inputs: &'a [PathBuf],
    /// Where things are in them.
    pub mapping: &'a Mapping,
    /// Folder of the log.
    pub out: &'a Path,
    /// Key of all digests.
    pub salt: [u8; 16],
    /// Price of a call where the log names none.
    pub price: Option<Money>,
    /// Each client has a cache of its own.
    pub private: bool,
}

/// Imports.
///
/// # Errors
/// When a file cannot be read or written, or the mapping does not fit. Then nothing is left in the log.
pub fn import(import: &Import<'_>, watch: &dyn Watch) -> Result<Report, TrainError> {
    let total: u64 = import.inputs.iter().filter_map(|path| std::fs::metadata(path).ok()).map(|m| m.len()).sum();
    let known = Known::of(import.out);
    let copies = copies::copies(import.inputs, (&known, import.out))?;
    let terms = Terms { salt: import.salt, private: import.private, price: import.price };
    let mut importer = Importer::new(import, (terms, known), Progress { watch, total, before: 0 });
    for (path, copy) in import.inputs.iter().zip(copies) {
        let name = path.display().to_string();
        importer.files.push(File { name: name.clone(), ..File::default() });
        match copy {
            Some(lines) => importer.report.skipped.note_all(Reason::Twice, &name, lines),
            None => import.format.read(import.mapping, path, &mut importer)?,
        }
        importer.progress.before += std::fs::metadata(path).map_or(0, |m| m.len());
    }
    importer.finish()
}

struct Progress<'a> {
    watch: &'a dyn Watch,
    total: u64,
    before: u64,
}

impl Progress<'_> {
    fn show(&self, bytes: u64) {
        let done = (self.before + bytes).min(self.total.max(1));
        self.watch.step("importing", usize::try_from(done).unwrap_or(usize::MAX), usize::try_from(self.total.max(1)).unwrap_or(usize::MAX));
    }
}

/// Where a row stands: its file's place among those that are read, its line or row there, and its id.
#[derive(Clone, Copy)]
struct At {
    file: usize,
    line: u64,
    id: u64,
}

/// Where paths belong: learned from the first rows, then settled.
enum Stage {
    Learning(Vec<(At, Record<'static>)>, usize),
    Settled(Endpoints),
}

/// A file that is read.
#[derive(Default)]
struct File {
    name: String,
    identity: Option<Identity>,
    /// Stems of what the log has of earlier states of it.
    replaces: Vec<String>,
}

struct Importer<'a> {
    mapping: &'a Mapping,
    stage: Stage,
    rows: Rows,
    places: std::collections::HashMap<u64, Arc<Place>>,
    writer: Writer,
    report: Report,
    known: Known,
    files: Vec<File>,
    progress: Progress<'a>,
}

impl<'a> Importer<'a> {
    fn new(import: &Import<'a>, (terms, known): (Terms, Known), progress: Progress<'a>) -> Self {
        Self {
            mapping: import.mapping,
            stage: Stage::Learning(Vec::new(), 0),
            rows: Rows::new(terms),
            places: std::collections::HashMap::new(),
            writer: Writer::new(import.out),
            report: Report::default(),
            known,
            files: Vec::new(),
            progress,
        }
    }

    /// Settles templates and routes, and writes what was held back for that.
    fn settle(&mut self) -> Result<(), TrainError> {
        let Stage::Learning(held, _) = &mut self.stage else { return Ok(()) };
        let held = std::mem::take(held);
        let mut learning = Learning::default();
        for (_, record) in &held {
            let (host, path, given) = asked(record);
            learning.see(host, path, given);
        }
        self.stage = Stage::Settled(learning.freeze());
        held.iter().try_for_each(|(at, record)| self.write(*at, record))
    }

    fn write(&mut self, at: At, record: &Record<'_>) -> Result<(), TrainError> {
        let place = self.place(record);
        let price = match &record.what {
            What::Url { target, .. } if !self.mapping.prices.is_empty() => self.mapping.price(target),
            What::Endpoint { endpoint, .. } => self.mapping.price(endpoint),
            What::Url { .. } => None,
        };
        match self.rows.make(record, &place, at.id, price) {
            Err(reason) => {
                let name = self.files.get(at.file).map_or("", |file| file.name.as_str());
                self.report.skipped.note(reason, (name, at.line), b"");
            }
            Ok(None) => self.report.changes += 1,
            Ok(Some((request, call))) => {
                self.report.note(&request, &call);
                self.writer.push(at.file, (request, call))?;
            }
        }
        Ok(())
    }

    fn place(&mut self, record: &Record<'_>) -> Arc<Place> {
        let (host, path, _) = asked(record);
        let mut print = Fingerprint::default();
        print.update(host.as_bytes());
        print.update(b"\n");
        print.update(path.as_bytes());
        let told = print.finish()[0];
        if let Some(place) = self.places.get(&told) {
            return Arc::clone(place);
        }
        let Stage::Settled(endpoints) = &self.stage else {
            return Arc::new(Place { route: "other".into(), endpoint: "/{rest}".into(), provider: "other".into() });
        };
        let place = Arc::clone(endpoints.place(host, path));
        if self.places.len() >= PLACES {
            self.places.clear();
        }
        self.places.insert(told, Arc::clone(&place));
        place
    }

    fn finish(mut self) -> Result<Report, TrainError> {
        self.settle()?;
        let stem = |file: File| (file.identity.map(|identity| identity.stem()).unwrap_or_default(), file.replaces);
        self.report.files = self.writer.finish(&self.files.into_iter().map(stem).collect::<Vec<_>>())?;
        Ok(self.report)
    }
}

/// Host, path without query, and whether the path is a template of the log.
fn asked<'r>(record: &'r Record<'_>) -> (&'r str, &'r str, bool) {
    match &record.what {
        What::Url { host, target } => {
            (host.as_deref().unwrap_or_default(), target.split_once('?').map_or(&**target, |(path, _)| path), false)
        }
        What::Endpoint { endpoint, provider, .. } => (provider.as_deref().unwrap_or_default(), endpoint, true),
    }
}

impl Sink for Importer<'_> {
    fn take(&mut self, (line, id): (u64, u64), record: Record<'_>) -> Result<(), TrainError> {
        let at = At { file: self.files.len().saturating_sub(1), line, id };
        self.report.rows += 1;
        let Stage::Learning(held, bytes) = &mut self.stage else { return self.write(at, &record) };
        *bytes += record.extent();
        held.push((at, record.into_owned()));
        if held.len() >= SAMPLE.0 || *bytes >= SAMPLE.1 { self.settle() } else { Ok(()) }
    }

    fn line(&mut self, lines: u64, id: u64) {
        let Self { known, files, .. } = self;
        if let Some(file) = files.last_mut() {
            file.replaces.extend(known.continued(lines, id).map(str::to_owned));
        }
    }

    fn skip(&mut self, line: u64, reason: Reason, example: &[u8]) {
        let name = self.files.last().map_or("", |file| file.name.as_str());
        self.report.skipped.note(reason, (name, line), example);
    }

    fn progress(&mut self, bytes: u64) {
        self.progress.show(bytes);
    }

    fn end(&mut self, identity: Option<Identity>) {
        if let Some(file) = self.files.last_mut() {
            file.identity = identity;
        }
    }
}

/// A job for the thread that encodes and writes.
enum Batch {
    File(usize),
    Requests(i64, Vec<Request>),
    Calls(i64, Vec<CallRow>),
}

/// Writes on a thread of its own, at most one batch behind.
struct Writer {
    requests: ByHour<Request>,
    calls: ByHour<CallRow>,
    file: usize,
    queue: Option<SyncSender<Batch>>,
    thread: Option<JoinHandle<Result<Parts, TrainError>>>,
}

impl Writer {
    fn new(dir: &Path) -> Self {
        let (queue, batches) = sync_channel(1);
        let parts = Parts::new(dir);
        let thread = std::thread::spawn(move || write_all(parts, &batches));
        Self { requests: ByHour::default(), calls: ByHour::default(), file: 0, queue: Some(queue), thread: Some(thread) }
    }

    fn push(&mut self, file: usize, (request, call): Pair) -> Result<(), TrainError> {
        if file != self.file {
            self.flush()?;
            self.file = file;
            self.send(std::iter::once(Batch::File(file)))?;
        }
        if let Some(full) = self.requests.push(request, HELD) {
            self.send(full.into_iter().map(|(hour, rows)| Batch::Requests(hour, rows)))?;
        }
        if let Some(full) = self.calls.push(call, HELD) {
            self.send(full.into_iter().map(|(hour, rows)| Batch::Calls(hour, rows)))?;
        }
        Ok(())
    }

    fn send(&mut self, batches: impl Iterator<Item = Batch>) -> Result<(), TrainError> {
        for batch in batches {
            let sent = self.queue.as_ref().map(|queue| queue.send(batch));
            if !matches!(sent, Some(Ok(()))) {
                // The thread has ended early: it has the reason.
                return self.join().map(|_| ());
            }
        }
        Ok(())
    }

    fn join(&mut self) -> Result<Option<Parts>, TrainError> {
        self.queue = None;
        let Some(thread) = self.thread.take() else { return Ok(None) };
        let ended = || TrainError::io("log")(std::io::Error::other("the writing thread ended early"));
        thread.join().map_err(|_| ended())?.map(Some)
    }

    /// Writes what is held.
    fn flush(&mut self) -> Result<(), TrainError> {
        let (requests, calls) = (self.requests.take(), self.calls.take());
        self.send(requests.into_iter().map(|(hour, rows)| Batch::Requests(hour, rows)))?;
        self.send(calls.into_iter().map(|(hour, rows)| Batch::Calls(hour, rows)))
    }

    /// Writes what is left and gives the parts their names, by the stems of the files; how many there are.
    fn finish(mut self, stems: &[(String, Vec<String>)]) -> Result<usize, TrainError> {
        self.flush()?;
        self.join()?.map_or(Ok(0), |parts| parts.publish_each(stems))
    }
}

fn write_all(mut parts: Parts, batches: &Receiver<Batch>) -> Result<Parts, TrainError> {
    for batch in batches {
        match batch {
            Batch::File(file) => parts.begin(file),
            Batch::Requests(hour, rows) => parts.write(hour, &rows)?,
            Batch::Calls(hour, rows) => parts.write(hour, &rows)?,
        }
    }
    Ok(parts)
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

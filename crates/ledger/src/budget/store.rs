//! Where it is written down what may be spent, before it is.
//!
//! `<state_dir>/budgets` is a text of one record a line, each with a checksum in front. Records are appended and synced by a thread of its own,
//! all that wait together; a file that has grown is written anew with what counts, under another name that then takes its place.
//! A last line without an end is what a crash leaves: it was never told to be durable, and is cut off. Any other damage is a fault: it could
//! hide what was granted.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, unbounded};
use farthing_types::{Money, Time};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Grant;
use super::counter::{Counter, Raise};
use super::fleet::{FleetSide, Known};

/// Name of the file.
const NAME: &str = "budgets";
/// A longer file is written anew.
const LONG: u64 = 4 << 20;
/// Hexadecimal digits of the checksum in front of a line.
const SUM: usize = 16;

/// Which records tell of a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// What it has spent since.
    Change,
    /// All, for a file that begins with it.
    Whole,
    /// All, and that nothing more is spent of it.
    Closed,
}

/// One line of the file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Record(Line);

/// `b` and `u` name the counter, `w` the begin of the window.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "lowercase")]
enum Line {
    /// So much may be spent in the window in all.
    Grant { b: Arc<str>, u: Arc<str>, w: Time, total: Money },
    /// So much of it was spent, and so much may be in all: less than was granted before, where more was than is needed.
    Spent { b: Arc<str>, u: Arc<str>, w: Time, spent: Money, uncertain: Money, lost: Money, total: Money },
    /// The limit is higher for some time.
    Raise { b: Arc<str>, u: Arc<str>, raise: Raise },
    /// As which member this file's owner has begun how often in a fleet, and the last generation of that one's counters that it has heard of.
    Me { id: Arc<str>, starts: i64, heard: (Arc<str>, i64) },
    /// The members of the fleet that are known of: id, name, and until when each may hold something, in milliseconds.
    Known { members: Vec<(Arc<str>, Arc<str>, i64)> },
}

impl Record {
    /// The counter that it tells of; `None` where it tells of the fleet.
    pub(super) fn counter(&self) -> Option<(Arc<str>, Arc<str>)> {
        match &self.0 {
            Line::Grant { b, u, .. } | Line::Spent { b, u, .. } | Line::Raise { b, u, .. } => Some((b.clone(), u.clone())),
            Line::Me { .. } | Line::Known { .. } => None,
        }
    }

    pub(super) fn me(side: &FleetSide) -> Self {
        Self(Line::Me { id: side.id.clone(), starts: side.starts, heard: side.heard.clone() })
    }

    pub(super) fn known(known: &[Known]) -> Self {
        Self(Line::Known { members: known.iter().map(|Known { id, name, until }| (id.clone(), name.clone(), *until)).collect() })
    }

    /// What may be spent in a window by this record.
    #[cfg(test)]
    pub(super) fn total(&self, window: Time) -> Option<Money> {
        match &self.0 {
            Line::Grant { w, total, .. } | Line::Spent { w, total, .. } if *w == window => Some(*total),
            _ => None,
        }
    }

    /// The raise that it tells of.
    pub(super) const fn raised(&self) -> Option<&Raise> {
        if let Line::Raise { raise, .. } = &self.0 { Some(raise) } else { None }
    }

    /// Whether it tells another time what `other` does of the fleet.
    pub(super) fn is_alike(&self, other: &Self) -> bool {
        std::mem::discriminant(&self.0) == std::mem::discriminant(&other.0)
    }

    /// Takes over what it tells of the fleet.
    pub(super) fn meet(self, side: &mut FleetSide) {
        match self.0 {
            Line::Me { id, starts, heard } => (side.id, side.starts, side.heard) = (id, starts, heard),
            Line::Known { members } => side.known = members.into_iter().map(|(id, name, until)| Known { id, name, until }).collect(),
            Line::Grant { .. } | Line::Spent { .. } | Line::Raise { .. } => {}
        }
    }

    pub(super) fn grant(grant: &Grant) -> Self {
        let (b, u) = (grant.counter.budget.clone(), grant.counter.unit.clone());
        Self(Line::Grant { b, u, w: grant.window, total: grant.total })
    }

    pub(super) fn raise((budget, unit): (&str, &str), raise: Raise) -> Self {
        Self(Line::Raise { b: budget.into(), u: unit.into(), raise })
    }

    /// What is written down of a counter.
    pub(super) fn of(counter: &Counter, what: Written) -> Vec<Self> {
        let (b, u, w) = (counter.key.budget.clone(), counter.key.unit.clone(), counter.window.start);
        let Counter { spent, uncertain, lost, .. } = *counter;
        // What is ordered may be written already, and be told next.
        let total = if what == Written::Closed { counter.used() } else { counter.asked.max(counter.granted) };
        let spent = Self(Line::Spent { b: b.clone(), u: u.clone(), w, spent, uncertain, lost, total });
        if what == Written::Change {
            return vec![spent];
        }
        let raises = counter.raises.iter().cloned().map(|raise| Self(Line::Raise { b: b.clone(), u: u.clone(), raise }));
        raises.chain([spent]).collect()
    }

    /// Takes the record over into a counter of the present window; what belongs to another window is left.
    pub(super) fn apply(self, counter: &mut Counter) {
        match self.0 {
            Line::Grant { w, total, .. } if w == counter.window.start => counter.granted = counter.granted.max(total),
            Line::Spent { w, spent, uncertain, lost, total, .. } if w == counter.window.start => {
                // What an earlier crash has lost stays spent.
                (counter.spent, counter.uncertain, counter.granted) = (spent, uncertain + lost, total);
            }
            Line::Raise { raise, .. } if raise.until > counter.window.start && !counter.raises.contains(&raise) => {
                counter.raises.push(raise)
            }
            _ => {}
        }
    }
}

/// What went wrong with the file.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A line that is none of ours.
    #[error("{} is damaged in line {line}: restore it; or remove it, which forgets what was spent in the present windows", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// Another process has it.
    #[error("{} is in use by another process: give each instance a `state_dir` of its own", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// What the system says.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
}

/// Whether there is a file in this folder.
pub(super) fn exists(dir: &Path) -> bool {
    dir.join(NAME).exists()
}

/// Is told what became of a write; must not block.
pub type Done = Box<dyn FnOnce(Result<(), &str>) + Send>;

/// Grants to be made durable, and who is told when they are. `Err` says why they are not.
pub struct Grants {
    /// The grants; may be empty.
    pub grants: Vec<Grant>,
    /// Records beside them.
    pub records: Vec<Record>,
    /// Told on the store's thread.
    pub done: Done,
}

enum Order {
    Write(Grants),
    Rewrite(Vec<Record>),
    Close,
}

/// Figures of the store.
#[derive(Debug, Default)]
pub struct StoreStats {
    /// Syncs.
    pub syncs: AtomicU64,
    /// Records written.
    pub records: AtomicU64,
    /// Writes that failed.
    pub failures: AtomicU64,
    /// Bytes of the file.
    pub bytes: AtomicU64,
}

/// The file with its thread. Closing waits for what was ordered.
#[derive(Debug)]
pub struct Store {
    orders: Sender<Order>,
    thread: Option<JoinHandle<()>>,
    /// Figures.
    pub stats: Arc<StoreStats>,
}

/// A store with what it held.
pub struct Opened {
    /// The store.
    pub store: Store,
    /// Its records.
    pub records: Vec<Record>,
    /// Bytes of a torn last line that were cut off.
    pub torn: u64,
}

impl Store {
    /// Opens `<dir>/budgets`; makes it where there is none.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn open(dir: &Path) -> Result<Opened, StoreError> {
        let path = dir.join(NAME);
        let io = |source: io::Error| StoreError::Io { path: path.clone(), source };
        fs::create_dir_all(dir).map_err(io)?;
        let mut options = OpenOptions::new();
        let options = options.read(true).append(true).create(true);
        let file = options.open(&path).map_err(io)?;
        if file.try_lock().is_err() {
            return Err(StoreError::InUse { path });
        }
        let text = fs::read(&path).map_err(io)?;
        let (records, whole) = read(&text).map_err(|line| StoreError::Damaged { path: path.clone(), line })?;
        let torn = text.len() as u64 - whole;
        if torn > 0 {
            file.set_len(whole).and_then(|()| file.sync_all()).map_err(io)?;
        }
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(io)?;
        let (orders, received) = unbounded();
        let stats = Arc::new(StoreStats::default());
        let worker = Worker { path: path.clone(), file, length: whole, orders: received, stats: stats.clone() };
        stats.bytes.store(whole, Relaxed);
        let thread = std::thread::Builder::new().name("farthing-budgets".to_owned()).spawn(move || worker.run()).map_err(io)?;
        Ok(Opened { store: Self { orders, thread: Some(thread), stats }, records, torn })
    }

    /// Orders a write. Where the thread is gone, `done` is dropped: whoever orders may hold what it takes.
    pub fn order(&self, grants: Grants) {
        if self.orders.send(Order::Write(grants)).is_err() {
            self.stats.failures.fetch_add(1, Relaxed);
        }
    }

    /// Whether the file has grown so long that it should be written anew.
    pub fn is_long(&self) -> bool {
        self.stats.bytes.load(Relaxed) > LONG
    }

    /// Orders the file to be written anew with these records alone: all that counts. What is ordered later comes after them.
    pub fn rewrite(&self, records: Vec<Record>) {
        let _ = self.orders.send(Order::Rewrite(records));
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let _ = self.orders.send(Order::Close);
        // Whoever is told last may drop it on the thread itself.
        if let Some(thread) = self.thread.take().filter(|thread| thread.thread().id() != std::thread::current().id()) {
            let _ = thread.join();
        }
    }
}

struct Worker {
    path: PathBuf,
    file: File,
    length: u64,
    orders: Receiver<Order>,
    stats: Arc<StoreStats>,
}

impl Worker {
    fn run(mut self) {
        while let Ok(first) = self.orders.recv() {
            let mut open = true;
            let mut waiting = Vec::new();
            let orders: Vec<Order> = std::iter::once(first).chain(self.orders.try_iter()).collect();
            for order in orders {
                match order {
                    Order::Write(grants) => waiting.push(grants),
                    Order::Rewrite(records) => {
                        self.write(std::mem::take(&mut waiting));
                        self.rewrite(&records);
                    }
                    Order::Close => open = false,
                }
            }
            self.write(waiting);
            if !open {
                return;
            }
        }
    }

    fn write(&mut self, waiting: Vec<Grants>) {
        if waiting.is_empty() {
            return;
        }
        let mut records: Vec<Record> = Vec::new();
        for grants in &waiting {
            records.extend(grants.grants.iter().map(Record::grant));
            records.extend(grants.records.iter().cloned());
        }
        let written = self.append(&records);
        match &written {
            Ok(()) => {
                self.stats.records.fetch_add(records.len() as u64, Relaxed);
                self.stats.syncs.fetch_add(1, Relaxed);
            }
            Err(error) => {
                self.stats.failures.fetch_add(1, Relaxed);
                tracing::error!(%error, path = %self.path.display(), "budgets cannot be written down");
            }
        }
        let told = written.map_err(|error| error.to_string());
        for grants in waiting {
            (grants.done)(told.as_ref().copied().map_err(String::as_str));
        }
    }

    fn append(&mut self, records: &[Record]) -> io::Result<()> {
        let text: String = records.iter().map(line).collect();
        let written = self.file.write_all(text.as_bytes()).and_then(|()| self.file.sync_data());
        if let Err(error) = written {
            // Half a line would be damage once another follows it.
            self.file.set_len(self.length)?;
            return Err(error);
        }
        self.length += text.len() as u64;
        self.stats.bytes.store(self.length, Relaxed);
        Ok(())
    }

    /// The old file stays in force where the new one cannot be written.
    fn rewrite(&mut self, records: &[Record]) {
        match begin_anew(&self.path, records) {
            Ok((file, length)) => {
                (self.file, self.length) = (file, length);
                self.stats.bytes.store(length, Relaxed);
            }
            Err(error) => {
                self.stats.failures.fetch_add(1, Relaxed);
                tracing::warn!(%error, path = %self.path.display(), "budgets cannot be written anew");
            }
        }
    }
}

fn begin_anew(path: &Path, records: &[Record]) -> io::Result<(File, u64)> {
    let temp = path.with_extension("new");
    let text: String = records.iter().map(line).collect();
    fs::write(&temp, &text)?;
    let file = OpenOptions::new().read(true).append(true).open(&temp)?;
    file.sync_all()?;
    // Locked before it has its name: nobody comes in between.
    file.try_lock().map_err(io::Error::other)?;
    // Opened before: once it has its name the new file is the one that counts, whatever comes after.
    let dir = path.parent().map(File::open).transpose()?;
    fs::rename(&temp, path)?;
    if let Some(Err(error)) = dir.map(|dir| dir.sync_all()) {
        tracing::warn!(%error, path = %path.display(), "the folder of budgets cannot be synced: a power cut may bring the file before back");
    }
    Ok((file, text.len() as u64))
}

/// A record as a line.
fn line(record: &Record) -> String {
    // Maps with text keys only: this cannot fail.
    let text = serde_json::to_string(record).unwrap_or_default();
    format!("{} {text}\n", sum(text.as_bytes()))
}

fn sum(text: &[u8]) -> String {
    let mut digest = hex::encode(Sha256::digest(text));
    digest.truncate(SUM);
    digest
}

/// The records of a file's text, and how many bytes of it are whole lines. `Err`: the number of a damaged line.
fn read(text: &[u8]) -> Result<(Vec<Record>, u64), usize> {
    let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let mut records = Vec::new();
    for (index, line) in text[..whole].split_inclusive(|byte| *byte == b'\n').enumerate() {
        let (sum_of, body) = line.trim_ascii_end().split_at_checked(SUM).ok_or(index + 1)?;
        let body = body.strip_prefix(b" ").filter(|body| sum(body).as_bytes() == sum_of).ok_or(index + 1)?;
        records.push(serde_json::from_slice(body).map_err(|_| index + 1)?);
    }
    Ok((records, whole as u64))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_write_that_fails_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(NAME);
        fs::write(&path, "").unwrap();
        let ((_orders, received), stats) = (unbounded(), Arc::new(StoreStats::default()));
        // It is open, but not for writing.
        let mut worker = Worker { file: File::open(&path).unwrap(), path, length: 0, orders: received, stats: stats.clone() };
        let (tell, told) = mpsc::channel();
        let done: Done = Box::new(move |result| tell.send(result.map_err(ToOwned::to_owned)).unwrap());
        worker.write(vec![Grants { grants: Vec::new(), records: Vec::new(), done }]);
        assert_eq!(told.recv().unwrap(), Ok(()), "nothing to write");
        let raise = Record::raise(("b", ""), Raise { by: Money::ZERO, until: Time::ZERO, note: String::new() });
        let (tell, told) = mpsc::channel();
        let done: Done = Box::new(move |result| tell.send(result.map_err(ToOwned::to_owned)).unwrap());
        worker.write(vec![Grants { grants: Vec::new(), records: vec![raise], done }]);
        assert!(told.recv().unwrap().is_err());
        assert_eq!(stats.failures.load(Relaxed), 1);
    }
}

//! Who changed what and when (SPEC O3, S2): one line of JSON for each change that was ordered, in `state_dir/audit.jsonl`. Lines are only ever added; the file is
//! bounded by taking the oldest away whole.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use farthing_config::Config;
use farthing_types::Time;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::files;

/// Bytes of the file, from which on another one is begun.
const LARGEST: u64 = 4 << 20;
/// Files that stay beside the one that is written.
const OLDER: usize = 4;
/// Longest text of a change; the rest is cut.
const LONGEST: usize = 2_048;
const FILE: &str = "audit.jsonl";
/// What stands for the name of a tenant that was forgotten.
const FORGOTTEN: &str = "(forgotten)";

/// One change, or the attempt of one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeRecord {
    /// When it was answered, wall time.
    pub at: Time,
    /// By what right: `token`, `loopback`, `signal`, `fleet`.
    pub by: String,
    /// Who it says it was; nobody has checked that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub said: Option<String>,
    /// From which address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// What was ordered, such as `POST /api/v1/bypass/on`.
    pub what: String,
    /// With which words: the body, cut where it is long.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub with: String,
    /// What came of it: a status of HTTP, or a word.
    pub outcome: String,
    /// Digest of the configuration before.
    pub before: String,
    /// And after.
    pub after: String,
}

/// See the module.
#[derive(Debug)]
pub struct ChangeBook {
    /// `None` where there is no folder.
    path: Option<PathBuf>,
    open: Mutex<Option<(File, u64)>>,
    written: AtomicU64,
    unwritten: AtomicU64,
}

impl ChangeBook {
    /// Below the `state_dir` of a configuration; opened with the first line.
    pub fn new(config: &Config) -> Self {
        let path = files::of_instance(config, FILE);
        Self { path, open: Mutex::default(), written: AtomicU64::new(0), unwritten: AtomicU64::new(0) }
    }

    /// Adds a line; a process that is killed loses none, a machine that loses its power may lose the last ones. Blocks. What cannot be written is counted, and told to the log.
    pub fn note(&self, mut record: ChangeRecord) {
        let Some(path) = &self.path else { return };
        cut(&mut record.with);
        let done = serde_json::to_vec(&record).map_err(io::Error::from).and_then(|mut line| {
            line.push(b'\n');
            self.add(path, &line)
        });
        match done {
            Ok(()) => _ = self.written.fetch_add(1, Relaxed),
            Err(error) => {
                self.unwritten.fetch_add(1, Relaxed);
                tracing::error!(%error, what = record.what, by = record.by, outcome = record.outcome, "a change is not in the audit log");
            }
        }
    }

    fn add(&self, path: &Path, line: &[u8]) -> io::Result<()> {
        let mut place = self.open.lock();
        let (mut file, mut size) = place.take().map_or_else(|| open(path), Ok)?;
        if size > 0 && size + line.len() as u64 > LARGEST {
            file.sync_data()?;
            turn(path)?;
            (file, size) = open(path)?;
        }
        file.write_all(line)?;
        *place = Some((file, size + line.len() as u64));
        Ok(())
    }

    /// The latest changes, the last one last; `None` where nothing is kept. Lines that cannot be read are left out. Blocks.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn latest(&self, most: usize) -> io::Result<Option<Vec<ChangeRecord>>> {
        let Some(path) = &self.path else { return Ok(None) };
        // No line is half of one, and no file is turned meanwhile.
        let _open = self.open.lock();
        let mut found: Vec<ChangeRecord> = Vec::new();
        for file in std::iter::once(path.clone()).chain((1..=OLDER).map(|age| older(path, age))) {
            if found.len() >= most {
                break;
            }
            let file = match File::open(&file) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                file => file?,
            };
            let lines = BufReader::new(file).split(b'\n').collect::<Result<Vec<_>, _>>()?;
            let mut records: Vec<ChangeRecord> = lines.iter().filter_map(|line| serde_json::from_slice(line).ok()).collect();
            records.drain(..records.len().saturating_sub(most - found.len()));
            records.append(&mut found);
            found = records;
        }
        Ok(Some(found))
    }

    /// Takes the name of a tenant out of all lines: they stay, and say that somebody was forgotten. How many there were. Blocks.
    ///
    /// # Errors
    /// A file that cannot be read or written; some may be done then.
    pub fn forget(&self, tenant: &str) -> io::Result<u64> {
        let Some(path) = &self.path else { return Ok(0) };
        let mut open = self.open.lock();
        let mut lines = 0;
        for file in std::iter::once(path.clone()).chain((1..=OLDER).map(|age| older(path, age))) {
            let Some(text) = files::read(&file)? else { continue };
            let mut out = Vec::with_capacity(text.len());
            let before = lines;
            for line in text.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
                // A line that cannot be read is none: it goes, as it may name whom it is to forget.
                let Ok(mut record) = serde_json::from_slice::<ChangeRecord>(line) else { continue };
                lines += u64::from(forget_in(&mut record, tenant));
                out.append(&mut serde_json::to_vec(&record)?);
                out.push(b'\n');
            }
            if lines > before {
                // What is open is the file that goes.
                *open = None;
                files::write(&file, &out)?;
            }
        }
        Ok(lines)
    }

    /// Lines that were written and that could not be, since the start.
    pub fn counts(&self) -> (u64, u64) {
        (self.written.load(Relaxed), self.unwritten.load(Relaxed))
    }
}

/// Opens the file at its end, and ends a line that a killed process had begun.
fn open(path: &Path) -> io::Result<(File, u64)> {
    path.parent().map_or(Ok(()), fs::create_dir_all)?;
    let mut options = OpenOptions::new();
    options.create(true).read(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    let mut size = file.seek(SeekFrom::End(0))?;
    if size > 0 {
        let mut last = [0];
        file.seek(SeekFrom::End(-1))?;
        io::Read::read_exact(&mut file, &mut last)?;
        if last != *b"\n" {
            file.write_all(b"\n")?;
            size += 1;
        }
    }
    Ok((file, size))
}

/// Whether a record named the tenant, anywhere; it does not any more.
fn forget_in(record: &mut ChangeRecord, tenant: &str) -> bool {
    let ChangeRecord { by, said, what, with, outcome, .. } = record;
    let mut found = false;
    for text in [by, what, with, outcome].into_iter().chain(said) {
        if let Some(without) = without(text, tenant) {
            *text = without;
            found = true;
        }
    }
    found
}

/// A text in which something stands for the name, where it stands for itself and is no part of another word; `None` where it has none.
fn without(text: &str, name: &str) -> Option<String> {
    let part = |c: char| c.is_alphanumeric() || "-_.:@|+=".contains(c);
    let alone = |at: &usize| !text[..*at].ends_with(part) && !text[at + name.len()..].starts_with(part);
    let places: Vec<usize> = text.match_indices(name).map(|(at, _)| at).filter(alone).collect();
    let (mut out, mut from) = (String::with_capacity(text.len()), 0);
    for at in &places {
        out += &text[from..*at];
        out += FORGOTTEN;
        from = at + name.len();
    }
    (!places.is_empty()).then(|| out + &text[from..])
}

fn older(path: &Path, age: usize) -> PathBuf {
    path.with_file_name(format!("audit.{age}.jsonl"))
}

/// Makes room under the name; the oldest file goes.
fn turn(path: &Path) -> io::Result<()> {
    for age in (1..OLDER).rev() {
        match fs::rename(older(path, age), older(path, age + 1)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    fs::rename(path, older(path, 1))
}

fn cut(text: &mut String) {
    if text.len() > LONGEST {
        let end = (0..=LONGEST).rev().find(|end| text.is_char_boundary(*end)).unwrap_or_default();
        let all = text.len();
        text.truncate(end);
        text.push_str(&format!("... ({all} bytes)"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn book(dir: &Path) -> ChangeBook {
        ChangeBook::new(&Config { state_dir: dir.to_owned(), ..Config::default() })
    }

    fn record(n: i64, with: &str) -> ChangeRecord {
        ChangeRecord { at: Time::from_millis(n), what: format!("POST /{n}"), with: with.to_owned(), ..ChangeRecord::default() }
    }

    #[test]
    fn changes_are_told_in_order_over_restarts_and_torn_lines() {
        let dir = tempfile::tempdir().unwrap();
        let first = book(dir.path());
        assert_eq!(first.latest(9).unwrap(), Some(Vec::new()));
        (0..3).for_each(|n| first.note(record(n, "{}")));
        drop(first);
        // A process that was killed in the middle of a line.
        let mut file = OpenOptions::new().append(true).open(dir.path().join(FILE)).unwrap();
        file.write_all(b"{\"at\":7,\"by\":\"tok").unwrap();
        let second = book(dir.path());
        second.note(record(3, "{}"));
        let told: Vec<i64> = second.latest(3).unwrap().unwrap().iter().map(|record| record.at.millis()).collect();
        assert_eq!((told, second.counts()), (vec![1, 2, 3], (1, 0)));
        assert_eq!(ChangeBook::new(&Config { state_dir: PathBuf::new(), ..Config::default() }).latest(9).unwrap(), None);
    }

    #[test]
    fn files_are_bounded_and_the_oldest_goes() {
        let dir = tempfile::tempdir().unwrap();
        let book = book(dir.path());
        let long = "x".repeat(3 * LONGEST);
        let each = (LARGEST / LONGEST as u64) as i64;
        (0..each * 7).for_each(|n| {
            book.note(record(n, &long));
        });
        let sizes: Vec<u64> = fs::read_dir(dir.path()).unwrap().map(|file| file.unwrap().metadata().unwrap().len()).collect();
        assert!(sizes.len() == OLDER + 1 && sizes.iter().all(|size| *size <= LARGEST), "{sizes:?}");
        let told = book.latest(usize::try_from(each).unwrap() * 2).unwrap().unwrap();
        let numbers: Vec<i64> = told.iter().map(|record| record.at.millis()).collect();
        assert_eq!(numbers, (each * 5..each * 7).collect::<Vec<_>>(), "over the border of files");
        assert!(told[0].with.ends_with(&format!("... ({} bytes)", long.len())));
    }

    #[test]
    fn a_tenant_is_forgotten_in_all_files_and_lines_go_on() {
        let dir = tempfile::tempdir().unwrap();
        let book = book(dir.path());
        book.note(record(1, "{\"tenant\":\"acme\"}"));
        turn(&dir.path().join(FILE)).unwrap();
        *book.open.lock() = None;
        book.note(record(2, "{\"tenant\":\"acme\"}"));
        book.note(record(3, "{\"tenant\":\"other\"}"));
        assert_eq!((book.forget("acme").unwrap(), book.forget("acme").unwrap(), book.forget("the").unwrap()), (2, 0, 0));
        book.note(record(4, "{}"));
        let told = book.latest(9).unwrap().unwrap();
        let words: Vec<&str> = told.iter().map(|record| &*record.with).collect();
        assert_eq!(words, ["{\"tenant\":\"(forgotten)\"}", "{\"tenant\":\"(forgotten)\"}", "{\"tenant\":\"other\"}", "{}"]);
    }

    #[test]
    fn what_cannot_be_written_is_counted() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join(FILE)).unwrap();
        let book = book(dir.path());
        book.note(record(1, ""));
        assert_eq!(book.counts(), (0, 1));
    }
}

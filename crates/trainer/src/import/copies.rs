//! Which file is which: one that has grown since it was imported replaces what it gave, and a copy gives nothing twice.
//!
//! A file is known by its whole lines, unpacked: how many there are, and a fingerprint of them all. Names of parts hold both, so a folder
//! says what it was made of. Whoever reads a file sees by the way each of these fingerprints of a file that it continues; only files that
//! begin like another one are looked at before.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};

use super::columns::{file_fingerprint, is_parquet};
use super::fingerprint::Fingerprint;
use super::lines::Lines;
use crate::error::TrainError;
use crate::read::{find, read_request_ids};

/// Lines by which files are told apart before they are read: the first of a table is its header.
pub const HEAD: u64 = 2;
/// Last lines of a file that are looked for in the log: some are no requests.
const LAST: usize = 64;

/// What a file is known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Identity {
    /// Fingerprint of the first [`HEAD`] lines.
    pub head: u64,
    /// Whole lines.
    pub lines: u64,
    /// Fingerprint of them all.
    pub print: u64,
}

/// Digits of a head and of a fingerprint in a name.
const DIGITS: (u32, u32) = (8, 12);

fn cut(bits: u64, digits: u32) -> u64 {
    bits >> (64 - 4 * digits)
}

impl Identity {
    /// Of a file that is no lines and does not grow.
    pub fn of_whole(print: Fingerprint) -> Self {
        let [head, print] = print.finish();
        Self { head, lines: 0, print }
    }

    /// What names of parts begin with, after `part-`.
    pub fn stem(&self) -> String {
        format!("import-{:08x}-{}-{:012x}", cut(self.head, DIGITS.0), self.lines, cut(self.print, DIGITS.1))
    }
}

/// A file that was imported before.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Recorded {
    stem: String,
    head: u64,
    lines: u64,
    print: u64,
}

impl Recorded {
    /// By the name of one of its parts.
    fn parse(name: &str) -> Option<Self> {
        let (stem, _) = name.strip_prefix("part-")?.rsplit_once('-')?;
        let mut words = stem.strip_prefix("import-")?.split('-');
        let (head, lines, print) = (words.next()?, words.next()?.parse().ok()?, words.next()?);
        let hex = |text| u64::from_str_radix(text, 16).ok();
        words.next().is_none().then_some(Self { stem: stem.to_owned(), head: hex(head)?, lines, print: hex(print)? })
    }
}

/// What a log was made of.
#[derive(Debug, Default)]
pub struct Known {
    recorded: BTreeSet<Recorded>,
    by_lines: HashMap<u64, Vec<Recorded>>,
}

impl Known {
    /// Of the log in a folder.
    pub fn of(out: &Path) -> Self {
        let parts = find(&out.to_string_lossy()).unwrap_or_default();
        let name = |path: &PathBuf| path.file_name().and_then(|n| n.to_str()).and_then(Recorded::parse);
        let recorded: BTreeSet<Recorded> = parts.iter().filter_map(name).collect();
        let mut by_lines: HashMap<u64, Vec<Recorded>> = HashMap::new();
        for file in &recorded {
            by_lines.entry(file.lines).or_default().push(file.clone());
        }
        Self { recorded, by_lines }
    }

    /// The files that a file with this id at this line continues, or is.
    pub fn continued(&self, lines: u64, id: u64) -> impl Iterator<Item = &str> {
        let same = move |file: &&Recorded| file.print == cut(id, DIGITS.1);
        self.by_lines.get(&lines).into_iter().flatten().filter(same).map(|file| file.stem.as_str())
    }
}

/// Ids of the first lines of a file; none for the standard input, which can be read once only.
fn heads(path: &Path) -> Result<Vec<u64>, TrainError> {
    if path == Path::new("-") || is_parquet(path)? {
        return Ok(Vec::new());
    }
    let (mut lines, mut ids) = (Lines::open(path).map_err(TrainError::io(path))?, Vec::new());
    while (ids.len() as u64) < HEAD
        && let Some(line) = lines.next_line().map_err(TrainError::io(path))?
        && (line.ended || ids.is_empty())
    {
        ids.push(line.id);
    }
    Ok(ids)
}

/// Reads the lines of a file and tells each whole one's number and id.
fn walk(path: &Path, told: &mut dyn FnMut(u64, u64)) -> io::Result<Option<Identity>> {
    let mut lines = Lines::open(path)?;
    loop {
        let number = lines.number() + 1;
        let Some(line) = lines.next_line()? else { return Ok(lines.identity()) };
        if line.ended || number == 1 {
            told(number, line.id);
        }
    }
}

/// A file that begins like another one.
struct Alike {
    /// Its place among the files that are given.
    place: usize,
    heads: Vec<u64>,
    identity: Identity,
    last: VecDeque<u64>,
}

/// Of each file given how many lines it has when it is a copy, or an earlier state, of another one that is given or of one that the log
/// holds; `None` when it is to be read.
///
/// # Errors
/// When a file cannot be read.
pub fn copies(inputs: &[PathBuf], (known, out): (&Known, &Path)) -> Result<Vec<Option<u64>>, TrainError> {
    let mut found = vec![None; inputs.len()];
    same_tables(inputs, &mut found)?;
    let all: Vec<Vec<u64>> = inputs.iter().map(|path| heads(path)).collect::<Result<_, _>>()?;
    let mut alike = Vec::new();
    for (place, (path, heads)) in inputs.iter().zip(&all).enumerate() {
        let other = all.iter().enumerate().any(|(n, other)| n != place && begin_alike(heads, other));
        let before = heads.last().is_some_and(|head| known.recorded.iter().any(|r| r.head == cut(*head, DIGITS.0)));
        if !(other || before) {
            continue;
        }
        let mut last = VecDeque::with_capacity(LAST);
        let identity = walk(path, &mut |_, id| {
            last.truncate(LAST - 1);
            last.push_front(id);
        });
        let Some(identity) = identity.map_err(TrainError::io(path))? else { continue };
        alike.push(Alike { place, heads: heads.clone(), identity, last });
    }
    for file in &alike {
        let longer = |other: &&Alike| (other.identity.lines, file.place) > (file.identity.lines, other.place);
        for other in alike.iter().filter(|other| other.place != file.place && begin_alike(&file.heads, &other.heads)).filter(longer) {
            if found[file.place].is_none() && holds((other, &inputs[other.place]), &file.identity)? {
                found[file.place] = Some(file.identity.lines);
            }
        }
        if found[file.place].is_none() && is_in_log(file, (known, out))? {
            found[file.place] = Some(file.identity.lines);
        }
    }
    Ok(found)
}

/// Parquet files that are the same to the byte: they have no lines, and the first one is read.
fn same_tables(inputs: &[PathBuf], found: &mut [Option<u64>]) -> Result<(), TrainError> {
    let mut sizes: HashMap<u64, Vec<usize>> = HashMap::new();
    for (place, path) in inputs.iter().enumerate() {
        if path != Path::new("-") && is_parquet(path)? {
            sizes.entry(std::fs::metadata(path).map_err(TrainError::io(path))?.len()).or_default().push(place);
        }
    }
    for places in sizes.values().filter(|places| places.len() > 1) {
        let mut seen = BTreeSet::new();
        for place in places {
            let Some(path) = inputs.get(*place) else { continue };
            if !seen.insert(file_fingerprint(path)?.finish()) {
                found[*place] = Some(1);
            }
        }
    }
    Ok(())
}

/// Whether one may be the beginning of the other, by their first lines.
fn begin_alike(a: &[u64], b: &[u64]) -> bool {
    !a.is_empty() && !b.is_empty() && a.iter().zip(b).all(|(a, b)| a == b)
}

/// Whether a file begins with all of what is known of another one.
fn holds((file, path): (&Alike, &Path), other: &Identity) -> Result<bool, TrainError> {
    if file.identity.lines == other.lines {
        return Ok(file.identity == *other);
    }
    let mut holds = false;
    let told = &mut |lines, id| holds |= lines == other.lines && id == other.print;
    walk(path, told).map_err(TrainError::io(path))?;
    Ok(holds)
}

/// Whether the log holds what a longer file of the same beginning gave: the ids of the last lines are among its requests.
fn is_in_log(file: &Alike, (known, out): (&Known, &Path)) -> Result<bool, TrainError> {
    let longer = |r: &&Recorded| r.head == cut(file.identity.head, DIGITS.0) && r.lines > file.identity.lines;
    for recorded in known.recorded.iter().filter(longer) {
        let pattern = format!("{}/requests/**/part-{}-*.parquet", out.display(), recorded.stem);
        for part in find(&pattern).unwrap_or_default() {
            if read_request_ids(&part)?.iter().any(|id| file.last.contains(id)) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_parts_say_what_they_were_made_of() {
        let identity = Identity { head: 0x0123_4567_89ab_cdef, lines: 17, print: 0xfedc_ba98_7654_3210 };
        let name = format!("part-{}-000003.parquet", identity.stem());
        assert_eq!(name, "part-import-01234567-17-fedcba987654-000003.parquet");
        let recorded = Recorded::parse(&name).unwrap();
        assert_eq!((recorded.stem, recorded.lines), (identity.stem(), 17));
        for other in ["part-local-1-000000.parquet", "part-import-a6fb30bcd4e7-000037.parquet", "part-import-x-1-2-000000.parquet", "x"] {
            assert_eq!(Recorded::parse(other), None, "{other}");
        }
    }

    #[test]
    fn copies_and_earlier_states_are_seen_in_any_order() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: String| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let lines = |from: u32, to: u32| (from..to).map(|n| format!("line {n}\n")).collect::<String>();
        let long = write("long", lines(0, 90));
        let short = write("short", lines(0, 50) + "line");
        let again = write("again", lines(0, 90));
        let parted = write("parted", lines(0, 3) + &lines(7, 100));
        let other = write("other", lines(1, 90));
        let empty = write("empty", String::new());
        let seen = |inputs: &[&PathBuf]| {
            let inputs: Vec<PathBuf> = inputs.iter().map(|p| (*p).clone()).collect();
            copies(&inputs, (&Known::default(), dir.path())).unwrap()
        };
        assert_eq!(seen(&[&long, &short, &again, &parted, &other, &empty]), [None, Some(50), Some(90), None, None, None]);
        assert_eq!(seen(&[&short, &parted, &long]), [Some(50), None, None]);
        assert_eq!(seen(&[&empty, &empty, &long]), [None, None, None]);
    }
}

//! Formats of foreign logs: one file each, one line in [`ALL`].

use std::path::Path;

use super::copies::Identity;
use super::lines::Lines;
use super::mapping::Mapping;
use super::record::Record;
use super::skipped::Reason;
use super::{columns, combined, json_lines, litellm};
use crate::error::TrainError;

/// A format.
pub trait Format: Sync {
    /// Its name on the command line.
    fn name(&self) -> &'static str;
    /// What it is, in a sentence.
    fn about(&self) -> &'static str;
    /// Reads a file and hands on each of its rows, in order.
    ///
    /// # Errors
    /// When the file cannot be read, or the mapping does not fit it. A bad row is no error: it is skipped.
    fn read(&self, mapping: &Mapping, path: &Path, sink: &mut dyn Sink) -> Result<(), TrainError>;
}

/// All formats.
pub static ALL: &[&dyn Format] = &[&combined::Combined, &json_lines::JsonLines, &litellm::LiteLlm, &columns::Columns];

/// The format of this name.
pub fn by_name(name: &str) -> Option<&'static dyn Format> {
    ALL.iter().copied().find(|format| format.name() == name)
}

/// Takes the rows of a file.
pub trait Sink {
    /// A row; its line or row number, from 1, and its id: the same for the same row of a file that has grown.
    ///
    /// # Errors
    /// When what was made of the rows cannot be written.
    fn take(&mut self, place: (u64, u64), record: Record<'_>) -> Result<(), TrainError>;
    /// A whole line, a row or not, has been read: how many there were, and its id.
    fn line(&mut self, lines: u64, id: u64);
    /// A row that cannot be used.
    fn skip(&mut self, place: u64, reason: Reason, line: &[u8]);
    /// How much of the file has been read.
    fn progress(&mut self, bytes: u64);
    /// The whole file has been read; what it is known by, unless it is empty.
    fn end(&mut self, identity: Option<Identity>);
}

/// Lines between two reports of progress.
const STEP: u64 = 8_192;

/// Hands each line of a file to `parse`, and what it makes of it to the sink. Empty lines are passed over. `parse` answers
/// `Ok(None)` for lines that are no rows, like a header.
pub fn each_line(
    path: &Path,
    sink: &mut dyn Sink,
    mut parse: impl for<'a> FnMut(&'a [u8]) -> Result<Option<Record<'a>>, Reason>,
) -> Result<(), TrainError> {
    let io = |source| TrainError::Io { path: path.to_path_buf(), source };
    let mut lines = Lines::open(path).map_err(io)?;
    loop {
        let place = lines.number() + 1;
        let Some(line) = lines.next_line().map_err(io)? else { break };
        if line.ended {
            sink.line(place, line.id);
        }
        if line.too_long {
            sink.skip(place, Reason::TooLong, line.bytes);
        } else if !line.bytes.is_empty() {
            match parse(line.bytes) {
                Err(reason) => sink.skip(place, reason, line.bytes),
                Ok(None) => {}
                Ok(Some(record)) => sink.take((place, line.id), record)?,
            }
        }
        if place.is_multiple_of(STEP) {
            sink.progress(lines.bytes_read());
        }
    }
    sink.progress(lines.bytes_read());
    sink.end(lines.identity());
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_found() {
        let names: BTreeSet<_> = ALL.iter().map(|f| f.name()).collect();
        assert_eq!(names.len(), ALL.len());
        assert!(ALL.iter().all(|f| !f.about().is_empty() && by_name(f.name()).is_some_and(|found| found.name() == f.name())));
        assert!(by_name("clf").is_none());
    }
}

//! Lines that were skipped: counted by reason, each with a few places and shortened examples.

use std::collections::BTreeMap;

use serde::Serialize;

/// Why a line was skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// Longer than [`super::MAX_LINE`].
    TooLong,
    /// Not UTF-8 text where text is needed.
    NotText,
    /// Not the shape of the format.
    Shape,
    /// A row with another number of cells than the header.
    Cells,
    /// No time, or none that can be read.
    Time,
    /// No request: `-`, an unfinished one, or bytes that are not HTTP.
    Request,
    /// A target that is no path and no URL.
    Target,
    /// A status that is no status.
    Status,
    /// A number that is none.
    Number,
    /// Not a JSON object.
    Json,
    /// The mapped endpoint is missing.
    Endpoint,
    /// Answered by another cache: no call was made.
    Cached,
    /// Of a file that another one, or the log, holds already.
    Twice,
}

impl Reason {
    /// For people.
    pub const fn text(self) -> &'static str {
        match self {
            Self::TooLong => "line longer than 64 KiB",
            Self::NotText => "not UTF-8 text",
            Self::Shape => "not a line of this format",
            Self::Cells => "another number of cells than the header",
            Self::Time => "no readable time",
            Self::Request => "no readable request",
            Self::Target => "a target that is neither path nor URL",
            Self::Status => "a status that is no status",
            Self::Number => "a number that is none",
            Self::Json => "not a JSON object",
            Self::Endpoint => "neither URL nor endpoint",
            Self::Cached => "answered by another cache, no call was made",
            Self::Twice => "of a copy: another file, or the log from before, holds them and what follows",
        }
    }
}

/// Places and examples that are kept per reason.
const EXAMPLES: usize = 3;
/// Bytes of an example.
const EXAMPLE_BYTES: usize = 80;

/// One reason's share.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Skips {
    /// How many lines.
    pub lines: u64,
    /// File and line number (row number for Parquet) of the first ones, with the shortened line.
    pub first: Vec<(String, u64, String)>,
}

/// All skipped lines.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Skipped(pub BTreeMap<Reason, Skips>);

impl Skipped {
    /// Notes a line. Only the first examples cost anything.
    pub fn note(&mut self, reason: Reason, (file, line): (&str, u64), example: &[u8]) {
        let skips = self.0.entry(reason).or_default();
        skips.lines += 1;
        if skips.first.len() < EXAMPLES {
            skips.first.push((file.to_owned(), line, shortened(example)));
        }
    }

    /// Notes all lines of a file at once.
    pub fn note_all(&mut self, reason: Reason, file: &str, lines: u64) {
        self.note(reason, (file, 1), b"");
        if let Some(skips) = self.0.get_mut(&reason) {
            skips.lines += lines.saturating_sub(1);
        }
    }

    /// How many in all, but for those that are no fault of the file ([`Reason::Cached`], [`Reason::Twice`]).
    pub fn faulty(&self) -> u64 {
        self.0.iter().filter(|(reason, _)| !matches!(reason, Reason::Cached | Reason::Twice)).map(|(_, s)| s.lines).sum()
    }
}

/// The beginning of a line, printable, and without what may be a secret: query strings and everything like a credential are cut.
fn shortened(line: &[u8]) -> String {
    let head = String::from_utf8_lossy(line.get(..EXAMPLE_BYTES * 2).unwrap_or(line)).into_owned();
    let head = head.split_once('?').map_or(head.as_str(), |(before, _)| before);
    let mut out: String = head.chars().map(|c| if c.is_control() || c == '\u{fffd}' { '.' } else { c }).take(EXAMPLE_BYTES).collect();
    if out.len() < line.len() {
        out.push_str("...");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_are_few_short_and_without_queries() {
        let mut skipped = Skipped::default();
        for line in 1..=10 {
            skipped.note(Reason::Shape, ("access.log", line), b"GET /a?key=secret \x00\xff");
        }
        skipped.note(Reason::Cached, ("access.log", 11), &[b'x'; 1_000]);
        let shape = &skipped.0[&Reason::Shape];
        assert_eq!((shape.lines, shape.first.len(), shape.first[0].1), (10, 3, 1));
        assert_eq!(shape.first[0].2, "GET /a...");
        assert!(skipped.0[&Reason::Cached].first[0].2.len() <= EXAMPLE_BYTES + 3);
        skipped.note_all(Reason::Twice, "access.log.bak", 500);
        assert_eq!((skipped.faulty(), skipped.0[&Reason::Twice].lines), (10, 500));
    }
}

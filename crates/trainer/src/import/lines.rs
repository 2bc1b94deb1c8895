//! Lines of a file of any size: plain or gzip, with or without a byte-order mark, LF or CRLF, bounded in length.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::bufread::MultiGzDecoder;

use super::fingerprint::Fingerprint;

/// Longest line that is looked at; a longer one is skipped without being held.
pub const MAX_LINE: usize = 64 * 1024;
/// Bytes read at once.
const BLOCK: usize = 256 * 1024;
const BOM: &[u8] = b"\xef\xbb\xbf";

/// Counts the bytes of a file as they are read, for progress, and takes their fingerprint, for identity.
struct Counted<R> {
    inner: R,
    read: Arc<AtomicU64>,
    print: Fingerprint,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(into)?;
        self.read.fetch_add(n as u64, Ordering::Relaxed);
        self.print.update(into.get(..n).unwrap_or_default());
        Ok(n)
    }
}

/// The file's own bytes.
type Raw = BufReader<Counted<Box<dyn Read>>>;

enum Bytes {
    Plain(Raw),
    Gzip(Box<BufReader<MultiGzDecoder<Raw>>>),
}

/// A file, line by line.
pub struct Lines {
    bytes: Bytes,
    line: Vec<u8>,
    number: u64,
    read: Arc<AtomicU64>,
}

/// A line.
pub enum Line<'a> {
    /// Whole, without its end.
    Whole(&'a [u8]),
    /// The beginning of one that is longer than [`MAX_LINE`].
    TooLong(&'a [u8]),
}

impl Lines {
    /// Opens a file, or the standard input for `-`.
    ///
    /// # Errors
    /// What the system says.
    pub fn open(path: &Path) -> io::Result<Self> {
        let inner: Box<dyn Read> = if path == Path::new("-") { Box::new(io::stdin()) } else { Box::new(File::open(path)?) };
        Self::of(inner)
    }

    /// Of any bytes; gzip is seen by its first two.
    ///
    /// # Errors
    /// What the reader says.
    pub fn of(inner: Box<dyn Read>) -> io::Result<Self> {
        let read = Arc::new(AtomicU64::new(0));
        let counted = Counted { inner, read: Arc::clone(&read), print: Fingerprint::default() };
        let mut plain = BufReader::with_capacity(BLOCK, counted);
        let gzip = plain.fill_buf()?.starts_with(b"\x1f\x8b");
        let bytes =
            if gzip { Bytes::Gzip(Box::new(BufReader::with_capacity(BLOCK, MultiGzDecoder::new(plain)))) } else { Bytes::Plain(plain) };
        Ok(Self { bytes, line: Vec::new(), number: 0, read })
    }

    /// Number of the line last read, from 1.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Bytes of the file (compressed ones for gzip) that have been read.
    pub fn bytes_read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    /// Fingerprint of all bytes of the file read so far.
    pub fn fingerprint(&self) -> Fingerprint {
        let counted = match &self.bytes {
            Bytes::Plain(reader) => reader.get_ref(),
            Bytes::Gzip(reader) => reader.get_ref().get_ref().get_ref(),
        };
        counted.print
    }

    /// The next line; `None` at the end.
    ///
    /// # Errors
    /// What the reader says; a gzip file that is cut off or damaged is one.
    pub fn next_line(&mut self) -> io::Result<Option<Line<'_>>> {
        self.line.clear();
        let reader: &mut dyn BufRead = match &mut self.bytes {
            Bytes::Plain(reader) => reader,
            Bytes::Gzip(reader) => reader.as_mut(),
        };
        let Some(too_long) = take_line(reader, &mut self.line)? else { return Ok(None) };
        self.number += 1;
        let mut line = self.line.as_slice();
        if self.number == 1 {
            line = line.strip_prefix(BOM).unwrap_or(line);
        }
        line = line.strip_suffix(b"\r").unwrap_or(line);
        Ok(Some(if too_long { Line::TooLong(line) } else { Line::Whole(line) }))
    }
}

/// Reads up to and without the next line feed; of a line that is too long the rest is passed over. `None` at the end.
fn take_line(reader: &mut dyn BufRead, into: &mut Vec<u8>) -> io::Result<Option<bool>> {
    let (mut any, mut too_long) = (false, false);
    loop {
        let block = reader.fill_buf()?;
        if block.is_empty() {
            return Ok(any.then_some(too_long));
        }
        any = true;
        let end = block.iter().position(|byte| *byte == b'\n');
        let part = block.get(..end.unwrap_or(block.len())).unwrap_or_default();
        let room = MAX_LINE - into.len();
        too_long |= part.len() > room;
        into.extend_from_slice(part.get(..room).unwrap_or(part));
        let used = part.len() + usize::from(end.is_some());
        reader.consume(used);
        if end.is_some() {
            return Ok(Some(too_long));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn lines(bytes: &[u8]) -> Vec<(u64, usize, bool)> {
        let mut lines = Lines::of(Box::new(io::Cursor::new(bytes.to_vec()))).unwrap();
        let mut seen = Vec::new();
        while let Some(line) = lines.next_line().unwrap() {
            let (len, whole) = match line {
                Line::Whole(l) => (l.len(), true),
                Line::TooLong(l) => (l.len(), false),
            };
            seen.push((lines.number(), len, whole));
        }
        seen
    }

    #[test]
    fn ends_and_marks_of_every_kind() {
        assert_eq!(lines(b""), []);
        assert_eq!(lines(b"\n"), [(1, 0, true)]);
        assert_eq!(lines(b"\xef\xbb\xbfab\r\nc\n\nd"), [(1, 2, true), (2, 1, true), (3, 0, true), (4, 1, true)]);
    }

    #[test]
    fn a_line_without_end_is_not_held() {
        let mut bytes = vec![b'x'; 3 * BLOCK];
        bytes.extend(b"\nshort\n");
        assert_eq!(lines(&bytes), [(1, MAX_LINE, false), (2, 5, true)]);
        assert_eq!(lines(&vec![b'y'; MAX_LINE]), [(1, MAX_LINE, true)]);
    }

    #[test]
    fn gzip_reads_like_plain_also_in_several_members() {
        let pack = |text: &[u8]| {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(text).unwrap();
            encoder.finish().unwrap()
        };
        let two = [pack(b"one\ntw"), pack(b"o\nthree\n")].concat();
        assert_eq!(lines(&two), [(1, 3, true), (2, 3, true), (3, 5, true)]);
        let mut cut = Lines::of(Box::new(io::Cursor::new(pack(&[b'z'; 100_000])[..30].to_vec()))).unwrap();
        assert!(std::iter::from_fn(|| cut.next_line().map(|l| l.map(|_| ())).transpose()).any(|l| l.is_err()), "a cut file is an error");
    }
}

//! Lines of a file of any size: plain or gzip, with or without a byte-order mark, LF or CRLF, bounded in length.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::bufread::MultiGzDecoder;

use super::copies::{HEAD, Identity};
use super::fingerprint::Fingerprint;

/// Longest line that is looked at; a longer one is skipped without being held.
pub const MAX_LINE: usize = 64 * 1024;
/// Bytes read at once.
const BLOCK: usize = 256 * 1024;
const BOM: &[u8] = b"\xef\xbb\xbf";

/// Counts the bytes of a file as they are read, for progress.
struct Counted<R> {
    inner: R,
    read: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(into)?;
        self.read.fetch_add(n as u64, Ordering::Relaxed);
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
    /// Of all bytes so far, unpacked.
    print: Fingerprint,
    identity: Option<Identity>,
}

/// A line.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    /// Its bytes without its end, or the first [`MAX_LINE`] of them.
    pub bytes: &'a [u8],
    /// There are more of them.
    pub too_long: bool,
    /// Its line feed is there: what a file that is being written ends with is not.
    pub ended: bool,
    /// Fingerprint of the file up to and with this line: files that begin alike have the same ids as far as they are alike.
    pub id: u64,
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
        let counted = Counted { inner, read: Arc::clone(&read) };
        let mut plain = BufReader::with_capacity(BLOCK, counted);
        let gzip = plain.fill_buf()?.starts_with(b"\x1f\x8b");
        let bytes =
            if gzip { Bytes::Gzip(Box::new(BufReader::with_capacity(BLOCK, MultiGzDecoder::new(plain)))) } else { Bytes::Plain(plain) };
        Ok(Self { bytes, line: Vec::new(), number: 0, read, print: Fingerprint::default(), identity: None })
    }

    /// Number of the line last read, from 1.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Bytes of the file (compressed ones for gzip) that have been read.
    pub fn bytes_read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    /// What the file is known by, as far as it has been read: its whole lines, or the only one there is. `None` while it is empty.
    pub fn identity(&self) -> Option<Identity> {
        self.identity
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
        let Some(Taken { too_long, ended }) = take_line(reader, &mut self.line, &mut self.print)? else { return Ok(None) };
        self.number += 1;
        let id = self.print.finish()[0];
        if ended || self.number == 1 {
            let head = self.identity.filter(|_| self.number > HEAD).map_or(id, |known| known.head);
            self.identity = Some(Identity { head, lines: self.number, print: id });
        }
        let mut line = self.line.as_slice();
        if self.number == 1 {
            line = line.strip_prefix(BOM).unwrap_or(line);
        }
        let bytes = line.strip_suffix(b"\r").unwrap_or(line);
        Ok(Some(Line { bytes, too_long, ended, id }))
    }
}

struct Taken {
    too_long: bool,
    ended: bool,
}

/// Reads up to and without the next line feed; of a line that is too long the rest is passed over. `None` at the end.
fn take_line(reader: &mut dyn BufRead, into: &mut Vec<u8>, print: &mut Fingerprint) -> io::Result<Option<Taken>> {
    let (mut any, mut too_long) = (false, false);
    loop {
        let block = reader.fill_buf()?;
        if block.is_empty() {
            return Ok(any.then_some(Taken { too_long, ended: false }));
        }
        any = true;
        let end = block.iter().position(|byte| *byte == b'\n');
        let part = block.get(..end.unwrap_or(block.len())).unwrap_or_default();
        let room = MAX_LINE - into.len();
        too_long |= part.len() > room;
        into.extend_from_slice(part.get(..room).unwrap_or(part));
        let used = part.len() + usize::from(end.is_some());
        print.update(block.get(..used).unwrap_or_default());
        reader.consume(used);
        if end.is_some() {
            return Ok(Some(Taken { too_long, ended: true }));
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
            let (len, whole) = (line.bytes.len(), !line.too_long);
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
    fn a_file_is_known_by_its_whole_lines() {
        let known = |bytes: &[u8]| {
            let mut lines = Lines::of(Box::new(io::Cursor::new(bytes.to_vec()))).unwrap();
            let mut ids = Vec::new();
            while let Some(line) = lines.next_line().unwrap() {
                ids.push(line.id);
            }
            (lines.identity(), ids)
        };
        let (short, ids) = known(b"a\nb\nc\n");
        let (long, more) = known(b"a\nb\nc\nd\n");
        assert_eq!((ids.as_slice(), short.map(|i| i.head)), (&more[..3], long.map(|i| i.head)));
        assert_eq!(short, Some(Identity { head: ids[1], lines: 3, print: ids[2] }));
        assert_eq!(known(b"a\nb\nc\nhalf a li").0, short, "the next line is being written");
        assert_ne!(known(b"a\nB\nc\n").1[2], ids[2], "ids hold all that came before");
        assert_eq!((known(b"").0, known(b"a").0.map(|i| i.lines)), (None, Some(1)));
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

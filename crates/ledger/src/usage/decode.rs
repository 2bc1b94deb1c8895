//! Reads along with compressed bodies, within bounds: a bomb ends the reading, never the answer.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, Write};

/// Decoded bytes of one answer that are read at most.
const MAX_DECODED: u64 = 256 << 20;
/// Decoded bytes that are read whatever the ratio is.
const RATIO_FROM: u64 = 1 << 20;
/// Decoded bytes per compressed byte; JSON reaches some ten.
const MAX_RATIO: u64 = 200;

/// Why an answer was not read to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stopped {
    /// Its content encoding is not one of gzip, deflate, br and zstd, or is stacked.
    Encoding,
    /// It is not what its content encoding says.
    Corrupt,
    /// It grows more than two hundredfold when it is decoded.
    Ratio,
    /// It is longer than 256 MiB when it is decoded.
    Size,
}

impl Stopped {
    /// Every value, in the order of declaration.
    pub const ALL: &'static [Self] = &[Self::Encoding, Self::Corrupt, Self::Ratio, Self::Size];

    /// The stable string.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Encoding => "encoding",
            Self::Corrupt => "corrupt",
            Self::Ratio => "ratio",
            Self::Size => "size",
        }
    }
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Takes decoded bytes; counts them against the bounds.
pub(super) struct Sink<R> {
    pub(super) reader: R,
    decoded: u64,
    compressed: u64,
    stopped: Option<Stopped>,
}

/// What reads decoded bytes.
pub(super) trait Reader {
    fn read(&mut self, bytes: &[u8]);
}

impl<R: Reader> Write for Sink<R> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.decoded += bytes.len() as u64;
        let stopped = if self.decoded > MAX_DECODED {
            Some(Stopped::Size)
        } else if self.decoded > RATIO_FROM && self.decoded / MAX_RATIO > self.compressed {
            Some(Stopped::Ratio)
        } else {
            None
        };
        if let Some(stopped) = stopped {
            self.stopped = Some(stopped);
            return Err(io::Error::other(stopped.as_str()));
        }
        self.reader.read(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A decoder in front of a reader.
pub(super) enum Decoder<R: Reader> {
    Plain(R),
    Gzip(Box<flate2::write::MultiGzDecoder<Sink<R>>>),
    Deflate(Box<flate2::write::ZlibDecoder<Sink<R>>>),
    Brotli(Box<brotli_decompressor::DecompressorWriter<Sink<R>>>),
    Zstd(Box<zstd::stream::write::Decoder<'static, Sink<R>>>),
}

impl<R: Reader> fmt::Debug for Decoder<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Decoder")
    }
}

impl<R: Reader> Decoder<R> {
    /// A decoder for one content encoding, in lower case.
    ///
    /// # Errors
    /// An encoding that is not read.
    pub(super) fn new(encoding: &str, reader: R) -> Result<Self, Stopped> {
        let sink = |reader| Sink { reader, decoded: 0, compressed: 0, stopped: None };
        Ok(match encoding {
            "" | "identity" => Self::Plain(reader),
            "gzip" | "x-gzip" => Self::Gzip(Box::new(flate2::write::MultiGzDecoder::new(sink(reader)))),
            "deflate" => Self::Deflate(Box::new(flate2::write::ZlibDecoder::new(sink(reader)))),
            "br" => Self::Brotli(Box::new(brotli_decompressor::DecompressorWriter::new(sink(reader), 4 << 10))),
            "zstd" => {
                let mut decoder = zstd::stream::write::Decoder::new(sink(reader)).map_err(|_| Stopped::Encoding)?;
                // RFC 9659: an HTTP window is at most 8 MiB.
                decoder.window_log_max(23).map_err(|_| Stopped::Encoding)?;
                Self::Zstd(Box::new(decoder))
            }
            _ => return Err(Stopped::Encoding),
        })
    }

    /// Takes compressed bytes.
    ///
    /// # Errors
    /// Why nothing more is read.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), Stopped> {
        let written = match self {
            Self::Plain(reader) => {
                reader.read(bytes);
                return Ok(());
            }
            Self::Gzip(decoder) => feed(decoder.as_mut(), bytes, |decoder| decoder.get_mut()),
            Self::Deflate(decoder) => feed(decoder.as_mut(), bytes, |decoder| decoder.get_mut()),
            Self::Brotli(decoder) => feed(decoder.as_mut(), bytes, |decoder| decoder.get_mut()),
            Self::Zstd(decoder) => feed(decoder.as_mut(), bytes, |decoder| decoder.get_mut()),
        };
        written.map_err(|stopped| stopped.unwrap_or(Stopped::Corrupt))
    }

    fn reader_mut(&mut self) -> &mut R {
        match self {
            Self::Plain(reader) => reader,
            Self::Gzip(decoder) => &mut decoder.get_mut().reader,
            Self::Deflate(decoder) => &mut decoder.get_mut().reader,
            Self::Brotli(decoder) => &mut decoder.get_mut().reader,
            Self::Zstd(decoder) => &mut decoder.get_mut().reader,
        }
    }

    /// The reader.
    pub(super) fn reader(&self) -> &R {
        match self {
            Self::Plain(reader) => reader,
            Self::Gzip(decoder) => &decoder.get_ref().reader,
            Self::Deflate(decoder) => &decoder.get_ref().reader,
            Self::Brotli(decoder) => &decoder.get_ref().reader,
            Self::Zstd(decoder) => &decoder.get_ref().reader,
        }
    }
}

/// A whole body as it was before its content encoding (lower case; empty: none) was put on it; `None` where that cannot be undone, or comes to more than `most`
/// bytes.
pub fn plain<'a>(encoding: &str, body: &'a [u8], most: usize) -> Option<Cow<'a, [u8]>> {
    if matches!(encoding, "" | "identity") {
        return (body.len() <= most).then_some(Cow::Borrowed(body));
    }
    let mut decoder = Decoder::new(encoding, Whole(Vec::new())).ok()?;
    // What is too long is noticed within a piece.
    for piece in body.chunks(STEP) {
        decoder.push(piece).ok()?;
        if decoder.reader().0.len() > most {
            return None;
        }
    }
    Some(Cow::Owned(std::mem::take(&mut decoder.reader_mut().0)))
}

/// Keeps all that is decoded.
struct Whole(Vec<u8>);

impl Reader for Whole {
    fn read(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }
}

/// So little at a time is decoded that no step goes beyond the bounds by much.
const STEP: usize = 4 << 10;

/// Feeds a decoder and has it hand on whatever it can; the error is the sink's own reason, where it had one.
fn feed<D: Write, R>(decoder: &mut D, bytes: &[u8], sink: impl Fn(&mut D) -> &mut Sink<R>) -> Result<(), Option<Stopped>> {
    for piece in bytes.chunks(STEP) {
        sink(decoder).compressed += piece.len() as u64;
        if decoder.write_all(piece).and_then(|()| decoder.flush()).is_err() {
            return Err(sink(decoder).stopped);
        }
    }
    Ok(())
}

//! Content codings, as they are written: gzip, Brotli, Zstandard.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use farthing_types::Coding;

// Levels for bodies that are compressed while somebody waits: most of the saving for a small part of the time (docs/upstreams.md).
const GZIP: u32 = 1;
const BROTLI: u32 = 3;
const ZSTD: i32 = 1;
/// 256 KiB: memory of one stream, and more than most answers are long. Browsers read windows up to 8 MiB.
const BROTLI_WINDOW: u32 = 18;
const ZSTD_WINDOW: u32 = 18;

/// Compresses one body, piece by piece.
pub struct Encoder(Inner);

enum Inner {
    Gzip(flate2::write::GzEncoder<Vec<u8>>),
    Brotli(Box<brotli::CompressorWriter<Vec<u8>>>),
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
}

impl Encoder {
    /// Begins a body in `coding`.
    ///
    /// # Errors
    /// When the library has no memory for it.
    pub fn new(coding: Coding) -> io::Result<Self> {
        Ok(Self(match coding {
            Coding::Gzip => Inner::Gzip(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(GZIP))),
            Coding::Brotli => Inner::Brotli(Box::new(brotli::CompressorWriter::new(Vec::new(), 4_096, BROTLI, BROTLI_WINDOW))),
            Coding::Zstd => {
                let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), ZSTD)?;
                encoder.window_log(ZSTD_WINDOW)?;
                Inner::Zstd(encoder)
            }
        }))
    }

    /// Takes the next bytes, and gives what is ready of the compressed ones; often none.
    ///
    /// # Errors
    /// Of the library.
    pub fn push(&mut self, data: &[u8]) -> io::Result<Bytes> {
        match &mut self.0 {
            Inner::Gzip(encoder) => encoder.write_all(data)?,
            Inner::Brotli(encoder) => encoder.write_all(data)?,
            Inner::Zstd(encoder) => encoder.write_all(data)?,
        }
        Ok(self.ready())
    }

    /// Gives all that the bytes so far come to: whoever reads it can decode every one of them.
    ///
    /// # Errors
    /// Of the library.
    pub fn flush(&mut self) -> io::Result<Bytes> {
        match &mut self.0 {
            Inner::Gzip(encoder) => encoder.flush()?,
            Inner::Brotli(encoder) => encoder.flush()?,
            Inner::Zstd(encoder) => encoder.flush()?,
        }
        Ok(self.ready())
    }

    /// Ends the body, and gives the rest.
    ///
    /// # Errors
    /// Of the library.
    pub fn finish(self) -> io::Result<Bytes> {
        Ok(match self.0 {
            Inner::Gzip(encoder) => encoder.finish()?,
            Inner::Brotli(encoder) => encoder.into_inner(),
            Inner::Zstd(encoder) => encoder.finish()?,
        }
        .into())
    }

    fn ready(&mut self) -> Bytes {
        let out = match &mut self.0 {
            Inner::Gzip(encoder) => encoder.get_mut(),
            Inner::Brotli(encoder) => encoder.get_mut(),
            Inner::Zstd(encoder) => encoder.get_mut(),
        };
        std::mem::take(out).into()
    }
}

/// A whole body in `coding`.
///
/// # Errors
/// Of the library.
pub fn encode(coding: Coding, body: &[u8]) -> io::Result<Bytes> {
    let mut encoder = Encoder::new(coding)?;
    let first = encoder.push(body)?;
    let rest = encoder.finish()?;
    Ok(if first.is_empty() { rest } else { [first, rest].concat().into() })
}

/// Bytes that went into and came out of compression since the start.
#[derive(Debug, Default)]
pub struct Passed {
    before: AtomicU64,
    after: AtomicU64,
}

impl Passed {
    /// Counts bytes before and after.
    pub fn add(&self, before: usize, after: usize) {
        self.before.fetch_add(before as u64, Ordering::Relaxed);
        self.after.fetch_add(after as u64, Ordering::Relaxed);
    }
    /// Bytes before and after.
    pub fn get(&self) -> (u64, u64) {
        (self.before.load(Ordering::Relaxed), self.after.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Read;

    /// What a client reads.
    pub(crate) fn decoded(coding: Coding, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        match coding {
            Coding::Gzip => flate2::read::MultiGzDecoder::new(bytes).read_to_end(&mut out),
            Coding::Brotli => brotli::Decompressor::new(bytes, 4_096).read_to_end(&mut out),
            Coding::Zstd => zstd::stream::read::Decoder::new(bytes).unwrap().read_to_end(&mut out),
        }
        .unwrap();
        out
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_body_in_any_pieces_is_decoded_to_itself(
            pieces in proptest::collection::vec((proptest::collection::vec(0..8u8, 0..5_000), any::<bool>()), 0..12),
        ) {
            let whole: Vec<u8> = pieces.iter().flat_map(|(piece, _)| piece.clone()).collect();
            for coding in Coding::ALL {
                let mut encoder = Encoder::new(*coding).unwrap();
                let mut out = Vec::new();
                for (piece, flush) in &pieces {
                    out.extend(encoder.push(piece).unwrap());
                    if *flush {
                        out.extend(encoder.flush().unwrap());
                    }
                }
                out.extend(encoder.finish().unwrap());
                prop_assert_eq!(&decoded(*coding, &out), &whole);
                prop_assert_eq!(&decoded(*coding, &encode(*coding, &whole).unwrap()), &whole);
            }
        }
    }
}

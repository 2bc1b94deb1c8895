//! How documents, evidence and rows travel: JSON and CSV, compressed, within bounds.

use std::io::{self, Read};

use farthing_experiment::Trial;
use farthing_experiment::fleet::Published;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Bytes of one value that are unpacked at most: the contexts of three windows are 12 MB.
const MOST: u64 = 64 << 20;
/// Bytes of a window's rows that are passed on; a row has some 150.
pub const MOST_ROWS: usize = 16 << 20;

/// Fast, and a third to a fifth of the size.
const LEVEL: i32 = 1;

fn pack(value: &impl Serialize) -> io::Result<Vec<u8>> {
    zstd::encode_all(serde_json::to_vec(value)?.as_slice(), LEVEL)
}

fn unpacked(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    let read = zstd::stream::read::Decoder::new(bytes)?.take(MOST).read_to_end(&mut out)?;
    if read as u64 == MOST { Err(io::Error::new(io::ErrorKind::InvalidData, "too long")) } else { Ok(out) }
}

fn unpack<T: DeserializeOwned>(bytes: &[u8]) -> io::Result<T> {
    serde_json::from_slice(&unpacked(bytes)?).map_err(io::Error::from)
}

/// A document.
pub fn document(published: Published) -> io::Result<Vec<u8>> {
    pack(&published.packed())
}

/// A document that has come.
pub fn read_document(bytes: &[u8]) -> io::Result<Published> {
    unpack::<Published>(bytes).map(Published::unpacked)
}

/// Evidence.
pub fn evidence(trial: &Trial) -> io::Result<Vec<u8>> {
    pack(trial)
}

/// Evidence that has come.
pub fn read_evidence(bytes: &[u8]) -> io::Result<Trial> {
    unpack(bytes)
}

/// Rows of a window, as lines of the export; those beyond the bound are left out, and each instance counts them as missing.
pub fn rows(rows: &[farthing_experiment::UnitWindow]) -> io::Result<Vec<u8>> {
    let mut text = String::new();
    for row in rows {
        if text.len() > MOST_ROWS {
            break;
        }
        row.line(&mut text);
    }
    zstd::encode_all(text.as_bytes(), LEVEL)
}

/// Rows that have come.
pub fn read_rows(bytes: &[u8]) -> io::Result<String> {
    String::from_utf8(unpacked(bytes)?).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

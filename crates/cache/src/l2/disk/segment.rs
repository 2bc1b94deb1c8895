//! The files of a disk store: their names, reading and writing them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::record::{self, HEADER, Header, Placed, SEGMENT_HEADER, SEGMENT_MAGIC, VERSION};

/// How much a scan reads at once.
const SCAN_BYTES: usize = 256 << 10;

pub(super) fn segment_path(dir: &Path, id: u32) -> PathBuf {
    dir.join(format!("{id:08x}.segment"))
}

pub(super) fn index_path(dir: &Path, id: u32) -> PathBuf {
    dir.join(format!("{id:08x}.index"))
}

/// Ids of the segments in a directory, ascending.
pub(super) fn segment_ids(dir: &Path) -> io::Result<Vec<u32>> {
    let mut ids = Vec::new();
    for file in fs::read_dir(dir)? {
        let name = file?.file_name();
        let id = name.to_str().and_then(|n| n.strip_suffix(".segment")).filter(|n| n.len() == 8);
        ids.extend(id.and_then(|id| u32::from_str_radix(id, 16).ok()));
    }
    ids.sort_unstable();
    Ok(ids)
}

/// A new, empty segment.
pub(super) fn create(dir: &Path, id: u32) -> io::Result<Arc<File>> {
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(segment_path(dir, id))?;
    file.write_all_at(&record::segment_header(), 0)?;
    Ok(Arc::new(file))
}

/// A segment that is there.
pub(super) fn open(dir: &Path, id: u32) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(segment_path(dir, id))
}

/// What the first bytes of a segment say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Ours,
    /// Of another version: cannot be read by this release.
    OtherVersion(u32),
    /// Too short, or not a segment at all.
    Unknown,
}

pub(super) fn format(file: &File) -> io::Result<Format> {
    let mut header = [0; SEGMENT_HEADER];
    match file.read_exact_at(&mut header, 0) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(Format::Unknown),
        Err(error) => return Err(error),
    }
    let version = header.get(8..12).and_then(|v| v.try_into().ok()).map_or(0, u32::from_le_bytes);
    Ok(match (header.starts_with(SEGMENT_MAGIC), version) {
        (true, VERSION) => Format::Ours,
        (true, other) => Format::OtherVersion(other),
        _ => Format::Unknown,
    })
}

/// Removes a segment and its index; those who are reading it may finish.
pub(super) fn remove(dir: &Path, id: u32) -> io::Result<()> {
    let gone = |result: io::Result<()>| result.or_else(|e| if e.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(e) });
    gone(fs::remove_file(index_path(dir, id)))?;
    gone(fs::remove_file(segment_path(dir, id)))
}

/// Writes the index of a segment that is full; returns its size. It appears under its name whole or not at all.
pub(super) fn write_index(dir: &Path, id: u32, placed: &[Placed], segment_len: u64) -> io::Result<u64> {
    let bytes = record::write_index(placed, segment_len);
    let path = index_path(dir, id);
    let temporary = path.with_extension("new");
    let mut file = File::create(&temporary)?;
    file.write_all(&bytes)?;
    file.sync_data()?;
    fs::rename(&temporary, &path)?;
    Ok(bytes.len() as u64)
}

/// The records of a segment as its index file has them, and that file's size.
pub(super) fn read_index(dir: &Path, id: u32, segment_len: u64) -> Option<(Vec<Placed>, u64)> {
    let bytes = fs::read(index_path(dir, id)).ok()?;
    Some((record::read_index(&bytes, segment_len)?, bytes.len() as u64))
}

/// Walks the headers of a segment; returns its records and where the last whole one ends.
pub(super) fn scan(file: &File, len: u64) -> io::Result<(Vec<Placed>, u64)> {
    let mut placed = Vec::new();
    let mut window = Window { file, len, start: 0, bytes: Vec::new() };
    let mut at = SEGMENT_HEADER as u64;
    while let Some(bytes) = window.header(at)? {
        let Some(header) = Header::read(bytes) else { break };
        let record = Placed { key: header.key, offset: at as u32, len: header.len, expires: header.expires };
        if record.end() > len {
            break;
        }
        at = record.end();
        placed.push(record);
    }
    Ok((placed, at))
}

/// A piece of a file in memory: small values are scanned with few reads, large ones are skipped.
struct Window<'a> {
    file: &'a File,
    len: u64,
    start: u64,
    bytes: Vec<u8>,
}

impl Window<'_> {
    fn header(&mut self, at: u64) -> io::Result<Option<&[u8]>> {
        if at + HEADER as u64 > self.len {
            return Ok(None);
        }
        if at < self.start || at + HEADER as u64 > self.start + self.bytes.len() as u64 {
            self.start = at;
            self.bytes.resize(usize::try_from(self.len - at).unwrap_or(SCAN_BYTES).min(SCAN_BYTES), 0);
            self.file.read_exact_at(&mut self.bytes, at)?;
        }
        let from = (at - self.start) as usize;
        Ok(self.bytes.get(from..from + HEADER))
    }
}

/// Reads a record and checks it; `None` when it is not what was written for the key.
pub(super) fn read(file: &File, place: &Placed) -> io::Result<Option<Bytes>> {
    let mut record = vec![0; place.record_bytes()];
    match file.read_exact_at(&mut record, u64::from(place.offset)) {
        Ok(()) => {}
        // Cut off behind our back.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let Some(header) = Header::read(&record) else { return Ok(None) };
    if header.key != place.key || header.len != place.len || header.expires.is_none() {
        return Ok(None);
    }
    // Header and value stay one allocation.
    let value = Bytes::from(record).slice(HEADER..);
    Ok((record::sum64(&value) == header.sum).then_some(value))
}

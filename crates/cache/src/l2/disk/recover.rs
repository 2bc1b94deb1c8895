//! Opening a directory: what earlier runs left in it.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::index::{Index, Segment};
use super::record::{Placed, SEGMENT_HEADER};
use super::segment::{self, Format};
use super::writer::Active;

/// What was found.
pub(super) struct Recovered {
    pub index: Index,
    /// The newest segment, to go on with.
    pub active: Active,
    /// Bytes cut off or left out because they could not be read.
    pub lost_bytes: u64,
}

/// Reads the directory. `now` in ms since 1970; a segment that is less than half full is gone on with.
pub(super) fn recover(dir: &Path, segment_bytes: u64, now: i64) -> io::Result<Recovered> {
    remove_leftovers(dir)?;
    let ids = segment::segment_ids(dir)?;
    let mut out = Found { index: Index::default(), lost_bytes: 0, newest: None };
    for id in &ids {
        out.read(dir, *id, now)?;
    }
    let next = ids.last().map_or(0, |id| id.wrapping_add(1));
    let active = match out.newest.take().filter(|a| a.len < segment_bytes / 2) {
        Some(active) => go_on(dir, active, &mut out.index)?,
        None => begin(dir, next, &mut out.index)?,
    };
    Ok(Recovered { index: out.index, active, lost_bytes: out.lost_bytes })
}

/// Index files that were being written.
fn remove_leftovers(dir: &Path) -> io::Result<()> {
    for file in fs::read_dir(dir)? {
        let path = file?.path();
        if path.extension().is_some_and(|e| e == "new") {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

fn go_on(dir: &Path, active: Active, index: &mut Index) -> io::Result<Active> {
    // Its index will not describe it any more.
    match fs::remove_file(segment::index_path(dir, active.id)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    if let Some(segment) = index.segments.get_mut(&active.id) {
        segment.bytes = active.len;
    }
    Ok(active)
}

fn begin(dir: &Path, id: u32, index: &mut Index) -> io::Result<Active> {
    let file = segment::create(dir, id)?;
    let len = SEGMENT_HEADER as u64;
    index.segments.insert(id, Segment { file: Arc::clone(&file), bytes: len });
    Ok(Active { id, file, len, placed: Vec::new() })
}

struct Found {
    index: Index,
    lost_bytes: u64,
    newest: Option<Active>,
}

impl Found {
    fn read(&mut self, dir: &Path, id: u32, now: i64) -> io::Result<()> {
        let file = segment::open(dir, id)?;
        let len = file.metadata()?.len();
        match segment::format(&file)? {
            Format::Ours => {}
            Format::OtherVersion(version) => {
                tracing::warn!(directory = %dir.display(), segment = id, version, "a segment of the disk cache is of another version: removed");
                self.lost_bytes += len;
                return segment::remove(dir, id);
            }
            Format::Unknown => {
                // Our name, so ours: a process that died while it began a segment, or damage.
                tracing::warn!(directory = %dir.display(), segment = id, bytes = len, "a segment of the disk cache has no head: removed");
                self.lost_bytes += len;
                return segment::remove(dir, id);
            }
        }
        let (placed, segment) = match segment::read_index(dir, id, len) {
            Some((placed, index_bytes)) => (placed, Segment { file: Arc::new(file), bytes: len + index_bytes }),
            None => self.scan(dir, id, file, len)?,
        };
        self.index.reserve(placed.len());
        for record in &placed {
            // What has expired still takes the place of what was there before it.
            self.index.note(id, &Placed { expires: record.expires.filter(|e| *e > now), ..*record });
        }
        let whole = placed.iter().map(Placed::end).max().unwrap_or(SEGMENT_HEADER as u64);
        self.newest = Some(Active { id, file: Arc::clone(&segment.file), len: whole, placed });
        self.index.segments.insert(id, segment);
        Ok(())
    }

    /// A segment without a valid index: its process was killed. What is no whole record is cut off,
    /// and the next start finds an index.
    fn scan(&mut self, dir: &Path, id: u32, file: File, len: u64) -> io::Result<(Vec<Placed>, Segment)> {
        let (placed, end) = segment::scan(&file, len)?;
        if end < len {
            tracing::warn!(directory = %dir.display(), segment = id, bytes = len - end, "the end of a segment of the disk cache is torn: cut off");
            file.set_len(end)?;
            self.lost_bytes += len - end;
        }
        let index_bytes = segment::write_index(dir, id, &placed, end)?;
        Ok((placed, Segment { file: Arc::new(file), bytes: end + index_bytes }))
    }
}

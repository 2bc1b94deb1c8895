//! Writes segments: appends, syncs, goes back behind a write that failed, and knows the space set aside.

use std::io::{self, ErrorKind, Write};
use std::path::PathBuf;

use super::{Disk, DiskFile, Folder, Run, SegmentId, header};

/// Zeros are written in such pieces.
const PIECE: usize = 1 << 20;

/// The segments of one run.
pub(crate) struct Writer {
    folder: Folder,
    run: Run,
    open: Option<Open>,
    /// Number of the next segment.
    next: u64,
    reserve_bytes: u64,
}

/// The segment that is written.
struct Open {
    id: SegmentId,
    file: Box<dyn DiskFile>,
    /// Bytes of whole frames, and the header.
    length: u64,
    /// Where the space that was set aside ends; `None` in a file that grows.
    limit: Option<u64>,
    unsynced: bool,
    /// Its name is not safe from a power cut yet.
    new: bool,
}

/// What is to be synced: by another thread, as that may take seconds on a busy disk.
pub(crate) struct Unsynced {
    file: Box<dyn DiskFile>,
    folder: Option<Folder>,
}

impl Unsynced {
    /// Has what was appended survive a power cut.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn sync(mut self) -> io::Result<()> {
        self.file.sync()?;
        self.folder.map_or(Ok(()), |folder| folder.disk.sync_dir(&folder.dir))
    }
}

impl Writer {
    pub(crate) fn new(folder: Folder, run: Run, reserve_bytes: u64) -> Self {
        Self { folder, run, open: None, next: 0, reserve_bytes }
    }

    /// The segment being written, or the one that comes next.
    pub(crate) fn current(&self) -> SegmentId {
        self.open.as_ref().map_or_else(|| SegmentId { run: self.run.clone(), number: self.next }, |open| open.id.clone())
    }

    /// Whether a segment is being written, and whether in the space set aside.
    pub(crate) fn in_reserve(&self) -> Option<bool> {
        self.open.as_ref().map(|open| open.limit.is_some())
    }

    /// Begins a new segment; the one before must have been taken by [`Writer::seal`].
    ///
    /// # Errors
    /// What the system says; there is no open segment then.
    pub(crate) fn begin(&mut self) -> io::Result<()> {
        let id = SegmentId { run: self.run.clone(), number: self.next };
        let path = self.folder.path(&id);
        let begun = self.begin_at(&path).inspect_err(|_| drop(self.folder.disk.remove(&path)))?;
        self.open(id, begun, None);
        Ok(())
    }

    fn begin_at(&self, path: &std::path::Path) -> io::Result<Box<dyn DiskFile>> {
        let mut file = self.folder.disk.create(path)?;
        file.write_all(&header())?;
        Ok(file)
    }

    /// Begins a new segment in the space set aside, which takes no new space.
    ///
    /// # Errors
    /// What the system says; there is no open segment then.
    pub(crate) fn begin_in_reserve(&mut self) -> io::Result<()> {
        let id = SegmentId { run: self.run.clone(), number: self.next };
        let (reserve, path) = (self.reserve(), self.folder.path(&id));
        let limit = self.folder.disk.len(&reserve)?;
        let mut file = self.folder.disk.overwrite(&reserve)?;
        self.folder.disk.rename(&reserve, &path)?;
        file.write_all(&header())?;
        self.open(id, file, Some(limit));
        Ok(())
    }

    fn open(&mut self, id: SegmentId, file: Box<dyn DiskFile>, limit: Option<u64>) {
        self.next = id.number + 1;
        self.open = Some(Open { id, file, length: header().len() as u64, limit, unsynced: true, new: true });
    }

    /// Writes whole frames behind the open segment: all of them or none.
    ///
    /// # Errors
    /// What the system says; `StorageFull` when the space set aside does not hold them.
    pub(crate) fn append(&mut self, frames: &[u8]) -> io::Result<()> {
        let Some(open) = &mut self.open else { return Err(io::Error::other("no segment is open")) };
        let length = open.length + frames.len() as u64;
        if open.limit.is_some_and(|limit| length > limit) {
            return Err(ErrorKind::StorageFull.into());
        }
        if let Err(error) = open.file.write_all(frames) {
            // What was written of it must not be read: the rows will be recorded elsewhere, or counted as dropped. A disk that
            // refuses this, too, may leave them here twice.
            open.file.back_to(open.length, open.limit.is_none())?;
            return Err(error);
        }
        (open.length, open.unsynced) = (length, true);
        Ok(())
    }

    /// What was appended since the last time, to be synced.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn unsynced(&mut self) -> io::Result<Option<Unsynced>> {
        let Some(open) = self.open.as_mut().filter(|open| open.unsynced) else { return Ok(None) };
        let unsynced = Unsynced { file: open.file.again()?, folder: open.new.then(|| self.folder.clone()) };
        (open.unsynced, open.new) = (false, false);
        Ok(Some(unsynced))
    }

    /// Takes the number of a segment that is not written at all.
    pub(crate) fn skip(&mut self) -> SegmentId {
        let id = self.current();
        self.next = id.number + 1;
        id
    }

    /// Ends the open segment: its name and its bytes, and what is to be synced before files are made of it.
    pub(crate) fn seal(&mut self) -> Option<(SegmentId, u64, Unsynced)> {
        let open = self.open.take()?;
        Some((open.id, open.length, Unsynced { file: open.file, folder: Some(self.folder.clone()) }))
    }

    fn reserve(&self) -> PathBuf {
        self.folder.dir.join(self.run.reserve_name())
    }

    /// Sets space aside, unless there is.
    ///
    /// # Errors
    /// What the system says, for instance that there is not so much.
    pub(crate) fn set_aside(&self) -> io::Result<()> {
        let (disk, path) = (&self.folder.disk, self.reserve());
        if self.reserve_bytes == 0 || disk.len(&path).is_ok_and(|length| length == self.reserve_bytes) {
            return Ok(());
        }
        let written = self.fill(&**disk, &path);
        if written.is_err() {
            let _ = disk.remove(&path);
        }
        written
    }

    /// Zeros, and not a hole, so that the space is taken.
    fn fill(&self, disk: &dyn Disk, path: &std::path::Path) -> io::Result<()> {
        let (mut file, mut left) = (disk.create(path)?, self.reserve_bytes);
        let zeros = vec![0; PIECE];
        while left > 0 {
            let piece = zeros.get(..usize::try_from(left).unwrap_or(PIECE)).unwrap_or(&zeros);
            file.write_all(piece)?;
            left -= piece.len() as u64;
        }
        Ok(())
    }

    /// Takes over the space that a dead run had set aside, where ours is missing.
    pub(crate) fn inherit(&self, from: &Run) {
        let (disk, theirs) = (&self.folder.disk, self.folder.dir.join(from.reserve_name()));
        if !disk.exists(&self.reserve()) && disk.len(&theirs).is_ok_and(|length| length == self.reserve_bytes) {
            let _ = disk.rename(&theirs, &self.reserve());
        }
    }

    pub(crate) const fn run(&self) -> &Run {
        &self.run
    }
}

//! A disk in memory for tests: it can be full, and the process or the power can go at any operation.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::{Disk, DiskFile, Guard};

#[derive(Default)]
struct Content {
    data: Vec<u8>,
    /// What survives a power cut.
    synced: Vec<u8>,
}

#[derive(Default)]
struct Inner {
    files: BTreeMap<PathBuf, Arc<Mutex<Content>>>,
    locked: BTreeSet<PathBuf>,
    capacity: Option<usize>,
    /// Changing operations until the process is dead.
    left: Option<usize>,
    operations: usize,
    /// Grows with each restart: handles of an earlier life are dead.
    life: u64,
    /// Paths that contain this text refuse to be written.
    refused: Option<&'static str>,
}

#[derive(Clone, Default)]
pub(crate) struct MemoryDisk(Arc<Mutex<Inner>>);

struct MemoryFile {
    disk: MemoryDisk,
    life: u64,
    content: Arc<Mutex<Content>>,
    at: usize,
}

struct Held(MemoryDisk, PathBuf, u64);

impl Drop for Held {
    fn drop(&mut self) {
        let mut inner = self.0.0.lock();
        if inner.life == self.2 {
            inner.locked.remove(&self.1);
        }
    }
}

fn killed() -> io::Error {
    io::Error::other("the process is dead")
}

impl MemoryDisk {
    /// From now on so many bytes find room, all files together.
    pub(crate) fn capacity(&self, bytes: Option<usize>) {
        self.0.lock().capacity = bytes;
    }
    pub(crate) fn refuse(&self, paths: Option<&'static str>) {
        self.0.lock().refused = paths;
    }
    /// The process dies in the middle of the changing operation after `count` more.
    pub(crate) fn kill_after(&self, count: usize) {
        self.0.lock().left = Some(count);
    }
    /// Changing operations so far.
    pub(crate) fn operations(&self) -> usize {
        self.0.lock().operations
    }
    pub(crate) fn is_alive(&self) -> bool {
        self.0.lock().left != Some(0)
    }
    /// Another process on the same disk; after a power cut with what was synced only.
    pub(crate) fn restart(&self, power_cut: bool) {
        let mut inner = self.0.lock();
        (inner.left, inner.life) = (None, inner.life + 1);
        inner.locked.clear();
        if power_cut {
            inner.files.values().for_each(|content| {
                let mut content = content.lock();
                content.data = content.synced.clone();
            });
        }
    }
    /// Bytes of all files.
    pub(crate) fn used(&self) -> usize {
        self.0.lock().files.values().map(|content| content.lock().data.len()).sum()
    }
    pub(crate) fn paths(&self) -> Vec<PathBuf> {
        self.0.lock().files.keys().cloned().collect()
    }
    /// Changes bytes of a file in place.
    pub(crate) fn change(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        change(&mut self.0.lock().files[path].lock().data);
    }
    /// Copies everything into a real folder.
    pub(crate) fn dump(&self, into: &Path) {
        for (path, content) in &self.0.lock().files {
            let path = into.join(path.strip_prefix("/").unwrap_or(path));
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, &content.lock().data).unwrap();
        }
    }

    /// Counts a changing operation; whether it is the last of this life, which is done by half.
    fn operation(&self, life: Option<u64>) -> io::Result<bool> {
        let mut inner = self.0.lock();
        if life.is_some_and(|life| life != inner.life) {
            return Err(killed());
        }
        inner.operations += 1;
        match &mut inner.left {
            None => Ok(false),
            Some(0) => Err(killed()),
            Some(left) => {
                *left -= 1;
                Ok(*left == 0)
            }
        }
    }

    fn may_write(&self, path: &Path) -> io::Result<()> {
        match self.0.lock().refused {
            Some(text) if path.to_string_lossy().contains(text) => Err(ErrorKind::PermissionDenied.into()),
            _ => Ok(()),
        }
    }

    fn file(&self, content: Arc<Mutex<Content>>) -> Box<dyn DiskFile> {
        Box::new(MemoryFile { disk: self.clone(), life: self.0.lock().life, content, at: 0 })
    }
}

impl Write for MemoryFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let last = self.disk.operation(Some(self.life))?;
        let (used, capacity) = (self.disk.used(), self.disk.0.lock().capacity);
        let mut content = self.content.lock();
        let growth = (self.at + bytes.len()).saturating_sub(content.data.len());
        let room = capacity.map_or(growth, |capacity| capacity.saturating_sub(used));
        let fits = bytes.len() - growth.saturating_sub(room);
        let taken = if last { fits / 2 } else { fits };
        let end = self.at + taken;
        if content.data.len() < end {
            content.data.resize(end, 0);
        }
        content.data[self.at..end].copy_from_slice(&bytes[..taken]);
        self.at = end;
        match (last, taken) {
            (true, _) => Err(killed()),
            (_, 0) if !bytes.is_empty() => Err(ErrorKind::StorageFull.into()),
            _ => Ok(taken),
        }
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl DiskFile for MemoryFile {
    fn sync(&mut self) -> io::Result<()> {
        if self.disk.operation(Some(self.life))? {
            return Err(killed());
        }
        let mut content = self.content.lock();
        content.synced = content.data.clone();
        Ok(())
    }
    fn again(&self) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(Self { disk: self.disk.clone(), life: self.life, content: self.content.clone(), at: self.at }))
    }
    fn back_to(&mut self, length: u64, cut: bool) -> io::Result<()> {
        if self.disk.operation(Some(self.life))? {
            return Err(killed());
        }
        self.at = usize::try_from(length).unwrap();
        if cut {
            self.content.lock().data.truncate(self.at);
        }
        Ok(())
    }
}

impl Disk for MemoryDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.may_write(path)?;
        let last = self.operation(None)?;
        let content = Arc::new(Mutex::new(Content::default()));
        self.0.lock().files.insert(path.to_owned(), content.clone());
        if last { Err(killed()) } else { Ok(self.file(content)) }
    }
    fn overwrite(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let content = self.0.lock().files.get(path).cloned().ok_or(ErrorKind::NotFound)?;
        Ok(self.file(content))
    }
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.0.lock().files.get(path).map(|content| content.lock().data.clone()).ok_or(ErrorKind::NotFound.into())
    }
    fn len(&self, path: &Path) -> io::Result<u64> {
        self.read(path).map(|bytes| bytes.len() as u64)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        if self.operation(None)? {
            return Err(killed());
        }
        let mut inner = self.0.lock();
        let content = inner.files.remove(from).ok_or(ErrorKind::NotFound)?;
        inner.files.insert(to.to_owned(), content);
        Ok(())
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        if self.operation(None)? {
            return Err(killed());
        }
        self.0.lock().files.remove(path).map(drop).ok_or(ErrorKind::NotFound.into())
    }
    fn exists(&self, path: &Path) -> bool {
        self.0.lock().files.contains_key(path)
    }
    fn create_dirs(&self, path: &Path) -> io::Result<()> {
        self.may_write(path)
    }
    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        if self.operation(None)? { Err(killed()) } else { Ok(()) }
    }
    fn list(&self, path: &Path) -> Vec<PathBuf> {
        let inner = self.0.lock();
        let below = inner.files.keys().filter_map(|file| file.strip_prefix(path).ok()?.components().next().map(|name| path.join(name)));
        below.collect::<BTreeSet<_>>().into_iter().collect()
    }
    fn lock(&self, path: &Path, new: bool) -> io::Result<Option<Guard>> {
        if new {
            self.may_write(path)?;
        }
        match (new, self.exists(path)) {
            (true, true) => return Err(ErrorKind::AlreadyExists.into()),
            (false, false) => return Err(ErrorKind::NotFound.into()),
            (true, false) => drop(self.create(path)?),
            (false, true) => {}
        }
        let mut inner = self.0.lock();
        let life = inner.life;
        Ok(inner.locked.insert(path.to_owned()).then(|| Box::new(Held(self.clone(), path.to_owned(), life)) as Guard))
    }
}

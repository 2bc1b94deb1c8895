//! The little that journal and log ask of a file system, behind a trait: tests fill it up, cut its power and kill the
//! process at every single operation.

use std::any::Any;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Held as long as it lives; the system lets go of it when the process dies.
pub(crate) type Guard = Box<dyn Any + Send + Sync>;

/// A file being written, from its begin or in place.
pub(crate) trait DiskFile: Write + Send {
    /// Has what was written survive a power cut.
    fn sync(&mut self) -> io::Result<()>;
    /// Another hold on the file, to sync it while this one goes on writing.
    fn again(&self) -> io::Result<Box<dyn DiskFile>>;
    /// Goes back to `length`, and with `cut` ends the file there.
    fn back_to(&mut self, length: u64, cut: bool) -> io::Result<()>;
}

/// Files and folders.
pub(crate) trait Disk: Send + Sync {
    /// A new file, or an old one emptied.
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// A file that is there already, to be overwritten from its begin.
    fn overwrite(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// All of a file.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
    fn len(&self, path: &Path) -> io::Result<u64>;
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn remove(&self, path: &Path) -> io::Result<()>;
    fn exists(&self, path: &Path) -> bool;
    fn create_dirs(&self, path: &Path) -> io::Result<()>;
    /// Has names that came or went in a folder survive a power cut.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// The entries of a folder in order of their names; none when it cannot be read.
    fn list(&self, path: &Path) -> Vec<PathBuf>;
    /// Locks a file for this process; `None` when another holds it. With `new` it must not exist before.
    fn lock(&self, path: &Path, new: bool) -> io::Result<Option<Guard>>;
}

/// The file system.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RealDisk;

impl DiskFile for File {
    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }
    fn again(&self) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(self.try_clone()?))
    }
    fn back_to(&mut self, length: u64, cut: bool) -> io::Result<()> {
        if cut {
            self.set_len(length)?;
        }
        self.seek(SeekFrom::Start(length)).map(drop)
    }
}

impl Disk for RealDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(File::create(path)?))
    }
    fn overwrite(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(OpenOptions::new().write(true).open(path)?))
    }
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        fs::read(path)
    }
    fn len(&self, path: &Path) -> io::Result<u64> {
        fs::metadata(path).map(|meta| meta.len())
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }
    fn exists(&self, path: &Path) -> bool {
        path.exists()
    }
    fn create_dirs(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }
    fn list(&self, path: &Path) -> Vec<PathBuf> {
        let entries = |dir: &Path| -> io::Result<Vec<PathBuf>> { fs::read_dir(dir)?.map(|entry| entry.map(|e| e.path())).collect() };
        let mut paths = entries(path).unwrap_or_default();
        paths.sort();
        paths
    }
    fn lock(&self, path: &Path, new: bool) -> io::Result<Option<Guard>> {
        let mut options = OpenOptions::new();
        options.write(true);
        let file = if new { options.create_new(true).open(path)? } else { options.open(path)? };
        match file.try_lock() {
            Ok(()) => Ok(Some(Box::new(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

//! What names a log among others that ship to the same sink.

use std::fmt;
use std::fs;
use std::io::{self, ErrorKind, Write};
use std::path::Path;
use std::sync::Arc;

use rand::TryRngCore;

/// Folder within the log's.
const FOLDER: &str = "sinks";
const FILE: &str = "log-id";
const DIGITS: usize = 32;

/// Names the folder of a log: 32 hexadecimal digits, drawn once and kept in it. Names of files are unique within a folder only.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LogId(Arc<str>);

impl LogId {
    /// The id that the log in `dir` has, or a new one; processes that share the folder agree on it.
    ///
    /// # Errors
    /// It can be neither read nor written, or is damaged.
    pub fn of(dir: &Path) -> io::Result<Self> {
        let folder = dir.join(FOLDER);
        let path = folder.join(FILE);
        match fs::read_to_string(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                fs::create_dir_all(&folder)?;
                put(&folder, &path)?;
                Self::parse(&fs::read_to_string(&path)?, &path)
            }
            text => Self::parse(&text?, &path),
        }
    }

    fn parse(text: &str, path: &Path) -> io::Result<Self> {
        let text = text.trim();
        let damaged = || io::Error::new(ErrorKind::InvalidData, format!("{} is damaged: it has no id of 32 digits", path.display()));
        Self::is_one(text).then(|| Self(text.into())).ok_or_else(damaged)
    }

    /// Whether a text could be one.
    pub(crate) fn is_one(text: &str) -> bool {
        text.len() == DIGITS && text.bytes().all(|b| b.is_ascii_hexdigit())
    }

    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Puts a new id under its name, unless there is one: whole, or not at all.
fn put(folder: &Path, path: &Path) -> io::Result<()> {
    let mut bytes = [0u8; DIGITS / 2];
    rand::rngs::OsRng.try_fill_bytes(&mut bytes).map_err(io::Error::other)?;
    let id = hex::encode(bytes);
    let temp = folder.join(format!(".{FILE}-{id}.tmp"));
    let mut file = fs::File::create(&temp)?;
    file.write_all(id.as_bytes())?;
    file.sync_all()?;
    let linked = fs::hard_link(&temp, path);
    let removed = fs::remove_file(&temp);
    match linked {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => removed,
        linked => linked.and(removed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_one_id_whoever_asks_first() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let ids: Vec<LogId> = std::thread::scope(|scope| {
            let asked: Vec<_> = (0..8).map(|_| scope.spawn(|| LogId::of(one.path()).unwrap())).collect();
            asked.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(ids.iter().all(|id| *id == ids[0]));
        assert_ne!(LogId::of(other.path()).unwrap(), ids[0]);
        assert_eq!(fs::read_dir(one.path().join(FOLDER)).unwrap().count(), 1, "nothing half written is left");
        fs::write(one.path().join(FOLDER).join(FILE), "12").unwrap();
        assert!(LogId::of(one.path()).unwrap_err().to_string().contains("damaged"));
    }
}

//! One loop at a time on a store.

use std::fs::{File, TryLockError};
use std::io::{Read, Write};
use std::path::Path;

use crate::error::TrainError;

/// File name within the root of the store.
const LOCK_FILE: &str = "loop.lock";

/// Held as long as it lives; the system lets go when the process ends, however it does.
pub struct Lock(#[expect(dead_code, reason = "held, never read")] File);

impl Lock {
    /// Takes the store, and writes down who has.
    ///
    /// # Errors
    /// Another loop has it, and who that is; a store that cannot be written.
    pub fn take(root: &Path) -> Result<Self, TrainError> {
        std::fs::create_dir_all(root).map_err(TrainError::io(root))?;
        let path = root.join(LOCK_FILE);
        let mut file = File::options().create(true).truncate(false).read(true).write(true).open(&path).map_err(TrainError::io(&path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut owner = String::new();
                let _ = file.take(500).read_to_string(&mut owner);
                let reason = format!("another loop works on this store ({}): end it, or give this one a store of its own", owner.trim());
                return Err(TrainError::Config { path, reason });
            }
            Err(TryLockError::Error(error)) => return Err(TrainError::io(&path)(error)),
        }
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let owner = format!("process {} on {}\n", std::process::id(), if host.trim().is_empty() { "this machine" } else { host.trim() });
        file.set_len(0).and_then(|()| file.write_all(owner.as_bytes())).map_err(TrainError::io(&path))?;
        Ok(Self(file))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_who_has_it_and_gets_it_afterwards() {
        let dir = tempfile::tempdir().unwrap();
        let first = Lock::take(dir.path()).unwrap();
        let error = Lock::take(dir.path()).err().unwrap().to_string();
        assert!(error.contains(&format!("process {}", std::process::id())) && error.contains("another loop"), "{error}");
        drop(first);
        assert!(Lock::take(dir.path()).is_ok());
    }
}

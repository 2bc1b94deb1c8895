//! Keeps the salt that a first start made up.

use std::fs;
use std::io::{ErrorKind, Write};
use std::path::Path;

use crate::{Config, ConfigError};

impl Config {
    /// Writes a made-up salt to its file, readable by this user alone, so that the next start finds it. Does nothing
    /// when there is nothing to keep.
    ///
    /// # Errors
    /// [`ConfigError::Salt`] when it cannot be written: this process can go on with it, the next will have another.
    /// [`ConfigError::SaltTaken`] when another instance has just written its own.
    pub fn persist_salt(&self) -> Result<(), ConfigError> {
        let (Some(file), true) = (&self.salt.file, self.salt.fresh) else { return Ok(()) };
        let fail = |reason: String| ConfigError::Salt { file: file.clone(), reason };
        if let Some(dir) = file.parent() {
            fs::create_dir_all(dir).map_err(|e| fail(e.to_string()))?;
        }
        match write_new(file, self.salt.secret.expose()) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(ConfigError::SaltTaken { file: file.clone() }),
            Err(error) => Err(fail(error.to_string())),
        }
    }
}

fn write_new(file: &Path, text: &str) -> std::io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut open = options.open(file)?;
    writeln!(open, "{text}")?;
    open.sync_all()
}

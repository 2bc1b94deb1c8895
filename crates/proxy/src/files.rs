//! Small files of the instance's own state.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use farthing_config::Config;
use serde::Serialize;

/// The file of that name below `state_dir`; `None` where there is no such folder: then nothing is kept.
pub fn of_instance(config: &Config, name: &str) -> Option<PathBuf> {
    (!config.state_dir.as_os_str().is_empty()).then(|| config.state_dir.join(name))
}

/// What a file has; `None` where there is none.
pub fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        read => read.map(Some),
    }
}

/// As [`write`], as JSON that people can read.
pub fn write_json(path: &Path, value: &impl Serialize) -> io::Result<()> {
    write(path, &serde_json::to_vec_pretty(value)?)
}

/// Whole under its name and durable, or as it was before. Makes its folder.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    path.parent().map_or(Ok(()), fs::create_dir_all)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temp = path.with_file_name(format!(".{name}-{}.tmp", std::process::id()));
    let mut file = File::create(&temp)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temp, path)?;
    // Its name is durable only once its folder is.
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

//! What an instance keeps of the fleet's configuration in its `state_dir`, so that it starts where Redis is away and brings back what Redis has lost.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Version;
use super::document::Document;
use crate::files;

/// The file below `state_dir`.
pub const FILE: &str = "fleet-config.json";

#[derive(Default, Serialize, Deserialize)]
struct Copy {
    version: u64,
    mark: String,
    /// As it stands in Redis, with its signature.
    sealed: String,
}

#[derive(Default, Serialize, Deserialize)]
struct Copies {
    /// The newest that was known.
    newest: Option<Copy>,
    /// What was in force, where that is another one.
    in_force: Option<Copy>,
}

/// The newest version that was known, and the one that was in force.
pub type Kept = (Option<Version>, Option<Version>);

/// Keeps them, whole or not at all. Blocks.
///
/// # Errors
/// What the system says.
pub fn write(path: &Path, (newest, in_force): (Option<&Version>, Option<&Version>), key: &[u8; 32]) -> io::Result<()> {
    let copy = |of: &Version| Copy { version: of.version, mark: of.document.mark(), sealed: of.document.seal(key) };
    let other = in_force.filter(|of| newest.is_none_or(|newest| newest.document != of.document));
    files::write_json(path, &Copies { newest: newest.map(copy), in_force: other.map(copy) })
}

/// What was kept; what is damaged, or of another fleet or salt, is left out. Blocks.
///
/// # Errors
/// What the system says, or that it is no such file.
pub fn read(path: &Path, fleet: &str, key: &[u8; 32]) -> io::Result<Kept> {
    let Some(bytes) = files::read(path)? else { return Ok((None, None)) };
    let Copies { newest, in_force } = serde_json::from_slice(&bytes)?;
    let open = |copy: Copy| {
        let document = Document::open(copy.sealed.as_bytes(), (fleet, &copy.mark), key);
        let document =
            document.inspect_err(|error| tracing::warn!(%error, version = copy.version, "a kept configuration is not used")).ok()?;
        Some(Version { version: copy.version, document })
    };
    let newest = newest.and_then(open);
    Ok((newest.clone(), in_force.and_then(open).or(newest)))
}

#[cfg(test)]
mod tests {
    use farthing_types::Time;

    use super::super::document::signing_key;
    use super::*;

    #[test]
    fn what_is_kept_is_read_and_what_is_foreign_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let (path, key) = (dir.path().join("state").join(FILE), signing_key("a salt of some length"));
        assert_eq!(read(&path, "f", &key).unwrap(), (None, None));
        let version =
            |version: u64| Version { version, document: Document::new("f", format!("# {version}"), Time::from_millis(version as i64)) };
        write(&path, (Some(&version(3)), Some(&version(2))), &key).unwrap();
        assert_eq!(read(&path, "f", &key).unwrap(), (Some(version(3)), Some(version(2))));
        write(&path, (Some(&version(3)), Some(&version(3))), &key).unwrap();
        assert_eq!(read(&path, "f", &key).unwrap(), (Some(version(3)), Some(version(3))));
        assert_eq!(read(&path, "g", &key).unwrap(), (None, None));
        assert_eq!(read(&path, "f", &signing_key("another salt of some length")).unwrap(), (None, None));
        std::fs::write(&path, "{").unwrap();
        assert!(read(&path, "f", &key).is_err());
    }
}

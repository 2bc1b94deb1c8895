//! The deployment's salt, where the proxy keeps it: keys of an import are those of the proxy that will run.

use std::path::Path;

use farthing_config::{Config, Salt, Secret};

use crate::error::TrainError;

/// Reads the salt's file, or makes one up and keeps it there.
///
/// # Errors
/// When it can neither be read nor written.
pub fn read(path: &Path) -> Result<[u8; 16], TrainError> {
    let secret = match std::fs::read_to_string(path) {
        Ok(text) => text.trim().to_owned(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => made_up(path)?,
        Err(source) => return Err(TrainError::Io { path: path.to_path_buf(), source }),
    };
    Ok(key(&secret))
}

/// The key of digests under a secret, as the proxy derives it.
fn key(secret: &str) -> [u8; 16] {
    let hash = *blake3::hash(secret.as_bytes()).as_bytes();
    hash.first_chunk::<16>().copied().unwrap_or_default()
}

fn made_up(path: &Path) -> Result<String, TrainError> {
    use rand::TryRngCore;
    let other = |reason: String| TrainError::Io { path: path.to_path_buf(), source: std::io::Error::other(reason) };
    let mut bytes = [0; 32];
    rand::rngs::OsRng.try_fill_bytes(&mut bytes).map_err(|e| other(e.to_string()))?;
    let secret = hex::encode(bytes);
    let salt = Salt { secret: Secret::new(secret.clone()), file: Some(path.to_path_buf()), fresh: true };
    Config { salt, ..Config::default() }.persist_salt().map_err(|e| other(e.to_string()))?;
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_made_up_salt_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state/salt");
        assert_eq!(read(&path).unwrap(), read(&path).unwrap());
        std::fs::write(&path, "another\n").unwrap();
        assert_eq!(read(&path).unwrap(), key("another"));
    }
}

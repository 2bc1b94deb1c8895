//! Who this instance is among those of its fleet.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use farthing_config::{Config, FleetConfig};
use rand::TryRngCore;

use super::FleetError;
use crate::files;

const FILE: &str = "fleet-instance";

/// An instance's name, which it keeps, and a number that is drawn at each of its starts: what a process has begun, the next of the same name has not.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// Its name: letters, digits, `-`, `_` and `.`.
    pub name: Arc<str>,
    /// This run of it.
    pub incarnation: u64,
}

impl Identity {
    /// As configured or kept, else drawn and kept. Blocks on a small file.
    pub(super) fn open(config: &Config, fleet: &FleetConfig) -> Result<Self, FleetError> {
        let incarnation = draw()?;
        Ok(Self { name: name(config, fleet.instance.as_ref())?, incarnation })
    }
}

/// The instance's name, as configured or kept, else drawn and kept. Blocks on a small file.
///
/// # Errors
/// A file that cannot be read or written, a system without random numbers.
pub(crate) fn name(config: &Config, configured: Option<&Arc<str>>) -> Result<Arc<str>, FleetError> {
    match (configured, files::of_instance(config, FILE)) {
        (Some(name), _) => Ok(name.clone()),
        (None, None) => draw().map(hex),
        (None, Some(path)) => kept(path),
    }
}

fn kept(path: PathBuf) -> Result<Arc<str>, FleetError> {
    let failed = |source: io::Error| FleetError::Instance { path: path.clone(), reason: source.to_string() };
    if let Some(bytes) = files::read(&path).map_err(failed)? {
        let text = std::str::from_utf8(&bytes).unwrap_or_default().trim();
        let whole = text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit());
        return if whole { Ok(text.into()) } else { Err(FleetError::Instance { path: path.clone(), reason: "it is damaged".to_owned() }) };
    }
    let name = hex(draw()?);
    files::write(&path, name.as_bytes()).map_err(failed)?;
    Ok(name)
}

fn hex(drawn: u64) -> Arc<str> {
    format!("{drawn:016x}").into()
}

fn draw() -> Result<u64, FleetError> {
    rand::rngs::OsRng.try_next_u64().map_err(|error| FleetError::Random(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_kept_and_a_run_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config { state_dir: dir.path().to_owned(), ..Config::default() };
        let mut fleet = FleetConfig { instance: None, ..crate::fleet::tests::config() };
        let (first, second) = (Identity::open(&config, &fleet).unwrap(), Identity::open(&config, &fleet).unwrap());
        assert_eq!(first.name, second.name);
        assert_ne!(first.incarnation, second.incarnation);
        let homeless = Config { state_dir: PathBuf::new(), ..Config::default() };
        assert_ne!(Identity::open(&homeless, &fleet).unwrap().name, Identity::open(&homeless, &fleet).unwrap().name);
        std::fs::write(dir.path().join(FILE), "x").unwrap();
        let error = Identity::open(&config, &fleet).unwrap_err().to_string();
        assert!(error.contains("fleet-instance") && error.contains("remove it"), "{error}");
        fleet.instance = Some("one".into());
        assert_eq!(&*Identity::open(&config, &fleet).unwrap().name, "one");
    }
}

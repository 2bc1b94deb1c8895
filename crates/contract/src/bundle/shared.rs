//! `store.json`: what instances that share an object store agree on, in one object, so that one conditional write moves an alias and tells of it. Pure.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Aliases, BundleError, Event, History, parse_known};

/// Name of the object.
pub const SHARED_FILE: &str = "store.json";
const FORMAT: u32 = 1;

/// The aliases and their history.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Shared {
    /// What the aliases name.
    pub aliases: Aliases,
    /// Who moved what.
    pub history: History,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    format: u32,
    aliases: serde_json::Value,
    history: Vec<Event>,
}

impl Shared {
    /// Reads the bytes of the object called `path` (for messages).
    ///
    /// # Errors
    /// Damaged, or of a format that this build does not know.
    pub fn parse(path: &Path, bytes: &[u8]) -> Result<Self, BundleError> {
        let written = parse_known(path, bytes, FORMAT, |written: &Written| written.format)?;
        let aliases = Aliases::parse(path, written.aliases.to_string().as_bytes())?;
        let mut history = History::default();
        written.history.iter().for_each(|event| history.push(event));
        Ok(Self { aliases, history })
    }

    /// The bytes of the object, without events that are too old to matter.
    ///
    /// # Errors
    /// Never for what was read or made by this build.
    pub fn to_bytes(&self) -> Result<Vec<u8>, BundleError> {
        let failed = |e: serde_json::Error| BundleError::Aliases { path: SHARED_FILE.into(), detail: e.to_string() };
        let aliases = serde_json::from_slice(&self.aliases.to_bytes()).map_err(failed)?;
        let history = History::parse(&self.history.compacted()).events().to_vec();
        serde_json::to_vec(&Written { format: FORMAT, aliases, history }).map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Action, Alias, Kind, Target};
    use super::*;

    fn shared() -> Shared {
        let target = |version: u32| Target { version, digest: format!("d{version}") };
        let mut shared = Shared::default();
        shared.aliases.promote(Kind::Ttl, Alias::Champion, target(3), 5);
        let (by, reason) = ("operator anna".to_owned(), "cheaper".to_owned());
        let (kind, alias, action) = (Kind::Ttl, Alias::Champion, Action::Promote);
        shared.history.push(&Event { at_ns: 5, kind, alias, action, from: None, to: Some(target(3)), by, reason, forced: false });
        shared
    }

    #[test]
    fn what_is_written_is_read_back_and_damage_is_refused() {
        let (path, bytes) = (Path::new("s3://b/store.json"), shared().to_bytes().unwrap());
        assert_eq!(Shared::parse(path, &bytes).unwrap(), shared());
        for end in 0..bytes.len() {
            assert!(Shared::parse(path, &bytes[..end]).is_err(), "cut at {end}");
        }
        let newer = String::from_utf8(bytes).unwrap().replacen("\"format\":1", "\"format\":2", 1);
        assert!(Shared::parse(path, newer.as_bytes()).unwrap_err().to_string().contains("store.json: format 2"));
    }

    /// Formats are read for ever: this object was written by the first release and must never be changed.
    #[test]
    fn the_first_format_is_still_read() {
        assert_eq!(Shared::parse(Path::new("store.json"), include_bytes!("fixtures/store-1.json")).unwrap(), shared());
    }
}

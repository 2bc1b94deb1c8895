//! `aliases.json`: which version of each kind decides. Pure: reading, writing and locking are the caller's.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{BundleError, FORMAT, Kind, parse_known, pretty};

/// Earlier versions an alias remembers; each of them stays on disk and loadable.
pub const KEPT: usize = 2;

/// What a version is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Alias {
    /// It decides.
    Champion,
    /// It decides for the keys of its experiment's variant.
    Challenger,
    /// It is asked and logged, and decides nothing.
    Shadow,
}

impl Alias {
    /// Every alias.
    pub const ALL: &'static [Self] = &[Self::Champion, Self::Challenger, Self::Shadow];

    /// The word in files, tables and labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Champion => "champion",
            Self::Challenger => "challenger",
            Self::Shadow => "shadow",
        }
    }
    /// The alias of that name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|alias| alias.as_str() == text)
    }
}

impl fmt::Display for Alias {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A version and the digest it had when the alias moved to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// The version.
    pub version: u32,
    /// Digest of the bundle.
    pub digest: String,
}

/// One alias of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AliasState {
    /// The version it names.
    pub current: Target,
    /// The versions it named before, latest first; at most [`KEPT`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub previous: Vec<Target>,
    /// The version the last rollback left, until the next promotion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rolled_back: Option<Target>,
    /// When it last moved, ns since the epoch.
    pub moved_ns: i64,
}

/// All aliases of all kinds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Aliases {
    format: u32,
    kinds: BTreeMap<Kind, BTreeMap<Alias, AliasState>>,
}

impl Default for Aliases {
    fn default() -> Self {
        Self { format: FORMAT, kinds: BTreeMap::new() }
    }
}

impl Aliases {
    /// Reads the bytes of the file at `path` (for messages).
    pub fn parse(path: &Path, bytes: &[u8]) -> Result<Self, BundleError> {
        parse_known(path, bytes, FORMAT, |aliases: &Self| aliases.format)
    }
    /// The bytes of the file.
    pub fn to_bytes(&self) -> Vec<u8> {
        // A map with enum keys and plain fields always serialises; an empty file would be refused on reading.
        pretty::to_vec(self).unwrap_or_default()
    }
    /// The state of an alias.
    pub fn get(&self, kind: Kind, alias: Alias) -> Option<&AliasState> {
        self.kinds.get(&kind)?.get(&alias)
    }
    /// Every alias that names something.
    pub fn iter(&self) -> impl Iterator<Item = (Kind, Alias, &AliasState)> {
        self.kinds.iter().flat_map(|(kind, aliases)| aliases.iter().map(|(alias, state)| (*kind, *alias, state)))
    }
    /// Every version an alias names or remembers: these must stay on disk.
    pub fn kept(&self, kind: Kind) -> Vec<u32> {
        let states = self.kinds.get(&kind).into_iter().flat_map(BTreeMap::values);
        let targets = states.flat_map(|state| std::iter::once(&state.current).chain(&state.previous).chain(&state.rolled_back));
        let mut versions: Vec<u32> = targets.map(|target| target.version).collect();
        versions.sort_unstable();
        versions.dedup();
        versions
    }
    /// Moves an alias to a version that has loaded; says whether anything changed.
    pub fn promote(&mut self, kind: Kind, alias: Alias, target: Target, now_ns: i64) -> bool {
        let aliases = self.kinds.entry(kind).or_default();
        let Some(state) = aliases.get_mut(&alias) else {
            aliases.insert(alias, AliasState { current: target, previous: Vec::new(), rolled_back: None, moved_ns: now_ns });
            return true;
        };
        if state.current == target {
            return false;
        }
        let left = std::mem::replace(&mut state.current, target);
        state.previous.retain(|earlier| *earlier != state.current && *earlier != left);
        state.previous.insert(0, left);
        state.previous.truncate(KEPT);
        state.rolled_back = None;
        state.moved_ns = now_ns;
        true
    }
    /// Takes an alias away; says whether it named anything.
    pub fn clear(&mut self, kind: Kind, alias: Alias) -> bool {
        self.kinds.get_mut(&kind).is_some_and(|aliases| aliases.remove(&alias).is_some())
    }
    /// Moves an alias back to the version it named before, and returns that; a second rollback goes one further.
    pub fn rollback(&mut self, kind: Kind, alias: Alias, now_ns: i64) -> Result<Target, BundleError> {
        let nothing = || BundleError::NoTarget { kind, what: format!("earlier {alias} to roll back to") };
        let state = self.kinds.get_mut(&kind).and_then(|aliases| aliases.get_mut(&alias)).ok_or_else(nothing)?;
        if state.previous.is_empty() {
            return Err(nothing());
        }
        let back = state.previous.remove(0);
        state.rolled_back = Some(std::mem::replace(&mut state.current, back.clone()));
        state.moved_ns = now_ns;
        Ok(back)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(version: u32) -> Target {
        Target { version, digest: format!("d{version}") }
    }
    fn promoted(versions: &[u32]) -> Aliases {
        let mut aliases = Aliases::default();
        for version in versions {
            aliases.promote(Kind::Ttl, Alias::Champion, target(*version), i64::from(*version));
        }
        aliases
    }

    #[test]
    fn rollback_walks_back_through_what_was_kept_and_then_says_so() {
        let mut aliases = promoted(&[1, 2, 3, 4]);
        assert_eq!(aliases.kept(Kind::Ttl), [2, 3, 4]);
        assert_eq!(aliases.rollback(Kind::Ttl, Alias::Champion, 9).unwrap(), target(3));
        assert_eq!(aliases.get(Kind::Ttl, Alias::Champion).unwrap().rolled_back, Some(target(4)));
        assert_eq!(aliases.rollback(Kind::Ttl, Alias::Champion, 9).unwrap(), target(2));
        let error = aliases.rollback(Kind::Ttl, Alias::Champion, 9).unwrap_err().to_string();
        assert!(error.contains("earlier champion"), "{error}");
        assert_eq!(aliases.get(Kind::Ttl, Alias::Champion).unwrap().current, target(2));
        assert!(aliases.rollback(Kind::Cost, Alias::Champion, 9).is_err());
    }

    #[test]
    fn promoting_to_and_fro_remembers_each_version_once() {
        let aliases = promoted(&[1, 2, 1, 2, 1]);
        let state = aliases.get(Kind::Ttl, Alias::Champion).unwrap();
        assert_eq!((&state.current, state.previous.as_slice()), (&target(1), [target(2)].as_slice()));
        let mut same = aliases.clone();
        assert!(!same.promote(Kind::Ttl, Alias::Champion, target(1), 77));
        assert_eq!(same, aliases);
    }

    #[test]
    fn the_file_is_read_back_and_damage_is_refused() {
        let path = Path::new("models/aliases.json");
        let mut aliases = promoted(&[1, 2]);
        aliases.promote(Kind::Ttl, Alias::Shadow, target(3), 3);
        let bytes = aliases.to_bytes();
        assert_eq!(Aliases::parse(path, &bytes).unwrap(), aliases);
        for end in 0..bytes.len() - 1 {
            assert!(Aliases::parse(path, &bytes[..end]).is_err(), "cut at {end}");
        }
        let newer = String::from_utf8(bytes).unwrap().replace("\"format\": 1", "\"format\": 2");
        assert!(Aliases::parse(path, newer.as_bytes()).unwrap_err().to_string().contains("aliases.json: format 2"));
    }

    /// Formats are read for ever: this file was written by the first release and must never be changed.
    #[test]
    fn the_first_format_is_still_read() {
        let aliases = Aliases::parse(Path::new("aliases.json"), include_bytes!("fixtures/aliases-1.json")).unwrap();
        let state = aliases.get(Kind::Ttl, Alias::Champion).unwrap();
        assert_eq!((state.current.version, state.current.digest.as_str(), state.moved_ns), (3, "cc", 5));
        assert_eq!(aliases.kept(Kind::Ttl), [2, 3, 4]);
    }

    #[test]
    fn names_are_their_own_inverse() {
        assert!(Alias::ALL.iter().all(|alias| Alias::parse(alias.as_str()) == Some(*alias)));
        assert!(Kind::ALL.iter().all(|kind| Kind::parse(kind.as_str()) == Some(*kind)));
    }
}

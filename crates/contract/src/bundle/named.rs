//! `named.json`: the versions that experiments of the proxies on a store name. They stay on disk, whoever tidies up and wherever: who trains knows
//! nothing of experiments. Pure: reading and writing are the caller's.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use farthing_types::{Span, Time};
use serde::{Deserialize, Serialize};

use super::{BundleError, FORMAT, Kind, parse_known, pretty};

/// What an instance has named counts for so long after it was last said: one that is gone for good must not keep versions for ever.
const COUNTS: Span = Span::from_secs(30 * 86_400);

/// What one instance names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Names {
    /// When it was last said, ns since the epoch.
    said_ns: i64,
    versions: BTreeMap<Kind, BTreeSet<u32>>,
}

/// The versions that are named, by instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Named {
    format: u32,
    instances: BTreeMap<String, Names>,
}

impl Default for Named {
    fn default() -> Self {
        Self { format: FORMAT, instances: BTreeMap::new() }
    }
}

impl Named {
    /// Reads the bytes of the file at `path` (for messages).
    ///
    /// # Errors
    /// What is no such file. Who asks must not remove anything then.
    pub fn parse(path: &Path, bytes: &[u8]) -> Result<Self, BundleError> {
        parse_known(path, bytes, FORMAT, |named: &Self| named.format)
    }
    /// The bytes of the file.
    pub fn to_bytes(&self) -> Vec<u8> {
        pretty::to_vec(self).unwrap_or_default()
    }
    /// Notes what an instance names now, all of a kind; what does not count any more goes.
    pub fn set(&mut self, instance: &str, (kind, versions): (Kind, BTreeSet<u32>), now: Time) {
        self.instances.retain(|_, names| counts(names, now));
        let names = self.instances.entry(instance.to_owned()).or_insert(Names { said_ns: 0, versions: BTreeMap::new() });
        names.said_ns = now.nanos();
        if versions.is_empty() {
            names.versions.remove(&kind);
        } else {
            names.versions.insert(kind, versions);
        }
        if names.versions.is_empty() {
            self.instances.remove(instance);
        }
    }
    /// Whether an instance names something.
    pub fn has(&self, instance: &str) -> bool {
        self.instances.contains_key(instance)
    }
    /// The versions that must stay.
    pub fn versions(&self, kind: Kind, now: Time) -> BTreeSet<u32> {
        let counting = self.instances.values().filter(|names| counts(names, now));
        counting.filter_map(|names| names.versions.get(&kind)).flatten().copied().collect()
    }
}

fn counts(names: &Names, now: Time) -> bool {
    now.since(Time::from_nanos(names.said_ns)) < COUNTS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_any_instance_names_stays_until_it_says_otherwise_or_is_long_gone() {
        let at = |days: u64| Time::ZERO + Span::from_secs(days * 86_400);
        let mut named = Named::default();
        named.set("a", (Kind::Ttl, [2, 3].into()), at(0));
        named.set("b", (Kind::Ttl, [3, 7].into()), at(20));
        let path = Path::new("named.json");
        let mut read = Named::parse(path, &named.to_bytes()).unwrap();
        assert_eq!(read, named);
        assert_eq!((read.versions(Kind::Ttl, at(20)), read.versions(Kind::Cost, at(20))), ([2, 3, 7].into(), [].into()));
        assert_eq!(read.versions(Kind::Ttl, at(31)), [3, 7].into());
        read.set("b", (Kind::Ttl, [].into()), at(21));
        assert!(read.has("a") && !read.has("b") && read.versions(Kind::Ttl, at(21)) == [2, 3].into());
        read.set("c", (Kind::Ttl, [9].into()), at(40));
        assert!(!read.has("a") && read.versions(Kind::Ttl, at(40)) == [9].into());
        for damaged in ["", "{}", "{\"format\": 9, \"instances\": {}}"] {
            assert!(Named::parse(path, damaged.as_bytes()).is_err(), "{damaged}");
        }
    }
}

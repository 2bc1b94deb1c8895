//! `frozen.json`: the proxies on a store that an operator has frozen. While there is one, nothing is trained or named for this store. Pure: reading
//! and writing are the caller's.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::history::cut;
use super::{BundleError, FORMAT, parse_known, pretty};

/// Most instances that are told of.
const MOST: usize = 1_000;

/// Why an instance is frozen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Frost {
    /// Since when, ns since the epoch.
    pub since_ns: i64,
    /// Why, as the operator said.
    pub reason: String,
}

/// The frozen instances, by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Frozen {
    format: u32,
    instances: BTreeMap<String, Frost>,
}

impl Default for Frozen {
    fn default() -> Self {
        Self { format: FORMAT, instances: BTreeMap::new() }
    }
}

impl Frozen {
    /// Reads the bytes of the file at `path` (for messages).
    ///
    /// # Errors
    /// What is no such file. Who asks must take that for a freeze: an order that cannot be read is still an order.
    pub fn parse(path: &Path, bytes: &[u8]) -> Result<Self, BundleError> {
        parse_known(path, bytes, FORMAT, |frozen: &Self| frozen.format)
    }
    /// The bytes of the file.
    pub fn to_bytes(&self) -> Vec<u8> {
        pretty::to_vec(self).unwrap_or_default()
    }
    /// Notes that an instance is frozen, or (`None`) is not any more; whether that is news.
    pub fn set(&mut self, instance: &str, frost: Option<Frost>) -> bool {
        match frost {
            None => self.instances.remove(instance).is_some(),
            Some(_) if self.instances.len() >= MOST && !self.instances.contains_key(instance) => false,
            Some(frost) => {
                let frost = Frost { reason: cut(&frost.reason), ..frost };
                self.instances.insert(instance.to_owned(), frost.clone()) != Some(frost)
            }
        }
    }
    /// The frozen instances: name, since when, why.
    pub fn instances(&self) -> impl Iterator<Item = (&str, &Frost)> {
        self.instances.iter().map(|(name, frost)| (name.as_str(), frost))
    }
    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.instances.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_frozen_until_the_last_instance_lets_go() {
        let mut frozen = Frozen::default();
        let frost = |since_ns| Some(Frost { since_ns, reason: "a launch".to_owned() });
        assert!(frozen.set("a", frost(1)) && frozen.set("b", frost(2)) && !frozen.set("a", frost(1)));
        let path = Path::new("frozen.json");
        let mut read = Frozen::parse(path, &frozen.to_bytes()).unwrap();
        assert_eq!(read, frozen);
        assert!(read.set("a", None) && !read.set("a", None) && !read.is_empty());
        assert_eq!(read.instances().map(|(name, _)| name).collect::<Vec<_>>(), ["b"]);
        assert!(read.set("b", None) && read.is_empty());
        for damaged in ["", "{}", "{\"format\": 9, \"instances\": {}}"] {
            assert!(Frozen::parse(path, damaged.as_bytes()).is_err(), "{damaged}");
        }
    }
}

//! Which entries a purge may be about: those of a key, of a group that the index of a shard can find, or all.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use farthing_freshness::entry::Packed;
use farthing_types::KeyHash;

use super::spelling::spelled;
use super::{Purge, Several};

/// Where the entries stand that some purges are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Target {
    /// Under a primary key, and in the group of its variants.
    Key(KeyHash),
    /// In a group, with others.
    Group(u32),
    /// Anywhere.
    Anywhere,
}

/// Purges of one target.
pub(crate) struct Lot<'a> {
    pub(crate) target: Target,
    pub(crate) all: Several<'a>,
    pub(crate) hard: Several<'a>,
    /// Those that say that an answer has changed. Larger ones are losses.
    pub(crate) changed: Several<'a>,
}

/// Divides purges by what they are about; each with whether it is soft. Those that say that an answer has changed come first: it is to be known of an
/// entry also when another one takes it out. Where one has to look at everything, it is looked at for all of them.
pub(crate) fn lots(purges: &[(Purge, bool)]) -> Vec<Lot<'_>> {
    let mut by_target: BTreeMap<Target, Vec<&(Purge, bool)>> = BTreeMap::new();
    for purge in purges {
        by_target.entry(target(&purge.0)).or_default().push(purge);
    }
    if by_target.contains_key(&Target::Anywhere) {
        by_target = BTreeMap::from([(Target::Anywhere, purges.iter().collect())]);
    }
    let mut out: Vec<Lot<'_>> = by_target.into_iter().map(|(target, purges)| Lot::new(target, &purges)).collect();
    out.sort_by_key(|lot| lot.changed.is_empty());
    out
}

impl<'a> Lot<'a> {
    fn new(target: Target, purges: &[&'a (Purge, bool)]) -> Self {
        let those = |which: fn(&Purge, bool) -> bool| {
            Several::new(purges.iter().filter(|(purge, soft)| which(purge, *soft)).map(|(purge, _)| purge))
        };
        Self { target, all: those(|_, _| true), hard: those(|_, soft| !soft), changed: those(|purge, _| purge.is_of_one()) }
    }
}

fn target(purge: &Purge) -> Target {
    match purge {
        Purge::Key(key) => Target::Key(*key),
        Purge::Path { route, path, .. } | Purge::Within { route, path: Some(path), .. } => Target::Group(group_of_path(route, path)),
        Purge::Tag(tag) | Purge::Within { tag: Some(tag), .. } => Target::Group(group_of_tag(tag)),
        Purge::Within { .. } | Purge::Prefix { .. } | Purge::Tenant(_) | Purge::All => Target::Anywhere,
    }
}

/// Hands the groups of an entry to `each`.
pub(crate) fn groups_of(entry: &Packed, each: &mut dyn FnMut(u32)) {
    each(group_of_path(&entry.shape().route, entry.path()));
    if entry.is_selected() {
        each(group_of_variants(entry.primary()));
    }
    entry.tags().for_each(|tag| each(group_of_tag(tag)));
}

fn group_of_path(route: &str, path: &str) -> u32 {
    hash((0u8, route, &*spelled(path)))
}
fn group_of_tag(tag: &str) -> u32 {
    hash((1u8, tag))
}
/// The group of the entries of a primary key that stand under keys of their own.
pub(crate) fn group_of_variants(primary: KeyHash) -> u32 {
    hash((2u8, primary.0))
}

/// Whoever looks for texts with the same hash makes purges of them slower, and nothing else.
fn hash(of: impl Hash) -> u32 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish() as u32
}

//! Walks in steps: the caller may let go of the index between two of them, and whatever was there all the time is met.

use farthing_types::KeyHash;

use super::groups::Place;
use super::{Index, Weighed};

/// A walk; to be gone to its end.
#[derive(Clone, Copy, Debug)]
pub struct Walk(At);

#[derive(Clone, Copy, Debug)]
enum At {
    All(usize),
    Group(Place),
    Over,
}

impl Walk {
    /// Through everything.
    pub const fn all() -> Self {
        Self(At::All(0))
    }
    /// Through a group ([`Weighed::groups`]), and perhaps members of others.
    pub const fn group(hash: u32) -> Self {
        Self(At::Group(Place::Begin(hash)))
    }
    /// Whether all was met.
    pub const fn is_over(&self) -> bool {
        matches!(self.0, At::Over)
    }
}

impl<V: Weighed> Index<V> {
    /// Goes on with a walk, looks at up to `most` values, and returns the keys of those for which `which` holds. What comes into the index between two
    /// steps may be met or not.
    pub fn step(&mut self, walk: &mut Walk, most: usize, mut which: impl FnMut(KeyHash, &V) -> bool) -> Vec<KeyHash> {
        let mut found = Vec::new();
        let nodes = &self.nodes;
        let mut look = |at: usize| {
            if let Some(Some(node)) = nodes.get(at)
                && which(node.value.key(), &node.value)
            {
                found.push(node.value.key());
            }
        };
        walk.0 = match walk.0 {
            At::All(from) => {
                let to = from.saturating_add(most.max(1)).min(nodes.len());
                (from..to).for_each(&mut look);
                if to < nodes.len() { At::All(to) } else { At::Over }
            }
            At::Group(place) => self.groups.walk(place, most, |owner| look(owner as usize)).map_or(At::Over, At::Group),
            At::Over => At::Over,
        };
        found
    }
}

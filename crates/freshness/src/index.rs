//! A map bounded in bytes: SIEVE (<https://www.usenix.org/conference/nsdi24/presentation/zhang-yazhuo>) decides who may stay, and
//! among the few it would let go next the one worth least goes.
//!
//! SIEVE keeps entries in order of arrival and walks a hand from the oldest to the newest: an entry asked for since the
//! hand's last visit is spared, the first one not asked for goes. Here the hand looks at up to 16 such
//! entries and removes the one with the lowest [`worth`].

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::mem::size_of;

use farthing_types::{KeyHash, Money, Span, Time};
use hashbrown::HashTable;

mod chunks;
mod groups;
mod walk;

use chunks::Chunks;
use groups::{Groups, LINK_BYTES};
pub use walk::Walk;

/// How many unvisited entries an eviction compares.
const CANDIDATES: usize = 16;
/// How far the hand looks for them.
const LOOK: usize = 48;
/// Stands in for a price nobody knows, in comparisons only: a tenth of a cent.
const NOMINAL_NANOS: f64 = 1e6;
/// Bytes of what is in a table that doubles when it grows, with its free ones: it is three quarters full on the mean.
const fn with_slack(bytes: usize) -> usize {
    bytes + bytes / 3
}
/// Bytes of a place in the map from keys: the node's number and a byte of the hash.
const PLACE: usize = size_of::<u32>() + 1;
const NONE: u32 = u32::MAX;

/// What an index holds.
pub trait Weighed {
    /// Its key, under which it is found; it must not change while it is in an index.
    fn key(&self) -> KeyHash;
    /// Bytes it occupies, honestly; they must not change while it is in an index.
    fn bytes(&self) -> usize;
    /// What keeping it is worth at `now`: see [`worth`].
    fn worth(&self, now: Time) -> f64;
    /// Hands 32 bits of a hash of each thing that it has in common with others to `each`: [`Walk::group`] finds it by them. They must not change
    /// while it is in an index, which needs some 30 bytes for each, and counts them.
    fn groups(&self, _each: &mut dyn FnMut(u32)) {}
}

/// Expected saving per byte of keeping an entry: price of the call it saves times the probability that it is asked for
/// before it expires, by its size. `rate` in 1/s; `left` until the physical expiry. An expired entry is worth nothing.
pub fn worth(price: Option<Money>, rate: f64, left: Span, bytes: usize) -> f64 {
    let nanos = price.map_or(NOMINAL_NANOS, |p| p.nanos().max(0) as f64);
    let reuse = -(-rate.max(0.0) * left.as_secs_f64()).exp_m1();
    nanos * reuse / (bytes.max(1) as f64)
}

/// Takes a key as its own hash: keys are keyed hashes already.
#[derive(Clone, Copy, Debug, Default)]
pub struct KeyIsHash(u64);

impl Hasher for KeyIsHash {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    fn write_u128(&mut self, key: u128) {
        self.0 = folded(key);
    }
}

const fn folded(key: u128) -> u64 {
    (key >> 64) as u64 ^ key as u64
}

/// A hash map from keys.
pub type KeyMap<V> = HashMap<KeyHash, V, BuildHasherDefault<KeyIsHash>>;

/// Neither key nor size: the value has them.
struct Node<V> {
    value: V,
    visited: bool,
    /// Towards the newer entries.
    newer: u32,
    /// Towards the older entries.
    older: u32,
    /// The first of its memberships.
    links: u32,
}

/// The map.
pub struct Index<V> {
    /// The numbers of the nodes, by the keys of their values.
    map: HashTable<u32>,
    nodes: Chunks<Option<Node<V>>>,
    free: Vec<u32>,
    groups: Groups,
    newest: u32,
    oldest: u32,
    hand: u32,
    bytes: usize,
    limit: usize,
}

/// What an insertion pushed out.
#[derive(Debug)]
pub struct Inserted<V> {
    /// The value that was there under the same key.
    pub replaced: Option<V>,
    /// Values evicted to make room.
    pub evicted: Vec<V>,
    /// The value itself, when it is larger than the whole index.
    pub refused: Option<V>,
}

impl<V: Weighed> Index<V> {
    /// An empty index of at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        let (map, groups) = (HashTable::new(), Groups::new());
        Self { map, nodes: Chunks::new(), free: Vec::new(), groups, newest: NONE, oldest: NONE, hand: NONE, bytes: 0, limit }
    }

    /// Bytes held, overhead included; never more than the limit.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }
    /// Entries held.
    pub fn len(&self) -> usize {
        self.map.len()
    }
    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// The value of a key, which counts as asked for.
    pub fn get(&mut self, key: KeyHash) -> Option<&V> {
        let at = self.place(key)?;
        let node = self.node_mut(at)?;
        node.visited = true;
        Some(&node.value)
    }

    /// The value of a key, without counting.
    pub fn peek(&self, key: KeyHash) -> Option<&V> {
        self.node(self.place(key)?).map(|n| &n.value)
    }

    /// Bytes that a value of `bytes` takes in an index, as a member of so many groups.
    const fn cost(bytes: usize, groups: usize) -> usize {
        bytes + size_of::<Option<Node<V>>>() + with_slack(PLACE) + groups * LINK_BYTES
    }

    /// Puts a value, evicting what is worth least until it fits.
    pub fn insert(&mut self, value: V, now: Time) -> Inserted<V> {
        let mut links = 0;
        value.groups(&mut |_| links += 1);
        let bytes = Self::cost(value.bytes(), links);
        let mut out = Inserted { replaced: self.remove(value.key()), evicted: Vec::new(), refused: None };
        if bytes > self.limit {
            out.refused = Some(value);
            return out;
        }
        while self.bytes + bytes > self.limit {
            let Some(victim) = self.victim(now) else { break };
            out.evicted.extend(self.unlink(victim));
        }
        // What replaces a value was asked for: it keeps its predecessor's merit.
        self.link(Node { value, visited: out.replaced.is_some(), newer: NONE, older: NONE, links: groups::NONE }, bytes);
        out
    }

    /// Takes a value out.
    pub fn remove(&mut self, key: KeyHash) -> Option<V> {
        let at = self.place(key)?;
        self.unlink(at)
    }

    /// All keys and values, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (KeyHash, &V)> {
        self.nodes.iter().flatten().map(|n| (n.value.key(), &n.value))
    }

    /// The number of the node that has a key.
    fn place(&self, key: KeyHash) -> Option<u32> {
        let is_its = |at: &u32| self.node(*at).is_some_and(|node| node.value.key() == key);
        self.map.find(folded(key.0), is_its).copied()
    }
    fn node(&self, at: u32) -> Option<&Node<V>> {
        self.nodes.get(at as usize)?.as_ref()
    }
    fn node_mut(&mut self, at: u32) -> Option<&mut Node<V>> {
        self.nodes.get_mut(at as usize)?.as_mut()
    }

    fn link(&mut self, mut node: Node<V>, bytes: usize) {
        let key = node.value.key();
        node.older = self.newest;
        let at = match self.free.pop() {
            Some(at) => at,
            None => self.nodes.push(None) as u32,
        };
        let groups = &mut self.groups;
        node.value.groups(&mut |group| node.links = groups.join(group, at, node.links));
        self.bytes += bytes;
        if let Some(slot) = self.nodes.get_mut(at as usize) {
            *slot = Some(node);
        }
        let before = std::mem::replace(&mut self.newest, at);
        match self.node_mut(before) {
            Some(before) => before.newer = at,
            None => self.oldest = at,
        }
        let nodes = &self.nodes;
        let hash_of = |at: &u32| nodes.get(*at as usize).and_then(Option::as_ref).map_or(0, |node| folded(node.value.key().0));
        self.map.insert_unique(folded(key.0), at, hash_of);
    }

    fn unlink(&mut self, at: u32) -> Option<V> {
        let node = self.nodes.get_mut(at as usize)?.take()?;
        self.free.push(at);
        if let Ok(place) = self.map.find_entry(folded(node.value.key().0), |of| *of == at) {
            place.remove();
        }
        let (mut link, mut links) = (node.links, 0);
        while let Some(sibling) = self.groups.leave(link) {
            link = sibling;
            links += 1;
        }
        self.bytes = self.bytes.saturating_sub(Self::cost(node.value.bytes(), links));
        match self.node_mut(node.newer) {
            Some(newer) => newer.older = node.older,
            None => self.newest = node.older,
        }
        match self.node_mut(node.older) {
            Some(older) => older.newer = node.newer,
            None => self.oldest = node.newer,
        }
        if self.hand == at {
            self.hand = node.newer;
        }
        Some(node.value)
    }

    /// Moves the hand to the first entry not asked for since its last visit, then compares it with the next few.
    fn victim(&mut self, now: Time) -> Option<u32> {
        let mut at = if self.hand == NONE { self.oldest } else { self.hand };
        // Two rounds at most: the first may spare everyone.
        for _ in 0..2 * self.map.len() + 1 {
            let newest_next = self.oldest;
            let node = self.node_mut(at)?;
            if !node.visited {
                break;
            }
            node.visited = false;
            at = if node.newer == NONE { newest_next } else { node.newer };
        }
        self.hand = at;
        self.least_worth(at, now)
    }

    fn least_worth(&self, first: u32, now: Time) -> Option<u32> {
        let mut best: Option<(u32, f64)> = None;
        let (mut at, mut seen) = (first, 0);
        for _ in 0..LOOK.min(self.map.len()) {
            let Some(node) = self.node(at) else { break };
            if !node.visited {
                let value = node.value.worth(now);
                if best.is_none_or(|(_, least)| value < least) {
                    best = Some((at, value));
                }
                seen += 1;
            }
            if seen == CANDIDATES {
                break;
            }
            at = node.newer;
        }
        best.map(|(at, _)| at).or(Some(first))
    }
}

#[cfg(test)]
mod tests;

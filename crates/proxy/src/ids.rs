//! Ids of requests, calls and decisions: unique within the process and spread over all 64 bits, so that ids of several
//! instances and restarts do not meet in one log.

use std::sync::atomic::{AtomicU64, Ordering};

/// A source of ids: a counter from a random start, mixed by a bijection, so no id comes twice.
#[derive(Debug)]
pub struct Ids {
    next: AtomicU64,
}

impl Ids {
    /// A source that starts at `start`, which must be random.
    pub const fn new(start: u64) -> Self {
        Self { next: AtomicU64::new(start) }
    }

    /// A new id.
    pub fn next(&self) -> u64 {
        mix(self.next.fetch_add(1, Ordering::Relaxed))
    }
}

/// The finalizer of SplitMix64 (Steele, Lea, Flood 2014): a bijection on 64 bits.
const fn mix(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_never_repeat() {
        let ids = Ids::new(u64::MAX - 500);
        let seen: HashSet<_> = (0..1_000).map(|_| ids.next()).collect();
        assert_eq!(seen.len(), 1_000);
    }
}

//! Bounds, counters and sizes.

use farthing_freshness::Keyer;
use farthing_freshness::ticket::Limits;
use farthing_types::Span;

/// Bounds of a cache.
#[derive(Clone, Debug)]
pub struct CacheConfig {
    /// The deployment's keyer.
    pub keyer: Keyer,
    /// Bytes of all entries together, bookkeeping included.
    pub l1_bytes: usize,
    /// Bytes of one body up to which it is held whole, so that late joiners can have it and it can be stored.
    pub share_buffer_bytes: usize,
    /// Bytes of all bodies under way together; each flight may hold one chunk beyond it.
    pub in_flight_bytes: usize,
    /// How long a writer waits for a reader that holds up others.
    pub reader_grace: Span,
    /// Followers of one flight.
    pub max_followers: usize,
    /// Times a flight may change hands.
    pub max_handovers: u32,
    /// How long a key whose answer was not shareable lets everyone pass.
    pub hit_for_miss: Span,
    /// `Vary` variants of one key; the oldest goes.
    pub max_vary: usize,
    /// Bytes of the table of statistics for keys without an entry. An eighth on top knows which copies should be there.
    pub stats_bytes: usize,
}

impl CacheConfig {
    /// How long a key whose answer could not be shared lets everyone pass, unless configured.
    pub const HIT_FOR_MISS: Span = Span::from_secs(5);

    /// 100 MB of entries, 32 MiB of statistics, 64 MiB in flight, 4 MiB a body.
    pub const fn new(keyer: Keyer) -> Self {
        Self {
            keyer,
            l1_bytes: 100_000_000,
            share_buffer_bytes: 4 << 20,
            in_flight_bytes: 64 << 20,
            reader_grace: Span::from_secs(5),
            max_followers: 10_000,
            max_handovers: 3,
            hit_for_miss: Self::HIT_FOR_MISS,
            max_vary: 64,
            stats_bytes: 32 << 20,
        }
    }

    pub(crate) const fn limits(&self) -> Limits {
        Limits { max_followers: self.max_followers, max_handovers: self.max_handovers, hit_for_miss: self.hit_for_miss }
    }
}

/// Counters and sizes now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheStats {
    /// Entries held; a key whose answers vary counts once more.
    pub entries: usize,
    /// Bytes of them.
    pub bytes: usize,
    /// Calls under way, markers of uncacheable keys included.
    pub flights: usize,
    /// Bytes of bodies under way.
    pub in_flight_bytes: usize,
    /// Lookups that found an entry (fresh or not).
    pub found: u64,
    /// Lookups that found none.
    pub missing: u64,
    /// Entries stored.
    pub stored: u64,
    /// Entries evicted to make room.
    pub evicted: u64,
    /// Entries purged.
    pub purged: u64,
    /// Answers not stored because they were purged while under way.
    pub invalidated: u64,
    /// Flights handed over to a follower.
    pub handovers: u64,
    /// Readers cut off.
    pub cut: u64,
}

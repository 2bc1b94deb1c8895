//! Pure core of the cache: keys, HTTP semantics, entries, index, tickets.

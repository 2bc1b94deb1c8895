//! A map bounded in bytes with SIEVE eviction.

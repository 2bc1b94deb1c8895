//! Pure core of the cache: keys, HTTP semantics, entries, index, tickets.
//!
//! Nothing here waits, locks, asks the time or draws a number: every decision is a function of its arguments, so
//! that the proxy, the replay engine and the property tests run the same code.

pub mod content;
pub mod entry;
pub mod index;
pub mod key;
pub mod semantics;
pub mod ticket;

pub use content::ContentRules;
pub use entry::{Entry, Subject, VariantTtl};
pub use key::{BodyKey, KeyParts, KeySpec, Keyer, Profile, Selected};
pub use semantics::{Facts, Mode, RequestFacts, Rules, Verdict};

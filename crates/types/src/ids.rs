//! Ids and names.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:016x}", self.0)
            }
        }
    };
}
id!(
    /// One client request; printed as 16 hexadecimal digits in `x-farthing-request-id` and in the log.
    RequestId
);
id!(
    /// One call to a provider as ordered by the lower half; its attempts share the id.
    CallId
);
id!(
    /// One logged decision.
    DecisionId
);

/// Keyed digest of a cache key (tenant, route, method, target, digests). Salted per deployment; safe to log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyHash(pub u128);

impl KeyHash {
    /// The upper 64 bits, as written to the log's `key_hash` column.
    pub const fn short(self) -> u64 {
        (self.0 >> 64) as u64
    }
}
impl fmt::Display for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl FromStr for KeyHash {
    type Err = KeyHashError;
    fn from_str(text: &str) -> Result<Self, KeyHashError> {
        let digits = text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
        u128::from_str_radix(text, 16).ok().filter(|_| digits).map(Self).ok_or(KeyHashError)
    }
}

/// A text that is no key's digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("32 hexadecimal digits, as in x-farthing-key of an answer to x-farthing-debug: 1")]
pub struct KeyHashError;

/// The name of a configured route.
pub type RouteName = Arc<str>;

/// Who pays: a configured tenant, or the keyed digest of a passed-through credential.
pub type Tenant = Arc<str>;

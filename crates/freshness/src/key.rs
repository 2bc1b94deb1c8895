//! Keys: two requests get the same key exactly when one answer may serve both.
//!
//! A key is a keyed 128-bit hash (SipHash-1-3, <https://www.aumasson.jp/siphash/siphash.pdf>) over tenant, route,
//! method, host, path, sorted query without credentials, body where the route keys it, and headers by profile. The salt is
//! a secret of the deployment: keys can be logged without telling what was asked, and nobody outside can build a
//! collision.

mod body;
mod headers;
mod query;
#[cfg(test)]
mod tests;

use std::fmt;
use std::hash::Hasher;
use std::sync::Arc;

use farthing_types::KeyHash;
use http::{HeaderMap, HeaderName, Method, Uri};
use siphasher::sip128::{Hasher128, SipHasher13};

pub use headers::{NOT_IN_KEY, NOT_IN_KEY_VERSION, OF_ONE_SENDING, Vary, in_api_key, is_of_one_sending, vary};
pub use query::{CREDENTIAL_NAMES, Credentials};

/// Layout of what is hashed: a change of meaning changes the number, and so every key.
const KEY_VERSION: u8 = 1;

/// Which headers enter the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// None; they enter through the answer's `Vary` as a second level ([`Keyer::selected`]). For GET and HEAD in
    /// [`crate::Mode::Respect`] and [`crate::Mode::Learned`].
    Http,
    /// All forwarded headers except the versioned deny-list [`NOT_IN_KEY`]. For POST, override and LLM routes.
    Api,
}

/// How the request body enters the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyKey {
    /// Not at all: the route's calls have no body that matters.
    Ignored,
    /// Byte by byte.
    Exact,
    /// As JSON with sorted object members and without insignificant white space; byte by byte when it is not JSON,
    /// has duplicate members, or is nested too deeply.
    CanonicalJson,
}

/// What a route puts into its keys; made once per configuration.
#[derive(Clone, Debug)]
pub struct KeySpec {
    /// Which headers enter.
    pub profile: Profile,
    /// How the body enters.
    pub body: BodyKey,
    /// Query parameters that are credentials.
    pub credentials: Arc<Credentials>,
}

/// What of a request enters its key.
#[derive(Clone, Copy, Debug)]
pub struct KeyParts<'a> {
    /// The tenant who may be answered; the empty string on shared routes.
    pub tenant: &'a str,
    /// The route's name.
    pub route: &'a str,
    /// The method. HEAD has keys of its own: look up with GET first, because a GET entry answers HEAD.
    pub method: &'a Method,
    /// Host (and port) of the provider, and the path below which its targets are: whatever tells the targets of a route apart.
    pub authority: &'a str,
    /// Path and query.
    pub target: &'a Uri,
    /// The headers as they will be forwarded.
    pub headers: &'a HeaderMap,
    /// The whole body; empty when there is none.
    pub body: &'a [u8],
}

/// Second level of a key: the request fields an answer was selected by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selected {
    /// The names in the answer's `Vary`, lower case, sorted, without duplicates.
    pub names: Arc<[HeaderName]>,
    /// The hash of primary key, names and the request's values.
    pub key: KeyHash,
}

/// Computes keys under the deployment's salt.
#[derive(Clone, Copy)]
pub struct Keyer {
    salt: [u8; 16],
}

impl fmt::Debug for Keyer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keyer(secret)")
    }
}

impl Keyer {
    /// A keyer under a secret `salt`; instances that share it compute equal keys.
    pub const fn new(salt: [u8; 16]) -> Self {
        Self { salt }
    }

    /// The primary key of a request.
    pub fn primary(&self, spec: &KeySpec, parts: &KeyParts<'_>) -> KeyHash {
        let mut hash = self.hasher(b'p');
        field(&mut hash, parts.tenant.as_bytes());
        field(&mut hash, parts.route.as_bytes());
        field(&mut hash, parts.method.as_str().as_bytes());
        authority(&mut hash, parts.authority);
        field(&mut hash, parts.target.path().as_bytes());
        query::hash(&mut hash, parts.target.query(), &spec.credentials);
        body::hash(&mut hash, spec.body, parts.body, &self.salt);
        match spec.profile {
            Profile::Http => hash.write_u8(b'h'),
            Profile::Api => headers::hash_all(&mut hash, parts.headers),
        }
        finish(&hash)
    }

    /// The second-level key of a request under the `Vary` names of an answer.
    pub fn selected(&self, primary: KeyHash, names: &[HeaderName], request: &HeaderMap) -> KeyHash {
        let mut hash = self.hasher(b'v');
        hash.write(&primary.0.to_le_bytes());
        headers::hash_selected(&mut hash, names, request);
        finish(&hash)
    }

    /// A keyed digest of a credential, as the name of the tenant it stands for (credential mode `pass`).
    pub fn principal(&self, credential: &[u8]) -> KeyHash {
        let mut hash = self.hasher(b'c');
        field(&mut hash, credential);
        finish(&hash)
    }

    /// A keyed digest of the bytes of a request's head: equal ones are the same request.
    pub fn raw_head(&self, head: &[u8]) -> KeyHash {
        let mut hash = self.hasher(b'r');
        hash.write(head);
        finish(&hash)
    }

    fn hasher(&self, domain: u8) -> SipHasher13 {
        let mut hash = SipHasher13::new_with_key(&self.salt);
        hash.write(&[KEY_VERSION, domain]);
        hash
    }
}

/// A field with its length first, so that no two lists of fields run together to the same bytes.
fn field(hash: &mut SipHasher13, bytes: &[u8]) {
    hash.write_u64(bytes.len() as u64);
    hash.write(bytes);
}

/// Of a host the case means nothing, of a path it does.
fn authority(hash: &mut SipHasher13, text: &str) {
    let (host, path) = text.split_at(text.find('/').unwrap_or(text.len()));
    if host.bytes().any(|b| b.is_ascii_uppercase()) {
        field(hash, (host.to_ascii_lowercase() + path).as_bytes());
    } else {
        field(hash, text.as_bytes());
    }
}

fn finish(hash: &SipHasher13) -> KeyHash {
    KeyHash(hash.finish128().as_u128())
}

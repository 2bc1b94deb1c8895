//! The request body in the key.

use std::hash::Hasher;

use serde_json::Value;
use siphasher::sip128::SipHasher13;

use super::{BodyKey, field};

/// Bodies up to this size are hashed as they are; longer ones through a blake3 digest, which is faster there.
const SHORT: usize = 1024;

pub(super) fn hash(hash: &mut SipHasher13, how: BodyKey, body: &[u8], salt: &[u8; 16]) {
    match how {
        BodyKey::Ignored => hash.write(b"-"),
        BodyKey::Exact => bytes(hash, b'x', body, salt),
        BodyKey::CanonicalJson => match canonical(body) {
            Some(text) => bytes(hash, b'j', &text, salt),
            None => bytes(hash, b'x', body, salt),
        },
    }
}

fn bytes(hash: &mut SipHasher13, form: u8, body: &[u8], salt: &[u8; 16]) {
    hash.write(&[form]);
    if body.len() <= SHORT {
        field(hash, body);
        return;
    }
    let mut key = [0u8; 32];
    key[..16].copy_from_slice(salt);
    hash.write_u64(body.len() as u64);
    hash.write(blake3::keyed_hash(&key, body).as_bytes());
}

/// Canonical form, or `None` when parsing would lose something: not JSON, duplicate members.
fn canonical(body: &[u8]) -> Option<Vec<u8>> {
    let value: Value = serde_json::from_slice(body).ok()?;
    serde_json::to_vec(&value).ok()
}

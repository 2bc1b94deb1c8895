//! The request body in the key.

use std::collections::BTreeMap;
use std::hash::Hasher;

use serde_json::value::RawValue;
use siphasher::sip128::SipHasher13;

use super::{BodyKey, field};

/// Bodies up to this size are hashed as they are; longer ones through a blake3 digest, which is faster there.
const SHORT: usize = 1024;
/// Nesting beyond this is hashed byte by byte.
const DEEPEST: usize = 64;

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
    hash.write_u64(body.len() as u64);
    if body.len() <= SHORT {
        field(hash, body);
        return;
    }
    let mut key = [0u8; 32];
    key[..16].copy_from_slice(salt);
    hash.write(blake3::keyed_hash(&key, body).as_bytes());
}

/// The JSON text with sorted members and without white space between tokens. Strings and numbers keep their spelling: no
/// number is rounded. `None` for what is not JSON, has a member twice, or is nested too deeply.
fn canonical(body: &[u8]) -> Option<Vec<u8>> {
    // Most requests have none, and an error costs more than the whole key.
    if body.is_empty() {
        return None;
    }
    let value: &RawValue = serde_json::from_slice(body).ok()?;
    let mut out = Vec::with_capacity(body.len());
    write(value, &mut out, 0).then_some(out)
}

fn write(value: &RawValue, out: &mut Vec<u8>, depth: usize) -> bool {
    let text = value.get();
    if depth > DEEPEST {
        return false;
    }
    match text.as_bytes().first() {
        Some(b'{') => {
            let Ok(Members(members)) = serde_json::from_str(text) else { return false };
            out.push(b'{');
            for (name, member) in members {
                // Names are compared decoded, so that two spellings of one name are seen as a duplicate.
                out.extend_from_slice(serde_json::Value::from(name).to_string().as_bytes());
                out.push(b':');
                if !write(member, out, depth + 1) {
                    return false;
                }
                out.push(b',');
            }
            out.push(b'}');
        }
        Some(b'[') => {
            let Ok(items) = serde_json::from_str::<Vec<&RawValue>>(text) else { return false };
            out.push(b'[');
            for item in items {
                if !write(item, out, depth + 1) {
                    return false;
                }
                out.push(b',');
            }
            out.push(b']');
        }
        _ => out.extend_from_slice(text.as_bytes()),
    }
    true
}

/// The members of an object; a name that comes twice is an error.
struct Members<'a>(BTreeMap<String, &'a RawValue>);

impl<'de> serde::Deserialize<'de> for Members<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Members<'de>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = BTreeMap::new();
                while let Some((name, value)) = map.next_entry::<String, &'de RawValue>()? {
                    if members.insert(name, value).is_some() {
                        return Err(serde::de::Error::custom("a member comes twice"));
                    }
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

//! A version of the configuration that a fleet keeps, as it stands in Redis: signed by what only its instances know, so that whoever can write there cannot order
//! anything in an operator's name.

use farthing_types::Time;
use serde::{Deserialize, Serialize};

use crate::reload::Digest;

/// Bytes of a text at most.
pub const LONGEST_TEXT: usize = 256 << 10;
/// Characters of a note at most.
const LONGEST_NOTE: usize = 512;
/// Hexadecimal digits of the signature, which stands in front on a line of its own.
const SIGNED: usize = 64;

/// What was pushed, by whom and when.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    /// The fleet that it is for.
    pub fleet: String,
    /// The text (TOML).
    pub text: String,
    /// When it was pushed: later than what it was put over, whatever the clock said.
    pub at: Time,
    /// By what right, as in the audit log.
    pub by: String,
    /// Who that said it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub said: Option<String>,
    /// The instance that took it.
    pub instance: String,
    /// What was said about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// The version that it says again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub again: Option<u64>,
}

/// Why a version is not taken for one of the fleet's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is not signed by an instance of this fleet with this salt: see that `salt` is alike on all, or who can write to its Redis")]
pub struct Foreign;

/// The key that the instances of a fleet sign with; not the salt's own, by which keys of the cache are made.
pub fn signing_key(salt: &str) -> [u8; 32] {
    blake3::derive_key("farthing fleet 1: whose configuration", salt.as_bytes())
}

/// What tells texts apart: the first half of the SHA-256, as of a file.
pub fn digest(text: &str) -> Digest {
    let whole = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    hex::encode(&whole.as_ref()[..16]).into()
}

impl Document {
    /// Of a fleet.
    pub fn new(fleet: &str, text: String, at: Time) -> Self {
        Self { fleet: fleet.to_owned(), text, at, ..Self::default() }
    }

    /// With a note, cut where it is long.
    pub fn with_note(mut self, note: Option<&str>) -> Self {
        self.note = note.map(|note| note.chars().filter(|c| !c.is_control()).take(LONGEST_NOTE).collect());
        self
    }

    /// Digest of its text.
    pub fn digest(&self) -> Digest {
        digest(&self.text)
    }

    /// What tells which of two is newer, as text.
    pub fn mark(&self) -> String {
        format!("{:020}-{}", self.at.nanos().max(0), self.digest())
    }

    /// As it stands in Redis.
    pub fn seal(&self, key: &[u8; 32]) -> String {
        // Plain data: nothing of it can fail.
        let words = serde_json::to_string(self).unwrap_or_default();
        format!("{}\n{words}", blake3::keyed_hash(key, words.as_bytes()).to_hex())
    }

    /// What stands there, under this mark.
    ///
    /// # Errors
    /// It is not this fleet's.
    pub fn open(sealed: &[u8], (fleet, mark): (&str, &str), key: &[u8; 32]) -> Result<Self, Foreign> {
        Self::open_any(sealed, fleet, key).and_then(|document| if document.mark() == mark { Ok(document) } else { Err(Foreign) })
    }

    /// What stands there, whatever its mark.
    ///
    /// # Errors
    /// It is not this fleet's.
    pub fn open_any(sealed: &[u8], fleet: &str, key: &[u8; 32]) -> Result<Self, Foreign> {
        let (signature, words) = sealed.split_at_checked(SIGNED).ok_or(Foreign)?;
        let words = words.strip_prefix(b"\n").ok_or(Foreign)?;
        // Compared in constant time.
        let signature = blake3::Hash::from_hex(signature).map_err(|_| Foreign)?;
        if signature != blake3::keyed_hash(key, words) {
            return Err(Foreign);
        }
        let document: Self = serde_json::from_slice(words).map_err(|_| Foreign)?;
        let fits = document.fleet == fleet && document.text.len() <= LONGEST_TEXT;
        if fits { Ok(document) } else { Err(Foreign) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_signed_for_this_fleet_is_read() {
        let (key, other) = (signing_key("a salt of some length"), signing_key("another salt of some length"));
        let document = Document { by: "token".to_owned(), ..Document::new("f", "[providers.openai]\n".to_owned(), Time::from_millis(5)) };
        let (sealed, mark) = (document.seal(&key), document.mark());
        assert_eq!(Document::open(sealed.as_bytes(), ("f", &mark), &key), Ok(document.clone()));
        assert_eq!(Document::open(sealed.as_bytes(), ("g", &mark), &key), Err(Foreign), "another fleet's");
        assert_eq!(Document::open(sealed.as_bytes(), ("f", "x"), &key), Err(Foreign), "under another's mark");
        assert_eq!(Document::open(sealed.as_bytes(), ("f", &mark), &other), Err(Foreign), "another salt");
        for place in 0..sealed.len() {
            let mut bytes = sealed.clone().into_bytes();
            bytes[place] ^= 1;
            // In a hexadecimal digit the case may be what has changed: that is the same signature.
            let same = place < SIGNED && bytes[place].to_ascii_lowercase() == sealed.as_bytes()[place];
            assert!(same || Document::open(&bytes, ("f", &mark), &key).is_err(), "byte {place}");
            assert!(Document::open(&sealed.as_bytes()[..place], ("f", &mark), &key).is_err(), "{place} bytes of it");
        }
    }

    #[test]
    fn a_later_one_has_a_greater_mark() {
        let at = |nanos: i64| Document::new("f", String::new(), Time::from_nanos(nanos)).mark();
        assert!(at(9) < at(10) && at(-1) == at(0) && at(i64::MAX) > at(1));
        assert_eq!(&*digest("abc"), "ba7816bf8f01cfea414140de5dae2223");
    }
}

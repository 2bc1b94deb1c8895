//! Encryption of values: AES-256-GCM, so that whoever reads the disk or the Redis learns sizes and times only, and changes nothing unseen.

use std::fmt;

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};

/// Bytes of a key's id.
const ID: usize = 8;
/// Bytes that sealing adds behind the content: tag, key id, nonce.
pub(super) const SEAL_OVERHEAD: usize = 16 + ID + NONCE_LEN;
/// A shorter secret can be guessed.
const SHORTEST: usize = 32;

/// Why there is no cipher, or why it did not work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SealError {
    /// The secret has fewer than 32 bytes.
    ShortSecret,
    /// The system has no random numbers, or the cipher refused.
    Cipher,
}

impl fmt::Display for SealError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ShortSecret => "the secret is shorter than 32 bytes; make one with `openssl rand -hex 32`",
            Self::Cipher => "encryption failed: the system gives no random numbers",
        })
    }
}
impl std::error::Error for SealError {}

/// Seals and opens values with one key. The nonce is drawn at random for each value, which is safe for 2^32 values under one key
/// (NIST SP 800-38D, 8.3); change the secret before that.
pub struct Sealer {
    key: LessSafeKey,
    id: [u8; ID],
    random: SystemRandom,
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer(..)")
    }
}

impl Sealer {
    /// The cipher of a secret; the key and its id are derived from it, so that no form of the secret is written anywhere.
    ///
    /// # Errors
    /// [`SealError::ShortSecret`].
    pub fn new(secret: &[u8]) -> Result<Self, SealError> {
        if secret.len() < SHORTEST {
            return Err(SealError::ShortSecret);
        }
        let key = blake3::derive_key("farthing 2026 L2 values, AES-256-GCM key", secret);
        let digest = blake3::derive_key("farthing 2026 L2 values, id of the key", secret);
        let mut id = [0; ID];
        id.copy_from_slice(digest.split_at(ID).0);
        let key = UnboundKey::new(&AES_256_GCM, &key).map_err(|_| SealError::Cipher)?;
        Ok(Self { key: LessSafeKey::new(key), id, random: SystemRandom::new() })
    }

    /// Encrypts `content` in place and appends tag, key id and nonce. `bound` is authenticated along with it: it opens only there.
    pub(super) fn seal(&self, content: &mut Vec<u8>, bound: &[u8]) -> Result<(), SealError> {
        let mut nonce = [0; NONCE_LEN];
        self.random.fill(&mut nonce).map_err(|_| SealError::Cipher)?;
        let unique = Nonce::assume_unique_for_key(nonce);
        self.key.seal_in_place_append_tag(unique, Aad::from(bound), content).map_err(|_| SealError::Cipher)?;
        content.extend_from_slice(&self.id);
        content.extend_from_slice(&nonce);
        Ok(())
    }

    /// Whether `sealed` says that it was made with this key.
    pub(super) fn made(&self, sealed: &[u8]) -> bool {
        sealed.len() >= SEAL_OVERHEAD && sealed.get(sealed.len() - NONCE_LEN - ID..sealed.len() - NONCE_LEN) == Some(&self.id[..])
    }

    /// The content; `None` when it, or what it is bound to, was changed.
    pub(super) fn open(&self, mut sealed: Vec<u8>, bound: &[u8]) -> Option<Vec<u8>> {
        let nonce: [u8; NONCE_LEN] = sealed.get(sealed.len().checked_sub(NONCE_LEN)?..)?.try_into().ok()?;
        sealed.truncate(sealed.len().checked_sub(NONCE_LEN + ID)?);
        let length = self.key.open_in_place(Nonce::assume_unique_for_key(nonce), Aad::from(bound), &mut sealed).ok()?.len();
        sealed.truncate(length);
        Some(sealed)
    }
}

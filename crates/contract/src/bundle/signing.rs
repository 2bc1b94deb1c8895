//! Ed25519 signatures of bundles (RFC 8032): who holds a key that an operator trusts has made or approved the version.
//!
//! What is signed is kind, version and digest of the manifest, which holds the digests of all other files. Signatures stand beside the manifest in
//! [`SIGNATURE_FILE`], a line for each: `ed25519 KEY-ID SIGNATURE`, so that a version can be signed by the next key before the last one is given up.

use std::fmt;
use std::path::Path;

use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};

use super::disk::{read_bounded, sha256, version_dir, write_atomic};
use super::{Bundle, BundleError, Check, Kind};

/// File name of the signatures within a version's directory.
pub const SIGNATURE_FILE: &str = "manifest.sig";
/// Largest file of signatures that is read, bytes: about seventy of them.
pub const MAX_SIGNATURES: u64 = 16 << 10;
const ALGORITHM: &str = "ed25519";
const PUBLIC: &str = "ed25519:";
const PRIVATE: &str = "farthing-signing-key:";
const BYTES: usize = 32;

/// A key whose signatures are trusted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey([u8; BYTES]);

impl PublicKey {
    /// The key of these bytes.
    pub const fn new(bytes: [u8; BYTES]) -> Self {
        Self(bytes)
    }

    /// Reads `ed25519:` and 64 hexadecimal digits; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        bytes(text.trim().strip_prefix(PUBLIC)?).map(Self)
    }

    /// What signatures name it by: the first 16 hexadecimal digits of its SHA-256.
    pub fn id(&self) -> String {
        sha256(&self.0)[..16].to_owned()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PUBLIC}{}", hex::encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A key that signs. It is printed by [`SigningKey::to_text`] alone.
pub struct SigningKey {
    seed: [u8; BYTES],
    pair: Ed25519KeyPair,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.public().id())
    }
}

impl SigningKey {
    /// The key of a seed, which must be random; `None` where the library does not take it.
    pub fn from_seed(seed: [u8; BYTES]) -> Option<Self> {
        Ed25519KeyPair::from_seed_unchecked(&seed).ok().map(|pair| Self { seed, pair })
    }

    /// Reads what [`to_text`](Self::to_text) wrote; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        Self::from_seed(bytes(text.trim().strip_prefix(PRIVATE)?)?)
    }

    /// The key as a line of text. A secret.
    pub fn to_text(&self) -> String {
        format!("{PRIVATE}{}\n", hex::encode(self.seed))
    }

    /// What others trust it by.
    pub fn public(&self) -> PublicKey {
        let mut bytes = [0; BYTES];
        bytes.copy_from_slice(self.pair.public_key().as_ref());
        PublicKey(bytes)
    }

    /// The line that signs a version.
    pub fn sign(&self, kind: Kind, version: u32, digest: &str) -> String {
        let signature = self.pair.sign(&message(kind, version, digest));
        format!("{ALGORITHM} {} {}\n", self.public().id(), hex::encode(signature.as_ref()))
    }
}

fn bytes(text: &str) -> Option<[u8; BYTES]> {
    let mut bytes = [0; BYTES];
    hex::decode_to_slice(text, &mut bytes).ok().map(|()| bytes)
}

/// Nothing else that a key may sign begins so.
fn message(kind: Kind, version: u32, digest: &str) -> Vec<u8> {
    format!("farthing bundle v1\n{kind}/{version}\n{digest}\n").into_bytes()
}

/// The key in a file.
///
/// # Errors
/// It cannot be read, or is no such key.
pub fn read_key(path: &Path) -> Result<SigningKey, BundleError> {
    let wrong = |detail: String| BundleError::Key { path: path.to_path_buf(), detail };
    let bytes = read_bounded(path, MAX_SIGNATURES).map_err(|error| wrong(error.to_string()))?;
    SigningKey::parse(&String::from_utf8_lossy(&bytes)).ok_or_else(|| wrong("it is no signing key".to_owned()))
}

/// Signs a version on disk, beside the signatures it has. One by the same key is replaced.
///
/// # Errors
/// There is no such version, its manifest cannot be read, or its directory cannot be written.
pub fn sign_version(root: &Path, (kind, version): (Kind, u32), key: &SigningKey) -> Result<(), BundleError> {
    // What is signed is whole: every byte against its digest.
    let bundle = Bundle::read(root, kind, version)?;
    let known = signatures(root, kind, version)?;
    let own = format!("{ALGORITHM} {} ", key.public().id());
    let mut text: String = known.lines().filter(|line| !line.starts_with(&own)).map(|line| format!("{line}\n")).collect();
    text += &key.sign(kind, version, &bundle.digest);
    write_atomic(&bundle.dir.join(SIGNATURE_FILE), text.as_bytes())
}

/// The signatures of a version on disk, as they stand in its file; empty where it has none.
///
/// # Errors
/// The file cannot be read, or is too long.
pub fn signatures(root: &Path, kind: Kind, version: u32) -> Result<String, BundleError> {
    read_file(root, kind, version).map(Option::unwrap_or_default)
}

/// As [`signatures`]; `None` where there is no file.
fn read_file(root: &Path, kind: Kind, version: u32) -> Result<Option<String>, BundleError> {
    let path = version_dir(root, kind, version).join(SIGNATURE_FILE);
    if !path.exists() {
        return Ok(None);
    }
    let bytes = read_bounded(&path, MAX_SIGNATURES).map_err(BundleError::io(&path))?;
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

/// Puts signatures that others have of a version on disk beside its own.
///
/// # Errors
/// As [`signatures`]; its directory cannot be written.
pub fn add_signatures(root: &Path, (kind, version): (Kind, u32), others: &str) -> Result<(), BundleError> {
    let own = signatures(root, kind, version)?;
    let all = together(&own, others);
    if all == own { Ok(()) } else { write_atomic(&version_dir(root, kind, version).join(SIGNATURE_FILE), all.as_bytes()) }
}

/// The lines of both, each once, as many as are read again: `first` as it is, then what else there is. Which of them are good is asked where a version is
/// loaded.
pub fn together(first: &str, more: &str) -> String {
    let mut all = first.to_owned();
    for line in more.lines().filter(|line| signature_of(line).is_some()) {
        if !all.lines().any(|known| known == line) && ((all.len() + line.len() + 2) as u64) < MAX_SIGNATURES {
            if !all.is_empty() && !all.ends_with('\n') {
                all.push('\n');
            }
            all += line;
            all.push('\n');
        }
    }
    all
}

/// Checks that one of `trusted` has signed the version whose manifest has this digest; without trusted keys nothing is asked for.
///
/// # Errors
/// The check `signed`, with what was found.
pub fn check(root: &Path, (kind, version): (Kind, u32), digest: &str, trusted: &[PublicKey]) -> Result<(), BundleError> {
    if trusted.is_empty() {
        return Ok(());
    }
    let refuse = |detail: String| Err(BundleError::refused(format!("{kind}/{version}"), Check::Signed, detail));
    let text = match read_file(root, kind, version) {
        Ok(Some(text)) => text,
        Ok(None) => return refuse(format!("it has no {SIGNATURE_FILE}, and `models.trusted_keys` are set")),
        Err(error) => return refuse(error.to_string()),
    };
    let message = message(kind, version, digest);
    let (mut strangers, mut wrong) = (Vec::new(), Vec::new());
    for (id, signature) in text.lines().filter_map(signature_of) {
        let Some(key) = trusted.iter().find(|key| key.id() == id) else {
            strangers.push(id);
            continue;
        };
        let signature = hex::decode(signature).unwrap_or_default();
        if UnparsedPublicKey::new(&ED25519, key.0).verify(&message, &signature).is_ok() {
            return Ok(());
        }
        wrong.push(id);
    }
    match (wrong.first(), strangers.first()) {
        (Some(id), _) => refuse(format!("the signature of key {id} is not of this manifest")),
        (None, Some(_)) => refuse(format!("it is signed by {}, none of which is in `models.trusted_keys`", strangers.join(", "))),
        (None, None) => refuse(format!("{SIGNATURE_FILE} has no signature")),
    }
}

/// Key and signature of a line; lines of algorithms that are not known are passed over.
fn signature_of(line: &str) -> Option<(&str, &str)> {
    let mut words = line.split_whitespace();
    (words.next()? == ALGORITHM).then_some(())?;
    Some((words.next()?, words.next()?))
}

#[cfg(test)]
#[path = "signing_tests.rs"]
mod tests;

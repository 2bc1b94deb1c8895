//! What stands in a store: an entry in its flat form, or the names of the fields by which a key's answers were selected.
//!
//! The content comes first, so that a plain entry is read without a copy; behind it, when sealed, tag, key id and nonce; at the
//! end 8 bytes: kind u8, sealed u8, zero u8, version u8, magic `FRL2`. Kind 0 is an entry, which has a checksum of its own; kind 1 is a
//! selector: key u128, tenant, generation u64, count of names, names (each a u32 length and bytes), then 16 bytes of blake3 of all that; kind 2 is the list of
//! purges (`purges.rs`), which stands under a key of its own.

use std::sync::Arc;

use bytes::Bytes;
use farthing_freshness::{Entry, Subject};
use farthing_types::KeyHash;
use http::HeaderName;

use super::purges::Purges;
use super::seal::{SealError, Sealer};
use super::{GetOutcome, seal};

const MAGIC: &[u8; 4] = b"FRL2";
const VERSION: u8 = 1;
const TRAILER: usize = 8;
const CHECKSUM: usize = 16;
/// More names than this no answer's `Vary` has kept.
const MOST_NAMES: usize = 256;

/// What an envelope adds to a value at most, bytes.
pub(super) const OVERHEAD: usize = TRAILER + seal::SEAL_OVERHEAD;

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Entry = 0,
    Selector = 1,
    Purges = 2,
}

/// Where the list of purges stands; no key digest is this text.
pub(super) const PURGES_KEY: KeyHash = KeyHash(u128::from_be_bytes(*b"farthing: purges"));

/// What was found under a key.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Found {
    /// The answer.
    Entry(Box<Entry>),
    /// The answers stand elsewhere.
    Selector(Selector),
}

/// Stands under a primary key whose answers have a `Vary`, and says where they are. When it is deleted, so are they: the next one
/// has another generation, and what stands under the old one is never found again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Selector {
    /// The fields by which answers are selected.
    pub names: Arc<[HeaderName]>,
    /// Drawn when it is made.
    pub generation: u64,
}

impl Selector {
    /// Where the answer with this second-level key stands.
    pub(super) fn place(&self, key: KeyHash) -> KeyHash {
        let mut text = [0; 24];
        let (head, tail) = text.split_at_mut(16);
        head.copy_from_slice(&key.0.to_le_bytes());
        tail.copy_from_slice(&self.generation.to_le_bytes());
        KeyHash(u128::from_le_bytes(checksum(&text)))
    }
}

/// An entry as a value to be stored under `place`: its primary key, or where its selector says. Its purge sequence number is its mark: that up to which
/// the fleet's purges had been carried out when its call began.
pub(super) fn wrap_entry(entry: &Entry, place: KeyHash, sealer: Option<&Sealer>) -> Result<Bytes, SealError> {
    close(entry.encode(), Kind::Entry, place, sealer)
}

/// The selector that stands under the primary key of answers with a `Vary`.
pub(super) fn wrap_selector(subject: &Subject, selector: &Selector, sealer: Option<&Sealer>) -> Result<Bytes, SealError> {
    let mut out = Vec::with_capacity(128);
    out.extend_from_slice(&subject.key.0.to_le_bytes());
    put(&mut out, subject.tenant.as_bytes());
    out.extend_from_slice(&selector.generation.to_le_bytes());
    out.extend_from_slice(&(selector.names.len() as u32).to_le_bytes());
    selector.names.iter().for_each(|name| put(&mut out, name.as_str().as_bytes()));
    let sum = checksum(&out);
    out.extend_from_slice(&sum);
    close(out, Kind::Selector, subject.key, sealer)
}

pub(crate) fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out.extend_from_slice(bytes);
}

pub(super) fn checksum(content: &[u8]) -> [u8; CHECKSUM] {
    let mut out = [0; CHECKSUM];
    out.copy_from_slice(blake3::hash(content).as_bytes().split_at(CHECKSUM).0);
    out
}

/// What a sealed value is bound to: it opens under this key and as this kind only.
fn bound(kind: u8, key: KeyHash) -> [u8; 18] {
    let mut out = [0; 18];
    let (head, tail) = out.split_at_mut(2);
    head.copy_from_slice(&[VERSION, kind]);
    tail.copy_from_slice(&key.0.to_le_bytes());
    out
}

fn close(mut content: Vec<u8>, kind: Kind, key: KeyHash, sealer: Option<&Sealer>) -> Result<Bytes, SealError> {
    content.reserve(OVERHEAD);
    if let Some(sealer) = sealer {
        sealer.seal(&mut content, &bound(kind as u8, key))?;
    }
    content.extend_from_slice(&[kind as u8, u8::from(sealer.is_some()), 0, VERSION]);
    content.extend_from_slice(MAGIC);
    Ok(Bytes::from(content))
}

/// Reads what stands under `key`, which belongs to `subject`.
pub(super) fn unwrap(value: &Bytes, key: KeyHash, subject: &Arc<Subject>, sealer: Option<&Sealer>) -> Result<Found, GetOutcome> {
    let (kind, content) = open(value, key, sealer)?;
    match kind {
        Kind::Selector => selector(&content, subject).map(Found::Selector),
        Kind::Purges => Err(GetOutcome::OtherKey),
        Kind::Entry => Ok(Found::Entry(Box::new(Entry::decode(&content, subject)?))),
    }
}

/// The list of purges as a value.
pub(super) fn wrap_purges(purges: &Purges, sealer: Option<&Sealer>) -> Result<Bytes, SealError> {
    close(purges.encode(), Kind::Purges, PURGES_KEY, sealer)
}

/// Reads the list of purges.
pub(super) fn unwrap_purges(value: &Bytes, sealer: Option<&Sealer>) -> Result<Purges, GetOutcome> {
    match open(value, PURGES_KEY, sealer)? {
        (Kind::Purges, content) => Purges::decode(&content).ok_or(GetOutcome::Damaged),
        _ => Err(GetOutcome::OtherKey),
    }
}

/// Whether what stands under `key` names a tenant: an entry or a selector of its, or a list of purges about it. What cannot be opened
/// names nobody.
pub(super) fn names_tenant(value: &Bytes, key: KeyHash, tenant: &str, sealer: Option<&Sealer>) -> bool {
    let mut written = Vec::with_capacity(4 + tenant.len());
    put(&mut written, tenant.as_bytes());
    // Everywhere a name stands as its length and its bytes.
    open(value, key, sealer).is_ok_and(|(_, content)| content.windows(written.len()).any(|bytes| bytes == written))
}

/// Takes the envelope off.
fn open(value: &Bytes, key: KeyHash, sealer: Option<&Sealer>) -> Result<(Kind, Bytes), GetOutcome> {
    let end = value.len().checked_sub(TRAILER).ok_or(GetOutcome::Foreign)?;
    let trailer: [u8; TRAILER] = value.get(end..).and_then(|t| t.try_into().ok()).ok_or(GetOutcome::Foreign)?;
    let [kind, sealed @ (0 | 1), 0, VERSION, m0, m1, m2, m3] = trailer else { return Err(GetOutcome::Foreign) };
    if [m0, m1, m2, m3] != *MAGIC {
        return Err(GetOutcome::Foreign);
    }
    let known = [Kind::Entry, Kind::Selector, Kind::Purges].into_iter().find(|k| *k as u8 == kind).ok_or(GetOutcome::Foreign)?;
    let content = value.slice(..end);
    match (sealed, sealer) {
        (0, None) => Ok((known, content)),
        (1, Some(sealer)) if sealer.made(&content) => {
            let opened = sealer.open(content.to_vec(), &bound(kind, key)).ok_or(GetOutcome::Damaged)?;
            Ok((known, Bytes::from(opened)))
        }
        // A plain value where values are sealed could be anybody's: it is refused like one of another key.
        _ => Err(GetOutcome::OtherSecret),
    }
}

fn selector(content: &[u8], subject: &Subject) -> Result<Selector, GetOutcome> {
    let end = content.len().checked_sub(CHECKSUM).ok_or(GetOutcome::Damaged)?;
    let (mut fields, sum) = content.split_at(end);
    if checksum(fields) != sum {
        return Err(GetOutcome::Damaged);
    }
    let key = take(&mut fields, 16).and_then(|b| b.try_into().ok()).map(u128::from_le_bytes);
    let tenant = text(&mut fields);
    if key != Some(subject.key.0) || tenant != Some(subject.tenant.as_bytes()) {
        return Err(GetOutcome::OtherKey);
    }
    let generation = take(&mut fields, 8).and_then(|b| b.try_into().ok()).map(u64::from_le_bytes);
    let selector = generation.and_then(|generation| Some(Selector { names: names(&mut fields)?, generation }));
    selector.filter(|_| fields.is_empty()).ok_or(GetOutcome::Damaged)
}

fn names(fields: &mut &[u8]) -> Option<Arc<[HeaderName]>> {
    let count = length(fields).filter(|n| *n <= MOST_NAMES)?;
    (0..count).map(|_| HeaderName::from_bytes(text(fields)?).ok()).collect()
}

pub(crate) fn take<'a>(fields: &mut &'a [u8], n: usize) -> Option<&'a [u8]> {
    let (taken, rest) = fields.split_at_checked(n)?;
    *fields = rest;
    Some(taken)
}

pub(super) fn length(fields: &mut &[u8]) -> Option<usize> {
    usize::try_from(u32::from_le_bytes(take(fields, 4)?.try_into().ok()?)).ok()
}

pub(crate) fn text<'a>(fields: &mut &'a [u8]) -> Option<&'a [u8]> {
    let n = length(fields)?;
    take(fields, n)
}

//! What stands in a store: an entry in its flat form, or the names of the fields by which a key's answers were selected.
//!
//! The content comes first, so that a plain entry is read without a copy; behind it, when sealed, tag, key id and nonce; at the
//! end 8 bytes: kind u8, sealed u8, zero u8, version u8, magic `FRL2`. Kind 0 is an entry, which has a checksum of its own; kind 1 is a
//! selector: key u128, tenant, count of names, names (each a u32 length and bytes), then 16 bytes of blake3 of all that.

use std::sync::Arc;

use bytes::Bytes;
use farthing_freshness::{Entry, Subject};
use farthing_types::KeyHash;
use http::HeaderName;

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
}

/// What was found under a key.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Found {
    /// The answer.
    Entry(Box<Entry>),
    /// The answers stand under second-level keys, selected by these fields.
    Selector(Arc<[HeaderName]>),
}

/// An entry as a value to be stored under `entry.stored_key()`.
pub(super) fn wrap_entry(entry: &Entry, stats: &farthing_freshness::entry::KeyStats, sealer: Option<&Sealer>) -> Result<Bytes, SealError> {
    close(entry.encode(stats), Kind::Entry, entry.stored_key(), sealer)
}

/// The selector that stands under the primary key of answers with a `Vary`.
pub(super) fn wrap_selector(subject: &Subject, names: &[HeaderName], sealer: Option<&Sealer>) -> Result<Bytes, SealError> {
    let mut out = Vec::with_capacity(128);
    out.extend_from_slice(&subject.key.0.to_le_bytes());
    put(&mut out, subject.tenant.as_bytes());
    out.extend_from_slice(&(names.len() as u32).to_le_bytes());
    names.iter().for_each(|name| put(&mut out, name.as_str().as_bytes()));
    let sum = checksum(&out);
    out.extend_from_slice(&sum);
    close(out, Kind::Selector, subject.key, sealer)
}

fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out.extend_from_slice(bytes);
}

fn checksum(content: &[u8]) -> [u8; CHECKSUM] {
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
    let end = value.len().checked_sub(TRAILER).ok_or(GetOutcome::Foreign)?;
    let trailer: [u8; TRAILER] = value.get(end..).and_then(|t| t.try_into().ok()).ok_or(GetOutcome::Foreign)?;
    let [kind, sealed, 0, VERSION, m0, m1, m2, m3] = trailer else { return Err(GetOutcome::Foreign) };
    if [m0, m1, m2, m3] != *MAGIC || kind > 1 || sealed > 1 {
        return Err(GetOutcome::Foreign);
    }
    let content = value.slice(..end);
    let content = match (sealed, sealer) {
        (0, None) => content,
        (1, Some(sealer)) if sealer.made(&content) => {
            Bytes::from(sealer.open(content.to_vec(), &bound(kind, key)).ok_or(GetOutcome::Damaged)?)
        }
        // A plain value where values are sealed could be anybody's: it is refused like one of another key.
        _ => return Err(GetOutcome::OtherSecret),
    };
    if kind == Kind::Selector as u8 {
        return selector(&content, subject).map(Found::Selector);
    }
    let entry = Entry::decode(&content, subject)?;
    if entry.stored_key() != key {
        return Err(GetOutcome::OtherKey);
    }
    Ok(Found::Entry(Box::new(entry)))
}

fn selector(content: &[u8], subject: &Subject) -> Result<Arc<[HeaderName]>, GetOutcome> {
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
    names(&mut fields).filter(|_| fields.is_empty()).ok_or(GetOutcome::Damaged)
}

fn names(fields: &mut &[u8]) -> Option<Arc<[HeaderName]>> {
    let count = length(fields).filter(|n| *n <= MOST_NAMES)?;
    (0..count).map(|_| HeaderName::from_bytes(text(fields)?).ok()).collect()
}

fn take<'a>(fields: &mut &'a [u8], n: usize) -> Option<&'a [u8]> {
    let (taken, rest) = fields.split_at_checked(n)?;
    *fields = rest;
    Some(taken)
}

fn length(fields: &mut &[u8]) -> Option<usize> {
    usize::try_from(u32::from_le_bytes(take(fields, 4)?.try_into().ok()?)).ok()
}

fn text<'a>(fields: &mut &'a [u8]) -> Option<&'a [u8]> {
    let n = length(fields)?;
    take(fields, n)
}

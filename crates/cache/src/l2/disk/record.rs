//! Records in a segment, and the index file beside a segment that is full.
//!
//! Little endian. A segment begins with 16 bytes: `FRTHL2SG`, version u32, zero u32. Then records, each 48 bytes of header and the value:
//! magic u32, kind u8 (1 value, 2 deletion), three zero bytes, key u128, expiry i64 (ms since 1970), length u32, checksum of the value u64,
//! checksum of the 44 bytes before it u32. An index file begins with `FRTHL2IX`, version u32, count u32, length of the segment u64; then for each record
//! key u128, offset u32, length u32, expiry i64 (i64::MIN: a deletion); then 32 bytes of blake3 of all that.

use farthing_types::KeyHash;

pub(super) const VERSION: u32 = 1;
pub(super) const SEGMENT_MAGIC: &[u8; 8] = b"FRTHL2SG";
pub(super) const SEGMENT_HEADER: usize = 16;
pub(super) const HEADER: usize = 48;

const RECORD_MAGIC: u32 = 0x3252_4652;
const INDEX_MAGIC: &[u8; 8] = b"FRTHL2IX";
const INDEX_HEADER: usize = 24;
const INDEX_RECORD: usize = 32;
const DIGEST: usize = 32;
/// Marks a deletion in an index file.
const DELETED: i64 = i64::MIN;

pub(super) fn segment_header() -> [u8; SEGMENT_HEADER] {
    let mut out = [0; SEGMENT_HEADER];
    let (magic, rest) = out.split_at_mut(8);
    magic.copy_from_slice(SEGMENT_MAGIC);
    rest.split_at_mut(4).0.copy_from_slice(&VERSION.to_le_bytes());
    out
}

/// What a record's header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub key: KeyHash,
    /// When it expires, ms since 1970; `None` for a deletion.
    pub expires: Option<i64>,
    pub len: u32,
    pub sum: u64,
}

/// First eight bytes of blake3.
pub(super) fn sum64(bytes: &[u8]) -> u64 {
    let digest = blake3::hash(bytes);
    digest.as_bytes().first_chunk().copied().map_or(0, u64::from_le_bytes)
}

impl Header {
    pub(super) fn of_value(key: KeyHash, value: &[u8], expires: i64) -> Self {
        Self { key, expires: Some(expires.max(DELETED + 1)), len: value.len() as u32, sum: sum64(value) }
    }
    pub(super) fn of_deletion(key: KeyHash) -> Self {
        Self { key, expires: None, len: 0, sum: 0 }
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&RECORD_MAGIC.to_le_bytes());
        out.extend_from_slice(&[if self.expires.is_some() { 1 } else { 2 }, 0, 0, 0]);
        out.extend_from_slice(&self.key.0.to_le_bytes());
        out.extend_from_slice(&self.expires.unwrap_or(DELETED).to_le_bytes());
        out.extend_from_slice(&self.len.to_le_bytes());
        out.extend_from_slice(&self.sum.to_le_bytes());
        let sum = sum64(out.get(start..).unwrap_or_default()) as u32;
        out.extend_from_slice(&sum.to_le_bytes());
    }

    /// `None` when the bytes are no header.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let (fields, sum) = bytes.get(..HEADER)?.split_at(HEADER - 4);
        if u32::from_le_bytes(sum.try_into().ok()?) != sum64(fields) as u32 {
            return None;
        }
        let mut r = Fields(fields);
        if r.u32()? != RECORD_MAGIC {
            return None;
        }
        let kind = r.take::<4>()?;
        let key = KeyHash(u128::from_le_bytes(r.take()?));
        let expires = i64::from_le_bytes(r.take()?);
        let (len, sum) = (r.u32()?, u64::from_le_bytes(r.take()?));
        match kind {
            [1, 0, 0, 0] => Some(Self { key, expires: Some(expires), len, sum }),
            [2, 0, 0, 0] if len == 0 => Some(Self { key, expires: None, len, sum }),
            _ => None,
        }
    }
}

/// Where a record stands in its segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Placed {
    pub key: KeyHash,
    /// Of the record's header.
    pub offset: u32,
    /// Of the value.
    pub len: u32,
    /// `None` for a deletion.
    pub expires: Option<i64>,
}

/// The index file of a segment.
pub(super) fn write_index(placed: &[Placed], segment_len: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(INDEX_HEADER + placed.len() * INDEX_RECORD + DIGEST);
    out.extend_from_slice(INDEX_MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&(placed.len() as u32).to_le_bytes());
    out.extend_from_slice(&segment_len.to_le_bytes());
    for p in placed {
        out.extend_from_slice(&p.key.0.to_le_bytes());
        out.extend_from_slice(&p.offset.to_le_bytes());
        out.extend_from_slice(&p.len.to_le_bytes());
        out.extend_from_slice(&p.expires.unwrap_or(DELETED).to_le_bytes());
    }
    let digest = blake3::hash(&out);
    out.extend_from_slice(digest.as_bytes());
    out
}

/// The records of an index file; `None` when it is not whole or not of a segment of this length.
pub(super) fn read_index(bytes: &[u8], segment_len: u64) -> Option<Vec<Placed>> {
    let (content, digest) = bytes.split_at_checked(bytes.len().checked_sub(DIGEST)?)?;
    if blake3::hash(content).as_bytes() != digest {
        return None;
    }
    let mut r = Fields(content);
    let header = r.take::<8>()? == *INDEX_MAGIC && r.u32()? == VERSION;
    let count = usize::try_from(r.u32()?).ok()?;
    let of = u64::from_le_bytes(r.take()?);
    if !header || of != segment_len || r.0.len() != count.checked_mul(INDEX_RECORD)? {
        return None;
    }
    (0..count).map(|_| r.placed().filter(|p| p.end() <= segment_len)).collect()
}

impl Placed {
    /// Where the record ends.
    pub(super) fn end(&self) -> u64 {
        u64::from(self.offset) + HEADER as u64 + u64::from(self.len)
    }
    pub(super) fn record_bytes(&self) -> usize {
        HEADER + self.len as usize
    }
}

struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }
    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take()?))
    }
    fn placed(&mut self) -> Option<Placed> {
        let key = KeyHash(u128::from_le_bytes(self.take()?));
        let (offset, len) = (self.u32()?, self.u32()?);
        let expires = i64::from_le_bytes(self.take()?);
        Some(Placed { key, offset, len, expires: (expires != DELETED).then_some(expires) })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_header_survives_and_damage_is_noticed(key: u128, value: Vec<u8>, expires: i64, at in 0..HEADER, bit in 0u8..8) {
            let header = Header::of_value(KeyHash(key), &value, expires);
            let mut out = Vec::new();
            header.write(&mut out);
            prop_assert_eq!(out.len(), HEADER);
            prop_assert_eq!(Header::read(&out), Some(header));
            prop_assert_eq!(Header::read(&out[..at]), None);
            out[at] ^= 1 << bit;
            prop_assert_eq!(Header::read(&out), None);
        }

        #[test]
        fn an_index_survives_and_damage_is_noticed(n in 0usize..20, at: prop::sample::Index, bit in 0u8..8) {
            let placed: Vec<Placed> = (0..n as u32)
                .map(|i| Placed { key: KeyHash(u128::from(i)), offset: i * 100, len: i, expires: (i % 3 > 0).then_some(i64::from(i)) })
                .collect();
            let mut bytes = write_index(&placed, 9_999);
            prop_assert_eq!(read_index(&bytes, 9_999), Some(placed.clone()));
            prop_assert_eq!(read_index(&bytes, 9_998), None);
            prop_assert_eq!(read_index(&bytes[..at.index(bytes.len())], 9_999), None);
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            prop_assert_eq!(read_index(&bytes, 9_999), None);
            if n > 1 {
                prop_assert_eq!(read_index(&write_index(&placed, 10), 10), None, "a record beyond the end");
            }
        }

        #[test]
        fn whatever_bytes_come_nothing_breaks(bytes: Vec<u8>) {
            prop_assert_eq!(Header::read(&bytes), None);
            prop_assert_eq!(read_index(&bytes, 100), None);
        }
    }
}

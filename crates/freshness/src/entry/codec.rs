//! The flat form of an entry.

use std::sync::Arc;

use bytes::Bytes;

use super::{Entry, KeyStats, Subject};

/// Version of the flat form; the first byte after the magic.
pub const FORMAT_VERSION: u8 = 1;

/// Why bytes are no entry for what was asked. All of them count as a miss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// Not of this format, or of a version that this release cannot read.
    Foreign,
    /// The checksum or a length does not fit.
    Damaged,
    /// An entry, but for another key or tenant.
    OtherKey,
}

pub(super) fn encode(_entry: &Entry, _stats: &KeyStats) -> Vec<u8> {
    Vec::new()
}

pub(super) fn decode(_bytes: &Bytes, _expected: &Arc<Subject>) -> Result<Entry, DecodeError> {
    Err(DecodeError::Foreign)
}

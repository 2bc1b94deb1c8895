//! The fields of a stored head, in one piece of memory.

use std::fmt;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::semantics::targeted::OWN;

/// Bytes before each field: the lengths of name and value.
const LENGTHS: usize = 8;
/// In the length of a name: the field is for us alone. Such fields come last, so that whoever reads what is for clients ends before them.
const OURS: u32 = 1 << 31;

/// Names and values in their order, copied into one block of exactly their size. A map of the same fields takes several times as much, and
/// its values keep the whole buffer that they were read into.
///
/// What is for us alone (`Farthing-Cache-Control`) is kept apart: it is in [`Fields::whole`] and nowhere else.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Fields(Bytes);

impl Fields {
    /// The fields of a map.
    pub fn of(headers: &HeaderMap) -> Self {
        let size = headers.iter().map(|(name, value)| LENGTHS + name.as_str().len() + value.len()).sum();
        let mut block = Vec::with_capacity(size);
        for ours in [false, true] {
            for (name, value) in headers.iter().filter(|(name, _)| (**name == OWN) == ours) {
                let length = |n: usize| u32::try_from(n).unwrap_or(u32::MAX >> 1);
                block.extend_from_slice(&(length(name.as_str().len()) | if ours { OURS } else { 0 }).to_le_bytes());
                block.extend_from_slice(&length(value.len()).to_le_bytes());
                block.extend_from_slice(name.as_str().as_bytes());
                block.extend_from_slice(value.as_bytes());
            }
        }
        Self(block.into())
    }

    /// Names and values of what clients get.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut rest = &self.0[..];
        std::iter::from_fn(move || {
            let (name, value, after) = split(rest, 0)?;
            rest = after;
            Some((name, value))
        })
    }

    /// Names and values of all there is.
    pub fn whole(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut rest = &self.0[..];
        std::iter::from_fn(move || {
            let (name, value, after) = split(rest, OURS)?;
            rest = after;
            Some((name, value))
        })
    }

    /// How many clients get.
    pub fn len(&self) -> usize {
        self.iter().count()
    }
    /// Whether clients get none.
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }
    /// Bytes of memory behind them.
    pub fn bytes(&self) -> usize {
        self.0.len()
    }

    /// The values of a name.
    pub fn all<'a>(&'a self, name: &'a HeaderName) -> impl Iterator<Item = &'a [u8]> {
        let name = name.as_str().as_bytes();
        self.iter().filter(move |(n, _)| *n == name).map(|(_, value)| value)
    }
    /// The first value of a name.
    pub fn get(&self, name: &HeaderName) -> Option<&[u8]> {
        let name = name.as_str().as_bytes();
        self.iter().find(|(n, _)| *n == name).map(|(_, value)| value)
    }
    /// The same as a value, which shares this memory.
    pub fn value(&self, name: &HeaderName) -> Option<HeaderValue> {
        self.get(name).and_then(|value| self.shared(value))
    }

    /// As a map with room for `room` further fields. Its values share this memory.
    pub fn to_map(&self, room: usize) -> HeaderMap {
        self.map_of(self.iter(), self.len() + room)
    }

    /// As [`Fields::to_map`], with what is for us alone.
    pub fn to_whole_map(&self, room: usize) -> HeaderMap {
        self.map_of(self.whole(), self.whole().count() + room)
    }

    fn map_of<'a>(&self, fields: impl Iterator<Item = (&'a [u8], &'a [u8])>, room: usize) -> HeaderMap {
        let mut out = HeaderMap::with_capacity(room);
        for (name, value) in fields {
            // They were a name and a value before.
            if let (Ok(name), Some(value)) = (HeaderName::from_bytes(name), self.shared(value)) {
                out.append(name, value);
            }
        }
        out
    }

    fn shared(&self, value: &[u8]) -> Option<HeaderValue> {
        HeaderValue::from_maybe_shared(self.0.slice_ref(value)).ok()
    }
}

/// The first field, and what follows it. `beside`: bits that may be set in the length of its name.
fn split(block: &[u8], beside: u32) -> Option<(&[u8], &[u8], &[u8])> {
    let (lengths, rest) = block.split_first_chunk::<LENGTHS>()?;
    let [a, b, c, d, e, f, g, h] = *lengths;
    // With a bit that may not be set the length is beyond any block.
    let (name, value) = ((u32::from_le_bytes([a, b, c, d]) & !beside) as usize, u32::from_le_bytes([e, f, g, h]) as usize);
    let (name, rest) = rest.split_at_checked(name)?;
    let (value, rest) = rest.split_at_checked(value)?;
    Some((name, value, rest))
}

impl From<HeaderMap> for Fields {
    fn from(headers: HeaderMap) -> Self {
        Self::of(&headers)
    }
}

impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |bytes| String::from_utf8_lossy(bytes);
        f.debug_map().entries(self.whole().map(|(name, value)| (text(name), text(value)))).finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn map() -> impl Strategy<Value = HeaderMap> {
        let field = ("[a-z][a-z0-9-]{0,12}", proptest::collection::vec(0x20u8..=0x7e, 0..40));
        proptest::collection::vec(field, 0..12).prop_map(|fields| {
            let mut map = HeaderMap::new();
            for (name, value) in fields {
                map.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_bytes(&value).unwrap());
            }
            map
        })
    }

    proptest! {
        #[test]
        fn nothing_is_lost_or_added(map in map()) {
            let fields = Fields::of(&map);
            prop_assert_eq!(fields.to_map(3), map.clone());
            prop_assert_eq!(fields.len(), map.len());
            prop_assert_eq!(fields.is_empty(), map.is_empty());
            prop_assert_eq!(fields.bytes(), map.iter().map(|(n, v)| LENGTHS + n.as_str().len() + v.len()).sum::<usize>());
            for name in map.keys() {
                let all: Vec<&[u8]> = map.get_all(name).iter().map(HeaderValue::as_bytes).collect();
                prop_assert_eq!(fields.all(name).collect::<Vec<_>>(), all);
                prop_assert_eq!(fields.value(name), map.get(name).cloned());
            }
            let absent = HeaderName::from_static("x-not-there-at-all");
            prop_assert!(fields.get(&absent).is_none());
        }
    }

    proptest! {
        #[test]
        fn what_is_for_us_alone_is_kept_apart(map in map(), ours in proptest::collection::vec("[a-z0-9=-]{0,20}", 1..3), place in any::<bool>()) {
            let mut whole = HeaderMap::new();
            let put = |whole: &mut HeaderMap| whole.extend(ours.iter().map(|value| (OWN, value.parse().unwrap())));
            if place {
                put(&mut whole);
            }
            whole.extend(map.clone());
            if !place {
                put(&mut whole);
            }
            let fields = Fields::of(&whole);
            prop_assert_eq!(fields.to_map(0), map.clone());
            prop_assert_eq!(fields.to_whole_map(0), whole);
            prop_assert_eq!((fields.len(), fields.is_empty()), (map.len(), map.is_empty()));
            prop_assert_eq!(fields.whole().count(), map.len() + ours.len());
            prop_assert!(fields.get(&OWN).is_none() && fields.all(&OWN).next().is_none());
        }
    }
}

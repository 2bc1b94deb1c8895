//! The fields of a stored head, in one piece of memory.

use std::fmt;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::semantics::targeted::{OWN, OWN_NAME};

/// Names that many answers have: a byte stands for each. Only memory has these bytes, so the list may be changed at will, up to 127 names: the last byte
/// is [`OURS`].
const KNOWN: [&str; 64] = [
    "accept-ranges",
    "access-control-allow-credentials",
    "access-control-allow-headers",
    "access-control-allow-methods",
    "access-control-allow-origin",
    "access-control-expose-headers",
    "access-control-max-age",
    "age",
    "allow",
    "alt-svc",
    "cache-control",
    "cache-groups",
    "cache-tag",
    "cdn-cache-control",
    "cf-cache-status",
    "cf-ray",
    "connection",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-length",
    "content-location",
    "content-range",
    "content-security-policy",
    "content-type",
    "cross-origin-resource-policy",
    "date",
    "digest",
    "etag",
    "expires",
    "last-modified",
    "link",
    "location",
    "nel",
    "openai-model",
    "openai-organization",
    "openai-processing-ms",
    "openai-version",
    "pragma",
    "ratelimit",
    "ratelimit-policy",
    "referrer-policy",
    "report-to",
    "request-id",
    "retry-after",
    "server",
    "server-timing",
    "strict-transport-security",
    "surrogate-key",
    "timing-allow-origin",
    "vary",
    "via",
    "warning",
    "x-cache",
    "x-content-type-options",
    "x-frame-options",
    "x-powered-by",
    "x-ratelimit-limit",
    "x-ratelimit-remaining",
    "x-ratelimit-reset",
    "x-request-id",
    "x-runtime",
    "x-served-by",
    "x-xss-protection",
];
/// A first byte from here on stands for a name.
const CODES: u8 = 0x80;
/// Stands for the name of the field that is for us alone. Such fields come last, so that whoever reads what is for clients ends before them.
const OURS: u8 = 0xff;
/// A length of so many bytes or more takes four bytes behind this one.
const LONG: u8 = 0x7f;

/// Names and values in their order, copied into one block of their size, or less where names are known. A map of the same fields takes several times as much, and
/// its values keep the whole buffer that they were read into.
///
/// What is for us alone (`Farthing-Cache-Control`) is kept apart: it is in [`FieldsOf::whole`] and nowhere else.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Fields(Bytes);

/// Fields where they lie: a part of some block of memory.
#[derive(Clone, Copy)]
pub struct FieldsOf<'a> {
    fields: &'a [u8],
    block: &'a Bytes,
}

impl<'a> FieldsOf<'a> {
    /// Fields that [`Fields`] has written, in this part of a block.
    pub(super) const fn new(fields: &'a [u8], block: &'a Bytes) -> Self {
        Self { fields, block }
    }

    /// Names and values of what clients get.
    #[inline]
    pub fn iter(self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        self.until(Some(OURS))
    }
    /// Names and values of all there is.
    pub fn whole(self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        self.until(None)
    }

    #[inline]
    fn until(self, end: Option<u8>) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        let mut rest = self.fields;
        std::iter::from_fn(move || {
            let (name, value, after) = split(rest).filter(|_| rest.first().copied() != end)?;
            rest = after;
            Some((name, value))
        })
    }

    /// How many clients get.
    pub fn len(self) -> usize {
        self.iter().count()
    }
    /// Whether clients get none.
    pub fn is_empty(self) -> bool {
        self.iter().next().is_none()
    }

    /// The values of a name.
    #[inline]
    pub fn all(self, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
        let name = name.as_str().as_bytes();
        self.iter().filter(move |(n, _)| *n == name).map(|(_, value)| value)
    }
    /// The first value of a name.
    #[inline]
    pub fn get(self, name: &HeaderName) -> Option<&'a [u8]> {
        let name = name.as_str().as_bytes();
        self.iter().find(|(n, _)| *n == name).map(|(_, value)| value)
    }
    /// The same as a value, which shares this memory.
    pub fn value(self, name: &HeaderName) -> Option<HeaderValue> {
        self.get(name).and_then(|value| self.shared(value))
    }

    /// As a map with room for `room` further fields. Its values share this memory.
    pub fn to_map(self, room: usize) -> HeaderMap {
        self.map_of(self.iter(), self.len() + room)
    }
    /// As [`FieldsOf::to_map`], with what is for us alone.
    pub fn to_whole_map(self, room: usize) -> HeaderMap {
        self.map_of(self.whole(), self.whole().count() + room)
    }

    fn map_of(self, fields: impl Iterator<Item = (&'a [u8], &'a [u8])>, room: usize) -> HeaderMap {
        let mut out = HeaderMap::with_capacity(room);
        for (name, value) in fields {
            // They were a name and a value before.
            if let (Ok(name), Some(value)) = (HeaderName::from_bytes(name), self.shared(value)) {
                out.append(name, value);
            }
        }
        out
    }

    /// The same in a block of their own.
    pub(super) fn to_fields(self) -> Fields {
        Fields(Bytes::copy_from_slice(self.fields))
    }

    fn shared(self, value: &[u8]) -> Option<HeaderValue> {
        HeaderValue::from_maybe_shared(self.block.slice_ref(value)).ok()
    }
}

impl Fields {
    /// The fields of a map.
    pub fn of(headers: &HeaderMap) -> Self {
        let size = headers.iter().map(|(name, value)| 2 + name.as_str().len() + value.len()).sum();
        let mut block = Vec::with_capacity(size);
        for (name, value) in headers.iter().filter(|(name, _)| **name != OWN) {
            match KNOWN.binary_search(&name.as_str()) {
                Ok(place) => block.push(CODES | place as u8),
                Err(_) => put(&mut block, name.as_str().as_bytes()),
            }
            put(&mut block, value.as_bytes());
        }
        for value in headers.get_all(OWN) {
            block.push(OURS);
            put(&mut block, value.as_bytes());
        }
        block.shrink_to_fit();
        Self(block.into())
    }

    /// To be read.
    pub fn view(&self) -> FieldsOf<'_> {
        FieldsOf::new(&self.0, &self.0)
    }
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

fn put(block: &mut Vec<u8>, text: &[u8]) {
    match u8::try_from(text.len()) {
        Ok(short @ 0..LONG) => block.push(short),
        _ => {
            block.push(LONG);
            block.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes());
        }
    }
    block.extend_from_slice(text);
}

/// The first field, and what follows it.
#[inline]
fn split(block: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (first, rest) = block.split_first()?;
    let (name, rest) = match first.checked_sub(CODES) {
        Some(_) if *first == OURS => (OWN_NAME.as_bytes(), rest),
        Some(code) => (KNOWN.get(usize::from(code))?.as_bytes(), rest),
        None => text(block)?,
    };
    let (value, rest) = text(rest)?;
    Some((name, value, rest))
}

/// The first text, and what follows it.
#[inline]
fn text(block: &[u8]) -> Option<(&[u8], &[u8])> {
    let (first, rest) = block.split_first()?;
    if *first < LONG {
        return rest.split_at_checked(usize::from(*first));
    }
    let (length, rest) = rest.split_first_chunk()?;
    rest.split_at_checked(u32::from_le_bytes(*length) as usize)
}

impl From<HeaderMap> for Fields {
    fn from(headers: HeaderMap) -> Self {
        Self::of(&headers)
    }
}

impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |bytes| String::from_utf8_lossy(bytes);
        f.debug_map().entries(self.view().whole().map(|(name, value)| (text(name), text(value)))).finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn map() -> impl Strategy<Value = HeaderMap> {
        let name = prop_oneof!["[a-z][a-z0-9-]{0,12}", "[a-z]{120,300}", proptest::sample::select(&KNOWN[..]).prop_map(str::to_owned)];
        let field = (name, proptest::collection::vec(0x20u8..=0x7e, 0..200));
        proptest::collection::vec(field, 0..12).prop_map(|fields| {
            let mut map = HeaderMap::new();
            for (name, value) in fields {
                map.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_bytes(&value).unwrap());
            }
            map
        })
    }

    #[test]
    fn known_names_stand_in_order_and_are_names() {
        assert!(KNOWN.is_sorted() && KNOWN.len() <= usize::from(OURS - CODES));
        for name in KNOWN {
            assert_eq!(HeaderName::from_static(name).as_str(), name);
        }
    }

    proptest! {
        #[test]
        fn nothing_is_lost_or_added(map in map()) {
            let fields = Fields::of(&map);
            let view = fields.view();
            prop_assert_eq!(view.to_map(3), map.clone());
            prop_assert_eq!(view.len(), map.len());
            prop_assert_eq!(view.is_empty(), map.is_empty());
            prop_assert!(fields.as_bytes().len() <= map.iter().map(|(n, v)| 10 + n.as_str().len() + v.len()).sum::<usize>());
            for name in map.keys() {
                let all: Vec<&[u8]> = map.get_all(name).iter().map(HeaderValue::as_bytes).collect();
                prop_assert_eq!(view.all(name).collect::<Vec<_>>(), all);
                prop_assert_eq!(view.value(name), map.get(name).cloned());
            }
            let absent = HeaderName::from_static("x-not-there-at-all");
            prop_assert!(view.get(&absent).is_none());
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
            prop_assert_eq!(fields.view().to_map(0), map.clone());
            prop_assert_eq!(fields.view().to_whole_map(0), whole);
            prop_assert_eq!((fields.view().len(), fields.view().is_empty()), (map.len(), map.is_empty()));
            prop_assert_eq!(fields.view().whole().count(), map.len() + ours.len());
            prop_assert!(fields.view().get(&OWN).is_none() && fields.view().all(&OWN).next().is_none());
        }
    }
}

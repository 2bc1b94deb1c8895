//! Purge tags: `Surrogate-Key` (separated by white space), `Cache-Tag` (by commas), and the groups of `Cache-Groups` (RFC 9875). The first two are for us, and go no further; nor does our own targeted field.

use std::collections::HashSet;
use std::sync::Arc;

use farthing_freshness::Mode;
use farthing_freshness::semantics::invalidation::origin_of;
use farthing_freshness::semantics::sf::strings;
use farthing_freshness::semantics::targeted::OWN;
use farthing_types::UncachedReason;
use http::{HeaderMap, HeaderName, HeaderValue, Uri};

use crate::route::RouteState;

const SURROGATE_KEY: HeaderName = HeaderName::from_static("surrogate-key");
const CACHE_TAG: HeaderName = HeaderName::from_static("cache-tag");
const CACHE_GROUPS: HeaderName = HeaderName::from_static("cache-groups");
const CACHE_GROUP_INVALIDATION: HeaderName = HeaderName::from_static("cache-group-invalidation");
/// Before a tag that is a group: `group, https://api.example.com:443 NAME`.
const GROUP: &str = "group, ";
/// Tags of one answer, and bytes of one and of all of them.
const MOST: usize = 256;
const LONGEST: usize = 1024;
const MOST_BYTES: usize = 16 << 10;

/// The tags that a head names, each once. Upper and lower case are two tags.
///
/// # Errors
/// More, longer or other tags than can be kept: a purge by one that was left out would miss the answer.
pub fn read(headers: &HeaderMap) -> Result<Vec<Arc<str>>, UncachedReason> {
    let mut tags = Gathered::default();
    tags.named(headers)?;
    Ok(tags.tags)
}

/// The tags of an answer of this origin, its groups among them.
///
/// # Errors
/// As [`read`].
pub fn of_answer(headers: &HeaderMap, origin: &Uri) -> Result<Vec<Arc<str>>, UncachedReason> {
    let mut tags = Gathered::default();
    tags.named(headers)?;
    tags.groups(headers, origin)?;
    Ok(tags.tags)
}

/// The tags of an answer that was confirmed: what the confirmation does not say anew still holds.
///
/// # Errors
/// As [`read`].
pub fn confirmed(stored: Vec<Arc<str>>, told: &HeaderMap, origin: &Uri) -> Result<Vec<Arc<str>>, UncachedReason> {
    let mut tags = Gathered::default();
    let mut still = |groups: bool| stored.iter().filter(|tag| tag.starts_with(GROUP) == groups).try_for_each(|tag| tags.add(tag));
    match (are_named(told), told.contains_key(CACHE_GROUPS)) {
        (false, false) => return Ok(stored),
        (true, false) => still(true)?,
        (false, true) => still(false)?,
        (true, true) => {}
    }
    tags.named(told)?;
    tags.groups(told, origin)?;
    Ok(tags.tags)
}

/// What an answer to a write says about groups of its origin (RFC 9875 section 3): the tags of those that have changed, and how many more it
/// names than can be told apart.
pub fn changed_groups(headers: &HeaderMap, origin: &Uri) -> (Vec<Arc<str>>, u64) {
    let names = strings(headers, &CACHE_GROUP_INVALIDATION);
    let origin = origin_of(origin);
    let mut tags = Gathered::default();
    let over = names.iter().filter(|name| tags.add(&group(&origin, name)).is_err()).count();
    (tags.tags, over as u64)
}

/// A group as a tag. No field can name one: between commas there is none, and between white space there is no white space.
fn group(origin: &str, name: &str) -> String {
    format!("{GROUP}{origin} {name}")
}

/// Tags on their way into an entry, within bounds.
#[derive(Default)]
struct Gathered {
    tags: Vec<Arc<str>>,
    seen: HashSet<Arc<str>>,
    bytes: usize,
}

impl Gathered {
    fn add(&mut self, tag: &str) -> Result<(), UncachedReason> {
        if self.seen.contains(tag) {
            return Ok(());
        }
        if self.tags.len() == MOST || tag.len() > LONGEST || self.bytes + tag.len() > MOST_BYTES {
            return Err(UncachedReason::Tags);
        }
        self.bytes += tag.len();
        let tag: Arc<str> = tag.into();
        self.seen.insert(tag.clone());
        self.tags.push(tag);
        Ok(())
    }

    fn named(&mut self, headers: &HeaderMap) -> Result<(), UncachedReason> {
        for (name, by_commas) in [(SURROGATE_KEY, false), (CACHE_TAG, true)] {
            for value in headers.get_all(name) {
                let text = std::str::from_utf8(value.as_bytes()).map_err(|_| UncachedReason::Tags)?;
                let between = |c: char| if by_commas { c == ',' } else { c.is_ascii_whitespace() };
                text.split(between).map(str::trim).filter(|tag| !tag.is_empty()).try_for_each(|tag| self.add(tag))?;
            }
        }
        Ok(())
    }

    fn groups(&mut self, headers: &HeaderMap, origin: &Uri) -> Result<(), UncachedReason> {
        let names = strings(headers, &CACHE_GROUPS);
        if names.is_empty() {
            return Ok(());
        }
        let origin = origin_of(origin);
        names.iter().try_for_each(|name| self.add(&group(&origin, name)))
    }
}

/// Whether a head names tags of ours.
pub fn are_named(headers: &HeaderMap) -> bool {
    headers.contains_key(SURROGATE_KEY) || headers.contains_key(CACHE_TAG)
}

/// Takes what is for us alone, tags and `Farthing-Cache-Control`, out of what a client gets; a route that only observes changes nothing.
pub fn strip(headers: &mut HeaderMap, route: &RouteState) -> Ours {
    if route.rules.mode == Mode::Observe {
        return Ours::default();
    }
    headers.remove(SURROGATE_KEY);
    headers.remove(CACHE_TAG);
    let ours = Ours(headers.get_all(OWN).iter().cloned().collect());
    headers.remove(OWN);
    ours
}

/// What clients do not get of a head but entries keep: a confirmation (304) says again only what has changed.
#[derive(Debug, Default)]
pub struct Ours(Vec<HeaderValue>);

impl Ours {
    /// The head as an entry keeps it.
    pub fn beside(self, mut headers: HeaderMap) -> HeaderMap {
        for value in self.0 {
            headers.append(OWN, value);
        }
        headers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(fields: &[(&'static str, &[u8])]) -> Result<Vec<String>, UncachedReason> {
        let headers: HeaderMap =
            fields.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_bytes(value).unwrap())).collect();
        read(&headers).map(|tags| tags.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn each_field_has_its_own_separator() {
        assert_eq!(of(&[]).unwrap(), [""; 0]);
        assert_eq!(of(&[("surrogate-key", b" a  b,c\td ")]).unwrap(), ["a", "b,c", "d"]);
        assert_eq!(of(&[("cache-tag", b"a b , c,, A,a b")]).unwrap(), ["a b", "c", "A"]);
        assert_eq!(of(&[("cache-tag", b"x"), ("surrogate-key", b"x y"), ("surrogate-key", b"z")]).unwrap(), ["x", "y", "z"]);
        assert_eq!(of(&[("cache-tag", "größe".as_bytes())]).unwrap(), ["größe"]);
    }

    #[test]
    fn beyond_the_bounds_nothing_is_left_out_silently() {
        let many = |n: usize| (0..n).map(|n| n.to_string()).collect::<Vec<_>>().join(" ");
        assert_eq!(of(&[("surrogate-key", many(MOST).as_bytes())]).unwrap().len(), MOST);
        let long = "x".repeat(LONGEST);
        assert_eq!(of(&[("surrogate-key", long.as_bytes())]).unwrap().len(), 1);
        let heavy: Vec<String> = (10..27).map(|n| format!("{n}{}", "x".repeat(LONGEST - 2))).collect();
        for (field, value) in [
            ("surrogate-key", many(MOST + 1)),
            ("cache-tag", many(MOST + 1).replace(' ', ",")),
            ("cache-tag", format!("{long}x")),
            ("surrogate-key", heavy.join(" ")),
        ] {
            assert_eq!(of(&[(field, value.as_bytes())]), Err(UncachedReason::Tags), "{field}");
        }
        assert_eq!(of(&[("cache-tag", b"a,\xff")]), Err(UncachedReason::Tags), "no text");
    }

    fn head(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        fields.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    fn texts(tags: Result<Vec<Arc<str>>, UncachedReason>) -> Vec<String> {
        tags.unwrap().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn groups_are_tags_of_their_origin_that_no_field_can_name() {
        let origin: Uri = "https://API.test/v1".parse().unwrap();
        let told = head(&[("surrogate-key", "a"), ("cache-groups", "\"g\", \"G h\";x=1")]);
        assert_eq!(texts(of_answer(&told, &origin)), ["a", "group, https://api.test:443 g", "group, https://api.test:443 G h"]);
        assert_eq!(texts(of_answer(&head(&[("cache-groups", "g, h")]), &origin)), [""; 0], "tokens are no strings");
        assert_eq!(texts(read(&told)), ["a"], "of a request groups are not read");
        let changed = head(&[("cache-group-invalidation", "\"g\""), ("cache-groups", "\"h\"")]);
        assert_eq!(changed_groups(&changed, &origin), (vec!["group, https://api.test:443 g".into()], 0));
        let forged = head(&[("surrogate-key", "group, https://api.test:443 g"), ("cache-tag", "group, https://api.test:443 g")]);
        assert!(texts(read(&forged)).iter().all(|tag| !tag.starts_with(GROUP)));
    }

    #[test]
    fn groups_are_bounded_and_what_is_left_out_of_an_invalidation_is_counted() {
        let origin: Uri = "http://o".parse().unwrap();
        let many = |n: usize| (0..n).map(|n| format!("\"{n}\"")).collect::<Vec<_>>().join(",");
        let with = |name: &'static str, n| {
            let mut headers = HeaderMap::new();
            headers.insert(name, many(n).parse().unwrap());
            headers
        };
        assert_eq!(of_answer(&with("cache-groups", MOST), &origin).unwrap().len(), MOST);
        assert_eq!(of_answer(&with("cache-groups", MOST + 1), &origin), Err(UncachedReason::Tags));
        let (tags, over) = changed_groups(&with("cache-group-invalidation", MOST + 3), &origin);
        assert_eq!((tags.len(), over), (MOST, 3));
    }

    #[test]
    fn a_confirmation_changes_what_it_says_and_leaves_the_rest() {
        let origin: Uri = "http://o".parse().unwrap();
        let stored = of_answer(&head(&[("cache-tag", "a"), ("cache-groups", "\"g\"")]), &origin).unwrap();
        let after = |fields: &[(&'static str, &'static str)]| texts(confirmed(stored.clone(), &head(fields), &origin));
        assert_eq!(after(&[]), ["a", "group, http://o:80 g"]);
        assert_eq!(after(&[("surrogate-key", "b")]), ["group, http://o:80 g", "b"]);
        assert_eq!(after(&[("cache-groups", "\"h\"")]), ["a", "group, http://o:80 h"]);
        assert_eq!(after(&[("cache-tag", "b"), ("cache-groups", "\"h\"")]), ["b", "group, http://o:80 h"]);
    }
}

//! What instances say to each other, as bytes: a version, then things said one after the other, each a kind u8 and its content.

use std::sync::Arc;

use farthing_cache::Purge;
use farthing_fleet::{BusPlace, EntryId, LONGEST_MESSAGE};
use farthing_types::{RouteName, Time};
use serde::{Deserialize, Serialize};

use crate::lifecycle::freeze::FreezeOrder;
use crate::switches::Order;

const VERSION: u8 = 1;
/// Words of a purge may have so many bytes together; what is longer is purged by the beginning of its path, or by less.
const LONGEST_PURGE: usize = 1_500;
const LONGEST_PATH: usize = 1_024;

/// One thing said.
#[derive(Clone, Debug, PartialEq)]
pub enum Said {
    /// Purged, hard or soft.
    Purge(Purge, bool),
    /// Aliases of predictors have moved: look at the store.
    Models,
    /// An operator's order, with when it was given: later than all before it that whoever gave it knew of, and of two orders the later one holds.
    Flag(Box<Flag>, Time),
    /// What an event says that all instances read from one source.
    Read(Box<Read>),
    /// There is another configuration: look at what the fleet keeps.
    Config,
}

/// What an event says that all instances read from one source, or a part of that.
#[derive(Clone, Debug, PartialEq)]
pub struct Read {
    /// The source.
    pub source: Arc<str>,
    /// The event, or the last of some that were missed.
    pub event: EntryId,
    /// With this all is said that the events up to it say.
    pub last: bool,
    /// The source may have begun anew: what was told of it says nothing.
    pub anew: bool,
    /// What it purges, each with whether it is soft.
    pub purges: Vec<(Purge, bool)>,
}

/// An operator's order that holds on all instances.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Flag {
    /// Automation is frozen, or goes on.
    Freeze {
        /// The order; `None`: it goes on.
        order: Option<FreezeOrder>,
        /// Why.
        reason: Arc<str>,
        /// When it was given, on the clock of who gave it.
        at: Time,
    },
    /// A route, or everything, is bypassed.
    BypassOn(Order),
    /// The bypass of a route, or every one, has ended.
    BypassOff {
        /// Which.
        route: Option<RouteName>,
        /// Why.
        reason: Arc<str>,
        /// When it was given, on the clock of who gave it.
        at: Time,
    },
}

impl Flag {
    /// When it was given, on the clock of who gave it.
    pub const fn given(&self) -> Time {
        match self {
            Self::Freeze { at, .. } | Self::BypassOff { at, .. } => *at,
            Self::BypassOn(order) => order.since,
        }
    }
}

/// Something is said that this release does not understand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Foreign;

impl Said {
    /// A purge that is short enough to be told, of all that is meant and perhaps of more.
    pub fn purge(purge: &Purge, soft: bool) -> Self {
        Self::Purge(short(purge), soft)
    }

    /// The purges of an event, in parts that are short enough to be told.
    pub fn read(read: &Read) -> Vec<Self> {
        let empty = || Read { source: read.source.clone(), event: read.event, last: false, anew: read.anew, purges: Vec::new() };
        let (mut out, mut part, mut bytes) = (Vec::new(), empty(), 0);
        for (purge, soft) in &read.purges {
            let purge = short(purge);
            let more = words(&purge) + 1;
            if bytes > 0 && bytes + more > LONGEST_PURGE {
                out.push(std::mem::replace(&mut part, empty()));
                bytes = 0;
            }
            bytes += more;
            part.purges.push((purge, *soft));
        }
        part.last = read.last;
        out.push(part);
        out.into_iter().map(|part| Self::Read(Box::new(part))).collect()
    }

    /// What it purges, each with whether it is soft.
    pub fn purges(&self) -> impl Iterator<Item = (&Purge, bool)> {
        let (one, several) = match self {
            Self::Purge(purge, soft) => (Some((purge, *soft)), None),
            Self::Read(read) => (None, Some(&read.purges)),
            Self::Models | Self::Flag(..) | Self::Config => (None, None),
        };
        one.into_iter().chain(several.into_iter().flatten().map(|(purge, soft)| (purge, *soft)))
    }

    /// The source that it tells of.
    fn source(&self) -> Option<&Arc<str>> {
        if let Self::Read(read) = self { Some(&read.source) } else { None }
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Purge(purge, soft) => {
                out.push(u8::from(*soft));
                purge.write(out);
            }
            Self::Models => out.push(2),
            Self::Config => out.push(9),
            Self::Flag(flag, at) => {
                out.push(4);
                out.extend_from_slice(&at.nanos().to_le_bytes());
                // A flag is plain data: nothing of it can fail.
                put(out, &serde_json::to_vec(flag).unwrap_or_default());
            }
            Self::Read(read) => {
                out.push(5 + u8::from(read.last) + 2 * u8::from(read.anew));
                put(out, read.source.as_bytes());
                [read.event.0, read.event.1].iter().for_each(|part| out.extend_from_slice(&part.to_le_bytes()));
                out.extend_from_slice(&(read.purges.len() as u32).to_le_bytes());
                for (purge, soft) in &read.purges {
                    out.push(u8::from(*soft));
                    purge.write(out);
                }
            }
        }
    }

    /// Its bytes in a message.
    pub fn size(&self) -> usize {
        let mut out = Vec::new();
        self.write(&mut out);
        out.len()
    }
}

/// A purge of all that is meant and perhaps of more, short enough to be told.
fn short(purge: &Purge) -> Purge {
    let beginning = |path: &str| -> Arc<str> {
        let end = (0..=LONGEST_PATH.min(path.len())).rev().find(|at| path.is_char_boundary(*at)).unwrap_or_default();
        path.get(..end).unwrap_or_default().into()
    };
    match purge {
        long if words(long) <= LONGEST_PURGE => purge.clone(),
        Purge::Path { route, path, .. } => Purge::Prefix { route: Some(route.clone()), path: beginning(path) },
        Purge::Within { route, path: Some(path), .. } => Purge::Prefix { route: Some(route.clone()), path: beginning(path) },
        Purge::Within { route, .. } => Purge::Prefix { route: Some(route.clone()), path: "".into() },
        Purge::Prefix { route, path } => Purge::Prefix { route: route.clone(), path: beginning(path) },
        Purge::Key(_) | Purge::Tag(_) | Purge::Tenant(_) | Purge::All => Purge::All,
    }
}

/// Text as its length and its bytes.
fn put(out: &mut Vec<u8>, text: &[u8]) {
    out.extend_from_slice(&(text.len() as u32).to_le_bytes());
    out.extend_from_slice(text);
}

fn number<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (bytes, after) = rest.split_first_chunk::<N>()?;
    *rest = after;
    Some(*bytes)
}

fn text<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(u32::from_le_bytes(number(rest)?)).ok()?;
    let (text, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(text)
}

/// Bytes of a purge, nearly: its words and what stands before them.
fn words(purge: &Purge) -> usize {
    let mut out = Vec::new();
    purge.write(&mut out);
    out.len()
}

/// As many of the things as one message takes, at least one; and how many that are. What is read from a source is told by itself, and up to the end of an
/// event where that is possible: it may have been told already.
pub fn encode<'a>(things: impl Iterator<Item = &'a Said>) -> (Vec<u8>, usize) {
    let (mut out, mut count) = (vec![VERSION], 0);
    // The source of the first, and where the last whole event ends.
    let (mut source, mut whole) = (None, None);
    for said in things {
        let before = out.len();
        said.write(&mut out);
        let fits = out.len() <= LONGEST_MESSAGE && *source.get_or_insert_with(|| said.source()) == said.source();
        if count > 0 && !fits {
            out.truncate(before);
            break;
        }
        count += 1;
        if matches!(said, Said::Read(read) if read.last) {
            whole = Some((out.len(), count));
        }
    }
    if let Some((length, things)) = whole {
        out.truncate(length);
        count = things;
    }
    (out, count)
}

/// What a message of these things tells of a source.
pub fn place(things: &[Said]) -> Option<BusPlace> {
    let Some(Said::Read(read)) = things.last() else { return None };
    let anew = things.iter().any(|said| matches!(said, Said::Read(read) if read.anew));
    read.last.then(|| BusPlace { source: read.source.to_string(), place: read.event, anew })
}

/// What a message says.
///
/// # Errors
/// It is of another release, or nobody's.
pub fn decode(message: &[u8]) -> Result<Vec<Said>, Foreign> {
    let Some((&VERSION, mut rest)) = message.split_first() else { return Err(Foreign) };
    let mut out = Vec::new();
    while !rest.is_empty() {
        out.push(read(&mut rest).ok_or(Foreign)?);
    }
    Ok(out)
}

fn read(rest: &mut &[u8]) -> Option<Said> {
    let (&kind, after) = rest.split_first()?;
    *rest = after;
    Some(match kind {
        0 | 1 => Said::Purge(Purge::read(rest)?, kind == 1),
        2 => Said::Models,
        // Of an earlier release.
        3 => {
            let flag: Flag = serde_json::from_slice(text(rest)?).ok()?;
            let at = flag.given();
            Said::Flag(Box::new(flag), at)
        }
        4 => {
            let at = Time::from_nanos(i64::from_le_bytes(number(rest)?));
            Said::Flag(Box::new(serde_json::from_slice(text(rest)?).ok()?), at)
        }
        5..=8 => {
            let source = std::str::from_utf8(text(rest)?).ok()?.into();
            let event = EntryId(u64::from_le_bytes(number(rest)?), u64::from_le_bytes(number(rest)?));
            let count = u32::from_le_bytes(number(rest)?);
            let purge = |rest: &mut &[u8]| {
                let [soft @ (0 | 1)] = number(rest)? else { return None };
                Some((Purge::read(rest)?, soft == 1))
            };
            let purges = (0..count).map(|_| purge(rest)).collect::<Option<_>>()?;
            Said::Read(Box::new(Read { source, event, last: (kind - 5) & 1 == 1, anew: (kind - 5) & 2 == 2, purges }))
        }
        9 => Said::Config,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use farthing_types::KeyHash;

    use super::*;

    #[test]
    fn what_is_said_is_understood() {
        let order = Order { route: Some("geo".into()), since: Time::from_millis(5), until: None, reason: "why".into() };
        let frozen = FreezeOrder { since: Time::from_millis(7), reason: "because".into() };
        let things = [
            Said::purge(&Purge::Key(KeyHash(7)), false),
            Said::purge(&Purge::Within { route: "geo".into(), tenant: None, path: Some("/a".into()), tag: Some("t".into()) }, true),
            Said::Models,
            Said::Flag(
                Box::new(Flag::Freeze { order: Some(frozen), reason: "because".into(), at: Time::from_millis(8) }),
                Time::from_millis(8),
            ),
            Said::Flag(Box::new(Flag::BypassOn(order)), Time::from_millis(9)),
            Said::Flag(
                Box::new(Flag::BypassOff { route: None, reason: "over".into(), at: Time::from_millis(9) }),
                Time::from_nanos(i64::MAX),
            ),
            Said::purge(&Purge::All, false),
            Said::Config,
        ];
        let (bytes, count) = encode(things.iter());
        assert_eq!((decode(&bytes), count), (Ok(things.to_vec()), things.len()));
        // As the release before this one said it.
        let text = br#"{"bypass-off":{"route":"geo","reason":"over","at":9000000}}"#;
        let mut old = vec![VERSION, 3];
        put(&mut old, text);
        let off = Flag::BypassOff { route: Some("geo".into()), reason: "over".into(), at: Time::from_millis(9) };
        assert_eq!(decode(&old), Ok(vec![Said::Flag(Box::new(off), Time::from_millis(9))]));
        assert_eq!(decode(&[]), Err(Foreign));
        assert_eq!(decode(&[VERSION, 10]), Err(Foreign));
        assert_eq!(decode(&[VERSION + 1]), Err(Foreign));
        for cut in 2..bytes.len() {
            let read = decode(&bytes[..cut]);
            assert!(read.is_err() || read.is_ok_and(|read| things.starts_with(&read)), "{cut}");
        }
    }

    fn read(source: &str, event: u64, purges: u128) -> Read {
        let purges = (0..purges).map(|n| (Purge::Key(KeyHash(n)), n % 2 == 0)).collect();
        Read { source: source.into(), event: EntryId(event, 3), last: true, anew: event == 9, purges }
    }

    #[test]
    fn what_is_read_is_told_by_itself_and_event_by_event() {
        let (few, many) = (Said::read(&read("shop", 1, 2)), Said::read(&read("shop", 2, 200)));
        assert!(few.len() == 1 && many.len() > 2);
        let whole: Vec<bool> = many.iter().map(|said| matches!(said, Said::Read(read) if read.last)).collect();
        assert_eq!(whole.iter().filter(|last| **last).count(), 1);
        assert!(whole.last() == Some(&true) && many.iter().map(|said| said.purges().count()).sum::<usize>() == 200);
        let other = Said::read(&read("bazaar", 9, 0));
        let all = [vec![Said::Models], few.clone(), few.clone(), many.clone(), other.clone(), vec![Said::Models]].concat();
        let (mut rest, mut told) = (&all[..], Vec::new());
        while !rest.is_empty() {
            let (bytes, count) = encode(rest.iter());
            assert!(bytes.len() <= LONGEST_MESSAGE);
            assert_eq!(decode(&bytes).unwrap(), rest[..count]);
            told.push((count, place(&rest[..count]).map(|place| (place.source, place.place.0, place.anew))));
            rest = &rest[count..];
        }
        let shop = |event| Some(("shop".to_owned(), event, false));
        // Before an event that is told in parts the whole ones go.
        assert_eq!(told[..2], [(1, None), (2, shop(1))]);
        assert_eq!(told[told.len() - 3..], [(1, shop(2)), (1, Some(("bazaar".to_owned(), 9, true))), (1, None)]);
        assert!(told[2..told.len() - 3].iter().all(|(_, place)| place.is_none()));
    }

    #[test]
    fn long_purges_are_widened_and_long_messages_divided() {
        let path: Arc<str> = format!("/{}", "ü".repeat(5_000)).into();
        for purge in [
            Purge::Path { route: "geo".into(), tenant: "acme".into(), path: path.clone() },
            Purge::Within { route: "geo".into(), tenant: None, path: Some(path.clone()), tag: None },
            Purge::Prefix { route: Some("geo".into()), path: path.clone() },
        ] {
            let Said::Purge(Purge::Prefix { route, path: told }, false) = Said::purge(&purge, false) else { panic!() };
            assert!(route.as_deref() == Some("geo") && path.starts_with(&*told) && told.len() > 1_000);
        }
        let many: Vec<Said> = (0..300).map(|n| Said::purge(&Purge::Key(KeyHash(n)), false)).collect();
        let (bytes, count) = encode(many.iter());
        assert!(bytes.len() <= LONGEST_MESSAGE && count > 100 && count < 300);
        assert_eq!(decode(&bytes).unwrap(), many[..count]);
    }
}

//! What instances say to each other, as bytes: a version, then things said one after the other, each a kind u8 and its content.

use std::sync::Arc;

use farthing_cache::Purge;
use farthing_fleet::LONGEST_MESSAGE;
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
    /// An operator's order.
    Flag(Box<Flag>),
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

/// Something is said that this release does not understand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Foreign;

impl Said {
    /// A purge that is short enough to be told, of all that is meant and perhaps of more.
    pub fn purge(purge: &Purge, soft: bool) -> Self {
        let beginning = |path: &str| -> Arc<str> {
            let end = (0..=LONGEST_PATH.min(path.len())).rev().find(|at| path.is_char_boundary(*at)).unwrap_or_default();
            path.get(..end).unwrap_or_default().into()
        };
        let told = match purge {
            long if words(long) <= LONGEST_PURGE => purge.clone(),
            Purge::Path { route, path, .. } => Purge::Prefix { route: Some(route.clone()), path: beginning(path) },
            Purge::Within { route, path: Some(path), .. } => Purge::Prefix { route: Some(route.clone()), path: beginning(path) },
            Purge::Within { route, .. } => Purge::Prefix { route: Some(route.clone()), path: "".into() },
            Purge::Prefix { route, path } => Purge::Prefix { route: route.clone(), path: beginning(path) },
            Purge::Key(_) | Purge::Tag(_) | Purge::Tenant(_) | Purge::All => Purge::All,
        };
        Self::Purge(told, soft)
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Purge(purge, soft) => {
                out.push(u8::from(*soft));
                purge.write(out);
            }
            Self::Models => out.push(2),
            Self::Flag(flag) => {
                // A flag is plain data: nothing of it can fail.
                let text = serde_json::to_vec(flag).unwrap_or_default();
                out.push(3);
                out.extend_from_slice(&(text.len() as u32).to_le_bytes());
                out.extend_from_slice(&text);
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

/// Bytes of a purge, nearly: its words and what stands before them.
fn words(purge: &Purge) -> usize {
    let mut out = Vec::new();
    purge.write(&mut out);
    out.len()
}

/// As many of the things as one message takes, at least one; and how many that are.
pub fn encode<'a>(things: impl Iterator<Item = &'a Said>) -> (Vec<u8>, usize) {
    let (mut out, mut count) = (vec![VERSION], 0);
    for said in things {
        let before = out.len();
        said.write(&mut out);
        if count > 0 && out.len() > LONGEST_MESSAGE {
            out.truncate(before);
            break;
        }
        count += 1;
    }
    (out, count)
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
        3 => {
            let (length, after) = rest.split_first_chunk::<4>()?;
            let (text, after) = after.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
            *rest = after;
            Said::Flag(Box::new(serde_json::from_slice(text).ok()?))
        }
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
            Said::Flag(Box::new(Flag::Freeze { order: Some(frozen), reason: "because".into(), at: Time::from_millis(8) })),
            Said::Flag(Box::new(Flag::BypassOn(order))),
            Said::Flag(Box::new(Flag::BypassOff { route: None, reason: "over".into(), at: Time::from_millis(9) })),
            Said::purge(&Purge::All, false),
        ];
        let (bytes, count) = encode(things.iter());
        assert_eq!((decode(&bytes), count), (Ok(things.to_vec()), things.len()));
        assert_eq!(decode(&[]), Err(Foreign));
        assert_eq!(decode(&[VERSION, 9]), Err(Foreign));
        assert_eq!(decode(&[VERSION + 1]), Err(Foreign));
        for cut in 2..bytes.len() {
            let read = decode(&bytes[..cut]);
            assert!(read.is_err() || read.is_ok_and(|read| things.starts_with(&read)), "{cut}");
        }
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

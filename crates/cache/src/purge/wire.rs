//! A purge as bytes, for the list in L2 and for other instances: kind u8 and its words (u32 length and bytes, little endian; kind 7 has a u8 before
//! them whose bits say which there are).

use std::sync::Arc;

use farthing_types::KeyHash;

use super::Purge;
use crate::l2::{put, take, text};

impl Purge {
    /// Appends it.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Key(key) => {
                out.push(0);
                out.extend_from_slice(&key.0.to_le_bytes());
            }
            Self::Tag(tag) => {
                out.push(1);
                put(out, tag.as_bytes());
            }
            Self::Prefix { route, path } => {
                out.push(if route.is_some() { 2 } else { 3 });
                route.iter().for_each(|route| put(out, route.as_bytes()));
                put(out, path.as_bytes());
            }
            Self::Tenant(tenant) => {
                out.push(4);
                put(out, tenant.as_bytes());
            }
            Self::All => out.push(5),
            Self::Path { route, tenant, path } => {
                out.push(6);
                [route, tenant, path].iter().for_each(|word| put(out, word.as_bytes()));
            }
            Self::Within { route, tenant, path, tag } => {
                let given = [tenant, path, tag];
                out.push(7);
                out.push(given.iter().enumerate().fold(0, |bits, (at, word)| bits | u8::from(word.is_some()) << at));
                put(out, route.as_bytes());
                given.into_iter().flatten().for_each(|word| put(out, word.as_bytes()));
            }
        }
    }

    /// Takes one off the front; `None` when there is none.
    pub fn read(fields: &mut &[u8]) -> Option<Self> {
        let [kind] = *take(fields, 1)? else { return None };
        Some(match kind {
            0 => Self::Key(KeyHash(u128::from_le_bytes(take(fields, 16)?.try_into().ok()?))),
            1 => Self::Tag(word(fields)?),
            2 => Self::Prefix { route: Some(word(fields)?), path: word(fields)? },
            3 => Self::Prefix { route: None, path: word(fields)? },
            4 => Self::Tenant(word(fields)?),
            5 => Self::All,
            6 => Self::Path { route: word(fields)?, tenant: word(fields)?, path: word(fields)? },
            7 => {
                let [given @ 0..8] = *take(fields, 1)? else { return None };
                let route = word(fields)?;
                let mut next = |bit: u8| if given & bit == 0 { Some(None) } else { word(fields).map(Some) };
                Self::Within { route, tenant: next(1)?, path: next(2)?, tag: next(4)? }
            }
            _ => return None,
        })
    }

    /// Bytes of its words, as they are accounted with in bounded lists.
    pub(crate) fn words(&self) -> usize {
        match self {
            Self::Key(_) => 16,
            Self::Tag(word) | Self::Tenant(word) => word.len(),
            Self::Prefix { route, path } => route.as_ref().map_or(0, |r| r.len()) + path.len(),
            Self::Path { route, tenant, path } => route.len() + tenant.len() + path.len(),
            Self::Within { route, tenant, path, tag } => {
                route.len() + [tenant, path, tag].into_iter().flatten().map(|word| word.len()).sum::<usize>()
            }
            Self::All => 0,
        }
    }
}

fn word(fields: &mut &[u8]) -> Option<Arc<str>> {
    Some(Arc::from(std::str::from_utf8(text(fields)?).ok()?))
}

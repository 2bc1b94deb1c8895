//! Bodies of entries in a content coding, kept as long as the entry is: made for the first client that wants one, given to all others.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use farthing_types::Coding;
use once_cell::race::OnceBox;

use crate::stream::Budget;

/// Room for the forms of all entries together, in bytes.
#[derive(Debug)]
pub struct FormRoom(Budget);

impl FormRoom {
    /// Room for `limit` bytes.
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self(Budget::new(limit)))
    }

    /// Bytes that are taken.
    pub fn used(&self) -> usize {
        self.0.used()
    }
}

/// The forms of one entry.
#[derive(Debug, Default)]
pub(crate) struct Forms(OnceBox<[OnceLock<Kept>; Coding::ALL.len()]>);

/// A form with the room that it takes.
#[derive(Debug)]
struct Kept {
    body: Bytes,
    room: Arc<FormRoom>,
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.room.0.give(self.body.len());
    }
}

impl Forms {
    pub(crate) fn get(&self, coding: Coding) -> Option<&Bytes> {
        self.0.get()?[coding as usize].get().map(|kept| &kept.body)
    }

    /// Keeps a form where there is room and none yet.
    pub(crate) fn keep(&self, coding: Coding, body: Bytes, room: &Arc<FormRoom>) {
        if self.get(coding).is_none() && room.0.try_take(body.len()) {
            // One that comes second frees its room again.
            drop(self.0.get_or_init(Box::default)[coding as usize].set(Kept { body, room: Arc::clone(room) }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_take_room_as_long_as_they_are_kept() {
        let room = FormRoom::new(10);
        let (one, two) = (Forms::default(), Forms::default());
        one.keep(Coding::Gzip, Bytes::from_static(b"123456"), &room);
        one.keep(Coding::Gzip, Bytes::from_static(b"abc"), &room);
        assert_eq!((one.get(Coding::Gzip).map(|b| &b[..]), one.get(Coding::Brotli), room.used()), (Some(&b"123456"[..]), None, 6));
        two.keep(Coding::Zstd, Bytes::from_static(b"12345"), &room);
        assert_eq!((two.get(Coding::Zstd), room.used()), (None, 6), "there is no room");
        drop(one);
        two.keep(Coding::Zstd, Bytes::from_static(b"12345"), &room);
        assert_eq!((two.get(Coding::Zstd).is_some(), room.used()), (true, 5));
    }
}

//! Values that must not be anywhere any more, not even in the bytes of what is overwritten.
//!
//! A segment in which one stands, readable or not, is written anew without it and then removed, the oldest first: so an older value of
//! a key is gone before the newer one that hides it, whenever the process dies.

use std::fs::File;
use std::sync::Arc;

use super::super::Whose;
use super::record::{Header, Placed};
use super::segment;
use super::writer::Writer;

impl Writer {
    /// Removes every value that is meant; how many that were, or nothing where the disk refused.
    pub(super) fn erase(&mut self, whose: &Whose) -> Option<u64> {
        let mut ok = self.write_buffer();
        // From here on nothing is added to the segments that are looked through.
        ok &= self.next_segment();
        let active = self.active.id;
        let ids: Vec<u32> = self.shared.index.lock().segments.keys().copied().filter(|id| *id != active).collect();
        let mut erased = 0;
        for id in ids {
            let Some((file, records)) = self.contents(id) else {
                ok = false;
                continue;
            };
            let meant: Vec<bool> = records.iter().map(|placed| is_meant(&file, placed, whose)).collect();
            let count = meant.iter().filter(|meant| **meant).count();
            if count > 0 {
                ok &= self.rewrite(id, (&file, &records), &meant);
                erased += count as u64;
            }
        }
        ok.then_some(erased)
    }

    fn contents(&self, id: u32) -> Option<(Arc<File>, Vec<Placed>)> {
        let file = Arc::clone(&self.shared.index.lock().segments.get(&id)?.file);
        Some((file, self.records(id)?))
    }

    /// Writes what of a segment can be read, and is not meant, behind everything else, and removes the segment.
    fn rewrite(&mut self, id: u32, (file, records): (&File, &[Placed]), meant: &[bool]) -> bool {
        let mut ok = true;
        for (placed, meant) in records.iter().zip(meant) {
            let lives = self.shared.index.lock().is_at(id, placed);
            match (placed.expires, meant) {
                (Some(_), true) => self.shared.index.lock().forget(placed),
                (Some(expires), false) if lives && expires > self.now => {
                    if let Ok(Some(value)) = segment::read(file, placed) {
                        self.append(Header::of_value(placed.key, &value, expires), &value);
                    }
                }
                // What hides an older value in a segment that stays.
                (None, _) if !self.shared.index.lock().has(placed.key) => self.append(Header::of_deletion(placed.key), &[]),
                _ => {}
            }
        }
        ok &= self.write_buffer();
        let mut index = self.shared.index.lock();
        index.take_all(id);
        index.segments.remove(&id);
        drop(index);
        if let Err(error) = segment::remove(&self.shared.dir, id) {
            tracing::warn!(directory = %self.shared.dir.display(), segment = id, %error, "a segment of the disk cache was not removed");
            ok = false;
        }
        ok
    }
}

/// What cannot be read may be anything: it goes, too.
fn is_meant(file: &File, placed: &Placed, whose: &Whose) -> bool {
    placed.expires.is_some() && !matches!(segment::read(file, placed), Ok(Some(value)) if !whose(placed.key, &value))
}

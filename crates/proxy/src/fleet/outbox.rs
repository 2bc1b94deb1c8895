//! What is still to be told to the others, in order and bounded; and who waits until it has been.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use farthing_cache::Purge;
use farthing_types::Span;
use parking_lot::{Condvar, Mutex};
use tokio::sync::Notify;

use super::message::{self, Read, Said};

/// Things that may wait, and their bytes. Beyond, all purges of them become one of everything.
const MOST: usize = 16_384;
const MOST_BYTES: usize = 2 << 20;

/// See the module.
#[derive(Debug, Default)]
pub struct Outbox {
    queue: Mutex<Queue>,
    changed: Condvar,
    wake: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    things: VecDeque<(u64, Said)>,
    bytes: usize,
    /// The number of the last that was put in.
    last: u64,
    /// All up to this were told.
    told: u64,
    /// All up to this were tried at least once, and not told.
    tried: u64,
    widened: u64,
}

/// The next message.
#[derive(Debug)]
pub struct Parcel {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// What it says.
    pub things: Vec<Said>,
    /// The number of the last of them.
    pub last: u64,
}

impl Outbox {
    /// Puts something in, to be told after all before it. `also` is done with its number before anybody can tell it.
    pub fn put(&self, said: Said, also: impl FnOnce(u64, &Said)) {
        let mut queue = self.queue.lock();
        queue.last += 1;
        let number = queue.last;
        also(number, &said);
        queue.bytes += said.size();
        queue.things.push_back((number, said));
        if queue.things.len() > MOST || queue.bytes > MOST_BYTES {
            queue.widen();
        }
        drop(queue);
        self.wake.notify_one();
    }

    /// Whether everything that was put in before has been told. Waits until it was, or could not be at the first try, or `within` is over. Blocks.
    #[expect(clippy::disallowed_methods, reason = "how long a thread may be kept waiting is real time")]
    pub fn wait(&self, within: Span) -> bool {
        let until = Instant::now() + within;
        let mut queue = self.queue.lock();
        let last = queue.last;
        while queue.told < last && queue.tried < last && !self.changed.wait_until(&mut queue, until).timed_out() {}
        queue.told >= last
    }

    /// Resolves when something may have been put in.
    pub async fn filled(&self) {
        self.wake.notified().await;
    }

    /// What is to be told next; it stays until [`Outbox::told`].
    pub fn next(&self) -> Option<Parcel> {
        let queue = self.queue.lock();
        let (bytes, count) = message::encode(queue.things.iter().map(|(_, said)| said));
        let last = queue.things.get(count.checked_sub(1)?)?.0;
        let things = queue.things.iter().take(count).map(|(_, said)| said.clone()).collect();
        Some(Parcel { bytes, things, last })
    }

    /// It has been told.
    pub fn told(&self, parcel: &Parcel) {
        let mut queue = self.queue.lock();
        while queue.things.front().is_some_and(|(number, _)| *number <= parcel.last) {
            queue.forget_first();
        }
        queue.told = queue.told.max(parcel.last);
        drop(queue);
        self.changed.notify_all();
    }

    /// Nothing could be told now.
    pub fn failed(&self) {
        let mut queue = self.queue.lock();
        queue.tried = queue.last;
        drop(queue);
        self.changed.notify_all();
    }

    /// How much waits, and how often purges were widened to everything for want of room.
    pub fn waiting(&self) -> (usize, u64) {
        let queue = self.queue.lock();
        (queue.things.len(), queue.widened)
    }
}

impl Queue {
    fn forget_first(&mut self) {
        if let Some((_, said)) = self.things.pop_front() {
            self.bytes -= said.size();
        }
    }

    fn widen(&mut self) {
        let (mut reads, mut purged) = (BTreeMap::<Arc<str>, Read>::new(), false);
        self.things.retain(|(_, said)| match said {
            Said::Purge(..) => {
                purged = true;
                false
            }
            Said::Read(read) => {
                let of = reads.entry(read.source.clone()).or_insert_with(|| Read {
                    purges: vec![(Purge::All, false)],
                    last: true,
                    ..(**read).clone()
                });
                (of.event, of.anew) = (read.event, of.anew | read.anew);
                false
            }
            Said::Models | Said::Flag(..) | Said::Config => true,
        });
        // What was read all have read: it is told by one of them. The first of these makes good for all that were put in before.
        let all = purged.then_some(Said::Purge(Purge::All, false));
        for said in all.into_iter().chain(reads.into_values().map(|read| Said::Read(Box::new(read)))) {
            self.last += 1;
            self.things.push_back((self.last, said));
        }
        self.bytes = self.things.iter().map(|(_, said)| said.size()).sum();
        self.widened += 1;
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use farthing_fleet::EntryId;
    use farthing_types::KeyHash;

    use super::*;

    const LONG: Span = Span::from_secs(60);

    fn purge(n: u128) -> Said {
        Said::purge(&Purge::Key(KeyHash(n)), false)
    }

    #[test]
    fn things_go_in_order_and_who_waits_is_told() {
        let outbox = Arc::new(Outbox::default());
        assert!(outbox.wait(LONG), "nothing to tell");
        outbox.put(purge(1), |_, _| ());
        outbox.put(purge(2), |_, _| ());
        let waiting = outbox.clone();
        let waiter = thread::spawn(move || waiting.wait(LONG));
        let parcel = outbox.next().unwrap();
        assert_eq!(parcel.things, [purge(1), purge(2)]);
        outbox.put(purge(3), |_, _| ());
        outbox.told(&parcel);
        assert_eq!(outbox.next().unwrap().things, [purge(3)]);
        outbox.told(&outbox.next().unwrap());
        assert!(waiter.join().unwrap());
        assert!(outbox.next().is_none());
    }

    #[test]
    fn a_try_in_vain_ends_the_wait_and_not_the_telling() {
        let outbox = Arc::new(Outbox::default());
        outbox.put(purge(1), |_, _| ());
        outbox.failed();
        assert!(!outbox.wait(LONG));
        assert_eq!(outbox.next().unwrap().things, [purge(1)]);
        assert!(!outbox.wait(Span::ZERO));
    }

    #[test]
    fn what_was_read_and_finds_no_room_is_still_told_as_read() {
        let outbox = Outbox::default();
        let read = |source: &str, event, anew| {
            let purges = vec![(Purge::Key(KeyHash(event)), false)];
            Said::Read(Box::new(Read { source: source.into(), event: EntryId(event as u64, 0), last: true, anew, purges }))
        };
        outbox.put(purge(1), |_, _| ());
        outbox.put(read("bazaar", 7, false), |_, _| ());
        for n in 0..MOST as u128 - 1 {
            outbox.put(read("shop", n, n == 9), |_, _| ());
        }
        let mut told = Vec::new();
        while let Some(parcel) = outbox.next() {
            assert!(!outbox.wait(Span::ZERO));
            told.extend(parcel.things.iter().map(|said| match said {
                Said::Read(read) => (read.source.to_string(), read.event.0, read.anew, read.last, read.purges.clone()),
                other => (format!("{other:?}"), 0, false, false, Vec::new()),
            }));
            outbox.told(&parcel);
        }
        let all = vec![(Purge::All, false)];
        let shop = ("shop".to_owned(), MOST as u64 - 2, true, true, all.clone());
        assert_eq!(told, [("Purge(All, false)".to_owned(), 0, false, false, Vec::new()), ("bazaar".to_owned(), 7, false, true, all), shop]);
        assert!(outbox.wait(Span::ZERO));
    }

    #[test]
    fn what_finds_no_room_becomes_one_purge_of_everything() {
        let outbox = Outbox::default();
        outbox.put(Said::Models, |_, _| ());
        for n in 0..=MOST as u128 {
            outbox.put(purge(n), |_, _| ());
        }
        assert_eq!(outbox.next().unwrap().things[..2], [Said::Models, Said::Purge(Purge::All, false)]);
        let (waiting, widened) = outbox.waiting();
        assert!(widened == 1 && waiting < 10, "{waiting}");
    }
}

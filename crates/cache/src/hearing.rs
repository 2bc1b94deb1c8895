//! What an instance has heard of the purges of its fleet.
//!
//! Purges have numbers that grow in the order in which all instances hear them. An answer is marked with the number up to which purges had been
//! carried out here when its call began: whoever meets it in a store that others write to, or after a restart, knows by that which purges it
//! has to be judged by, without comparing anybody's clocks. The newest purges are kept one by one; of those that are forgotten
//! only the highest number is kept, and every answer with a lower mark is gone.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use farthing_freshness::Entry;
use farthing_freshness::entry::{Named, Packed};
use farthing_freshness::index::KeyMap;
use farthing_types::{KeyHash, RouteName, Span, Time};
use parking_lot::{Mutex, RwLock};

use crate::cached::Cached;
use crate::l2::GetOutcome;
use crate::purge::{Purge, Since};

/// Who has heard nothing for so long may lack a purge.
pub const SILENCE: Span = Span::from_secs(1);
/// Purged keys that are kept, and other purges, and bytes of the latter.
const MOST_KEYS: usize = 65_536;
const MOST_OTHERS: usize = 4_096;
const MOST_BYTES: usize = 1 << 20;

/// See the module. One for each process; the composer tells it what comes.
#[derive(Debug)]
pub struct Hearing {
    position: AtomicU64,
    /// When it was last known that nothing is missing, on the clock of lookups; ns, `i64::MIN` before the first time.
    heard: AtomicI64,
    careful: bool,
    known: Mutex<Known>,
    /// Whether answers of a route have tags; a route that has stored none yet is not in it.
    tagged: RwLock<HashMap<RouteName, bool>>,
}

#[derive(Debug, Default)]
struct Known {
    /// What is marked with less than this is gone.
    floor: u64,
    keys: KeyMap<Numbers>,
    /// Purges of keys, oldest first; several of one key may be in it.
    order: VecDeque<(u64, KeyHash)>,
    others: VecDeque<(u64, Purge, bool)>,
    bytes: usize,
    /// Purges of this instance that have no number yet, under numbers of its own; what they are about is gone whatever its mark.
    expected: VecDeque<(u64, Purge, bool)>,
    /// Everything is, until this one has its number: there was no room.
    all_until: u64,
}

/// The last purges of a key.
#[derive(Clone, Copy, Debug, Default)]
struct Numbers {
    hard: u64,
    soft: u64,
}

impl Hearing {
    /// One that has heard nothing. `careful`: what may have been purged is not used while it is unknown whether it was.
    pub fn new(careful: bool) -> Self {
        Self { position: AtomicU64::new(0), heard: AtomicI64::new(i64::MIN), careful, known: Mutex::default(), tagged: RwLock::default() }
    }

    /// The number up to which purges have been carried out here; 0 before anything was heard.
    pub fn position(&self) -> u64 {
        self.position.load(Ordering::Acquire)
    }

    /// Remembers a purge under its number. It counts as carried out with [`Hearing::advance`].
    pub fn note(&self, number: u64, purge: &Purge, soft: bool) {
        self.known.lock().note(number, purge, soft);
    }

    /// A purge is about to be carried out here and to be told to the others; `ticket` grows. Until [`Hearing::settle`] nothing that it is about is taken
    /// from another tier.
    pub fn expect(&self, ticket: u64, purge: &Purge, soft: bool) {
        let mut known = self.known.lock();
        if known.expected.len() < MOST_OTHERS {
            known.expected.push_back((ticket, purge.clone(), soft));
        } else {
            known.all_until = ticket;
        }
    }

    /// All up to this ticket have been told, and are noted under their numbers.
    pub fn settle(&self, ticket: u64) {
        let mut known = self.known.lock();
        while known.expected.front().is_some_and(|(of, ..)| *of <= ticket) {
            known.expected.pop_front();
        }
        if known.all_until <= ticket {
            known.all_until = 0;
        }
    }

    /// Everything up to this number has been carried out.
    pub fn advance(&self, number: u64) {
        self.position.fetch_max(number, Ordering::AcqRel);
    }

    /// Drops what names a tenant: the caller has removed all that it was about.
    pub fn forget_tenant(&self, tenant: &str) {
        let mut known = self.known.lock();
        known.others.retain(|(_, purge, _)| purge.tenant().is_none_or(|named| **named != *tenant));
        known.bytes = known.others.iter().map(|(_, purge, _)| size(purge)).sum();
    }

    /// What was purged before this number is unknown: nothing with a lower mark is trusted any more.
    pub fn begin_anew(&self, number: u64) {
        self.known.lock().forget_all(number);
        self.position.store(number, Ordering::Release);
    }

    /// Nothing that was told before `at` is missing.
    pub fn heard(&self, at: Time) {
        self.heard.fetch_max(at.nanos(), Ordering::Release);
    }

    /// When that was so last; `None` before the first time.
    pub fn heard_at(&self) -> Option<Time> {
        Some(self.heard.load(Ordering::Acquire)).filter(|nanos| *nanos != i64::MIN).map(Time::from_nanos)
    }

    /// Whether nothing was heard for [`SILENCE`].
    pub fn is_silent(&self, now: Time) -> bool {
        self.heard_at().is_none_or(|heard| now.since(heard) >= SILENCE)
    }

    /// Whether an entry may have been purged without this instance's knowledge longer ago than [`SILENCE`], so that it is not to be used. `now` is
    /// when the request came, `silent` whether nothing had been heard for so long [before](Self::is_silent) the entry was looked for: what is heard
    /// between looking for it and this question has taken it out of memory, and no more. Only of entries with tags, which are there to be purged.
    pub fn doubts(&self, entry: &Cached, (now, silent): (Time, bool)) -> bool {
        self.careful && silent && entry.is_tagged() && (entry.is_promoted() || is_old(entry, now))
    }

    /// What the fleet's purges mean for an answer in another tier, which has its mark as its epoch: in another process, and here before a restart, that
    /// was given by the same numbers.
    ///
    /// # Errors
    /// Why that cannot be known.
    pub(crate) fn judge_stored(&self, entry: &Entry, now: Time) -> Result<Since, GetOutcome> {
        if self.doubts_stored(!entry.tags.is_empty(), now) {
            return Err(GetOutcome::Unavailable);
        }
        let known = self.known.lock();
        // What stands in memory has gone through all purges there, and is not taken out for this.
        if known.knows(entry.epoch) { Ok(known.since(entry.epoch, entry)) } else { Err(GetOutcome::Forgotten) }
    }

    /// As [`Hearing::doubts`], of an answer in another tier: whose clock wrote its times is not known.
    fn doubts_stored(&self, is_tagged: bool, now: Time) -> bool {
        self.careful && is_tagged && self.is_silent(now)
    }

    /// Whether a call that began at `begun` may bring what was purged meanwhile, so that nobody who comes now may join it.
    pub(crate) fn doubts_call(&self, route: &RouteName, begun: Time, now: Time) -> bool {
        self.careful && self.is_silent(now) && now.since(begun) >= SILENCE && self.tagged.read().get(route).copied().unwrap_or(true)
    }

    /// Whether nothing that another instance brings would be used on a route now: its answers have tags.
    pub fn takes_nothing(&self, route: &RouteName, now: Time) -> bool {
        self.careful && self.is_silent(now) && self.tagged.read().get(route).copied().unwrap_or_default()
    }

    /// What purges mean for an answer that has this mark.
    #[cfg(test)]
    fn since(&self, mark: u64, entry: &dyn Named) -> Since {
        self.known.lock().since(mark, entry)
    }

    /// Notes whether answers of a route have tags; once one has, they may.
    pub(crate) fn note_route(&self, entry: &Packed) {
        let (route, tagged) = (&entry.shape().route, entry.is_tagged());
        if self.tagged.read().get(route).is_some_and(|known| *known || !tagged) {
            return;
        }
        let mut routes = self.tagged.write();
        let known = routes.entry(route.clone()).or_default();
        *known |= tagged;
    }
}

/// Whether its call began [`SILENCE`] ago: its age counts from then.
fn is_old(entry: &Packed, now: Time) -> bool {
    entry.reuse().age(entry.fetched_at(), now) >= SILENCE
}

impl Known {
    fn note(&mut self, number: u64, purge: &Purge, soft: bool) {
        if let Purge::Key(key) = purge {
            let numbers = self.keys.entry(*key).or_default();
            let of = if soft { &mut numbers.soft } else { &mut numbers.hard };
            *of = (*of).max(number);
            // One's own purge is known a moment before those that were told before it.
            let at = self.order.partition_point(|(of, _)| *of <= number);
            self.order.insert(at, (number, *key));
        } else {
            self.bytes += size(purge);
            let at = self.others.partition_point(|(of, ..)| *of <= number);
            self.others.insert(at, (number, purge.clone(), soft));
        }
        self.bound();
    }

    fn bound(&mut self) {
        while self.order.len() > MOST_KEYS {
            self.forget_key();
        }
        while self.others.len() > MOST_OTHERS || self.bytes > MOST_BYTES {
            self.forget_other();
        }
    }

    fn forget_key(&mut self) {
        let Some((number, key)) = self.order.pop_front() else { return };
        // A later purge of the same key stays.
        if self.keys.get(&key).is_some_and(|numbers| numbers.hard.max(numbers.soft) <= number) {
            self.keys.remove(&key);
        }
        self.floor = self.floor.max(number);
    }

    fn forget_other(&mut self) {
        let Some((number, purge, _)) = self.others.pop_front() else { return };
        self.bytes -= size(&purge);
        self.floor = self.floor.max(number);
    }

    /// Also what has higher numbers: it was told in another history.
    fn forget_all(&mut self, number: u64) {
        let last = |of: Option<u64>| of.unwrap_or_default();
        let highest = last(self.order.back().map(|(of, _)| *of)).max(last(self.others.back().map(|(of, ..)| *of)));
        let (expected, all_until) = (std::mem::take(&mut self.expected), self.all_until);
        *self = Self { floor: self.floor.max(highest).max(number), expected, all_until, ..Self::default() };
    }

    const fn knows(&self, mark: u64) -> bool {
        mark >= self.floor && mark > 0 && self.all_until == 0
    }

    fn since(&self, mark: u64, entry: &dyn Named) -> Since {
        if !self.knows(mark) {
            return Since::Hard;
        }
        let numbers = self.keys.get(&entry.key()).copied().unwrap_or_default();
        let mut out = if numbers.soft > mark { Since::Soft } else { Since::Untouched };
        if numbers.hard > mark {
            return Since::Hard;
        }
        let later = self.others.iter().rev().take_while(|(number, ..)| *number > mark);
        for (_, _, soft) in later.chain(&self.expected).filter(|(_, purge, _)| purge.matches(entry)) {
            if !soft {
                return Since::Hard;
            }
            out = Since::Soft;
        }
        out
    }
}

fn size(purge: &Purge) -> usize {
    size_of::<(u64, Purge, bool)>() + purge.words()
}

#[cfg(test)]
mod tests {
    use crate::shapes::Shapes;
    use proptest::prelude::*;

    use super::*;
    use crate::tests::{entry, subject};

    const NOW: Time = Time::from_millis(1_700_000_000_000);

    fn tagged(tag: &str) -> Entry {
        Entry { tags: vec![tag.into()], ..entry(&subject(1), "x") }
    }

    #[test]
    fn an_answer_is_judged_by_what_came_after_its_mark() {
        let hearing = Hearing::new(true);
        hearing.begin_anew(10);
        hearing.note(11, &Purge::Tag("red".into()), false);
        hearing.note(12, &Purge::Key(subject(1).key), true);
        hearing.advance(12);
        assert_eq!(hearing.position(), 12);
        for (mark, tag, expected) in [
            (0, "blue", Since::Hard),
            (9, "blue", Since::Hard),
            (10, "red", Since::Hard),
            (10, "blue", Since::Soft),
            (11, "red", Since::Soft),
            (12, "red", Since::Untouched),
        ] {
            assert_eq!(hearing.since(mark, &tagged(tag)), expected, "{mark} {tag}");
        }
        // What is on its way to the others holds at once.
        hearing.expect(1, &Purge::Tag("red".into()), false);
        assert_eq!(hearing.since(12, &tagged("red")), Since::Hard);
        hearing.note(14, &Purge::Tag("red".into()), false);
        hearing.settle(1);
        hearing.note(13, &Purge::Tag("blue".into()), true);
        assert_eq!([12, 13, 14].map(|mark| hearing.since(mark, &tagged("red"))), [Since::Hard, Since::Hard, Since::Untouched]);
        assert_eq!([12, 13].map(|mark| hearing.since(mark, &tagged("blue"))), [Since::Soft, Since::Untouched]);
        for ticket in 2..=MOST_OTHERS as u64 + 2 {
            hearing.expect(ticket, &Purge::Key(subject(9).key), false);
        }
        assert_eq!(hearing.since(14, &tagged("red")), Since::Hard, "no room: everything");
        hearing.settle(MOST_OTHERS as u64 + 2);
        assert_eq!(hearing.since(14, &tagged("red")), Since::Untouched);
        hearing.begin_anew(20);
        assert_eq!((hearing.since(12, &tagged("blue")), hearing.since(20, &tagged("red"))), (Since::Hard, Since::Untouched));
    }

    #[test]
    fn silence_makes_tagged_answers_doubtful_and_no_others() {
        let hearing = Hearing::new(true);
        let cached = |tags: &[&str], ago: Span| {
            let tags = tags.iter().map(|tag| (*tag).into()).collect();
            Cached::new(&Entry { tags, fetched_at: NOW - ago, ..entry(&subject(1), "x") })
        };
        let (old, young, plain) =
            (cached(&["a"], Span::from_secs(2)), cached(&["a"], Span::from_millis(900)), cached(&[], Span::from_secs(9)));
        let doubts = |entry: &Cached, now| hearing.doubts(entry, (now, hearing.is_silent(now)));
        assert!(doubts(&old, NOW), "nothing was heard yet");
        assert!(!doubts(&young, NOW) && !doubts(&plain, NOW));
        hearing.heard(NOW - Span::from_millis(999));
        assert!(!doubts(&old, NOW));
        assert!(hearing.doubts(&old, (NOW, true)), "what was heard after it was looked for came too late for it");
        assert!(doubts(&old, NOW + Span::from_millis(1)));
        let promoted =
            Cached::promoted(&Entry { tags: vec!["a".into()], fetched_at: NOW, ..entry(&subject(1), "x") }, NOW, &Shapes::default());
        assert!(doubts(&promoted, NOW + SILENCE), "another's clock");
        let trusting = Hearing::new(false);
        assert!(trusting.is_silent(NOW) && !trusting.doubts(&old, (NOW, true)));
    }

    #[test]
    fn calls_are_doubtful_on_routes_that_have_tags_or_are_not_known() {
        let hearing = Hearing::new(true);
        let doubts = |ago| hearing.doubts_call(&subject(1).route, NOW - ago, NOW);
        assert!(doubts(SILENCE) && !doubts(Span::from_millis(999)));
        hearing.note_route(&Packed::alone(&Entry { tags: vec![], ..entry(&subject(1), "x") }));
        assert!(!doubts(SILENCE) && !hearing.takes_nothing(&subject(1).route, NOW));
        hearing.note_route(&Packed::alone(&tagged("a")));
        hearing.note_route(&Packed::alone(&Entry { tags: vec![], ..entry(&subject(1), "x") }));
        assert!(doubts(SILENCE) && hearing.takes_nothing(&subject(1).route, NOW));
        hearing.heard(NOW);
        assert!(!doubts(SILENCE) && !hearing.takes_nothing(&subject(1).route, NOW));
    }

    proptest! {
        /// However many are forgotten: nothing that was purged is taken for good.
        #[test]
        fn bounds_err_on_the_safe_side(purges in proptest::collection::vec((0u64..5, any::<bool>(), any::<bool>()), 0..200), most in 1usize..50) {
            let mut known = Known { floor: 1, ..Known::default() };
            let mut told = Vec::new();
            for (at, (n, by_key, soft)) in purges.into_iter().enumerate() {
                let purge = if by_key { Purge::Key(subject(n).key) } else { Purge::Tag(n.to_string().into()) };
                let number = at as u64 + 2;
                known.note(number, &purge, soft);
                told.push((number, purge, soft));
                while known.order.len() > most {
                    known.forget_key();
                }
                while known.others.len() > most {
                    known.forget_other();
                }
            }
            let found = Entry { tags: vec!["3".into()], ..entry(&subject(3), "x") };
            for mark in 1..told.len() as u64 + 3 {
                let hit = |wanted: bool| told.iter().any(|(number, purge, soft)| *number > mark && *soft == wanted && purge.matches(&found));
                let expected = if hit(false) { Since::Hard } else if hit(true) { Since::Soft } else { Since::Untouched };
                let judged = known.since(mark, &found);
                if mark < known.floor {
                    prop_assert_eq!(judged, Since::Hard);
                } else {
                    prop_assert_eq!(judged, expected, "{} {}", mark, known.floor);
                }
            }
        }
    }
}

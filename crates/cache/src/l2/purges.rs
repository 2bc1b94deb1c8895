//! Purges as L2 remembers them: a store cannot be searched for what a purge is about, so what is read from it is judged.
//!
//! An answer that was fetched before a purge of it is gone, wherever it still stands. The newest purges are kept one by one; of those
//! that are forgotten only the latest time is kept, and everything fetched before that is gone, too. Little endian: floor i64 (ms since
//! 1970), count u32, then for each time i64 (ms), soft u8 and the purge (`purge/wire.rs`); 16 bytes of blake3 at the end.

use std::collections::VecDeque;

use farthing_freshness::entry::Named;
use farthing_types::{Span, Time};

use super::envelope::{checksum, length, take};
use crate::purge::{Purge, Since};

/// How many are kept one by one, and how many bytes they may have together.
const MOST: usize = 1024;
const MOST_BYTES: usize = 128 << 10;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Mark {
    at: Time,
    purge: Purge,
    soft: bool,
}

/// The purges that are known, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Purges {
    recent: VecDeque<Mark>,
    bytes: usize,
    /// What was fetched until then is gone.
    floor: Time,
}

impl Purges {
    /// Where nothing can be known about purges until `now`.
    pub(super) fn unknown_until(now: Time) -> Self {
        Self { floor: now, ..Self::default() }
    }

    pub(super) fn add(&mut self, purge: Purge, soft: bool, at: Time) {
        self.insert(Mark { at: Time::from_millis(at.millis()) + Span::from_millis(1), purge, soft });
    }

    /// Drops what names a tenant: the caller has removed all that it was about.
    pub(super) fn drop_tenant(&mut self, tenant: &str) {
        self.recent.retain(|mark| mark.purge.tenant().is_none_or(|named| **named != *tenant));
        self.bytes = self.recent.iter().map(Mark::bytes).sum();
    }

    /// Takes over what another list knows; whether it lacked something that this one has.
    pub(super) fn merge(&mut self, other: Self) -> bool {
        let lacked = self.floor > other.floor || self.recent.iter().any(|mark| mark.at > other.floor && !other.has(mark));
        self.floor = self.floor.max(other.floor);
        other.recent.into_iter().for_each(|mark| self.insert(mark));
        let floor = self.floor;
        while self.recent.front().is_some_and(|mark| mark.at <= floor) {
            self.forget_oldest();
        }
        lacked
    }

    /// What they mean for an answer that was fetched, or asked for, at `of`. `skew`: how far the clocks of those who fetch and those who purge may
    /// differ.
    pub(super) fn since(&self, entry: &dyn Named, of: Time, skew: Span) -> Since {
        let before = |at: Time| of <= at + skew;
        if self.floor > Time::ZERO && before(self.floor) {
            return Since::Hard;
        }
        let mut out = Since::Untouched;
        for mark in self.recent.iter().rev().take_while(|mark| before(mark.at)).filter(|mark| mark.purge.matches(entry)) {
            if !mark.soft {
                return Since::Hard;
            }
            out = Since::Soft;
        }
        out
    }

    fn insert(&mut self, mark: Mark) {
        if mark.at <= self.floor || self.has(&mark) {
            return;
        }
        let at = self.recent.partition_point(|known| known.at <= mark.at);
        self.bytes += mark.bytes();
        self.recent.insert(at, mark);
        while self.recent.len() > MOST || self.bytes > MOST_BYTES {
            self.forget_oldest();
        }
    }

    /// Whether a mark is in the list; only those of its time are compared, because lists are merged mark by mark.
    fn has(&self, mark: &Mark) -> bool {
        let from = self.recent.partition_point(|known| known.at < mark.at);
        self.recent.range(from..).take_while(|known| known.at == mark.at).any(|known| known == mark)
    }

    fn forget_oldest(&mut self) {
        if let Some(oldest) = self.recent.pop_front() {
            self.bytes -= oldest.bytes();
            self.floor = self.floor.max(oldest.at);
        }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = self.floor.millis().to_le_bytes().to_vec();
        out.extend_from_slice(&(self.recent.len() as u32).to_le_bytes());
        self.recent.iter().for_each(|mark| mark.write(&mut out));
        let sum = checksum(&out);
        out.extend_from_slice(&sum);
        out
    }

    /// `None` when the bytes are no such list.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (mut fields, sum) = bytes.split_at_checked(bytes.len().checked_sub(16)?)?;
        if checksum(fields) != sum {
            return None;
        }
        let mut out = Self { floor: time(&mut fields)?, ..Self::default() };
        let count = length(&mut fields).filter(|n| *n <= MOST)?;
        for _ in 0..count {
            out.insert(Mark::read(&mut fields)?);
        }
        fields.is_empty().then_some(out)
    }
}

fn time(fields: &mut &[u8]) -> Option<Time> {
    Some(Time::from_millis(i64::from_le_bytes(take(fields, 8)?.try_into().ok()?)))
}

impl Mark {
    fn bytes(&self) -> usize {
        size_of::<Self>() + self.purge.words()
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.at.millis().to_le_bytes());
        out.push(u8::from(self.soft));
        self.purge.write(out);
    }

    fn read(fields: &mut &[u8]) -> Option<Self> {
        let at = time(fields)?;
        let [soft @ (0 | 1)] = *take(fields, 1)? else { return None };
        let purge = Purge::read(fields)?;
        Some(Self { at, purge, soft: soft == 1 })
    }
}

#[cfg(test)]
mod tests {
    use farthing_freshness::Subject;
    use proptest::prelude::*;

    use super::*;
    use crate::tests::{entry, subject};
    use farthing_freshness::Entry;

    fn purge() -> impl Strategy<Value = Purge> {
        prop_oneof![
            (0u64..4).prop_map(|n| Purge::Key(subject(n).key)),
            prop_oneof![Just("red"), Just("blue")].prop_map(|tag| Purge::Tag(tag.into())),
            any::<bool>().prop_map(|any| Purge::Prefix { route: any.then(|| "geo".into()), path: "/v1/items/1".into() }),
            Just(Purge::Tenant("globex".into())),
            (0u64..4).prop_map(|n| {
                let Subject { route, tenant, path, .. } = Subject::clone(&subject(n));
                Purge::Path { route, tenant, path }
            }),
            (0u64..4, any::<[bool; 3]>()).prop_map(|(n, given)| {
                let Subject { route, tenant, path, .. } = Subject::clone(&subject(n));
                let [tenant, path, tag] = [tenant, path, "red".into()]
                    .into_iter()
                    .zip(given)
                    .map(|(w, g)| g.then_some(w))
                    .collect::<Vec<_>>()
                    .try_into()
                    .unwrap();
                Purge::Within { route, tenant, path, tag }
            }),
            Just(Purge::All),
        ]
    }

    fn list() -> impl Strategy<Value = Vec<(i64, Purge, bool)>> {
        proptest::collection::vec((1i64..100, purge(), any::<bool>()), 0..12)
    }

    fn of(list: &[(i64, Purge, bool)]) -> Purges {
        let mut out = Purges::default();
        list.iter().for_each(|(at, purge, soft)| out.add(purge.clone(), *soft, Time::from_millis(*at)));
        out
    }

    proptest! {
        #[test]
        fn what_they_mean_is_what_each_of_them_means(list in list(), fetched in 0i64..110, n in 0u64..4) {
            let entry = Entry { fetched_at: Time::from_millis(fetched), ..entry(&subject(n), "x") };
            let hit = |soft: bool| list.iter().any(|(at, purge, s)| *s == soft && fetched <= at + 1 && purge.matches(&entry));
            let expected = if hit(false) { Since::Hard } else if hit(true) { Since::Soft } else { Since::Untouched };
            prop_assert_eq!(of(&list).since(&entry, entry.fetched_at, Span::ZERO), expected);
        }

        #[test]
        fn they_survive_and_damage_is_noticed(list in list(), at: prop::sample::Index, bit in 0u8..8) {
            let purges = of(&list);
            let mut bytes = purges.encode();
            prop_assert_eq!(Purges::decode(&bytes), Some(purges));
            let at = at.index(bytes.len());
            prop_assert_eq!(Purges::decode(&bytes[..at]), None);
            bytes[at] ^= 1 << bit;
            prop_assert_eq!(Purges::decode(&bytes), None);
        }

        #[test]
        fn merging_forgets_nothing_and_tells_who_lacked(a in list(), b in list()) {
            let (mut left, right) = (of(&a), of(&b));
            let lacked = left.merge(right.clone());
            let both: Vec<_> = a.iter().chain(&b).cloned().collect();
            prop_assert_eq!(&left, &of(&both));
            prop_assert_eq!(lacked, left != right);
        }
    }

    #[test]
    fn what_is_forgotten_counts_against_everything_older() {
        let mut purges = Purges::default();
        for at in 0..3_000 {
            purges.add(Purge::Tag(format!("tag {at}").into()), false, Time::from_millis(at));
        }
        assert!(purges.recent.len() <= MOST && purges.bytes <= MOST_BYTES);
        let since = |at| purges.since(&entry(&subject(1), "x"), Time::from_millis(at), Span::ZERO);
        assert_eq!(since(1_000), Since::Hard);
        assert_eq!(since(2_990), Since::Untouched);
        assert_eq!(Purges::decode(&purges.encode()), Some(purges));
    }
}

//! Deliveries that have come already, for as long as their time would let them come again.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

/// Ids remembered at most; the oldest goes. One that comes again after that purges once more, which costs calls and does no harm.
const MOST: usize = 10_000;

#[derive(Debug, Default)]
pub(super) struct Seen {
    order: VecDeque<(i64, Arc<str>)>,
    ids: HashSet<Arc<str>>,
}

impl Seen {
    /// Notes an id that is good until `until`; false when it was there.
    pub(super) fn note(&mut self, id: &str, until: i64, now: i64) -> bool {
        while self.order.front().is_some_and(|(until, _)| *until < now) || self.order.len() >= MOST {
            self.drop_oldest();
        }
        let id: Arc<str> = id.into();
        if !self.ids.insert(id.clone()) {
            return false;
        }
        self.order.push_back((until, id));
        true
    }

    /// Forgets an id that was not obeyed after all.
    pub(super) fn forget(&mut self, id: &str) {
        if self.ids.remove(id) {
            self.order.retain(|(_, known)| **known != *id);
        }
    }

    fn drop_oldest(&mut self) {
        if let Some((_, id)) = self.order.pop_front() {
            self.ids.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_remembered_within_bounds() {
        let mut seen = Seen::default();
        assert!(seen.note("a", 10, 0) && !seen.note("a", 10, 5) && seen.note("b", 20, 6));
        assert!(seen.note("a", 30, 11), "its time is over");
        seen.forget("b");
        assert!(seen.note("b", 30, 12));
        for n in 0..3 * MOST {
            assert!(seen.note(&n.to_string(), 100, 12));
        }
        assert_eq!((seen.order.len(), seen.ids.len()), (MOST, MOST));
    }
}

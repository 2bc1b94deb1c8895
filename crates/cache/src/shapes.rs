//! What entries have in common, each once.

use std::collections::HashSet;
use std::sync::Arc;

use farthing_freshness::Entry;
use farthing_freshness::entry::Shape;
use parking_lot::Mutex;

/// Shapes that are kept, of at most so many bytes each: two megabytes at most. What does not fit belongs to its entry, which is accounted with it.
const MOST: usize = 4_096;
const LARGEST: usize = 512;
/// How many have to be turned away before those that nobody has any more are looked for again.
const PATIENCE: usize = 1_024;

/// Shapes of entries that were stored lately.
#[derive(Debug, Default)]
pub(crate) struct Shapes(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    all: HashSet<Arc<Shape>>,
    turned_away: usize,
}

impl Shapes {
    /// The shape of an entry, and whether it is this entry's alone.
    pub(crate) fn common(&self, entry: &Entry) -> (Arc<Shape>, bool) {
        let shape = Shape::of(entry);
        let mut kept = self.0.lock();
        if let Some(known) = kept.all.get(&shape) {
            return (Arc::clone(known), false);
        }
        let own = shape.bytes() > LARGEST || !kept.has_room();
        let shape = Arc::new(shape);
        if !own {
            kept.all.insert(Arc::clone(&shape));
        }
        (shape, own)
    }
}

impl Kept {
    fn has_room(&mut self) -> bool {
        if self.all.len() < MOST {
            return true;
        }
        self.turned_away += 1;
        if self.turned_away % PATIENCE == 1 {
            self.all.retain(|shape| Arc::strong_count(shape) > 1);
        }
        self.all.len() < MOST
    }
}

#[cfg(test)]
mod tests {
    use farthing_freshness::Subject;

    use super::*;
    use crate::tests::{entry, subject};

    fn of_tenant(n: usize, length: usize) -> Entry {
        let tenant = format!("{n:0length$}").into();
        let own = subject(1);
        entry(&Arc::new(Subject { tenant, ..(*own).clone() }), "x")
    }

    #[test]
    fn entries_share_a_shape_and_too_many_or_too_large_ones_have_their_own() {
        let shapes = Shapes::default();
        let (one, own) = shapes.common(&of_tenant(0, 8));
        let (same, _) = shapes.common(&of_tenant(0, 8));
        assert!(Arc::ptr_eq(&one, &same) && !own);
        assert!(shapes.common(&of_tenant(0, LARGEST)).1, "too large");
        let held: Vec<_> = (1..MOST).map(|n| shapes.common(&of_tenant(n, 8))).collect();
        assert!(held.iter().all(|(_, own)| !own));
        assert!(shapes.common(&of_tenant(MOST, 8)).1, "no room");
        assert_eq!(shapes.0.lock().all.len(), MOST);
        drop(held);
        let found = (0..PATIENCE).find(|_| !shapes.common(&of_tenant(MOST, 8)).1);
        assert_eq!(found, Some(PATIENCE - 1), "those that nobody has make room, once in a while");
        assert_eq!(shapes.0.lock().all.len(), 2);
    }
}

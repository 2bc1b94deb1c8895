//! What the origin would have answered: the known truth behind simulated documents.

use farthing_types::Time;

/// Versions of documents over time; a pure function, so that provider and driver agree without talking.
pub trait Truth: Send + Sync {
    /// Version of document `key` of route number `route` at `at`; grows with time.
    fn version_at(&self, route: usize, key: u32, at: Time) -> u64;
    /// When that version appeared; `None` when it was there from the beginning.
    fn changed_at(&self, route: usize, key: u32, at: Time) -> Option<Time>;
}

/// Truth given by lists of change times, as a recorded trace has them.
#[derive(Debug, Default)]
pub struct ListedChanges {
    /// Sorted change times in ms per (route, key).
    changes: std::collections::HashMap<(usize, u32), Vec<i64>>,
}

impl ListedChanges {
    /// From (route, key, time in ms) in any order.
    pub fn new(changes: impl IntoIterator<Item = (usize, u32, i64)>) -> Self {
        let mut map: std::collections::HashMap<(usize, u32), Vec<i64>> = std::collections::HashMap::new();
        for (route, key, at) in changes {
            map.entry((route, key)).or_default().push(at);
        }
        map.values_mut().for_each(|times| times.sort_unstable());
        Self { changes: map }
    }

    fn upto(&self, route: usize, key: u32, at: Time) -> &[i64] {
        let times = self.changes.get(&(route, key)).map_or(&[][..], Vec::as_slice);
        &times[..times.partition_point(|&t| t <= at.millis())]
    }
}

impl Truth for ListedChanges {
    fn version_at(&self, route: usize, key: u32, at: Time) -> u64 {
        self.upto(route, key, at).len() as u64
    }
    fn changed_at(&self, route: usize, key: u32, at: Time) -> Option<Time> {
        self.upto(route, key, at).last().map(|&ms| Time::from_millis(ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_count_changes_up_to_and_including_now() {
        let truth = ListedChanges::new([(0, 7, 300), (0, 7, 100), (1, 7, 50)]);
        let version = |ms| truth.version_at(0, 7, Time::from_millis(ms));
        assert_eq!([99, 100, 299, 300, 900].map(version), [0, 1, 1, 2, 2]);
        assert_eq!(truth.changed_at(0, 7, Time::from_millis(200)), Some(Time::from_millis(100)));
        assert_eq!(truth.changed_at(0, 8, Time::from_millis(200)), None);
        assert_eq!(truth.version_at(0, 8, Time::from_millis(200)), 0);
    }
}

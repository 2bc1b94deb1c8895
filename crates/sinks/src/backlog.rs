//! What of a log is still to be shipped to one sink: pure, told what was found.
//!
//! Names are not kept: an hour whose folder has not changed since all of it was held needs no look, any other is looked at again.

use std::collections::BTreeMap;

use farthing_ledger::archive::HourFolder;
use farthing_types::{Span, Time};

/// Nanoseconds of an hour.
const HOUR_NS: i64 = 3_600_000_000_000;
/// A folder that changed so shortly before a look may change again without a new time: file systems count in ticks.
const TICK: Span = Span::from_secs(2);

/// A table, by its place among those that are shipped, and hours since 1970 UTC. Older hours come first.
pub type HourKey = (i64, usize);

/// How an hour stood when it was looked at last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Hour {
    /// The folder's time then, if that is sure to change with whatever comes.
    seen: Option<Time>,
    /// Files that the sink lacks.
    waiting: u64,
    /// When the oldest of them was finished.
    oldest: Option<Time>,
}

/// What is still to be shipped.
#[derive(Clone, Debug, Default)]
pub struct Backlog {
    hours: BTreeMap<HourKey, Hour>,
}

/// Files of one hour that the sink lacks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lacking {
    /// How many.
    pub files: u64,
    /// When the oldest was finished.
    pub oldest: Option<Time>,
}

impl Backlog {
    /// Which of the folders need a look.
    pub fn changed<'a>(&self, table: usize, folders: &'a [HourFolder]) -> Vec<&'a HourFolder> {
        let known = |folder: &&HourFolder| {
            self.hours.get(&(folder.hour, table)).is_some_and(|hour| hour.waiting == 0 && hour.seen == Some(folder.changed))
        };
        folders.iter().filter(|folder| !known(folder)).collect()
    }

    /// A folder was looked at, at `now` on the file system's clock.
    pub fn looked(&mut self, table: usize, folder: &HourFolder, lacking: Lacking, now: Time) {
        let seen = (now.since(folder.changed) >= TICK).then_some(folder.changed);
        self.hours.insert((folder.hour, table), Hour { seen, waiting: lacking.files, oldest: lacking.oldest });
    }

    /// The hours of a table from `since` on that have no folder any more; how many files were removed that the sink lacked and that retention, which
    /// keeps rows for `kept`, was due to remove at `now` on the log's clock. What is not due was forgotten.
    pub fn gone(&mut self, table: usize, folders: &[HourFolder], (since, kept, now): (i64, Option<Span>, Time)) -> u64 {
        let there = |hour: i64| folders.binary_search_by_key(&hour, |folder| folder.hour).is_ok();
        let gone: Vec<HourKey> =
            self.hours.range((since, 0)..).map(|(key, _)| *key).filter(|(hour, of)| *of == table && !there(*hour)).collect();
        let lost = |(hour, _): &HourKey| kept.is_some_and(|kept| now.since(Time::from_nanos((hour + 1) * HOUR_NS)) >= kept);
        gone.iter().filter_map(|key| self.hours.remove(key).filter(|_| lost(key))).map(|hour| hour.waiting).sum()
    }

    /// Hours from `since` on are to be looked at again: the sink may have lost what it held, as a database does that goes over to a copy of itself.
    pub fn doubt(&mut self, since: i64) {
        self.hours.range_mut((since, 0)..).for_each(|(_, hour)| hour.seen = None);
    }

    /// Hours before `first` are not shipped any more.
    pub fn forget_before(&mut self, first: i64) {
        self.hours = self.hours.split_off(&(first, 0));
    }

    /// A file of an hour is held now.
    pub fn shipped(&mut self, key: HourKey) {
        if let Some(hour) = self.hours.get_mut(&key) {
            hour.waiting = hour.waiting.saturating_sub(1);
            if hour.waiting == 0 {
                hour.oldest = None;
            }
        }
    }

    /// Files that the sink lacks.
    pub fn waiting(&self) -> u64 {
        self.hours.values().map(|hour| hour.waiting).sum()
    }

    /// When the oldest of them was finished.
    pub fn oldest(&self) -> Option<Time> {
        self.hours.values().filter_map(|hour| hour.oldest).min()
    }

    /// The oldest hour of a table of which the sink lacks a file.
    pub fn oldest_hour(&self, table: usize) -> Option<i64> {
        self.hours.iter().find(|((_, of), hour)| *of == table && hour.waiting > 0).map(|((hour, _), _)| *hour)
    }
}

/// The first day of which rows are shipped and kept, where the sink keeps them for `retention`: days whose last moment is older go as a whole.
pub fn first_day(retention: Option<Span>, now: Time) -> i64 {
    retention.map_or(i64::MIN, |span| {
        let age = i64::try_from(span.as_nanos()).unwrap_or(i64::MAX);
        now.nanos().saturating_sub(age).div_euclid(24 * HOUR_NS)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(hour: i64, changed_s: i64) -> HourFolder {
        HourFolder { hour, path: format!("hour-{hour}").into(), changed: Time::from_millis(changed_s * 1_000) }
    }
    fn at(seconds: i64) -> Time {
        Time::from_millis(seconds * 1_000)
    }
    fn lacking(files: u64, oldest_s: i64) -> Lacking {
        Lacking { files, oldest: (files > 0).then(|| at(oldest_s)) }
    }

    #[test]
    fn an_hour_is_looked_at_until_all_of_it_is_held_and_again_when_it_changes() {
        let mut backlog = Backlog::default();
        let folders = [folder(1, 100), folder(2, 200)];
        let hours = |backlog: &Backlog, folders: &[HourFolder]| backlog.changed(0, folders).iter().map(|f| f.hour).collect::<Vec<_>>();
        assert_eq!(hours(&backlog, &folders), [1, 2]);
        backlog.looked(0, &folders[0], lacking(2, 90), at(300));
        backlog.looked(0, &folders[1], lacking(0, 0), at(300));
        assert_eq!((hours(&backlog, &folders), backlog.waiting(), backlog.oldest()), (vec![1], 2, Some(at(90))));
        assert_eq!(hours(&backlog, &folders).len(), 1);
        assert_eq!(backlog.changed(1, &folders).len(), 2, "another table");
        backlog.shipped((1, 0));
        assert_eq!((hours(&backlog, &folders), backlog.oldest_hour(0)), (vec![1], Some(1)));
        backlog.shipped((1, 0));
        assert_eq!((hours(&backlog, &folders), backlog.waiting(), backlog.oldest()), (vec![], 0, None));
        assert_eq!(hours(&backlog, &[folder(1, 100), folder(2, 201)]), [2]);
        backlog.doubt(2);
        assert_eq!(hours(&backlog, &folders), [2], "the sink has failed meanwhile");
    }

    /// A file can come within the same tick of the file system's clock as the look before.
    #[test]
    fn a_look_within_a_tick_of_a_change_is_not_the_last() {
        let mut backlog = Backlog::default();
        backlog.looked(0, &folder(1, 100), lacking(0, 0), at(101));
        assert_eq!(backlog.changed(0, &[folder(1, 100)]).len(), 1);
        backlog.looked(0, &folder(1, 100), lacking(0, 0), at(102));
        assert!(backlog.changed(0, &[folder(1, 100)]).is_empty());
    }

    #[test]
    fn what_retention_removes_before_it_was_shipped_is_counted_and_what_was_forgotten_is_not() {
        let day = Span::from_secs(86_400);
        let now = Time::from_nanos(50 * HOUR_NS);
        let mut backlog = Backlog::default();
        for hour in [10, 20, 40, 49] {
            backlog.looked(0, &folder(hour, 0), lacking(3, 1), at(10));
        }
        backlog.looked(1, &folder(10, 0), lacking(7, 1), at(10));
        let there = [folder(20, 0)];
        assert_eq!(backlog.clone().gone(0, &there, (i64::MIN, None, now)), 0, "nothing is removed for its age");
        assert_eq!(backlog.gone(0, &there, (15, Some(day), now)), 0, "hour 10 was not looked at; 40 and 49 are not a day old");
        assert_eq!(backlog.waiting(), 3 + 3 + 7);
        assert_eq!(backlog.gone(0, &there, (i64::MIN, Some(day), now)), 3);
        assert_eq!(backlog.waiting(), 3 + 7);
        backlog.forget_before(11);
        assert_eq!((backlog.waiting(), backlog.oldest_hour(1)), (3, None));
    }

    #[test]
    fn days_go_when_their_last_moment_is_old_enough() {
        let day = 86_400;
        let retention = Some(Span::from_secs(2 * day));
        let now = |seconds: u64| Time::ZERO + Span::from_secs(seconds);
        assert_eq!(first_day(None, now(0)), i64::MIN);
        assert_eq!([first_day(retention, now(12 * day - 1)), first_day(retention, now(12 * day))], [9, 10]);
    }
}

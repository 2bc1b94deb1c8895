//! All series under watch, hour by hour.

use std::collections::HashMap;
use std::sync::Arc;

use super::forecast::{Forecast, forecast};
use super::history::{History, Hour};
use super::mix::{Mix, Split};
use super::series::{Found, Series};

/// Whose spend a series is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeriesKey {
    /// Who pays.
    pub tenant: Arc<str>,
    /// Who bills.
    pub provider: Arc<str>,
    /// The route.
    pub route: Arc<str>,
}

/// What an hour had of a series and a target.
#[derive(Clone, Debug, PartialEq)]
pub struct HourRow {
    /// The series.
    pub key: SeriesKey,
    /// The target; `None` where none is named.
    pub target: Option<Arc<str>>,
    /// Attempts of calls that were sent.
    pub calls: f64,
    /// What they cost as far as priced, dollars.
    pub usd: f64,
}

/// A change that is to be told.
#[derive(Clone, Debug, PartialEq)]
pub struct Anomaly {
    /// The series.
    pub key: SeriesKey,
    /// What has changed.
    pub found: Found,
    /// What the excess is made of.
    pub split: Split,
}

#[derive(Clone, Debug)]
struct Watched {
    series: Series,
    mix: Mix,
    /// The last hour with a call.
    heard: i64,
}

/// Bytes of a series, names and map included.
const BYTES: usize = Series::BYTES + Mix::BYTES + 512;

/// All series, within a bound.
#[derive(Clone, Debug)]
pub struct Watcher {
    series: HashMap<SeriesKey, Watched>,
    most: usize,
    /// Smallest excess that is told, dollars.
    floor: f64,
    next: Option<i64>,
    unwatched: u64,
}

impl Watcher {
    /// Within so many bytes; `floor`: smallest excess that is told, dollars.
    pub fn new(bytes: usize, floor: f64) -> Self {
        Self { series: HashMap::new(), most: (bytes / BYTES).max(1), floor, next: None, unwatched: 0 }
    }

    /// Series under watch.
    pub fn len(&self) -> usize {
        self.series.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.series.is_empty()
    }

    /// Times that a series was not watched because there was no room: once for each hour with a call of it.
    pub const fn unwatched(&self) -> u64 {
        self.unwatched
    }

    /// The hour that comes next, since 1970; `None` before the first one.
    pub const fn next(&self) -> Option<i64> {
        self.next
    }

    /// Takes an hour that is over. Hours between it and the one before had nothing; an hour that was taken already is left out.
    pub fn hour(&mut self, hour: i64, rows: &[HourRow]) -> Vec<Anomaly> {
        let next = self.next.unwrap_or(hour);
        let mut found = Vec::new();
        for empty in next..hour {
            found.extend(self.take(empty, &[]));
        }
        if hour >= next {
            found.extend(self.take(hour, rows));
        }
        found
    }

    fn take(&mut self, hour: i64, rows: &[HourRow]) -> Vec<Anomaly> {
        self.next = Some(hour + 1);
        self.forget(hour);
        let mut of_series: HashMap<&SeriesKey, Vec<&HourRow>> = HashMap::new();
        for row in rows {
            of_series.entry(&row.key).or_default().push(row);
        }
        let mut new: Vec<&SeriesKey> = of_series.keys().copied().filter(|key| !self.series.contains_key(*key)).collect();
        new.sort();
        for key in new {
            if self.series.len() < self.most {
                self.series.insert(key.clone(), Watched { series: Series::new(hour), mix: Mix::default(), heard: hour });
            } else {
                self.unwatched += 1;
            }
        }
        let floor = self.floor;
        let mut anomalies: Vec<Anomaly> = self
            .series
            .iter_mut()
            .flat_map(|(key, watched)| watched.hour((hour, floor), key, of_series.get(key).map_or(&[], Vec::as_slice)))
            .collect();
        anomalies.sort_by(|a, b| (&a.key, a.found.change).cmp(&(&b.key, b.found.change)));
        anomalies
    }

    /// Series without a call in the time that is remembered make room.
    fn forget(&mut self, hour: i64) {
        if hour.rem_euclid(24) == 0 {
            let remembered = (super::history::WEEK * super::history::WEEKS) as i64;
            self.series.retain(|_, watched| hour - watched.heard < remembered);
        }
    }

    /// Forgets the series of a tenant.
    pub fn forget_tenant(&mut self, tenant: &str) {
        self.series.retain(|key, _| *key.tenant != *tenant);
    }

    /// What a period will have cost at `until` (hour since 1970), of everything or of one tenant, when `so_far` dollars have been spent of
    /// it. `None` with less than two weeks known.
    pub fn forecast(&self, tenant: Option<&str>, (so_far, until): (f64, i64), seed: u64) -> Option<Forecast> {
        let next = self.next?;
        let of = || {
            self.series
                .iter()
                .filter(|(key, _)| tenant.is_none_or(|tenant| *key.tenant == *tenant))
                .map(|(_, watched)| watched.series.history())
        };
        let longest = of().map(History::known).max()?;
        let mut sum = History::new(next - longest as i64);
        for hour in next - longest as i64..next {
            let whole = of()
                .filter_map(|history| history.get(hour))
                .fold(Hour::default(), |sum, hour| Hour { calls: sum.calls + hour.calls, usd: sum.usd + hour.usd });
            sum.push(whole);
        }
        forecast(&sum, so_far, until, seed)
    }
}

impl Watched {
    fn hour(&mut self, (hour, floor): (i64, f64), key: &SeriesKey, rows: &[&HourRow]) -> Vec<Anomaly> {
        self.mix.hour(rows.iter().map(|row| (row.target.as_ref(), row.calls, row.usd)));
        let sum = rows.iter().fold(Hour::default(), |sum, row| Hour { calls: sum.calls + row.calls, usd: sum.usd + row.usd });
        if sum.calls > 0.0 {
            self.heard = hour;
        }
        let anomaly = |found: Found| Anomaly { key: key.clone(), split: self.mix.split(found.calls, found.spent - found.usual), found };
        self.series.push(sum, floor).into_iter().map(anomaly).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::series::Change;

    fn row(tenant: &str, calls: f64, usd: f64) -> HourRow {
        let key = SeriesKey { tenant: tenant.into(), provider: "openai".into(), route: "chat".into() };
        HourRow { key, target: Some("small".into()), calls, usd }
    }

    #[test]
    fn a_sudden_change_is_told_once_with_its_reason() {
        let mut watcher = Watcher::new(1 << 20, 5.0);
        let steady = |hour: i64| row("acme", 100.0 + (hour % 7) as f64, 1.0 + (hour % 7) as f64 / 100.0);
        for hour in 0..40 * 24 {
            assert_eq!(watcher.hour(hour, &[steady(hour), row("other", 50.0, 2.0)]), []);
        }
        let mut told = Vec::new();
        for hour in 40 * 24..42 * 24 {
            told.extend(watcher.hour(hour, &[row("acme", 1_000.0, 10.0), row("other", 50.0, 2.0)]));
        }
        assert_eq!(told.len(), 1, "{told:#?}");
        let (found, split) = (&told[0].found, &told[0].split);
        assert_eq!((&*told[0].key.tenant, found.change, found.from), ("acme", Change::SpendSuddenly, 960));
        assert!(found.to <= 962 && (found.spent - 10.0 * (found.to - 960) as f64).abs() < 1e-6, "{found:?}");
        assert!(split.calls > 0.9 * (found.spent - found.usual), "{split:?}");
    }

    #[test]
    fn too_little_money_is_not_worth_a_word() {
        let mut watcher = Watcher::new(1 << 20, 500.0);
        (0..40 * 24).for_each(|hour| assert_eq!(watcher.hour(hour, &[row("acme", 100.0, 1.0)]), []));
        let mut at = None;
        for hour in 40 * 24..45 * 24 {
            if !watcher.hour(hour, &[row("acme", 1_000.0, 10.0)]).is_empty() {
                assert_eq!(at, None, "once, though several detectors see it");
                at = Some(hour);
            }
        }
        assert_eq!(at.map(|at| at - 40 * 24), Some(55), "56 hours of 9 dollars too much");
    }

    #[test]
    fn series_are_bounded_and_room_is_made() {
        let mut watcher = Watcher::new(3 * BYTES, 5.0);
        let rows: Vec<HourRow> = (0..5).map(|n| row(&format!("t{n}"), 1.0, 1.0)).collect();
        watcher.hour(0, &rows);
        assert_eq!((watcher.len(), watcher.unwatched()), (3, 2));
        // Nothing of them for six weeks.
        watcher.hour(43 * 24, &[row("late", 1.0, 1.0)]);
        assert_eq!((watcher.len(), watcher.next()), (1, Some(43 * 24 + 1)));
        assert_eq!(watcher.hour(3, &rows), [], "an hour of the past is left out");
        assert_eq!(watcher.len(), 1);
        watcher.forget_tenant("late");
        assert!(watcher.is_empty());
    }

    #[test]
    fn a_period_is_forecast_of_all_and_of_a_tenant() {
        let mut watcher = Watcher::new(1 << 20, 5.0);
        (0..30 * 24).for_each(|hour| drop(watcher.hour(hour, &[row("acme", 100.0, 1.0), row("other", 50.0, 3.0)])));
        let all = watcher.forecast(None, (100.0, 40 * 24), 1).unwrap();
        assert!((all.quantile(0.5) - 1_060.0).abs() < 20.0, "{}", all.quantile(0.5));
        let one = watcher.forecast(Some("acme"), (0.0, 40 * 24), 1).unwrap();
        assert!((one.quantile(0.5) - 240.0).abs() < 5.0, "{}", one.quantile(0.5));
        assert_eq!((one.over(1_000.0), one.over(100.0)), (0.0, 1.0));
        assert_eq!(one, watcher.forecast(Some("acme"), (0.0, 40 * 24), 1).unwrap(), "the same seed, the same forecast");
        assert_eq!(watcher.forecast(Some("nobody"), (0.0, 40 * 24), 1), None);
    }
}

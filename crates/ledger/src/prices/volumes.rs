//! What has been used of monthly volumes.

use std::collections::BTreeMap;
use std::sync::Arc;

use farthing_types::{Time, civil};

use super::amount::Amount;

/// A calendar month in UTC, counted from year 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Month(i64);

const DAY_NS: i64 = 86_400_000_000_000;

impl Month {
    /// The month of a time.
    pub const fn of(time: Time) -> Self {
        let (year, month, _) = civil(time.nanos().div_euclid(DAY_NS));
        Self(year * 12 + month - 1)
    }

    /// The month before.
    pub const fn before(self) -> Self {
        Self(self.0 - 1)
    }

    /// `YYYY-MM`.
    pub fn text(self) -> String {
        format!("{:04}-{:02}", self.0.div_euclid(12), self.0.rem_euclid(12) + 1)
    }
}

/// One volume: of which prices, which meter, which month.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct VolumeKey {
    /// ``provider:NAME`` or ``route:NAME``: whose prices they are.
    pub owner: Arc<str>,
    /// The meter.
    pub meter: Arc<str>,
    /// The month of the calls.
    pub month: Month,
}

/// The volumes so far. A call's price depends on them where a meter has tiers or a free quota; it is settled in the order in which
/// calls end, and raises them.
///
/// Bounded by the meters of the prices times two months: [`Volumes::forget_before`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Volumes(BTreeMap<VolumeKey, Amount>);

impl Volumes {
    /// The volume so far.
    pub fn get(&self, key: &VolumeKey) -> Amount {
        self.0.get(key).copied().unwrap_or_default()
    }

    /// Raises a volume.
    pub fn add(&mut self, key: VolumeKey, amount: Amount) {
        let sum = self.0.entry(key).or_default();
        *sum = sum.plus(amount);
    }

    /// Forgets months before the one before `month`: a call that began in it may still end.
    pub fn forget_before(&mut self, month: Month) {
        self.0.retain(|key, _| key.month.0 + 1 >= month.0);
    }

    /// All volumes.
    pub fn iter(&self) -> impl Iterator<Item = (&VolumeKey, Amount)> {
        self.0.iter().map(|(key, amount)| (key, *amount))
    }

    /// Whether nothing was counted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_are_of_the_calendar_and_old_ones_are_forgotten() {
        let at = |days: i64| Time::from_nanos(days * DAY_NS);
        assert_eq!(Month::of(at(0)).text(), "1970-01");
        assert_eq!(Month::of(Time::from_nanos(-1)).text(), "1969-12");
        assert_eq!((Month::of(at(30)), Month::of(at(31)).text().as_str()), (Month::of(at(0)), "1970-02"));
        let key = |days| VolumeKey { owner: "provider:p".into(), meter: "m".into(), month: Month::of(at(days)) };
        let mut volumes = Volumes::default();
        for days in [0, 31, 60, 60] {
            volumes.add(key(days), Amount::units(2));
        }
        assert_eq!(volumes.get(&key(60)), Amount::units(4));
        volumes.forget_before(Month::of(at(60)));
        assert_eq!(volumes.iter().map(|(key, _)| key.month.text()).collect::<Vec<_>>(), ["1970-02", "1970-03"]);
    }
}

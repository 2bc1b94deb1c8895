//! What the running month has cost so far, exactly.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use farthing_types::{civil, day_number};

/// Tenants whose sums are kept; of those beyond there is no forecast of their own.
const TENANTS: usize = 10_000;
/// Hours that are remembered one by one: what ends late has its row in the hour in which it began.
pub(super) const AGAIN: i64 = 49;

/// Sums of a calendar month, UTC, nano-dollars.
#[derive(Debug, Default)]
pub(super) struct Month {
    /// The month's first hour since 1970, and the one after its last.
    hours: (i64, i64),
    all: i128,
    tenants: HashMap<Arc<str>, i128>,
    /// What the last hours came to, of all and of the tenants whose sums are kept.
    last: BTreeMap<i64, (i128, HashMap<Arc<str>, i128>)>,
}

/// The first hour of an hour's month and the one after its last, and its name.
pub(super) fn month_of(hour: i64) -> ((i64, i64), String) {
    let (year, month, _) = civil(hour.div_euclid(24));
    let (next_year, next) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
    ((24 * day_number(year, month, 1), 24 * day_number(next_year, next, 1)), format!("{year:04}-{month:02}"))
}

impl Month {
    /// Moves on to an hour's month; a new one begins with nothing.
    pub(super) fn turn(&mut self, hour: i64) {
        let (hours, _) = month_of(hour);
        if self.hours != hours {
            *self = Self { hours, ..Self::default() };
        }
    }

    /// Sets what an hour came to, also of one that was set before. Another month's changes nothing.
    pub(super) fn set<'a>(&mut self, hour: i64, spent: impl Iterator<Item = (&'a Arc<str>, i128)>) {
        if hour < self.hours.0 || hour >= self.hours.1 {
            return;
        }
        if let Some((all, tenants)) = self.last.remove(&hour) {
            self.all -= all;
            for (tenant, nanos) in tenants {
                if let Some(sum) = self.tenants.get_mut(&tenant) {
                    *sum -= nanos;
                }
            }
        }
        let (mut all, mut tenants) = (0, HashMap::new());
        for (tenant, nanos) in spent {
            self.add(tenant, nanos);
            all += nanos;
            if self.tenants.contains_key(tenant) {
                *tenants.entry(tenant.clone()).or_default() += nanos;
            }
        }
        self.last.insert(hour, (all, tenants));
        while self.last.len() as i64 > AGAIN {
            self.last.pop_first();
        }
    }

    /// Adds what a tenant spent in an hour of the month.
    fn add(&mut self, tenant: &Arc<str>, nanos: i128) {
        self.all += nanos;
        if let Some(sum) = self.tenants.get_mut(tenant) {
            *sum += nanos;
        } else if self.tenants.len() < TENANTS {
            self.tenants.insert(tenant.clone(), nanos);
        }
    }

    /// Forgets what a tenant spent; it stays in the sum of all.
    pub(super) fn forget_tenant(&mut self, tenant: &str) {
        self.tenants.remove(tenant);
        for (_, tenants) in self.last.values_mut() {
            tenants.remove(tenant);
        }
    }

    /// Spent so far, of all or of a tenant; `None` for a tenant that is not kept.
    pub(super) fn so_far(&self, tenant: Option<&str>) -> Option<i128> {
        match tenant {
            None => Some(self.all),
            Some(tenant) => self.tenants.get(tenant).copied(),
        }
    }

    /// The hour after its last.
    pub(super) const fn until(&self) -> i64 {
        self.hours.1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_are_those_of_the_calendar() {
        let december = 24 * day_number(2026, 12, 31) + 23;
        assert_eq!(month_of(december), ((24 * day_number(2026, 12, 1), december + 1), "2026-12".to_owned()));
        assert_eq!(month_of(december + 1).1, "2027-01");
        let mut month = Month::default();
        month.turn(december);
        let (acme, other) = ("acme".into(), "other".into());
        month.set(december, [(&acme, 3), (&other, 7), (&acme, 2)].into_iter());
        month.turn(december - 24);
        assert_eq!((month.so_far(None), month.so_far(Some("acme")), month.so_far(Some("nobody"))), (Some(12), Some(5), None));
        month.turn(december + 1);
        assert_eq!((month.so_far(None), month.until()), (Some(0), 24 * day_number(2027, 2, 1)));
    }
}

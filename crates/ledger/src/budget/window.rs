//! Days and months of a time zone as spans of time.

use farthing_types::{BudgetWindow, Time};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

/// A window in which a budget counts: from `start` up to, not including, `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowSpan {
    /// Its begin; the epoch for a budget that counts for ever.
    pub start: Time,
    /// Its end; `None` when it has none.
    pub end: Option<Time>,
}

impl WindowSpan {
    /// The window that counts for ever.
    pub const EVER: Self = Self { start: Time::ZERO, end: None };

    /// Whether `now` lies past its end.
    pub fn is_over(&self, now: Time) -> bool {
        self.end.is_some_and(|end| now >= end)
    }
}

/// Finds the windows of a budget.
#[derive(Clone, Debug)]
pub struct Windows {
    kind: BudgetWindow,
    zone: TimeZone,
}

impl Windows {
    /// Windows of `kind` in the time zone with this IANA name.
    ///
    /// # Errors
    /// A zone that nobody knows.
    pub fn new(kind: BudgetWindow, zone: &str) -> Result<Self, UnknownZone> {
        let zone = TimeZone::get(zone).map_err(|_| UnknownZone(zone.to_owned()))?;
        Ok(Self { kind, zone })
    }

    /// The window that holds `now`. Where a day begins in a gap of the clock, it begins with the first moment after it.
    pub fn at(&self, now: Time) -> WindowSpan {
        self.calendar(now).unwrap_or(WindowSpan::EVER)
    }

    fn calendar(&self, now: Time) -> Option<WindowSpan> {
        let local = self.zone.to_datetime(Timestamp::from_nanosecond(i128::from(now.nanos())).ok()?);
        let (first, next) = match self.kind {
            BudgetWindow::Ever => return None,
            BudgetWindow::Day => (local.date(), local.date().tomorrow().ok()?),
            BudgetWindow::Month => {
                let first = local.date().first_of_month();
                (first, first.checked_add(1.month()).ok()?)
            }
        };
        let begin = |date: jiff::civil::Date| self.zone.to_timestamp(date.at(0, 0, 0, 0)).ok();
        let time = |at: Timestamp| i64::try_from(at.as_nanosecond()).ok().map(Time::from_nanos);
        Some(WindowSpan { start: time(begin(first)?)?, end: Some(time(begin(next)?)?) })
    }
}

/// A time zone that nobody knows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no time zone: write an IANA name such as \"Europe/Berlin\", or \"UTC\"")]
pub struct UnknownZone(pub String);

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> Time {
        Time::from_nanos(i64::try_from(text.parse::<Timestamp>().unwrap().as_nanosecond()).unwrap())
    }

    fn window(kind: BudgetWindow, zone: &str, now: &str) -> (Time, Time) {
        let span = Windows::new(kind, zone).unwrap().at(time(now));
        (span.start, span.end.unwrap())
    }

    #[test]
    fn days_and_months_begin_where_the_zone_says() {
        for (kind, zone, now, start, end) in [
            (BudgetWindow::Day, "UTC", "2026-11-26T23:59:59.999Z", "2026-11-26T00:00:00Z", "2026-11-27T00:00:00Z"),
            (BudgetWindow::Day, "Europe/Berlin", "2026-11-26T23:30:00Z", "2026-11-26T23:00:00Z", "2026-11-27T23:00:00Z"),
            (BudgetWindow::Month, "America/New_York", "2026-12-01T04:00:00Z", "2026-11-01T04:00:00Z", "2026-12-01T05:00:00Z"),
            (BudgetWindow::Month, "UTC", "2028-02-29T12:00:00Z", "2028-02-01T00:00:00Z", "2028-03-01T00:00:00Z"),
            // 23 hours: the clock is put forward.
            (BudgetWindow::Day, "Europe/Berlin", "2026-03-29T12:00:00Z", "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z"),
            // The day begins at one: there is no midnight.
            (BudgetWindow::Day, "America/Santiago", "2026-09-06T12:00:00Z", "2026-09-06T04:00:00Z", "2026-09-07T03:00:00Z"),
        ] {
            assert_eq!(window(kind, zone, now), (time(start), time(end)), "{kind} {zone} {now}");
        }
    }

    #[test]
    fn windows_follow_each_other_without_gap() {
        for (kind, zone) in [(BudgetWindow::Day, "Europe/London"), (BudgetWindow::Month, "Australia/Lord_Howe")] {
            let windows = Windows::new(kind, zone).unwrap();
            let mut at = time("2026-01-01T00:00:00Z");
            for _ in 0..500 {
                let span = windows.at(at);
                let end = span.end.unwrap();
                assert!(span.start <= at && at < end && span.is_over(end) && !span.is_over(at));
                assert_eq!(windows.at(end).start, end);
                at = end;
            }
        }
    }

    #[test]
    fn for_ever_has_no_end_and_a_wrong_zone_is_named() {
        assert_eq!(Windows::new(BudgetWindow::Ever, "UTC").unwrap().at(Time::from_millis(5)), WindowSpan::EVER);
        assert!(Windows::new(BudgetWindow::Day, "Europe/Berln").unwrap_err().to_string().contains("Europe/Berln"));
    }
}

//! Spans of time as people ask for them. Days and months are those of UTC.

use farthing_types::{Time, civil, day_number};
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

const SECOND: i64 = 1_000_000_000;
const DAY: i64 = 86_400 * SECOND;
/// Longest span that can be asked about.
const LONGEST: i64 = 3_660 * DAY;

/// From the first moment to the one that is no longer in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// The first moment.
    pub from: Time,
    /// The first moment after it.
    pub to: Time,
}

impl Window {
    /// Reads `7d`, `24h`, `30m`, `today`, `yesterday`, `month`, `lastmonth`, or two times `FROM,TO` (RFC 3339, or days).
    ///
    /// # Errors
    /// What can be written instead.
    pub fn parse(text: &str, now: Time) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{text}` is no window: write 7d, 24h, 30m, 4w, today, yesterday, month, lastmonth, or two times FROM,TO like \
                 2026-11-01T00:00:00Z,2026-11-08T00:00:00Z"
            )
        };
        let window = Self::of_word(text, now).or_else(|| Self::of_span(text, now)).or_else(|| Self::of_times(text)).ok_or_else(wrong)?;
        let length = window.to.nanos().saturating_sub(window.from.nanos());
        match length {
            ..=0 => Err(format!("`{text}` ends before it begins: write the earlier time first")),
            _ if length > LONGEST => Err(format!("`{text}` is longer than ten years: write a shorter window")),
            _ => Ok(window),
        }
    }

    fn of_word(text: &str, now: Time) -> Option<Self> {
        let today = now.nanos().div_euclid(DAY);
        let (year, month, _) = civil(today);
        let (from, to) = match text {
            "today" => (day(today), now),
            "yesterday" => (day(today - 1), day(today)),
            "month" => (day(day_number(year, month, 1)), now),
            "lastmonth" => {
                let (last_year, last) = if month == 1 { (year - 1, 12) } else { (year, month - 1) };
                (day(day_number(last_year, last, 1)), day(day_number(year, month, 1)))
            }
            _ => return None,
        };
        // The moment of midnight itself is a window of its own.
        Some(Self { from, to: to.max(Time::from_nanos(from.nanos() + 1)) })
    }

    fn of_span(text: &str, now: Time) -> Option<Self> {
        let span = parse_span(text)?;
        Some(Self { from: Time::from_nanos(now.nanos().saturating_sub(span)), to: now })
    }

    fn of_times(text: &str) -> Option<Self> {
        let (from, to) = text.split_once(',')?;
        Some(Self { from: parse_time(from.trim())?, to: parse_time(to.trim())? })
    }

    /// Whether a moment is in it.
    pub const fn contains(&self, ns: i64) -> bool {
        self.from.nanos() <= ns && ns < self.to.nanos()
    }
}

fn day(number: i64) -> Time {
    Time::from_nanos(number.saturating_mul(DAY))
}

/// `90s`, `30m`, `24h`, `7d`, `4w` in nanoseconds; `None` for anything else, zero among it.
pub(super) fn parse_span(text: &str) -> Option<i64> {
    let unit = match text.chars().last()? {
        's' => SECOND,
        'm' => 60 * SECOND,
        'h' => 3_600 * SECOND,
        'd' => DAY,
        'w' => 7 * DAY,
        _ => return None,
    };
    let digits = &text[..text.len() - 1];
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    let count: i64 = digits.parse().ok().filter(|count| plain && *count > 0)?;
    count.checked_mul(unit)
}

/// A time of RFC 3339, or a day (its first moment, UTC).
pub fn parse_time(text: &str) -> Option<Time> {
    // A `+` before an offset that was not encoded arrives in a query as a space.
    let offset = text.rfind(' ').filter(|at| *at >= 19).and_then(|at| Some(format!("{}+{}", text.get(..at)?, text.get(at + 1..)?)));
    let text = offset.as_deref().unwrap_or(text);
    let at: Timestamp = match text.parse::<Date>() {
        Ok(date) if text.len() == 10 => TimeZone::UTC.to_timestamp(date.at(0, 0, 0, 0)).ok()?,
        _ => text.parse().ok()?,
    };
    i64::try_from(at.as_nanosecond()).ok().map(Time::from_nanos)
}

/// `2026-01-31T23:59:59Z` of a time.
pub fn utc(time: Time) -> String {
    let seconds = time.nanos().div_euclid(SECOND);
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", second / 3_600, second / 60 % 60, second % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Time {
        parse_time(text).unwrap()
    }

    #[test]
    fn days_and_their_numbers_belong_together() {
        for days in -200_000..200_000 {
            let (year, month, day) = civil(days);
            assert_eq!(day_number(year, month, day), days);
        }
    }

    #[test]
    fn times_are_read_and_printed() {
        assert_eq!(at("2026-11-01T00:00:00Z"), at("2026-11-01"));
        assert_eq!(at("2026-11-01T01:30:00+01:30"), at("2026-11-01"));
        assert_eq!(at("2026-11-01T00:00:00.25Z").nanos() - at("2026-11-01").nanos(), 250_000_000);
        assert_eq!(utc(at("2024-02-29t23:59:59-00:00")), "2024-02-29T23:59:59Z");
        for bad in ["", "2026", "2026-13-01", "2025-02-29", "2026-11-01T24:00:00Z", "2026-11-01T00:00:00", "2026-11-01T00:00:00.Z", "x"] {
            assert_eq!(parse_time(bad), None, "{bad}");
        }
    }

    #[test]
    fn windows_as_people_ask_for_them() {
        let now = at("2026-03-01T12:00:00Z");
        for (text, from, to) in [
            ("7d", "2026-02-22T12:00:00Z", "2026-03-01T12:00:00Z"),
            ("90m", "2026-03-01T10:30:00Z", "2026-03-01T12:00:00Z"),
            ("today", "2026-03-01", "2026-03-01T12:00:00Z"),
            ("yesterday", "2026-02-28", "2026-03-01"),
            ("month", "2026-03-01", "2026-03-01T12:00:00Z"),
            ("lastmonth", "2026-02-01", "2026-03-01"),
            ("2026-01-01,2026-01-31T00:00:00Z", "2026-01-01", "2026-01-31"),
        ] {
            assert_eq!(Window::parse(text, now), Ok(Window { from: at(from), to: at(to) }), "{text}");
        }
        assert_eq!(Window::parse("lastmonth", at("2026-01-05")).unwrap().from, at("2025-12-01"));
        assert!(Window::parse("month", at("2026-01-01")).is_ok(), "also at midnight");
        for (text, told) in [("0d", "write 7d"), ("d", "write 7d"), ("7y", "write 7d"), ("", "write 7d"), ("99999d", "ten years")] {
            let error = Window::parse(text, now).unwrap_err();
            assert!(error.contains(told), "{text}: {error}");
        }
        assert!(Window::parse("2026-02-01,2026-01-01", now).unwrap_err().contains("earlier time first"));
    }
}

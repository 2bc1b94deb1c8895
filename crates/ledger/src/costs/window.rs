//! Spans of time as people ask for them. Days and months are those of UTC.

use farthing_types::{Time, civil};

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

/// Days since 1970 of a day of the Gregorian calendar: the inverse of [`civil`].
pub const fn day_number(year: i64, month: i64, day: i64) -> i64 {
    // Counted from 1 March, as `civil` does.
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// A time of RFC 3339, or a day (its first moment, UTC).
pub fn parse_time(text: &str) -> Option<Time> {
    let number = |from: usize, to: usize| -> Option<i64> {
        let digits = text.get(from..to)?;
        digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
    };
    let mark = |at: usize, marks: &[u8]| text.as_bytes().get(at).filter(|byte| marks.contains(byte));
    mark(4, b"-").and(mark(7, b"-"))?;
    let (year, month, day_of_month) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let days = day_number(year, month, day_of_month);
    if civil(days) != (year, month, day_of_month) {
        return None;
    }
    if text.len() == 10 {
        return Some(day(days));
    }
    mark(10, b"Tt ").and(mark(13, b":")).and(mark(16, b":"))?;
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let (fraction, zone) = fraction(text.get(19..)?)?;
    let seconds = days * 86_400 + hour * 3_600 + minute * 60 + second - offset(zone)?;
    Some(Time::from_nanos(seconds.checked_mul(SECOND)?.checked_add(fraction)?))
}

/// The nanoseconds of a fraction at the beginning, and what follows it.
fn fraction(text: &str) -> Option<(i64, &str)> {
    let Some(rest) = text.strip_prefix('.') else { return Some((0, text)) };
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let nanos = rest.get(..digits.min(9))?;
    if digits == 0 {
        return None;
    }
    Some((format!("{nanos:0<9}").parse().ok()?, rest.get(digits..)?))
}

/// Seconds east of UTC.
fn offset(zone: &str) -> Option<i64> {
    if matches!(zone, "Z" | "z") {
        return Some(0);
    }
    let sign = match zone.as_bytes().first()? {
        b'+' | b' ' => 1, // a `+` that was not encoded arrives in a query as a space
        b'-' => -1,
        _ => return None,
    };
    let (hours, minutes) = zone.get(1..)?.split_once(':')?;
    let two =
        |digits: &str| (digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse::<i64>().ok()).flatten();
    let (hours, minutes) = (two(hours)?, two(minutes)?);
    (hours < 24 && minutes < 60).then_some(sign * (hours * 3_600 + minutes * 60))
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

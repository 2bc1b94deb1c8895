//! Times of foreign logs as nanoseconds since 1970 UTC: the stamp of access logs, ISO 8601, and counts since the epoch.

use serde::Deserialize;

/// How times are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimeFormat {
    /// ISO 8601 for text; for numbers the unit that puts them between 1973 and 2286.
    #[default]
    Auto,
    /// ISO 8601 (RFC 3339, with a space for `T` and without a zone as well; no zone means UTC).
    Iso8601,
    /// `10/Oct/2000:13:55:36 -0700`.
    Clf,
    /// Seconds since 1970 UTC, with or without a fraction.
    EpochS,
    /// Milliseconds.
    EpochMs,
    /// Microseconds.
    EpochUs,
    /// Nanoseconds.
    EpochNs,
}

const SECOND: i64 = 1_000_000_000;

impl TimeFormat {
    /// Reads a text; `None` when it is no such time, or one outside of what 64 bits of nanoseconds hold.
    pub fn text(self, text: &str) -> Option<i64> {
        let text = text.trim();
        match self {
            Self::Iso8601 => iso8601(text),
            Self::Clf => clf(text.as_bytes()),
            Self::Auto if text.bytes().any(|b| matches!(b, b':' | b'-')) => iso8601(text).or_else(|| clf(text.as_bytes())),
            _ => self.decimal(text),
        }
    }

    /// Reads a whole number.
    pub fn whole(self, number: i64) -> Option<i64> {
        number.checked_mul(self.unit(number)?)
    }

    /// Nanoseconds of one unit; for `Auto` by the size of the number.
    fn unit(self, number: i64) -> Option<i64> {
        Some(match self {
            Self::EpochS => SECOND,
            Self::EpochMs => 1_000_000,
            Self::EpochUs => 1_000,
            Self::EpochNs => 1,
            Self::Auto => match number.unsigned_abs() {
                0..100_000_000_000 => SECOND,
                100_000_000_000..100_000_000_000_000 => 1_000_000,
                100_000_000_000_000..100_000_000_000_000_000 => 1_000,
                _ => 1,
            },
            Self::Iso8601 | Self::Clf => return None,
        })
    }

    /// A decimal, exactly: the fraction is cut at a nanosecond.
    fn decimal(self, text: &str) -> Option<i64> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let number: i64 = whole.parse().ok()?;
        let unit = self.unit(number)?;
        let part = parts_of(fraction.as_bytes(), unit)?;
        number.checked_mul(unit)?.checked_add(if whole.starts_with('-') { -part } else { part })
    }
}

/// The fraction of a unit that decimal digits stand for.
fn parts_of(digits: &[u8], unit: i64) -> Option<i64> {
    let (mut sum, mut place) = (0, unit);
    for digit in digits {
        let value = digit.checked_sub(b'0').filter(|d| *d < 10)?;
        place /= 10;
        sum += place * i64::from(value);
    }
    Some(sum)
}

/// Days since 1970 of a day in the Gregorian calendar; `None` for a day that does not exist.
///
/// Counts from 1 March of year 0, so that the leap day is the last of its year.
fn days(year: i64, month: i64, day: i64) -> Option<i64> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        4 | 6 | 9 | 11 => 30,
        2 => 28 + i64::from(leap),
        1..=12 => 31,
        _ => return None,
    };
    if !(1..=length).contains(&day) {
        return None;
    }
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, year) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    Some(era * 146_097 + year * 365 + year / 4 - year / 100 + day_of_year - 719_468)
}

/// A date and a time of day as nanoseconds; a 60th second (leap second) counts as the first of the next minute.
fn moment(date: (i64, i64, i64), (hour, minute, second): (i64, i64, i64), zone_s: i64) -> Option<i64> {
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let seconds = days(date.0, date.1, date.2)? * 86_400 + hour * 3_600 + minute * 60 + second - zone_s;
    seconds.checked_mul(SECOND)
}

fn number(bytes: &[u8]) -> Option<i64> {
    let digit = |sum: i64, byte: &u8| byte.checked_sub(b'0').filter(|d| *d < 10).map(|d| sum * 10 + i64::from(d));
    if bytes.is_empty() || bytes.len() > 9 { None } else { bytes.iter().try_fold(0, digit) }
}

/// `+0200`, `+02:00`, `+02`, `Z` or nothing, in seconds.
fn zone(bytes: &[u8]) -> Option<i64> {
    let sign = match bytes.first() {
        None => return Some(0),
        Some(b'Z' | b'z') if bytes.len() == 1 => return Some(0),
        Some(b'+') => 1,
        Some(b'-') => -1,
        Some(_) => return None,
    };
    let minutes = match bytes.len() {
        3 => 0,
        5 => number(bytes.get(3..5)?)?,
        6 if bytes.get(3) == Some(&b':') => number(bytes.get(4..6)?)?,
        _ => return None,
    };
    let hours = number(bytes.get(1..3)?)?;
    (hours <= 23 && minutes <= 59).then_some(sign * (hours * 3_600 + minutes * 60))
}

/// `10/Oct/2000:13:55:36 -0700`, as Apache and nginx write it between brackets.
pub fn clf(bytes: &[u8]) -> Option<i64> {
    let (stamp, rest) = bytes.split_at_checked(20)?;
    let marks = [(2, b'/'), (6, b'/'), (11, b':'), (14, b':'), (17, b':')];
    if marks.iter().any(|(at, mark)| stamp.get(*at) != Some(mark)) {
        return None;
    }
    let part = |range: std::ops::Range<usize>| number(stamp.get(range)?);
    let date = (part(7..11)?, month(stamp.get(3..6)?)?, part(0..2)?);
    moment(date, (part(12..14)?, part(15..17)?, part(18..20)?), zone(rest.trim_ascii())?)
}

fn month(name: &[u8]) -> Option<i64> {
    const NAMES: [&[u8; 3]; 12] = [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];
    NAMES.iter().position(|n| n.eq_ignore_ascii_case(name)).and_then(|i| i64::try_from(i + 1).ok())
}

/// ISO 8601 with a date, a time of day, and optionally a fraction and a zone.
fn iso8601(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    let marks = [(4, b'-'), (7, b'-'), (13, b':')];
    if marks.iter().any(|(at, mark)| bytes.get(*at) != Some(mark)) || !matches!(bytes.get(10), Some(b'T' | b't' | b' ')) {
        return None;
    }
    let part = |range: std::ops::Range<usize>| number(bytes.get(range)?);
    let (second, mut rest) = match bytes.get(16) {
        Some(b':') => (part(17..19)?, bytes.get(19..)?),
        _ => (0, bytes.get(16..)?),
    };
    let mut nanos = 0;
    if let Some(fraction) = rest.strip_prefix(b".").or_else(|| rest.strip_prefix(b",")) {
        let digits = fraction.iter().take_while(|b| b.is_ascii_digit()).count();
        nanos = parts_of(fraction.get(..digits).filter(|d| !d.is_empty())?, SECOND)?;
        rest = fraction.get(digits..)?;
    }
    let date = (part(0..4)?, part(5..7)?, part(8..10)?);
    moment(date, (part(11..13)?, part(14..16)?, second), zone(rest.trim_ascii())?)?.checked_add(nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_of_access_logs() {
        assert_eq!(clf(b"10/Oct/2000:13:55:36 -0700"), Some(971_211_336 * SECOND));
        assert_eq!(clf(b"01/Jan/1970:00:00:00 +0000"), Some(0));
        assert_eq!(clf(b"29/Feb/2024:23:59:60 +0530"), Some(1_709_231_400 * SECOND));
        for wrong in [
            "",
            "10/Oct/2000",
            "31/Apr/2000:13:55:36 -0700",
            "10/Foo/2000:13:55:36 -0700",
            "10/Oct/2000:24:55:36 -0700",
            "10/Oct/2000:13:55:36 PST",
        ] {
            assert_eq!(clf(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn iso_8601_in_its_usual_dresses() {
        let at = 1_714_567_890 * SECOND;
        for text in [
            "2024-05-01T12:51:30Z",
            "2024-05-01 12:51:30",
            "2024-05-01T14:51:30+02:00",
            "2024-05-01T14:51:30+0200",
            "2024-05-01t04:51:30.000-08",
            "2024-05-01 12:51:30 Z",
        ] {
            assert_eq!(TimeFormat::Auto.text(text), Some(at), "{text}");
        }
        assert_eq!(TimeFormat::Iso8601.text("2024-05-01T12:51:30.123456789Z"), Some(at + 123_456_789));
        for wrong in ["2024-05-01", "2024-02-30T00:00:00Z", "2024-05-01T12:51:30.Z", "2024-05-01T12:51:30+25:00", "yesterday"] {
            assert_eq!(TimeFormat::Iso8601.text(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn counts_since_the_epoch_in_every_unit() {
        let at = 1_714_567_890_123_000_000;
        assert_eq!(TimeFormat::EpochS.text("1714567890.123"), Some(at));
        assert_eq!(TimeFormat::Auto.text("1714567890.123"), Some(at));
        assert_eq!(TimeFormat::EpochS.text("-1.5"), Some(-1_500_000_000));
        for (format, number) in [
            (TimeFormat::EpochMs, 1_714_567_890_123),
            (TimeFormat::EpochUs, 1_714_567_890_123_000),
            (TimeFormat::EpochNs, at),
            (TimeFormat::Auto, 1_714_567_890_123),
            (TimeFormat::Auto, 1_714_567_890_123_000),
            (TimeFormat::Auto, at),
        ] {
            assert_eq!(format.whole(number), Some(at), "{format:?} {number}");
        }
        assert_eq!(TimeFormat::EpochS.whole(i64::MAX), None, "outside of 64 bits of nanoseconds");
    }
}

//! Times on the command line.

use farthing_ledger::archive::day_number;

/// Nanoseconds since 1970 of `7d`, `12h`, `90m` (so long before `now_ns`), of a day `2026-11-30`, or of a time
/// `2026-11-30T18:00`, UTC.
///
/// # Errors
/// What may be written instead.
pub fn when(text: &str, now_ns: i64) -> Result<i64, String> {
    let day = |text: &str| day_number(text).and_then(|days| days.checked_mul(86_400_000_000_000));
    let found = match text.split_once('T') {
        Some((date, time)) => day(date).zip(of_day(time)).map(|(date, time)| date + time),
        None => day(text).or_else(|| ago(text).and_then(|ns| now_ns.checked_sub(ns))),
    };
    found.ok_or_else(|| {
        format!("`{text}` is no time: write how long ago (7d, 12h, 90m), a day (2026-11-30) or a time in UTC (2026-11-30T18:00)")
    })
}

fn ago(text: &str) -> Option<i64> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let seconds = match unit {
        "w" => 604_800,
        "d" => 86_400,
        "h" => 3_600,
        "m" => 60,
        "s" => 1,
        _ => return None,
    };
    number.parse::<u32>().ok().and_then(|number| i64::from(number).checked_mul(seconds * 1_000_000_000))
}

/// `HH:MM` or `HH:MM:SS`.
fn of_day(text: &str) -> Option<i64> {
    let parts: Vec<&str> = text.trim_end_matches('Z').split(':').collect();
    let number = |place: usize, below: i64| {
        let part = parts.get(place).copied().unwrap_or("00");
        part.parse::<i64>().ok().filter(|value| part.len() == 2 && (0..below).contains(value))
    };
    let seconds = number(0, 24)? * 3_600 + number(1, 60)? * 60 + number(2, 60)?;
    (2..=3).contains(&parts.len()).then_some(seconds * 1_000_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_in_three_ways() {
        let now = 1_790_000_000_000_000_000;
        let second = 1_000_000_000;
        for (text, ns) in [
            ("7d", now - 7 * 86_400 * second),
            ("90m", now - 5_400 * second),
            ("2w", now - 14 * 86_400 * second),
            ("1970-01-02", 86_400 * second),
            ("1970-01-01T01:02", 3_720 * second),
            ("1970-01-01T01:02:03Z", 3_723 * second),
        ] {
            assert_eq!(when(text, now), Ok(ns), "{text}");
        }
        for text in
            ["", "d", "7", "7y", "-1d", "2026-02-30", "2026-01-01T", "2026-01-01T24:00", "2026-01-01T1:00", "2026-01-01T01:00:00:00", "é"]
        {
            assert!(when(text, now).unwrap_err().contains("write how long ago"), "{text}");
        }
    }
}

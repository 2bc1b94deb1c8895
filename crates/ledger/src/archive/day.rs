//! Days of the calendar as numbers.

use farthing_types::civil;

/// Days since 1970 of `YYYY-MM-DD`; `None` for what is no day of the calendar.
///
/// Counts as [`civil`] does, from 1 March of year 0, and asks it whether there is such a day.
pub fn day_number(text: &str) -> Option<i64> {
    let (year, month, day) = match text.as_bytes() {
        [_, _, _, _, b'-', _, _, b'-', _, _] if text.bytes().all(|b| b.is_ascii_digit() || b == b'-') => {
            (text.get(..4)?.parse::<i64>().ok()?, text.get(5..7)?.parse().ok()?, text.get(8..)?.parse().ok()?)
        }
        _ => return None,
    };
    let days = farthing_types::day_number(year, month, day);
    (civil(days) == (year, month, day)).then_some(days)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_day_has_its_number() {
        for days in (-700_000..2_900_000).step_by(17) {
            let (year, month, day) = civil(days);
            assert_eq!(day_number(&format!("{year:04}-{month:02}-{day:02}")), (year >= 0).then_some(days), "{year}-{month}-{day}");
        }
        for text in ["2023-02-29", "1900-02-29", "2024-13-01", "2024-00-01", "2024-1-1", "2024-01-01T00", "", "+024-01-01", "2024-01--1"] {
            assert_eq!(day_number(text), None, "{text}");
        }
    }
}

//! HTTP dates, as a cache reads them.

use farthing_types::Time;
use http::HeaderValue;

const DAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
/// The longest date: one of RFC 850 on a Wednesday.
const LONGEST: usize = 33;

/// Reads an HTTP date in any of its three forms (RFC 9110 section 5.6.7), whatever the case of its letters, as caches should (RFC 9111
/// section 4.2). A day of the week that is not the date's is let pass: it adds nothing to the date. Any other zone than GMT makes it no date.
pub fn parse_date(value: &HeaderValue) -> Option<Time> {
    let text = value.to_str().ok()?;
    let read = |text: &str| httpdate::parse_http_date(text).ok();
    let at = read(text).or_else(|| spellings(text)?.iter().find_map(|text| read(text)))?;
    let span = at.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(Time::ZERO + span)
}

/// The same date in the usual case of letters, on each day of the week; `None` for what does not begin with a day.
fn spellings(text: &str) -> Option<[String; 7]> {
    let end = text.find(|c: char| !c.is_ascii_alphabetic()).filter(|_| text.len() <= LONGEST)?;
    let (day, rest) = text.split_at(end);
    let name = |full: &'static str| if day.len() == 3 { &full[..3] } else { full };
    DAYS.iter().find(|full| name(full).eq_ignore_ascii_case(day))?;
    let mut begins = true;
    let mut rest: String = rest
        .chars()
        .map(|c| {
            let letter = if begins { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() };
            begins = !c.is_ascii_alphabetic();
            letter
        })
        .collect();
    if rest.ends_with("Gmt") {
        rest.truncate(rest.len() - 3);
        rest.push_str("GMT");
    }
    Some(DAYS.map(|full| format!("{}{rest}", name(full))))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Option<u64> {
        parse_date(&HeaderValue::from_str(text).unwrap()).map(|at| at.since(Time::ZERO).as_secs())
    }

    proptest! {
        /// All forms say the same in any case, on any day of the week.
        #[test]
        fn case_and_day_say_nothing(seconds in 0u64..4_000_000_000, day in 0..7usize, flips in any::<u64>()) {
            let usual = httpdate::fmt_http_date(std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds));
            let flipped = |text: &str| text.chars().enumerate().map(|(n, c)| {
                if flips >> (n % 64) & 1 == 1 { if c.is_ascii_lowercase() { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() } } else { c }
            }).collect::<String>();
            let (date, month, year, clock) = (&usual[5..7], &usual[8..11], &usual[12..16], &usual[17..25]);
            prop_assert_eq!(read(&flipped(&format!("{}{}", &DAYS[day][..3], &usual[3..]))), Some(seconds));
            prop_assert_eq!(read(&flipped(&format!("{} {month} {date} {clock} {year}", &DAYS[day][..3]))), Some(seconds));
            // Two digits of a year mean 1970 to 2069.
            if seconds < 3_124_224_000 {
                prop_assert_eq!(read(&flipped(&format!("{}, {date}-{month}-{} {clock} GMT", DAYS[day], &year[2..]))), Some(seconds));
            }
        }

        #[test]
        fn anything_may_come(text in "[ -~]{0,40}") {
            let _ = read(&text);
        }
    }

    #[test]
    fn what_is_no_date_is_none() {
        for bad in [
            "0",
            "",
            "Thu",
            "Thu, 18 Aug 2050 02:01:18 UTC",
            "Thu, 18 Aug 2050 02:01:18 AEST",
            "Thu, 18 Aug 50 02:01:18 GMT",
            "Thu 18 Aug 2050 02:01:18 GMT",
            "Thu, 18  Aug  2050 02:01:18 GMT",
            "Thu, 18-Aug-2050 02:01:18 GMT",
            "Thu, 18 Aug 2050 02.01.18 GMT",
            "Thu, 18 Aug 2050 2:01:18 GMT",
            "Thu, 31 Feb 2050 02:01:18 GMT",
            "Thi, 18 Aug 2050 02:01:18 GMT",
            "Thursday, 18 Aug 2050 02:01:18 GMT",
            "Thu, 18 Aug 1969 02:01:18 GMT",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
        assert_eq!(read("Thu Aug  8 02:01:18 2050"), read("Mon, 08 Aug 2050 02:01:18 GMT"));
    }
}

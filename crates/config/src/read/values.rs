//! Parsers of single values. Each refusal says what to write instead.

use std::net::SocketAddr;
use std::sync::Arc;

use farthing_types::{Coding, Money, Rate, Span};
use http::{Method, Uri};
use toml::de::DeValue;

use super::section::{Bad, show};
use crate::PathTemplate;

type Parsed<T> = Result<T, Bad>;

fn bad<T>(value: &DeValue<'_>, remedy: impl Into<String>) -> Parsed<T> {
    Err(Bad { found: show(value), remedy: remedy.into() })
}

pub(crate) fn flag(value: &DeValue<'_>) -> Parsed<bool> {
    value.as_bool().map_or_else(|| bad(value, "write true or false"), Ok)
}

pub(crate) fn text(value: &DeValue<'_>) -> Parsed<String> {
    value.as_str().map_or_else(|| bad(value, "write a text in double quotes"), |text| Ok(text.to_owned()))
}

/// A name: letters, digits, `-`, `_` and `.`, at most 64.
pub(crate) fn name(value: &DeValue<'_>) -> Parsed<Arc<str>> {
    match value.as_str() {
        Some(text) if is_name(text) => Ok(text.into()),
        _ => bad(value, "write a name of letters, digits, '-', '_' and '.', at most 64 characters"),
    }
}

/// Whether `text` may name something: it goes into metrics, paths and logs.
pub(crate) fn is_name(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

pub(crate) fn path(value: &DeValue<'_>) -> Parsed<std::path::PathBuf> {
    match value.as_str() {
        Some(text) if !text.is_empty() => Ok(text.into()),
        _ => bad(value, "write a path in double quotes"),
    }
}

pub(crate) fn addr(value: &DeValue<'_>) -> Parsed<SocketAddr> {
    let remedy = "write an address and a port, such as \"127.0.0.1:8787\"";
    value.as_str().and_then(|text| text.parse().ok()).map_or_else(|| bad(value, remedy), Ok)
}

fn unsigned(value: &DeValue<'_>) -> Option<u64> {
    let number = value.as_integer()?;
    u64::from_str_radix(number.as_str(), number.radix()).ok()
}

/// A whole number within `range`.
pub(crate) fn count<T: TryFrom<u64>>(range: std::ops::RangeInclusive<u64>) -> impl Fn(&DeValue<'_>) -> Parsed<T> {
    move |value| {
        let number = unsigned(value).filter(|number| range.contains(number));
        let remedy = || format!("write a whole number from {} to {}", range.start(), range.end());
        number.and_then(|number| T::try_from(number).ok()).map_or_else(|| bad(value, remedy()), Ok)
    }
}

/// A number of 64 bits, such as a seed.
pub(crate) fn seed(value: &DeValue<'_>) -> Parsed<u64> {
    unsigned(value).map_or_else(|| bad(value, "write a whole number that is not negative"), Ok)
}

fn number(value: &DeValue<'_>) -> Option<f64> {
    match value {
        DeValue::Float(number) => number.as_str().parse().ok(),
        DeValue::Integer(number) if number.radix() == 10 => number.as_str().parse().ok(),
        _ => None,
    }
}

/// A share within `range`.
pub(crate) fn share(range: std::ops::RangeInclusive<f64>) -> impl Fn(&DeValue<'_>) -> Parsed<f64> {
    move |value| {
        let remedy = || format!("write a number from {} to {}", range.start(), range.end());
        number(value).filter(|number| range.contains(number)).map_or_else(|| bad(value, remedy()), Ok)
    }
}

/// A multiple that leaves room: more than one, or 0 for none.
pub(crate) fn multiple(value: &DeValue<'_>) -> Parsed<f64> {
    let remedy = "write a multiple such as 2.0, from 1.1 to 1000, or 0 for no bound";
    number(value).filter(|number| *number == 0.0 || (1.1..=1_000.0).contains(number)).map_or_else(|| bad(value, remedy), Ok)
}

/// A length of time.
pub(crate) fn span(value: &DeValue<'_>) -> Parsed<Span> {
    let remedy = "write a time with its unit, such as \"500ms\", \"60s\", \"1h30m\" or \"7d\"";
    value.as_str().and_then(parse_span).map_or_else(|| bad(value, remedy), Ok)
}

/// A length of time that is not zero.
pub(crate) fn positive_span(value: &DeValue<'_>) -> Parsed<Span> {
    let parsed = span(value)?;
    if parsed.is_zero() { bad(value, "write a time longer than zero, such as \"1s\"") } else { Ok(parsed) }
}

/// A length of time, of at least ten seconds.
pub(crate) fn long_span(value: &DeValue<'_>) -> Parsed<Span> {
    let parsed = span(value)?;
    if parsed < Span::from_secs(10) { bad(value, "write a time of ten seconds at least, such as \"1h\"") } else { Ok(parsed) }
}

/// Reads `1h30m`: whole numbers, each with a unit. At most 100 years.
pub fn parse_span(text: &str) -> Option<Span> {
    const LONGEST: u128 = 36_525 * 86_400 * 1_000_000_000;
    let mut rest = text;
    let mut nanos: u128 = 0;
    while !rest.is_empty() || rest.len() == text.len() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, tail) = rest.split_at(digits);
        let unit_len = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_len);
        let scale: u128 = match unit {
            "ns" => 1,
            "us" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            "d" => 86_400_000_000_000,
            _ => return None,
        };
        nanos = nanos.checked_add(number.parse::<u128>().ok()?.checked_mul(scale)?)?;
        rest = tail;
    }
    (nanos <= LONGEST).then(|| Span::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
}

/// A size in bytes within `range`.
pub(crate) fn size<T: TryFrom<u64>>(range: std::ops::RangeInclusive<u64>) -> impl Fn(&DeValue<'_>) -> Parsed<T> {
    move |value| {
        let bytes = unsigned(value).or_else(|| value.as_str().and_then(parse_size)).filter(|bytes| range.contains(bytes));
        let remedy = || format!("write a size such as \"100MB\" or \"64KiB\", from {} to {} bytes", range.start(), range.end());
        bytes.and_then(|bytes| T::try_from(bytes).ok()).map_or_else(|| bad(value, remedy()), Ok)
    }
}

/// Reads `100MB`, `64KiB`, `512B`.
pub(crate) fn parse_size(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let scale: u64 = match unit.trim_start() {
        "B" => 1,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(scale)
}

/// An amount that is not negative. Only as text: a TOML float has already lost digits.
pub(crate) fn money(value: &DeValue<'_>) -> Parsed<Money> {
    let remedy = "write dollars as a text, such as \"0.002\", not negative, with at most nine digits after the point";
    let amount = value.as_str().and_then(|text| text.parse::<Money>().ok()).filter(|amount| *amount >= Money::ZERO);
    amount.map_or_else(|| bad(value, remedy), Ok)
}

/// Dollars per million units.
pub(crate) fn per_million(value: &DeValue<'_>) -> Parsed<Rate> {
    money(value).map(|amount| Rate::per_million(amount.nanos()))
}

/// Dollars per unit.
pub(crate) fn per_unit(value: &DeValue<'_>) -> Parsed<Rate> {
    money(value).map(Rate::per_unit)
}

/// The base URL of an upstream.
pub(crate) fn base_url(value: &DeValue<'_>) -> Parsed<Uri> {
    let remedy = "write a URL with http or https and a host, without query, such as \"https://api.example.com\"";
    value.as_str().and_then(parse_base_url).map_or_else(|| bad(value, remedy), Ok)
}

/// Reads a base URL; credentials in it are refused, a trailing slash is dropped.
pub(crate) fn parse_base_url(text: &str) -> Option<Uri> {
    let uri: Uri = text.trim_end_matches('/').parse().ok()?;
    let authority = uri.authority()?;
    let scheme_known = matches!(uri.scheme_str(), Some("http" | "https"));
    // A port that is none is what a password with a slash in it is read as.
    let port_known = authority.as_str() == authority.host() || authority.port_u16().is_some();
    (scheme_known && port_known && uri.query().is_none() && !authority.as_str().contains('@') && !authority.host().is_empty())
        .then_some(uri)
}

/// One of `words`.
pub(crate) fn word<T: Copy>(words: &'static [(&'static str, T)]) -> impl Fn(&DeValue<'_>) -> Parsed<T> {
    move |value| {
        let found = value.as_str().and_then(|text| words.iter().find(|(word, _)| *word == text));
        let list = || words.iter().map(|(word, _)| format!("\"{word}\"")).collect::<Vec<_>>().join(", ");
        found.map_or_else(|| bad(value, format!("write one of {}", list())), |(_, parsed)| Ok(*parsed))
    }
}

/// Content codings that Farthing writes.
pub(crate) const CODINGS: &[(&str, Coding)] = &[("zstd", Coding::Zstd), ("br", Coding::Brotli), ("gzip", Coding::Gzip)];

/// A list whose elements `parse` reads.
pub(crate) fn list<T>(parse: impl Fn(&DeValue<'_>) -> Parsed<T>) -> impl Fn(&DeValue<'_>) -> Parsed<Vec<T>> {
    move |value| match value.as_array() {
        Some(array) => array.iter().map(|element| parse(element.get_ref())).collect(),
        None => bad(value, "write a list in brackets, such as [\"a\", \"b\"]"),
    }
}

pub(crate) fn arc_text(value: &DeValue<'_>) -> Parsed<Arc<str>> {
    match value.as_str() {
        Some(text) if !text.is_empty() => Ok(text.into()),
        _ => bad(value, "write a text in double quotes that is not empty"),
    }
}

pub(crate) fn host(value: &DeValue<'_>) -> Parsed<Arc<str>> {
    let good = |text: &&str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b));
    match value.as_str().filter(good) {
        Some(text) => Ok(text.to_ascii_lowercase().into()),
        None => bad(value, "write a host name without scheme and port, such as \"api.example.com\""),
    }
}

pub(crate) fn method(value: &DeValue<'_>) -> Parsed<Method> {
    let good = |text: &&str| text.bytes().all(|b| b.is_ascii_uppercase());
    let method = value.as_str().filter(good).and_then(|text| text.parse().ok());
    method.map_or_else(|| bad(value, "write a method in capitals, such as \"GET\""), Ok)
}

/// The start of a path.
pub(crate) fn path_prefix(value: &DeValue<'_>) -> Parsed<Arc<str>> {
    let good = |text: &&str| text.starts_with('/') && !text.contains(['?', '#', ' ', '*']) && text.is_ascii();
    match value.as_str().filter(good) {
        Some(text) => Ok(text.into()),
        None => bad(value, "write a path that starts with '/', without '*', query or spaces"),
    }
}

/// A whole path with names for segments.
pub(crate) fn path_template(value: &DeValue<'_>) -> Parsed<PathTemplate> {
    match value.as_str().map(PathTemplate::new) {
        Some(Ok(template)) => Ok(template),
        Some(Err(why)) => bad(value, format!("write a path such as \"/v1/users/{{id}}/orders\": {why}")),
        None => bad(value, "write a path such as \"/v1/users/{id}/orders\""),
    }
}

pub(crate) fn pointer(value: &DeValue<'_>) -> Parsed<Arc<str>> {
    match value.as_str().filter(|text| text.starts_with('/')) {
        Some(text) => Ok(text.into()),
        None => bad(value, "write a JSON pointer, such as \"/usage\" or \"/items/0/id\" (RFC 6901)"),
    }
}

/// 32 bytes in hexadecimal.
pub(crate) fn digest(value: &DeValue<'_>) -> Parsed<[u8; 32]> {
    let mut digest = [0u8; 32];
    match value.as_str().map(|text| hex::decode_to_slice(text, &mut digest)) {
        Some(Ok(())) => Ok(digest),
        // Not shown: somebody may have written what it is the digest of.
        _ => Err(Bad {
            found: "something that is no SHA-256".to_owned(),
            remedy: "write the 64 hexadecimal digits that `farthing keys new` printed".to_owned(),
        }),
    }
}

/// A day, as a TOML date or a text.
pub(crate) fn day(value: &DeValue<'_>) -> Parsed<String> {
    let text = value.as_datetime().map(ToString::to_string).or_else(|| value.as_str().map(ToOwned::to_owned));
    text.filter(|text| is_day(text)).map_or_else(|| bad(value, "write a day as 2026-01-31"), Ok)
}

/// A day, or a day and time with its offset, as text.
pub(crate) fn instant(value: &DeValue<'_>) -> Parsed<String> {
    let text = value.as_datetime().map(ToString::to_string).or_else(|| value.as_str().map(ToOwned::to_owned));
    let remedy = "write a day as 2027-01-01 (midnight UTC), or a day and time with its offset as 2027-01-01T00:00:00+01:00";
    text.filter(|text| farthing_types::price::effective_from(text).is_some()).map_or_else(|| bad(value, remedy), Ok)
}

/// The name of a header.
pub(crate) fn header(value: &DeValue<'_>) -> Parsed<http::HeaderName> {
    let name = value.as_str().and_then(|text| text.parse().ok());
    name.map_or_else(|| bad(value, "write the name of a header, such as \"x-credits\""), Ok)
}

/// Whether `text` is a day of the Gregorian calendar, written `YYYY-MM-DD`.
fn is_day(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let number =
        |text: &str, len| (text.len() == len && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse::<u32>().ok()).flatten();
    let [year, month, day] = parts[..] else { return false };
    let (Some(year), Some(month), Some(day)) = (number(year, 4), number(month, 2), number(day, 2)) else { return false };
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        2 => 28 + u32::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => 0,
    };
    (1..=length).contains(&day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn times_have_units() {
        for (text, nanos) in
            [("60s", 60_000_000_000u64), ("1h30m", 5_400_000_000_000), ("100ms", 100_000_000), ("0s", 0), ("250us", 250_000)]
        {
            assert_eq!(parse_span(text), Some(Span::from_nanos(nanos)), "{text}");
        }
        for text in ["", "60", "s", "1 h", "-1s", "1.5s", "1w", "40000d", "99999999999999999999999999999999999999999s"] {
            assert_eq!(parse_span(text), None, "{text}");
        }
    }

    #[test]
    fn sizes_have_units() {
        for (text, bytes) in [("100MB", 100_000_000), ("64KiB", 65_536), ("1 GB", 1_000_000_000), ("0B", 0)] {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
        }
        for text in ["", "MB", "10", "1.5MB", "-1MB", "99999999999GB", "1mb"] {
            assert_eq!(parse_size(text), None, "{text}");
        }
    }

    #[test]
    fn days_are_of_the_calendar() {
        for text in ["1970-01-01", "2000-02-29", "2024-02-29", "2026-11-30"] {
            assert!(is_day(text), "{text}");
        }
        for text in ["2023-02-29", "1900-02-29", "2024-13-01", "2024-00-01", "2024-1-1", "2024-01-01T00:00:00", "2026-11-31", ""] {
            assert!(!is_day(text), "{text}");
        }
    }

    #[test]
    fn base_urls_are_plain() {
        assert_eq!(parse_base_url("https://a.test/v1/").map(|u| u.to_string()), Some("https://a.test/v1".to_owned()));
        for text in ["", "a.test", "ftp://a.test", "https://", "https://u:p@a.test", "https://a.test/?k=1", "/v1"] {
            assert_eq!(parse_base_url(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_breaks_a_parser(text in ".{0,40}") {
            let _ = (parse_span(&text), parse_size(&text), is_day(&text), parse_base_url(&text));
        }
    }
}

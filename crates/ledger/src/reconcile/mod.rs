//! A provider's invoice or usage export against the log: by day and meter, in units and money.
//!
//! - [`Invoice`] reads a CSV file; the columns of common exports are known by their names, others are named by a [`Mapping`].
//! - [`logged`] sums the log's calls over the same days.
//! - [`compare`] sets one against the other.

mod amount;
mod compare;
mod csv;
mod invoice;
mod logged;

pub use compare::{Comparison, Line, Sums, compare};
pub use invoice::{Invoice, InvoiceError, Mapping};
pub use logged::logged;

use std::collections::BTreeMap;

/// Sums by day (since 1970 UTC) and meter.
pub type ByDay = BTreeMap<(i64, String), Sums>;

/// The name of a target without a date at its end: invoices name the release, requests often do not.
pub fn undated(name: &str) -> &str {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let parts: Vec<&str> = name.rsplitn(4, '-').collect();
    match parts[..] {
        [day, month, year, rest] if day.len() == 2 && month.len() == 2 && year.len() == 4 && [day, month, year].into_iter().all(digits) => {
            rest
        }
        [date, ..] if date.len() == 8 && digits(date) && name.len() > 9 => name.get(..name.len() - 9).unwrap_or(name),
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::undated;

    #[test]
    fn releases_are_of_their_target() {
        for (name, plain) in [
            ("gpt-4o-mini-2024-07-18", "gpt-4o-mini"),
            ("claude-sonnet-4-20250514", "claude-sonnet-4"),
            ("gpt-4o", "gpt-4o"),
            ("20250514", "20250514"),
            ("a-1-2-3", "a-1-2-3"),
            ("", ""),
        ] {
            assert_eq!(undated(name), plain);
        }
    }
}

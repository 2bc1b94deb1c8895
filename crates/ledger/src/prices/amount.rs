//! Amounts that meters count, as decimals with nine digits after the point.

use std::sync::Arc;

use crate::decimal::decimal;

/// Billionths in a unit.
pub(super) const NANO: u128 = 1_000_000_000;
/// Digits of a number that are read; a longer one is refused.
const MAX_DIGITS: usize = 28;

/// A metered amount in billionths of a unit; never negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Amount(u128);

impl Amount {
    /// A whole number of units.
    pub const fn units(units: u64) -> Self {
        Self(units as u128 * NANO)
    }

    /// Billionths of a unit.
    pub const fn from_nano(nano: u128) -> Self {
        Self(nano)
    }

    /// Billionths of a unit.
    pub const fn nano(self) -> u128 {
        self.0
    }

    /// Reads a decimal as JSON and headers write it (`12`, `3.75`, `1.2e3`), with or without quotes; digits beyond the ninth after the
    /// point are rounded half up. `None` when it is none, is negative or has more than 28 digits.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?.trim();
        let text = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text).trim();
        // A leading zero is written by everybody; what is longer than an amount can be is none.
        let digits = text.bytes().filter(u8::is_ascii_digit).count();
        if text.starts_with('.') || digits > MAX_DIGITS {
            return None;
        }
        let (nano, _) = decimal(text, 9)?;
        u128::try_from(nano).ok().map(Self)
    }

    /// Adds, saturating.
    pub const fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl std::fmt::Display for Amount {
    /// A plain decimal without trailing zeros.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (whole, rest) = (self.0 / NANO, self.0 % NANO);
        if rest == 0 {
            return write!(f, "{whole}");
        }
        let digits = format!("{rest:09}");
        write!(f, "{whole}.{}", digits.trim_end_matches('0'))
    }
}

/// What an answer said at the places that meters read: pointers (they begin with `/`) and headers (they do not).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Amounts(Vec<(Arc<str>, Amount)>);

impl Amounts {
    /// None at all.
    pub const fn none() -> Self {
        Self(Vec::new())
    }

    /// Sets what stands at `place`; what stood there before is forgotten.
    pub fn set(&mut self, place: &Arc<str>, amount: Amount) {
        match self.0.iter_mut().find(|(known, _)| known == place) {
            Some((_, known)) => *known = amount,
            None => self.0.push((place.clone(), amount)),
        }
    }

    /// Takes over all of `other`.
    pub fn extend(&mut self, other: &Self) {
        other.0.iter().for_each(|(place, amount)| self.set(place, *amount));
    }

    /// What stands at `place`.
    pub fn get(&self, place: &str) -> Option<Amount> {
        self.0.iter().find(|(known, _)| **known == *place).map(|(_, amount)| *amount)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_read_exactly() {
        for (text, nano) in [
            ("12", 12_000_000_000),
            ("\"3.75\"", 3_750_000_000),
            ("1.2e3", 1_200_000_000_000),
            ("5E-3", 5_000_000),
            ("0.0000000005", 1),
            ("0.00000000049", 0),
            ("1e-40", 0),
            (" 7 ", 7_000_000_000),
        ] {
            assert_eq!(Amount::parse(text.as_bytes()), Some(Amount(nano)), "{text}");
        }
        for text in ["", "-1", "x", "1.2.3", ".5", "1e", "1e99", "null", "12345678901234567890123456789", "\u{661}"] {
            assert_eq!(Amount::parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn amounts_print_as_they_are_read() {
        for text in ["0", "12", "3.75", "0.000000001"] {
            assert_eq!(Amount::parse(text.as_bytes()).unwrap().to_string(), text);
        }
    }
}

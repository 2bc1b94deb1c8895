//! Decimals as JSON, headers and invoices write them, exactly.

/// Digits of a number that are read; a longer one is refused.
const MAX_DIGITS: usize = 30;
/// Powers of ten that are read.
const EXPONENTS: std::ops::RangeInclusive<i32> = -60..=18;

/// `text` times ten to the power of `places`, rounded half up, and whether nothing had to be rounded. `None` where it is no unsigned decimal
/// (`12`, `.5`, `1.2e-05`), has more than 30 digits, or is beyond all bounds.
pub(crate) fn decimal(text: &str, places: i32) -> Option<(i128, bool)> {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok().filter(|exponent| EXPONENTS.contains(exponent))?),
        None => (text, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = [whole, fraction].concat();
    if digits.is_empty() || digits.len() > MAX_DIGITS || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let value: i128 = digits.parse().ok()?;
    let places = places + exponent - i32::try_from(fraction.len()).ok()?;
    if value == 0 {
        return Some((0, true));
    }
    if places >= 0 {
        return value.checked_mul(10i128.checked_pow(places.unsigned_abs())?).map(|value| (value, true));
    }
    Some(match 10i128.checked_pow(places.unsigned_abs()) {
        Some(unit) => ((value + unit / 2) / unit, value % unit == 0),
        None => (0, false),
    })
}

#[cfg(test)]
mod tests {
    use super::decimal;

    #[test]
    fn what_is_beyond_all_bounds_is_no_number() {
        assert_eq!(decimal("1.25e-2", 4), Some((125, true)));
        assert_eq!(decimal("0.00005", 4), Some((1, false)));
        assert_eq!(decimal("1e-60", 9), Some((0, false)));
        assert_eq!(decimal("0e18", 15), Some((0, true)));
        for bad in ["1e2147483647", "1e-2147483648", "1e19", "1e-61", "-1", "+1", "", ".", "1.2.3", "1e", "1234567890123456789012345678901"]
        {
            assert_eq!(decimal(bad, 9), None, "{bad}");
        }
    }
}

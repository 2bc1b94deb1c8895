//! Numbers as invoices write them, exactly.

/// Nano-dollars, or billionths of a unit, of a decimal text: `$1,234.50`, `0.0000015`, `1.2e-05`, `-3`. Beyond the ninth place it is rounded
/// half away from zero. `None` for anything else.
pub(super) fn nanos(text: &str) -> Option<i128> {
    let text = text.trim().trim_start_matches("USD").trim().replace([',', '$', '_'], "");
    let (text, negative) = match text.strip_prefix('-') {
        Some(rest) => (rest.to_owned(), true),
        None => (text.trim_start_matches('+').to_owned(), false),
    };
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (text.as_str(), 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    if digits.is_empty() || digits.len() > 30 || !digits.bytes().all(|b| b.is_ascii_digit()) || !(-60..=18).contains(&exponent) {
        return None;
    }
    let value: i128 = digits.parse().ok()?;
    // The value counts units of 10 to the power of this; wanted are those of 10 to the power of -9.
    let places = exponent - i32::try_from(fraction.len()).ok()? + 9;
    let scaled = if places >= 0 {
        value.checked_mul(10i128.checked_pow(places.unsigned_abs())?)?
    } else {
        match 10i128.checked_pow(places.unsigned_abs()) {
            Some(unit) => (value + unit / 2) / unit,
            None => 0,
        }
    };
    Some(if negative { -scaled } else { scaled })
}

#[cfg(test)]
mod tests {
    use super::nanos;

    #[test]
    fn amounts_are_exact() {
        for (text, value) in [
            ("$1,234.50", 1_234_500_000_000),
            ("0.0000015", 1_500),
            ("1.2e-05", 12_000),
            ("5E3", 5_000_000_000_000),
            ("-3", -3_000_000_000),
            ("0.0000000005", 1),
            ("0.00000000049", 0),
            ("USD 2", 2_000_000_000),
            ("1e-50", 0),
            (".5", 500_000_000),
        ] {
            assert_eq!(nanos(text), Some(value), "{text}");
        }
        for bad in ["", "-", "x", "1.2.3", "1e", "0x10", "1 2", "--1", "NaN"] {
            assert_eq!(nanos(bad), None, "{bad}");
        }
    }
}

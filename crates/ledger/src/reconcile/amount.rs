//! Numbers as invoices write them, exactly.

use crate::decimal::decimal;

/// Nano-dollars, or billionths of a unit, of a decimal text: `$1,234.50`, `0.0000015`, `1.2e-05`, `-3`. Beyond the ninth place it is rounded
/// half away from zero. `None` for anything else, a comma that may be a decimal one among it.
pub(super) fn nanos(text: &str) -> Option<i128> {
    let text = text.trim().trim_start_matches("USD").trim();
    if !groups_thousands(text) {
        return None;
    }
    let text = text.replace([',', '$', '_'], "");
    let (text, negative) = match text.strip_prefix('-') {
        Some(rest) => (rest.to_owned(), true),
        None => (text.trim_start_matches('+').to_owned(), false),
    };
    let (scaled, _) = decimal(&text, 9)?;
    Some(if negative { -scaled } else { scaled })
}

/// Whether commas stand before three digits each, in the whole part.
fn groups_thousands(text: &str) -> bool {
    let (whole, rest) = text.split_once('.').unwrap_or((text, ""));
    let three = |part: &str| part.len() == 3 && part.bytes().all(|byte| byte.is_ascii_digit());
    let mut parts = whole.split(',');
    let first = parts.next().unwrap_or_default().trim_start_matches(['-', '+', '$']);
    // One to three digits and no leading zero: `0,002` and `1234,567` have decimal commas.
    let leads = (1..=3).contains(&first.len()) && !first.starts_with('0') && first.bytes().all(|byte| byte.is_ascii_digit());
    (!whole.contains(',') || (leads && parts.all(three))) && !rest.contains(',')
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
            ("1,234,567", 1_234_567_000_000_000),
        ] {
            assert_eq!(nanos(text), Some(value), "{text}");
        }
        for bad in
            ["", "-", "x", "1.2.3", "1e", "0x10", "1 2", "--1", "NaN", "1,5", "0,002", "0,500", "1234,567", "1,2345", "1.234,56", ",123"]
        {
            assert_eq!(nanos(bad), None, "{bad}");
        }
    }
}

//! How long it takes: unit-windows that interval and bets need, from the spread that was seen.

use crate::effect::boundary;

/// Unit-windows beyond which nobody waits.
const MOST: f64 = 1e12;

/// Unit-windows until the always-valid interval's half-width is `half` or less, when each adds `spread`; `None` when that is never.
pub fn rows_for_interval(spread: f64, half: f64, alpha: f64) -> Option<f64> {
    if !(half > 0.0 && spread.is_finite() && spread >= 0.0) {
        return None;
    }
    let wide = |n: f64| boundary(n, alpha) * spread / n > half;
    let mut upto = 1.0;
    while wide(upto) {
        upto *= 2.0;
        if upto > MOST {
            return None;
        }
    }
    let mut from = upto / 2.0;
    while upto - from > from * 1e-3 {
        let middle = f64::midpoint(from, upto);
        if wide(middle) {
            from = middle;
        } else {
            upto = middle;
        }
    }
    Some(upto)
}

/// Unit-windows until the bets tell an `effect` of this size, when each adds `spread`: wealth grows by `effect^2 / (2 spread^2)` a row at the
/// best stake, which is one of `bets`.
pub fn rows_for_bets(spread: f64, effect: f64, (alpha, bets): (f64, usize)) -> Option<f64> {
    let goal = (bets.max(1) as f64 / alpha).ln();
    let rate = effect * effect / (2.0 * (spread * spread + effect * effect));
    (rate > 0.0).then(|| goal / rate).filter(|n| *n < MOST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_asked_for_is_reached() {
        let n = rows_for_interval(1.0, 0.05, 0.05).unwrap();
        let half = |n: f64| boundary(n, 0.05) / n;
        assert!(half(n) <= 0.05 && half(n * 0.99) > 0.05, "{n}");
        assert_eq!(rows_for_interval(1.0, 0.0, 0.05), None);
        assert_eq!(rows_for_interval(f64::NAN, 0.1, 0.05), None);
        assert_eq!(rows_for_bets(1.0, 0.0, (0.05, 24)), None);
    }

    proptest! {
        #[test]
        fn more_is_needed_for_less(spread in 0.01f64..100.0, half in 0.001f64..1.0) {
            let (n, finer) = (rows_for_interval(spread, half, 0.05), rows_for_interval(spread, half / 2.0, 0.05));
            prop_assume!(n.is_some() && finer.is_some());
            prop_assert!(finer > n || spread < half);
            prop_assert!(rows_for_bets(spread, half, (0.05, 24)) < rows_for_bets(spread, half / 2.0, (0.05, 24)));
        }
    }
}

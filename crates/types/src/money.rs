//! Money is an integer count of nano-dollars; a price is a rate that is multiplied first and rounded once.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Neg, Sub, SubAssign};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Nano-dollars in a dollar.
const NANOS: i128 = 1_000_000_000;
/// A rate counts nano-dollars per million units, so that a millionth of a nano-dollar per token is still exact.
const RATE_UNITS: i128 = 1_000_000;

/// An amount in nano-dollars (1e-9 USD). Sums saturate at about +-9.2e9 USD instead of wrapping.
///
/// There is no conversion from `f64`: an amount comes from a decimal string or from a [`Rate`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Money(i64);

impl Money {
    /// No money. Not to be used for an unknown price: that is `Option::None`.
    pub const ZERO: Self = Self(0);

    /// The amount of `nanos` nano-dollars.
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// The amount in nano-dollars.
    pub const fn nanos(self) -> i64 {
        self.0
    }

    /// The amount in dollars, for statistics and display only.
    pub fn as_usd_f64(self) -> f64 {
        self.0 as f64 / NANOS as f64
    }

    /// This amount `n` times, saturating.
    pub fn times(self, n: i64) -> Self {
        Self(self.0.saturating_mul(n))
    }

    /// Splits the amount into `n` shares that sum to it exactly; the first shares take the remainder.
    /// An empty vector for `n == 0`.
    pub fn split(self, n: usize) -> Vec<Self> {
        let Ok(count) = i64::try_from(n) else { return Vec::new() };
        if count == 0 {
            return Vec::new();
        }
        let (share, rest) = (self.0.div_euclid(count), self.0.rem_euclid(count));
        (0..count).map(|i| Self(share + i64::from(i < rest))).collect()
    }

    /// Splits the amount in proportion to `weights`, see [`largest_remainder`].
    pub fn split_by(self, weights: &[u32]) -> Vec<Self> {
        largest_remainder(self.0, weights).into_iter().map(Self).collect()
    }
}

/// Splits `total` in proportion to `weights` into whole numbers that sum to it exactly: none is 1 or more away from its exact value. Of equal
/// remainders the first are rounded up first; all weights zero are equal ones.
pub fn largest_remainder(total: i64, weights: &[u32]) -> Vec<i64> {
    let sum: i128 = weights.iter().map(|weight| i128::from(*weight)).sum();
    if sum == 0 {
        return Money(total).split(weights.len()).into_iter().map(Money::nanos).collect();
    }
    let exact = |weight: &u32| i128::from(total) * i128::from(*weight);
    let mut shares: Vec<i128> = weights.iter().map(|weight| exact(weight).div_euclid(sum)).collect();
    let rest = i128::from(total) - shares.iter().sum::<i128>();
    let mut order: Vec<usize> = (0..weights.len()).collect();
    order.sort_by_key(|index| std::cmp::Reverse(weights.get(*index).map(|weight| exact(weight).rem_euclid(sum))));
    for index in order.into_iter().take(usize::try_from(rest).unwrap_or(0)) {
        if let Some(share) = shares.get_mut(index) {
            *share += 1;
        }
    }
    // None is farther from zero than the total.
    shares.into_iter().map(|share| i64::try_from(share).unwrap_or(total)).collect()
}

impl Add for Money {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}
impl Sub for Money {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}
impl Neg for Money {
    type Output = Self;
    fn neg(self) -> Self {
        Self(self.0.saturating_neg())
    }
}
impl AddAssign for Money {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}
impl SubAssign for Money {
    fn sub_assign(&mut self, other: Self) {
        *self = *self - other;
    }
}
impl Sum for Money {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self::ZERO, Add::add)
    }
}

impl fmt::Display for Money {
    /// Dollars as a plain decimal without trailing zeros: `0.002`, `-1.5`, `0`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::with_capacity(24);
        self.push(&mut text);
        f.write_str(&text)
    }
}

impl Money {
    /// Writes the same as its `Display`, without the formatter's machinery: every answer says what it saved.
    pub fn push(self, out: &mut String) {
        let nanos = self.0.unsigned_abs();
        if self.0 < 0 {
            out.push('-');
        }
        out.push_str(itoa::Buffer::new().format(nanos / 1_000_000_000));
        let fraction = nanos % 1_000_000_000;
        if fraction > 0 {
            // With a leading one its digits keep their zeros.
            let mut buffer = itoa::Buffer::new();
            let digits = &buffer.format(1_000_000_000 + fraction)[1..];
            out.push('.');
            out.push_str(digits.trim_end_matches('0'));
        }
    }
}

fn decimal(value: i128, digits: usize) -> String {
    let (sign, abs) = if value < 0 { ("-", -value) } else { ("", value) };
    let text = format!("{abs:0width$}", width = digits + 1);
    let (whole, fraction) = text.split_at(text.len() - digits);
    let fraction = fraction.trim_end_matches('0');
    if fraction.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") }
}

/// A text that is not an amount of dollars.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an amount of dollars: write a decimal like \"0.002\" with at most {1} digits after the point")]
pub struct MoneyError(String, usize);

impl MoneyError {
    pub(crate) fn of(text: &str) -> Self {
        Self(text.to_owned(), 9)
    }
}

fn parse_decimal(text: &str, digits: usize) -> Result<i128, MoneyError> {
    let error = || MoneyError(text.to_owned(), digits);
    let body = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = body.split_once('.').unwrap_or((body, ""));
    let all_digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty())
        || !all_digits(whole)
        || !all_digits(fraction)
        || fraction.len() > digits
        || whole.len() > 18
    {
        return Err(error());
    }
    let scaled: i128 = format!("{whole}{fraction:0<digits$}").parse().map_err(|_| error())?;
    Ok(if body.len() == text.len() { scaled } else { -scaled })
}

impl FromStr for Money {
    type Err = MoneyError;
    /// Reads dollars as a decimal with at most nine digits after the point.
    fn from_str(text: &str) -> Result<Self, MoneyError> {
        let nanos = parse_decimal(text, 9)?;
        i64::try_from(nanos).map(Self).map_err(|_| MoneyError(text.to_owned(), 9))
    }
}

impl Serialize for Money {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
impl<'de> Deserialize<'de> for Money {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A price per unit (call, token, byte ...): nano-dollars per million units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rate(i64);

impl Rate {
    /// A rate of `nanos` nano-dollars for one million units.
    pub const fn per_million(nanos: i64) -> Self {
        Self(nanos)
    }

    /// The rate at which one unit costs `price`.
    pub fn per_unit(price: Money) -> Self {
        Self(price.nanos().saturating_mul(1_000_000))
    }

    /// Nano-dollars per million units.
    pub const fn nanos_per_million(self) -> i64 {
        self.0
    }

    /// The exact product with `units`, in millionths of a nano-dollar: sum these over a call's meters,
    /// then round once with [`Rate::round`].
    pub fn exact(self, units: u64) -> i128 {
        i128::from(self.0) * i128::from(units)
    }

    /// Rounds a sum of [`Rate::exact`] products to money, half away from zero.
    pub fn round(exact: i128) -> Money {
        let half = if exact < 0 { -RATE_UNITS / 2 } else { RATE_UNITS / 2 };
        let nanos = (exact + half) / RATE_UNITS;
        Money(i64::try_from(nanos).unwrap_or(if nanos < 0 { i64::MIN } else { i64::MAX }))
    }

    /// The cost of `units` at this rate alone.
    pub fn cost(self, units: u64) -> Money {
        Self::round(self.exact(units))
    }
}

impl FromStr for Rate {
    type Err = MoneyError;
    /// Reads dollars per single unit with at most fifteen digits after the point.
    fn from_str(text: &str) -> Result<Self, MoneyError> {
        let femto = parse_decimal(text, 15)?;
        i64::try_from(femto).map(Self).map_err(|_| MoneyError(text.to_owned(), 15))
    }
}
impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&decimal(i128::from(self.0), 15))
    }
}
impl Serialize for Rate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_and_prints_dollars() {
        for (text, nanos) in [("0.002", 2_000_000), ("1", 1_000_000_000), ("-0.5", -500_000_000), (".25", 250_000_000), ("0.000000001", 1)]
        {
            assert_eq!(text.parse::<Money>().unwrap().nanos(), nanos, "{text}");
        }
        for text in ["", ".", "-", "1e3", "$1", "0.0000000001", "1.2.3", "99999999999"] {
            assert!(text.parse::<Money>().is_err(), "{text}");
        }
        assert_eq!(Money::from_nanos(-1_500_000_000).to_string(), "-1.5");
    }

    #[test]
    fn a_rate_is_rounded_once() {
        let rate: Rate = "0.0000000375".parse().unwrap(); // 37.5 nano-dollars a token
        assert_eq!(rate.cost(1).nanos(), 38);
        assert_eq!(rate.cost(2).nanos(), 75);
        assert_eq!(Rate::round(rate.exact(1) + rate.exact(1)).nanos(), 75);
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(nanos: i64, zeros in 0u32..12) {
            let money = Money::from_nanos(nanos / 10i64.pow(zeros) * 10i64.pow(zeros));
            // The least amount has no positive counterpart, and is out of reach of any bill.
            if money.nanos() > i64::MIN + 1 {
                prop_assert_eq!(money.to_string().parse::<Money>().unwrap(), money);
            }
            prop_assert_eq!(money.to_string(), decimal(i128::from(money.nanos()), 9));
        }

        #[test]
        fn shares_sum_exactly(nanos in -1_000_000_000_000i64..1_000_000_000_000, n in 1usize..1000) {
            let money = Money::from_nanos(nanos);
            let shares = money.split(n);
            prop_assert_eq!(shares.len(), n);
            prop_assert_eq!(shares.into_iter().sum::<Money>(), money);
        }

        #[test]
        fn weighted_shares_sum_exactly_and_are_fair(nanos in any::<i64>(), weights in proptest::collection::vec(any::<u32>(), 1..50)) {
            let money = Money::from_nanos(nanos);
            let shares = money.split_by(&weights);
            prop_assert_eq!(shares.len(), weights.len());
            prop_assert_eq!(shares.iter().map(|share| i128::from(share.nanos())).sum::<i128>(), i128::from(nanos));
            let total: i128 = weights.iter().map(|weight| i128::from(*weight)).sum();
            for (share, weight) in shares.iter().zip(&weights).filter(|_| total > 0) {
                let off = i128::from(share.nanos()) * total - i128::from(nanos) * i128::from(*weight);
                prop_assert!(off.abs() < total, "{share} of {money} for {weight} in {total}");
            }
        }

        #[test]
        fn equal_weights_are_equal_shares(nanos in any::<i64>(), n in 1usize..50, weight in any::<u32>()) {
            prop_assert_eq!(Money::from_nanos(nanos).split_by(&vec![weight; n]), Money::from_nanos(nanos).split(n));
        }

        #[test]
        fn money_survives_text(nanos in any::<i64>()) {
            let money = Money::from_nanos(nanos);
            prop_assert_eq!(money.to_string().parse::<Money>().unwrap(), money);
        }
    }
}

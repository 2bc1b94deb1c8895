//! What a provider charges, as data: the words in which configuration and ledger speak of prices.
//!
//! Nothing here computes. Rates are integers ([`Rate`]), factors are exact fractions ([`Factor`]); the ledger compiles a
//! [`PriceSpec`] into a schedule and refuses what cannot be meant.

use std::collections::BTreeMap;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use crate::{Money, Rate, Time, days_of};

/// Token rates of one target (an LLM or another thing named in the request), in units of the spec's currency per token.
///
/// A bucket of [`crate::Usage`] that is reported but has no rate here falls back as providers bill it: `cached_input` and
/// `cache_write` to `input`, `cache_write_1h` to `cache_write`, `reasoning` to `output`. Without that either, the call is unpriced.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TokenRates {
    /// Per uncached input token.
    pub input: Option<Rate>,
    /// Per input token read from the provider's prompt cache.
    pub cached_input: Option<Rate>,
    /// Per input token written to the provider's prompt cache for its usual lifetime (Anthropic: five minutes).
    pub cache_write: Option<Rate>,
    /// Per input token written to the provider's prompt cache for an hour.
    pub cache_write_1h: Option<Rate>,
    /// Per output token.
    pub output: Option<Rate>,
    /// Per reasoning token; the output rate when absent.
    pub reasoning: Option<Rate>,
    /// Most output tokens of one answer, reasoning included: what bounds a call before it is made.
    pub max_output: Option<u64>,
    /// Rates of calls with a long input; what they do not name is as above.
    pub long: Option<Box<LongContext>>,
    /// Rates of other service tiers (`batch`, `priority`, `flex`) as requests or answers name them; what they do not name is as above.
    pub service: BTreeMap<String, TokenRates>,
    /// Meters beside tokens that only this target has: images, seconds.
    pub meters: Vec<Meter>,
}

impl TokenRates {
    /// The rate of each bucket, by its name; those of other circumstances are not among them.
    pub const fn buckets(&self) -> [(&'static str, Option<Rate>); 6] {
        [
            ("input", self.input),
            ("cached_input", self.cached_input),
            ("cache_write", self.cache_write),
            ("cache_write_1h", self.cache_write_1h),
            ("output", self.output),
            ("reasoning", self.reasoning),
        ]
    }
}

/// Rates that replace the usual ones for the whole call once its input is long.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LongContext {
    /// Calls with more input tokens than this, cached and written ones included.
    pub over: u64,
    /// The rates; only the six rates are read.
    pub rates: TokenRates,
}

/// Where the amount of a meter stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum MeterSource {
    /// Each call counts one.
    Call,
    /// Bytes of the answer's body as the provider sent it.
    Bytes,
    /// A header of the answer that holds a decimal number.
    Header(String),
    /// A JSON pointer into the answer: a number, a text that holds one, or a list, whose elements count. In a stream of events the
    /// last event that has it.
    Pointer(String),
}

/// One thing that is counted and charged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Meter {
    /// Its name, in logs and for the month's volume.
    pub name: String,
    /// Where its amount stands.
    pub source: MeterSource,
    /// Per unit, beyond the free amount and where no tier says otherwise. Negative only for a `discount`.
    pub rate: Rate,
    /// Lowers the bill: its rates are negative. A call never costs less than nothing.
    pub discount: bool,
    /// Without an amount the call is unpriced; else it counts as nothing.
    pub required: bool,
    /// So many of what the source counts are one unit (1,024 bytes are one KB, 60 seconds one minute).
    pub unit_size: u64,
    /// Each started unit is charged whole.
    pub round_up: bool,
    /// Units of each calendar month (UTC) that cost nothing.
    pub free: u64,
    /// Graduated rates: the units of a month up to `up_to` (free ones included) cost that tier's rate. Beyond the last bounded tier:
    /// `rate`.
    pub tiers: Vec<Tier>,
    /// Most units of one call, by agreement: what bounds a call before it is made.
    pub at_most: Option<u64>,
}

impl Meter {
    /// A required meter that charges each unit of `source` alike.
    pub fn new(name: &str, source: MeterSource, rate: Rate) -> Self {
        Self {
            name: name.to_owned(),
            source,
            rate,
            discount: false,
            required: true,
            unit_size: 1,
            round_up: false,
            free: 0,
            tiers: Vec::new(),
            at_most: None,
        }
    }

    /// Whether its rate depends on what came before in the month.
    pub fn is_monthly(&self) -> bool {
        self.free > 0 || !self.tiers.is_empty()
    }
}

/// One step of graduated rates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Tier {
    /// Units of the month up to which it holds.
    pub up_to: u64,
    /// Per unit.
    pub rate: Rate,
}

/// A factor as an exact fraction in lowest terms: `0.5`, `1.0823`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Factor {
    numerator: u64,
    denominator: u64,
}

impl Factor {
    /// One.
    pub const ONE: Self = Self { numerator: 1, denominator: 1 };

    /// Numerator and denominator.
    pub const fn parts(self) -> (u64, u64) {
        (self.numerator, self.denominator)
    }
}

impl FromStr for Factor {
    type Err = crate::money::MoneyError;
    /// Reads a positive decimal with at most nine digits after the point.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let nanos = text.parse::<Money>()?.nanos();
        let numerator = u64::try_from(nanos).ok().filter(|n| *n > 0).ok_or_else(|| crate::money::MoneyError::of(text))?;
        let denominator = 1_000_000_000;
        let (mut a, mut b) = (numerator, denominator);
        while b > 0 {
            (a, b) = (b, a % b);
        }
        Ok(Self { numerator: numerator / a, denominator: denominator / a })
    }
}

impl std::fmt::Display for Factor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The denominator divides 1e9, so this is exact.
        let nanos = u128::from(self.numerator) * u128::from(1_000_000_000 / self.denominator);
        write!(f, "{}", Money::from_nanos(i64::try_from(nanos).unwrap_or(i64::MAX)))
    }
}

impl Serialize for Factor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The currency of a spec's rates, with the rate of exchange that is applied to them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Currency {
    /// Its code, such as `EUR`.
    pub code: String,
    /// Dollars for one unit of it.
    pub usd: Factor,
    /// The day of that rate, `YYYY-MM-DD`.
    pub day: String,
}

/// What a provider (or, by local contract, a route) charges. All meters given are summed exactly and rounded once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PriceSpec {
    /// Costs nothing, by agreement: the one way to say that a price is zero without rates.
    pub free: bool,
    /// Per call.
    pub per_call: Option<Rate>,
    /// Per 1,024 bytes of the answer's body, charged by the byte.
    pub per_kb: Option<Rate>,
    /// Per unit of [`crate::Usage::units`].
    pub per_unit: Option<Rate>,
    /// Further meters.
    pub meters: Vec<Meter>,
    /// Token rates by target. A name matches itself and itself plus a release suffix (`gpt-4o` also prices
    /// `gpt-4o-2024-08-06`, not `gpt-4o-mini`); a name that ends in `*` matches whatever begins so. An exact name
    /// wins, then the longest.
    pub targets: BTreeMap<String, TokenRates>,
    /// Factors on token rates by service tier, for targets without rates of their own for it.
    pub service: BTreeMap<String, Factor>,
    /// What a billed call costs at least.
    pub minimum: Option<Rate>,
    /// Per answer with status 304; when absent, a 304 costs what a call costs.
    pub not_modified: Option<Rate>,
    /// Whether answers other than 2xx and 304, and calls without an answer, are charged like the rest.
    pub errors_billed: bool,
    /// The currency of all rates; dollars when absent.
    pub currency: Option<Currency>,
    /// From when the prices hold: a day, which begins at midnight UTC, or a day and time with its offset. Calls before are unpriced.
    pub effective: Option<String>,
    /// Day on which they were read at the source, `YYYY-MM-DD`.
    pub read: Option<String>,
    /// Where the prices come from: a page, a contract.
    pub source: Option<String>,
    /// Prices that replace these from their own `effective` on.
    pub versions: Vec<PriceSpec>,
}

impl PriceSpec {
    /// One flat price per call, billed for every answer of success and for 304.
    pub fn per_call(price: Money) -> Self {
        Self { per_call: Some(Rate::per_unit(price)), ..Self::default() }
    }

    /// Whether it says what anything costs.
    pub fn is_priced(&self) -> bool {
        self.per_call.is_some() || self.per_kb.is_some() || self.per_unit.is_some() || !self.targets.is_empty() || !self.meters.is_empty()
    }
}

/// The instant that an `effective` names: a day begins at midnight UTC; a day and time (`2027-01-01T00:00:00+01:00`) names its own
/// offset. `None` for anything else.
pub fn effective_from(text: &str) -> Option<Time> {
    const DAY_NS: i64 = 86_400_000_000_000;
    let (date, rest) = text.split_at_checked(10)?;
    let number = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse::<i64>().ok()).flatten();
    let fields = |text: &str, separator: char, widths: &[usize]| {
        let parts: Vec<&str> = text.split(separator).collect();
        let fits = parts.len() == widths.len() && parts.iter().zip(widths).all(|(part, width)| part.len() == *width);
        if fits { parts.into_iter().map(number).collect::<Option<Vec<i64>>>() } else { None }
    };
    let date = fields(date, '-', &[4, 2, 2])?;
    let [year, month, day] = date[..] else { return None };
    let midnight = days_of(year, month, day)?.checked_mul(DAY_NS)?;
    if rest.is_empty() {
        return Some(Time::from_nanos(midnight));
    }
    let (time, zone) = rest.strip_prefix(['T', ' '])?.split_at_checked(8)?;
    let time = fields(time, ':', &[2, 2, 2])?;
    let [hour, minute, second] = time[..] else { return None };
    let offset = match zone.strip_prefix(['+', '-']) {
        None => (zone == "Z").then_some(0)?,
        Some(offset) => {
            let offset = fields(offset, ':', &[2, 2])?;
            let [hours, minutes] = offset[..] else { return None };
            (hours < 24 && minutes < 60).then_some((hours * 60 + minutes) * if zone.starts_with('-') { -1 } else { 1 })?
        }
    };
    let seconds = hour * 3_600 + minute * 60 + second - offset * 60;
    (hour < 24 && minute < 60 && second < 60).then(|| Time::from_nanos(midnight + seconds * 1_000_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_are_exact_and_positive() {
        for (text, parts) in [("0.5", (1, 2)), ("1", (1, 1)), ("1.0823", (10_823, 10_000)), ("0.000000001", (1, 1_000_000_000))] {
            let factor: Factor = text.parse().unwrap();
            assert_eq!((factor.parts(), factor.to_string().as_str()), (parts, text));
        }
        for text in ["0", "-1", "x", "0.0000000001", ""] {
            assert!(text.parse::<Factor>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_day_begins_at_midnight_utc_or_where_it_says() {
        let hours = |hours: i64| Some(Time::from_nanos(hours * 3_600_000_000_000));
        assert_eq!(effective_from("1970-01-02"), hours(24));
        assert_eq!(effective_from("1970-01-02T00:00:00Z"), hours(24));
        assert_eq!(effective_from("1970-01-02T00:00:00+01:00"), hours(23));
        assert_eq!(effective_from("1970-01-02T00:00:00-08:00"), hours(32));
        for text in [
            "",
            "1970-1-2",
            "2023-02-29",
            "1970-01-02T00:00:00",
            "1970-01-02T24:00:00Z",
            "1970-01-02T00:00:00+25:00",
            "1 May 2026",
            "\u{661}970-01-02",
        ] {
            assert_eq!(effective_from(text), None, "{text}");
        }
    }
}

//! What one instance saw of a window, in compact binary.

use farthing_types::{KeyHash, Money};

use crate::spec::MAX_VARIANTS;
use crate::trial::Counts;

const MAGIC: &[u8; 4] = b"fxp1";
/// The longest part: of as many units as an experiment follows.
pub const MOST_PART_BYTES: usize = 5 << 20;

/// Where an encoded part says whether it is whole.
const WHOLE_AT: usize = 12;
const MIXED: u8 = 1 << 2;
const STALE: u8 = 1 << 3;
const WAITING: u8 = 1 << 4;

/// What one unit did on one instance, or on all, in a window, after the burn-in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sum {
    /// The unit.
    pub unit: KeyHash,
    /// Index of its variant.
    pub variant: usize,
    /// Whether it had another one in between.
    pub mixed: bool,
    /// Client requests.
    pub requests: u32,
    /// Of these, failed ones.
    pub errors: u32,
    /// Of these, late ones.
    pub late: u32,
    /// Paid to providers.
    pub bill: Money,
    /// Stale answers, measured or expected.
    pub stale: f64,
    /// Their price, USD.
    pub stale_usd: f64,
    /// Price of the time that clients have waited.
    pub waiting: Money,
}

impl Sum {
    /// How many observations it stands for, at least.
    pub(crate) fn observations(&self) -> u64 {
        u64::from(self.requests.max(1))
    }

    /// Adds what the same unit did elsewhere. Whoever adds looks to their variants being the same.
    pub(super) fn add(&mut self, other: &Self) {
        self.mixed |= other.mixed;
        self.requests = self.requests.saturating_add(other.requests);
        self.errors = self.errors.saturating_add(other.errors);
        self.late = self.late.saturating_add(other.late);
        self.bill += other.bill;
        self.stale += other.stale;
        self.stale_usd += other.stale_usd;
        self.waiting += other.waiting;
    }
}

/// One instance's part of a window.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Part {
    /// The window.
    pub window: i64,
    /// Whether it has seen all that it served in the window, under one allocation.
    pub whole: bool,
    /// What was left out, and calls without a request.
    pub counts: Counts,
    /// By unit, each once.
    pub sums: Vec<Sum>,
}

/// Bytes that are no part of this release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a part of a window that this release cannot read")]
pub struct Foreign;

impl Part {
    /// As it travels: 20 to 50 bytes for each unit.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(32 + self.sums.len() * 24);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&self.window.to_le_bytes());
        out.push(u8::from(self.whole));
        let Counts { calls, burn_in, late, overflow, unpriced } = self.counts;
        for count in [calls, burn_in, late, overflow, unpriced, self.sums.len() as u64] {
            put(&mut out, count);
        }
        for sum in &self.sums {
            let stale = sum.stale != 0.0 || sum.stale_usd != 0.0;
            let waited = sum.waiting != Money::ZERO;
            let flag = |is: bool, flag: u8| if is { flag } else { 0 };
            let flags = (sum.variant as u8 & 3) | flag(sum.mixed, MIXED) | flag(stale, STALE) | flag(waited, WAITING);
            out.extend_from_slice(&sum.unit.0.to_be_bytes());
            out.push(flags);
            for count in [sum.requests, sum.errors, sum.late] {
                put(&mut out, u64::from(count));
            }
            put_money(&mut out, sum.bill);
            if stale {
                out.extend_from_slice(&sum.stale.to_le_bytes());
                out.extend_from_slice(&sum.stale_usd.to_le_bytes());
            }
            if waited {
                put_money(&mut out, sum.waiting);
            }
        }
        out
    }

    /// Says of an encoded part that it is not whole.
    pub(super) fn tear(bytes: &mut [u8]) {
        if let Some(whole) = bytes.get_mut(WHOLE_AT) {
            *whole = 0;
        }
    }

    /// Reads what [`encode`](Self::encode) wrote.
    ///
    /// # Errors
    /// Anything else: units out of order or twice, variants that there cannot be, numbers that are none, bytes too few or too many.
    pub fn decode(bytes: &[u8]) -> Result<Self, Foreign> {
        let mut from = Reader(bytes);
        if bytes.len() > MOST_PART_BYTES || from.take::<4>()? != *MAGIC {
            return Err(Foreign);
        }
        let window = i64::from_le_bytes(from.take()?);
        let whole = match from.take::<1>()? {
            [0] => false,
            [1] => true,
            _ => return Err(Foreign),
        };
        let counts =
            Counts { calls: from.count()?, burn_in: from.count()?, late: from.count()?, overflow: from.count()?, unpriced: from.count()? };
        let length = from.count()?;
        let mut sums: Vec<Sum> = Vec::new();
        for _ in 0..length {
            let sum = from.sum()?;
            if sums.last().is_some_and(|last| last.unit >= sum.unit) {
                return Err(Foreign);
            }
            sums.push(sum);
        }
        if from.0.is_empty() { Ok(Self { window, whole, counts, sums }) } else { Err(Foreign) }
    }
}

/// Seven bits a byte, the lowest first.
fn put(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Small amounts of either sign in few bytes.
fn put_money(out: &mut Vec<u8>, money: Money) {
    let nanos = money.nanos();
    put(out, ((nanos << 1) ^ (nanos >> 63)) as u64);
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Foreign> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or(Foreign)?;
        self.0 = rest;
        Ok(*head)
    }

    fn count(&mut self) -> Result<u64, Foreign> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let [byte] = self.take::<1>()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(Foreign);
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(Foreign)
    }

    fn small(&mut self) -> Result<u32, Foreign> {
        u32::try_from(self.count()?).map_err(|_| Foreign)
    }

    fn money(&mut self) -> Result<Money, Foreign> {
        let sent = self.count()?;
        Ok(Money::from_nanos((sent >> 1) as i64 ^ -((sent & 1) as i64)))
    }

    fn amount(&mut self) -> Result<f64, Foreign> {
        let amount = f64::from_le_bytes(self.take()?);
        if amount.is_finite() && amount >= 0.0 { Ok(amount) } else { Err(Foreign) }
    }

    fn sum(&mut self) -> Result<Sum, Foreign> {
        let unit = KeyHash(u128::from_be_bytes(self.take()?));
        let [flags] = self.take::<1>()?;
        let variant = usize::from(flags & 3);
        if flags & !(3 | MIXED | STALE | WAITING) != 0 || variant >= MAX_VARIANTS {
            return Err(Foreign);
        }
        let (requests, errors, late) = (self.small()?, self.small()?, self.small()?);
        let bill = self.money()?;
        let (stale, stale_usd) = if flags & STALE == 0 { (0.0, 0.0) } else { (self.amount()?, self.amount()?) };
        let waiting = if flags & WAITING == 0 { Money::ZERO } else { self.money()? };
        Ok(Sum { unit, variant, mixed: flags & MIXED != 0, requests, errors, late, bill, stale, stale_usd, waiting })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sum() -> impl Strategy<Value = Sum> {
        let counts = (any::<u32>(), any::<u32>(), any::<u32>());
        (any::<u128>(), 0..MAX_VARIANTS, any::<bool>(), counts, any::<i64>(), 0.0f64..1e9).prop_map(
            |(unit, variant, mixed, (requests, errors, late), bill, stale)| Sum {
                unit: KeyHash(unit),
                variant,
                mixed,
                requests,
                errors,
                late,
                bill: Money::from_nanos(bill),
                stale: if stale < 5e8 { 0.0 } else { stale },
                stale_usd: if stale < 5e8 { 0.0 } else { stale / 3.0 },
                waiting: Money::from_nanos(if late % 2 == 0 { 0 } else { i64::from(late) * 1_000_003 }),
            },
        )
    }

    proptest! {
        #[test]
        fn a_part_is_read_as_it_was_written(window in any::<i64>(), whole in any::<bool>(), calls in any::<u64>(), mut sums in proptest::collection::vec(sum(), 0..40)) {
            sums.sort_by_key(|sum| sum.unit);
            sums.dedup_by_key(|sum| sum.unit);
            let part = Part { window, whole, counts: Counts { calls, unpriced: 3, ..Counts::default() }, sums };
            let bytes = part.encode();
            prop_assert_eq!(Part::decode(&bytes), Ok(part.clone()));
            let mut torn = bytes.clone();
            Part::tear(&mut torn);
            prop_assert_eq!(Part::decode(&torn), Ok(Part { whole: false, ..part }));
            for cut in 0..bytes.len() {
                prop_assert_eq!(Part::decode(&bytes[..cut]), Err(Foreign));
            }
            let longer: Vec<u8> = bytes.iter().copied().chain([0]).collect();
            prop_assert_eq!(Part::decode(&longer), Err(Foreign));
        }

        #[test]
        fn whatever_comes_is_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let with_head: Vec<u8> = MAGIC.iter().copied().chain(bytes.iter().copied()).collect();
            for bytes in [bytes, with_head] {
                if let Ok(part) = Part::decode(&bytes) {
                    prop_assert_eq!(Part::decode(&part.encode()), Ok(part));
                }
            }
        }
    }

    #[test]
    fn the_largest_part_has_room() {
        let sum = Sum {
            unit: KeyHash(u128::MAX),
            variant: 3,
            mixed: true,
            requests: u32::MAX,
            errors: u32::MAX,
            late: u32::MAX,
            bill: Money::from_nanos(i64::MAX),
            stale: 1.0,
            stale_usd: 1.0,
            waiting: Money::from_nanos(i64::MAX),
        };
        let sums = (0..65_536u128).map(|unit| Sum { unit: KeyHash(unit), ..sum }).collect();
        assert!(Part { sums, ..Part::default() }.encode().len() <= MOST_PART_BYTES);
    }
}

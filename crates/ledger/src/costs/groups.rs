//! Groups under construction: names to sums, bounded in bytes.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::quality::RandomState;

use super::axis::Axis;
use super::store::CostError;

/// Numbers of a batch up to which groups are found through an array instead of a map.
const DENSE: usize = 1 << 16;
/// What a row that is not taken gets instead of a group.
pub(super) const SKIPPED: u32 = u32::MAX;

/// Names of a group, in the order asked for; `None` where its rows have none. The last part is the step of the series.
pub(super) type Key = (Box<[Option<Arc<str>>]>, i64);

/// Groups by their names, each with a number.
pub(super) struct Groups {
    numbers: HashMap<Key, u32, RandomState>,
    bytes: usize,
    most_bytes: usize,
    /// Bytes of one group's sums.
    each: usize,
}

impl Groups {
    pub(super) fn new(most_bytes: usize, each: usize) -> Self {
        Self { numbers: HashMap::default(), bytes: 0, most_bytes, each }
    }

    pub(super) fn len(&self) -> usize {
        self.numbers.len()
    }

    /// The groups with their numbers.
    pub(super) fn into_keys(self) -> HashMap<Key, u32, RandomState> {
        self.numbers
    }

    /// The number of a group, a new one when it is new.
    ///
    /// # Errors
    /// More groups than fit.
    pub(super) fn number(&mut self, key: Key) -> Result<u32, CostError> {
        if let Some(&number) = self.numbers.get(&key) {
            return Ok(number);
        }
        let names: usize = key.0.iter().map(|name| 16 + name.as_ref().map_or(0, |name| 16 + name.len())).sum();
        self.bytes += names + self.each + 64;
        if self.bytes > self.most_bytes {
            return Err(CostError::TooLarge(format!(
                "more than {} groups: ask for fewer names, for a longer step or none, or filter",
                self.numbers.len()
            )));
        }
        let number = u32::try_from(self.numbers.len()).unwrap_or(SKIPPED);
        self.numbers.insert(key, number);
        Ok(number)
    }

    /// The group of each row of a batch; [`SKIPPED`] for those not `taken`.
    ///
    /// # Errors
    /// As [`Groups::number`].
    pub(super) fn of_batch(&mut self, axes: &[Axis], steps: Option<&[i64]>, taken: &[bool]) -> Result<Vec<u32>, CostError> {
        let mut first = steps.map_or(0, |steps| steps.iter().copied().min().unwrap_or(0));
        let mut widths: Vec<usize> = axes.iter().map(Axis::width).collect();
        if let Some(steps) = steps {
            let last = steps.iter().copied().max().unwrap_or(0);
            first = first.min(last);
            widths.push(usize::try_from(last - first).unwrap_or(usize::MAX).saturating_add(1));
        }
        let product = widths.iter().try_fold(1usize, |product, width| product.checked_mul(*width));
        let mut found = match product {
            Some(product) if product <= DENSE => Found::Dense(vec![SKIPPED; product]),
            _ => Found::Sparse(HashMap::default()),
        };
        let mut groups = vec![SKIPPED; taken.len()];
        for (row, (group, taken)) in groups.iter_mut().zip(taken).enumerate() {
            if !*taken {
                continue;
            }
            let step = steps.and_then(|steps| steps.get(row)).copied().unwrap_or(0);
            let mut place = 0u128;
            for axis in axes {
                place = place * axis.width() as u128 + u128::from(axis.at(row));
            }
            if steps.is_some() {
                place = place * widths.last().copied().unwrap_or(1) as u128 + (step - first).unsigned_abs() as u128;
            }
            *group = match found.get(place) {
                SKIPPED => {
                    let names = axes.iter().map(|axis| axis.name(axis.at(row)).cloned()).collect();
                    let number = self.number((names, step))?;
                    found.set(place, number);
                    number
                }
                number => number,
            };
        }
        Ok(groups)
    }
}

/// The groups that a batch has met, by the place of their numbers.
enum Found {
    Dense(Vec<u32>),
    Sparse(HashMap<u128, u32, RandomState>),
}

impl Found {
    #[inline]
    fn get(&self, place: u128) -> u32 {
        match self {
            Self::Dense(numbers) => numbers.get(place as usize).copied().unwrap_or(SKIPPED),
            Self::Sparse(numbers) => numbers.get(&place).copied().unwrap_or(SKIPPED),
        }
    }

    fn set(&mut self, place: u128, number: u32) {
        match self {
            Self::Dense(numbers) => {
                if let Some(slot) = numbers.get_mut(place as usize) {
                    *slot = number;
                }
            }
            Self::Sparse(numbers) => {
                numbers.insert(place, number);
            }
        }
    }
}

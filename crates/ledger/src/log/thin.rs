//! Request rows at high rates: alike ones of the same 100 ms become one row with a weight.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher, Hash, Hasher};

use foldhash::quality::RandomState;

use farthing_contract::log::{Request, Row, Value};
use farthing_types::{Span, Time};

/// Rows are merged within one such window of their time, ns.
const WINDOW_NS: i64 = 100_000_000;
/// What may differ between merged rows; the row that stays speaks for the others. All else is the same, so that
/// counts and sums over rows, times the weight, are exact.
const SAMPLED: [&str; 9] =
    ["ts_ns", "request_id", "weight", "entry_age_ms", "latency_us", "overhead_us", "stat_seq", "stat_known", "trace_id"];

/// Merges rows beyond a rate, with a second's worth of burst.
#[derive(Debug)]
pub(super) struct Thin {
    /// Seeds the digests: what a client can choose must not make rows meet.
    seed: RandomState,
    /// A bit for each column that tells rows apart.
    telling: u64,
    rate: f64,
    /// Rows that may pass unmerged.
    allowance: f64,
    last: Option<Time>,
}

impl Thin {
    pub(super) fn new(row_rate: u32) -> Self {
        let columns = Request::TABLE.columns.iter().enumerate();
        let telling = columns.filter(|(_, column)| !SAMPLED.contains(&column.name)).fold(0, |bits, (index, _)| bits | 1 << index);
        Self { seed: RandomState::default(), telling, rate: f64::from(row_rate), allowance: f64::from(row_rate), last: None }
    }

    /// The rows that stay where those of `batches` are merged, which is when together they exceed the rate, and with `always` in any case;
    /// `None` where all stay as they are.
    pub(super) fn apply(&mut self, batches: Vec<&mut [Request]>, now: Time, always: bool) -> Option<Vec<Request>> {
        let elapsed = self.last.replace(now).map_or(Span::ZERO, |last| now.since(last));
        self.allowance = (self.allowance + self.rate * elapsed.as_secs_f64()).min(self.rate);
        let before: usize = batches.iter().map(|batch| batch.len()).sum();
        let kept = (always || before as f64 > self.allowance).then(|| self.merge(batches));
        self.allowance = (self.allowance - kept.as_ref().map_or(before, Vec::len) as f64).max(0.0);
        kept
    }

    fn merge(&self, batches: Vec<&mut [Request]>) -> Vec<Request> {
        let mut first: HashMap<u64, usize, RandomState> = HashMap::default();
        let mut kept: Vec<Request> = Vec::new();
        // Looked at where they are: most rows go no further, and a row is large.
        for row in batches.into_iter().flatten() {
            match first.entry(self.likeness(row)) {
                Entry::Occupied(entry) => {
                    if let Some(alike) = kept.get_mut(*entry.get()) {
                        alike.weight += row.weight;
                    }
                }
                Entry::Vacant(entry) => {
                    entry.insert(kept.len());
                    kept.push(std::mem::take(row));
                }
            }
        }
        kept
    }

    /// A 64-bit digest of everything that merged rows have in common. Among the 100,000 rows of a second two different
    /// ones meet with a probability of 3e-10.
    fn likeness(&self, row: &Request) -> u64 {
        let mut hasher = self.seed.build_hasher();
        hasher.write_i64(row.ts_ns.div_euclid(WINDOW_NS));
        // Which cells have a value; with that, and as a column has one type, the values that follow each other can be read in one way only.
        let mut present = 0u64;
        row.cells(&mut |index, value| {
            if value != Value::Null && self.telling >> index & 1 == 1 {
                present |= 1 << index;
                hash(&value, &mut hasher);
            }
        });
        hasher.write_u64(present);
        hasher.finish()
    }
}

#[inline(always)]
fn hash(value: &Value<'_>, hasher: &mut impl Hasher) {
    match value {
        Value::Null => {}
        Value::I64(v) => v.hash(hasher),
        Value::U64(v) => v.hash(hasher),
        Value::I32(v) => v.hash(hasher),
        Value::F64(v) => v.to_bits().hash(hasher),
        Value::F32(v) => v.to_bits().hash(hasher),
        Value::Bool(v) => v.hash(hasher),
        Value::Text(v) => v.hash(hasher),
        Value::F32List(list) => {
            list.len().hash(hasher);
            list.iter().for_each(|v| v.to_bits().hash(hasher));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hit(key: u64, ms: i64) -> Request {
        Request {
            ts_ns: ms * 1_000_000,
            request_id: key * 1_000 + ms as u64,
            weight: 1,
            key_hash: key,
            outcome: "hit",
            base_nanousd: Some(7),
            latency_us: Some(ms),
            ..Request::default()
        }
    }

    #[test]
    fn below_the_rate_every_row_stays() {
        let mut thin = Thin::new(100);
        for second in 0..5 {
            let mut rows: Vec<_> = (0..100).map(|_| hit(1, second * 1_000)).collect();
            assert_eq!(thin.apply(vec![&mut rows], Time::from_millis(second * 1_000), false), None);
        }
    }

    #[test]
    fn above_it_alike_rows_of_a_window_are_one_and_nothing_is_lost_from_the_sums() {
        let mut thin = Thin::new(10);
        let mut rows: Vec<_> = (0..300).map(|n| hit(n as u64 % 2, n)).collect();
        rows.push(Request { variant: Some("b".into()), ..hit(0, 0) });
        rows.push(Request { outcome: "lead", ..hit(0, 0) });
        rows.push(Request { weight: 4, ..hit(0, 0) });
        let mut rest = rows.split_off(100);
        let rows = thin.apply(vec![&mut rows, &mut rest], Time::ZERO, false).unwrap();
        assert_eq!(rows.len(), 8, "two keys in three windows, another variant, another outcome");
        assert_eq!(rows.iter().map(|row| row.weight).sum::<i64>(), 306);
        let of = |key: u64, window: i64| {
            let alike =
                |row: &&Request| row.key_hash == key && row.ts_ns / WINDOW_NS == window && row.variant.is_none() && row.outcome == "hit";
            rows.iter().filter(alike).map(|row| row.weight).collect::<Vec<_>>()
        };
        assert_eq!((of(0, 0), of(1, 0), of(0, 2)), (vec![54], vec![50], vec![50]));
        // The rate is back a second later.
        let mut rows: Vec<_> = (0..10).map(|_| hit(1, 2_000)).collect();
        assert_eq!(thin.apply(vec![&mut rows], Time::from_millis(2_000), false), None);
    }

    #[test]
    fn what_may_differ_is_in_the_table() {
        assert!(SAMPLED.iter().all(|name| Request::TABLE.columns.iter().any(|column| column.name == *name)));
        // One bit for each column.
        assert!(Request::TABLE.columns.len() <= 64);
    }
}

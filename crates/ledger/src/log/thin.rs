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

    /// The rows that stay; those of `batches` are merged when together they exceed the rate, and with `always` in any case.
    pub(super) fn apply(&mut self, batches: Vec<Vec<Request>>, now: Time, always: bool) -> Vec<Request> {
        let elapsed = self.last.replace(now).map_or(Span::ZERO, |last| now.since(last));
        self.allowance = (self.allowance + self.rate * elapsed.as_secs_f64()).min(self.rate);
        let before: usize = batches.iter().map(Vec::len).sum();
        let rows = batches.into_iter().flatten();
        let kept = if always || before as f64 > self.allowance { self.merge(rows) } else { rows.collect() };
        self.allowance = (self.allowance - kept.len() as f64).max(0.0);
        kept
    }

    fn merge(&self, rows: impl Iterator<Item = Request>) -> Vec<Request> {
        let mut first: HashMap<u64, usize, RandomState> = HashMap::default();
        let mut kept: Vec<Request> = Vec::new();
        for row in rows {
            match first.entry(self.likeness(&row)) {
                Entry::Occupied(entry) => {
                    if let Some(alike) = kept.get_mut(*entry.get()) {
                        alike.weight += row.weight;
                    }
                }
                Entry::Vacant(entry) => {
                    entry.insert(kept.len());
                    kept.push(row);
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
        row.cells(&mut |index, value| {
            if self.telling >> index & 1 == 1 {
                hash(&value, &mut hasher);
            }
        });
        hasher.finish()
    }
}

fn hash(value: &Value<'_>, hasher: &mut impl Hasher) {
    hasher.write_u8(value.ty().map_or(0, |ty| 1 + ty as u8));
    match value {
        Value::Null => {}
        Value::I64(v) => v.hash(hasher),
        Value::U64(v) => v.hash(hasher),
        Value::I32(v) => v.hash(hasher),
        Value::F64(v) => v.to_bits().hash(hasher),
        Value::F32(v) => v.to_bits().hash(hasher),
        Value::Bool(v) => v.hash(hasher),
        Value::Text(v) => v.hash(hasher),
        Value::F32List(list) => list.iter().for_each(|v| v.to_bits().hash(hasher)),
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
            let rows: Vec<_> = (0..100).map(|_| hit(1, second * 1_000)).collect();
            assert_eq!(thin.apply(vec![rows], Time::from_millis(second * 1_000), false).len(), 100);
        }
    }

    #[test]
    fn above_it_alike_rows_of_a_window_are_one_and_nothing_is_lost_from_the_sums() {
        let mut thin = Thin::new(10);
        let mut rows: Vec<_> = (0..300).map(|n| hit(n as u64 % 2, n)).collect();
        rows.push(Request { variant: Some("b".into()), ..hit(0, 0) });
        rows.push(Request { outcome: "lead", ..hit(0, 0) });
        rows.push(Request { weight: 4, ..hit(0, 0) });
        let rest = rows.split_off(100);
        let rows = thin.apply(vec![rows, rest], Time::ZERO, false);
        assert_eq!(rows.len(), 8, "two keys in three windows, another variant, another outcome");
        assert_eq!(rows.iter().map(|row| row.weight).sum::<i64>(), 306);
        let of = |key: u64, window: i64| {
            let alike =
                |row: &&Request| row.key_hash == key && row.ts_ns / WINDOW_NS == window && row.variant.is_none() && row.outcome == "hit";
            rows.iter().filter(alike).map(|row| row.weight).collect::<Vec<_>>()
        };
        assert_eq!((of(0, 0), of(1, 0), of(0, 2)), (vec![54], vec![50], vec![50]));
        // The rate is back a second later.
        let rows: Vec<_> = (0..10).map(|_| hit(1, 2_000)).collect();
        assert_eq!(thin.apply(vec![rows], Time::from_millis(2_000), false).len(), 10);
    }

    #[test]
    fn what_may_differ_is_in_the_table() {
        assert!(SAMPLED.iter().all(|name| Request::TABLE.columns.iter().any(|column| column.name == *name)));
        // One bit for each column.
        assert!(Request::TABLE.columns.len() <= 64);
    }
}

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug, PartialEq)]
struct Thing {
    bytes: usize,
    worth: f64,
}
impl Weighed for Thing {
    fn bytes(&self) -> usize {
        self.bytes
    }
    fn worth(&self, _now: Time) -> f64 {
        self.worth
    }
}

fn key(n: u64) -> KeyHash {
    KeyHash(u128::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835))
}
fn thing(bytes: usize, worth: f64) -> Thing {
    Thing { bytes, worth }
}
const fn cost(bytes: usize) -> usize {
    bytes + NODE_OVERHEAD + size_of::<Thing>()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]
    #[test]
    fn it_is_a_bounded_map(steps in proptest::collection::vec((0u8..4, 0u64..30, 1usize..400), 1..300)) {
        let mut index = Index::new(3000);
        let mut model: BTreeMap<u64, Thing> = BTreeMap::new();
        for (what, n, size) in steps {
            match what {
                0 | 1 => {
                    let value = thing(size, size as f64 * 7.0 % 5.0);
                    let out = index.insert(key(n), value.clone(), Time::ZERO);
                    prop_assert_eq!(out.replaced, model.insert(n, value));
                    prop_assert!(out.refused.is_none());
                    let before = model.len();
                    model.retain(|n, _| index.peek(key(*n)).is_some());
                    prop_assert_eq!(before - model.len(), out.evicted.len());
                    prop_assert!(model.contains_key(&n), "what was just put is there");
                }
                2 => prop_assert_eq!(index.get(key(n)), model.get(&n)),
                _ => prop_assert_eq!(index.remove(key(n)), model.remove(&n)),
            }
            prop_assert_eq!(index.len(), model.len());
            prop_assert_eq!(index.bytes(), model.values().map(|t| cost(t.bytes)).sum::<usize>());
            prop_assert!(index.bytes() <= 3000);
            prop_assert_eq!(index.iter().count(), model.len());
        }
    }
}

#[test]
fn what_is_larger_than_everything_is_refused() {
    let mut index = Index::new(1000);
    index.insert(key(1), thing(10, 1.0), Time::ZERO);
    let out = index.insert(key(2), thing(2000, 1.0), Time::ZERO);
    assert!(out.refused.is_some() && out.evicted.is_empty() && index.len() == 1);
}

#[test]
fn what_was_asked_for_survives_a_scan() {
    let mut index = Index::new(cost(10) * 100);
    for n in 0..100 {
        index.insert(key(n), thing(10, 1.0), Time::ZERO);
    }
    (0..20).for_each(|n| drop(index.get(key(n)).cloned()));
    for n in 1000..1070 {
        index.insert(key(n), thing(10, 1.0), Time::ZERO);
    }
    assert!((0..20).all(|n| index.peek(key(n)).is_some()));
}

#[test]
fn worth_is_price_times_reuse_by_size() {
    let cent = Some(Money::from_nanos(10_000_000));
    let hour = Span::from_secs(3600);
    assert_eq!(worth(cent, 1.0, Span::ZERO, 100), 0.0, "an expired entry");
    assert_eq!(worth(cent, 0.0, hour, 100), 0.0, "one never asked for");
    assert!((worth(cent, 1.0, hour, 100) - 1e5).abs() < 1e-6);
    assert!(worth(cent, 1e-3, hour, 100) > worth(cent, 1e-4, hour, 100));
    assert!(worth(None, 1.0, hour, 100) > 0.0, "an unknown price is not zero");
    assert!(worth(Some(Money::ZERO), 1.0, hour, 100) == 0.0);
}

/// Cost of the misses of a Zipf trace; `aware` tells the index the true worth.
fn miss_cost(aware: bool, price: impl Fn(u64) -> f64) -> f64 {
    let (keys, requests) = (4000usize, 60_000);
    let weights: Vec<f64> = (1..=keys).map(|rank| (rank as f64).powf(-0.8)).collect();
    let total: f64 = weights.iter().sum();
    let cumulative: Vec<f64> = weights
        .iter()
        .scan(0.0, |sum, w| {
            *sum += w / total;
            Some(*sum)
        })
        .collect();
    let draw = farthing_types::Draw::new(11);
    let mut index = Index::new(cost(100) * keys / 10);
    let mut paid = 0.0;
    for i in 0..requests {
        let u = draw.uniform(farthing_types::DrawKind::Sample, "trace", i, 0);
        let rank = cumulative.partition_point(|c| *c < u).min(keys - 1);
        let n = rank as u64;
        if index.get(key(n)).is_none() {
            paid += price(n);
            let value = if aware { price(n) * weights[rank] } else { 1.0 };
            index.insert(key(n), thing(100, value), Time::ZERO);
        }
    }
    paid
}

#[test]
fn knowing_prices_pays_where_they_differ_and_costs_nothing_where_not() {
    // A hundredfold span of prices, unrelated to popularity.
    let spread = |n: u64| 10f64.powf((n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as f64 / f64::from(1 << 24) * 2.0);
    let (plain, aware) = (miss_cost(false, spread), miss_cost(true, spread));
    assert!(aware <= 0.9 * plain, "{aware} of {plain}");
    let (plain, aware) = (miss_cost(false, |_| 1.0), miss_cost(true, |_| 1.0));
    assert!(aware <= 1.01 * plain, "{aware} of {plain}");
}

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug, PartialEq)]
struct Thing {
    key: KeyHash,
    bytes: usize,
    worth: f64,
}
impl Weighed for Thing {
    fn key(&self) -> KeyHash {
        self.key
    }
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
fn thing(n: u64, bytes: usize, worth: f64) -> Thing {
    Thing { key: key(n), bytes, worth }
}
const fn cost(bytes: usize) -> usize {
    Index::<Thing>::cost(bytes, 0)
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
                    let value = thing(n, size, size as f64 * 7.0 % 5.0);
                    let out = index.insert(value.clone(), Time::ZERO);
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
    index.insert(thing(1, 10, 1.0), Time::ZERO);
    let out = index.insert(thing(2, 2000, 1.0), Time::ZERO);
    assert!(out.refused.is_some() && out.evicted.is_empty() && index.len() == 1);
}

#[test]
fn what_was_asked_for_survives_a_scan() {
    let mut index = Index::new(cost(10) * 100);
    for n in 0..100 {
        index.insert(thing(n, 10, 1.0), Time::ZERO);
    }
    (0..20).for_each(|n| drop(index.get(key(n)).cloned()));
    for n in 1000..1070 {
        index.insert(thing(n, 10, 1.0), Time::ZERO);
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

/// Belongs to the groups whose bits are set.
struct Grouped(u8, KeyHash);
impl Weighed for Grouped {
    fn key(&self) -> KeyHash {
        self.1
    }
    fn bytes(&self) -> usize {
        10
    }
    fn worth(&self, _now: Time) -> f64 {
        1.0
    }
    fn groups(&self, each: &mut dyn FnMut(u32)) {
        // All in few chains, whatever the number of heads.
        (0..8).filter(|bit| self.0 & 1 << bit != 0).for_each(|bit| each(group(bit)));
    }
}
const fn group(bit: u32) -> u32 {
    (bit % 2) << 20 | bit << 24
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]
    /// Walks stand in the middle of their groups while values come, go and are evicted: whoever is there all the time is met, and met once.
    #[test]
    fn a_walk_meets_who_was_there_all_the_time(
        steps in proptest::collection::vec((0u8..8, 0u64..60, any::<u8>(), 1usize..6), 1..400),
        roomy in any::<bool>(),
    ) {
        let cost = |value: &Grouped| Index::<Grouped>::cost(10, value.0.count_ones() as usize);
        let mut index = Index::new(if roomy { usize::MAX / 2 } else { 30 * Index::<Grouped>::cost(10, 0) });
        // Each walk with its group, who must be met, and who was.
        let mut walks: Vec<(Walk, u32, Vec<KeyHash>, Vec<KeyHash>)> = Vec::new();
        let members = |index: &Index<Grouped>, bit: u32| -> Vec<KeyHash> {
            let mut keys: Vec<KeyHash> = index.iter().filter(|(_, value)| value.0 & 1 << bit != 0).map(|(key, _)| key).collect();
            keys.sort_unstable();
            keys
        };
        for (what, n, bits, most) in steps {
            match what {
                0..4 => drop(index.insert(Grouped(bits, key(n)), Time::ZERO)),
                4 => {
                    index.remove(key(n));
                }
                5 => {
                    let bit = u32::from(bits % 9);
                    let walk = if bit == 8 { Walk::all() } else { Walk::group(group(bit)) };
                    let due = if bit == 8 { index.iter().map(|(key, _)| key).collect() } else { members(&index, bit) };
                    walks.push((walk, bit, due, Vec::new()));
                }
                _ => for (walk, bit, _, met) in &mut walks {
                    met.extend(index.step(walk, most, |_, value| *bit == 8 || value.0 & 1 << *bit != 0));
                },
            }
            // Replaced is gone and come anew.
            for (walk, bit, due, met) in &mut walks {
                if what < 4 {
                    due.retain(|of| *of != key(n));
                }
                due.retain(|of| index.peek(*of).is_some_and(|value| *bit == 8 || value.0 & 1 << *bit != 0));
                if walk.is_over() {
                    prop_assert!(due.iter().all(|of| met.iter().filter(|key| *key == of).count() == 1), "{due:?} {met:?}");
                }
            }
            walks.retain(|(walk, ..)| !walk.is_over());
            prop_assert_eq!(index.bytes(), index.iter().map(|(_, value)| cost(value)).sum::<usize>());
        }
        for (mut walk, ..) in walks {
            while !walk.is_over() {
                index.step(&mut walk, 3, |_, _| false);
            }
        }
        for bit in 0..8 {
            let mut walk = Walk::group(group(bit));
            let mut met = index.step(&mut walk, usize::MAX, |_, value| value.0 & 1 << bit != 0);
            met.sort_unstable();
            prop_assert!(walk.is_over());
            prop_assert_eq!(met, members(&index, bit));
        }
        // And nothing is left behind.
        let keys: Vec<KeyHash> = index.iter().map(|(key, _)| key).collect();
        assert!(keys.into_iter().all(|key| index.remove(key).is_some()));
        prop_assert_eq!((index.bytes(), index.groups.used()), (0, 0));
    }
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
            index.insert(thing(n, 100, value), Time::ZERO);
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

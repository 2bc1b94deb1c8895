//! The interval of a saving: bootstrap over blocks of key and day, because requests of one key within a day stand or fall together.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde::Serialize;

/// Groups of blocks that are drawn as one: enough for a smooth interval, few enough to draw often.
pub const GROUPS: usize = 1_024;
/// Draws.
const DRAWS: usize = 400;
const DAY_NS: i64 = 86_400_000_000_000;

/// The group of a key's day.
pub fn group(key: u64, at_ns: i64) -> u16 {
    let day = at_ns.div_euclid(DAY_NS);
    let bytes = [key.to_le_bytes(), day.to_le_bytes()].concat();
    (crate::import::fingerprint::of(&bytes) % GROUPS as u64) as u16
}

/// A saving with its 95 % interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Saving {
    /// 1 - bill / base.
    pub share: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// A saving whose lower end is below this is none.
pub const WORTH: f64 = 0.005;

impl Saving {
    /// Whether it is worth a change.
    pub fn is_worth(&self) -> bool {
        self.low > WORTH || (self.share > 2.0 * WORTH && self.low > 0.0)
    }
}

/// The saving over groups of (base, bill). With fewer than two groups that cost anything the interval is all that is possible.
pub fn saving(groups: &[(i64, i64)], seed: u64) -> Saving {
    let used: Vec<(i64, i64)> = groups.iter().copied().filter(|(base, _)| *base > 0).collect();
    let share = |pairs: &mut dyn Iterator<Item = &(i64, i64)>| {
        let (base, bill) = pairs.fold((0i128, 0i128), |(base, bill), (a, b)| (base + i128::from(*a), bill + i128::from(*b)));
        if base == 0 { 0.0 } else { 1.0 - bill as f64 / base as f64 }
    };
    let all = share(&mut used.iter());
    if used.len() < 2 {
        return Saving { share: all, low: 0.0, high: if used.is_empty() { 0.0 } else { 1.0 } };
    }
    let mut rng = StdRng::seed_from_u64(seed);
    let mut drawn: Vec<f64> =
        (0..DRAWS).map(|_| share(&mut (0..used.len()).filter_map(|_| used.get(rng.random_range(0..used.len()))))).collect::<Vec<_>>();
    drawn.sort_by(f64::total_cmp);
    let at = |share: f64| drawn.get((share * (DRAWS - 1) as f64).round() as usize).copied().unwrap_or(all);
    Saving { share: all, low: at(0.025), high: at(0.975) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_covers_the_truth_about_as_often_as_it_says() {
        let mut rng = StdRng::seed_from_u64(5);
        let mut covered = 0;
        for run in 0..200 {
            // Blocks of uneven size; each saves a share of its own around 0.3.
            let groups: Vec<(i64, i64)> = (0..200)
                .map(|_| {
                    let base = rng.random_range(10..1_000i64);
                    (base, (base as f64 * (0.7 + rng.random_range(-0.3..0.3))) as i64)
                })
                .collect();
            let s = saving(&groups, run);
            covered += u32::from((s.low..=s.high).contains(&0.3));
        }
        assert!((182..=199).contains(&covered), "{covered} of 200");
    }

    #[test]
    fn nothing_and_one_block_promise_nothing() {
        assert_eq!(saving(&[], 1), Saving::default());
        assert_eq!(saving(&[(0, 0), (10, 4)], 1), Saving { share: 0.6, low: 0.0, high: 1.0 });
    }
}

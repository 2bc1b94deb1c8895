//! What was learned, in figures that a person can read: where each challenger is predicted to cost less than control.

use farthing_contract::features::{UNIT_FEATURES, UNIT_SPEC};
use serde::{Deserialize, Serialize};

/// Features that are told of each challenger.
const SPLITS: usize = 2;
/// Share of the units that each side of a split must have.
const FEWEST: f64 = 0.1;

/// What is predicted of a challenger.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Leaning {
    /// Its index.
    pub variant: usize,
    /// Share of the units for which it is predicted to be the cheapest of all variants.
    pub cheapest: f64,
    /// Predicted cost of a unit-window, challenger minus control, USD, on average over the units.
    pub difference_usd: f64,
    /// The features by which this differs most.
    pub splits: Vec<Split>,
}

/// The difference on both sides of a feature's median.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Split {
    /// The feature.
    pub feature: String,
    /// Its median.
    pub at: f64,
    /// Challenger minus control where it is at most that, USD per unit-window.
    pub low_usd: f64,
    /// The same above it.
    pub high_usd: f64,
}

/// A unit: its features, and what each variant is predicted to cost it.
pub(crate) type Predicted = ([f32; UNIT_FEATURES], Vec<f64>);

/// What is predicted of each challenger over these units; `cap` is the dollars of a cost of 1.
pub(crate) fn leanings(units: &[Predicted], cap: f64) -> Vec<Leaning> {
    let variants = units.first().map_or(0, |(_, costs)| costs.len());
    (1..variants).map(|variant| leaning(units, variant, cap)).collect()
}

fn leaning(units: &[Predicted], variant: usize, cap: f64) -> Leaning {
    let differences: Vec<f64> = units.iter().map(|(_, costs)| (costs[variant] - costs[0]) * cap).collect();
    let is_least = |costs: &[f64]| costs.iter().enumerate().all(|(a, cost)| a == variant || costs[variant] < *cost);
    let cheapest = units.iter().filter(|(_, costs)| is_least(costs)).count() as f64 / units.len() as f64;
    let mut splits: Vec<Split> = (0..UNIT_FEATURES).filter_map(|feature| split(units, &differences, feature)).collect();
    splits.sort_by(|a, b| (b.high_usd - b.low_usd).abs().total_cmp(&(a.high_usd - a.low_usd).abs()));
    splits.truncate(SPLITS);
    Leaning { variant, cheapest, difference_usd: mean(differences.iter().copied()).unwrap_or(0.0), splits }
}

fn split(units: &[Predicted], differences: &[f64], feature: usize) -> Option<Split> {
    let mut values: Vec<f32> = units.iter().map(|(features, _)| features[feature]).collect();
    // The upper half must not be empty where many units are alike.
    let middle = values.len().checked_sub(1)? / 2;
    let at = *values.select_nth_unstable_by(middle, f32::total_cmp).1;
    let side = |high: bool| {
        let of = units.iter().zip(differences).filter(move |((features, _), _)| (features[feature] > at) == high).map(|(_, d)| *d);
        (of.clone().count() as f64 >= FEWEST * units.len() as f64).then(|| mean(of)).flatten()
    };
    Some(Split { feature: UNIT_SPEC.names[feature].to_owned(), at: f64::from(at), low_usd: side(false)?, high_usd: side(true)? })
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
    (count > 0.0).then(|| sum / count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_feature_that_tells_is_found() {
        // By the second feature: low ones save a dollar with the challenger, high ones lose two.
        let unit = |n: usize| {
            let mut features = [0.0; UNIT_FEATURES];
            (features[0], features[1]) = ((n % 7) as f32, (n % 2) as f32);
            (features, vec![0.5, if n.is_multiple_of(2) { 0.4 } else { 0.7 }])
        };
        let units: Vec<Predicted> = (0..100).map(unit).collect();
        let found = leanings(&units, 10.0);
        assert_eq!((found.len(), found[0].variant, found[0].cheapest), (1, 1, 0.5));
        let split = &found[0].splits[0];
        assert!(
            split.feature == UNIT_SPEC.names[1] && (split.low_usd + 1.0).abs() < 1e-9 && (split.high_usd - 2.0).abs() < 1e-9,
            "{split:?}"
        );
        assert!((found[0].difference_usd - 0.5).abs() < 1e-9);
        assert!(leanings(&[], 1.0).is_empty());
    }
}

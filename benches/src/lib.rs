//! Support for the measurements: medians with bootstrap intervals, results as JSON.

use std::path::{Path, PathBuf};

use anyhow::Context;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde::Serialize;

/// Bytes of a page of memory.
const PAGE: u64 = 4_096;
/// Resamples of a bootstrap interval.
const RESAMPLES: usize = 2_000;

/// A median with its 95 % bootstrap interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Median {
    /// The median.
    pub value: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
}

/// The median of `values` with its interval (percentile bootstrap, fixed seed); NaN when there are none.
pub fn median(values: &[f64]) -> Median {
    let mut rng = StdRng::seed_from_u64(1);
    let mut medians: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            let sample: Vec<f64> =
                values.iter().map(|_| values.get(rng.random_range(0..values.len())).copied().unwrap_or(f64::NAN)).collect();
            quantile(&sample, 0.5)
        })
        .collect();
    medians.sort_by(f64::total_cmp);
    Median { value: quantile(values, 0.5), low: quantile(&medians, 0.025), high: quantile(&medians, 0.975) }
}

/// The `q` quantile of `values`, by nearest rank.
pub fn quantile(values: &[f64], q: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = ((sorted.len() as f64 * q).ceil() as usize).clamp(1, sorted.len().max(1)) - 1;
    sorted.get(rank).copied().unwrap_or(f64::NAN)
}

/// Resident memory of this process, bytes.
///
/// # Errors
/// Where the system does not tell.
pub fn resident() -> anyhow::Result<u64> {
    let text = std::fs::read_to_string("/proc/self/statm")?;
    let pages: u64 = text.split(' ').nth(1).context("statm has no second number")?.parse()?;
    Ok(pages * PAGE)
}

/// Where `make` targets write their figures.
pub fn results(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/results").join(format!("{name}.json"))
}

/// Writes figures as `target/results/<name>.json`.
///
/// # Errors
/// When the file cannot be written.
pub fn write<T: Serialize>(name: &str, figures: &T) -> anyhow::Result<PathBuf> {
    let path = results(name);
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir)?;
    }
    std::fs::write(&path, serde_json::to_vec_pretty(figures)?)?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_lies_in_its_interval() {
        let values: Vec<f64> = (1..=21).map(f64::from).collect();
        let m = median(&values);
        assert!((m.value - 11.0).abs() < 1e-9 && m.low < 11.0 && m.high > 11.0, "{m:?}");
        assert!(quantile(&[], 0.5).is_nan());
    }
}

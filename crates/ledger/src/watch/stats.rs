//! Robust statistics.

/// The median; 0 of nothing.
pub fn median(values: &[f64]) -> f64 {
    median_of(values.iter().copied())
}

/// The same of an iterator.
pub fn median_of(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    let middle = values.len() / 2;
    if values.is_empty() {
        return 0.0;
    }
    let (below, upper, _) = values.select_nth_unstable_by(middle, f64::total_cmp);
    let upper = *upper;
    if below.len() == middle && !values.len().is_multiple_of(2) {
        return upper;
    }
    let lower = values.iter().take(middle).copied().fold(f64::NEG_INFINITY, f64::max);
    f64::midpoint(lower, upper)
}

/// Median and scale: the median distance from it, made comparable to a standard deviation, at least `floor`.
pub fn location(values: &[f64], floor: f64) -> (f64, f64) {
    let middle = median(values);
    let scale = 1.4826 * median_of(values.iter().map(|value| (value - middle).abs()));
    (middle, scale.max(floor))
}

/// The quantile `q` of sorted values, between neighbours in proportion; 0 of nothing.
pub fn quantile(sorted: &[f64], q: f64) -> f64 {
    let place = q.clamp(0.0, 1.0) * sorted.len().saturating_sub(1) as f64;
    let (below, part) = (place.floor() as usize, place.fract());
    let at = |index: usize| sorted.get(index).copied();
    match (at(below), at(below + 1)) {
        (Some(low), Some(high)) => low + part * (high - low),
        (Some(low), None) => low,
        _ => 0.0,
    }
}

/// Probability that a Student variable with five degrees of freedom exceeds `z`: tails much heavier than a normal one's.
pub fn student5(z: f64) -> f64 {
    let angle = (z / 5.0_f64.sqrt()).atan();
    let (sin, cos) = angle.sin_cos();
    let middle = 2.0 / std::f64::consts::PI * (angle + sin * (cos + 2.0 / 3.0 * cos.powi(3)));
    ((1.0 - middle) / 2.0).clamp(1e-12, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_quantiles_and_scales() {
        assert_eq!((median(&[]), median(&[3.0]), median(&[3.0, 1.0]), median(&[9.0, 1.0, 4.0])), (0.0, 3.0, 2.0, 4.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 8.0]), 3.0);
        assert_eq!((quantile(&[1.0, 3.0], 0.5), quantile(&[1.0, 3.0], 1.0), quantile(&[], 0.5)), (2.0, 3.0, 0.0));
        let (middle, scale) = location(&[1.0, 2.0, 3.0, 4.0, 100.0], 0.1);
        assert_eq!((middle, scale), (3.0, 1.4826));
        assert_eq!(location(&[1.0, 1.0], 0.1), (1.0, 0.1));
    }

    #[test]
    fn tails_are_those_of_the_table() {
        for (z, tail) in [(0.0, 0.5), (2.015, 0.05), (4.032, 0.005), (6.869, 0.0005)] {
            assert!((student5(z) / tail - 1.0).abs() < 0.01, "{z}: {}", student5(z));
        }
    }
}

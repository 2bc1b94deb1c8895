//! Which of many comparisons have found something, when at most a given share of such findings may be false on average.
//!
//! Source: the e-BH procedure (Wang and Ramdas, "False discovery rate control with e-values", JRSS B 2022). It holds whatever hangs on what among the
//! comparisons, and for e-processes at any moment at which one looks and stops; docs/proving.md.

/// The comparisons that have found something: with `evidence` sorted from the largest on, the first k for the largest k with `e(k) >= K / (k alpha)`. The expected share
/// of nulls among them is at most `alpha`. Evidence that is no number counts as none.
///
/// Each value must be an e-value: at the moment of the look its mean is at most 1 where there is nothing to find.
pub fn discoveries(evidence: &[f64], alpha: f64) -> Vec<bool> {
    let of = |index: usize| if evidence[index].is_nan() { 0.0 } else { evidence[index] };
    let mut order: Vec<usize> = (0..evidence.len()).collect();
    order.sort_by(|a, b| of(*b).total_cmp(&of(*a)));
    let all = evidence.len() as f64;
    let enough = |k: usize| of(order[k - 1]) * (k as f64) * alpha >= all;
    let most = (1..=order.len()).rev().find(|k| enough(*k)).unwrap_or(0);
    let mut found = vec![false; evidence.len()];
    order[..most].iter().for_each(|index| found[*index] = true);
    found
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng, rngs::StdRng};

    use super::*;
    use crate::betting::{EProcess, Haste};

    #[test]
    fn as_many_are_found_as_carry_each_other() {
        let found = |evidence: &[f64]| discoveries(evidence, 0.05).into_iter().filter(|found| *found).count();
        assert_eq!((found(&[]), found(&[19.9]), found(&[20.0])), (0, 0, 1));
        assert_eq!((found(&[39.0, 1.0]), found(&[40.0, 1.0]), found(&[39.0, 20.0])), (0, 1, 2), "two at 1/alpha carry each other");
        assert_eq!(discoveries(&[1.0, 60.0, f64::NAN], 0.05), [false, true, false]);
    }

    /// Comparisons that share most of their noise, twelve without and eight with an effect, looked at all the time until something is found.
    fn run(seed: u64, stop_at: usize) -> (f64, usize, usize) {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut all = vec![EProcess::new(Haste::Any); 20];
        let (mut found, mut bonferroni) = (vec![false; 20], 0);
        for _ in 0..600 {
            let common = rng.random_range(-0.6..0.6);
            for (index, process) in all.iter_mut().enumerate() {
                process.add(common + rng.random_range(-0.3..0.3) + if index < 12 { 0.0 } else { 0.07 });
            }
            let evidence: Vec<f64> = all.iter().map(EProcess::evidence).collect();
            found = discoveries(&evidence, 0.05);
            bonferroni = evidence.iter().filter(|e| **e >= 20.0 / 0.05).count();
            if found.iter().filter(|found| **found).count() >= stop_at {
                break;
            }
        }
        let (false_ones, any) = (found[..12].iter().filter(|f| **f).count(), found.iter().filter(|f| **f).count());
        (false_ones as f64 / any.max(1) as f64, any - false_ones, bonferroni)
    }

    #[test]
    fn at_whatever_moment_one_stops_few_findings_are_false_though_all_hang_together() {
        for stop_at in [1, 4, usize::MAX] {
            let runs: Vec<_> = (0..120).map(|seed| run(seed, stop_at)).collect();
            let rate = runs.iter().map(|(rate, ..)| rate).sum::<f64>() / runs.len() as f64;
            assert!(rate <= 0.05, "stopped at {stop_at}: {rate}");
            if stop_at == usize::MAX {
                let [ours, theirs] = [runs.iter().map(|r| r.1).sum::<usize>(), runs.iter().map(|r| r.2).sum::<usize>()];
                assert!(ours as f64 > 1.1 * theirs as f64 && ours > 600, "{ours} true ones against {theirs} by Bonferroni");
            }
        }
    }
}

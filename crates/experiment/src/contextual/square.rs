//! Distributions over variants by their predicted costs.

/// SquareCB over predicted `costs`: a variant that is predicted to cost `d` more than the cheapest gets `1 / (k + gamma d)`, the cheapest the rest,
/// `k` the eligible ones. Others get nothing. Foster and Rakhlin 2020, algorithm 1; with losses in place of rewards.
///
/// Where a prediction is not finite nothing is known, and all eligible ones are equally likely.
pub fn square_cb(costs: &[f64], eligible: &[bool], gamma: f64) -> Vec<f64> {
    let Some(best) = cheapest(costs, eligible) else { return uniform(costs.len(), eligible) };
    let count = eligible.iter().take(costs.len()).filter(|e| **e).count() as f64;
    let of = |a: usize| {
        if a == best || !eligible[a] {
            return 0.0;
        }
        1.0 / (count + gamma.max(0.0) * (costs[a] - costs[best]))
    };
    let mut pmf: Vec<f64> = (0..costs.len()).map(of).collect();
    pmf[best] = 1.0 - pmf.iter().sum::<f64>();
    pmf
}

/// All for the eligible one that is predicted to cost least.
pub fn greedy(costs: &[f64], eligible: &[bool]) -> Vec<f64> {
    let Some(best) = cheapest(costs, eligible) else { return uniform(costs.len(), eligible) };
    (0..costs.len()).map(|a| f64::from(u8::from(a == best))).collect()
}

/// Equal shares of the eligible ones; where there is none all for the first, the control.
pub fn uniform(actions: usize, eligible: &[bool]) -> Vec<f64> {
    let is = |a: usize| eligible.get(a).copied().unwrap_or(false);
    let count = (0..actions).filter(|a| is(*a)).count();
    let share = |a: usize| if is(a) { 1.0 / count as f64 } else { 0.0 };
    (0..actions).map(|a| if count == 0 { f64::from(u8::from(a == 0)) } else { share(a) }).collect()
}

/// The eligible one with the least predicted cost, the first of equals; `None` without one, or where a prediction is not finite.
pub(super) fn cheapest(costs: &[f64], eligible: &[bool]) -> Option<usize> {
    let is = |a: &usize| eligible.get(*a).copied().unwrap_or(false);
    if (0..costs.len()).filter(is).any(|a| !costs[a].is_finite()) {
        return None;
    }
    (0..costs.len()).filter(is).min_by(|a, b| costs[*a].total_cmp(&costs[*b]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_is_a_distribution_over_the_eligible_that_falls_with_cost(
            costs in proptest::collection::vec(-3.0..3.0f64, 1..16), mask in any::<u16>(), gamma in 0.0..1e6f64,
        ) {
            let eligible: Vec<bool> = (0..costs.len()).map(|a| mask >> a & 1 == 1).collect();
            for pmf in [square_cb(&costs, &eligible, gamma), greedy(&costs, &eligible), uniform(costs.len(), &eligible)] {
                prop_assert!((pmf.iter().sum::<f64>() - 1.0).abs() < 1e-9 && pmf.iter().all(|p| *p >= 0.0), "{:?}", pmf);
                let any = eligible.iter().any(|e| *e);
                prop_assert!(!any || pmf.iter().zip(&eligible).all(|(p, e)| *e || *p == 0.0));
            }
            let pmf = square_cb(&costs, &eligible, gamma);
            for a in 0..costs.len() {
                for b in 0..costs.len() {
                    prop_assert!(!(eligible[a] && eligible[b] && costs[a] < costs[b]) || pmf[a] >= pmf[b] - 1e-12);
                }
            }
        }
    }

    #[test]
    fn by_hand() {
        let all = [true; 3];
        let pmf = square_cb(&[0.2, 0.1, 0.4], &all, 10.0);
        assert!((pmf[0] - 1.0 / 4.0).abs() < 1e-12 && (pmf[2] - 1.0 / 6.0).abs() < 1e-12 && (pmf[1] - 7.0 / 12.0).abs() < 1e-12, "{pmf:?}");
        assert_eq!(square_cb(&[0.2, 0.1], &[true, false], 10.0), [1.0, 0.0], "who is out gets nothing");
        assert_eq!(square_cb(&[f64::NAN, 0.1], &[true, true], 10.0), [0.5, 0.5], "nothing is known");
        assert_eq!(square_cb(&[0.2, 0.1], &[false, false], 10.0), [1.0, 0.0], "the control is always there");
        assert_eq!(greedy(&[0.2, 0.2], &[true, true]), [1.0, 0.0], "of equals the control");
    }
}

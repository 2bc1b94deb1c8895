//! What is learned of the variants' costs by context.

use serde::{Deserialize, Serialize};

use super::ridge::Ridge;
use super::square::{cheapest, greedy, square_cb, uniform};

/// How greedy allocation becomes with what was seen: gamma is this times the square root of the rows over the deviation of a row from its prediction. Found
/// in the simulation; between a third of it and three times it hardly matters.
const GREED: f64 = 10.0;
/// Rows, as they count now, below which variants keep equal chances.
const FEWEST_ROWS: f64 = 100.0;
/// The same of each variant.
const FEWEST_OF_EACH: f64 = 5.0;

/// How many times faster the second memory forgets.
const FASTER: i32 = 8;
/// It decides while its predictions are better by so much: a long memory is better by a little where nothing changes.
const BETTER: f64 = 0.98;

/// A linear model of the cost of each variant, twice: with a long memory, and with a short one that is right sooner after a change. The one whose predictions
/// were better lately decides.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Learner {
    /// The long memory, the short one.
    memories: [Vec<Ridge>; 2],
    /// Squared deviations of rows from what each predicted before they came, by the short memory's forgetting, and how many.
    squares: [f64; 2],
    judged: f64,
}

/// The probabilities for a context.
#[derive(Clone, Debug, PartialEq)]
pub struct Scored {
    /// What each variant is predicted to cost.
    pub costs: Vec<f64>,
    /// SquareCB's probabilities, without a uniform share; equal ones before there is enough to go by.
    pub explore: Vec<f64>,
    /// The cheapest variant, as far as is known.
    pub greedy: Vec<f64>,
    /// The same for all eligible ones.
    pub uniform: Vec<f64>,
}

impl Scored {
    /// `share` drawn evenly; of the rest `appetite` (0 to 1) by SquareCB and what is left greedily.
    pub fn mixed(&self, share: f64, appetite: f64) -> Vec<f64> {
        let of = |a: usize| share * self.uniform[a] + (1.0 - share) * (appetite * self.explore[a] + (1.0 - appetite) * self.greedy[a]);
        (0..self.costs.len()).map(of).collect()
    }

    /// What probabilities lose on average against the cheapest variant, by what is predicted.
    pub fn loss(&self, pmf: &[f64]) -> f64 {
        let Some(best) = self.greedy.iter().position(|p| *p == 1.0) else { return 0.0 };
        pmf.iter().zip(&self.costs).map(|(p, cost)| p * (cost - self.costs[best]).max(0.0)).sum()
    }
}

impl Learner {
    /// Nothing learned, of so many variants in so many dimensions.
    pub fn new(arms: usize, dims: usize) -> Self {
        let arms = vec![Ridge::new(dims); arms.clamp(1, super::MAX_ACTIONS)];
        Self { memories: [arms.clone(), arms], squares: [0.0; 2], judged: 0.0 }
    }

    /// Lets all that was seen count `keep` (0 to 1) of what it did.
    pub fn forget(&mut self, keep: f64) {
        let short = keep.powi(FASTER);
        for (memory, keep) in self.memories.iter_mut().zip([keep, short]) {
            memory.iter_mut().for_each(|arm| arm.forget(keep));
        }
        self.squares = self.squares.map(|squares| squares * short);
        self.judged *= short;
    }

    /// Takes what a variant cost in a context; it counts from the next [`fit`](Self::fit) on.
    pub fn take(&mut self, arm: usize, x: &[f64], cost: f64) {
        if self.memories.iter().all(|memory| memory.get(arm).is_some_and(|ridge| ridge.rows() >= FEWEST_OF_EACH)) {
            let off = [0, 1].map(|m| cost - self.memories[m][arm].predict(x));
            if off.iter().all(|off| off.is_finite()) {
                (0..2).for_each(|m| self.squares[m] += off[m] * off[m]);
                self.judged += 1.0;
            }
        }
        self.memories.iter_mut().filter_map(|memory| memory.get_mut(arm)).for_each(|ridge| ridge.add(x, cost));
    }

    /// Fits to what was taken.
    pub fn fit(&mut self) {
        self.memories.iter_mut().flatten().for_each(Ridge::fit);
    }

    /// Whether the short memory decides now.
    pub fn is_hasty(&self) -> bool {
        self.judged >= FEWEST_ROWS && self.squares[1] < BETTER * self.squares[0]
    }

    fn deciding(&self) -> &[Ridge] {
        &self.memories[usize::from(self.is_hasty())]
    }

    /// Rows of each variant, as they count now.
    pub fn rows(&self) -> Vec<f64> {
        self.deciding().iter().map(Ridge::rows).collect()
    }

    /// What each variant is predicted to cost.
    pub fn costs(&self, x: &[f64]) -> Vec<f64> {
        self.deciding().iter().map(|arm| arm.predict(x)).collect()
    }

    /// How far a row is from its prediction on average lately (root of the mean square); `None` before it is known.
    pub fn deviation(&self) -> Option<f64> {
        (self.judged >= 1.0).then(|| (self.squares[usize::from(self.is_hasty())] / self.judged).sqrt())
    }

    /// How much a difference in cost weighs now; `None` before there is enough of all eligible variants to go by.
    pub fn gamma(&self, eligible: &[bool]) -> Option<f64> {
        let seen = self.rows();
        let rows: f64 = seen.iter().sum();
        let each = seen.iter().zip(eligible).filter(|(_, is)| **is).all(|(rows, _)| *rows >= FEWEST_OF_EACH);
        // What costs the same each time is known for sure: any difference counts.
        (rows >= FEWEST_ROWS && each).then(|| GREED * rows.sqrt() / self.deviation().unwrap_or(f64::INFINITY).max(1e-9))
    }

    /// The probabilities for a context.
    pub fn score(&self, x: &[f64], eligible: &[bool]) -> Scored {
        let costs = self.costs(x);
        let uniform = uniform(costs.len(), eligible);
        match self.gamma(eligible).filter(|_| cheapest(&costs, eligible).is_some()) {
            Some(gamma) => Scored { explore: square_cb(&costs, eligible, gamma), greedy: greedy(&costs, eligible), uniform, costs },
            None => Scored { explore: uniform.clone(), greedy: uniform.clone(), uniform, costs },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_cheaper_here_is_taken_here() {
        let mut learner = Learner::new(2, 2);
        assert_eq!(learner.score(&[1.0, 0.5], &[true, true]).explore, [0.5, 0.5], "nothing is known yet");
        for n in 0..400 {
            let x = f64::from(n % 20) / 20.0;
            // Variant 1 costs less below a half and more above.
            learner.take(n as usize % 2, &[1.0, x], if n % 2 == 1 { x } else { 0.5 } + f64::from(n % 7) / 70.0);
            learner.fit();
        }
        let [low, high] = [0.1, 0.9].map(|x| learner.score(&[1.0, x], &[true, true]));
        assert!(low.explore[1] > 0.97 && high.explore[0] > 0.97, "{low:?} {high:?}");
        assert_eq!((&*low.greedy, &*high.greedy), (&[0.0, 1.0][..], &[1.0, 0.0][..]));
        let mixed = low.mixed(0.04, 0.0);
        assert!((mixed[0] - 0.02).abs() < 1e-12 && (low.loss(&mixed) - 0.02 * (low.costs[0] - low.costs[1])).abs() < 1e-12);
        assert_eq!(learner.score(&[1.0, 0.1], &[true, false]).explore, [1.0, 0.0]);
    }

    #[test]
    fn what_was_forgotten_is_explored_again() {
        let mut learner = Learner::new(2, 1);
        for n in 0..400 {
            learner.take(n % 2, &[1.0], n as f64 % 2.0 + f64::from(n as u32 % 5) / 5.0);
        }
        learner.fit();
        let sure = learner.score(&[1.0], &[true, true]);
        (0..20).for_each(|_| learner.forget(0.8));
        assert!(sure.explore[1] < 0.01 && learner.score(&[1.0], &[true, true]).explore == [0.5, 0.5]);
    }
}

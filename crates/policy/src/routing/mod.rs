//! Which provider of a route gets a call: scored by cost, latency, quality and reliability, better of two drawn.
//!
//! The score of a provider is the weighted sum of four numbers between 0 and 1, each larger for the better:
//! - cost: the least that a delivered answer costs at any candidate, over what it costs here. An answer costs the price of a call over the share
//!   of calls that bring one, so what fails often is dear however little it charges. An unknown price counts as the dearest, never as nothing;
//! - latency: the shortest time to an answer, over the time here. Unmeasured counts as the shortest, so that everybody is measured;
//! - quality: the operator's word, times the measured share of required fields that answers have;
//! - reliability: the share of calls that do not fail.
//!
//! Of three candidates or more two are drawn, and the better gets the call ("power of two choices": Mitzenmacher 2001): a herd that follows the
//! same figures would run over whoever looks best.

mod measures;

use farthing_types::{Money, Priority, RoutingWeights, Span, reasons};

pub use measures::{Measured, Measures, Noted};

/// What of its calls a provider can fail at most before a delivered answer is taken to cost without bound.
const MOST_ERRORS: f64 = 0.95;

reasons! {
    /// Why a provider got a call.
    RoutedBy {
        /// Its score was the better of two.
        Score = "score",
        /// Nobody else could take the call.
        Only = "only",
        /// Its breaker waits for a call that finds out whether it is back.
        Trial = "trial",
        /// Another one failed before, in the same call.
        Failover = "failover",
        /// Nobody who could take the call has the quality that the route asks for.
        BelowFloor = "below-floor",
        /// A budget has room for the cheapest alone.
        Cheapest = "cheapest",
    }
}

/// How much each part of a score counts. Only their proportions matter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Weights {
    /// Of what an answer costs.
    pub cost: f64,
    /// Of the time to it.
    pub latency: f64,
    /// Of its quality.
    pub quality: f64,
    /// Of getting one at all.
    pub reliability: f64,
}

impl From<RoutingWeights> for Weights {
    fn from(given: RoutingWeights) -> Self {
        let RoutingWeights { cost, latency, quality, reliability } = given;
        Self { cost, latency, quality, reliability }
    }
}

impl Weights {
    /// The usual ones (SPEC H1).
    pub const fn of(priority: Priority) -> Self {
        let (cost, latency, quality, reliability) = match priority {
            Priority::High => (0.1, 0.4, 0.3, 0.2),
            Priority::Medium => (0.3, 0.3, 0.2, 0.2),
            Priority::Low => (0.6, 0.1, 0.2, 0.1),
        };
        Self { cost, latency, quality, reliability }
    }

    /// The same proportions with a sum of one; the usual ones of medium priority where nothing counts.
    fn scaled(self) -> Self {
        let sum = self.cost + self.latency + self.quality + self.reliability;
        if !(sum.is_finite() && sum > 0.0) {
            return Self::of(Priority::Medium);
        }
        Self { cost: self.cost / sum, latency: self.latency / sum, quality: self.quality / sum, reliability: self.reliability / sum }
    }
}

/// A provider that could take a call, as far as a choice depends on it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// Its place among the route's providers.
    pub place: usize,
    /// What the call would cost there now, what is left of free quotas and a warm prompt cache included; `None` is unknown.
    pub price: Option<Money>,
    /// The time to an answer, measured; `None` is not measured.
    pub latency: Option<Span>,
    /// The measured share of calls that fail, 0 to 1.
    pub errors: f64,
    /// The operator's word times the measured share of required fields, 0 to 1.
    pub quality: f64,
}

/// Who gets a call, and why.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Chosen {
    /// Its place among the route's providers.
    pub place: usize,
    /// Its score, 0 to 1.
    pub score: f64,
    /// Why.
    pub by: RoutedBy,
}

/// The better of two of `candidates`, which `draws` (each in [0, 1)) choose; `None` without candidates. Who is below `floor` in quality gets the
/// call only where nobody else could.
pub fn choose(candidates: &[Candidate], weights: Weights, floor: f64, draws: (f64, f64)) -> Option<Chosen> {
    let good: Vec<Candidate> = candidates.iter().filter(|candidate| candidate.quality >= floor).copied().collect();
    let below = good.is_empty();
    let able = if below { candidates } else { &good };
    let scores = scores(able, weights);
    let best = |a: usize, b: usize| if better((scores.get(b), able.get(b)), (scores.get(a), able.get(a))) { b } else { a };
    let (at, by) = match able.len() {
        0 => return None,
        1 => (0, RoutedBy::Only),
        many => {
            let (a, b) = two(many, draws);
            (best(a, b), RoutedBy::Score)
        }
    };
    let by = if below { RoutedBy::BelowFloor } else { by };
    Some(Chosen { place: able.get(at)?.place, score: scores.get(at).copied()?, by })
}

/// The scores of `candidates` among each other, 0 to 1, in their order.
pub fn scores(candidates: &[Candidate], weights: Weights) -> Vec<f64> {
    let weights = weights.scaled();
    let least = candidates.iter().filter_map(cost).fold(f64::INFINITY, f64::min);
    let shortest = candidates.iter().filter_map(|candidate| candidate.latency).min();
    let one = |candidate: &Candidate| {
        weights.cost * cost(candidate).map_or(0.0, |cost| ratio(least, cost))
            + weights.latency * candidate.latency.map_or(1.0, |span| ratio(shortest.unwrap_or(span).as_secs_f64(), span.as_secs_f64()))
            + weights.quality * unit(candidate.quality)
            + weights.reliability * (1.0 - unit(candidate.errors))
    };
    candidates.iter().map(one).collect()
}

/// What a delivered answer costs, in nano-dollars.
fn cost(candidate: &Candidate) -> Option<f64> {
    candidate.price.map(|price| price.nanos().max(0) as f64 / (1.0 - unit(candidate.errors).min(MOST_ERRORS)))
}

/// The least over this one; what costs nothing is as good as the best.
fn ratio(least: f64, this: f64) -> f64 {
    if this <= least { 1.0 } else { unit(least / this) }
}

fn unit(share: f64) -> f64 {
    if share.is_nan() { 0.0 } else { share.clamp(0.0, 1.0) }
}

/// Whether one scores higher than another; of equals the one that stands first in the route's list is taken.
fn better(one: (Option<&f64>, Option<&Candidate>), than: (Option<&f64>, Option<&Candidate>)) -> bool {
    let (Some((score, place)), Some((other, first))) = (one.0.zip(one.1), than.0.zip(than.1)) else { return false };
    score.total_cmp(other).then_with(|| first.place.cmp(&place.place)).is_gt()
}

/// Two different places of `many`, at least two.
fn two(many: usize, (first, second): (f64, f64)) -> (usize, usize) {
    let a = pick(first, many);
    let b = pick(second, many - 1);
    (a, if b >= a { b + 1 } else { b })
}

fn pick(draw: f64, of: usize) -> usize {
    ((unit(draw) * of as f64) as usize).min(of - 1)
}

#[cfg(test)]
mod tests;

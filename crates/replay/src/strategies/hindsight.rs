//! Competitors in hindsight: every mix for all routes, and the best one for each.

use farthing_policy::strategy::Mix;
use farthing_types::Money;

use super::route::Bill;
use super::run::{Judged, Model, Run, simulate_fixed};
use crate::event::Trace;

/// What every fixed mix would have cost.
#[derive(Clone, Debug, PartialEq)]
pub struct Hindsight {
    /// The judged part under each mix, in the order of [`Mix::ALL`].
    pub runs: Vec<Run>,
    /// The cheapest mix of each route, and what it cost.
    pub per_route: Vec<(Mix, Money)>,
    /// The cheapest mix for all routes, and what it cost.
    pub single: (Mix, Money),
}

impl Hindsight {
    /// The cheapest mix of each route: what they cost together.
    pub fn best(&self) -> Money {
        self.per_route.iter().map(|(_, cost)| *cost).sum()
    }
    /// The judged part of a route under a mix.
    pub fn bill(&self, mix: Mix, route: usize) -> Bill {
        self.runs.get(mix.index()).and_then(|run| run.judged().get(route).copied()).unwrap_or_default()
    }
}

/// Runs every mix over the whole trace.
pub fn hindsight(trace: &Trace, model: &Model, judged: Judged) -> Hindsight {
    let runs: Vec<Run> = Mix::ALL.iter().map(|mix| simulate_fixed(trace, model, judged, vec![*mix; trace.routes.len()])).collect();
    let bills: Vec<Vec<Bill>> = runs.iter().map(Run::judged).collect();
    let cost = |mix: Mix, route: usize| {
        let terms = model.terms.get(route).copied().unwrap_or_default();
        bills[mix.index()].get(route).map_or(Money::ZERO, |bill| bill.cost(&terms))
    };
    // The first of equals is the plainest.
    let best = |route: usize| Mix::ALL.into_iter().map(|m| (m, cost(m, route))).min_by_key(|(m, c)| (*c, *m)).unwrap_or_default();
    let per_route = (0..trace.routes.len()).map(best).collect();
    let whole = |mix: Mix| (0..trace.routes.len()).map(|route| cost(mix, route)).sum::<Money>();
    let single = Mix::ALL.into_iter().map(|m| (m, whole(m))).min_by_key(|(m, c)| (*c, *m)).unwrap_or_default();
    Hindsight { runs, per_route, single }
}

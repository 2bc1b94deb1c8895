//! The operating point: the price of a stale answer at which the stale share meets a budget.
//!
//! Minimising the bill under a bound on the stale share is, by Lagrange, minimising bill + price x stale answers with one
//! shadow price for all keys: a stale answer avoided where that is cheap pays for one allowed where avoiding it is dear. A bound
//! on each key's own share wastes money. So one number per budget, `kappa` = call price / shadow price, is found by bisection
//! on a replay of the training part.

use farthing_policy::{Levels, TtlParams};

use crate::choosers::Decided;
use crate::engine::{Engine, Outcome};
use crate::event::{Event, Trace};

/// A budget and the kappa that meets it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OperatingPoint {
    /// Largest share of stale answers.
    pub stale_budget: f64,
    /// Call price / shadow price of a stale answer.
    pub kappa: f64,
    /// Stale share in the replay.
    pub stale_share: f64,
    /// Bill / base in the replay.
    pub bill_share: f64,
}

/// Steps of the bisection, from 1e-6 to 10 on a log scale: kappa to 1.5 %.
const STEPS: u32 = 10;

/// Replays `events` on a copy of `engine` (which holds the statistics of the time before) under `params` with each kappa tried.
pub fn choose_kappa(
    engine: &Engine,
    (trace, events): (&Trace, &[Event]),
    levels: &Levels,
    params: &TtlParams,
    stale_budget: f64,
) -> OperatingPoint {
    let (mut low, mut high) = (1e-6f64, 10.0f64);
    let mut best = point(stale_budget, low, &replay_at(engine, (trace, events), levels, params, low));
    for _ in 0..STEPS {
        let kappa = (low * high).sqrt();
        let tried = point(stale_budget, kappa, &replay_at(engine, (trace, events), levels, params, kappa));
        if tried.stale_share <= stale_budget {
            best = tried;
            low = kappa;
        } else {
            high = kappa;
        }
    }
    best
}

/// Replays `events` on a copy of `engine` with `params` and this kappa for every route, unsteered: as the point alone would do.
pub fn replay_at(engine: &Engine, (trace, events): (&Trace, &[Event]), levels: &Levels, params: &TtlParams, kappa: f64) -> Outcome {
    let mut engine = engine.clone();
    engine.drop_copies();
    let params = TtlParams { kappa: Some(kappa), steer: false, ..*params };
    engine.run(trace, events, &mut Decided::new(levels, vec![params; trace.routes.len()]))
}

fn point(stale_budget: f64, kappa: f64, outcome: &Outcome) -> OperatingPoint {
    let total = outcome.total();
    OperatingPoint { stale_budget, kappa, stale_share: total.stale_share(), bill_share: total.bill_share() }
}

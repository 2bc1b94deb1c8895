//! Operating points: price ratios at which a policy's stale share meets a budget.

use farthing_contract::bundle::OperatingPoint;
use farthing_policy::{Levels, TtlParams};
use farthing_replay::{Engine, Event, Outcome, Trace, replay_at};

/// Budgets that get a point of their own.
pub const BUDGETS: [f64; 6] = [0.001, 0.0025, 0.005, 0.01, 0.02, 0.05];
/// Share of a budget that is used: what follows is not what was.
pub const MARGIN: f64 = 0.9;
/// Price ratios that are tried: from 0.001, each 2.7 times the last.
const TRIED: usize = 9;

/// What one price ratio came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Tried {
    /// Price of a call over the price of a stale answer.
    pub kappa: f64,
    /// What was counted.
    pub outcome: Outcome,
}

impl Tried {
    fn stale_share(&self) -> f64 {
        self.outcome.total().stale_share()
    }
}

/// Replays `events` under each price ratio, from a copy of `engine` with an empty cache. One sweep serves all budgets.
pub fn sweep(engine: &Engine, (trace, events): (&Trace, &[Event]), levels: &Levels) -> Vec<Tried> {
    let ratios = std::iter::successors(Some(1e-3), |k| Some(k * 2.7)).take(TRIED);
    let params = TtlParams::default();
    ratios.map(|kappa| Tried { kappa, outcome: replay_at(engine, (trace, events), levels, &params, kappa) }).collect()
}

/// The price ratio whose stale share is `share`, from a sweep: between two outcomes on log scales; `None` when all are staler.
pub fn kappa_at(sweep: &[Tried], share: f64) -> Option<f64> {
    let last = sweep.iter().take_while(|o| o.stale_share() <= share).last()?;
    let Some(next) = sweep.iter().find(|o| o.kappa > last.kappa) else { return Some(last.kappa) };
    let (low, high) = (last.stale_share().max(1e-6), next.stale_share().max(1e-6));
    if high <= low {
        return Some(last.kappa);
    }
    let way = ((share.max(1e-6) / low).ln() / (high / low).ln()).clamp(0.0, 1.0);
    Some(last.kappa * (next.kappa / last.kappa).powf(way))
}

/// The bill at a stale share, from a sweep: between two outcomes on log scales; `None` outside of what was tried.
pub fn bill_at(sweep: &[Tried], share: f64) -> Option<f64> {
    let last = sweep.iter().take_while(|o| o.stale_share() <= share).last()?;
    let next = sweep.iter().find(|o| o.kappa > last.kappa)?;
    let bill = |o: &Tried| o.outcome.total().bill.as_usd_f64().max(1e-12);
    let (low, high) = (last.stale_share().max(1e-6), next.stale_share().max(1e-6));
    let way = if high > low { ((share.max(1e-6) / low).ln() / (high / low).ln()).clamp(0.0, 1.0) } else { 0.0 };
    Some(bill(last) * (bill(next) / bill(last)).powf(way))
}

/// The operating points of a sweep; budgets that no tried ratio meets have none.
pub fn operating_points(sweep: &[Tried]) -> Vec<OperatingPoint> {
    let point = |budget: &f64| Some(OperatingPoint { stale_budget: *budget, kappa: kappa_at(sweep, budget * MARGIN)? });
    BUDGETS.iter().filter_map(point).collect()
}

#[cfg(test)]
mod tests {
    use farthing_replay::RouteOutcome;

    use super::*;

    fn tried(kappa: f64, stale: u64) -> Tried {
        let route = RouteOutcome { requests: 10_000, stale, ..RouteOutcome::default() };
        Tried { kappa, outcome: Outcome { routes: vec![route] } }
    }

    #[test]
    fn ratios_are_interpolated_and_never_invented() {
        let sweep = [tried(0.01, 10), tried(0.04, 40), tried(0.16, 160)];
        assert_eq!(kappa_at(&sweep, 0.0005), None);
        assert!((kappa_at(&sweep, 0.002).unwrap() - 0.02).abs() < 1e-9);
        assert_eq!(kappa_at(&sweep, 0.5), Some(0.16));
        let points = operating_points(&sweep);
        assert!(points.windows(2).all(|w| w[0].stale_budget < w[1].stale_budget && w[0].kappa <= w[1].kappa));
    }
}

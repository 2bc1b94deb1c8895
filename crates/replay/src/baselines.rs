//! Competitors, tuned in hindsight: the best fixed TTL, for all routes or for each, at a given share of stale answers.

use farthing_types::{Money, Span};

use crate::engine::{Outcome, RouteOutcome};
use crate::event::{Event, EventKind, Trace};

/// What a fixed TTL would have cost.
#[derive(Clone, Debug, PartialEq)]
pub struct FixedResult {
    /// TTL per route.
    pub ttls: Vec<Span>,
    /// What came of it.
    pub outcome: Outcome,
}

/// TTLs tried: 150 from 1 s to 14 days in steps of less than a tenth, and none.
const STEPS: i32 = 151;
const LONGEST_S: f64 = 14.0 * 86_400.0;

fn ttl_of(step: i32) -> Span {
    if step == 0 { Span::ZERO } else { Span::from_secs_f64(LONGEST_S.powf(f64::from(step - 1) / f64::from(STEPS - 2))) }
}

/// Outcomes of every fixed TTL on `events`, to be searched at any staleness.
pub struct FixedCurves {
    /// `curves[step]` is the outcome of the step's TTL on all routes.
    curves: Vec<Outcome>,
}

impl FixedCurves {
    /// Replays `events` once per TTL, from an empty cache.
    pub fn of(trace: &Trace, events: &[Event]) -> Self {
        let before = &trace.events[..trace.events.len().min(offset(trace, events))];
        let mut versions = vec![0u32; trace.keys()];
        for event in before.iter().filter(|e| e.kind == EventKind::Change) {
            versions[event.key as usize] += 1;
        }
        let curves = (0..STEPS).map(|step| fixed(trace, events, &versions, ttl_of(step))).collect();
        Self { curves }
    }

    /// One TTL for all routes: the lowest bill with a stale share of at most `stale_share` over all routes.
    pub fn best_global(&self, stale_share: f64) -> FixedResult {
        let allowed = self.curves.iter().enumerate().filter(|(_, o)| o.total().stale_share() <= stale_share);
        let best = allowed.min_by_key(|(_, o)| o.total().bill).map_or(0, |(step, _)| step);
        let outcome = self.curves[best].clone();
        FixedResult { ttls: vec![ttl_of(best as i32); outcome.routes.len()], outcome }
    }

    /// One TTL per route: the lowest bill with at most `stale` stale answers over all routes. The routes share the
    /// allowance as is best for the bill (Lagrange multiplier by bisection), which is the strongest competitor of this form.
    pub fn best_per_route(&self, stale: u64) -> FixedResult {
        let (mut low, mut high) = (0.0f64, 1e15f64);
        for _ in 0..100 {
            let middle = 0.5 * (low + high);
            if self.at_price(middle).outcome.total().stale > stale { low = middle } else { high = middle }
        }
        self.spend_rest(self.at_price(high), stale)
    }

    /// The TTL of each route with the lowest bill when a stale answer costs `price` nano-dollars more.
    pub fn at_price(&self, price: f64) -> FixedResult {
        let routes = self.curves.first().map_or(0, |c| c.routes.len());
        let cost = |step: usize, route: usize| {
            let o = self.curves[step].routes[route];
            o.bill.nanos() as f64 + price * o.stale as f64
        };
        let steps: Vec<usize> =
            (0..routes).map(|r| (0..self.curves.len()).min_by(|a, b| cost(*a, r).total_cmp(&cost(*b, r))).unwrap_or(0)).collect();
        self.result(&steps)
    }

    /// What was chosen elsewhere: each route's nearest TTL of those that are tried.
    pub fn at(&self, ttls: &[Span]) -> FixedResult {
        let nearest = |ttl: &Span| {
            let off = |step: &usize| (ttl_of(*step as i32).as_secs_f64() - ttl.as_secs_f64()).abs();
            (0..self.curves.len()).min_by(|a, b| off(a).total_cmp(&off(b))).unwrap_or(0)
        };
        self.result(&ttls.iter().map(nearest).collect::<Vec<_>>())
    }

    fn result(&self, steps: &[usize]) -> FixedResult {
        FixedResult {
            ttls: steps.iter().map(|s| ttl_of(*s as i32)).collect(),
            outcome: Outcome { routes: steps.iter().enumerate().map(|(r, s)| self.curves[*s].routes[r]).collect() },
        }
    }

    /// The multiplier leaves a rest (the curves are steps): spend it on whatever lowers the bill most.
    fn spend_rest(&self, from: FixedResult, stale: u64) -> FixedResult {
        let mut best = from;
        loop {
            let total = best.outcome.total();
            let mut gain = (Money::ZERO, None);
            for (r, now) in best.outcome.routes.iter().enumerate() {
                for (step, curve) in self.curves.iter().enumerate() {
                    let other = curve.routes[r];
                    let saved = now.bill - other.bill;
                    if saved > gain.0 && total.stale - now.stale + other.stale <= stale {
                        gain = (saved, Some((r, step)));
                    }
                }
            }
            let Some((r, step)) = gain.1 else { return best };
            best.ttls[r] = ttl_of(step as i32);
            best.outcome.routes[r] = self.curves[step].routes[r];
        }
    }
}

fn offset(trace: &Trace, events: &[Event]) -> usize {
    let Some(first) = events.first() else { return 0 };
    // Where `events` begins within the trace: the changes before it only number the versions.
    trace.events.partition_point(|e| e.at < first.at)
}

fn fixed(trace: &Trace, events: &[Event], versions: &[u32], ttl: Span) -> Outcome {
    let mut versions = versions.to_vec();
    let mut held: Vec<(Option<farthing_types::Time>, u32)> = vec![(None, 0); versions.len()];
    let mut outcome = Outcome { routes: vec![RouteOutcome::default(); trace.routes.len()] };
    for event in events {
        let (key, route) = (event.key as usize, usize::from(event.route));
        if event.kind == EventKind::Change {
            versions[key] += 1;
            continue;
        }
        let (facts, count) = (&trace.routes[route], &mut outcome.routes[route]);
        count.requests += 1;
        count.base += facts.price;
        match held[key] {
            (Some(until), version) if event.at < until => {
                count.stale += u64::from(facts.nondeterministic || version != versions[key]);
            }
            _ => {
                count.calls += 1;
                count.bill += facts.price;
                held[key] = (Some(event.at + ttl), versions[key]);
            }
        }
    }
    outcome
}

/// The cheapest that never serves a stale answer: a call exactly when the answer has changed since the last one.
pub fn oracle(trace: &Trace, events: &[Event]) -> Outcome {
    let mut current = vec![false; trace.keys()];
    let mut outcome = Outcome { routes: vec![RouteOutcome::default(); trace.routes.len()] };
    for event in events {
        let (key, route) = (event.key as usize, usize::from(event.route));
        if event.kind == EventKind::Change {
            current[key] = false;
            continue;
        }
        let (facts, count) = (&trace.routes[route], &mut outcome.routes[route]);
        count.requests += 1;
        count.base += facts.price;
        if facts.nondeterministic || !current[key] {
            count.calls += 1;
            count.bill += facts.price;
            current[key] = true;
        }
    }
    outcome
}

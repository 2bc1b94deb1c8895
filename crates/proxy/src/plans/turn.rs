//! When it is decided, and from what.

use std::sync::Arc;

use farthing_config::{Route, StrategyBy};
use farthing_contract::features::{BatchWindow, RouteStats, StrategyInput, StrategyStats};
use farthing_models::{Alias, Generation, Kind};
use farthing_policy::plan::RequestKind;
use farthing_policy::strategy::live::{Decider, LiveDecision, live};
use farthing_policy::strategy::{Allowed, Ask, BatchTerms, StrategyParams, Terms};
use farthing_policy::{Heat, Levels};
use farthing_types::{DecisionId, Money, Span, Time};

use super::{Live, Made};
use crate::batching;
use crate::predictors::is_shipped;
use crate::route::RouteState;
use crate::state::State;

/// Price of a stale answer in calls where neither the operator nor a predictor's operating point tells: as in replays.
const STALE_CALLS: i64 = 20;
/// A whole call, in thousandths.
const WHOLE: u32 = 1_000;

impl State {
    /// Takes in what has come on each route, and decides where it is time to. For the background: it may take some milliseconds.
    pub fn plan_routes(&self) {
        let bundle = self.predictors.store().current(Kind::Strategy, Alias::Champion);
        for route in &self.live().routes {
            self.plan_route(route, bundle.as_ref());
        }
    }

    /// Writes down what the decisions in force have come to, before the process ends.
    pub fn settle_plans(&self) {
        for route in &self.live().routes {
            if let Some(made) = route.planning.made() {
                let came = self.totals.route(&route.route.name).came_to();
                self.log_outcome(route, &made, ("stopped", self.clock.now(), &came));
            }
        }
    }

    fn plan_route(&self, route: &RouteState, bundle: Option<&Arc<Generation>>) {
        let steps = route.plan.steps(RequestKind::Safe);
        let allowed = Allowed::of(&steps, route.batching.is_some() && steps.batch.is_ok());
        if allowed.is_none() {
            return;
        }
        let (now, real) = (self.clock.now(), self.real_now());
        let mut of = route.planning.live.lock();
        let price = self.price_of_call(route, now);
        let window = window(&route.route, &of.stats, now);
        let came = self.fold(route, &mut of.stats, (window, price));
        of.moved |= came.is_some();
        let rate = of.stats.rate_fast(now);
        of.heat = Some((of.heat.map_or(Heat::Cold, |(heat, _)| heat).at(rate), rate));
        // Frozen, what was decided stays; what came is kept for later.
        let frozen = !self.may_act() && route.planning.made().is_some();
        if frozen || !is_due(&of, bundle, (real, self.live().config.plans.interval)) {
            return;
        }
        let terms = self.terms(route, &of.stats, (window, price));
        let of_route = came.unwrap_or_else(|| route.stats.lock().stats.clone());
        let decision = self.decide(route, bundle, (&of.stats, &of_route, now), (&terms, allowed));
        (of.moved, of.at, of.bundle) = (false, Some(real), bundle.map(|bundle| bundle.digest().clone()));
        drop(of);
        let began = self.totals.route(&route.route.name).came_to();
        let made = Made { id: DecisionId(self.ids.next()), at: now, decision, allowed, terms, began };
        self.put_in_force(route, made);
    }

    fn decide(
        &self,
        route: &RouteState,
        bundle: Option<&Arc<Generation>>,
        (stats, of_route, now): (&StrategyStats, &RouteStats, Time),
        (terms, allowed): (&Terms, Allowed),
    ) -> LiveDecision {
        let params = self.strategy_params();
        let input = StrategyInput { stats, route: of_route, batch: terms.batch.map(|batch| batch.window), now };
        let ask = Ask { input, terms, params: &params, allowed };
        let levels = bundle.filter(|_| !route.switches.is_lean()).map_or_else(Levels::default, |bundle| bundle.levels().clone());
        let shipped = bundle.is_none_or(|bundle| is_shipped(bundle));
        let mut decision = live(&self.strategy_guarded, &levels, (decider(route.route.strategy), shipped), &ask);
        route.switches.name_lean(&mut decision.shadow.as_mut().unwrap_or(&mut decision.acting).choice.by);
        decision
    }

    fn strategy_params(&self) -> StrategyParams {
        let plans = &self.config().plans;
        StrategyParams {
            cache_threshold: plans.cache_threshold,
            batch_threshold: plans.batch_threshold,
            batch_min_sla: plans.batch_min_sla,
            // The batcher asks at each call.
            rule_asks_traffic: false,
        }
    }

    fn put_in_force(&self, route: &RouteState, made: Made) {
        let mix = made.decision.acting.choice.value;
        // What is not allowed stays out by its own reason.
        let (cache, batch) = (mix.caches() || !made.allowed.cache, mix.batches() || !made.allowed.batch);
        let before = route.planning.made();
        if let Some(before) = &before {
            self.log_outcome(route, before, ("superseded", made.at, &made.began));
        }
        let turned = before.as_ref().is_none_or(|before| before.decision.acting.choice.value != mix);
        let differed = before.is_some_and(|before| before.decision.disagrees());
        let (name, by) = (&*route.route.name, &made.decision.acting.choice.by);
        if turned {
            tracing::info!(route = name, %mix, %by, "the strategies of a route are chosen");
        }
        let otherwise = made.decision.shadow.as_ref().zip(made.decision.more()).filter(|_| made.decision.disagrees() && !differed);
        if let Some((shadow, more)) = otherwise {
            let would = shadow.choice.value;
            tracing::info!(route = name, %mix, %would, by = %shadow.choice.by, expected_usd = %more, "a predictor that looks on would choose otherwise");
        }
        route.planning.counts.note(&made.decision);
        self.log_plan(route, &made);
        route.planning.publish(made);
        route.switches.choose(cache, batch);
    }

    /// What one call costs: the flat price, or the mean of what answered requests would have cost alone.
    fn price_of_call(&self, route: &RouteState, now: Time) -> Option<Money> {
        let flat = self.pricing.flat(&route.route.name, &route.provider.name, now);
        flat.or_else(|| self.totals.route(&route.route.name).mean_base())
    }

    fn terms(&self, route: &RouteState, stats: &StrategyStats, (window, price): (Option<BatchWindow>, Option<Money>)) -> Terms {
        let price = price.unwrap_or(Money::ZERO);
        // A batch is one call where calls have a price; where usage has, it costs what its items do.
        let flat = self.pricing.flat(&route.route.name, &route.provider.name, self.clock.now()).is_some();
        let (per_call, per_item) = if flat { (WHOLE, 0) } else { (0, WHOLE) };
        Terms {
            price,
            stale_price: self.stale_price(route).unwrap_or_else(|| price.times(STALE_CALLS)),
            wait_price: per_second(route.route.price_wait, stats.latency().map_or(Span::ZERO, |latency| latency.middle)),
            sla: route.route.sla,
            batch: window.map(|window| BatchTerms { window, per_call, per_item }),
        }
    }
}

/// Whether it is time to decide: requests came and the interval has passed, or there is another predictor.
fn is_due(of: &Live, bundle: Option<&Arc<Generation>>, (real, interval): (Time, Span)) -> bool {
    let Some(at) = of.at else { return of.moved };
    let other = bundle.map(|bundle| bundle.digest()) != of.bundle.as_ref();
    other || (of.moved && real.since(at) >= interval)
}

const fn decider(by: StrategyBy) -> Decider {
    match by {
        StrategyBy::Rule => Decider::Rule,
        StrategyBy::Shadow => Decider::Shadow,
        StrategyBy::Auto => Decider::Auto,
        StrategyBy::Model => Decider::Model,
    }
}

/// How long the first call of a batch waits at the rate at which requests come, and how many fit.
fn window(route: &Route, stats: &StrategyStats, now: Time) -> Option<BatchWindow> {
    let config = route.batch.as_ref()?;
    let patience = route.sla.map_or(route.deadline, |sla| sla.min(route.deadline));
    let window = batching::rule(config).nominal(stats.rate_fast(now), patience);
    Some(BatchWindow { window, max: config.max_size })
}

/// What a second of waiting costs where not to wait for one call is worth so much.
fn per_second(price: Money, call: Span) -> Money {
    let micros = i128::try_from(call.as_micros()).unwrap_or(i128::MAX);
    let nanos = i128::from(price.nanos()) * 1_000_000;
    if micros == 0 { Money::ZERO } else { Money::from_nanos(i64::try_from(nanos / micros).unwrap_or(i64::MAX)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_priced_by_the_second() {
        let price = Money::from_nanos(300);
        assert_eq!(per_second(price, Span::from_millis(100)), price.times(10));
        assert_eq!(per_second(price, Span::ZERO), Money::ZERO, "nothing is known of calls yet");
        assert_eq!(per_second(Money::from_nanos(i64::MAX), Span::from_micros(1)), Money::from_nanos(i64::MAX));
    }
}

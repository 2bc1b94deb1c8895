use std::sync::Arc;

use farthing_contract::features::{BatchWindow, CacheView, KeySeen, RouteStats, STRATEGY_OUTPUTS, StrategyInput, StrategyStats};
use farthing_types::{Span, Time, VirtualClock};
use proptest::prelude::*;

use super::*;
use crate::predictor::PredictError;
use crate::strategy::fake::Fake;
use crate::strategy::{BatchTerms, StrategyParams, Terms};

const WINDOW: BatchWindow = BatchWindow { window: Span::from_millis(100), max: 5 };
const PRICE: Money = Money::from_nanos(1_000_000);

struct Route {
    stats: StrategyStats,
    now: Time,
    terms: Terms,
    params: StrategyParams,
    allowed: Allowed,
}

impl Route {
    fn new(requests: u64, gap_ms: i64, needs: f32) -> Self {
        let (mut stats, mut now) = (StrategyStats::default(), Time::from_millis(1_000_000));
        for key in 0..requests {
            now = now + Span::from_millis(gap_ms.unsigned_abs());
            let view = CacheView { needs_call: needs, stale: 0.0, cached: false };
            stats.on_request(now, key, (KeySeen::Never, view), Some(WINDOW));
            stats.on_call(Span::from_millis(50), 100);
        }
        let batch = Some(BatchTerms { window: WINDOW, per_call: 1_000, per_item: 0 });
        let terms = Terms { price: PRICE, stale_price: PRICE.times(20), batch, ..Terms::default() };
        let params = StrategyParams { rule_asks_traffic: false, ..StrategyParams::default() };
        Self { stats, now, terms, params, allowed: Allowed { cache: true, dedupe: true, batch: true } }
    }

    fn decide(&self, decider: Decider, shipped: bool, answer: Option<Result<[f32; STRATEGY_OUTPUTS], PredictError>>) -> LiveDecision {
        let guarded = Guarded::new(Arc::new(VirtualClock::default()), Span::from_secs(1), Span::from_secs(1));
        let levels = Levels { model: answer.map(|answer| Arc::new(Fake(answer)) as _), table: None };
        let route = RouteStats::default();
        let input = StrategyInput { stats: &self.stats, route: &route, batch: Some(WINDOW), now: self.now };
        live(&guarded, &levels, (decider, shipped), &Ask { input, terms: &self.terms, params: &self.params, allowed: self.allowed })
    }
}

/// Answers that make every request a call behind the cache, and every fifth a stale one.
const NO_CACHE: [f32; STRATEGY_OUTPUTS] = [0.0, 1.0, 0.2, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0];
const AS_LIVE: [f32; STRATEGY_OUTPUTS] = [0.0; STRATEGY_OUTPUTS];

#[test]
fn a_predictor_looks_on_until_it_may_act() {
    let route = Route::new(3_000, 10, 0.5);
    let shadow = route.decide(Decider::Shadow, false, Some(Ok(NO_CACHE)));
    assert_eq!((shadow.acting.choice.value, &shadow.acting.choice.by), (Mix::CacheBatch, &By::Rule("mix")));
    assert_eq!(shadow.shadow.as_ref().map(|s| (s.choice.value, s.choice.by.clone())), Some((Mix::DedupeBatch, By::Model(4))));
    assert!(shadow.disagrees());
    assert!(!route.decide(Decider::Shadow, true, Some(Ok(AS_LIVE))).disagrees(), "the same mix");
    assert_eq!(route.decide(Decider::Auto, true, Some(Ok(NO_CACHE))), shadow, "a shipped one is not trusted");
    for (decider, shipped) in [(Decider::Auto, false), (Decider::Model, true)] {
        let decided = route.decide(decider, shipped, Some(Ok(NO_CACHE)));
        assert_eq!((decided.acting.choice.value, decided.acting.choice.by.clone()), (Mix::DedupeBatch, By::Model(4)));
        assert!(decided.shadow.is_none() && !decided.disagrees());
    }
    let rule = route.decide(Decider::Rule, false, Some(Ok(NO_CACHE)));
    assert_eq!((rule.acting.choice.by, rule.shadow, rule.acting.features), (By::Rule("mix"), None, None), "nobody is asked");
}

#[test]
fn whatever_keeps_a_predictor_from_deciding_is_named() {
    let route = Route::new(3_000, 10, 0.5);
    let by = |route: &Route, answer| route.decide(Decider::Model, false, answer).acting.choice;
    assert_eq!(by(&route, None).by, By::Fallback("no-model"));
    assert_eq!(by(&route, Some(Err(PredictError::Busy))).by, By::Fallback("busy"));
    assert_eq!(by(&route, Some(Ok([f32::NAN; STRATEGY_OUTPUTS]))).by, By::Fallback("not-finite"));
    let young = Route::new(50, 10, 0.5);
    assert_eq!(by(&young, Some(Ok(NO_CACHE))).by, By::Fallback("few-requests"));
    let free = Route { terms: Terms { price: Money::ZERO, ..route.terms }, ..route };
    let choice = by(&free, Some(Ok(NO_CACHE)));
    assert_eq!((choice.value, choice.by), (Mix::CacheBatch, By::Fallback("no-price")), "without a price nothing is cheaper than another");
    let looked = free.decide(Decider::Shadow, false, Some(Ok(NO_CACHE)));
    assert!(!looked.disagrees() && looked.shadow.is_some_and(|s| s.choice.by == By::Fallback("no-price")));
}

#[test]
fn the_rule_leaves_traffic_to_the_batcher_and_keeps_the_promise() {
    // One request in ten seconds: the batcher finds nobody to wait for, call by call.
    let mut slow = Route::new(300, 10_000, 0.5);
    assert_eq!(slow.decide(Decider::Rule, false, None).acting.choice.value, Mix::CacheBatch);
    slow.terms.sla = Some(Span::from_millis(120));
    let decided = slow.decide(Decider::Rule, false, None).acting;
    assert_eq!(decided.choice.value, Mix::Cache);
    assert_eq!(decided.dropped.iter().map(|d| (d.member.as_str(), d.why.as_str())).collect::<Vec<_>>(), [("batch", "sla")]);
    slow.params.rule_asks_traffic = true;
    slow.terms.sla = None;
    assert_eq!(slow.decide(Decider::Rule, false, None).acting.choice.value, Mix::Cache);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn no_decider_lifts_a_ban_or_drops_joining(
        outputs in proptest::array::uniform9(-1.0..1.0f32), cache in any::<bool>(), dedupe in any::<bool>(), batch in any::<bool>(),
        sla_ms in proptest::option::of(1..2_000u64), price in 0..3_000_000i64, decider in 0..4usize, shipped in any::<bool>(),
    ) {
        let mut route = Route::new(150, 10, 0.5);
        route.allowed = Allowed { cache, dedupe, batch };
        route.terms.sla = sla_ms.map(Span::from_millis);
        route.terms.price = Money::from_nanos(price);
        let decider = [Decider::Rule, Decider::Shadow, Decider::Auto, Decider::Model][decider];
        let decided = route.decide(decider, shipped, Some(Ok(outputs)));
        for one in std::iter::once(&decided.acting).chain(&decided.shadow) {
            let mix = one.choice.value;
            prop_assert!((!mix.caches() || cache) && (!mix.batches() || batch), "{mix}");
            prop_assert!(!mix.joins() || dedupe || cache && mix.caches(), "{mix}");
            prop_assert!(mix.joins() || !dedupe, "{mix}");
            if let Some(sla) = route.terms.sla {
                prop_assert!(!mix.batches() || one.chosen().high <= sla && sla > route.params.batch_min_sla);
            }
        }
        prop_assert_eq!(matches!(decided.acting.choice.by, By::Model(_)), decider.acts(shipped) && price > 0);
    }
}

use farthing_contract::features::{BatchWindow, CacheView, KeySeen, RouteStats, StrategyStats};
use farthing_types::{Money, Time, VirtualClock};
use proptest::prelude::*;

use super::*;
use crate::predictor::PredictError;
use crate::strategy::BatchTerms;
use crate::strategy::fake::Fake;

const BATCH: BatchWindow = BatchWindow { window: Span::from_millis(100), max: 5 };

/// A route with one request per `gap_ms`, of which the cache would answer all but `needs`.
struct Bench {
    stats: StrategyStats,
    route: RouteStats,
    now: Time,
    terms: Terms,
    params: StrategyParams,
    allowed: Allowed,
}

impl Bench {
    fn new(gap_ms: i64, needs: f32) -> Self {
        let mut stats = StrategyStats::default();
        let mut now = Time::from_millis(1_000_000);
        for key in 0..3_000u64 {
            now = Time::from_millis(now.millis() + gap_ms);
            let view = CacheView { needs_call: needs, stale: 0.0, cached: false };
            stats.on_request(now, key, (KeySeen::Never, view), Some(BATCH));
            stats.on_call(Span::from_millis(50), 100);
        }
        let terms = Terms {
            price: Money::from_nanos(1_000_000),
            stale_price: Money::from_nanos(10_000_000),
            batch: Some(BatchTerms { window: BATCH, per_call: 2_000, per_item: 0 }),
            ..Terms::default()
        };
        let allowed = Allowed { cache: true, dedupe: true, batch: true };
        Self { stats, route: RouteStats::default(), now, terms, params: StrategyParams::default(), allowed }
    }

    fn ask(&self, levels: &Levels) -> StrategyDecision {
        let guarded = Guarded::new(Arc::new(VirtualClock::default()), Span::from_secs(1), Span::from_secs(1));
        let input = StrategyInput { stats: &self.stats, route: &self.route, batch: Some(BATCH), now: self.now };
        decide(&guarded, levels, &Ask { input, terms: &self.terms, params: &self.params, allowed: self.allowed })
    }

    fn with(&self, outputs: [f32; STRATEGY_OUTPUTS]) -> StrategyDecision {
        self.ask(&Levels { model: Some(Arc::new(Fake(Ok(outputs)))), table: None })
    }
}

const AS_LIVE: [f32; STRATEGY_OUTPUTS] = [0.0; STRATEGY_OUTPUTS];

#[test]
fn the_rule_is_that_of_c1_and_says_that_it_stands_in() {
    // A hundred per second: cached and batched; without the cache joined and batched.
    let mut busy = Bench::new(10, 0.5);
    let decision = busy.ask(&Levels::default());
    assert_eq!((decision.choice.value, decision.choice.by), (Mix::CacheBatch, By::Fallback("no-model")));
    busy.allowed.cache = false;
    assert_eq!(busy.ask(&Levels::default()).choice.value, Mix::DedupeBatch);
    // One per second: no batch. A promise of twice the window: no batch.
    assert_eq!(Bench::new(1_000, 0.5).ask(&Levels::default()).choice.value, Mix::Cache);
    busy.terms.sla = Some(BATCH.window * 2);
    assert_eq!(busy.ask(&Levels::default()).choice.value, Mix::Dedupe);
    busy.allowed = Allowed::default();
    assert_eq!(busy.ask(&Levels::default()).choice.value, Mix::Bypass);
}

#[test]
fn a_predictor_that_fails_leaves_the_rule_with_its_reason() {
    let bench = Bench::new(10, 0.5);
    for (wrong, reason) in [(Err(PredictError::Busy), "busy"), (Ok([f32::NAN; STRATEGY_OUTPUTS]), "not-finite")] {
        let decision = bench.ask(&Levels { model: Some(Arc::new(Fake(wrong))), table: None });
        assert_eq!((decision.choice.value, decision.choice.by), (Mix::CacheBatch, By::Fallback(reason)));
        assert!(decision.features.is_some() && decision.outputs.is_none());
    }
}

#[test]
fn the_cheapest_mix_is_chosen_by_price() {
    // Five wait together behind the cache: batches of 5 cost 2 calls.
    let mut bench = Bench::new(10, 0.5);
    assert_eq!(bench.with(AS_LIVE).choice.value, Mix::CacheBatch);
    // A batch that costs as much as its items does not pay.
    bench.terms.batch = Some(BatchTerms { window: BATCH, per_call: 2_000, per_item: 900 });
    assert_eq!(bench.with(AS_LIVE).choice.value, Mix::Cache);
    // Stale answers in one of ten at ten calls each.
    let mut stale = AS_LIVE;
    stale[2] = 0.1;
    assert_eq!(bench.with(stale).choice.value, Mix::Bypass);
    assert_eq!(bench.with(AS_LIVE).choice.by, By::Model(4));
}

#[test]
fn unsure_strategies_are_left_out_and_named() {
    let bench = Bench::new(1_000, 0.9);
    let mut unsure = AS_LIVE;
    unsure[7] = 0.5;
    let decision = bench.with(unsure);
    assert!(!decision.choice.value.caches());
    assert_eq!(decision.dropped, [Dropped { member: Member::Cache, why: Why::Unsure }]);
    let eager = Bench { params: StrategyParams { cache_threshold: 0.5, ..StrategyParams::default() }, ..bench };
    assert_eq!(eager.with(unsure).choice.value, Mix::Cache);
}

#[test]
fn what_breaks_the_promise_goes_first() {
    let mut bench = Bench::new(10, 0.5);
    bench.terms.sla = Some(Span::from_millis(120));
    let decision = bench.with(AS_LIVE);
    assert_eq!((decision.choice.value, decision.dropped), (Mix::Cache, vec![Dropped { member: Member::Batch, why: Why::Sla }]));
    bench.terms.sla = Some(Span::from_millis(400));
    assert_eq!(bench.with(AS_LIVE).choice.value, Mix::CacheBatch);
    // A promise that not even a bare call keeps costs no strategy that adds nothing.
    bench.terms.sla = Some(Span::from_millis(1));
    assert_eq!(bench.with(AS_LIVE).choice.value, Mix::Cache);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn nothing_forbidden_is_chosen_and_nothing_dearer_than_passing_by(
        outputs in proptest::array::uniform9(-1.0..1.0f32), cache in any::<bool>(), dedupe in any::<bool>(), batch in any::<bool>(),
        sla_ms in proptest::option::of(1..2_000u64), wait in 0..100_000_000i64, gap in 1..100i64,
    ) {
        let mut bench = Bench::new(gap, 0.5);
        bench.allowed = Allowed { cache, dedupe, batch };
        bench.terms.sla = sla_ms.map(Span::from_millis);
        bench.terms.wait_price = Money::from_nanos(wait);
        let decision = bench.with(outputs);
        let mix = decision.choice.value;
        prop_assert!(bench.allowed.mix(mix), "{mix}");
        prop_assert!(decision.chosen().saving >= Money::ZERO, "{mix} {:?}", decision.chosen());
        if let Some(sla) = bench.terms.sla {
            prop_assert!(!mix.batches() || decision.chosen().high <= sla);
        }
    }
}

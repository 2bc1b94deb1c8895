//! What a mix costs per request: prices of the route times shares that a prediction or the live statistics give.

use farthing_contract::features::{BatchWindow, Latency, LiveShares, STRATEGY_OUTPUTS};
use farthing_types::{Money, Rate, Span};

use super::mix::{Member, Mix};

/// Prices and promises of a route, as its operator and provider state them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Terms {
    /// Price of one call.
    pub price: Money,
    /// Price of one stale answer.
    pub stale_price: Money,
    /// Price of one second that a client waits.
    pub wait_price: Money,
    /// Latency that clients are promised; `None` when there is no promise.
    pub sla: Option<Span>,
    /// Batching; `None` where the provider has no batch format or price.
    pub batch: Option<BatchTerms>,
}

/// What a batch of `n` costs: `price x (per_call + per_item x n) / 1000`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchTerms {
    /// How long it waits, and how many fit.
    pub window: BatchWindow,
    /// Thousandths of the price of a call, once per batch.
    pub per_call: u32,
    /// Thousandths of the price of a call, for each item.
    pub per_item: u32,
}

/// Millionths: shares become integers before they meet money.
const PPM: f64 = 1e6;

impl BatchTerms {
    /// What a batch of `items` costs, exactly rounded once.
    pub fn bill(&self, price: Money, items: u64) -> Money {
        let thousandths = u64::from(self.per_call).saturating_add(u64::from(self.per_item).saturating_mul(items));
        Rate::per_million(price.nanos()).cost(thousandths.saturating_mul(1_000))
    }
}

/// Shares of the coming window, and how sure they are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shares {
    /// What remains per request.
    pub remain: LiveShares,
    /// Expected absolute error of what remains with the cache.
    pub cache_spread: f32,
    /// Expected absolute error of the batches per request.
    pub batch_spread: f32,
}

impl Shares {
    /// The live shares as they are.
    pub const fn live(live: LiveShares) -> Self {
        Self { remain: live, cache_spread: 0.0, batch_spread: 0.0 }
    }

    /// The live shares with a predictor's corrections, kept between what is possible: no share below 0 or above 1, no more batches than
    /// items, no more items with the cache or with longer waits than with joining alone.
    pub fn corrected(live: LiveShares, outputs: &[f32; STRATEGY_OUTPUTS]) -> Self {
        let at = |share: f32, k: usize| (share + outputs[k]).clamp(0.0, 1.0);
        let dedupe_items = at(live.dedupe_items, 0);
        let cache_items = at(live.cache_items, 1).min(dedupe_items);
        let dedupe_batch_items = at(live.dedupe_batch_items, 4).min(dedupe_items);
        let remain = LiveShares {
            dedupe_items,
            cache_items,
            cache_stale: at(live.cache_stale, 2).min(1.0 - cache_items),
            batch_calls: at(live.batch_calls, 3),
            dedupe_batch_items,
            dedupe_batch_calls: at(live.dedupe_batch_calls, 5).min(dedupe_batch_items),
            cache_batch_calls: at(live.cache_batch_calls, 6).min(cache_items),
        };
        Self { remain, cache_spread: outputs[7].clamp(0.0, 1.0), batch_spread: outputs[8].clamp(0.0, 1.0) }
    }
}

/// What is expected of a mix, per request of the route.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Expected {
    /// Bill, priced staleness and priced waiting.
    pub cost: Money,
    /// Cost of passing by, less [`Expected::cost`].
    pub saving: Money,
    /// Mean time until the answer.
    pub latency: Span,
    /// Time within which nineteen of twenty answers come.
    pub high: Span,
}

/// What is expected of every mix.
pub fn expected(shares: &Shares, terms: &Terms, latency: Latency) -> [Expected; Mix::COUNT] {
    let mut all = Mix::ALL.map(|mix| {
        let (mean, high) = waits(mix, &shares.remain, terms, latency);
        let cost = cost(mix, &shares.remain, terms, mean);
        Expected { cost, saving: Money::ZERO, latency: mean, high }
    });
    let base = all[Mix::Bypass.index()].cost;
    for one in &mut all {
        one.saving = base - one.cost;
    }
    all
}

fn ppm(share: f32) -> u64 {
    (f64::from(share.clamp(0.0, 1.0)) * PPM).round() as u64
}

/// Sums the meters exactly and rounds once.
fn cost(mix: Mix, remain: &LiveShares, terms: &Terms, mean: Span) -> Money {
    let price = Rate::per_million(terms.price.nanos());
    let items = ppm(items(mix, remain));
    let calls = match (mix.batches(), terms.batch) {
        (true, Some(batch)) => {
            let thousandths = |share: u64, per: u32| share.saturating_mul(u64::from(per)) / 1_000;
            thousandths(ppm(batches(mix, remain)), batch.per_call).saturating_add(thousandths(items, batch.per_item))
        }
        _ => items,
    };
    let stale = if mix.caches() { ppm(remain.cache_stale) } else { 0 };
    let waited = u64::try_from(mean.as_micros()).unwrap_or(u64::MAX);
    let sum = price
        .exact(calls)
        .saturating_add(Rate::per_million(terms.stale_price.nanos()).exact(stale))
        .saturating_add(Rate::per_million(terms.wait_price.nanos()).exact(waited));
    Rate::round(sum)
}

/// Requests that need a call, alone or in a batch.
pub fn items(mix: Mix, remain: &LiveShares) -> f32 {
    match mix {
        Mix::Bypass | Mix::Batch => 1.0,
        Mix::Dedupe => remain.dedupe_items,
        Mix::DedupeBatch => remain.dedupe_batch_items,
        Mix::Cache | Mix::CacheBatch => remain.cache_items,
    }
}

/// Batches per request.
fn batches(mix: Mix, remain: &LiveShares) -> f32 {
    match mix {
        Mix::Batch => remain.batch_calls,
        Mix::DedupeBatch => remain.dedupe_batch_calls,
        Mix::CacheBatch => remain.cache_batch_calls,
        Mix::Bypass | Mix::Dedupe | Mix::Cache => 0.0,
    }
}

/// Mean and high time until the answer. A request that joins a call waits for half of it; the one that opens a batch waits for the
/// whole window, the others for half of it.
fn waits(mix: Mix, remain: &LiveShares, terms: &Terms, latency: Latency) -> (Span, Span) {
    let items = f64::from(items(mix, remain));
    let window = terms.batch.filter(|_| mix.batches()).map_or(Span::ZERO, |b| b.window.window);
    let opening = if items > 0.0 { (f64::from(batches(mix, remain)) / items).clamp(0.0, 1.0) } else { 1.0 };
    let call = latency.middle + window.mul_f64(0.5 * (1.0 + opening));
    let mean = match mix {
        Mix::Bypass | Mix::Batch => call,
        Mix::Dedupe | Mix::DedupeBatch => call.mul_f64(0.5 * (1.0 + items)),
        Mix::Cache | Mix::CacheBatch => call.mul_f64(items),
    };
    (mean, latency.high + window)
}

/// What a member of a mix adds to the latency of a call.
pub fn adds(member: Member, terms: &Terms) -> Span {
    match member {
        Member::Batch => terms.batch.map_or(Span::ZERO, |b| b.window.window),
        Member::Cache | Member::Dedupe => Span::ZERO,
    }
}

/// Probability that a member saves: that its mix is cheaper than the mix without it, when the shares are as wrong as predictions are.
/// The mean absolute error is taken as that of a normal distribution.
pub fn score(mix: Mix, member: Member, all: &[Expected; Mix::COUNT], (shares, terms): (&Shares, &Terms)) -> f64 {
    let gain = (all[mix.without(member).index()].cost - all[mix.index()].cost).nanos() as f64;
    let price = terms.price.nanos() as f64;
    let spread = match member {
        Member::Cache => f64::from(shares.cache_spread) * price,
        Member::Batch => f64::from(shares.batch_spread) * price * terms.batch.map_or(0.0, |b| f64::from(b.per_call) / 1e3),
        Member::Dedupe => 0.0,
    };
    normal(gain / (spread * (std::f64::consts::PI / 2.0).sqrt()).max(1e-6 * price.max(1.0)))
}

/// Distribution function of the standard normal; Zelen and Severo's approximation, wrong by less than 8e-8.
fn normal(z: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.231_641_9 * z.abs());
    let tail = (-0.5 * z * z).exp() / (2.0 * std::f64::consts::PI).sqrt()
        * t
        * (0.319_381_530 + t * (-0.356_563_782 + t * (1.781_477_937 + t * (-1.821_255_978 + t * 1.330_274_429))));
    if z >= 0.0 { 1.0 - tail } else { tail }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn latency() -> Latency {
        Latency { middle: Span::from_millis(100), high: Span::from_millis(200) }
    }

    fn terms(per_call: u32, per_item: u32) -> Terms {
        let window = BatchWindow { window: Span::from_millis(50), max: 10 };
        Terms {
            price: Money::from_nanos(1_000_000),
            stale_price: Money::from_nanos(20_000_000),
            wait_price: Money::from_nanos(1_000_000),
            sla: None,
            batch: Some(BatchTerms { window, per_call, per_item }),
        }
    }

    proptest! {
        #[test]
        fn costs_are_finite_and_savings_are_differences(
            live in proptest::array::uniform7(0.0..=1.0f32), outputs in proptest::array::uniform9(-2.0..2.0f32),
            per_call in 0..5_000u32, per_item in 0..2_000u32,
        ) {
            let [a, b, c, d, e, f, g] = live;
            let live = LiveShares { dedupe_items: a, cache_items: b, cache_stale: c, batch_calls: d, dedupe_batch_items: e, dedupe_batch_calls: f, cache_batch_calls: g };
            let shares = Shares::corrected(live, &outputs);
            let r = shares.remain;
            prop_assert!(r.cache_items <= r.dedupe_items && r.cache_stale + r.cache_items <= 1.000_001 && r.cache_batch_calls <= r.cache_items);
            let terms = terms(per_call, per_item);
            let all = expected(&shares, &terms, latency());
            for mix in Mix::ALL {
                let one = all[mix.index()];
                prop_assert_eq!(one.saving, all[0].cost - one.cost);
                prop_assert!(one.cost >= Money::ZERO);
                for member in Member::ALL {
                    prop_assert!((0.0..=1.0).contains(&score(mix, member, &all, (&shares, &terms))));
                }
            }
            prop_assert!(all[Mix::Dedupe.index()].cost <= all[0].cost, "joining never costs");
        }

        #[test]
        fn a_batch_is_billed_exactly(price in 0..1_000_000_000i64, per_call in 0..10_000u32, per_item in 0..10_000u32, items in 0..1_000u64) {
            let batch = BatchTerms { window: BatchWindow { window: Span::ZERO, max: 1 }, per_call, per_item };
            let exact = i128::from(price) * (i128::from(per_call) + i128::from(per_item) * i128::from(items));
            prop_assert_eq!(i128::from(batch.bill(Money::from_nanos(price), items).nanos()), (exact + 500) / 1_000);
        }
    }

    #[test]
    fn what_a_mix_costs_by_hand() {
        let live = LiveShares { cache_items: 0.25, cache_stale: 0.01, batch_calls: 0.5, cache_batch_calls: 0.2, ..LiveShares::START };
        let all = expected(&Shares::live(live), &terms(1_000, 100), latency());
        let nanos = |mix: Mix| all[mix.index()].cost.nanos();
        // A call and 0.1 s of waiting.
        assert_eq!(nanos(Mix::Bypass), 1_000_000 + 100_000);
        // A quarter of a call, 1 % stale at 20 calls each, a quarter of the waiting.
        assert_eq!(nanos(Mix::Cache), 250_000 + 200_000 + 25_000);
        // Half a batch and a tenth of a call for the item; half of the requests wait 50 ms more, the others 25 ms.
        assert_eq!(nanos(Mix::Batch), 500_000 + 100_000 + 100_000 + 37_500);
        assert_eq!(all[Mix::Batch.index()].high, Span::from_millis(250));
    }

    #[test]
    fn the_normal_distribution_is_right() {
        for (z, p) in [(0.0, 0.5), (1.0, 0.841_344_7), (-1.959_964, 0.025), (3.0, 0.998_650_1), (-40.0, 0.0)] {
            assert!((normal(z) - p).abs() < 1e-6, "{z}");
        }
    }

    #[test]
    fn an_unsure_prediction_scores_near_a_half() {
        let live = LiveShares { cache_items: 0.9, ..LiveShares::START };
        let score_at = |spread: f32| {
            let shares = Shares { cache_spread: spread, ..Shares::live(live) };
            let terms = Terms { wait_price: Money::ZERO, ..terms(1_000, 0) };
            score(Mix::Cache, Member::Cache, &expected(&shares, &terms, latency()), (&shares, &terms))
        };
        assert!(
            score_at(0.0) > 0.999 && score_at(0.1) > 0.7 && score_at(0.5) < 0.6,
            "{} {} {}",
            score_at(0.0),
            score_at(0.1),
            score_at(0.5)
        );
    }
}

//! What a call will cost, before it is made: quantiles of its output units by a predictor, prices here.

use std::sync::Arc;

use farthing_contract::features::{COST_FEATURES, COST_OUTPUTS, CostInput, cost_features, log_units};
use farthing_types::{By, Choice, Money, Rate};

use crate::guard::{Asked, Guarded, Levels};

/// Calls of a route from which its live quantiles say something.
const ENOUGH: u32 = 20;
/// Largest correction that a predictor makes, in logs: a factor of 55.
const MAX_CORRECTION: f32 = 4.0;

/// Prices of a target's units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Meters {
    /// Once per call.
    pub call: Money,
    /// Per input unit that the provider has not cached.
    pub input: Rate,
    /// Per input unit that it has.
    pub cached_input: Rate,
    /// Per output unit.
    pub output: Rate,
}

/// Units of a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Units {
    /// Input that is not cached.
    pub input: u64,
    /// Input that is.
    pub cached_input: u64,
    /// Output.
    pub output: u64,
}

impl Meters {
    /// Price of a call, rounded once.
    pub fn cost(&self, units: Units) -> Money {
        let sum = Rate::per_unit(self.call)
            .exact(1)
            .saturating_add(self.input.exact(units.input))
            .saturating_add(self.cached_input.exact(units.cached_input))
            .saturating_add(self.output.exact(units.output));
        Rate::round(sum)
    }
}

/// Output units that a call will have: as many or fewer with probability one half, and nine tenths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forecast {
    /// The middle.
    pub p50: u64,
    /// What a budget reserves.
    pub p90: u64,
}

impl Forecast {
    /// The cost of the middle and of the upper forecast, for an input that is known.
    pub fn cost(&self, meters: &Meters, input: u64, cached_input: u64) -> (Money, Money) {
        let at = |output| meters.cost(Units { input: input.saturating_sub(cached_input), cached_input: cached_input.min(input), output });
        (at(self.p50), at(self.p90))
    }
}

/// A forecast with what it was made of.
#[derive(Clone, Debug, PartialEq)]
pub struct CostDecision {
    /// The forecast and who made it; `None` when neither predictor, limit nor history says anything.
    pub forecast: Option<Choice<Forecast>>,
    /// ln(1 + units) of the upper quantile before the request's own limit cut it: what [`CostStats::on_call`] wants back, so that its offset
    /// learns from the forecast and not from the limit. `None` when the limit alone decided.
    ///
    /// [`CostStats::on_call`]: farthing_contract::features::CostStats::on_call
    pub foretold: Option<f64>,
    /// Features in the order of the spec; `None` when no predictor was asked.
    pub features: Option<[f32; COST_FEATURES]>,
    /// Outputs of the predictor; `None` when it did not decide.
    pub outputs: Option<[f32; COST_OUTPUTS]>,
    /// Digest of the bundle that decided.
    pub digest: Option<Arc<str>>,
}

/// Foretells the output units of a call: model, then table, then the rule.
pub fn forecast(guarded: &Guarded, levels: &Levels, input: &CostInput<'_>) -> CostDecision {
    if levels.model.is_none() && levels.table.is_none() {
        return by_rule(input, None, "no-model");
    }
    let features = cost_features(input);
    match guarded.ask::<COST_OUTPUTS>(levels, &features) {
        Asked::None(reason) => by_rule(input, Some(features), reason),
        Asked::Predicted(prediction) => {
            let [p50, p90] = corrected(input, &prediction.outputs);
            CostDecision {
                forecast: Some(Choice { value: units(p50, p90, input), by: prediction.by }),
                foretold: Some(p90),
                features: Some(features),
                outputs: Some(prediction.outputs),
                digest: Some(prediction.digest),
            }
        }
    }
}

/// Logs of the quantiles: the live ones, corrected by the outputs; the upper one by its coverage too.
fn corrected(input: &CostInput<'_>, outputs: &[f32; COST_OUTPUTS]) -> [f64; COST_OUTPUTS] {
    let live = input.stats.live();
    let at = |k: usize| live[k] + f64::from(outputs[k].clamp(-MAX_CORRECTION, MAX_CORRECTION));
    let p50 = at(0);
    [p50, (at(1) + input.stats.offset()).max(p50)]
}

/// Whole units, no more than the request allows.
fn units(p50: f64, p90: f64, input: &CostInput<'_>) -> Forecast {
    let most = input.facts.max_tokens.unwrap_or(u64::MAX);
    let whole = |log: f64| (log.clamp(0.0, 34.0).exp_m1().ceil() as u64).min(most);
    Forecast { p50: whole(p50), p90: whole(p90) }
}

/// The request's own limit, else the route's live quantiles once there are enough calls.
fn by_rule(input: &CostInput<'_>, features: Option<[f32; COST_FEATURES]>, reason: &'static str) -> CostDecision {
    let known = input.stats.calls() >= ENOUGH;
    let [p50, p90] = corrected(input, &[0.0; COST_OUTPUTS]);
    let (forecast, foretold) = match input.facts.max_tokens {
        Some(most) => (Some(Forecast { p50: most, p90: most }), None),
        None if known => (Some(units(p50, p90, input)), Some(p90)),
        None => (None, None),
    };
    let forecast = forecast.map(|value| Choice { value, by: By::Fallback(reason) });
    CostDecision { forecast, foretold, features, outputs: None, digest: None }
}

/// ln(1 + units) of what a call answered, as forecasts count it.
pub fn log_output(units: u64) -> f64 {
    log_units(units)
}

#[cfg(test)]
mod tests {
    use farthing_contract::features::{CallFacts, CostStats};
    use farthing_types::{Span, Time, VirtualClock};
    use proptest::prelude::*;

    use super::*;
    use crate::predictor::{PredictError, Predictor};

    struct Fake([f32; COST_OUTPUTS]);

    impl Predictor for Fake {
        fn predict(&self, _: &[f32], out: &mut [f32]) -> Result<(), PredictError> {
            out.copy_from_slice(&self.0);
            Ok(())
        }
        fn by(&self) -> By {
            By::Model(2)
        }
        fn digest(&self) -> Arc<str> {
            "d".into()
        }
    }

    fn stats(calls: u64) -> CostStats {
        let mut stats = CostStats::default();
        for i in 0..calls {
            stats.on_call(Time::from_millis(1_000 + i as i64), Some(500), 100 + i % 10, None);
        }
        stats
    }

    fn ask(stats: &CostStats, facts: CallFacts, outputs: Option<[f32; COST_OUTPUTS]>) -> CostDecision {
        let guarded = Guarded::new(Arc::new(VirtualClock::default()), Span::from_secs(1), Span::from_secs(1));
        let levels = Levels { model: outputs.map(|o| Arc::new(Fake(o)) as _), table: None };
        forecast(&guarded, &levels, &CostInput { stats, facts, now: Time::from_millis(9_000) })
    }

    #[test]
    fn the_rule_is_the_limit_and_then_the_live_quantile() {
        let limited = CallFacts { max_tokens: Some(1_000), ..CallFacts::default() };
        let by_limit = ask(&stats(100), limited, None);
        assert_eq!(by_limit.forecast.unwrap(), Choice { value: Forecast { p50: 1_000, p90: 1_000 }, by: By::Fallback("no-model") });
        let live = ask(&stats(500), CallFacts::default(), None).forecast.unwrap().value;
        assert!((100..=112).contains(&live.p50) && live.p90 >= live.p50 && live.p90 < 130, "{live:?}");
        assert_eq!(ask(&stats(3), CallFacts::default(), None).forecast, None, "unknown is not zero");
    }

    #[test]
    fn a_predictor_corrects_the_live_quantiles_within_the_limit() {
        let stats = stats(500);
        let double = [2f32.ln(); 2];
        let free = ask(&stats, CallFacts::default(), Some(double)).forecast.unwrap();
        assert!((200..=225).contains(&free.value.p50), "{free:?}");
        assert_eq!(free.by, By::Model(2));
        let limited = ask(&stats, CallFacts { max_tokens: Some(150), ..CallFacts::default() }, Some(double));
        assert_eq!(limited.forecast.unwrap().value, Forecast { p50: 150, p90: 150 });
        assert!(limited.foretold.unwrap() > log_output(150), "the offset must not learn from the limit");
    }

    #[test]
    fn prices_are_applied_exactly() {
        let meters = Meters {
            call: Money::from_nanos(7),
            input: Rate::per_million(2_500_000_000),
            cached_input: Rate::per_million(1_250_000_000),
            output: Rate::per_million(10_000_000_000),
        };
        let cost = meters.cost(Units { input: 3, cached_input: 1, output: 2 });
        assert_eq!(cost, Money::from_nanos(7 + 7_500 + 1_250 + 20_000));
        let (p50, p90) = Forecast { p50: 10, p90: 20 }.cost(&meters, 100, 40);
        assert_eq!((p90 - p50).nanos(), 100_000);
    }

    proptest! {
        #[test]
        fn forecasts_are_ordered_and_within_the_limit(
            outputs in proptest::array::uniform2(-20.0..20.0f32), most in proptest::option::of(0..1_000_000u64), calls in 0..60u64,
        ) {
            let decision = ask(&stats(calls), CallFacts { max_tokens: most, ..CallFacts::default() }, Some(outputs));
            let value = decision.forecast.unwrap().value;
            prop_assert!(value.p50 <= value.p90 && most.is_none_or(|m| value.p90 <= m));
        }
    }
}

//! The only place where predictors meet rules: model, then table, then rule, and always visible which.

use std::sync::Arc;

use farthing_contract::features::{TTL_FEATURES, TTL_OUTPUTS, TtlInput, ttl_features};
use farthing_types::{By, Choice, Clock, Span, Time};
use parking_lot::Mutex;

use crate::predictor::{PredictError, Predictor};
use crate::ttl::{Ttl, TtlParams, TtlSource};

/// Calls that the breaker remembers.
const WINDOW: u32 = 100;
/// Late calls among them that open it.
const LATE: u32 = 3;

/// The predictors in force for a decision, best first; `None` where none is loaded.
#[derive(Clone, Default)]
pub struct Levels {
    /// The ONNX model.
    pub model: Option<Arc<dyn Predictor>>,
    /// The survival table.
    pub table: Option<Arc<dyn Predictor>>,
}

/// What a predictor answered, or why none did.
#[derive(Clone, Debug, PartialEq)]
pub enum Asked<const O: usize> {
    /// A predictor answered.
    Predicted(Prediction<O>),
    /// None did: the caller's rule decides, and says `By::Fallback` with this reason.
    None(&'static str),
}

/// The answer of a predictor.
#[derive(Clone, Debug, PartialEq)]
pub struct Prediction<const O: usize> {
    /// Outputs in the order of the feature spec; finite.
    pub outputs: [f32; O],
    /// Who answered: `model:3`, `table:1`.
    pub by: By,
    /// Digest of its bundle.
    pub digest: Arc<str>,
}

/// A TTL decision with what it was made of, for the decision log.
#[derive(Clone, Debug, PartialEq)]
pub struct TtlDecision {
    /// The TTL and who chose it.
    pub choice: Choice<Ttl>,
    /// Features in the order of the spec; `None` when no predictor was asked.
    pub features: Option<[f32; TTL_FEATURES]>,
    /// Outputs of the predictor that decided (`TTL_HORIZONS`); `None` when a rule did.
    pub outputs: Option<[f32; TTL_OUTPUTS]>,
    /// Digest of the bundle that decided.
    pub digest: Option<Arc<str>>,
}

/// Asks predictors under a deadline and a breaker, and falls back to the rule.
///
/// A late answer is used and counted; `LATE` late ones among the last `WINDOW` close the predictor out for the rest time,
/// after which it is tried again.
pub struct Guarded {
    clock: Arc<dyn Clock>,
    late_after: Span,
    rest: Span,
    model: Mutex<Breaker>,
}

impl Guarded {
    /// `clock` measures the predictor and must run in real time; answers after `late_after` count as late; an open breaker
    /// rests for `rest`.
    pub fn new(clock: Arc<dyn Clock>, late_after: Span, rest: Span) -> Self {
        Self { clock, late_after, rest, model: Mutex::new(Breaker::default()) }
    }

    /// Chooses the TTL of a copy: by the source that `params` names, or what stands in for it.
    pub fn decide(&self, levels: &Levels, params: &TtlParams, input: &TtlInput<'_>) -> TtlDecision {
        match params.source {
            TtlSource::Fixed(ttl) => plain(params.fixed(ttl), By::Override("fixed".into())),
            TtlSource::Rule => plain(params.by_rule(input), By::Rule("static")),
            TtlSource::Table | TtlSource::Model => self.by_predictor(levels, params, input),
        }
    }

    fn by_predictor(&self, levels: &Levels, params: &TtlParams, input: &TtlInput<'_>) -> TtlDecision {
        if levels.model.is_none() && levels.table.is_none() {
            let reason = if params.source == TtlSource::Table { "no-table" } else { "no-model" };
            return plain(params.by_rule(input), By::Fallback(reason));
        }
        let features = ttl_features(input);
        let asked = if params.source == TtlSource::Table { ask_table(levels, &features, None) } else { self.ask(levels, &features) };
        match asked {
            Asked::Predicted(prediction) => predicted(prediction, params, input, features),
            Asked::None(reason) => plain(params.by_rule(input), By::Fallback(reason)),
        }
    }

    /// Asks the model, and where that cannot answer the table. One guard serves one kind of predictor: it remembers late answers.
    pub fn ask<const O: usize>(&self, levels: &Levels, features: &[f32]) -> Asked<O> {
        let Some(model) = &levels.model else { return ask_table(levels, features, Some("no-model")) };
        let started = self.clock.now();
        if !self.model.lock().admits(started) {
            return ask_table(levels, features, Some("breaker"));
        }
        let answer = answer(model.as_ref(), features);
        let late = self.clock.now().since(started) > self.late_after;
        self.model.lock().note(late, started + self.rest);
        answer.map_or_else(|error| ask_table(levels, features, Some(error.as_str())), Asked::Predicted)
    }

    /// Whether the model is closed out for being late.
    pub fn breaker_open(&self) -> bool {
        let now = self.clock.now();
        !self.model.lock().would_admit(now)
    }

    /// Late answers of the model since the start.
    pub fn late(&self) -> u64 {
        self.model.lock().late_total
    }
}

/// The table's answer; `instead_of` says why the model did not decide.
fn ask_table<const O: usize>(levels: &Levels, features: &[f32], instead_of: Option<&'static str>) -> Asked<O> {
    let Some(table) = &levels.table else { return Asked::None(instead_of.unwrap_or("no-table")) };
    answer(table.as_ref(), features).map_or_else(|error| Asked::None(instead_of.unwrap_or(error.as_str())), Asked::Predicted)
}

fn answer<const O: usize>(predictor: &dyn Predictor, features: &[f32]) -> Result<Prediction<O>, PredictError> {
    let mut outputs = [0.0; O];
    predictor.predict(features, &mut outputs)?;
    let finite = outputs.iter().all(|o| o.is_finite());
    if finite { Ok(Prediction { outputs, by: predictor.by(), digest: predictor.digest() }) } else { Err(PredictError::NotFinite) }
}

fn plain(value: Ttl, by: By) -> TtlDecision {
    TtlDecision { choice: Choice { value, by }, features: None, outputs: None, digest: None }
}

fn predicted(prediction: Prediction<TTL_OUTPUTS>, params: &TtlParams, input: &TtlInput<'_>, features: [f32; TTL_FEATURES]) -> TtlDecision {
    let Prediction { outputs, by, digest } = prediction;
    let choice = Choice { value: params.for_outputs(&outputs, input), by };
    TtlDecision { choice, features: Some(features), outputs: Some(outputs), digest: Some(digest) }
}

/// The last [`WINDOW`] calls, one bit each.
#[derive(Debug, Default)]
struct Breaker {
    late: u128,
    late_total: u64,
    open_until: Option<Time>,
}

impl Breaker {
    fn would_admit(&self, now: Time) -> bool {
        self.open_until.is_none_or(|until| now >= until)
    }
    /// Whether to ask now; after the rest it starts afresh.
    fn admits(&mut self, now: Time) -> bool {
        if !self.would_admit(now) {
            return false;
        }
        if self.open_until.take().is_some() {
            self.late = 0;
        }
        true
    }
    fn note(&mut self, late: bool, rest_until: Time) {
        self.late = ((self.late << 1) | u128::from(late)) & ((1 << WINDOW) - 1);
        self.late_total += u64::from(late);
        if self.late.count_ones() >= LATE {
            self.open_until = Some(rest_until);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use farthing_contract::features::{HeadFacts, KeyStats, RouteStats};
    use farthing_types::VirtualClock;

    use super::*;

    /// Answers a constant after a delay, or fails.
    struct Fake {
        answer: Result<f32, PredictError>,
        by: By,
        takes: Span,
        clock: Arc<VirtualClock>,
        asked: AtomicU64,
    }

    impl Predictor for Fake {
        fn predict(&self, _: &[f32], out: &mut [f32]) -> Result<(), PredictError> {
            self.asked.fetch_add(1, Ordering::Relaxed);
            self.clock.advance(self.takes);
            out.fill(self.answer.clone()?);
            Ok(())
        }
        fn by(&self) -> By {
            self.by.clone()
        }
        fn digest(&self) -> Arc<str> {
            "d".into()
        }
    }

    struct Bench {
        clock: Arc<VirtualClock>,
        guarded: Guarded,
        key: KeyStats,
        route: RouteStats,
    }

    impl Bench {
        fn new() -> Self {
            let clock = Arc::new(VirtualClock::default());
            let guarded = Guarded::new(clock.clone(), Span::from_millis(1), Span::from_secs(30));
            let (mut key, mut route) = (KeyStats::default(), RouteStats::default());
            for i in 0..20 {
                let now = Time::from_millis(1_000 + i * 60_000);
                route.on_request(now, i == 0);
                key.on_request(now);
                route.on_fetch(&mut key, now, i as u64 / 5);
            }
            Self { clock, guarded, key, route }
        }
        fn fake(&self, answer: Result<f32, PredictError>, by: By, takes: Span) -> Arc<Fake> {
            Arc::new(Fake { answer, by, takes, clock: self.clock.clone(), asked: AtomicU64::new(0) })
        }
        fn decide(&self, model: Option<Arc<Fake>>, table: Option<Arc<Fake>>, source: TtlSource) -> TtlDecision {
            let levels = Levels { model: model.map(|m| m as _), table: table.map(|t| t as _) };
            let params = TtlParams { source, kappa: Some(0.1), ..TtlParams::default() };
            let input = TtlInput { key: &self.key, route: &self.route, head: HeadFacts::default(), now: Time::from_millis(1_141_000) };
            self.guarded.decide(&levels, &params, &input)
        }
    }

    #[test]
    fn the_best_level_that_answers_decides() {
        let bench = Bench::new();
        let model = || Some(bench.fake(Ok(0.0), By::Model(3), Span::ZERO));
        let table = || Some(bench.fake(Ok(0.0), By::Table(1), Span::ZERO));
        let by = |m, t, s| bench.decide(m, t, s).choice.by;
        assert_eq!(by(model(), table(), TtlSource::Model), By::Model(3));
        assert_eq!(by(model(), table(), TtlSource::Table), By::Table(1));
        assert_eq!(by(None, table(), TtlSource::Model), By::Table(1));
        assert_eq!(by(None, None, TtlSource::Model), By::Fallback("no-model"));
        assert_eq!(by(model(), None, TtlSource::Table), By::Fallback("no-table"));
        assert_eq!(by(model(), table(), TtlSource::Rule), By::Rule("static"));
        assert_eq!(by(model(), table(), TtlSource::Fixed(Span::from_secs(9))), By::Override("fixed".into()));
    }

    #[test]
    fn what_decided_is_logged_with_its_features() {
        let bench = Bench::new();
        let decision = bench.decide(Some(bench.fake(Ok(0.5), By::Model(3), Span::ZERO)), None, TtlSource::Model);
        assert_eq!((decision.outputs, decision.digest.as_deref()), (Some([0.5; TTL_OUTPUTS]), Some("d")));
        assert!(decision.features.is_some() && decision.choice.value.pays());
        assert_eq!(bench.decide(None, None, TtlSource::Rule).features, None);
    }

    #[test]
    fn a_higher_hazard_shortens_the_ttl() {
        let bench = Bench::new();
        let ttl = |output| bench.decide(Some(bench.fake(Ok(output), By::Model(1), Span::ZERO)), None, TtlSource::Model).choice.value.fresh;
        assert!(ttl(1.5) < ttl(0.0) && ttl(0.0) <= ttl(-1.5), "{:?} {:?} {:?}", ttl(1.5), ttl(0.0), ttl(-1.5));
    }

    #[test]
    fn errors_and_nonsense_fall_to_the_table_and_then_to_the_rule() {
        let bench = Bench::new();
        for wrong in [Ok(f32::NAN), Ok(f32::INFINITY), Err(PredictError::Busy), Err(PredictError::Runtime("x".into()))] {
            let model = || Some(bench.fake(wrong.clone(), By::Model(3), Span::ZERO));
            let table = bench.fake(Ok(0.0), By::Table(1), Span::ZERO);
            assert_eq!(bench.decide(model(), Some(table), TtlSource::Model).choice.by, By::Table(1));
            let reason = wrong.clone().err().map_or("not-finite", |e| e.as_str());
            assert_eq!(bench.decide(model(), None, TtlSource::Model).choice.by, By::Fallback(reason));
            let broken = bench.fake(wrong.clone(), By::Table(1), Span::ZERO);
            assert_eq!(bench.decide(None, Some(broken), TtlSource::Table).choice.by, By::Fallback(reason));
        }
    }

    #[test]
    fn late_answers_count_three_open_the_breaker_and_rest_closes_it() {
        let bench = Bench::new();
        let slow = bench.fake(Ok(0.0), By::Model(3), Span::from_millis(2));
        for _ in 0..2 {
            assert_eq!(bench.decide(Some(slow.clone()), None, TtlSource::Model).choice.by, By::Model(3));
        }
        assert!(!bench.guarded.breaker_open());
        // The third late answer is still used.
        assert_eq!(bench.decide(Some(slow.clone()), None, TtlSource::Model).choice.by, By::Model(3));
        assert!(bench.guarded.breaker_open());
        assert_eq!(bench.decide(Some(slow.clone()), None, TtlSource::Model).choice.by, By::Fallback("breaker"));
        assert_eq!((slow.asked.load(Ordering::Relaxed), bench.guarded.late()), (3, 3));
        bench.clock.advance(Span::from_secs(30));
        let quick = bench.fake(Ok(0.0), By::Model(3), Span::ZERO);
        assert_eq!(bench.decide(Some(quick), None, TtlSource::Model).choice.by, By::Model(3));
        assert!(!bench.guarded.breaker_open());
    }

    #[test]
    fn two_late_in_a_hundred_are_forgiven() {
        let bench = Bench::new();
        for i in 0..500 {
            let takes = if i % 50 == 0 { Span::from_millis(2) } else { Span::ZERO };
            let model = bench.fake(Ok(0.0), By::Model(3), takes);
            assert_eq!(bench.decide(Some(model), None, TtlSource::Model).choice.by, By::Model(3), "{i}");
        }
    }

    #[test]
    fn answers_that_always_change_are_not_kept() {
        let mut bench = Bench::new();
        for i in 0..4_000i64 {
            let now = Time::from_millis(2_000_000 + i * 1_000);
            bench.key.on_request(now);
            bench.route.on_fetch(&mut bench.key, now, 1_000 + i as u64);
        }
        let model = bench.fake(Ok(-3.0), By::Model(3), Span::ZERO);
        assert_eq!(bench.decide(Some(model), None, TtlSource::Model).choice.value, Ttl::NONE);
    }
}

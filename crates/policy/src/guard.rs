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
/// A late answer is used and counted; [`LATE`] late ones among the last [`WINDOW`] close the predictor out for the rest time,
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
            TtlSource::Table => self.from_table(levels, params, input, None),
            TtlSource::Model => self.from_model(levels, params, input),
        }
    }

    fn from_model(&self, levels: &Levels, params: &TtlParams, input: &TtlInput<'_>) -> TtlDecision {
        let Some(model) = &levels.model else { return self.from_table(levels, params, input, Some("no-model")) };
        let started = self.clock.now();
        if !self.model.lock().admits(started) {
            return self.from_table(levels, params, input, Some("breaker"));
        }
        let features = ttl_features(input);
        let answer = ask(model.as_ref(), &features);
        let late = self.clock.now().since(started) > self.late_after;
        self.model.lock().note(late, started + self.rest);
        match answer {
            Ok(outputs) => predicted(model.as_ref(), params, input, features, outputs),
            Err(error) => self.from_table(levels, params, input, Some(error.as_str())),
        }
    }

    /// The table's answer; `instead_of` says why the model did not decide.
    fn from_table(&self, levels: &Levels, params: &TtlParams, input: &TtlInput<'_>, instead_of: Option<&'static str>) -> TtlDecision {
        let Some(table) = &levels.table else {
            return plain(params.by_rule(input), By::Fallback(instead_of.unwrap_or("no-table")));
        };
        let features = ttl_features(input);
        match ask(table.as_ref(), &features) {
            Ok(outputs) => predicted(table.as_ref(), params, input, features, outputs),
            Err(error) => plain(params.by_rule(input), By::Fallback(instead_of.unwrap_or(error.as_str()))),
        }
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

fn ask(predictor: &dyn Predictor, features: &[f32; TTL_FEATURES]) -> Result<[f32; TTL_OUTPUTS], PredictError> {
    let mut outputs = [0.0; TTL_OUTPUTS];
    predictor.predict(features, &mut outputs)?;
    if outputs.iter().all(|o| o.is_finite()) { Ok(outputs) } else { Err(PredictError::NotFinite) }
}

fn plain(value: Ttl, by: By) -> TtlDecision {
    TtlDecision { choice: Choice { value, by }, features: None, outputs: None, digest: None }
}

fn predicted(
    predictor: &dyn Predictor,
    params: &TtlParams,
    input: &TtlInput<'_>,
    features: [f32; TTL_FEATURES],
    outputs: [f32; TTL_OUTPUTS],
) -> TtlDecision {
    let choice = Choice { value: params.from_outputs(&outputs, input), by: predictor.by() };
    TtlDecision { choice, features: Some(features), outputs: Some(outputs), digest: Some(predictor.digest()) }
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

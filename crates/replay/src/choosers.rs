//! TTL policies to replay: the real decision chain, fixed TTLs, nothing.

use std::sync::Arc;

use farthing_contract::features::{Doubt, TtlInput};
use farthing_policy::{Guarded, Levels, TtlParams};
use farthing_types::{By, Span, VirtualClock};

use crate::engine::Chooser;
use crate::event::Event;

/// The proxy's own decision: `Guarded` with these predictors and parameters.
pub struct Decided<'a> {
    guarded: Guarded,
    levels: &'a Levels,
    /// Parameters per route.
    params: Vec<TtlParams>,
    /// Decisions by who made them: predictor, and rule or fallback.
    pub predicted: u64,
    /// Decisions that a rule made.
    pub by_rule: u64,
    doubt: Doubt,
}

impl<'a> Decided<'a> {
    /// `params` in the order of the trace's routes. The clock stands still, so nothing is ever late.
    pub fn new(levels: &'a Levels, params: Vec<TtlParams>) -> Self {
        let guarded = Guarded::new(Arc::new(VirtualClock::default()), Span::from_secs(1), Span::from_secs(1));
        Self { guarded, levels, params, predicted: 0, by_rule: 0, doubt: Doubt::NEVER }
    }
}

impl Chooser for Decided<'_> {
    fn ttl(&mut self, event: &Event, input: &TtlInput<'_>) -> Span {
        self.doubt = Doubt::NEVER;
        let Some(params) = self.params.get(usize::from(event.route)) else { return Span::ZERO };
        let choice = self.guarded.decide(self.levels, params, input).choice;
        match choice.by {
            By::Model(_) | By::Table(_) => self.predicted += 1,
            _ => self.by_rule += 1,
        }
        self.doubt = choice.value.doubt;
        choice.value.fresh
    }

    fn doubt(&self) -> Doubt {
        self.doubt
    }
}

/// The same TTL for all keys of a route.
pub struct Fixed(pub Vec<Span>);

impl Chooser for Fixed {
    fn ttl(&mut self, event: &Event, _: &TtlInput<'_>) -> Span {
        self.0.get(usize::from(event.route)).copied().unwrap_or_default()
    }
}

/// No cache: every request is a call. What a pass-through log shows.
pub struct PassThroughAll;

impl Chooser for PassThroughAll {
    fn ttl(&mut self, _: &Event, _: &TtlInput<'_>) -> Span {
        Span::ZERO
    }
}

/// A predictor that corrects nothing: the live statistics alone decide. Stands where no learner has been trained.
#[derive(Clone, Copy, Debug, Default)]
pub struct LiveStatistics;

impl farthing_policy::Predictor for LiveStatistics {
    fn predict(&self, _: &[f32], out: &mut [f32]) -> Result<(), farthing_policy::PredictError> {
        out.fill(0.0);
        Ok(())
    }
    fn by(&self) -> By {
        By::Table(0)
    }
    fn digest(&self) -> Arc<str> {
        "live".into()
    }
}

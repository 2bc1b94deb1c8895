//! Fetching ahead: what a candidate's use is worth (`economics`), how likely it is ([`likelihood`]), whether the route has earned it
//! (`permit`), how much may be spent (`budget`), and when hot keys are refreshed (`refresh`). What carries it out is elsewhere.

mod budget;
mod economics;
mod permit;
mod refresh;
mod tries;
mod watch;

use std::sync::Arc;

use farthing_contract::features::{
    Associations, Candidate, LiveOdds, PREFETCH_FEATURES, PREFETCH_OUTPUTS, Visit, prefetch_features, probability,
};
use farthing_types::{By, Choice, Money, Span};

use crate::guard::{Asked, Guarded, Levels};

pub use budget::{Allowance, Budget};
pub use economics::{Batch, Quota, Rider, Stakes, Tariff};
pub use permit::{Outcome, Permit, Permits, State as PermitState, TRIES};
pub use refresh::{RefreshAhead, early_by, read_within, refresh_pays};
pub use tries::{Tries, Try};
pub use watch::{Awaited, Watch};

/// Who says how likely a use is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PrefetchSource {
    /// The model, then the table, then the rule.
    #[default]
    Model,
    /// The plain conditional share ([`Candidate::plain_ratio`]).
    Rule,
}

/// How likely a candidate is to be used, with what it was made of.
#[derive(Clone, Debug, PartialEq)]
pub struct Likelihood {
    /// Probability before the live correction.
    pub raw: f32,
    /// Probability that it is asked for within the horizon and would have missed, corrected by live outcomes; and who said so.
    pub choice: Choice<f32>,
    /// Features in the order of the spec; `None` when no predictor was asked.
    pub features: Option<[f32; PREFETCH_FEATURES]>,
    /// Digest of the bundle that decided.
    pub digest: Option<Arc<str>>,
}

/// What a likelihood is asked about.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// What was seen, including `visit`.
    pub seen: &'a Associations,
    /// The request.
    pub visit: &'a Visit,
    /// What may follow.
    pub candidate: &'a Candidate,
    /// How long a copy fetched now would be fresh.
    pub life: Span,
}

/// How likely the candidate is to be used: by the model, what stands in for it, or the rule; then corrected by the outcomes that the
/// same route has seen.
pub fn likelihood(guarded: &Guarded, levels: &Levels, source: PrefetchSource, question: Question<'_>, live: &LiveOdds) -> Likelihood {
    let Question { seen, visit, candidate, life } = question;
    let rule = |by| Likelihood {
        raw: candidate.plain_ratio(),
        choice: Choice { value: live.corrected(candidate.plain_ratio()), by },
        features: None,
        digest: None,
    };
    if source == PrefetchSource::Rule {
        return rule(By::Rule("markov"));
    }
    if levels.model.is_none() && levels.table.is_none() {
        return rule(By::Fallback("no-model"));
    }
    let features = prefetch_features(seen, visit, candidate, life);
    match guarded.ask::<PREFETCH_OUTPUTS>(levels, &features) {
        Asked::None(reason) => rule(By::Fallback(reason)),
        Asked::Predicted(prediction) => {
            let raw = probability(prediction.outputs[0]);
            let choice = Choice { value: live.corrected(raw), by: prediction.by };
            Likelihood { raw, choice, features: Some(features), digest: Some(prediction.digest) }
        }
    }
}

/// What is configured about prefetch on a route.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PrefetchParams {
    /// Who says how likely a use is.
    pub source: PrefetchSource,
    /// How the provider bills what is fetched ahead.
    pub tariff: Tariff,
    /// What it is worth that a client does not wait for one call; default nothing: money only.
    pub latency: Money,
    /// Whether the first tries are only scored; default true. Off only for measurements.
    pub must_earn: bool,
}

impl Default for PrefetchParams {
    fn default() -> Self {
        Self { source: PrefetchSource::Model, tariff: Tariff::PerCall, latency: Money::ZERO, must_earn: true }
    }
}

impl PrefetchParams {
    /// Whether fetching ahead can pay at all on a route with this price: money alone never pays at the price of a call.
    pub fn enabled(&self, call: Money) -> bool {
        self.latency > Money::ZERO || self.tariff.can_save(call)
    }

    /// Whether candidates need to be asked about after a hit: for money alone a batch waits for the first miss.
    pub fn before_a_miss(&self) -> bool {
        self.latency > Money::ZERO || self.tariff.places() == 1
    }

    /// What is at stake with a candidate; `thrown` is the share of its copy's life that is left.
    pub fn stakes(&self, call: Money, thrown: f64) -> Stakes {
        Stakes { call, ahead: self.tariff.ahead(call), latency: self.latency, thrown }
    }
}

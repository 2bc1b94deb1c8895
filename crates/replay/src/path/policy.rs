//! A configuration as the request path uses it.

use std::sync::Arc;

use farthing_experiment::{Experiment, Holdout};
use farthing_freshness::Rules;
use farthing_policy::prefetch::RefreshAhead;
use farthing_policy::{Champion, Guarded, Plan, RouteEconomics};
use farthing_types::{Draw, Span, VirtualClock};

/// A plan with the predictor that serves it.
#[derive(Clone)]
pub struct Acting {
    /// The plan.
    pub plan: Plan,
    /// The predictor: the champion, or the version that the plan names.
    pub champion: Champion,
}

/// A running experiment.
#[derive(Clone)]
pub struct Running {
    /// It assigns.
    pub experiment: Arc<Experiment>,
    /// One plan for each of its variants.
    pub variants: Vec<Acting>,
}

/// A route.
#[derive(Clone)]
pub struct RoutePolicy {
    /// Its name.
    pub name: Arc<str>,
    /// What may be reused.
    pub rules: Rules,
    /// Whether methods other than GET and HEAD are free of effects.
    pub idempotent: bool,
    /// Mean time before its expiry at which an entry that is still read is refreshed; zero: never.
    pub refresh_ahead: Span,
    /// Whether a predictor may leave the cache out. When it did is a matter of all that the route's statistics saw: the log's word is taken for it.
    pub chosen: bool,
    /// Money and trust.
    pub economics: RouteEconomics,
    /// The plan without an experiment.
    pub main: Acting,
    /// The experiment that runs on it.
    pub experiment: Option<Running>,
}

impl RoutePolicy {
    /// When its entries are refreshed before they expire.
    pub(super) fn ahead(&self, draw: Draw) -> RefreshAhead<'_> {
        RefreshAhead { mean: self.refresh_ahead, scope: &self.name, draw }
    }

    /// The name under which copies keep a variant's TTL.
    pub(super) fn variant_name(&self, variant: Option<u16>) -> &str {
        let running = self.experiment.as_ref();
        variant.and_then(|v| running?.experiment.variants().get(usize::from(v))).map_or("", |v| &*v.name)
    }
}

/// A configuration.
pub struct Policy {
    /// One for each of the log's routes, in their order; `None` for a route that the configuration does not have.
    pub routes: Vec<Option<RoutePolicy>>,
    /// The source of draws.
    pub draw: Draw,
    /// Which keys are held out.
    pub holdout: Holdout,
    /// How long a key whose answer could not be shared lets everyone pass.
    pub hit_for_miss: Span,
    /// The most that wait for one call.
    pub max_followers: usize,
}

impl Policy {
    /// Where predictors meet rules; the clock stands still, so none is ever late.
    pub(super) fn guarded() -> Guarded {
        Guarded::new(Arc::new(VirtualClock::default()), Span::from_secs(1), Span::from_secs(1))
    }
}

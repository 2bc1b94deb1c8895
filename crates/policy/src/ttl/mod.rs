//! How long an answer may be served: money and staleness (`economics`), the survival of a copy (`survival`), the rule (`rule`).

pub mod economics;
pub mod forecast;
pub mod rule;
pub mod survival;

use farthing_contract::features::{Doubt, TTL_OUTPUTS, TtlInput};
use farthing_types::Span;

pub use economics::Economics;
pub use forecast::Forecast;
pub use survival::Survival;

/// A decided lifetime.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ttl {
    /// How long the answer is fresh, from the moment it was fetched. Zero: keeping it does not pay (`not-worth`).
    pub fresh: Span,
    /// How much longer it may be served while it is refreshed in the background.
    pub stale: Span,
    /// When it is doubted before that, where its requests tell of changes.
    pub doubt: Doubt,
}

impl Ttl {
    /// Keeping the answer does not pay.
    pub const NONE: Self = Self { fresh: Span::ZERO, stale: Span::ZERO, doubt: Doubt::NEVER };

    /// Whether the answer is to be kept at all.
    pub const fn pays(&self) -> bool {
        !self.fresh.is_zero()
    }
}

/// Who chooses the TTL; the texts are those of `Overrides::ttl`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TtlSource {
    /// `model`: the ONNX model, then the table, then the rule.
    #[default]
    Model,
    /// `table`: the survival table, then the rule.
    Table,
    /// `rule`: the rule of the base TTL and the share of changes.
    Rule,
    /// `fixed:SECONDS`.
    Fixed(Span),
}

/// What a TTL decision of a route works with; compiled once per route and variant.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TtlParams {
    /// Who chooses.
    pub source: TtlSource,
    /// Base TTL of the rule; default 60 s.
    pub base: Span,
    /// Shortest TTL worth keeping an answer for; default 1 s.
    pub min: Span,
    /// Longest TTL; default 24 h.
    pub max: Span,
    /// Price of one stale answer in units of the price of one call; `None` when the operator named none.
    /// With `kappa` also given, the dearer of the two counts.
    pub stale_price: Option<f64>,
    /// Operating point of the bundle: call price / shadow price of one stale answer, chosen in replay so that the stale share
    /// meets the budget; each copy also keeps within the budget by itself. `None`: the budget alone bounds it, which is dearer.
    pub kappa: Option<f64>,
    /// Whether the route's measured staleness moves `kappa` ([`RouteStats::steering`]); default true. Off while an operating
    /// point is being chosen.
    ///
    /// [`RouteStats::steering`]: farthing_contract::features::RouteStats::steering
    pub steer: bool,
    /// Largest share of stale answers; default 0.005.
    pub stale_budget: f64,
    /// Share of the TTL that may be served stale while refreshing (`stale-while-revalidate`); default 0.
    pub stale_share_of_ttl: f64,
}

impl Default for TtlParams {
    fn default() -> Self {
        Self {
            source: TtlSource::Model,
            base: Span::from_secs(60),
            min: Span::from_secs(1),
            max: Span::from_secs(86_400),
            stale_price: None,
            kappa: None,
            steer: true,
            stale_budget: 0.005,
            stale_share_of_ttl: 0.0,
        }
    }
}

/// Share of the budget that one copy may use up by itself. A shadow price alone would let copies of a thin route overrun it for long:
/// their stale answers are seen only when they are fetched again. What it costs elsewhere is less than what steering back would.
const USED: f64 = 0.9;

impl TtlParams {
    /// The TTL that a copy with this survival should get.
    pub fn for_survival(&self, survival: &Survival<'_>, input: &TtlInput<'_>) -> Ttl {
        if input.route.always_changes() {
            return Ttl::NONE;
        }
        // Where it is known how many readers a change draws, they are counted; else what refetches show of them makes a stale answer dearer.
        let candour = if survival.draws().is_some() { 1.0 } else { input.route.candour() };
        let price = self.stale_price.filter(|p| *p > 0.0).map(|p| candour / p);
        let factor = if self.steer { input.route.steering() } else { 1.0 };
        let shadow = self.kappa.map(|kappa| kappa * factor);
        let economics = Economics { kappa: price.unwrap_or(f64::INFINITY).min(shadow.unwrap_or(f64::INFINITY)), rate: input.rate() };
        let cap = self.cap(input);
        let best = economics.best_ttl(survival, cap);
        // An operating point that is being chosen is bound by nothing else.
        let bound = self.kappa.is_none() || self.steer;
        let within = if bound { economics.longest_within(survival, self.stale_budget * USED, cap) } else { cap };
        // To go on pays as long as the next answer costs less than answers do on average (Charnov's marginal value theorem): so it is with the age
        // at which the best TTL ends, and so it is with what requests say before that.
        let possible = survival.draws().is_some();
        let doubt = if possible { Doubt::above(economics.cost(survival, best)) } else { Doubt::NEVER };
        match self.bounded(best.min(within)) {
            kept if kept.pays() => Ttl { doubt, ..kept },
            none => none,
        }
    }

    /// The TTL that the live statistics of the copy, corrected by a predictor's outputs, make best.
    pub fn for_outputs(&self, outputs: &[f32; TTL_OUTPUTS], input: &TtlInput<'_>) -> Ttl {
        self.for_survival(&Survival::corrected(input, outputs), input)
    }

    /// No prediction reaches further than twice the longest gap between fetches seen on the route (nor, before anything was
    /// seen, than the base TTL).
    fn cap(&self, input: &TtlInput<'_>) -> f64 {
        (input.route.longest_gap() * 2).max(self.base).min(self.max).as_secs_f64()
    }

    /// The TTL by the rule.
    pub fn by_rule(&self, input: &TtlInput<'_>) -> Ttl {
        self.bounded(rule::ttl(self.base, input.key.changed_share(), rule::volatile_hour(input)).as_secs_f64())
    }

    /// A fixed TTL, within the route's longest.
    pub fn fixed(&self, ttl: Span) -> Ttl {
        self.bounded(ttl.as_secs_f64())
    }

    fn bounded(&self, seconds: f64) -> Ttl {
        let fresh = Span::try_from_secs_f64(seconds).unwrap_or_default().min(self.max);
        if fresh < self.min {
            return Ttl::NONE;
        }
        Ttl { fresh, stale: fresh.mul_f64(self.stale_share_of_ttl.clamp(0.0, 10.0)), doubt: Doubt::NEVER }
    }
}

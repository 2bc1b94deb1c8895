//! Money on held-out time: the predictor against the rules, against the best combination of each route in hindsight, and against the best
//! one for all routes in hindsight.

use std::collections::BTreeMap;

use farthing_policy::Levels;
use farthing_policy::strategy::{Mix, StrategyParams};
use farthing_replay::strategies::{Judged, Model, Modelled, Run, hindsight, simulate};
use farthing_replay::{Paired, Trace};
use farthing_types::{Money, Time};
use serde::Serialize;

/// What came of the held-out part. Costs are bill, priced staleness and priced waiting, in dollars.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verdict {
    /// Held-out requests.
    pub requests: u64,
    /// Under the predictor.
    pub model_usd: f64,
    /// Under the rules.
    pub rule_usd: f64,
    /// The best combination of each route, chosen in hindsight.
    pub hindsight_usd: f64,
    /// The best combination for all routes, chosen in hindsight.
    pub single_usd: f64,
    /// Its name.
    pub single: &'static str,
    /// Passing everything by.
    pub bypass_usd: f64,
    /// Predictor less rules, in dollars, and its 95 % interval by blocks of route and time; `None` with too few blocks.
    pub against_rules_usd: f64,
    /// See above.
    pub interval_usd: Option<(f64, f64)>,
    /// Share of the requests that the predictor decided.
    pub predicted: f64,
    /// Share of answers that came later than promised, under the predictor and under the rules.
    pub late: (f64, f64),
    /// Stale answers over all, under the predictor and under the rules.
    pub stale: (f64, f64),
    /// Per route: name, requests, costs of predictor, rules and hindsight in dollars, and the combination of hindsight.
    pub routes: Vec<RouteVerdict>,
}

/// One route of a verdict.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RouteVerdict {
    /// Its name.
    pub name: String,
    /// Held-out requests.
    pub requests: u64,
    /// Under the predictor.
    pub model_usd: f64,
    /// Under the rules.
    pub rule_usd: f64,
    /// Under the best combination.
    pub hindsight_usd: f64,
    /// Which that is.
    pub best: &'static str,
}

impl Verdict {
    /// How much dearer than the per-route choice of hindsight, as a share of it; negative when cheaper.
    pub fn regret(&self) -> f64 {
        ratio(self.model_usd, self.hindsight_usd) - 1.0
    }
    /// How much cheaper than the best single combination for all.
    pub fn below_single(&self) -> f64 {
        1.0 - ratio(self.model_usd, self.single_usd)
    }
    /// How much cheaper than the rules.
    pub fn below_rules(&self) -> f64 {
        1.0 - ratio(self.model_usd, self.rule_usd)
    }
    /// Cheaper than the rules beyond chance.
    pub fn passes(&self) -> bool {
        self.interval_usd.is_some_and(|(_, high)| high < 0.0)
    }
    /// Figures for the manifest.
    pub fn metrics(&self) -> BTreeMap<String, f64> {
        [
            ("held_out_requests", self.requests as f64),
            ("cost_usd", self.model_usd),
            ("rule_cost_usd", self.rule_usd),
            ("hindsight_cost_usd", self.hindsight_usd),
            ("single_cost_usd", self.single_usd),
            ("saving_against_rule", self.below_rules()),
            ("regret", self.regret()),
            ("below_single", self.below_single()),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
    }
}

fn ratio(a: f64, b: f64) -> f64 {
    if b > 0.0 { a / b } else { 1.0 }
}

/// The events from number `from` on, decided by `levels`; what comes before warms the statistics.
pub(super) fn played((trace, from): (&Trace, usize), model: &Model, levels: &Levels) -> Run {
    simulate(trace, model, Judged::from(trace, from), &mut Modelled::new(levels, StrategyParams::default()))
}

/// Judges predictors on the events from number `from` on.
pub fn judge(at: (&Trace, usize), model: &Model, levels: &Levels, seed: u64) -> Verdict {
    verdict(at, model, (&played(at, model, levels), &played(at, model, &Levels::default())), seed)
}

/// Judges what a predictor and the rules have [`played`].
pub(super) fn verdict((trace, from): (&Trace, usize), model: &Model, (ours, rule): (&Run, &Run), seed: u64) -> Verdict {
    let past = hindsight(trace, model, Judged::from(trace, from));
    let usd = |money: Money| money.as_usd_f64();
    let paired = paired(ours, rule, model).difference(seed);
    let (total, rule_total) = (ours.total(), rule.total());
    let share = |count: u64, of: u64| count as f64 / of.max(1) as f64;
    Verdict {
        requests: total.requests,
        model_usd: usd(ours.cost(model)),
        rule_usd: usd(rule.cost(model)),
        hindsight_usd: usd(past.best()),
        single_usd: usd(past.single.1),
        single: past.single.0.as_str(),
        bypass_usd: past.runs.get(Mix::Bypass.index()).map_or(0.0, |run| usd(run.cost(model))),
        against_rules_usd: paired.point as f64 / 1e9,
        interval_usd: paired.interval.map(|(low, high)| (low as f64 / 1e9, high as f64 / 1e9)),
        predicted: share(total.predicted, total.requests),
        late: (share(total.late, total.requests), share(rule_total.late, rule_total.requests)),
        stale: (share(total.stale, total.requests), share(rule_total.stale, rule_total.requests)),
        routes: routes(trace, model, (ours, rule), &past.per_route),
    }
}

fn routes(trace: &Trace, model: &Model, (ours, rule): (&Run, &Run), best: &[(Mix, Money)]) -> Vec<RouteVerdict> {
    let (ours, rule) = (ours.judged(), rule.judged());
    let one = |(i, route): (usize, &farthing_replay::TraceRoute)| {
        let terms = model.terms.get(i).copied().unwrap_or_default();
        RouteVerdict {
            name: route.name.clone(),
            requests: ours[i].requests,
            model_usd: ours[i].cost(&terms).as_usd_f64(),
            rule_usd: rule[i].cost(&terms).as_usd_f64(),
            hindsight_usd: best[i].1.as_usd_f64(),
            best: best[i].0.as_str(),
        }
    };
    trace.routes.iter().enumerate().map(one).filter(|r| r.requests > 0).collect()
}

/// Costs of both per block of route and time. A block is told to [`Paired`] as a key of its own; blocks in which nothing was asked are left out.
fn paired(ours: &Run, rule: &Run, model: &Model) -> Paired {
    let mut paired = Paired::default();
    let place = |block: usize, route: usize| ((route as u64) << 40) | block as u64;
    let busy = |run: &Run, block: usize, route: usize| run.blocks[block][route].requests > 0;
    for (block, route, nanos) in ours.costs(model).filter(|(b, r, _)| busy(ours, *b, *r)) {
        paired.first(place(block, route), Time::from_nanos(0), nanos);
    }
    for (block, route, nanos) in rule.costs(model).filter(|(b, r, _)| busy(rule, *b, *r)) {
        paired.second(place(block, route), Time::from_nanos(0), nanos);
    }
    paired
}

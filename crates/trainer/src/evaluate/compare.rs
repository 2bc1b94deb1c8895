//! Model, table, live statistics, rule and fixed TTLs on the same reads, at equal staleness.

use std::collections::BTreeMap;

use farthing_policy::{Levels, TtlParams, TtlSource};
use farthing_replay::{Decided, Engine, Event, FixedCurves, FixedResult, Outcome, PassThroughAll, Trace, replay_at};
use farthing_types::{Money, Span};
use serde::Serialize;

use super::points::{MARGIN, kappa_at};
use crate::fit::{Learned, zeros};
use crate::predictor::Trees;

/// What one way of choosing TTLs came to.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Line {
    /// Who chose.
    pub name: String,
    /// What was paid, dollars.
    pub bill_usd: f64,
    /// The same as a share of what it would have been without a cache.
    pub bill_share: f64,
    /// Share of answers that were stale.
    pub stale_share: f64,
    /// Stale answers.
    pub stale: u64,
    /// The price ratio in force, or the TTL in seconds of a fixed one or of the rule's base; none where it differs by route.
    pub setting: Option<f64>,
}

/// A model and its competitors on held-out reads.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Comparison {
    /// Held-out reads.
    pub reads: u64,
    /// What they would have cost without a cache, dollars.
    pub base_usd: f64,
    /// The staleness budget.
    pub stale_budget: f64,
    /// The model at the operating point that was found on the training part, steered as in the proxy.
    pub model: Line,
    /// The table at the model's operating point.
    pub table: Line,
    /// The boosting alone at the model's operating point.
    pub boost: Line,
    /// The live statistics without any learner, tuned in hindsight to the model's stale share.
    pub live: Line,
    /// The rule, its base TTL tuned in hindsight to the model's stale share.
    pub rule: Line,
    /// The best TTL for all, in hindsight, at the model's stale share.
    pub fixed: Line,
    /// The best TTL per route, in hindsight, at the model's stale share.
    pub fixed_per_route: Line,
    /// Each tuned in hindsight to the budget itself: for comparing learners, not for judging.
    pub tuned: Vec<Line>,
    /// 1 - bill of the model / bill of the rule.
    pub saving_against_rule: f64,
    /// 1 - bill of the model / bill of the best fixed TTL per route.
    pub saving_against_fixed_per_route: f64,
    /// Bill of the model / bill of the best TTL for all.
    pub ratio_to_fixed: f64,
}

impl Comparison {
    /// Whether the model is better than the rule at equal staleness.
    pub fn beats_rule(&self) -> bool {
        self.saving_against_rule > 0.0
    }

    /// Figures for the manifest.
    pub fn metrics(&self) -> BTreeMap<String, f64> {
        let lines = [
            ("", &self.model),
            ("table_", &self.table),
            ("live_", &self.live),
            ("rule_", &self.rule),
            ("fixed_", &self.fixed),
            ("fixed_per_route_", &self.fixed_per_route),
        ];
        let figures =
            |(name, line): (&str, &Line)| [(format!("{name}bill_usd"), line.bill_usd), (format!("{name}stale_share"), line.stale_share)];
        let mut metrics: BTreeMap<String, f64> = lines.into_iter().flat_map(figures).collect();
        metrics.insert("base_usd".to_owned(), self.base_usd);
        metrics.insert("saving_against_rule".to_owned(), self.saving_against_rule);
        metrics.insert("saving_against_fixed_per_route".to_owned(), self.saving_against_fixed_per_route);
        metrics.insert("reads".to_owned(), self.reads as f64);
        metrics
    }
}

/// Bisections when tuning a competitor.
const TUNING: usize = 10;
/// Price ratios between which policies are tuned.
const KAPPAS: (f64, f64) = (1e-4, 10.0);
/// Base TTLs between which the rule is tuned, seconds.
const BASES: (f64, f64) = (1.0, 86_400.0);

/// What is replayed, from which state.
struct Field<'a> {
    trace: &'a Trace,
    events: &'a [Event],
    start: Engine,
}

impl Field<'_> {
    fn at_kappa(&self, name: &str, levels: &Levels, kappa: f64) -> Line {
        let outcome = replay_at(&self.start, (self.trace, self.events), levels, &TtlParams::default(), kappa);
        line(name, &outcome, Some(kappa))
    }

    /// As the proxy runs it: the operating point, moved by each route's measured staleness.
    fn steered(&self, name: &str, levels: &Levels, (kappa, budget): (f64, f64)) -> Line {
        let mut engine = self.start.clone();
        engine.set_stale_budget(budget);
        let params = TtlParams { kappa: Some(kappa), stale_budget: budget, ..TtlParams::default() };
        let mut chooser = Decided::new(levels, vec![params; self.trace.routes.len()]);
        line(name, &engine.run(self.trace, self.events, &mut chooser), Some(kappa))
    }

    fn rule(&self, base_s: f64) -> Line {
        let base = Span::try_from_secs_f64(base_s).unwrap_or_default();
        let params = TtlParams { source: TtlSource::Rule, base, ..TtlParams::default() };
        let levels = Levels::default();
        let mut chooser = Decided::new(&levels, vec![params; self.trace.routes.len()]);
        line("rule", &self.start.clone().run(self.trace, self.events, &mut chooser), Some(base_s))
    }

    /// The lowest bill whose stale share is at most `share`, by bisection of the setting on a log scale.
    fn tuned(&self, share: f64, (mut low, mut high): (f64, f64), play: impl Fn(f64) -> Line) -> Line {
        let mut best = play(low);
        for _ in 0..TUNING {
            let middle = (low * high).sqrt();
            let line = play(middle);
            if line.stale_share > share {
                high = middle;
                continue;
            }
            low = middle;
            if line.bill_usd <= best.bill_usd || best.stale_share > share {
                best = line;
            }
        }
        best
    }
}

fn line(name: &str, outcome: &Outcome, setting: Option<f64>) -> Line {
    let total = outcome.total();
    Line {
        name: name.to_owned(),
        bill_usd: total.bill.as_usd_f64(),
        bill_share: total.bill_share(),
        stale_share: total.stale_share(),
        stale: total.stale,
        setting,
    }
}

fn fixed_line(name: &str, result: &FixedResult) -> Line {
    let same = result.ttls.windows(2).all(|w| w[0] == w[1]);
    line(name, &result.outcome, result.ttls.first().filter(|_| same).map(Span::as_secs_f64))
}

/// A field of competitors on everything from event `cut` on, for several budgets.
pub struct Against<'a> {
    field: Field<'a>,
    curves: FixedCurves,
}

impl<'a> Against<'a> {
    /// The statistics at `cut` are those of a proxy that passed everything before through; the cache is empty.
    pub fn of(trace: &'a Trace, cut: usize) -> Self {
        let (before, events) = trace.events.split_at(cut.min(trace.events.len()));
        let mut start = Engine::new(trace);
        start.run(trace, before, &mut PassThroughAll);
        start.drop_copies();
        Self { field: Field { trace, events, start }, curves: FixedCurves::of(trace, events) }
    }

    /// The model as the proxy runs it under a budget, and the best fixed TTLs, for all and per route, at its stale share.
    pub fn fixed(&self, learned: &Learned, budget: f64) -> [Line; 3] {
        let kappa = kappa_at(&learned.sweep, budget * MARGIN).unwrap_or(KAPPAS.0);
        let model = self.field.steered("model", &Trees::levels(&learned.model), (kappa, budget));
        let fixed = fixed_line("best fixed TTL", &self.curves.best_global(model.stale_share));
        let per_route = fixed_line("best fixed TTL per route", &self.curves.best_per_route(model.stale));
        [model, fixed, per_route]
    }
}

/// Compares on everything from event `cut` on. The statistics at its start are those of a proxy that passed everything before
/// through; the cache is empty. A thorough comparison also tunes each learner to the budget itself, in hindsight.
pub fn compare((trace, cut): (&Trace, usize), learned: &Learned, stale_budget: f64, thorough: bool) -> Comparison {
    let Against { field, curves } = Against::of(trace, cut);
    let kappa = kappa_at(&learned.sweep, stale_budget * MARGIN).unwrap_or(KAPPAS.0);
    let levels = [&learned.model, &learned.table, &learned.boost, &zeros()].map(Trees::levels);
    let model = field.steered("model", &levels[0], (kappa, stale_budget));
    let share = model.stale_share;
    let nothing = curves.best_global(-1.0).outcome.total();
    let comparison = Comparison {
        reads: nothing.requests,
        base_usd: nothing.base.as_usd_f64(),
        stale_budget,
        table: field.steered("table", &levels[1], (kappa, stale_budget)),
        boost: field.steered("boosting", &levels[2], (kappa, stale_budget)),
        live: field.tuned(share, KAPPAS, |k| field.at_kappa("live statistics", &levels[3], k)),
        rule: field.tuned(share, BASES, |seconds| field.rule(seconds)),
        fixed: fixed_line("best fixed TTL", &curves.best_global(share)),
        fixed_per_route: fixed_line("best fixed TTL per route", &curves.best_per_route(model.stale)),
        tuned: if thorough { tuned(&field, &levels, &curves, (stale_budget, nothing.requests)) } else { Vec::new() },
        model,
        ..Comparison::default()
    };
    judged(comparison)
}

fn judged(comparison: Comparison) -> Comparison {
    let ratio = |to: &Line| if to.bill_usd > 0.0 { comparison.model.bill_usd / to.bill_usd } else { 1.0 };
    let (rule, per_route, fixed) = (ratio(&comparison.rule), ratio(&comparison.fixed_per_route), ratio(&comparison.fixed));
    Comparison { saving_against_rule: 1.0 - rule, saving_against_fixed_per_route: 1.0 - per_route, ratio_to_fixed: fixed, ..comparison }
}

/// Each learner tuned to the budget in hindsight.
fn tuned(field: &Field<'_>, levels: &[Levels; 4], curves: &FixedCurves, (budget, reads): (f64, u64)) -> Vec<Line> {
    let names = ["model", "table", "boosting", "live statistics"];
    let tune = |(name, levels)| field.tuned(budget, KAPPAS, |k| field.at_kappa(name, levels, k));
    let mut lines: Vec<Line> = names.into_iter().zip(levels).map(tune).collect();
    lines.push(field.tuned(budget, BASES, |seconds| field.rule(seconds)));
    lines.push(fixed_line("best fixed TTL", &curves.best_global(budget)));
    lines.push(fixed_line("best fixed TTL per route", &curves.best_per_route((budget * reads as f64) as u64)));
    lines
}

/// Bill and stale answers of a line in money, at a price per stale answer.
pub fn money_cost(line: &Line, stale_price: Money) -> f64 {
    line.bill_usd + stale_price.as_usd_f64() * line.stale as f64
}

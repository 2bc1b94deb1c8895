//! One world under one seed: learning, then replay in its ways of service.

use farthing_contract::features::{Doubt, TTL_OUTPUTS, TtlInput, ttl_features};
use farthing_policy::ttl::{Economics, Survival};
use farthing_policy::{Levels, TtlParams};
use farthing_replay::{Chooser, Decided, Engine, Event, FixedCurves, Outcome, PassThroughAll, Process, Recipe, Trace, World, WorldKey};
use farthing_types::{Draw, DrawKind, Span};
use serde::Serialize;

use super::truth::best_per_key;
use crate::error::TrainError;
use crate::evaluate::learned;
use crate::evaluate::points::{MARGIN, kappa_at};
use crate::fit::{Learned, Options};
use crate::learn::Unwatched;
use crate::predictor::Trees;
use crate::trees::Ensemble;

/// Staleness budget of the steered runs.
pub const BUDGET: f64 = 0.005;
/// Share of the time that is learned from.
const TRAIN: f64 = 0.6;
/// Fewest answers of a route-day that is judged.
const JUDGED: u64 = 2_000;
/// 95 % two-sided.
const Z: f64 = 1.96;
/// Ages of the copies that calibration is judged at, seconds.
const AGES: (f64, f64) = (30.0, 86_400.0);

/// Route-days.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Days {
    /// With enough answers.
    pub judged: u64,
    /// Of these, surely over the budget.
    pub over: u64,
}

impl Days {
    /// Both together.
    pub fn and(self, other: Self) -> Self {
        Self { judged: self.judged + other.judged, over: self.over + other.over }
    }
    /// Share of those over the budget.
    pub fn share_over(&self) -> f64 {
        self.over as f64 / self.judged.max(1) as f64
    }
    fn add(&mut self, outcome: &Outcome) {
        for route in outcome.routes.iter().filter(|r| r.requests >= JUDGED) {
            self.judged += 1;
            self.over += u64::from(wilson_low(route.stale, route.requests) > BUDGET);
        }
    }
}

/// Lower end of the Wilson interval.
fn wilson_low(hits: u64, of: u64) -> f64 {
    let (n, p) = (of as f64, hits as f64 / of.max(1) as f64);
    let z2 = Z * Z;
    (p + z2 / (2.0 * n) - Z * (p * (1.0 - p) / n + z2 / (4.0 * n * n)).sqrt()) / (1.0 + z2 / n)
}

/// Answers, and stale ones among them.
pub type Count = (u64, u64);
/// Of the first hour and of the first day.
pub type Arrival = (Count, Count);

/// What came of it.
#[derive(Clone, Debug)]
pub struct Played {
    /// Money cost of ours, of the oracle, of the cheapest fixed TTL per route.
    pub money: f64,
    pub oracle: f64,
    pub fixed: f64,
    /// Of the TTL per key that is cheapest in the long run, where the oracle's rule is not the best: where changes draw their readers.
    pub known: Option<f64>,
    pub days: Days,
    pub routes: Vec<(u64, u64)>,
    /// First hour and first day of the route that appears late.
    pub newcomer: Option<Arrival>,
    /// Predicted probability of a change by the key's next read, and whether there was one; every read is passed through, as a holdout's is.
    pub sentinel: Vec<(f64, bool)>,
    /// The same of copies that the proxy fetched in service, by a drawn age.
    pub judged: Vec<(f64, bool)>,
}

/// Plays a recipe; with `newcomer` its first route is also played as one that appears only after the training.
pub fn play(recipe: &Recipe, seed: u64, newcomer: bool) -> Result<Played, TrainError> {
    let wrong = |e: farthing_replay::RecipeError| TrainError::Recipe { path: "data/worlds".into(), reason: e.to_string() };
    let trace = recipe.generate(seed).map_err(wrong)?;
    let world = World::new(recipe.clone(), seed);
    let mut field = Field::of(recipe, &world, &trace, seed)?;
    let (money, judged) = field.ours();
    let stale_price = recipe.stale_price;
    let cost = |o: &Outcome| o.total().money_cost(stale_price).as_usd_f64();
    let fixed = FixedCurves::of(&trace, field.test()).at_price(stale_price.nanos() as f64);
    let (days, routes) = field.steered();
    let drawn = recipe.routes.iter().any(|route| matches!(route.process, Process::Informative { .. }));
    let known = if drawn { Some(cost(&best_per_key(recipe, seed, (&trace, field.cut)).map_err(wrong)?)) } else { None };
    let newcomer = if newcomer { Some(arriving(recipe, &world, &trace, seed)?) } else { None };
    Ok(Played {
        money: cost(&money),
        oracle: cost(&field.oracle()),
        fixed: cost(&fixed.outcome),
        known,
        days,
        routes,
        newcomer,
        sentinel: field.sentinel(),
        judged,
    })
}

struct Field<'a> {
    recipe: &'a Recipe,
    world: &'a World,
    trace: &'a Trace,
    cut: usize,
    start: Engine,
    learned: Learned,
    levels: Levels,
}

impl<'a> Field<'a> {
    fn of(recipe: &'a Recipe, world: &'a World, trace: &'a Trace, seed: u64) -> Result<Self, TrainError> {
        let cut = trace.split(TRAIN);
        let learned = learned(trace, cut, Options { stale_budget: BUDGET, seed }, &Unwatched)?;
        let mut start = Engine::new(trace);
        start.run(trace, &trace.events[..cut], &mut PassThroughAll);
        start.drop_copies();
        let levels = Trees::levels(&learned.model);
        Ok(Self { recipe, world, trace, cut, start, learned, levels })
    }

    fn test(&self) -> &'a [Event] {
        &self.trace.events[self.cut..]
    }

    /// Price of a stale answer over that of a call, per route.
    fn ratios(&self) -> Vec<f64> {
        let ratio = |r: &farthing_replay::TraceRoute| self.recipe.stale_price.nanos() as f64 / r.price.nanos().max(1) as f64;
        self.trace.routes.iter().map(ratio).collect()
    }

    /// The proxy where stale answers have a price.
    fn ours(&mut self) -> (Outcome, Vec<(f64, bool)>) {
        let params = |price: &f64| TtlParams { stale_price: Some(*price), kappa: Some(f64::MAX), steer: false, ..TtlParams::default() };
        let decided = Decided::new(&self.levels, self.ratios().iter().map(params).collect());
        let mut watching =
            Watching { decided, model: &self.learned.model, world: self.world, first: self.recipe.first_keys(), judged: Vec::new() };
        let outcome = self.start.clone().run(self.trace, self.test(), &mut watching);
        (outcome, watching.judged)
    }

    fn sentinel(&self) -> Vec<(f64, bool)> {
        crate::gate::ttl::foretold((self.trace, self.cut), &self.levels)
    }

    fn oracle(&self) -> Outcome {
        let rates = rates(self.recipe);
        let (ratios, first) = (self.ratios(), self.recipe.first_keys());
        let cap = TtlParams::default().max.as_secs_f64();
        let mut chooser = |event: &Event, _: &TtlInput<'_>| {
            let route = usize::from(event.route);
            let index = event.key - first[route];
            let hazard = self.world.hazard(WorldKey { route: event.route, index }, event.at);
            let economics = Economics { kappa: 1.0 / ratios[route], rate: rates[route](index) };
            Span::from_secs_f64(economics.best_ttl(&Survival::constant(hazard), cap))
        };
        self.start.clone().run(self.trace, self.test(), &mut chooser)
    }

    /// The proxy with a budget of stale answers and no price: route-days, and answers and stale ones per route.
    fn steered(&self) -> (Days, Vec<(u64, u64)>) {
        let mut days = Days::default();
        let mut sums = vec![(0, 0); self.trace.routes.len()];
        self.by_day(|_, outcome| {
            days.add(outcome);
            for (sum, route) in sums.iter_mut().zip(&outcome.routes) {
                *sum = (sum.0 + route.requests, sum.1 + route.stale);
            }
        });
        (days, sums)
    }

    fn by_day(&self, mut each: impl FnMut(usize, &Outcome)) {
        let mut engine = self.start.clone();
        engine.set_stale_budget(BUDGET);
        let kappa = kappa_at(&self.learned.sweep, BUDGET * MARGIN);
        let params = TtlParams { kappa, stale_budget: BUDGET, ..TtlParams::default() };
        let mut decided = Decided::new(&self.levels, vec![params; self.trace.routes.len()]);
        for (n, events) in slices(self.test(), Span::from_secs(86_400)).into_iter().enumerate() {
            each(n, &engine.run(self.trace, events, &mut decided));
        }
    }
}

/// Events by equal spans of time from the first on.
fn slices(events: &[Event], span: Span) -> Vec<&[Event]> {
    let Some(first) = events.first() else { return Vec::new() };
    let number = |e: &Event| e.at.since(first.at).as_secs_f64() as u64 / span.as_secs_f64().max(1.0) as u64;
    events.chunk_by(|a, b| number(a) == number(b)).collect()
}

/// The first route appears only after the training: its first hour and its first day.
fn arriving(recipe: &Recipe, world: &World, trace: &Trace, seed: u64) -> Result<Arrival, TrainError> {
    let cut_at = trace.events[trace.split(TRAIN).min(trace.events.len().saturating_sub(1))].at;
    let events = trace.events.iter().filter(|e| e.route != 0 || e.at >= cut_at).copied().collect();
    let late = Trace { routes: trace.routes.clone(), events };
    let field = Field::of(recipe, world, &late, seed)?;
    let mut engine = field.start.clone();
    engine.set_stale_budget(BUDGET);
    let params = TtlParams { kappa: kappa_at(&field.learned.sweep, BUDGET * MARGIN), stale_budget: BUDGET, ..TtlParams::default() };
    let mut decided = Decided::new(&field.levels, vec![params; late.routes.len()]);
    let mut hours = Vec::new();
    for events in slices(field.test(), Span::from_secs(3_600)).into_iter().take(24) {
        let route = engine.run(&late, events, &mut decided).routes[0];
        hours.push((route.requests, route.stale));
    }
    let day = hours.iter().fold((0, 0), |(a, s), h| (a + h.0, s + h.1));
    Ok((hours.first().copied().unwrap_or_default(), day))
}

/// Reads per second of each key of each route, as the recipe has them.
fn rates(recipe: &Recipe) -> Vec<Box<dyn Fn(u32) -> f64>> {
    let total: f64 = recipe.routes.iter().map(|r| r.weight).sum();
    let of = |route: &farthing_replay::RecipeRoute| {
        let zipf = recipe.zipf;
        let norm: f64 = (1..=route.keys).map(|k| f64::from(k).powf(-zipf)).sum();
        let rate = recipe.rate * route.weight / total;
        let drawn = match route.process {
            // What changes draw comes on top.
            Process::Informative { mean_interval_s, reads_per_change, .. } => reads_per_change / mean_interval_s,
            _ => 0.0,
        };
        Box::new(move |index: u32| rate * f64::from(index + 1).powf(-zipf) / norm + drawn) as Box<dyn Fn(u32) -> f64>
    };
    recipe.routes.iter().map(of).collect()
}

/// Decides as the proxy does, and notes what it foretells and what comes.
struct Watching<'a> {
    decided: Decided<'a>,
    model: &'a Ensemble,
    world: &'a World,
    first: Vec<u32>,
    judged: Vec<(f64, bool)>,
}

impl Chooser for Watching<'_> {
    fn ttl(&mut self, event: &Event, input: &TtlInput<'_>) -> Span {
        let mut outputs = [0.0; TTL_OUTPUTS];
        self.model.eval(&ttl_features(input), &mut outputs);
        let u = Draw::new(7).uniform(DrawKind::Sample, "results.age", u128::from(event.key), event.at.nanos());
        let age = AGES.0 * (AGES.1 / AGES.0).powf(u);
        let key = WorldKey { route: event.route, index: event.key - self.first[usize::from(event.route)] };
        let changed = self.world.next_change(key, event.at).is_some_and(|at| at.since(event.at).as_secs_f64() <= age);
        self.judged.push((Survival::corrected(input, &outputs).changed(age), changed));
        self.decided.ttl(event, input)
    }

    fn doubt(&self) -> Doubt {
        self.decided.doubt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_needs_more_than_a_few_stale_answers() {
        assert!(wilson_low(11, 2_000) < BUDGET && wilson_low(20, 2_000) > BUDGET);
        assert!(wilson_low(0, 2_000).abs() < 1e-9);
    }
}

//! One run of a trace under a chooser.

use std::sync::Arc;

use farthing_policy::strategy::decide::Allowed;
use farthing_policy::strategy::{Ask, Mix, StrategyParams, Terms, decide};
use farthing_policy::{Guarded, Levels, TtlParams};
use farthing_types::{By, Money, Span, VirtualClock};

use super::route::{Bill, Route, RouteView, TtlBy};
use crate::event::{Event, EventKind, Trace};

/// The provider and the operator of a trace, route by route.
#[derive(Clone)]
pub struct Model {
    /// Prices and promises.
    pub terms: Vec<Terms>,
    /// How long a call takes.
    pub latency: Vec<Span>,
    /// Parameters of the live TTL decision.
    pub ttl: TtlParams,
    /// Its predictors.
    pub ttl_levels: Levels,
}

impl Model {
    /// As a recipe says. The live TTL decision runs on live statistics alone, without a shadow price of its own: a stale answer costs what
    /// the route says.
    pub fn of_recipe(recipe: &crate::recipe::Recipe) -> Self {
        let live = Levels { model: None, table: Some(Arc::new(crate::choosers::LiveStatistics)) };
        Self {
            terms: recipe.routes.iter().map(|r| r.strategy_terms(recipe)).collect(),
            latency: recipe.routes.iter().map(|r| Span::from_millis(u64::from(r.latency_ms))).collect(),
            ttl: TtlParams { kappa: Some(DEFAULT_KAPPA), ..TtlParams::default() },
            ttl_levels: live,
        }
    }
}

/// Price of a call / shadow price of a stale answer where no operating point is known: steered from there to the budget.
pub const DEFAULT_KAPPA: f64 = 0.05;

/// Which part of a run is judged, and in which blocks it is counted.
#[derive(Clone, Copy, Debug)]
pub struct Judged {
    /// Number of the first event that counts.
    pub from: usize,
    /// Length of a block.
    pub block: Span,
}

impl Judged {
    /// From an event on, in about 200 blocks of at least a minute.
    pub fn from(trace: &Trace, from: usize) -> Self {
        let first = trace.events.get(from).map_or(trace.events.last().map(|e| e.at), |e| Some(e.at));
        let span = first.zip(trace.events.last()).map_or(Span::ZERO, |(first, last)| last.at.since(first));
        Self { from, block: (span / 200).max(Span::from_secs(60)) }
    }
}

/// Chooses the mix at each request.
pub trait MixChooser {
    /// The mix, and whether a predictor chose it.
    fn mix(&mut self, view: &RouteView<'_>) -> (Mix, bool);
}

impl<F: FnMut(&RouteView<'_>) -> (Mix, bool)> MixChooser for F {
    fn mix(&mut self, view: &RouteView<'_>) -> (Mix, bool) {
        self(view)
    }
}

/// The same mix for all requests of a route.
pub fn fixed(mixes: Vec<Mix>) -> impl MixChooser {
    move |view: &RouteView<'_>| (allowed(view, mixes.get(usize::from(view.route)).copied().unwrap_or_default()), false)
}

/// What of a mix may be done on the route: a fixed choice meets the same bans and promises as a learned one.
fn allowed(view: &RouteView<'_>, mix: Mix) -> Mix {
    let may = may(view);
    let batch =
        mix.batches() && may.batch && view.terms.sla.is_none_or(|sla| sla > view.terms.batch.map_or(Span::ZERO, |b| b.window.window));
    Mix::of(mix.caches() && may.cache, mix.joins() && may.dedupe, batch)
}

/// What may be done to requests of the route at all.
pub fn may(view: &RouteView<'_>) -> Allowed {
    Allowed { cache: !view.nondeterministic, dedupe: !view.nondeterministic, batch: view.terms.batch.is_some() }
}

/// The proxy's own decision.
pub struct Modelled<'a> {
    guarded: Guarded,
    levels: &'a Levels,
    params: StrategyParams,
}

impl<'a> Modelled<'a> {
    /// Decides with these predictors; without any the rule does. The clock stands still, so nothing is ever late.
    pub fn new(levels: &'a Levels, params: StrategyParams) -> Self {
        Self { guarded: still(), levels, params }
    }
}

fn still() -> Guarded {
    Guarded::new(Arc::new(VirtualClock::default()), Span::from_secs(1), Span::from_secs(1))
}

impl MixChooser for Modelled<'_> {
    fn mix(&mut self, view: &RouteView<'_>) -> (Mix, bool) {
        let ask = Ask { input: view.input, terms: view.terms, params: &self.params, allowed: may(view) };
        let choice = decide(&self.guarded, self.levels, &ask).choice;
        (choice.value, matches!(choice.by, By::Model(_) | By::Table(_)))
    }
}

/// What came of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Run {
    /// Per route.
    pub routes: Vec<Bill>,
    /// Per route, what had come of it when the events judged began.
    pub before: Vec<Bill>,
    /// Block by block of the judged part, per route; blocks without an event are left out. What waits at the end is in none.
    pub blocks: Vec<Vec<Bill>>,
}

impl Run {
    /// Per route, from the first judged event on.
    pub fn judged(&self) -> Vec<Bill> {
        self.routes.iter().zip(&self.before).map(|(all, before)| all.since(before)).collect()
    }
    /// Bill, staleness and waiting of the judged part.
    pub fn cost(&self, model: &Model) -> Money {
        self.judged().iter().zip(&model.terms).map(|(bill, terms)| bill.cost(terms)).sum()
    }
    /// Cost of each route in each block, for paired comparisons: (block, route, nano-dollars).
    pub fn costs<'a>(&'a self, model: &'a Model) -> impl Iterator<Item = (usize, usize, i64)> + 'a {
        let of = |(block, bills): (usize, &'a Vec<Bill>)| {
            bills.iter().zip(&model.terms).enumerate().map(move |(route, (bill, terms))| (block, route, bill.cost(terms).nanos()))
        };
        self.blocks.iter().enumerate().flat_map(of)
    }
    /// The judged part of all routes.
    pub fn total(&self) -> Bill {
        let mut total = Bill::default();
        self.judged().iter().for_each(|bill| total.add(bill));
        total
    }
}

/// A run in progress.
pub(super) struct Running<'a> {
    pub routes: Vec<Route<'a>>,
}

impl<'a> Running<'a> {
    pub fn new(trace: &Trace, model: &'a Model, guarded: &'a Guarded) -> Self {
        let route = |(index, facts): (usize, &crate::event::TraceRoute)| {
            let ttl = TtlBy { guarded, levels: &model.ttl_levels, params: model.ttl };
            let terms = model.terms.get(index).copied().unwrap_or_default();
            let latency = model.latency.get(index).copied().unwrap_or_default();
            Route::new(index as u16, terms, (latency, facts.nondeterministic), ttl)
        };
        Self { routes: trace.routes.iter().enumerate().map(route).collect() }
    }

    /// Without live statistics.
    pub fn quiet(self) -> Self {
        Self { routes: self.routes.into_iter().map(Route::quiet).collect() }
    }

    pub fn bills(&self) -> Vec<Bill> {
        self.routes.iter().map(|r| r.bill).collect()
    }

    pub fn step(&mut self, event: &Event, chooser: &mut dyn MixChooser) {
        let Some(route) = self.routes.get_mut(usize::from(event.route)) else { return };
        if event.kind == EventKind::Change {
            return route.change(event.at, event.key, event.bytes);
        }
        let (mix, predicted) = chooser.mix(&route.view(event.at));
        route.bill.predicted += u64::from(predicted);
        route.read(event.at, event.key, mix);
    }
}

/// Replays the whole trace under a chooser; what comes before the judged part warms up.
pub fn simulate(trace: &Trace, model: &Model, judged: Judged, chooser: &mut dyn MixChooser) -> Run {
    let guarded = still();
    play(trace, Running::new(trace, model, &guarded), judged, chooser)
}

/// The same for a mix that is fixed per route: nothing is decided, so no live statistics are kept.
pub fn simulate_fixed(trace: &Trace, model: &Model, judged: Judged, mixes: Vec<Mix>) -> Run {
    let guarded = still();
    play(trace, Running::new(trace, model, &guarded).quiet(), judged, &mut fixed(mixes))
}

fn play(trace: &Trace, mut running: Running<'_>, judged: Judged, chooser: &mut dyn MixChooser) -> Run {
    let mut run = Run::default();
    let mut cut = Cut::default();
    let block_ns = i64::try_from(judged.block.as_nanos()).unwrap_or(i64::MAX).max(1);
    for (n, event) in trace.events.iter().enumerate() {
        if n == judged.from {
            run.before = running.bills();
            cut = Cut { place: event.at.nanos().div_euclid(block_ns), bills: run.before.clone() };
        }
        let place = event.at.nanos().div_euclid(block_ns);
        if n > judged.from && place != cut.place {
            run.blocks.push(cut.next(place, running.bills()));
        }
        running.step(event, chooser);
    }
    if trace.events.len() > judged.from {
        run.blocks.push(cut.next(0, running.bills()));
    }
    running.routes.iter_mut().for_each(Route::finish);
    run.routes = running.bills();
    run.before.resize(run.routes.len(), Bill::default());
    run
}

/// Where the last block ended.
#[derive(Default)]
struct Cut {
    place: i64,
    bills: Vec<Bill>,
}

impl Cut {
    /// What came since; the next block begins.
    fn next(&mut self, place: i64, bills: Vec<Bill>) -> Vec<Bill> {
        let block = bills.iter().zip(&self.bills).map(|(all, before)| all.since(before)).collect();
        *self = Self { place, bills };
        block
    }
}

/// A guard whose clock stands still.
pub(super) fn guard() -> Guarded {
    still()
}

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

fn may(view: &RouteView<'_>) -> Allowed {
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

/// Replays the whole trace under a chooser; what comes before event number `judged_from` warms up.
pub fn simulate(trace: &Trace, model: &Model, judged_from: usize, chooser: &mut dyn MixChooser) -> Run {
    let guarded = still();
    let mut running = Running::new(trace, model, &guarded);
    let mut run = Run::default();
    for (n, event) in trace.events.iter().enumerate() {
        if n == judged_from {
            run.before = running.routes.iter().map(|r| r.bill).collect();
        }
        running.step(event, chooser);
    }
    running.routes.iter_mut().for_each(Route::finish);
    run.routes = running.routes.iter().map(|r| r.bill).collect();
    run.before.resize(run.routes.len(), Bill::default());
    run
}

/// A guard whose clock stands still.
pub(super) fn guard() -> Guarded {
    still()
}

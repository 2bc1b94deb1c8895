//! Replays events through the decision code of the proxy, under virtual time.

use farthing_contract::features::{Doubt, HeadFacts, KeyStats, RouteStats, TtlInput};
use farthing_types::{Money, Span, Time};

use crate::event::{Event, EventKind, Trace};

/// What came of the requests of a route.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RouteOutcome {
    /// Requests.
    pub requests: u64,
    /// Calls that were paid for.
    pub calls: u64,
    /// Answers that differed from what the origin would have said at that moment.
    pub stale: u64,
    /// Paid to the provider.
    pub bill: Money,
    /// What the requests would have cost without a cache.
    pub base: Money,
}

impl RouteOutcome {
    /// Stale answers over all answers.
    pub fn stale_share(&self) -> f64 {
        self.stale as f64 / self.requests.max(1) as f64
    }
    /// Bill / base.
    pub fn bill_share(&self) -> f64 {
        if self.base == Money::ZERO { 1.0 } else { self.bill.nanos() as f64 / self.base.nanos() as f64 }
    }
    /// Bill + price of a stale answer x stale answers.
    pub fn money_cost(&self, stale_price: Money) -> Money {
        self.bill + stale_price.times(i64::try_from(self.stale).unwrap_or(i64::MAX))
    }
    pub(crate) fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.calls += other.calls;
        self.stale += other.stale;
        self.bill += other.bill;
        self.base += other.base;
    }
}

/// What came of a replay, per route in the order of [`Trace::routes`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Per route.
    pub routes: Vec<RouteOutcome>,
}

impl Outcome {
    /// All routes together.
    pub fn total(&self) -> RouteOutcome {
        let mut total = RouteOutcome::default();
        self.routes.iter().for_each(|r| total.add(r));
        total
    }
}

/// What came of one read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Came {
    /// Answered from the cache, with what the origin would have said.
    Hit,
    /// Answered from the cache, with what the origin would no longer have said.
    Stale,
    /// A call was paid for.
    Call,
}

/// Told of every read what came of it.
pub type Count<'a> = dyn FnMut(&Event, Came) + 'a;

/// A copy has just been fetched: how long to keep it. The statistics in the input already hold the fetch.
pub trait Chooser {
    /// The TTL; zero to keep nothing.
    fn ttl(&mut self, event: &Event, input: &TtlInput<'_>) -> Span;

    /// When the copy that a TTL was just chosen for is doubted before that is over.
    fn doubt(&self) -> Doubt {
        Doubt::NEVER
    }
}

impl<F: FnMut(&Event, &TtlInput<'_>) -> Span> Chooser for F {
    fn ttl(&mut self, event: &Event, input: &TtlInput<'_>) -> Span {
        self(event, input)
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Key {
    stats: KeyStats,
    version: u64,
    bytes: u32,
    held: u64,
    fresh_until: Option<Time>,
}

/// The replayed proxy: what is known about keys and routes, and what is cached.
#[derive(Clone, Debug)]
pub struct Engine {
    keys: Vec<Key>,
    routes: Vec<RouteStats>,
    calls: u64,
}

impl Engine {
    /// Nothing known, nothing cached.
    pub fn new(trace: &Trace) -> Self {
        Self { keys: vec![Key::default(); trace.keys()], routes: vec![RouteStats::default(); trace.routes.len()], calls: 0 }
    }

    /// Sets the staleness budget that every route is steered to.
    pub fn set_stale_budget(&mut self, stale_budget: f64) {
        self.routes.iter_mut().for_each(|r| r.set_stale_budget(stale_budget));
    }

    /// Sets the staleness budget that one route is steered to.
    pub fn set_route_budget(&mut self, route: usize, stale_budget: f64) {
        if let Some(route) = self.routes.get_mut(route) {
            route.set_stale_budget(stale_budget);
        }
    }

    /// Empties the cache; what was learned stays.
    pub fn drop_copies(&mut self) {
        self.keys.iter_mut().for_each(|k| k.fresh_until = None);
    }

    /// Statistics of the routes.
    pub fn route_stats(&self) -> &[RouteStats] {
        &self.routes
    }

    /// Replays `events` (a slice of the trace) and counts.
    pub fn run(&mut self, trace: &Trace, events: &[Event], chooser: &mut dyn Chooser) -> Outcome {
        self.run_counted(trace, events, chooser, &mut |_, _| ())
    }

    /// The same; `count` is told of each read what came of it, for sums finer than per route.
    pub fn run_counted(&mut self, trace: &Trace, events: &[Event], chooser: &mut dyn Chooser, count: &mut Count<'_>) -> Outcome {
        let mut outcome = Outcome { routes: vec![RouteOutcome::default(); trace.routes.len()] };
        for event in events {
            match event.kind {
                EventKind::Change => self.change(event),
                EventKind::Read => {
                    if let Some(came) = self.read(trace, event, chooser, &mut outcome) {
                        count(event, came);
                    }
                }
            }
        }
        outcome
    }

    fn change(&mut self, event: &Event) {
        if let Some(key) = self.keys.get_mut(event.key as usize) {
            key.version += 1;
            key.bytes = event.bytes;
        }
    }

    /// `None` for a key or route that the trace does not have.
    fn read(&mut self, trace: &Trace, event: &Event, chooser: &mut dyn Chooser, outcome: &mut Outcome) -> Option<Came> {
        let index = usize::from(event.route);
        let (key, stats) = (self.keys.get_mut(event.key as usize)?, self.routes.get_mut(index)?);
        let (route, count) = (trace.routes.get(index)?, outcome.routes.get_mut(index)?);
        let doubted = stats.on_request_of(&mut key.stats, event.at);
        count.requests += 1;
        count.base += route.price;
        if !doubted && key.fresh_until.is_some_and(|until| event.at < until) {
            let stale = route.nondeterministic || key.version != key.held;
            count.stale += u64::from(stale);
            return Some(if stale { Came::Stale } else { Came::Hit });
        }
        count.calls += 1;
        count.bill += route.price;
        self.calls += 1;
        // A nondeterministic route never gives the same body twice.
        let hash = if route.nondeterministic { self.calls | (1 << 63) } else { key.version };
        stats.on_fetch(&mut key.stats, event.at, hash);
        key.held = key.version;
        let head = HeadFacts { body_bytes: u64::from(key.bytes), ..HeadFacts::default() };
        let ttl = chooser.ttl(event, &TtlInput { key: &key.stats, route: stats, head, now: event.at });
        key.stats.set_doubt(chooser.doubt());
        if ttl.is_zero() {
            key.stats.exempt_from_steering();
        }
        key.fresh_until = (!ttl.is_zero()).then(|| event.at + ttl);
        Some(Came::Call)
    }
}

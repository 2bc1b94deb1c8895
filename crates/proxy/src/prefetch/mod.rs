//! Fetching ahead: requests are learned from off the clients' path, and what is likely to be asked for next is fetched where that has
//! earned a permit (docs/prefetch.md). Decisions are `mind`'s; here is who carries them out.

mod books;
pub mod fetch;
mod mind;
mod queue;
mod reasons;
mod requests;
mod rows;
#[cfg(test)]
mod tests;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use farthing_config::{Config, Route};
use farthing_contract::features::{Capacity, Visit, session_of};
use farthing_freshness::RequestFacts;
use farthing_freshness::semantics::{Judged, Verdict};
use farthing_models::{Alias, Kind};
use farthing_policy::plan::RequestKind;
use farthing_policy::prefetch::{PermitState, PrefetchParams};
use farthing_policy::{Guarded, Plan, TtlSource};
use farthing_types::{Money, Purpose, RealClock, Span, Time, UncachedReason};
use farthing_upstream::BreakerState;
use http::{HeaderMap, Method};
use parking_lot::Mutex;

use crate::flight::Flight;
use crate::identify::Identity;
use crate::lookup::judged_now;
use crate::predictors::champion;
use crate::request::{Variant, owner};
use crate::route::RouteState;
use crate::state::State;
use fetch::Left;
use mind::{Asked, Mind, Offer, Terms, World, thing};

pub use books::{Books, RouteBooks};
pub use queue::{Seen, hand_over, saw, saw_missing};
pub use reasons::{Off, Refused};
pub use requests::{Known, headers_for_another, path as path_of};

/// How long a predictor that was late too often rests.
const REST: Span = Span::from_secs(30);

/// Fetching ahead, of one instance.
pub struct Prefetch {
    /// `None` where no route fetches ahead.
    mind: Option<Mutex<Mind>>,
    queue: queue::Queue,
    books: Books,
    /// Calls ahead under way, of each route's provider.
    running: Vec<Arc<AtomicUsize>>,
    guarded: Guarded,
    explore: f64,
    at_once: usize,
}

/// What is configured about a route, or why it never fetches ahead.
///
/// # Errors
/// The reason.
pub fn params(route: &Route, plan: &Plan) -> Result<PrefetchParams, Off> {
    let switched_off = route.prefetch == farthing_config::Prefetch::Off;
    plan.prefetch(RequestKind::Safe).map_err(|reason| Off::of(reason, switched_off))?;
    let takes_get = route.matcher.methods.is_empty() || route.matcher.methods.contains(&Method::GET);
    if !takes_get {
        return Err(Off::NotCached);
    }
    // By the call alone it is a matter of what a wait is worth: a call ahead costs as much as any other.
    let params = PrefetchParams { latency: route.price_wait, ..PrefetchParams::default() };
    if params.latency > Money::ZERO { Ok(params) } else { Err(Off::NoWorth) }
}

impl Prefetch {
    /// Of these routes; takes no memory where none of them fetches ahead.
    pub fn new(config: &Config, routes: &[Arc<RouteState>], real: &Arc<RealClock>) -> Self {
        let terms: Vec<Option<Terms>> = routes.iter().map(|route| terms(routes, route)).collect();
        let on = terms.iter().any(Option::is_some);
        Self {
            mind: on.then(|| Mutex::new(Mind::new(terms, Capacity::default(), config.prefetch.horizon))),
            queue: queue::Queue::default(),
            books: Books::new(routes.len()),
            running: running(routes),
            guarded: Guarded::new(real.clone(), config.models.deadline, REST),
            explore: config.prefetch.explore,
            at_once: config.prefetch.at_once,
        }
    }

    /// What was fetched ahead, and what became of it.
    pub fn books(&self) -> &Books {
        &self.books
    }

    /// How it stands on each route.
    pub fn report(&self, state: &State) -> Vec<RouteBooks> {
        let live = state.live();
        let states: Vec<PermitState> = match &self.mind {
            Some(mind) => {
                let mind = mind.lock();
                live.routes.iter().map(|route| mind.permits().state(usize::from(route.index))).collect()
            }
            None => vec![PermitState::Shadow; live.routes.len()],
        };
        live.routes.iter().zip(states).map(|(route, permit)| self.books.of(route, permit)).collect()
    }

    /// Requests that could not be learned from, requests that had to make room, and candidates whose outcome could not be awaited.
    pub fn lost(&self) -> [u64; 3] {
        let (evicted, unwatched) = self.mind.as_ref().map_or((0, 0), |mind| {
            let mind = mind.lock();
            (mind.evicted(), mind.unwatched())
        });
        [self.queue.dropped(), evicted, unwatched]
    }

    /// Late answers of the predictor, and whether it is closed out for them.
    pub fn lateness(&self) -> (u64, bool) {
        (self.guarded.late(), self.guarded.breaker_open())
    }

    /// Forgets who asked for what, of everybody: what followed what cannot be told apart by tenants any more.
    pub fn forget(&self) {
        self.queue.clear();
        if let Some(mind) = &self.mind {
            mind.lock().forget();
        }
    }
}

fn terms(routes: &[Arc<RouteState>], of: &Arc<RouteState>) -> Option<Terms> {
    let params = of.ahead.ok().filter(|_| of.index < u16::MAX)?;
    let alike = |other: &Arc<RouteState>| {
        // Routes with prices of their own are judged by their own record.
        let prices = other.route.prices == of.route.prices;
        other.provider.name == of.provider.name && prices && other.ahead == Ok(params)
    };
    let Route { prefetch_confidence: confidence, prefetch_budget: budget, .. } = *of.route;
    let pool = routes.iter().position(alike).unwrap_or_default();
    Some(Terms { params, confidence, budget, pool, life: life(of) })
}

/// How long a copy of the route is usually fresh.
fn life(route: &RouteState) -> Span {
    match route.plan.ttl.source {
        TtlSource::Fixed(ttl) => ttl,
        _ => route.plan.ttl.base,
    }
}

/// One count for each provider, shared by its routes.
fn running(routes: &[Arc<RouteState>]) -> Vec<Arc<AtomicUsize>> {
    let mut counts: Vec<(Arc<str>, Arc<AtomicUsize>)> = Vec::new();
    let of = |route: &Arc<RouteState>| {
        let name = &route.provider.name;
        if let Some((_, count)) = counts.iter().find(|(known, _)| known == name) {
            return count.clone();
        }
        counts.push((name.clone(), Arc::default()));
        counts.last().map(|(_, count)| count.clone()).unwrap_or_default()
    };
    routes.iter().map(of).collect()
}

/// A place among the calls ahead to a provider.
struct Slot(Arc<AtomicUsize>);

impl Slot {
    /// One of `most`, unless all are taken.
    fn take(count: &Arc<AtomicUsize>, most: usize) -> Option<Self> {
        let more = |running: usize| (running < most).then_some(running + 1);
        count.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).is_ok().then(|| Self(count.clone()))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Follows a call ahead to its end, and to the first use of what it brings.
pub fn follow(state: &Arc<State>, flight: &Arc<Flight>) {
    state.prefetch.books.began((flight.id, flight.route.index), flight.at + life(&flight.route));
    let (state, id, route, flying) = (state.clone(), flight.id, flight.route.index, Arc::downgrade(flight));
    flight.on_done(move |done| {
        let kept = flying.upgrade().and_then(|flight| flight.head()).is_some_and(|came| came.kept.is_ok());
        state.prefetch.books.ended((id, route), done.attempts, kept);
    });
}

fn hashed(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

/// Learns from a request, and fetches what pays.
fn consider(state: &Arc<State>, seen: &Seen) {
    let Some(mind) = &state.prefetch.mind else { return };
    let mut mind = mind.lock();
    let account = &seen.account;
    let (route, at) = (&account.route, account.at);
    state.prefetch.books.expire(at);
    let mut told = |note: &mind::Note, used: bool| rows::outcome(state, note, (at, used));
    if mind.settle(at, &mut told) {
        say_changes(state, &mind);
    }
    let asked = asked(state, seen);
    let how = || {
        let path = path_of(route, seen.target.as_ref()?)?;
        Some(Known { key: account.key, route: route.index, owner: asked.owner, path })
    };
    mind.learn(&asked, how, &mut told);
    let offers = offers(state, seen, (&mut mind, &asked));
    state.prefetch.books.candidates(offers.iter().map(|offer| offer.candidate.route));
    let together = offers.iter().filter(|offer| offer.wanted).count() as u32;
    for offer in &offers {
        let fetched = offer.wanted.then(|| fetch_one(state, seen, (&mut mind, offer, together)));
        if let Some(Err(refused)) = fetched {
            state.prefetch.books.refused(offer.candidate.route, refused);
        }
        let able = fetched.map_or_else(|| mind.permits().is_live(usize::from(offer.candidate.route)), |fetched| fetched.is_ok());
        rows::decision(state, seen, offer, (able, fetched.is_some_and(|fetched| fetched.is_ok())));
        mind.watch(offer, at, fetched == Some(Ok(())));
    }
}

fn asked(state: &State, seen: &Seen) -> Asked {
    let account = &seen.account;
    let Identity { tenant, team, service, .. } = &account.identity;
    let visit = Visit {
        at: account.at,
        session: session_of(tenant, team.as_deref(), service.as_deref(), account.tags.as_deref()),
        thing: thing(account.key),
        route: account.route.index,
        params: 0,
        missed: seen.missed,
    };
    let owner = hashed(owner(&account.route, &account.identity));
    Asked { request: account.id, visit, owner, price: price(state, &account.route, account.at) }
}

fn price(state: &State, route: &RouteState, at: Time) -> Option<Money> {
    state.pricing.flat(&route.route.name, &route.provider.name, at)
}

fn offers(state: &State, seen: &Seen, (mind, asked): (&mut Mind, &Asked)) -> Vec<Offer> {
    let at = seen.account.at;
    let generation = state.predictors.store().current(Kind::Prefetch, Alias::Champion);
    let live = state.live();
    let of = |index: u16| live.numbered(index);
    let world = World {
        draw: &state.draw,
        explore: state.prefetch.explore,
        guarded: &state.prefetch.guarded,
        champion: &|index| {
            let champion = champion(generation.as_ref(), 0.0);
            let barred = champion.shipped && !of(index).is_some_and(|route| route.route.trust_shipped);
            (champion, barred)
        },
        owner: &|index| {
            of(index).filter(|other| same_client(&seen.account.route, other)).map(|other| hashed(owner(other, &seen.account.identity)))
        },
        fresh: &|known| of(known.route).is_some_and(|route| is_fresh(state, (route, known), (&seen.headers, at))),
        confidence: &|known| of(known.route).and_then(|route| state.confidence_ahead((route, &seen.account.identity), known, at)),
        price: &|index| of(index).and_then(|route| price(state, route, at)),
    };
    mind.offers(asked, &world, &mut || state.ids.next())
}

/// Whether what identifies a client on one route does so on the other, and is sent to nobody else.
fn same_client(one: &RouteState, other: &RouteState) -> bool {
    one.index == other.index || (one.provider.name == other.provider.name && one.route.credential == other.route.credential)
}

fn is_fresh(state: &State, (route, known): (&RouteState, &Known), (headers, at): (&HeaderMap, Time)) -> bool {
    let heard = (at, route.is_silent(at));
    let Some(entry) = state.cache.peek(known.key, headers) else { return false };
    let plain = RequestFacts::read(&Method::GET, &HeaderMap::new());
    matches!(judged_now(route, &plain, (&entry, &Judged::new(&entry, "", entry.soft_purged())), heard), Verdict::Fresh { .. })
}

/// Fetches what is wanted, where it may be.
fn fetch_one(state: &Arc<State>, seen: &Seen, (mind, offer, together): (&mut Mind, &Offer, u32)) -> Result<(), Refused> {
    let live = state.live();
    let of = live.numbered(offer.candidate.route).zip(state.prefetch.running.get(usize::from(offer.candidate.route)));
    let (route, running) = of.ok_or(Refused::NotCached)?;
    let ready = ready(state, route, offer);
    let slot = Slot::take(running, state.prefetch.at_once);
    // A try is one whatever stands in the way of carrying it out; money is taken only where nothing does.
    mind.spend(offer, together, seen.account.at, ready.is_ok() && slot.is_some())?;
    ready?;
    let slot = slot.ok_or(Refused::Busy)?;
    begin(state, seen, (route, &offer.known), slot)
}

fn ready(state: &State, route: &RouteState, offer: &Offer) -> Result<(), Refused> {
    let upstreams = std::iter::once(&route.pass).chain(&route.swap);
    let closed = upstreams.into_iter().all(|upstream| upstream.health().state() == BreakerState::Closed);
    let no = [
        (offer.price.is_none(), Refused::Unpriced),
        (!closed, Refused::Breaker),
        (!route.pace.is_calm(), Refused::Busy),
        (!state.prefetch.books.has_room(), Refused::Full),
    ];
    no.into_iter().find(|(no, _)| *no).map_or(Ok(()), |(_, refused)| Err(refused))
}

/// Makes the call, as the client who asked: with its credential where that passes through, for as long as the call takes.
fn begin(state: &Arc<State>, seen: &Seen, (route, known): (&Arc<RouteState>, &Known), slot: Slot) -> Result<(), Refused> {
    let headers = headers_for_another(&seen.headers);
    let mut planned = fetch::plan(state, (route, &seen.account.identity), &known.path, headers).map_err(|_| Refused::NotCached)?;
    if planned.account.holdout {
        return Err(Refused::Holdout);
    }
    // The key says for whom and for what: whatever differs is another request.
    if planned.account.key != known.key {
        return Err(Refused::Principal);
    }
    // What was seen is of another key: whether this one may be fetched ahead is for its own variant to say.
    if planned.account.variant.as_ref().and_then(Variant::plan).is_some_and(|plan| plan.prefetch(RequestKind::Safe).is_err()) {
        return Err(Refused::Variant);
    }
    let mut wanted = fetch::look(state, &planned)?;
    let ticket = fetch::join(state, &planned, &wanted)?;
    let asks = fetch::asks_others(state, &planned, &wanted);
    if !asks && state.budgets.is_empty() {
        let flight = fetch::call_at_once(state, &mut planned, &wanted, (ticket, Purpose::Prefetch))?;
        flight.on_done(move |_| drop(slot));
        return Ok(());
    }
    // L2 or other instances have to be asked, or what is set aside has to be written down.
    let state = state.clone();
    state.tasks.clone().spawn(async move {
        let ticket = if asks { fetch::ask_others(&state, &mut planned, &mut wanted, ticket).await } else { Ok(ticket) };
        let called = match ticket {
            Ok(ticket) => fetch::call(&state, &mut planned, &wanted, (ticket, Purpose::Prefetch)).await,
            Err(left) => Err(left),
        };
        match called {
            Ok(flight) => flight.on_done(move |_| drop(slot)),
            Err(left) => state.prefetch.books.refused(planned.account.route.index, left.into()),
        }
    });
    Ok(())
}

impl From<Left> for Refused {
    fn from(left: Left) -> Self {
        match left {
            Left::Fresh => Self::Fresh,
            Left::UnderWay => Self::UnderWay,
            Left::NotKept(_) => Self::NotCached,
            Left::HeldBack(UncachedReason::OverLimit) => Self::Limit,
            Left::HeldBack(_) => Self::Budget,
        }
    }
}

/// Tells of routes that began to fetch ahead, or lost the permit to.
fn say_changes(state: &State, mind: &Mind) {
    for route in state.live().routes.iter().filter(|route| route.ahead.is_ok()) {
        let now = mind.permits().state(usize::from(route.index));
        if state.prefetch.books.changed(route.index, now) {
            let permit = match now {
                PermitState::Live => "live",
                PermitState::Shadow => "shadow",
                PermitState::Off => "off: it lost money",
            };
            tracing::info!(route = %route.route.name, permit, "fetching ahead");
        }
    }
}

//! Answers from the cache that are checked at the origin, so that it is known how many are stale (SPEC M5, "Staleness audit"). A hit pays one load and one
//! comparison for it; what is drawn is looked at in a task of its own, as a call of purpose `audit` with a budget of its own. Its answer
//! renews the entry: what was paid for is not thrown away. Where more answers of a route are stale than it allows, for sure, its chosen TTLs
//! are cut, at lookup, so that stored answers obey at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use farthing_config::Config;
use farthing_policy::watch::{Audit, AuditMove};
use farthing_types::{KeyHash, Money, Purpose, RouteName, Time, UncachedReason, reasons};
use http::{HeaderMap, Uri};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::files;
use crate::flight::Flight;
use crate::identify::Identity;
use crate::prefetch::{fetch, headers_for_another};
use crate::request::Planned;
use crate::route::RouteState;
use crate::settle::CallEnd;
use crate::shortcut::Told;
use crate::state::State;
use crate::ticketed::Wanted;

const FILE: &str = "audits.json";
/// Audits under way at a time.
const AT_ONCE: usize = 4;
const DAY_NS: i64 = 86_400 * 1_000_000_000;

reasons! {
    /// Why an answer that was drawn is not checked.
    Skipped {
        /// The day's money is spent.
        Money = "money",
        /// The price of a call is not known beforehand.
        Unpriced = "unpriced",
        /// Enough are under way.
        Busy = "busy",
        /// Another call for it is under way, or has just replaced it.
        UnderWay = "under-way",
        /// It cannot be asked for again as it was.
        Request = "request",
        /// A limit or a budget has no room.
        HeldBack = "held-back",
        /// The call brought nothing to compare with.
        Failed = "failed",
    }
}

/// What the audits of the instance have in common.
pub struct Audits {
    path: Option<std::path::PathBuf>,
    per_day: Money,
    purse: Mutex<Purse>,
    under_way: AtomicUsize,
    skipped: [AtomicU64; Skipped::ALL.len()],
}

#[derive(Default)]
struct Purse {
    day: i64,
    spent: Money,
}

/// What is kept over a restart.
#[derive(Default, Serialize, Deserialize)]
struct Kept {
    day: i64,
    spent_nanousd: i64,
    routes: Vec<KeptRoute>,
}

#[derive(Serialize, Deserialize)]
struct KeptRoute {
    route: String,
    scale: f64,
    window: (u64, u64),
    total: (u64, u64),
}

/// The audits of one route, for status pages and metrics.
#[derive(Clone, Debug)]
pub struct RouteAudit {
    /// The route.
    pub route: RouteName,
    /// What was seen, and what TTLs are multiplied by.
    pub audit: Audit,
}

impl Audits {
    /// As configured; nothing is spent yet.
    pub fn new(config: &Config) -> Self {
        Self {
            path: files::of_instance(config, FILE),
            per_day: config.audit.per_day,
            purse: Mutex::default(),
            under_way: AtomicUsize::new(0),
            skipped: Default::default(),
        }
    }

    fn skip(&self, why: Skipped) {
        self.skipped[why as usize].fetch_add(1, Relaxed);
    }

    /// How many drawn answers were not checked, and why.
    pub fn skipped(&self) -> impl Iterator<Item = (Skipped, u64)> + '_ {
        Skipped::ALL.iter().map(|why| (*why, self.skipped[*why as usize].load(Relaxed)))
    }

    /// Spent today, UTC.
    pub fn spent(&self, now: Time) -> Money {
        let purse = self.purse.lock();
        if purse.day == day(now) { purse.spent } else { Money::ZERO }
    }

    /// Sets the price of a call aside; false where that is too much for the day.
    fn take(&self, price: Money, now: Time) -> bool {
        let mut purse = self.purse.lock();
        if purse.day != day(now) {
            *purse = Purse { day: day(now), spent: Money::ZERO };
        }
        let room = purse.spent + price <= self.per_day;
        if room {
            purse.spent += price;
        }
        room
    }

    /// Corrects what was set aside by what was paid.
    fn settle(&self, (aside, paid): (Money, Money)) {
        let mut purse = self.purse.lock();
        purse.spent = Money::from_nanos((purse.spent.nanos() - aside.nanos() + paid.nanos()).max(0));
    }
}

fn day(now: Time) -> i64 {
    now.nanos().div_euclid(DAY_NS)
}

/// One audit under way.
struct Place(Arc<State>);

impl Place {
    fn take(state: &Arc<State>) -> Option<Self> {
        let free = |running: usize| (running < AT_ONCE).then_some(running + 1);
        state.audits.under_way.fetch_update(Relaxed, Relaxed, free).ok()?;
        Some(Self(state.clone()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.audits.under_way.fetch_sub(1, Relaxed);
    }
}

/// Share of a route's answers that are checked: none where nothing is cached, or calls that nobody asked for are forbidden.
pub fn share(config: &Config, route: &RouteState) -> f64 {
    let may = route.route.audit && route.route.cache && route.provider.terms.prefetch && route.provider.terms.storable;
    if may { config.audit.share } else { 0.0 }
}

/// Checks an answer that a request got from the cache, where its id is drawn.
pub fn look(state: &Arc<State>, planned: &Planned) {
    let account = &planned.account;
    if account.route.switches.audits(account.id) && account.method == http::Method::GET {
        order(state, (&account.route, &account.identity), account.key, (&planned.outbound.target, &planned.headers));
    }
}

/// The same for one that was known by its head.
pub fn look_again(state: &Arc<State>, told: &Told<'_>) {
    if told.route.switches.audits(told.id)
        && let Some(target) = told.target
    {
        order(state, (told.route, told.identity), told.key, (target, told.headers));
    }
}

fn order(state: &Arc<State>, (route, identity): (&Arc<RouteState>, &Identity), key: KeyHash, (target, headers): (&Uri, &HeaderMap)) {
    let audits = &state.audits;
    let Some(price) = state.pricing.flat(&route.route.name, &route.provider.name, state.clock.now()) else {
        return audits.skip(Skipped::Unpriced);
    };
    let Some(place) = Place::take(state) else { return audits.skip(Skipped::Busy) };
    if !audits.take(price, state.clock.now()) {
        return audits.skip(Skipped::Money);
    }
    let below = target.path_and_query().map_or("/", |path| path.as_str());
    let path = format!("{}/{}", route.route.strip_prefix.trim_end_matches('/'), below.trim_start_matches('/'));
    let asked = Asked { route: route.clone(), identity: identity.clone(), key, path, headers: headers_for_another(headers) };
    let state = state.clone();
    state.tasks.clone().spawn(async move {
        let _place = place;
        if let Err(why) = asked.check(&state).await {
            state.audits.settle((price, Money::ZERO));
            state.audits.skip(why);
        }
    });
}

/// What is asked once more.
struct Asked {
    route: Arc<RouteState>,
    identity: Identity,
    key: KeyHash,
    path: String,
    headers: HeaderMap,
}

impl Asked {
    async fn check(self, state: &Arc<State>) -> Result<(), Skipped> {
        let mut planned =
            fetch::plan(state, (&self.route, &self.identity), &self.path, self.headers).map_err(|_: UncachedReason| Skipped::Request)?;
        // The key says for whom and for what: whatever differs is another request.
        if planned.account.key != self.key || planned.cache.is_err() {
            return Err(Skipped::Request);
        }
        let entry = state.cache.peek(self.key, &planned.headers).ok_or(Skipped::UnderWay)?;
        let mut wanted = Wanted { previous: Some(entry), stale: None, reason: UncachedReason::Expired };
        let ticket = fetch::join(state, &planned, &wanted).map_err(|_| Skipped::UnderWay)?;
        // A validator may say less than the body does; it is asked only where that is cheaper.
        if !confirms_cheaply(&self.route) {
            wanted.previous = None;
        }
        let flight = fetch::call(state, &mut planned, &wanted, (ticket, Purpose::Audit)).await.map_err(|_| Skipped::HeldBack)?;
        let (tell, told) = tokio::sync::oneshot::channel();
        flight.on_done(move |_| _ = tell.send(()));
        // Its place is taken until it has ended.
        let _ = told.await;
        Ok(())
    }
}

/// Whether an answer 304 costs less than a whole one.
fn confirms_cheaply(route: &RouteState) -> bool {
    let prices = route.route.prices.as_ref().or(route.provider.prices.as_ref());
    prices.is_some_and(|prices| prices.not_modified.is_some())
}

impl State {
    /// Learns what the call of an audit brought: whether what the cache had just answered was stale.
    pub(crate) fn audited(&self, flight: &Flight, end: &CallEnd, paid: Option<Money>) {
        let route = &flight.route;
        if let Some(aside) = self.pricing.flat(&route.route.name, &route.provider.name, flight.at) {
            self.audits.settle((aside, paid.unwrap_or(aside)));
        }
        let Some(seen) = end.observed.filter(|_| end.failure.is_none()) else { return self.audits.skip(Skipped::Failed) };
        self.note_audit(route, flight.key, seen.changed);
        let limits = (route.route.stale_budget, self.may_act());
        let Some((moved, scale, seen)) = self.lifecycle.audited(route, seen.changed, limits) else { return };
        route.switches.put_scale(scale);
        let (name, (checked, stale)) = (&*route.route.name, seen);
        match moved {
            AuditMove::Tightened => {
                tracing::warn!(route = name, checked, stale, scale, "more answers are stale than allowed: TTLs are cut");
            }
            AuditMove::Relaxed => tracing::info!(route = name, checked, stale, scale, "answers are fresh enough: TTLs get a step back"),
        }
    }

    /// The audits of each route of which anything is known.
    pub fn route_audits(&self) -> Vec<RouteAudit> {
        let of = |route: &Arc<RouteState>| {
            let audit = self.lifecycle.audit(route);
            (audit.total.0 > 0).then(|| RouteAudit { route: route.route.name.clone(), audit })
        };
        self.live().routes.iter().filter_map(of).collect()
    }

    /// Takes over what audits have found in the run before. Blocks on a small file; one that cannot be read is as none.
    pub fn recall_audits(&self) {
        let read = self.audits.path.as_deref().and_then(|path| files::read(path).ok().flatten());
        let Some(kept) = read.and_then(|text| serde_json::from_slice::<Kept>(&text).ok()) else { return };
        *self.audits.purse.lock() = Purse { day: kept.day, spent: Money::from_nanos(kept.spent_nanousd) };
        let config = self.config();
        for KeptRoute { route, scale, window, total } in kept.routes {
            let found = self.route_named(&route);
            // Only audits give cut TTLs back: where there are none any more, nothing is cut.
            let audited = |found: &Arc<RouteState>| share(&config, found) > 0.0;
            if let Some(found) = found.filter(audited).filter(|_| scale.is_finite() && scale > 0.0 && scale <= 1.0) {
                self.lifecycle.recall_audit(&found, Audit { scale, window, total });
                found.switches.put_scale(scale);
            }
        }
    }

    /// Writes down what audits have found. Blocks on a small file.
    pub fn keep_audits(&self) {
        let Some(path) = self.audits.path.as_deref().filter(|_| self.live().config.audit.share > 0.0) else { return };
        let routes = self.route_audits();
        let route = |of: &RouteAudit| KeptRoute {
            route: of.route.to_string(),
            scale: of.audit.scale,
            window: of.audit.window,
            total: of.audit.total,
        };
        let (day, spent_nanousd) = {
            let purse = self.audits.purse.lock();
            (purse.day, purse.spent.nanos())
        };
        let kept = Kept { day, spent_nanousd, routes: routes.iter().map(route).collect() };
        if let Err(error) = files::write_json(path, &kept) {
            tracing::warn!(%error, "what audits have found is not kept: a restart forgets it");
        }
    }
}

//! Warming: answers fetched because an operator ordered it, within a limit of money. Runs the stages of a request without a client; a key
//! that is fresh, or that somebody fetches already, is left alone.

use std::sync::Arc;

use farthing_config::{CredentialMode, CredentialPlace, Provider, is_reserved_tenant};
use farthing_types::{CallReport, Money, Purpose, Span, Tenant, UncachedReason};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use http::{HeaderMap, Method};
use tokio::time::Instant;

use crate::flight::{Done, Flight};
use crate::identify::Identity;
use crate::prefetch::fetch::{self, Left};
use crate::request::Planned;
use crate::route::RouteState;
use crate::state::State;
use crate::ticketed::Wanted;

/// Calls of one order under way at a time.
const AT_ONCE: usize = 8;

/// What to warm.
#[derive(Clone, Debug)]
pub struct WarmOrder {
    /// The route.
    pub route: String,
    /// Paths as clients ask for them, or URLs or paths of the provider; in order.
    pub targets: Vec<String>,
    /// Whose copies, where the route is private.
    pub tenant: Option<String>,
    /// Headers as clients send them, for answers that vary.
    pub headers: HeaderMap,
    /// Most that may be spent; `None`: no limit.
    pub limit: Option<Money>,
    /// Most calls per second; `None`: no limit but the provider's.
    pub rate: Option<f64>,
    /// Fetch although the price of a call is not known beforehand.
    pub unpriced_ok: bool,
    /// Look only.
    pub dry_run: bool,
    /// No call begins after so long, and none is waited for until twice as long.
    pub within: Span,
}

/// What became of a target.
#[derive(Clone, Debug, PartialEq)]
pub struct Warmed {
    /// The target as ordered.
    pub target: String,
    /// What became of it.
    pub outcome: WarmOutcome,
    /// What the call cost, with what its attempts may have cost that got no answer; `None` without a call, or unpriced.
    pub cost: Option<Money>,
    /// How often the key is asked for, per second; 0 when nothing is known.
    pub rate: f64,
}

/// What became of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WarmOutcome {
    /// Fetched and kept.
    Fetched,
    /// Would be fetched.
    Wanted,
    /// There is a fresh copy, in memory or in L2.
    Fresh,
    /// Somebody fetches it already.
    UnderWay,
    /// Fetched and not kept, or not to be cached at all.
    NotKept(UncachedReason),
    /// The provider failed.
    Failed,
    /// The call had not ended; it goes on. Its price is counted as spent.
    Unfinished,
}

impl WarmOutcome {
    /// The stable string.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fetched => "fetched",
            Self::Wanted => "wanted",
            Self::Fresh => "fresh",
            Self::UnderWay => "under-way",
            Self::NotKept(reason) => reason.as_str(),
            Self::Failed => "failed",
            Self::Unfinished => "unfinished",
        }
    }
}

/// What an order did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WarmReport {
    /// What became of the targets that were come to: the first ones of the order.
    pub warmed: Vec<Warmed>,
    /// Spent, with all that calls may have cost that had not ended, and attempts that got no answer.
    pub spent: Money,
    /// The most that a call can cost, with all attempts at all providers of the route; `None` when unknown.
    pub price: Option<Money>,
    /// The next call could have gone beyond the limit.
    pub limit_reached: bool,
}

/// Why an order is refused as a whole; the text says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WarmRefused {
    /// There is no such route.
    #[error("no route is called `{0}`")]
    NoRoute(String),
    /// It cannot be done as ordered.
    #[error("{0}")]
    Order(String),
}

/// Warms what is ordered, in order, until the limit or the time is reached.
///
/// # Errors
/// See [`WarmRefused`]; nothing was fetched then.
pub async fn warm(state: &Arc<State>, order: WarmOrder) -> Result<WarmReport, WarmRefused> {
    let found = state.route_named(&order.route);
    let route = found.ok_or_else(|| WarmRefused::NoRoute(order.route.clone()))?;
    let refused = |text: String| Err(WarmRefused::Order(text));
    let name = &route.route.name;
    // Each of them may be asked.
    let config = state.config();
    let forbids = |provider: &&Arc<Provider>| !provider.terms.prefetch && route.route.providers().any(|name| *name == provider.name);
    if let Some(provider) = config.providers.iter().find(forbids) {
        return refused(format!("the terms of provider `{}` forbid to fetch ahead (prefetch = false)", provider.name));
    }
    let methods = &route.route.matcher.methods;
    if !methods.is_empty() && !methods.contains(&Method::GET) {
        return refused(format!("route `{name}` takes no GET, and only GET is warmed"));
    }
    if order.rate.is_some_and(|rate| !(rate.is_finite() && rate > 0.0)) {
        return refused("the rate must be more than 0 calls per second".to_owned());
    }
    let price = most(state, &route);
    if price.is_none() && (order.limit.is_some() || !order.unpriced_ok) && !order.dry_run {
        return refused(format!(
            "the price of a call on route `{name}` is not known beforehand, so no limit can hold: set a price per call, or order it \
             unpriced and without a limit"
        ));
    }
    let identity = identity(state, &route, order.tenant.as_deref())?;
    Ok(Warming { state: state.clone(), route, identity, order, price }.run().await)
}

/// The most that a call of a route can cost: each of its providers may be asked in each round, and who does not answer may bill.
fn most(state: &State, route: &RouteState) -> Option<Money> {
    let (book, now) = (state.pricing.book(), state.clock.now());
    let round: Option<Money> = route.route.providers().map(|provider| book.flat(&route.route.name, provider, now)).sum();
    round.map(|round| round.times(i64::from(route.provider.upstream.attempts.max(1))))
}

/// Whose copies are warmed.
pub(crate) fn identity(state: &State, route: &RouteState, tenant: Option<&str>) -> Result<Identity, WarmRefused> {
    let (name, provider) = (&route.route.name, &route.provider);
    let swap = route.route.credential == CredentialMode::Swap;
    let needs_one = provider.credential_place != CredentialPlace::None;
    if needs_one && !(swap && provider.credential.is_some()) {
        return Err(WarmRefused::Order(format!(
            "route `{name}` passes the clients' own credentials, and there is none to warm with: set credential = \"swap\" and the \
             provider's credential"
        )));
    }
    let live = state.live();
    let mut tenants: Vec<&Tenant> = live.config.keys.iter().map(|key| &key.tenant).collect();
    tenants.sort();
    tenants.dedup();
    // Which tenants tokens name is not known beforehand.
    let by_token = |name: &str| (!live.clients.tokens.is_empty() && !is_reserved_tenant(name)).then(|| name.into());
    let listed = |name: &str| tenants.iter().find(|tenant| ****tenant == *name).map(|tenant| (**tenant).clone());
    let known = |name: &str| listed(name).or_else(|| by_token(name));
    let private = swap && !route.route.shared && !live.clients.is_empty();
    let tenant = match tenant {
        Some(named) => known(named),
        None if private => None,
        None => Some("anonymous".into()),
    };
    let list = || tenants.iter().map(|tenant| &***tenant).collect::<Vec<_>>().join(", ");
    let tenant = tenant.ok_or_else(|| {
        WarmRefused::Order(format!("route `{name}`: name the tenant whose copies to warm; those with keys are: {}", list()))
    })?;
    Ok(Identity::plain(tenant.clone(), tenant, swap))
}

/// An order being carried out.
struct Warming {
    state: Arc<State>,
    route: Arc<RouteState>,
    identity: Identity,
    order: WarmOrder,
    price: Option<Money>,
}

impl Warming {
    async fn run(self) -> WarmReport {
        let (began, targets) = (Instant::now(), self.order.targets.clone());
        let mut report = WarmReport { price: self.price, ..WarmReport::default() };
        let mut running = FuturesUnordered::new();
        let mut outcomes: Vec<Option<Warmed>> = Vec::new();
        let pause = self.order.rate.and_then(|rate| Span::try_from_secs_f64(1.0 / rate).ok()).unwrap_or_default();
        let (mut next, mut index) = (began, 0);
        while index < targets.len() && began.elapsed() < self.order.within {
            let reserved = self.price.unwrap_or_default().times(running.len() as i64 + 1);
            let over = self.order.limit.is_some_and(|limit| report.spent.nanos().saturating_add(reserved.nanos()) > limit.nanos());
            if running.len() >= AT_ONCE || (over && !running.is_empty()) {
                self.take(running.next().await, (&mut report, &mut outcomes));
                continue;
            }
            let step = self.begin(&targets[index], over).await;
            match step {
                Begun::Told(warmed) => outcomes.push(Some(warmed)),
                Begun::Over => {
                    report.limit_reached = true;
                    break;
                }
                Begun::Called(warmed, flight) => {
                    tokio::time::sleep_until(next).await;
                    next = next.max(Instant::now()) + pause;
                    outcomes.push(None);
                    let until = began + self.order.within.saturating_mul(2);
                    running.push(ended(&self.state, (outcomes.len() - 1, warmed), flight, until));
                }
            }
            index += 1;
        }
        while let Some(end) = running.next().await {
            self.take(Some(end), (&mut report, &mut outcomes));
        }
        report.warmed = outcomes.into_iter().flatten().collect();
        report
    }

    fn take(&self, end: Option<(usize, Warmed)>, (report, outcomes): (&mut WarmReport, &mut Vec<Option<Warmed>>)) {
        let Some((at, mut warmed)) = end else { return };
        // Where that is not known, it may be all of it.
        warmed.cost = warmed.cost.or(self.price);
        report.spent += warmed.cost.unwrap_or_default();
        if let Some(slot) = outcomes.get_mut(at) {
            *slot = Some(warmed);
        }
    }

    /// Looks at a target, and begins its call unless that would be too much.
    async fn begin(&self, target: &str, over: bool) -> Begun {
        let mut warmed = Warmed { target: target.to_owned(), outcome: WarmOutcome::Fresh, cost: None, rate: 0.0 };
        let headers = self.order.headers.clone();
        let mut planned = match fetch::plan(&self.state, (&self.route, &self.identity), &self.path(target), headers) {
            Ok(planned) => planned,
            Err(reason) => return Begun::Told(Warmed { outcome: WarmOutcome::NotKept(reason), ..warmed }),
        };
        warmed.rate = self.state.cache.key_stats(planned.account.key).map_or(0.0, |stats| stats.rate(planned.account.at, 1e-9));
        let wanted = match fetch::look(&self.state, &planned) {
            Ok(wanted) => wanted,
            Err(left) => return Begun::Told(Warmed { outcome: left.into(), ..warmed }),
        };
        if self.order.dry_run {
            return Begun::Told(Warmed { outcome: WarmOutcome::Wanted, ..warmed });
        }
        if over {
            return Begun::Over;
        }
        match self.call(&mut planned, wanted).await {
            Ok(flight) => Begun::Called(warmed, flight),
            Err(left) => Begun::Told(Warmed { outcome: left.into(), ..warmed }),
        }
    }

    /// The path for which clients ask the proxy.
    fn path(&self, target: &str) -> String {
        let base = self.route.provider.base_url.to_string();
        let target = target.strip_prefix(base.trim_end_matches('/')).unwrap_or(target);
        let prefix = self.route.route.strip_prefix.trim_end_matches('/');
        let below = target.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?']));
        if below { target.to_owned() } else { format!("{prefix}/{}", target.trim_start_matches('/')) }
    }

    /// Leads the call that fills the key, unless there is one or L2 has it.
    async fn call(&self, planned: &mut Planned, mut wanted: Wanted) -> Result<Arc<Flight>, Left> {
        let mut ticket = fetch::join(&self.state, planned, &wanted)?;
        if fetch::asks_others(&self.state, planned, &wanted) {
            ticket = fetch::ask_others(&self.state, planned, &mut wanted, ticket).await?;
        }
        fetch::call(&self.state, planned, &wanted, (ticket, Purpose::Warm)).await
    }
}

impl From<Left> for WarmOutcome {
    fn from(left: Left) -> Self {
        match left {
            Left::Fresh => Self::Fresh,
            Left::UnderWay => Self::UnderWay,
            Left::NotKept(reason) => Self::NotKept(reason),
            Left::HeldBack(reason) => Self::NotKept(reason),
        }
    }
}

/// What a target begins with.
enum Begun {
    Told(Warmed),
    Over,
    Called(Warmed, Arc<Flight>),
}

/// Waits for a call's end, and says what came of it.
async fn ended(state: &State, (at, warmed): (usize, Warmed), flight: Arc<Flight>, until: Instant) -> (usize, Warmed) {
    let (tell, told) = tokio::sync::oneshot::channel();
    flight.on_done(move |done| {
        // Who does not wait any more does not hear it.
        let _ = tell.send(done.clone());
    });
    let done = tokio::time::timeout_at(until, told).await;
    let came = flight.head();
    let (outcome, cost) = match done {
        Err(_) => (WarmOutcome::Unfinished, None),
        Ok(Err(_)) => (WarmOutcome::Failed, None),
        Ok(Ok(done)) => {
            let outcome = came.map_or(WarmOutcome::Failed, |came| came.kept.map_or_else(WarmOutcome::NotKept, |()| WarmOutcome::Fetched));
            (outcome, may_have_cost(state, &flight, &done))
        }
    };
    (at, Warmed { outcome, cost, ..warmed })
}

/// What a call cost, and what those of its attempts may have cost beyond that got no answer.
fn may_have_cost(state: &State, flight: &Flight, done: &Done) -> Option<Money> {
    let book = state.pricing.book();
    let price = |report: &CallReport| book.flat(&flight.route.route.name, flight.provider(report), flight.at);
    let untold: Option<Money> = flight.reports().iter().filter(|report| report.sent && report.status.is_none()).map(price).sum();
    Some(done.attempts? + untold?)
}

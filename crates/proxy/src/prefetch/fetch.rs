//! Calls without a client: the stages of a request for a target that nobody waits for. Warming and fetching ahead make theirs here.

use std::sync::Arc;

use farthing_cache::{Join, Joined, Ticket};
use farthing_freshness::semantics::acceptable;
use farthing_types::{Body, Purpose, RequestId, UncachedReason};
use http::{HeaderMap, Method, Request};

use crate::admission::{self, HeldBack};
use crate::budgets::Held;
use crate::fills::{self, Unhurried};
use crate::flight::Flight;
use crate::identify::Identity;
use crate::lookup::{Found, judge};
use crate::request::{Asked, Identified, Planned, Received, Upload};
use crate::route::RouteState;
use crate::state::State;
use crate::switches::Laps;
use crate::ticketed::{Wanted, admission, lead};

/// Why a target is left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// There is a fresh copy.
    Fresh,
    /// Somebody fetches it already.
    UnderWay,
    /// Its answer is not to be kept.
    NotKept(UncachedReason),
    /// A limit or a budget has no room.
    HeldBack(UncachedReason),
}

/// The stages of a request up to the plan, for a GET of `path` as clients ask for it.
///
/// # Errors
/// What is no request that a route could plan.
pub fn plan(
    state: &State,
    (route, identity): (&Arc<RouteState>, &Identity),
    path: &str,
    headers: HeaderMap,
) -> Result<Planned, UncachedReason> {
    let request = Request::builder().method(Method::GET).uri(path).body(()).map_err(|_| UncachedReason::PassThrough)?;
    let (mut head, ()) = request.into_parts();
    head.headers = headers;
    let (at, started) = (state.clock.now(), state.real_now());
    let received = Received {
        id: RequestId(state.ids.next()),
        at,
        started,
        route: route.clone(),
        head,
        body: Body::empty(),
        tunnel: false,
        laps: Laps::default(),
        early: None,
    };
    match (Identified { received, identity: identity.clone() }).ask().map(Asked::upload) {
        Ok(Upload::None(asked)) => Ok(asked.plan(state)),
        _ => Err(UncachedReason::PassThrough),
    }
}

/// What is there, without counting as a request.
///
/// # Errors
/// Why no call is wanted.
pub fn look(state: &State, planned: &Planned) -> Result<Wanted, Left> {
    planned.cache.map_err(Left::NotKept)?;
    let entry = state.cache.peek(planned.account.key, &planned.headers);
    match entry.filter(|entry| acceptable(entry, &planned.headers)).map(|entry| judge(planned, entry)) {
        None => Ok(Wanted { previous: None, stale: None, reason: UncachedReason::Cold }),
        Some(Found::Usable(usable)) if usable.left.is_ok() => Err(Left::Fresh),
        Some(Found::Usable(usable)) => Ok(Wanted { previous: Some(usable.entry), stale: None, reason: UncachedReason::Expired }),
        Some(Found::Call { previous, stale, reason }) => Ok(Wanted { previous, stale, reason }),
        Some(Found::Bypass(reason)) => Err(Left::NotKept(reason)),
    }
}

/// The right to fill the key, unless somebody has it.
///
/// # Errors
/// Who or what has it.
pub fn join(state: &State, planned: &Planned, wanted: &Wanted) -> Result<Ticket, Left> {
    let subject = planned.subject();
    let join = Join { subject: &subject, headers: &planned.headers, seen: wanted.previous.as_ref(), now: state.clock.now() };
    match state.cache.join(join) {
        Joined::Lead(ticket) => Ok(ticket),
        Joined::Follow(_) | Joined::Stored(_) | Joined::Refused(_) => Err(Left::UnderWay),
        Joined::Alone(reason) => Err(Left::NotKept(reason)),
    }
}

/// Whether L2 or other instances are to be asked before the call.
pub fn asks_others(state: &State, planned: &Planned, wanted: &Wanted) -> bool {
    fills::asks(state, planned, wanted)
}

/// Asks them; the ticket, where the call is still wanted.
///
/// # Errors
/// L2 has a fresh copy, or somebody fetches it meanwhile.
pub async fn ask_others(state: &State, planned: &mut Planned, wanted: &mut Wanted, ticket: Ticket) -> Result<Ticket, Left> {
    match fills::claim_at_once(state, planned, wanted, ticket).await {
        Unhurried::Call(ticket) => Ok(ticket),
        Unhurried::UnderWay => Err(Left::UnderWay),
        Unhurried::Entry(entry) => {
            wanted.previous = Some(entry);
            *wanted = look(state, planned)?;
            join(state, planned, wanted)
        }
    }
}

/// Makes the call, where its limits and budgets have room for it at once.
///
/// # Errors
/// One of them has none.
pub fn call_at_once(
    state: &Arc<State>,
    planned: &mut Planned,
    wanted: &Wanted,
    (ticket, purpose): (Ticket, Purpose),
) -> Result<Arc<Flight>, Left> {
    let held = admission::at_once(state, &planned.account, admission(state, planned, wanted)).map_err(Left::HeldBack)?;
    Ok(lead(state, planned, wanted, (ticket, purpose, held)))
}

/// Makes the call; waits for its turn, and for what its budgets must write down first, not for room.
///
/// # Errors
/// A limit or a budget has no room.
pub async fn call(
    state: &Arc<State>,
    planned: &mut Planned,
    wanted: &Wanted,
    (ticket, purpose): (Ticket, Purpose),
) -> Result<Arc<Flight>, Left> {
    let held = held(state, planned, wanted).await?;
    Ok(lead(state, planned, wanted, (ticket, purpose, held)))
}

fn held<'a>(state: &'a State, planned: &'a Planned, wanted: &Wanted) -> impl Future<Output = Result<Held, Left>> + Send + use<'a> {
    let (admission, account) = (admission(state, planned, wanted).in_background(), &planned.account);
    async move { admission::admit(state, account, &admission, None).await.map_err(|held_back: HeldBack| Left::HeldBack((&held_back).into())) }
}

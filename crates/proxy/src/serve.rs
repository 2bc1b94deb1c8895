//! One request, from top to bottom.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use farthing_freshness::semantics::cache_status::CacheStatus;
use farthing_ledger::Paid;
use farthing_types::{Body, Money, Outcome, RequestId, Span, UncachedReason};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::{Request, Response, StatusCode};

use crate::answer::{self, Notes};
use crate::edge::{Handler, PeerInfo};
use crate::lookup::{Found, look_up};
use crate::passing::bypass;
use crate::problem::{Dialect, Problem};
use crate::reply::{from_entry, own_answer, settled};
use crate::request::{Planned, receive};
use crate::settle::{Account, Settled};
use crate::state::State;
use crate::ticketed::{Wanted, joined, refresh};

/// Logged where a client left before its answer began; nothing was sent.
const CLIENT_LEFT: u16 = 499;

/// The data port's handler.
pub struct Service {
    /// What all requests share.
    pub state: Arc<State>,
}

impl Handler for Service {
    fn handle(self: Arc<Self>, request: Request<Body>, _peer: PeerInfo) -> BoxFuture<'static, Response<Body>> {
        serve(self.state.clone(), request).boxed()
    }
}

/// Answers a request.
pub async fn serve(state: Arc<State>, request: Request<Body>) -> Response<Body> {
    let received = match receive(&state, request) {
        Ok(received) => received,
        Err(refused) => {
            state.counters.unrouted.fetch_add(1, Ordering::Relaxed);
            return unrouted(&refused.0, refused.1);
        }
    };
    let planned = match received.identify(&state) {
        Ok(identified) => identified.plan(&state).await,
        Err(refused) => Err(refused),
    };
    let mut planned = match planned {
        Ok(planned) => planned,
        Err(early) => {
            state.settle_request(&early.account, &refusal(&early.problem));
            return refused(&early.problem, early.account.route.dialect, early.account.id);
        }
    };
    let mut response = match look_up(&state, &planned) {
        Found::Usable(usable) => {
            if usable.left.is_err() {
                refresh(&state, &mut planned, &usable.entry);
            }
            from_entry(&state, &planned, &usable, None)
        }
        Found::Call { .. } if planned.facts.only_if_cached => {
            let problem =
                Problem::new(StatusCode::GATEWAY_TIMEOUT, "only-if-cached", "nothing usable is stored, and the request allows no call");
            own_answer(&state, &planned, &problem, Outcome::Refused)
        }
        // Boxed: a hit must not pay for the room that waiting takes.
        Found::Call { previous, stale, reason } => Box::pin(called(&state, &mut planned, Ok(Wanted { previous, stale, reason }))).await,
        Found::Bypass(reason) => Box::pin(called(&state, &mut planned, Err(reason))).await,
    };
    answer::debug(response.headers_mut(), &planned);
    response
}

/// The answer of a call: one that others may share, or one for this request alone.
async fn called(state: &Arc<State>, planned: &mut Planned, call: Result<Wanted, UncachedReason>) -> Response<Body> {
    let leaving = Leaving::new(state, planned);
    let response = match call {
        Ok(wanted) => joined(state, planned, wanted).await,
        Err(reason) => bypass(state, planned, reason).await,
    };
    leaving.stays();
    response
}

/// Settles a request whose client leaves before there is an answer: the handler's future is dropped then.
struct Leaving(Option<(Arc<State>, Account)>);

impl Leaving {
    fn new(state: &Arc<State>, planned: &Planned) -> Self {
        Self(Some((state.clone(), planned.account.clone())))
    }
    fn stays(mut self) {
        self.0 = None;
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        let Some((state, account)) = self.0.take() else { return };
        let overhead = Span::ZERO; // it was waiting; how long of it was ours cannot be told
        let mut left = settled(Outcome::Failed, None, (StatusCode::OK, overhead), None);
        (left.status, left.error) = (CLIENT_LEFT, Some("client-left"));
        left.paid = Paid { full: Some(Money::ZERO), attempts: Some(Money::ZERO) };
        state.settle_request(&account, &left);
    }
}

/// The settlement of a request that was refused before it could cost anything.
fn refusal(problem: &Problem) -> Settled {
    let mut refused = settled(Outcome::Refused, None, (problem.status, Span::ZERO), None);
    refused.error = Some(problem.kind);
    refused
}

fn unrouted(problem: &Problem, id: RequestId) -> Response<Body> {
    refused(problem, Dialect::Problem, id)
}

fn refused(problem: &Problem, dialect: Dialect, id: RequestId) -> Response<Body> {
    let mut response = problem.response(dialect);
    let notes = Notes { status: CacheStatus { detail: Some(problem.kind), ..CacheStatus::default() }, ..Notes::default() };
    answer::annotate(response.headers_mut(), id, &notes);
    response
}

//! The answer to a list, put together of those to its items.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Bytes, BytesMut};
use farthing_freshness::semantics::cache_status::{CacheStatus, Fwd};
use farthing_freshness::semantics::is_stood_in_for;
use farthing_policy::batch::Whole;
use farthing_types::{Body, Failure, FailureKind, Money, Span, Time};
use farthing_upstream::{ListAnswer, Piece, of_envelope};
use futures_util::future::join_all;
use http::header::{AGE, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use http_body_util::BodyExt;
use tokio::time::{Instant, timeout_at};

use super::stats::Source;
use super::{List, One, Stage};
use crate::answer::{self, Notes};
use crate::budgets::Held;
use crate::tags;

/// Where the items of a list came from.
const ITEMS: HeaderName = HeaderName::from_static("x-farthing-items");

/// An answer that came by itself, whole.
#[derive(Clone)]
pub(super) struct Apart {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

/// What was waited for; `None` where it did not come whole.
type Waited = Option<Apart>;

/// What was brought for the items that were not known.
struct Brought {
    /// By the list's call.
    called: ListAnswer,
    /// By other calls, in the order of the items that have one.
    apart: Vec<Waited>,
    since: Time,
}

/// How many items came from where, by [`Source`].
type Sources = [usize; Source::ALL.len()];

impl List {
    /// The answer, put together of those to its items.
    ///
    /// # Errors
    /// Why the list is to go whole after all.
    pub(super) async fn answer(&mut self) -> Result<Response<Body>, Whole> {
        let until = Instant::now() + self.whole.deadline;
        self.find().await;
        if self.known_bytes() > self.batcher.max_answer() {
            self.give_up(Whole::TooLarge);
            return Err(Whole::TooLarge);
        }
        let held = match self.admit(until).await {
            Ok(held) => held,
            Err(held_back) => return Ok(self.held_back(&held_back)),
        };
        let mut sources = self.sources();
        let Brought { mut called, apart, since } = self.bring(held, until).await;
        if has_failed(&called)
            && let Some(stale) = self.stand_in(since)
        {
            sources[Source::Called as usize] -= stale;
            sources[Source::Stale as usize] = stale;
            called = ListAnswer::Pieces(Vec::new());
        }
        match called {
            ListAnswer::Failed(failure) => Ok(self.failed(&failure, since)),
            ListAnswer::Refused(status, headers, body) => {
                self.settle_called((status, body.len()), since);
                Ok(self.ended_with(Apart { status, headers, body }))
            }
            ListAnswer::Broken => {
                self.give_up(Whole::Broken);
                Err(Whole::Broken)
            }
            ListAnswer::Pieces(pieces) => self.assembled((pieces, apart), since).map(|response| self.told(response, sources, since)),
        }
    }

    fn known_bytes(&self) -> u64 {
        let bytes = |one: &One| if let Stage::Known(usable) = &one.stage { usable.entry.body_len() * one.places() } else { 0 };
        self.items.iter().map(|one| bytes(one) as u64).sum()
    }

    /// Where the items come from, before the call for them.
    fn sources(&self) -> Sources {
        let mut sources = Sources::default();
        for one in &self.items {
            let source = match &one.stage {
                Stage::Known(_) => Source::Known,
                Stage::Joins(_) => Source::Joined,
                _ => Source::Called,
            };
            sources[source as usize] += 1;
        }
        sources[Source::Repeated as usize] = self.places.len() - self.items.len();
        sources
    }

    /// Makes the call, and waits for everything that is not known.
    async fn bring(&mut self, held: Option<Held>, until: Instant) -> Brought {
        let (since, deadline) = (self.state.real_now(), self.whole.deadline);
        let left = AtomicU64::new(self.batcher.max_answer());
        let (told, coming) = self.launch(held.unwrap_or_else(Held::free));
        let apart = join_all(coming.into_iter().map(async |response| whole(response.await, &left).await));
        let (told, apart) = tokio::join!(timeout_at(until, told), apart);
        let called = match told {
            Ok(Ok(called)) => called,
            // Nothing was to go, or it broke off, which its items tell.
            Ok(Err(_)) => ListAnswer::Pieces(Vec::new()),
            Err(_) => ListAnswer::Failed(Failure::sent(FailureKind::Timeout, format!("no answer within {deadline:?}"))),
        };
        Brought { called, apart, since }
    }

    /// The answer's body and the fields of the provider that are true of it; or the answer to an item that is not one of success.
    fn assembled(&mut self, (pieces, apart): (Vec<Option<Piece>>, Vec<Waited>), since: Time) -> Result<Response<Body>, Whole> {
        if apart.iter().any(Option::is_none) {
            return Err(self.goes_whole((&pieces, since), Whole::TooLarge));
        }
        if let Some(bad) = self.unlike_success(&pieces, &apart) {
            self.settle_pieces(&pieces, since);
            return Ok(self.ended_with(bad));
        }
        let bodies = if self.is_still_known() { self.bodies(&pieces, &apart).ok_or(None) } else { Err(Some(Whole::Moved)) };
        let bodies = match bodies {
            Ok(bodies) => bodies,
            Err(None) => {
                let failure = Failure::sent(FailureKind::LeaderGone, "the call for the list broke off within Farthing");
                return Ok(self.failed(&failure, since));
            }
            Err(Some(reason)) => return Err(self.goes_whole((&pieces, since), reason)),
        };
        match self.put_together(&bodies) {
            Ok(body) => {
                self.settle_pieces(&pieces, since);
                self.settle_known();
                let mut response = Response::new(Body::full(body));
                *response.headers_mut() = pieces.iter().flatten().next().map(|piece| of_envelope(&piece.headers)).unwrap_or_default();
                response.headers_mut().remove(AGE);
                response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
                Ok(response)
            }
            Err(reason) => Err(self.goes_whole((&pieces, since), reason)),
        }
    }

    /// What was bought is settled, what was known is given up.
    fn goes_whole(&mut self, (pieces, since): (&[Option<Piece>], Time), reason: Whole) -> Whole {
        self.settle_pieces(pieces, since);
        self.give_up(reason);
        reason
    }

    fn put_together(&self, bodies: &[Option<Bytes>]) -> Result<Bytes, Whole> {
        let in_order: Vec<Bytes> = self.places.iter().filter_map(|index| bodies.get(*index).cloned().flatten()).collect();
        let bytes: u64 = in_order.iter().map(|body| body.len() as u64).sum();
        if bytes > self.batcher.max_answer() {
            return Err(Whole::TooLarge);
        }
        self.batcher.lists().ok_or(Whole::Broken)?.assemble(&in_order).map_err(|_| Whole::Mixed)
    }

    /// The body of each item's answer, `None` within where it is left out; `None` when one has no answer.
    fn bodies(&self, pieces: &[Option<Piece>], apart: &[Waited]) -> Option<Vec<Option<Bytes>>> {
        let of = |status, body: &Bytes| if self.leaves_out(status) { None } else { Some(body.clone()) };
        // In the order of the items.
        let mut apart = apart.iter();
        let body = |one: &One| match &one.stage {
            Stage::Known(usable) => Some(Some(usable.entry.body())),
            Stage::Called(called) => pieces.get(called.seat)?.as_ref().map(|piece| of(piece.status, &piece.body)),
            _ => apart.next()?.as_ref().map(|answer| of(answer.status, &answer.body)),
        };
        self.items.iter().map(body).collect()
    }

    fn leaves_out(&self, status: StatusCode) -> bool {
        self.batcher.lists().is_some_and(|lists| lists.leaves_out(status))
    }

    /// The first answer to an item that is neither one of success nor can be left out.
    fn unlike_success(&self, pieces: &[Option<Piece>], apart: &[Waited]) -> Option<Apart> {
        let bad = |status: StatusCode| status != StatusCode::OK && !self.leaves_out(status);
        let piece = pieces.iter().flatten().find(|piece| bad(piece.status));
        let piece = piece.map(|piece| Apart { status: piece.status, headers: piece.headers.clone(), body: piece.body.clone() });
        piece.or_else(|| apart.iter().flatten().find(|answer| bad(answer.status)).cloned())
    }

    /// An answer to an item that stands for the whole: the provider's own words.
    fn ended_with(&mut self, answer: Apart) -> Response<Body> {
        self.settle_unserved(answer.status);
        let mut response = Response::new(Body::full(answer.body));
        (*response.status_mut(), *response.headers_mut()) = (answer.status, answer.headers);
        // What came by itself is annotated.
        if !response.headers().contains_key(answer::REQUEST_ID) {
            tags::strip(response.headers_mut(), &self.whole.account.route);
            let notes = Notes { status: CacheStatus::forward(Fwd::UriMiss), ..Notes::default() };
            answer::annotate(response.headers_mut(), self.whole.account.id, &notes);
        }
        response
    }

    /// Tells the client where its items came from, and counts them.
    fn told(&self, mut response: Response<Body>, sources: Sources, since: Time) -> Response<Body> {
        self.stats.answered(sources);
        let [known, joined, called, _, stale] = sources;
        let account = &self.whole.account;
        let elapsed = self.state.real_now().since(account.started);
        let waits = joined + called + stale > 0;
        let waited = if waits { self.state.real_now().since(since) } else { Span::ZERO };
        let status = match (known, called) {
            _ if joined + called == 0 => CacheStatus { hit: true, ..CacheStatus::default() },
            (0, 1..) => CacheStatus::forward(Fwd::UriMiss),
            _ => CacheStatus { collapsed: called == 0, ..CacheStatus::forward(Fwd::Partial) },
        };
        let notes = Notes {
            status: CacheStatus { detail: Some("items"), ..status },
            overhead: account.ours(elapsed.saturating_sub(waited)),
            upstream: waits.then_some(waited),
            cost: (called == 0).then_some(Money::ZERO),
            saved: None,
        };
        let headers = response.headers_mut();
        answer::annotate(headers, account.id, &notes);
        let words: Vec<String> = Source::ALL.iter().zip(sources).map(|(source, count)| format!("{source}={count}")).collect();
        if let Ok(value) = HeaderValue::from_str(&words.join(", ")) {
            headers.insert(ITEMS, value);
        }
        account.route.limits.tell(account, headers);
        response
    }
}

/// Whether the provider failed, in a way that an older copy may stand in for.
fn has_failed(called: &ListAnswer) -> bool {
    match called {
        ListAnswer::Failed(_) => true,
        ListAnswer::Refused(status, ..) => is_stood_in_for(*status),
        ListAnswer::Pieces(pieces) => pieces.iter().flatten().any(|piece| is_stood_in_for(piece.status)),
        ListAnswer::Broken => false,
    }
}

/// The whole answer, as long as there are bytes `left` for it; read to its end in any case.
async fn whole(response: Response<Body>, left: &AtomicU64) -> Option<Apart> {
    let (head, mut body) = response.into_parts();
    let mut held = Some(BytesMut::new());
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.ok()?.into_data() else { continue };
        let fits = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(data.len() as u64)).is_ok();
        held = held.filter(|_| fits);
        if let Some(held) = &mut held {
            held.extend_from_slice(&data);
        }
    }
    Some(Apart { status: head.status, headers: head.headers, body: held?.freeze() })
}

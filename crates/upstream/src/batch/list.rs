//! One call for the items of one request's list that are not known: nobody else is waited for.
//!
//! Each item's call comes to a [`Seat`]. As soon as all seats are taken or given up the call is made, as the client's own would have been, and its
//! answer is taken apart. Whoever ordered the seats is told first, then each seat has its part or none.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use farthing_policy::batch::{Flush, Whole};
use farthing_types::{Body, Call, Failure, FailureKind, Reply};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use http::header::ACCEPT_ENCODING;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::fate::{Ended, Fate};
use super::format::{Item, ListFormat, Piece};
use super::run::{Running, Verdict, whole};
use super::table::{Ends, Member};
use super::{Batcher, Shared, headers};
use crate::Origin;

/// What the call for a list's items brought.
#[derive(Clone, Debug)]
pub enum ListAnswer {
    /// A piece for each seat; `None` for one that was given up.
    Pieces(Vec<Option<Piece>>),
    /// The provider answered with another status than one of success.
    Refused(StatusCode, HeaderMap, Bytes),
    /// It was answered, and nobody can tell which item has what.
    Broken,
    /// No whole answer came.
    Failed(Failure),
}

/// The place of one item's call among those that are made as one.
pub struct Seat {
    gather: Arc<Gather>,
    index: usize,
    taken: AtomicBool,
}

struct Gather {
    shared: Arc<Shared>,
    coming: Mutex<Coming>,
}

/// Who has come; `tell` is there until all have.
struct Coming {
    members: Vec<Option<Member>>,
    open: usize,
    tell: Option<oneshot::Sender<ListAnswer>>,
}

impl Batcher {
    /// How requests that carry lists are taken apart; `None` where the format has none.
    pub fn lists(&self) -> Option<&dyn ListFormat> {
        self.0.format.lists()
    }

    /// The items of a request that carries a list, in its order; `None` when it carries none.
    ///
    /// # Errors
    /// Why it is to go whole.
    pub fn items(&self, (method, fields): (&Method, &HeaderMap), request: &Item) -> Result<Option<Vec<Item>>, Whole> {
        let Some(items) = self.lists().and_then(|lists| lists.items(method, request)) else { return Ok(None) };
        let shared = &self.0;
        let json = request.body.is_empty() || headers::is_json(fields);
        if !json || headers::group(fields, &mut Vec::new()).is_err() {
            return Err(Whole::Header);
        }
        if items.len() > shared.rule.max_size as usize {
            return Err(Whole::TooLong);
        }
        if request.body.len() as u64 > shared.rule.max_bytes {
            return Err(Whole::TooLarge);
        }
        if shared.resting.lock().rests(shared.now()) {
            return Err(Whole::Resting);
        }
        Ok(Some(items))
    }

    /// Most bytes of a list's answer.
    pub fn max_answer(&self) -> u64 {
        self.0.max_answer
    }

    /// Seats for the calls of so many items of one list, and what their call brings. Nothing comes where all are given up.
    pub fn list(&self, seats: usize) -> (Vec<Seat>, oneshot::Receiver<ListAnswer>) {
        let (tell, told) = oneshot::channel();
        let coming = Coming { members: (0..seats).map(|_| None).collect(), open: seats, tell: Some(tell) };
        let gather = Arc::new(Gather { shared: self.0.clone(), coming: Mutex::new(coming) });
        let seat = |index| Seat { gather: gather.clone(), index, taken: AtomicBool::new(false) };
        ((0..seats).map(seat).collect(), told)
    }
}

impl Origin for Seat {
    fn fetch(&self, call: Call) -> BoxFuture<'static, Result<Reply, Failure>> {
        let shared = &self.gather.shared;
        if self.taken.swap(true, Ordering::AcqRel) {
            return shared.ways.usual.fetch(call);
        }
        let part = call.body.as_full().and_then(|body| shared.format.part(&call, &body).ok());
        let Some(part) = part else {
            self.gather.comes(self.index, None);
            return ready(Err(Failure::unsent(FailureKind::Refused, "the call is none for an item of a list"))).boxed();
        };
        let (verdict, told) = oneshot::channel();
        let ends = Ends::of(&call);
        self.gather.comes(self.index, Some(Member { id: 0, call, part, ends, verdict }));
        async move {
            match told.await {
                Ok(Verdict::Answer(answer)) => answer,
                _ => Err(Failure::unsent(FailureKind::LeaderGone, "the call for a list broke off within Farthing")),
            }
        }
        .boxed()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if !self.taken.swap(true, Ordering::AcqRel) {
            self.gather.comes(self.index, None);
        }
    }
}

impl Gather {
    /// Notes that a seat is taken, or given up; the last one sends the call.
    fn comes(&self, index: usize, member: Option<Member>) {
        let mut coming = self.coming.lock();
        if let Some(seat) = coming.members.get_mut(index) {
            *seat = member;
        }
        coming.open = coming.open.saturating_sub(1);
        if coming.open > 0 {
            return;
        }
        let (members, tell) = (std::mem::take(&mut coming.members), coming.tell.take());
        drop(coming);
        // Where the runtime has ended, nobody waits any more.
        if let Some(tell) = tell.filter(|_| tokio::runtime::Handle::try_current().is_ok()) {
            let shared = self.shared.clone();
            self.shared.tasks.spawn(send(shared, members, tell));
        }
    }
}

async fn send(shared: Arc<Shared>, seats: Vec<Option<Member>>, tell: oneshot::Sender<ListAnswer>) {
    let taken: Vec<bool> = seats.iter().map(Option::is_some).collect();
    let mut members: Vec<Member> = seats.into_iter().flatten().collect();
    if members.len() < 2 {
        let Some(member) = members.pop() else { return };
        return alone(&shared, member, (&taken, tell)).await;
    }
    shared.stats.flushed(Flush::List, members.len());
    let count = members.len();
    // As the client's own call would have been: no shorter time, and its attempts.
    let mut running = Running::new(&shared, members, shared.ways.usual.clone());
    let ended = running.call().await;
    match &ended {
        Ended::Split(_) | Ended::Broken(_) => shared.learn(&ended),
        // Longer than what is held, or no HTTP: it may be had whole.
        Ended::Failed(failure) if failure.kind == FailureKind::Protocol => shared.learn(&ended),
        // That the provider refuses or fails says nothing about lists.
        Ended::Refused(..) | Ended::Failed(_) => shared.stats.failed(),
    }
    let (answer, fates) = fates(ended, (&taken, count));
    let _ = tell.send(answer);
    running.tell(fates);
}

/// An item that goes alone: its own call, whose answer is its own whatever it says.
async fn alone(shared: &Shared, member: Member, (taken, tell): (&[bool], oneshot::Sender<ListAnswer>)) {
    let Member { mut call, ends, verdict, .. } = member;
    call.headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    let answer = match shared.ways.usual.fetch(call).await {
        Ok(reply) => held(reply, (ends.alone, shared.max_answer)).await,
        Err(failure) => Err(failure),
    };
    let told = match &answer {
        Err(failure) => ListAnswer::Failed(failure.clone()),
        Ok((status, headers, body)) => {
            let piece = Piece { status: *status, headers: headers.clone(), body: body.clone(), concluded: false };
            ListAnswer::Pieces(taken.iter().map(|taken| taken.then(|| piece.clone())).collect())
        }
    };
    let _ = tell.send(told);
    let reply = answer.map(|(status, headers, body)| Reply { status, headers, body: Body::full(body) });
    let _ = verdict.send(Verdict::Answer(reply));
}

type Held = (StatusCode, HeaderMap, Bytes);

async fn held(reply: Reply, (ends, most): (Instant, u64)) -> Result<Held, Failure> {
    match timeout_at(ends, whole(reply.body, most)).await {
        Ok(Ok(body)) => Ok((reply.status, reply.headers, body)),
        Ok(Err((_, failure))) => Err(failure),
        Err(_) => Err(Failure::sent(FailureKind::Timeout, "the answer did not end in time")),
    }
}

/// What is told of the call, and what becomes of each of its members. Nothing is bought again.
fn fates(ended: Ended, (taken, count): (&[bool], usize)) -> (ListAnswer, Vec<Fate>) {
    let all = |fate: &dyn Fn() -> Result<Reply, Failure>| (0..count).map(|_| Fate::Answer(fate())).collect();
    match ended {
        Ended::Split(pieces) => {
            let fates = pieces.iter().map(|piece| Fate::Answer(Ok(reply(piece)))).collect();
            let mut pieces = pieces.into_iter();
            (ListAnswer::Pieces(taken.iter().map(|taken| if *taken { pieces.next() } else { None }).collect()), fates)
        }
        Ended::Failed(failure) if failure.kind == FailureKind::Protocol => (ListAnswer::Broken, all(&|| Err(refused()))),
        Ended::Failed(failure) => (ListAnswer::Failed(failure.clone()), all(&|| Err(failure.clone()))),
        Ended::Refused(status, headers, body) => {
            let whole = || Reply { status, headers: headers.clone(), body: Body::full(body.clone()) };
            let fate = || if is_for_each(status) { Ok(whole()) } else { Err(refused()) };
            let fates = all(&fate);
            (ListAnswer::Refused(status, headers, body), fates)
        }
        Ended::Broken(_) => (ListAnswer::Broken, all(&|| Err(refused()))),
    }
}

fn reply(piece: &Piece) -> Reply {
    Reply { status: piece.status, headers: piece.headers.clone(), body: Body::full(piece.body.clone()) }
}

/// Who waits for the same item is not told what may be about another one.
fn refused() -> Failure {
    Failure::sent(FailureKind::ListRefused, "the call for a list was refused, and nobody can tell for which of its items")
}

/// Whether the status is about who calls, or about the provider's state, and so about each of the items.
fn is_for_each(status: StatusCode) -> bool {
    matches!(status.as_u16(), 401 | 402 | 403 | 408 | 429 | 502 | 503 | 504)
}

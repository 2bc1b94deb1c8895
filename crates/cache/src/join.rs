//! Joining a flight and waiting in it.

use std::sync::Arc;

use farthing_freshness::Subject;
use farthing_freshness::semantics::acceptable_head;
use farthing_freshness::ticket::Follower;
use farthing_types::{Body, Failure, FailureKind, KeyHash, Time, UncachedReason};
use http::HeaderMap;
use tokio::sync::oneshot;

use crate::cache::Inner;
use crate::cached::Cached;
use crate::flight::{Delivered, Flight, Ticket};
use crate::head::SharedHead;

/// A request for a key that the cache could not answer.
#[derive(Clone, Copy, Debug)]
pub struct Join<'a> {
    /// What is asked for.
    pub subject: &'a Arc<Subject>,
    /// The client's request headers, for `Vary`.
    pub headers: &'a HeaderMap,
    /// The unusable entry that the lookup found, if it found one.
    pub seen: Option<&'a Arc<Cached>>,
    /// Now.
    pub now: Time,
}

/// What a request for a missing key becomes.
#[derive(Debug)]
pub enum Joined {
    /// The one who fills the key: start a fill with the ticket; wait in [`Ticket::slot`] for the own client.
    Lead(Ticket),
    /// Someone fills it: wait.
    Follow(Slot),
    /// An entry that the request can read came in between lookup and join: judge it; join again with it as `seen` if it
    /// cannot be used.
    Stored(Arc<Cached>),
    /// The key's answer cannot be shared at present (it was not a moment ago): make a call without a ticket.
    Alone(UncachedReason),
    /// Too many wait already: [`FailureKind::Refused`].
    Refused(Failure),
}

/// What a wait ends with.
#[derive(Debug)]
pub enum Followed {
    /// The answer: its head, and its body from byte 0 as it comes. A body error after that is the call's, or says that
    /// this reader fell too far behind.
    Share(Arc<SharedHead>, Body),
    /// The answer is not for sharing: make a call without a ticket.
    Alone(UncachedReason),
    /// The answer was about another's request: join again.
    Another,
    /// The call failed.
    Failed(Failure),
    /// The leader vanished: this request leads now. Its place in the wait is used up; take a new [`Ticket::slot`].
    Lead(Ticket),
    /// The answer came from L2 and is in L1 now: join again.
    Again,
}

/// A place in a flight. Dropping it leaves the flight, which changes nothing for the others.
#[derive(Debug)]
pub struct Slot {
    inner: Arc<Inner>,
    flight: Arc<Flight>,
    place: Place,
    /// The leader's own client: the answer was made for its request, whatever it says.
    own: bool,
}

#[derive(Debug)]
enum Place {
    Waiting(Follower, oneshot::Receiver<Delivered>),
    Ready(Delivered),
    Used,
}

impl Slot {
    pub(crate) const fn waiting(inner: Arc<Inner>, flight: Arc<Flight>, id: Follower, rx: oneshot::Receiver<Delivered>) -> Self {
        Self { inner, flight, place: Place::Waiting(id, rx), own: false }
    }
    pub(crate) const fn ready(inner: Arc<Inner>, flight: Arc<Flight>, delivered: Delivered) -> Self {
        Self { inner, flight, place: Place::Ready(delivered), own: false }
    }
    pub(crate) const fn of_the_leader(mut self) -> Self {
        self.own = true;
        self
    }

    /// The key it waits for.
    pub fn key(&self) -> KeyHash {
        self.flight.key
    }

    /// Whether its leader has waited for another instance's call.
    pub fn was_elsewhere(&self) -> bool {
        self.flight.was_elsewhere()
    }

    /// Waits for the outcome. `headers` are the client's request headers: an answer whose `Vary` selects another request
    /// than this one, or whose content coding this one does not accept, ends in [`Followed::Alone`]. May be dropped (a timeout) and called again; after it has returned
    /// once it returns [`Followed::Failed`].
    pub async fn wait(&mut self, headers: &HeaderMap) -> Followed {
        let delivered = match &mut self.place {
            Place::Waiting(_, rx) => rx.await.unwrap_or_else(|_| Delivered::Failed(leader_gone())),
            Place::Ready(_) | Place::Used => match std::mem::replace(&mut self.place, Place::Used) {
                Place::Ready(delivered) => delivered,
                _ => Delivered::Failed(leader_gone()),
            },
        };
        self.place = Place::Used;
        match delivered {
            Delivered::Share(head, _) if !self.selects(&head, headers) => Followed::Alone(UncachedReason::Vary),
            Delivered::Share(head, reader) => Followed::Share(head, Body::stream(reader)),
            Delivered::Alone(reason) => Followed::Alone(reason),
            Delivered::Another => Followed::Another,
            Delivered::Failed(failure) => Followed::Failed(failure),
            Delivered::Again => Followed::Again,
            Delivered::Lead(ticket) => Followed::Lead(ticket.with_request(headers)),
        }
    }

    fn selects(&self, head: &SharedHead, headers: &HeaderMap) -> bool {
        if self.own {
            return true;
        }
        let same = head.selected().is_none_or(|s| self.inner.config.keyer.selected(self.flight.subject.key, &s.names, headers) == s.key);
        same && acceptable_head(&head.headers, headers)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Place::Waiting(id, _) = &self.place {
            self.flight.leave(*id);
        }
    }
}

pub(crate) fn leader_gone() -> Failure {
    Failure::unsent(FailureKind::LeaderGone, "the request that made the call broke off")
}

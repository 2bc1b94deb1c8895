//! Calls whose clients leave: what was not sent is not made, what was sent is settled.

use farthing_cache::Ticket;
use farthing_types::{Failure, FailureKind, Reply, UncachedReason};
use tokio::task::{AbortHandle, JoinHandle};

use crate::flight::Flight;
use crate::run::Job;
use crate::settle::CallEnd;
use crate::state::State;

/// What was fetched; `None` where every client has left while the call waited for its turn: nothing was sent, and no bill is due.
pub async fn while_wanted<T>(job: &Job, ticket: &Ticket, fetching: impl Future<Output = T>) -> Option<T> {
    let flight = &job.flight;
    if !(flight.purpose.is_waited_for() && flight.may_be_withdrawn()) {
        return Some(fetching.await);
    }
    let mut fetching = std::pin::pin!(fetching);
    tokio::select! {
        biased;
        fetched = &mut fetching => return Some(fetched),
        () = ticket.idle() => {}
    }
    if flight.has_had_turn() { Some(fetching.await) } else { None }
}

/// Gives up a call that nobody waits for. Whoever has asked for the same meanwhile gets the ticket.
pub fn abandoned(job: &Job, ticket: Ticket) {
    let stored = Some(Err(UncachedReason::UpstreamFailed));
    let failure = Some(FailureKind::LeaderGone);
    job.state.settle_call(&job.flight, &CallEnd { keyed: true, stored, failure, ended: Some(job.state.clock.now()), ..CallEnd::default() });
    drop(ticket);
}

/// Ends a call whose client leaves while it waits for its turn: nothing was sent, and no bill is due.
pub struct GivenUp<'a> {
    task: AbortHandle,
    flight: &'a Flight,
}

impl<'a> GivenUp<'a> {
    /// For a call that a task makes; `None` where it never waits.
    pub fn of<T>(flight: &'a Flight, task: &JoinHandle<T>) -> Option<Self> {
        flight.may_be_withdrawn().then(|| Self { task: task.abort_handle(), flight })
    }
}

impl Drop for GivenUp<'_> {
    fn drop(&mut self) {
        if !self.flight.has_had_turn() {
            self.task.abort();
        }
    }
}

/// Settles a call whose client left before its head came, which drops the future that would have settled it.
pub struct Leaving<'a> {
    state: &'a State,
    flight: &'a Flight,
    keyed: bool,
    answered: bool,
}

impl<'a> Leaving<'a> {
    /// For a call whose head is waited for.
    pub const fn new(state: &'a State, flight: &'a Flight, keyed: bool) -> Self {
        Self { state, flight, keyed, answered: false }
    }

    /// Waits for the head.
    pub async fn fetch(mut self, fetching: impl Future<Output = Result<Reply, Failure>>) -> Result<Reply, Failure> {
        // Dropped before `self`, so that its last attempt is reported by then.
        let fetched = {
            let fetching = std::pin::pin!(fetching);
            fetching.await
        };
        self.answered = true;
        fetched
    }
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        if !self.answered {
            let ended = Some(self.state.clock.now());
            self.state
                .settle_call(self.flight, &CallEnd { keyed: self.keyed, abandoned: true, received: Some(0), ended, ..CallEnd::default() });
        }
    }
}

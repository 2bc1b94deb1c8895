//! Requests that wait for their batch to be sent: one queue for each target and endpoint, because a batch has one of each.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;
use farthing_policy::defer::Times;
use farthing_types::Span;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::kept::KeptMember;
use super::unused::Answer;
use super::{Defer, batch};
use crate::flight::Flight;
use crate::route::RouteState;
use crate::state::State;

/// Queues of a route; requests of further targets go directly.
const MOST_QUEUES: usize = 64;

/// The longest time without a look at its queue.
const LOOK: Span = Span::from_secs(5);

/// What the requests of a batch have in common.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Group {
    /// Path of the provider's API before the endpoint.
    pub prefix: Arc<str>,
    /// The endpoint.
    pub endpoint: &'static str,
    /// The target.
    pub target: Arc<str>,
    /// The version of the API that its clients speak, where requests name one.
    pub version: Option<Arc<str>>,
}

/// A request in a queue or a batch.
pub struct Member {
    /// What is written down of it.
    pub kept: Arc<KeptMember>,
    /// Its body, until the batch is sent.
    pub body: Bytes,
    /// Its batch is sent then at the latest.
    pub flush_at: Instant,
    /// Who waits for it.
    pub tell: oneshot::Sender<Answer>,
}

impl Member {
    /// The request of a call.
    pub fn new(state: &State, flight: &Flight, (flush_at, tell): (Instant, oneshot::Sender<Answer>), body: Bytes) -> Self {
        let kept = KeptMember {
            id: format!("f-{:016x}", state.ids.next()),
            tenant: flight.payer.clone(),
            team: flight.attribution.team.clone(),
            service: flight.attribution.service.clone(),
            key: flight.attribution.key.clone(),
            at_ns: flight.at.nanos(),
            bytes: body.len() as u64,
        };
        Self { kept: Arc::new(kept), body, flush_at, tell }
    }
}

struct Queue {
    members: Vec<Member>,
    /// Whether a task sees to it.
    tended: bool,
    wake: Arc<Notify>,
    times: Times,
    under_way: Vec<(u128, Instant)>,
}

impl Queue {
    fn oldest(&self, now: Instant) -> Span {
        self.under_way.iter().map(|(_, since)| now.saturating_duration_since(*since)).max().unwrap_or_default()
    }

    /// When the next batch is to be sent; `None` where nobody waits.
    fn due(&self, most: usize, now: Instant) -> Option<Instant> {
        let first = self.members.iter().map(|member| member.flush_at).min()?;
        Some(if self.members.len() >= most { now } else { first })
    }
}

/// The queues of a route, and how long batches of their targets take.
pub struct Queues {
    prior: Span,
    of: BTreeMap<Group, Queue>,
}

impl Queues {
    /// None yet; batches are thought to take `prior`.
    pub const fn new(prior: Span) -> Self {
        Self { prior, of: BTreeMap::new() }
    }

    /// What the batches of a group take, and how long the oldest of them has been under way; `None` where there are too many groups.
    pub fn times(&mut self, group: &Group, now: Instant) -> Option<(Span, Span)> {
        let queue = self.queue(group)?;
        Some((queue.times.high(), queue.oldest(now)))
    }

    fn queue(&mut self, group: &Group) -> Option<&mut Queue> {
        if !self.of.contains_key(group) && self.of.len() >= MOST_QUEUES {
            // One that nobody uses makes room; what is known of its times is lost.
            let idle = self.of.iter().find(|(_, queue)| !queue.tended && queue.under_way.is_empty())?.0.clone();
            self.of.remove(&idle);
        }
        let prior = self.prior;
        let new = || Queue { members: Vec::new(), tended: false, wake: Arc::default(), times: Times::new(prior), under_way: Vec::new() };
        Some(self.of.entry(group.clone()).or_insert_with(new))
    }

    /// A batch has been sent.
    pub fn began(&mut self, group: &Group, batch: u128, now: Instant) {
        if let Some(queue) = self.of.get_mut(group) {
            queue.under_way.push((batch, now));
        }
    }

    /// It has ended, after so long where all of it has run.
    pub fn ended(&mut self, group: &Group, batch: u128, took: Option<Span>) {
        if let Some(queue) = self.of.get_mut(group) {
            queue.under_way.retain(|(one, _)| *one != batch);
            took.into_iter().for_each(|took| queue.times.note(took));
        }
    }

    /// Requests in queues, batches under way, and what the next batch is thought to take, of the slowest target.
    pub fn figures(&self) -> (u64, u64, Span) {
        let sum = |count: fn(&Queue) -> usize| self.of.values().map(count).sum::<usize>() as u64;
        let slowest = self.of.values().map(|queue| queue.times.high()).max().unwrap_or(self.prior);
        (sum(|queue| queue.members.len()), sum(|queue| queue.under_way.len()), slowest)
    }
}

/// Puts a request into its queue; where that cannot be, its waiter is told at once.
pub fn push(state: &Arc<State>, route: &Arc<RouteState>, defer: &Arc<Defer>, (group, member): (&Group, Member)) {
    let mut queues = defer.queues.lock();
    let Some(queue) = queues.queue(group) else { return };
    queue.members.push(member);
    queue.wake.notify_one();
    if !queue.tended {
        queue.tended = true;
        let tending = tend(state.clone(), route.clone(), defer.clone(), group.clone());
        drop(queues);
        state.tasks.spawn(tending);
    }
}

/// Sends what is due, until nobody waits.
async fn tend(state: Arc<State>, route: Arc<RouteState>, defer: Arc<Defer>, group: Group) {
    let most = usize::try_from(defer.config.max_size).unwrap_or(usize::MAX);
    loop {
        let now = Instant::now();
        let (due, wake) = {
            let mut queues = defer.queues.lock();
            let Some(queue) = queues.of.get_mut(&group) else { return };
            if state.tasks.is_closed() {
                queue.members.clear();
            }
            let before = queue.members.len();
            // Who does not wait any more is not asked for.
            queue.members.retain(|member| !member.tell.is_closed());
            defer.stats.withdrawn.fetch_add((before - queue.members.len()) as u64, Relaxed);
            let Some(due) = queue.due(most, now) else {
                queue.tended = false;
                return;
            };
            if due <= now {
                let members = queue.members.drain(..queue.members.len().min(most)).collect();
                let batch = batch::send(state.clone(), route.clone(), (defer.clone(), group.clone()), members);
                state.tasks.spawn(batch);
                continue;
            }
            (due, queue.wake.clone())
        };
        // A look now and then, whether the process is about to end.
        let _ = tokio::time::timeout_at(due.min(now + LOOK), wake.notified()).await;
    }
}

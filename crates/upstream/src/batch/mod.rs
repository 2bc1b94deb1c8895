//! Several calls as one (SPEC E1 to E4): the outermost decorator, around an upstream's others.
//!
//! A call that may be put together with others ([`farthing_types::BatchTerms`]) waits a short time for such as have the same owner, the same
//! headers and the same kind of request; then one call is made for all, once, and its answer is taken apart. What cannot be proved to be
//! batchable goes alone, for a reason that is counted. No member is ever lost or given what is another's: [`fate`] decides what becomes of
//! each, [`run`] tells it whatever happens to the task.

mod embeddings;
mod fate;
mod format;
mod graphql;
mod graphql_query;
mod headers;
mod id_list;
pub(crate) mod json;
mod list;
mod reserved;
mod rest;
mod run;
pub(crate) use run::whole;
mod stats;
mod table;

use std::sync::Arc;

use farthing_policy::batch::{Alone, BatchRule, Rest as Resting, Window};
use farthing_types::{Call, Failure, FailureKind, Reply, Time};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

pub use embeddings::Embeddings;
pub use format::{BatchFormat, Broken, Item, Joined, ListFormat, Part, Piece};
pub use graphql::{GraphqlArray, GraphqlMerge};
pub use headers::of_envelope;
pub use id_list::IdList;
pub use list::{ListAnswer, Seat};
pub use rest::Rest;
pub use stats::BatchStats;

use crate::Origin;
use crate::client::after;
use fate::Ended;
use run::{Verdict, Way};
use table::{Coming, Ends, Group, Place, Table};

/// How a batcher reaches its upstream.
#[derive(Clone)]
pub struct Ways {
    /// For a call that is made alone.
    pub usual: Arc<dyn Origin>,
    /// For a batch call: one attempt, which takes no longer than a batch may from when limits of the provider have given it its turn.
    pub once: Arc<dyn Origin>,
    /// For a member that is made again after a batch call was sent: the attempts that are left. `None` when there are none.
    pub again: Option<Arc<dyn Origin>>,
}

/// How batches are made.
#[derive(Clone)]
pub struct BatchSpec {
    /// What they look like.
    pub format: Arc<dyn BatchFormat>,
    /// When they are sent.
    pub rule: BatchRule,
    /// Most bytes of its answer.
    pub max_answer: u64,
}

/// See the module.
pub struct Batcher(Arc<Shared>);

struct Shared {
    ways: Ways,
    format: Arc<dyn BatchFormat>,
    rule: BatchRule,
    max_answer: u64,
    table: Mutex<Table>,
    resting: Mutex<Resting>,
    stats: Arc<BatchStats>,
    tasks: TaskTracker,
    /// The beginning of the timeline of rule and table.
    zero: Instant,
}

impl Batcher {
    /// A batcher in front of an upstream. What it does is counted in `stats`.
    pub fn new(ways: Ways, spec: BatchSpec, stats: Arc<BatchStats>) -> Self {
        let BatchSpec { format, rule, max_answer } = spec;
        let (table, resting, tasks) = Default::default();
        Self(Arc::new(Shared { ways, format, rule, max_answer, table, resting, stats, tasks, zero: Instant::now() }))
    }
}

impl Origin for Batcher {
    fn fetch(&self, call: Call) -> BoxFuture<'static, Result<Reply, Failure>> {
        match self.0.join(call) {
            Ok(waiting) => waiting.answer().boxed(),
            Err(call) => self.0.ways.usual.fetch(*call),
        }
    }
}

impl Shared {
    /// Puts a call into a batch; `Err` when it goes alone.
    fn join(self: &Arc<Self>, call: Call) -> Result<Waiting, Box<Call>> {
        let Some(terms) = &call.batch else { return Err(Box::new(call)) };
        let coming = Coming { now: self.now(), patience: terms.patience.min(call.deadline) };
        let rule = BatchRule { window: terms.window.map_or(self.rule.window, Window::Fixed), ..self.rule };
        let (group, part) = match self.admit(&call, coming.now) {
            Ok(admitted) => admitted,
            Err(reason) => {
                self.stats.alone(reason);
                return Err(Box::new(call));
            }
        };
        let ends = Ends::of(&call);
        let (sender, verdict) = oneshot::channel();
        let joined = self.table.lock().join(group, &rule, coming, (call, part, ends, sender));
        match joined {
            Ok((place, id, begun)) => {
                if let Some(begun) = begun {
                    self.tasks.spawn(run::drive(self.clone(), begun));
                }
                Ok(Waiting { shared: self.clone(), place, id, ends: ends.alone, verdict })
            }
            Err((reason, call)) => {
                self.stats.alone(reason);
                Err(call)
            }
        }
    }

    /// What the call puts into a batch, and into which.
    fn admit(&self, call: &Call, now: Time) -> Result<(Group, Part), Alone> {
        if self.resting.lock().rests(now) {
            return Err(Alone::Resting);
        }
        let owner = call.batch.as_ref().map_or("", |terms| &*terms.owner);
        let mut group = Vec::with_capacity(256);
        headers::put(&mut group, call.route.as_bytes());
        headers::put(&mut group, owner.as_bytes());
        headers::group(&call.headers, &mut group)?;
        let body = call.body.as_full().ok_or(Alone::Body)?;
        let part = self.format.part(call, &body)?;
        headers::put(&mut group, part.group.as_bytes());
        Ok((*blake3::hash(&group).as_bytes(), part))
    }

    /// Learns from a batch whether batches are of use here.
    fn learn(&self, ended: &Ended) {
        if let Ended::Split(pieces) = ended {
            self.stats.concluded(pieces.iter().filter(|piece| piece.concluded).count());
        }
        let well = ended.is_well();
        if !well {
            self.stats.failed();
        }
        if ended.is_about_callers() {
            return;
        }
        if self.resting.lock().note(self.now(), well) {
            let why = match ended {
                Ended::Broken(Broken(reason)) => reason.to_string(),
                Ended::Refused(status, ..) => format!("status {status}"),
                Ended::Failed(failure) => failure.to_string(),
                Ended::Split(_) => String::new(),
            };
            self.stats.rested();
            tracing::warn!(why, "batches failed one after the other: calls go alone for a while");
        }
    }

    fn now(&self) -> Time {
        Time::ZERO + self.zero.elapsed()
    }

    fn instant(&self, at: Time) -> Instant {
        after(self.zero, at.since(Time::ZERO))
    }
}

/// A call in a batch. Dropped before the batch is sent, it leaves it without cost; later, its share stays its own.
struct Waiting {
    shared: Arc<Shared>,
    place: Place,
    id: u64,
    ends: Instant,
    verdict: oneshot::Receiver<Verdict>,
}

impl Waiting {
    async fn answer(mut self) -> Result<Reply, Failure> {
        let told = (&mut self.verdict).await;
        let (mut call, way) = match told {
            Ok(Verdict::Answer(answer)) => return answer,
            Ok(Verdict::Alone(call, way)) => (call, way),
            Err(_) => return Err(Failure::unsent(FailureKind::LeaderGone, "the batch broke off within Farthing before it was sent")),
        };
        let ways = &self.shared.ways;
        let origin = match way {
            Way::Usual => &ways.usual,
            Way::Again => ways.again.as_ref().unwrap_or(&ways.usual),
        };
        call.deadline = self.ends.saturating_duration_since(Instant::now());
        if call.deadline.is_zero() {
            let detail = "no time was left after the batch";
            return Err(Failure { kind: FailureKind::Timeout, detail: detail.into(), sent: way == Way::Again, limited: None });
        }
        origin.fetch(*call).await
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.shared.table.lock().leave(self.place, self.id);
    }
}

#[cfg(test)]
mod tests;

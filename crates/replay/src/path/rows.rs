//! The log as the replay reads it.

use std::collections::HashMap;
use std::sync::Arc;

use farthing_freshness::RequestFacts;
use farthing_freshness::semantics::{Bans, CacheControl, Facts};
use farthing_types::{Money, Outcome, Purpose, Time, UncachedReason};

/// Requests that are alike in everything that bears on reuse.
#[derive(Clone, Debug, PartialEq)]
pub struct RequestClass {
    /// Method and directives.
    pub facts: RequestFacts,
    /// What the client asks of the cache.
    pub control: CacheControl,
}

/// One logged request.
#[derive(Clone, Debug, PartialEq)]
pub struct AskedRow {
    /// When its head was read.
    pub at: Time,
    /// Its place among the requests of its route, where it was logged.
    pub place: i64,
    /// Number of the key under which its statistics are kept.
    pub key: u32,
    /// Index into [`Log::classes`].
    pub class: u32,
    /// Index into [`Log::routes`].
    pub route: u16,
    /// Requests that the row stands for.
    pub weight: u32,
    /// First 64 bits of its primary key: the unit of assignments.
    pub unit: u64,
    /// How it was answered.
    pub outcome: Outcome,
    /// Why not from the cache.
    pub reason: Option<UncachedReason>,
    /// The call that answered it; 0 when none did.
    pub call: u64,
    /// The client went before there was an answer, or its patience ended.
    pub gave_up: bool,
    /// The provider failed it.
    pub upstream_failed: bool,
    /// What it would have cost without a proxy.
    pub base: Option<Money>,
}

/// One logged call, its attempts together.
#[derive(Clone, Debug, PartialEq)]
pub struct CalledRow {
    /// Its id.
    pub id: u64,
    /// Number of the key it was about.
    pub key: u32,
    /// Index into [`Log::routes`].
    pub route: u16,
    /// When its first attempt began.
    pub start: Time,
    /// When its head came, or when it failed.
    pub head: Time,
    /// When its body had ended.
    pub end: Time,
    /// Why it was made.
    pub purpose: Purpose,
    /// Paid for all attempts; `None` when one is unpriced.
    pub paid: Option<Money>,
    /// Attempts that reached the provider.
    pub attempts: u32,
    /// Price of one full answer.
    pub price: Option<Money>,
    /// Status; `None` when it failed.
    pub status: Option<u16>,
    /// Canonical digest of the answer, or of the copy that a 304 confirmed; `None` when it was not read whole.
    pub hash: Option<u64>,
    /// Length of that body.
    pub bytes: u64,
    /// What its head said.
    pub facts: Facts,
    /// What its head forbade.
    pub bans: Bans,
    /// Why it was not stored.
    pub not_stored: Option<UncachedReason>,
    /// Parameters of the query.
    pub query_parameters: u32,
}

/// An entry that something other than a newer answer ended: memory, an operator, the sweep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndedRow {
    /// When.
    pub at: Time,
    /// Number of the key.
    pub key: u32,
    /// When the entry was fetched.
    pub opened: Time,
    /// Somebody purged it: that would have happened under any policy.
    pub purged: bool,
}

/// A logged TTL decision.
#[derive(Clone, Debug, PartialEq)]
pub struct LoggedChoice {
    /// Name of the variant it was made for; empty outside of an experiment.
    pub variant: Arc<str>,
    /// Seconds.
    pub ttl: f64,
    /// Who decided.
    pub by: Arc<str>,
}

/// What a deployment logged.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Log {
    /// Names of the routes.
    pub routes: Vec<Arc<str>>,
    /// The keys' logged digests, by their number.
    pub keys: Vec<u64>,
    /// Classes of requests.
    pub classes: Vec<RequestClass>,
    /// Requests in order of time.
    pub asked: Vec<AskedRow>,
    /// Calls in order of their start.
    pub called: Vec<CalledRow>,
    /// Entries that ended, in order of time.
    pub ended: Vec<EndedRow>,
    /// When the proxy ended and began anew: its copies were gone then.
    pub restarts: Vec<Time>,
    /// TTL decisions by call.
    pub choices: HashMap<u64, Vec<LoggedChoice>>,
}

impl Log {
    /// Puts everything in order of time; to be called once after the rows were added.
    pub fn sort(&mut self) {
        self.asked.sort_by_key(|row| (row.at, row.place));
        self.called.sort_by_key(|row| (row.start, row.id));
        self.ended.sort_by_key(|row| row.at);
    }
}

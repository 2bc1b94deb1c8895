//! From L2 to L1, and whether what stands in L1 is still what L2 has.

use std::sync::Arc;

use farthing_freshness::ticket::Event;
use farthing_types::{Span, Time};
use http::HeaderMap;

use crate::cache::{Cache, Inner, Node};
use crate::cached::{Cached, EndReason};
use crate::flight::{Ticket, Told};
use crate::l2::{GetOutcome, Looked, Tier};

/// How long a copy in memory is good without a look at an L2 that others write to.
const RECHECK: Span = Span::from_secs(60);

impl Ticket {
    /// Asks L2 before anybody is paid. On a hit the entry is in L1, the flight is over and everyone who waits in it is told to look
    /// again; else the ticket comes back, within L2's deadline. The entry is to be judged like any other: it may be stale.
    ///
    /// # Errors
    /// The ticket, when L2 has nothing, is not there, or what it has was purged meanwhile.
    pub async fn from_l2(self, now: Time) -> Result<Arc<Cached>, Self> {
        self.newer_from_l2(None, now).await
    }

    /// As [`Ticket::from_l2`], for an answer that was fetched later than `seen`.
    ///
    /// # Errors
    /// The ticket, when there is none.
    pub async fn newer_from_l2(self, seen: Option<&Cached>, now: Time) -> Result<Arc<Cached>, Self> {
        let Some(l2) = self.inner.l2.clone() else { return Err(self) };
        let Ok(looked) = l2.get(self.subject(), &self.request, now).await else { return Err(self) };
        if seen.is_some_and(|seen| looked.entry.fetched_at.millis() <= seen.fetched_at().millis()) {
            return Err(self);
        }
        match self.inner.promote(looked, self.epoch(), now) {
            Some(entry) => {
                self.end(Event::Fail, Told::Again);
                Ok(entry)
            }
            None => Err(self),
        }
    }
}

/// What a look at L2 says about a copy in memory.
#[derive(Debug)]
pub enum Rechecked {
    /// It is what L2 has, or L2 cannot say.
    Same,
    /// L2 has a newer answer, which stands in memory now.
    Newer(Arc<Cached>),
    /// Somebody purged it: it is gone from memory, too.
    Purged,
}

impl Cache {
    /// The tier below, if there is one.
    pub fn l2(&self) -> Option<&Tier> {
        self.0.l2.as_ref()
    }

    /// Whether the caller is to [`Cache::recheck`] this entry before it answers: true for one caller a minute where others write to L2.
    pub fn is_due(&self, entry: &Cached, now: Time) -> bool {
        self.is_rechecked() && entry.checked.claim(RECHECK, now)
    }

    /// Whether [`Cache::is_due`] would tell somebody so now.
    pub fn will_be_due(&self, entry: &Cached, now: Time) -> bool {
        self.is_rechecked() && !entry.checked.within(RECHECK, now)
    }

    fn is_rechecked(&self) -> bool {
        self.0.l2.as_ref().is_some_and(Tier::is_shared)
    }

    /// Compares an entry with L2, within L2's deadline.
    pub async fn recheck(&self, entry: &Arc<Cached>, request: &HeaderMap, now: Time) -> Rechecked {
        let Some(l2) = self.l2() else { return Rechecked::Same };
        let epoch = self.epoch();
        match l2.get(&Arc::new(entry.subject()), request, now).await {
            Ok(looked) if looked.entry.fetched_at.millis() > entry.fetched_at().millis() => {
                self.0.promote(looked, epoch, now).map_or(Rechecked::Same, Rechecked::Newer)
            }
            Ok(looked) => {
                if looked.soft_purged {
                    entry.purge_soft();
                }
                Rechecked::Same
            }
            // L2 keeps an answer for longer than it may be served: what is missing there was taken out.
            Err(outcome @ (GetOutcome::Outdated | GetOutcome::Absent)) if entry.is_in_l2() => {
                // Named in a purge, it was taken back; else it was lost there with all the others.
                if outcome == GetOutcome::Outdated {
                    self.0.copies.forget(entry.stored_key());
                }
                self.0.take_out(entry, now);
                Rechecked::Purged
            }
            Err(_) => Rechecked::Same,
        }
    }
}

impl Inner {
    /// Keeps what L2 had, unless it was purged since `epoch`. The key's live statistics stay: they are what this instance has seen, and
    /// what its log can repeat.
    pub(crate) fn promote(&self, looked: Looked, epoch: u64, now: Time) -> Option<Arc<Cached>> {
        let cached = Cached::promoted(&looked.entry, now, &self.shapes);
        if looked.soft_purged {
            cached.purge_soft();
        }
        // Its own epoch is of another process's life.
        self.keep((cached, epoch), now).ok().map(|stored| stored.entry)
    }

    fn take_out(&self, entry: &Arc<Cached>, now: Time) {
        let key = entry.stored_key();
        let mut shard = self.shard(key).lock();
        if !matches!(shard.index.peek(key), Some(Node::Entry(found)) if Arc::ptr_eq(found, entry)) {
            return;
        }
        let taken = shard.index.remove(key);
        self.keep_stats(std::slice::from_ref(entry));
        drop(shard);
        drop(taken);
        self.ended(vec![Arc::clone(entry)], EndReason::Purged, now);
    }
}

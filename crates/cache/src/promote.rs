//! From L2 to L1.

use std::sync::Arc;

use farthing_freshness::ticket::Event;
use farthing_types::Time;

use crate::cache::{Cache, Inner};
use crate::cached::Cached;
use crate::flight::{Ticket, Told};
use crate::l2::{Looked, Tier};

impl Ticket {
    /// Asks L2 before anybody is paid. On a hit the entry is in L1, the flight is over and everyone who waits in it is told to look
    /// again; else the ticket comes back, within L2's deadline. The entry is to be judged like any other: it may be stale.
    ///
    /// # Errors
    /// The ticket, when L2 has nothing, is not there, or what it has was purged meanwhile.
    pub async fn from_l2(self, now: Time) -> Result<Arc<Cached>, Self> {
        let Some(l2) = self.inner.l2.clone() else { return Err(self) };
        let Ok(looked) = l2.get(self.subject(), &self.request, now).await else { return Err(self) };
        match self.inner.promote(looked, self.epoch(), now) {
            Some(entry) => {
                self.end(Event::Fail, Told::Again);
                Ok(entry)
            }
            None => Err(self),
        }
    }
}

impl Inner {
    /// Keeps what L2 had, unless it was purged since `epoch`. The key's live statistics stay: they are what this instance has seen, and
    /// what its log can repeat.
    fn promote(&self, looked: Looked, epoch: u64, now: Time) -> Option<Arc<Cached>> {
        let mut entry = *looked.entry;
        // Its own epoch is of another process's life.
        entry.epoch = epoch;
        let cached = Cached::promoted(entry);
        if looked.soft_purged {
            cached.purge_soft();
        }
        self.keep(cached, now).ok().map(|stored| stored.entry)
    }
}

impl Cache {
    /// The tier below, if there is one.
    pub fn l2(&self) -> Option<&Tier> {
        self.0.l2.as_ref()
    }
}

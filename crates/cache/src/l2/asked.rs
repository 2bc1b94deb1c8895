//! How an answer came to be that is to be written, and what keeps it from being written.

use farthing_fleet::lease::LeaseSaid;
use farthing_freshness::entry::Packed;
use farthing_types::{Span, Time};

use super::leases::FillLease;
use super::tier::Inner;
use super::{Put, PutOutcome, StoreFault};
use crate::purge::Since;

/// How long the list of purges of a shared store is trusted before an answer is written. What is purged meanwhile and fetched so soon after is not used by
/// who reads it: clocks may differ by more.
const PURGES_TRUSTED_BY_WRITES: Span = Span::from_millis(100);

/// How an answer came to be.
#[derive(Debug)]
pub struct Asked {
    /// When its call began, or earlier.
    pub begun: Time,
    /// The number up to which the fleet's purges had been carried out then.
    pub mark: u64,
    /// What the call was made under.
    pub lease: Option<FillLease>,
}

impl Inner {
    /// Whether another instance has purged an answer while its call was under way, as far as the store's list can be read. In a fleet an answer's mark
    /// tells that to who reads it; what this instance has purged was never put.
    pub(super) async fn is_purged(&self, entry: &Packed, begun: Time, now: Time) -> Result<bool, StoreFault> {
        if !self.store.is_shared() || self.hearing.get().is_some() {
            return Ok(false);
        }
        if self.must_read_purges(now, PURGES_TRUSTED_BY_WRITES)
            && let Err(fault) = self.read_purges(now).await
            && entry.is_tagged()
        {
            return Err(fault);
        }
        Ok(self.known.lock().purges.since(entry, begun, Span::ZERO) != Since::Untouched)
    }

    pub(super) async fn keep_leased(&self, put: Put, lease: FillLease) -> Result<(), PutOutcome> {
        match self.store.put_leased(put, (lease.holding(), FillLease::told_written())).await? {
            LeaseSaid::Yours(_) => {
                lease.written();
                Ok(())
            }
            _ => Err(PutOutcome::Fenced),
        }
    }

    pub(super) async fn renewed(lease: Option<&FillLease>) -> Result<(), PutOutcome> {
        match lease {
            Some(lease) if !lease.renew().await? => Err(PutOutcome::Fenced),
            _ => Ok(()),
        }
    }
}

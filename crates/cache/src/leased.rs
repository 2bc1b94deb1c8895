//! Calls that are made under a lease, and waiting for those that another instance makes.

use std::sync::atomic::Ordering;

use farthing_fleet::lease::Ending;

use crate::flight::{Flight, Ticket};
use crate::l2::FillLease;

impl Ticket {
    /// The call is made under a lease of its key, which ends with it. Dropping the ticket ends the lease, too: the follower who gets the ticket asks
    /// for one of its own.
    pub fn with_lease(mut self, lease: FillLease) -> Self {
        self.lease = Some(lease);
        self
    }
    /// Whether the call may be made, as far as its lease tells.
    pub fn may_act(&self) -> bool {
        self.lease.as_ref().is_none_or(FillLease::may_act)
    }
    /// What the call brings will not be kept: instances that wait for it need not.
    pub fn keeps_nothing(&mut self) {
        FillLease::end_in(&mut self.lease, Ending::Unkept);
    }
    /// What the call brings says nothing of what others would get: instances that wait for it make it themselves.
    pub fn lets_others_try(&mut self) {
        FillLease::end_in(&mut self.lease, Ending::Released);
    }
    /// The leader waits for another instance's call: so do all who wait for it.
    pub fn waits_elsewhere(&self) {
        self.flight.elsewhere.store(true, Ordering::Relaxed);
    }
}

impl Flight {
    /// Whether its leader has waited for another instance's call.
    pub(crate) fn was_elsewhere(&self) -> bool {
        self.elsewhere.load(Ordering::Relaxed)
    }
}

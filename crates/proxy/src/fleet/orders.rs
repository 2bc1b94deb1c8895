//! What is done here and said to the others.

use farthing_cache::{Purge, Purged};
use farthing_types::RouteName;

use super::message::{Flag, Read, Said};
use super::stamps::subjects;
use crate::lifecycle::freeze::FreezeError;
use crate::state::State;
use crate::switches::{BypassError, Order};

impl State {
    /// Purges here, and has the others told; `soft` makes entries stale instead.
    pub fn purge(&self, purge: &Purge, soft: bool) -> Purged {
        // First: from now on nothing that it is about comes from where others write to.
        self.say(|| Said::purge(purge, soft));
        self.cache.purge(purge, soft, self.clock.now())
    }

    /// Purges what an event says that all instances read from one source; how many entries. The others are told all the same, by the first that has read
    /// it: what is on its way to an instance that reads it late is then known to be older, by all.
    pub fn purge_read(&self, read: &Read) -> usize {
        if let Some(fleet) = &self.fleet {
            Said::read(read).into_iter().for_each(|said| fleet.say(said));
        }
        read.purges.iter().map(|(purge, soft)| self.cache.purge(purge, *soft, self.clock.now()).entries).sum()
    }

    /// Whether the others have been told of all that was done; `None` where there are no others. Waits for that for a short time. Blocks.
    pub fn is_told(&self) -> Option<bool> {
        self.fleet.as_ref().map(|fleet| fleet.is_told())
    }

    /// Has the others look at the aliases of predictors.
    pub fn say_models(&self) {
        self.say(|| Said::Models);
    }

    /// Stops automation or lets it go on, on all instances; whether that is news here. Blocks.
    ///
    /// # Errors
    /// See [`FreezeError`]; unless for its reason, the order is in force, and the others are told.
    pub fn order_freeze(&self, on: bool, reason: &str) -> Result<bool, FreezeError> {
        self.order(|state| {
            let done = state.freeze(on, reason);
            let flag = || Flag::Freeze { order: state.freeze.order(), reason: reason.into(), at: state.clock.now() };
            let flag = (!matches!(done, Err(FreezeError::Reason))).then(flag);
            (done, flag)
        })
    }

    /// Lets everything pass by, on all instances. Blocks.
    ///
    /// # Errors
    /// See [`BypassError`]; with [`BypassError::Unwritten`] the order is in force, and the others are told.
    pub fn order_bypass(&self, order: Order) -> Result<(), BypassError> {
        self.order(|state| {
            let done = state.bypass_on(order.clone());
            let flag = matches!(done, Ok(()) | Err(BypassError::Unwritten { .. })).then(|| Flag::BypassOn(order));
            (done, flag)
        })
    }

    /// Ends a bypass, or every one, on all instances; whether there was any here. Blocks.
    ///
    /// # Errors
    /// See [`BypassError`]; with [`BypassError::Unwritten`] it has ended, and the others are told.
    pub fn order_bypass_off(&self, route: Option<&str>, reason: &str) -> Result<bool, BypassError> {
        self.order(|state| {
            let done = state.bypass_off(route, reason);
            let flag = || Flag::BypassOff { route: route.map(RouteName::from), reason: reason.into(), at: state.clock.now() };
            let flag = matches!(done, Ok(_) | Err(BypassError::Unwritten { .. })).then(flag);
            (done, flag)
        })
    }

    /// Carries out an order, and has the others told where it became a flag. Meanwhile no other order is.
    fn order<T>(&self, act: impl FnOnce(&Self) -> (T, Option<Flag>)) -> T {
        let Some(fleet) = &self.fleet else { return act(self).0 };
        let mut stamps = fleet.stamps.lock();
        let (done, flag) = act(self);
        if let Some(flag) = flag {
            let at = stamps.next(subjects(&flag, &fleet.routes.load()), self.clock.now());
            fleet.say(Said::Flag(Box::new(flag), at));
        }
        done
    }

    /// Takes over what the store's aliases say, and tells it whether automation is frozen here. Blocks.
    pub fn poll_models(&self) {
        self.tell_freeze();
        for change in self.predictors.store().poll() {
            tracing::info!(?change, "predictors");
        }
        self.distrust_sent_back();
    }

    fn say(&self, said: impl FnOnce() -> Said) {
        if let Some(fleet) = &self.fleet {
            fleet.say(said());
        }
    }
}

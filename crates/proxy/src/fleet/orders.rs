//! What is done here and said to the others.

use farthing_cache::{Purge, Purged};
use farthing_types::RouteName;

use super::message::{Flag, Said};
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
        let done = self.freeze(on, reason);
        if !matches!(done, Err(FreezeError::Reason)) {
            self.say(|| Said::Flag(Box::new(Flag::Freeze { order: self.freeze.order(), reason: reason.into(), at: self.clock.now() })));
        }
        done
    }

    /// Lets everything pass by, on all instances. Blocks.
    ///
    /// # Errors
    /// See [`BypassError`]; with [`BypassError::Unwritten`] the order is in force, and the others are told.
    pub fn order_bypass(&self, order: Order) -> Result<(), BypassError> {
        let done = self.bypass_on(order.clone());
        if matches!(done, Ok(()) | Err(BypassError::Unwritten { .. })) {
            self.say(|| Said::Flag(Box::new(Flag::BypassOn(order))));
        }
        done
    }

    /// Ends a bypass, or every one, on all instances; whether there was any here. Blocks.
    ///
    /// # Errors
    /// See [`BypassError`]; with [`BypassError::Unwritten`] it has ended, and the others are told.
    pub fn order_bypass_off(&self, route: Option<&str>, reason: &str) -> Result<bool, BypassError> {
        let done = self.bypass_off(route, reason);
        if matches!(done, Ok(_) | Err(BypassError::Unwritten { .. })) {
            let at = self.clock.now();
            self.say(|| Said::Flag(Box::new(Flag::BypassOff { route: route.map(RouteName::from), reason: reason.into(), at })));
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

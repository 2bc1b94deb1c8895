//! What is done to the store without an operator: by the autopilot, and told to the trainer's loop.

use std::collections::BTreeSet;

use farthing_contract::bundle::disk::{note_frozen, note_named, read_aliases};
use farthing_contract::bundle::frozen::Frost;
use farthing_contract::bundle::{Action, Alias, Event, Kind};
use farthing_types::Time;

use crate::store::{Store, target_of};
use crate::{Generation, ModelsError, Order};

impl Store {
    /// Whether `champion` became that since a time, and a version before it is in memory to go back to. One that was gone back to did not.
    pub fn is_young(&self, kind: Kind, champion: &Generation, since: Time) -> bool {
        let state = self.state.lock();
        let became = state.history.last_move(kind, Alias::Champion).is_some_and(|event| {
            matches!(event.action, Action::Promote | Action::Follow)
                && event.to.as_ref().is_some_and(|to| *to.digest == **champion.digest())
                && event.at_ns >= since.nanos()
        });
        became && state.warm.get(&kind).is_some_and(|warm| !warm.is_empty())
    }

    /// The version that the last rollback of the champion has left, unless it was let in again since. Waits for whoever changes the store.
    pub fn sent_back(&self, kind: Kind) -> Option<u32> {
        let state = self.state.lock();
        let back = |event: &&Event| (event.kind, event.alias, event.action) == (kind, Alias::Champion, Action::Rollback);
        let left = state.history.events().iter().rev().find(back)?.from.as_ref()?;
        state.history.rejected(kind, &left.digest).map(|_| left.version)
    }

    /// Makes the challenger champion, if it still is the version of that digest and automation is not frozen; whether it was done.
    ///
    /// # Errors
    /// As [`Store::promote`].
    pub fn crown(&self, kind: Kind, digest: &str, order: Order) -> Result<bool, ModelsError> {
        // What others have named since is not what was judged.
        let still = read_aliases(&self.root)?.get(kind, Alias::Challenger).is_some_and(|named| named.current.digest == digest);
        let Some(live) = self.current(kind, Alias::Challenger).filter(|live| still && **live.digest() == *digest) else { return Ok(false) };
        if self.is_frozen() {
            return Ok(false);
        }
        self.promote(kind, live.version(), Alias::Champion, order).map(|_| true)
    }

    /// Takes the alias away from the version of that digest, and holds nothing against it; whether it was done.
    ///
    /// # Errors
    /// A store that cannot be written.
    pub fn withdraw(&self, kind: Kind, alias: Alias, digest: &str, order: Order) -> Result<bool, ModelsError> {
        if self.is_frozen() || self.current(kind, alias).is_none_or(|live| **live.digest() != *digest) {
            return Ok(false);
        }
        self.clear(kind, alias, order).map(|()| true)
    }

    /// Tells who trains that answers change otherwise than a champion foretells. Nothing is moved.
    ///
    /// # Errors
    /// A store that cannot be written.
    pub fn note_drift(&self, champion: &Generation, order: &Order) -> Result<(), ModelsError> {
        let mut state = self.state.lock();
        let event = order.event((champion.kind(), Alias::Champion), Action::Drift, (Some(target_of(champion)), None));
        // Where the store is gone, nothing is made in its place.
        if self.is_gone() {
            return Err(ModelsError::Rejected(format!("{} cannot be reached", self.root.display())));
        }
        // Under the lock of the aliases, so that no other writer's line is lost where the file is written anew.
        self.change((champion.kind(), Alias::Champion), |_| Ok(((), Some(event.clone()))))?;
        state.history.push(&event);
        Ok(())
    }

    /// Tells who trains that an instance is frozen (since when, why), or is not.
    ///
    /// # Errors
    /// A store that cannot be written.
    pub fn note_frozen(&self, instance: &str, order: Option<(Time, &str)>) -> Result<(), ModelsError> {
        // Nothing is made in the place of a store that is gone for the moment.
        if order.is_some() && self.is_gone() && self.runs_something() {
            return Err(ModelsError::Rejected(format!("{} cannot be reached", self.root.display())));
        }
        let frost = order.map(|(since, reason)| Frost { since_ns: since.nanos(), reason: reason.to_owned() });
        Ok(note_frozen(&self.root, instance, frost)?)
    }

    /// Tells who tidies up which versions the experiments of an instance name: they stay on disk.
    ///
    /// # Errors
    /// A store that cannot be written.
    pub fn note_named(&self, instance: &str, names: (Kind, BTreeSet<u32>), now: Time) -> Result<(), ModelsError> {
        // Nothing is made in the place of a store that is gone for the moment.
        if !names.1.is_empty() && self.is_gone() && self.runs_something() {
            return Err(ModelsError::Rejected(format!("{} cannot be reached", self.root.display())));
        }
        Ok(note_named(&self.root, instance, names, now)?)
    }
}

//! What is done to aliases on purpose: promoted, rolled back, rejected, cleared; each with who and why, kept in the history.

use std::sync::Arc;

use farthing_contract::bundle::disk::append_history;
use farthing_contract::bundle::{Action, Alias, BundleError, Event, Kind, Target};
use farthing_types::Time;

use crate::store::{State, Store, rejection, target_of};
use crate::{Generation, ModelsError};

/// Who orders a change, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// When.
    pub at: Time,
    /// Who: `operator anna`, `canary`, `drift`.
    pub by: String,
    /// Why.
    pub reason: String,
    /// Also a version that was rolled back before.
    pub force: bool,
}

impl Order {
    /// An order of `by`, for `reason`.
    pub fn new(at: Time, by: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { at, by: by.into(), reason: reason.into(), force: false }
    }
}

impl From<Time> for Order {
    /// One whose giver says nothing more.
    fn from(at: Time) -> Self {
        Self::new(at, "operator", "not said")
    }
}

impl Order {
    pub(crate) fn event(&self, (kind, alias): (Kind, Alias), action: Action, (from, to): (Option<Target>, Option<Target>)) -> Event {
        let Self { at, by, reason, .. } = self;
        Event { at_ns: at.nanos(), kind, alias, action, from, to, by: by.clone(), reason: reason.clone(), forced: false }
    }
}

impl Store {
    /// Loads a version, then moves the alias to it, on disk and here. When anything fails, the old one stays.
    ///
    /// # Errors
    /// A version that fails a check, or was rolled back and is not forced; a store that cannot be written.
    pub fn promote(&self, kind: Kind, version: u32, alias: Alias, order: impl Into<Order>) -> Result<Arc<Generation>, ModelsError> {
        let order = order.into();
        self.bring(kind, version)?;
        if let Some(mirror) = &self.mirror {
            mirror.offer(kind, version)?;
        }
        let mut state = self.state.lock();
        self.reread(&mut state);
        let generation = self.counted(self.read(kind, version, None))?;
        let target = target_of(&generation);
        let rejected = state.history.rejected(kind, &target.digest).map(|event| rejection(&target, event));
        if let Some(why) = rejected.as_ref().filter(|_| !order.force) {
            return Err(ModelsError::Rejected(why.clone()));
        }
        if alias != Alias::Champion && self.current(kind, Alias::Champion).is_some_and(|champion| champion.is(kind, &target)) {
            return Err(ModelsError::Rejected(format!("{kind}/{version} is the champion: it cannot be compared with itself")));
        }
        let event = self.change((kind, alias), |aliases| {
            let from = aliases.get(kind, alias).map(|named| named.current.clone());
            let changed = aliases.promote(kind, alias, target.clone(), order.at.nanos());
            // A challenger that has become champion has nothing more to prove.
            if alias == Alias::Champion && aliases.get(kind, Alias::Challenger).is_some_and(|named| named.current == target) {
                aliases.clear(kind, Alias::Challenger);
            }
            let forced = rejected.is_some();
            let event = Event { forced, ..order.event((kind, alias), Action::Promote, (from, Some(target.clone()))) };
            let told = (changed || forced).then_some(event);
            Ok((told.clone(), told))
        })?;
        event.iter().for_each(|event| state.history.push(event));
        state.problems.remove(&(kind, alias));
        self.install(&mut state, (kind, alias), Some(Arc::clone(&generation)));
        if alias == Alias::Champion && self.current(kind, Alias::Challenger).is_some_and(|other| Arc::ptr_eq(&other, &generation)) {
            self.install(&mut state, (kind, Alias::Challenger), None);
        }
        tracing::info!(%kind, %alias, version, by = order.by, reason = order.reason, "promoted");
        Ok(generation)
    }

    /// Moves the alias back to the version it named before; the one it leaves is not promoted again unless forced. Where that version is
    /// still warm, it decides from this moment, whether or not the store can be reached: it is then told later.
    ///
    /// # Errors
    /// There is no version to go back to, or none that loads; the present one stays.
    pub fn rollback(&self, kind: Kind, alias: Alias, order: impl Into<Order>) -> Result<Arc<Generation>, ModelsError> {
        let nothing = || BundleError::NoTarget { kind, what: format!("{alias} to roll back") };
        self.back(kind, alias, None, &order.into())?.ok_or_else(|| nothing().into())
    }

    /// As [`Store::rollback`]; where `only` says a digest, nothing is done to another version: whoever asked did not mean it.
    fn back(&self, kind: Kind, alias: Alias, only: Option<&str>, order: &Order) -> Result<Option<Arc<Generation>>, ModelsError> {
        let mut state = self.state.lock();
        if only.is_some_and(|digest| self.current(kind, alias).is_none_or(|live| **live.digest() != *digest)) {
            return Ok(None);
        }
        if self.is_gone() && self.current(kind, alias).is_some() {
            let moved = self.back_by_itself(&mut state, (kind, alias), order)?;
            return Ok(Some(self.went_back(&mut state, (kind, alias), moved)));
        }
        let moved = self.change((kind, alias), |aliases| {
            let from = aliases.get(kind, alias).map(|named| named.current.clone());
            // Another instance has moved it meanwhile, perhaps for the same reason: once more would be a version too far.
            if only.is_some_and(|digest| from.as_ref().is_none_or(|named| named.digest != digest)) {
                return Ok((None, None));
            }
            let target = aliases.rollback(kind, alias, order.at.nanos())?;
            let warm = state.warm.get(&kind).into_iter().flatten().find(|generation| generation.is(kind, &target)).cloned();
            let generation = warm.map_or_else(|| self.counted(self.read(kind, target.version, Some(&target))), Ok)?;
            let event = order.event((kind, alias), Action::Rollback, (from, Some(target)));
            Ok((Some((generation, event.clone())), Some(event)))
        });
        let moved = match moved {
            Ok(Some(moved)) => moved,
            Ok(None) => {
                drop(state);
                let changes = self.poll();
                tracing::info!(%kind, %alias, ?changes, "another instance has moved it: followed");
                return Ok(self.current(kind, alias));
            }
            Err(BundleError::Io { .. } | BundleError::Aliases { .. }) => self.back_by_itself(&mut state, (kind, alias), order)?,
            Err(error) => return Err(error.into()),
        };
        Ok(Some(self.went_back(&mut state, (kind, alias), moved)))
    }

    fn went_back(&self, state: &mut State, of: (Kind, Alias), (generation, event): (Arc<Generation>, Event)) -> Arc<Generation> {
        tracing::warn!(kind = %of.0, alias = %of.1, to = generation.version(), by = event.by, reason = event.reason, "rolled back");
        state.history.push(&event);
        state.problems.remove(&of);
        self.install(state, of, Some(Arc::clone(&generation)));
        generation
    }

    /// The store cannot be reached: what is warm decides, and this instance remembers.
    fn back_by_itself(&self, state: &mut State, of: (Kind, Alias), order: &Order) -> Result<(Arc<Generation>, Event), BundleError> {
        let (kind, alias) = of;
        let live = self.current(kind, alias);
        let warm = state.warm.get(&kind).into_iter().flatten().find(|_| alias == Alias::Champion).cloned();
        let warm =
            warm.ok_or_else(|| BundleError::NoTarget { kind, what: format!("earlier {alias} in memory, and the store cannot be read") })?;
        let event = order.event(of, Action::Rollback, (live.as_deref().map(target_of), Some(target_of(&warm))));
        self.remember(state, &event);
        Ok((warm, event))
    }

    /// Keeps an event that the store could not take.
    fn remember(&self, state: &mut State, event: &Event) {
        match self.own_history.as_ref().map(|path| append_history(path, event)) {
            Some(Ok(())) => tracing::warn!("the store cannot be written: this instance remembers the change by itself"),
            Some(Err(error)) => tracing::error!(%error, "a rollback is in force and written nowhere: a restart forgets it"),
            None => tracing::error!("a rollback is in force and written nowhere: a restart forgets it"),
        }
        state.untold.push(event.clone());
    }

    /// Takes a candidate away from an alias, here at once and in the store as soon as it can be reached; it is not promoted again unless
    /// forced. A champion is rolled back.
    ///
    /// # Errors
    /// As [`Store::rollback`], for the champion.
    pub fn reject(&self, kind: Kind, alias: Alias, digest: &str, order: impl Into<Order>) -> Result<(), ModelsError> {
        if alias == Alias::Champion {
            return self.back(kind, alias, Some(digest), &order.into()).map(drop);
        }
        let order = order.into();
        let mut state = self.state.lock();
        let Some(live) = self.current(kind, alias).filter(|live| **live.digest() == *digest) else { return Ok(()) };
        // The champion's own version is no worse than the champion: it goes, and nothing is held against it.
        let is_champion = self.current(kind, Alias::Champion).is_some_and(|champion| champion.digest() == live.digest());
        let action = if is_champion { Action::Clear } else { Action::Reject };
        let event = order.event((kind, alias), action, (Some(target_of(&live)), None));
        self.install(&mut state, (kind, alias), None);
        let tell = || {
            self.change((kind, alias), |aliases| {
                if aliases.get(kind, alias).is_some_and(|named| named.current.digest == digest) {
                    aliases.clear(kind, alias);
                }
                Ok(((), Some(event.clone())))
            })
        };
        // Where the store is gone, nothing is made in its place: that would be told to nobody.
        if self.is_gone() || tell().is_err() {
            self.remember(&mut state, &event);
        }
        state.history.push(&event);
        tracing::warn!(%kind, %alias, version = live.version(), by = order.by, reason = order.reason, "rejected");
        Ok(())
    }

    /// Takes the alias away from whatever it names, on disk and here.
    ///
    /// # Errors
    /// A store that cannot be written.
    pub fn clear(&self, kind: Kind, alias: Alias, order: impl Into<Order>) -> Result<(), ModelsError> {
        let order = order.into();
        let mut state = self.state.lock();
        // Nothing is made in the place of a store that is gone: the alias would be back with it.
        if self.is_gone() && self.current(kind, alias).is_some() {
            return Err(ModelsError::Rejected(format!("{} cannot be reached: the {alias} would be back with it", self.root.display())));
        }
        let event = self.change((kind, alias), |aliases| {
            let from = aliases.get(kind, alias).map(|named| named.current.clone());
            let event = order.event((kind, alias), Action::Clear, (from, None));
            let told = aliases.clear(kind, alias).then_some(event);
            Ok((told.clone(), told))
        })?;
        event.iter().for_each(|event| state.history.push(event));
        state.problems.remove(&(kind, alias));
        self.install(&mut state, (kind, alias), None);
        Ok(())
    }

    /// Who moved what, when and why; oldest first.
    pub fn history(&self) -> Vec<Event> {
        let mut state = self.state.lock();
        self.reread(&mut state);
        state.history.events().to_vec()
    }
}

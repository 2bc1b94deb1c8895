//! The `ttl` predictors in force: what the store has live, as the decisions see it.

use std::sync::Arc;

use arc_swap::ArcSwap;
use farthing_models::{Alias, Generation, Kind, Store};
use farthing_policy::Champion;

/// Versions held for variants that name one; more than a route's variants can need.
const PINNED: usize = 8;

/// Predictors for decisions: the champion, and versions that a variant pinned.
pub struct Predictors {
    store: Arc<Store>,
    pinned: ArcSwap<Vec<Arc<Generation>>>,
}

impl Predictors {
    /// Predictors of `store`.
    pub fn new(store: Store) -> Self {
        Self { store: Arc::new(store), pinned: ArcSwap::default() }
    }

    /// The store behind it.
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// The generation that decides: the champion, or the pinned version. `None`: rules decide.
    pub fn ttl(&self, version: Option<u32>) -> Option<Arc<Generation>> {
        let champion = self.store.current(Kind::Ttl, Alias::Champion);
        match version {
            None => champion,
            Some(version) if champion.as_ref().is_some_and(|c| c.version() == version) => champion,
            Some(version) => self.pinned.load().iter().find(|g| g.version() == version).cloned(),
        }
    }

    /// Loads a version that a variant names, off the request path.
    ///
    /// # Errors
    /// The store's, when the version cannot go live.
    pub fn pin(&self, version: u32) -> Result<(), farthing_models::ModelsError> {
        let generation = self.store.load(Kind::Ttl, version)?;
        let mut pinned: Vec<_> = self.pinned.load().iter().filter(|g| g.version() != version).cloned().collect();
        pinned.push(generation);
        let excess = pinned.len().saturating_sub(PINNED);
        pinned.drain(..excess);
        self.pinned.store(Arc::new(pinned));
        Ok(())
    }
}

/// A generation as decisions at a stale budget ask it; without one, rules decide.
pub fn champion(generation: Option<&Arc<Generation>>, stale_budget: f64) -> Champion {
    let Some(generation) = generation else { return Champion::default() };
    Champion {
        levels: generation.levels().clone(),
        kappa: generation.manifest().kappa(stale_budget),
        shipped: is_shipped(generation),
        ..Champion::default()
    }
}

/// Whether a generation came with the program.
pub fn is_shipped(generation: &Generation) -> bool {
    generation.manifest().metrics.get("shipped").is_some_and(|v| *v > 0.0)
}

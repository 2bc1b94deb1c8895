//! Another configuration for a running instance (SPEC O3): judged as a whole, then put in force as a whole or not at all.
//!
//! What lives on goes by names: a route keeps its statistics, switches and decisions, a provider that is reached as before its connections and its breaker, a
//! limit what it has given, a budget what was spent. Requests under way end with the route that they began with.

mod handle;
mod ready;
mod standing;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use farthing_cache::Purge;
use farthing_config::{Change, Config};
use farthing_ledger::PriceBook;
use farthing_ledger::budget::AmendError;
use farthing_types::RouteName;

use crate::StartError;
use crate::compile::{Around, Build, Compiled, compile};
use crate::live::Live;
use crate::prices;
use crate::state::State;

pub use standing::{Digest, Outcome, ReloadTurn, Reloads, Standing};

/// Why a configuration is not put in force; nothing has changed then.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// It changes what a running instance cannot take over.
    #[error("restart needed, nothing was changed: {}", .0.iter().map(told).collect::<Vec<_>>().join("; "))]
    Restart(Vec<Change>),
    /// It could not run.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A budget cannot become that.
    #[error("restart needed, nothing was changed: {0}")]
    Budgets(#[from] AmendError),
}

fn told(change: &Change) -> String {
    format!("{} ({} -> {}): {}", change.key, change.from, change.to, change.restart.unwrap_or_default())
}

/// A configuration that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unread {
    /// Everything that is wrong.
    pub problem: String,
    /// Digest of its text, where that could be read.
    pub digest: Option<Digest>,
}

/// A reload that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotReloaded {
    /// Whether it needs a restart, or something is wrong with it.
    pub outcome: Outcome,
    /// Everything that is wrong, or needs a restart.
    pub problem: String,
}

/// What a reload came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reloaded {
    /// What is another than before.
    pub changes: Vec<Change>,
    /// Routes whose copies were purged, because they were made by other rules or come from elsewhere.
    pub purged: Vec<RouteName>,
}

/// A configuration that can be put in force.
struct Judged {
    changes: Vec<Change>,
    compiled: Compiled,
    book: PriceBook,
}

impl State {
    /// What another configuration would change, and what of it needs a restart. Changes nothing.
    ///
    /// # Errors
    /// It could not run at all.
    pub fn foresee(&self, config: &Config, build: &Build<'_>) -> Result<Vec<Change>, ReloadError> {
        let before = self.live.load_full();
        self.judge(&before, config, build).map(|judged| judged.changes)
    }

    /// Puts another configuration in force, all of it or nothing: one after the other, as each goes on from what is in force. Blocks.
    ///
    /// # Errors
    /// See [`ReloadError`].
    pub fn reload(&self, _turn: &ReloadTurn<'_>, config: Config, build: &Build<'_>) -> Result<Reloaded, ReloadError> {
        let before = self.live.load_full();
        let Judged { changes, compiled, book } = self.judge(&before, &config, build)?;
        let restart: Vec<Change> = changes.iter().filter(|change| change.restart.is_some()).cloned().collect();
        if !restart.is_empty() {
            return Err(ReloadError::Restart(restart));
        }
        // Files may have changed where the configuration has not.
        let certificates = self.listeners.read(&config, self.wall_now()).map_err(StartError::from)?;
        if changes.is_empty() && book.digest() == self.pricing.book().digest() {
            certificates.put();
            return Ok(Reloaded::default());
        }
        self.budgets.amend(&config.budgets)?;
        // Nothing can fail from here on.
        certificates.put();
        if book.digest() != self.pricing.book().digest() {
            self.pricing.replace(book);
        }
        let clients = before.clients.under((&before.config, &config));
        let next = Arc::new(Live::new(Arc::new(config), clients, compiled));
        let purged = ready::stale_by_rules(&before, &next);
        self.swap(&before, &next);
        for route in &purged {
            self.cache.purge(&Purge::Prefix { route: Some(route.clone()), path: "".into() }, false, self.clock.now());
        }
        Ok(Reloaded { changes, purged })
    }

    fn judge(&self, before: &Live, config: &Config, build: &Build<'_>) -> Result<Judged, ReloadError> {
        let mut changes = before.config.changes_to(config);
        let hearing = self.fleet.as_ref().map(|fleet| fleet.hearing());
        let compiled = compile(config, Around { events: &self.events, hearing, before: Some(before), build })?;
        let book = prices::book(config).map_err(StartError::from)?;
        changes.extend(ready::beyond_reach(before, &compiled));
        self.experiments_fit(&compiled.routes)?;
        Ok(Judged { changes, compiled, book })
    }

    /// The swap itself: what requests read is complete before they can, and what was remembered under the one before is forgotten after.
    fn swap(&self, before: &Live, next: &Arc<Live>) {
        next.limits.amend(&next.config);
        self.make_ready(next);
        self.live.store(next.clone());
        self.turns.fetch_add(1, Ordering::Release);
        self.shortcuts.clear();
        self.alerts.amend(&next.config.alerts);
        self.events.iter().for_each(|source| source.routes_are(&next.config));
        if let Some(fleet) = &self.fleet {
            fleet.routes_are(&next.config);
        }
        // Orders and candidates may have come between: they went to the routes that were in force then.
        self.make_ready(next);
        ready::begin_anew(before, next);
        self.republish_experiments();
    }
}

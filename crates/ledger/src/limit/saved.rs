//! What counters have given, for a restart: a process that begins anew gives none of it a second time.

use std::sync::Arc;

use farthing_types::{Span, Time};
use serde::{Deserialize, Serialize};

use super::Book;
use super::counter::Counter;

/// What a counter has given of what it may hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedCounter {
    /// Name of its limit.
    pub limit: Arc<str>,
    /// Whose it is; empty where all share it.
    pub unit: Arc<str>,
    /// Requests that are missing until it holds all again.
    #[serde(default)]
    pub requests: u64,
    /// The same for tokens.
    #[serde(default)]
    pub tokens: u64,
    /// How long the provider wants to be left alone yet.
    #[serde(default)]
    pub held: Span,
}

impl Book {
    /// A number that is another one whenever [`Self::saved`] may be, but for what time alone has brought back since.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// Counters that are not as new.
    pub fn saved(&mut self, now: Time) -> Vec<SavedCounter> {
        let saved = |counter: &mut Counter, limit: &Arc<str>| {
            let [requests, tokens] = counter.missing(now);
            SavedCounter { limit: limit.clone(), unit: counter.unit.clone(), requests, tokens, held: counter.held(now) }
        };
        let names: Vec<Option<Arc<str>>> = self.limits.iter().map(|limit| (!limit.retired).then(|| limit.spec.name.clone())).collect();
        let counters = self.counters.iter_mut().flatten();
        let saved = counters.filter_map(|counter| Some(saved(counter, names.get(counter.limit as usize)?.as_ref()?)));
        saved.filter(|saved| saved.requests > 0 || saved.tokens > 0 || !saved.held.is_zero()).collect()
    }

    /// Takes over what was saved that long ago. Limits that are no more are left out; one whose rate is another brings what is missing by its new one.
    pub fn restore(&mut self, saved: impl IntoIterator<Item = SavedCounter>, ago: Span, now: Time) {
        for SavedCounter { limit, unit, requests, tokens, held } in saved {
            let Some(limit) = self.limits.iter().position(|known| known.spec.name == limit) else { continue };
            let then = now - ago;
            let known = self.limits[limit].units.get(&unit).copied();
            let id = known.unwrap_or_else(|| self.open(limit, &unit, then));
            let Some(counter) = self.of(id) else { continue };
            counter.take_over([requests, tokens], then);
            let rest = held.saturating_sub(ago);
            if !rest.is_zero() {
                counter.hold(now + rest, now);
            }
        }
    }
}

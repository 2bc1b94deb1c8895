//! What is told of limits.

use std::sync::Arc;

use farthing_types::{LimitSpec, Span, Time};

use super::stats::{CounterView, LimitView};
use super::{Ask, Book};

/// What a caller has left of a limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quota {
    /// The limit.
    pub spec: Arc<LimitSpec>,
    /// Requests that may go now, and until all are there again.
    pub requests: Option<(u64, Span)>,
    /// The same for tokens.
    pub tokens: Option<(u64, Span)>,
    /// Calls under way.
    pub running: u32,
}

impl Book {
    /// What who asks has left of the limits that count it.
    pub fn quotas(&mut self, ask: &Ask<'_>) -> Vec<Quota> {
        let counters = self.counters_of(ask);
        let quota = |id: u32| {
            let spec = self.limits[self.limit_of(id)].spec.clone();
            let counter = self.of(id)?;
            let [requests, tokens] = counter.left(ask.now);
            Some(Quota { spec, requests, tokens, running: counter.running })
        };
        counters.into_iter().filter_map(quota).collect()
    }

    /// All limits, each with so many of its counters at most.
    pub fn views(&mut self, most: usize, now: Time) -> Vec<LimitView> {
        (0..self.limits.len())
            .filter(|limit| !self.limits[*limit].retired)
            .collect::<Vec<_>>()
            .into_iter()
            .map(|limit| self.view(limit, most, now))
            .collect()
    }

    fn view(&mut self, limit: usize, most: usize, now: Time) -> LimitView {
        let limit = &self.limits[limit];
        let (spec, stats, ids) = (limit.spec.clone(), limit.stats.clone(), limit.units.values().copied().collect::<Vec<_>>());
        let waiting = ids.iter().filter_map(|id| self.of(*id).map(|counter| counter.line.len())).sum();
        let counters = ids.len();
        let busiest = if most > 0 { self.busiest(ids, most, now) } else { Vec::new() };
        LimitView { spec, stats, counters, waiting, busiest }
    }

    fn busiest(&mut self, ids: Vec<u32>, most: usize, now: Time) -> Vec<CounterView> {
        let mut busiest: Vec<CounterView> = ids.into_iter().filter_map(|id| self.counter_view(id, now)).collect();
        let left = |rate: Option<(u64, Span)>| rate.map_or(u64::MAX, |(left, _)| left);
        busiest.sort_by_cached_key(|view| {
            (std::cmp::Reverse(view.waiting), left(view.requests), left(view.tokens), std::cmp::Reverse(view.running), view.unit.clone())
        });
        busiest.truncate(most);
        busiest
    }

    fn counter_view(&mut self, id: u32, now: Time) -> Option<CounterView> {
        let counter = self.of(id)?;
        let [requests, tokens] = counter.left(now);
        Some(CounterView {
            unit: counter.unit.clone(),
            requests,
            tokens,
            running: counter.running,
            waiting: counter.line.len(),
            held: counter.held(now),
            share: counter.rate(),
        })
    }
}

//! From requests that came to the statistics of the decision.

use std::sync::atomic::Ordering::Relaxed;

use farthing_contract::features::{BatchWindow, CacheView, HeadFacts, RouteStats, StrategyStats, TtlInput};
use farthing_policy::Champion;
use farthing_types::{KeyHash, Money, Time};

use super::seen::{Arrival, Drained, How};
use crate::route::RouteState;
use crate::state::State;

/// Keys of a turn for which it is asked what the cache would do; the others count as their mean. More would cost time, and the memory of the
/// shares is long.
const ASKED: usize = 64;

/// What the cache would do with the requests of a turn that passed it by.
struct WouldBe {
    needs_call: f32,
    stale: f32,
}

impl State {
    /// Takes what has come into `stats`; the statistics of the route now, where anything came.
    pub(super) fn fold(
        &self,
        route: &RouteState,
        stats: &mut StrategyStats,
        (batch, price): (Option<BatchWindow>, Option<Money>),
    ) -> Option<RouteStats> {
        // Taken out first: as part of the loop the lock would be held to its end.
        let calls = std::mem::take(&mut *route.planning.calls.lock());
        for (took, bytes) in calls {
            stats.on_call(took, bytes);
        }
        let wanted = {
            let live = route.stats.lock();
            (!live.seen.is_empty()).then(|| live.seen.wanted())?
        };
        // Room is made without the lock: requests wait for it.
        let room = Vec::with_capacity(wanted);
        let (mut drained, of_route) = {
            let mut live = route.stats.lock();
            (live.seen.take(room), live.stats.clone())
        };
        // Notes are made when a key's lock is had, a little out of order.
        drained.arrivals.sort_by_key(Arrival::at);
        let would_be = self.would_be(route, &of_route, &drained.arrivals, price);
        take(stats, &drained, (&of_route, &would_be), batch);
        route.planning.counts.beyond.fetch_add(drained.beyond, Relaxed);
        Some(of_route)
    }

    /// What the cache would do with those that passed it by: the mean over some of them, spread evenly.
    fn would_be(&self, route: &RouteState, of_route: &RouteStats, arrivals: &[Arrival], price: Option<Money>) -> WouldBe {
        let passed: Vec<&Arrival> = arrivals.iter().filter(|arrival| arrival.how == How::Passed).collect();
        let step = passed.len().div_ceil(ASKED).max(1);
        let champion = self.ttl_champion(route, None);
        let (mut needs_call, mut stale, mut asked) = (0.0, 0.0, 0.0f32);
        for arrival in passed.into_iter().step_by(step) {
            let view = self.passed_by(route, (of_route, &champion), (arrival.key, arrival.at()), price);
            (needs_call, stale, asked) = (needs_call + view.needs_call, stale + view.stale, asked + 1.0);
        }
        WouldBe { needs_call: needs_call / asked.max(1.0), stale: stale / asked.max(1.0) }
    }

    /// What the cache would do with a key, under the TTL that its next answer would get.
    fn passed_by(
        &self,
        route: &RouteState,
        (of_route, champion): (&RouteStats, &Champion),
        (key, now): (KeyHash, Time),
        price: Option<Money>,
    ) -> CacheView {
        let key = self.cache.update_key_stats(key, |stats| *stats);
        let input = TtlInput { key: &key, route: of_route, head: HeadFacts::default(), now };
        let decided = self.guarded.choose((&route.plan, &route.economics), champion, (price, false), &input);
        CacheView::passed_by(&input, decided.acting.choice.value.fresh)
    }
}

fn take(stats: &mut StrategyStats, drained: &Drained, (of_route, would_be): (&RouteStats, &WouldBe), batch: Option<BatchWindow>) {
    let mark = stats.mark();
    // The proxy does not see that an answer is stale: it counts what the route's refetches show.
    let expected = of_route.stale_share().unwrap_or(0.0) as f32;
    for arrival in &drained.arrivals {
        let view = match arrival.how {
            How::Kept => CacheView { needs_call: 0.0, stale: expected, cached: true },
            How::Led => CacheView { needs_call: 1.0, stale: 0.0, cached: true },
            How::Passed => CacheView { needs_call: would_be.needs_call, stale: would_be.stale, cached: false },
            How::Joined => CacheView { needs_call: 0.0, stale: 0.0, cached: false },
            How::Never => CacheView { needs_call: 1.0, stale: 0.0, cached: false },
        };
        stats.on_request(arrival.at(), arrival.key.short(), (arrival.seen(), view), batch);
    }
    stats.stand_for(&mark, drained.beyond);
    stats.on_late_calls(drained.late);
}

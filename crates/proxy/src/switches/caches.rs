//! Caches that cost more than they save (SPEC C6, R5): judged from the totals by the control loop, so that no request pays for it.

use std::sync::atomic::Ordering::Relaxed;

use farthing_ledger::aggregate::CacheWorth;
use farthing_ledger::costs::{SelfCost, Window};
use farthing_policy::switches::{Standing, WorthTurn, worth};
use farthing_types::{DrawKind, KeyHash, Money, Time, UncachedReason};

use super::{CACHE, Strategy};
use crate::route::RouteState;
use crate::state::State;

impl State {
    /// Whether a route's cache is for this key.
    ///
    /// # Errors
    /// It costs more than it saves, and the key is not in the slice on which it is tried.
    pub fn cached(&self, route: &RouteState, key: KeyHash) -> Result<(), UncachedReason> {
        if route.switches.flags.load(Relaxed) & CACHE == 0 {
            return Ok(());
        }
        // Always the same keys: their entries must live on to be worth anything.
        let drawn = self.draw.uniform(DrawKind::SwitchSlice, &route.route.name, key.0, 0);
        if drawn < worth::SLICE { Ok(()) } else { Err(UncachedReason::Unprofitable) }
    }

    /// Judges what the caches came to since the last time.
    pub fn judge_caches(&self, now: Time) {
        let live = self.live();
        let own = live.config.self_cost.map(|own| SelfCost { per_month: own.per_month, per_million_requests: own.per_million_requests });
        let reads: Vec<_> = live.routes.iter().map(|route| self.totals.route(&route.route.name).cache_worth()).collect();
        let all: u64 = live.routes.iter().zip(&reads).map(|(route, read)| read.since(&route.switches.cache.lock().read).all).sum();
        let last = self.judged.swap(now.nanos(), Relaxed);
        let from = if last == 0 { now } else { Time::from_nanos(last) };
        let own = own.map_or(0, |own| own.of(Window { from, to: now }, i128::from(all), now));
        for (route, read) in live.routes.iter().zip(reads) {
            self.judge_cache(route, read, (own, all), now);
        }
    }

    /// `own` is what Farthing itself has cost for `all` requests.
    fn judge_cache(&self, route: &RouteState, read: CacheWorth, (own, all): (i128, u64), now: Time) {
        if !route.route.cache {
            return;
        }
        let turned = {
            let mut judged = route.switches.cache.lock();
            let seen = read.since(&judged.read);
            judged.read = read;
            let own = own * i128::from(seen.requests) / i128::from(all.max(1));
            let turned = judged.worth.take(&WorthTurn {
                requests: seen.requests,
                saved: seen.saved,
                largest: seen.largest,
                renewed: seen.renewed,
                stale: seen.stale,
                stale_price: self.stale_price(route).unwrap_or(Money::ZERO),
                own: Money::from_nanos(i64::try_from(own).unwrap_or(i64::MAX)),
            });
            judged.since = if turned.is_some() { now } else { judged.since };
            turned
        };
        if let Some(to) = turned {
            route.switches.set(CACHE, to == Standing::Off);
            self.tell(route, Strategy::Cache, to);
        }
    }
}

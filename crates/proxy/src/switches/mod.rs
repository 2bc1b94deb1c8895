//! What is switched on and off while the proxy runs: the operator's bypass (SPEC C4), strategies that break promises of time (C7), caches that
//! cost more than they save (C6). The decisions are pure ([`farthing_policy::switches`]); here is who asks them, and what follows.

pub mod bypass;

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};

use arc_swap::ArcSwapOption;
use farthing_ledger::aggregate::CacheWorth;
use farthing_ledger::costs::{SelfCost, Window};
use farthing_policy::switches::{Standing, Waits, Worth, WorthTurn, worth};
use farthing_types::{DrawKind, KeyHash, Money, Outcome, RouteName, SlaOutcome, Time, UncachedReason};
use parking_lot::Mutex;

use crate::request::Planned;
use crate::route::RouteState;
use crate::settle::{Account, Settled};
use crate::state::State;

pub use bypass::{Bypass, BypassError, Order};

/// Everything passes by.
const BYPASS: u8 = 1;
/// The cache is for a slice of the keys alone.
const CACHE: u8 = 2;

/// The switches of one route.
pub struct Switches {
    /// What the path of a request has to look at: one load where nothing is switched off.
    flags: AtomicU8,
    bypass: ArcSwapOption<Order>,
    /// Batching, the one strategy that adds waiting; `None` where calls are not made together.
    batch: Option<Mutex<Waits>>,
    cache: Mutex<Judged>,
    turns: [[AtomicU64; Standing::ALL.len()]; Strategy::ALL.len()],
}

/// The cache's own record, and how far the totals were read.
#[derive(Default)]
struct Judged {
    worth: Worth,
    read: CacheWorth,
    since: Time,
}

farthing_types::reasons! {
    /// What can switch itself off.
    Strategy {
        /// The cache, where it costs more than it saves.
        Cache = "cache",
        /// Batching, where it breaks promises of time.
        Batch = "batch",
    }
}

/// How a strategy stands on a route.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SwitchView {
    /// Which.
    pub strategy: Strategy,
    /// How it stands.
    pub standing: Standing,
    /// Since when; the start of the process where it never changed.
    pub since: Time,
    /// Evidence that it should change; 1 is none.
    pub evidence: f64,
    /// When it is tried again; `None` where that is not a matter of time.
    pub tried_again: Option<Time>,
    /// For the cache: requests judged since, and what they have saved net.
    pub judged: Option<(u64, Money)>,
    /// How often it was switched off since the start.
    pub switched_off: u64,
}

/// The switches of a route, for status pages and metrics.
#[derive(Clone, Debug)]
pub struct RouteSwitches {
    /// The route.
    pub route: RouteName,
    /// The order by which everything passes by.
    pub bypass: Option<Arc<Order>>,
    /// What can switch itself off.
    pub strategies: Vec<SwitchView>,
}

impl Switches {
    /// Those of a route that makes calls together, or not.
    pub fn new(batches: bool) -> Self {
        Self {
            flags: AtomicU8::new(0),
            bypass: ArcSwapOption::empty(),
            batch: batches.then(|| Mutex::new(Waits::new(Time::ZERO))),
            cache: Mutex::default(),
            turns: Default::default(),
        }
    }

    /// Whether anything of the cache is switched off: then a request cannot be answered without looking further.
    pub fn any(&self) -> bool {
        self.flags.load(Relaxed) != 0
    }

    /// Whether everything passes by.
    pub fn is_bypassed(&self, now: Time) -> bool {
        self.flags.load(Relaxed) & BYPASS != 0 && self.bypass.load().as_ref().is_some_and(|order| order.holds(now))
    }

    fn set(&self, flag: u8, on: bool) {
        if on {
            self.flags.fetch_or(flag, Relaxed);
        } else {
            self.flags.fetch_and(!flag, Relaxed);
        }
    }

    /// Puts an order in force; none with `None`.
    pub(crate) fn put_bypass(&self, order: Option<Arc<Order>>) {
        let on = order.is_some();
        // A request that sees the flag finds the order.
        if on {
            self.bypass.store(order);
            self.set(BYPASS, true);
        } else {
            self.set(BYPASS, false);
            self.bypass.store(None);
        }
    }

    fn turned(&self, strategy: Strategy, to: Standing) {
        self.turns[strategy as usize][to as usize].fetch_add(1, Relaxed);
    }

    fn switched_off(&self, strategy: Strategy) -> u64 {
        self.turns[strategy as usize][Standing::Off as usize].load(Relaxed)
    }

    fn views(&self) -> Vec<SwitchView> {
        let cache = {
            let judged = self.cache.lock();
            SwitchView {
                strategy: Strategy::Cache,
                standing: judged.worth.standing(),
                since: judged.since,
                evidence: judged.worth.evidence(),
                tried_again: None,
                judged: Some(judged.worth.judged()),
                switched_off: self.switched_off(Strategy::Cache),
            }
        };
        let batch = self.batch.as_ref().map(|waits| {
            let waits = waits.lock();
            let (standing, since) = waits.standing();
            SwitchView {
                strategy: Strategy::Batch,
                standing,
                since,
                evidence: waits.evidence(),
                tried_again: waits.tried_again(),
                judged: None,
                switched_off: self.switched_off(Strategy::Batch),
            }
        });
        std::iter::once(cache).chain(batch).collect()
    }
}

impl State {
    /// The switches of each route.
    pub fn switches(&self) -> Vec<RouteSwitches> {
        let now = self.clock.now();
        let one = |route: &Arc<RouteState>| RouteSwitches {
            route: route.route.name.clone(),
            bypass: route.switches.bypass.load_full().filter(|order| order.holds(now)),
            strategies: route.switches.views(),
        };
        self.routes.iter().map(one).collect()
    }

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

    /// Decides whether the call of a request may wait for others, where it otherwise would: not while batching is off, nor in the slice that it is
    /// compared with.
    pub fn draw_waiting(&self, planned: &mut Planned) {
        let account = &mut planned.account;
        let Some(waits) = account.route.switches.batch.as_ref().filter(|_| planned.batch.is_ok()) else { return };
        let drawn = self.draw.uniform(DrawKind::SwitchSlice, &account.route.route.name, u128::from(account.id.0), 1);
        let (slice, turned) = {
            let mut waits = waits.lock();
            // Without a promise there is nothing to compare, and nothing that waiting breaks.
            match account.sla {
                Some(_) => waits.draw(drawn, account.started),
                None => (None, None),
            }
        };
        if account.sla.is_some() && slice.is_none_or(|slice| slice.without) {
            planned.batch = Err(UncachedReason::Disabled);
        }
        account.slice = slice;
        if let Some(to) = turned {
            self.tell(&account.route, Strategy::Batch, to);
        }
    }

    /// Learns from what became of a promise whose request was drawn.
    pub fn learn_waiting(&self, account: &Account, settled: &Settled, kept: Option<SlaOutcome>) {
        let (Some(slice), Some(kept)) = (account.slice, kept) else { return };
        // Who followed another's call, or was answered without one, waited by no draw of its own.
        if !matches!(settled.outcome, Outcome::Lead | Outcome::Bypass | Outcome::Failed) {
            return;
        }
        let Some(waits) = &account.route.switches.batch else { return };
        let turned = waits.lock().settled(slice, kept != SlaOutcome::Met, self.real_now());
        if let Some(to) = turned {
            self.tell(&account.route, Strategy::Batch, to);
        }
    }

    /// Judges what the caches came to since the last time.
    pub fn judge_caches(&self, now: Time) {
        let own = self.config.self_cost.map(|own| SelfCost { per_month: own.per_month, per_million_requests: own.per_million_requests });
        let reads: Vec<_> = self.routes.iter().map(|route| self.totals.route(&route.route.name).cache_worth()).collect();
        let all: u64 = self.routes.iter().zip(&reads).map(|(route, read)| read.since(&route.switches.cache.lock().read).all).sum();
        let last = self.judged.swap(now.nanos(), Relaxed);
        let from = if last == 0 { now } else { Time::from_nanos(last) };
        let own = own.map_or(0, |own| own.of(Window { from, to: now }, i128::from(all), now));
        for (route, read) in self.routes.iter().zip(reads) {
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

    fn tell(&self, route: &RouteState, strategy: Strategy, to: Standing) {
        route.switches.turned(strategy, to);
        let (route, strategy) = (&*route.route.name, strategy.as_str());
        match to {
            Standing::Off => tracing::warn!(route, strategy, "a strategy has switched itself off: see farthing routes"),
            Standing::Trial => tracing::info!(route, strategy, "a strategy that was off is tried for a short time"),
            Standing::On => tracing::info!(route, strategy, "a strategy that was off is on again"),
        }
    }
}

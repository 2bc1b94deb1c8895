//! What is switched on and off while the proxy runs: the operator's bypass (SPEC C4), strategies that break promises of time (C7), caches that
//! cost more than they save (C6), what is not needed where Farthing's own time is above its limit (R5). The decisions are pure ([`farthing_policy::switches`]); here is who asks them, and what follows.

pub mod bypass;
mod caches;
mod overhead;
mod own;
mod prompts;
mod waiting;

use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwapOption;
use farthing_ledger::aggregate::CacheWorth;
use farthing_policy::plan::Steps;
use farthing_policy::switches::{MarkWorth, Standing, Waits, Worth};
use farthing_types::{Money, RequestId, RouteName, Span, Time, UncachedReason};
use parking_lot::Mutex;

use crate::route::RouteState;
use crate::state::State;

use overhead::Watched;

pub use bypass::{Bypass, BypassError, Order};
pub use own::{Laps, OwnPart};

/// Everything passes by.
const BYPASS: u16 = 1;
/// The cache is for a slice of the keys alone.
const CACHE: u16 = 2;
/// The strategies chosen for the route leave the cache out.
const NO_CACHE: u16 = 4;
/// They leave batches out.
const NO_BATCH: u16 = 8;
/// What takes processor time and is not needed is left out.
const LEAN: u16 = 16;
/// A challenger decides for some keys: nothing is switched off.
const CANARY: u16 = 32;
/// Chosen TTLs are cut: nothing is switched off.
const TIGHT: u16 = 64;
/// Copies that a champion gave a TTL to that was sent back since.
const DISTRUST: u16 = 128;
/// L2 is left out, and with it leases of calls.
const NO_L2: u16 = 256;
/// Lists are not taken apart.
const NO_LISTS: u16 = 512;

/// The switches of one route.
pub struct Switches {
    /// What the path of a request has to look at: one load where nothing is switched off.
    flags: AtomicU16,
    /// Requests whose turned id is below it have their answers checked at the origin.
    audit_below: AtomicU64,
    /// What chosen TTLs are multiplied by, where they are cut: the bits of a float.
    scale: AtomicU64,
    distrusted: AtomicU32,
    bypass: ArcSwapOption<Order>,
    /// Batching, the one strategy that adds waiting; `None` where calls are not made together.
    batch: OnceLock<Mutex<Waits>>,
    cache: Mutex<Judged>,
    overhead: Watched,
    /// Marks in prompts; `None` where there are none.
    prompts: OnceLock<Mutex<MarksJudged>>,
    turns: [[AtomicU64; Standing::ALL.len()]; Strategy::ALL.len()],
}

/// The cache's own record, and how far the totals were read.
#[derive(Default)]
struct Judged {
    worth: Worth,
    read: CacheWorth,
    since: Time,
}

/// The record of marks in prompts.
#[derive(Default)]
struct MarksJudged {
    worth: MarkWorth,
    since: Time,
}

farthing_types::reasons! {
    /// What can switch itself off.
    Strategy {
        /// The cache, where it costs more than it saves.
        Cache = "cache",
        /// Batching, where it breaks promises of time.
        Batch = "batch",
        /// What is not needed, where Farthing's own time is above its limit.
        Optional = "optional",
        /// Marks in prompts, where writes are not made up for by reads.
        PromptCache = "prompt_cache",
    }
}

/// How a strategy stands on a route.
#[derive(Clone, Debug, PartialEq)]
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
    /// For the cache and for marks in prompts: requests judged since, and what they have saved net.
    pub judged: Option<(u64, Money)>,
    /// How often it was switched off since the start.
    pub switched_off: u64,
    /// For what is not needed: what of it is off, by the part of own time that it takes.
    pub left_out: Vec<OwnPart>,
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
    /// Farthing's own time on requests that went to the provider: its parts, their sums, and how many requests had each.
    pub own: Vec<(OwnPart, Span, u64)>,
}

impl Switches {
    /// Those of a route that makes calls together, or not, and marks prompts, or not.
    pub fn new(batches: bool, marks: bool) -> Self {
        let this = Self {
            flags: AtomicU16::new(0),
            audit_below: AtomicU64::new(0),
            scale: AtomicU64::new(1f64.to_bits()),
            distrusted: AtomicU32::new(0),
            bypass: ArcSwapOption::empty(),
            batch: OnceLock::new(),
            cache: Mutex::default(),
            overhead: Watched::default(),
            prompts: OnceLock::new(),
            turns: Default::default(),
        };
        this.judge(batches, marks);
        this
    }

    /// Judges batches or marks, too, from now on, where the route has some; a record that it has already goes on.
    pub(crate) fn judge(&self, batches: bool, marks: bool) {
        if batches {
            self.batch.get_or_init(|| Mutex::new(Waits::new(Time::ZERO)));
        }
        if marks {
            self.prompts.get_or_init(Mutex::default);
        }
    }

    /// Whether anything of the cache is switched off: then a request cannot be answered without looking further.
    pub fn keeps_from_hits(&self) -> bool {
        self.flags.load(Relaxed) & (BYPASS | CACHE | NO_CACHE) != 0
    }

    /// What the strategies chosen for the route leave of a plan, and what is left where Farthing's own time is above its limit.
    pub fn chosen(&self, steps: Steps) -> Steps {
        let flags = self.flags.load(Relaxed);
        if flags & (NO_CACHE | NO_BATCH | LEAN) == 0 {
            return steps;
        }
        let steps = steps.within(flags & NO_CACHE == 0, flags & NO_BATCH == 0);
        if flags & LEAN == 0 { steps } else { Steps { batch: steps.batch.and(Err(UncachedReason::Disabled)), ..steps } }
    }

    /// Puts the strategies chosen for the route in force.
    pub(crate) fn choose(&self, cache: bool, batch: bool) {
        self.set(NO_CACHE, !cache);
        self.set(NO_BATCH, !batch);
    }

    /// Whether L2 and leases of calls are left out.
    pub fn leaves_out_l2(&self) -> bool {
        self.flags.load(Relaxed) & NO_L2 != 0
    }

    /// Whether lists go whole.
    pub fn leaves_out_lists(&self) -> bool {
        self.flags.load(Relaxed) & NO_LISTS != 0
    }

    /// Whether what takes processor time and is not needed is left out.
    pub fn is_lean(&self) -> bool {
        self.flags.load(Relaxed) & LEAN != 0
    }

    /// Whether the answer to a request is checked at the origin: ids are spread evenly, so theirs is the draw.
    pub fn audits(&self, id: RequestId) -> bool {
        id.0.rotate_left(29) < self.audit_below.load(Relaxed)
    }

    /// Draws so large a share of answers from now on.
    pub(crate) fn put_audit_share(&self, share: f64) {
        self.audit_below.store((share.clamp(0.0, 1.0) * u64::MAX as f64) as u64, Relaxed);
    }

    /// What chosen TTLs are multiplied by; `None` where they are not cut.
    pub fn scale(&self) -> Option<f64> {
        (self.flags.load(Relaxed) & TIGHT != 0).then(|| f64::from_bits(self.scale.load(Relaxed)))
    }

    /// Cuts chosen TTLs, or gives them back.
    pub(crate) fn put_scale(&self, scale: f64) {
        self.scale.store(scale.to_bits(), Relaxed);
        self.set(TIGHT, scale < 1.0);
    }

    /// The version whose TTLs count for no more than the rule's first one; `None` where there is none.
    pub fn distrusted(&self) -> Option<u32> {
        (self.flags.load(Relaxed) & DISTRUST != 0).then(|| self.distrusted.load(Relaxed))
    }

    /// Says which.
    pub(crate) fn put_distrusted(&self, version: Option<u32>) {
        self.distrusted.store(version.unwrap_or(0), Relaxed);
        self.set(DISTRUST, version.is_some());
    }

    /// Whether a challenger decides for some keys.
    pub fn has_canary(&self) -> bool {
        self.flags.load(Relaxed) & CANARY != 0
    }

    /// Says whether a challenger decides for some keys.
    pub(crate) fn put_canary(&self, on: bool) {
        self.set(CANARY, on);
    }

    /// Whether everything passes by.
    pub fn is_bypassed(&self, now: Time) -> bool {
        self.flags.load(Relaxed) & BYPASS != 0 && self.bypass.load().as_ref().is_some_and(|order| order.holds(now))
    }

    fn set(&self, flag: u16, on: bool) {
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

    fn views(&self, (batches, marks): (bool, bool)) -> Vec<SwitchView> {
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
                left_out: Vec::new(),
            }
        };
        let batch = self.batch.get().filter(|_| batches).map(|waits| {
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
                left_out: Vec::new(),
            }
        });
        let prompts = self.prompts.get().filter(|_| marks).map(|judged| {
            let judged = judged.lock();
            SwitchView {
                strategy: Strategy::PromptCache,
                standing: judged.worth.standing(),
                since: judged.since,
                evidence: judged.worth.evidence(),
                tried_again: judged.worth.tried_again(),
                judged: Some(judged.worth.judged()),
                switched_off: self.switched_off(Strategy::PromptCache),
                left_out: Vec::new(),
            }
        });
        std::iter::once(cache).chain(batch).chain(prompts).chain(std::iter::once(self.overhead_view())).collect()
    }
}

impl State {
    /// The switches of each route.
    pub fn switches(&self) -> Vec<RouteSwitches> {
        let now = self.clock.now();
        let one = |route: &Arc<RouteState>| RouteSwitches {
            route: route.route.name.clone(),
            bypass: route.switches.bypass.load_full().filter(|order| order.holds(now)),
            strategies: route.switches.views((route.batching.is_some(), route.prompts.is_some())),
            own: route.switches.own_time(),
        };
        self.live().routes.iter().map(one).collect()
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

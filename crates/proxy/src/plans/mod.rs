//! Which strategies a route uses (SPEC C1, C2, C3): decided in the background from what the route's requests would have come to under each of them,
//! published as a whole, and read by requests as a flag.
//!
//! The decision itself is pure ([`farthing_policy::strategy`]). Here is what it is made from (`seen`, `fold`), when (`turn`), and what is told of
//! it (`rows`). It narrows what the plan allows; flags, bans, the bypass and strategies that switched themselves off hold whatever it says.

mod fold;
mod rows;
mod seen;
mod turn;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use arc_swap::ArcSwapOption;
use farthing_contract::features::{Latency, StrategyStats};
use farthing_ledger::aggregate::CameTo;
use farthing_policy::Heat;
use farthing_policy::strategy::live::LiveDecision;
use farthing_policy::strategy::{Allowed, StrategyDecision, Terms};
use farthing_types::{By, DecisionId, RouteName, Span, Time, UncachedReason};
use parking_lot::Mutex;

use crate::request::Planned;
use crate::route::RouteState;

pub use rows::dropped;
pub use seen::{How, Seen};

/// Calls remembered between two turns; the means that they enter need no more.
const CALLS: usize = 256;
/// The kinds of deciders, as in [`By::kind`].
const DECIDERS: [&str; 5] = ["rule", "table", "model", "fallback", "override"];

/// What a route knows for the decision, and what was decided.
#[derive(Default)]
pub struct Planning {
    live: Mutex<Live>,
    calls: Mutex<Vec<(Span, u64)>>,
    decided: ArcSwapOption<Made>,
    /// Id of the decision in force; 0 before the first.
    id: AtomicU64,
    /// Time within which nineteen of twenty answers of calls that wait for others are expected, microseconds; 0 where that is not known.
    waiting_us: AtomicU64,
    counts: Counts,
}

/// The statistics, and when they were looked at.
#[derive(Default)]
struct Live {
    stats: StrategyStats,
    /// How much it is asked, and requests a second; `None` before the first look.
    heat: Option<(Heat, f64)>,
    /// Requests have come since the last decision.
    moved: bool,
    /// When the last decision was made, in real time.
    at: Option<Time>,
    /// Digest of the bundle that was asked.
    bundle: Option<Arc<str>>,
}

/// Counts since the start.
#[derive(Default)]
struct Counts {
    decisions: [AtomicU64; DECIDERS.len()],
    looked_on: AtomicU64,
    disagreed: AtomicU64,
    fell_back: AtomicU64,
    beyond: AtomicU64,
}

/// A decision, as requests meet it.
#[derive(Clone, Debug)]
pub struct Made {
    /// Its id in the log.
    pub id: DecisionId,
    /// When it was made.
    pub at: Time,
    /// What was decided, and what was only written down.
    pub decision: LiveDecision,
    /// What it could choose from.
    pub allowed: Allowed,
    /// Prices and promises that it was made by.
    pub terms: Terms,
    /// What the route had come to by then.
    pub began: CameTo,
}

/// How the decision stands on a route.
#[derive(Clone, Debug)]
pub struct PlanReport {
    /// The route.
    pub route: RouteName,
    /// How much it is asked, and requests a second over the last minutes; `None` before the first look, and where nothing is decided.
    pub heat: Option<(Heat, f64)>,
    /// The decision in force; `None` before the first request.
    pub made: Option<Arc<Made>>,
    /// Decisions by kind of decider.
    pub decisions: [(&'static str, u64); DECIDERS.len()],
    /// Of these, decisions that a predictor looked on at.
    pub looked_on: u64,
    /// Of these, decisions where it would have chosen otherwise.
    pub disagreed: u64,
    /// Decisions for which a predictor was wanted that could not choose.
    pub fell_back: u64,
    /// Requests that were only counted, because more came than are told apart.
    pub beyond: u64,
}

impl Planning {
    /// Id of the decision in force.
    pub fn id(&self) -> Option<DecisionId> {
        Some(self.id.load(Relaxed)).filter(|id| *id != 0).map(DecisionId)
    }

    /// The decision in force.
    pub fn made(&self) -> Option<Arc<Made>> {
        self.decided.load_full()
    }

    /// Notes a call that brought a whole answer.
    pub fn note_call(&self, took: Span, bytes: u64) {
        let mut calls = self.calls.lock();
        if calls.len() < CALLS {
            calls.push((took, bytes));
        }
    }

    /// How long its calls take; `None` before the first.
    pub fn latency(&self) -> Option<Latency> {
        self.live.lock().stats.latency()
    }

    /// The statistics as they are, to be kept.
    pub fn stats(&self) -> StrategyStats {
        self.live.lock().stats.clone()
    }

    /// Begins with what the run before knew.
    pub fn start_from(&self, stats: StrategyStats) {
        self.live.lock().stats = stats;
    }

    /// Why the call of a request does not wait for others although the route's do: its own promise is shorter, and would be broken.
    fn too_short(&self, sla: Option<Span>, least: Span) -> bool {
        let waiting = Span::from_micros(self.waiting_us.load(Relaxed));
        sla.is_some_and(|sla| !waiting.is_zero() && (sla < waiting || sla <= least))
    }

    fn publish(&self, made: Made) {
        let chosen = made.decision.acting.choice.value;
        let waiting = if chosen.batches() { made.decision.acting.chosen().high } else { Span::ZERO };
        self.waiting_us.store(u64::try_from(waiting.as_micros()).unwrap_or(u64::MAX), Relaxed);
        self.id.store(made.id.0, Relaxed);
        self.decided.store(Some(Arc::new(made)));
    }
}

impl Counts {
    fn note(&self, decision: &LiveDecision) {
        let by = decision.acting.choice.by.kind();
        if let Some(index) = DECIDERS.iter().position(|kind| *kind == by) {
            self.decisions[index].fetch_add(1, Relaxed);
        }
        let failed = |decision: &StrategyDecision| matches!(decision.choice.by, By::Fallback(_));
        let wanted = decision.shadow.as_ref().unwrap_or(&decision.acting);
        self.fell_back.fetch_add(u64::from(failed(wanted)), Relaxed);
        self.looked_on.fetch_add(u64::from(decision.shadow.as_ref().is_some_and(|shadow| !failed(shadow))), Relaxed);
        self.disagreed.fetch_add(u64::from(decision.disagrees()), Relaxed);
    }
}

impl RouteState {
    /// How the decision stands.
    pub fn plan_report(&self) -> PlanReport {
        let counts = &self.planning.counts;
        let read = |count: &AtomicU64| count.load(Relaxed);
        PlanReport {
            route: self.route.name.clone(),
            heat: self.planning.live.lock().heat,
            made: self.planning.made(),
            decisions: std::array::from_fn(|index| (DECIDERS[index], read(&counts.decisions[index]))),
            looked_on: read(&counts.looked_on),
            disagreed: read(&counts.disagreed),
            fell_back: read(&counts.fell_back),
            beyond: read(&counts.beyond),
        }
    }
}

impl Planned {
    /// A call is made for the request.
    pub fn note_led(&self) {
        if self.cache.is_ok()
            && let Some(noted) = self.account.noted
        {
            self.account.route.stats.lock().seen.turned(noted.place, How::Led);
        }
    }

    /// A call that is under way is enough for the request.
    pub fn note_joined(&self) {
        if self.cache.is_err()
            && let Some(noted) = self.account.noted
        {
            self.account.route.stats.lock().seen.turned(noted.place, How::Joined);
        }
    }

    /// Takes waiting for others out of the plan where that would break the request's own promise.
    pub fn keep_promise(&mut self, least: Span) {
        if self.batch.is_ok() && self.account.route.planning.too_short(self.account.sla, least) {
            self.batch = Err(UncachedReason::NotChosen);
        }
    }
}

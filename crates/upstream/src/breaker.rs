//! Leaves an upstream alone while it fails: closed, open, half-open.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use farthing_types::{Call, Failure, FailureKind, Reply, Span};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::StatusCode;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio::time::Instant;

use crate::Origin;
use crate::client::after;

/// When the breaker opens and for how long.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BreakerSpec {
    /// How many of the latest outcomes are looked at; at most 128.
    pub window: u32,
    /// Outcomes needed before the share counts.
    pub min_calls: u32,
    /// It opens when more than this share of the window failed.
    pub error_share: f64,
    /// It opens after this many failures in a row; 0 turns this rule off.
    pub consecutive: u32,
    /// How long it stays open before one call is let through to try.
    pub cool_down: Span,
}

impl Default for BreakerSpec {
    fn default() -> Self {
        Self { window: 50, min_calls: 20, error_share: 0.5, consecutive: 10, cool_down: Span::from_secs(5) }
    }
}

/// Where a breaker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// Calls pass.
    Closed,
    /// Calls are refused.
    Open,
    /// One call is on its way to find out; others are refused, until it takes longer than another cool-down.
    HalfOpen,
}

impl BreakerState {
    /// The stable string.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half-open",
        }
    }
}

/// What a breaker does to the call that comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Standing {
    /// It passes.
    Closed,
    /// It passes, to find out whether the upstream is back.
    Ready,
    /// It is refused.
    Away,
}

/// The latest outcomes, one bit each; the lowest bit is the newest.
#[derive(Clone, Copy, Debug, Default)]
struct Window {
    errors: u128,
    seen: u32,
    in_a_row: u32,
}

impl Window {
    fn push(&mut self, failed: bool, spec: &BreakerSpec) {
        let size = spec.window.clamp(1, 128);
        let mask = u128::MAX >> (128 - size);
        self.errors = ((self.errors << 1) | u128::from(failed)) & mask;
        self.seen = (self.seen + 1).min(size);
        self.in_a_row = if failed { self.in_a_row.saturating_add(1) } else { 0 };
    }
    fn too_bad(&self, spec: &BreakerSpec) -> bool {
        let enough = self.seen >= spec.min_calls.clamp(1, spec.window.clamp(1, 128));
        let share = f64::from(self.errors.count_ones()) / f64::from(self.seen.max(1));
        (enough && share > spec.error_share) || (spec.consecutive > 0 && self.in_a_row >= spec.consecutive)
    }
}

#[derive(Clone, Copy, Debug)]
enum State {
    Closed(Window),
    Open {
        until: Instant,
    },
    /// Where the call that tries is not back by then, the next one tries, too.
    HalfOpen {
        until: Instant,
    },
}

/// The breaker's state machine: its methods are what may happen in each state. Shared for status pages and metrics.
#[derive(Debug)]
pub struct Health {
    spec: BreakerSpec,
    state: Mutex<(State, u64)>,
    opened: AtomicU64,
    refused: AtomicU64,
    opens: Notify,
}

impl Health {
    pub(crate) fn new(spec: BreakerSpec) -> Self {
        Self {
            spec,
            state: Mutex::new((State::Closed(Window::default()), 0)),
            opened: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            opens: Notify::new(),
        }
    }

    /// Where it stands. An open breaker whose cool-down has passed is still open until a call comes to try.
    pub fn state(&self) -> BreakerState {
        match self.state.lock().0 {
            State::Closed(_) => BreakerState::Closed,
            State::Open { .. } => BreakerState::Open,
            State::HalfOpen { .. } => BreakerState::HalfOpen,
        }
    }
    /// Whether a call that comes now would pass, also as the one that finds out whether the upstream is back.
    pub fn lets_through(&self) -> bool {
        self.standing() != Standing::Away
    }
    /// Resolves when it opens the next time.
    pub(crate) fn opens(&self) -> Notified<'_> {
        self.opens.notified()
    }
    /// Whether a call that comes after `wait` would be refused, as far as is known now. While one is trying, that is not known.
    pub(crate) fn is_open_for(&self, wait: Span) -> bool {
        matches!(self.state.lock().0, State::Open { until } if after(Instant::now(), wait) < until)
    }
    /// Whether calls pass, as far as is known now.
    pub(crate) fn standing(&self) -> Standing {
        match self.state.lock().0 {
            State::Closed(_) => Standing::Closed,
            State::Open { until } | State::HalfOpen { until } if Instant::now() >= until => Standing::Ready,
            State::Open { .. } | State::HalfOpen { .. } => Standing::Away,
        }
    }
    /// Counts a call that was given up before its outcome was known as a failure: nobody waits for it any more.
    pub(crate) fn given_up(&self) {
        let mut guard = self.state.lock();
        let next = match guard.0 {
            State::Closed(window) => self.counted(window, true),
            State::Open { until } if Instant::now() < until => return,
            State::Open { .. } | State::HalfOpen { .. } => self.opening(),
        };
        if !matches!(next, State::Closed(_)) {
            guard.1 += 1;
        }
        guard.0 = next;
    }
    /// The call that was to find out whether the upstream is back never reached it: the next tries after another cool-down.
    pub(crate) fn put_off(&self) {
        let (now, mut guard) = (Instant::now(), self.state.lock());
        if let State::Open { until } | State::HalfOpen { until } = &mut guard.0
            && now >= *until
        {
            *until = after(now, self.spec.cool_down);
        }
    }
    /// How often it opened.
    pub fn opened(&self) -> u64 {
        self.opened.load(Ordering::Relaxed)
    }
    /// How many calls it refused.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Lets a call through, or says how long the breaker stays open (zero while another call is trying).
    fn admit(self: &Arc<Self>) -> Result<Permit, Span> {
        let mut guard = self.state.lock();
        let (state, epoch) = &mut *guard;
        let wait = match *state {
            State::Closed(_) => return Ok(Permit { health: Arc::clone(self), epoch: *epoch, open: true }),
            State::Open { until } | State::HalfOpen { until } if Instant::now() >= until => {
                // All that try at once belong together: the first that is back decides.
                *epoch += u64::from(matches!(*state, State::Open { .. }));
                *state = State::HalfOpen { until: after(Instant::now(), self.spec.cool_down) };
                return Ok(Permit { health: Arc::clone(self), epoch: *epoch, open: true });
            }
            State::Open { until } => until - Instant::now(),
            State::HalfOpen { .. } => Span::ZERO,
        };
        self.refused.fetch_add(1, Ordering::Relaxed);
        Err(wait)
    }

    /// Takes the outcome of a call admitted in `epoch`; what belongs to an earlier state no longer counts.
    fn outcome(&self, epoch: u64, outcome: Outcome) {
        let mut guard = self.state.lock();
        if guard.1 != epoch {
            return;
        }
        let next = match (guard.0, outcome) {
            (State::Closed(window), Outcome::Unknown) => State::Closed(window),
            (State::Closed(window), known) => self.counted(window, known == Outcome::Failed),
            (State::HalfOpen { .. }, Outcome::Well) => State::Closed(Window::default()),
            (State::HalfOpen { .. }, Outcome::Failed) => self.opening(),
            // The trying call was given up: the next call tries.
            (State::HalfOpen { .. }, Outcome::Unknown) => State::Open { until: Instant::now() },
            (open @ State::Open { .. }, _) => open,
        };
        if std::mem::discriminant(&next) != std::mem::discriminant(&guard.0) {
            guard.1 += 1;
        }
        guard.0 = next;
    }

    /// Closed with one outcome more, unless that is one too many.
    fn counted(&self, mut window: Window, failed: bool) -> State {
        window.push(failed, &self.spec);
        if window.too_bad(&self.spec) { self.opening() } else { State::Closed(window) }
    }

    fn opening(&self) -> State {
        self.opened.fetch_add(1, Ordering::Relaxed);
        self.opens.notify_waiters();
        State::Open { until: after(Instant::now(), self.spec.cool_down) }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Well,
    Failed,
    /// Says nothing about the upstream.
    Unknown,
}

fn judge(result: &Result<Reply, Failure>) -> Outcome {
    match result {
        Ok(reply) => match reply.status {
            StatusCode::INTERNAL_SERVER_ERROR | StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => {
                Outcome::Failed
            }
            _ => Outcome::Well,
        },
        Err(failure) => match failure.kind {
            FailureKind::Connect | FailureKind::Broken | FailureKind::Timeout | FailureKind::Protocol | FailureKind::Unmapped => {
                Outcome::Failed
            }
            FailureKind::BreakerOpen
            | FailureKind::Refused
            | FailureKind::RateLimited
            | FailureKind::LeaderGone
            | FailureKind::ListRefused
            | FailureKind::RequestBody => Outcome::Unknown,
        },
    }
}

/// An admitted call; dropped without an outcome it counts as unknown, so that a cancelled try never blocks the breaker.
struct Permit {
    health: Arc<Health>,
    epoch: u64,
    open: bool,
}

impl Permit {
    fn settle(mut self, outcome: Outcome) {
        self.open = false;
        self.health.outcome(self.epoch, outcome);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.open {
            self.health.outcome(self.epoch, Outcome::Unknown);
        }
    }
}

/// Refuses calls while the upstream behind it fails; the outcome is taken at the reply's head.
pub struct Breaker {
    inner: Arc<dyn Origin>,
    name: Arc<str>,
    health: Arc<Health>,
}

impl Breaker {
    /// A closed breaker before `inner`.
    pub fn new(inner: Arc<dyn Origin>, name: Arc<str>, spec: BreakerSpec) -> Self {
        Self { inner, name, health: Arc::new(Health::new(spec)) }
    }
    /// Its state.
    pub fn health(&self) -> &Arc<Health> {
        &self.health
    }
}

impl Origin for Breaker {
    fn fetch(&self, call: Call) -> BoxFuture<'static, Result<Reply, Failure>> {
        let permit = match self.health.admit() {
            Ok(permit) => permit,
            Err(wait) => {
                let detail = format!("upstream {}: failing, next try in {:.1} s", self.name, wait.as_secs_f64());
                return std::future::ready(Err(Failure::unsent(FailureKind::BreakerOpen, detail))).boxed();
            }
        };
        let answer = self.inner.fetch(call);
        async move {
            let result = answer.await;
            permit.settle(judge(&result));
            result
        }
        .boxed()
    }
}

#[cfg(test)]
#[path = "breaker_tests.rs"]
mod tests;

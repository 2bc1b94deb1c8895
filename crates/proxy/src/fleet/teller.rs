//! What the tasks have in common that tell the fleet of what its instances share: budgets, limits.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use farthing_fleet::{Answer, Fault, Script};
use farthing_types::Span;
use tokio::time::{Interval, MissedTickBehavior, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Fleet;

/// How often one tells of itself.
const BEAT: Span = Span::from_millis(250);

/// A task that tells, as others see it.
#[derive(Debug)]
pub struct Teller {
    pub fleet: Arc<Fleet>,
    pub tasks: TaskTracker,
    /// It is to end.
    pub stop: CancellationToken,
    answered: AtomicU64,
    failed: AtomicU64,
}

impl Teller {
    pub fn new(fleet: Arc<Fleet>) -> Self {
        Self { fleet, tasks: TaskTracker::new(), stop: CancellationToken::new(), answered: AtomicU64::new(0), failed: AtomicU64::new(0) }
    }

    /// Counts a message.
    pub fn count(&self, answered: bool) {
        let counter = if answered { &self.answered } else { &self.failed };
        counter.fetch_add(1, Relaxed);
    }

    /// Messages answered, and without an answer.
    pub fn messages(&self) -> [u64; 2] {
        [&self.answered, &self.failed].map(|counter| counter.load(Relaxed))
    }

    /// Has the task end, and waits for that no longer than `within`.
    pub async fn leave(&self, within: Span) {
        self.stop.cancel();
        self.tasks.close();
        let _in_time = timeout(within, self.tasks.wait()).await;
    }
}

/// When to tell; what is missed is not made up for.
pub fn beats() -> Interval {
    let mut beat = tokio::time::interval(BEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    beat
}

/// Runs a script on a key of the fleet's.
pub async fn run(fleet: &Fleet, script: &Script, (key, args): (&[u8], &[String]), deadline: Span) -> Result<Answer, Fault> {
    let args: Vec<&[u8]> = args.iter().map(String::as_bytes).collect();
    fleet.handle().script(script, &[key], &args, deadline).await
}

/// What a script's answer means, by `reply`.
pub fn understood<R>(answer: &Answer, reply: impl FnOnce(&[&str]) -> Option<R>) -> Result<R, String> {
    let meant = answer.texts().and_then(|words| reply(&words));
    meant.ok_or_else(|| "the fleet's redis says what this version does not understand".to_owned())
}

//! What came of calls that could wait, counted.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

use farthing_policy::defer::DeferReason;
use farthing_types::{Money, RouteName, Span, reasons};

reasons! {
    /// What is asked of the provider for a batch. None of it is billed.
    Step {
        /// The requests are sent.
        Upload = "upload",
        /// The batch is ordered.
        Create = "create",
        /// How it stands.
        Poll = "poll",
        /// Answers are fetched.
        Fetch = "fetch",
        /// What nobody waits for is cancelled.
        Cancel = "cancel",
        /// A batch is looked for by its name.
        Find = "find",
    }
}

/// Counts of one route.
#[derive(Debug, Default)]
pub struct DeferStats {
    decided: [AtomicU64; DeferReason::ALL.len()],
    asked: [[AtomicU64; 2]; Step::ALL.len()],
    pub(super) batches: AtomicU64,
    pub(super) submitted: AtomicU64,
    pub(super) last_moment: AtomicU64,
    pub(super) unanswered: AtomicU64,
    pub(super) withdrawn: AtomicU64,
    pub(super) unsettled: AtomicU64,
    delivered: AtomicU64,
    unused: AtomicU64,
    saved: AtomicI64,
    wasted: AtomicI64,
}

/// The counts at one time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeferReading {
    /// Requests whose clients said how long they wait, by what was decided.
    pub decided: Vec<(DeferReason, u64)>,
    /// What the provider was asked for batches: what, whether it went well, how often.
    pub asked: Vec<(Step, bool, u64)>,
    /// Batches that were ordered.
    pub batches: u64,
    /// Requests in them.
    pub submitted: u64,
    /// Requests answered out of a batch.
    pub delivered: u64,
    /// Requests called directly at the last safe time.
    pub last_moment: u64,
    /// Requests called directly because their batch failed or had no answer for them.
    pub unanswered: u64,
    /// Requests whose clients had left before their batch was sent.
    pub withdrawn: u64,
    /// Answers out of batches that nobody waited for any more, billed all the same.
    pub unused: u64,
    /// Batches whose bill could not be learned.
    pub unsettled: u64,
    /// What delivered ones have saved.
    pub saved: Money,
    /// What unused ones have cost.
    pub wasted: Money,
}

/// What is told of a route that defers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeferReport {
    /// The route.
    pub route: RouteName,
    /// Requests that wait, in queues or for batches.
    pub waiting: u64,
    /// Bytes of their bodies.
    pub waiting_bytes: u64,
    /// Those of them whose batch is not sent yet.
    pub queued: u64,
    /// Batches under way.
    pub under_way: u64,
    /// What the next batch is thought to take, of the slowest target.
    pub batch_time: Span,
    /// Whether it is on, and does not rest because it has cost more than it has saved.
    pub on: bool,
    /// Its counts.
    pub stats: DeferReading,
}

impl DeferStats {
    pub(super) fn decided(&self, why: DeferReason) {
        if let Some(count) = self.decided.get(why as usize) {
            count.fetch_add(1, Relaxed);
        }
    }

    pub(super) fn asked(&self, step: Step, well: bool) {
        if let Some(counts) = self.asked.get(step as usize) {
            counts[usize::from(well)].fetch_add(1, Relaxed);
        }
    }

    pub(super) fn add(&self, of: impl Fn(&Self) -> &AtomicU64) {
        of(self).fetch_add(1, Relaxed);
    }

    pub(super) fn ended(&self, unused: bool, saved: Money) {
        let (count, money) = if unused { (&self.unused, &self.wasted) } else { (&self.delivered, &self.saved) };
        count.fetch_add(1, Relaxed);
        money.fetch_add(if unused { -saved.nanos() } else { saved.nanos() }, Relaxed);
    }

    /// The counts now.
    pub fn read(&self) -> DeferReading {
        let (count, money) = (|n: &AtomicU64| n.load(Relaxed), |nanos: &AtomicI64| Money::from_nanos(nanos.load(Relaxed)));
        let asked = |(step, counts): (&Step, &[AtomicU64; 2])| [(*step, false, count(&counts[0])), (*step, true, count(&counts[1]))];
        DeferReading {
            decided: DeferReason::ALL.iter().zip(&self.decided).map(|(why, n)| (*why, count(n))).collect(),
            asked: Step::ALL.iter().zip(&self.asked).flat_map(asked).collect(),
            batches: count(&self.batches),
            submitted: count(&self.submitted),
            delivered: count(&self.delivered),
            last_moment: count(&self.last_moment),
            unanswered: count(&self.unanswered),
            withdrawn: count(&self.withdrawn),
            unused: count(&self.unused),
            unsettled: count(&self.unsettled),
            saved: money(&self.saved),
            wasted: money(&self.wasted),
        }
    }
}

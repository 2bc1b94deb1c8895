//! What Farthing's own time on a request consists of. What is asked outside of the process is measured where it is asked; of one request in
//! [`SAMPLED`] it is also told how long the first stages took. A hit that is recalled by its bytes is no part of this.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use farthing_types::{RequestId, Span, Time, reasons};

use crate::settle::Account;

reasons! {
    /// A part of Farthing's own time.
    OwnPart {
        /// Finding the route, and who asks.
        Identify = "identify",
        /// The key, the plan in force, the draws of experiments.
        Plan = "plan",
        /// The look into memory.
        Lookup = "lookup",
        /// Asking L2, and for the lease of a call.
        L2 = "l2",
        /// All of a list that is taken apart, but L2.
        Lists = "lists",
        /// All of any other request, but L2; the first three are among it.
        Rest = "rest",
    }
}

impl OwnPart {
    /// What can be left out because of it, in the order of [`Slow`].
    pub const LEFT_OUT: [Self; 3] = [Self::L2, Self::Lists, Self::Rest];
}

/// One request in so many tells of its first stages.
const SAMPLED: u64 = 64;

/// How long the first stages of a request took, where it is one that tells.
#[derive(Clone, Copy, Debug, Default)]
pub struct Laps {
    sampled: bool,
    since: Time,
    /// Nanoseconds; small, because each request carries it.
    took: [u32; 3],
}

impl Laps {
    /// Those of a request; ids are spread evenly, so theirs is the draw.
    pub fn of(id: RequestId, started: Time) -> Self {
        Self { sampled: id.0.rotate_left(11).is_multiple_of(SAMPLED), since: started, ..Self::default() }
    }

    /// A stage begins.
    pub fn begin(&mut self, now: impl Fn() -> Time) {
        if self.sampled {
            self.since = now();
        }
    }

    /// It ends.
    pub fn end(&mut self, part: OwnPart, now: impl Fn() -> Time) {
        if self.sampled
            && let Some(took) = self.took.get_mut(part as usize)
        {
            *took = took.saturating_add(u32::try_from(now().since(self.since).as_nanos()).unwrap_or(u32::MAX));
        }
    }
}

/// Own time since the start, by part.
#[derive(Default)]
pub struct OwnTime {
    nanos: [AtomicU64; OwnPart::ALL.len()],
    requests: [AtomicU64; OwnPart::ALL.len()],
}

/// Own time of requests above the limit, lately, nanoseconds by [`OwnPart::LEFT_OUT`]: what explains that they are slow.
pub type Slow = [u64; OwnPart::LEFT_OUT.len()];

impl OwnTime {
    /// Takes the own time of a request: it is told, part by part, of what it consists.
    pub fn take(&self, account: &Account, own: Span) -> Slow {
        let l2 = account.l2.min(own);
        let (lists, rest) = if account.part.is_some() { (own - l2, Span::ZERO) } else { (Span::ZERO, own - l2) };
        for (part, took) in OwnPart::LEFT_OUT.into_iter().zip([l2, lists, rest]) {
            self.add(part, took);
        }
        if account.laps.sampled {
            for (part, took) in OwnPart::ALL.iter().zip(account.laps.took) {
                self.add(*part, Span::from_nanos(u64::from(took)));
            }
        }
        [l2, lists, rest].map(nanos)
    }

    fn add(&self, part: OwnPart, took: Span) {
        if !took.is_zero() {
            self.nanos[part as usize].fetch_add(nanos(took), Relaxed);
            self.requests[part as usize].fetch_add(1, Relaxed);
        }
    }

    /// Sum and requests of each part that took any time.
    pub fn read(&self) -> Vec<(OwnPart, Span, u64)> {
        let read = |part: &OwnPart| {
            (*part, Span::from_nanos(self.nanos[*part as usize].load(Relaxed)), self.requests[*part as usize].load(Relaxed))
        };
        OwnPart::ALL.iter().map(read).filter(|(_, _, requests)| *requests > 0).collect()
    }
}

fn nanos(span: Span) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

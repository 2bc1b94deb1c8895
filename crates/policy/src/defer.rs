//! When a call that can wait goes to the provider's batch endpoint, and when it must be made directly after all (docs/llm.md). Pure: times and
//! sizes are arguments.

use std::collections::VecDeque;

use farthing_types::{Span, reasons};

/// Times that are remembered.
const REMEMBERED: usize = 64;
/// So many were seen before what was configured counts no more.
const TRUSTED: usize = 8;

/// How long something has taken lately. Of fixed size.
#[derive(Clone, Debug)]
pub struct Times {
    prior: Span,
    seen: VecDeque<Span>,
}

impl Times {
    /// None seen yet; `prior` is what is thought until then.
    pub const fn new(prior: Span) -> Self {
        Self { prior, seen: VecDeque::new() }
    }

    /// One has taken so long.
    pub fn note(&mut self, took: Span) {
        if self.seen.len() >= REMEMBERED {
            self.seen.pop_front();
        }
        self.seen.push_back(took);
    }

    /// How many are remembered.
    pub fn seen(&self) -> usize {
        self.seen.len()
    }

    /// What the next one takes at most in 95 of 100 cases: the k-th smallest of n that were seen, with `k >= .95 (n + 1)`, is not exceeded by
    /// the next of the same kind with a probability of `k / (n + 1)` at least, whatever the distribution. Where n is too small for that, the
    /// longest; below eight also not less than what was configured.
    pub fn high(&self) -> Span {
        let mut sorted: Vec<Span> = self.seen.iter().copied().collect();
        sorted.sort_unstable();
        let wanted = ((sorted.len() + 1) * 95).div_ceil(100);
        let high = sorted.get(wanted.saturating_sub(1)).or(sorted.last()).copied().unwrap_or_default();
        if sorted.len() < TRUSTED { high.max(self.prior) } else { high }
    }
}

/// How a route defers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeferTerms {
    /// How long the first of a batch waits for others.
    pub window: Span,
    /// Requests whose client waits for less are not deferred.
    pub min_deadline: Span,
    /// What is left of a deadline beyond the time of a direct call.
    pub margin: Span,
    /// Most requests that wait.
    pub max_waiting: u64,
    /// Most bytes of these.
    pub max_bytes: u64,
}

/// A request that may be deferred.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeferAsk {
    /// How long its client waits from now on.
    pub deadline: Span,
    /// Bytes of its body.
    pub bytes: u64,
    /// Requests that wait now, and their bytes.
    pub waiting: (u64, u64),
    /// What batches of its target take, see [`Times::high`].
    pub batch: Span,
    /// For how long the oldest batch of its target has been under way: the next one will hardly be faster.
    pub under_way: Span,
    /// What direct calls take.
    pub direct: Span,
}

reasons! {
    /// What was decided about a request, and why.
    DeferReason {
        /// It waits for a batch.
        Deferred = "deferred",
        /// Its client waits for less than is configured.
        Short = "short",
        /// The provider's batches take longer.
        Slow = "slow",
        /// Too many wait.
        Full = "full",
        /// Its form is none that goes into a batch.
        Form = "form",
        /// Its client's own credential goes out, or fields that a batch does not carry.
        Client = "client",
        /// No lower price for batches is known.
        NoPrice = "no-price",
        /// Deferring rests: it has cost more than it has saved.
        SwitchedOff = "switched-off",
    }
}

/// Until when a deferred request waits for what, from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waits {
    /// Its batch is sent then at the latest.
    pub flush: Span,
    /// It is called directly then: the last safe time.
    pub direct: Span,
}

/// Whether a request waits for a batch.
///
/// # Errors
/// Why it does not.
pub fn decide(terms: &DeferTerms, ask: &DeferAsk) -> Result<Waits, DeferReason> {
    if ask.deadline < terms.min_deadline {
        return Err(DeferReason::Short);
    }
    let direct = ask.deadline.saturating_sub(ask.direct).saturating_sub(terms.margin);
    let batch = ask.batch.max(ask.under_way);
    if direct <= batch {
        return Err(DeferReason::Slow);
    }
    let (members, bytes) = ask.waiting;
    if members >= terms.max_waiting || bytes.saturating_add(ask.bytes) > terms.max_bytes {
        return Err(DeferReason::Full);
    }
    Ok(Waits { flush: terms.window.min(direct.saturating_sub(batch)), direct })
}

#[cfg(test)]
mod tests {
    use farthing_types::{Draw, DrawKind};
    use proptest::prelude::*;

    use super::*;

    const fn minutes(n: u64) -> Span {
        Span::from_secs(60 * n)
    }

    const TERMS: DeferTerms =
        DeferTerms { window: minutes(5), min_deadline: minutes(60), margin: minutes(1), max_waiting: 10, max_bytes: 1_000 };
    const ASK: DeferAsk =
        DeferAsk { deadline: minutes(120), bytes: 100, waiting: (0, 0), batch: minutes(30), under_way: Span::ZERO, direct: minutes(2) };

    #[test]
    fn a_request_waits_as_long_as_that_is_safe() {
        assert_eq!(decide(&TERMS, &ASK), Ok(Waits { flush: minutes(5), direct: minutes(117) }));
        // Two minutes are left beyond batch and direct call.
        let tight = DeferAsk { batch: minutes(115), ..ASK };
        assert_eq!(decide(&TERMS, &tight), Ok(Waits { flush: minutes(2), direct: minutes(117) }));
        for (ask, why) in [
            (DeferAsk { deadline: minutes(59), ..ASK }, DeferReason::Short),
            (DeferAsk { batch: minutes(117), ..ASK }, DeferReason::Slow),
            (DeferAsk { under_way: minutes(118), ..ASK }, DeferReason::Slow),
            (DeferAsk { waiting: (10, 0), ..ASK }, DeferReason::Full),
            (DeferAsk { waiting: (1, 901), ..ASK }, DeferReason::Full),
        ] {
            assert_eq!(decide(&TERMS, &ask), Err(why));
        }
    }

    proptest! {
        /// Whoever waits has the time for a batch after its last flush, and for a direct call after the last safe time.
        #[test]
        fn none_waits_into_its_deadline(deadline in 0u64..10_000, batch in 0u64..10_000, way in 0u64..10_000, direct in 0u64..10_000) {
            let [deadline, batch, under_way, direct] = [deadline, batch, way, direct].map(Span::from_secs);
            if let Ok(waits) = decide(&TERMS, &DeferAsk { deadline, batch, under_way, direct, ..ASK }) {
                prop_assert!(waits.flush + batch.max(under_way) <= waits.direct && waits.flush <= TERMS.window);
                prop_assert!(waits.direct + direct + TERMS.margin <= deadline);
            }
        }
    }

    #[test]
    fn times_are_the_configured_ones_until_enough_were_seen() {
        let mut times = Times::new(minutes(60));
        assert_eq!(times.high(), minutes(60));
        (0..7).for_each(|_| times.note(minutes(10)));
        assert_eq!(times.high(), minutes(60));
        times.note(minutes(20));
        assert_eq!((times.high(), times.seen()), (minutes(20), 8));
        // One slow batch in 64 does not hold all others up, and is forgotten in time.
        times.note(minutes(600));
        assert_eq!(times.high(), minutes(600));
        (0..63).for_each(|_| times.note(minutes(10)));
        assert_eq!((times.high(), times.seen()), (minutes(10), 64));
    }

    /// Seeded: of 20,000 batches with a long tail no more than 5 % take longer than was said.
    #[test]
    fn the_next_takes_longer_in_five_of_a_hundred_cases() {
        let (draw, mut times, mut longer) = (Draw::new(3), Times::new(minutes(60)), 0);
        for n in 0..20_000u64 {
            let uniform = draw.uniform(DrawKind::Sample, "batch", n.into(), 0);
            let took = Span::from_secs((600.0 * (1.0 - uniform).powf(-0.7)) as u64);
            longer += u64::from(took > times.high());
            times.note(took);
        }
        assert!((600..=1_060).contains(&longer), "{longer} of 20,000");
    }
}

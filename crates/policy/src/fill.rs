//! Waiting for a call that another instance makes: whether that is worth it, for how long, and when to look again. Pure.

use farthing_types::Span;

/// The first pause between two looks; each later one is half as long again.
const FIRST: Span = Span::from_millis(2);
/// No pause is longer than this part of the expected call: what is waited too long for is small beside the call.
const PART: u32 = 8;
/// Nor longer than this.
const LONGEST: Span = Span::from_millis(100);
/// Nor shorter, however fast calls are expected to be.
const SHORTEST: Span = Span::from_millis(5);

/// What a wait for another instance's call depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    /// What is left of the time that the request may take.
    pub deadline: Span,
    /// What is left of the time within which it is promised to be answered.
    pub sla: Option<Span>,
    /// Within which nineteen of twenty calls are answered, where that is known.
    pub call: Option<Span>,
}

impl Wait {
    /// How long to wait at most. Then there is time for a call of one's own still: as much as the promise needs, and half of what the request may
    /// take.
    pub fn patience(&self) -> Span {
        let half = self.deadline / 2;
        let promised = self.sla.map(|sla| self.call.map_or(sla / 2, |call| sla.saturating_sub(call)));
        promised.map_or(half, |promised| promised.min(half))
    }

    /// The pause before the look after `looks` of them.
    pub fn pause(&self, looks: u32) -> Span {
        let longest = self.call.map_or(LONGEST, |call| (call / PART).clamp(SHORTEST, LONGEST));
        FIRST.mul_f64(1.5_f64.powi(looks.min(20) as i32)).min(longest)
    }
}

/// Answers of a route in memory; an older one counts for half after so many.
const MEMORY: u32 = 32;
/// Calls of a route that keeps next to nothing for which a lease is asked all the same: one of so many, to notice a change.
const TRIED: u32 = 32;

/// Whether answers of a route come to be kept, so that another instance can have them.
///
/// Without it every instance would wait for each other's calls for nothing where answers are not kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    kept: u32,
    unkept: u32,
    passed: u32,
}

impl Kept {
    /// Notes what became of a call's answer.
    pub fn note(&mut self, kept: bool) {
        if kept {
            self.kept += 1
        } else {
            self.unkept += 1
        }
        if self.kept + self.unkept >= 2 * MEMORY {
            (self.kept, self.unkept) = (self.kept / 2, self.unkept / 2);
        }
    }

    /// Whether a call is worth waiting for: where as many answers are kept as not, where nothing is known, and now and then.
    pub fn is_shared(&mut self) -> bool {
        let shared = self.kept >= self.unkept;
        self.passed = if shared { 0 } else { self.passed + 1 };
        if self.passed >= TRIED {
            self.passed = 0;
        }
        shared || self.passed == 0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: fn(u64) -> Span = Span::from_millis;

    proptest! {
        #[test]
        fn there_is_time_left_for_a_call(deadline in 0u64..100_000, sla in proptest::option::of(0u64..100_000), call in proptest::option::of(0u64..100_000)) {
            let wait = Wait { deadline: MS(deadline), sla: sla.map(MS), call: call.map(MS) };
            let patience = wait.patience();
            prop_assert!(patience * 2 <= wait.deadline);
            if let Some((sla, call)) = wait.sla.zip(wait.call) {
                prop_assert!(patience.is_zero() || patience + call <= sla);
            }
        }

        #[test]
        fn looks_come_at_growing_pauses_that_are_small_beside_the_call(call in proptest::option::of(0u64..100_000)) {
            let wait = Wait { deadline: MS(60_000), sla: None, call: call.map(MS) };
            let pauses: Vec<Span> = (0..40).map(|n| wait.pause(n)).collect();
            prop_assert!(pauses.is_sorted() && pauses[0] == FIRST && pauses[39] <= LONGEST);
            prop_assert!(call.is_none_or(|call| pauses[39] <= (MS(call) / 8).max(SHORTEST)));
        }
    }

    #[test]
    fn a_route_that_keeps_nothing_is_tried_now_and_then() {
        let mut kept = Kept::default();
        assert!(kept.is_shared(), "nothing is known");
        kept.note(false);
        let asked = (0..320).filter(|_| kept.is_shared()).count();
        assert_eq!(asked, 10);
        kept.note(true);
        assert!((0..320).all(|_| kept.is_shared()));
        // What was long ago counts for less and less.
        (0..1_000).for_each(|_| kept.note(false));
        (0..40).for_each(|_| kept.note(true));
        assert!(kept.is_shared());
    }
}

//! A lease as its holder sees it: until when it may act, and when it renews. Pure.

use farthing_types::{Span, Time};

use super::book::Holding;

/// How a lease is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// How long it is asked for, each time.
    pub lasts: Span,
    /// How long before its end the holder stops to act.
    pub margin: Span,
}

impl Terms {
    /// Renewals are due when a third of the time is over: two may fail.
    const fn renew_after(&self) -> Span {
        Span::from_nanos(self.lasts.as_nanos() as u64 / 3)
    }
    /// How soon one that failed is repeated.
    const fn again_after(&self) -> Span {
        Span::from_nanos(self.lasts.as_nanos() as u64 / 10)
    }
}

/// What the holder does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing before this time.
    Wait(Time),
    /// Renew.
    Renew,
    /// It may not act any more. The server may say otherwise, but must be asked for that.
    Over,
}

/// A lease that was granted. Times are those of a clock that never stands still nor goes back while the process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hold {
    /// What the holder shows.
    pub holding: Holding,
    terms: Terms,
    until: Time,
    renew_at: Time,
}

impl Hold {
    /// Granted to an asking that was sent at `sent`: the server's time began later, so it ends later.
    pub fn granted(holding: Holding, terms: Terms, sent: Time) -> Self {
        Self { holding, terms, until: sent + terms.lasts, renew_at: sent + terms.renew_after() }
    }

    /// Whether the holder may act at `now`. What it does must have its effect within the margin, or go through a fence.
    pub fn may_act(&self, now: Time) -> bool {
        now + self.terms.margin < self.until
    }

    /// What is to be done at `now`.
    pub fn next(&self, now: Time) -> Next {
        if !self.may_act(now) {
            return Next::Over;
        }
        if now >= self.renew_at { Next::Renew } else { Next::Wait(self.renew_at) }
    }

    /// A renewal that was sent at `sent` was granted.
    pub fn renewed(&mut self, sent: Time) {
        self.until = self.until.max(sent + self.terms.lasts);
        self.renew_at = sent + self.terms.renew_after();
    }

    /// No answer to a renewal: tried again soon.
    pub fn unanswered(&mut self, now: Time) {
        self.renew_at = now + self.terms.again_after();
    }

    /// The server says that it is another's, or nobody's.
    pub fn lost(&mut self) {
        self.until = Time::ZERO;
    }
}

#[cfg(test)]
mod tests {
    use super::super::book::{Claim, Token};
    use super::*;

    const TERMS: Terms = Terms { lasts: Span::from_millis(900), margin: Span::from_millis(100) };

    fn at(millis: i64) -> Time {
        Time::from_millis(millis)
    }

    #[test]
    fn a_holder_renews_early_and_stops_before_the_end() {
        let mut hold = Hold::granted(Holding { claim: Claim(1), token: Token(7) }, TERMS, at(1_000));
        assert_eq!(hold.next(at(1_000)), Next::Wait(at(1_300)));
        assert_eq!(hold.next(at(1_300)), Next::Renew);
        hold.unanswered(at(1_310));
        assert_eq!(hold.next(at(1_320)), Next::Wait(at(1_400)));
        hold.renewed(at(1_400));
        assert_eq!(hold.next(at(1_500)), Next::Wait(at(1_700)));
        assert!(hold.may_act(at(2_199)) && !hold.may_act(at(2_200)));
        assert_eq!(hold.next(at(2_200)), Next::Over);
        hold.lost();
        assert_eq!(hold.next(at(1_500)), Next::Over);
    }
}

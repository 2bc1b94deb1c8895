//! A cap on what prefetch may spend per window.

use farthing_types::{Money, Span, Time};

/// Spending of the present window. Windows follow each other from the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    cap: Option<Money>,
    window: Span,
    current: i64,
    spent: Money,
}

impl Budget {
    /// At most `cap` per `window`; `None`: no cap.
    pub fn new(cap: Option<Money>, window: Span) -> Self {
        Self { cap, window: window.max(Span::from_secs(1)), current: i64::MIN, spent: Money::ZERO }
    }

    /// Takes `price` out of the window of `now` if it is still there; says whether it was.
    pub fn spend(&mut self, now: Time, price: Money) -> bool {
        let length = i64::try_from(self.window.as_nanos()).unwrap_or(i64::MAX);
        let window = now.nanos().div_euclid(length);
        if window != self.current {
            (self.current, self.spent) = (window, Money::ZERO);
        }
        let after = self.spent.nanos().saturating_add(price.nanos().max(0));
        if self.cap.is_some_and(|cap| after > cap.nanos()) {
            return false;
        }
        self.spent = Money::from_nanos(after);
        true
    }

    /// Spent in the present window.
    pub fn spent(&self) -> Money {
        self.spent
    }
}

/// A cap that follows what the same route's calls cost: a share of the larger of this window's cost and the last one's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Allowance {
    millionths: u32,
    window: Span,
    current: i64,
    calls: Money,
    before: Money,
    spent: Money,
}

impl Allowance {
    /// At most `share` of what calls cost, per `window`.
    pub fn new(share: f64, window: Span) -> Self {
        let millionths = (share.clamp(0.0, 1_000.0) * 1e6).round() as u32;
        let window = window.max(Span::from_secs(1));
        Self { millionths, window, current: i64::MIN, calls: Money::ZERO, before: Money::ZERO, spent: Money::ZERO }
    }

    /// A call of the route that was not made ahead cost `price`.
    pub fn called(&mut self, now: Time, price: Money) {
        self.turn(now);
        self.calls = sum(self.calls, price);
    }

    /// Takes `price` out of the window of `now` if it is still there; says whether it was.
    pub fn spend(&mut self, now: Time, price: Money) -> bool {
        self.turn(now);
        let most = i128::from(self.calls.max(self.before).nanos()) * i128::from(self.millionths) / 1_000_000;
        let after = sum(self.spent, price);
        let fits = i128::from(after.nanos()) <= most;
        if fits {
            self.spent = after;
        }
        fits
    }

    fn turn(&mut self, now: Time) {
        let length = i64::try_from(self.window.as_nanos()).unwrap_or(i64::MAX);
        let window = now.nanos().div_euclid(length);
        if window != self.current {
            self.before = if self.current.checked_add(1) == Some(window) { self.calls } else { Money::ZERO };
            (self.current, self.calls, self.spent) = (window, Money::ZERO, Money::ZERO);
        }
    }
}

fn sum(sum: Money, price: Money) -> Money {
    Money::from_nanos(sum.nanos().saturating_add(price.nanos().max(0)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_allowance_is_never_more_than_its_share_of_what_calls_cost(
            share in 0.0..2.0f64, steps in proptest::collection::vec((0..400i64, 0..300i64, any::<bool>()), 0..300),
        ) {
            let mut allowance = Allowance::new(share, Span::from_secs(1));
            let (mut ms, mut calls, mut ahead) = (0, std::collections::BTreeMap::new(), std::collections::BTreeMap::new());
            for (wait, price, call) in steps {
                ms += wait;
                let (now, price) = (Time::from_millis(ms), Money::from_nanos(price));
                if call {
                    allowance.called(now, price);
                    *calls.entry(ms / 1_000).or_insert(0) += price.nanos();
                } else if allowance.spend(now, price) {
                    *ahead.entry(ms / 1_000).or_insert(0) += price.nanos();
                }
                let window = ms / 1_000;
                let of = |sums: &std::collections::BTreeMap<i64, i64>, window| sums.get(&window).copied().unwrap_or(0);
                let most = of(&calls, window).max(of(&calls, window - 1)) as f64 * (share + 1e-6);
                prop_assert!(of(&ahead, window) as f64 <= most + 1.0);
            }
        }
    }

    proptest! {
        #[test]
        fn no_window_spends_more_than_the_cap(cap in 0..1_000i64, spends in proptest::collection::vec((0..5_000i64, 0..300i64), 0..200)) {
            let mut budget = Budget::new(Some(Money::from_nanos(cap)), Span::from_secs(1));
            let (mut ms, mut windows) = (0, std::collections::BTreeMap::new());
            for (wait, price) in spends {
                ms += wait;
                if budget.spend(Time::from_millis(ms), Money::from_nanos(price)) {
                    *windows.entry(ms / 1_000).or_insert(0) += price;
                }
                prop_assert!(budget.spent().nanos() <= cap);
            }
            prop_assert!(windows.values().all(|spent| *spent <= cap));
        }
    }

    #[test]
    fn without_a_cap_everything_goes() {
        assert!(Budget::new(None, Span::ZERO).spend(Time::ZERO, Money::from_nanos(i64::MAX)));
    }
}

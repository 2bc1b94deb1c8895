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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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

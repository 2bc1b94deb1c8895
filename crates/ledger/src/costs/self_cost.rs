//! What Farthing itself costs, against what it saves.

use farthing_types::{Money, Time};

use super::report::CostReport;
use super::window::Window;

/// A month: a twelfth of 365.25 days, ns.
const MONTH: i128 = 2_629_800_000_000_000;

/// What Farthing costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SelfCost {
    /// For a month.
    pub per_month: Money,
    /// For a million requests.
    pub per_million_requests: Money,
}

/// What remains.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Net {
    /// What Farthing cost in the window, nano-dollars.
    pub own: i128,
    /// What was saved, less what it cost, nano-dollars.
    pub net: i128,
    /// Saved for each dollar of own cost; `None` when it cost nothing.
    pub returned: Option<f64>,
}

impl SelfCost {
    /// The cost of a window, as far as it has passed at `now`, and of so many requests: nano-dollars, rounded to the nearest.
    pub fn of(&self, window: Window, requests: i128, now: Time) -> i128 {
        let passed = i128::from(window.to.min(now).nanos().saturating_sub(window.from.nanos()).max(0));
        let share = |money: Money, part: i128, whole: i128| (i128::from(money.nanos()) * part + whole / 2) / whole;
        share(self.per_month, passed, MONTH) + share(self.per_million_requests, requests, 1_000_000)
    }

    /// What remains of the saving of an answer about everything; `None` when requests or calls are not in it.
    pub fn net(&self, report: &CostReport, now: Time) -> Option<Net> {
        let (requests, calls) = (report.total.requests?, report.total.calls?);
        let own = self.of(report.window, requests.requests, now);
        // Not the sum of what was credited: what refreshes, audits and retries cost is taken off.
        let saved = requests.base - calls.bill;
        Some(Net { own, net: saved - own, returned: (own > 0).then(|| saved as f64 / own as f64) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_has_its_share_of_a_month() {
        let cost = SelfCost { per_month: "120".parse().unwrap(), per_million_requests: "1".parse().unwrap() };
        let window = |ns: i128| Window { from: Time::ZERO, to: Time::from_nanos(ns as i64) };
        let later = Time::from_nanos(i64::MAX);
        assert_eq!(cost.of(window(MONTH), 0, later), 120_000_000_000);
        assert_eq!(cost.of(window(MONTH / 4), 2_500_000, later), 32_500_000_000);
        assert_eq!(cost.of(window(MONTH), 0, Time::from_nanos((MONTH / 2) as i64)), 60_000_000_000, "the rest has not passed yet");
        assert_eq!(SelfCost { per_month: Money::from_nanos(1), ..cost }.of(window(MONTH / 2), 0, later), 1, "to the nearest");
    }
}

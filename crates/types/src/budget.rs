//! What a budget is: money over a window, whose calls it counts, and what happens at its end.

use std::sync::Arc;

use crate::{Money, RouteName, reasons};

reasons! {
    /// How much a request matters.
    Priority {
        /// A user waits for it.
        High = "high",
        /// Something inside waits for it.
        Medium = "medium",
        /// Nobody waits for it.
        Low = "low",
    }
}

impl Priority {
    /// The value of a word that people use for it: its own, or `user-facing`, `internal`, `background`.
    pub fn named(text: &str) -> Option<Self> {
        match text {
            "user-facing" => Some(Self::High),
            "internal" => Some(Self::Medium),
            "background" => Some(Self::Low),
            own => Self::parse(own),
        }
    }
}

reasons! {
    /// Over which time a budget counts.
    BudgetWindow {
        /// A day in the budget's time zone.
        Day = "day",
        /// A calendar month in the budget's time zone.
        Month = "month",
        /// For ever: prepaid money. Only an operator adds to it.
        Ever = "ever",
    }
}

reasons! {
    /// Who shares one counter of a budget that each of them has.
    BudgetUnit {
        /// Each tenant has its own.
        Tenant = "tenant",
        /// Each team.
        Team = "team",
        /// Each service.
        Service = "service",
        /// Each Farthing key.
        Key = "key",
    }
}

reasons! {
    /// Whom a budget holds back when it is used up.
    Enforce {
        /// Everybody.
        Hard = "hard",
        /// Everybody but requests of high priority, which pass and are counted.
        HighPasses = "high-passes",
        /// Nobody: it warns.
        Soft = "soft",
    }
}

reasons! {
    /// What becomes of a request that a budget holds back.
    OnExceeded {
        /// It is refused: 429 `budget_exceeded`.
        Reject = "reject",
        /// It waits for room (a raise, a new window, a call that cost less than was set aside) until its deadline, then it is refused.
        Queue = "queue",
        /// It is answered from an entry past its freshness where there is one, else refused.
        Stale = "stale",
        /// Of several providers the cheapest alone is asked, where there is room for that, else it is refused.
        Cheapest = "cheapest",
    }
}

/// Whose calls a budget counts: all that match every field that is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BudgetScope {
    /// Calls that this tenant pays.
    pub tenant: Option<Arc<str>>,
    /// Calls ordered under a key of this team.
    pub team: Option<Arc<str>>,
    /// Calls ordered under a key of this service.
    pub service: Option<Arc<str>>,
    /// Calls ordered under the Farthing key with this public id.
    pub key: Option<Arc<str>>,
    /// Calls of these routes; empty means all.
    pub routes: Vec<RouteName>,
}

/// A budget.
#[derive(Clone, Debug, PartialEq)]
pub struct BudgetSpec {
    /// Its name.
    pub name: Arc<str>,
    /// Money of one window.
    pub limit: Money,
    /// The window.
    pub window: BudgetWindow,
    /// IANA name of the time zone in which days and months begin.
    pub zone: Arc<str>,
    /// Whose calls it counts.
    pub scope: BudgetScope,
    /// Who has a counter of its own; `None`: all share one.
    pub per: Option<BudgetUnit>,
    /// Share of the limit at which it warns.
    pub warn_at: f64,
    /// Whom it holds back.
    pub enforce: Enforce,
    /// What becomes of requests it holds back, by priority in the order of [`Priority::ALL`].
    pub on_exceeded: [OnExceeded; 3],
    /// Calls of which no upper bound is known are let through, counted.
    pub unpriced_ok: bool,
    /// Calls are let through where it cannot be written down what they may spend.
    pub fault_ok: bool,
}

impl Default for BudgetSpec {
    fn default() -> Self {
        Self {
            name: "default".into(),
            limit: Money::ZERO,
            window: BudgetWindow::Month,
            zone: "UTC".into(),
            scope: BudgetScope::default(),
            per: None,
            warn_at: 0.9,
            enforce: Enforce::Hard,
            on_exceeded: [OnExceeded::Reject; 3],
            unpriced_ok: false,
            fault_ok: false,
        }
    }
}

impl BudgetSpec {
    /// Whether it holds requests of this priority back.
    pub fn holds_back(&self, priority: Priority) -> bool {
        match self.enforce {
            Enforce::Hard => true,
            Enforce::HighPasses => priority != Priority::High,
            Enforce::Soft => false,
        }
    }

    /// What becomes of a request of this priority that it holds back.
    pub fn action(&self, priority: Priority) -> OnExceeded {
        self.on_exceeded[priority as usize]
    }
}

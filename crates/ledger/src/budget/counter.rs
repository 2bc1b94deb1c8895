//! One counter: what is granted, spent and set aside in the present window.

use std::sync::Arc;

use farthing_types::{Money, Time};
use serde::{Deserialize, Serialize};

use super::fleet::{Line, Share};
use super::{Charge, CounterKey, CounterView, Grant, WindowSpan};

/// A grant covers a call and this part of the limit beyond it: what a crash can lose of a quiet budget, and how often a busy one writes.
const SLICES: i64 = 200;

/// Money added to a counter for some time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Raise {
    /// How much.
    pub by: Money,
    /// Until when.
    pub until: Time,
    /// Who did it and why.
    pub note: String,
}

/// Money in one window. See the module for what holds between the amounts.
#[derive(Clone, Debug)]
pub(super) struct Counter {
    pub(super) key: Arc<CounterKey>,
    pub(super) window: WindowSpan,
    /// May be spent: this much is written down.
    pub(super) granted: Money,
    /// All that was ever ordered to be written down.
    pub(super) asked: Money,
    pub(super) spent: Money,
    pub(super) uncertain: Money,
    /// Granted before a crash, and not accounted for.
    pub(super) lost: Money,
    pub(super) reserved: Money,
    pub(super) raises: Vec<Raise>,
    /// Calls held back.
    pub(super) blocked: u64,
    /// Levels told: 1 near the limit, 2 used up.
    pub(super) told: u8,
    /// Changed since it was written down.
    pub(super) changed: bool,
    /// Its share in the counter of a fleet.
    pub(super) share: Option<Box<Share>>,
    /// What the window before may have cost: others, by their clocks, may be in it yet.
    pub(super) before: Option<Box<Line>>,
}

impl Counter {
    pub(super) fn new(key: Arc<CounterKey>, window: WindowSpan) -> Self {
        let none = Money::ZERO;
        Self {
            key,
            window,
            granted: none,
            asked: none,
            spent: none,
            uncertain: none,
            lost: none,
            reserved: none,
            raises: Vec::new(),
            blocked: 0,
            told: 0,
            changed: false,
            share: None,
            before: None,
        }
    }

    /// Begins `window` where it is a later one, and shares it with a fleet by `digest`. Calls under way settle in the window in which they were ordered:
    /// it is gone then.
    pub(super) fn roll(&mut self, window: WindowSpan, digest: Option<&Arc<str>>) {
        // A clock that is put back opens no window again.
        if window.start > self.window.start {
            let (raises, before) = (std::mem::take(&mut self.raises), self.last_line().map(Box::new));
            *self = Self { raises, before, changed: true, ..Self::new(self.key.clone(), window) };
        }
        self.raises.retain(|raise| raise.until > window.start);
        self.shared(digest);
    }

    pub(super) fn view(&self, base: Money, now: Time) -> CounterView {
        CounterView {
            counter: self.key.clone(),
            window: self.window,
            limit: self.limit(base, now),
            raises: self.raises.clone(),
            spent: self.spent,
            uncertain: self.uncertain,
            lost: self.lost,
            reserved: self.reserved,
            granted: self.granted,
            blocked: self.blocked,
            fleet: self.share.as_ref().map(|share| share.fleet().clone()),
        }
    }

    pub(super) fn limit(&self, base: Money, now: Time) -> Money {
        base + self.raises.iter().filter(|raise| raise.until > now).map(|raise| raise.by).sum()
    }

    pub(super) fn used(&self) -> Money {
        self.spent + self.uncertain + self.lost
    }

    /// What others of the fleet have told that they spent.
    pub(super) fn used_by_others(&self) -> Money {
        self.share.as_ref().map_or(Money::ZERO, |share| share.fleet().used)
    }

    /// Used here and by others.
    pub(super) fn used_by_all(&self) -> Money {
        self.used() + self.used_by_others()
    }

    /// Used and set aside.
    pub(super) fn held(&self) -> Money {
        self.used() + self.reserved
    }

    /// The grant that lets `bound` more be set aside under `limit`; `None` where what is granted is enough. Beyond the limit no more is granted
    /// than the call needs.
    pub(super) fn needs(&mut self, bound: Money, limit: Money) -> Option<Grant> {
        let needed = self.held() + bound;
        (needed > self.granted).then(|| self.grant(needed, limit))
    }

    /// The grant to order in the background, where what is left of the present one runs out.
    pub(super) fn ahead(&mut self, limit: Money) -> Option<Grant> {
        let asked = self.asked.max(self.granted).max(self.share.as_ref().map_or(Money::ZERO, |share| share.wanted()));
        let left = asked - self.held();
        (left < half(slice(limit)) && asked + self.used_by_others() < limit).then(|| self.grant(self.held(), limit))
    }

    fn grant(&mut self, needed: Money, limit: Money) -> Grant {
        let total = (needed + slice(limit)).min(limit).max(needed);
        // What a fleet is asked for is not on its way to the disk yet.
        if self.share.is_none() {
            self.asked = self.asked.max(total);
        }
        Grant { counter: self.key.clone(), window: self.window.start, total }
    }

    pub(super) fn settle(&mut self, reserved: Money, charge: Charge) {
        self.reserved -= reserved;
        self.spent += charge.spent;
        self.uncertain += charge.uncertain;
        self.changed = true;
    }

    /// Whether nothing would be missed if it were forgotten: it holds nothing here or in the file, and no call counts with it. Never one that a
    /// fleet shares: others count what it has told.
    pub(super) fn is_as_new(&self) -> bool {
        let none = [self.held(), self.granted, self.asked].iter().all(|money| *money == Money::ZERO);
        let alone = self.share.is_none() && self.before.is_none();
        // Calls whose price has no bound set nothing aside, and have its key.
        none && alone && self.raises.is_empty() && self.told == 0 && !self.changed && Arc::strong_count(&self.key) == 1
    }

    /// Gives back what was granted for calls that then cost less, so that a crash cannot lose it; all of it where none has cost anything yet.
    pub(super) fn give_back(&mut self, limit: Money) {
        if self.held() == Money::ZERO && self.share.is_none() {
            self.lower_to(Money::ZERO);
            return;
        }
        let enough = self.held() + slice(limit);
        if self.granted > enough + slice(limit) {
            self.lower_to(enough);
        }
    }

    /// Gives back all that is not held; that is to be written down.
    pub(super) fn give_all_back(&mut self) {
        self.changed |= self.lower_to(self.held());
    }

    /// Whether less is granted then. Not while an order is under way: its end would bring it back.
    fn lower_to(&mut self, enough: Money) -> bool {
        let lowers = self.asked <= self.granted && self.granted > enough;
        if lowers {
            (self.granted, self.asked) = (enough, enough);
        }
        lowers
    }
}

pub(super) fn slice(limit: Money) -> Money {
    Money::from_nanos(limit.nanos() / SLICES)
}

fn half(money: Money) -> Money {
    Money::from_nanos(money.nanos() / 2)
}

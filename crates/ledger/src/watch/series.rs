//! One series under watch: spend and cost of a call, each against what is usual, suddenly or slowly.

use super::detect::{QUARTERS, Slow, Sudden, Verdict};
use super::history::{History, Hour, Profile};

/// Mean hours to a false alarm of a sudden change, and mean days of a slow one, at least.
const SUDDEN_LIMIT: f64 = 2_160.0;
const SLOW_LIMIT: f64 = 130.0;
/// Smallest scales of the ratios of days: of spend, of the cost of a call.
const SPEND_FLOOR: f64 = 0.04;
const UNIT_FLOOR: f64 = 0.05;
/// Spend of the last hours below this factor of the usual is not worth a word, however sure it is that it has changed.
const MATERIAL: f64 = 1.12;
const LATELY: i64 = 48;
/// Hours before anything is said.
const LEARNING: usize = 14 * 24;
/// Hours for which further sudden changes, and slow ones, are sights of the same.
const SAME_SUDDEN: i64 = 24;
const SAME_SLOW: i64 = 7 * 24;
/// The last hours of the days that end at each quarter.
const QUARTER_HOURS: [i64; QUARTERS] = [5, 11, 17, 23];
/// Part of the mean hour that is added to both sides of a ratio: quiet hours are mostly chance.
const OFFSET: f64 = 0.15;
/// Calls of an hour below which its cost of a call is chance.
const FEW_CALLS: f64 = 20.0;

/// What has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Change {
    /// Spend, within hours.
    SpendSuddenly,
    /// Cost of a call, within hours.
    UnitSuddenly,
    /// Spend, over days.
    SpendSlowly,
    /// Cost of a call, over days.
    UnitSlowly,
}

impl Change {
    /// Every value.
    pub const ALL: [Self; 4] = [Self::SpendSuddenly, Self::UnitSuddenly, Self::SpendSlowly, Self::UnitSlowly];

    /// Whether it came within hours.
    pub const fn is_sudden(self) -> bool {
        matches!(self, Self::SpendSuddenly | Self::UnitSuddenly)
    }

    /// The stable string.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SpendSuddenly => "spend-suddenly",
            Self::UnitSuddenly => "unit-cost-suddenly",
            Self::SpendSlowly => "spend-slowly",
            Self::UnitSlowly => "unit-cost-slowly",
        }
    }
}

/// A change that has not been told yet because too little money is at stake.
#[derive(Clone, Copy, Debug, Default)]
struct Pending {
    /// The hour in which it was found.
    found: i64,
    /// The hour from which the excess counts.
    from: i64,
}

/// A change that is worth telling.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Found {
    /// What has changed.
    pub change: Change,
    /// The first hour of it.
    pub from: i64,
    /// The hour after its last one so far.
    pub to: i64,
    /// Spent since then, dollars.
    pub spent: f64,
    /// What is usual for those hours, dollars.
    pub usual: f64,
    /// Calls since then, and what is usual.
    pub calls: (f64, f64),
}

/// One series.
#[derive(Clone, Debug)]
pub struct Series {
    history: History,
    profile: Profile,
    spend: (Sudden, Slow),
    unit: (Sudden, Slow),
    /// Usual cost of a call, logarithm: the median of the last weeks' days.
    usual_unit: Option<f64>,
    /// Sums of the days so far that end at each quarter: calls, spent, usual.
    days: [(f64, f64, f64); QUARTERS],
    units: std::collections::VecDeque<f32>,
    pending: [Option<Pending>; Change::ALL.len()],
    /// Until when sudden changes, and slow ones, are taken for what was told.
    told_until: (i64, i64),
}

impl Series {
    /// Bytes that one takes at most.
    pub const BYTES: usize = History::BYTES + Profile::BYTES + 2 * (Sudden::BYTES + Slow::BYTES) + 512;

    /// A series whose first hour is `first`, since 1970.
    pub fn new(first: i64) -> Self {
        Self {
            history: History::new(first),
            profile: Profile::default(),
            spend: Default::default(),
            unit: Default::default(),
            usual_unit: None,
            days: [(0.0, 0.0, 0.0); QUARTERS],
            units: std::collections::VecDeque::new(),
            pending: [None; Change::ALL.len()],
            told_until: (i64::MIN, i64::MIN),
        }
    }

    /// The hours that are remembered.
    pub const fn history(&self) -> &History {
        &self.history
    }

    /// Takes the next hour; `floor`: smallest excess in dollars that is told.
    pub fn push(&mut self, hour: Hour, floor: f64) -> Vec<Found> {
        let at = self.history.next();
        if at.rem_euclid(24) == 0 {
            self.profile = self.history.profile();
        }
        let verdicts = if self.history.known() < LEARNING { [Verdict::Quiet; 4] } else { self.judge(at, hour) };
        self.history.push(hour);
        let mut found = Vec::new();
        for ((change, verdict), slot) in Change::ALL.into_iter().zip(verdicts).zip(0..) {
            let told = self.told(change, verdict, slot, floor);
            found.extend(told.filter(|found| self.is_news(found)));
        }
        found
    }

    /// Whether it is more than another sight of what was told: one change is seen by several detectors.
    fn is_news(&mut self, found: &Found) -> bool {
        let sudden = found.change.is_sudden();
        let known = self.told_until.0.max(if sudden { i64::MIN } else { self.told_until.1 });
        if found.to <= known {
            return false;
        }
        if sudden {
            self.told_until.0 = found.to + SAME_SUDDEN;
        }
        self.told_until.1 = found.to + SAME_SLOW;
        true
    }

    fn judge(&mut self, at: i64, hour: Hour) -> [Verdict; 4] {
        let usual = self.profile.at(at);
        let offset = OFFSET * self.profile.mean + 1e-9;
        // A weekday may be a holiday, and those are like weekends.
        let free = self.profile.free_day(at).max(usual);
        let spend = self.spend.0.hour(((hour.usd + offset) / (free + offset)).ln(), SUDDEN_LIMIT);
        let unit = match self.usual_unit.filter(|_| hour.calls >= FEW_CALLS && hour.usd > 0.0) {
            Some(usual) => self.unit.0.hour((hour.usd / hour.calls).ln() - usual, SUDDEN_LIMIT),
            None => Verdict::Quiet,
        };
        for day in &mut self.days {
            *day = (day.0 + hour.calls, day.1 + hour.usd, day.2 + usual);
        }
        let quarter = QUARTER_HOURS.iter().position(|last| at.rem_euclid(24) == *last);
        let (slow_spend, slow_unit) = quarter.map_or((Verdict::Quiet, Verdict::Quiet), |quarter| self.close_day(quarter, offset));
        [spend, unit, slow_spend, slow_unit]
    }

    fn close_day(&mut self, quarter: usize, offset: f64) -> (Verdict, Verdict) {
        let (calls, usd, usual) = self.days.get_mut(quarter).map(std::mem::take).unwrap_or_default();
        let ratio = ((usd + 24.0 * offset) / (usual + 24.0 * offset)).ln();
        let spend = self.spend.1.day(quarter, ratio, (SPEND_FLOOR, SLOW_LIMIT));
        if calls < FEW_CALLS || usd <= 0.0 {
            return (spend, Verdict::Quiet);
        }
        let unit = (usd / calls).ln();
        let slow = self.usual_unit.map_or(Verdict::Quiet, |usual| self.unit.1.day(quarter, unit - usual, (UNIT_FLOOR, SLOW_LIMIT)));
        if quarter + 1 == QUARTERS {
            self.learn(unit);
        }
        (spend, slow)
    }

    fn learn(&mut self, unit: f64) {
        self.units.push_back(unit as f32);
        if self.units.len() > 42 {
            self.units.pop_front();
        }
        // The last week is left out: a slow change must not be taken for the usual.
        let old = self.units.len().saturating_sub(7).max(self.units.len().min(3));
        self.usual_unit = Some(super::stats::median_of(self.units.iter().take(old).map(|unit| f64::from(*unit))));
    }

    /// What is to be told of a verdict: once, and when enough money is at stake.
    fn told(&mut self, change: Change, verdict: Verdict, slot: usize, floor: f64) -> Option<Found> {
        let to = self.history.next();
        let pending = self.pending.get_mut(slot)?;
        match verdict {
            Verdict::Changed => {
                let back = match change {
                    Change::SpendSuddenly => i64::from(self.spend.0.since()),
                    Change::UnitSuddenly => i64::from(self.unit.0.since()),
                    Change::SpendSlowly => 24 * i64::from(self.spend.1.since()),
                    Change::UnitSlowly => 24 * i64::from(self.unit.1.since()),
                };
                *pending = Some(Pending { found: to, from: to - back });
            }
            // A day speaks for the hours until the next one ends.
            Verdict::Quiet if change.is_sudden() || to.rem_euclid(6) == 0 => *pending = None,
            _ => {}
        }
        let waiting = (*pending)?;
        let found = self.since(change, waiting.from, to);
        // Long ago, and still not worth a word.
        if to - waiting.found > 14 * 24 {
            *self.pending.get_mut(slot)? = None;
            return None;
        }
        let lately = self.since(change, waiting.from.max(to - LATELY), to);
        let worth = found.spent - found.usual >= floor && lately.spent >= MATERIAL * lately.usual;
        worth.then(|| {
            if let Some(pending) = self.pending.get_mut(slot) {
                *pending = None;
            }
            found
        })
    }

    fn since(&self, change: Change, from: i64, to: i64) -> Found {
        let hours = (from..to).filter_map(|hour| Some((hour, self.history.get(hour)?)));
        let (mut spent, mut usual, mut calls) = (0.0, 0.0, 0.0);
        for (hour, of) in hours {
            spent += of.usd;
            calls += of.calls;
            usual += match (change, self.usual_unit) {
                // Dearer calls are compared with as many of the usual ones.
                (Change::UnitSuddenly | Change::UnitSlowly, Some(unit)) => of.calls * unit.exp(),
                _ => self.profile.at(hour),
            };
        }
        let usual_calls = self.usual_unit.map_or(calls, |unit| usual / unit.exp());
        Found { change, from, to, spent, usual, calls: (calls, usual_calls) }
    }
}

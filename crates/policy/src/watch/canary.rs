//! A candidate beside the champion: first it is scored and decides nothing (shadow); once enough of what it foretold has come to pass, it decides for a few
//! keys (canary); whatever shows harm takes it back at once. Who gets a key is the caller's hash; who is promoted in the end, an operator's
//! matter, an experiment's, or where nobody attends that of [`Canary::unattended`].
//!
//! Every guard is a fair bet under the hypothesis "no harm beyond the margin" (Ville's inequality: it is crossed wrongly with a probability of at most one in
//! a thousand, at whatever moment one looks). Bets that compare the two halves of the slice take one observation per key and window, each with a coin
//! of its own, centred where that is known beforehand; the others hold for each copy by itself.

use farthing_types::reasons;

use super::calibration::{Calibration, Ratio};
use super::contest::{Contest, ContestReport, Spent};
use crate::switches::Detector;

/// Evidence at which a guard is crossed.
const ENOUGH: f64 = 1_000.0;
/// Evidence at which a candidate is shown not to be dearer by more than the margin.
const SHOWN: f64 = 100.0;
/// Evidence, for four times the margin, at which it gets more keys, and by how much more; at the second it gets all that it may have.
const WIDER: [f64; 2] = [20.0, 400.0];
const MORE: f64 = 4.0;
/// The largest share of keys: as many are the champion's.
const MOST_SHARE: f64 = 0.5;
/// Forecasts of a candidate may be off by this factor.
const TOLERANCE: f64 = 2.0;
/// A world that changes misleads both; a candidate is blamed for what it foretold when there is so much more evidence against it.
const ALONE: f64 = 10.0;
/// A candidate whose copies would have cost so much more than the champion's stays in shadow.
const DEARER: f64 = 1.1;
/// Margin of paid calls: a half is as many as expected, 0.6 one and a half times as many.
const CALLS_MARGIN: f64 = 0.1;
/// Share of calls that may fail more often, in absolute terms.
const ERRORS_MARGIN: f64 = 0.02;
/// Answers in a row that are no prediction of the candidate's own before it is given up.
const UNSOUND: u32 = 3;
/// Parts of the largest bet that cannot ruin.
const BETS: [f64; 4] = [0.1, 0.25, 0.5, 0.8];

reasons! {
    /// Where a candidate stands.
    Stage {
        /// Scored at every fill; it decides nothing.
        Shadow = "shadow",
        /// It decides for a few keys.
        Canary = "canary",
        /// It did harm.
        Rejected = "rejected",
    }
}

reasons! {
    /// What a candidate is taken back for.
    Guard {
        /// Answers change otherwise than it foretells.
        Changes = "changes",
        /// Its keys need more paid calls than the champion's.
        Calls = "calls",
        /// Calls for its keys fail more often.
        Errors = "errors",
        /// Audits find its answers stale more often.
        Stale = "stale",
        /// It answers too late.
        Late = "late",
        /// It answers nothing that can be used.
        Answers = "answers",
        /// Calls and stale answers of its keys cost more than the champion's.
        Bill = "bill",
    }
}

/// What a candidate is held to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CanarySpec {
    /// Share of the keys that it decides for; as many are watched beside them. 0: it never leaves the shadow.
    pub share: f64,
    /// Labels before it may decide.
    pub labels: u64,
    /// How much larger the share of stale answers may be that audits find.
    pub stale_margin: f64,
    /// By what share its keys may cost more.
    pub money_margin: f64,
}

/// What a predictor said of a copy.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Told {
    /// Its TTL, seconds.
    pub ttl: f64,
    /// Changes that it foretold by the gap.
    pub cumulated: f64,
}

/// What became of a copy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Matured {
    /// What the champion said.
    pub champion: Told,
    /// What the candidate said.
    pub candidate: Told,
    /// Seconds until it was fetched again.
    pub gap: f64,
    /// Requests in that time, the one that fetched it again included.
    pub requests: u64,
    /// Whether the answer had changed.
    pub changed: bool,
    /// Price of a stale answer over that of a call.
    pub stale_price: f64,
}

/// What a candidate does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It decides for its keys from now on.
    Begin,
    /// It is taken back.
    Reject(Guard),
    /// It decides for more keys from now on.
    Widen,
    /// It is shown to be no dearer than the margin: it may be champion.
    Promote,
    /// It was not shown either way in time.
    Withdraw,
}

/// What is known of a candidate.
#[derive(Clone, Debug, PartialEq)]
pub struct CanaryReport {
    /// Where it stands.
    pub stage: Stage,
    /// Why it was taken back.
    pub rejected: Option<Guard>,
    /// Share of keys that it decides for in the canary.
    pub share: f64,
    /// Fills at which both were asked.
    pub fills: u64,
    /// Mean distance of the two TTLs, as a natural log.
    pub disagreement: f64,
    /// Mean time that it took to answer, seconds.
    pub latency: f64,
    /// What came against what it foretold.
    pub candidate: Ratio,
    /// The same of the champion.
    pub champion: Ratio,
    /// What its copies would have cost by what came to pass, over the champion's; `None` while nothing has.
    pub bill: Option<f64>,
    /// Evidence of each guard that compares; 1 is none.
    pub evidence: Vec<(Guard, f64)>,
    /// What its keys have cost beside the champion's.
    pub money: ContestReport,
}

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub struct Canary {
    spec: CanarySpec,
    /// What it begins with.
    first_share: f64,
    stage: Stage,
    rejected: Option<Guard>,
    fills: u64,
    distance: f64,
    took: f64,
    unsound: u32,
    candidate: Calibration,
    champion: Calibration,
    bills: (f64, f64),
    calls: Paired,
    errors: Paired,
    stale: Paired,
    money: Contest,
}

impl Canary {
    /// A candidate that nothing is known of.
    pub fn new(spec: CanarySpec) -> Self {
        Self {
            spec,
            first_share: spec.share,
            stage: Stage::Shadow,
            rejected: None,
            fills: 0,
            distance: 0.0,
            took: 0.0,
            unsound: 0,
            candidate: Calibration::once(TOLERANCE),
            champion: Calibration::once(TOLERANCE),
            bills: (0.0, 0.0),
            calls: Paired::new(CALLS_MARGIN, 0.5),
            errors: Paired::new(ERRORS_MARGIN, 1.0),
            stale: Paired::new(spec.stale_margin, 1.0),
            money: Contest::new(spec.money_margin),
        }
    }

    /// Where it stands.
    pub const fn stage(&self) -> Stage {
        self.stage
    }

    /// Share of the keys that are watched: those it decides for, and as many beside them.
    pub fn slice(&self) -> f64 {
        (2.0 * self.spec.share).min(1.0)
    }

    /// Another share from now on; the evidence stays.
    pub fn set_share(&mut self, share: f64) {
        self.spec.share = share.clamp(0.0, MOST_SHARE);
    }

    /// Both were asked about a copy: their TTLs in seconds, how long the candidate took, whether it was late too often, whether it gave a prediction of its own.
    pub fn asked(&mut self, (champion, candidate): (f64, f64), took: f64, (late, sound): (bool, bool)) -> Option<Turn> {
        self.fills += 1;
        self.distance += (candidate.max(1e-3) / champion.max(1e-3)).ln().abs();
        self.took += took;
        self.unsound = if sound { 0 } else { self.unsound + 1 };
        match (late, self.unsound >= UNSOUND) {
            (true, _) => self.reject(Guard::Late),
            (false, true) => self.reject(Guard::Answers),
            _ => None,
        }
    }

    /// Nobody's side decides on a route for some time, or did until now, in `window`: see [`Contest::rest`].
    pub fn rest(&mut self, route: u16, window: i64) {
        self.money.rest(route, window);
    }

    /// Learns what became of a copy. `may_begin`: automation is not frozen.
    pub fn matured(&mut self, seen: &Matured, may_begin: bool) -> Option<Turn> {
        self.candidate.add(seen.candidate.cumulated, seen.changed);
        self.champion.add(seen.champion.cumulated, seen.changed);
        self.bills.0 += seen.bill(seen.candidate.ttl);
        self.bills.1 += seen.bill(seen.champion.ttl);
        let (own, other) = (self.candidate.ratio(), self.champion.ratio());
        if own.evidence() >= ENOUGH && own.evidence() >= ALONE * other.evidence() {
            return self.reject(Guard::Changes);
        }
        let proven = own.labels >= self.spec.labels && self.bill().is_some_and(|bill| bill <= DEARER);
        if self.stage == Stage::Shadow && proven && may_begin && self.spec.share > 0.0 && own.evidence() < ENOUGH {
            self.stage = Stage::Canary;
            return Some(Turn::Begin);
        }
        None
    }

    /// A copy of a watched key ended: the candidate decided (`treated`) or the champion; requests that its one call answered, and how many were expected
    /// under the champion's TTL. At most once for a key and window.
    pub fn cycle(&mut self, treated: bool, requests: u64, expected: f64) -> Option<Turn> {
        let (calls, usual) = (1.0 / requests.max(1) as f64, 1.0 / expected.max(1.0));
        self.calls.add(treated, calls / (calls + usual) - 0.5);
        self.crossed(Guard::Calls, self.calls.evidence())
    }

    /// A call for a watched key ended. At most once for a key and window.
    pub fn called(&mut self, treated: bool, failed: bool) -> Option<Turn> {
        self.errors.add(treated, f64::from(u8::from(failed)));
        self.crossed(Guard::Errors, self.errors.evidence())
    }

    /// An audit looked at a watched key. At most once for a key and window.
    pub fn audited(&mut self, treated: bool, stale: bool) -> Option<Turn> {
        self.stale.add(treated, f64::from(u8::from(stale)));
        self.crossed(Guard::Stale, self.stale.evidence())
    }

    /// Money was spent on a watched key; `None`: nobody knows how much.
    pub fn spent(&mut self, spent: Option<&Spent>) {
        match spent {
            Some(spent) => self.money.add(spent),
            None => self.money.unpriced(),
        }
    }

    /// Windows before this one are over, and what late copies told of them is known.
    pub fn close(&mut self, before: i64) -> Option<Turn> {
        self.money.close(before);
        self.crossed(Guard::Bill, self.money.report().beyond)
    }

    /// What becomes of it where nobody attends: it gets more keys once it is shown not to cost more than four margins more, and is promoted once it is
    /// shown not to cost more than the margin more (money by key and window, see [`super::contest`]). What is not shown by the time that
    /// is `over` is taken back. `over` comes from time that automation was not frozen; who is frozen does not ask.
    pub fn unattended(&mut self, over: bool) -> Option<Turn> {
        let money = self.money.report();
        if self.stage == Stage::Rejected {
            return None;
        }
        if self.stage == Stage::Canary && money.within >= SHOWN {
            return Some(Turn::Promote);
        }
        if over {
            return Some(Turn::Withdraw);
        }
        let wider = match money.within_wide {
            all if all >= WIDER[1] => MOST_SHARE,
            some if some >= WIDER[0] => (MORE * self.first_share).min(MOST_SHARE),
            _ => return None,
        };
        if self.stage != Stage::Canary || wider <= self.spec.share {
            return None;
        }
        self.set_share(wider);
        Some(Turn::Widen)
    }

    fn crossed(&mut self, guard: Guard, evidence: f64) -> Option<Turn> {
        if evidence >= ENOUGH && self.stage == Stage::Canary { self.reject(guard) } else { None }
    }

    fn reject(&mut self, guard: Guard) -> Option<Turn> {
        if self.stage == Stage::Rejected {
            return None;
        }
        (self.stage, self.rejected) = (Stage::Rejected, Some(guard));
        Some(Turn::Reject(guard))
    }

    fn bill(&self) -> Option<f64> {
        (self.bills.1 > 0.0).then(|| self.bills.0 / self.bills.1)
    }

    /// What is known.
    pub fn report(&self) -> CanaryReport {
        let mean = |sum: f64| sum / (self.fills.max(1) as f64);
        let money = self.money.report();
        let compared = [(Guard::Calls, &self.calls), (Guard::Errors, &self.errors), (Guard::Stale, &self.stale)];
        CanaryReport {
            stage: self.stage,
            rejected: self.rejected,
            share: self.spec.share,
            fills: self.fills,
            disagreement: mean(self.distance),
            latency: mean(self.took),
            candidate: self.candidate.ratio(),
            champion: self.champion.ratio(),
            bill: self.bill(),
            evidence: compared.map(|(guard, paired)| (guard, paired.evidence())).into_iter().chain([(Guard::Bill, money.beyond)]).collect(),
            money,
        }
    }
}

impl Matured {
    /// What the requests of the gap would have cost under a TTL, in calls: a call answers what comes within it, and where the answer changed, at any moment of
    /// the gap alike, the copy held then was stale for half of what it could last.
    fn bill(&self, ttl: f64) -> f64 {
        let rate = self.requests.max(1) as f64 / self.gap.max(1e-3);
        let calls = self.requests.max(1) as f64 / (1.0 + rate * ttl);
        let stale = if self.changed { rate * ttl.min(self.gap) / 2.0 } else { 0.0 };
        calls + self.stale_price * stale
    }
}

/// Evidence that what is seen of treated keys is larger than of the others by more than a margin; the coin is fair.
#[derive(Clone, Debug, PartialEq)]
struct Paired {
    margin: f64,
    bound: f64,
    wealth: Detector<{ BETS.len() }>,
}

impl Paired {
    /// For values of at most `most` in size.
    fn new(margin: f64, most: f64) -> Self {
        Self { margin, bound: 2.0 * most + margin, wealth: Detector::default() }
    }
    fn add(&mut self, treated: bool, value: f64) {
        let signed = if treated { 2.0 * value } else { -2.0 * value } - self.margin;
        self.wealth.bet(BETS.map(|part| 1.0 + part / self.bound * signed));
    }
    fn evidence(&self) -> f64 {
        self.wealth.evidence()
    }
}

#[cfg(test)]
#[path = "canary_tests.rs"]
mod tests;

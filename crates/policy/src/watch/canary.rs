//! A candidate beside the champion: first it is scored and decides nothing (shadow); once enough of what it foretold has come to pass, it decides for a few
//! keys (canary); whatever shows harm takes it back at once. Who gets a key is the caller's hash; who is promoted in the end, an operator's or
//! an experiment's matter.
//!
//! Every guard is a fair bet under the hypothesis "no harm beyond the margin" (Ville's inequality: it is crossed wrongly with a probability of at most one in
//! a thousand, at whatever moment one looks). Bets that compare the two halves of the slice take one observation per key and window, each with a coin
//! of its own, centred where that is known beforehand; the others hold for each copy by itself.

use farthing_types::reasons;

use super::calibration::{Calibration, Ratio};
use crate::switches::Detector;

/// Evidence at which a guard is crossed.
const ENOUGH: f64 = 1_000.0;
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
}

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub struct Canary {
    spec: CanarySpec,
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
}

impl Canary {
    /// A candidate that nothing is known of.
    pub fn new(spec: CanarySpec) -> Self {
        Self {
            spec,
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

    /// Another share from now on, as an experiment's ramp orders; the evidence stays.
    pub fn set_share(&mut self, share: f64) {
        self.spec.share = share.clamp(0.0, 0.5);
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
            evidence: compared.map(|(guard, paired)| (guard, paired.evidence())).into(),
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
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng, rngs::StdRng};

    const SPEC: CanarySpec = CanarySpec { share: 0.05, labels: 200, stale_margin: 0.01 };

    /// A copy whose true hazard is foretold by the champion, and `times` too high by the candidate.
    fn copy(rng: &mut StdRng, times: f64) -> Matured {
        let (gap, hazard) = (rng.random_range(20.0..2_000.0), 1e-3);
        let told = |times: f64| Told { ttl: 200.0 / times.sqrt(), cumulated: hazard * times * gap };
        let changed = rng.random::<f64>() < -(-hazard * gap).exp_m1();
        Matured { champion: told(1.0), candidate: told(times), gap, requests: rng.random_range(1..50), changed, stale_price: 20.0 }
    }

    fn until_turn(times: f64, seed: u64) -> (Option<Turn>, u64) {
        let (mut rng, mut canary) = (StdRng::seed_from_u64(seed), Canary::new(SPEC));
        let turn = (0..5_000).find_map(|_| canary.matured(&copy(&mut rng, times), true));
        (turn, canary.report().candidate.labels)
    }

    #[test]
    fn a_sound_candidate_begins_and_a_poisoned_one_never_does() {
        for seed in 0..100 {
            assert_eq!(until_turn(1.0, seed), (Some(Turn::Begin), SPEC.labels), "{seed}");
            for times in [10.0, 0.1] {
                let (turn, labels) = until_turn(times, seed);
                assert!(turn == Some(Turn::Reject(Guard::Changes)) && labels < SPEC.labels, "{seed}: {turn:?} after {labels}");
            }
        }
    }

    #[test]
    fn a_world_that_changes_is_not_the_candidates_fault() {
        let (mut rng, mut canary) = (StdRng::seed_from_u64(4), Canary::new(SPEC));
        for _ in 0..500 {
            let copy = copy(&mut rng, 1.05);
            assert!(!matches!(canary.matured(&Matured { changed: true, ..copy }, true), Some(Turn::Reject(_))));
        }
        assert!(canary.report().champion.evidence() > ENOUGH);
    }

    #[test]
    fn frozen_or_without_a_share_it_stays_in_the_shadow() {
        let (mut rng, mut frozen, mut shadow) =
            (StdRng::seed_from_u64(5), Canary::new(SPEC), Canary::new(CanarySpec { share: 0.0, ..SPEC }));
        for _ in 0..1_000 {
            let copy = copy(&mut rng, 1.0);
            assert_eq!((frozen.matured(&copy, false), shadow.matured(&copy, true)), (None, None));
        }
        assert_eq!(frozen.matured(&copy(&mut rng, 1.0), true), Some(Turn::Begin));
        assert!((frozen.report().bill.unwrap() - 1.0).abs() < 1e-9);
        assert_eq!(frozen.slice(), 0.1);
        frozen.set_share(0.25);
        assert_eq!(frozen.slice(), 0.5);
    }

    /// Observations until a guard takes the candidate back, when treated keys have `treated` where the others have `other`.
    fn taken_back(
        seed: u64,
        (treated, other): (f64, f64),
        add: impl Fn(&mut Canary, bool, f64, &mut StdRng) -> Option<Turn>,
    ) -> Option<usize> {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut canary = Canary { stage: Stage::Canary, ..Canary::new(SPEC) };
        (1..20_000).find(|_| {
            let arm = rng.random::<bool>();
            let seen = if arm { treated } else { other };
            add(&mut canary, arm, seen, &mut rng).is_some()
        })
    }

    /// Cycles of about so many requests, where ten are usual.
    fn cycle(canary: &mut Canary, arm: bool, mean: f64, rng: &mut StdRng) -> Option<Turn> {
        let requests = 1.0 - (mean - 1.0).max(0.0) * (1.0 - rng.random::<f64>()).ln();
        canary.cycle(arm, requests.round() as u64, 10.0)
    }

    #[test]
    fn harm_to_its_keys_takes_it_back_and_none_does_not() {
        let mut calls: Vec<_> = (0..100).map(|seed| taken_back(seed, (3.0, 10.0), cycle).unwrap_or(20_000)).collect();
        calls.sort_unstable();
        assert!(calls[50] <= 400, "three times the calls: median {}", calls[50]);
        let failing = |canary: &mut Canary, arm: bool, share: f64, rng: &mut StdRng| canary.called(arm, rng.random::<f64>() < share);
        let stale = |canary: &mut Canary, arm: bool, share: f64, rng: &mut StdRng| canary.audited(arm, rng.random::<f64>() < share);
        let mut failed: Vec<_> = (0..100).map(|seed| taken_back(seed, (0.10, 0.01), failing).unwrap_or(20_000)).collect();
        failed.sort_unstable();
        assert!(failed[50] <= 1_000, "ten times the errors: median {}", failed[50]);
        assert!((0..50).all(|seed| taken_back(seed, (0.3, 0.01), stale).is_some_and(|taken| taken < 500)));
        assert!((0..50).all(|seed| taken_back(seed, (10.0, 10.0), cycle).is_none()));
        assert!((0..50).all(|seed| taken_back(seed, (0.05, 0.05), failing).is_none()));
    }

    #[test]
    fn late_and_unusable_answers_take_it_back_in_the_shadow_already() {
        let mut canary = Canary::new(SPEC);
        assert_eq!(canary.asked((60.0, 60.0), 1e-5, (false, true)), None);
        assert_eq!(canary.asked((60.0, 60.0), 1.0, (true, true)), Some(Turn::Reject(Guard::Late)));
        assert_eq!(canary.asked((60.0, 60.0), 1.0, (true, true)), None, "told once");
        let mut canary = Canary::new(SPEC);
        let turns: Vec<_> = (0..3).map(|_| canary.asked((60.0, 120.0), 0.0, (false, false))).collect();
        assert_eq!(turns, [None, None, Some(Turn::Reject(Guard::Answers))]);
        assert!((canary.report().disagreement - 2f64.ln()).abs() < 1e-9);
    }
}

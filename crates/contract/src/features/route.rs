//! What is known about one route: the pooled statistics from which a key that nobody knows yet starts.

use farthing_types::{Span, Time};

use super::ahead::Ahead;
use super::baseline::{Baseline, bucket_of, since_change};
use super::drawn::{Drawn, Draws, Followed};
use super::informed::Informed;
use super::key::{KeyStats, Observation, seconds_between};
use super::likeness::{Likeness, doubted};
use super::passed::Passed;
use super::persist::{Persist, persist};
use super::rhythm::Rhythm;
use super::steering::Steering;

/// Time constant with which a route's statistics forget toward the prior.
pub const ROUTE_MEMORY: Span = Span::from_secs(7 * 86_400);
/// The hazard (1/s) assumed before anything was seen: one change in an hour.
pub const DEFAULT_HAZARD: f64 = 1.0 / 3_600.0;

/// Weight of [`DEFAULT_HAZARD`], in events.
const START_EVENTS: f64 = 0.5;
/// Refetches that found a change, from which a route's hazards are its own.
const SETTLED: f64 = 10.0;
/// Least share of a key's requests that counts as drawn by no change.
const LEAST_BACKGROUND: f64 = 0.1;
/// Refetches, and the share of them that found a change, from which a route counts as one whose answers always change.
const ALWAYS_AFTER: f64 = 30.0;
const ALWAYS_SHARE: f64 = 0.99;

/// Live statistics of one route; about 3 KiB. `Clone` is a snapshot for decisions made elsewhere.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteStats {
    updated_ms: i64,
    first_ms: i64,
    pooled: Cell,
    baseline: Baseline,
    keys: f64,
    requests: f64,
    fetches: f64,
    changed: f64,
    longest_gap_s: f64,
    rhythm: Rhythm,
    rate_answers: f64,
    rate_seconds: f64,
    likeness: Likeness,
    informed: Informed,
    drawn: Drawn,
    steering: Steering,
}

/// Changes and observed seconds, decayed as of `at_ms`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Cell {
    events: f32,
    exposure_s: f32,
    at_ms: i64,
}

impl Cell {
    fn add(&mut self, now_ms: i64, events: f64, exposure_s: f64) {
        let keep = forget(self.at_ms, now_ms);
        self.events = (f64::from(self.events) * keep + events) as f32;
        self.exposure_s = (f64::from(self.exposure_s) * keep + exposure_s) as f32;
        self.at_ms = now_ms;
    }
    fn hazard(&self, weight: f64, prior: f64) -> f64 {
        (f64::from(self.events) + weight) / (f64::from(self.exposure_s) + weight / prior)
    }
}

impl Default for RouteStats {
    fn default() -> Self {
        Self {
            updated_ms: 0,
            first_ms: 0,
            pooled: Cell::default(),
            baseline: Baseline::default(),
            keys: 0.0,
            requests: 0.0,
            fetches: 0.0,
            changed: 0.0,
            longest_gap_s: 0.0,
            rhythm: Rhythm::default(),
            rate_answers: 0.0,
            rate_seconds: 0.0,
            likeness: Likeness::default(),
            informed: Informed::default(),
            drawn: Drawn::default(),
            steering: Steering::default(),
        }
    }
}

impl RouteStats {
    /// Notes a client request at `now`; `new_key` when nothing was known about its key.
    pub fn on_request(&mut self, now: Time, new_key: bool) {
        self.advance(now.millis());
        self.requests += 1.0;
        self.keys += f64::from(u8::from(new_key));
    }

    /// Notes a client request for `key` at `now`, here and in the key's own statistics; answers whether the key's copy is doubted now: its
    /// requests say that it has changed, more probably than its [`KeyStats::doubt`] allows.
    pub fn on_request_of(&mut self, key: &mut KeyStats, now: Time) -> bool {
        let doubted = self.hear(key, now);
        self.on_request(now, key.fetches() == 0);
        key.on_request(now);
        doubted
    }

    /// Whether a request for `key` at `now` would find its copy doubted; notes nothing.
    pub fn would_doubt(&self, key: &KeyStats, now: Time) -> bool {
        let mut heard = *key;
        key.doubt().is_possible() && self.hear(&mut heard, now)
    }

    /// Takes in what a request for `key` at `now` says of its copy, and whether that is doubted. Nothing where changes draw no readers.
    fn hear(&self, key: &mut KeyStats, now: Time) -> bool {
        if key.fetches() == 0 {
            return false;
        }
        let last = Time::from_millis(key.last_seen_ms());
        let Some(draws) = self.draws(key, last) else { return false };
        let gap_s = seconds_between(last.millis(), now.millis());
        let expected = self.ahead(key, last).between(0.0, gap_s);
        key.belief = key.belief.belief().after(&draws, (expected, gap_s), key.requests_since_fetch() > 0).kept();
        key.doubt().is_raised_by(self.suspicion(key))
    }

    /// Probability that the copy of `key` has changed, as of the last request for it; zero where changes draw no readers. The odds go with the key's
    /// factor, which is not known exactly.
    pub fn suspicion(&self, key: &KeyStats) -> f64 {
        let shape = self.certainty(key);
        -(-shape * (key.belief.belief().odds.ln_1p() / shape).ln_1p()).exp_m1()
    }

    /// Notes a complete answer from the origin for a key, here and in the key's own statistics.
    /// The observation goes to the log and to training rows; `None` at the key's first fetch.
    pub fn on_fetch(&mut self, key: &mut KeyStats, now: Time, canonical_hash: u64) -> Option<Observation> {
        self.advance(now.millis());
        let before = *key;
        let start = Time::from_millis(before.last_fetch_ms);
        let gap_s = seconds_between(before.last_fetch_ms, now.millis());
        let draws = self.draws(&before, start);
        let changed = before.hash().map(|hash| hash != canonical_hash);
        let passed = changed.map(|changed| {
            let ahead = self.ahead(&before, start);
            Passed::of(&ahead, gap_s, changed.then(|| late(draws.as_ref(), key, &ahead, gap_s)))
        });
        let expected = passed.as_ref().map_or(0.0, |p| p.expected() / before.factor(self.likeness()));
        let observation = key.on_fetch(now, canonical_hash, expected)?;
        let passed = passed?;
        if let Some(draws) = draws.filter(|_| observation.changed) {
            key.date_change(draws.dated_s(passed.late(), gap_s));
        }
        self.observe(&before, &observation, (&passed, draws), now.millis());
        Some(observation)
    }

    fn observe(&mut self, before: &KeyStats, seen: &Observation, (passed, draws): (&Passed, Option<Draws>), now_ms: i64) {
        let gap_s = seen.gap.as_secs_f64();
        let start = Time::from_millis(before.last_fetch_ms);
        let factor = before.factor(self.likeness());
        let rate = before.rate(start, self.rate_per_key(start));
        let expected = passed.total() / factor;
        let found = draws.filter(|_| seen.answers == 1);
        // After several requests, the last of which led to this fetch, it is they that foretell what it finds.
        let belief = Some(before.belief.belief()).filter(|belief| draws.is_some() && seen.answers > 1 && belief.odds > 0.0);
        self.likeness.note(before, seen.changed, |of| match (&found, &belief) {
            (Some(draws), _) => draws.found(expected * of, gap_s),
            (None, Some(belief)) => (belief.odds * of / factor).ln_1p(),
            (None, None) => expected * of,
        });
        self.follow(before, (seen, passed), draws.map_or(rate, |draws| draws.background));
        self.pooled.add(now_ms, f64::from(u8::from(seen.changed)), passed.seconds());
        let ahead = self.ahead(before, start).flat();
        self.rhythm.observe(start, seen.gap, seen.changed, |from, to| ahead.between(from, to));
        for part in passed.parts() {
            self.baseline.add(before.changes, part.bucket, part.changes, part.seconds * part.rhythm * factor);
        }
        let plain = probably_stale(passed, seen);
        if seen.changed && seen.answers > 1 {
            self.informed.note(f64::from(seen.answers), rate * gap_s);
        }
        let drawn = self.informed.drawn();
        let from_copy = f64::from(seen.answers.saturating_sub(1));
        let stale = match belief {
            _ if !seen.changed => plain,
            Some(belief) => belief.stale.min(from_copy),
            None => plain * (1.0 - drawn) + from_copy * drawn,
        };
        self.informed.stale(plain, stale);
        if seen.steers {
            self.steering.note(seen.answers, stale);
        }
        self.rate_answers += f64::from(seen.answers);
        self.rate_seconds += gap_s;
        self.fetches += 1.0;
        self.changed += f64::from(u8::from(seen.changed));
        self.longest_gap_s = self.longest_gap_s.max(gap_s);
    }

    /// Learns of the requests since the fetch `before`, at which the key was asked for at the rate `background` but for those that a change
    /// had drawn, whether changes draw readers.
    fn follow(&mut self, before: &KeyStats, (seen, passed): (&Observation, &Passed), background: f64) {
        if seen.answers == 0 {
            // Nobody asked: the proxy fetched of its own accord.
            return;
        }
        let start = Time::from_millis(before.last_fetch_ms);
        // Two fetches of the same moment may differ, too.
        let expected = passed.total().max(1e-9);
        self.drawn.note(&Followed {
            found: before.found_change(),
            since_s: if before.changes > 0 { since_change(before, start.secs_f64()) } else { f64::MAX },
            silence_s: f64::from(before.last_gap_s()),
            gap_s: seen.gap.as_secs_f64(),
            hits: f64::from(seen.answers.saturating_sub(1)),
            mean_s: seen.mean_age.as_secs_f64(),
            late: passed.late(),
            changes: if seen.changed { expected / -(-expected).exp_m1() } else { 0.0 },
            background,
        });
    }

    /// Readers that changes of `key` draw, as of a fetch at `now`; `None` while the route does not show any.
    pub fn draws(&self, key: &KeyStats, now: Time) -> Option<Draws> {
        let (reads, delay_s) = self.drawn.known()?;
        let rate = key.rate(now, self.rate_per_key(now));
        let background = (rate - reads * key.change_rate(now)).max(LEAST_BACKGROUND * rate);
        let since_s = if key.changes > 0 { since_change(key, now.secs_f64()) } else { f64::MAX };
        Some(Draws { reads, delay_s, background, since_s })
    }

    /// The change hazard of a copy of `key` fetched at `now`, for the ages to come.
    pub fn ahead(&self, key: &KeyStats, now: Time) -> Ahead<'_> {
        let factor = key.factor(self.likeness());
        let hazards = self.baseline.hazards(key.changes, self.hazard()).map(|h| (h * factor).clamp(1e-11, 1e2));
        Ahead { hazards, since_s: since_change(key, now.secs_f64()), rhythm: Some((&self.rhythm, now)) }
    }

    /// Decays the counts to `now_ms`.
    fn advance(&mut self, now_ms: i64) {
        if self.first_ms == 0 {
            self.first_ms = now_ms;
            self.updated_ms = now_ms;
        }
        // Once a minute is exact enough for a memory of days, and keeps the exponential off the request path.
        if now_ms.saturating_sub(self.updated_ms) >= 60_000 {
            let keep = forget(self.updated_ms, now_ms);
            let counts = [&mut self.keys, &mut self.requests, &mut self.fetches, &mut self.changed];
            for count in counts.into_iter().chain([&mut self.rate_answers, &mut self.rate_seconds]) {
                *count *= keep;
            }
            self.baseline.fade(keep as f32);
            self.updated_ms = now_ms;
        }
    }

    /// Change hazard (1/s) of the route's keys taken together, weighted by the time they were watched.
    pub fn hazard(&self) -> f64 {
        self.pooled.hazard(START_EVENTS, DEFAULT_HAZARD)
    }

    /// Change hazard (1/s) of the route's keys that changed as often as `key` and as long ago.
    pub fn cell_hazard(&self, key: &KeyStats, now: Time) -> f64 {
        self.baseline.hazards(key.changes, self.hazard())[bucket_of(since_change(key, now.secs_f64()))]
    }

    /// Weight of the route in what is said of a key's factor, in changes: how alike its keys are.
    pub fn likeness(&self) -> f64 {
        self.likeness.weight()
    }

    /// How sure a key's factor is: shape of its Gamma distribution, in changes. Evidence of the key, less what experience with the route's keys
    /// leaves of it.
    pub fn certainty(&self, key: &KeyStats) -> f64 {
        doubted(key.certainty(self.likeness.weight()), self.likeness.doubt())
    }

    /// Stale answers by the keys' rates over those there probably are, which is less than 1 where people ask because something changed.
    pub fn candour(&self) -> f64 {
        self.informed.candour()
    }

    /// Whether enough changes were seen that the hazards are the route's own, and no longer [`DEFAULT_HAZARD`]. What happens before
    /// teaches nothing about the statistics.
    pub fn is_settled(&self) -> bool {
        self.changed >= SETTLED
    }

    /// Share of refetches that found a change, decayed; `None` before the first refetch.
    pub fn changed_share(&self) -> Option<f64> {
        (self.fetches > 0.0).then(|| self.changed / self.fetches)
    }

    /// Whether (nearly) every refetch of the last days found another answer, as with sampled texts: then a copy is stale as
    /// soon as it is made, whatever its age, and a hazard cannot describe it.
    pub fn always_changes(&self) -> bool {
        self.fetches >= ALWAYS_AFTER && self.changed >= ALWAYS_SHARE * self.fetches
    }

    /// Requests per second of a key that is asked for, averaged over the time that the route's keys were watched. Before anything was
    /// fetched again, the route's requests over its keys and its age.
    pub fn rate_per_key(&self, now: Time) -> f64 {
        let seen = seconds_between(self.first_ms, now.millis());
        let memory = ROUTE_MEMORY.as_secs_f64();
        let window = memory * -(-seen / memory).exp_m1() + 60.0;
        let start = ((self.requests + 1.0) / self.keys.max(1.0) / window).clamp(1e-9, 1e6);
        ((self.rate_answers + 1.0) / (self.rate_seconds + 1.0 / start)).clamp(1e-9, 1e6)
    }

    /// Longest time between two fetches of one key that was ever seen: nothing is known about older copies.
    pub fn longest_gap(&self) -> Span {
        Span::try_from_secs_f64(self.longest_gap_s).unwrap_or_default()
    }

    /// Statistics of a route whose share of stale answers is to stay below `stale_budget`.
    pub fn with_stale_budget(stale_budget: f64) -> Self {
        let mut stats = Self::default();
        stats.set_stale_budget(stale_budget);
        stats
    }

    /// Changes the budget that the route is steered to.
    pub fn set_stale_budget(&mut self, stale_budget: f64) {
        self.steering.budget = stale_budget.clamp(1e-6, 1.0);
    }

    /// Factor on the operating point's kappa that keeps the stale share at the budget; 1 before anything was seen.
    pub fn steering(&self) -> f64 {
        self.steering.factor()
    }

    /// Share of answers that were probably stale, as the refetches show; `None` before the first.
    pub fn stale_share(&self) -> Option<f64> {
        self.steering.stale_share()
    }

    /// When in the day and the hour its answers change.
    pub fn rhythm(&self) -> &Rhythm {
        &self.rhythm
    }

    /// Refetches in memory (decayed).
    pub fn refetches(&self) -> f64 {
        self.fetches
    }
}

persist!(Cell { events, exposure_s, at_ms });
persist!(RouteStats {
    updated_ms,
    first_ms,
    pooled,
    baseline,
    keys,
    requests,
    fetches,
    changed,
    longest_gap_s,
    rhythm,
    rate_answers,
    rate_seconds,
    likeness,
    informed,
    drawn,
    steering,
});

impl RouteStats {
    /// All of it as bytes, in the layout that [`crate::statistics::LAYOUT`] counts.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(4_096);
        self.put(&mut out);
        out
    }

    /// Reads what [`RouteStats::encode`] wrote; `None` for anything else.
    pub fn decode(mut bytes: &[u8]) -> Option<Self> {
        Self::take(&mut bytes).filter(|_| bytes.is_empty())
    }
}

/// Probability that the change found after `gap_s` drew the request that found it, or, with other requests in between, that it came so lately.
fn late(draws: Option<&Draws>, key: &KeyStats, ahead: &Ahead<'_>, gap_s: f64) -> f64 {
    let Some(draws) = draws else { return 0.0 };
    match (key.requests_since_fetch(), key.belief.belief()) {
        (0, _) => 0.0,
        (1, _) => draws.is_drawn(ahead.between(0.0, gap_s), gap_s),
        (_, belief) if belief.odds > 0.0 => draws.late(belief.coming, gap_s),
        _ => 0.0,
    }
}

fn forget(since_ms: i64, now_ms: i64) -> f64 {
    (-seconds_between(since_ms, now_ms) / ROUTE_MEMORY.as_secs_f64()).exp()
}

/// Expected number of stale answers among those given from a copy whose time has passed; the answers are taken as spread evenly
/// over the ages up to twice their mean (Simpson's rule).
fn probably_stale(passed: &Passed, seen: &Observation) -> f64 {
    let mean = seen.mean_age.as_secs_f64();
    if !seen.changed || seen.answers < 2 {
        return 0.0;
    }
    let share = (4.0 * passed.changed_by(mean) + passed.changed_by(2.0 * mean)) / 6.0;
    f64::from(seen.answers - 1) * share.min(1.0)
}

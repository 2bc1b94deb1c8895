//! Warming by the clock (D6): before a peak that comes at the same time each day, what is asked for most on a route is fetched unless it is fresh. When, and
//! for how much money, is the operator's word; what, follows from the statistics of keys that there are anyway.
//!
//! A key's path is remembered when an answer for it was kept, so a hit pays nothing. Nothing is remembered of answers that vary: for whom they would be
//! fetched is not known.

use std::collections::BTreeMap;
use std::sync::Arc;

use farthing_cache::Cached;
use farthing_config::WarmConfig;
use farthing_freshness::index::{Index, Walk, Weighed};
use farthing_types::{KeyHash, Money, RouteName, Span, Time};
use http::{HeaderMap, Method, Uri};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::prefetch::{fetch, path_of};
use crate::route::RouteState;
use crate::state::State;
use crate::warm::{self, WarmOrder, WarmReport};

/// Bytes that all remembered paths together take.
const BYTES: usize = 8 << 20;
/// How often the clock is looked at.
const TURN: Span = Span::from_secs(15);
/// A time that has passed for longer is not made up for: the peak is there.
const LATEST: Span = Span::from_secs(120);
/// What is taken for the rate of a key of which nothing is known, and what is asked for less is not warmed: about once a day.
const PRIOR: f64 = 1e-5;
const LEAST: f64 = 1.0 / 86_400.0;
/// Values that are looked at under the lock.
const STEP: usize = 4_096;

/// How a key is asked for.
struct Known {
    key: KeyHash,
    route: RouteName,
    path: Box<str>,
}

impl Weighed for Known {
    fn key(&self) -> KeyHash {
        self.key
    }
    fn bytes(&self) -> usize {
        self.path.len()
    }
    fn worth(&self, _now: Time) -> f64 {
        1.0
    }
}

/// What may be warmed, and what was.
pub struct Warmth {
    known: Mutex<Index<Known>>,
    /// When the clock was looked at last.
    looked: Mutex<Option<Time>>,
    /// What became of keys, and what it cost, by route.
    books: Mutex<BTreeMap<RouteName, WarmBooks>>,
}

/// What warming by the clock has done on a route since the start.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WarmBooks {
    /// Keys by what became of them.
    pub outcomes: BTreeMap<&'static str, u64>,
    /// Spent.
    pub spent: Money,
    /// Times that were left out because the provider was in trouble, automation was frozen, or the order was refused.
    pub left_out: u64,
}

impl Default for Warmth {
    fn default() -> Self {
        Self { known: Mutex::new(Index::new(BYTES)), looked: Mutex::default(), books: Mutex::default() }
    }
}

impl Warmth {
    /// Remembers how the key of an answer that was kept is asked for, where its route is warmed.
    pub fn note(&self, route: &RouteState, (method, target): (&Method, &Uri), (entry, now): (&Cached, Time)) {
        if route.route.warm.is_none() || *method != Method::GET || entry.is_selected() {
            return;
        }
        let key = entry.primary();
        let mut known = self.known.lock();
        if known.get(key).is_none()
            && let Some(path) = path_of(route, target)
        {
            known.insert(Known { key, route: route.route.name.clone(), path }, now);
        }
    }

    /// Forgets all paths.
    pub fn forget(&self) {
        *self.known.lock() = Index::new(BYTES);
    }

    /// What was done, by route.
    pub fn books(&self) -> BTreeMap<RouteName, WarmBooks> {
        self.books.lock().clone()
    }

    /// The paths of a route's keys, those that are asked for most first; `rate` tells how often.
    fn hottest(&self, route: &str, rate: impl Fn(KeyHash) -> f64) -> Vec<(KeyHash, Box<str>)> {
        let mut found: Vec<(f64, KeyHash, Box<str>)> = Vec::new();
        let mut walk = Walk::all();
        while !walk.is_over() {
            self.known.lock().step(&mut walk, STEP, |key, known| {
                if *known.route == *route {
                    found.push((0.0, key, known.path.clone()));
                }
                false
            });
        }
        for one in &mut found {
            one.0 = rate(one.1);
        }
        found.retain(|(rate, ..)| *rate >= LEAST);
        found.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.2.cmp(&b.2)));
        found.into_iter().map(|(_, key, path)| (key, path)).collect()
    }

    fn note_run(&self, route: &RouteName, report: Option<&WarmReport>) {
        let mut books = self.books.lock();
        let of = books.entry(route.clone()).or_default();
        let Some(report) = report else {
            of.left_out += 1;
            return;
        };
        of.spent += report.spent;
        for warmed in &report.warmed {
            *of.outcomes.entry(warmed.outcome.as_str()).or_default() += 1;
        }
    }
}

/// Whether one of the times of the day has come after `from` and until `to`. A time that the clock leaps over comes at the end of the gap; one that it
/// shows twice, the first time.
pub fn has_come(warm: &WarmConfig, (from, to): (Time, Time)) -> bool {
    let Ok(zone) = TimeZone::get(&warm.zone) else { return false };
    let date = |at: Time| Some(zone.to_datetime(Timestamp::from_nanosecond(i128::from(at.nanos())).ok()?).date());
    let comes = |date: jiff::civil::Date, minute: u16| {
        let (hour, minute) = (i8::try_from(minute / 60).ok()?, i8::try_from(minute % 60).ok()?);
        let at = zone.to_timestamp(date.at(hour, minute, 0, 0)).ok()?;
        i64::try_from(at.as_nanosecond()).ok().map(Time::from_nanos)
    };
    let days = [date(from), date(to)];
    let mut times = days.into_iter().flatten().flat_map(|day| warm.at.iter().map(move |minute| (day, *minute)));
    times.any(|(day, minute)| comes(day, minute).is_some_and(|at| at > from && at <= to))
}

/// Looks at the clock until told to stop.
pub async fn run(state: Arc<State>, stop: CancellationToken) {
    let mut turn = tokio::time::interval(TURN);
    turn.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = turn.tick() => {}
        }
        for route in due(&state) {
            let (warming, stop) = (warmed(state.clone(), route), stop.clone());
            // Calls under way go on; no more are begun when the process ends.
            state.tasks.spawn(async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = warming => {}
                }
            });
        }
    }
}

/// The routes whose time has come since the last look.
fn due(state: &State) -> Vec<Arc<RouteState>> {
    let now = state.clock.now();
    let Some(before) = state.warmth.looked.lock().replace(now) else { return Vec::new() };
    let from = before.max(now - LATEST);
    let is_due = |route: &&Arc<RouteState>| route.route.warm.as_ref().is_some_and(|warm| has_come(warm, (from, now)));
    state.live().routes.iter().filter(is_due).cloned().collect()
}

/// One look at the clock, and all that follows from it.
pub async fn turn(state: &Arc<State>) {
    for route in due(state) {
        warmed(state.clone(), route).await;
    }
}

async fn warmed(state: Arc<State>, route: Arc<RouteState>) {
    let Some(warm) = route.route.warm.clone() else { return };
    let name = route.route.name.clone();
    let sound = std::iter::once(&route.pass).chain(&route.swap).all(|upstream| upstream.health().lets_through());
    if !sound || !route.pace.is_calm() || !state.may_act() {
        state.warmth.note_run(&name, None);
        return tracing::warn!(route = %name, "not warmed by the clock: the provider is in trouble, or automation is frozen");
    }
    let targets = targets(&state, &route, &warm);
    let order = WarmOrder {
        route: name.to_string(),
        targets,
        tenant: None,
        headers: HeaderMap::new(),
        limit: Some(warm.limit),
        rate: Some(warm.rate),
        unpriced_ok: false,
        dry_run: false,
        within: warm.within,
    };
    match warm::warm(&state, order).await {
        Ok(report) => {
            state.warmth.note_run(&name, Some(&report));
            let fetched = report.warmed.iter().filter(|warmed| warmed.outcome == warm::WarmOutcome::Fetched).count();
            tracing::info!(route = %name, fetched, looked_at = report.warmed.len(), spent_usd = %report.spent, "warmed by the clock");
        }
        Err(refused) => {
            state.warmth.note_run(&name, None);
            tracing::warn!(route = %name, %refused, "not warmed by the clock");
        }
    }
}

/// What is asked for most, where asking for it without a client comes to the same key.
fn targets(state: &Arc<State>, route: &Arc<RouteState>, warm: &WarmConfig) -> Vec<String> {
    let Ok(identity) = warm::identity(state, route, None) else { return Vec::new() };
    let now = state.clock.now();
    let rate = |key| state.cache.key_stats(key).map_or(0.0, |stats| stats.rate(now, PRIOR));
    let same = |key: &KeyHash, path: &str| {
        fetch::plan(state, (route, &identity), path, HeaderMap::new()).is_ok_and(|planned| planned.account.key == *key)
    };
    let hottest = state.warmth.hottest(&route.route.name, rate);
    let known = hottest.len();
    // Filtered first: a key that only its client's headers lead to takes nobody's place.
    let same = hottest.into_iter().filter(|(key, path)| same(key, path));
    let targets: Vec<String> = same.take(warm.keys).map(|(_, path)| path.into()).collect();
    if targets.is_empty() && known > 0 {
        tracing::warn!(
            route = %route.route.name, known,
            "nothing to warm by the clock: the keys hold clients' headers; profile = \"http\" where no answer depends on them"
        );
    }
    targets
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(zone: &str, minutes: &[u16]) -> WarmConfig {
        WarmConfig { at: minutes.to_vec(), zone: zone.into(), limit: Money::ZERO, keys: 1, rate: 1.0, within: Span::from_secs(60) }
    }

    fn utc(text: &str) -> Time {
        let at: Timestamp = text.parse().unwrap();
        Time::from_nanos(i64::try_from(at.as_nanosecond()).unwrap())
    }

    /// How often it comes when the clock is looked at every quarter of a minute.
    fn comes(warm: &WarmConfig, from: &str, to: &str) -> Vec<Time> {
        let (mut before, end) = (utc(from), utc(to));
        let mut found = Vec::new();
        while before < end {
            let now = before + TURN;
            if has_come(warm, (before, now)) {
                found.push(now);
            }
            before = now;
        }
        found
    }

    #[test]
    fn each_time_comes_once_a_day_whatever_the_clocks_do() {
        let twice = at("UTC", &[390, 1_025]);
        assert_eq!(comes(&twice, "2026-11-26T00:00:00Z", "2026-11-28T00:00:00Z").len(), 4);
        assert_eq!(comes(&twice, "2026-11-26T06:29:50Z", "2026-11-26T06:30:20Z"), [utc("2026-11-26T06:30:05Z")]);
        assert!(comes(&twice, "2026-11-26T06:30:00Z", "2026-11-26T17:04:45Z").is_empty(), "it is over");
        // 02:30 is not on the clocks of Berlin on 29 March, and twice on 25 October.
        let berlin = at("Europe/Berlin", &[150]);
        assert_eq!(comes(&berlin, "2026-03-28T20:00:00Z", "2026-03-29T20:00:00Z").len(), 1);
        assert_eq!(comes(&berlin, "2026-10-24T20:00:00Z", "2026-10-25T20:00:00Z"), [utc("2026-10-25T00:30:00Z")]);
        let midnight = at("America/New_York", &[0]);
        assert_eq!(comes(&midnight, "2026-11-26T00:00:00Z", "2026-11-27T00:00:00Z"), [utc("2026-11-26T05:00:00Z")]);
    }
}

//! What each strategy would have done with the requests of a route, kept live in bounded memory: small simulations that run along,
//! whatever strategy is in force, so that no strategy has to be tried to be known.

use farthing_types::{Span, Time};

#[path = "strategy_kept.rs"]
mod kept;

use super::key::seconds_between;
use super::strategy::{CacheView, KeySeen};

/// Memory of the fast shares: follows bursts.
pub const STRATEGY_FAST_MEMORY: Span = Span::from_secs(600);
/// Memory of the slow shares.
pub const STRATEGY_SLOW_MEMORY: Span = Span::from_secs(3 * 86_400);

/// Requests that the start (nothing saves) weighs.
const START: f64 = 5.0;
/// Requests that the slow shares weigh in the fast ones.
const SHRINK: f64 = 5.0;
/// Fewest and most keys whose calls in flight are remembered; 24 bytes each.
const SLOTS: (usize, usize) = (64, 1_024);
/// Slots per call in flight: keys share slots by chance, and the newer one wins.
const SPARE: f64 = 8.0;
/// How many sums there are.
const SUMS: usize = 12;
/// Weight of a call in the running mean of latencies and sizes, once there were enough.
const CALL_WEIGHT: f64 = 1.0 / 64.0;
/// One standard normal quantile: the share of calls that are slower than [`Latency::high`] is a twentieth.
const Z95: f64 = 1.645;

/// Batching as it is offered on a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchWindow {
    /// How long the first request of a batch waits.
    pub window: Span,
    /// Most requests in a batch.
    pub max: u32,
}

/// What would remain per request of the route under each strategy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LiveShares {
    /// Calls, when equal requests in flight are joined.
    pub dedupe_items: f32,
    /// Calls, when answers are kept under the live TTL decision (and joined).
    pub cache_items: f32,
    /// Stale answers under the same.
    pub cache_stale: f32,
    /// Batches, when every request waits for one.
    pub batch_calls: f32,
    /// Requests that enter a batch, when equal ones are joined.
    pub dedupe_batch_items: f32,
    /// Batches under the same.
    pub dedupe_batch_calls: f32,
    /// Batches of what the cache does not answer.
    pub cache_batch_calls: f32,
}

/// What kinds of keys were asked for, as shares of the requests (fast memory).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct KeyShares {
    /// Requests while the route was cached.
    pub cached: f32,
    /// Keys asked for within the last minute.
    pub repeats_minute: f32,
    /// Keys asked for within the last day.
    pub repeats_day: f32,
    /// Keys never seen.
    pub new_keys: f32,
}

/// How long calls take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Latency {
    /// Middle one (geometric mean).
    pub middle: Span,
    /// A twentieth is slower, if latencies are log-normal.
    pub high: Span,
}

/// Live statistics of one route for the strategy decision; about 1 KiB, and up to 24 KiB of calls in flight on busy routes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StrategyStats {
    first_ms: i64,
    last_ms: i64,
    fast: Sums,
    slow: Sums,
    flights: Vec<Flight>,
    plain: Window,
    joined: Window,
    kept: Window,
    /// Fractions of calls behind the cache that have not made a whole one yet.
    carry: f32,
    calls: u32,
    log_latency: f64,
    log_latency_square: f64,
    log_bytes: f64,
}

/// The sums of a moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StrategyMark {
    sums: Sums,
    at_ms: i64,
}

/// Sums over the requests, each weighing `exp(-age / memory)`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Sums {
    requests: f64,
    dedupe_items: f64,
    cache_items: f64,
    cache_stale: f64,
    batch_calls: f64,
    dedupe_batch_items: f64,
    dedupe_batch_calls: f64,
    cache_batch_calls: f64,
    cached: f64,
    repeats_minute: f64,
    repeats_day: f64,
    new_keys: f64,
}

/// When the call of a key began that a request could join: alone, and where calls wait for a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Flight {
    key: u64,
    alone_ms: i64,
    batched_ms: i64,
}

/// A batch that is filling.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Window {
    open_until_ms: i64,
    items: u32,
}

impl Window {
    /// Adds an item; whether it opened a new batch.
    fn add(&mut self, now_ms: i64, batch: BatchWindow) -> bool {
        let room = self.items > 0 && now_ms < self.open_until_ms && self.items < batch.max.max(1);
        if room {
            self.items += 1;
            return false;
        }
        self.open_until_ms = now_ms.saturating_add(millis(batch.window));
        self.items = 1;
        true
    }
}

impl Sums {
    fn each(&mut self) -> [&mut f64; SUMS] {
        [
            &mut self.requests,
            &mut self.dedupe_items,
            &mut self.cache_items,
            &mut self.cache_stale,
            &mut self.batch_calls,
            &mut self.dedupe_batch_items,
            &mut self.dedupe_batch_calls,
            &mut self.cache_batch_calls,
            &mut self.cached,
            &mut self.repeats_minute,
            &mut self.repeats_day,
            &mut self.new_keys,
        ]
    }

    fn values(mut self) -> [f64; SUMS] {
        self.each().map(|sum| *sum)
    }

    fn decay(&mut self, factor: f64) {
        for sum in self.each() {
            *sum *= factor;
        }
    }

    fn add(&mut self, one: &Self) {
        for (sum, one) in self.each().into_iter().zip(one.values()) {
            *sum += one;
        }
    }

    /// Shares, pulled toward `start` with the weight of some requests.
    fn shares(&self, start: &LiveShares, weight: f64) -> LiveShares {
        let share = |sum: f64, start: f32| (((sum + weight * f64::from(start)) / (self.requests + weight)) as f32).clamp(0.0, 1.0);
        LiveShares {
            dedupe_items: share(self.dedupe_items, start.dedupe_items),
            cache_items: share(self.cache_items, start.cache_items),
            cache_stale: share(self.cache_stale, start.cache_stale),
            batch_calls: share(self.batch_calls, start.batch_calls),
            dedupe_batch_items: share(self.dedupe_batch_items, start.dedupe_batch_items),
            dedupe_batch_calls: share(self.dedupe_batch_calls, start.dedupe_batch_calls),
            cache_batch_calls: share(self.cache_batch_calls, start.cache_batch_calls),
        }
    }
}

impl LiveShares {
    /// Before anything was seen: nothing saves.
    pub const START: Self = Self {
        dedupe_items: 1.0,
        cache_items: 1.0,
        cache_stale: 0.0,
        batch_calls: 1.0,
        dedupe_batch_items: 1.0,
        dedupe_batch_calls: 1.0,
        cache_batch_calls: 1.0,
    };
}

impl StrategyStats {
    /// Notes a request for `key` at `now`. `batch` is what the route offers, whether it is in use or not.
    pub fn on_request(&mut self, now: Time, key: u64, (seen, view): (KeySeen, CacheView), batch: Option<BatchWindow>) {
        let now_ms = self.advance(now.millis());
        let needs = if view.needs_call.is_finite() { view.needs_call.clamp(0.0, 1.0) } else { 1.0 };
        let stale = if view.stale.is_finite() { view.stale.clamp(0.0, 1.0) } else { 0.0 };
        let (alone, in_batch) = self.leads(key, now_ms, batch);
        let within = |span: Span| f64::from(u8::from(matches!(seen, KeySeen::Ago(ago) if ago <= span)));
        let mut one = Sums {
            requests: 1.0,
            dedupe_items: f64::from(u8::from(alone)),
            cache_items: f64::from(needs),
            cache_stale: f64::from(stale),
            cached: f64::from(u8::from(view.cached)),
            repeats_minute: within(Span::from_secs(60)),
            repeats_day: within(Span::from_secs(86_400)),
            new_keys: f64::from(u8::from(seen == KeySeen::Never)),
            ..Sums::default()
        };
        self.batched(&mut one, (now_ms, needs, in_batch), batch);
        self.fast.add(&one);
        self.slow.add(&one);
    }

    fn batched(&mut self, one: &mut Sums, (now_ms, needs, in_batch): (i64, f32, bool), batch: Option<BatchWindow>) {
        let Some(batch) = batch else {
            // Without batching each item is a call.
            (one.batch_calls, one.dedupe_batch_items) = (1.0, one.dedupe_items);
            (one.dedupe_batch_calls, one.cache_batch_calls) = (one.dedupe_items, one.cache_items);
            return;
        };
        let opened = |opened: bool| f64::from(u8::from(opened));
        one.batch_calls = opened(self.plain.add(now_ms, batch));
        one.dedupe_batch_items = opened(in_batch);
        one.dedupe_batch_calls = opened(in_batch && self.joined.add(now_ms, batch));
        self.carry = (self.carry + needs).min(2.0);
        if self.carry >= 1.0 {
            self.carry -= 1.0;
            one.cache_batch_calls = opened(self.kept.add(now_ms, batch));
        }
    }

    /// Whether a request of `key` leads a call of its own: where calls go out at once, and where they wait for a batch.
    fn leads(&mut self, key: u64, now_ms: i64, batch: Option<BatchWindow>) -> (bool, bool) {
        let latency = self.latency().map_or(0, |l| millis(l.middle));
        let window = batch.map_or(0, |b| millis(b.window));
        self.make_room((latency.saturating_add(window)) as f64 / 1e3);
        let mask = self.flights.len().wrapping_sub(1);
        let Some(flight) = self.flights.get_mut(slot(key) & mask) else { return (true, true) };
        if flight.key != key {
            *flight = Flight { key, alone_ms: now_ms, batched_ms: now_ms };
            return (true, true);
        }
        let alone = now_ms.saturating_sub(flight.alone_ms) > latency || flight.alone_ms == 0;
        let batched = now_ms.saturating_sub(flight.batched_ms) > latency.saturating_add(window) || flight.batched_ms == 0;
        if alone {
            flight.alone_ms = now_ms;
        }
        if batched {
            flight.batched_ms = now_ms;
        }
        (alone, batched)
    }

    /// Enough slots for the calls in flight during `span_s` seconds; what was remembered is lost when there must be more.
    fn make_room(&mut self, span_s: f64) {
        let rate = self.fast.requests / STRATEGY_FAST_MEMORY.as_secs_f64();
        let wanted = ((rate * span_s * SPARE).min(SLOTS.1 as f64) as usize).next_power_of_two().clamp(SLOTS.0, SLOTS.1);
        if self.flights.len() < wanted {
            self.flights = vec![Flight::default(); wanted];
        }
    }

    /// Notes a call that brought a whole answer: its latency and the length of its body.
    pub fn on_call(&mut self, latency: Span, bytes: u64) {
        self.calls = self.calls.saturating_add(1);
        let weight = CALL_WEIGHT.max(1.0 / f64::from(self.calls));
        let log = (latency.as_secs_f64().min(1e9) * 1e3).max(1e-3).ln();
        self.log_latency += weight * (log - self.log_latency);
        self.log_latency_square += weight * (log * log - self.log_latency_square);
        self.log_bytes += weight * ((bytes as f64).ln_1p() - self.log_bytes);
    }

    /// The sums as they are, to be handed to [`StrategyStats::stand_for`] later.
    pub fn mark(&self) -> StrategyMark {
        StrategyMark { sums: self.slow, at_ms: self.last_ms }
    }

    /// Counts `more` requests that were not told apart, each as the mean of those that were noted since `mark`; nothing where there are none.
    pub fn stand_for(&mut self, mark: &StrategyMark, more: u64) {
        // What was there at the mark has faded since: on a busy route by more in a moment than is told apart in it.
        let mut before = mark.sums;
        before.decay((-seconds_between(mark.at_ms, self.last_ms) / STRATEGY_SLOW_MEMORY.as_secs_f64()).exp());
        let noted = self.slow.requests - before.requests;
        if noted < 0.5 {
            return;
        }
        let (scale, mut mean) = (more as f64 / noted, self.slow);
        for (now, before) in mean.each().into_iter().zip(before.values()) {
            // Below zero by rounding alone.
            *now = (*now - before).max(0.0) * scale;
        }
        self.fast.add(&mean);
        self.slow.add(&mean);
    }

    /// Counts calls behind the cache of requests that were noted as if they needed none.
    pub fn on_late_calls(&mut self, calls: u64) {
        self.fast.cache_items += calls as f64;
        self.slow.cache_items += calls as f64;
    }

    /// Decays to `now_ms`; time that runs back counts as standing still.
    fn advance(&mut self, now_ms: i64) -> i64 {
        if self.first_ms == 0 {
            (self.first_ms, self.last_ms) = (now_ms, now_ms);
        }
        let seconds = seconds_between(self.last_ms, now_ms);
        if seconds > 0.0 {
            self.fast.decay((-seconds / STRATEGY_FAST_MEMORY.as_secs_f64()).exp());
            self.slow.decay((-seconds / STRATEGY_SLOW_MEMORY.as_secs_f64()).exp());
        }
        self.last_ms = self.last_ms.max(now_ms);
        self.last_ms
    }

    /// Shares over the slow memory: what a prediction starts from.
    pub fn live(&self) -> LiveShares {
        self.slow.shares(&LiveShares::START, START)
    }

    /// Shares over the fast memory, pulled toward the slow ones.
    pub fn fast(&self) -> LiveShares {
        self.fast.shares(&self.live(), SHRINK)
    }

    /// Shares of kinds of keys.
    pub fn key_shares(&self) -> KeyShares {
        let share = |sum: f64| (sum / self.fast.requests.max(1.0)).clamp(0.0, 1.0) as f32;
        let Sums { cached, repeats_minute, repeats_day, new_keys, .. } = self.fast;
        KeyShares {
            cached: share(cached),
            repeats_minute: share(repeats_minute),
            repeats_day: share(repeats_day),
            new_keys: share(new_keys),
        }
    }

    /// Requests per second over the fast memory; never zero.
    pub fn rate_fast(&self, now: Time) -> f64 {
        self.rate(now, &self.fast, STRATEGY_FAST_MEMORY)
    }
    /// Requests per second over the slow memory; never zero.
    pub fn rate_slow(&self, now: Time) -> f64 {
        self.rate(now, &self.slow, STRATEGY_SLOW_MEMORY)
    }

    fn rate(&self, now: Time, sums: &Sums, memory: Span) -> f64 {
        let memory = memory.as_secs_f64();
        let idle = (-seconds_between(self.last_ms, now.millis()) / memory).exp();
        let window = memory * -(-self.observed(now).as_secs_f64() / memory).exp_m1();
        (sums.requests * idle + 0.1) / (window + 1.0)
    }

    /// How long the route has been watched.
    pub fn observed(&self, now: Time) -> Span {
        Span::try_from_secs_f64(seconds_between(if self.first_ms == 0 { now.millis() } else { self.first_ms }, now.millis()))
            .unwrap_or_default()
    }

    /// How long calls take; `None` before the first.
    pub fn latency(&self) -> Option<Latency> {
        let sd = (self.log_latency_square - self.log_latency * self.log_latency).max(0.0).sqrt();
        let span = |log: f64| Span::try_from_secs_f64(log.clamp(-7.0, 21.0).exp() / 1e3).unwrap_or_default();
        (self.calls > 0).then(|| Latency { middle: span(self.log_latency), high: span(self.log_latency + Z95 * sd) })
    }

    /// Middle length of a body, bytes.
    pub fn body_bytes(&self) -> f64 {
        self.log_bytes.exp_m1()
    }

    /// Requests in the slow memory.
    pub fn requests(&self) -> f64 {
        self.slow.requests
    }
}

fn millis(span: Span) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX / 4)
}

/// Spreads keys that are dense numbers as well as digests.
fn slot(key: u64) -> usize {
    (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    const BATCH: BatchWindow = BatchWindow { window: Span::from_millis(50), max: 10 };
    const PASSED: CacheView = CacheView { needs_call: 1.0, stale: 0.0, cached: false };

    fn ask(stats: &mut StrategyStats, ms: i64, key: u64, needs_call: f32) {
        let view = CacheView { needs_call, ..PASSED };
        stats.on_request(Time::from_millis(ms), key, (KeySeen::Never, view), Some(BATCH));
    }

    #[test]
    fn equal_requests_in_flight_are_counted_as_joined() {
        let mut stats = StrategyStats::default();
        stats.on_call(Span::from_millis(100), 10);
        // Three requests of one key within one call's latency, a second apart from the next three.
        for burst in 0..2_000 {
            for ms in [0, 30, 90] {
                ask(&mut stats, 1_000 + burst * 1_000 + ms, 7, 1.0);
            }
        }
        let live = stats.live();
        assert!((live.dedupe_items - 1.0 / 3.0).abs() < 0.01, "{live:?}");
        // The window of 50 ms holds the first two, the third opens a batch of its own unless it joins.
        assert!((live.batch_calls - 2.0 / 3.0).abs() < 0.01 && (live.dedupe_batch_calls - 1.0 / 3.0).abs() < 0.01, "{live:?}");
    }

    #[test]
    fn batches_fill_up_to_their_limit() {
        let mut stats = StrategyStats::default();
        for n in 0..20_000 {
            ask(&mut stats, 1_000 + n, n as u64, 0.25);
        }
        let live = stats.live();
        // Ten arrive in ten milliseconds, well within the window; a quarter of the requests pass the cache: 12 in 50 ms.
        assert!((live.batch_calls - 0.1).abs() < 0.005, "{live:?}");
        assert!((live.cache_items - 0.25).abs() < 0.01 && (live.cache_batch_calls - 0.025).abs() < 0.005, "{live:?}");
    }

    /// What fades of a long past between two turns is more than what is told apart in one.
    #[test]
    fn what_was_not_told_apart_counts_on_a_route_that_is_long_busy() {
        let mut stats = StrategyStats::default();
        ask(&mut stats, 1_000, 1, 1.0);
        stats.slow.requests = 1e9;
        let mark = stats.mark();
        for n in 0..100 {
            ask(&mut stats, 3_000, n, 1.0);
        }
        let before = stats.requests();
        stats.stand_for(&mark, 9_900);
        assert!((stats.requests() - before - 9_900.0).abs() < 1.0, "{}", stats.requests() - before);
    }

    #[test]
    fn what_was_not_told_apart_counts_as_what_was() {
        let (mut whole, mut part) = (StrategyStats::default(), StrategyStats::default());
        for second in 0..100i64 {
            let mark = part.mark();
            for n in 0..40i64 {
                let (ms, needs) = (1_000 + second * 1_000 + n * 20, if n % 4 == 0 { 1.0 } else { 0.0 });
                ask(&mut whole, ms, (n % 4) as u64, needs);
                if n < 20 {
                    ask(&mut part, ms, (n % 4) as u64, needs);
                }
            }
            part.stand_for(&mark, 20);
        }
        let (whole_live, part_live) = (whole.live(), part.live());
        assert!((part.requests() - whole.requests()).abs() < 1.0, "{} {}", part.requests(), whole.requests());
        assert!((part_live.cache_items - whole_live.cache_items).abs() < 0.01, "{part_live:?} {whole_live:?}");
        assert!((part_live.batch_calls - whole_live.batch_calls).abs() < 0.06, "{part_live:?} {whole_live:?}");
        let before = part.clone();
        part.stand_for(&part.mark(), 1_000);
        assert_eq!(part, before, "nothing is known of them");
        part.on_late_calls(10);
        assert!(part.live().cache_items > before.live().cache_items);
    }

    #[test]
    fn latency_and_memory_stay_bounded() {
        let mut stats = StrategyStats::default();
        assert_eq!(stats.latency(), None);
        for n in 0..50_000u64 {
            ask(&mut stats, 1_000 + n as i64 / 50, n, 1.0);
            stats.on_call(Span::from_millis(if n % 2 == 0 { 50 } else { 200 }), 100);
        }
        assert!(stats.flights.len() <= SLOTS.1);
        let latency = stats.latency().unwrap();
        assert!((90..=115).contains(&latency.middle.as_millis()) && latency.high > latency.middle * 2, "{latency:?}");
    }
}

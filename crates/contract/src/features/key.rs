//! What is known about one cache key, in 64 bytes that travel inside the cache entry, and 8 that stay in memory: a copy is doubted by those who
//! have seen the requests for it.

use farthing_types::{Span, Time};

use super::suspicion::{Doubt, Kept};

/// Time constant of the fast memory of a key's change rate: follows bursts.
pub const KEY_FAST_MEMORY: Span = Span::from_secs(3 * 3_600);
/// Time constant of the slow memory of a key's change rate.
pub const KEY_SLOW_MEMORY: Span = Span::from_secs(2 * 86_400);
/// Time constant of a key's request rate.
pub const KEY_RATE_MEMORY: Span = Span::from_secs(86_400);
/// Length of [`KeyStats::encode`].
pub const KEY_STATS_BYTES: usize = 64;

/// Decay of the share of fetches that changed (rule D3): each fetch weighs 0.8 of the next.
const SHARE_DECAY: f32 = 0.8;

/// Live statistics of one key. Times are kept in milliseconds or whole seconds since the epoch; zero means never.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
// With a lock beside it an entry would else fill the next size of allocators.
#[repr(Rust, packed(4))]
pub struct KeyStats {
    pub(super) last_fetch_ms: i64,
    pub(super) hash: u64,
    pub(super) first_seen_s: u32,
    pub(super) last_change_s: u32,
    pub(super) last_request_s: u32,
    /// Requests, each weighing `exp(-age / KEY_RATE_MEMORY)`, as of the last request.
    pub(super) requests: f32,
    /// Changes seen and changes expected of a key of its kind, decayed with [`KEY_FAST_MEMORY`], as of the last fetch.
    pub(super) events: f32,
    pub(super) expected: f32,
    /// The same with [`KEY_SLOW_MEMORY`].
    pub(super) slow_events: f32,
    pub(super) slow_expected: f32,
    /// Time between the last two fetches; its sign is negative where the last found a change.
    last_gap_s: f32,
    /// Sum of the copy's ages at the requests since the last fetch.
    pub(super) request_ages_s: f32,
    /// Decayed share of fetches that changed, in 65,535ths.
    changed_share: u16,
    /// Requests since the last fetch (15 bits), and whether the copy's TTL is exempt from steering (top bit).
    answers: u16,
    pub(super) fetches: u16,
    pub(super) changes: u16,
    /// What the requests since the last fetch say of the copy; kept in memory only.
    pub(super) belief: Kept,
    /// When the copy is doubted; kept in memory only.
    doubt: Doubt,
}

const EXEMPT: u16 = 1 << 15;

/// What a fetch told about the time since the previous one: the change, if any, lies somewhere within `gap`
/// (interval-censored).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Observation {
    /// Time since the previous fetch of the key.
    pub gap: Span,
    /// Whether the canonical body differs from that of the previous fetch.
    pub changed: bool,
    /// Requests since the previous fetch, this fetch's included.
    pub answers: u32,
    /// Mean age of the copy at those of them that it answered (all but the one that led to this fetch).
    pub mean_age: Span,
    /// Whether the copy was kept under the operating point, so that its staleness steers it.
    pub steers: bool,
}

impl KeyStats {
    /// Notes a client request at `now`, whatever answers it.
    pub fn on_request(&mut self, now: Time) {
        let now_ms = now.millis();
        let now_s = seconds(now_ms);
        if self.first_seen_s == 0 {
            self.first_seen_s = now_s;
            self.last_request_s = now_s;
        }
        let dt = f64::from(now_s.saturating_sub(self.last_request_s));
        self.requests = self.requests * decay(dt, KEY_RATE_MEMORY) + 1.0;
        self.last_request_s = self.last_request_s.max(now_s);
        if self.fetches > 0 {
            self.request_ages_s += seconds_between(self.last_fetch_ms, now_ms) as f32;
            self.answers = (self.answers & EXEMPT) | ((self.answers & !EXEMPT) + 1).min(EXEMPT - 1);
        }
    }

    /// Notes a complete answer from the origin whose canonical body has digest `hash`, when `expected` changes were expected of
    /// a key of its kind since the last fetch, as far as it was then unchanged. `None` at the first fetch.
    /// [`super::RouteStats::on_fetch`] does this and its own share in one call.
    pub fn on_fetch(&mut self, now: Time, hash: u64, expected: f64) -> Option<Observation> {
        let now_ms = now.millis();
        let observation = (self.fetches > 0).then(|| self.observe(now_ms, hash, expected));
        if self.first_seen_s == 0 {
            self.first_seen_s = seconds(now_ms);
        }
        self.fetches = self.fetches.saturating_add(1);
        self.last_fetch_ms = self.last_fetch_ms.max(now_ms);
        self.hash = hash;
        (self.request_ages_s, self.answers) = (0.0, 0);
        (self.belief, self.doubt) = (Kept::default(), Doubt::NEVER);
        observation
    }

    fn observe(&mut self, now_ms: i64, hash: u64, expected: f64) -> Observation {
        let gap_s = seconds_between(self.last_fetch_ms, now_ms);
        let changed = hash != self.hash;
        let (events, expected) = (f32::from(u8::from(changed)), expected.clamp(0.0, 1e6) as f32);
        let (fast, slow) = (decay(gap_s, KEY_FAST_MEMORY), decay(gap_s, KEY_SLOW_MEMORY));
        self.events = self.events * fast + events;
        self.expected = self.expected * fast + expected;
        self.slow_events = self.slow_events * slow + events;
        self.slow_expected = self.slow_expected * slow + expected;
        let share = f32::from(self.changed_share) * SHARE_DECAY + if changed { 65_535.0 * (1.0 - SHARE_DECAY) } else { 0.0 };
        self.changed_share = share as u16;
        self.last_gap_s = if changed { -gap_s as f32 } else { gap_s as f32 };
        if changed {
            self.changes = self.changes.saturating_add(1);
            self.last_change_s = seconds(now_ms - (gap_s * 500.0) as i64);
        }
        let answers = u32::from(self.answers & !EXEMPT);
        // The request that led to this fetch was not answered from the copy.
        let ages = (f64::from(self.request_ages_s) - gap_s).max(0.0);
        let mean_age = Span::try_from_secs_f64(ages / f64::from(answers.saturating_sub(1).max(1))).unwrap_or_default();
        Observation {
            gap: Span::try_from_secs_f64(gap_s).unwrap_or_default(),
            changed,
            answers,
            mean_age,
            steers: self.answers & EXEMPT == 0,
        }
    }

    /// Dates the change that the last fetch found to `ago_s` before that fetch, where more is known than that it lies within the gap.
    pub(super) fn date_change(&mut self, ago_s: f64) {
        self.last_change_s = seconds(self.last_fetch_ms - (ago_s * 1e3) as i64);
    }

    /// Requests since the last fetch.
    pub(super) const fn requests_since_fetch(&self) -> u16 {
        self.answers & !EXEMPT
    }

    /// Whether the last fetch found another answer than the one before.
    pub const fn found_change(&self) -> bool {
        self.last_gap_s.is_sign_negative()
    }

    /// Time between the last two fetches, seconds; zero before the second.
    pub(super) const fn last_gap_s(&self) -> f32 {
        self.last_gap_s.abs()
    }

    /// By what factor the key changes more often than its kind: Gamma posterior mean with the weight of `likeness` changes
    /// ([`super::RouteStats::likeness`]) at [`KeyStats::slow_factor`], which in turn starts from 1. So it follows a burst within hours, and forgets it
    /// toward what the key, and then its kind, does in the long run.
    pub fn factor(&self, likeness: f64) -> f64 {
        posterior(f64::from(self.events), f64::from(self.expected), self.slow_factor(likeness), likeness)
    }

    /// The same over the slow memory alone.
    pub fn slow_factor(&self, likeness: f64) -> f64 {
        posterior(f64::from(self.slow_events), f64::from(self.slow_expected), 1.0, likeness)
    }

    /// How sure the factor is: shape of its Gamma distribution, in changes.
    pub fn certainty(&self, likeness: f64) -> f64 {
        likeness + f64::from(self.slow_events)
    }

    /// The key's change hazard (1/s) where its kind has `prior`.
    pub fn hazard(&self, prior: f64) -> f64 {
        self.factor(PRIOR_EVENTS) * prior
    }

    /// Requests per second at `now`, shrunk toward `prior` (1/s) with the weight of one request.
    pub fn rate(&self, now: Time, prior: f64) -> f64 {
        let now_ms = now.millis();
        let memory = KEY_RATE_MEMORY.as_secs_f64();
        let seen = if self.first_seen_s == 0 { 0.0 } else { (now_ms as f64 / 1e3 - f64::from(self.first_seen_s)).max(0.0) };
        let window = memory * -(-seen / memory).exp_m1();
        let idle = seconds_between(i64::from(self.last_request_s) * 1_000, now_ms);
        let requests = f64::from(self.requests * decay(idle, KEY_RATE_MEMORY));
        // The first request opens the window, so it says nothing about the rate.
        let prior = prior.clamp(1e-9, 1e6);
        (requests - (-seen / memory).exp() + 1.0).max(0.1) / (window + 1.0 / prior)
    }

    /// Changes seen per second, averaged over [`KEY_SLOW_MEMORY`].
    pub(super) fn change_rate(&self, now: Time) -> f64 {
        let memory = KEY_SLOW_MEMORY.as_secs_f64();
        let seen = if self.first_seen_s == 0 { 0.0 } else { (now.secs_f64() - f64::from(self.first_seen_s)).max(0.0) };
        let since = seconds_between(self.last_fetch_ms, now.millis());
        f64::from(self.slow_events * decay(since, KEY_SLOW_MEMORY)) / (memory * -(-seen / memory).exp_m1()).max(1.0)
    }

    /// When the copy just fetched is doubted before its time is over.
    pub const fn set_doubt(&mut self, doubt: Doubt) {
        self.doubt = doubt;
    }

    /// As [`KeyStats::set_doubt`] had it.
    pub const fn doubt(&self) -> Doubt {
        self.doubt
    }

    /// When the key was last asked for or fetched, milliseconds.
    pub(super) fn last_seen_ms(&self) -> i64 {
        self.last_fetch_ms.max(i64::from(self.last_request_s) * 1_000)
    }

    /// Exempts the copy just fetched from steering the operating point: for answers that are not kept, and for variants whose
    /// TTL does not follow it (rule, fixed).
    pub fn exempt_from_steering(&mut self) {
        self.answers |= EXEMPT;
    }

    /// Whether anything was ever noted.
    pub const fn is_known(&self) -> bool {
        self.first_seen_s != 0
    }
    /// Whether both hold the same last fetch: nothing was fetched between them.
    pub const fn same_fetch(&self, other: &Self) -> bool {
        self.fetches == other.fetches && self.last_fetch_ms == other.last_fetch_ms && self.hash == other.hash
    }
    /// When the key was last fetched.
    pub fn last_fetch(&self) -> Option<Time> {
        (self.fetches > 0).then(|| Time::from_millis(self.last_fetch_ms))
    }
    /// Complete answers seen from the origin (saturates at 65,535).
    pub fn fetches(&self) -> u32 {
        u32::from(self.fetches)
    }
    /// Of these, answers that differed from the one before.
    pub fn changes(&self) -> u32 {
        u32::from(self.changes)
    }
    /// Decayed share of fetches that changed, `q` of rule D3; `None` before the second fetch.
    pub fn changed_share(&self) -> Option<f64> {
        let n = i32::from(self.fetches.min(1_000)) - 1;
        (n > 0).then(|| (f64::from(self.changed_share) / 65_535.0 / (1.0 - f64::from(SHARE_DECAY).powi(n))).min(1.0))
    }
    /// Canonical digest at the last fetch; `None` before the first.
    pub fn hash(&self) -> Option<u64> {
        (self.fetches > 0).then_some(self.hash)
    }

    /// Fixed-size little-endian form for cache values and the statistics table.
    pub fn encode(&self) -> [u8; KEY_STATS_BYTES] {
        let mut out = [0; KEY_STATS_BYTES];
        let mut at = 0;
        let mut put = |bytes: &[u8]| {
            if let Some(slot) = out.get_mut(at..at + bytes.len()) {
                slot.copy_from_slice(bytes);
            }
            at += bytes.len();
        };
        put(&self.last_fetch_ms.to_le_bytes());
        put(&self.hash.to_le_bytes());
        for value in [self.first_seen_s, self.last_change_s, self.last_request_s] {
            put(&value.to_le_bytes());
        }
        for value in self.floats() {
            put(&value.to_le_bytes());
        }
        for value in [self.changed_share, self.answers, self.fetches, self.changes] {
            put(&value.to_le_bytes());
        }
        out
    }

    /// Reads what [`KeyStats::encode`] wrote. Foreign bytes give bounded values, never NaN: numbers that no statistics can
    /// hold become zero.
    pub fn decode(bytes: &[u8; KEY_STATS_BYTES]) -> Self {
        let mut reader = Reader(bytes);
        Self {
            last_fetch_ms: i64::from_le_bytes(reader.take()).max(0),
            hash: u64::from_le_bytes(reader.take()),
            first_seen_s: u32::from_le_bytes(reader.take()),
            last_change_s: u32::from_le_bytes(reader.take()),
            last_request_s: u32::from_le_bytes(reader.take()),
            requests: reader.float(),
            events: reader.float(),
            expected: reader.float(),
            slow_events: reader.float(),
            slow_expected: reader.float(),
            last_gap_s: reader.signed(),
            request_ages_s: reader.float(),
            changed_share: u16::from_le_bytes(reader.take()),
            answers: u16::from_le_bytes(reader.take()),
            fetches: u16::from_le_bytes(reader.take()),
            changes: u16::from_le_bytes(reader.take()),
            belief: Kept::default(),
            doubt: Doubt::NEVER,
        }
    }

    fn floats(&self) -> [f32; 7] {
        [self.requests, self.events, self.expected, self.slow_events, self.slow_expected, self.last_gap_s, self.request_ages_s]
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let Some((head, rest)) = self.0.split_first_chunk::<N>() else { return [0; N] };
        self.0 = rest;
        *head
    }
    fn float(&mut self) -> f32 {
        let value = self.signed();
        if value >= 0.0 { value } else { 0.0 }
    }
    fn signed(&mut self) -> f32 {
        let value = f32::from_le_bytes(self.take());
        if value.is_finite() && value.abs() <= 1e12 { value } else { 0.0 }
    }
}

/// Weight of what a posterior starts from, in changes, where nothing is known of how alike the keys are.
pub const PRIOR_EVENTS: f64 = 4.0;

/// `(events + a) / (expected + a / prior)`.
fn posterior(events: f64, expected: f64, prior: f64, a: f64) -> f64 {
    let prior = prior.clamp(1e-3, 1e3);
    (events + a) / (expected + a / prior)
}

pub(super) fn seconds_between(earlier_ms: i64, later_ms: i64) -> f64 {
    later_ms.saturating_sub(earlier_ms).max(0) as f64 / 1e3
}

fn seconds(ms: i64) -> u32 {
    // Zero means never, so the first second of 1970 is moved to the next.
    u32::try_from(ms.div_euclid(1_000)).unwrap_or(if ms < 0 { 1 } else { u32::MAX }).max(1)
}

fn decay(seconds: f64, memory: Span) -> f32 {
    (-seconds / memory.as_secs_f64()).exp() as f32
}

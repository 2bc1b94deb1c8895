//! When calls that can be made together are made (SPEC E1, E2): how long the first waits for others, and what ends the waiting.
//!
//! Times are of any one timeline; nothing here waits or reads a clock.

use farthing_types::{Span, Time, reasons};

/// The longest window: that of slow traffic.
const LONGEST: Span = Span::from_millis(200);
/// A shorter window gathers nobody.
const SHORTEST: Span = Span::from_millis(1);
/// Time over which arrivals are remembered.
const MEMORY: Span = Span::from_secs(1);

reasons! {
    /// Why a call went alone although batching is on. Each such call has exactly one.
    Alone {
        /// Fewer such calls came than `min_rate`.
        Slow = "slow-traffic",
        /// Nobody is expected within the window (`window = "learned"`).
        Nobody = "nobody-expected",
        /// Nobody came within the window.
        Single = "single",
        /// Whoever waits is not ready to wait for others.
        Impatient = "no-patience",
        /// The method cannot be put into the format.
        Method = "method",
        /// The path or query is not that of the format.
        Target = "target",
        /// A header has a meaning for this call alone: a condition, a range, an idempotency key.
        Header = "header",
        /// The body cannot be put into the format, or is not held whole.
        Body = "body",
        /// It alone would be more than a batch may hold.
        TooLarge = "too-large",
        /// Too many batches are being gathered.
        Crowded = "crowded",
        /// Batches failed one after the other a short time ago.
        Resting = "resting",
        /// The batch call failed; it is made again alone.
        BatchFailed = "batch-failed",
        /// It failed within a batch that did not, for a passing reason; it is made again alone.
        PartFailed = "part-failed",
    }
}

reasons! {
    /// What ended the waiting of a batch.
    Flush {
        /// It held as many as it may.
        Size = "size",
        /// One more would have been too many bytes.
        Bytes = "bytes",
        /// Its window ended.
        Window = "window",
        /// Some member could not wait longer.
        Deadline = "deadline",
        /// Its members are the items of one request's list: there is nobody else to wait for.
        List = "list",
    }
}

reasons! {
    /// Why a request that carries a list went whole although its route splits lists. Each such request has exactly one.
    Whole {
        /// More items than a batch may hold (`max_size`).
        TooLong = "too-long",
        /// More bytes than a batch may hold (`max_bytes`), or copies larger together than its answer may be (`max_answer`).
        TooLarge = "too-large",
        /// A header has a meaning for this request alone: a condition, a range, an idempotency key.
        Header = "header",
        /// The route's plan, the client or the holdout keeps the request from the cache, from others' calls or from batches.
        NotShared = "not-shared",
        /// There is no room in memory for its items (`[overload]`).
        Crowded = "crowded",
        /// Answers that could not be taken apart came one after the other a short time ago.
        Resting = "resting",
        /// The answer to the items that went could not be taken apart.
        Broken = "broken",
        /// The items' answers are not of one kind: another model, another version.
        Mixed = "mixed",
        /// A copy was purged, or went out of memory, while the call for the others was made.
        Moved = "moved",
    }
}

/// How long the first call of a batch waits for others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Window {
    /// By the rate of calls that could ride together: 20 ms above 100/s, 50 ms above 50/s, 100 ms above 10/s, else 200 ms.
    #[default]
    Auto,
    /// As long as it takes, at that rate, until the batch is full, and at most 200 ms; where nobody is expected meanwhile, not at all.
    Learned,
    /// So long.
    Fixed(Span),
}

/// When batches are sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchRule {
    /// How long the first waits.
    pub window: Window,
    /// Most units (calls, or inputs where a call has several) in a batch.
    pub max_size: u32,
    /// Most bytes of their parts of the request.
    pub max_bytes: u64,
    /// Below this many calls per second nobody waits.
    pub min_rate: f64,
}

impl Default for BatchRule {
    fn default() -> Self {
        Self { window: Window::Auto, max_size: 100, max_bytes: 1_000_000, min_rate: 10.0 }
    }
}

impl BatchRule {
    /// How long a call waits for others when `rate` of them come per second and whoever waits for it is ready to wait `patience` in all:
    /// never longer than half of that.
    ///
    /// # Errors
    /// Why it should not wait.
    pub fn window(&self, rate: f64, patience: Span) -> Result<Span, Alone> {
        if rate < self.min_rate {
            return Err(Alone::Slow);
        }
        let window = self.wanted(rate)?.min(patience / 2);
        if window < SHORTEST { Err(Alone::Impatient) } else { Ok(window) }
    }

    /// How long a call would wait at that rate, also where it would not as things are: what a plan reckons with.
    pub fn nominal(&self, rate: f64, patience: Span) -> Span {
        self.wanted(rate).unwrap_or(SHORTEST).min(patience / 2)
    }

    fn wanted(&self, rate: f64) -> Result<Span, Alone> {
        match self.window {
            Window::Fixed(window) => Ok(window),
            Window::Auto => Ok(by_rate(rate)),
            Window::Learned => {
                let full = f64::from(self.max_size.saturating_sub(1)) / rate.max(f64::MIN_POSITIVE);
                let window = Span::try_from_secs_f64(full).unwrap_or(LONGEST).clamp(SHORTEST, LONGEST);
                if rate * window.as_secs_f64() < 1.0 { Err(Alone::Nobody) } else { Ok(window) }
            }
        }
    }
}

/// The window of SPEC E1.
fn by_rate(rate: f64) -> Span {
    let millis = match rate {
        rate if rate > 100.0 => 20,
        rate if rate > 50.0 => 50,
        rate if rate > 10.0 => 100,
        _ => return LONGEST,
    };
    Span::from_millis(millis)
}

/// How often calls come that could ride together: each counts less the longer ago it was.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Arrivals {
    count: f64,
    at: Time,
}

impl Arrivals {
    /// Notes a call that comes now; the rate with it, in calls per second.
    pub fn note(&mut self, now: Time) -> f64 {
        self.count = self.rate(now).mul_add(MEMORY.as_secs_f64(), 1.0);
        self.at = now;
        self.count / MEMORY.as_secs_f64()
    }

    /// The rate now, in calls per second. Of steady calls the true one after some seconds; before that less.
    pub fn rate(&self, now: Time) -> f64 {
        let ago = now.since(self.at).as_secs_f64() / MEMORY.as_secs_f64();
        self.count * (-ago).exp() / MEMORY.as_secs_f64()
    }
}

/// Leaves batches alone for a while after several have failed one after the other: calls go as they would without.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rest {
    failed: u32,
    until: Time,
}

impl Rest {
    /// Batches in a row that may fail before.
    const FAILURES: u32 = 3;
    /// How long it takes; then one more failure is enough.
    const FOR: Span = Span::from_secs(30);

    /// Notes how a batch ended; `true` when a rest begins with it.
    pub fn note(&mut self, now: Time, well: bool) -> bool {
        self.failed = if well { 0 } else { self.failed.saturating_add(1) };
        let begins = self.failed >= Self::FAILURES && !self.rests(now);
        if begins {
            self.until = now + Self::FOR;
        }
        begins
    }

    /// Whether calls go alone now.
    pub fn rests(&self, now: Time) -> bool {
        now < self.until
    }
}

/// What a call adds to a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Units: 1, or inputs where it has several.
    pub units: u32,
    /// Bytes of its part of the request.
    pub bytes: u64,
}

/// A batch that waits for more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gathering {
    ends: Time,
    latest: Time,
    load: Load,
}

impl Gathering {
    /// Begins with a call that came `now` and waits `window`. Members are added with [`Gathering::add`], this one too.
    pub fn begin(now: Time, window: Span) -> Self {
        let ends = now + window;
        Self { ends, latest: ends, load: Load { units: 0, bytes: 0 } }
    }

    /// Whether `load` has room beside what is there.
    ///
    /// # Errors
    /// What the batch is flushed for, to make room for another one.
    pub fn fits(&self, rule: &BatchRule, load: Load) -> Result<(), Flush> {
        if self.load.units.saturating_add(load.units) > rule.max_size {
            Err(Flush::Size)
        } else if self.load.bytes.saturating_add(load.bytes) > rule.max_bytes {
            Err(Flush::Bytes)
        } else {
            Ok(())
        }
    }

    /// Adds a call that must be sent by `latest`; `true` when the batch is full.
    pub fn add(&mut self, rule: &BatchRule, load: Load, latest: Time) -> bool {
        self.load.units = self.load.units.saturating_add(load.units);
        self.load.bytes = self.load.bytes.saturating_add(load.bytes);
        self.latest = self.latest.min(latest);
        self.load.units >= rule.max_size
    }

    /// A member has left; the time that it set stays.
    pub fn remove(&mut self, load: Load) {
        self.load.units = self.load.units.saturating_sub(load.units);
        self.load.bytes = self.load.bytes.saturating_sub(load.bytes);
    }

    /// When it is sent at the latest, and for which reason.
    pub fn due(&self) -> (Time, Flush) {
        if self.latest < self.ends { (self.latest, Flush::Deadline) } else { (self.ends, Flush::Window) }
    }
}

#[cfg(test)]
#[path = "batch_tests.rs"]
mod tests;

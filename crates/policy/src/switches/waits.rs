//! Whether a strategy that adds waiting breaks promises of time (SPEC C7): of the requests that it could be applied to a slice, drawn at random,
//! goes without. Where the others miss more of their promises than that slice, the strategy is off; it is tried again later.
//!
//! *The test.* If the strategy made no difference, the draw of a request would be independent of what became of its promise: among those that
//! were missed, and among those that were kept, the slice would have the share with which it was drawn. Each settled request is a bet on the
//! opposite: with `p` the probability of the slice, and the share of it among the missed taken as `p / (p + r (1 - p))`, a missed promise of the slice
//! multiplies wealth by `1 / (p + r (1 - p))` and another one by `r / (p + r (1 - p))`; the same for kept promises with `m` and the sides
//! exchanged. The mean of both is 1 whatever the distribution of latencies and however requests hang together (members of a batch are late
//! together), since nothing but the draw is random. `r` and `m` are taken from a grid, and `p` may change from request to request: it is known
//! before the draw.

use farthing_types::{Span, Time};

use super::{Detector, Standing, rest};

/// How much more often promises are missed with the strategy.
const MISSED: [f64; 4] = [1.5, 3.0, 10.0, 1_000.0];
/// How much more often they are kept without it.
const KEPT: [f64; 4] = [1.0, 1.5, 5.0, 50.0];
const WAYS: usize = MISSED.len() * KEPT.len();

/// A bettor begins so often.
pub const BEGIN: Span = Span::from_secs(10);
/// Evidence that switches off. A strategy that does no harm is switched off within time `t` with a probability of at most
/// `t / (10 s x 1e6)`: 1 % of the routes in a day.
pub const OFF: f64 = 1e6;
/// Evidence that ends a trial, in which nobody begins anew: one in a thousand ends though no harm was done.
pub const TRIAL_OFF: f64 = 1e3;

/// Share of the slice while promises are kept: what is bought without the strategy to be able to compare.
pub const CALM: f64 = 0.02;
/// Share of the slice in the first minute in which promises are missed.
pub const LOOK: f64 = 0.25;
/// Share of it after that minute, while they still are.
pub const WATCH: f64 = 0.1;
const LOOK_FOR: Span = Span::from_secs(60);
/// Misses of the last seconds from which on it looks, and their share of all.
const NOTICED: f64 = 3.0;
const NOTICED_SHARE: f64 = 0.02;
/// Time over which misses are remembered.
const MEMORY: f64 = 10.0;

/// How long it is off the first time; twice as long each time after.
pub const REST: Span = Span::from_secs(300);
const LONGEST_REST: Span = Span::from_secs(3_600);
/// How long a trial lasts.
pub const TRIAL: Span = Span::from_secs(10);
/// After so long without being switched off an earlier time is forgotten.
const FORGIVEN: Span = Span::from_secs(6 * 3_600);

/// The draw of one request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Slice {
    /// It goes without the strategy.
    pub without: bool,
    /// Probability of that.
    pub share: f64,
}

/// How a strategy that adds waiting stands on one route. Of fixed size.
#[derive(Clone, Debug, PartialEq)]
pub struct Waits {
    standing: Standing,
    /// Since when.
    since: Time,
    begun: Time,
    evidence: Detector<WAYS>,
    recent: Recent,
    /// Since when promises are being missed.
    looking: Option<Time>,
    /// How often it was switched off lately.
    lost: u32,
}

/// Requests of the last seconds that had the strategy.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Recent {
    all: f64,
    missed: f64,
    at: Time,
}

impl Recent {
    fn note(&mut self, missed: bool, now: Time) {
        let fade = (-now.since(self.at).as_secs_f64() / MEMORY).exp();
        self.all = self.all.mul_add(fade, 1.0);
        self.missed = self.missed.mul_add(fade, f64::from(u8::from(missed)));
        self.at = self.at.max(now);
    }

    fn is_noticed(&self) -> bool {
        self.missed >= NOTICED && self.missed >= NOTICED_SHARE * self.all
    }
}

impl Waits {
    /// In force from `now` on.
    pub fn new(now: Time) -> Self {
        Self {
            standing: Standing::On,
            since: now,
            begun: now,
            evidence: Detector::default(),
            recent: Recent::default(),
            looking: None,
            lost: 0,
        }
    }

    /// How it stands, and since when.
    pub fn standing(&self) -> (Standing, Time) {
        (self.standing, self.since)
    }

    /// Evidence of harm; 1 is none.
    pub fn evidence(&self) -> f64 {
        self.evidence.evidence()
    }

    /// When it is tried again; `None` while it is not off.
    pub fn tried_again(&self) -> Option<Time> {
        (self.standing == Standing::Off).then(|| self.since + self.rest())
    }

    fn rest(&self) -> Span {
        rest((REST, LONGEST_REST), self.lost.saturating_sub(1))
    }

    /// Probability with which a request of now goes without the strategy.
    pub fn share(&self, now: Time) -> f64 {
        match (self.standing, self.looking) {
            (Standing::Off, _) => 1.0,
            (Standing::Trial, _) => LOOK,
            (Standing::On, Some(since)) if now.since(since) > LOOK_FOR => WATCH,
            (Standing::On, Some(_)) => LOOK,
            (Standing::On, None) => CALM,
        }
    }

    /// What becomes of a request of now with the draw `u` from [0, 1); the new standing where it changes by the time that has passed.
    /// `None` instead of a slice: the strategy is off, and there is nothing to compare.
    pub fn draw(&mut self, u: f64, now: Time) -> (Option<Slice>, Option<Standing>) {
        let turned = self.pass(now);
        let share = self.share(now);
        let slice = (self.standing != Standing::Off).then_some(Slice { without: u < share, share });
        (slice, turned)
    }

    /// The changes that time alone brings.
    fn pass(&mut self, now: Time) -> Option<Standing> {
        let past = now.since(self.since);
        match self.standing {
            Standing::Off if past >= self.rest() => self.enter(Standing::Trial, now),
            Standing::Trial if past >= TRIAL => {
                self.enter(Standing::On, now);
                // What has just been off is looked at closely.
                self.looking = Some(now);
                Some(Standing::On)
            }
            Standing::On if past >= FORGIVEN && self.lost > 0 => {
                (self.lost, self.since) = (self.lost - 1, now);
                None
            }
            _ => None,
        }
    }

    fn enter(&mut self, standing: Standing, now: Time) -> Option<Standing> {
        *self = Self { standing, lost: self.lost, ..Self::new(now) };
        Some(standing)
    }

    /// A request that was drawn has been answered: whether its promise was missed. The new standing, where that changes it.
    pub fn settled(&mut self, slice: Slice, missed: bool, now: Time) -> Option<Standing> {
        if self.standing == Standing::Off {
            return None;
        }
        while now.since(self.begun) >= BEGIN && self.standing == Standing::On {
            self.begun = if now.since(self.begun) > BEGIN * 64 { now } else { self.begun + BEGIN };
            self.evidence.begin();
        }
        self.evidence.bet(factors(slice, missed));
        if !slice.without {
            self.recent.note(missed, now);
        }
        self.looking = self.recent.is_noticed().then(|| self.looking.unwrap_or(now)).or_else(|| self.closely(now));
        let enough = if self.standing == Standing::Trial { TRIAL_OFF } else { OFF };
        if self.evidence.evidence() < enough {
            return None;
        }
        self.lost += 1;
        self.enter(Standing::Off, now)
    }

    /// The minute after a trial, whether or not promises are missed in it.
    fn closely(&self, now: Time) -> Option<Time> {
        self.looking.filter(|since| *since == self.since && now.since(*since) <= LOOK_FOR)
    }
}

/// By what a settled request multiplies the wealth of each way to bet: see the module.
fn factors(Slice { without, share }: Slice, missed: bool) -> [f64; WAYS] {
    let with = 1.0 - share;
    std::array::from_fn(|way| {
        let (missed_more, kept_more) = (MISSED[way % MISSED.len()], KEPT[way / MISSED.len()]);
        match (missed, without) {
            (true, true) => 1.0 / missed_more.mul_add(with, share),
            (true, false) => missed_more / missed_more.mul_add(with, share),
            (false, true) => kept_more / kept_more.mul_add(share, with),
            (false, false) => 1.0 / kept_more.mul_add(share, with),
        }
    })
}

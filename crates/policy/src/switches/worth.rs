//! Whether the cache of a route is worth what it costs (SPEC C6, R5): off when, over a thousand requests or more, the upper bound of its net
//! saving per request (saved, less calls made to keep it fresh, less stale answers at their price, less what Farthing itself costs) is not above
//! zero; kept for a slice of keys, and on again when that slice shows a gain.
//!
//! *The test.* The upper bound of a mean is below zero where "the mean is zero or more" is rejected. A bettor stakes the share `l` of what a loss
//! as large as the largest saving `u` would take: a request with net saving `v` multiplies wealth by `1 - l v / u`, whose mean is at most 1 while no
//! request is expected to lose (Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting", JRSS B 2024). The
//! other direction likewise. Sums over many requests are enough: the logarithm is concave, so wealth is least where the sums are spread as
//! unevenly as they can be, and that least is taken.

use farthing_types::Money;

use super::{Detector, Standing};

/// Stakes, as shares of the largest that is safe.
const STAKES: [f64; 5] = [0.02, 0.08, 0.25, 0.5, 0.9];
/// Requests before anything is decided, and after which another bettor begins.
pub const REQUESTS: u64 = 1_000;
/// Evidence of a loss that switches off: a cache that does not lose is switched off within `n` thousand requests with a probability of at most
/// `(n + 1) / 10,000`.
pub const LOSS: f64 = 1e4;
/// Evidence of a gain of the slice that switches on again.
pub const GAIN: f64 = 100.0;
/// Share of the keys that are cached all the same while it is off.
pub const SLICE: f64 = 0.05;

/// What some requests that the cache could answer came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WorthTurn {
    /// How many.
    pub requests: u64,
    /// What the cache has saved.
    pub saved: Money,
    /// The most that one answer may save: the largest price of a call so far.
    pub largest: Money,
    /// What calls cost that renew entries in the background.
    pub renewed: Money,
    /// Stale answers that came to light.
    pub stale: u64,
    /// Price of one; zero where it is not known.
    pub stale_price: Money,
    /// What Farthing itself costs for these requests; zero where it is not known.
    pub own: Money,
}

/// How the cache stands on one route. Of fixed size.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Worth {
    off: bool,
    evidence: Detector<{ STAKES.len() }>,
    /// Requests since it stands so.
    requests: u64,
    /// Net saving since then.
    net: Money,
}

impl Worth {
    /// How it stands.
    pub const fn standing(&self) -> Standing {
        if self.off { Standing::Off } else { Standing::On }
    }

    /// Requests that were judged since it stands so, and what they have saved, net.
    pub const fn judged(&self) -> (u64, Money) {
        (self.requests, self.net)
    }

    /// Evidence of a loss, or of a gain while it is off; 1 is none.
    pub fn evidence(&self) -> f64 {
        self.evidence.evidence()
    }

    /// Takes what was seen since the last time: of all keys, or of the slice while it is off. The new standing, where that changes it.
    pub fn take(&mut self, turn: &WorthTurn) -> Option<Standing> {
        // Without a price nobody knows what was saved.
        if turn.requests == 0 || turn.largest <= Money::ZERO {
            return None;
        }
        let begun = (self.requests + turn.requests) / REQUESTS - self.requests / REQUESTS;
        (0..begun.min(64)).for_each(|_| self.evidence.begin());
        self.requests += turn.requests;
        self.net += turn.net();
        let parts = Parts::of(turn);
        self.evidence.bet(STAKES.map(|stake| if self.off { parts.gain(stake) } else { parts.loss(stake) }));
        let enough = if self.off { GAIN } else { LOSS };
        if self.requests < REQUESTS || self.evidence.evidence() < enough {
            return None;
        }
        *self = Self { off: !self.off, ..Self::default() };
        Some(self.standing())
    }
}

impl WorthTurn {
    /// What remains of the saving.
    pub fn net(&self) -> Money {
        self.saved - self.lost() - self.own
    }

    fn lost(&self) -> Money {
        self.renewed + self.stale_price.times(i64::try_from(self.stale).unwrap_or(i64::MAX))
    }
}

/// The requests as three kinds, which have their sums and are spread as unevenly as they can be; money in units of the largest saving.
struct Parts {
    /// Saved as much as can be.
    hits: f64,
    /// Lost `loss` beyond their own cost.
    losses: f64,
    /// Neither.
    others: f64,
    loss: f64,
    own: f64,
}

impl Parts {
    fn of(turn: &WorthTurn) -> Self {
        let all = turn.requests as f64;
        let unit = turn.largest.nanos().max(1) as f64;
        let hits = (turn.saved.nanos() as f64 / unit).clamp(0.0, all);
        let lost = (turn.lost().nanos() as f64 / unit).max(0.0);
        let loss = (turn.stale_price.nanos() as f64 / unit).max(1.0);
        let losses = (lost / loss).min(all - hits);
        let loss = if losses > 0.0 { lost / losses } else { loss };
        Self { hits, losses, others: (all - hits - losses).max(0.0), loss, own: turn.own.nanos() as f64 / unit / all }
    }

    /// Wealth of whoever bets on a loss.
    fn loss(&self, stake: f64) -> f64 {
        let log = |value: f64| (-stake * value).max(-0.999).ln_1p();
        self.spread(log)
    }

    /// Wealth of whoever bets on a gain: the stake is safe against the largest loss.
    fn gain(&self, stake: f64) -> f64 {
        let safe = stake / (self.own + self.loss).max(1.0);
        self.spread(|value| (safe * value).max(-0.999).ln_1p())
    }

    fn spread(&self, log: impl Fn(f64) -> f64) -> f64 {
        let sum = self.hits * log(1.0 - self.own) + self.losses * log(-self.own - self.loss) + self.others * log(-self.own);
        sum.exp()
    }
}

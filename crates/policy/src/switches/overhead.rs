//! Whether Farthing's own time on a route is above its limit (SPEC R5): of the requests that went to the provider, more than one in twenty took
//! longer than the limit, window after window. Then what is not needed is left out there; after a rest it is tried again.
//!
//! Times of neighbouring requests hang together (a busy machine slows all of them), so that no bet on single requests would be fair. What counts is
//! whole windows, several in a row, each by more than chance explains: where the share is exactly the allowed one, a window is above it with a
//! probability of 2.3 % (normal approximation of the binomial), and [`ROW`] in a row are so with 0.0012 %.

use farthing_types::{Span, Time};

use super::{Standing, rest};

/// Share of requests that may take longer: the limit is that of the 95th percentile.
pub const ALLOWED: f64 = 0.05;
/// Share up to which a trial ends well: below it by half, so that it does not go to and fro.
pub const CALM: f64 = ALLOWED / 2.0;
/// Shortest window.
pub const WINDOW: Span = Span::from_secs(10);
/// Requests that a window needs; it goes on until there are so many.
pub const FEWEST: u64 = 40;
/// Windows in a row that switch off.
pub const ROW: u32 = 3;
/// How long it is off the first time; twice as long each time after.
pub const REST: Span = Span::from_secs(300);
const LONGEST_REST: Span = Span::from_secs(3_600);
/// After so long without being switched off an earlier time is forgotten.
const FORGIVEN: Span = Span::from_secs(6 * 3_600);
/// A window that has not filled in so long is forgotten: what was slow then says nothing about now.
const STALE: Span = Span::from_secs(600);

/// How what is not needed stands on one route. Of fixed size.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Overhead {
    standing: Standing,
    since: Time,
    /// The window under way: when it began, requests, slow ones.
    begun: Time,
    requests: u64,
    slow: u64,
    above: u32,
    lost: u32,
}

impl Overhead {
    /// In force from `now` on; [`Time::ZERO`]: from the first look on.
    pub const fn new(now: Time) -> Self {
        Self { standing: Standing::On, since: now, begun: now, requests: 0, slow: 0, above: 0, lost: 0 }
    }

    /// How it stands, and since when.
    pub const fn standing(&self) -> (Standing, Time) {
        (self.standing, self.since)
    }

    /// Windows above the limit until now, in a row, of those that it takes.
    pub fn evidence(&self) -> f64 {
        f64::from(self.above) / f64::from(ROW)
    }

    /// When it is tried again; `None` while it is not off.
    pub fn tried_again(&self) -> Option<Time> {
        (self.standing == Standing::Off).then(|| self.since + self.rest())
    }

    fn rest(&self) -> Span {
        rest((REST, LONGEST_REST), self.lost.saturating_sub(1))
    }

    /// Takes what came since the last time: requests that went to the provider, and of these those above the limit. The new standing, where that
    /// changes it; [`Standing::Off`] once more where what is off was not enough and there is `more` to leave out.
    pub fn take(&mut self, requests: u64, slow: u64, now: Time, more: bool) -> Option<Standing> {
        if let Some(again) = self.tried_again() {
            if now >= again {
                return Some(self.enter(Standing::Trial, now));
            }
            if !more {
                return None;
            }
        }
        if self.begun == Time::ZERO {
            self.begun = now;
        }
        self.requests = self.requests.saturating_add(requests);
        self.slow = self.slow.saturating_add(slow);
        let past = now.since(self.begun);
        if past < WINDOW || self.requests < FEWEST {
            if past >= STALE {
                self.begin(now);
            }
            return None;
        }
        let turned = self.judge(now);
        self.begin(now);
        turned
    }

    /// The window has ended.
    fn judge(&mut self, now: Time) -> Option<Standing> {
        let (all, slow) = (self.requests as f64, self.slow as f64);
        let above = slow > all * ALLOWED + 2.0 * (all * ALLOWED * (1.0 - ALLOWED)).sqrt();
        self.above = if above { self.above + 1 } else { 0 };
        match self.standing {
            Standing::Trial if slow <= all * CALM => Some(self.enter(Standing::On, now)),
            Standing::Trial => Some(self.lose(now)),
            Standing::On if self.above >= ROW => Some(self.lose(now)),
            Standing::Off if self.above >= ROW => {
                self.above = 0;
                Some(Standing::Off)
            }
            Standing::On if self.lost > 0 && now.since(self.since) >= FORGIVEN => {
                (self.lost, self.since) = (self.lost - 1, now);
                None
            }
            _ => None,
        }
    }

    fn lose(&mut self, now: Time) -> Standing {
        self.lost = self.lost.saturating_add(1);
        self.enter(Standing::Off, now)
    }

    fn enter(&mut self, standing: Standing, now: Time) -> Standing {
        *self = Self { standing, lost: self.lost, ..Self::new(now) };
        standing
    }

    const fn begin(&mut self, now: Time) {
        (self.begun, self.requests, self.slow) = (now, 0, 0);
    }
}

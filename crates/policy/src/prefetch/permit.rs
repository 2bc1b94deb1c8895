//! Whether prefetch may spend on a route: it must have earned it, and loses it as soon as it loses money.
//!
//! Tries are what would be fetched ahead; whether they would have been used is seen with or without fetching. So a route begins in
//! shadow and pays nothing until the tries have shown a gain; from then on the same tries are watched for a loss.

/// Stakes of the bets, as shares of the largest that is safe.
const BETS: [f64; 5] = [0.05, 0.12, 0.25, 0.45, 0.7];
/// Evidence of a gain that turns prefetch on: at most one in twenty routes without gain ever gets so far.
const ON: f64 = 20.0;
/// Evidence of a loss that turns it off.
const OFF: f64 = 20.0;
/// After so many tries a route with a net loss is off, whatever the evidence.
pub const TRIES: u32 = 500;
/// Tries in shadow after which evidence is gathered anew: the world may have changed.
const RESTART: u32 = 5_000;

/// Wealth of bets on values `y − θ` being positive (or negative) in the mean: an e-process (Waudby-Smith and Ramdas, "Estimating
/// means of bounded random variables by betting", 2024).
#[derive(Clone, Copy, Debug, PartialEq)]
struct Wealth([f64; BETS.len()]);

impl Wealth {
    const START: Self = Self([1.0; BETS.len()]);

    /// Bets on `value`, which never falls below `-worst`.
    fn bet(&mut self, value: f64, worst: f64) {
        for (wealth, bet) in self.0.iter_mut().zip(BETS) {
            *wealth = (*wealth * (1.0 + bet * value / worst.max(1e-3)).max(0.0)).clamp(1e-100, 1e100);
        }
    }
    fn evidence(&self) -> f64 {
        self.0.iter().sum::<f64>() / BETS.len() as f64
    }
}

/// What a permit says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Decisions are scored but cost nothing.
    Shadow,
    /// Decisions are carried out.
    Live,
    /// It lost money; scored again after a rest.
    Off,
}

/// The permit of one route. Values are in units of `c + v`, the gain of a used prefetch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Permit {
    state: State,
    gain: Wealth,
    loss: Wealth,
    tries: u32,
    net: f64,
    /// How often it lost the permit: each time more evidence is needed to get it back.
    lost: u32,
}

impl Default for Permit {
    fn default() -> Self {
        Self { state: State::Shadow, gain: Wealth::START, loss: Wealth::START, tries: 0, net: 0.0, lost: 0 }
    }
}

impl Permit {
    /// What it says now.
    pub fn state(&self) -> State {
        self.state
    }

    /// Whether prefetch may spend.
    pub fn is_live(&self) -> bool {
        self.state == State::Live
    }

    /// A try matured: it was to be made at `threshold` ([`super::Stakes::threshold`]) and was used or not.
    pub fn matured(&mut self, threshold: f64, used: bool) {
        if !threshold.is_finite() {
            return;
        }
        let value = f64::from(u8::from(used)) - threshold;
        self.tries += 1;
        self.net += value;
        self.gain.bet(value, threshold);
        self.loss.bet(-value, 1.0 - threshold);
        match self.state {
            State::Shadow if self.gain.evidence() >= ON * 2f64.powi(self.lost.min(20) as i32) => self.enter(State::Live),
            State::Shadow if self.tries >= RESTART => self.enter(State::Shadow),
            State::Live if self.loss.evidence() >= OFF || (self.tries >= TRIES && self.net <= 0.0) => {
                self.lost += 1;
                self.enter(State::Off);
            }
            // A route that keeps earning is judged by its last tries, not by its distant past.
            State::Live if self.tries >= TRIES => self.enter(State::Live),
            State::Off if self.tries >= TRIES => self.enter(State::Shadow),
            _ => {}
        }
    }

    fn enter(&mut self, state: State) {
        let lost = self.lost;
        *self = Self { state, lost, ..Self::default() };
    }
}

#[cfg(test)]
mod tests {
    use farthing_types::{Draw, DrawKind};

    use super::*;

    /// Plays tries of which a share is used: tries until live, tries until off, and the money of the tries that were paid.
    fn play(share: impl Fn(u32) -> f64, threshold: f64, tries: u32, seed: u64) -> (Permit, f64, Option<u32>) {
        let (mut permit, mut money, mut live_at) = (Permit::default(), 0.0, None);
        for i in 0..tries {
            let used = Draw::new(seed).uniform(DrawKind::Sample, "permit", u128::from(i), 0) < share(i);
            if permit.is_live() {
                live_at.get_or_insert(i);
                money += f64::from(u8::from(used)) - threshold;
            }
            permit.matured(threshold, used);
        }
        (permit, money, live_at)
    }

    #[test]
    fn a_world_without_structure_is_hardly_ever_paid_for() {
        let live = (0..200).filter(|seed| play(|_| 0.4, 0.5, 2_000, *seed).2.is_some()).count();
        assert!(live <= 10, "{live} of 200");
        let even = (0..200).filter(|seed| play(|_| 0.5, 0.5, 500, *seed).2.is_some()).count();
        assert!(even <= 16, "{even} of 200 at no gain and no loss");
    }

    #[test]
    fn what_earns_goes_live_soon_and_stays() {
        for seed in 0..50 {
            let (permit, money, live_at) = play(|_| 0.85, 0.5, 2_000, seed);
            assert!(permit.is_live() && money > 300.0 && live_at.unwrap() < 100, "{seed}: {money} {live_at:?}");
        }
    }

    #[test]
    fn what_stops_earning_is_off_within_500_tries() {
        for (after, seed) in
            [(0.0, 1u64), (0.2, 2), (0.4, 3), (0.48, 4)].into_iter().flat_map(|(a, s)| (0..20).map(move |i| (a, s * 100 + i)))
        {
            let mut permit = Permit::default();
            while !permit.is_live() {
                permit.matured(0.5, true);
            }
            let mut off = 0;
            while permit.is_live() {
                permit.matured(0.5, Draw::new(seed).uniform(DrawKind::Sample, "permit", off, 0) < after);
                off += 1;
                assert!(off <= 20 * u128::from(TRIES), "{after}");
            }
            assert!(after > 0.45 || off <= u128::from(TRIES), "{after}: {off} tries");
        }
    }

    #[test]
    fn a_threshold_that_cannot_be_met_never_goes_live() {
        assert_eq!(play(|_| 1.0, 1.0, 5_000, 1).2, None);
        assert_eq!(play(|_| 1.0, f64::INFINITY, 100, 1).0, Permit::default());
    }
}

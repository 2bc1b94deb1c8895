//! Whether prefetch may spend on a route: it must have earned it, and loses it as soon as it loses money.
//!
//! Tries are what would be fetched ahead; whether they would have been used is seen with or without fetching. So a route begins in
//! shadow and pays nothing until the tries have shown a gain; from then on the same tries are watched for a loss.
//!
//! Most routes see too few tries to show anything by themselves. So the routes of one pool (those whose tries cost and earn the same)
//! have a permit together, which lends itself to each route whose own record says nothing yet.

/// Stakes of the bets, as shares of the largest that is safe.
const BETS: [f64; 5] = [0.05, 0.12, 0.25, 0.45, 0.7];
/// Evidence of a gain that turns prefetch on: at most one in a hundred routes without gain ever gets so far.
const ON: f64 = 100.0;
/// Evidence of a loss that turns it off: more than to begin, as tries of one session hang together a little beyond one request.
const OFF: f64 = 100.0;
/// After so many tries a route with a net loss is off, whatever the evidence.
pub const TRIES: u32 = 500;
/// What may be lost beyond what was earned before it is off, in gains of a used prefetch; tries of one request count as one.
const ALLOWANCE: f64 = 6.0;
/// Mean gain per try in shadow below which it stays there: what hardly pays soon does not.
const MARGIN: f64 = 0.05;
/// Tries in shadow after which evidence is gathered anew: the world may have changed.
const RESTART: u32 = 5_000;

/// Wealth of bets on values `y − θ` being positive (or negative) in the mean: an e-process (Waudby-Smith and Ramdas, "Estimating
/// means of bounded random variables by betting", 2024).
#[derive(Clone, Copy, Debug, PartialEq)]
struct Wealth([f64; BETS.len()]);

impl Wealth {
    const START: Self = Self([1.0; BETS.len()]);

    /// Bets on `value`, which never falls below `-worst`; the outcome to the power of `share`. Powers that sum to one keep a fair bet from
    /// growing in the mean, however their values hang together (Hölder's inequality).
    fn bet(&mut self, value: f64, worst: f64, share: f64) {
        for (wealth, bet) in self.0.iter_mut().zip(BETS) {
            *wealth = (*wealth * (1.0 + bet * value / worst.max(1e-3)).max(0.0).powf(share)).clamp(1e-100, 1e100);
        }
    }
    fn evidence(&self) -> f64 {
        self.0.iter().sum::<f64>() / BETS.len() as f64
    }
}

/// What became of a decision to fetch ahead, carried out or not.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outcome {
    /// The probability above which it paid ([`super::Stakes::threshold`]).
    pub threshold: f64,
    /// Whether the copy was, or would have been, used while fresh.
    pub used: bool,
    /// How many were decided after the same request. They stand and fall together, when the session goes on or ends, so they count as one.
    pub together: u32,
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
    /// Earned by tries that were paid, since it may spend; tries of one request count as one.
    earned: f64,
    /// How often it lost the permit, less the times that it earned since: each time more evidence is needed to get it back.
    lost: u32,
}

impl Default for Permit {
    fn default() -> Self {
        Self { state: State::Shadow, gain: Wealth::START, loss: Wealth::START, tries: 0, net: 0.0, earned: 0.0, lost: 0 }
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

    /// A try matured.
    pub fn matured(&mut self, outcome: Outcome) {
        self.learn(outcome, false);
    }

    /// As [`Self::matured`]; `lent`: it spends by another's permit while in shadow, and loses that as it would its own.
    fn learn(&mut self, Outcome { threshold, used, together }: Outcome, lent: bool) {
        if !threshold.is_finite() {
            return;
        }
        let value = f64::from(u8::from(used)) - threshold;
        let share = 1.0 / f64::from(together.max(1));
        self.tries += 1;
        self.net += value;
        self.gain.bet(value, threshold, share);
        self.loss.bet(-value, 1.0 - threshold, share);
        let spends = lent || self.is_live();
        self.earned += if spends { value * share } else { 0.0 };
        let loses = self.loss.evidence() >= OFF || self.earned < -ALLOWANCE || (self.tries >= TRIES && self.net <= 0.0);
        match self.state {
            _ if spends && loses => {
                self.lost += 1;
                self.earned = 0.0;
                self.enter(State::Off);
            }
            State::Shadow if self.shows_a_gain() => self.enter(State::Live),
            State::Shadow if self.tries >= RESTART => self.enter(State::Shadow),
            // A route that keeps earning is judged by its last tries, not by its distant past.
            State::Live if self.tries >= TRIES => {
                self.lost = self.lost.saturating_sub(1);
                self.enter(State::Live);
            }
            State::Off if self.tries >= TRIES => self.enter(State::Shadow),
            _ => {}
        }
    }

    fn shows_a_gain(&self) -> bool {
        let needed = ON * 2f64.powi(self.lost.min(20) as i32);
        self.gain.evidence() >= needed && self.net >= MARGIN * f64::from(self.tries)
    }

    fn enter(&mut self, state: State) {
        *self = Self { state, lost: self.lost, earned: self.earned, ..Self::default() };
    }
}

/// The permits of routes and of the pools that they are in.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Permits {
    routes: Vec<Permit>,
    pools: Vec<Permit>,
    pool_of: Vec<usize>,
}

impl Permits {
    /// All in shadow. `pool_of` is the pool of each route, counted from zero.
    pub fn new(pool_of: Vec<usize>) -> Self {
        let pools = pool_of.iter().max().map_or(0, |last| last + 1);
        Self { routes: vec![Permit::default(); pool_of.len()], pools: vec![Permit::default(); pools], pool_of }
    }

    /// Whether prefetch may spend on this route: by its own permit, or by that of its pool as long as its own record is open.
    pub fn is_live(&self, route: usize) -> bool {
        match self.routes.get(route).map(Permit::state) {
            Some(State::Live) => true,
            Some(State::Shadow) => self.pool_of.get(route).and_then(|pool| self.pools.get(*pool)).is_some_and(Permit::is_live),
            Some(State::Off) | None => false,
        }
    }

    /// A try of this route matured: see [`Permit::matured`].
    pub fn matured(&mut self, route: usize, outcome: Outcome) {
        let lent = self.is_live(route);
        let Some(permit) = self.routes.get_mut(route) else { return };
        let out = permit.state() == State::Off;
        permit.learn(outcome, lent);
        // What is not done any more is no business of the pool.
        if out {
            return;
        }
        if let Some(permit) = self.pool_of.get(route).and_then(|pool| self.pools.get_mut(*pool)) {
            permit.matured(outcome);
        }
    }

    /// What holds on this route: its own state, or that of the pool which lends it a permit.
    pub fn state(&self, route: usize) -> State {
        let own = self.routes.get(route).map_or(State::Shadow, Permit::state);
        if own == State::Shadow && self.is_live(route) { State::Live } else { own }
    }

    /// The routes' own permits.
    pub fn routes(&self) -> &[Permit] {
        &self.routes
    }
    /// The pools' permits.
    pub fn pools(&self) -> &[Permit] {
        &self.pools
    }
}

#[cfg(test)]
mod tests {
    use farthing_types::{Draw, DrawKind};

    use super::*;

    fn tried(threshold: f64, used: bool) -> Outcome {
        Outcome { threshold, used, together: 1 }
    }

    /// Plays tries of which a share is used: tries until live, tries until off, and the money of the tries that were paid.
    fn play(share: impl Fn(u32) -> f64, threshold: f64, tries: u32, seed: u64) -> (Permit, f64, Option<u32>) {
        let (mut permit, mut money, mut live_at) = (Permit::default(), 0.0, None);
        for i in 0..tries {
            let used = Draw::new(seed).uniform(DrawKind::Sample, "permit", u128::from(i), 0) < share(i);
            if permit.is_live() {
                live_at.get_or_insert(i);
                money += f64::from(u8::from(used)) - threshold;
            }
            permit.matured(tried(threshold, used));
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
                permit.matured(tried(0.5, true));
            }
            let mut off = 0;
            while permit.is_live() {
                permit.matured(tried(0.5, Draw::new(seed).uniform(DrawKind::Sample, "permit", off, 0) < after));
                off += 1;
                assert!(off <= 20 * u128::from(TRIES), "{after}");
            }
            assert!(after > 0.45 || off <= u128::from(TRIES), "{after}: {off} tries");
        }
    }

    #[test]
    fn what_stands_and_falls_together_counts_as_one() {
        let live = |together: u32, seeds: std::ops::Range<u64>| {
            let runs = seeds.filter(|seed| {
                let mut permit = Permit::default();
                (0..200u32).any(|visit| {
                    let used = Draw::new(*seed).uniform(DrawKind::Sample, "together", u128::from(visit), 0) < 0.5;
                    (0..10).for_each(|_| permit.matured(Outcome { threshold: 0.5, used, together }));
                    permit.is_live()
                })
            });
            runs.count()
        };
        assert!(live(10, 0..200) <= 16, "{} of 200 at no gain", live(10, 0..200));
        assert!(live(1, 0..200) > 100, "taken one by one the same tries would look like evidence");
    }

    #[test]
    fn a_loss_is_bounded_by_what_was_earned_and_a_little() {
        for (share, seed) in
            [(0.0, 1u64), (0.3, 2), (0.45, 3), (0.5, 4)].into_iter().flat_map(|(s, n)| (0..50).map(move |i| (s, n * 100 + i)))
        {
            let (_, money, _) = play(|_| share, 0.5, 5_000, seed);
            assert!(money >= -3.0 * (ALLOWANCE + 1.0), "{share}: {money}");
        }
    }

    #[test]
    fn a_threshold_that_cannot_be_met_never_goes_live() {
        assert_eq!(play(|_| 1.0, 1.0, 5_000, 1).2, None);
        assert_eq!(play(|_| 1.0, f64::INFINITY, 100, 1).0, Permit::default());
    }

    /// Tries in turn on routes of one pool, of which shares are used: money per route.
    fn pooled(shares: &[f64], tries: u32, seed: u64) -> (Permits, Vec<f64>) {
        let (mut permits, mut money) = (Permits::new(vec![0; shares.len()]), vec![0.0; shares.len()]);
        for i in 0..tries * shares.len() as u32 {
            let route = i as usize % shares.len();
            let used = Draw::new(seed).uniform(DrawKind::Sample, "permits", u128::from(i), 0) < shares[route];
            money[route] += if permits.is_live(route) { f64::from(u8::from(used)) - 0.5 } else { 0.0 };
            permits.matured(route, tried(0.5, used));
        }
        (permits, money)
    }

    #[test]
    fn many_small_routes_earn_a_permit_together() {
        for seed in 0..20 {
            let (_, money) = pooled(&[0.8; 40], 10, seed);
            let together: f64 = money.iter().sum();
            assert!(together > 0.6 * 0.3 * 400.0, "{seed}: {together} of {}", 0.3 * 400.0);
        }
    }

    #[test]
    fn a_route_that_loses_is_off_while_its_pool_earns() {
        for seed in 0..50 {
            let (permits, money) = pooled(&[0.85, 0.85, 0.85, 0.2], 500, seed);
            assert!(!permits.is_live(3), "{seed}: {permits:?}");
            assert!(money[3] > -12.0 && money[..3].iter().sum::<f64>() > 300.0, "{seed}: {money:?}");
        }
    }

    #[test]
    fn a_pool_without_gain_is_hardly_ever_paid_for() {
        let lossy = (0..200).filter(|seed| pooled(&[0.4; 10], 200, *seed).1.iter().sum::<f64>() < 0.0).count();
        assert!(lossy <= 10, "{lossy} of 200");
    }
}

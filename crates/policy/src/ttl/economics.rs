//! What a TTL costs, and the cheapest one.
//!
//! One cycle of a copy kept for `T`: a call, then requests at rate `r` for `T` seconds, then the wait `1/r` for the next request.
//! With prices in units of one stale answer (call = kappa), `F` the probability that the copy has changed by an age and
//! `G(T) = integral of F over [0, T]`:
//!
//! - cost per request `C(T) = (kappa + r G(T)) / (1 + r T)`; stale share `r G(T) / (1 + r T)`.
//! - `C` falls exactly while `g(T) = F(T) (1 + r T) - r G(T) < kappa`. `g` never falls (`g' = F' (1 + r T)`), so the optimum is
//!   unique whatever the shape of the hazard; for a constant hazard it is the root of
//!   `(1 - e^-x)(1 + rho) - rho x e^-x = kappa`, `x = hazard T`, `rho = r / hazard`, and no expiry pays when `kappa >= 1 + rho`.
//! - The stale share rises with `T` too, so the longest TTL within a budget is unique as well.

use farthing_contract::features::Draws;

use super::Survival;
use super::survival::Segment;

/// Steps of the bisection within one interval: the interval shrinks by 2^-26.
const STEPS: u32 = 26;

/// Prices and demand of one copy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Economics {
    /// Price of a call / price of one stale answer.
    pub kappa: f64,
    /// Requests per second for the key.
    pub rate: f64,
}

impl Economics {
    /// The TTL (s, at most `cap`) with the lowest cost per request. Constant time, no allocation.
    pub fn best_ttl(&self, survival: &Survival<'_>, cap: f64) -> f64 {
        if let Some(draws) = survival.draws() {
            return last_below(survival, cap, |age, changed, area| {
                let (now, sums) = Reads::of(draws, age, changed, area);
                now.stale * sums.answers(draws, age) < (now.steady + draws.still(age)) * (self.kappa + sums.stale)
            });
        }
        last_below(survival, cap, |age, changed, area| changed * (1.0 + self.rate * age) - self.rate * area < self.kappa)
    }

    /// The longest TTL (s, at most `cap`) whose expected share of stale answers is at most `budget`.
    pub fn longest_within(&self, survival: &Survival<'_>, budget: f64, cap: f64) -> f64 {
        if let Some(draws) = survival.draws() {
            return last_below(survival, cap, |age, changed, area| {
                let (_, sums) = Reads::of(draws, age, changed, area);
                sums.stale <= budget * (1.0 + sums.steady)
            });
        }
        last_below(survival, cap, |age, _, area| self.rate * area <= budget * (1.0 + self.rate * age))
    }

    /// Cost per request of a TTL, in units of one stale answer.
    pub fn cost(&self, survival: &Survival<'_>, ttl: f64) -> f64 {
        if let Some(draws) = survival.draws() {
            let (_, sums) = Reads::of(draws, ttl, survival.changed(ttl), survival.changed_area(ttl));
            return (self.kappa + sums.stale) / sums.answers(draws, ttl);
        }
        (self.kappa + self.rate * survival.changed_area(ttl)) / (1.0 + self.rate * ttl)
    }

    /// Expected share of stale answers under a TTL.
    pub fn stale_share(&self, survival: &Survival<'_>, ttl: f64) -> f64 {
        self.rate * survival.changed_area(ttl) / (1.0 + self.rate * ttl)
    }
}

/// Requests for a copy whose changes draw readers: all but those that an earlier change still draws, and the stale ones among them.
#[derive(Clone, Copy, Debug)]
struct Reads {
    steady: f64,
    stale: f64,
}

impl Reads {
    /// Per second at `age`, and in all up to it, where the copy has changed by then with the probability `changed`, which sums up to `area` seconds. A change at `u`
    /// draws `m / d e^(-(t - u) / d)` at `t`, all of whom get a stale answer; for `u` the mean hazard so far is taken.
    fn of(draws: &Draws, age: f64, changed: f64, area: f64) -> (Self, Self) {
        let hazard = -(-changed.min(SURE)).ln_1p() / age.max(1e-3);
        let come = draws.come(age);
        let drawn = draws.reads * hazard * come;
        let all = draws.reads * hazard * (age - draws.delay_s * come);
        let background = draws.background;
        let now = Self { steady: background + drawn, stale: background * changed + drawn };
        (now, Self { steady: background * age + all, stale: background * area + all })
    }
}

impl Reads {
    /// Answers from the fetch to `age`, of which these are sums: with that fetch's own, and those that an earlier change still draws.
    fn answers(&self, draws: &Draws, age: f64) -> f64 {
        1.0 + self.steady + (draws.still(0.0) - draws.still(age)) * draws.delay_s
    }
}

/// Probabilities are taken for no greater when a hazard is read from them.
const SURE: f64 = 0.999_999;

/// The last age up to `cap` at which `below(age, F, G)` holds, where it holds first and then no more.
fn last_below(survival: &Survival<'_>, cap: f64, below: impl Fn(f64, f64, f64) -> bool) -> f64 {
    let mut end = 0.0;
    for segment in survival.segments() {
        let segment_end = segment.end.min(cap);
        if segment_end <= segment.start {
            break;
        }
        if !holds(&segment, segment_end, &below) {
            return bisect(&segment, segment_end, &below);
        }
        end = segment_end;
    }
    end
}

fn holds(segment: &Segment, age: f64, below: &impl Fn(f64, f64, f64) -> bool) -> bool {
    let (changed, area) = segment.changed(age);
    below(age, changed, area)
}

fn bisect(segment: &Segment, end: f64, below: &impl Fn(f64, f64, f64) -> bool) -> f64 {
    let (mut low, mut high) = (segment.start, end);
    for _ in 0..STEPS {
        let middle = 0.5 * (low + high);
        if holds(segment, middle, below) {
            low = middle;
        } else {
            high = middle;
        }
    }
    low
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn logs() -> impl Strategy<Value = [f32; 8]> {
        proptest::array::uniform8(-14.0..-3.0f32)
    }

    /// Geometric grid with steps of 2 per mille.
    fn grid(cap: f64) -> impl Iterator<Item = f64> {
        std::iter::successors(Some(0.01), |t| Some(t * 1.002)).take_while(move |t| *t < cap).chain([0.0, cap])
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
        #[test]
        fn no_ttl_of_a_grid_is_cheaper(
            logs in logs(), log_kappa in -9.0..3.0f64, log_rate in -10.0..4.0f64, cap in 1.0..200_000.0f64, frailty in 0.2..30.0f64,
        ) {
            let survival = Survival::from_log_hazards(&logs).with_frailty(frailty);
            let economics = Economics { kappa: log_kappa.exp(), rate: log_rate.exp() };
            let best = economics.best_ttl(&survival, cap);
            prop_assert!((0.0..=cap).contains(&best));
            let cost = economics.cost(&survival, best);
            let (t, other) = grid(cap).map(|t| (t, economics.cost(&survival, t))).min_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
            prop_assert!(cost <= other * (1.0 + 1e-5), "{best}: {cost}, {t}: {other}");
        }

        #[test]
        fn the_budget_holds_and_is_used(logs in logs(), budget in 0.0001..0.2f64, log_rate in -8.0..4.0f64, cap in 1.0..200_000.0f64) {
            let survival = Survival::from_log_hazards(&logs);
            let economics = Economics { kappa: 1.0, rate: log_rate.exp() };
            let ttl = economics.longest_within(&survival, budget, cap);
            prop_assert!(economics.stale_share(&survival, ttl) <= budget * 1.000_1);
            prop_assert!(ttl >= cap || economics.stale_share(&survival, ttl * 1.01 + 1e-6) > budget);
        }
    }

    /// Cost per request where changes draw readers, and the share that is stale of those that no earlier change has drawn, both written out.
    fn drawn(hazard: f64, draws: &Draws, kappa: f64, ttl: f64) -> (f64, f64) {
        let steps = 20_000;
        let h = ttl / f64::from(steps);
        let (mut stale, mut steady, mut still) = (0.0, 0.0, 0.0);
        for n in 0..steps {
            let at = (f64::from(n) + 0.5) * h;
            let new = draws.reads * hazard * (1.0 - (-at / draws.delay_s).exp());
            stale += h * (draws.background * (1.0 - (-hazard * at).exp()) + new);
            steady += h * (draws.background + new);
            still += h * draws.reads / draws.delay_s * (-(draws.since_s + at) / draws.delay_s).exp();
        }
        ((kappa + stale) / (1.0 + steady + still), stale / (1.0 + steady))
    }

    #[test]
    fn readers_that_changes_draw_are_in_the_bill() {
        for (hazard, background, kappa, since_s) in
            [(2.8e-4, 6e-4, 0.2, f64::MAX), (2.8e-4, 6e-4, 0.2, 60.0), (1.2e-5, 3e-4, 0.4, f64::MAX), (7e-5, 2e-3, 0.1, 100.0)]
        {
            let draws = Draws { reads: 3.0, delay_s: 180.0, background, since_s };
            let (survival, economics) = (Survival::constant(hazard).with_draws(draws), Economics { kappa, rate: background });
            let best = economics.best_ttl(&survival, 86_400.0);
            let cost = |ttl| drawn(hazard, &draws, kappa, ttl).0;
            assert!((economics.cost(&survival, best) / cost(best) - 1.0).abs() < 0.02, "{hazard} {since_s}");
            for factor in [0.25, 0.5, 0.8, 1.25, 2.0, 4.0] {
                assert!(cost(best) <= cost(best * factor) * 1.000_1, "{hazard} {since_s}: {best} against {}", best * factor);
            }
            let plain = economics.best_ttl(&Survival::constant(hazard), 86_400.0);
            assert!(since_s < 1e9 || best < plain, "{best} {plain}");
            let within = economics.longest_within(&survival, 0.01, 86_400.0);
            assert!((drawn(hazard, &draws, kappa, within).1 - 0.01).abs() < 1e-4, "{within}");
        }
    }

    #[test]
    fn a_small_hazard_keeps_its_digits_under_frailty() {
        let mut logs = [-3.0f32; 8];
        logs[0] = -13.695_598;
        let (survival, plain) = (Survival::from_log_hazards(&logs).with_frailty(25.2), Survival::from_log_hazards(&logs));
        let economics = Economics { kappa: 5.5e-4, rate: 8.7 };
        let (best, expected) = (economics.best_ttl(&survival, 1e5), economics.best_ttl(&plain, 1e5));
        assert!((best / expected - 1.0).abs() < 1e-4, "{best} {expected}");
        let ratio = economics.cost(&survival, best) / economics.cost(&plain, expected);
        assert!((ratio - 1.0).abs() < 1e-6, "{ratio}");
    }

    #[test]
    fn the_published_equation_holds_for_a_constant_hazard() {
        for (hazard, rate, kappa) in [(1e-3f64, 1.0f64, 0.1f64), (1e-4, 0.001, 0.5), (0.01, 10.0, 2.0), (1e-5, 0.01, 0.01)] {
            let ttl = Economics { kappa, rate }.best_ttl(&Survival::constant(hazard), 1e7);
            let (x, rho) = (hazard * ttl, rate / hazard);
            let left = (1.0 - (-x).exp()) * (1.0 + rho) - rho * x * (-x).exp();
            assert!((left - kappa).abs() < 1e-3 * kappa, "{hazard} {rate} {kappa}: {left}");
        }
    }

    #[test]
    fn no_expiry_pays_when_stale_answers_are_cheap() {
        let (hazard, rate) = (0.01, 0.05);
        // Just beyond 1 + rho; at it, the optimum is reached only in the limit.
        let ttl = |kappa: f64| Economics { kappa, rate }.best_ttl(&Survival::constant(hazard), 86_400.0);
        assert_eq!(ttl(1.001 * (1.0 + rate / hazard)), 86_400.0);
        assert!(ttl(0.5 * (1.0 + rate / hazard)) < 1_000.0);
    }
}

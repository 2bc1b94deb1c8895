//! Refresh-ahead of hot keys: the same rule, at a random early time that is only the *time* of one single-flight refresh.

use farthing_types::{Draw, DrawKind, Span, Time};

use super::Stakes;

/// Probability that a key read `rate` times a second is read within `span`, reads being Poisson.
pub fn read_within(rate: f64, span: Span) -> f64 {
    if rate.is_nan() { 0.0 } else { 1.0 - (-rate.max(0.0) * span.as_secs_f64()).exp() }
}

/// How long before its expiry a copy is to be refreshed: `−β δ ln u`, so that the chance to be refreshed at a gap of `g` or more
/// before the expiry is `e^{−g / (β δ)}` (Vattani, Chierichetti and Lowenstein, "Optimal probabilistic cache stampede
/// prevention", VLDB 2015). `delta` is the latency of the call, `u` a uniform draw; never longer than `ttl`.
pub fn early_by(beta: f64, delta: Span, u: f64, ttl: Span) -> Span {
    let gap = -beta.max(0.0) * delta.as_secs_f64() * u.clamp(1e-12, 1.0).ln();
    Span::try_from_secs_f64(gap).unwrap_or(ttl).min(ttl)
}

/// Share of an entry's lifetime that refreshing ahead may give away on average.
const MOST_GIVEN: u32 = 10;

/// Refresh-ahead of one route, as configured.
#[derive(Clone, Copy, Debug)]
pub struct RefreshAhead<'a> {
    /// Mean time before its expiry at which an entry that is still read is refreshed; zero: never.
    pub mean: Span,
    /// Scope of the draws: the route's name.
    pub scope: &'a str,
    /// The source of draws.
    pub draw: Draw,
}

impl RefreshAhead<'_> {
    /// Whether a read at `age`, with `left` to the expiry, is the time to refresh the entry of `key` ([`farthing_types::KeyHash::short`], as
    /// logged) fetched at `fetched_at`. Each entry has
    /// one time of its own (the same on every instance); the first read after it refreshes, by a single flight like any other.
    pub fn is_due(&self, (key, fetched_at): (u64, Time), age: Span, left: Span) -> bool {
        let lifetime = age.saturating_add(left);
        let mean = self.mean.min(lifetime / MOST_GIVEN);
        // An earlier time than twenty means has a chance of 2e-9: no hash is paid for it.
        if mean.is_zero() || left > mean.saturating_mul(20) {
            return false;
        }
        let u = self.draw.uniform(DrawKind::EarlyRefresh, self.scope, u128::from(key), fetched_at.millis());
        left <= early_by(1.0, mean, u, lifetime)
    }
}

/// Whether refreshing `early` before the expiry pays for a key of this `rate`: a read within the new copy's `ttl` uses it; what is
/// left of the old copy is thrown away. `stakes.thrown` is computed here.
pub fn refresh_pays(stakes: Stakes, rate: f64, ttl: Span, early: Span) -> bool {
    let thrown = if ttl.is_zero() { 1.0 } else { (early.as_secs_f64() / ttl.as_secs_f64()).min(1.0) };
    Stakes { thrown, ..stakes }.pays(read_within(rate, ttl))
}

#[cfg(test)]
mod tests {
    use farthing_types::Money;

    use super::*;

    #[test]
    fn the_early_gap_has_the_stated_law() {
        let (beta, delta, draws) = (1.0, Span::from_millis(500), 20_000u32);
        let gap = |i: u32| {
            let u = Draw::new(3).uniform(DrawKind::EarlyRefresh, "r", u128::from(i), 0);
            early_by(beta, delta, u, Span::from_secs(60)).as_secs_f64()
        };
        for g in [0.25, 0.5, 1.0, 2.0] {
            let share = (0..draws).filter(|i| gap(*i) >= g).count() as f64 / f64::from(draws);
            assert!((share - (-g / 0.5f64).exp()).abs() < 0.012, "{g}: {share}");
        }
        assert_eq!(early_by(1.0, delta, 0.0, Span::from_secs(1)), Span::from_secs(1));
        assert_eq!(early_by(0.0, delta, 0.5, Span::from_secs(1)), Span::ZERO);
    }

    #[test]
    fn an_entry_has_one_time_of_its_own_within_its_lifetime() {
        let ahead = |mean_ms| RefreshAhead { mean: Span::from_millis(mean_ms), scope: "r", draw: Draw::new(3) };
        let (lifetime, fetched_at) = (Span::from_secs(60), Time::from_millis(1_000));
        let due = |ahead: RefreshAhead<'_>, key: u32, left_ms: u64| {
            let left = Span::from_millis(left_ms);
            ahead.is_due((u64::from(key), fetched_at), lifetime.saturating_sub(left), left)
        };
        let share = |mean, left| (0..10_000).filter(|key| due(ahead(mean), *key, left)).count() as f64 / 10_000.0;
        assert!((share(2_000, 2_000) - (-1.0f64).exp()).abs() < 0.02, "{}", share(2_000, 2_000));
        // No more than a tenth of the lifetime is given away, whatever is asked for.
        assert!((share(600_000, 6_000) - (-1.0f64).exp()).abs() < 0.02, "{}", share(600_000, 6_000));
        assert_eq!((share(0, 0), share(2_000, 59_000)), (0.0, 0.0));
        for key in 0..200 {
            let first = (0..=60_000).rev().step_by(50).find(|left| due(ahead(2_000), key, *left)).unwrap_or(0);
            assert!((0..first).step_by(500).all(|left| due(ahead(2_000), key, left)), "once due, it stays due");
        }
    }

    #[test]
    fn hot_keys_are_refreshed_for_latency_never_for_money_alone() {
        let call = Money::from_nanos(1_000_000);
        let money_only = Stakes { call, ahead: call, latency: Money::ZERO, thrown: 0.0 };
        let (ttl, early) = (Span::from_secs(60), Span::from_millis(500));
        assert!(!refresh_pays(money_only, 1_000.0, ttl, early));
        let latency = Stakes { latency: Money::from_nanos(200_000), ..money_only };
        assert!(refresh_pays(latency, 1.0, ttl, early) && !refresh_pays(latency, 0.01, ttl, early));
        assert!(!refresh_pays(latency, 1.0, ttl, Span::from_secs(30)), "half a lifetime thrown away");
        assert_eq!(read_within(f64::NAN, ttl), 0.0);
    }
}

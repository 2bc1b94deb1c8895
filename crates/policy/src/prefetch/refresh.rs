//! Refresh-ahead of hot keys: the same rule, at a random early time that is only the *time* of one single-flight refresh.

use farthing_types::Span;

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

/// Whether refreshing `early` before the expiry pays for a key of this `rate`: a read within the new copy's `ttl` uses it; what is
/// left of the old copy is thrown away. `stakes.thrown` is computed here.
pub fn refresh_pays(stakes: Stakes, rate: f64, ttl: Span, early: Span) -> bool {
    let thrown = if ttl.is_zero() { 1.0 } else { (early.as_secs_f64() / ttl.as_secs_f64()).min(1.0) };
    Stakes { thrown, ..stakes }.pays(read_within(rate, ttl))
}

#[cfg(test)]
mod tests {
    use farthing_types::{Draw, DrawKind, Money};

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

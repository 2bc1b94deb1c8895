//! The TTL rule: a base TTL times a factor by how often fetches found a change. Needs no model, no price and no training.

use farthing_contract::features::TtlInput;
use farthing_types::Span;

/// Share of changes at which the factors switch, and the factors.
const STEPS: [(f64, f64); 3] = [(0.1, 2.0), (0.3, 1.0), (0.6, 0.5)];
const WORST: f64 = 0.25;

/// `base * f(q)`: q < 0.1 doubles, < 0.3 keeps, < 0.6 halves, else a quarter; halved again in volatile hours.
/// A key without a second fetch (`None`) gets the base.
pub fn ttl(base: Span, changed_share: Option<f64>, volatile: bool) -> Span {
    let factor = changed_share.map_or(1.0, |q| STEPS.iter().find(|(edge, _)| q < *edge).map_or(WORST, |(_, factor)| *factor));
    base.mul_f64(if volatile { factor / 2.0 } else { factor })
}

/// Whether the route changes now at more than twice its usual rate for this key's kind.
pub fn volatile_hour(input: &TtlInput<'_>) -> bool {
    input.route.cell_hazard(input.key, input.now) > 2.0 * input.route.hazard()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_factors_are_those_of_the_rule() {
        let base = Span::from_secs(60);
        for (q, seconds) in [(None, 60), (Some(0.05), 120), (Some(0.1), 60), (Some(0.3), 30), (Some(0.6), 15), (Some(1.0), 15)] {
            assert_eq!(ttl(base, q, false), Span::from_secs(seconds), "{q:?}");
            assert_eq!(ttl(base, q, true), Span::from_secs(seconds) / 2, "{q:?}");
        }
    }
}

//! How many answers are really stale, by asking the origin about some of them; and TTLs that are cut while it is more than the budget allows.
//!
//! The interval is the set of shares that a beta-binomial mixture does not refute (Robbins, "Statistical methods related to the law of the iterated
//! logarithm", Annals of Mathematical Statistics 1970): with the prior Beta(a, b) the ratio `B(a + k, b + n - k) / B(a, b) / (p^k (1 - p)^(n - k))` is a
//! martingale where `p` is true, so it reaches `1 / alpha` with a probability of at most `alpha`, at all times together (Ville's inequality).

/// The interval misses the truth, ever, with at most this probability.
const ALPHA: f64 = 0.05;
/// The prior expects few stale answers.
const PRIOR: (f64, f64) = (0.5, 50.0);
/// TTLs are cut to a half; what was cut comes back in smaller steps.
const CUT: f64 = 0.5;
const BACK: f64 = 1.25;
/// The least that TTLs are cut to.
const LEAST: f64 = 1.0 / 64.0;
/// Steps of the bisection.
const STEPS: u32 = 60;

/// The audits of one route. All fields are kept over a restart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Audit {
    /// What chosen TTLs are multiplied by; 1 at most.
    pub scale: f64,
    /// Answers checked since it last moved, and the stale ones among them.
    pub window: (u64, u64),
    /// The same since the route is known.
    pub total: (u64, u64),
}

/// How TTLs were moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditMove {
    /// Cut: more answers are stale than allowed, for sure.
    Tightened,
    /// Given back by a step: fewer are, for sure.
    Relaxed,
}

impl Default for Audit {
    fn default() -> Self {
        Self { scale: 1.0, window: (0, 0), total: (0, 0) }
    }
}

impl Audit {
    /// Learns of a checked answer. `may_relax`: automation is not frozen; tightening is a safeguard.
    pub fn add(&mut self, stale: bool, (budget, may_relax): (f64, bool)) -> Option<AuditMove> {
        for counted in [&mut self.window, &mut self.total] {
            counted.0 += 1;
            counted.1 += u64::from(stale);
        }
        let (low, high) = interval(self.window);
        let (moved, scale) = if low > budget && self.scale > LEAST {
            (AuditMove::Tightened, (self.scale * CUT).max(LEAST))
        } else if high < budget && self.scale < 1.0 && may_relax {
            (AuditMove::Relaxed, (self.scale * BACK).min(1.0))
        } else {
            return None;
        };
        // What was seen under other TTLs says nothing about these.
        (self.scale, self.window) = (scale, (0, 0));
        Some(moved)
    }

    /// The share of stale answers under the present TTLs, with its interval; `None` before any was checked.
    pub fn share(&self) -> Option<(f64, (f64, f64))> {
        let (checked, stale) = self.window;
        (checked > 0).then(|| (stale as f64 / checked as f64, interval(self.window)))
    }
}

/// The shares that are not refuted by so many checked answers and the stale ones among them.
pub fn interval((checked, stale): (u64, u64)) -> (f64, f64) {
    if checked == 0 {
        return (0.0, 1.0);
    }
    let (n, k) = (checked as f64, stale as f64);
    let mixture = ln_beta(PRIOR.0 + k, PRIOR.1 + n - k) - ln_beta(PRIOR.0, PRIOR.1);
    let refuted = |p: f64| mixture - k * p.ln() - (n - k) * (-p).ln_1p() > -ALPHA.ln();
    let (middle, least, most) = (k / n, f64::MIN_POSITIVE, 1.0 - f64::EPSILON);
    let low = if stale == 0 { 0.0 } else { bisect(least, middle.min(most), refuted) };
    let high = if stale == checked { 1.0 } else { bisect(most, middle.max(least), refuted) };
    (low, high)
}

/// The place between `out`, where it holds, and `inside`, where it does not.
fn bisect(mut out: f64, mut inside: f64, refuted: impl Fn(f64) -> bool) -> f64 {
    for _ in 0..STEPS {
        let middle = 0.5 * (out + inside);
        if refuted(middle) { out = middle } else { inside = middle }
    }
    inside
}

fn ln_beta(a: f64, b: f64) -> f64 {
    ln_gamma(a) + ln_gamma(b) - ln_gamma(a + b)
}

/// Stirling's series, shifted to where it is exact to 1e-12.
fn ln_gamma(x: f64) -> f64 {
    let (mut x, mut shift) = (x, 0.0);
    while x < 12.0 {
        shift += x.ln();
        x += 1.0;
    }
    let inverse = 1.0 / (x * x);
    let series = (1.0 / 12.0 - inverse * (1.0 / 360.0 - inverse * (1.0 / 1_260.0 - inverse / 1_680.0))) / x;
    (x - 0.5) * x.ln() - x + 0.5 * std::f64::consts::TAU.ln() + series - shift
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng, rngs::StdRng};

    #[test]
    fn the_gamma_function_is_right() {
        for (x, wanted) in [(1.0, 0.0), (0.5, 0.572_364_942_924_700_1), (10.0, 12.801_827_480_081_469), (100.5, 361.435_540_467_777_3)] {
            assert!((ln_gamma(x) - wanted).abs() < 1e-9, "{x}: {}", ln_gamma(x));
        }
    }

    #[test]
    fn the_interval_holds_at_all_times_together() {
        let mut missed = 0;
        for seed in 0..400 {
            let mut rng = StdRng::seed_from_u64(seed);
            let truth = 10f64.powf(rng.random_range(-3.0..-0.3));
            let mut seen = (0, 0);
            let ever = (0..2_000).any(|_| {
                seen = (seen.0 + 1, seen.1 + u64::from(rng.random::<f64>() < truth));
                let (low, high) = interval(seen);
                !(low..=high).contains(&truth)
            });
            missed += usize::from(ever);
        }
        assert!(missed <= 20, "{missed} of 400");
        let (low, high) = interval((2_000, 20));
        assert!(low > 0.004 && high < 0.02, "{low} {high}");
        assert_eq!(interval((0, 0)), (0.0, 1.0));
        assert!(interval((5, 5)).1 == 1.0 && interval((5, 0)).0 == 0.0);
    }

    /// A route whose stale share is that of its TTLs; says the share after so many audits, and how often TTLs were cut.
    fn settled(at_full: f64, audits: usize, seed: u64) -> (f64, usize) {
        let (mut rng, mut audit, mut cuts) = (StdRng::seed_from_u64(seed), Audit::default(), 0);
        for _ in 0..audits {
            let stale = rng.random::<f64>() < at_full * audit.scale;
            cuts += usize::from(audit.add(stale, (0.01, true)) == Some(AuditMove::Tightened));
        }
        (at_full * audit.scale, cuts)
    }

    #[test]
    fn ttls_are_cut_until_the_budget_is_kept_and_not_without_need() {
        for seed in 0..20 {
            let (share, cuts) = settled(0.08, 6_000, seed);
            assert!(share <= 0.02 && cuts >= 2, "{seed}: {share}");
        }
        let needless = (0..100).filter(|seed| settled(0.01, 3_000, *seed).1 > 0).count();
        assert!(needless <= 5, "{needless}");
    }

    #[test]
    fn what_was_cut_comes_back_slowly_and_not_while_frozen() {
        let mut audit = Audit { scale: 0.25, ..Audit::default() };
        assert!((0..3_000).all(|_| audit.add(false, (0.01, false)).is_none()));
        let moved = (0..3_000).filter(|_| audit.add(false, (0.01, true)) == Some(AuditMove::Relaxed)).count();
        assert!((2..=7).contains(&moved) && audit.scale > 0.25 && audit.scale <= 1.0, "{moved} {}", audit.scale);
        assert_eq!(audit.total, (6_000, 0));
    }
}

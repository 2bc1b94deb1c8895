//! Survival of a copy whose change hazard is constant within each age interval, up to an unknown factor per key.

use farthing_contract::features::{Ahead, Draws, TTL_HORIZONS, TTL_OUTPUTS, TtlInput};

/// The change hazard of a copy by its age.
///
/// With frailty `a` the hazard carries an unknown factor with a Gamma distribution of mean 1 and shape `a`, which gives the
/// survival `(1 + L / a)^-a` for the cumulated hazard `L`; without, `e^-L` (the limit of large `a`).
#[derive(Clone, Copy, Debug)]
pub struct Survival<'a> {
    ahead: Ahead<'a>,
    /// Factors on it, per age interval.
    factors: [f64; TTL_OUTPUTS],
    frailty: f64,
    /// Readers that changes draw, where they do.
    draws: Option<Draws>,
}

/// Frailty shapes above this are taken as none.
const NO_FRAILTY: f64 = 1e3;

/// Largest correction a predictor may make, as a natural log: a factor of 20.
const MAX_CORRECTION: f32 = 3.0;

impl<'a> Survival<'a> {
    /// The live statistics of the copy, corrected by a predictor's outputs ([`TTL_HORIZONS`]). That the key's factor is not known
    /// exactly is its frailty: with the mean alone, the probability of a change would be overstated.
    pub fn corrected(input: &TtlInput<'a>, outputs: &[f32; TTL_OUTPUTS]) -> Self {
        let factors = outputs.map(|o| f64::from(o.clamp(-MAX_CORRECTION, MAX_CORRECTION)).exp());
        Self { ahead: input.ahead(), factors, frailty: input.route.certainty(input.key), draws: input.route.draws(input.key, input.now) }
    }

    /// From the natural logs of hazards (1/s), one per interval of [`TTL_HORIZONS`].
    pub fn from_log_hazards(logs: &[f32; TTL_OUTPUTS]) -> Self {
        Self { factors: logs.map(|log| f64::from(log).clamp(-25.0, 5.0).exp()), ..Self::constant(1.0) }
    }

    /// A hazard that does not depend on age, 1/s.
    pub fn constant(hazard: f64) -> Self {
        Self { ahead: Ahead::constant(hazard.clamp(1e-11, 1e2)), factors: [1.0; TTL_OUTPUTS], frailty: f64::INFINITY, draws: None }
    }

    /// The same with an unknown factor of mean 1 and Gamma shape `shape` (at least 0.05).
    pub fn with_frailty(self, shape: f64) -> Self {
        Self { frailty: shape.max(0.05), ..self }
    }

    /// The same where changes draw readers.
    pub fn with_draws(self, draws: Draws) -> Self {
        Self { draws: Some(draws), ..self }
    }

    /// Probability that the copy has changed by age `seconds`.
    pub fn changed(&self, seconds: f64) -> f64 {
        self.at(seconds).0
    }

    /// Integral of [`Survival::changed`] from 0 to `seconds`: expected stale time of a copy kept so long.
    pub fn changed_area(&self, seconds: f64) -> f64 {
        self.at(seconds).1
    }

    /// Probability that the key's next request finds a change when it comes `seconds` after the fetch and all are passed through. Where changes draw
    /// their readers a silence says that there was none, so it is less than [`Survival::changed`] after a long one and more after a short one.
    pub fn found_by_next(&self, seconds: f64) -> f64 {
        let Some(draws) = self.draws else { return self.changed(seconds) };
        let segment = self.segments().take_while(|s| s.start < seconds).last();
        let told = segment.map_or(0.0, |s| draws.found(s.expected(seconds), seconds));
        let unchanged = if self.frailty > NO_FRAILTY { -told } else { -self.frailty * (told / self.frailty).ln_1p() };
        -unchanged.exp_m1()
    }

    /// Readers that changes draw to the key; `None` where they do not show any.
    pub(super) const fn draws(&self) -> Option<&Draws> {
        self.draws.as_ref()
    }

    fn at(&self, seconds: f64) -> (f64, f64) {
        self.segments().take_while(|s| s.start < seconds).last().map_or((0.0, 0.0), |s| s.changed(seconds))
    }

    /// Stretches of constant hazard: those of the live statistics, cut at the age intervals.
    pub(super) fn segments(&self) -> impl Iterator<Item = Segment> + '_ {
        let mut stretches = self.ahead.stretches();
        let (mut stretch_end, mut hazard) = (0.0, 0.0);
        let (mut start, mut cumulated, mut area, mut interval) = (0.0, 0.0, 0.0, 0);
        let (frailty, factors) = (self.frailty, self.factors);
        std::iter::from_fn(move || {
            if start >= stretch_end {
                let stretch = stretches.next()?;
                (stretch_end, hazard) = (stretch.end, stretch.hazard);
            }
            let edge = TTL_HORIZONS.get(interval).copied().unwrap_or(f64::INFINITY);
            let end = edge.min(stretch_end);
            let segment = Segment { start, end, hazard: hazard * factors[interval], cumulated, area, frailty };
            if end.is_finite() {
                area = segment.changed(end).1;
                cumulated += segment.hazard * (end - start);
            }
            interval += usize::from(edge <= stretch_end);
            start = end;
            (segment.start < f64::INFINITY).then_some(segment)
        })
    }
}

/// One age interval with what came before it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment {
    pub start: f64,
    pub end: f64,
    hazard: f64,
    cumulated: f64,
    area: f64,
    frailty: f64,
}

impl Segment {
    /// Probability of a change by `age` within the interval, and its integral from 0.
    pub fn changed(&self, age: f64) -> (f64, f64) {
        let span = age - self.start;
        let added = self.hazard * span;
        let (alive, alive_area) = if self.frailty > NO_FRAILTY { self.plain(span, added) } else { self.frail(span, added) };
        (1.0 - alive, self.area + (span - alive_area).max(0.0))
    }

    /// Changes expected from age zero to `age` within the interval.
    fn expected(&self, age: f64) -> f64 {
        self.cumulated + self.hazard * (age - self.start)
    }

    /// Survival at the end of `span` and its integral over it.
    fn plain(&self, span: f64, added: f64) -> (f64, f64) {
        let before = (-self.cumulated).exp();
        let area = if added < 1e-6 { span * (1.0 - 0.5 * added) } else { -(-added).exp_m1() / self.hazard };
        (before * (-added).exp(), before * area)
    }

    fn frail(&self, span: f64, added: f64) -> (f64, f64) {
        let shape = self.frailty;
        let (before, after) = (self.cumulated / shape, (self.cumulated + added) / shape);
        let low = before.ln_1p();
        // Not ln(1 + after) - low: both are tiny for a small hazard, and the area of stale time is what is left of their difference.
        let width = ((after - before) / (1.0 + before)).ln_1p();
        let alive = (-shape * (low + width)).exp();
        // Integral of (1 + u)^-shape du from `before` to `after`, times shape / hazard; with w = ln(1 + u): of e^((1 - shape) w) dw.
        let k = 1.0 - shape;
        let integral = (k * low).exp() * if (k * width).abs() < 1e-9 { width } else { (k * width).exp_m1() / k };
        let area = if added < 1e-6 { span * (-shape * low).exp() * (1.0 - 0.5 * added) } else { integral * shape / self.hazard };
        (alive, area)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_area_is_the_integral(logs in proptest::array::uniform8(-14.0..-3.0f32), age in 1.0..400_000.0f64, frailty in 0.2..50.0f64) {
            for survival in [Survival::from_log_hazards(&logs), Survival::from_log_hazards(&logs).with_frailty(frailty)] {
                // Simpson's rule within each interval, where the survival is smooth.
                let mut sum = 0.0;
                for segment in survival.segments().take_while(|s| s.start < age) {
                    let (a, b) = (segment.start, segment.end.min(age));
                    let n = 2_000;
                    let h = (b - a) / f64::from(n);
                    for i in 0..n {
                        let x = a + h * f64::from(i);
                        sum += h / 6.0 * (segment.changed(x).0 + 4.0 * segment.changed(x + 0.5 * h).0 + segment.changed(x + h).0);
                    }
                }
                let area = survival.changed_area(age);
                prop_assert!((area - sum).abs() <= 1e-4 * sum + 1e-3, "{area} {sum}");
            }
        }
    }

    #[test]
    fn where_changes_draw_readers_a_silence_says_that_there_was_none() {
        let plain = Survival::constant(1e-4);
        assert_eq!(plain.found_by_next(3_000.0), plain.changed(3_000.0));
        let survival = plain.with_draws(Draws { reads: 3.0, delay_s: 180.0, background: 1e-3, since_s: f64::MAX });
        // After a minute a request is more likely drawn than its age says, after an hour's silence less.
        assert!(survival.found_by_next(60.0) > plain.changed(60.0));
        assert!(survival.found_by_next(20_000.0) < 0.5 * plain.changed(20_000.0));
        let frail = survival.with_frailty(999.9);
        assert!((frail.found_by_next(500.0) - survival.found_by_next(500.0)).abs() < 1e-3);
        assert_eq!(survival.changed(500.0), plain.changed(500.0));
    }

    #[test]
    fn much_information_means_no_frailty() {
        let plain = Survival::constant(1e-3);
        for age in [10.0, 1_000.0, 50_000.0] {
            assert!((plain.with_frailty(999.0).changed(age) - plain.changed(age)).abs() < 1e-3);
            assert!((plain.changed(age) - (1.0 - (-1e-3f64 * age).exp())).abs() < 1e-9);
        }
    }
}

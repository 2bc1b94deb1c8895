//! What a decision foretold: the chance that a copy has changed by an age, kept small so that it can be held against what the next fetch finds.

use super::Survival;

/// Ages at which the cumulated hazard is kept, seconds; between them it is taken as straight, beyond the last it goes on as before.
const AGES: [f64; 9] = [5.0, 20.0, 60.0, 240.0, 900.0, 3_600.0, 14_400.0, 43_200.0, 86_400.0];

/// The cumulated hazard `-ln(1 - F)` of a copy at some ages.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Forecast([f32; AGES.len()]);

impl Forecast {
    /// What a survival foretells.
    pub fn of(survival: &Survival<'_>) -> Self {
        let (mut kept, mut ages) = ([0.0; AGES.len()], AGES.iter().zip(0..).peekable());
        for segment in survival.segments() {
            while let Some((age, index)) = ages.next_if(|(age, _)| **age <= segment.end) {
                kept[index] = -(-segment.changed(*age).0).ln_1p() as f32;
            }
            if ages.peek().is_none() {
                break;
            }
        }
        Self(kept)
    }

    /// Changes foretold by age `seconds`, with what is not known of the key taken in: `-ln(1 - F)`.
    pub fn cumulated(&self, seconds: f64) -> f64 {
        let after = AGES.iter().position(|age| seconds <= *age).unwrap_or(AGES.len() - 1);
        let at = |index: usize| f64::from(self.0[index]);
        let (from, low) = if after == 0 { (0.0, 0.0) } else { (AGES[after - 1], at(after - 1)) };
        let slope = (at(after) - low).max(0.0) / (AGES[after] - from);
        low + slope * (seconds - from).max(0.0)
    }

    /// The chance that the copy has changed by age `seconds`.
    pub fn changed_by(&self, seconds: f64) -> f64 {
        -(-self.cumulated(seconds)).exp_m1()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn between_its_ages_a_forecast_is_what_it_was_made_from() {
        let constant = Forecast::of(&Survival::constant(2e-4));
        for age in [1.0, 30.0, 500.0, 9_000.0, 1e6] {
            let wanted = 1.0 - (-2e-4f64 * age).exp();
            assert!((constant.changed_by(age) - wanted).abs() < 1e-4, "{age}: {}", constant.changed_by(age));
        }
        // What is not known of a key bends it; between two ages that is missed by little.
        let survival = Survival::constant(1e-4).with_frailty(2.0);
        let frail = Forecast::of(&survival);
        for age in [100.0, 2_000.0, 30_000.0, 100_000.0] {
            assert!((frail.changed_by(age) - survival.changed(age)).abs() < 0.02, "{age}");
        }
        assert_eq!(Forecast::default().changed_by(1e9), 0.0);
    }
}

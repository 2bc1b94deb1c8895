//! Which learner is shipped: the table, unless boosting or its blend with the table is worth its size on time it has not seen.

use farthing_replay::{Engine, Event, PassThroughAll, Trace};
use serde::Serialize;

use crate::evaluate::points::{self, Tried};
use crate::predictor::Trees;
use crate::trees::Ensemble;

/// Share of the bill that must be saved against the table, on average over [`BUDGETS`].
const WORTH: f64 = 0.05;
/// Staleness budgets at which it must be saved.
const BUDGETS: [f64; 3] = [0.01, 0.02, 0.05];
/// The budget at which the bill must not be higher than the table's.
const TIGHT: f64 = 0.001;

/// A learner that can be shipped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Chosen {
    /// The survival table.
    #[default]
    Table,
    /// Boosted trees.
    Boost,
    /// The mean of both.
    Blend,
}

impl Chosen {
    /// For reports and cards.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::Boost => "boosting",
            Self::Blend => "blend",
        }
    }
}

/// What was chosen, and the figures that decided.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Choice {
    /// The learner.
    pub chosen: Chosen,
    /// Bill of the boosting and of the blend over the table's: mean at the wide budgets, and at the tight one; none where it was not tried.
    pub boost: Option<(f64, f64)>,
    /// See `boost`.
    pub blend: Option<(f64, f64)>,
}

impl Choice {
    /// The choice in a sentence.
    pub fn why(&self) -> String {
        let of = |name: &str, ratios: Option<(f64, f64)>| {
            ratios.map_or_else(
                || format!("{name} not tried"),
                |(wide, tight)| {
                    format!(
                        "{name} {:+.1} % of the bill at 1 to 5 % stale and {:+.1} % at 0.1 %",
                        100.0 * (wide - 1.0),
                        100.0 * (tight - 1.0)
                    )
                },
            )
        };
        let figures = format!("{}; {}", of("boosting", self.boost), of("blend", self.blend));
        format!("{}, for against the table on later time: {figures} (needed: -5 %, and no more at 0.1 %)", self.chosen.as_str())
    }
}

/// Judges the learners on the events from `cut` on, none of which they have seen.
pub fn choose((trace, cut): (&Trace, usize), table: &Ensemble, boost: &Ensemble, blend: &Ensemble) -> Choice {
    let (before, later) = trace.events.split_at(cut.min(trace.events.len()));
    let mut engine = Engine::new(trace);
    engine.run(trace, before, &mut PassThroughAll);
    let sweep = |ensemble: &Ensemble| points::sweep(&engine, (trace, later), &Trees::levels(ensemble));
    let table = sweep(table);
    decide(ratios(&sweep(boost), &table), ratios(&sweep(blend), &table))
}

fn decide(boost: Option<(f64, f64)>, blend: Option<(f64, f64)>) -> Choice {
    let worth = |ratios: &(f64, f64)| ratios.0 <= 1.0 - WORTH && ratios.1 <= 1.0;
    let chosen = match (boost.filter(worth), blend.filter(worth)) {
        (Some(one), Some(both)) if one.0 < both.0 => Chosen::Boost,
        (_, Some(_)) => Chosen::Blend,
        (Some(_), None) => Chosen::Boost,
        (None, None) => Chosen::Table,
    };
    Choice { chosen, boost, blend }
}

/// Bills over those of the table at equal staleness; `None` where no staleness can be compared.
fn ratios(sweep: &[Tried], table: &[Tried]) -> Option<(f64, f64)> {
    let at = |budget: f64| Some(points::bill_at(sweep, budget)? / points::bill_at(table, budget)?);
    let wide: Vec<f64> = BUDGETS.iter().filter_map(|b| at(*b)).collect();
    let mean = wide.iter().sum::<f64>() / wide.len() as f64;
    // Where even the dearest stale answers leave more than the tight budget, the next one stands for it.
    (!wide.is_empty()).then(|| (mean, at(TIGHT).or_else(|| at(0.0025)).or_else(|| at(0.005)).unwrap_or(f64::INFINITY)))
}

/// What the events before `cut` are to a validation: the share of a log that candidates learn on while one is chosen.
pub const SHARE: f64 = 0.7;

/// Where the candidates of a choice stop learning.
pub fn cut(events: &[Event]) -> usize {
    (events.len() as f64 * SHARE) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boosting_must_be_worth_its_size() {
        let chosen = |boost, blend| decide(Some(boost), Some(blend)).chosen;
        assert_eq!(chosen((0.96, 0.9), (0.97, 0.9)), Chosen::Table);
        assert_eq!(chosen((0.90, 1.01), (0.94, 1.0)), Chosen::Blend);
        assert_eq!(chosen((0.90, 0.99), (0.94, 1.0)), Chosen::Boost);
        assert_eq!(chosen((0.80, 1.2), (0.94, 1.1)), Chosen::Table);
        assert_eq!(decide(None, None).chosen, Chosen::Table);
        assert!(decide(Some((0.9, 1.0)), None).why().contains("boosting -10.0 %"));
    }
}

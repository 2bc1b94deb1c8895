//! The model card: what a bundle is, how it was judged, and plots to look at. Markdown and SVG within the bundle, the same bytes for the same
//! data and seed.

mod plots;
pub mod svg;
mod text;

use farthing_contract::bundle::{Explainer, Kind, Table};

use crate::gate::Judgement;
use crate::learn::Examples;
use crate::publish::Card;
use crate::trees::Ensemble;

/// Rows over which importance is averaged.
const IMPORTANCE_ROWS: usize = 2_000;

/// One way of deciding at several settings: (stale share, bill as a share of that without a cache), in the order of the setting.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct Curve {
    /// Who.
    pub name: String,
    /// The points.
    pub points: Vec<(f64, f64)>,
}

/// What a card is made of.
#[derive(Clone, Debug)]
pub struct Contents<'a> {
    /// What is predicted.
    pub kind: Kind,
    /// The same in a sentence.
    pub says: &'a str,
    /// Lines on data, learners, seeds.
    pub facts: Vec<String>,
    /// The verdict in a sentence.
    pub verdict: String,
    /// The gate's answer.
    pub judgement: &'a Judgement,
    /// How far each feature moves the output, by name.
    pub importance: Vec<(String, f64)>,
    /// Bills against stale shares on held-out data; none for kinds without.
    pub curves: &'a [Curve],
    /// The staleness budget in question.
    pub stale_budget: Option<f64>,
    /// What it cannot do.
    pub limits: Vec<String>,
}

/// Writes the card.
pub fn card(contents: &Contents<'_>) -> Card {
    let plots = plots::all(contents);
    Card { text: text::markdown(contents, &plots), plots: plots.into_iter().map(|plot| (plot.file.to_owned(), plot.svg)).collect() }
}

/// How far each feature moves the outputs of `ensemble` on average, largest first.
pub fn importance(ensemble: &Ensemble, names: &[&str], rows: &dyn Examples) -> Vec<(String, f64)> {
    let Ok(table) = Table::parse(&ensemble.to_bytes()) else { return Vec::new() };
    let step = (rows.len() / IMPORTANCE_ROWS).max(1);
    let sample = || (0..rows.len()).step_by(step).map(|i| rows.row(i));
    let moved = Explainer::new(&table, sample()).importance(sample());
    let mut named: Vec<_> = names.iter().map(|name| (*name).to_owned()).zip(moved).collect();
    named.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    named
}

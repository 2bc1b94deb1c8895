//! The plots of a card.

use super::svg::{Axis, Bars, Chart, Scale};
use super::{Contents, Curve};
use crate::gate::{CALIBRATION_BOUND, CalibrationBin, Opponent};

/// Rows of a bar chart.
const BARS: usize = 12;

/// A plot and what it shows.
pub struct Plot {
    pub file: &'static str,
    pub caption: &'static str,
    pub svg: String,
}

/// Those that there are data for.
pub fn all(contents: &Contents<'_>) -> Vec<Plot> {
    let judgement = contents.judgement;
    let made = [
        ("card-bill.svg", "Bill against stale answers on held-out requests", bill(contents)),
        ("card-calibration.svg", "Predicted and observed probabilities in ten bins", calibration(&judgement.calibration)),
        ("card-importance.svg", "How far each feature moves the output", importance(&contents.importance)),
        ("card-routes.svg", "Bill of each route", routes(contents)),
    ];
    made.into_iter().filter_map(|(file, caption, svg)| svg.map(|svg| Plot { file, caption, svg })).collect()
}

fn bill(contents: &Contents<'_>) -> Option<String> {
    let points = || contents.curves.iter().flat_map(|c| &c.points).filter(|p| p.0 > 0.0);
    let own = (contents.judgement.stale_share > 0.0).then_some(contents.judgement.stale_share);
    let shares = || points().map(|p| p.0).chain(own).chain(contents.stale_budget);
    let (low, high) = (shares().fold(f64::INFINITY, f64::min), shares().fold(0.0, f64::max));
    let top = points().map(|p| p.1).fold(0.0, f64::max);
    if points().count() < 2 || high <= low {
        return None;
    }
    let x = Axis::percent("stale answers, share of all", Scale::Log, (low.max(1e-4), (high * 1.1).min(1.0)));
    let y = Axis::percent("bill, share of that without a cache", Scale::Linear, (0.0, (top * 1.08).clamp(0.05, 1.0)));
    let mut chart = Chart::new("Bill against stale answers, held-out requests", x, y);
    if let Some(budget) = contents.stale_budget {
        chart.guide(&[(budget, 0.0), (budget, top * 1.08)], "budget");
    }
    for Curve { name, points } in contents.curves {
        let seen: Vec<_> = points.iter().copied().filter(|p| p.0 >= 1e-4).collect();
        chart.line(name, &seen);
    }
    Some(chart.to_svg())
}

fn calibration(bins: &[CalibrationBin]) -> Option<String> {
    let top = bins.iter().map(|b| b.predicted.max(b.observed)).fold(0.0, f64::max);
    if bins.is_empty() {
        return None;
    }
    let end = (top * 1.15 + CALIBRATION_BOUND).clamp(0.05, 1.0);
    let axis = |label| Axis::percent(label, Scale::Root, (0.0, end));
    let mut chart = Chart::new("Calibration: predicted and observed, ten bins", axis("predicted probability"), axis("observed share"));
    // The axes are roots, so straight lines beside the diagonal are curves: drawn in steps.
    let steps = || (0..=40).map(|i| end * (f64::from(i) / 40.0).powi(2));
    let low: Vec<_> = steps().map(|p| (p, (p - CALIBRATION_BOUND).max(0.0))).collect();
    let high: Vec<_> = steps().map(|p| (p, (p + CALIBRATION_BOUND).min(end))).collect();
    chart.band(&low, &high);
    chart.guide(&[(0.0, 0.0), (end, end)], "");
    chart.dots("bins; shaded: within 0.02", &bins.iter().map(|b| ((b.predicted, b.observed), 0.4)).collect::<Vec<_>>());
    Some(chart.to_svg())
}

fn importance(features: &[(String, f64)]) -> Option<String> {
    let mut bars = Bars::new("How far each feature moves the output, on average", &["move"]);
    let moving: Vec<_> = features.iter().filter(|(_, moved)| *moved > 0.0).take(BARS).collect();
    moving.iter().for_each(|(name, moved)| bars.row(name, &[(*moved, format!("{moved:.3}"))]));
    (!moving.is_empty()).then(|| bars.to_svg())
}

fn routes(contents: &Contents<'_>) -> Option<String> {
    let against = |opponent| contents.judgement.against(opponent);
    let rules = against(Opponent::Rules)?;
    let champion = against(Opponent::Champion);
    let names: &[&str] = if champion.is_some() { &["model", "rules", "champion"] } else { &["model", "rules"] };
    let mut bars = Bars::new("Bill of each route at equal staleness, dollars", names);
    let mut routes: Vec<_> = rules.routes.iter().collect();
    routes.sort_by(|a, b| b.spend_share.total_cmp(&a.spend_share));
    for route in routes.iter().take(BARS) {
        let dollars = |usd: f64| (usd, format!("${usd:.4}"));
        let mut row = vec![dollars(route.money_usd), dollars(route.their_money_usd)];
        if let Some(champion) = champion {
            row.push(dollars(champion.routes.iter().find(|r| r.route == route.route).map_or(0.0, |r| r.their_money_usd)));
        }
        bars.row(&route.route, &row);
    }
    (!routes.is_empty()).then(|| bars.to_svg())
}

//! An explanation for a terminal.

use std::fmt::Write as _;

use farthing_admin::{ExplanationView, FeatureMove};

use super::span;
use crate::table::render;

/// Features that are shown; the rest moved less.
const SHOWN: usize = 12;

/// Tables and sentences.
pub fn text(view: &ExplanationView) -> String {
    let mut out = head(view);
    if !view.intervals.is_empty() {
        out.push('\n');
        out += &render(
            &["interval", "output", "hazard per hour"],
            view.intervals.iter().map(|i| {
                let hazard = i.hazard_per_hour.map_or_else(|| "-".to_owned(), |h| format!("{h:.4}"));
                vec![i.name.clone(), format!("{:+.4}", i.output), hazard]
            }),
        );
    }
    out.push('\n');
    out += &features(view);
    out
}

fn head(view: &ExplanationView) -> String {
    let mut out = String::new();
    if let Some(id) = &view.request_id {
        let outcome = view.outcome.as_deref().unwrap_or("-");
        let age = view.entry_age_ms.map_or_else(String::new, |ms| format!(", from an entry of age {}", span(ms as f64 / 1e3)));
        let _ = writeln!(out, "request     {id} on route {}: {outcome}{age}", view.route);
    }
    let _ = writeln!(out, "decision    {} of kind {} for key {}", view.decision_id, view.kind, view.key);
    let bundle = view.bundle.as_deref().map_or_else(String::new, |b| format!(" ({b})"));
    let _ = writeln!(out, "by          {}{bundle}", view.by);
    if let (Some(experiment), Some(variant)) = (&view.experiment, &view.variant) {
        let _ = writeln!(out, "variant     {variant} of experiment {experiment}");
    }
    let value = if view.kind == "ttl" { format!("TTL {}", span(view.value)) } else { view.value.to_string() };
    let _ = writeln!(out, "value       {value}");
    let economics = &view.economics;
    let mut facts = Vec::new();
    facts.extend(economics.price_nanousd.map(|p| format!("price of a call ${:.6}", p as f64 / 1e9)));
    facts.extend(economics.requests_per_hour.map(|r| format!("{r:.3} requests an hour for the key")));
    facts.extend(economics.live_hazard_per_hour.map(|h| format!("{h:.4} changes an hour by the live statistics")));
    facts.extend(economics.kappa.zip(economics.stale_budget).map(|(kappa, budget)| {
        format!("kappa {kappa:.4} at a stale budget of {} % (call price / price of a stale answer, before steering)", 100.0 * budget)
    }));
    for (i, fact) in facts.iter().enumerate() {
        let _ = writeln!(out, "{:<12}{fact}", if i == 0 { "economics" } else { "" });
    }
    out
}

fn features(view: &ExplanationView) -> String {
    if view.features.is_empty() {
        return format!("no features: {}\n", view.not_taken_apart.as_deref().unwrap_or("a rule decided"));
    }
    let moved = |f: &FeatureMove| f.moves.iter().any(|m| *m != 0.0);
    let mean = |moves: &[f64]| moves.iter().sum::<f64>() / moves.len().max(1) as f64;
    let cells = |f: &FeatureMove| {
        let (low, high) = f.moves.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), m| (l.min(*m), h.max(*m)));
        let moves = if f.moves.is_empty() {
            vec!["-".to_owned(); 2]
        } else {
            vec![format!("{:+.4}", mean(&f.moves)), format!("{low:+.4} to {high:+.4}")]
        };
        [vec![f.name.clone(), format!("{:.4}", f.value)], moves].concat()
    };
    let shown: Vec<_> = view.features.iter().filter(|f| moved(f)).take(SHOWN).collect();
    if shown.is_empty() {
        let why = view.not_taken_apart.as_deref().unwrap_or("the model answers the same for every row");
        let all = render(&["feature", "value"], view.features.iter().map(|f| vec![f.name.clone(), format!("{:.4}", f.value)]));
        return format!("{all}not taken apart: {why}\n");
    }
    let rest: f64 = view.features.iter().filter(|f| moved(f)).skip(SHOWN).map(|f| mean(&f.moves)).sum();
    let mut rows: Vec<Vec<String>> =
        vec![vec!["(mean of all)".to_owned(), String::new(), format!("{:+.4}", mean(&view.start)), String::new()]];
    rows.extend(shown.into_iter().map(cells));
    rows.push(vec!["(others)".to_owned(), String::new(), format!("{rest:+.4}"), String::new()]);
    let outputs: Vec<f64> = view.intervals.iter().map(|i| i.output).collect();
    rows.push(vec!["= output".to_owned(), String::new(), format!("{:+.4}", mean(&outputs)), String::new()]);
    render(&["feature", "value", "moves the output", "over the intervals"], rows)
}

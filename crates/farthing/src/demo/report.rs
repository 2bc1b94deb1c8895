//! What the demo found: one JSON object, or a table that says which figure is from which phase.

use std::sync::Arc;

use farthing_experiment::{Interval, SavingReport};
use farthing_sim::Counts;
use serde::Serialize;

use crate::table;

/// Latencies in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Quantiles {
    /// Median.
    pub p50: f64,
    /// 95th percentile.
    pub p95: f64,
    /// 99th percentile.
    pub p99: f64,
}

/// One phase on the scaled clock.
#[derive(Clone, Debug, Serialize)]
pub struct Phase {
    /// Its name.
    pub name: Arc<str>,
    /// Real seconds it took; 0 for a route.
    pub seconds: f64,
    /// Requests sent.
    pub requests: u64,
    /// Failed ones.
    pub failed: u64,
    /// What they would have cost without Farthing, USD (the ledger's claim).
    pub baseline_usd: f64,
    /// Paid, USD.
    pub actual_usd: f64,
    /// What the providers' own meters say, USD.
    pub metered_usd: f64,
    /// 1 - actual / baseline.
    pub saving_share: f64,
    /// Answers from the cache per request.
    pub hit_ratio: f64,
    /// Stale answers per request, judged against the truth.
    pub stale_share: f64,
    /// TTL decisions taken by the model.
    pub model_share: f64,
    /// TTL decisions taken by what stands in for who was asked.
    pub fallback_share: f64,
    /// The same by route; empty for a route itself.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Phase>,
}

impl Phase {
    /// From the driver's counts and the ledger's money.
    pub fn new(name: impl Into<Arc<str>>, seen: Counts, money: Money3, model_share: f64) -> Self {
        let Money3 { base, bill, metered } = money;
        Self {
            name: name.into(),
            seconds: 0.0,
            requests: seen.requests,
            failed: seen.failed,
            baseline_usd: base,
            actual_usd: bill,
            metered_usd: metered,
            saving_share: if base > 0.0 { 1.0 - bill / base } else { 0.0 },
            hit_ratio: seen.hit_ratio(),
            stale_share: seen.stale_share(),
            model_share,
            fallback_share: 0.0,
            routes: Vec::new(),
        }
    }

    fn row(&self) -> Vec<String> {
        vec![
            self.name.to_string(),
            self.requests.to_string(),
            format!("${:.2}", self.baseline_usd),
            format!("${:.2}", self.actual_usd),
            percent(self.saving_share),
            percent(self.hit_ratio),
            format!("{:.2} %", self.stale_share * 100.0),
            percent(self.model_share),
            self.failed.to_string(),
        ]
    }
}

/// Base, bill and the providers' meters, USD.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Money3 {
    /// What it would have cost.
    pub base: f64,
    /// What the ledger says was paid.
    pub bill: f64,
    /// What the providers charged.
    pub metered: f64,
}

/// The experiment, model against rule.
#[derive(Clone, Debug, Serialize)]
pub struct Versus {
    /// Change of money cost per key-window relative to the rule; null while there is no interval.
    pub relative: Option<Interval>,
    /// The same in USD.
    pub effect_usd: Option<Interval>,
    /// Evidence (e-value) that the two differ.
    pub evidence: f64,
    /// Whether they differ.
    pub differs: bool,
    /// Unit-windows of rule and model.
    pub unit_windows: [u64; 2],
    /// Why there is no interval.
    pub note: Option<&'static str>,
    /// The guardrail that switched the model off on the way.
    pub switched_off: Option<&'static str>,
}

/// The speed phase, in real time.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Speed {
    /// Requests per second sent.
    pub rate: f64,
    /// Requests sent through Farthing.
    pub requests: u64,
    /// Farthing's own time on a request.
    pub overhead_ms: Quantiles,
    /// Client's view of cached routes.
    pub cached_ms: Quantiles,
    /// Client's view of a route that only passes through.
    pub through_ms: Quantiles,
    /// Client's view without Farthing, at the same time.
    pub direct_ms: Quantiles,
    /// Hot swaps of the model meanwhile.
    pub swaps: u64,
    /// Failed requests.
    pub failed: u64,
}

/// Everything the demo found. The first fields are those that scripts read.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Requests of the money phases.
    pub requests: u64,
    /// Phase `model`: what its requests would have cost, USD.
    pub baseline_usd: f64,
    /// Phase `model`: what was paid, holdout included, USD.
    pub actual_usd: f64,
    /// Phase `model`: 1 - actual / baseline.
    pub saving_share: f64,
    /// Lower end of its always-valid interval; null when the holdout was too small for one.
    pub saving_low: Option<f64>,
    /// Upper end.
    pub saving_high: Option<f64>,
    /// Phase `model`: answers from the cache per request.
    pub hit_ratio: f64,
    /// Phase `model`: stale answers per request.
    pub stale_share: f64,
    /// What is allowed.
    pub stale_budget: f64,
    /// Phase `speed`: Farthing's own time on a request.
    pub overhead_ms: Quantiles,
    /// Hot swaps of the model under load, all phases.
    pub swaps: u64,
    /// Failed requests from the first swap on.
    pub failed_during_swap: u64,
    /// The version that decided; null when rules did.
    pub model_version: Option<u32>,
    /// Phase `model`: TTL decisions taken by the model.
    pub decisions_by_model_share: f64,
    /// Phase `model`: TTL decisions taken by what stands in for who was asked.
    pub decisions_by_fallback_share: f64,
    /// Real seconds of the money phases.
    pub seconds: f64,
    /// The money phases.
    pub phases: Vec<Phase>,
    /// Model against rule.
    pub experiment: Option<Versus>,
    /// The speed phase.
    pub speed: Speed,
    /// What fell back, and why.
    pub notes: Vec<String>,
}

/// Why the saving has no interval.
fn unproved(saving: &SavingReport) -> Option<String> {
    let SavingReport { unit_windows, holdout_unit_windows, .. } = saving;
    let why = saving.note.filter(|_| saving.saving.is_none())?;
    Some(format!("no interval of the saving: {why}; {holdout_unit_windows} of {unit_windows} key-windows were held out"))
}

/// Said when the budget was missed: the log of a short run shows too few changes to learn from, and steering needs refetches.
fn over_budget(stale_share: f64, budget: f64) -> Option<String> {
    (stale_share > budget).then(|| {
        format!(
            "stale answers are {:.2} % of all, over the budget of {:.2} %: a short run sees too few changes to hold it; 75 seconds do",
            stale_share * 100.0,
            budget * 100.0
        )
    })
}

impl Report {
    /// Puts the phases together. The headline figures are those of the phase named `model`, or of the last one without a model.
    pub fn new(phases: Vec<Phase>, saving: &SavingReport, stale_budget: f64) -> Self {
        let empty = Phase::new("none", Counts::default(), Money3::default(), 0.0);
        let head = head(&phases).unwrap_or(&empty).clone();
        // The holdout's correction of the base belongs to the headline; point, base and bill are one consistent set.
        let (base, bill) = (saving.base_usd, saving.bill_usd);
        Self {
            requests: phases.iter().map(|p| p.requests).sum(),
            baseline_usd: base,
            actual_usd: bill,
            saving_share: if base > 0.0 { 1.0 - bill / base } else { 0.0 },
            saving_low: saving.saving.map(|s| s.low),
            saving_high: saving.saving.map(|s| s.high),
            hit_ratio: head.hit_ratio,
            stale_share: head.stale_share,
            stale_budget,
            overhead_ms: Quantiles::default(),
            swaps: 0,
            failed_during_swap: 0,
            model_version: None,
            decisions_by_model_share: head.model_share,
            decisions_by_fallback_share: head.fallback_share,
            seconds: phases.iter().map(|p| p.seconds).sum(),
            phases,
            experiment: None,
            speed: Speed::default(),
            notes: unproved(saving).into_iter().chain(over_budget(head.stale_share, stale_budget)).collect(),
        }
    }

    /// The table for people.
    pub fn render(&self) -> String {
        let mut out = self.money();
        out.push_str(&self.proof());
        out.push_str(&self.speed());
        for note in &self.notes {
            out.push_str(&format!("note: {note}\n"));
        }
        out
    }

    fn money(&self) -> String {
        let head = |first| [first, "requests", "without", "bill", "saving", "hits", "stale", "by model", "failed"];
        let phases = table::render(&head("phase"), self.phases.iter().map(Phase::row));
        let mut out = format!("\nMoney and learning (scaled clock)\n{phases}");
        if let Some(phase) = self.head() {
            let routes = table::render(&head("route"), phase.routes.iter().map(Phase::row));
            out.push_str(&format!("\nThe same by route, phase {}\n{routes}", phase.name));
        }
        out
    }

    /// The phase of the headline figures.
    fn head(&self) -> Option<&Phase> {
        head(&self.phases)
    }

    fn proof(&self) -> String {
        let mut out = String::from("\nWhat it is worth\n");
        let interval = match (self.saving_low, self.saving_high) {
            (Some(low), Some(high)) => format!("between {} and {} (95 %, holdout)", percent(low), percent(high)),
            _ => "without an interval (see the notes)".to_owned(),
        };
        out.push_str(&format!(
            "saving, phase {:<12} {} {interval}: ${:.2} instead of ${:.2}\n",
            self.head().map_or("none", |p| &p.name),
            percent(self.saving_share),
            self.actual_usd,
            self.baseline_usd
        ));
        out.push_str(&format!(
            "stale answers             {:.2} % of answers; budget {:.2} %\n",
            self.stale_share * 100.0,
            self.stale_budget * 100.0
        ));
        match &self.experiment {
            Some(Versus { relative: Some(r), evidence, differs, unit_windows, .. }) => out.push_str(&format!(
                "model against rule        money cost {:+.1} % ({:+.1} % to {:+.1} %) over {} key-windows; {} (evidence {})\n",
                r.point * 100.0,
                r.low * 100.0,
                r.high * 100.0,
                unit_windows[0] + unit_windows[1],
                if *differs { "they differ" } else { "not decided" },
                short(*evidence),
            )),
            Some(Versus { note, .. }) => {
                out.push_str(&format!("model against rule        no interval: {}\n", note.unwrap_or("no observations")));
            }
            None => out.push_str("model against rule        not run: there is no model\n"),
        }
        if let Some(guard) = self.experiment.as_ref().and_then(|v| v.switched_off) {
            out.push_str(&format!("                          guardrail `{guard}` switched the model off on the way\n"));
        }
        let version = self.model_version.map_or_else(|| "none".to_owned(), |v| v.to_string());
        out.push_str(&format!(
            "model version             {version}; {} hot swaps under load, {} failed requests from the first swap on\n",
            self.swaps, self.failed_during_swap
        ));
        out
    }

    fn speed(&self) -> String {
        let speed = &self.speed;
        let row = |name: &str, q: &Quantiles| {
            vec![name.to_owned(), format!("{:.3} ms", q.p50), format!("{:.3} ms", q.p95), format!("{:.3} ms", q.p99)]
        };
        let rows = [
            row("Farthing's own time", &speed.overhead_ms),
            row("client: cached routes", &speed.cached_ms),
            row("client: passed through", &speed.through_ms),
            row("client: without Farthing", &speed.direct_ms),
        ];
        format!(
            "\nSpeed (real time, {:.0} requests/s, {} requests, {} swaps meanwhile, {} failed)\n{}",
            speed.rate,
            speed.requests,
            speed.swaps,
            speed.failed,
            table::render(&["time", "p50", "p95", "p99"], rows)
        )
    }
}

/// The phase in which a model decided; the last one if none did.
fn head(phases: &[Phase]) -> Option<&Phase> {
    phases.iter().find(|p| &*p.name == "model").or(phases.last())
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

fn short(evidence: f64) -> String {
    if evidence >= 1e4 { format!("{evidence:.0e}") } else { format!("{evidence:.1}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        report_of(Some(Interval { point: 0.6, low: 0.55, high: 0.65 }), None)
    }

    fn report_of(interval: Option<Interval>, note: Option<&'static str>) -> Report {
        let seen = Counts { requests: 1_000, hits: 600, stale: 3, ..Counts::default() };
        let money = |bill| Money3 { base: 2.0, bill, metered: bill };
        let phases = vec![Phase::new("rules", seen, money(1.8), 0.0), Phase::new("model", seen, money(0.8), 0.98)];
        let saving = SavingReport {
            base_usd: 2.0,
            claimed_base_usd: 2.0,
            bill_usd: 0.8,
            saving: interval,
            unit_windows: 900,
            holdout_unit_windows: 30,
            holdout_cost_usd: 0.0,
            windows: 0,
            note,
            unpriced: 0,
            overflow: 0,
        };
        Report::new(phases, &saving, 0.005)
    }

    #[test]
    fn scripts_find_their_fields() {
        let json = serde_json::to_value(report()).unwrap();
        for field in [
            "requests",
            "baseline_usd",
            "actual_usd",
            "saving_share",
            "saving_low",
            "saving_high",
            "hit_ratio",
            "stale_share",
            "stale_budget",
            "swaps",
            "failed_during_swap",
            "model_version",
            "decisions_by_model_share",
            "decisions_by_fallback_share",
        ] {
            assert!(json.get(field).is_some(), "{field}");
        }
        assert!(json["overhead_ms"]["p99"].is_number());
        assert_eq!(json["requests"], 2_000);
        assert!((json["saving_share"].as_f64().unwrap() - 0.6).abs() < 1e-9);
        assert_eq!(json["stale_share"], 0.003);
    }

    #[test]
    fn a_missing_interval_has_its_reason() {
        let json = serde_json::to_value(report_of(None, Some("not enough units"))).unwrap();
        assert!(json["saving_low"].is_null());
        assert_eq!(json["notes"][0], "no interval of the saving: not enough units; 30 of 900 key-windows were held out");
        assert_eq!(serde_json::to_value(report()).unwrap()["notes"], serde_json::json!([]));
    }

    #[test]
    fn the_table_names_phases_and_what_is_missing() {
        let mut report = report();
        report.notes.push("the trainer was not found".into());
        let text = report.render();
        for part in ["Money and learning", "rules", "model", "60.0 %", "between 55.0 % and 65.0 %", "budget 0.50 %", "not run", "note: the"]
        {
            assert!(text.contains(part), "{part} in\n{text}");
        }
    }
}

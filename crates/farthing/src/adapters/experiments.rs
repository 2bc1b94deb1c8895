//! Experiments and their reports.

use farthing_admin::{ExperimentDetail, ExperimentSummary, ExperimentVariant, ExperimentsView};
use farthing_proxy::ExperimentView;
use serde_json::Value;

use super::Running;

impl ExperimentsView for Running {
    fn list(&self) -> Vec<ExperimentSummary> {
        self.proxy.experiments().iter().map(summary).collect()
    }
    fn show(&self, name: &str) -> Option<ExperimentDetail> {
        let view = self.proxy.experiment(name)?;
        Some(ExperimentDetail { summary: summary(&view), report: serde_json::to_value(&view.report).unwrap_or(Value::Null) })
    }
}

fn summary(view: &ExperimentView) -> ExperimentSummary {
    let variants = view.config.variants.iter().map(|variant| {
        let off = view.report.variants.iter().find(|report| report.name == variant.name).and_then(|report| report.off);
        ExperimentVariant {
            name: variant.name.to_string(),
            share: variant.share,
            overrides: serde_json::to_value(&variant.overrides).unwrap_or(Value::Null),
            off: off.map(|kind| kind.as_str().to_owned()),
        }
    });
    ExperimentSummary {
        name: view.config.name.to_string(),
        hypothesis: view.config.hypothesis.clone(),
        routes: view.config.routes.iter().map(ToString::to_string).collect(),
        window_s: view.config.window.as_secs_f64(),
        variants: variants.collect(),
        windows: view.report.windows,
        differs: view.report.comparisons.iter().any(|comparison| comparison.differs),
        leader: view.leader.to_string(),
        started_ns: view.started.nanos(),
        stopped_ns: view.stopped.map(farthing_types::Time::nanos),
    }
}

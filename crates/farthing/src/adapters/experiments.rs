//! Experiments, their reports and orders to them.

use farthing_admin::{
    ControlError, ExperimentAudit, ExperimentDetail, ExperimentRequest, ExperimentRows, ExperimentSummary, ExperimentVariant,
    ExperimentsView, RouteTuning, TunedPast, TunedValue, TuningTrial,
};
use farthing_experiment::Order;
use farthing_ledger::costs::utc;
use farthing_proxy::{ExperimentError, ExperimentView, KnobView, Past, TuningView};
use farthing_types::Time;
use serde_json::Value;

use super::Running;

impl ExperimentsView for Running {
    fn list(&self) -> Vec<ExperimentSummary> {
        self.proxy.experiments().iter().map(summary).collect()
    }

    fn show(&self, name: &str) -> Option<ExperimentDetail> {
        self.proxy.experiment(name).as_ref().map(detail)
    }

    fn tunings(&self) -> Vec<RouteTuning> {
        let frozen = self.proxy.frozen().is_some();
        self.proxy.tunings().iter().map(|of| tuning(of, frozen)).collect()
    }

    fn order(&self, name: &str, order: &str, request: &ExperimentRequest) -> Result<ExperimentDetail, ControlError> {
        let order = match order {
            "shadow" => Order::Shadow,
            "start" => Order::Start,
            "stop" => Order::Stop,
            "decide" => {
                let missing = || ControlError::Refused("variant: name the one that every unit shall have".to_owned());
                Order::Decide { variant: request.variant.as_deref().ok_or_else(missing)?.into() }
            }
            "traffic" => Order::Traffic { share: request.share },
            other => {
                return Err(ControlError::NotFound(format!("there is no order `{other}`; there are shadow, start, stop, decide, traffic")));
            }
        };
        self.proxy.order_experiment(name, &order, &request.reason).map(|view| detail(&view)).map_err(refusal)
    }

    fn audit(&self, name: &str) -> Result<Vec<ExperimentAudit>, ControlError> {
        let lines = self.proxy.experiment_audit(name).map_err(refusal)?;
        let line = |line: farthing_proxy::AuditLine| ExperimentAudit {
            at: utc(line.at),
            by: line.by.to_string(),
            what: line.what,
            reason: line.reason,
        };
        Ok(lines.into_iter().map(line).collect())
    }

    fn export(&self, name: &str, from: u64) -> Result<ExperimentRows, ControlError> {
        let (csv, next) = self.proxy.experiment_rows(name, from).map_err(refusal)?;
        Ok(ExperimentRows { csv, next })
    }
}

fn refusal(error: ExperimentError) -> ControlError {
    let text = error.to_string();
    match error {
        ExperimentError::Unknown { .. } => ControlError::NotFound(text),
        ExperimentError::Reason | ExperimentError::Order { .. } | ExperimentError::Start(_) | ExperimentError::Refused(_) => {
            ControlError::Refused(text)
        }
        ExperimentError::Io(_) | ExperimentError::Unwritten | ExperimentError::Fleet(_) => ControlError::Failed(text),
    }
}

fn detail(view: &ExperimentView) -> ExperimentDetail {
    let document = |value: serde_json::Result<Value>| value.unwrap_or(Value::Null);
    ExperimentDetail {
        summary: summary(view),
        answers: document(serde_json::to_value(&view.answers)),
        report: document(serde_json::to_value(&view.report)),
        fleet: document(serde_json::to_value(&view.fleet)),
    }
}

fn tuning(of: &TuningView, frozen: bool) -> RouteTuning {
    let value = |of: &KnobView| TunedValue {
        key: of.knob.as_str().to_owned(),
        configured: of.knob.text(of.configured),
        value: of.knob.text(of.value),
        low: of.knob.text(of.bounds.0),
        high: of.knob.text(of.bounds.1),
        settled: of.settled.map(utc),
        rounds: of.rounds,
    };
    let trying = of.trying.as_ref().map(|trying| TuningTrial {
        experiment: trying.name.to_string(),
        key: trying.knob.as_str().to_owned(),
        against: trying.knob.text(trying.candidate.against),
        value: trying.knob.text(trying.candidate.value),
        why: trying.candidate.why.clone(),
        verdict: trying.verdict.clone(),
        left_s: trying.left.as_secs_f64(),
    });
    let past = |past: &Past| TunedPast {
        at: utc(past.at),
        experiment: past.name.to_string(),
        key: past.knob.as_str().to_owned(),
        against: past.knob.text(past.from),
        value: past.knob.text(past.to),
        why: past.why.clone(),
        outcome: past.outcome.as_str().to_owned(),
        verdict: past.verdict.clone(),
        usd_per_month: past.usd_per_month,
    };
    let settled = || of.knobs.iter().all(|of| of.settled.is_some()).then(|| "settled".to_owned());
    let rests = || of.waits.as_ref().map(|what| format!("waiting for {what}")).or_else(settled);
    RouteTuning {
        route: of.route.to_string(),
        values: of.knobs.iter().map(value).collect(),
        waits: if frozen { Some("frozen".to_owned()) } else { rests().filter(|_| trying.is_none()) },
        trying,
        past: of.past.iter().map(past).collect(),
    }
}

fn summary(view: &ExperimentView) -> ExperimentSummary {
    let variants = view.config.variants.iter().zip(&view.pmf).map(|(variant, probability)| {
        let off = view.report.variants.iter().find(|report| report.name == variant.name).and_then(|report| report.off);
        ExperimentVariant {
            name: variant.name.to_string(),
            share: variant.share,
            probability: *probability,
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
        stage: view.life.stage.as_str().to_owned(),
        verdict: view.answers.first().map_or_else(String::new, |answer| answer.line.clone()),
        unit: view.unit.to_owned(),
        traffic: view.life.ramp.share,
        ramps: view.life.ramp.auto,
        windows: view.report.windows,
        differs: view.report.comparisons.iter().any(|comparison| comparison.differs),
        found: view.found.iter().map(ToString::to_string).collect(),
        leader: view.leader.to_string(),
        started_ns: view.life.started.map(Time::nanos),
        stopped_ns: view.life.ended.map(Time::nanos),
    }
}

//! Logged decisions, found in the Parquet files.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::PathBuf;

use farthing_admin::{ControlError, DecisionView, DecisionsView, ExplanationView, PlanView};
use farthing_config::remedy;
use farthing_contract::features::TTL_SPEC;
use farthing_contract::log::{Decision, Row, Value};
use farthing_ledger::read;
use farthing_types::{DecisionId, RequestId};

use super::Running;
use crate::explain::{self, Places};

/// The columns that are read, in this order.
const COLUMNS: [&str; 13] = [
    "decision_id",
    "ts_ns",
    "kind",
    "route",
    "key_hash",
    "call_id",
    "action_value",
    "by",
    "experiment",
    "variant",
    "spec_hash",
    "features",
    "outputs",
];

impl DecisionsView for Running {
    fn decision(&self, id: DecisionId) -> Result<Option<DecisionView>, ControlError> {
        let dir = &self.log_folder()?;
        let mut found = None;
        let mut visit = |cells: &[Value<'_>]| {
            if matches!(cells.first(), Some(Value::U64(number)) if *number == id.0) {
                found = Some(view(cells));
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        };
        read::rows(dir, Decision::TABLE, &COLUMNS, &mut visit).map_err(|error| ControlError::Failed(error.to_string()))?;
        Ok(found)
    }

    fn explain(&self, request: RequestId) -> Result<ExplanationView, ControlError> {
        let budget = |route: &str| {
            let config = self.proxy.config();
            let found = config.routes.iter().find(|r| &*r.name == route);
            found.map(|r| r.stale_budget)
        };
        let log = self.log_folder()?;
        let places = Places { log: &log, models: self.proxy.models().root(), stale_budget: &budget };
        explain::request(&places, request.0)
    }

    fn plan(&self, request: RequestId) -> Result<PlanView, ControlError> {
        let advice = |route: &str, reason| {
            let config = self.proxy.config();
            let found = config.route(route)?;
            let remedy = remedy(reason, found);
            Some(remedy.key.map_or_else(|| remedy.advice.to_owned(), |key| format!("{key}: {}", remedy.advice)))
        };
        explain::plan(&self.log_folder()?, request.0, &advice)
    }
}

impl Running {
    fn log_folder(&self) -> Result<PathBuf, ControlError> {
        self.proxy.log_dir().ok_or_else(|| ControlError::Unavailable("the log is off (log.enabled)".to_owned()))
    }
}

fn view(cells: &[Value<'_>]) -> DecisionView {
    let cell = |name: &str| COLUMNS.iter().position(|column| *column == name).and_then(|index| cells.get(index)).unwrap_or(&Value::Null);
    let text = |name| read::text(cell(name));
    let optional = |name| Some(text(name)).filter(|text| !text.is_empty());
    let list = |name| match cell(name) {
        Value::F32List(list) => list.iter().map(|value| f64::from(*value)).collect(),
        _ => Vec::new(),
    };
    DecisionView {
        id: text("decision_id"),
        at_ns: if let Value::I64(ns) = cell("ts_ns") { *ns } else { 0 },
        kind: text("kind"),
        route: text("route"),
        key: text("key_hash"),
        call_id: optional("call_id"),
        value: if let Value::F64(value) = cell("action_value") { *value } else { f64::NAN },
        by: text("by"),
        experiment: optional("experiment"),
        variant: optional("variant"),
        features: named(&text("spec_hash"), &list("features")),
        outputs: list("outputs"),
    }
}

/// Features by name where this build's names are those of the row.
fn named(spec_hash: &str, features: &[f64]) -> BTreeMap<String, f64> {
    let known = spec_hash == TTL_SPEC.hash();
    let name = |index: usize| TTL_SPEC.names.get(index).filter(|_| known).map_or_else(|| format!("{index:02}"), |name| (*name).to_owned());
    features.iter().enumerate().map(|(index, value)| (name(index), *value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use farthing_contract::log::Table;

    #[test]
    fn the_columns_exist_and_features_get_their_names() {
        let table: &Table = Decision::TABLE;
        for column in COLUMNS {
            assert!(table.columns.iter().any(|c| c.name == column), "{column}");
        }
        assert_eq!(named(&TTL_SPEC.hash(), &[0.5]), BTreeMap::from([(TTL_SPEC.names[0].to_owned(), 0.5)]));
        assert_eq!(named("of another build", &[0.5]), BTreeMap::from([("00".to_owned(), 0.5)]));
    }
}

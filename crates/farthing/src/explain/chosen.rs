//! Which strategies the route used when a request came, from the rows of that decision.

use std::ops::ControlFlow;
use std::path::Path;

use farthing_admin::PlanStep;
use farthing_contract::log::{Decision, Row, Value};
use farthing_ledger::read::{self, ReadError};
use farthing_policy::strategy::Mix;
use farthing_types::Money;

use super::find::{first, text, whole};

const COLUMNS: [&str; 11] =
    ["decision_id", "kind", "ts_ns", "route", "variant", "action", "action_value", "by", "model_digest", "expected_latency_us", "dropped"];

/// A row of such a decision.
struct Chosen {
    at_ns: i64,
    route: String,
    shadow: bool,
    told: String,
}

impl Chosen {
    fn read(cells: &[Value<'_>]) -> Option<Self> {
        let (Value::Text("strategy"), Value::I32(action), Value::F64(saving)) = (&cells[1], &cells[5], &cells[6]) else { return None };
        let mix = usize::try_from(*action).ok().and_then(|index| Mix::ALL.get(index))?;
        let latency = whole(&cells[9]).map_or_else(String::new, |us| format!(", latency {:.1} ms", us as f64 / 1e3));
        let digest = text(&cells[8]).map_or_else(String::new, |digest| format!(" (bundle {})", digest.get(..12).unwrap_or(&digest)));
        let dropped = text(&cells[10]).map_or_else(String::new, |dropped| format!("; left out: {dropped}"));
        let by = text(&cells[7]).unwrap_or_default();
        // Whole nano-dollars, as they were written.
        let saving = Money::from_nanos(*saving as i64);
        Some(Self {
            at_ns: whole(&cells[2])?,
            route: text(&cells[3])?,
            shadow: text(&cells[4]).is_some(),
            told: format!("{mix} by {by}{digest}: expected to save {saving} $ a request{latency}{dropped}"),
        })
    }
}

/// The decision in force, and what a predictor that looked on would have chosen; nothing before the first decision.
///
/// # Errors
/// A file that cannot be read.
pub fn steps(log: &Path, plan: Option<u64>) -> Result<Vec<PlanStep>, ReadError> {
    let Some(id) = plan else { return Ok(Vec::new()) };
    let Some(acting) = first(log, Decision::TABLE, &COLUMNS, id, Chosen::read)? else { return Ok(Vec::new()) };
    let mut looked_on = None;
    let mut visit = |cells: &[Value<'_>]| {
        looked_on = Chosen::read(cells).filter(|other| other.shadow && other.at_ns == acting.at_ns && other.route == acting.route);
        if looked_on.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    read::rows(log, Decision::TABLE, &COLUMNS, &mut visit)?;
    let step = |why: String| PlanStep { what: "plan".to_owned(), why, advice: None };
    let shadow = looked_on.map(|shadow| step(format!("in shadow, not in force: {}", shadow.told)));
    Ok(std::iter::once(step(format!("{} (decision {id:016x})", acting.told))).chain(shadow).collect())
}

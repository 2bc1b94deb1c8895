//! The decisions behind a request, in one reading of their table: which strategies its route used when it came, whether its call was drawn to go alone, and how
//! long the answer is kept.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use farthing_admin::PlanStep;
use farthing_contract::log::Value;
use farthing_ledger::read::{ReadError, Visit};
use farthing_policy::strategy::Mix;
use farthing_types::Money;

use super::find::{text, whole, word};

/// What is read of a decision, in this order.
pub const COLUMNS: [&str; 13] = [
    "decision_id",
    "kind",
    "ts_ns",
    "route",
    "variant",
    "action",
    "action_value",
    "by",
    "model_digest",
    "expected_latency_us",
    "dropped",
    "request_id",
    "pmf",
];
/// Decisions in shadow that are remembered while the one that they belong to is not read; it is written right before its own.
const SHADOWS: usize = 64;

/// A row of such a decision.
struct Chosen {
    at_ns: i64,
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
            told: format!("{mix} by {by}{digest}: expected to save {saving} $ a request{latency}{dropped}"),
        })
    }
}

/// The share of the slice, and whether the request was in it.
fn drawn(cells: &[Value<'_>]) -> Option<(f32, bool)> {
    match (&cells[12], &cells[5]) {
        (Value::F32List(pmf), Value::I32(action)) => Some((*pmf.first()?, *action == 0)),
        _ => None,
    }
}

/// Which decisions are looked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted<'a> {
    /// The request.
    pub request: u64,
    /// Its route.
    pub route: &'a str,
    /// The plan that was in force.
    pub plan: Option<u64>,
    /// The decision for how long its answer is kept.
    pub ttl: Option<u64>,
}

/// What was found.
#[derive(Default)]
pub struct Found {
    /// The share of the slice that goes alone to be compared with, and whether the request was in it.
    pub drawn: Option<(f32, bool)>,
    /// For how many seconds the answer is kept, and by what.
    pub kept: Option<(f64, String)>,
    acting: Option<Chosen>,
    shadows: BTreeMap<i64, Chosen>,
}

impl Found {
    /// Looks for them; `scan` reads these columns of all decisions, and is asked once.
    ///
    /// # Errors
    /// That of `scan`.
    pub fn read(wanted: &Wanted<'_>, scan: impl FnOnce(&[&str], &mut Visit<'_>) -> Result<u64, ReadError>) -> Result<Self, ReadError> {
        let mut found = Self::default();
        let mut visit = |cells: &[Value<'_>]| {
            found.take(wanted, cells);
            ControlFlow::Continue(())
        };
        scan(&COLUMNS, &mut visit)?;
        Ok(found)
    }

    fn take(&mut self, wanted: &Wanted<'_>, cells: &[Value<'_>]) {
        let id = word(&cells[0]);
        if let (true, Value::F64(value)) = (id.is_some() && id == wanted.ttl, &cells[6]) {
            self.kept = text(&cells[7]).map(|by| (*value, by));
        }
        match &cells[1] {
            Value::Text("batch") if word(&cells[11]) == Some(wanted.request) => self.drawn = self.drawn.or_else(|| drawn(cells)),
            Value::Text("strategy") if id == wanted.plan => self.acting = Chosen::read(cells),
            Value::Text("strategy") if matches!(cells[3], Value::Text(route) if route == wanted.route) => self.shadow(cells),
            _ => {}
        }
    }

    /// What a predictor that looked on would have chosen: it belongs to the decision of the same time on the same route.
    fn shadow(&mut self, cells: &[Value<'_>]) {
        let of_acting = |at: i64| self.acting.as_ref().is_none_or(|acting| acting.at_ns == at);
        if matches!(cells[4], Value::Null) || !whole(&cells[2]).is_some_and(of_acting) {
            return;
        }
        self.shadows.extend(Chosen::read(cells).map(|shadow| (shadow.at_ns, shadow)));
        if self.shadows.len() > SHADOWS {
            self.shadows.pop_first();
        }
    }

    /// The plan in force, and the one in shadow; nothing before the first decision.
    pub fn steps(&self, plan: Option<u64>) -> Vec<PlanStep> {
        let Some((acting, id)) = self.acting.as_ref().zip(plan) else { return Vec::new() };
        let shadow = self.shadows.get(&acting.at_ns);
        let step = |why: String| PlanStep { what: "plan".to_owned(), why, advice: None };
        let shadow = shadow.map(|shadow| step(format!("in shadow, not in force: {}", shadow.told)));
        std::iter::once(step(format!("{} (decision {id:016x})", acting.told))).chain(shadow).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Cells = [Value<'static>; COLUMNS.len()];

    fn row(id: u64, kind: &'static str, of: (i64, &'static str), variant: Option<&'static str>) -> Cells {
        let mut cells = [const { Value::Null }; COLUMNS.len()];
        (cells[0], cells[1], cells[2], cells[3]) = (Value::U64(id), Value::Text(kind), Value::I64(of.0), Value::Text(of.1));
        (cells[4], cells[5], cells[6]) = (variant.map_or(Value::Null, Value::Text), Value::I32(0), Value::F64(7.0));
        (cells[7], cells[11], cells[12]) = (Value::Text("rule:mix"), Value::U64(9), Value::F32List(&[0.25, 0.75]));
        cells
    }

    /// `scan` can be asked once only; what belongs together is found in whatever order it is read.
    #[test]
    fn one_reading_of_the_decisions_finds_all() {
        let rows = [
            row(1, "strategy", (10, "other"), Some("shadow")),
            row(2, "strategy", (10, "r"), Some("shadow")),
            row(3, "strategy", (10, "r"), None),
            row(4, "strategy", (20, "r"), None),
            row(5, "strategy", (20, "r"), Some("shadow")),
            row(6, "ttl", (11, "r"), None),
            row(7, "batch", (11, "r"), None),
        ];
        let wanted = Wanted { request: 9, route: "r", plan: Some(3), ttl: Some(6) };
        for reversed in [false, true] {
            let mut rows = rows.to_vec();
            if reversed {
                rows.reverse();
            }
            let read = |columns: &[&str], visit: &mut Visit<'_>| {
                assert_eq!(columns, COLUMNS);
                Ok(rows.iter().take_while(|row| visit(&row[..]).is_continue()).count() as u64)
            };
            let found = Found::read(&wanted, read).unwrap();
            assert_eq!((found.drawn, &found.kept), (Some((0.25, true)), &Some((7.0, "rule:mix".to_owned()))));
            let steps = found.steps(wanted.plan);
            assert!(steps.len() == 2 && steps[0].why.contains("0000000000000003") && steps[1].why.starts_with("in shadow"), "{steps:?}");
        }
        let found = Found::read(&Wanted { route: "r", plan: Some(8), ..wanted }, |_, visit| Ok(u64::from(visit(&rows[3]).is_continue())));
        assert!(found.unwrap().steps(Some(8)).is_empty());
    }
}

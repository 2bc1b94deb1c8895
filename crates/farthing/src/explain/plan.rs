//! What was done for a request and why, strategy by strategy, from its rows of the log.

use std::fmt::Write as _;
use std::path::Path;

use farthing_admin::{ControlError, PlanStep, PlanView};
use farthing_contract::log::{CallRow, Decision, Request, Row, Value};
use farthing_ledger::read::{self, ReadError};
use farthing_types::{Money, UncachedReason};

use super::chosen::{Found, Wanted};
use super::find::{first, text, whole, word};
use super::{not_found, span};

/// What would change a reason on a route; `None` where nothing is to be done, or the route is not known.
pub type Advice<'a> = &'a dyn Fn(&str, UncachedReason) -> Option<String>;

const REQUEST: [&str; 20] = [
    "request_id",
    "ts_ns",
    "route",
    "method",
    "outcome",
    "uncached_reason",
    "tier",
    "entry_age_ms",
    "ttl_ms",
    "ttl_by",
    "call_id",
    "decision_id",
    "base_nanousd",
    "cost_nanousd",
    "experiment",
    "variant",
    "propensity",
    "sla_ms",
    "sla",
    "plan_id",
];
const CALL: [&str; 5] = ["call_id", "batch_size", "decision_id", "not_stored_reason", "deferred"];

/// What the log says of the call that answered.
#[derive(Default)]
struct Called {
    batch: Option<i64>,
    decision: Option<u64>,
    not_stored: Option<String>,
    deferred: Option<String>,
}

impl Called {
    /// Of the attempt that was the last: the ones before tell nothing of the answer.
    fn read(cells: &[Value<'_>]) -> Option<Self> {
        let (batch, decision) = (whole(&cells[1]), word(&cells[2]));
        let called = Self { batch, decision, not_stored: text(&cells[3]), deferred: text(&cells[4]) };
        let told = called.batch.is_some() || called.decision.is_some() || called.not_stored.is_some() || called.deferred.is_some();
        told.then_some(called)
    }
}

/// Explains the plan of the request with that id. Reads files: blocking.
///
/// # Errors
/// The request is not in the log, or a file cannot be read.
pub fn plan(log: &Path, id: u64, advice: Advice<'_>) -> Result<PlanView, ControlError> {
    let failed = |e: ReadError| ControlError::Failed(e.to_string());
    let asked = first(log, Request::TABLE, &REQUEST, id, |cells| Some(asked(cells))).map_err(failed)?;
    let (mut view, row) = asked.ok_or_else(|| not_found(log, id))?;
    let called = match row.call {
        Some(call) => first(log, CallRow::TABLE, &CALL, call, Called::read).map_err(failed)?,
        None => None,
    };
    let called = called.unwrap_or_default();
    let wanted = Wanted { request: id, route: &view.route, plan: row.plan, ttl: called.decision };
    let found = Found::read(&wanted, |columns, visit| read::rows(log, Decision::TABLE, columns, visit)).map_err(failed)?;
    let decision = row.decision.or(called.decision);
    view.decision_id = decision.map(|id| format!("{id:016x}"));
    view.steps.extend(found.steps(row.plan));
    view.steps.push(cache(&view, &row, advice));
    view.steps.extend(dedupe(&view.outcome, row.call));
    view.steps.extend(batch(called.batch, found.drawn));
    view.steps.extend(called.deferred.as_deref().and_then(defer));
    view.steps.extend(ttl(&called, found.kept));
    view.steps.extend(promise(&row));
    Ok(view)
}

/// What of a request's row only leads to other words.
struct Asked {
    reason: Option<String>,
    tier: Option<String>,
    age_ms: Option<i64>,
    ttl_ms: Option<i64>,
    ttl_by: Option<String>,
    call: Option<u64>,
    decision: Option<u64>,
    sla_ms: Option<i64>,
    sla: Option<String>,
    plan: Option<u64>,
}

fn asked(cells: &[Value<'_>]) -> (PlanView, Asked) {
    let money = |cell: &Value<'_>| whole(cell).map(Money::from_nanos);
    let propensity = if let Value::F64(p) = cells[16] { format!(", drawn with probability {p:.3}") } else { String::new() };
    let variant = text(&cells[15]).zip(text(&cells[14])).map(|(variant, experiment)| format!("{variant} of {experiment}{propensity}"));
    let view = PlanView {
        request_id: format!("{:016x}", word(&cells[0]).unwrap_or_default()),
        at_ns: whole(&cells[1]).unwrap_or_default(),
        route: text(&cells[2]).unwrap_or_default(),
        method: text(&cells[3]).unwrap_or_default(),
        outcome: text(&cells[4]).unwrap_or_default(),
        variant,
        base_usd: money(&cells[12]),
        cost_usd: money(&cells[13]),
        ..PlanView::default()
    };
    let row = Asked {
        reason: text(&cells[5]),
        tier: text(&cells[6]),
        age_ms: whole(&cells[7]),
        ttl_ms: whole(&cells[8]),
        ttl_by: text(&cells[9]),
        call: word(&cells[10]),
        decision: word(&cells[11]),
        sla_ms: whole(&cells[17]),
        sla: text(&cells[18]),
        plan: word(&cells[19]),
    };
    (view, row)
}

fn step(what: &str, why: String) -> PlanStep {
    PlanStep { what: what.to_owned(), why, advice: None }
}

fn millis(ms: i64) -> String {
    span(ms as f64 / 1e3)
}

fn cache(view: &PlanView, row: &Asked, advice: Advice<'_>) -> PlanStep {
    let Some(reason) = &row.reason else {
        let age = row.age_ms.map_or_else(String::new, |ms| format!(", {} old", millis(ms)));
        let ttl = row.ttl_ms.map_or_else(String::new, |ms| format!(" of {} of freshness", millis(ms)));
        let by = row.ttl_by.as_ref().map_or_else(String::new, |by| format!(" by {by}"));
        return step("cache", format!("answered from {}{age}{ttl}{by}", row.tier.as_deref().unwrap_or("no tier")));
    };
    let advice = UncachedReason::parse(reason).and_then(|reason| advice(&view.route, reason));
    PlanStep { advice, ..step("cache", format!("not answered from it: {reason}")) }
}

fn dedupe(outcome: &str, call: Option<u64>) -> Option<PlanStep> {
    let call = format!("{:016x}", call?);
    let why = match outcome {
        "follow" => format!("joined call {call}, which another request led"),
        "lead" => format!("led call {call}, for whoever asks for the same"),
        _ => format!("made call {call} alone"),
    };
    Some(step("dedupe", why))
}

fn batch(size: Option<i64>, drawn: Option<(f32, bool)>) -> Option<PlanStep> {
    let why = match (size, drawn) {
        (Some(size), _) => format!("made together with {} others", size - 1),
        (None, Some((share, true))) => {
            format!("drawn to go without waiting for others, to compare with those that wait (probability {share})")
        }
        (None, Some((share, false))) => format!(
            "could wait for others and went alone all the same (farthing_batch_alone_total; drawn with probability {})",
            1.0 - share
        ),
        (None, None) => return None,
    };
    Some(step("batch", why))
}

/// What became of a call that could wait.
fn defer(became: &str) -> Option<PlanStep> {
    let why = match became {
        "batch" => "waited for the provider's batch endpoint, at its price for batches",
        "direct" => {
            "waited for the provider's batch endpoint and was called directly after all: at the last safe time, or because its batch had no answer"
        }
        _ => return None,
    };
    Some(step("defer", why.to_owned()))
}

/// For how long the answer of its call is kept, or why it is not.
fn ttl(called: &Called, kept: Option<(f64, String)>) -> Option<PlanStep> {
    if let Some(reason) = &called.not_stored {
        return Some(step("ttl", format!("the answer is not kept: {reason}")));
    }
    kept.map(|(seconds, by)| step("ttl", format!("the answer is kept for {} by {by}", span(seconds))))
}

fn promise(row: &Asked) -> Option<PlanStep> {
    let sla = millis(row.sla_ms?);
    let why = match row.sla.as_deref() {
        Some("met") => format!("{sla}: met"),
        Some(whose) => format!("{sla}: missed, most of the time was that of: {whose}"),
        None => format!("{sla}: not counted"),
    };
    Some(step("promise", why))
}

/// A plan for a terminal.
pub fn plan_text(view: &PlanView) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "request     {} on route {}: {} {}", view.request_id, view.route, view.method, view.outcome); // cannot fail on a String
    for PlanStep { what, why, advice } in &view.steps {
        let _ = writeln!(out, "{what:<12}{why}");
        if let Some(advice) = advice {
            let _ = writeln!(out, "{:<12}{advice}", "");
        }
    }
    if let Some(variant) = &view.variant {
        let _ = writeln!(out, "variant     {variant}");
    }
    let usd = |money: Option<Money>| money.map_or_else(|| "unpriced".to_owned(), |money| format!("{money} $"));
    let _ = writeln!(out, "money       cost {}, without Farthing {}", usd(view.cost_usd), usd(view.base_usd));
    if let Some(id) = &view.decision_id {
        let _ = writeln!(out, "decision    {id}: taken apart by farthing models explain --request {}", view.request_id);
    }
    out
}

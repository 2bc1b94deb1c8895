//! Reads a Parquet log for the replay.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use farthing_contract::log::{CallRow, Decision, OutcomeRow, Request, Row, Table, Value};
use farthing_freshness::RequestFacts;
use farthing_freshness::semantics::{Bans, Facts, Logged};
use farthing_ledger::read;
use farthing_replay::path::{AskedRow, CalledRow, EndedRow, Log, LoggedChoice, RequestClass};
use farthing_types::{Money, Outcome, Purpose, Span, Time, UncachedReason};
use http::Method;

use super::progress::Progress;

/// Name under which a predictor that may not act is logged.
const SHADOW: &str = "shadow";
/// What a request's client did that no policy changes.
const CLIENT_ENDED: [&str; 2] = ["client-left", "timeout"];

const REQUESTS: &[&str] = &[
    "ts_ns",
    "route",
    "method",
    "key_hash",
    "outcome",
    "uncached_reason",
    "weight",
    "call_id",
    "error_class",
    "base_nanousd",
    "asked",
    "invalidates",
    "stat_seq",
    "stat_key",
    "stat_epoch",
];
const CALLS: &[&str] = &[
    "ts_ns",
    "call_id",
    "attempt",
    "route",
    "key_hash",
    "purpose",
    "status",
    "sent",
    "latency_us",
    "bytes_in",
    "canonical_hash",
    "last_modified_ns",
    "origin_ttl_s",
    "not_stored_reason",
    "cost_nanousd",
    "answer",
    "ended_ns",
    "stat_key",
    "stat_at_ns",
    "stat_hash",
    "query_parameters",
    "body_bytes",
];
const DECISIONS: &[&str] = &["kind", "call_id", "variant", "action_value", "by", "price_nanousd"];
const OUTCOMES: &[&str] = &["ts_ns", "key_hash", "opened_ns", "closed_by"];

/// Reads the log in `dir`.
///
/// # Errors
/// A directory that is none, a file that cannot be read, a log without requests; each with its remedy.
pub fn load(dir: &Path, progress: &Progress) -> anyhow::Result<Log> {
    anyhow::ensure!(dir.is_dir(), "--log {}: is not a directory; name the directory that `log.dir` of the proxy names", dir.display());
    let mut loader = Loader::default();
    progress.say("requests");
    visit(dir, Request::TABLE, REQUESTS, |row| loader.request(row))?;
    progress.say("decisions");
    visit(dir, Decision::TABLE, DECISIONS, |row| loader.decision(row))?;
    progress.say("calls");
    visit(dir, CallRow::TABLE, CALLS, |row| loader.call(row))?;
    visit(dir, OutcomeRow::TABLE, OUTCOMES, |row| loader.outcome(row))?;
    let log = loader.finish()?;
    let remedy = "it holds no requests: `farthing logs ls --log-dir` shows what it holds";
    anyhow::ensure!(!log.asked.is_empty(), "--log {}: {remedy}", dir.display());
    Ok(log)
}

/// A row by the names of its columns; one that this build does not have is absent.
struct Cells<'a> {
    names: &'a [&'a str],
    values: &'a [Value<'a>],
}

impl Cells<'_> {
    fn get(&self, name: &str) -> Value<'_> {
        self.names.iter().position(|n| *n == name).and_then(|i| self.values.get(i)).copied().unwrap_or(Value::Null)
    }
    fn i64(&self, name: &str) -> Option<i64> {
        match self.get(name) {
            Value::I64(v) => Some(v),
            Value::I32(v) => Some(i64::from(v)),
            _ => None,
        }
    }
    fn u64(&self, name: &str) -> Option<u64> {
        if let Value::U64(v) = self.get(name) { Some(v) } else { None }
    }
    fn f64(&self, name: &str) -> Option<f64> {
        if let Value::F64(v) = self.get(name) { Some(v) } else { None }
    }
    fn bool(&self, name: &str) -> bool {
        matches!(self.get(name), Value::Bool(true))
    }
    fn text(&self, name: &str) -> Option<&str> {
        if let Value::Text(v) = self.get(name) { Some(v) } else { None }
    }
    fn time(&self, name: &str) -> Option<Time> {
        self.i64(name).map(Time::from_nanos)
    }
    fn money(&self, name: &str) -> Option<Money> {
        self.i64(name).map(Money::from_nanos)
    }
}

fn visit(dir: &Path, table: &'static Table, wanted: &[&str], mut row: impl FnMut(&Cells<'_>) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let names: Vec<&str> = wanted.iter().copied().filter(|name| table.columns.iter().any(|c| c.name == *name)).collect();
    let mut failed = Ok(());
    read::rows(dir, table, &names, &mut |values| match row(&Cells { names: &names, values }) {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => {
            failed = Err(error);
            ControlFlow::Break(())
        }
    })?;
    failed.with_context(|| format!("--log {}, table `{}`", dir.display(), table.name))
}

/// One attempt of a call.
struct Attempt {
    number: i64,
    start: Time,
    sent: bool,
    cost: Option<Money>,
}

#[derive(Default)]
struct Loader {
    log: Log,
    keys: HashMap<u64, u32>,
    routes: HashMap<Arc<str>, u16>,
    classes: HashMap<(Arc<str>, Arc<str>), u32>,
    prices: HashMap<u64, Option<Money>>,
    /// Keys whose copies a request dropped, by its call.
    invalidated: Vec<(u64, u32)>,
    /// First and last request of each run of a proxy.
    runs: HashMap<u64, (Time, Time)>,
    /// Calls and their attempts; row and short form of the answer are those of the last attempt.
    calls: HashMap<u64, (Vec<Attempt>, CalledRow, String)>,
}

impl Loader {
    fn key(&mut self, cells: &Cells<'_>) -> u32 {
        self.numbered(cells.u64("stat_key").or(cells.u64("key_hash")).unwrap_or_default())
    }

    fn numbered(&mut self, digest: u64) -> u32 {
        let next = u32::try_from(self.keys.len()).unwrap_or(u32::MAX);
        let number = *self.keys.entry(digest).or_insert(next);
        if number == next {
            self.log.keys.push(digest);
        }
        number
    }

    fn route(&mut self, cells: &Cells<'_>) -> anyhow::Result<u16> {
        let name = cells.text("route").unwrap_or_default();
        if let Some(index) = self.routes.get(name) {
            return Ok(*index);
        }
        let index = u16::try_from(self.log.routes.len()).context("more than 65,535 routes")?;
        self.log.routes.push(name.into());
        self.routes.insert(name.into(), index);
        Ok(index)
    }

    fn class(&mut self, cells: &Cells<'_>) -> anyhow::Result<u32> {
        let (method, asked) = (cells.text("method").unwrap_or("GET"), cells.text("asked").unwrap_or_default());
        if let Some(index) = self.classes.get(&(method.into(), asked.into())) {
            return Ok(*index);
        }
        let parsed = Method::from_bytes(method.as_bytes()).with_context(|| format!("column `method`: `{method}`"))?;
        let (facts, control) = RequestFacts::from_noted(parsed, asked).context("column `asked`")?;
        let index = u32::try_from(self.log.classes.len()).context("column `asked`: too many different texts")?;
        self.log.classes.push(RequestClass { facts, control });
        self.classes.insert((method.into(), asked.into()), index);
        Ok(index)
    }

    fn request(&mut self, cells: &Cells<'_>) -> anyhow::Result<()> {
        let outcome = cells.text("outcome").unwrap_or_default();
        let outcome = Outcome::parse(outcome).with_context(|| format!("column `outcome`: `{outcome}` was written by a later version"))?;
        let error = cells.text("error_class");
        let gave_up = outcome == Outcome::Failed && error.is_some_and(|e| CLIENT_ENDED.contains(&e));
        let row = AskedRow {
            at: cells.time("ts_ns").unwrap_or_default(),
            place: cells.i64("stat_seq").unwrap_or_default(),
            key: self.key(cells),
            class: self.class(cells)?,
            route: self.route(cells)?,
            weight: cells.i64("weight").and_then(|w| u32::try_from(w).ok()).unwrap_or(1),
            unit: cells.u64("key_hash").unwrap_or_default(),
            outcome,
            reason: cells.text("uncached_reason").and_then(UncachedReason::parse),
            call: cells.u64("call_id").unwrap_or_default(),
            gave_up,
            upstream_failed: !gave_up && (outcome == Outcome::Failed || error == Some(UncachedReason::UpstreamFailed.as_str())),
            base: cells.money("base_nanousd"),
        };
        if let Some(digest) = cells.u64("invalidates") {
            let key = self.numbered(digest);
            self.invalidated.push((row.call, key));
        }
        if let Some(run) = cells.u64("stat_epoch") {
            let (first, last) = self.runs.entry(run).or_insert((row.at, row.at));
            (*first, *last) = ((*first).min(row.at), (*last).max(row.at));
        }
        self.log.asked.push(row);
        Ok(())
    }

    #[allow(clippy::unnecessary_wraps, reason = "a visitor may fail")]
    fn decision(&mut self, cells: &Cells<'_>) -> anyhow::Result<()> {
        let variant = cells.text("variant").unwrap_or_default();
        let (Some("ttl"), Some(call)) = (cells.text("kind"), cells.u64("call_id")) else { return Ok(()) };
        if variant == SHADOW {
            return Ok(());
        }
        let (ttl, by) = (cells.f64("action_value").unwrap_or_default(), cells.text("by").unwrap_or_default());
        self.prices.insert(call, cells.money("price_nanousd"));
        self.log.choices.entry(call).or_default().push(LoggedChoice { variant: variant.into(), ttl, by: by.into() });
        Ok(())
    }

    fn call(&mut self, cells: &Cells<'_>) -> anyhow::Result<()> {
        let id = cells.u64("call_id").unwrap_or_default();
        let start = cells.time("ts_ns").unwrap_or_default();
        let attempt = Attempt {
            number: cells.i64("attempt").unwrap_or_default(),
            start,
            sent: cells.bool("sent"),
            cost: cells.money("cost_nanousd"),
        };
        let row = self.called(cells, id, start)?;
        let answer = cells.text("answer").unwrap_or_default();
        let call = self.calls.entry(id).or_insert_with(|| (Vec::new(), row.clone(), answer.to_owned()));
        if call.0.iter().all(|known| known.number < attempt.number) {
            (call.1, call.2) = (row, answer.to_owned());
        }
        call.0.push(attempt);
        Ok(())
    }

    /// The call as its last attempt shows it.
    fn called(&mut self, cells: &Cells<'_>, id: u64, start: Time) -> anyhow::Result<CalledRow> {
        let latency = Span::from_micros(cells.i64("latency_us").and_then(|us| u64::try_from(us).ok()).unwrap_or_default());
        let status = cells.i64("status").and_then(|s| u16::try_from(s).ok());
        // A call that failed is over only when no further attempt is made.
        let failed = cells.time("ended_ns").filter(|_| status.is_none());
        let head = cells.time("stat_at_ns").or(failed).unwrap_or(start + latency);
        let explicit = cells.i64("origin_ttl_s").and_then(|s| u64::try_from(s).ok()).map(Span::from_secs);
        let facts = Facts { explicit, last_modified: cells.time("last_modified_ns"), ..Facts::default() };
        let paid = cells.money("cost_nanousd");
        let count = |name: &str| cells.i64(name).and_then(|n| u64::try_from(n).ok());
        let own_price = paid.filter(|_| status.is_some_and(|s| (200..300).contains(&s)));
        Ok(CalledRow {
            id,
            key: self.key(cells),
            route: self.route(cells)?,
            start,
            head,
            end: cells.time("ended_ns").unwrap_or(head).max(head),
            purpose: cells.text("purpose").and_then(Purpose::parse).unwrap_or(Purpose::User),
            paid,
            attempts: 1,
            price: self.prices.get(&id).copied().flatten().or(own_price),
            status,
            hash: cells.u64("stat_hash").or(cells.u64("canonical_hash")),
            bytes: count("body_bytes").or(count("bytes_in")).unwrap_or_default(),
            facts,
            bans: Bans::default(),
            not_stored: cells.text("not_stored_reason").and_then(UncachedReason::parse),
            query_parameters: count("query_parameters").and_then(|n| u32::try_from(n).ok()).unwrap_or_default(),
        })
    }

    #[allow(clippy::unnecessary_wraps, reason = "a visitor may fail")]
    fn outcome(&mut self, cells: &Cells<'_>) -> anyhow::Result<()> {
        let (at, opened) = (cells.time("ts_ns").unwrap_or_default(), cells.time("opened_ns").unwrap_or_default());
        match cells.text("closed_by") {
            Some("shutdown") if self.log.restarts.last() != Some(&at) => self.log.restarts.push(at),
            Some(by @ ("purged" | "evicted" | "expired")) => {
                let (key, purged) = (self.key(cells), by == "purged");
                self.log.ended.push(EndedRow { at, key, opened, purged });
            }
            _ => {}
        }
        Ok(())
    }

    fn finish(mut self) -> anyhow::Result<Log> {
        for (mut attempts, mut call, answer) in std::mem::take(&mut self.calls).into_values() {
            attempts.sort_by_key(|attempt| attempt.number);
            call.start = attempts.first().map_or(call.start, |first| first.start);
            // The answer has travelled since the first attempt.
            let Facts { explicit, last_modified, .. } = call.facts;
            let logged = Logged { requested_at: call.start, received_at: call.head, explicit, last_modified };
            (call.facts, call.bans) = Facts::from_noted(&answer, &logged).context("column `answer`")?;
            call.paid = attempts.iter().map(|attempt| attempt.cost).sum();
            call.attempts = u32::try_from(attempts.iter().filter(|attempt| attempt.sent).count()).unwrap_or(u32::MAX);
            self.log.called.push(call);
        }
        // A copy is dropped when the head of the unsafe call has come.
        let heads: HashMap<u64, Time> = self.log.called.iter().map(|call| (call.id, call.head)).collect();
        for (call, key) in self.invalidated.drain(..) {
            let Some(at) = heads.get(&call).copied() else { continue };
            self.log.ended.push(EndedRow { at, key, opened: at, purged: true });
        }
        self.log.restarts.extend(begun_anew(self.runs.values().copied().collect()));
        self.log.restarts.sort_unstable();
        self.log.restarts.dedup();
        self.log.sort();
        Ok(self.log)
    }
}

/// When a run began after all runs before it had ended: a process that was killed tells nothing of its copies. Runs that overlap are
/// instances side by side.
fn begun_anew(mut runs: Vec<(Time, Time)>) -> Vec<Time> {
    runs.sort_unstable();
    let mut ended: Option<Time> = None;
    let mut begun = Vec::new();
    for (first, last) in runs {
        begun.extend(ended.filter(|ended| *ended < first).map(|_| first));
        ended = ended.max(Some(last));
    }
    begun
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_after_all_others_is_a_restart_and_one_beside_them_is_none() {
        let span = |first, last| (Time::from_millis(first), Time::from_millis(last));
        assert_eq!(begun_anew(vec![span(30, 40), span(0, 20)]), [Time::from_millis(30)]);
        assert!(begun_anew(vec![span(0, 100), span(30, 40), span(50, 200)]).is_empty());
        assert!(begun_anew(vec![span(0, 100)]).is_empty() && begun_anew(Vec::new()).is_empty());
    }
}

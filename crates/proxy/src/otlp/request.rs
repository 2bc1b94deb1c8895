//! Spans of requests: of one as its client sees it, of an item of its list, and of what was asked of L2 and of leases for it.

use std::sync::Arc;

use farthing_ledger::{CostRecord, SavedBy};
use farthing_types::{Priority, SlaOutcome, Time, TraceContext, UncachedReason};

use super::Traces;
use super::span::{Kind, Span, id, micros, money, number, shared, text};
use crate::settle::{Account, Settled};
use crate::texts::method_text;

/// What the conventions call a method that they do not name.
const OTHER: &str = "_OTHER";
const METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];

impl Traces {
    /// Records a settled request, where its trace is; `now` is real time.
    pub fn request(&self, account: &Account, settled: &Settled, (cost, sla): (&CostRecord, Option<SlaOutcome>), now: Time) {
        let (at, parent) = self.of_request(account);
        if !at.is_sampled() {
            return;
        }
        let end = settled.latency.map_or(now, |latency| account.started + latency);
        let mut span = match &account.part {
            Some(_) => self.item(account, at, end),
            None => self.server(account, (at, parent), end),
        };
        tell_answer(&mut span, settled);
        tell_money(&mut span, cost);
        tell_plan(&mut span, account, settled);
        span.put("farthing.sla", sla.map(|sla| text(sla.as_str())));
        span.links.extend(settled.follows);
        self.asked_elsewhere(account, span.at);
        self.queue.push(span);
    }

    /// Records a request that carries a list, whose items are settled by themselves.
    pub fn list(&self, account: &Account, status: u16, now: Time) {
        let (at, parent) = self.of_request(account);
        if at.is_sampled() {
            let mut span = self.server(account, (at, parent), now);
            span.put("farthing.outcome", text("list"));
            tell_status(&mut span, status, None);
            self.queue.push(span);
        }
    }

    fn item(&self, account: &Account, of: TraceContext, end: Time) -> Span {
        let mut span = Span::new(self.of_account(account), Kind::Internal, "farthing.item", (account.started, end));
        span.parent = Some(of.span());
        span.put("farthing.route", shared(&account.route.route.name));
        span
    }

    fn asked_elsewhere(&self, account: &Account, of: TraceContext) {
        let Some((began, ended)) = account.looked else { return };
        // One for each request at most, so its id may follow from the request's.
        let mut span = Span::new(of.together(), Kind::Internal, "farthing.l2", (began, ended));
        span.parent = Some(of.span());
        span.put("farthing.l2.asking_us", micros(account.l2));
        span.put("farthing.l2.waited_for_another_us", micros(account.elsewhere));
        self.queue.push(span);
    }
}

impl Traces {
    fn server(&self, account: &Account, (at, parent): (TraceContext, Option<u64>), end: Time) -> Span {
        let route = &account.route.route;
        let place = route.matcher.path.as_ref().map_or(&*route.matcher.path_prefix, |path| path.as_str());
        let method = method(account);
        let shown = if &*method == OTHER { "HTTP" } else { &*method };
        let mut span = Span::new(at, Kind::Server, format!("{shown} {place}"), (account.started, end));
        (span.parent, span.remote) = (parent, parent.is_some());
        span.put("http.request.method", shared(&method));
        span.put("http.route", shared(&place.into()));
        span.put("url.scheme", text(self.scheme));
        span.put("farthing.request_id", id(account.id.0));
        span.put("farthing.route", shared(&route.name));
        span.put("farthing.provider", shared(&account.route.provider.name));
        span.put("farthing.priority", account.priority.map(|priority: Priority| text(priority.as_str())));
        span
    }
}

/// The method, as far as the conventions name it.
fn method(account: &Account) -> Arc<str> {
    known_method(&account.method)
}

pub(super) fn known_method(method: &http::Method) -> Arc<str> {
    if METHODS.contains(&method.as_str()) { method_text(method) } else { OTHER.into() }
}

fn tell_answer(span: &mut Span, settled: &Settled) {
    tell_status(span, settled.status, settled.error);
    span.put("farthing.outcome", text(settled.outcome.as_str()));
    span.put("farthing.uncached_reason", settled.uncached.map(|why: UncachedReason| text(why.as_str())));
    span.put("farthing.tier", settled.tier.map(text));
    span.put("farthing.overhead_us", number(settled.overhead.as_micros()));
    span.put("farthing.call_id", settled.call.map(|call| id(call.0)));
    span.put("http.response.body.size", settled.bytes_out.and_then(number));
}

/// An answer is an error of ours from 500 on, as the conventions have it for servers.
fn tell_status(span: &mut Span, status: u16, error: Option<&'static str>) {
    span.put("http.response.status_code", number(status));
    span.failed = status >= 500;
    let by_status = || shared(&status.to_string().into());
    span.put("error.type", error.map(text).or_else(|| span.failed.then(by_status)));
}

fn tell_money(span: &mut Span, cost: &CostRecord) {
    span.put("farthing.cost_nanousd", money(cost.cost));
    span.put("farthing.saved_nanousd", money(cost.saved));
    span.put("farthing.saved_by", cost.by.map(|by: SavedBy| text(by.as_str())));
}

fn tell_plan(span: &mut Span, account: &Account, settled: &Settled) {
    span.put("farthing.plan_id", account.plan.map(|plan| id(plan.0)));
    span.put("farthing.decision_id", settled.decision.map(|decision| id(decision.0)));
    if let Some(variant) = &account.variant {
        span.put("farthing.experiment", shared(variant.experiment().name()));
        span.put("farthing.variant", shared(variant.name()));
    }
    if account.holdout {
        span.put("farthing.holdout", super::span::Value::Flag(true));
    }
    span.put("farthing.queued_us", micros(account.queued));
}

//! Spans of calls to providers: one for each attempt, and for a call that is made for several one that is linked with all of them.

use farthing_types::{Batch, BatchPart, CallReport, Money, Time, TraceContext, UncachedReason, Usage};
use http::Uri;

use super::request::known_method;
use super::span::{Kind, Span, id, money, number, shared, text};
use super::{Caused, Traces};
use crate::flight::Flight;
use crate::pricing::Charged;
use crate::settle::CallEnd;

impl Traces {
    /// Records the attempts of a call that has ended, where its trace is recorded.
    pub fn call(&self, flight: &Flight, reports: &[CallReport], (charged, end): (&Charged, &CallEnd)) {
        let Some(caused) = flight.caused.as_ref().filter(|caused| caused.is_recorded()) else { return };
        let call = caused.call(flight.id);
        let last = reports.len().saturating_sub(1);
        for (index, report) in reports.iter().enumerate() {
            let nth = u16::try_from(index).unwrap_or(u16::MAX);
            let began = began(flight, report);
            let ended = end.ended.filter(|_| index == last).unwrap_or(began + report.head_after);
            let mut span = match &report.batch {
                Some(part) => self.member(flight, caused, (call.attempt(nth), part, report)),
                None => client(flight, caused, (call.attempt(nth), report), (began, ended)),
            };
            span.parent = caused.by_request.then_some(caused.by.span());
            if index > 0 && report.batch.is_none() {
                span.put("http.request.resend_count", number(index));
            }
            tell_cost(&mut span, flight, charged.cost(index));
            if index == last {
                tell_end(&mut span, flight, (charged, end));
            }
            self.queue.push(span);
        }
    }

    /// A call's part in a batch; the first of those that are recorded tells of the batch call itself.
    fn member(&self, flight: &Flight, caused: &Caused, (at, part, report): (TraceContext, &BatchPart, &CallReport)) -> Span {
        let began = began(flight, report);
        let ended = began + report.head_after;
        let joined = if part.attempt == 0 { flight.at.min(began) } else { began };
        let mut span = Span::new(at, Kind::Internal, "farthing.batch", (joined, ended));
        span.put("farthing.batch.size", number(part.size()));
        span.put("farthing.batch.id", id(part.batch.id.0));
        tell_status(&mut span, report);
        let spans = &part.batch.spans;
        let Some((teller, first)) = Batch::span(spans) else { return span };
        let nth = u16::try_from(part.attempt).unwrap_or(u16::MAX);
        let whole = first.attempt(nth);
        if teller == part.index {
            let own = part.batch.attempts.get(part.attempt).unwrap_or(report);
            let mut sent = client(flight, caused, (whole, own), (began, ended));
            sent.parent = Some(at.span());
            sent.links = spans.iter().enumerate().filter(|(index, _)| *index != teller).filter_map(|(_, span)| *span).collect();
            sent.put("farthing.batch.size", number(part.size()));
            sent.put("farthing.batch.id", id(part.batch.id.0));
            self.queue.push(sent);
        } else {
            span.links.push(whole);
        }
        span
    }
}

/// Where there is no wire, an attempt has no time of its own.
fn began(flight: &Flight, report: &CallReport) -> Time {
    if report.started > Time::ZERO { report.started } else { flight.at }
}

fn client(flight: &Flight, caused: &Caused, (at, report): (TraceContext, &CallReport), times: (Time, Time)) -> Span {
    let method = known_method(&caused.method);
    let mut span = Span::new(at, Kind::Client, method.clone(), times);
    span.put("http.request.method", shared(&method));
    let provider = flight.provider(report);
    if *provider == flight.route.provider.name {
        tell_place(&mut span, &flight.route.provider.base_url);
    }
    span.put("farthing.provider", shared(provider));
    span.put("farthing.upstream", shared(&report.upstream));
    span.put("farthing.routed_by", report.routed.as_ref().map(|routed| text(routed.by)));
    tell_status(&mut span, report);
    span
}

fn tell_place(span: &mut Span, base: &Uri) {
    let Some(host) = base.host() else { return };
    let usual = if base.scheme_str() == Some("https") { 443 } else { 80 };
    span.put("server.address", shared(&host.into()));
    span.put("server.port", number(base.port_u16().unwrap_or(usual)));
}

/// An answer is an error to its client from 400 on, as the conventions have it.
fn tell_status(span: &mut Span, report: &CallReport) {
    let status = report.status.map(|status| status.as_u16());
    span.put("http.response.status_code", status.and_then(number));
    let refused = status.filter(|status| *status >= 400);
    span.failed = report.failure.is_some() || refused.is_some();
    let by_status = refused.map(|status| shared(&status.to_string().into()));
    span.put("error.type", report.failure.map(|kind| text(kind.as_str())).or(by_status));
    if !report.sent {
        span.put("farthing.sent", super::span::Value::Flag(false));
    }
}

fn tell_cost(span: &mut Span, flight: &Flight, cost: Option<Money>) {
    span.put("farthing.call_id", id(flight.id.0));
    span.put("farthing.route", shared(&flight.route.route.name));
    span.put("farthing.purpose", text(flight.purpose.as_str()));
    span.put("farthing.fetch_reason", text(flight.fetch_reason));
    span.put("farthing.cost_nanousd", money(cost));
}

fn tell_end(span: &mut Span, flight: &Flight, (charged, end): (&Charged, &CallEnd)) {
    span.put("farthing.decision_id", end.decision.map(|decision| id(decision.0)));
    span.put("farthing.not_stored_reason", end.stored.and_then(Result::err).map(|why: UncachedReason| text(why.as_str())));
    span.put("http.response.body.size", end.bytes.and_then(number));
    tell_tokens(span, flight, (charged.usage, end));
}

/// Names of semantic-conventions-genai (1.37); counts of input and output are whole there, whatever they are billed as.
fn tell_tokens(span: &mut Span, flight: &Flight, (usage, end): (Usage, &CallEnd)) {
    let sum = |parts: &[Option<u64>]| parts.iter().copied().flatten().reduce(u64::saturating_add).and_then(number);
    let input = sum(&[usage.input, usage.cached_input, usage.cache_write, usage.cache_write_1h]);
    let output = sum(&[usage.output, usage.reasoning]);
    if input.is_none() && output.is_none() {
        return;
    }
    span.put("gen_ai.provider.name", shared(&flight.route.provider.name));
    span.put("gen_ai.request.model", flight.target.as_ref().map(shared));
    span.put("gen_ai.response.model", end.usage.target.as_ref().map(shared));
    span.put("gen_ai.usage.input_tokens", input);
    span.put("gen_ai.usage.output_tokens", output);
    span.put("gen_ai.usage.cache_read.input_tokens", usage.cached_input.and_then(number));
    span.put("gen_ai.usage.cache_creation.input_tokens", sum(&[usage.cache_write, usage.cache_write_1h]));
    span.put("gen_ai.usage.reasoning.output_tokens", usage.reasoning.and_then(number));
}

//! Trace context of requests: read, sent on with their calls, told in log and log lines.

use farthing_config::Mode;
use farthing_types::{CallId, RequestId, TraceContext, trace_state};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::otlp::Traces;
use crate::settle::{Account, Settled};

const PARENT: HeaderName = HeaderName::from_static("traceparent");
const STATE: HeaderName = HeaderName::from_static("tracestate");
const BAGGAGE: HeaderName = HeaderName::from_static("baggage");
/// Keeps trace ids apart from the ids that they are made of.
const HALF: u64 = 0x9e37_79b9_7f4a_7c15;

/// The trace that a request came with; none where what it says is wrong, or said twice.
pub fn of(headers: &HeaderMap) -> Option<TraceContext> {
    let mut lines = headers.get_all(PARENT).iter();
    let (only, None) = (lines.next()?, lines.next()) else { return None };
    TraceContext::parse(only.to_str().ok()?)
}

/// The trace that a request without one begins: its id ends in the request's.
pub fn begun(request: RequestId) -> u128 {
    let random = request.0;
    u128::from(random.rotate_left(29).wrapping_mul(HALF)) << 64 | u128::from(random)
}

/// Puts the trace of a request into the headers of its call, whose span bears the call's id. A request without one begins one, which is to be recorded
/// where it is here: by `traces`, or by the log alone.
pub fn send(account: &mut Account, headers: &mut HeaderMap, call: CallId, traces: Option<&Traces>) {
    if !account.route.route.trace_context {
        for name in [PARENT, STATE, BAGGAGE] {
            headers.remove(name);
        }
        return;
    }
    // It changes nothing, and a trace that passes by is whole.
    if account.route.route.mode == Mode::Observe {
        return;
    }
    let state = account.trace.and_then(|_| trace_state(headers.get_all(STATE).iter().map(|line| line.to_str().unwrap_or("="))));
    let own = begun(account.id);
    let start = || TraceContext::start(own, call.0).recorded(traces.is_none_or(|traces| traces.samples(own)));
    let trace = account.trace.get_or_insert_with(start).child(call.0);
    put(headers, PARENT, Some(trace.to_string()));
    put(headers, STATE, state);
}

fn put(headers: &mut HeaderMap, name: HeaderName, text: Option<String>) {
    headers.remove(&name);
    if let Some(value) = text.and_then(|text| HeaderValue::try_from(text).ok()) {
        headers.insert(name, value);
    }
}

/// Tells a request that is part of a trace in the log lines.
pub fn tell(account: &Account, settled: &Settled) {
    let Some(trace) = account.trace else { return };
    tracing::debug!(
        trace_id = trace.trace_id(),
        request = %account.id,
        route = &*account.route.route.name,
        tenant = &*account.identity.tenant,
        outcome = settled.outcome.as_str(),
        status = settled.status,
        error = settled.error,
        "request"
    );
}

//! Deliveries: spans go to the collector in the background, some together, each until it is taken, refused or too old.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use farthing_config::OtlpConfig;
use farthing_ledger::watch::pause;
use farthing_types::call::NoSink;
use farthing_types::{Body, Call, CallId, Claim, Clock, Draw, DrawKind, Purpose, Reply, Span as Length};
use farthing_upstream::{Client, Origin, Roots, UpstreamSpec};
use http::header::{CONTENT_TYPE, RETRY_AFTER, USER_AGENT};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use http_body_util::{BodyExt, Limited};
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

use super::span::Span;
use super::{Traces, wire};
use crate::StartError;

/// How long a delivery is tried, about: what is older is given up for what comes after it.
const PATIENCE: Length = Length::from_secs(60);
/// Longest pause between two attempts, unless the collector asks for more.
const LONGEST_PAUSE: Length = Length::from_secs(30);
/// The longest that a collector may ask for.
const LONGEST_ASKED: Length = Length::from_secs(300);
/// So many failures one after the other, and the collector is left alone for [`REST`] before each further attempt.
const FAILURES: u32 = 5;
const REST: Length = Length::from_secs(30);
/// An answer holds next to nothing.
const LONGEST_ANSWER: usize = 65_536;

/// What delivers.
pub struct Exporter {
    origin: Arc<dyn Origin>,
    target: Uri,
    headers: HeaderMap,
    deadline: Length,
    draw: Draw,
    number: u64,
    /// Failures since a delivery was last answered as it should.
    failures: u32,
    /// No attempt is made before.
    rests_until: Option<Instant>,
}

/// How an attempt ended.
enum Told {
    /// The collector has them, but for so many.
    Taken(u64),
    /// It never will.
    Refused(String),
    /// It may, later, and perhaps says when.
    Later(String, Option<Length>),
}

impl Exporter {
    pub(super) fn new(config: &OtlpConfig, clock: Arc<dyn Clock>, draw: Draw) -> Result<Self, StartError> {
        let wrong = |error: String| StartError::Traces(error);
        let target = config.endpoint.path_and_query().map_or("/", PathAndQuery::as_str);
        let target = target.parse().map_err(|error: http::uri::InvalidUri| wrong(error.to_string()))?;
        let mut base = config.endpoint.clone().into_parts();
        base.path_and_query = Some(PathAndQuery::from_static("/"));
        let base = Uri::from_parts(base).map_err(|error| wrong(error.to_string()))?;
        let roots = config.authorities.as_ref().map_or(Roots::WebPki, |pem| Roots::Pem(pem.as_bytes().into()));
        let spec = UpstreamSpec { max_concurrent: 1, roots, ..UpstreamSpec::new("telemetry.otlp", base) };
        let client = Client::new(&spec, clock, Arc::default()).map_err(|error| wrong(error.to_string()))?;
        let mut headers = HeaderMap::from_iter([
            (CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf")),
            (USER_AGENT, HeaderValue::from_static(concat!("farthing/", env!("CARGO_PKG_VERSION")))),
        ]);
        for (name, value) in &config.headers {
            let mut value = HeaderValue::from_str(value.expose()).map_err(|_| wrong(format!("headers.{name} is no value of a header")))?;
            value.set_sensitive(true);
            headers.insert(name.clone(), value);
        }
        Ok(Self::by(Arc::new(client), (target, headers), (config.deadline, draw)))
    }

    pub(super) fn by(origin: Arc<dyn Origin>, (target, headers): (Uri, HeaderMap), (deadline, draw): (Length, Draw)) -> Self {
        Self { origin, target, headers, deadline, draw, number: 0, failures: 0, rests_until: None }
    }

    /// Delivers what comes, and at the end what is there, each of that once.
    pub(super) async fn run(mut self, traces: Arc<Traces>, last: CancellationToken) {
        while !last.is_cancelled() {
            tokio::select! {
                () = traces.queue.filled() => {}
                () = tokio::time::sleep(traces.config.interval) => {}
                () = last.cancelled() => break,
            }
            let spans = traces.queue.take();
            if !spans.is_empty() {
                self.deliver(&traces, &spans, &last).await;
                traces.queue.done(spans);
            }
        }
        loop {
            let spans = traces.queue.take();
            if spans.is_empty() {
                return;
            }
            self.deliver(&traces, &spans, &last).await;
            traces.queue.done(spans);
        }
    }

    async fn deliver(&mut self, traces: &Traces, spans: &[Span], last: &CancellationToken) {
        self.number += 1;
        let body = Bytes::from(wire::delivery(&traces.config.attributes, spans));
        let (counts, all, until) = (&traces.counts, spans.len() as u64, Instant::now() + PATIENCE);
        for attempts in 1u32.. {
            if let Some(rest) = self.rests_until.take() {
                tokio::select! {
                    () = sleep_until(rest) => {}
                    () = last.cancelled() => {}
                }
            }
            let told = self.attempt(body.clone()).await;
            let (problem, asked) = match told {
                Told::Taken(rejected) => {
                    let rejected = rejected.min(all);
                    counts.sent.fetch_add(all - rejected, Ordering::Relaxed);
                    counts.refused.fetch_add(rejected, Ordering::Relaxed);
                    return self.works(traces);
                }
                Told::Refused(problem) => {
                    counts.refused.fetch_add(all, Ordering::Relaxed);
                    self.failures = 0;
                    if !counts.down.swap(true, Ordering::Relaxed) {
                        tracing::warn!(spans = all, problem, "the collector refuses spans");
                    }
                    return;
                }
                Told::Later(problem, asked) => (problem, asked),
            };
            counts.faults.fetch_add(1, Ordering::Relaxed);
            self.failed(traces, &problem, (attempts, asked));
            let beyond = self.rests_until.is_none_or(|rest| rest > until);
            if beyond || last.is_cancelled() {
                counts.given_up.fetch_add(all, Ordering::Relaxed);
                return;
            }
        }
    }

    /// The collector answers as it should.
    fn works(&mut self, traces: &Traces) {
        self.failures = 0;
        if traces.counts.down.swap(false, Ordering::Relaxed) {
            tracing::info!("the collector of traces takes spans again");
        }
    }

    /// Decides when the next attempt may be made.
    fn failed(&mut self, traces: &Traces, problem: &str, (attempts, asked): (u32, Option<Length>)) {
        self.failures = self.failures.saturating_add(1);
        let uniform = self.draw.uniform(DrawKind::Jitter, "otlp", u128::from(self.number), i64::from(attempts));
        let open = self.failures >= FAILURES;
        let own = if open { REST } else { pause(attempts, uniform).min(LONGEST_PAUSE) };
        let rest = asked.map_or(own, |asked| asked.min(LONGEST_ASKED).max(own));
        self.rests_until = Some(Instant::now() + rest);
        if open && !traces.counts.down.swap(true, Ordering::Relaxed) {
            tracing::warn!(problem, "the collector of traces takes nothing; spans are dropped until it does");
        }
    }

    async fn attempt(&self, body: Bytes) -> Told {
        let call = Call {
            id: CallId(self.number),
            route: "telemetry".into(),
            payer: "farthing".into(),
            purpose: Purpose::User,
            key: None,
            method: Method::POST,
            target: self.target.clone(),
            headers: self.headers.clone(),
            body: Body::full(body),
            repeatable: false,
            deadline: self.deadline,
            claim: Claim::default(),
            batch: None,
            routing: None,
            sink: Arc::new(NoSink),
        };
        let until = Instant::now() + self.deadline;
        match timeout_at(until, self.origin.fetch(call)).await {
            Ok(Ok(reply)) => told(reply, until).await,
            Ok(Err(failure)) => Told::Later(failure.to_string(), None),
            Err(_) => Told::Later(format!("no answer within {:?}", self.deadline), None),
        }
    }
}

/// What an answer means (OTLP 1.7, "OTLP/HTTP Response" and "Retryable Response Codes").
async fn told(reply: Reply, until: Instant) -> Told {
    let status = reply.status;
    if status.is_success() {
        // Only its head counts where its body does not come.
        let body = timeout_at(until, Limited::new(reply.body, LONGEST_ANSWER).collect()).await;
        return Told::Taken(body.ok().and_then(Result::ok).map_or(0, |body| wire::rejected(&body.to_bytes())));
    }
    let problem = format!("answered {status}");
    let again = [StatusCode::TOO_MANY_REQUESTS, StatusCode::BAD_GATEWAY, StatusCode::SERVICE_UNAVAILABLE, StatusCode::GATEWAY_TIMEOUT];
    if !again.contains(&status) {
        return Told::Refused(problem);
    }
    let seconds = reply.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
    Told::Later(problem, seconds.map(Length::from_secs))
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;

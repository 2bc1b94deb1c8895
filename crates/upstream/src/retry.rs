//! Repeats failed calls where repeating cannot do harm.

use std::sync::Arc;

use farthing_types::{Body, Call, CallReport, CallSink, Clock, Draw, DrawKind, Failure, FailureKind, Reply, Reserved, Span, Time};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::header::{ETAG, HeaderName, LAST_MODIFIED, RETRY_AFTER};
use http::{HeaderMap, Method, StatusCode};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

use crate::Origin;
use crate::client::after;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// When and how often a call is repeated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetrySpec {
    /// Attempts of one call, the first included; 1 never repeats.
    pub attempts: u16,
    /// Upper bound of the first wait; doubles with each further attempt.
    pub backoff: Span,
    /// Upper bound of any wait that the upstream did not ask for.
    pub backoff_max: Span,
    /// Repeats allowed per call in the long run, all calls of the upstream together.
    pub budget_share: f64,
    /// Repeats allowed at once when calls were well for long.
    pub budget_burst: u32,
    /// Seed of the jitter.
    pub seed: u64,
}

impl Default for RetrySpec {
    fn default() -> Self {
        Self {
            attempts: 3,
            backoff: Span::from_millis(100),
            backoff_max: Span::from_secs(10),
            budget_share: 0.2,
            budget_burst: 20,
            seed: 0,
        }
    }
}

/// Repeats a call when all of these hold:
/// - its body is held whole (a stream cannot be sent twice);
/// - no request byte was sent, or the method is idempotent, or the client sent an `Idempotency-Key`;
/// - it failed on the way, or was answered 502, 503 or 504, or 408, 429 or 503 with a `Retry-After`; an error with an `ETag` or a
///   `Last-Modified` is a representation that the origin keeps (RFC 9110 section 8.8), so that asking again would bring the same;
/// - attempts, retry budget and the call's deadline allow it, the wait included.
///
/// The wait is drawn uniformly from zero to a bound that doubles with each attempt ("full jitter"); a `Retry-After` replaces it. When the
/// last attempt fails too, its reply or failure is handed on as it is.
pub struct Retry(Arc<Shared>);

struct Shared {
    inner: Arc<dyn Origin>,
    name: Arc<str>,
    spec: RetrySpec,
    budget: Budget,
    clock: Arc<dyn Clock>,
}

impl Retry {
    /// Repeats calls to `inner`; `clock` tells how far off a date in `Retry-After` is.
    pub fn new(inner: Arc<dyn Origin>, name: Arc<str>, spec: RetrySpec, clock: Arc<dyn Clock>) -> Self {
        Self(Arc::new(Shared { inner, name, spec, budget: Budget::new(&spec), clock }))
    }
}

impl Origin for Retry {
    fn fetch(&self, call: Call) -> BoxFuture<'static, Result<Reply, Failure>> {
        self.0.budget.earn();
        match Template::of(&call) {
            Some(template) if self.0.spec.attempts > 1 => {
                let shared = Arc::clone(&self.0);
                async move { shared.run(call, template).await }.boxed()
            }
            _ => self.0.inner.fetch(call),
        }
    }
}

impl Shared {
    async fn run(&self, first: Call, template: Template) -> Result<Reply, Failure> {
        let ends = after(Instant::now(), template.call.deadline);
        let mut call = first;
        let mut attempt = 0u16;
        loop {
            let result = self.inner.fetch(call).await;
            let Some(wait) = self.wait(&result, &template, attempt) else { return result };
            if attempt + 1 >= self.spec.attempts || after(Instant::now(), wait) >= ends || !self.budget.spend() {
                return result;
            }
            drop(result);
            sleep(wait).await;
            attempt += 1;
            call = template.call(attempt, ends.saturating_duration_since(Instant::now()));
        }
    }

    /// How long to wait before repeating; `None` when it must not or need not be repeated.
    fn wait(&self, result: &Result<Reply, Failure>, template: &Template, attempt: u16) -> Option<Span> {
        match result {
            Err(failure) => {
                let passing = matches!(failure.kind, FailureKind::Connect | FailureKind::Broken | FailureKind::Timeout);
                (passing && (!failure.sent || template.repeatable)).then(|| self.backoff(template, attempt))
            }
            Ok(_) if !template.repeatable => None,
            Ok(reply) => match (reply.status, retry_after(&reply.headers, self.clock.now())) {
                (StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE, Some(wait)) => Some(wait),
                (StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT, None)
                    if !has_validator(&reply.headers) =>
                {
                    Some(self.backoff(template, attempt))
                }
                _ => None,
            },
        }
    }

    fn backoff(&self, template: &Template, attempt: u16) -> Span {
        let doubled = self.spec.backoff.saturating_mul(1u32.checked_shl(u32::from(attempt)).unwrap_or(u32::MAX));
        let draw = Draw::new(self.spec.seed).uniform(DrawKind::Jitter, &self.name, u128::from(template.call.id.0), i64::from(attempt));
        doubled.min(self.spec.backoff_max).mul_f64(draw)
    }
}

fn has_validator(headers: &HeaderMap) -> bool {
    headers.contains_key(ETAG) || headers.contains_key(LAST_MODIFIED)
}

/// The wait that the upstream asks for: seconds, or a date.
pub(crate) fn retry_after(headers: &HeaderMap, now: Time) -> Option<Span> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return Some(Span::from_secs(text.parse().unwrap_or(u64::from(u32::MAX))));
    }
    let date = httpdate::parse_http_date(text).ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some((Time::ZERO + date).since(now))
}

/// Whether a call may be made again after request bytes were sent: a provider may then bill it more than once.
pub fn is_repeatable(method: &Method, headers: &HeaderMap) -> bool {
    method.is_idempotent() || headers.get(IDEMPOTENCY_KEY).is_some_and(|key| !key.is_empty())
}

/// What is needed to make a call again. Its body is always whole.
struct Template {
    call: Call,
    body: bytes::Bytes,
    repeatable: bool,
}

impl Template {
    fn of(call: &Call) -> Option<Self> {
        let body = call.body.as_full()?;
        Some(Self { repeatable: is_repeatable(&call.method, &call.headers), call: copy(call, body.clone()), body })
    }

    fn call(&self, attempt: u16, deadline: Span) -> Call {
        let mut call = copy(&self.call, self.body.clone());
        call.sink = Arc::new(Numbered { sink: Arc::clone(&self.call.sink), attempt });
        call.deadline = deadline;
        call
    }
}

fn copy(call: &Call, body: bytes::Bytes) -> Call {
    Call {
        id: call.id,
        route: Arc::clone(&call.route),
        payer: Arc::clone(&call.payer),
        purpose: call.purpose,
        key: call.key,
        method: call.method.clone(),
        target: call.target.clone(),
        headers: call.headers.clone(),
        body: Body::full(body),
        deadline: call.deadline,
        claim: call.claim,
        batch: call.batch.clone(),
        sink: Arc::clone(&call.sink),
    }
}

/// Writes the attempt's number into the reports of the innermost client, which cannot know it.
struct Numbered {
    sink: Arc<dyn CallSink>,
    attempt: u16,
}

impl CallSink for Numbered {
    fn attempt(&self, mut report: CallReport) {
        report.attempt = self.attempt;
        self.sink.attempt(report);
    }
    fn waited(&self, span: Span) {
        self.sink.waited(span);
    }
    fn reserved(&self, tokens: Box<dyn Reserved>) {
        self.sink.reserved(tokens);
    }
}

/// Each call earns a fraction of a repeat, each repeat spends one: an upstream that fails all calls gets at most that fraction on top.
struct Budget {
    tokens: Mutex<f64>,
    share: f64,
    burst: f64,
}

impl Budget {
    fn new(spec: &RetrySpec) -> Self {
        let burst = f64::from(spec.budget_burst);
        Self { tokens: Mutex::new(burst), share: spec.budget_share.max(0.0), burst }
    }
    fn earn(&self) {
        let mut tokens = self.tokens.lock();
        *tokens = (*tokens + self.share).min(self.burst);
    }
    fn spend(&self) -> bool {
        let mut tokens = self.tokens.lock();
        let enough = *tokens >= 1.0;
        if enough {
            *tokens -= 1.0;
        }
        enough
    }
}

#[cfg(test)]
#[path = "retry_tests.rs"]
mod tests;

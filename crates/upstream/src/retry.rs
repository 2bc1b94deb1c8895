//! Repeats failed calls where repeating cannot do harm.

use std::pin::pin;
use std::sync::Arc;

use farthing_types::{Call, Clock, Draw, DrawKind, Failure, FailureKind, Reply, Span, Time};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::header::{ETAG, HeaderName, LAST_MODIFIED, RETRY_AFTER};
use http::{HeaderMap, Method, StatusCode};
use parking_lot::Mutex;
use tokio::time::{Instant, timeout};

use crate::client::after;
use crate::later::Later;
use crate::retry_budget::RetryBudget;
use crate::traffic::{NotRepeated, Traffic};
use crate::{Health, Origin};

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
    /// Repeats allowed per call, all calls of the upstream in the last ten seconds together.
    pub budget_share: f64,
    /// Repeats allowed per second whatever the share says.
    pub budget_floor: u32,
    /// Seed of the jitter.
    pub seed: u64,
}

impl Default for RetrySpec {
    fn default() -> Self {
        Self { attempts: 3, backoff: Span::from_millis(100), backoff_max: Span::from_secs(10), budget_share: 0.2, budget_floor: 2, seed: 0 }
    }
}

/// Repeats a call when all of these hold:
/// - its body is held whole (a stream cannot be sent twice);
/// - no request byte was sent, or the method is idempotent, or the client sent an `Idempotency-Key`, or the route allows it;
/// - it failed on the way, or was answered 502, 503 or 504, or 408, 429 or 503 with a `Retry-After`; an error with an `ETag` or a
///   `Last-Modified` is a representation that the origin keeps (RFC 9110 section 8.8), so that asking again would bring the same;
/// - attempts, retry budget and the call's deadline allow it, the wait included.
///
/// The wait is drawn uniformly from zero to a bound that doubles with each attempt ("full jitter"); a `Retry-After` replaces it. What is
/// not repeated is counted by reason, and its reply or failure handed on as it is. Nobody waits for an upstream whose breaker is open.
pub struct Retry(Arc<Shared>);

struct Shared {
    inner: Arc<dyn Origin>,
    name: Arc<str>,
    spec: RetrySpec,
    budget: Arc<Mutex<RetryBudget>>,
    /// What the budget counts from.
    began: Instant,
    clock: Arc<dyn Clock>,
    watched: Watched,
    /// Each call has been attempted once already.
    again: bool,
}

/// What is known of the upstream beside its answers.
#[derive(Clone)]
pub struct Watched {
    /// The breaker below.
    pub health: Arc<Health>,
    /// Where repeats are counted.
    pub traffic: Arc<Traffic>,
}

impl Retry {
    /// Repeats calls to `inner`; `clock` tells how far off a date in `Retry-After` is.
    pub fn new(inner: Arc<dyn Origin>, name: Arc<str>, spec: RetrySpec, clock: Arc<dyn Clock>, watched: Watched) -> Self {
        let budget = Arc::new(Mutex::new(RetryBudget::new(spec.budget_share, spec.budget_floor)));
        Self(Arc::new(Shared { inner, name, spec, budget, began: Instant::now(), clock, watched, again: false }))
    }

    /// The same for calls that have been attempted once already: with what attempts are left, under the same budget. `None` where none is.
    pub fn again(&self) -> Option<Self> {
        let Shared { inner, name, spec, budget, began, clock, watched, .. } = &*self.0;
        let spec = RetrySpec { attempts: spec.attempts.checked_sub(1).filter(|left| *left > 0)?, ..*spec };
        let (inner, name, budget, clock) = (inner.clone(), name.clone(), budget.clone(), clock.clone());
        Some(Self(Arc::new(Shared { inner, name, spec, budget, began: *began, clock, watched: watched.clone(), again: true })))
    }
}

impl Origin for Retry {
    fn fetch(&self, call: Call) -> BoxFuture<'static, Result<Reply, Failure>> {
        self.0.begin();
        let template = if self.0.spec.attempts > 1 { Template::of(&call) } else { None };
        let ends = after(Instant::now(), call.deadline);
        // The first attempt is moved once, into the future that makes it.
        let first = self.0.inner.fetch(call);
        match template {
            Some(template) => {
                let shared = Arc::clone(&self.0);
                async move { shared.run(first, template, ends).await }.boxed()
            }
            None => first,
        }
    }
}

impl Shared {
    /// Counts a call; one that has been attempted already is a repeat, which whoever orders it has decided.
    fn begin(&self) {
        let mut budget = self.budget.lock();
        if self.again {
            let _counted = budget.take(self.began.elapsed());
            self.watched.traffic.count_repeat();
        } else {
            budget.called(self.began.elapsed());
        }
    }

    async fn run(
        &self,
        first: BoxFuture<'static, Result<Reply, Failure>>,
        template: Box<Template>,
        ends: Instant,
    ) -> Result<Reply, Failure> {
        let mut attempting = first;
        let mut attempt = 0u16;
        loop {
            let result = attempting.await;
            let Some(wait) = self.wait(&result, &template, attempt) else { return result };
            let mut opens = pin!(self.watched.health.opens());
            opens.as_mut().enable();
            if let Err(why) = self.may_repeat(attempt, wait, ends) {
                self.watched.traffic.count_not_repeated(why);
                return result;
            }
            drop(result);
            // Where the breaker opens meanwhile, the next attempt says so at once.
            drop(timeout(wait, opens).await);
            self.watched.traffic.count_repeat();
            attempt += 1;
            attempting = self.inner.fetch(template.call(attempt, ends.saturating_duration_since(Instant::now())));
        }
    }

    /// Whether a call may be made again after `wait`; the last question takes room in the budget.
    fn may_repeat(&self, attempt: u16, wait: Span, ends: Instant) -> Result<(), NotRepeated> {
        if attempt + 1 >= self.spec.attempts {
            Err(NotRepeated::Attempts)
        } else if after(Instant::now(), wait) >= ends {
            Err(NotRepeated::Deadline)
        } else if self.watched.health.is_open_for(wait) {
            Err(NotRepeated::BreakerOpen)
        } else if !self.budget.lock().take(self.began.elapsed()) {
            Err(NotRepeated::Budget)
        } else {
            Ok(())
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

/// The same of a call, with what its route says.
pub(crate) fn may_be_made_again(call: &Call) -> bool {
    call.repeatable || is_repeatable(&call.method, &call.headers)
}

/// What is needed to make a call again. Its body is always whole.
struct Template {
    call: Call,
    body: bytes::Bytes,
    repeatable: bool,
}

impl Template {
    fn of(call: &Call) -> Option<Box<Self>> {
        let body = call.body.as_full()?;
        Some(Box::new(Self { repeatable: may_be_made_again(call), call: call.with_body(body.clone()), body }))
    }

    fn call(&self, attempt: u16, deadline: Span) -> Call {
        let mut call = self.call.with_body(self.body.clone());
        call.sink = Later::new(Arc::clone(&self.call.sink), attempt);
        call.deadline = deadline;
        call
    }
}

#[cfg(test)]
#[path = "retry_tests.rs"]
mod tests;

use std::collections::VecDeque;

use farthing_types::call::NoSink;
use farthing_types::{CallId, Purpose, VirtualClock};
use http::{HeaderValue, Method};

use super::*;

type Answer = Result<(u16, &'static [(&'static str, &'static str)]), Failure>;

/// Answers from a script and notes when it was asked, with which deadline.
struct Scripted {
    script: Mutex<VecDeque<Answer>>,
    asked: Mutex<Vec<(Span, Span)>>,
    began: Instant,
}

impl Origin for Arc<Scripted> {
    fn fetch(&self, call: Call) -> BoxFuture<'static, Result<Reply, Failure>> {
        assert_eq!(call.body.as_full().map_or(0, |b| b.len()), if call.method == Method::POST { 5 } else { 0 });
        self.asked.lock().push((self.began.elapsed(), call.deadline));
        call.sink.attempt(report(&call));
        let answer = self.script.lock().pop_front().expect("another attempt was not to be made");
        let reply = answer.map(|(status, fields)| {
            let mut headers = HeaderMap::new();
            for (name, value) in fields {
                headers.insert(*name, HeaderValue::from_static(value));
            }
            Reply { status: StatusCode::from_u16(status).unwrap(), headers, body: Body::empty() }
        });
        std::future::ready(reply).boxed()
    }
}

fn report(call: &Call) -> CallReport {
    CallReport::only(call, "u", None)
}

#[derive(Default)]
struct Numbers(Mutex<Vec<u16>>);
impl CallSink for Numbers {
    fn attempt(&self, report: CallReport) {
        self.0.lock().push(report.attempt);
    }
}

fn call(method: Method, fields: &[(&'static str, &'static str)]) -> Call {
    let body = if method == Method::POST { Body::full("hello") } else { Body::empty() };
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.insert(*name, HeaderValue::from_static(value));
    }
    Call {
        id: CallId(7),
        route: "r".into(),
        payer: "t".into(),
        purpose: Purpose::User,
        key: None,
        method,
        target: "/a".parse().unwrap(),
        headers,
        body,
        deadline: Span::from_secs(60),
        claim: farthing_types::Claim::default(),
        batch: None,
        sink: Arc::new(NoSink),
    }
}

fn scripted(script: Vec<Answer>) -> Arc<Scripted> {
    Arc::new(Scripted { script: Mutex::new(script.into()), asked: Mutex::default(), began: Instant::now() })
}

fn retry(origin: &Arc<Scripted>, spec: RetrySpec) -> Retry {
    // Thursday, 1 January 1970 00:01:00 GMT
    Retry::new(Arc::new(Arc::clone(origin)), "u".into(), spec, Arc::new(VirtualClock::new(Time::from_millis(60_000))))
}

/// The status or failure at the end, and how many attempts it took.
async fn run(call: Call, script: Vec<Answer>) -> (Result<u16, FailureKind>, usize) {
    let origin = scripted(script);
    let result = retry(&origin, RetrySpec::default()).fetch(call).await;
    let attempts = origin.asked.lock().len();
    assert!(origin.script.lock().is_empty(), "an attempt that was expected was not made");
    (result.map(|reply| reply.status.as_u16()).map_err(|failure| failure.kind), attempts)
}

fn sent(kind: FailureKind) -> Answer {
    Err(Failure::sent(kind, "x"))
}
fn unsent(kind: FailureKind) -> Answer {
    Err(Failure::unsent(kind, "x"))
}

#[tokio::test(start_paused = true)]
async fn what_was_not_sent_is_repeated_whatever_the_method() {
    for kind in [FailureKind::Connect, FailureKind::Broken, FailureKind::Timeout] {
        assert_eq!(run(call(Method::POST, &[]), vec![unsent(kind), Ok((200, &[]))]).await, (Ok(200), 2));
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_sent_is_repeated_only_when_repeating_cannot_harm() {
    let broken = || sent(FailureKind::Broken);
    assert_eq!(run(call(Method::POST, &[]), vec![broken()]).await, (Err(FailureKind::Broken), 1));
    assert_eq!(run(call(Method::PATCH, &[]), vec![broken()]).await, (Err(FailureKind::Broken), 1));
    for method in [Method::GET, Method::PUT, Method::DELETE] {
        assert_eq!(run(call(method, &[]), vec![broken(), Ok((200, &[]))]).await, (Ok(200), 2));
    }
    let keyed = call(Method::POST, &[("idempotency-key", "k")]);
    assert_eq!(run(keyed, vec![broken(), Ok((200, &[]))]).await, (Ok(200), 2));
}

#[tokio::test(start_paused = true)]
async fn what_says_nothing_about_the_upstream_is_not_repeated() {
    for kind in [FailureKind::BreakerOpen, FailureKind::Refused, FailureKind::RequestBody, FailureKind::Protocol, FailureKind::LeaderGone] {
        assert_eq!(run(call(Method::GET, &[]), vec![unsent(kind)]).await, (Err(kind), 1));
    }
}

#[tokio::test(start_paused = true)]
async fn statuses() {
    let after: &'static [(&'static str, &'static str)] = &[("retry-after", "2")];
    for status in [408, 429, 503] {
        assert_eq!(run(call(Method::GET, &[]), vec![Ok((status, after)), Ok((200, &[]))]).await, (Ok(200), 2));
        assert_eq!(run(call(Method::POST, &[]), vec![Ok((status, after))]).await, (Ok(status), 1));
    }
    for status in [502, 503, 504] {
        assert_eq!(run(call(Method::GET, &[]), vec![Ok((status, &[])), Ok((200, &[]))]).await, (Ok(200), 2));
    }
    for status in [400, 401, 404, 408, 429, 500, 501] {
        assert_eq!(run(call(Method::GET, &[]), vec![Ok((status, &[]))]).await, (Ok(status), 1));
    }
    let kept: [&'static [(&'static str, &'static str)]; 2] = [&[("etag", "\"a\"")], &[("last-modified", "Thu, 01 Jan 1970 00:01:20 GMT")]];
    for validator in kept {
        assert_eq!(run(call(Method::GET, &[]), vec![Ok((503, validator))]).await, (Ok(503), 1), "the origin keeps this one");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_sent_once() {
    let mut streamed = call(Method::GET, &[]);
    streamed.body = Body::stream(Body::empty());
    let origin = scripted(vec![unsent(FailureKind::Connect)]);
    struct Any(Arc<Scripted>);
    impl Origin for Any {
        fn fetch(&self, call: Call) -> BoxFuture<'static, Result<Reply, Failure>> {
            assert!(call.body.as_full().is_none());
            self.0.asked.lock().push((Span::ZERO, call.deadline));
            std::future::ready(Err(Failure::unsent(FailureKind::Connect, "x"))).boxed()
        }
    }
    let retry = Retry::new(Arc::new(Any(Arc::clone(&origin))), "u".into(), RetrySpec::default(), Arc::new(VirtualClock::default()));
    assert!(retry.fetch(streamed).await.is_err());
    assert_eq!(origin.asked.lock().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn waits_as_long_as_asked_and_no_longer_than_the_deadline() {
    let origin =
        scripted(vec![Ok((429, &[("retry-after", "7")])), Ok((503, &[("retry-after", "Thu, 01 Jan 1970 00:01:20 GMT")])), Ok((200, &[]))]);
    retry(&origin, RetrySpec::default()).fetch(call(Method::GET, &[])).await.unwrap();
    let at: Vec<(u64, u64)> = origin.asked.lock().iter().map(|(at, deadline)| (at.as_secs(), deadline.as_secs())).collect();
    assert_eq!(at, [(0, 60), (7, 53), (27, 33)]);
    assert_eq!(run(call(Method::GET, &[]), vec![Ok((429, &[("retry-after", "60")]))]).await, (Ok(429), 1));
    assert_eq!(run(call(Method::GET, &[]), vec![Ok((429, &[("retry-after", "99999999999999999999999")]))]).await, (Ok(429), 1));
    assert_eq!(run(call(Method::GET, &[]), vec![Ok((429, &[("retry-after", "soon")]))]).await, (Ok(429), 1));
}

#[tokio::test(start_paused = true)]
async fn backoff_is_drawn_below_a_bound_that_doubles() {
    let spec = RetrySpec { attempts: 6, backoff: Span::from_secs(1), backoff_max: Span::from_secs(3), ..RetrySpec::default() };
    let origin = scripted((0..6).map(|_| unsent(FailureKind::Connect)).collect());
    assert!(retry(&origin, spec).fetch(call(Method::GET, &[])).await.is_err());
    let at: Vec<Span> = origin.asked.lock().iter().map(|(at, _)| *at).collect();
    for (pair, bound) in at.windows(2).zip([1, 2, 3, 3, 3]) {
        let wait = pair[1] - pair[0];
        assert!(wait > Span::ZERO && wait <= Span::from_millis(bound * 1_000 + 1), "{at:?}");
    }
    let again = scripted((0..6).map(|_| unsent(FailureKind::Connect)).collect());
    assert!(retry(&again, spec).fetch(call(Method::GET, &[])).await.is_err());
    assert_eq!(at, again.asked.lock().iter().map(|(at, _)| *at).collect::<Vec<_>>(), "the same seed and call draw the same waits");
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_fails_all_calls_gets_a_bounded_share_on_top() {
    let origin = scripted((0..1_000).map(|_| unsent(FailureKind::Connect)).collect());
    let retry = retry(&origin, RetrySpec { attempts: 3, budget_share: 0.1, budget_burst: 10, ..RetrySpec::default() });
    for _ in 0..300 {
        assert!(retry.fetch(call(Method::GET, &[])).await.is_err());
    }
    let attempts = origin.asked.lock().len();
    assert!((335..=340).contains(&attempts), "{attempts}");
}

#[tokio::test(start_paused = true)]
async fn attempts_are_numbered_in_reports() {
    let numbers = Arc::new(Numbers::default());
    let mut counted = call(Method::GET, &[]);
    counted.sink = numbers.clone();
    let origin = scripted(vec![unsent(FailureKind::Connect), unsent(FailureKind::Connect), Ok((200, &[]))]);
    retry(&origin, RetrySpec::default()).fetch(counted).await.unwrap();
    assert_eq!(*numbers.0.lock(), [0, 1, 2]);
}

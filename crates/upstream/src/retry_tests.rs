use std::collections::VecDeque;

use crate::BreakerSpec;
use farthing_types::call::NoSink;
use farthing_types::{Body, CallId, CallReport, CallSink, Purpose, VirtualClock};
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
        repeatable: false,
        deadline: Span::from_secs(60),
        claim: farthing_types::Claim::default(),
        batch: None,
        routing: None,
        sink: Arc::new(NoSink),
    }
}

fn scripted(script: Vec<Answer>) -> Arc<Scripted> {
    Arc::new(Scripted { script: Mutex::new(script.into()), asked: Mutex::default(), began: Instant::now() })
}

fn retry(origin: &Arc<Scripted>, spec: RetrySpec) -> Retry {
    // Thursday, 1 January 1970 00:01:00 GMT
    watching(origin, spec, &watched())
}

fn watched() -> Watched {
    Watched { health: Arc::new(Health::new(BreakerSpec::default())), traffic: Arc::default() }
}

fn watching(origin: &Arc<Scripted>, spec: RetrySpec, watched: &Watched) -> Retry {
    Retry::new(Arc::new(Arc::clone(origin)), "u".into(), spec, Arc::new(VirtualClock::new(Time::from_millis(60_000))), watched.clone())
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
    let allowed = Call { repeatable: true, ..call(Method::POST, &[]) };
    assert_eq!(run(allowed, vec![broken(), Ok((200, &[]))]).await, (Ok(200), 2));
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
    let retry =
        Retry::new(Arc::new(Any(Arc::clone(&origin))), "u".into(), RetrySpec::default(), Arc::new(VirtualClock::default()), watched());
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
async fn waits_are_spread_evenly_below_their_bound() {
    let spec = RetrySpec { attempts: 2, backoff: Span::from_secs(1), budget_floor: 1_000_000, ..RetrySpec::default() };
    let mut waits = Vec::new();
    for id in 0..2_000 {
        let origin = scripted(vec![unsent(FailureKind::Connect), Ok((200, &[]))]);
        retry(&origin, spec).fetch(Call { id: CallId(id), ..call(Method::GET, &[]) }).await.unwrap();
        let asked = origin.asked.lock();
        waits.push((asked[1].0 - asked[0].0).as_secs_f64());
    }
    for tenth in 0..10 {
        let (from, to) = (f64::from(tenth) / 10.0, f64::from(tenth + 1) / 10.0);
        let share = waits.iter().filter(|wait| (from..to).contains(*wait)).count();
        // 200 are expected, with a standard deviation of 13.
        assert!((135..=265).contains(&share), "{share} waits from {from} to {to} s");
    }
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_fails_all_calls_gets_a_bounded_share_on_top() {
    let (origin, watched) = (scripted((0..5_000).map(|_| unsent(FailureKind::Connect)).collect()), watched());
    let spec = RetrySpec { attempts: 3, backoff: Span::ZERO, budget_share: 0.1, budget_floor: 1, ..RetrySpec::default() };
    let retry = watching(&origin, spec, &watched);
    for _ in 0..60 {
        for _ in 0..20 {
            assert_eq!(retry.fetch(call(Method::GET, &[])).await.unwrap_err().kind, FailureKind::Connect, "the first failure is handed on");
        }
        tokio::time::advance(Span::from_secs(1)).await;
    }
    let (calls, attempts) = (1_200, origin.asked.lock().len());
    let (repeated, refused) = (watched.traffic.repeated() as usize, watched.traffic.not_repeated(NotRepeated::Budget) as usize);
    assert_eq!(attempts, calls + repeated);
    // Twenty calls and at least one repeat a second: two of the share and one of the floor, over any ten seconds.
    assert!((175..=190).contains(&repeated), "{repeated}");
    assert!(refused + (repeated / 2) >= calls - 10, "{refused} refused of {calls} calls");
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_an_upstream_whose_breaker_is_open() {
    let spec = RetrySpec { backoff: Span::from_secs(4), ..RetrySpec::default() };
    let asked = retry_after_one_failure(spec, BreakerSpec { consecutive: 1, ..BreakerSpec::default() }).await;
    assert_eq!(asked, (Err(FailureKind::Broken), Span::ZERO, 1), "its own failure opened it");
}

/// What a GET comes to, how long it took, and how often it was not repeated because of the breaker.
async fn retry_after_one_failure(spec: RetrySpec, breaker: BreakerSpec) -> (Result<u16, FailureKind>, Span, u64) {
    let origin = scripted(vec![sent(FailureKind::Broken)]);
    let breaker = crate::Breaker::new(Arc::new(Arc::clone(&origin)), "u".into(), breaker);
    let watched = Watched { health: Arc::clone(breaker.health()), traffic: Arc::default() };
    let retry = Retry::new(Arc::new(breaker), "u".into(), spec, Arc::new(VirtualClock::default()), watched.clone());
    let result = retry.fetch(call(Method::GET, &[])).await.map(|reply| reply.status.as_u16()).map_err(|failure| failure.kind);
    (result, origin.began.elapsed(), watched.traffic.not_repeated(NotRepeated::BreakerOpen))
}

#[tokio::test(start_paused = true)]
async fn a_wait_ends_when_the_breaker_opens_meanwhile() {
    // The first waits two seconds for its second attempt; failures of others open the breaker before.
    let origin = scripted(vec![Ok((503, &[("retry-after", "2")])), sent(FailureKind::Broken)]);
    let breaker = BreakerSpec { consecutive: 2, ..BreakerSpec::default() };
    let breaker = crate::Breaker::new(Arc::new(Arc::clone(&origin)), "u".into(), breaker);
    let watched = Watched { health: Arc::clone(breaker.health()), traffic: Arc::default() };
    let retry = Retry::new(Arc::new(breaker), "u".into(), RetrySpec::default(), Arc::new(VirtualClock::default()), watched);
    let patient = retry.fetch(call(Method::GET, &[]));
    let other = async {
        tokio::time::sleep(Span::from_millis(500)).await;
        retry.fetch(call(Method::POST, &[])).await
    };
    let (patient, other) = tokio::join!(patient, other);
    assert_eq!((patient.unwrap_err().kind, other.unwrap_err().kind), (FailureKind::BreakerOpen, FailureKind::Broken));
    assert_eq!(origin.began.elapsed(), Span::from_millis(500));
}

#[tokio::test(start_paused = true)]
async fn what_is_not_repeated_is_counted_by_reason() {
    let spec = RetrySpec { attempts: 2, backoff: Span::ZERO, budget_share: 0.0, budget_floor: 0, ..RetrySpec::default() };
    for (spec, script, why) in [
        (spec, vec![unsent(FailureKind::Connect)], NotRepeated::Budget),
        (RetrySpec { budget_floor: 1, ..spec }, vec![unsent(FailureKind::Connect), unsent(FailureKind::Connect)], NotRepeated::Attempts),
        (RetrySpec { budget_floor: 1, ..spec }, vec![Ok((429, [("retry-after", "61")].as_slice()))], NotRepeated::Deadline),
    ] {
        let (origin, watched) = (scripted(script), watched());
        drop(watching(&origin, spec, &watched).fetch(call(Method::GET, &[])).await);
        for reason in NotRepeated::ALL {
            assert_eq!(watched.traffic.not_repeated(*reason), u64::from(*reason == why), "{why}: {reason}");
        }
    }
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

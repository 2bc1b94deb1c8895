use std::sync::atomic::AtomicBool;

use farthing_types::call::NoSink;
use farthing_types::{Body, CallId, Purpose};
use http::{HeaderMap, Method};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::*;

/// Fails or not as told; hangs while `hold` is set.
#[derive(Default)]
struct Moody {
    fails: AtomicBool,
    hold: AtomicBool,
    release: Notify,
    asked: AtomicU64,
}

impl Origin for Arc<Moody> {
    fn fetch(&self, _call: Call) -> BoxFuture<'static, Result<Reply, Failure>> {
        let this = Arc::clone(self);
        this.asked.fetch_add(1, Ordering::Relaxed);
        async move {
            if this.hold.load(Ordering::Relaxed) {
                this.release.notified().await;
            }
            if this.fails.load(Ordering::Relaxed) { Err(Failure::sent(FailureKind::Broken, "x")) } else { Ok(reply(200)) }
        }
        .boxed()
    }
}

fn reply(status: u16) -> Reply {
    Reply { status: StatusCode::from_u16(status).unwrap(), headers: HeaderMap::new(), body: Body::empty() }
}

fn call() -> Call {
    Call {
        id: CallId(1),
        route: "r".into(),
        payer: "t".into(),
        purpose: Purpose::User,
        key: None,
        method: Method::GET,
        target: "/".parse().unwrap(),
        headers: HeaderMap::new(),
        body: Body::empty(),
        repeatable: false,
        deadline: Span::from_secs(1),
        claim: farthing_types::Claim::default(),
        batch: None,
        routing: None,
        sink: Arc::new(NoSink),
    }
}

const SPEC: BreakerSpec = BreakerSpec { window: 10, min_calls: 4, error_share: 0.5, consecutive: 5, cool_down: Span::from_secs(5) };

fn breaker(spec: BreakerSpec) -> (Arc<Moody>, Breaker) {
    let moody = Arc::new(Moody::default());
    (Arc::clone(&moody), Breaker::new(Arc::new(moody), "u".into(), spec))
}

async fn fetch(moody: &Moody, breaker: &Breaker, fails: bool) -> Option<FailureKind> {
    moody.fails.store(fails, Ordering::Relaxed);
    breaker.fetch(call()).await.err().map(|failure| failure.kind)
}

async fn open(moody: &Moody, breaker: &Breaker) {
    while breaker.health().state() == BreakerState::Closed {
        assert_eq!(fetch(moody, breaker, true).await, Some(FailureKind::Broken));
    }
}

#[tokio::test(start_paused = true)]
async fn opens_above_the_share_of_its_window() {
    let (moody, breaker) = breaker(BreakerSpec { consecutive: 0, ..SPEC });
    for fails in [true, false, true, false, false, true] {
        fetch(&moody, &breaker, fails).await;
        assert_eq!(breaker.health().state(), BreakerState::Closed, "half is not above half");
    }
    fetch(&moody, &breaker, true).await;
    assert_eq!(breaker.health().state(), BreakerState::Open);
    let asked = moody.asked.load(Ordering::Relaxed);
    let failure = breaker.fetch(call()).await.unwrap_err();
    assert_eq!((failure.kind, failure.sent), (FailureKind::BreakerOpen, false));
    assert!(failure.detail.contains("5.0 s"), "{failure}");
    assert_eq!(moody.asked.load(Ordering::Relaxed), asked, "not tried");
    assert_eq!((breaker.health().opened(), breaker.health().refused()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn old_outcomes_leave_the_window() {
    let (moody, breaker) = breaker(BreakerSpec { consecutive: 0, ..SPEC });
    for fails in [true, false, true, false].into_iter().chain([false; 10]).chain([true; 5]) {
        fetch(&moody, &breaker, fails).await;
        assert_eq!(breaker.health().state(), BreakerState::Closed);
    }
    fetch(&moody, &breaker, true).await;
    assert_eq!(breaker.health().state(), BreakerState::Open);
}

#[tokio::test(start_paused = true)]
async fn opens_after_failures_in_a_row() {
    let (moody, breaker) = breaker(BreakerSpec { min_calls: 100, window: 100, ..SPEC });
    for fails in [false, true, true, true, true, false, true, true, true, true] {
        fetch(&moody, &breaker, fails).await;
    }
    assert_eq!(breaker.health().state(), BreakerState::Closed);
    fetch(&moody, &breaker, true).await;
    assert_eq!(breaker.health().state(), BreakerState::Open);
}

#[tokio::test(start_paused = true)]
async fn one_call_tries_after_the_cool_down() {
    let (moody, breaker) = breaker(SPEC);
    open(&moody, &breaker).await;
    tokio::time::advance(Span::from_millis(4_999)).await;
    assert_eq!(fetch(&moody, &breaker, false).await, Some(FailureKind::BreakerOpen));
    tokio::time::advance(Span::from_millis(1)).await;
    moody.hold.store(true, Ordering::Relaxed);
    moody.fails.store(false, Ordering::Relaxed);
    let mut trying = JoinSet::new();
    trying.spawn(breaker.fetch(call()));
    tokio::task::yield_now().await;
    assert_eq!(breaker.health().state(), BreakerState::HalfOpen);
    assert_eq!(breaker.fetch(call()).await.unwrap_err().kind, FailureKind::BreakerOpen);
    moody.release.notify_one();
    assert!(trying.join_next().await.unwrap().unwrap().is_ok());
    assert_eq!(breaker.health().state(), BreakerState::Closed);
    // What went wrong before no longer counts.
    moody.hold.store(false, Ordering::Relaxed);
    assert_eq!(fetch(&moody, &breaker, true).await, Some(FailureKind::Broken));
    assert_eq!(breaker.health().state(), BreakerState::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_failed_try_opens_again_and_a_dropped_one_frees_the_next() {
    let (moody, breaker) = breaker(SPEC);
    open(&moody, &breaker).await;
    tokio::time::advance(SPEC.cool_down).await;
    assert_eq!(fetch(&moody, &breaker, true).await, Some(FailureKind::Broken));
    assert_eq!((breaker.health().state(), breaker.health().opened()), (BreakerState::Open, 2));
    tokio::time::advance(SPEC.cool_down).await;
    drop(breaker.fetch(call()));
    assert_eq!(breaker.health().state(), BreakerState::Open);
    assert_eq!(fetch(&moody, &breaker, false).await, None);
    assert_eq!(breaker.health().state(), BreakerState::Closed);
}

#[tokio::test(start_paused = true)]
async fn late_outcomes_of_an_earlier_state_do_not_count() {
    let (moody, breaker) = breaker(SPEC);
    moody.hold.store(true, Ordering::Relaxed);
    let mut late = JoinSet::new();
    late.spawn(breaker.fetch(call()));
    tokio::task::yield_now().await;
    moody.hold.store(false, Ordering::Relaxed);
    open(&moody, &breaker).await;
    moody.fails.store(false, Ordering::Relaxed);
    moody.release.notify_one();
    assert!(late.join_next().await.unwrap().unwrap().is_ok());
    assert_eq!(breaker.health().state(), BreakerState::Open, "an old success does not close it");
}

#[test]
fn what_counts_against_an_upstream() {
    for (status, outcome) in [(200, Outcome::Well), (404, Outcome::Well), (429, Outcome::Well), (501, Outcome::Well)] {
        assert_eq!(judge(&Ok(reply(status))), outcome);
    }
    for status in [500, 502, 503, 504] {
        assert_eq!(judge(&Ok(reply(status))), Outcome::Failed);
    }
    for kind in FailureKind::ALL {
        let counts = matches!(
            kind,
            FailureKind::Connect | FailureKind::Broken | FailureKind::Timeout | FailureKind::Protocol | FailureKind::Unmapped
        );
        assert_eq!(judge(&Err(Failure::unsent(*kind, "x"))) == Outcome::Failed, counts, "{kind}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_try_that_hangs_keeps_nobody_from_trying_for_long() {
    let (moody, breaker) = breaker(SPEC);
    open(&moody, &breaker).await;
    tokio::time::advance(SPEC.cool_down).await;
    moody.hold.store(true, Ordering::Relaxed);
    let mut hanging = JoinSet::new();
    hanging.spawn(breaker.fetch(call()));
    tokio::task::yield_now().await;
    moody.hold.store(false, Ordering::Relaxed);
    tokio::time::advance(SPEC.cool_down - Span::from_millis(1)).await;
    assert_eq!(fetch(&moody, &breaker, false).await, Some(FailureKind::BreakerOpen));
    tokio::time::advance(Span::from_millis(1)).await;
    assert_eq!(fetch(&moody, &breaker, false).await, None);
    moody.fails.store(true, Ordering::Relaxed);
    moody.release.notify_one();
    assert!(hanging.join_next().await.unwrap().unwrap().is_err());
    assert_eq!(breaker.health().state(), BreakerState::Closed, "the late one does not count");
}

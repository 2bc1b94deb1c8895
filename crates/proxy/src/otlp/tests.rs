//! Deliveries to a collector that is slow, full, down, or refuses; in paused time.

use std::collections::VecDeque;

use farthing_types::{BodyError, Failure, FailureKind, RealClock, Time, TraceContext};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::super::span::Kind;
use super::*;

/// What the collector does with the next delivery.
enum Does {
    Answers(StatusCode, Option<u64>),
    Says(Vec<u8>),
    Hangs,
    Breaks,
}

#[derive(Default)]
struct Collector {
    next: parking_lot::Mutex<VecDeque<Does>>,
    /// When each delivery came.
    came: parking_lot::Mutex<Vec<Instant>>,
}

/// The collector, as the wire to it.
struct Wire(Arc<Collector>);

impl Origin for Wire {
    fn fetch(&self, call: Call) -> BoxFuture<'static, Result<Reply, Failure>> {
        assert_eq!(call.headers[CONTENT_TYPE], "application/x-protobuf");
        self.0.came.lock().push(Instant::now());
        let does = self.0.next.lock().pop_front().unwrap_or(Does::Answers(StatusCode::OK, None));
        async move {
            let (status, after, body) = match does {
                Does::Answers(status, after) => (status, after, Vec::new()),
                Does::Says(body) => (StatusCode::OK, None, body),
                Does::Hangs => std::future::pending().await,
                Does::Breaks => return Err(Failure::unsent(FailureKind::Connect, "refused")),
            };
            let headers = after.map(|after| (RETRY_AFTER, HeaderValue::from(after)));
            Ok(Reply { status, headers: headers.into_iter().collect(), body: Body::full(body) })
        }
        .boxed()
    }
}

fn config(queue_bytes: usize) -> OtlpConfig {
    OtlpConfig {
        endpoint: Uri::from_static("http://collector:4318/v1/traces"),
        headers: Vec::new(),
        sample: 1.0,
        attributes: vec![("service.name".into(), "farthing".into())],
        interval: Length::from_secs(5),
        deadline: Length::from_secs(10),
        queue_bytes,
        authorities: None,
    }
}

struct World {
    collector: Arc<Collector>,
    traces: Arc<Traces>,
    began: Instant,
}

impl World {
    fn new(queue_bytes: usize, next: impl IntoIterator<Item = Does>) -> Self {
        let collector = Arc::new(Collector { next: parking_lot::Mutex::new(next.into_iter().collect()), ..Collector::default() });
        let config = config(queue_bytes);
        let made = Exporter::new(&config, Arc::new(RealClock::default()), Draw::new(3)).unwrap();
        let exporter = Exporter::by(Arc::new(Wire(collector.clone())), (made.target, made.headers), (config.deadline, Draw::new(3)));
        let traces = Arc::new(Traces::with(&config, exporter));
        traces.start();
        Self { collector, traces, began: Instant::now() }
    }

    fn push(&self, count: u64) {
        for id in 1..=count {
            self.traces.queue.push(Span::new(TraceContext::start(1, id), Kind::Server, "GET /", (Time::ZERO, Time::ZERO)));
        }
    }

    /// Seconds since the begin at which deliveries came.
    fn came(&self) -> Vec<f64> {
        self.collector.came.lock().iter().map(|at| (*at - self.began).as_secs_f64()).collect()
    }

    async fn finish(&self, patience: Length) -> super::super::TraceStats {
        self.traces.finish(Instant::now() + patience).await;
        self.traces.stats()
    }
}

#[tokio::test(start_paused = true)]
async fn spans_wait_for_the_interval_or_for_company() {
    let world = World::new(1 << 24, []);
    world.push(3);
    tokio::time::sleep(Length::from_secs(6)).await;
    let came = world.came();
    assert!(came.len() == 1 && (5.0..5.1).contains(&came[0]), "{came:?}");
    world.push(1_100);
    tokio::time::sleep(Length::from_millis(500)).await;
    assert_eq!(world.came().len(), 3, "twice 512 did not wait, the rest does");
    let stats = world.finish(Length::from_secs(5)).await;
    assert_eq!((stats.sent, stats.held, stats.dropped), (1_103, 0, 0), "the rest went at the end");
    assert_eq!(world.came().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn what_may_be_tried_again_is_and_the_collector_is_heard() {
    let world = World::new(1 << 20, [Does::Answers(StatusCode::SERVICE_UNAVAILABLE, Some(7)), Does::Breaks, Does::Hangs]);
    world.push(2);
    tokio::time::sleep(Length::from_secs(40)).await;
    let came = world.came();
    assert_eq!(came.len(), 4, "{came:?}");
    assert!(came[1] - came[0] >= 7.0, "it asked for seven seconds: {came:?}");
    assert!(came[3] - came[2] >= 10.0, "one that hangs is given its deadline: {came:?}");
    let stats = world.finish(Length::from_secs(5)).await;
    assert_eq!((stats.sent, stats.faults, stats.given_up, stats.refused), (2, 3, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_is_not_tried_again_and_what_was_not_taken_is_counted() {
    let partly = vec![0x0a, 0x02, 0x08, 0x01];
    let world = World::new(1 << 20, [Does::Answers(StatusCode::BAD_REQUEST, None), Does::Says(partly)]);
    world.push(2);
    tokio::time::sleep(Length::from_secs(6)).await;
    world.push(3);
    tokio::time::sleep(Length::from_secs(6)).await;
    let stats = world.finish(Length::from_secs(5)).await;
    assert_eq!((stats.sent, stats.refused, stats.faults, world.came().len()), (2, 3, 0, 2));
}

#[tokio::test(start_paused = true)]
async fn a_collector_that_is_down_is_left_alone_and_memory_stays_bounded() {
    let world = World::new(100_000, (0..1_000).map(|_| Does::Breaks));
    let mut most = 0;
    for _ in 0..600 {
        world.push(100);
        most = most.max(world.traces.stats().held);
        tokio::time::sleep(Length::from_secs(1)).await;
    }
    let stats = world.traces.stats();
    assert!(most <= 100_000, "{most}");
    assert!(stats.down && world.traces.problem().is_some(), "{stats:?}");
    assert!(stats.dropped > 40_000 && stats.given_up > 500 && stats.sent == 0, "{stats:?}");
    let came = world.came();
    assert!(came.len() < 40, "left alone: {came:?}");
    let late: Vec<f64> = came.windows(2).map(|pair| pair[1] - pair[0]).skip(6).collect();
    assert!(late.iter().all(|pause| *pause >= 30.0), "{late:?}");
    world.collector.next.lock().clear();
    tokio::time::sleep(Length::from_secs(60)).await;
    let stats = world.traces.stats();
    assert!(!stats.down && stats.sent > 0 && world.traces.problem().is_none(), "{stats:?}");
}

#[tokio::test(start_paused = true)]
async fn the_end_waits_no_longer_than_it_is_told() {
    let world = World::new(1 << 20, [Does::Hangs, Does::Hangs]);
    world.push(5);
    let before = Instant::now();
    let stats = world.finish(Length::from_secs(2)).await;
    let took = Instant::now() - before;
    assert!((2.0..2.1).contains(&took.as_secs_f64()) && stats.sent == 0, "{took:?} {stats:?}");
}

/// An answer whose body never ends holds nothing up, and one that breaks off counts by its head.
#[tokio::test(start_paused = true)]
async fn an_answer_counts_by_its_head() {
    let body = Body::stream(http_body_util::StreamBody::new(futures_util::stream::once(async {
        Err::<http_body::Frame<Bytes>, _>(BodyError("broken".into()))
    })));
    let reply = Reply { status: StatusCode::OK, headers: HeaderMap::new(), body };
    let until = Instant::now() + Length::from_secs(10);
    assert!(matches!(told(reply, until).await, Told::Taken(0)));
    let never = futures_util::stream::pending::<Result<http_body::Frame<Bytes>, BodyError>>();
    let body = Body::stream(http_body_util::StreamBody::new(never));
    let reply = Reply { status: StatusCode::OK, headers: HeaderMap::new(), body };
    assert!(matches!(told(reply, until).await, Told::Taken(0)));
}

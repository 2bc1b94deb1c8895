use std::sync::atomic::{AtomicUsize, Ordering};

use farthing_types::{CallId, CallReport, CallSink, Claim, Money, Purpose, RealClock, Reserved, Span};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use parking_lot::Mutex;
use tokio::time::sleep;

use super::*;
use crate::adapter::{Adapter, AnswerMap, RequestMap};
use crate::{BreakerSpec, Gate, Gated, Slot, Turn, UpstreamSpec, around};

/// What a provider does with a call.
#[derive(Clone, Copy)]
enum Does {
    Answers(u16, &'static str),
    Refuses,
    Breaks,
    Hangs,
    /// Answers after so long.
    Slow(Span),
}

struct Fake {
    does: Mutex<Does>,
    takes: Span,
    asked: AtomicUsize,
    heads: Mutex<Vec<(String, HeaderMap)>>,
}

struct Wire(Arc<Fake>, &'static str);

impl Origin for Wire {
    fn fetch(&self, call: Call) -> BoxFuture<'static, Result<Reply, Failure>> {
        let (fake, name) = (self.0.clone(), self.1);
        async move {
            fake.asked.fetch_add(1, Ordering::Relaxed);
            fake.heads.lock().push((call.target.to_string(), call.headers.clone()));
            let does = *fake.does.lock();
            sleep(if let Does::Slow(takes) = does { takes } else { fake.takes }).await;
            let told = |status, failure, sent| call.sink.attempt(CallReport { failure, sent, ..CallReport::only(&call, name, status) });
            match does {
                Does::Answers(status, body) => {
                    let status = StatusCode::from_u16(status).unwrap();
                    told(Some(status), None, true);
                    Ok(Reply { status, headers: HeaderMap::new(), body: Body::full(body) })
                }
                Does::Refuses => {
                    told(None, Some(FailureKind::Connect), false);
                    Err(Failure::unsent(FailureKind::Connect, "refused"))
                }
                Does::Breaks => {
                    told(None, Some(FailureKind::Broken), true);
                    Err(Failure::sent(FailureKind::Broken, "broke"))
                }
                Does::Slow(_) => {
                    told(Some(StatusCode::OK), None, true);
                    Ok(Reply { status: StatusCode::OK, headers: HeaderMap::new(), body: Body::full("{}") })
                }
                Does::Hangs => {
                    sleep(Span::from_secs(3_600)).await;
                    Err(Failure::sent(FailureKind::Timeout, "hung"))
                }
            }
        }
        .boxed()
    }
}

#[derive(Default)]
struct Reports(Mutex<Vec<CallReport>>);
impl CallSink for Reports {
    fn attempt(&self, report: CallReport) {
        self.0.lock().push(report);
    }
}

struct World {
    fakes: Vec<Arc<Fake>>,
    router: Router,
    reports: Arc<Reports>,
    /// How long the first provider's limit takes for a turn.
    line: Arc<Mutex<Span>>,
}

const NAMES: [&str; 3] = ["a", "b", "c"];

/// A limit that gives turns one after the other, each after so long.
struct Narrow(Arc<Mutex<Span>>, Arc<tokio::sync::Mutex<()>>);

struct Nothing;

impl Slot for Nothing {
    fn unsent(self: Box<Self>) {}
}

impl Reserved for Nothing {
    fn used(self: Box<Self>, _tokens: u64) {}
}

impl Gate for Narrow {
    fn enter(&self, _call: &Call, patience: Span) -> BoxFuture<'static, Result<Turn, Failure>> {
        let (takes, line) = (*self.0.lock(), self.1.clone());
        let turn = async move {
            let _place = line.lock().await;
            sleep(takes).await;
            Turn { slot: Box::new(Nothing), reserved: Box::new(Nothing) }
        };
        async move { tokio::time::timeout(patience, turn).await.map_err(|_| Failure::unsent(FailureKind::RateLimited, "no turn")) }.boxed()
    }
    fn rest(&self, _payer: Option<&farthing_types::Tenant>, _span: Span) {}
}

fn world(adapters: Vec<Adapter>) -> World {
    limited(adapters, None)
}

/// The first provider has a limit whose turns take so long.
fn limited(adapters: Vec<Adapter>, takes: Option<Span>) -> World {
    let (limited, line) = (takes.is_some(), Arc::new(Mutex::new(takes.unwrap_or_default())));
    let fakes: Vec<_> = adapters
        .iter()
        .map(|_| {
            Arc::new(Fake {
                does: Mutex::new(Does::Answers(200, "{\"v\":1}")),
                takes: Span::from_millis(10),
                asked: AtomicUsize::new(0),
                heads: Mutex::default(),
            })
        })
        .collect();
    let leg = |(place, adapter): (usize, Adapter)| {
        let name = NAMES[place];
        let gate = limited
            .then(|| line.clone())
            .filter(|_| place == 0)
            .map(|takes| Gated { gate: Arc::new(Narrow(takes, Arc::default())), by_payer: false });
        let spec = UpstreamSpec { gate, ..UpstreamSpec::new(name, "http://provider.test".parse().unwrap()) };
        let upstream = around(Arc::new(Wire(fakes[place].clone(), name)), spec, Arc::new(RealClock::default()));
        Leg { provider: name.into(), upstream, quality: 1.0, adapter, breaker: BreakerSpec::default() }
    };
    let legs = adapters.into_iter().enumerate().map(leg).collect();
    let spec = RouterSpec {
        route: "r".into(),
        weights: [Weights::of(Priority::High), Weights::of(Priority::Medium), Weights::of(Priority::Low)],
        floor: 0.0,
        seed: 1,
        credential_headers: ["authorization", "x-api-key", "cookie", "x-provider-key"].map(HeaderName::from_static).to_vec(),
        credential_parameters: vec!["appid".into()],
    };
    World { fakes, router: Router::new(legs, spec), reports: Arc::default(), line }
}

fn plain() -> World {
    world(vec![Adapter::default(), Adapter::default()])
}

impl World {
    fn call(&self, method: Method) -> Call {
        Call {
            id: CallId(1),
            route: "r".into(),
            payer: "t".into(),
            purpose: Purpose::User,
            key: None,
            method,
            target: "/x?appid=theirs&q=1".parse().unwrap(),
            headers: HeaderMap::new(),
            body: Body::full(""),
            repeatable: false,
            deadline: Span::from_secs(60),
            claim: Claim::default(),
            batch: None,
            // The first is the cheaper.
            routing: Some(RouteTerms {
                prices: [Some(Money::from_nanos(1)), Some(Money::from_nanos(5)), None].into(),
                only: None,
                bypassed: false,
                weights: None,
            }),
            sink: self.reports.clone(),
        }
    }
    async fn ask(&self, method: Method) -> Result<u16, FailureKind> {
        self.router.fetch(self.call(method)).await.map(|reply| reply.status.as_u16()).map_err(|failure| failure.kind)
    }
    fn does(&self, place: usize, does: Does) {
        *self.fakes[place].does.lock() = does;
    }
    fn asked(&self) -> Vec<usize> {
        self.fakes.iter().map(|fake| fake.asked.load(Ordering::Relaxed)).collect()
    }
    /// Of each attempt: who was asked, why, and what failed.
    fn told(&self) -> Vec<(String, &'static str, Option<FailureKind>)> {
        let told = |report: &CallReport| {
            let routed = report.routed.as_ref().unwrap();
            (routed.provider.to_string(), routed.by, report.failure)
        };
        self.reports.0.lock().drain(..).map(|report| told(&report)).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_fails_goes_to_the_next_where_it_may() {
    for (does, method, came, asked) in [
        (Does::Refuses, Method::GET, Ok(200), [1, 1]),
        (Does::Breaks, Method::GET, Ok(200), [1, 1]),
        (Does::Answers(503, "busy"), Method::GET, Ok(200), [1, 1]),
        (Does::Answers(429, "slow"), Method::GET, Ok(200), [1, 1]),
        (Does::Answers(404, "none"), Method::GET, Ok(404), [1, 0]),
        // No byte of it was sent.
        (Does::Refuses, Method::POST, Ok(200), [1, 1]),
        (Does::Breaks, Method::POST, Err(FailureKind::Broken), [1, 0]),
        (Does::Answers(503, "busy"), Method::POST, Ok(503), [1, 0]),
    ] {
        let world = plain();
        world.does(0, does);
        assert_eq!(world.ask(method.clone()).await, came, "{method}");
        assert_eq!(world.asked(), asked, "{method}");
        let told = world.told();
        assert_eq!((told[0].0.as_str(), told[0].1), ("a", "score"));
        assert!(told.get(1).is_none_or(|(who, by, _)| who == "b" && *by == "failover"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_streams_is_sent_once() {
    let world = plain();
    world.does(0, Does::Refuses);
    let call = Call { body: Body::stream(Body::full("long")), ..world.call(Method::PUT) };
    assert_eq!(world.router.fetch(call).await.unwrap_err().kind, FailureKind::Connect);
    assert_eq!(world.asked(), [1, 0]);
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_a_provider_that_is_left_alone() {
    let world = plain();
    assert_eq!(world.ask(Method::GET).await, Ok(200));
    world.does(0, Does::Hangs);
    // Those who wait when the breaker opens stop waiting: thirty that would have waited for half of a minute each.
    let began = Instant::now();
    let asks: Vec<_> = (0..30).map(|_| world.ask(Method::GET)).collect();
    assert!(futures_util::future::join_all(asks).await.iter().all(|came| *came == Ok(200)));
    assert!(began.elapsed() <= Span::from_millis(30_100), "{:?}", began.elapsed());
    // From here on the breaker is open; one call in five seconds tries, and waits no longer than a tenth of a second.
    let (before, begun) = (world.asked()[0], Instant::now());
    let mut longest = Span::ZERO;
    for _ in 0..600 {
        let began = Instant::now();
        assert_eq!(world.ask(Method::GET).await, Ok(200));
        longest = longest.max(began.elapsed());
        sleep(Span::from_millis(40)).await;
    }
    let tries = world.asked()[0] - before;
    assert!(tries as u64 <= begun.elapsed().as_secs() / 5 + 1, "{tries}");
    assert!(longest <= Span::from_millis(111), "ten milliseconds are usual, a tenth of a second is the least: {longest:?}");
    world.does(0, Does::Answers(200, "{}"));
    sleep(Span::from_secs(400)).await;
    assert_eq!(world.ask(Method::GET).await, Ok(200));
    world.told();
    assert_eq!(world.ask(Method::GET).await, Ok(200));
    assert_eq!(world.told()[0].0, "a", "back after a trial, and thought well of again");
}

#[tokio::test(start_paused = true)]
async fn a_provider_is_thought_no_worse_of_for_who_waits_in_the_line_of_its_limit() {
    let world = limited(vec![Adapter::default(), Adapter::default()], Some(Span::from_secs(3_600)));
    let asks = (0..30).map(|_| world.router.fetch(Call { deadline: Span::from_secs(2), ..world.call(Method::GET) }));
    let came = futures_util::future::join_all(asks).await;
    assert!(came.iter().all(|came| came.as_ref().is_ok_and(|reply| reply.status == 200)), "{came:?}");
    assert_eq!(world.asked(), [0, 30]);
    let leg = &world.router.report().legs[0];
    assert_eq!((leg.breaker, leg.failed, leg.measured.errors), (crate::BreakerState::Closed, 0, 0.0));
}

#[tokio::test(start_paused = true)]
async fn a_provider_has_its_time_from_when_its_limit_gives_the_turn() {
    // Of two seconds one is for another provider. Nobody who has a turn within the first is cut short, though what it takes goes beyond.
    let world = limited(vec![Adapter::default(), Adapter::default()], Some(Span::from_millis(90)));
    world.does(0, Does::Slow(Span::from_millis(400)));
    let asks = (0..30).map(|_| world.router.fetch(Call { deadline: Span::from_secs(2), ..world.call(Method::GET) }));
    let came = futures_util::future::join_all(asks).await;
    assert!(came.iter().all(|came| came.as_ref().is_ok_and(|reply| reply.status == 200)), "{came:?}");
    assert_eq!(world.asked(), [11, 19], "a turn each 90 ms for one second");
    let leg = &world.router.report().legs[0];
    assert_eq!((leg.breaker, leg.failed), (crate::BreakerState::Closed, 0));
}

#[tokio::test(start_paused = true)]
async fn a_try_that_its_limit_keeps_waiting_leaves_the_provider_alone_for_another_while() {
    let world = limited(vec![Adapter::default(), Adapter::default()], Some(Span::from_millis(20)));
    world.does(0, Does::Refuses);
    let asks = (0..30).map(|_| world.ask(Method::GET));
    assert!(futures_util::future::join_all(asks).await.iter().all(|came| *came == Ok(200)));
    let breaker = |world: &World| world.router.report().legs[0].breaker;
    assert_eq!(breaker(&world), crate::BreakerState::Open);
    *world.line.lock() = Span::from_secs(3_600);
    sleep(Span::from_secs(6)).await;
    let (before, began) = (world.asked(), Instant::now());
    for _ in 0..100 {
        assert_eq!(world.ask(Method::GET).await, Ok(200));
    }
    assert_eq!(world.asked()[0], before[0]);
    assert!(began.elapsed() < Span::from_secs(4), "one of them waited for a turn: {:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn what_may_not_be_repeated_never_tries_who_may_be_down() {
    let world = plain();
    world.does(0, Does::Breaks);
    for _ in 0..30 {
        assert_eq!(world.ask(Method::GET).await, Ok(200));
    }
    sleep(Span::from_secs(6)).await;
    let before = world.asked()[0];
    assert_eq!(world.ask(Method::POST).await, Ok(200));
    assert_eq!(world.asked()[0], before);
}

#[tokio::test(start_paused = true)]
async fn where_all_are_down_that_is_said_at_once() {
    let world = plain();
    (0..2).for_each(|place| world.does(place, Does::Refuses));
    for _ in 0..30 {
        assert!(world.ask(Method::GET).await.is_err());
    }
    let asked = world.asked();
    assert_eq!((world.ask(Method::GET).await, world.asked()), (Err(FailureKind::BreakerOpen), asked));
}

fn mapped(fields: &[(&str, &str)], errors: &[(&str, &str)]) -> Adapter {
    let pairs = |pairs: &[(&str, &str)]| pairs.iter().map(|(a, b)| ((*a).into(), (*b).into())).collect();
    let answer = AnswerMap {
        fields: pairs(fields),
        errors: pairs(errors),
        required: vec!["/v".into()],
        complete: 1.0,
        max_bytes: 1_000,
        ..AnswerMap::default()
    };
    Adapter { answer, ..Adapter::default() }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_mapped_is_paid_for_and_never_delivered() {
    let world = world(vec![mapped(&[("/v", "/value")], &[("/e", "/err")]), Adapter::default()]);
    for (does, came) in [(Does::Answers(200, "{\"other\":1}"), "{\"v\":1}"), (Does::Answers(200, "{\"value\":7}"), "{\"v\":7}")] {
        world.does(0, does);
        let reply = world.router.fetch(world.call(Method::GET)).await.unwrap();
        assert_eq!(reply.body.as_full().unwrap(), came);
        sleep(Span::from_secs(600)).await;
    }
    {
        let reports = world.reports.0.lock();
        let first = reports.first().unwrap();
        let answer = first.routed.as_ref().unwrap().answer.as_ref().unwrap();
        assert_eq!((first.status, first.failure, first.sent), (Some(StatusCode::OK), Some(FailureKind::Unmapped), true));
        assert_eq!((&answer.body[..], answer.complete), (&b"{\"other\":1}"[..], true));
        assert!(reports[1].routed.as_ref().unwrap().fallback && !reports[2].routed.as_ref().unwrap().fallback);
    }
    world.does(0, Does::Answers(200, "{\"other\":1}"));
    assert_eq!(world.ask(Method::POST).await, Err(FailureKind::Unmapped), "a client never gets another shape");
    let leg = &world.router.report().legs[0];
    assert_eq!((leg.failed, leg.unmapped), (2, 2));
    assert!(leg.quality < 1.0 && leg.measured.errors > 0.0);
}

#[tokio::test(start_paused = true)]
async fn answers_that_cannot_be_mapped_open_a_breaker_of_the_route() {
    let world = world(vec![mapped(&[("/v", "/value")], &[("/e", "/err")]), Adapter::default()]);
    for _ in 0..200 {
        assert_eq!(world.ask(Method::GET).await, Ok(200));
    }
    let asked = world.asked()[0];
    assert!(asked <= 12, "{asked}");
}

#[tokio::test(start_paused = true)]
async fn no_credential_and_no_condition_of_a_client_goes_out() {
    let world = plain();
    let mut call = world.call(Method::GET);
    for name in ["authorization", "x-api-key", "cookie", "x-provider-key", "if-none-match", "range", "x-other"] {
        call.headers.insert(HeaderName::from_static(name), HeaderValue::from_static("secret"));
    }
    world.does(0, Does::Refuses);
    world.router.fetch(call).await.unwrap();
    for fake in &world.fakes {
        let heads = fake.heads.lock();
        let (target, headers) = heads.first().unwrap();
        assert_eq!(target, "/x?q=1");
        assert_eq!(headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["x-other"]);
    }
}

#[tokio::test(start_paused = true)]
async fn who_has_no_place_for_a_request_is_not_asked() {
    let narrow = Adapter { request: RequestMap { path: Some("/other/{id}".into()), ..RequestMap::default() }, ..Adapter::default() };
    let world = world(vec![narrow, Adapter::default()]);
    assert_eq!(world.ask(Method::POST).await, Ok(200));
    assert_eq!((world.asked(), world.told()[0].1), (vec![0, 1], "only"));
    assert_eq!(world.router.report().legs[0].unfit, 1);
}

#[tokio::test(start_paused = true)]
async fn where_money_is_for_one_alone_no_other_is_asked() {
    let world = plain();
    world.does(1, Does::Refuses);
    let mut call = world.call(Method::GET);
    call.routing.as_mut().unwrap().only = Some(1);
    assert_eq!(world.router.fetch(call).await.unwrap_err().kind, FailureKind::Connect);
    assert_eq!((world.asked(), world.told()[0].1), (vec![0, 1], "cheapest"));
}

#[tokio::test(start_paused = true)]
async fn calls_go_where_measurements_say() {
    let world = world(vec![Adapter::default(), Adapter::default(), Adapter::default()]);
    for id in 0..300 {
        let call = Call { id: CallId(id), claim: Claim { priority: Priority::Low, ..Claim::default() }, ..world.call(Method::GET) };
        world.router.fetch(call).await.unwrap();
    }
    let asked = world.asked();
    // Two of three pairs hold the cheapest; the one without a price loses to both.
    assert!(asked[0] > 150 && asked[1] > 60 && asked[2] == 0, "{asked:?}");
    let report = world.router.report();
    assert_eq!(report.scores.len(), 3);
    assert!(report.legs[0].chosen.iter().any(|(by, count)| *by == RoutedBy::Score && *count as usize == asked[0]));
}

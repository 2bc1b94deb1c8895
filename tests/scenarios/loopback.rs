//! The beginning of a scenario over real connections: the program's own listener and client between, in real time.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use farthing_config::Provider;
use farthing_proxy::Proxy;
use farthing_tests::origin::answer_of;
use farthing_tests::{Client, Origin};
use farthing_types::{RealClock, Span};
use http::{Method, StatusCode};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::world::{Asked, Got, Judgement, Scenario, Step, Truth, What, parsed};

/// Steps that are played.
const STEPS: usize = 300;
/// Their time, whatever the script says: it is made shorter.
const LASTS: Span = Span::from_secs(2);

/// Plays it with all strategies on.
///
/// # Panics
/// A wrong answer, or a ledger that differs from the provider's count.
pub fn run(scenario: &'static dyn Scenario) {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(played(scenario));
}

async fn origin(scenario: &'static dyn Scenario, truth: Arc<Truth>, nanos: Arc<AtomicI64>, begin: Instant) -> Origin {
    Origin::start(Arc::new(move |seen, _| {
        let (truth, nanos) = (truth.clone(), nanos.clone());
        Box::pin(async move {
            let (method, path) = (seen.method.to_string(), seen.target);
            let answer = scenario.answer(&truth, &Asked { method, path, headers: seen.headers, body: seen.body, at: begin.elapsed() });
            nanos.fetch_add(answer.nanos, Ordering::Relaxed);
            tokio::time::sleep(answer.after).await;
            let headers: Vec<_> = answer.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
            answer_of(StatusCode::from_u16(answer.status).unwrap(), &headers, answer.body)
        })
    }))
    .await
}

async fn played(scenario: &'static dyn Scenario) {
    let (dir, begin, truth, nanos) =
        (tempfile::tempdir().unwrap(), Instant::now(), Arc::new(Truth::default()), Arc::new(AtomicI64::new(0)));
    let origin = origin(scenario, truth.clone(), nanos.clone(), begin).await;
    let mut config = parsed(scenario, &scenario.strategies().iter().copied().collect(), dir.path());
    config.data.addr = ([127, 0, 0, 1], 0).into();
    config.models.dir = dir.path().join("models");
    for provider in &mut config.providers {
        let base_url = format!("http://{}", origin.addr).parse().unwrap();
        *provider = Arc::new(Provider { base_url, ..Provider::clone(provider) });
    }
    let proxy = Proxy::start(Arc::new(config), Arc::new(RealClock::default())).await.unwrap();
    let client = Client { addr: proxy.data_addr() };
    let mut steps = scenario.script(scenario.short());
    steps.truncate(STEPS);
    let scale = LASTS.as_secs_f64() / steps.last().unwrap().at.as_secs_f64().max(LASTS.as_secs_f64());
    let mut asks = JoinSet::new();
    for step in steps {
        tokio::time::sleep_until(begin + step.at.mul_f64(scale)).await;
        asks.spawn(one(scenario, (client, truth.clone()), step, begin));
    }
    let asked = asks.join_all().await.into_iter().filter(|asked| *asked).count();
    proxy.shutdown().await;
    let totals = proxy.totals();
    let calls = origin.calls() as u64;
    assert_eq!((totals.total.bill_usd.nanos(), totals.total.attempts), (nanos.load(Ordering::Relaxed), calls), "{}", scenario.name());
    assert!((calls as usize) < asked, "{}: {calls} calls for {asked} requests", scenario.name());
}

async fn one(scenario: &'static dyn Scenario, (client, truth): (Client, Arc<Truth>), step: Step, begin: Instant) -> bool {
    let What::Ask { method, path, headers, body } = &step.what else { return false };
    let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let answer = client.send(method.parse::<Method>().unwrap(), path, &headers, body.clone()).await;
    let got = Got { status: answer.status.as_u16(), body: answer.text(), at: begin.elapsed() };
    assert_ne!(scenario.judge(&truth, &step, &got), Judgement::Wrong, "{}: {} {path}: {got:?}", scenario.name(), method);
    true
}

//! What the batcher itself costs: calls through it beside the same calls straight through, to a provider in memory that answers at once.
//! One thread, so the rate is that of a core. `make bench` runs it.
#![allow(clippy::print_stdout, missing_docs, reason = "a measurement tells its figures")]

use std::sync::Arc;

use bytes::Bytes;
use farthing_policy::batch::{BatchRule, Flush, Window};
use farthing_types::{BatchTerms, Body, Call, CallId, Clock, Failure, Purpose, RealClock, Reply, Span, call::NoSink};
use farthing_upstream::{BatchSpec, BatchStats, Batcher, Origin, Rest, Ways};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

/// Calls at a time.
const WAVE: usize = 400;
/// Waves in a round.
const WAVES: usize = 50;
/// Rounds of each way, in turn.
const ROUNDS: usize = 9;
const SIZE: usize = 100;

/// Answers with what was made ready: a single thing, or an envelope of `SIZE`.
struct Provider {
    single: Bytes,
    envelope: Bytes,
}

impl Origin for Provider {
    fn fetch(&self, call: Call) -> BoxFuture<'static, Result<Reply, Failure>> {
        let body = if call.method == Method::POST { self.envelope.clone() } else { self.single.clone() };
        let headers = HeaderMap::from_iter([(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
        std::future::ready(Ok(Reply { status: StatusCode::OK, headers, body: Body::full(body) })).boxed()
    }
}

fn provider() -> Arc<dyn Origin> {
    let thing = format!("{{\"id\":17,\"name\":\"{}\",\"price\":1.50}}", "x".repeat(200));
    let one = |id| format!("{{\"id\":\"{id}\",\"status\":200,\"body\":{thing}}}");
    let envelope = format!("{{\"responses\":[{}]}}", (0..SIZE).map(one).collect::<Vec<_>>().join(","));
    Arc::new(Provider { single: thing.into(), envelope: envelope.into() })
}

fn call(n: usize) -> Call {
    Call {
        id: CallId(n as u64),
        route: "shop".into(),
        payer: "tenant".into(),
        purpose: Purpose::User,
        key: None,
        method: Method::GET,
        target: format!("/things/{n}").parse().unwrap_or_default(),
        headers: HeaderMap::from_iter([
            (http::header::AUTHORIZATION, HeaderValue::from_static("Bearer of-the-tenant")),
            (http::header::ACCEPT, HeaderValue::from_static("application/json")),
        ]),
        body: Body::empty(),
        deadline: Span::from_secs(60),
        batch: Some(BatchTerms { owner: "tenant".into(), patience: Span::from_secs(60), lasts: Span::from_secs(60), window: None }),
        routing: None,
        repeatable: false,
        claim: farthing_types::Claim::default(),
        sink: Arc::new(NoSink),
    }
}

/// Calls per second.
async fn round(origin: &dyn Origin, clock: &RealClock) -> f64 {
    let started = clock.now();
    for wave in 0..WAVES {
        let answers = join_all((0..WAVE).map(|n| origin.fetch(call(wave * WAVE + n)))).await;
        assert!(answers.iter().all(|answer| answer.as_ref().is_ok_and(|reply| reply.status == StatusCode::OK)));
    }
    (WAVE * WAVES) as f64 / clock.now().since(started).as_secs_f64()
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let (clock, straight, stats) = (RealClock::default(), provider(), Arc::new(BatchStats::default()));
    let ways = Ways { usual: straight.clone(), once: straight.clone(), again: None };
    let rule = BatchRule { window: Window::Fixed(Span::from_millis(50)), max_size: SIZE as u32, min_rate: 0.0, ..BatchRule::default() };
    let format = Arc::new(Rest { target: http::Uri::from_static("/batch") });
    let spec = BatchSpec { format, rule, max_answer: 10_000_000 };
    let batched = Batcher::new(ways, spec, stats.clone());
    let (mut of_straight, mut of_batched) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        of_straight.push(round(&*straight, &clock).await);
        of_batched.push(round(&batched, &clock).await);
    }
    let (straight, batched) = (median(of_straight), median(of_batched));
    assert_eq!(stats.batches(Flush::Size), (WAVE / SIZE * WAVES * ROUNDS) as u64, "full batches only");
    let added = (1.0 / batched - 1.0 / straight) * 1e6;
    println!(
        "{{\"batched_per_s\":{batched:.0},\"straight_per_s\":{straight:.0},\"added_us\":{added:.2},\"ratio\":{:.2}}}",
        straight / batched
    );
}

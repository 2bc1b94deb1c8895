//! A provider that counts what it bills in its own plain arithmetic.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use farthing_types::{Body, BodyError, Call, CallReport, Failure, FailureKind, Reply};
use farthing_upstream::Origin;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, stream};
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body::Frame;
use http_body_util::StreamBody;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// What was billed on one route.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Units {
    pub attempts: u64,
    pub nanos: i64,
    pub input: u64,
    pub output: u64,
    pub metered: u64,
}

pub struct Provider {
    seed: u64,
    books: Mutex<Books>,
}

#[derive(Default)]
struct Books {
    serial: u64,
    units: BTreeMap<String, Units>,
    /// Versions of documents.
    versions: BTreeMap<String, u64>,
}

/// The bill of one token call, rounded once: input 2,500.5 nano-dollars, cached 1,250, output 10,000, reasoning 12,000.
fn tokens(input: u64, cached: u64, output: u64, reasoning: u64) -> i64 {
    i64::try_from((input * 5_001 + cached * 2_500 + output * 20_000 + reasoning * 24_000).div_ceil(2)).unwrap()
}

/// The whole month's bill of points: 50 free, up to 500 at 10,000 nano-dollars, then 7,000.
fn points(total: u64) -> i64 {
    let middle = total.min(500).saturating_sub(50);
    i64::try_from(middle * 10_000 + total.saturating_sub(500) * 7_000).unwrap()
}

fn tiles(bytes: u64) -> i64 {
    i64::try_from((bytes * 300_000 * 2 + 1_024) / 2_048).unwrap()
}

impl Provider {
    pub fn new(seed: u64) -> Self {
        Self { seed, books: Mutex::default() }
    }

    pub fn billed(&self) -> BTreeMap<String, Units> {
        self.books.lock().units.clone()
    }

    pub fn at(self: Arc<Self>, route: &str) -> Arc<dyn Origin> {
        Arc::new(Endpoint { provider: self, route: route.into() })
    }

    fn bill(&self, route: &str, change: impl FnOnce(&mut Units)) {
        change(self.books.lock().units.entry(route.to_owned()).or_default());
    }

    /// The numbers of a call: of its serial alone.
    fn numbers(&self) -> StdRng {
        let mut books = self.books.lock();
        books.serial += 1;
        StdRng::seed_from_u64(self.seed.wrapping_mul(1 << 40) + books.serial)
    }
}

struct Endpoint {
    provider: Arc<Provider>,
    route: Arc<str>,
}

/// A call that has been sent: reported as broken when it is dropped before an answer, as the client on a wire does.
struct Sent {
    call: Option<Call>,
    /// What is billed for a call whose answer nobody waited for.
    provider: Arc<Provider>,
    route: Arc<str>,
}

impl Sent {
    fn report(&mut self, status: Option<StatusCode>) -> Call {
        let call = self.call.take().unwrap();
        let failure = status.is_none().then_some(FailureKind::Broken);
        call.sink.attempt(CallReport { failure, ..CallReport::only(&call, &self.route, status) });
        call
    }
}

impl Drop for Sent {
    fn drop(&mut self) {
        if self.call.is_some() {
            self.report(None);
            assert_eq!(&*self.route, "strict", "only these calls end with their client");
            self.provider.bill(&self.route, |units| units.nanos += 1_000_000);
        }
    }
}

impl Origin for Endpoint {
    fn fetch(&self, call: Call) -> BoxFuture<'static, Result<Reply, Failure>> {
        let (provider, route) = (self.provider.clone(), self.route.clone());
        async move {
            let mut numbers = provider.numbers();
            provider.bill(&route, |units| units.attempts += 1);
            let mut sent = Sent { call: Some(call), provider: provider.clone(), route: route.clone() };
            for _ in 0..numbers.random_range(0..6) {
                tokio::task::yield_now().await;
            }
            // What goes wrong is billed by one of them only.
            let wrong = if &*route == "strict" { 1_000_000 } else { 0 };
            match numbers.random_range(0..40) {
                0 | 1 => {
                    sent.report(Some(StatusCode::SERVICE_UNAVAILABLE));
                    provider.bill(&route, |units| units.nanos += wrong);
                    Ok(reply(StatusCode::SERVICE_UNAVAILABLE, "text/plain", Body::full("no")))
                }
                2 => {
                    sent.report(None);
                    provider.bill(&route, |units| units.nanos += wrong);
                    Err(Failure::sent(FailureKind::Broken, "gone"))
                }
                _ => Ok(answer(&provider, &route, &mut sent, &mut numbers)),
            }
        }
        .boxed()
    }
}

fn reply(status: StatusCode, media: &'static str, body: Body) -> Reply {
    let headers = HeaderMap::from_iter([("content-type".parse().unwrap(), HeaderValue::from_static(media))]);
    Reply { status, headers, body }
}

fn answer(provider: &Arc<Provider>, route: &Arc<str>, sent: &mut Sent, numbers: &mut StdRng) -> Reply {
    if &**route == "docs" {
        return document(provider, sent, numbers);
    }
    let call = sent.report(Some(StatusCode::OK));
    let body = call.body.as_full().unwrap_or_default();
    let request: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    let stream = request["stream"] == true;
    match &**route {
        "strict" => {
            provider.bill(route, |units| units.nanos += 1_000_000);
            reply(StatusCode::OK, "text/plain", Body::full("yes"))
        }
        "points" => {
            let cost = numbers.random_range(0..9);
            provider.bill(route, |units| {
                units.nanos += points(units.metered + cost) - points(units.metered);
                units.metered += cost;
            });
            reply(StatusCode::OK, "application/json", Body::full(format!("{{\"account\":{{\"cost\":{cost}}}}}")))
        }
        "tiles" => tile(provider, route, numbers),
        "items" => items(provider, (&call, &request), numbers),
        "vectors" => vectors(provider, &request, numbers),
        "claude" => message(provider, route, stream, numbers),
        _ => chat(provider, route, &request, numbers),
    }
}

fn document(provider: &Arc<Provider>, sent: &mut Sent, numbers: &mut StdRng) -> Reply {
    let path = sent.call.as_ref().unwrap().target.path().to_owned();
    let version = {
        let mut books = provider.books.lock();
        let version = books.versions.entry(path).or_default();
        *version += u64::from(numbers.random_range(0..3) == 0);
        format!("\"{version}\"")
    };
    let known = sent.call.as_ref().unwrap().headers.get("if-none-match").is_some_and(|tag| tag == version.as_str());
    let status = if known { StatusCode::NOT_MODIFIED } else { StatusCode::OK };
    sent.report(Some(status));
    provider.bill("docs", |units| units.nanos += if known { 100_000 } else { 2_000_000 });
    let body = if known { Body::empty() } else { Body::full(format!("document {version}")) };
    let mut reply = reply(status, "text/plain", body);
    reply.headers.insert("etag", version.parse().unwrap());
    reply
}

/// Frames that bill as they are taken, and what they bill settles when they are dropped.
struct Frames<F: FnMut(u64) -> Option<Result<Bytes, BodyError>> + Unpin, S: FnMut(u64)> {
    next: F,
    settle: S,
    taken: u64,
}

impl<F: FnMut(u64) -> Option<Result<Bytes, BodyError>> + Unpin, S: FnMut(u64)> Drop for Frames<F, S> {
    fn drop(&mut self) {
        (self.settle)(self.taken);
    }
}

fn frames<F, S>(next: F, settle: S) -> Body
where
    F: FnMut(u64) -> Option<Result<Bytes, BodyError>> + Unpin + Send + 'static,
    S: FnMut(u64) + Unpin + Send + 'static,
{
    let frames = Frames { next, settle, taken: 0 };
    let stream = stream::unfold(Some(frames), |frames| async move {
        let mut frames = frames?;
        tokio::task::yield_now().await;
        let frame = (frames.next)(frames.taken)?;
        if frame.is_err() {
            return Some((frame.map(Frame::data), None));
        }
        frames.taken += 1;
        Some((frame.map(Frame::data), Some(frames)))
    });
    Body::stream(StreamBody::new(Box::pin(stream)))
}

/// So many pieces; one in eight streams is cut before its end.
fn pieces(numbers: &mut StdRng, most: u64) -> (u64, Option<u64>) {
    let count = numbers.random_range(1..most);
    (count, (numbers.random_range(0..8) == 0).then(|| numbers.random_range(0..count)))
}

fn cut() -> Option<Result<Bytes, BodyError>> {
    Some(Err(BodyError("cut".to_owned())))
}

fn tile(provider: &Arc<Provider>, route: &Arc<str>, numbers: &mut StdRng) -> Reply {
    let (count, cut_at) = pieces(numbers, 9);
    let size = numbers.random_range(1..700);
    let next = move |taken| match taken {
        taken if Some(taken) == cut_at => cut(),
        taken if taken == count => None,
        _ => Some(Ok(Bytes::from(vec![b'x'; size]))),
    };
    let (provider, route) = (provider.clone(), route.clone());
    let settle = move |taken: u64| provider.bill(&route, |units| units.nanos += tiles(taken * size as u64));
    reply(StatusCode::OK, "image/png", frames(next, settle))
}

/// One thing, or an envelope of them: billed as one call whatever is in it. Some of it fails, and some envelopes come damaged.
fn items(provider: &Arc<Provider>, (call, request): (&Call, &serde_json::Value), numbers: &mut StdRng) -> Reply {
    provider.bill("items", |units| units.nanos += 700_000);
    let Some(requests) = request["requests"].as_array() else {
        return reply(StatusCode::OK, "application/json", Body::full(format!("{{\"is\":\"{}\"}}", call.target)));
    };
    let mut one = |request: &serde_json::Value| {
        let status = if numbers.random_range(0..12) == 0 { 503 } else { 200 };
        format!("{{\"id\":{},\"status\":{status},\"body\":{{\"is\":{}}}}}", request["id"], request["url"])
    };
    let mut body = format!("{{\"responses\":[{}]}}", requests.iter().map(&mut one).collect::<Vec<_>>().join(","));
    if numbers.random_range(0..10) == 0 {
        body.truncate(body.len() / 2);
    }
    reply(StatusCode::OK, "application/json", Body::full(body))
}

/// Embeddings, billed by the token.
fn vectors(provider: &Arc<Provider>, request: &serde_json::Value, numbers: &mut StdRng) -> Reply {
    let inputs = request["input"].as_array().unwrap();
    let input = inputs.iter().map(|_| numbers.random_range(1..5u64)).sum::<u64>();
    provider.bill("vectors", |units| {
        units.nanos += tokens(input, 0, 0, 0);
        units.input += input;
    });
    let data: Vec<String> = (0..inputs.len()).map(|index| format!("{{\"index\":{index},\"embedding\":[0.5]}}")).collect();
    let usage = format!("{{\"prompt_tokens\":{input},\"total_tokens\":{input}}}");
    let body = format!("{{\"model\":\"m\",\"data\":[{}],\"usage\":{usage}}}", data.join(","));
    reply(StatusCode::OK, "application/json", Body::full(body))
}

fn message(provider: &Arc<Provider>, route: &Arc<str>, stream: bool, numbers: &mut StdRng) -> Reply {
    let (input, cached) = (numbers.random_range(1..5_000), numbers.random_range(0..2_000));
    let (count, cut_at) = pieces(numbers, 12);
    let bill = {
        let (provider, route) = (provider.clone(), route.clone());
        move |output: u64| {
            provider.bill(&route, |units| {
                units.nanos += tokens(input, cached, output, 0);
                units.input += input + cached;
                units.output += output;
            });
        }
    };
    if !stream {
        bill(count);
        let text = "ok. ".repeat(usize::try_from(count).unwrap());
        let usage = format!("{{\"input_tokens\":{input},\"cache_read_input_tokens\":{cached},\"output_tokens\":{count}}}");
        let body = format!("{{\"model\":\"m\",\"content\":[{{\"type\":\"text\",\"text\":\"{text}\"}}],\"usage\":{usage}}}");
        return reply(StatusCode::OK, "application/json", Body::full(body));
    }
    // Cut no earlier than its first event: before that it has told nothing.
    let cut_at = cut_at.map(|at| at + 1);
    let next = move |taken| match taken {
        taken if Some(taken) == cut_at => cut(),
        0 => {
            let usage = format!("{{\"input_tokens\":{input},\"cache_read_input_tokens\":{cached},\"output_tokens\":1}}");
            Some(Ok(Bytes::from(format!("data: {{\"type\":\"message_start\",\"message\":{{\"model\":\"m\",\"usage\":{usage}}}}}\n\n"))))
        }
        taken if taken <= count => {
            let delta = "data: {\"type\":\"content_block_delta\",\"delta\":{\"type\":\"text_delta\",\"text\":\"ok. \"}}\n\n";
            Some(Ok(Bytes::from(format!("{delta}data: {{\"type\":\"message_delta\",\"usage\":{{\"output_tokens\":{taken}}}}}\n\n"))))
        }
        _ => None,
    };
    reply(StatusCode::OK, "text/event-stream", frames(next, move |taken| bill(taken.saturating_sub(1).max(1))))
}

fn chat(provider: &Arc<Provider>, route: &Arc<str>, request: &serde_json::Value, numbers: &mut StdRng) -> Reply {
    let (input, cached) = (numbers.random_range(1..5_000), numbers.random_range(0..2_000));
    let (output, reasoning) = (numbers.random_range(1..12), numbers.random_range(0..300));
    provider.bill(route, |units| {
        units.nanos += tokens(input, cached, output, reasoning);
        units.input += input + cached;
        units.output += output + reasoning;
    });
    let usage = format!(
        "{{\"prompt_tokens\":{},\"completion_tokens\":{},\"total_tokens\":{},\"prompt_tokens_details\":{{\"cached_tokens\":{cached}}},\
         \"completion_tokens_details\":{{\"reasoning_tokens\":{reasoning}}}}}",
        input + cached,
        output + reasoning,
        input + cached + output + reasoning
    );
    if request["stream"] != true {
        let body = format!("{{\"model\":\"m\",\"choices\":[{{\"message\":{{\"content\":\"yes\"}}}}],\"usage\":{usage}}}");
        return reply(StatusCode::OK, "application/json", Body::full(body));
    }
    assert_eq!(request["stream_options"]["include_usage"], true, "usage is always asked for");
    let next = move |taken: u64| match taken.cmp(&output) {
        std::cmp::Ordering::Less => {
            Some(Ok(Bytes::from("data: {\"model\":\"m\",\"choices\":[{\"delta\":{\"content\":\"yes \"}}],\"usage\":null}\n\n")))
        }
        std::cmp::Ordering::Equal => {
            Some(Ok(Bytes::from(format!("data: {{\"model\":\"m\",\"choices\":[],\"usage\":{usage}}}\n\ndata: [DONE]\n\n"))))
        }
        std::cmp::Ordering::Greater => None,
    };
    reply(StatusCode::OK, "text/event-stream", frames(next, |_| ()))
}

//! A provider in memory that speaks the formats and counts what it could bill.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use farthing_policy::batch::{BatchRule, Window};
use farthing_types::{
    BatchTerms, Body, BodyError, Call, CallId, CallReport, CallSink, Failure, FailureKind, Purpose, RealClock, Reply, Span,
};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use parking_lot::Mutex;

use crate::batch::*;
use crate::{BreakerSpec, RetrySpec, UpstreamSpec, around};

/// What the provider does with a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// This status and body.
    Reply(u16, String),
    /// It cannot be reached.
    Unsent,
    /// The connection breaks before the head.
    Broken,
    /// The body breaks off after this.
    Cut(String),
    /// Nothing comes.
    Hang,
    /// A bug of ours.
    Panic,
}

/// A call as the provider saw it.
#[derive(Clone, Debug)]
pub struct Seen {
    pub target: String,
    pub headers: HeaderMap,
    pub body: String,
}

type Script = dyn Fn(usize, &Seen) -> Answer + Send + Sync;

pub struct Provider {
    pub seen: Mutex<Vec<Seen>>,
    script: Box<Script>,
}

impl Provider {
    pub fn new(script: impl Fn(usize, &Seen) -> Answer + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self { seen: Mutex::default(), script: Box::new(script) })
    }
    pub fn calls(&self) -> usize {
        self.seen.lock().len()
    }
    pub fn targets(&self) -> Vec<String> {
        self.seen.lock().iter().map(|seen| seen.target.clone()).collect()
    }
}

pub struct Wire(pub Arc<Provider>);

/// Reports a call once, as broken when it is dropped before it was answered.
struct Sent(Option<Call>);

impl Sent {
    fn report(&mut self, status: Option<StatusCode>, failure: Option<FailureKind>, sent: bool) {
        if let Some(call) = self.0.take() {
            call.sink.attempt(CallReport { failure, sent, ..CallReport::only(&call, "wire", status) });
        }
    }
}

impl Drop for Sent {
    fn drop(&mut self) {
        self.report(None, Some(FailureKind::Broken), true);
    }
}

impl Origin for Wire {
    fn fetch(&self, call: Call) -> BoxFuture<'static, Result<Reply, Failure>> {
        let provider = self.0.clone();
        async move {
            let body = String::from_utf8(call.body.as_full().unwrap().to_vec()).unwrap();
            let seen = Seen { target: call.target.to_string(), headers: call.headers.clone(), body };
            let number = {
                let mut all = provider.seen.lock();
                all.push(seen.clone());
                all.len() - 1
            };
            let deadline = call.deadline;
            let mut sent = Sent(Some(call));
            match (provider.script)(number, &seen) {
                Answer::Reply(status, body) => Ok(reply(&mut sent, status, Body::full(body))),
                Answer::Cut(body) => Ok(reply(&mut sent, 200, cut(body))),
                Answer::Unsent => {
                    sent.report(None, Some(FailureKind::Connect), false);
                    Err(Failure::unsent(FailureKind::Connect, "no route"))
                }
                Answer::Broken => {
                    sent.report(None, Some(FailureKind::Broken), true);
                    Err(Failure::sent(FailureKind::Broken, "gone"))
                }
                Answer::Hang => {
                    tokio::time::sleep(deadline).await;
                    sent.report(None, Some(FailureKind::Timeout), true);
                    Err(Failure::sent(FailureKind::Timeout, "nothing came"))
                }
                Answer::Panic => panic!("as the script wants it"),
            }
        }
        .boxed()
    }
}

fn reply(sent: &mut Sent, status: u16, body: Body) -> Reply {
    let status = StatusCode::from_u16(status).unwrap();
    sent.report(Some(status), None, true);
    let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
    Reply { status, headers, body }
}

fn cut(body: String) -> Body {
    let frames = [Ok(Frame::data(Bytes::from(body))), Err(BodyError("cut".to_owned()))];
    Body::stream(StreamBody::new(futures_util::stream::iter(frames)))
}

#[derive(Default)]
pub struct Reports(pub Mutex<Vec<CallReport>>);

impl CallSink for Reports {
    fn attempt(&self, report: CallReport) {
        self.0.lock().push(report);
    }
}

impl Reports {
    /// Attempts that went out: any of them may have been billed.
    pub fn billable(&self) -> usize {
        self.0.lock().iter().filter(|report| report.sent).count()
    }
}

pub struct World {
    pub batcher: Batcher,
    pub provider: Arc<Provider>,
    pub stats: Arc<BatchStats>,
    ids: AtomicUsize,
}

/// Batches of a fixed window of 50 ms.
pub fn rule() -> BatchRule {
    BatchRule { window: Window::Fixed(Span::from_millis(50)), min_rate: 0.0, ..BatchRule::default() }
}

pub fn rest() -> Arc<dyn BatchFormat> {
    Arc::new(Rest { target: "/batch".parse().unwrap() })
}

impl World {
    pub fn new(format: Arc<dyn BatchFormat>, rule: BatchRule, attempts: u16, provider: Arc<Provider>) -> Self {
        let spec = UpstreamSpec {
            retry: RetrySpec { attempts, budget_share: 1.0, budget_floor: 1_000_000, ..RetrySpec::default() },
            breaker: BreakerSpec { error_share: 1.0, ..BreakerSpec::default() },
            ..UpstreamSpec::new("u", "http://provider.test".parse().unwrap())
        };
        let upstream = around(Arc::new(Wire(provider.clone())), spec, Arc::new(RealClock::default()));
        let stats = Arc::new(BatchStats::default());
        let spec = BatchSpec { format, rule, max_answer: 1_000_000 };
        Self { batcher: Batcher::new(upstream.ways(Span::from_secs(5)), spec, stats.clone()), provider, stats, ids: AtomicUsize::new(0) }
    }

    /// A call of tenant `t` that may be batched, and where its attempts are reported.
    pub fn call(&self, method: Method, target: &str, body: &str) -> (Call, Arc<Reports>) {
        let sink = Arc::new(Reports::default());
        let mut headers = HeaderMap::new();
        if !body.is_empty() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        let call = Call {
            id: CallId(self.ids.fetch_add(1, Ordering::Relaxed) as u64 + 100),
            route: "r".into(),
            payer: "t".into(),
            purpose: Purpose::User,
            key: None,
            method,
            target: target.parse().unwrap(),
            headers,
            body: Body::full(body.to_owned()),
            deadline: Span::from_secs(60),
            batch: Some(BatchTerms { owner: "t".into(), patience: Span::from_secs(60), lasts: Span::from_secs(60), window: None }),
            routing: None,
            repeatable: false,
            claim: farthing_types::Claim::default(),
            sink: sink.clone(),
        };
        (call, sink)
    }

    pub fn get(&self, target: &str) -> (Call, Arc<Reports>) {
        self.call(Method::GET, target, "")
    }

    /// Status and body, or the failure.
    pub async fn ask(&self, call: Call) -> Result<(u16, String), Failure> {
        let reply = self.batcher.fetch(call).await?;
        let body = reply.body.collect().await.map_err(|e| Failure::sent(FailureKind::Broken, e.to_string()))?.to_bytes();
        Ok((reply.status.as_u16(), String::from_utf8(body.to_vec()).unwrap()))
    }

    /// Status and body of a GET for each target, all asked at once.
    pub async fn all(&self, targets: &[&str]) -> Vec<Result<(u16, String), FailureKind>> {
        let asked = targets.iter().map(|target| self.ask(self.get(target).0));
        futures_util::future::join_all(asked).await.into_iter().map(|got| got.map_err(|failure| failure.kind)).collect()
    }
}

/// What this provider answers to what a plain call or an envelope asks for: 200, and the target as it was asked for.
pub fn echo(seen: &Seen) -> Answer {
    if seen.target != "/batch" {
        return Answer::Reply(200, format!("{{\"asked\":\"{}\"}}", seen.target));
    }
    let requests: serde_json::Value = serde_json::from_str(&seen.body).unwrap();
    let one =
        |request: &serde_json::Value| format!("{{\"id\":{},\"status\":200,\"body\":{{\"asked\":{}}}}}", request["id"], request["url"]);
    let responses: Vec<String> = requests["requests"].as_array().unwrap().iter().map(one).rev().collect();
    Answer::Reply(200, format!("{{\"responses\":[{}]}}", responses.join(",")))
}

pub fn asked(target: &str) -> String {
    format!("{{\"asked\":\"{target}\"}}")
}

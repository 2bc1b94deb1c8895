//! A provider with a batch endpoint as OpenAI documents it, and one as Anthropic does, which counts in its own arithmetic, and a proxy before it. Time is tokio's, paused.

use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use farthing_config::{Config, CredentialMode, DeferConfig, Dialect, Prices, Provider, Route, Secret};
use farthing_contract::log::{CallRow, Row, Value};
use farthing_ledger::read;
use farthing_models::{Store, StoreOptions};
use farthing_proxy::Inside;
use farthing_types::{Body, BodyError, Call, CallReport, Clock, Failure, FailureKind, Money, Reply, Span, Time, TokenRates};
use farthing_upstream::{Origin, UpstreamSpec};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::header::{CONTENT_TYPE, DATE};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use parking_lot::Mutex;
use serde_json::{Value as Json, json};
use tokio::time::Instant;

use crate::world::{Requests, START};

/// Nano-dollars a token, directly.
const INPUT: i64 = 2_500;
const OUTPUT: i64 = 10_000;

/// The proxy's clock: the paused one.
struct Ticking(Instant, Arc<Vendor>);

impl Clock for Ticking {
    fn now(&self) -> Time {
        START + self.0.elapsed()
    }
    fn wall(&self) -> Time {
        self.now() + *self.1.slept.lock()
    }
}

/// What the provider has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    pub direct: u64,
    pub batched: u64,
    pub billed: Money,
    pub batches: u64,
    pub cancelled: u64,
}

struct Batch {
    file: String,
    metadata: Json,
    began: Instant,
    created: String,
    status: &'static str,
    files: [Option<String>; 2],
    of_messages: bool,
}

/// See the module.
#[derive(Default)]
pub struct Vendor {
    pub counted: Mutex<Counted>,
    /// How long batches take; `None`: for ever.
    pub takes: Mutex<Option<Span>>,
    /// So many requests of a batch have run when it is cancelled.
    pub runs_first: Mutex<usize>,
    /// Orders of batches are taken, and their answer is lost.
    pub loses_orders: Mutex<bool>,
    /// Orders of batches are lost themselves.
    pub drops_orders: Mutex<bool>,
    /// Answers of batches break off after the first.
    pub breaks_off: Mutex<bool>,
    /// Batches are beyond the pages of the list that anybody looks through.
    pub lists_none: Mutex<bool>,
    /// Others order a batch of one request every ten minutes from the account, and each takes three hours.
    pub is_busy: Mutex<bool>,
    /// How long the proxy's machine has slept: its timers know nothing of that.
    pub slept: Mutex<Span>,
    began: OnceLock<Instant>,
    files: Mutex<HashMap<String, Bytes>>,
    batches: Mutex<BTreeMap<String, Batch>>,
}

struct Endpoint(Arc<Vendor>);

impl Origin for Endpoint {
    fn fetch(&self, call: Call) -> BoxFuture<'static, Result<Reply, Failure>> {
        let vendor = self.0.clone();
        vendor.began.get_or_init(Instant::now);
        async move {
            assert_eq!(call.headers.get("host"), None);
            let body = call.body.as_full().unwrap_or_default();
            let path = call.target.path_and_query().map(|path| path.as_str().to_owned()).unwrap_or_default();
            let of_messages = path.starts_with("/v1/messages");
            let answered = if matches!(&*path, "/v1/chat/completions" | "/v1/messages") {
                tokio::time::sleep(Span::from_secs(1)).await;
                vendor.counted.lock().direct += 1;
                let (status, answer) = vendor.run(&serde_json::from_slice(&body).unwrap(), (of_messages, 1));
                Some((status, answer.to_string().into()))
            } else if of_messages {
                assert_eq!(call.headers["anthropic-version"], "2023-06-01");
                vendor.messages_api(&call.method, &path, &body).map(|answer| (StatusCode::OK, answer))
            } else {
                vendor.batch_api(&call.method, &path, &body).map(|answer| (StatusCode::OK, answer))
            };
            let Some((status, answer)) = answered else {
                call.sink.attempt(CallReport { failure: Some(FailureKind::Timeout), ..CallReport::only(&call, "vendor", None) });
                return Err(Failure::sent(FailureKind::Timeout, "lost"));
            };
            call.sink.attempt(CallReport::only(&call, "vendor", Some(status)));
            let date = httpdate::fmt_http_date(std::time::UNIX_EPOCH + vendor.at(Instant::now()).since(Time::ZERO));
            let headers =
                [(CONTENT_TYPE, "application/json"), (DATE, &*date)].map(|(name, value)| (name, HeaderValue::from_str(value).unwrap()));
            let headers = HeaderMap::from_iter(headers);
            let body = if *vendor.breaks_off.lock() && path.ends_with("/results") { first_line(&answer) } else { Body::full(answer) };
            Ok(Reply { status, headers, body })
        }
        .boxed()
    }
}

/// Then the connection breaks.
fn first_line(lines: &Bytes) -> Body {
    let end = lines.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    let parts = [Ok(Frame::data(lines.slice(..end))), Err(BodyError("cut".into()))];
    Body::stream(StreamBody::new(futures_util::stream::iter(parts)))
}

impl Vendor {
    /// A time by its clock, which is far from the proxy's.
    fn at(&self, then: Instant) -> Time {
        START + Span::from_secs(86_400 * 400) + then.duration_since(*self.began.get_or_init(Instant::now)) + *self.slept.lock()
    }

    fn created(&self, then: Instant) -> String {
        jiff::Timestamp::from_millisecond(self.at(then).millis()).unwrap().to_string()
    }

    /// The batches of others, the newest first.
    fn others(&self) -> Vec<Json> {
        let (every, takes) = (Span::from_secs(600), Span::from_secs(3 * 3_600));
        let began = *self.began.get_or_init(Instant::now);
        let show = |n: u32| {
            let ended = began.elapsed().saturating_sub(every * n) >= takes;
            let (status, count) = if ended { ("ended", "succeeded") } else { ("in_progress", "processing") };
            let created = self.created(began + every * n);
            json!({"id": format!("other_{n}"), "processing_status": status, "created_at": created, "request_counts": {count: 1}})
        };
        let so_many = u32::try_from(began.elapsed().as_secs() / every.as_secs()).unwrap();
        if *self.is_busy.lock() { (0..=so_many).rev().map(show).collect() } else { Vec::new() }
    }

    /// Answers one request, and bills it: all of it, or one part of `parts`.
    fn run(&self, asked: &Json, (of_messages, parts): (bool, i64)) -> (StatusCode, Json) {
        let text = asked["messages"][0]["content"].as_str().unwrap();
        if text.starts_with("wrong") {
            return (StatusCode::BAD_REQUEST, json!({"type": "error", "error": {"type": "invalid_request_error", "message": "wrong"}}));
        }
        if text.starts_with("busy") && parts > 1 {
            return (
                StatusCode::from_u16(529).unwrap(),
                json!({"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}),
            );
        }
        let (input, output) = (text.split_whitespace().count() as i64, asked["max_tokens"].as_i64().unwrap());
        self.counted.lock().billed += Money::from_nanos((input * INPUT + output * OUTPUT) / parts);
        if of_messages {
            let usage = json!({"input_tokens": input, "output_tokens": output, "service_tier": "standard"});
            let content = json!([{"type": "text", "text": text}]);
            return (StatusCode::OK, json!({"type": "message", "model": asked["model"], "content": content, "usage": usage}));
        }
        let answer = json!({
            "object": "chat.completion", "model": asked["model"], "service_tier": "default",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": text}}],
            "usage": {"prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output},
        });
        (StatusCode::OK, answer)
    }

    /// What has had its time has run.
    fn pass(&self, batches: &mut BTreeMap<String, Batch>) {
        for batch in batches.values_mut().filter(|batch| batch.status == "in_progress") {
            if self.takes.lock().is_some_and(|takes| batch.began.elapsed() >= takes) {
                self.finish(batch, "completed", usize::MAX);
            }
        }
    }

    /// A batch is ordered; the id of nobody's where the order is lost.
    fn ordered(&self, batches: &mut BTreeMap<String, Batch>, file: String, (metadata, of_messages): (Json, bool)) -> String {
        let id = format!("batch_{}", batches.len());
        let created = self.created(Instant::now());
        let batch = Batch { file, metadata, began: Instant::now(), created, status: "in_progress", files: [None, None], of_messages };
        batches.insert(id.clone(), batch);
        self.counted.lock().batches += 1;
        id
    }

    fn cancel(&self, batch: &mut Batch) {
        if batch.status == "in_progress" {
            self.finish(batch, "cancelled", *self.runs_first.lock());
            self.counted.lock().cancelled += 1;
        }
    }

    fn messages_api(&self, method: &Method, path: &str, body: &Bytes) -> Option<Bytes> {
        let mut batches = self.batches.lock();
        self.pass(&mut batches);
        let id = path.split('/').nth(4).unwrap_or_default();
        Some(match (method, path) {
            (&Method::POST, "/v1/messages/batches") if *self.drops_orders.lock() => return None,
            (&Method::POST, "/v1/messages/batches") => {
                let order: Json = serde_json::from_slice(body).unwrap();
                let line = |one: &Json| {
                    assert!(one.as_object().unwrap().len() == 2 && one["custom_id"].as_str().unwrap().len() <= 64);
                    format!("{}\n", json!({"custom_id": one["custom_id"], "body": one["params"]}))
                };
                let lines: String = order["requests"].as_array().unwrap().iter().map(line).collect();
                let id = self.ordered(&mut batches, self.put(lines.into()), (Json::Null, true));
                if *self.loses_orders.lock() {
                    return None;
                }
                self.show_messages(&id, &batches[&id]).to_string().into()
            }
            (&Method::POST, _) if path.ends_with("/cancel") => {
                self.cancel(batches.get_mut(id).unwrap());
                self.show_messages(id, &batches[id]).to_string().into()
            }
            _ if path.starts_with("/v1/messages/batches?") => {
                let listed = batches.iter().rev().filter(|_| !*self.lists_none.lock());
                let data: Vec<Json> = self.others().into_iter().chain(listed.map(|(id, batch)| self.show_messages(id, batch))).collect();
                json!({"data": data, "has_more": false}).to_string().into()
            }
            _ if id.starts_with("other_") => json!({"custom_id": "theirs", "result": {"type": "expired"}}).to_string().into(),
            _ if path.ends_with("/results") => self.files.lock()[batches[id].files[0].as_ref().unwrap()].clone(),
            _ => self.show_messages(id, &batches[id]).to_string().into(),
        })
    }

    fn show_messages(&self, id: &str, batch: &Batch) -> Json {
        let requests = self.files.lock()[&batch.file].iter().filter(|byte| **byte == b'\n').count();
        let (status, count) = if batch.status == "in_progress" { ("in_progress", "processing") } else { ("ended", "succeeded") };
        json!({"id": id, "type": "message_batch", "processing_status": status, "created_at": batch.created, "request_counts": {count: requests}})
    }

    fn batch_api(&self, method: &Method, path: &str, body: &Bytes) -> Option<Bytes> {
        let mut batches = self.batches.lock();
        self.pass(&mut batches);
        let id = path.split('/').nth(3).unwrap_or_default();
        Some(match (method, path) {
            (&Method::POST, "/v1/files") => {
                let text = String::from_utf8(body.to_vec()).unwrap();
                assert!(text.contains("name=\"purpose\"\r\n\r\nbatch\r\n"), "{text}");
                let lines = text.split("application/jsonl\r\n\r\n").nth(1).unwrap().split("\r\n--").next().unwrap();
                json!({"id": self.put(Bytes::copy_from_slice(lines.as_bytes()))}).to_string().into()
            }
            (&Method::POST, "/v1/batches") if *self.drops_orders.lock() => return None,
            (&Method::POST, "/v1/batches") => {
                let order: Json = serde_json::from_slice(body).unwrap();
                assert_eq!((&order["endpoint"], &order["completion_window"]), (&json!("/v1/chat/completions"), &json!("24h")));
                let file = order["input_file_id"].as_str().unwrap().to_owned();
                let id = self.ordered(&mut batches, file, (order["metadata"].clone(), false));
                if *self.loses_orders.lock() {
                    return None;
                }
                json!({"id": id, "status": "validating"}).to_string().into()
            }
            (&Method::POST, _) if path.ends_with("/cancel") => {
                self.cancel(batches.get_mut(id).unwrap());
                show(id, &batches[id]).to_string().into()
            }
            _ if path.starts_with("/v1/batches?") => {
                let data: Vec<Json> = batches.iter().map(|(id, batch)| show(id, batch)).collect();
                json!({"data": data, "has_more": false}).to_string().into()
            }
            _ if path.ends_with("/content") => self.files.lock()[id].clone(),
            _ => show(id, &batches[id]).to_string().into(),
        })
    }

    fn put(&self, bytes: Bytes) -> String {
        let mut files = self.files.lock();
        let id = format!("file-{}", files.len());
        files.insert(id.clone(), bytes);
        id
    }

    /// Runs the first requests of a batch; of the others there is an error.
    fn finish(&self, batch: &mut Batch, status: &'static str, first: usize) {
        let (mut output, mut errors) = (String::new(), String::new());
        let file = self.files.lock()[&batch.file].clone();
        let lines: Vec<Json> = file.split(|b| *b == b'\n').filter(|l| !l.is_empty()).map(|l| serde_json::from_slice(l).unwrap()).collect();
        // Answers come in no order.
        for (index, line) in lines.iter().enumerate().rev() {
            if !batch.of_messages {
                assert_eq!((&line["method"], &line["url"]), (&json!("POST"), &json!("/v1/chat/completions")));
            }
            let lost = line["body"]["messages"][0]["content"].as_str().unwrap().starts_with("lost");
            if (index >= first || lost) && batch.of_messages {
                output += &format!("{}\n", json!({"custom_id": line["custom_id"], "result": {"type": "expired"}}));
                continue;
            }
            if index >= first || lost {
                errors += &format!("{}\n", json!({"custom_id": line["custom_id"], "response": null, "error": {"code": "batch_expired"}}));
                continue;
            }
            let (code, answer) = self.run(&line["body"], (batch.of_messages, 2));
            self.counted.lock().batched += 1;
            if batch.of_messages {
                let (what, field) = if code.is_success() { ("succeeded", "message") } else { ("errored", "error") };
                output += &format!("{}\n", json!({"custom_id": line["custom_id"], "result": {"type": what, field: answer}}));
                continue;
            }
            let response = json!({"status_code": code.as_u16(), "request_id": "r", "body": answer});
            let into = if code.is_success() { &mut output } else { &mut errors };
            *into += &format!("{}\n", json!({"custom_id": line["custom_id"], "response": response, "error": null}));
        }
        batch.status = status;
        batch.files = [output, errors].map(|text| (!text.is_empty()).then(|| self.put(text.into())));
    }
}

fn show(id: &str, batch: &Batch) -> Json {
    let [output, errors] = &batch.files;
    json!({"id": id, "status": batch.status, "metadata": batch.metadata, "output_file_id": output, "error_file_id": errors})
}

/// See the module.
pub struct World {
    pub inside: Inside,
    pub vendor: Arc<Vendor>,
    logs: tempfile::TempDir,
}

/// What became of a request.
#[derive(Clone, Debug)]
pub struct Got {
    pub status: StatusCode,
    pub body: Json,
    pub detail: String,
    /// What was decided about waiting, as `x-farthing-debug` tells.
    pub why: String,
    pub took: Span,
}

/// The same to Anthropic.
pub fn messages(text: &str, deadline: Option<Span>) -> Request<Body> {
    let mut request = request(text, deadline, &[("anthropic-version", "2023-06-01")]);
    *request.uri_mut() = "/v1/messages".parse().unwrap();
    request
}

/// Makes the provider of [`World::new`] speak as Anthropic does.
pub fn speaks_messages(config: &mut Config) {
    let provider = Arc::make_mut(&mut config.providers[0]);
    provider.dialect = Dialect::Anthropic;
    provider.credential_place = farthing_config::CredentialPlace::Header(http::HeaderName::from_static("x-api-key"));
}

/// A request with a text, whose client says how long it waits.
pub fn request(text: &str, deadline: Option<Span>, more: &[(&'static str, &'static str)]) -> Request<Body> {
    let body = json!({"model": "m", "max_tokens": 7, "messages": [{"role": "user", "content": text}]});
    let mut builder = Request::builder().method(Method::POST).uri("/v1/chat/completions");
    builder = builder.header("host", "f.test").header("x-farthing-debug", "1").header("content-type", "application/json");
    if let Some(deadline) = deadline {
        builder = builder.header("x-farthing-deadline-ms", deadline.as_millis().to_string());
    }
    for (name, value) in more {
        builder = builder.header(*name, *value);
    }
    // With line breaks, as people send it.
    builder.body(Body::full(format!("{body:#}"))).unwrap()
}

impl World {
    /// A proxy with its state in `state`, and a route that a test changes.
    pub fn new(vendor: &Arc<Vendor>, state: &Path, change: impl FnOnce(&mut Config, &mut Route)) -> Self {
        let logs = tempfile::tempdir().unwrap();
        let mut config = Config { state_dir: state.to_owned(), ..Config::default() };
        (config.log.dir, config.log.row_rate, config.log.queue_bytes) = (logs.path().join("logs"), u32::MAX, 4_000_000_000);
        config.holdout.share = 0.0;
        let rates =
            TokenRates { input: Some("0.0000025".parse().unwrap()), output: Some("0.00001".parse().unwrap()), ..TokenRates::default() };
        let service = [("batch".to_owned(), "0.5".parse().unwrap())].into();
        config.providers.push(Arc::new(Provider {
            name: "openai".into(),
            base_url: "http://openai.test".parse().unwrap(),
            dialect: Dialect::OpenAi,
            credential: Some(Secret::new("sk-ours")),
            credential_place: farthing_config::CredentialPlace::Bearer,
            prices: Some(Prices { targets: [("m".to_owned(), rates)].into(), service, ..Prices::default() }),
            ..Provider::default()
        }));
        let mut route = Route {
            name: "openai".into(),
            provider: "openai".into(),
            defer: Some(DeferConfig::default()),
            deadline: Span::from_secs(24 * 3_600),
            credential: CredentialMode::Swap,
            cache: false,
            ..Route::default()
        };
        change(&mut config, &mut route);
        config.routes.push(Arc::new(route));
        let origin = vendor.clone();
        let client = move |_: &UpstreamSpec| -> Arc<dyn Origin> { Arc::new(Endpoint(origin.clone())) };
        let store = Store::open(logs.path().join("models"), StoreOptions::default());
        let inside = Inside::timed(&Arc::new(config), Arc::new(Ticking(Instant::now(), vendor.clone())), store, &client).unwrap();
        Self { inside, vendor: vendor.clone(), logs }
    }

    /// Asks with a text, and says how long it waits.
    pub async fn ask(&self, text: &str, deadline: Option<Span>, more: &[(&'static str, &'static str)]) -> Got {
        self.send(request(text, deadline, more)).await
    }

    /// Sends a request.
    pub async fn send(&self, request: Request<Body>) -> Got {
        let since = Instant::now();
        let (head, body) = self.inside.ask(request).await.into_parts();
        let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        let told = |name| head.headers.get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default();
        let (detail, why) = (told("cache-status"), told("x-farthing-defer"));
        Got { status: head.status, body: serde_json::from_slice(&body).unwrap_or_default(), detail, why, took: since.elapsed() }
    }

    /// Ends when nothing is under way any more, and reads what the log says.
    pub async fn end(self) -> (Counted, Logged) {
        self.inside.settle().await;
        self.stop().await
    }

    /// Ends now.
    pub async fn stop(self) -> (Counted, Logged) {
        let Self { inside, vendor, logs } = self;
        assert_eq!(inside.close().await.unwrap().dropped(), 0);
        let counted = *vendor.counted.lock();
        (counted, Logged::read(&logs.path().join("logs")))
    }
}

/// Sums of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Logged {
    /// Of all calls.
    pub bill: Money,
    /// Of those that nobody waited for any more.
    pub wasted: Money,
    pub calls: u64,
    pub unused: u64,
    pub out_of_batches: u64,
    pub cost: Money,
    pub base: Money,
    pub saved: Money,
    /// Requests whose cause of saving it is.
    pub deferred: u64,
}

impl Logged {
    fn read(dir: &Path) -> Self {
        let mut logged = Self::default();
        read::rows(dir, CallRow::TABLE, &["cost_nanousd", "fetch_reason", "deferred"], &mut |cells| {
            let [Value::I64(cost), Value::Text(reason), became] = cells else { panic!("an unpriced call: {cells:?}") };
            logged.bill += Money::from_nanos(*cost);
            logged.calls += 1;
            logged.out_of_batches += u64::from(*became == Value::Text("batch"));
            assert_eq!(*reason == "deferred-unused", *became == Value::Text("unused"));
            if *reason == "deferred-unused" {
                logged.wasted += Money::from_nanos(*cost);
                logged.unused += 1;
            }
            ControlFlow::Continue(())
        })
        .unwrap();
        let Requests { base, cost, saved, caused } = Requests::read(dir, "defer");
        Self { base, cost, saved, deferred: caused, ..logged }
    }
}

//! What a scenario is made of: a schedule of requests, a provider that bills, and the truth about what it would answer.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use bytes::Bytes;
use farthing_cache::Purge;
use farthing_config::{Config, Flags, System};
use farthing_models::{Store, StoreOptions};
use farthing_proxy::Inside;
use farthing_types::{Body, Call, CallReport, Clock, Failure, Reply, Span, Time};
use farthing_upstream::{Origin, UpstreamSpec};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode};
use http_body_util::BodyExt;
use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::ablation::Report;

/// 2026-11-10 00:00 UTC.
const START: Time = Time::from_millis(1_794_268_800_000);

/// The strategies that are on.
pub type On = BTreeSet<&'static str>;

/// One scenario.
pub trait Scenario: Sync {
    /// Its id in SPEC.
    fn name(&self) -> &'static str;
    /// The strategies that it is about.
    fn strategies(&self) -> &'static [&'static str];
    /// The share of the full size that the short form takes.
    fn short(&self) -> f64;
    /// The bill's reduction that must be reached.
    fn reduction(&self) -> f64;
    /// The longest that an answer may take.
    fn sla(&self) -> Span;
    /// The configuration as an operator writes it, with these strategies on.
    fn config(&self, on: &On) -> String;
    /// What happens, in order of time, at this share of the full size.
    fn script(&self, size: f64) -> Vec<Step>;
    /// What the provider answers now, and after how long.
    fn answer(&self, truth: &Truth, call: &Asked) -> Answer;
    /// Whether an answer is wrong: another's data, or stale for longer than allowed. `sent` is when the request went out.
    fn judge(&self, truth: &Truth, step: &Step, got: &Got) -> Judgement;
    /// Whether what a call costs is counted apart, too.
    fn watches(&self, _call: &Asked) -> bool {
        false
    }
    /// What else must hold, at this share of the full size.
    fn also(&self, _report: &Report, _size: f64) {}
}

/// Something that happens.
pub struct Step {
    /// When, from the start.
    pub at: Span,
    /// What.
    pub what: What,
}

pub enum What {
    /// A client asks.
    Ask { method: &'static str, path: String, headers: Vec<(&'static str, String)>, body: String },
    /// The world changes without a request, and the event that tells of it (strategy `events`) arrives so much later.
    Change { thing: u64, tag: String, told_after: Span },
}

/// What the provider sees of a call.
pub struct Asked {
    pub method: String,
    pub path: String,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// When it arrived, from the start.
    pub at: Span,
}

/// What the provider answers.
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: String,
    pub after: Span,
    /// What it bills.
    pub nanos: i64,
}

/// What a client got.
#[derive(Debug)]
pub struct Got {
    pub status: u16,
    pub body: String,
    pub at: Span,
}

/// What became of one answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    Right,
    /// Older than the truth, and the event that told of it is older than a second.
    Stale,
    /// Another's, or broken.
    Wrong,
}

/// The state of the world: the version of each thing, and when it changed last.
#[derive(Default)]
pub struct Truth {
    versions: Mutex<std::collections::HashMap<u64, (u64, Span)>>,
}

impl Truth {
    pub fn version(&self, thing: u64) -> u64 {
        self.versions.lock().get(&thing).map_or(0, |(version, _)| *version)
    }
    pub fn changed(&self, thing: u64) -> Span {
        self.versions.lock().get(&thing).map_or(Span::ZERO, |(_, at)| *at)
    }
    pub fn change(&self, thing: u64, at: Span) {
        let mut versions = self.versions.lock();
        let entry = versions.entry(thing).or_insert((0, at));
        *entry = (entry.0 + 1, at);
    }
}

/// The proxy's time is tokio's, which stands still while anybody works.
struct PausedClock(Instant);

impl Clock for PausedClock {
    fn now(&self) -> Time {
        START + self.0.elapsed()
    }
}

/// Bills each call that reaches it.
struct Biller {
    scenario: &'static dyn Scenario,
    truth: Arc<Truth>,
    begin: Instant,
    calls: AtomicU64,
    nanos: AtomicI64,
    watched: AtomicI64,
}

struct Wire(Arc<Biller>);

impl Origin for Wire {
    fn fetch(&self, call: Call) -> BoxFuture<'static, Result<Reply, Failure>> {
        let biller = self.0.clone();
        async move {
            let asked = Asked {
                method: call.method.to_string(),
                path: call.target.to_string(),
                headers: call.headers.clone(),
                body: call.body.as_full().unwrap_or_default(),
                at: biller.begin.elapsed(),
            };
            biller.calls.fetch_add(1, Ordering::Relaxed);
            let Answer { status, headers, body, after, nanos } = biller.scenario.answer(&biller.truth, &asked);
            biller.nanos.fetch_add(nanos, Ordering::Relaxed);
            if biller.scenario.watches(&asked) {
                biller.watched.fetch_add(nanos, Ordering::Relaxed);
            }
            tokio::time::sleep(after).await;
            let status = StatusCode::from_u16(status).unwrap();
            call.sink.attempt(CallReport::only(&call, "wire", Some(status)));
            let headers = headers.into_iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(&value).unwrap()));
            Ok(Reply { status, headers: headers.collect(), body: Body::full(body) })
        }
        .boxed()
    }
}

/// What a run came to.
pub struct Played {
    /// By the provider's own count.
    pub calls: u64,
    pub nanos: i64,
    /// Of these what is counted apart.
    pub watched: i64,
    /// By the ledger's.
    pub ledger_nanos: i64,
    pub ledger_calls: u64,
    pub unpriced: usize,
    /// Of each request in order: how long it took, and what became of it.
    pub answers: Vec<(Span, Judgement)>,
}

/// Plays a scenario in virtual time with these strategies on.
pub fn play(scenario: &'static dyn Scenario, on: &On, size: f64) -> Played {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(played(scenario, on, size))
}

pub fn parsed(scenario: &dyn Scenario, on: &On, dir: &Path) -> Config {
    let mut config = Config::parse(&scenario.config(on), "farthing.toml", &Flags::default(), &System).unwrap();
    (config.state_dir, config.log.dir, config.log.enabled) = (dir.to_owned(), dir.join("log"), false);
    // The saving is measured here, not estimated from a hold-out.
    config.holdout.share = 0.0;
    config
}

async fn played(scenario: &'static dyn Scenario, on: &On, size: f64) -> Played {
    let (dir, begin, truth) = (tempfile::tempdir().unwrap(), Instant::now(), Arc::new(Truth::default()));
    let biller = Arc::new(Biller {
        scenario,
        truth: truth.clone(),
        begin,
        calls: AtomicU64::new(0),
        nanos: AtomicI64::new(0),
        watched: AtomicI64::new(0),
    });
    let wire = biller.clone();
    let client = move |_: &UpstreamSpec| -> Arc<dyn Origin> { Arc::new(Wire(wire.clone())) };
    let store = Store::open(dir.path().join("models"), StoreOptions::default());
    let config = Arc::new(parsed(scenario, on, dir.path()));
    let inside = Arc::new(Inside::new(&config, Arc::new(PausedClock(begin)), store, &client).unwrap());
    let mut asks = JoinSet::new();
    for (number, step) in scenario.script(size).into_iter().enumerate() {
        tokio::time::sleep_until(begin + step.at).await;
        match &step.what {
            What::Ask { .. } => drop(asks.spawn(ask(scenario, (inside.clone(), truth.clone()), (number, step), begin))),
            What::Change { thing, .. } if !on.contains("events") => truth.change(*thing, begin.elapsed()),
            What::Change { thing, tag, told_after } => {
                truth.change(*thing, begin.elapsed());
                let (inside, tag, told_after) = (inside.clone(), tag.as_str().into(), *told_after);
                asks.spawn(async move {
                    tokio::time::sleep(told_after).await;
                    inside.purge(&Purge::Tag(tag));
                    None
                });
            }
        }
    }
    let mut answers: Vec<_> = asks.join_all().await.into_iter().flatten().collect();
    answers.sort_by_key(|(number, _)| *number);
    inside.settle().await;
    let (totals, stats) = (inside.totals(), inside.pricing_stats());
    Played {
        calls: biller.calls.load(Ordering::Relaxed),
        nanos: biller.nanos.load(Ordering::Relaxed),
        watched: biller.watched.load(Ordering::Relaxed),
        ledger_nanos: totals.total.bill_usd.nanos(),
        ledger_calls: totals.total.attempts,
        unpriced: stats.unpriced.len(),
        answers: answers.into_iter().map(|(_, answer)| answer).collect(),
    }
}

type Numbered = Option<(usize, (Span, Judgement))>;

async fn ask(
    scenario: &'static dyn Scenario,
    (inside, truth): (Arc<Inside>, Arc<Truth>),
    (number, step): (usize, Step),
    begin: Instant,
) -> Numbered {
    let What::Ask { method, path, headers, body } = &step.what else { return None };
    let mut request = Request::builder().method(*method).uri(path).header("host", "scenario.test");
    for (name, value) in headers {
        request = request.header(*name, value);
    }
    let request = request.body(if body.is_empty() { Body::empty() } else { Body::full(body.clone()) }).unwrap();
    let response = inside.ask(request).await;
    let status = response.status().as_u16();
    let whole = response.into_body().collect().await;
    let got = Got {
        status,
        body: whole.map_or_else(|_| String::new(), |b| String::from_utf8(b.to_bytes().to_vec()).unwrap()),
        at: begin.elapsed(),
    };
    let judgement = scenario.judge(&truth, &step, &got);
    Some((number, (got.at.saturating_sub(step.at), judgement)))
}

//! What a scenario is made of: a schedule of requests, a provider that bills, and the truth about what it would answer.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use bytes::Bytes;
use farthing_cache::Purge;
use farthing_cache::l2::{DiskOptions, DiskStore};
use farthing_config::{Config, Flags, L2Config, L2Store, System};
use farthing_models::{Store, StoreOptions};
use farthing_policy::batch::Flush;
use farthing_proxy::Inside;
use farthing_types::{Body, Call, CallReport, Clock, Failure, FailureKind, Outcome, Reply, Span, Time};
use farthing_upstream::{Origin, UpstreamSpec};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode};
use http_body_util::BodyExt;
use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::ablation::Report;
use crate::job;

/// 2026-11-10 00:00 UTC.
pub const START: Time = Time::from_millis(1_794_268_800_000);

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
    /// How many work through the script, each asking for the next as soon as it has its answer; `None` where requests come at their times.
    /// With the strategy `l2` the process ends in the middle and the job begins anew.
    fn workers(&self) -> Option<usize> {
        None
    }
    /// Calls a second and at once that the provider may see at most.
    fn rate(&self) -> Option<(usize, usize)> {
        None
    }
    /// The least mean size of a batch with all strategies.
    fn mean_batch(&self) -> Option<f64> {
        None
    }
    /// Whether what a call costs is counted apart, too.
    fn watches(&self, _call: &Asked) -> bool {
        false
    }
    /// What else must hold, at this share of the full size.
    fn also(&self, _report: &Report, _size: f64) {}
}

/// Something that happens.
#[derive(Clone)]
pub struct Step {
    /// When, from the start.
    pub at: Span,
    /// What.
    pub what: What,
}

#[derive(Clone)]
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

/// A parameter of a target's query; empty where it is not there.
pub fn parameter<'a>(target: &'a str, name: &str) -> &'a str {
    let query = target.split_once('?').map_or("", |(_, query)| query);
    query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=')).unwrap_or_default()
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
    /// Things that a provider had billed before.
    pub again: AtomicU64,
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
pub struct PausedClock(pub Instant);

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
    /// When each call came.
    arrivals: Mutex<Vec<Span>>,
    nanos: AtomicI64,
    watched: AtomicI64,
}

/// Is reported once, also when nobody waits for its answer any more.
struct Attempt(Option<Call>);

impl Attempt {
    fn report(&mut self, change: impl FnOnce(&mut CallReport)) {
        let Some(call) = self.0.take() else { return };
        let mut report = CallReport::only(&call, "wire", None);
        change(&mut report);
        call.sink.attempt(report);
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.report(|report| report.failure = Some(FailureKind::Broken));
    }
}

/// A provider's own count.
pub trait Meter: Send + Sync {
    /// When its time began.
    fn begin(&self) -> Instant;
    /// Counts what a call costs; what it is answered.
    fn bill(&self, asked: &Asked) -> Answer;
}

impl Meter for Biller {
    fn begin(&self) -> Instant {
        self.begin
    }

    fn bill(&self, asked: &Asked) -> Answer {
        self.arrivals.lock().push(asked.at);
        let answer = self.scenario.answer(&self.truth, asked);
        self.nanos.fetch_add(answer.nanos, Ordering::Relaxed);
        if self.scenario.watches(asked) {
            self.watched.fetch_add(answer.nanos, Ordering::Relaxed);
        }
        answer
    }
}

/// What stands for the wire to a provider.
pub struct Wire(pub Arc<dyn Meter>);

impl Origin for Wire {
    fn fetch(&self, call: Call) -> BoxFuture<'static, Result<Reply, Failure>> {
        let meter = self.0.clone();
        async move {
            let asked = Asked {
                method: call.method.to_string(),
                path: call.target.to_string(),
                headers: call.headers.clone(),
                body: call.body.as_full().unwrap_or_default(),
                at: meter.begin().elapsed(),
            };
            let Answer { status, headers, body, after, nanos: _ } = meter.bill(&asked);
            let mut attempt = Attempt(Some(call));
            tokio::time::sleep(after).await;
            let status = StatusCode::from_u16(status).unwrap();
            attempt.report(|report| report.status = Some(status));
            let headers = headers.into_iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(&value).unwrap()));
            Ok(Reply { status, headers: headers.collect(), body: Body::full(body) })
        }
        .boxed()
    }
}

/// What a run came to.
pub struct Played {
    /// By the provider's own count.
    pub arrivals: Vec<Span>,
    pub nanos: i64,
    /// What it billed of things that it had billed before.
    pub again: u64,
    /// Of these what is counted apart.
    pub watched: i64,
    /// By the ledger's.
    pub ledger: Ledger,
    /// Of each request in order: how long it took, and what became of it.
    pub answers: Vec<(Span, Judgement)>,
}

impl Played {
    pub fn calls(&self) -> u64 {
        self.arrivals.len() as u64
    }
}

/// What the proxy itself says that it was.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ledger {
    pub nanos: i64,
    pub calls: u64,
    pub unpriced: usize,
    pub batches: u64,
    pub members: u64,
    pub requests: u64,
    /// Answered without a call of their own, from the cache or with a request that was under way.
    pub hits: u64,
    /// Of these, with a request that was under way.
    pub followed: u64,
}

impl Ledger {
    pub fn add(&mut self, inside: &Inside) {
        let totals = inside.totals().total;
        self.nanos += totals.bill_usd.nanos();
        self.calls += totals.attempts;
        self.unpriced += inside.pricing_stats().unpriced.len();
        self.requests += totals.requests;
        self.hits += [Outcome::Hit, Outcome::Stale, Outcome::Follow].map(|outcome| totals.outcome(outcome)).iter().sum::<u64>();
        self.followed += totals.outcome(Outcome::Follow);
        for batch in inside.batches() {
            self.batches += Flush::ALL.iter().map(|why| batch.stats.batches(*why)).sum::<u64>();
            self.members += batch.stats.members();
        }
    }
}

/// Plays a scenario in virtual time with these strategies on.
pub fn play(scenario: &'static dyn Scenario, on: &On, size: f64) -> Played {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(played(scenario, on, size))
}

pub fn parsed(scenario: &dyn Scenario, on: &On, dir: &Path) -> Config {
    configured(&scenario.config(on), dir)
}

/// What an operator wrote, with everything that is kept below `dir`.
pub fn configured(text: &str, dir: &Path) -> Config {
    let mut config = Config::parse(text, "farthing.toml", &Flags::default(), &System).unwrap();
    (config.state_dir, config.log.dir, config.log.enabled) = (dir.to_owned(), dir.join("log"), false);
    if let Some(L2Config { store: L2Store::Disk { dir: l2, .. }, .. }) = &mut config.l2 {
        *l2 = dir.join("l2");
    }
    // The saving is measured here, not estimated from a hold-out.
    config.holdout.share = 0.0;
    config
}

async fn played(scenario: &'static dyn Scenario, on: &On, size: f64) -> Played {
    let stage = Stage::new(scenario, on);
    let steps = scenario.script(size);
    let (ledger, answers) = match scenario.workers() {
        Some(workers) => job::played(&stage, steps, (workers, on.contains("l2"))).await,
        None => stage.on_time(steps, on.contains("events")).await,
    };
    let Biller { arrivals, nanos, watched, truth, .. } = &*stage.biller;
    Played {
        arrivals: std::mem::take(&mut *arrivals.lock()),
        nanos: nanos.load(Ordering::Relaxed),
        again: truth.again.load(Ordering::Relaxed),
        ledger,
        answers,
        watched: watched.load(Ordering::Relaxed),
    }
}

/// Where a scenario is played.
pub struct Stage {
    config: Arc<Config>,
    dir: TempDir,
    biller: Arc<Biller>,
}

impl Stage {
    fn new(scenario: &'static dyn Scenario, on: &On) -> Self {
        let (dir, begin, truth) = (tempfile::tempdir().unwrap(), Instant::now(), Arc::new(Truth::default()));
        let biller =
            Arc::new(Biller { scenario, truth, begin, arrivals: Mutex::default(), nanos: AtomicI64::new(0), watched: AtomicI64::new(0) });
        Self { config: Arc::new(parsed(scenario, on, dir.path())), dir, biller }
    }

    /// A proxy; `l2` is what it keeps outside of memory.
    pub fn start(&self, l2: Option<Arc<DiskStore>>) -> Arc<Inside> {
        let wire = self.biller.clone();
        let client = move |_: &UpstreamSpec| -> Arc<dyn Origin> { Arc::new(Wire(wire.clone())) };
        let store = Store::open(self.dir.path().join("models"), StoreOptions::default());
        let clock = Arc::new(PausedClock(self.biller.begin));
        Arc::new(Inside::with_l2(&self.config, clock, (store, l2.map(|l2| l2 as _)), &client).unwrap())
    }

    /// Opens what the configuration keeps outside of memory.
    pub fn open_l2(&self) -> Option<Arc<DiskStore>> {
        let Some(L2Config { store: L2Store::Disk { dir, max_bytes }, .. }) = &self.config.l2 else { return None };
        let now = START + self.biller.begin.elapsed();
        Some(Arc::new(DiskStore::open(dir, DiskOptions::new(*max_bytes), now).unwrap()))
    }

    /// Each step at its time.
    async fn on_time(&self, steps: Vec<Step>, events: bool) -> (Ledger, Vec<(Span, Judgement)>) {
        let (inside, Biller { begin, truth, .. }) = (self.start(None), &*self.biller);
        let mut asks = JoinSet::new();
        for (number, step) in steps.into_iter().enumerate() {
            tokio::time::sleep_until(*begin + step.at).await;
            match step.what {
                What::Ask { .. } => {
                    let asker = self.asker(&inside);
                    asks.spawn(async move { Some((number, asker.ask(step).await)) });
                }
                What::Change { thing, .. } if !events => truth.change(thing, begin.elapsed()),
                What::Change { thing, tag, told_after } => {
                    truth.change(thing, begin.elapsed());
                    let (inside, tag) = (inside.clone(), tag.as_str().into());
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
        let mut ledger = Ledger::default();
        ledger.add(&inside);
        (ledger, answers.into_iter().map(|(_, answer)| answer).collect())
    }

    /// Who asks this proxy.
    pub fn asker(&self, inside: &Arc<Inside>) -> Asker {
        Asker { inside: inside.clone(), biller: self.biller.clone() }
    }
}

/// Asks, and judges what it gets.
#[derive(Clone)]
pub struct Asker {
    inside: Arc<Inside>,
    biller: Arc<Biller>,
}

impl Asker {
    /// Asks now; how long it took, and what became of it.
    pub async fn ask(&self, mut step: Step) -> (Span, Judgement) {
        let Biller { begin, truth, scenario, .. } = &*self.biller;
        step.at = begin.elapsed();
        let got = asked(&self.inside, &step, *begin).await;
        (got.at.saturating_sub(step.at), scenario.judge(truth, &step, &got))
    }
}

async fn asked(inside: &Inside, step: &Step, begin: Instant) -> Got {
    let What::Ask { method, path, headers, body } = &step.what else { panic!("nobody asks") };
    let mut request = Request::builder().method(*method).uri(path).header("host", "scenario.test");
    for (name, value) in headers {
        request = request.header(*name, value);
    }
    let request = request.body(if body.is_empty() { Body::empty() } else { Body::full(body.clone()) }).unwrap();
    let response = inside.ask(request).await;
    let status = response.status().as_u16();
    let whole = response.into_body().collect().await;
    let body = whole.map_or_else(|_| String::new(), |b| String::from_utf8(b.to_bytes().to_vec()).unwrap());
    Got { status, body, at: begin.elapsed() }
}

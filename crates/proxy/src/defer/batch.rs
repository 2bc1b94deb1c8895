//! One batch, from its upload to its bill.

mod find;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use bytes::{Bytes, BytesMut};
use farthing_freshness::semantics::parse_date;
use farthing_types::call::NoSink;
use farthing_types::{Body, Call, CallId, Claim, Failure, FailureKind, Purpose, Span, Time};
use farthing_upstream::Origin;
use http::header::{ACCEPT_ENCODING, CONTENT_TYPE, DATE, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use http_body_util::{BodyExt, Limited};
use rand::TryRngCore;
use rand::rngs::OsRng;
use tokio::time::Instant;

use super::kept::{Kept, KeptMember};
use super::queue::{Group, Member};
use super::stats::Step;
use super::unused::Answer;
use super::wire::First;
use super::{Defer, wire};
use crate::route::RouteState;
use crate::state::State;

/// The first wait for a batch, and the longest; between them a twentieth of the time that it has been under way.
const PAUSE: (Span, Span) = (Span::from_secs(5), Span::from_secs(60));
/// How long a question may take, with its answer.
const ANSWERED: Span = Span::from_secs(600);
/// Most bytes of an answer that is no file.
const SHORT: usize = 16_000_000;
/// So often a batch is looked for that may not have come about.
const LOOKED_FOR: u32 = 5;
/// And for so long at least: a list may lag behind.
const LAGS: Span = Span::from_secs(600);
/// The provider ends a batch within a day; one that has not ended after two is not waited for.
const GIVEN_UP: Span = Span::from_secs(48 * 3_600);
/// So often answers are asked for.
const FETCHES: u32 = 60;
/// How often it is written down who has no answer yet.
const COMMIT: Span = Span::from_secs(1);

/// Sends a batch, and sees to it until its bill is known. A member that is dropped is called directly.
pub async fn send(state: Arc<State>, route: Arc<RouteState>, (defer, group): (Arc<Defer>, Group), members: Vec<Member>) {
    let Ok(batch) = name() else { return };
    let kept = Kept {
        name: format!("{batch:032x}"),
        route: route.route.name.clone(),
        prefix: group.prefix.clone(),
        target: group.target.clone(),
        version: group.version.clone(),
        batch: None,
        members: members.iter().map(|member| member.kept.clone()).collect(),
    };
    let mut file = BytesMut::new();
    let mut waiting = Vec::with_capacity(members.len());
    for Member { kept, body, tell, .. } in members {
        defer.wire.push(&mut file, (&kept.id, group.endpoint), &body);
        waiting.push(Waiter { kept, tell: Some(tell) });
    }
    let mut run = Run::new((state, route, defer), kept, waiting);
    // Whatever becomes of it, it can be found again.
    if !run.write().await {
        return;
    }
    run.sent = Some((Instant::now(), run.state.wall_now()));
    let sent = match run.defer.wire.first(&run.kept.name, file) {
        First::Order(order) => run.create(order).await,
        First::Upload { media, form } => match run.upload(&media, form).await {
            Some(file) if run.is_waited_for() => run.create(wire::order(&run.kept.name, &file, group.endpoint)).await,
            _ => Created::No,
        },
    };
    if let Created::No = sent {
        run.defer.place.remove(&run.kept.name);
        return;
    }
    run.defer.stats.add(|stats| &stats.batches);
    run.defer.stats.submitted.fetch_add(run.waiting.len() as u64, Relaxed);
    let began = Instant::now();
    run.group = Some((group.clone(), batch, began));
    if let Created::Yes(id) = sent {
        run.has_come_about(id);
        // Without it the batch is found by its name.
        run.write().await;
    }
    let took = run.follow(began).await;
    let defer = run.defer.clone();
    defer.queues.lock().ended(&group, batch, took);
}

/// A name that no other batch has, of whatever run and instance.
fn name() -> Result<u128, rand::rand_core::OsError> {
    let word = || OsRng.try_next_u64();
    Ok(u128::from(word()?) << 64 | u128::from(word()?))
}

/// Sees to the bill of a batch of an earlier run.
pub async fn resume(state: Arc<State>, route: Arc<RouteState>, defer: Arc<Defer>, kept: Kept) {
    let waiting = kept.members.iter().map(|kept| Waiter { kept: kept.clone(), tell: None }).collect();
    Run::new((state, route, defer), kept, waiting).follow(Instant::now()).await;
}

/// Waits; false where the process is about to end.
async fn pause(state: &State, span: Span) -> bool {
    let until = Instant::now() + span;
    while Instant::now() < until && !state.tasks.is_closed() {
        tokio::time::sleep_until(until.min(Instant::now() + PAUSE.0)).await;
    }
    !state.tasks.is_closed()
}

/// Whether a batch has come about.
enum Created {
    Yes(String),
    No,
    /// It is to be looked for.
    Perhaps,
}

/// An answer of the provider about batches.
struct Told {
    status: StatusCode,
    /// The time by the provider's clock.
    date: Option<Time>,
    body: Bytes,
}

struct Waiter {
    kept: Arc<KeptMember>,
    tell: Option<tokio::sync::oneshot::Sender<Answer>>,
}

/// Who has no answer yet, while answers are handed out.
struct Rest {
    left: HashMap<String, Waiter>,
    /// How long the batch took.
    took: Span,
    /// When it was written down who is left.
    written: Instant,
}

struct Run {
    state: Arc<State>,
    route: Arc<RouteState>,
    defer: Arc<Defer>,
    kept: Kept,
    waiting: Vec<Waiter>,
    cancelled: bool,
    /// When it was begun to be sent, by timers and by the time of the day; `None` in a later run.
    sent: Option<(Instant, Time)>,
    /// The queue that it came from, what it is there, and since when; `None` in a later run.
    group: Option<(Group, u128, Instant)>,
    /// Batches in the provider's list that are others.
    others: HashSet<String>,
    /// Those that may be this one: that is not known yet.
    perhaps: HashSet<String>,
}

impl Run {
    fn new((state, route, defer): (Arc<State>, Arc<RouteState>, Arc<Defer>), kept: Kept, waiting: Vec<Waiter>) -> Self {
        let (others, perhaps) = (HashSet::new(), HashSet::new());
        let mut run = Self { state, route, defer, kept, waiting, cancelled: false, sent: None, group: None, others, perhaps };
        run.kept.batch.take().into_iter().for_each(|id| run.has_come_about(id));
        run
    }

    /// From here on also who is left of it after a restart knows it: it may have no name, and is not known by its requests any more.
    fn has_come_about(&mut self, id: String) {
        if self.kept.batch.as_ref() == Some(&id) {
            return;
        }
        // One of which it is not known whether there is any says nothing of how long batches take.
        if let Some((group, batch, began)) = &self.group {
            self.defer.queues.lock().began(group, *batch, *began);
        }
        self.defer.known.lock().insert(id.clone());
        self.kept.batch = Some(id);
    }

    async fn write(&self) -> bool {
        let (place, kept) = (self.defer.place.clone(), self.kept.clone());
        match tokio::task::spawn_blocking(move || place.write(&kept)).await {
            Ok(Ok(())) => true,
            failed => {
                tracing::warn!(route = %self.kept.route, ?failed, "a batch cannot be written down below state_dir");
                false
            }
        }
    }

    fn is_waited_for(&self) -> bool {
        self.waiting.iter().any(|one| one.tell.as_ref().is_some_and(|tell| !tell.is_closed()))
    }

    async fn upload(&self, media: &str, form: Bytes) -> Option<String> {
        let Told { status, body, .. } = self.ask(Step::Upload, (Method::POST, "/files"), Some((media, form))).await.ok()?;
        let named = serde_json::from_slice::<wire::Named>(&body).ok().filter(|_| status.is_success());
        named.map(|file| file.id)
    }

    async fn create(&self, order: Bytes) -> Created {
        match self.ask(Step::Create, (Method::POST, self.defer.wire.batches()), Some(("application/json", order))).await {
            Ok(Told { status, body, .. }) if status.is_success() => match serde_json::from_slice::<wire::Named>(&body) {
                Ok(batch) => Created::Yes(batch.id),
                Err(_) => Created::Perhaps,
            },
            Ok(Told { status, .. }) if status.is_client_error() => {
                tracing::warn!(route = %self.kept.route, %status, "the provider refuses a batch");
                Created::No
            }
            Err(failure) if !failure.sent => Created::No,
            _ => Created::Perhaps,
        }
    }

    /// Until all is answered and billed: how long it took, where all of it has run.
    async fn follow(&mut self, began: Instant) -> Option<Span> {
        let mut missing = 0;
        let standing = loop {
            let under_way = began.elapsed();
            if !pause(&self.state, (under_way / 20).clamp(PAUSE.0, PAUSE.1)).await {
                // It is written down, and taken up at the next start.
                self.waiting.clear();
                return None;
            }
            if under_way > GIVEN_UP {
                self.give_up("has not ended");
                return None;
            }
            let found = match self.kept.batch.clone() {
                Some(id) => self.poll(&id).await,
                None => self.find().await,
            };
            match found {
                Ok(Some(standing)) => {
                    self.has_come_about(standing.id.clone());
                    if standing.has_ended {
                        break standing;
                    }
                    self.cancel_unwanted(&standing.id).await;
                }
                Ok(None) => {
                    missing += 1;
                    if missing >= LOOKED_FOR && under_way >= LAGS {
                        // It has never come about.
                        self.waiting.clear();
                        self.defer.place.remove(&self.kept.name);
                        return None;
                    }
                }
                Err(()) => {}
            }
        };
        let took = began.elapsed();
        self.hand_out(&standing, took).await;
        Some(took).filter(|_| standing.is_complete)
    }

    async fn poll(&self, id: &str) -> Result<Option<wire::Standing>, ()> {
        let path = format!("{}/{id}", self.defer.wire.batches());
        let Told { status, body, .. } = self.ask(Step::Poll, (Method::GET, &path), None).await.map_err(|_| ())?;
        // One that is not there any more is waited for like one that is not read: its bill is not known.
        self.defer.wire.standing(&body).filter(|_| status.is_success()).map(Some).ok_or(())
    }

    /// The body of answers.
    async fn open(&self, step: Step, path: &str) -> Result<Body, Failure> {
        let (origin, call) = self.call(step, (Method::GET, path), None)?;
        let reply = timely(origin.fetch(call)).await??;
        if reply.status.is_success() { Ok(reply.body) } else { Err(protocol(format!("status {}", reply.status))) }
    }

    fn bound(&self, held: usize) -> Result<(), Failure> {
        let short = held as u64 <= self.defer.config.max_answer;
        if short { Ok(()) } else { Err(protocol("an answer is longer than max_answer".to_owned())) }
    }

    /// What nobody waits for need not run.
    async fn cancel_unwanted(&mut self, id: &str) {
        if !self.cancelled && !self.is_waited_for() {
            let path = format!("{}/{id}/cancel", self.defer.wire.batches());
            let asked = self.ask(Step::Cancel, (Method::POST, &path), Some(("application/json", Bytes::from_static(b"{}")))).await;
            self.cancelled = asked.is_ok_and(|told| told.status.is_success());
        }
    }

    /// Tells each waiter its answer; what has run for nobody is billed all the same.
    async fn hand_out(&mut self, standing: &wire::Standing, took: Span) {
        let left = self.waiting.drain(..).map(|one| (one.kept.id.clone(), one)).collect();
        let mut rest = Rest { left, took, written: Instant::now() };
        let mut whole = true;
        for path in &standing.answers {
            whole &= self.fetch(path, &mut rest).await;
        }
        if whole {
            // Who is left has no answer: it has not run.
            return self.defer.place.remove(&self.kept.name);
        }
        self.write_rest(&mut rest).await;
        if !self.state.tasks.is_closed() {
            self.give_up("has answers that cannot be fetched");
        }
    }

    /// What is handed out must not be settled once more after a restart.
    async fn write_rest(&mut self, rest: &mut Rest) {
        self.kept.members = rest.left.values().map(|one| one.kept.clone()).collect();
        self.write().await;
        rest.written = Instant::now();
    }

    /// Hands out the answers that are there; false where they were not read to their end.
    async fn fetch(&mut self, path: &str, rest: &mut Rest) -> bool {
        for _ in 0..FETCHES {
            let read = self.read(path, rest).await;
            self.defer.stats.asked(Step::Fetch, read.is_ok());
            match read {
                Ok(unread) => {
                    if unread > 0 {
                        tracing::warn!(batch = ?self.kept.batch, unread, "answers of a batch cannot be read");
                        self.defer.stats.unsettled.fetch_add(unread, Relaxed);
                    }
                    return true;
                }
                Err(failure) => tracing::warn!(batch = ?self.kept.batch, %failure, "answers of a batch cannot be fetched"),
            }
            if !pause(&self.state, PAUSE.1).await {
                return false;
            }
        }
        false
    }

    /// Hands out answers as they come: they may be more than can be held. How many lines could not be read.
    async fn read(&mut self, path: &str, rest: &mut Rest) -> Result<u64, Failure> {
        let mut body = self.open(Step::Fetch, path).await?;
        let (mut held, mut unread) = (BytesMut::new(), 0);
        while let Some(data) = more(&mut body).await? {
            let mut seen = held.len();
            held.extend_from_slice(&data);
            while let Some(end) = held[seen..].iter().position(|byte| *byte == b'\n') {
                unread += u64::from(!self.take(&held.split_to(seen + end + 1), rest));
                seen = 0;
            }
            self.bound(held.len())?;
            if rest.written.elapsed() > COMMIT {
                self.write_rest(rest).await;
            }
        }
        unread += u64::from(!self.take(&held, rest));
        Ok(unread)
    }

    /// Hands out the answer in a line, the first to a request; false where it cannot be read.
    fn take(&self, text: &[u8], rest: &mut Rest) -> bool {
        let Ok(answered) = self.defer.wire.line(text) else { return false };
        let Some((line, Waiter { kept, tell })) = answered.and_then(|(id, line)| Some((line?, rest.left.remove(&id)?))) else {
            return true;
        };
        let kept_at = Time::from_nanos(kept.at_ns);
        let answer = Answer { line, kept, target: self.kept.target.clone(), took: rest.took };
        let unused = match tell {
            // Whoever waits for it calls directly: what its error costs, where that is anything, is not in that call's bill.
            Some(tell) if answer.line.has_not_run() && !tell.is_closed() => {
                drop(tell);
                Some(answer).filter(|_| self.state.pricing.book().bills_errors(&self.route.route.name, &self.route.provider.name, kept_at))
            }
            Some(tell) => tell.send(answer).err(),
            None => Some(answer),
        };
        if let Some(answer) = unused {
            self.state.settle_unused(&self.route, &answer);
        }
        true
    }

    /// What it bills cannot be learned. It stays written down, and is asked for again after a restart.
    fn give_up(&mut self, why: &str) {
        self.waiting.clear();
        self.defer.stats.add(|stats| &stats.unsettled);
        tracing::error!(batch = ?self.kept.batch, name = %self.kept.name, why, "the bill of a batch is not known: look it up at the provider");
    }

    async fn ask(&self, step: Step, (method, path): (Method, &str), body: Option<(&str, Bytes)>) -> Result<Told, Failure> {
        let asked = self.exchange(step, (method, path), body).await;
        self.defer.stats.asked(step, asked.as_ref().is_ok_and(|told| told.status.is_success()));
        asked
    }

    async fn exchange(&self, step: Step, (method, path): (Method, &str), body: Option<(&str, Bytes)>) -> Result<Told, Failure> {
        let (origin, call) = self.call(step, (method, path), body)?;
        let answered = async {
            let reply = origin.fetch(call).await?;
            let date = reply.headers.get(DATE).and_then(parse_date);
            let whole = Limited::new(reply.body, SHORT).collect().await;
            let body = whole.map_err(|error| protocol(error.to_string()))?.to_bytes();
            Ok(Told { status: reply.status, date, body })
        };
        timely(answered).await?
    }

    fn call(&self, step: Step, (method, path): (Method, &str), body: Option<(&str, Bytes)>) -> Result<(Arc<dyn Origin>, Call), Failure> {
        let unsent = |what: &str| Failure::unsent(FailureKind::Protocol, what.to_owned());
        let origin = self.route.swap.clone().ok_or_else(|| unsent("no credential"))?;
        let target: Uri = format!("{}{path}", self.kept.prefix).parse().map_err(|_| unsent("no path"))?;
        let mut headers = HeaderMap::from_iter([
            (USER_AGENT, HeaderValue::from_static(concat!("farthing/", env!("CARGO_PKG_VERSION")))),
            (ACCEPT_ENCODING, HeaderValue::from_static("identity")),
        ]);
        let version = self.kept.version.as_deref().and_then(|version| HeaderValue::from_str(version).ok());
        headers.extend(self.defer.wire.version().map(HeaderName::from_static).zip(version));
        let (media, body) = body.unwrap_or_default();
        if let Some(media) = HeaderValue::from_str(media).ok().filter(|media| !media.is_empty()) {
            headers.insert(CONTENT_TYPE, media);
        }
        let call = Call {
            id: CallId(self.state.ids.next()),
            route: self.kept.route.clone(),
            payer: "farthing".into(),
            purpose: Purpose::User,
            key: None,
            method,
            target,
            headers,
            body: if body.is_empty() { Body::empty() } else { Body::full(body) },
            repeatable: step != Step::Create,
            deadline: ANSWERED,
            // None of it takes tokens of the provider's limits.
            claim: Claim { patience: ANSWERED, tokens: Some(0), ..Claim::default() },
            batch: None,
            routing: None,
            sink: Arc::new(NoSink),
        };
        Ok((origin, call))
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if let Some(id) = &self.kept.batch {
            self.defer.known.lock().remove(id);
        }
    }
}

fn protocol(what: String) -> Failure {
    Failure::sent(FailureKind::Protocol, what)
}

/// The next piece of an answer; `None` at its end.
async fn more(body: &mut Body) -> Result<Option<Bytes>, Failure> {
    loop {
        let Some(frame) = timely(body.frame()).await? else { return Ok(None) };
        // Trailers say nothing here.
        if let Ok(data) = frame.map_err(|error| protocol(error.to_string()))?.into_data() {
            return Ok(Some(data));
        }
    }
}

/// Within the time that a question, or a piece of an answer, may take.
async fn timely<T>(what: impl Future<Output = T>) -> Result<T, Failure> {
    let late = |_| Failure::sent(FailureKind::Timeout, format!("no answer within {ANSWERED:?}"));
    tokio::time::timeout(ANSWERED, what).await.map_err(late)
}

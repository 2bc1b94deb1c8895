//! Drives one batch: waits until it is due, makes its call, and tells each member what became of it.
//!
//! Contract: whatever happens to the task, every member is told, and the attempts that were made for it are reported to its sink before.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use farthing_policy::batch::Alone;
use farthing_types::{
    Batch, BatchAnswer, BatchPart, Body, Call, CallReport, CallSink, Claim, Failure, FailureKind, Priority, Reply, Reserved, Span,
    TraceContext,
};
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body_util::BodyExt;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::Shared;
use super::fate::{Ended, Fate, fates};
use super::format::{Broken, Joined, Part};
use super::headers;
use super::reserved::Share;
use super::table::{Begun, Flushed, Member, Place};
use crate::Origin;
use crate::client::TRACE_PARENT;
use crate::later::Later;
use crate::retry::may_be_made_again;

/// What a member is told.
pub enum Verdict {
    /// This is its answer.
    Answer(Result<Reply, Failure>),
    /// It is to be made alone: as a call of its own, or as a further attempt.
    Alone(Box<Call>, Way),
}

/// How a member is made alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// As if there had been no batch.
    Usual,
    /// With the attempts that are left after one.
    Again,
}

/// Waits until the batch is due or full, and sends it.
pub async fn drive(shared: Arc<Shared>, begun: Begun) {
    let Begun { place, mut flushed, sooner } = begun;
    let abandoned = Abandoned { shared: &shared, place };
    let batch = loop {
        let due = shared.table.lock().due(place);
        let Some(due) = due else { break flushed.await.ok() };
        tokio::select! {
            biased;
            full = &mut flushed => break full.ok(),
            () = sooner.notified() => {}
            () = sleep_until(shared.instant(due)) => {
                let taken = shared.table.lock().take(place);
                if taken.is_some() {
                    break taken;
                }
            }
        }
    };
    drop(abandoned);
    // Without one everybody has left.
    if let Some(batch) = batch {
        send(&shared, batch).await;
    }
}

/// Takes the batch out of the table when its driver ends early: nobody would send it. Its members learn it by the drop of their senders.
struct Abandoned<'a> {
    shared: &'a Shared,
    place: Place,
}

impl Drop for Abandoned<'_> {
    fn drop(&mut self) {
        drop(self.shared.table.lock().take(self.place));
    }
}

async fn send(shared: &Arc<Shared>, Flushed { mut members, reason }: Flushed) {
    if members.len() == 1 {
        let Some(Member { call, verdict, .. }) = members.pop() else { return };
        shared.stats.alone(Alone::Single);
        let _ = verdict.send(Verdict::Alone(Box::new(call), Way::Usual));
        return;
    }
    shared.stats.flushed(reason, members.len());
    let mut running = Running::new(shared, members, shared.ways.once.clone());
    let ended = running.call().await;
    running.conclude(ended);
}

/// A batch whose call is under way. Dropped before it has ended, it tells its members so.
pub struct Running<'a> {
    shared: &'a Arc<Shared>,
    members: Vec<Member>,
    /// Who is called.
    origin: Arc<dyn Origin>,
    attempts: Arc<Attempts>,
    /// Of the members, where they are recorded.
    spans: Box<[Option<TraceContext>]>,
    answer: Option<BatchAnswer>,
    request_bytes: u64,
}

/// The reports of a batch call.
#[derive(Default)]
struct Attempts {
    reports: Mutex<Vec<CallReport>>,
    /// The span of the first; `None` where none is recorded.
    first: Option<TraceContext>,
    waited: Mutex<Span>,
    /// What is to be told the tokens of the last; earlier ones may have used all that was reserved for them.
    reserved: Mutex<Option<Box<dyn Reserved>>>,
}

impl CallSink for Attempts {
    fn attempt(&self, report: CallReport) {
        self.reports.lock().push(report);
    }

    fn waited(&self, span: Span) {
        *self.waited.lock() += span;
    }

    fn reserved(&self, tokens: Box<dyn Reserved>) {
        let before = self.reserved.lock().replace(tokens);
        drop(before);
    }

    fn span(&self) -> Option<TraceContext> {
        let made = self.reports.lock().len();
        Some(self.first?.attempt(u16::try_from(made).unwrap_or(u16::MAX)))
    }
}

impl<'a> Running<'a> {
    /// Before the call, which `origin` answers.
    pub fn new(shared: &'a Arc<Shared>, members: Vec<Member>, origin: Arc<dyn Origin>) -> Self {
        let spans: Box<[_]> = members.iter().map(|member| member.call.sink.span()).collect();
        let attempts = Arc::new(Attempts { first: Batch::span(&spans).map(|(_, span)| span), ..Attempts::default() });
        Self { shared, members, origin, attempts, spans, answer: None, request_bytes: 0 }
    }

    /// Makes the call.
    pub async fn call(&mut self) -> Ended {
        let Some(call) = self.joined() else {
            return Ended::Failed(Failure::unsent(FailureKind::Refused, "the calls make no request together"));
        };
        let ends = Instant::now() + call.deadline;
        self.request_bytes = call.body.as_full().map_or(0, |body| body.len() as u64);
        let reply = match timeout_at(ends, self.origin.fetch(call)).await {
            Ok(Ok(reply)) => reply,
            Ok(Err(failure)) => return Ended::Failed(failure),
            Err(_) => return Ended::Failed(self.late()),
        };
        let read = timeout_at(ends, whole(reply.body, self.shared.max_answer)).await;
        let (body, failed) = match read {
            Ok(Ok(body)) => (body, None),
            Ok(Err((body, failure))) => (body, Some(failure)),
            Err(_) => (Bytes::new(), Some(Failure::sent(FailureKind::Timeout, "the batch's answer did not end in time"))),
        };
        self.answer = Some(BatchAnswer { headers: reply.headers.clone(), body: body.clone(), complete: failed.is_none() });
        match failed {
            Some(failure) => Ended::Failed(failure),
            None => self.ended(reply.status, reply.headers, body),
        }
    }

    fn ended(&self, status: StatusCode, headers: HeaderMap, body: Bytes) -> Ended {
        if !status.is_success() {
            return Ended::Refused(status, headers, body);
        }
        if !headers::is_plain(&headers) {
            return Ended::Broken(Broken::new("it is compressed, although that was declined"));
        }
        let parts = self.parts();
        match self.shared.format.split(&parts, &headers, &body) {
            Ok(pieces) if pieces.len() == parts.len() => Ended::Split(pieces),
            Ok(_) => Ended::Broken(Broken::new("it has too few pieces")),
            Err(broken) => Ended::Broken(broken),
        }
    }

    fn late(&self) -> Failure {
        let sent = self.attempts.reports.lock().iter().any(|report| report.sent);
        Failure { kind: FailureKind::Timeout, detail: "no answer to the batch in time".into(), sent, limited: None }
    }

    fn parts(&self) -> Vec<&Part> {
        self.members.iter().map(|member| &member.part).collect()
    }

    /// The batch call; `None` when there can be none.
    fn joined(&self) -> Option<Call> {
        let first = &self.members.first()?.call;
        let Joined { method, target, body } = self.shared.format.join(first, &self.parts())?;
        let purpose = self.members.iter().map(|member| member.call.purpose).find(|purpose| purpose.is_waited_for());
        let mut headers = headers::of_call(&first.headers, body.is_some());
        // Each attempt puts a span of its own in the place of the call's.
        if let Some(call) = self.attempts.first.filter(|_| first.headers.contains_key(TRACE_PARENT)).map(|span| span.child(first.id.0)) {
            headers.extend(HeaderValue::try_from(call.to_string()).ok().map(|told| (TRACE_PARENT, told)));
        }
        Some(Call {
            id: first.id,
            route: first.route.clone(),
            payer: first.payer.clone(),
            purpose: purpose.unwrap_or(first.purpose),
            key: None,
            method,
            target,
            headers,
            body: body.map_or_else(Body::empty, Body::full),
            repeatable: self.members.iter().all(|member| member.part.repeatable || member.call.repeatable),
            deadline: self.time(),
            claim: self.claim(),
            batch: None,
            routing: None,
            sink: self.attempts.clone(),
        })
    }

    /// It matters as much as the member that matters most, waits for its turn as long as the most patient, and takes the tokens of all.
    fn claim(&self) -> Claim {
        let claims = || self.members.iter().map(|member| member.call.claim);
        Claim {
            priority: claims().map(|claim| claim.priority).min().unwrap_or(Priority::Medium),
            patience: claims().map(|claim| claim.patience).max().unwrap_or_default(),
            // What is not told is missing from it, as from a call's own.
            tokens: claims().any(|claim| claim.tokens.is_some()).then(|| claims().filter_map(|claim| claim.tokens).sum()),
        }
    }

    /// How long the call may take: who cannot wait so long has gone by then, and breaks it off for nobody.
    fn time(&self) -> Span {
        let ends = self.members.iter().map(|member| member.ends.together).max();
        ends.map_or(Span::ZERO, |ends| ends.saturating_duration_since(Instant::now()))
    }

    fn conclude(mut self, ended: Ended) {
        self.shared.learn(&ended);
        let repeats = self.shared.ways.again.is_some();
        let may = |member: &Member| repeats && (member.part.repeatable || may_be_made_again(&member.call));
        let may: Vec<bool> = self.members.iter().map(may).collect();
        self.tell(fates(ended, &may));
    }

    /// Reports the attempts to each member, then tells it its fate.
    pub fn tell(&mut self, fates: Vec<Fate>) {
        let attempts: Box<[CallReport]> = std::mem::take(&mut *self.attempts.reports.lock()).into();
        let waited = std::mem::take(&mut *self.attempts.waited.lock());
        let members = std::mem::take(&mut self.members);
        let reserved = self.attempts.reserved.lock().take();
        let mut shares = reserved.map(|whole| Share::of(whole, members.len())).unwrap_or_default().into_iter();
        let Some(id) = members.first().map(|member| member.call.id) else { return };
        let weights = members.iter().map(|member| member.part.weight).collect();
        let batch = Batch::new(id, (weights, self.request_bytes), attempts, self.answer.take());
        let batch = Arc::new(batch.traced(std::mem::take(&mut self.spans)));
        for ((index, member), fate) in members.into_iter().enumerate().zip(fates) {
            let Member { call, verdict, .. } = member;
            if !waited.is_zero() {
                call.sink.waited(waited);
            }
            if let Some(share) = shares.next() {
                call.sink.reserved(Box::new(share));
            }
            report(&call, (&batch, index), fate.status());
            let (reason, way) = match fate {
                Fate::Answer(answer) => {
                    // Nobody listens any more when the client has left.
                    let _ = verdict.send(Verdict::Answer(answer));
                    continue;
                }
                Fate::Fresh => (Alone::BatchFailed, Way::Usual),
                Fate::Again(reason, _) => (reason, Way::Again),
            };
            self.shared.stats.alone(reason);
            let _ = verdict.send(Verdict::Alone(further(call, &batch), way));
        }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let gone = || Fate::Answer(Err(Failure::sent(FailureKind::LeaderGone, "the batch broke off within Farthing")));
        self.tell(self.members.iter().map(|_| gone()).collect());
    }
}

/// Reports a batch's attempts as a member's own, with the status that it had within the batch.
fn report(call: &Call, (batch, index): (&Arc<Batch>, usize), own: Option<StatusCode>) {
    for (attempt, report) in batch.attempts.iter().enumerate() {
        let part = BatchPart { batch: batch.clone(), index, attempt };
        let status = report.status.map(|whole| own.unwrap_or(whole));
        call.sink.attempt(CallReport { call: call.id, batch: Some(part), status, ..report.clone() });
    }
}

/// A member's call to be made alone: its attempts are counted on from those of the batch.
fn further(call: Call, batch: &Batch) -> Box<Call> {
    let by = u16::try_from(batch.attempts.len()).unwrap_or(u16::MAX);
    let sink = Later::new(call.sink.clone(), by);
    Box::new(Call { batch: None, sink, ..call })
}

/// The whole body; with a failure, as far as it came.
pub async fn whole(mut body: Body, most: u64) -> Result<Bytes, (Bytes, Failure)> {
    if let Some(bytes) = body.as_full().filter(|bytes| bytes.len() as u64 <= most) {
        return Ok(bytes);
    }
    let mut held = BytesMut::new();
    while let Some(frame) = body.frame().await {
        match frame.map(http_body::Frame::into_data) {
            Ok(Ok(data)) if (held.len() + data.len()) as u64 > most => {
                return Err((
                    held.freeze(),
                    Failure::sent(FailureKind::Protocol, format!("the answer is larger than the {most} bytes that are held of it")),
                ));
            }
            Ok(Ok(data)) => held.extend_from_slice(&data),
            Ok(Err(_)) => {}
            Err(error) => return Err((held.freeze(), Failure::sent(FailureKind::Broken, error.to_string()))),
        }
    }
    Ok(held.freeze())
}

//! Bodies that account for what passes: towards the client, and from the provider where no ticket is held.

use std::borrow::Cow;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use farthing_ledger::usage::strip::Strip;
use farthing_ledger::{Amounts, Reads, Served, UsageTap};
use farthing_types::{Body, BodyError, Time};
use http::{HeaderMap, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;

use crate::asking;
use crate::canonical;
use crate::flight::{Done, Flight};
use crate::promises;
use crate::settle::{Account, CallEnd, Settled};
use crate::state::State;

/// Bodies passing by are held up to this size, to learn whether they change.
const DIGEST_LIMIT: usize = canonical::MAX_JSON;

/// Settles a request when its answer's last byte has gone out, or when the client has left.
pub struct Accounted {
    inner: Body,
    bytes: u64,
    /// Length of the whole body, where the head tells.
    expected: Option<u64>,
    /// Since when the provider is waited for, where it matters whose time it is.
    waiting: Option<Time>,
    pending: Option<Box<Pending>>,
}

/// What settles an answer.
pub struct Pending {
    /// What all requests share.
    pub state: Arc<State>,
    /// The request.
    pub account: Account,
    /// How it was answered, but for bytes and prices.
    pub settled: Settled,
    /// The call that answers it.
    pub flight: Arc<Flight>,
}

impl Accounted {
    /// Wraps the body of an answer.
    pub fn new(inner: Body, expected: Option<u64>, pending: Pending) -> Self {
        let mut body = Self { inner, bytes: 0, expected, waiting: None, pending: Some(Box::new(pending)) };
        if body.inner.is_end_stream() {
            body.settle(true);
        }
        body
    }

    fn settle(&mut self, complete: bool) {
        self.measure(false);
        let Some(pending) = self.pending.take() else { return };
        // HTTP/1 with a known length drops the body after its last byte, before its end was polled.
        let complete = complete || self.expected == Some(self.bytes);
        pending.settle(complete.then_some(self.bytes));
    }
}

impl Pending {
    /// Settles an answer of which so many bytes have gone out; `None` when the client left first.
    pub fn settle(self, sent: Option<u64>) {
        let Self { state, account, mut settled, flight } = self;
        settled.went_out(&state, (&account, &flight), sent);
        flight.on_done(move |done| {
            settled.came_of(done);
            state.settle_request(&account, &settled);
        });
    }
}

/// Settles an answer that goes out as a whole, of a call that has ended.
pub fn settle_whole(state: &State, account: &Account, mut settled: Settled, (flight, done, bytes): (&Flight, &Done, u64)) {
    settled.went_out(state, (account, flight), Some(bytes));
    settled.came_of(done);
    state.settle_request(account, &settled);
}

impl Settled {
    fn went_out(&mut self, state: &State, (account, flight): (&Account, &Flight), sent: Option<u64>) {
        self.bytes_out = sent;
        let elapsed = state.real_now().since(account.started);
        self.latency = sent.map(|_| elapsed);
        if self.status == StatusCode::SWITCHING_PROTOCOLS.as_u16() {
            // How long a tunnel lasts is no latency.
            self.latency = self.took;
        }
        self.took = self.took.or(self.latency).or_else(|| promises::missed_already(account, elapsed));
        self.provider = flight.routed().map(|routed| routed.provider);
    }

    fn came_of(&mut self, done: &Done) {
        self.paid = farthing_ledger::Paid { full: done.full, attempts: done.attempts };
        if self.served == Served::Lead {
            self.served = match done {
                Done { revalidated: true, .. } => Served::Revalidated,
                Done { batched: true, .. } => Served::Batched,
                Done { routed: true, .. } => Served::Routed,
                Done { marked: true, .. } => Served::Marked,
                Done { deferred: true, .. } => Served::Deferred,
                _ => Served::Lead,
            };
        }
    }
}

impl Accounted {
    /// Measures how long the provider is waited for while a promise of time runs.
    fn measure(&mut self, pending: bool) {
        let Some(job) = self.pending.as_mut().filter(|job| job.account.sla.is_some()) else { return };
        match (pending, self.waiting) {
            (true, None) => self.waiting = Some(job.state.real_now()),
            (false, Some(since)) => {
                job.settled.waited += job.state.real_now().since(since);
                self.waiting = None;
            }
            _ => {}
        }
    }
}

impl HttpBody for Accounted {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        self.measure(polled.is_pending());
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                self.bytes += frame.data_ref().map_or(0, |d| d.len() as u64);
                // Nobody asks for more after trailers.
                if frame.is_trailers() || self.inner.is_end_stream() {
                    self.settle(true);
                }
            }
            Poll::Ready(None) => self.settle(true),
            Poll::Ready(Some(Err(_))) => self.settle(false),
            Poll::Pending => {}
        }
        polled
    }
    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }
    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for Accounted {
    fn drop(&mut self) {
        self.settle(false);
    }
}

/// Reads along with a provider's body: bytes, usage, digests.
pub struct Meter {
    /// Those of the answer; only where it is digested.
    headers: HeaderMap,
    /// Length of the whole body, where the head tells.
    expected: Option<u64>,
    tap: Option<UsageTap>,
    head_amounts: Amounts,
    bytes: u64,
    held: Option<BytesMut>,
}

impl Meter {
    /// A meter for an answer with these headers, which looks where prices `reads`; `digest` holds small bodies to digest them.
    pub fn new(headers: &HeaderMap, reads: Option<&Arc<Reads>>, digest: bool) -> Self {
        let head_amounts = reads.map(|reads| reads.of_headers(headers)).unwrap_or_default();
        Self {
            tap: UsageTap::for_answer(headers, reads),
            head_amounts,
            bytes: 0,
            held: digest.then(BytesMut::new),
            headers: if digest { headers.clone() } else { HeaderMap::new() },
            expected: content_length(headers),
        }
    }

    /// Takes the next bytes.
    pub fn push(&mut self, data: &Bytes) {
        self.bytes += data.len() as u64;
        if let Some(tap) = &mut self.tap {
            tap.push(data);
        }
        if let Some(held) = &mut self.held {
            if held.len() + data.len() > DIGEST_LIMIT {
                self.held = None;
            } else {
                held.extend_from_slice(data);
            }
        }
    }

    /// Writes what was read into a call's end. `complete` tells whether the body ended properly.
    pub fn read_into(&self, end: &mut CallEnd, complete: bool) {
        end.bytes = complete.then_some(self.bytes);
        end.received = Some(self.bytes);
        end.head_amounts = self.head_amounts.clone();
        end.usage = self.tap.as_ref().map(UsageTap::reading).unwrap_or_default();
    }

    /// The body, where it was held whole.
    pub fn held(&mut self) -> Option<Bytes> {
        self.held.take().map(BytesMut::freeze)
    }
}

/// Takes the event that tells usage out of a stream whose client did not ask for it; else hands on what comes.
#[derive(Default)]
pub struct Stripper(Option<(Strip, Arc<State>)>);

impl Stripper {
    /// What may go on of the next bytes.
    pub fn take(&mut self, data: Bytes) -> Bytes {
        match &mut self.0 {
            Some((strip, _)) => strip.push(&data).into(),
            None => data,
        }
    }

    /// What was held back at the end of the stream.
    pub fn finish(&mut self) -> Bytes {
        match &mut self.0 {
            Some((strip, state)) => {
                let rest = strip.finish();
                state.pricing.strip(strip.removed());
                self.0 = None;
                rest.into()
            }
            None => Bytes::new(),
        }
    }
}

impl State {
    /// What takes usage out of a call's answer; its length is not known beforehand then.
    pub fn stripper(self: &Arc<Self>, flight: &Flight, headers: &mut HeaderMap) -> Stripper {
        if !flight.strips_usage || !asking::can_strip(headers) {
            return Stripper::default();
        }
        headers.remove(http::header::CONTENT_LENGTH);
        Stripper(Some((Strip::new(), self.clone())))
    }
}

/// A provider's body on its way to the one client who asked: metered, and settled at its end.
struct Passing {
    inner: Body,
    strip: Stripper,
    /// Trailers that wait until the last bytes have gone out.
    trailers: Option<Frame<Bytes>>,
    meter: Meter,
    job: Option<Box<PassingJob>>,
}

/// The length that a head tells.
pub fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(http::header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// What settles a passing call.
pub struct PassingJob {
    /// What all requests share.
    pub state: Arc<State>,
    /// The call.
    pub flight: Arc<Flight>,
    /// What is known of its end already.
    pub end: CallEnd,
}

/// A provider's body on its way to the one client who asked. One that is here as a whole is settled at once.
pub fn passing((inner, strip): (Body, Stripper), headers: &HeaderMap, job: PassingJob) -> Body {
    let Some(whole) = inner.as_full().filter(|_| strip.0.is_none()) else {
        return Body::stream(Passing::new((inner, strip), headers, job));
    };
    let mut meter = Meter::new(headers, job.state.reads(&job.flight).as_ref(), false);
    meter.push(&whole);
    let held = Some(whole).filter(|whole| job.end.keyed && whole.len() <= DIGEST_LIMIT);
    job.ended((&meter, true), (Cow::Borrowed(headers), held));
    inner
}

impl Passing {
    /// Wraps a provider's body; bodies of keyed calls are digested.
    fn new((inner, strip): (Body, Stripper), headers: &HeaderMap, job: PassingJob) -> Self {
        let meter = Meter::new(headers, job.state.reads(&job.flight).as_ref(), job.end.keyed);
        let mut body = Self { inner, strip, trailers: None, meter, job: Some(Box::new(job)) };
        if body.inner.is_end_stream() {
            body.settle(true);
        }
        body
    }

    /// Meters and filters one frame; `None` when nothing of it goes on.
    fn pass(&mut self, frame: Frame<Bytes>) -> Option<Frame<Bytes>> {
        let data = match frame.into_data() {
            Ok(data) => data,
            Err(trailers) => {
                // They end the body, and it is dropped after them.
                self.settle(true);
                let rest = self.strip.finish();
                if rest.is_empty() {
                    return Some(trailers);
                }
                self.trailers = Some(trailers);
                return Some(Frame::data(rest));
            }
        };
        self.meter.push(&data);
        let data = self.strip.take(data);
        if self.inner.is_end_stream() {
            self.settle(true);
        }
        (!data.is_empty()).then(|| Frame::data(data))
    }

    /// Reads the rest of an answer whose client has left, in a task of its own, to learn what it costs.
    fn finish_alone(&mut self) {
        let finishes = self.job.as_ref().is_some_and(|job| job.flight.finishes);
        if !finishes || tokio::runtime::Handle::try_current().is_err() {
            return self.settle(false);
        }
        let Some(job) = self.job.take() else { return };
        let tasks = job.state.tasks.clone();
        let deadline = job.flight.route.route.deadline;
        let meter = std::mem::replace(&mut self.meter, Meter::new(&HeaderMap::new(), None, false));
        let mut rest = Self { inner: std::mem::take(&mut self.inner), strip: Stripper::default(), trailers: None, meter, job: None };
        tasks.spawn(async move {
            let drained = tokio::time::timeout(deadline, rest.drain()).await;
            rest.job = Some(job);
            rest.settle(drained == Ok(true));
        });
    }

    /// Reads to the end; false when it broke off.
    async fn drain(&mut self) -> bool {
        while let Some(frame) = self.inner.frame().await {
            match frame.map(Frame::into_data) {
                Ok(Ok(data)) => self.meter.push(&data),
                Ok(Err(_)) => {}
                Err(_) => return false,
            }
        }
        true
    }

    fn settle(&mut self, complete: bool) {
        let Some(job) = self.job.take() else { return };
        let complete = complete || self.meter.expected == Some(self.meter.bytes);
        let (headers, held) = (std::mem::take(&mut self.meter.headers), self.meter.held());
        job.ended((&self.meter, complete), (Cow::Owned(headers), held));
    }
}

impl PassingJob {
    /// Prices the call, whose body has ended, and settles it; `held` is the whole body, where it may be digested.
    fn ended(mut self, (meter, complete): (&Meter, bool), (headers, held): (Cow<'_, HeaderMap>, Option<Bytes>)) {
        let Self { state, flight, end } = &mut self;
        let at = state.clock.now();
        meter.read_into(end, complete);
        end.ended = Some(at);
        let digests = end.keyed && complete && flight.last_status().is_some_and(|status| status.is_success());
        // Readers settle on the price.
        state.price_call(flight, end);
        let held = held.filter(|_| digests);
        if digests && held.is_none() {
            state.counters.undigested.fetch_add(1, Ordering::Relaxed);
        }
        let long = held.as_ref().is_some_and(|body| body.len() > canonical::AT_ONCE);
        // The last bytes are still on their way to the client: what takes time is done elsewhere.
        if long && tokio::runtime::Handle::try_current().is_ok() {
            let (tasks, headers) = (state.tasks.clone(), headers.into_owned());
            tasks.spawn_blocking(move || self.settle((&headers, held), at));
        } else {
            self.settle((&headers, held), at);
        }
    }

    /// Learns from the body that was `held`, and settles the call.
    fn settle(mut self, (headers, held): (&HeaderMap, Option<Bytes>), at: Time) {
        let Self { state, flight, end } = &mut self;
        if let Some(body) = held {
            let digests = canonical::digests(headers, &body, &flight.route.route.volatile);
            state.volatile.look(&flight.route, (flight.key, at), (headers, &body), digests);
            let (observed, entered) = state.note_unkept(&flight.route, flight.key, digests.canonical, at);
            (end.digests, end.observed, end.entered) = (Some(digests), observed, Some(entered));
        }
        state.settle_call(flight, end);
    }
}

impl HttpBody for Passing {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            if let Some(trailers) = self.trailers.take() {
                return Poll::Ready(Some(Ok(trailers)));
            }
            match ready!(Pin::new(&mut self.inner).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    if let Some(frame) = self.pass(frame) {
                        return Poll::Ready(Some(Ok(frame)));
                    }
                }
                Some(Err(error)) => {
                    self.settle(false);
                    return Poll::Ready(Some(Err(error)));
                }
                None => {
                    self.settle(true);
                    self.inner = Body::empty();
                    let rest = self.strip.finish();
                    return Poll::Ready((!rest.is_empty()).then(|| Ok(Frame::data(rest))));
                }
            }
        }
    }
    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream() && self.strip.0.is_none() && self.trailers.is_none()
    }
    fn size_hint(&self) -> SizeHint {
        if self.strip.0.is_some() { SizeHint::default() } else { self.inner.size_hint() }
    }
}

impl Drop for Passing {
    fn drop(&mut self) {
        if self.job.is_some() {
            self.finish_alone();
        }
    }
}

//! A flight and what its leader holds: ticket, filling, filled.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bytes::Bytes;
use farthing_fleet::lease::Ending;
use farthing_freshness::entry::UnderWay;
use farthing_freshness::key::{Selected, Vary, vary};
use farthing_freshness::ticket::{self, Action, Event, Follower, Wake};
use farthing_freshness::{Entry, Subject};
use farthing_types::{BodyError, Failure, KeyHash, Time, UncachedReason};
use http::HeaderMap;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use crate::cache::{Inner, Stored};
use crate::head::SharedHead;
use crate::join::{Slot, leader_gone};
use crate::l2::{Asked, FillLease};
use crate::purge::Several;
use crate::stream::{Reader, Stream};

pub(crate) enum Delivered {
    Share(Arc<SharedHead>, Reader),
    Alone(UncachedReason),
    Another,
    Failed(Failure),
    Lead(Ticket),
    Again,
}

impl fmt::Debug for Delivered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Delivered")
    }
}

pub(crate) struct Flight {
    pub(crate) key: KeyHash,
    pub(crate) subject: Arc<Subject>,
    pub(crate) epoch: u64,
    /// The number up to which the fleet's purges had been carried out when it began.
    pub(crate) mark: u64,
    pub(crate) begun: Time,
    /// Its leader has waited for another instance's call.
    pub(crate) elsewhere: AtomicBool,
    state: Mutex<State>,
    idle: Notify,
}

struct State {
    core: ticket::Flight,
    senders: HashMap<Follower, oneshot::Sender<Delivered>>,
    live: Option<(Arc<SharedHead>, Arc<Stream>)>,
}

impl fmt::Debug for Flight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flight").field("key", &self.key).finish_non_exhaustive()
    }
}

/// What a joiner finds in a flight.
pub(crate) enum Found {
    Slot(Follower, oneshot::Receiver<Delivered>),
    Ready(Delivered),
    Alone(UncachedReason),
    Crowded,
    Over,
}

impl Flight {
    pub(crate) fn new(key: KeyHash, subject: Arc<Subject>, (epoch, mark): (u64, u64), begun: Time, limits: ticket::Limits) -> Self {
        let state = State { core: ticket::Flight::new(limits), senders: HashMap::new(), live: None };
        Self { key, subject, epoch, mark, begun, elsewhere: AtomicBool::new(false), state: Mutex::new(state), idle: Notify::new() }
    }

    pub(crate) fn join(&self, (now, authorized): (Time, bool), max_readers: usize) -> Found {
        let event = if authorized { Event::Join } else { Event::JoinPlain };
        let mut state = self.state.lock();
        loop {
            match state.core.step(event, now).pop() {
                Some(Action::Follow(id)) => return state.register(id),
                Some(Action::Pass(reason)) => return Found::Alone(reason),
                Some(Action::Crowded) => return Found::Crowded,
                Some(Action::Attach) => {
                    let Some((head, stream)) = state.live.clone() else { return Found::Over };
                    if stream.readers() >= max_readers {
                        return Found::Crowded;
                    }
                    match stream.attach() {
                        Some(reader) => return Found::Ready(Delivered::Share(head, reader)),
                        // The stream let byte 0 go and nobody has said so yet.
                        None => drop(state.core.step(Event::Slid, now)),
                    }
                }
                _ => return Found::Over,
            }
        }
    }

    pub(crate) fn leave(&self, id: Follower) {
        let mut state = self.state.lock();
        state.core.step(Event::Leave(id), Time::ZERO);
        let sender = state.senders.remove(&id);
        let nobody = state.core.waiting() == 0;
        drop(state);
        drop(sender);
        if nobody {
            self.idle.notify_waiters();
        }
    }

    /// Marks the flight as purged when one of `purges` is about it; whether it was.
    pub(crate) fn purge(&self, purges: &Several<'_>) -> bool {
        let mut state = self.state.lock();
        let tags = state.live.as_ref().and_then(|(head, _)| head.tags.as_deref());
        let hit = purges.matches(&UnderWay(&self.subject, tags));
        if hit {
            state.core.step(Event::Purged, Time::ZERO);
        }
        hit
    }

    pub(crate) fn is_marker(&self) -> bool {
        self.state.lock().core.marked_until().is_some()
    }

    fn waiting(&self) -> usize {
        self.state.lock().core.waiting()
    }

    async fn until_idle(self: Arc<Self>) {
        loop {
            let told = self.idle.notified();
            if self.waiting() == 0 {
                return;
            }
            told.await;
        }
    }
}

impl State {
    fn register(&mut self, id: Follower) -> Found {
        let (tx, rx) = oneshot::channel();
        self.senders.insert(id, tx);
        Found::Slot(id, rx)
    }
}

/// What those are told who wait in a flight that ends without an answer of its own.
#[derive(Clone, Copy)]
pub(crate) enum Told<'a> {
    LeaderGone,
    Failed(&'a Failure),
    /// The answer is in L1 now.
    Again,
}

/// Steps a flight and does what follows. `told` says what a wake of those delivers who get no answer.
fn step(inner: &Arc<Inner>, flight: &Arc<Flight>, event: Event, now: Time, told: Told<'_>) {
    let mut sends: Vec<(oneshot::Sender<Delivered>, Delivered)> = Vec::new();
    let mut heir = None;
    let mut forget = false;
    let mut state = flight.state.lock();
    for action in state.core.step(event, now) {
        match action {
            Action::Wake(all, wake) => {
                for id in all {
                    let Some(sender) = state.senders.remove(&id) else { continue };
                    sends.extend(state.delivery(wake, told).map(|d| (sender, d)));
                }
            }
            Action::HandOver(id) => heir = state.senders.remove(&id),
            Action::Forget => forget = true,
            _ => {}
        }
    }
    let marker = matches!(event, Event::Alone(_) | Event::OfAsker { .. }) && state.core.marked_until().is_some();
    drop(state);
    // Nothing may be sent under the lock: a follower that just left drops what it gets, and that may be a ticket.
    for (sender, delivered) in sends {
        drop(sender.send(delivered));
    }
    if let Some(heir) = heir {
        inner.counters.handover();
        drop(heir.send(Delivered::Lead(Ticket::new(Arc::clone(inner), Arc::clone(flight), HeaderMap::new()))));
    }
    if forget {
        inner.forget(flight);
    } else if marker {
        inner.remember_marker(flight);
    }
}

impl State {
    fn delivery(&self, wake: Wake, told: Told<'_>) -> Option<Delivered> {
        match wake {
            Wake::Share => {
                let (head, stream) = self.live.as_ref()?;
                Some(Delivered::Share(Arc::clone(head), stream.attach()?))
            }
            Wake::Alone(reason) => Some(Delivered::Alone(reason)),
            Wake::Another => Some(Delivered::Another),
            Wake::Fail | Wake::LeaderGone => Some(match told {
                Told::Failed(failure) => Delivered::Failed(failure.clone()),
                Told::LeaderGone => Delivered::Failed(leader_gone()),
                Told::Again => Delivered::Again,
            }),
        }
    }
}

/// Proof that its holder alone fills a key. Exactly one of [`Ticket::share`], [`Ticket::alone`], [`Ticket::fail`] ends the
/// wait of its followers; dropping it hands the flight over to one of them, a bounded number of times, after which all
/// are told [`farthing_types::FailureKind::LeaderGone`].
///
/// ```compile_fail
/// fn twice(ticket: farthing_cache::Ticket, failure: farthing_types::Failure) {
///     ticket.fail(failure.clone());
///     ticket.fail(failure); // used after it was given away
/// }
/// ```
#[must_use = "dropping a ticket hands the call over to a follower"]
pub struct Ticket {
    pub(crate) inner: Arc<Inner>,
    pub(crate) flight: Arc<Flight>,
    pub(crate) request: HeaderMap,
    pub(crate) lease: Option<FillLease>,
    armed: bool,
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket").field("key", &self.flight.key).finish_non_exhaustive()
    }
}

impl Ticket {
    pub(crate) const fn new(inner: Arc<Inner>, flight: Arc<Flight>, request: HeaderMap) -> Self {
        Self { inner, flight, request, lease: None, armed: true }
    }
    pub(crate) fn with_request(mut self, request: &HeaderMap) -> Self {
        self.request = request.clone();
        self
    }

    /// The key it fills: the primary one, or the second-level one where the key's `Vary` is known. Statistics of the key
    /// are kept under it.
    pub fn key(&self) -> KeyHash {
        self.flight.key
    }
    /// What is asked for; goes into the entry.
    pub fn subject(&self) -> &Arc<Subject> {
        &self.flight.subject
    }
    /// The purge sequence number when the flight began.
    pub fn epoch(&self) -> u64 {
        self.flight.epoch
    }
    /// How many wait for the head, the own client included.
    pub fn waiting(&self) -> usize {
        self.flight.waiting()
    }
    /// Resolves when nobody waits for the head.
    pub fn idle(&self) -> impl Future<Output = ()> + Send + use<> {
        Arc::clone(&self.flight).until_idle()
    }

    /// A place for the leader's own client: it follows like the others, and gets the answer even when it is not shared.
    /// To be taken once, before the fill starts.
    pub fn slot(&self) -> Slot {
        let mut state = self.flight.state.lock();
        let id = state.core.own_follower();
        let (tx, rx) = oneshot::channel();
        state.senders.insert(id, tx);
        drop(state);
        Slot::waiting(Arc::clone(&self.inner), Arc::clone(&self.flight), id, rx).of_the_leader()
    }

    /// The head has come and everyone may have the answer. An answer with `Vary: *` is for the own client alone.
    pub fn share(self, head: SharedHead, now: Time) -> Filling {
        match vary(&head.headers) {
            Vary::Star => self.alone(UncachedReason::Vary, head, now),
            Vary::No => self.begin(head, None, Event::Share, now),
            Vary::Names(names) => {
                let key = self.inner.config.keyer.selected(self.flight.subject.key, &names, &self.request);
                self.begin(head, Some(Selected { names, key }), Event::Share, now)
            }
        }
    }

    /// The head has come and the answer is for the own client alone: all others are told `reason` and make their own calls,
    /// and so do, for a short while, all who ask for the key. What is stored through the result is refused.
    pub fn alone(mut self, reason: UncachedReason, head: SharedHead, now: Time) -> Filling {
        self.keeps_nothing();
        self.begin(head, None, Event::Alone(reason), now)
    }

    /// The head has come and everyone may have the answer who waits for it by now; whoever comes later asks anew.
    pub fn share_with_waiting(self, head: SharedHead, now: Time) -> Filling {
        // It leaves the map before those who wait are told, so that who cannot use it finds no trace of it.
        step(&self.inner, &self.flight, Event::Purged, now, Told::LeaderGone);
        self.share(head, now)
    }

    /// The head has come and is about this request: the own client alone gets it, all others join again. What is stored through the result is refused.
    /// `authorized`: because the request was authorised, so that others which are make their own calls for a short while.
    pub fn of_asker(mut self, (reason, authorized): (UncachedReason, bool), head: SharedHead, now: Time) -> Filling {
        self.lets_others_try();
        self.begin(head, None, Event::OfAsker { reason, authorized }, now)
    }

    /// The call failed: everyone gets the failure.
    pub fn fail(mut self, failure: Failure) {
        // What a limit here has no room for another instance may be able to send. A provider that fails is not tried by one after the other.
        FillLease::end_in(&mut self.lease, if failure.limited.is_some() { Ending::Released } else { Ending::Failed });
        self.end(Event::Fail, Told::Failed(&failure));
    }

    /// There is no room for the call: whoever follows may have some. Unlike a leader that vanishes, this may happen to each of them.
    pub fn held_back(self) {
        self.end(Event::HeldBack, Told::LeaderGone);
    }

    pub(crate) fn end(mut self, event: Event, told: Told<'_>) {
        self.armed = false;
        step(&self.inner, &self.flight, event, Time::ZERO, told);
    }

    fn begin(mut self, mut head: SharedHead, selected: Option<Selected>, event: Event, now: Time) -> Filling {
        self.armed = false;
        head.selected = selected.clone();
        let stream = Arc::new(Stream::new(Arc::clone(&self.inner.budget), self.inner.config.share_buffer_bytes));
        self.flight.state.lock().live = Some((Arc::new(head), Arc::clone(&stream)));
        step(&self.inner, &self.flight, event, now, Told::LeaderGone);
        let alone = match event {
            Event::Alone(reason) | Event::OfAsker { reason, .. } => {
                stream.close();
                Some(reason)
            }
            _ => None,
        };
        let flight = Landed { inner: Arc::clone(&self.inner), flight: Arc::clone(&self.flight) };
        Filling { stream, landed: Some(flight), selected, lease: self.lease.take(), alone }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.armed {
            step(&self.inner, &self.flight, Event::LeaderGone, Time::ZERO, Told::LeaderGone);
        }
    }
}

/// Ends a flight when dropped.
struct Landed {
    inner: Arc<Inner>,
    flight: Arc<Flight>,
}

impl Drop for Landed {
    fn drop(&mut self) {
        step(&self.inner, &self.flight, Event::End, Time::ZERO, Told::LeaderGone);
        // Dropped after the lock: the composer's note goes with it.
        let live = self.flight.state.lock().live.take();
        drop(live);
    }
}

/// The body being written. Dropping it without [`Filling::finish`] breaks the body off for everyone, visibly.
#[must_use = "dropping it breaks the body off"]
pub struct Filling {
    stream: Arc<Stream>,
    landed: Option<Landed>,
    selected: Option<Selected>,
    lease: Option<FillLease>,
    alone: Option<UncachedReason>,
}

impl fmt::Debug for Filling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Filling").field("alone", &self.alone).finish_non_exhaustive()
    }
}

impl Filling {
    /// Appends a chunk. Returns at once while the body is held from byte 0; beyond the bounds waits for the slowest reader, and
    /// after the reader grace cuts it off if it holds up others. A reader that holds up nobody is waited for.
    pub async fn push(&mut self, chunk: Bytes) {
        if chunk.is_empty() {
            return;
        }
        let Some(landed) = &self.landed else { return };
        let grace = tokio::time::sleep(landed.inner.config.reader_grace);
        tokio::pin!(grace);
        let mut patient = true;
        loop {
            let room = self.stream.room();
            if self.stream.offer(&chunk) {
                return;
            }
            let cut = if patient { 0 } else { self.stream.cut_slowest() };
            landed.inner.counters.cut(cut);
            if cut > 0 {
                continue;
            }
            tokio::select! {
                biased;
                () = room => {}
                () = &mut grace, if patient => patient = false,
            }
        }
    }

    /// The body is complete.
    pub fn finish(mut self, trailers: Option<HeaderMap>) -> Filled {
        self.stream.finish(trailers);
        let (body, trailers) = self.stream.whole().unzip();
        Filled {
            body: body.filter(|_| self.alone.is_none()),
            trailers: trailers.flatten(),
            stream: Arc::clone(&self.stream),
            landed: self.landed.take(),
            selected: self.selected.take(),
            lease: self.lease.take(),
            alone: self.alone,
        }
    }

    /// The body broke off: every reader gets the error after what it has been sent.
    pub fn abort(mut self, error: BodyError) {
        self.stream.abort(error);
        FillLease::end_in(&mut self.lease, Ending::Failed);
        self.landed.take();
    }

    /// The key under which the answer is stored: the one selected by its `Vary`, else the flight's. Statistics are kept under it.
    pub fn key(&self) -> KeyHash {
        let flight = self.landed.as_ref().map(|landed| landed.flight.key);
        self.selected.as_ref().map(|selected| selected.key).or(flight).unwrap_or_default()
    }

    /// Readers there are, those included that have not begun.
    pub fn readers(&self) -> usize {
        self.stream.readers()
    }

    /// Resolves when no reader is left.
    pub fn idle(&self) -> impl Future<Output = ()> + Send + use<> {
        Arc::clone(&self.stream).idle()
    }
}

impl Drop for Filling {
    fn drop(&mut self) {
        if self.landed.is_some() {
            self.stream.abort(BodyError("the request that made the call broke off".to_owned()));
        }
    }
}

/// A complete body. The flight can still be joined until this is stored or dropped, so that nobody falls between flight
/// and entry.
#[must_use = "store it, or drop it to end the flight"]
pub struct Filled {
    /// The whole body; `None` when it was larger than the buffer or not shared.
    pub body: Option<Bytes>,
    /// Trailers.
    pub trailers: Option<HeaderMap>,
    stream: Arc<Stream>,
    landed: Option<Landed>,
    selected: Option<Selected>,
    lease: Option<FillLease>,
    alone: Option<UncachedReason>,
}

impl fmt::Debug for Filled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Filled").field("body", &self.body.as_ref().map(Bytes::len)).finish_non_exhaustive()
    }
}

impl Filled {
    /// Stores the entry and ends the flight. Subject, `Vary` selection and epoch of the entry are set from the flight.
    ///
    /// # Errors
    /// The reason why it was not stored: not shared, too large, too many variants, or purged while it travelled.
    pub fn store(mut self, mut entry: Entry, now: Time) -> Result<Stored, UncachedReason> {
        if let Some(reason) = self.alone {
            return Err(reason);
        }
        let Some(landed) = &self.landed else { return Err(UncachedReason::Incomplete) };
        entry.subject = Arc::clone(&landed.flight.subject);
        entry.epoch = landed.flight.epoch;
        entry.selected = self.selected.take();
        let Flight { mark, begun, .. } = *landed.flight;
        let asked = Asked { begun, mark, lease: self.lease.take() };
        landed.inner.store(&entry, asked, now)
    }
}

impl Drop for Filled {
    fn drop(&mut self) {
        FillLease::end_in(&mut self.lease, Ending::Unkept);
        self.landed.take();
        self.stream.close();
    }
}

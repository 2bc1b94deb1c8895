//! The book under its lock, who waits for what it says, and the timer that asks it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use farthing_ledger::limit::{Ask, Book, Cost, Mood, Refusal, Stage, Verdict, WaiterId, Who, Woken};
use farthing_types::{Claim, Span, Tenant, Time};
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::Turn;
use super::usual::Usual;

/// Payers whose credentials rest at a time.
const MAX_RESTS: usize = 4_096;

/// Longest time that a provider is left alone because it asks for that; then one call finds out.
const LONGEST_REST: Span = Span::from_secs(3_600);

/// See the module.
pub struct Desk {
    inner: Mutex<Inner>,
    began: Instant,
    /// The next time to pump has come nearer.
    nearer: Notify,
    tasks: TaskTracker,
    /// Until when the provider wants to be left alone by a payer's own credential.
    rests: Mutex<HashMap<(Arc<str>, Tenant), Instant>>,
    rested: AtomicU64,
    /// How long providers usually take.
    usual: Mutex<HashMap<Arc<str>, Usual>>,
}

struct Inner {
    book: Book,
    waiting: HashMap<WaiterId, oneshot::Sender<Told>>,
    /// A task follows the book's times.
    driven: bool,
}

/// What a waiter is told.
type Told = Result<Turn, Refusal>;

/// A call or attempt that asks for its turn.
#[derive(Clone, Copy)]
pub struct Asking<'a> {
    pub who: Who<'a>,
    pub stage: Stage,
    pub mood: Mood,
    pub claim: Claim,
    pub bytes: usize,
    pub until: Instant,
}

/// What came of it at once.
pub enum Begun {
    /// It is told.
    Told(Told),
    /// It waits.
    Waits(Waiting),
}

impl Begun {
    /// Waits until it is told.
    pub async fn turn(self) -> Told {
        match self {
            Self::Told(told) => told,
            Self::Waits(waiting) => waiting.end().await,
        }
    }

    /// The turn, if it has come.
    pub fn now(self) -> Option<Turn> {
        match self {
            Self::Told(told) => told.ok(),
            Self::Waits(_) => None,
        }
    }
}

impl Desk {
    pub fn new(book: Book) -> Self {
        let inner = Inner { book, waiting: HashMap::new(), driven: false };
        Self {
            inner: Mutex::new(inner),
            began: Instant::now(),
            nearer: Notify::new(),
            tasks: TaskTracker::new(),
            rests: Mutex::default(),
            rested: AtomicU64::new(0),
            usual: Mutex::default(),
        }
    }

    /// How long a provider usually takes.
    pub fn usual(&self, provider: &Arc<str>) -> Usual {
        self.usual.lock().entry(provider.clone()).or_default().clone()
    }

    /// Now, on the book's timeline.
    pub fn now(&self) -> Time {
        self.at(Instant::now())
    }

    fn at(&self, instant: Instant) -> Time {
        Time::ZERO + instant.saturating_duration_since(self.began)
    }

    /// Looks into the book.
    pub fn with<T>(&self, look: impl FnOnce(&mut Book) -> T) -> T {
        look(&mut self.inner.lock().book)
    }

    /// Tells the book something, and those whose wait is over by that.
    pub fn tell<T>(self: &Arc<Self>, act: impl FnOnce(&mut Book, Time) -> T) -> T {
        let mut inner = self.inner.lock();
        // Read under the lock: the book's time never goes back.
        let now = self.now();
        let result = act(&mut inner.book, now);
        let over = self.pump(&mut inner, now);
        drop(inner);
        hand_out(over);
        result
    }

    /// Asks for a turn.
    pub fn begin(self: &Arc<Self>, asking: &Asking<'_>) -> Begun {
        let mut inner = self.inner.lock();
        let now = self.now();
        let Asking { who, stage, mood, claim, bytes, until } = *asking;
        let cost = Cost { tokens: claim.tokens.unwrap_or_default() };
        let ask = Ask { who, stage, priority: claim.priority, mood, cost, bytes, deadline: self.at(until), now };
        let begun = match inner.book.ask(&ask) {
            Verdict::Passed(pass) => Begun::Told(Ok(Turn::new(self, pass, Span::ZERO))),
            Verdict::Blocked(refusal) | Verdict::Refused(refusal) => Begun::Told(Err(refusal)),
            Verdict::Queued(id) => {
                let (tell, told) = oneshot::channel();
                inner.waiting.insert(id, tell);
                Begun::Waits(Waiting { desk: self.clone(), id, told, until, over: false })
            }
        };
        let over = self.pump(&mut inner, now);
        drop(inner);
        hand_out(over);
        begun
    }

    /// Whose wait is over, with what each is told. To be handed out without the lock: who does not listen any more gives back.
    fn pump(self: &Arc<Self>, inner: &mut Inner, now: Time) -> Vec<(oneshot::Sender<Told>, Told)> {
        let before = inner.book.next();
        let woken = inner.book.pump(now);
        self.drive(inner, before);
        let told = |Woken { id, result, waited }| {
            // Nothing is dropped here: a turn that is dropped takes the lock.
            let tell = inner.waiting.remove(&id).unwrap_or_else(|| oneshot::channel().0);
            (tell, result.map(|pass| Turn::new(self, pass, waited)))
        };
        woken.into_iter().map(told).collect()
    }

    /// Has the book's times followed.
    fn drive(self: &Arc<Self>, inner: &mut Inner, before: Option<Time>) {
        let Some(next) = inner.book.next() else { return };
        if !inner.driven {
            inner.driven = true;
            let desk = self.clone();
            self.tasks.spawn(async move { desk.follow().await });
        } else if before.is_none_or(|before| next < before) {
            self.nearer.notify_one();
        }
    }

    async fn follow(self: Arc<Self>) {
        loop {
            let next = {
                let mut inner = self.inner.lock();
                let now = self.now();
                let over = self.pump(&mut inner, now);
                let next = inner.book.next();
                inner.driven = next.is_some();
                drop(inner);
                hand_out(over);
                next
            };
            let Some(next) = next else { return };
            let at = self.began + next.since(Time::ZERO);
            tokio::select! {
                () = tokio::time::sleep_until(at) => {}
                () = self.nearer.notified() => {}
            }
        }
    }

    /// A provider wants to be left alone.
    pub fn rest(self: &Arc<Self>, provider: &Arc<str>, payer: Option<&Tenant>, span: Span) {
        let span = span.min(LONGEST_REST);
        let Some(payer) = payer else { return self.tell(|book, now| book.hold(provider, now + span, now)) };
        let now = Instant::now();
        let mut rests = self.rests.lock();
        if rests.len() >= MAX_RESTS {
            rests.retain(|_, until| *until > now);
        }
        if rests.len() < MAX_RESTS
            && let Some(until) = now.checked_add(span)
        {
            rests.insert((provider.clone(), payer.clone()), until);
        }
    }

    /// Forgets a tenant: its counters that are as new, and its rests that are over. How many counters stay.
    pub fn forget_tenant(&self, tenant: &str) -> usize {
        let now = Instant::now();
        self.rests.lock().retain(|(_, payer), until| **payer != *tenant || *until > now);
        self.with(|book| book.forget_tenant(tenant, self.at(now)))
    }

    /// Until when a payer's own credential rests.
    pub fn rests(&self, provider: &Arc<str>, payer: &Tenant) -> Option<Instant> {
        let mut rests = self.rests.lock();
        if rests.is_empty() {
            return None;
        }
        let key = (provider.clone(), payer.clone());
        let until = *rests.get(&key)?;
        if until <= Instant::now() {
            rests.remove(&key);
            return None;
        }
        self.rested.fetch_add(1, Relaxed);
        Some(until)
    }

    /// Attempts that met such a rest.
    pub fn rested(&self) -> u64 {
        self.rested.load(Relaxed)
    }

    /// A waiter that has left the book is told nothing.
    fn forget(&self, id: WaiterId) {
        let _ = self.inner.lock().waiting.remove(&id);
    }
}

fn hand_out(over: Vec<(oneshot::Sender<Told>, Told)>) {
    for (tell, told) in over {
        // A turn that nobody takes is dropped here, and so given back.
        drop(tell.send(told));
    }
}

/// A place in a line; given up when it is dropped.
pub struct Waiting {
    desk: Arc<Desk>,
    id: WaiterId,
    told: oneshot::Receiver<Told>,
    until: Instant,
    over: bool,
}

impl Waiting {
    async fn end(mut self) -> Told {
        if let Ok(Ok(told)) = tokio::time::timeout_at(self.until, &mut self.told).await {
            self.over = true;
            return told;
        }
        self.over = true;
        let (id, desk) = (self.id, self.desk.clone());
        let expired = desk.tell(|book, now| book.expire(id, now));
        if let Some(refusal) = expired {
            desk.forget(id);
            return Err(refusal);
        }
        // It was told at the same moment.
        (&mut self.told).await.unwrap_or_else(|_| Err(Refusal::gone()))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let id = self.id;
        if !self.over && self.desk.tell(|book, _| book.give_up(id)) {
            self.desk.forget(id);
        }
    }
}

//! Fill leases: that of the instances which share an L2 one makes the call for a key, and the others wait for what it writes.
//!
//! A lease stands beside the value that it is about. Its holder has a [`FillLease`], which goes with the ticket to the entry and from there to
//! the write; a task renews it meanwhile. Whatever ends the flight ends the lease, and says how to those who ask for it: dropping it, a
//! panic included, lets the next one have it. A process that dies says nothing; its leases are over after [`TERMS`].
//!
//! A value is written under a lease only while that is the writer's: one that was paused for longer than its lease does not overwrite what came
//! after, and what was purged by its key under way does not come back, because that takes the lease away, too.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use farthing_fleet::lease::{Ask, Claim, Ending, Hold, Holding, LeaseOp, LeaseSaid, Next, Terms, Token};
use farthing_types::{KeyHash, Span, Time};
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::{Store, StoreFault, Tier};

/// How fill leases are held: whoever waits for a process that has died waits for so long. The margin is what a process may stand still between its
/// look at the clock and its call.
pub const TERMS: Terms = Terms { lasts: Span::from_secs(1), margin: Span::from_millis(200) };
/// Leases at once; calls beyond are made without.
const MOST: usize = 4_096;

/// For how long an end is told.
const fn told(how: Ending) -> Span {
    match how {
        // Whoever asked for the value before it was there asks for the lease a moment later.
        Ending::Done | Ending::Released | Ending::Failed => Span::from_secs(1),
        Ending::Unkept => Span::from_secs(2),
    }
}

/// Who asks for leases, and what keeps them.
#[derive(Debug)]
pub(super) struct Leases {
    store: Arc<dyn Store>,
    tasks: TaskTracker,
    incarnation: u64,
    /// How long an operation may take: longer than a look into L2, because a call waits for it that takes longer still.
    deadline: Span,
    claims: AtomicU64,
    floor: AtomicU64,
    held: AtomicUsize,
    /// Where the clock of holders begins.
    began: Instant,
}

/// What became of asking for a lease.
#[derive(Debug)]
pub enum AskedFor {
    /// The caller makes the call.
    Granted(FillLease),
    /// Another one makes it; unless it says more, it has so long.
    Taken(Span),
    /// Another one has made it, a moment ago.
    Ended(Token, Ending),
    /// Nobody can tell: there are no leases, or their store is away or late.
    Away,
}

/// The right and the duty to make the call for a key, until it is dropped.
#[derive(Debug)]
#[must_use = "dropping it lets another instance have it"]
pub struct FillLease {
    key: KeyHash,
    held: Arc<Held>,
    tell: Option<oneshot::Sender<Told>>,
}

#[derive(Debug)]
struct Held {
    leases: Arc<Leases>,
    hold: Mutex<Hold>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.leases.held.fetch_sub(1, Ordering::AcqRel);
    }
}

/// What the keeper of a lease is told.
#[derive(Clone, Copy, Debug)]
enum Told {
    End(Ending),
    /// It has ended with the value.
    Written,
}

impl Tier {
    /// Has calls for keys led by one of the instances that share the store. `incarnation` is a number that no other process has, whenever it
    /// runs; an operation on a lease takes no longer than `deadline`; renewals run on `tasks`. Once, before anything is asked for.
    pub fn lease_fills(&self, (incarnation, deadline): (u64, Span), tasks: TaskTracker) {
        let leases = Leases {
            store: Arc::clone(&self.inner.store),
            tasks,
            incarnation,
            deadline,
            claims: AtomicU64::new(0),
            floor: AtomicU64::new(0),
            held: AtomicUsize::new(0),
            began: Instant::now(),
        };
        // A second time changes nothing.
        let _set = self.inner.leases.set(Arc::new(leases));
    }

    /// Whether calls are led by one of several instances.
    pub fn leases_fills(&self) -> bool {
        self.inner.leases.get().is_some()
    }

    /// Asks for the lease of a key. How the lease with the token `past` has ended is known to the caller. Takes no longer than one operation on the
    /// store.
    pub async fn ask_lease(&self, key: KeyHash, past: Token) -> AskedFor {
        match self.inner.leases.get() {
            Some(leases) => leases.ask(key, past).await,
            None => AskedFor::Away,
        }
    }
}

/// An asking under way; one that is given up may have been granted.
struct Asking<'a> {
    leases: &'a Arc<Leases>,
    key: KeyHash,
    ask: Ask,
    open: bool,
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        if self.open {
            let (leases, key, ask) = (Arc::clone(self.leases), self.key, self.ask);
            self.leases.tasks.spawn(async move { leases.give_back(key, ask).await });
        }
    }
}

impl Leases {
    fn now(&self) -> Time {
        Time::ZERO + self.began.elapsed()
    }

    async fn ask(self: &Arc<Self>, key: KeyHash, past: Token) -> AskedFor {
        if self.held.fetch_add(1, Ordering::AcqRel) >= MOST {
            self.held.fetch_sub(1, Ordering::AcqRel);
            return AskedFor::Away;
        }
        let number = self.claims.fetch_add(1, Ordering::Relaxed);
        let claim = Claim(u128::from(self.incarnation) << 64 | u128::from(number));
        let ask = Ask { claim, lasts: TERMS.lasts, floor: Token(self.floor.load(Ordering::Relaxed)), past };
        let sent = self.now();
        let hold = Hold::granted(Holding { claim, token: Token(0) }, TERMS, sent);
        // Counts from here on, whatever becomes of it.
        let mut held = Held { leases: Arc::clone(self), hold: Mutex::new(hold) };
        let mut asking = Asking { leases: self, key, ask, open: true };
        let said = self.store.lease(key, LeaseOp::Ask(ask), self.deadline).await;
        asking.open = matches!(said, Err(StoreFault::Late | StoreFault::Failed));
        match said {
            Ok(LeaseSaid::Yours(token)) => {
                self.seen(token);
                held.hold.get_mut().holding.token = token;
                AskedFor::Granted(self.keep(key, held))
            }
            Ok(LeaseSaid::Taken(token, left)) => {
                self.seen(token);
                AskedFor::Taken(left)
            }
            Ok(LeaseSaid::Ended(token, how)) => {
                self.seen(token);
                AskedFor::Ended(token, how)
            }
            Ok(LeaseSaid::Lost) | Err(_) => AskedFor::Away,
        }
    }

    fn seen(&self, token: Token) {
        self.floor.fetch_max(token.0, Ordering::Relaxed);
    }

    /// Gives back what may have been granted to an asking that nobody waits for any more.
    async fn give_back(&self, key: KeyHash, ask: Ask) {
        if let Ok(LeaseSaid::Yours(token)) = self.store.lease(key, LeaseOp::Ask(ask), self.deadline).await {
            self.end(key, Holding { claim: ask.claim, token }, Ending::Released).await;
        }
    }

    /// Where it cannot be said, the lease ends by its time.
    async fn end(&self, key: KeyHash, holding: Holding, how: Ending) {
        if let Err(fault) = self.store.lease(key, LeaseOp::End(holding, how, told(how)), self.deadline).await {
            tracing::debug!(fault = fault.as_str(), how = how.as_str(), "the end of a fill lease was not told");
        }
    }

    fn keep(self: &Arc<Self>, key: KeyHash, held: Held) -> FillLease {
        let (tell, hears) = oneshot::channel();
        let held = Arc::new(held);
        self.tasks.spawn(Arc::clone(&held).keep(key, hears));
        FillLease { key, held, tell: Some(tell) }
    }
}

impl Held {
    /// Renews the lease until it ends, and ends it.
    async fn keep(self: Arc<Self>, key: KeyHash, mut hears: oneshot::Receiver<Told>) {
        let heard = loop {
            let next = self.hold.lock().next(self.leases.now());
            tokio::select! {
                biased;
                heard = &mut hears => break heard,
                () = self.go_on(key, next) => {}
            }
        };
        // Dropped without a word: another one may have it.
        if let Told::End(how) = heard.unwrap_or(Told::End(Ending::Released)) {
            let holding = self.hold.lock().holding;
            self.leases.end(key, holding, how).await;
        }
    }

    async fn go_on(&self, key: KeyHash, next: Next) {
        match next {
            Next::Wait(until) => tokio::time::sleep_until(self.leases.began + until.since(Time::ZERO)).await,
            Next::Renew => self.renew(key).await,
            Next::Over => std::future::pending().await,
        }
    }

    async fn renew(&self, key: KeyHash) {
        let (holding, sent) = (self.hold.lock().holding, self.leases.now());
        let said = self.leases.store.lease(key, LeaseOp::Renew(holding, TERMS.lasts), self.leases.deadline).await;
        let mut hold = self.hold.lock();
        match said {
            Ok(LeaseSaid::Yours(_)) => hold.renewed(sent),
            Ok(_) => hold.lost(),
            Err(_) => hold.unanswered(self.leases.now()),
        }
    }
}

impl FillLease {
    /// Whether the call may be made: the lease is held for long enough that nobody else has made it meanwhile.
    pub fn may_act(&self) -> bool {
        self.held.hold.lock().may_act(self.held.leases.now())
    }

    /// Ends it, and tells those who wait how.
    pub fn end(self, how: Ending) {
        self.tell(Told::End(how));
    }

    /// Ends the one that is there, if there is one.
    pub(crate) fn end_in(lease: &mut Option<Self>, how: Ending) {
        if let Some(lease) = lease.take() {
            lease.end(how);
        }
    }

    /// The key whose lease it is.
    pub(super) const fn key(&self) -> KeyHash {
        self.key
    }

    pub(super) fn holding(&self) -> Holding {
        self.held.hold.lock().holding
    }

    /// It has ended with its value.
    pub(super) fn written(self) {
        self.tell(Told::Written);
    }

    /// Goes on holding it for its whole time; whether it was its own.
    pub(super) async fn renew(&self) -> Result<bool, StoreFault> {
        let leases = &self.held.leases;
        let said = leases.store.lease(self.key, LeaseOp::Renew(self.holding(), TERMS.lasts), leases.deadline).await?;
        Ok(matches!(said, LeaseSaid::Yours(_)))
    }

    /// For how long the end with a value is told.
    pub(super) const fn told_written() -> Span {
        told(Ending::Done)
    }

    fn tell(mut self, what: Told) {
        if let Some(tell) = self.tell.take() {
            // Its keeper ends with the process only.
            let _gone = tell.send(what);
        }
    }
}

//! Budgets at work: money is set aside before a call, what may be spent is written down first, and who is held back is told why.
//!
//! The [`Book`] decides; here are its lock, its file, and those who wait for room.

mod admit;
mod amend;
mod fleet;
mod held;
mod pool;
mod report;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use farthing_config::Config;
use farthing_ledger::budget::{
    Ask, Blocked, Book, BookError, Charge, Grant, Grants, Hold, Raise, Store, StoreError, Verdict, Why, Written,
};
use farthing_ledger::watch::BudgetLevels;
use farthing_types::{Clock, Money, OnExceeded, Span};
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use crate::StartError;
use crate::fleet::Fleet;
use fleet::Link;

pub use admit::{Admission, admit, answer, at_once, refused};
pub use fleet::WriteOffError;
pub use held::Held;
pub use report::{BudgetsReport, FleetReport, RefusalReport};

/// How often it is written down what was spent.
pub const TICK: Span = Span::from_secs(1);
/// Longest time that a grant may take; a disk that is slower is a fault.
const GRANT_WAIT: Span = Span::from_secs(2);
/// The same where a fleet grants: what Redis does when it restarts takes a moment longer.
const FLEET_WAIT: Span = Span::from_millis(3_500);
/// Requests that wait for room at a time; more are held back at once.
const MAX_WAITING: usize = 1_000;
/// Writes under way at a time; calls that need more are held back as by a fault.
const MAX_ORDERS: usize = 4_096;
/// Refusals that are remembered, for `farthing budgets why`.
const MAX_REFUSALS: usize = 256;

/// All budgets of an instance.
pub struct Budgets(Option<Arc<Shared>>);

struct Shared {
    book: Mutex<Book>,
    /// `None` where it cannot be opened.
    store: Mutex<Option<Store>>,
    dir: PathBuf,
    clock: Arc<dyn Clock>,
    /// A trouble of somebody else under which nothing more may be granted.
    outside: Mutex<Option<&'static str>>,
    /// Room may have come.
    freed: Notify,
    waiting: AtomicUsize,
    /// Writes under way.
    ordered: AtomicUsize,
    refusals: Mutex<VecDeque<RefusalReport>>,
    counters: Counters,
    /// Where a fleet shares them.
    link: Option<Link>,
}

/// Figures of all budgets together.
#[derive(Debug, Default)]
pub struct Counters {
    /// Calls let through although they could not be written down.
    pub faults_passed: AtomicU64,
    /// Calls that cost more than was set aside for them.
    pub overruns: AtomicU64,
    /// Calls that a budget counts without a bound, let through.
    pub unbounded: AtomicU64,
    /// Calls that nobody waits for, left out.
    pub left_out: AtomicU64,
}

impl Budgets {
    /// The budgets of a configuration, with what was spent of them before.
    ///
    /// # Errors
    /// An unknown time zone, or a file that another process has. A file that is damaged or cannot be opened is a fault: budgets that fail closed
    /// hold back until it is mended.
    pub fn open(config: &Config, fleet: Option<&Arc<Fleet>>, clock: Arc<dyn Clock>) -> Result<Self, StartError> {
        let mut book = Book::new(config.budgets.iter().cloned())?;
        if book.is_empty() {
            return Ok(Self(None));
        }
        let link = fleet.cloned().map(Link::new);
        if let Some(link) = &link {
            book.enter_fleet(&link.drawn());
        }
        let shared = Shared {
            book: Mutex::new(book),
            store: Mutex::new(None),
            dir: config.state_dir.clone(),
            clock,
            outside: Mutex::new(None),
            freed: Notify::new(),
            waiting: AtomicUsize::new(0),
            ordered: AtomicUsize::new(0),
            refusals: Mutex::default(),
            counters: Counters::default(),
            link,
        };
        match shared.open_store() {
            Err(error @ StoreError::InUse { .. }) => return Err(StartError::Budgets(error)),
            Err(error) => {
                tracing::error!(%error, "budgets cannot be kept");
                shared.book.lock().set_fault(Some(error.to_string()));
            }
            Ok(()) => {}
        }
        Ok(Self(Some(Arc::new(shared))))
    }

    /// Whether nothing can be granted because of the fleet, not of this instance's disk.
    pub fn fleet_holds(&self) -> bool {
        self.0.as_ref().is_some_and(|shared| {
            let book = shared.book.lock();
            book.fault().is_none() && book.trouble().is_some()
        })
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Begins to share them with the fleet, where there is one.
    pub fn start(&self) {
        if let Some(shared) = &self.0 {
            fleet::start(shared);
        }
    }

    /// Waits no longer for a member of the fleet that has not told what it spent since Redis lost its data; by its name or id.
    ///
    /// # Errors
    /// See [`WriteOffError`].
    pub async fn write_off(&self, member: &str) -> Result<(), WriteOffError> {
        match &self.0 {
            Some(shared) => fleet::write_off(shared, member).await,
            None => Err(WriteOffError::NoFleet),
        }
    }

    /// Gives back to the fleet what is not spent; nothing more can be granted then.
    pub async fn leave(&self) {
        if let Some(shared) = &self.0 {
            fleet::leave(shared).await;
        }
    }

    /// Who tells of those that have reached a level; `None` where there is no budget.
    pub fn levels(&self) -> Option<Arc<dyn BudgetLevels>> {
        self.0.clone().map(|shared| shared as Arc<dyn BudgetLevels>)
    }

    /// What is told of them; `None` where there is none.
    pub fn report(&self) -> Option<BudgetsReport> {
        self.0.as_ref().map(report::report)
    }

    /// Sets money aside without waiting, for a call of which one attempt costs at most `each`; `None` where that cannot be done now. For calls
    /// that nobody waits for.
    pub fn try_hold(&self, ask: &Ask<'_>, each: Option<Money>) -> Option<Held> {
        let Some(shared) = &self.0 else { return Some(Held::free()) };
        match shared.look(ask) {
            Looked::Held(hold) => Some(Held::new(shared, hold, each)),
            Looked::Waits(..) | Looked::Blocked(_) => {
                shared.counters.left_out.fetch_add(1, Ordering::Relaxed);
                None
            }
        }
    }

    /// For a call that was made although nothing was set aside for it: what it has cost counts, whatever room there is.
    pub fn owed(&self, ask: &Ask<'_>) -> Held {
        let Some(shared) = &self.0 else { return Held::free() };
        let hold = shared.book.lock().owed(ask);
        Held::new(shared, hold, None)
    }

    /// Sets money aside, for a call of which one attempt costs at most `each`; waits for what must be durable first, and not for room.
    ///
    /// # Errors
    /// The budget that holds the call back. It is not counted as a refusal yet.
    pub async fn hold(&self, ask: &Ask<'_>, each: Option<Money>) -> Result<Held, Blocked> {
        let Some(shared) = &self.0 else { return Ok(Held::free()) };
        let (mut until, most) = (None, if shared.link.is_some() { FLEET_WAIT } else { GRANT_WAIT });
        loop {
            match shared.look(ask) {
                Looked::Held(hold) => return Ok(Held::new(shared, hold, each)),
                Looked::Blocked(blocked) => return Err(blocked),
                Looked::Waits(blocked, told) => {
                    match tokio::time::timeout_at(*until.get_or_insert_with(|| Instant::now() + most), told).await {
                        Ok(Ok(())) => {}
                        // Its budgets decide by their `on_fault`, with the fault noted.
                        Ok(Err(_)) if shared.book.lock().fault().is_some() => {}
                        _ => return Err(blocked),
                    }
                }
            }
        }
    }

    /// Waits for room until `until`, for a call that was held back; sets money aside.
    ///
    /// # Errors
    /// The budget that holds it back at the end.
    pub async fn wait<'a>(
        &self,
        (ask, each): (impl Fn() -> Ask<'a> + Send, Option<Money>),
        mut blocked: Blocked,
        until: Instant,
    ) -> Result<Held, Blocked> {
        let Some(shared) = &self.0 else { return Ok(Held::free()) };
        let _waiting = match Waiting::new(shared) {
            Some(waiting) => waiting,
            None => return Err(blocked),
        };
        while waits(&blocked) {
            let freed = shared.freed.notified();
            tokio::pin!(freed);
            // Whatever is freed from here on is heard.
            freed.as_mut().enable();
            match self.hold(&ask(), each).await {
                Ok(held) => {
                    // There may be room for more than one.
                    shared.freed.notify_one();
                    return Ok(held);
                }
                Err(again) => blocked = again,
            }
            if waits(&blocked) && tokio::time::timeout_at(until, freed).await.is_err() {
                return Err(blocked);
            }
        }
        // For the others there may be no hope either.
        shared.freed.notify_one();
        Err(blocked)
    }

    /// Writes down what was spent, and wakes who waits: a window may have ended. Opens the file where it could not be opened. Nothing more is
    /// granted while there is a trouble `outside`.
    pub fn tick(&self, outside: Option<&'static str>) {
        let Some(shared) = &self.0 else { return };
        *shared.outside.lock() = outside;
        let closed = shared.store.lock().is_none();
        if closed && shared.open_store().is_err() {
            return;
        }
        let fault = shared.note(Written::Change);
        if fault || outside.is_some() {
            // An empty order finds out whether the disk has healed.
            shared.note(Written::Whole);
        }
        shared.freed.notify_waiters();
    }

    /// Writes down what was spent, once and for all: nothing of it is lost. Blocks.
    pub fn close(&self) {
        let Some(shared) = &self.0 else { return };
        shared.note(Written::Closed);
        let store = shared.store.lock().take();
        drop(store);
    }

    /// Resolves when all that is ordered is written, or cannot be.
    pub async fn written(&self) {
        let Some(shared) = &self.0 else { return };
        let told = shared.order(Vec::new(), Vec::new());
        // Whatever became of it.
        let _ = told.await;
    }

    /// Adds money to a counter for some time; resolves when that is durable.
    ///
    /// # Errors
    /// See [`BookError`]; a disk that does not take it.
    pub async fn raise(&self, counter: (&str, Option<&str>), raise: Raise) -> Result<(), RaiseError> {
        let Some(shared) = &self.0 else { return Err(BookError::NoBudget(counter.0.to_owned(), "none".to_owned()).into()) };
        let told = {
            let mut book = shared.book.lock();
            let record = book.raise(counter, raise, shared.clock.now())?;
            shared.order(Vec::new(), vec![record])
        };
        shared.freed.notify_waiters();
        match tokio::time::timeout(GRANT_WAIT, told).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(RaiseError::Unwritten(shared.book.lock().fault().unwrap_or("the disk does not answer").to_owned())),
        }
    }

    /// Drops what tenants' own counters and refusals tell of one; how many counters that were. Its money begins anew.
    ///
    /// # Errors
    /// Why that cannot be written down.
    pub async fn forget(&self, tenant: &str) -> Result<u64, String> {
        let Some(shared) = &self.0 else { return Ok(0) };
        shared.refusals.lock().retain(|refusal| *refusal.tenant != *tenant && *refusal.blocked.counter.unit != *tenant);
        let (dropped, told) = {
            let mut book = shared.book.lock();
            let dropped = book.forget(tenant);
            let records = book.records(Written::Whole, shared.clock.now());
            if let Some(store) = &*shared.store.lock() {
                store.rewrite(records);
            }
            // Told when what was ordered before is done.
            (dropped, shared.order(Vec::new(), Vec::new()))
        };
        match tokio::time::timeout(GRANT_WAIT, told).await {
            Ok(Ok(())) => Ok(dropped as u64),
            _ => Err(shared.book.lock().fault().unwrap_or("the disk does not answer").to_owned()),
        }
    }

    /// Remembers that a request was held back for good.
    pub fn refused(&self, refusal: RefusalReport) {
        let Some(shared) = &self.0 else { return };
        shared.book.lock().note_blocked(&refusal.blocked.counter);
        let mut refusals = shared.refusals.lock();
        if refusals.len() == MAX_REFUSALS {
            refusals.pop_front();
        }
        refusals.push_back(refusal);
    }
}

/// What became of an order to raise a limit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RaiseError {
    /// It cannot be meant.
    #[error(transparent)]
    Book(#[from] BookError),
    /// It is in force, and a restart would forget it.
    #[error("the limit is raised, but that cannot be written down and a restart forgets it: {0}")]
    Unwritten(String),
}

/// Whether a call that is held back may pass without anybody's doing, or is to wait for somebody's.
fn waits(blocked: &Blocked) -> bool {
    blocked.may_pass() || (blocked.why == Why::Exceeded && blocked.action == OnExceeded::Queue)
}

/// What the book says, with its orders on their way.
enum Looked {
    Held(Hold),
    /// For grants that must be durable; what is said where they cannot be, and what resolves when they are.
    Waits(Blocked, oneshot::Receiver<()>),
    Blocked(Blocked),
}

impl Shared {
    /// Asks the book. What it orders is ordered before anybody else asks: the file has it in the same order.
    fn look(self: &Arc<Self>, ask: &Ask<'_>) -> Looked {
        let mut book = self.book.lock();
        // A disk that takes nothing must not gather orders.
        let waiting = self.link.as_ref().map_or(0, Link::waiters);
        let orders = self.ordered.load(Ordering::Relaxed) + waiting < MAX_ORDERS;
        match if orders { book.hold(ask) } else { book.hold_within_grants(ask) } {
            Verdict::Held(hold, ahead) => {
                if ask.bound.is_none() && !hold.is_free() {
                    self.counters.unbounded.fetch_add(1, Ordering::Relaxed);
                }
                if book.fault().is_some() && !hold.is_free() {
                    self.counters.faults_passed.fetch_add(1, Ordering::Relaxed);
                }
                match &self.link {
                    Some(link) if book.asks_fleet() => link.wake(),
                    None if !ahead.is_empty() => drop(self.order(ahead, Vec::new())),
                    _ => {}
                }
                Looked::Held(hold)
            }
            Verdict::Needs(grants, blocked) => {
                Looked::Waits(blocked, self.link.as_ref().map_or_else(|| self.order(grants, Vec::new()), Link::ask))
            }
            Verdict::Blocked(blocked) => Looked::Blocked(blocked),
        }
    }

    /// Orders a write; what is told resolves when it is durable, or errs.
    fn order(self: &Arc<Self>, grants: Vec<Grant>, records: Vec<farthing_ledger::budget::Record>) -> oneshot::Receiver<()> {
        let (tell, told) = oneshot::channel();
        let (shared, durable) = (self.clone(), grants.clone());
        self.ordered.fetch_add(1, Ordering::Relaxed);
        let ordered = Ordered(self.clone());
        let done = Box::new(move |result: Result<(), &str>| {
            drop(ordered);
            let mut book = shared.book.lock();
            book.set_fault(result.err().or(*shared.outside.lock()).map(ToOwned::to_owned));
            if result.is_ok() {
                book.granted(&durable);
                let _ = tell.send(());
            }
        });
        match &*self.store.lock() {
            Some(store) => store.order(Grants { grants, records, done }),
            // The fault is noted already; dropping `done` tells.
            None => drop(done),
        }
        told
    }

    /// Orders what was spent to be written down; whether there is a fault.
    fn note(self: &Arc<Self>, what: Written) -> bool {
        let mut book = self.book.lock();
        let long = self.store.lock().as_ref().is_some_and(Store::is_long);
        if long && what == Written::Change {
            let records = book.records(Written::Whole, self.clock.now());
            if let Some(store) = &*self.store.lock() {
                store.rewrite(records);
            }
        } else {
            let records = book.records(what, self.clock.now());
            if !records.is_empty() {
                drop(self.order(Vec::new(), records));
            }
        }
        book.fault().is_some()
    }

    /// Opens the file, takes over what it tells, and begins it anew with that.
    fn open_store(&self) -> Result<(), StoreError> {
        if self.dir.as_os_str().is_empty() {
            let source = std::io::Error::new(std::io::ErrorKind::NotFound, "budgets need a `state_dir` to be kept in");
            return Err(StoreError::Io { path: "state_dir".into(), source });
        }
        let opened = Store::open(&self.dir)?;
        if opened.torn > 0 {
            tracing::warn!(
                bytes = opened.torn,
                "the end of the file of budgets was torn, and is cut off: it had not been told to be durable"
            );
        }
        let (mut book, now) = (self.book.lock(), self.clock.now());
        book.restore(opened.records, now);
        book.begin_fleet();
        book.set_fault(None);
        opened.store.rewrite(book.records(Written::Whole, now));
        for view in book.views(now).iter().filter(|view| view.lost.nanos() > 0) {
            let (budget, unit) = (&*view.counter.budget, &*view.counter.unit);
            tracing::warn!(budget, unit, usd = %view.lost, "granted before a crash and not accounted for: counts as spent");
        }
        *self.store.lock() = Some(opened.store);
        Ok(())
    }

    fn settle(&self, hold: &Hold, charge: Charge) {
        if hold.is_free() {
            return;
        }
        if charge.spent + charge.uncertain > hold.amount() {
            self.counters.overruns.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(cost = %(charge.spent + charge.uncertain), set_aside = %hold.amount(), "a call cost more than could be set aside for it");
        }
        let reached = self.book.lock().settle(hold, charge, self.clock.now());
        for level in reached {
            let (budget, unit) = (&*level.counter.budget, &*level.counter.unit);
            let said = if level.used_up { "a budget is used up" } else { "a budget is nearly used up" };
            tracing::warn!(budget, unit, used = %level.used, limit = %level.limit, "{said}");
        }
        self.freed.notify_one();
    }
}

/// Counts an order until it is done or dropped.
struct Ordered(Arc<Shared>);

impl Drop for Ordered {
    fn drop(&mut self) {
        self.0.ordered.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Counts a request that waits for room.
struct Waiting(Arc<Shared>);

impl Waiting {
    fn new(shared: &Arc<Shared>) -> Option<Self> {
        let this = Self(shared.clone());
        (shared.waiting.fetch_add(1, Ordering::Relaxed) < MAX_WAITING).then_some(this)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

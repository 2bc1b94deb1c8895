//! Budgets that a fleet shares: what the [`Member`] has to tell goes to Redis from one task, one message at a time; calls that need more wait for its answers.

use std::sync::Arc;

use farthing_fleet::{Answer, Script};
use farthing_ledger::budget::fleet::{Asked, Member, Orders, Reply, Strike, script};
use farthing_types::Span;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio::time::timeout;

use super::Shared;
use crate::fleet::Fleet;
use crate::fleet::teller::{Teller, beats, run, understood};

/// Group of the keys, and the one with the counters.
const KEYS: &str = "budgets";
const COUNTERS: &str = "counters";
/// How long an answer may take.
const DEADLINE: Span = Span::from_millis(500);
/// How long a process that ends tries to give back what it holds.
const LEAVE: Span = Span::from_secs(2);
/// Messages of a process that ends.
const LAST_ROUNDS: usize = 2;
/// Beats between looks for raises that others were given.
const RAISES: u32 = 4;

/// Adds raises, and tells all of them.
const ALL_RAISES: &str = "for _, raise in ipairs(ARGV) do redis.call('HSETNX', KEYS[1], raise, 1) end return redis.call('HKEYS', KEYS[1])";

/// How budgets reach their fleet.
pub(super) struct Link {
    pub(super) teller: Teller,
    /// Somebody asks for more.
    wake: Notify,
    /// Calls that wait for the end of a round.
    waiting: Mutex<Vec<oneshot::Sender<()>>>,
}

impl Link {
    pub(super) fn new(fleet: Arc<Fleet>) -> Self {
        Self { teller: Teller::new(fleet), wake: Notify::new(), waiting: Mutex::default() }
    }

    /// An id for a member whose ledger knows none.
    pub(super) fn drawn(&self) -> String {
        format!("{:016x}", self.teller.fleet.identity().incarnation)
    }

    /// Calls that wait.
    pub(super) fn waiters(&self) -> usize {
        self.waiting.lock().len()
    }

    /// Has what counters ask for told, and tells when a round has ended after that. To be called with the book's lock.
    pub(super) fn ask(&self) -> oneshot::Receiver<()> {
        let (tell, told) = oneshot::channel();
        self.waiting.lock().push(tell);
        self.wake.notify_one();
        told
    }

    /// Has what counters ask for told, and nobody waits.
    pub(super) fn wake(&self) {
        self.wake.notify_one();
    }

    fn tell_waiters(&self) {
        for tell in std::mem::take(&mut *self.waiting.lock()) {
            let _gone = tell.send(());
        }
    }
}

/// Begins to tell the fleet.
pub(super) fn start(shared: &Arc<Shared>) {
    let Some(link) = &shared.link else { return };
    let (shared, stop, fleet) = (Arc::downgrade(shared), link.teller.stop.clone(), link.teller.fleet.clone());
    link.teller.tasks.spawn(async move {
        let mut beat = beats();
        let mut agent = Agent::new(fleet);
        loop {
            let Some(shared) = shared.upgrade() else { return };
            let Some(link) = &shared.link else { return };
            let due = tokio::select! {
                () = stop.cancelled() => break,
                _ = beat.tick() => true,
                () = link.wake.notified() => false,
            };
            agent.rounds(&shared, due).await;
        }
        if let Some(shared) = shared.upgrade() {
            let _in_time = timeout(LEAVE, agent.leave(&shared)).await;
        }
    });
}

/// Gives back what is held, and ends.
pub(super) async fn leave(shared: &Shared) {
    if let Some(link) = &shared.link {
        // A disk that does not answer must not hold up the end.
        link.teller.leave(LEAVE * 2).await;
    }
}

/// Why a member is not written off.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteOffError {
    /// There is no fleet.
    #[error("budgets are this instance's own: there is no [fleet]")]
    NoFleet,
    /// Nobody waits for it.
    #[error("nobody waits for `{0}`; waited for are: {1}")]
    NotMissing(String, String),
    /// Redis does not answer.
    #[error("the fleet's redis does not take it: {0}")]
    Redis(String),
}

/// Waits no longer for a member that has not told what it spent since Redis lost its data.
pub(super) async fn write_off(shared: &Shared, member: &str) -> Result<(), WriteOffError> {
    let link = shared.link.as_ref().ok_or(WriteOffError::NoFleet)?;
    let state = shared.book.lock().fleet_state().map(|(_, state, _)| state.clone()).unwrap_or_default();
    let found = state.absent().find(|view| *view.known.id == *member || *view.known.name == *member);
    let (Some(view), Some(generation)) = (found, state.generation.clone()) else {
        return Err(WriteOffError::NotMissing(member.to_owned(), state.missing().collect::<Vec<_>>().join(", ")));
    };
    let args = script::of_strike(&Strike { generation, id: view.known.id.clone() });
    let fleet = &link.teller.fleet;
    let answer = run(fleet, &Script::new(script::STRIKE), (&fleet.key(KEYS, COUNTERS), &args), DEADLINE).await;
    let answer = answer.map_err(|fault| WriteOffError::Redis(fault.to_string()))?;
    match answer.list().first().and_then(Answer::text) {
        Some("fine") => Ok(()),
        _ => Err(WriteOffError::Redis("it has lost its data again, or the member has told meanwhile".to_owned())),
    }
}

struct Agent {
    fleet: Arc<Fleet>,
    member: Member,
    report: Script,
    exchange: Script,
    raises: Script,
    key: Vec<u8>,
    raises_key: Vec<u8>,
    /// The start that is written down.
    begun: i64,
    sent: u64,
    beats: u32,
}

impl Agent {
    fn new(fleet: Arc<Fleet>) -> Self {
        Self {
            member: Member::new(fleet.identity().name.clone(), format!("{:x}", fleet.identity().incarnation).into()),
            report: Script::new(script::REPORT),
            exchange: Script::new(script::EXCHANGE),
            raises: Script::new(ALL_RAISES),
            key: fleet.key(KEYS, COUNTERS),
            raises_key: fleet.key(KEYS, "raises"),
            fleet,
            begun: 0,
            sent: 0,
            beats: 0,
        }
    }

    /// Tells as long as there is something to tell at once.
    async fn rounds(&mut self, shared: &Arc<Shared>, due: bool) {
        let mut beat = due;
        while let Some(again) = self.round(shared, beat).await {
            beat = again;
        }
        if due {
            self.beats = self.beats.wrapping_add(1);
            if self.beats.is_multiple_of(RAISES) {
                self.share_raises(shared).await;
            }
            // Others may have given back.
            shared.freed.notify_waiters();
        }
    }

    /// One message and what follows; `Some` where there is more to tell at once, and whether that is of all counters.
    async fn round(&mut self, shared: &Arc<Shared>, beat: bool) -> Option<bool> {
        let link = shared.link.as_ref()?;
        if !self.begins(shared).await {
            return None;
        }
        self.sent += 1;
        let candidate = format!("{:x}.{}", self.fleet.identity().incarnation, self.sent);
        let asked = self.member.next(&mut shared.book.lock(), beat, (&candidate, shared.clock.now()));
        let asked = asked?;
        let answer = self.send(&asked).await;
        let answered = answer.is_ok();
        let again = match answer {
            Ok(reply) => {
                let orders = self.member.answered(&mut shared.book.lock(), &asked, (&reply, shared.clock.now()));
                self.write(shared, orders).await
            }
            Err(why) => {
                self.member.failed(&mut shared.book.lock(), (&why, shared.clock.now()));
                None
            }
        };
        link.teller.count(answered);
        link.tell_waiters();
        again
    }

    /// Makes durable what an answer has brought; what is to be told at once, as [`Self::round`] has it.
    async fn write(&mut self, shared: &Arc<Shared>, orders: Orders) -> Option<bool> {
        let Orders { grants, records, again } = orders;
        if !grants.is_empty() || !records.is_empty() {
            // However long the disk takes: what it may still take counts as held.
            match shared.order(grants.clone(), records).await {
                Ok(()) => self.member.noted(),
                Err(_) => {
                    shared.book.lock().ungranted(&grants);
                    return None;
                }
            }
        }
        (again || shared.book.lock().asks_fleet()).then_some(again)
    }

    /// Whether the ledger has been read, and this start of the member is written down in it.
    async fn begins(&mut self, shared: &Arc<Shared>) -> bool {
        let (starts, records) = {
            let book = shared.book.lock();
            match book.fleet_starts() {
                0 => return false,
                starts if starts == self.begun => return true,
                starts => (starts, book.fleet_records()),
            }
        };
        if shared.order(Vec::new(), records).await.is_ok() {
            self.begun = starts;
        }
        starts == self.begun
    }

    async fn send(&self, asked: &Asked) -> Result<Reply, String> {
        let script = if matches!(asked, Asked::Report(_)) { &self.report } else { &self.exchange };
        let answer = run(&self.fleet, script, (&self.key, &script::arguments(asked)), DEADLINE).await;
        understood(&answer.map_err(|fault| format!("the fleet's redis does not answer: {fault}"))?, script::reply)
    }

    /// Tells what raises are known here, and takes over those that others know.
    async fn share_raises(&self, shared: &Arc<Shared>) {
        let now = shared.clock.now();
        let own = shared.book.lock().fleet_raises(now);
        let Ok(answer) = run(&self.fleet, &self.raises, (&self.raises_key, &own), DEADLINE).await else { return };
        let all = answer.list().iter().filter_map(Answer::text);
        let records = shared.book.lock().adopt_raises(all, now);
        if !records.is_empty() {
            tracing::info!(raises = records.len(), "budgets are raised by another instance of the fleet");
            // One that cannot be written down is in force, and told again after a restart.
            drop(shared.order(Vec::new(), records));
            shared.freed.notify_waiters();
        }
    }

    /// The process ends: gives back what is not spent.
    async fn leave(&mut self, shared: &Arc<Shared>) {
        self.member.close();
        // The first may still tell what came before.
        for _ in 0..LAST_ROUNDS {
            self.round(shared, true).await;
        }
    }
}

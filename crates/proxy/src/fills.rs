//! One call for a key among instances that share an L2: who makes it holds a lease of the key, the others wait for what it brings into L2.
//!
//! Asked with the ticket of the local flight, so that of each instance one request waits and the others follow it. Whoever waits never waits for
//! longer than leaves time for a call of its own; where Redis is away or late, nobody waits at all.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use farthing_cache::l2::{AskedFor, Tier};
use farthing_cache::{Cached, Ticket};
use farthing_fleet::lease::{Ending, Token};
use farthing_policy::fill::Wait;
use farthing_types::{Span, UncachedReason, reasons};
use http::Method;
use tokio::time::Instant;

use crate::l2;
use crate::request::{CacheControl, Planned};
use crate::route::RouteState;
use crate::state::State;
use crate::ticketed::{Waiting, Wanted};

/// Slack for a lease that ends while its end travels.
const END: Span = Span::from_millis(1);

reasons! {
    /// What became of a call that instances share.
    FillOutcome {
        /// This instance makes it.
        Led = "led",
        /// Another one has made it; L2 had its answer.
        Found = "found",
        /// Another one was to make it and has gone: this one makes it.
        TookOver = "took-over",
        /// Another one makes it still; there was no more time to wait.
        Late = "late",
        /// Another one has made it, and its answer is not kept: this one makes its own.
        Unkept = "unkept",
        /// It failed on another one: this one makes its own.
        Failed = "failed",
        /// Another one makes it, and nobody waits for it here.
        UnderWay = "under-way",
        /// The route's answers are hardly ever kept: nobody was asked.
        Unshared = "unshared",
        /// Redis is away, or did not answer in time, or what another one brings would not be used because nothing is heard of the fleet: this one
        /// makes its own.
        Away = "away",
    }
}

/// How often each outcome came.
#[derive(Debug, Default)]
pub struct FillCounts([AtomicU64; FillOutcome::ALL.len()]);

impl FillCounts {
    fn note(&self, outcome: FillOutcome) {
        if let Some(counter) = self.0.get(outcome as usize) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Calls that ended so.
    pub fn get(&self, outcome: FillOutcome) -> u64 {
        self.0.get(outcome as usize).map_or(0, |counter| counter.load(Ordering::Relaxed))
    }
}

/// The tier whose leases decide who makes the call that a request wants; `None` where every instance makes its own.
fn shared<'a>(state: &'a State, planned: &Planned, wanted: &Wanted) -> Option<&'a Tier> {
    let tier = state.cache.l2().filter(|tier| tier.leases_fills())?;
    let route = &planned.account.route;
    let asks = route.route.fill_lease
        && planned.cache.is_ok()
        && planned.dedupe.is_ok()
        && planned.through.is_none()
        && !streams(planned)
        && planned.account.method != Method::HEAD
        && !matches!(planned.control, CacheControl::Refresh | CacheControl::ReadOnly)
        && !route.switches.leaves_out_l2()
        && matches!(wanted.reason, UncachedReason::Cold | UncachedReason::Expired | UncachedReason::Invalidated);
    if !asks {
        return None;
    }
    if route.hearing.as_ref().is_some_and(|hearing| hearing.takes_nothing(&route.route.name, planned.account.at)) {
        state.fills.note(FillOutcome::Away);
        return None;
    }
    if !route.kept.lock().is_shared() {
        state.fills.note(FillOutcome::Unshared);
        return None;
    }
    Some(tier)
}

/// Whether its client wants an answer as it comes: only whole ones come from another instance.
fn streams(planned: &Planned) -> bool {
    planned.outbound.facts().is_some_and(|facts| facts.stream)
}

/// Whether other instances or L2 are to be asked before a call is made.
pub fn asks(state: &State, planned: &Planned, wanted: &Wanted) -> bool {
    state.cache.l2().is_some_and(Tier::leases_fills) && planned.account.route.route.fill_lease || l2::may_ask(state, planned, wanted)
}

/// Notes whether the answer of a call came to be kept, where that tells something about the route.
pub fn note(route: &RouteState, stored: Option<Result<(), UncachedReason>>) {
    use UncachedReason::{Incomplete, Invalidated};
    match stored {
        None | Some(Err(Invalidated | Incomplete)) => {}
        Some(stored) => route.kept.lock().note(stored.is_ok()),
    }
}

/// What a request knows that has asked already.
#[derive(Debug)]
pub struct Progress {
    /// L2 was read.
    read: bool,
    /// How the lease with this token has ended.
    past: Token,
    /// Until when the request may take.
    until: Instant,
}

impl Progress {
    /// Of a request that begins to look for an answer.
    pub fn new(planned: &Planned) -> Self {
        Self { read: false, past: Token::default(), until: Instant::now() + planned.deadline }
    }
}

/// Reads L2 and asks for the lease of the call that is wanted. Waits for another instance's call for as long as that leaves time for one of our own.
/// What of that time has gone is the request's `deadline` less.
///
/// # Errors
/// The ticket, where a call is to be made; it carries the lease where there is one.
pub async fn claim(
    state: &State,
    planned: &mut Planned,
    wanted: &Wanted,
    (ticket, progress): (Ticket, &mut Progress),
) -> Result<Arc<Cached>, Ticket> {
    let tier = shared(state, planned, wanted);
    let reads = tier.is_some() || l2::may_ask(state, planned, wanted);
    if !reads {
        return Err(ticket);
    }
    let (since, waited, began) = (Instant::now(), planned.account.elsewhere, state.real_now());
    let claimed = claimed(state, planned, (wanted, tier), (ticket, progress)).await;
    let elsewhere = planned.account.elsewhere.saturating_sub(waited);
    planned.account.l2 += since.elapsed().saturating_sub(elsewhere);
    planned.account.looked = Some((planned.account.looked.map_or(began, |(first, _)| first), state.real_now()));
    claimed
}

async fn claimed(
    state: &State,
    planned: &mut Planned,
    (wanted, tier): (&Wanted, Option<&Tier>),
    (mut ticket, progress): (Ticket, &mut Progress),
) -> Result<Arc<Cached>, Ticket> {
    if !std::mem::replace(&mut progress.read, true) {
        match read(state, wanted, ticket).await {
            Ok(entry) => return Ok(entry),
            Err(back) => ticket = back,
        }
    }
    let Some(tier) = tier else { return Err(ticket) };
    let mut waiting = Waits { state, wanted, progress, begun: None, looks: 0 };
    let (claimed, outcome) = waiting.until_told(planned, (tier, ticket)).await;
    state.fills.note(outcome);
    if let Some((begun, _)) = waiting.begun {
        let waited = begun.elapsed();
        planned.account.elsewhere += waited;
        planned.deadline = planned.deadline.saturating_sub(waited);
    }
    claimed
}

/// The answer in L2 that is newer than what is known, into memory; the ticket where there is none.
async fn read(state: &State, wanted: &Wanted, ticket: Ticket) -> Result<Arc<Cached>, Ticket> {
    ticket.newer_from_l2(wanted.previous.as_deref(), state.clock.now()).await
}

/// A wait for another instance's call.
struct Waits<'a> {
    state: &'a State,
    wanted: &'a Wanted,
    progress: &'a mut Progress,
    /// Since when, and what it depends on; `None` before it begins.
    begun: Option<(Instant, Wait)>,
    looks: u32,
}

impl Waits<'_> {
    async fn until_told(
        &mut self,
        planned: &mut Planned,
        (tier, mut ticket): (&Tier, Ticket),
    ) -> (Result<Arc<Cached>, Ticket>, FillOutcome) {
        let (mut counted, mut known) = (None, 0);
        loop {
            let left = match tier.ask_lease(ticket.key(), self.progress.past).await {
                AskedFor::Granted(lease) if self.begun.is_none() => return (Err(ticket.with_lease(lease)), FillOutcome::Led),
                AskedFor::Granted(lease) => {
                    // Whoever had it may have brought the answer and gone before it could say so.
                    return match self.brought(ticket).await {
                        Ok(entry) => (Ok(entry), FillOutcome::Found),
                        Err(ticket) => (Err(ticket.with_lease(lease)), FillOutcome::TookOver),
                    };
                }
                AskedFor::Ended(token, Ending::Done) => {
                    self.progress.past = token;
                    match self.brought(ticket).await {
                        Ok(entry) => return (Ok(entry), FillOutcome::Found),
                        Err(back) => ticket = back,
                    }
                    // What was brought before this was wanted is no reason to wait; what cannot be read time and again is.
                    known += 1;
                    if known == 1 {
                        continue;
                    }
                    Span::ZERO
                }
                AskedFor::Ended(_, Ending::Unkept) => return (Err(ticket), FillOutcome::Unkept),
                AskedFor::Ended(_, Ending::Failed | Ending::Released) => return (Err(ticket), FillOutcome::Failed),
                AskedFor::Away => return (Err(ticket), FillOutcome::Away),
                AskedFor::Taken(left) => left,
            };
            counted.get_or_insert_with(|| Waiting::new(self.state));
            ticket.waits_elsewhere();
            let Some(pause) = self.pause(planned, left) else { return (Err(ticket), FillOutcome::Late) };
            tokio::time::sleep(pause).await;
        }
    }

    /// What another instance has brought. After a wait for it a look that was late is worth another one.
    async fn brought(&self, ticket: Ticket) -> Result<Arc<Cached>, Ticket> {
        match read(self.state, self.wanted, ticket).await {
            Err(ticket) if self.begun.is_some() => read(self.state, self.wanted, ticket).await,
            found => found,
        }
    }

    /// How long to wait before the next look; `None` when there is no more time.
    fn pause(&mut self, planned: &Planned, left: Span) -> Option<Span> {
        let (begun, wait) = self.begun.get_or_insert_with(|| (Instant::now(), wait_of(self.state, planned, self.progress.until)));
        let room = wait.patience().checked_sub(begun.elapsed()).filter(|room| !room.is_zero())?;
        let pause = wait.pause(self.looks).min(room).min(left + END);
        self.looks += 1;
        Some(pause)
    }
}

fn wait_of(state: &State, planned: &Planned, until: Instant) -> Wait {
    let account = &planned.account;
    let gone = state.real_now().since(account.started);
    Wait {
        deadline: planned.deadline.min(until.saturating_duration_since(Instant::now())),
        sla: account.sla.map(|sla| sla.saturating_sub(gone)),
        call: account.route.planning.latency().map(|latency| latency.high),
    }
}

/// What becomes of a call that nobody waits for.
#[derive(Debug)]
pub enum Unhurried {
    /// It is made.
    Call(Ticket),
    /// L2 has a newer answer, which is in memory now.
    Entry(Arc<Cached>),
    /// Another instance makes it.
    UnderWay,
}

/// As [`claim`], for a call that nobody waits for.
pub fn claim_at_once<'a>(
    state: &'a State,
    planned: &Planned,
    wanted: &'a Wanted,
    ticket: Ticket,
) -> impl Future<Output = Unhurried> + Send + use<'a> {
    let tier = shared(state, planned, wanted);
    let reads = tier.is_some() || l2::may_ask(state, planned, wanted);
    async move { asked_at_once((state, wanted), (tier, reads), ticket).await }
}

async fn asked_at_once((state, wanted): (&State, &Wanted), (tier, reads): (Option<&Tier>, bool), mut ticket: Ticket) -> Unhurried {
    if reads {
        match read(state, wanted, ticket).await {
            Ok(entry) => return Unhurried::Entry(entry),
            Err(back) => ticket = back,
        }
    }
    let Some(tier) = tier else { return Unhurried::Call(ticket) };
    let mut asked = tier.ask_lease(ticket.key(), Token::default()).await;
    if let AskedFor::Ended(token, Ending::Done) = asked {
        match read(state, wanted, ticket).await {
            Ok(entry) => {
                state.fills.note(FillOutcome::Found);
                return Unhurried::Entry(entry);
            }
            Err(back) => ticket = back,
        }
        // What was brought a moment ago is what is to be renewed.
        asked = tier.ask_lease(ticket.key(), token).await;
    }
    let (claimed, outcome) = match asked {
        AskedFor::Granted(lease) => (Unhurried::Call(ticket.with_lease(lease)), FillOutcome::Led),
        AskedFor::Taken(_) | AskedFor::Ended(_, Ending::Done) => (Unhurried::UnderWay, FillOutcome::UnderWay),
        AskedFor::Ended(_, Ending::Unkept) => (Unhurried::Call(ticket), FillOutcome::Unkept),
        AskedFor::Ended(_, Ending::Failed | Ending::Released) => (Unhurried::Call(ticket), FillOutcome::Failed),
        AskedFor::Away => (Unhurried::Call(ticket), FillOutcome::Away),
    };
    state.fills.note(outcome);
    claimed
}

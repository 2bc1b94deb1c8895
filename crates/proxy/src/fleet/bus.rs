//! The two loops on the bus: one hears what the others say and does it here, one tells them what was done here.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use farthing_cache::Purge;
use farthing_fleet::{BusAsked, BusFlag, BusHeard, BusNews, BusPosition, BusSaid, BusTold, BusTurn};
use farthing_types::{Span, Time};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::Fleet;
use super::message::{self, Flag, Said};
use super::stamps::{bypass_of, subjects};
use crate::state::State;

/// How often it is asked what is new: several times within the second after which silence counts.
const TURN: Duration = Duration::from_millis(100);
/// Pauses between tries to tell something, doubled up to the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(500));
/// How long the end of the process waits for what is still to be told.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Starts both loops, where there is a fleet; they end with [`Fleet::close`].
pub fn start(state: &Arc<State>) {
    let Some(fleet) = state.fleet.clone() else { return };
    fleet.stamps.lock().begin(&state.bypass.orders(state.clock.now()), state.freeze.order().as_ref());
    let stop = fleet.closing.clone();
    state.tasks.spawn(listen(state.clone(), fleet.clone(), stop.clone()));
    state.tasks.spawn(tell(fleet, stop));
}

async fn listen(state: Arc<State>, fleet: Arc<Fleet>, stop: CancellationToken) {
    let mut turn = tokio::time::interval(TURN);
    turn.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = turn.tick() => {}
        }
        while hear(&state, &fleet).await && !stop.is_cancelled() {}
        fleet.watch(state.clock.now());
    }
}

/// Hears what is new and does it; whether there is more.
async fn hear(state: &Arc<State>, fleet: &Arc<Fleet>) -> bool {
    // Whatever was told before this moment is in the answer.
    let asked = state.clock.now();
    let question = fleet.listener.lock().asks();
    let mut news = match fleet.bus.hear(&question, &fleet.nonce(), (&fleet.member, &fleet.says)).await {
        Ok(news) => news,
        Err(fault) => {
            fleet.trouble(fault);
            return false;
        }
    };
    let more = news.more;
    fleet.see(std::mem::take(&mut news.members), state.clock.now());
    if !news.follows || !news.messages.is_empty() {
        let (state, fleet) = (state.clone(), fleet.clone());
        // Some purges go through the whole memory.
        let counters = state.clone();
        if tokio::task::spawn_blocking(move || take(&state, &fleet, &question, &news)).await.is_err() {
            counters.counters.panics.fetch_add(1, Ordering::Relaxed);
            tracing::error!("carrying out what the fleet said broke off: it is tried again, and answers with tags are doubted meanwhile");
            return false;
        }
    }
    if !more {
        fleet.hearing.heard(asked);
    }
    more
}

/// Does what was heard, in order.
fn take(state: &State, fleet: &Fleet, asked: &BusAsked, news: &BusNews) {
    let now = state.clock.now();
    let heard_to = fleet.hearing.position();
    let (turns, last) = fleet.listener.lock().turns(news, (asked, heard_to), |nonce| fleet.is_own(nonce));
    let mut heard = Heard { last, ..Heard::default() };
    for turn in turns {
        match turn {
            BusTurn::Lost { before, news } => lost(state, fleet, (before, news), now),
            BusTurn::Raise => raise(state, fleet, news),
            BusTurn::Said { number, body, heard: told } => match message::decode(body) {
                Ok(things) => things.into_iter().for_each(|said| obey(state, fleet, (said, number, told), &mut heard)),
                Err(message::Foreign) => {
                    tracing::warn!("another release of Farthing has said something that this one does not understand: memory is emptied");
                    lost(state, fleet, (number, told != BusHeard::Old), now);
                }
            },
        }
    }
    heard.carry_out(state, fleet, now);
}

/// What a page of messages comes to: memory is gone through once.
#[derive(Default)]
struct Heard {
    purges: Vec<(Purge, bool)>,
    /// Those that were told before memory was emptied last. What came into it since is judged by them.
    old: Vec<(Purge, bool)>,
    last: Option<BusPosition>,
}

impl Heard {
    fn purge(&mut self, fleet: &Fleet, (purge, soft): (Purge, bool), (number, told): (u64, BusHeard)) {
        fleet.hearing.note(number, &purge, soft);
        match told {
            BusHeard::Own => {}
            BusHeard::News => {
                fleet.counts.heard();
                self.purges.push((purge, soft));
            }
            BusHeard::Old => self.old.push((purge, soft)),
        }
    }

    fn carry_out(self, state: &State, fleet: &Fleet, now: Time) {
        if !self.purges.is_empty() {
            state.cache.purge_heard(&self.purges, now);
        }
        if !self.old.is_empty() {
            state.cache.purge_memory(&self.old, now);
        }
        if let Some(last) = &self.last {
            fleet.arrive(last);
        }
    }
}

/// Nobody knows what was told before a number and not heard: nothing that is kept is trusted any more. `news`: some of it had been heard.
fn lost(state: &State, fleet: &Fleet, (before, news): (u64, bool), now: Time) {
    // First what is below: it is not to come into memory again.
    fleet.hearing.begin_anew(before);
    let purged = state.cache.purge_memory(&[(Purge::All, false)], now);
    if news {
        fleet.counts.gap();
        tracing::warn!(entries = purged.entries, "messages of the fleet may have been missed: nothing in memory is trusted any more");
    }
}

/// Does one thing; purges are remembered at once, and carried out together.
fn obey(state: &State, fleet: &Fleet, (said, number, told): (Said, u64, BusHeard), heard: &mut Heard) {
    match said {
        Said::Purge(purge, soft) => heard.purge(fleet, (purge, soft), (number, told)),
        Said::Read(read) => {
            // What this instance has read itself it has done, and what it has asked for since is younger.
            let obeyed = state.events.iter().any(|source| source.config.name == read.source && source.has_obeyed(read.event));
            let told = if obeyed && told == BusHeard::News { BusHeard::Own } else { told };
            read.purges.into_iter().for_each(|purge| heard.purge(fleet, purge, (number, told)));
        }
        // A server is not asked here: purges wait for nothing.
        Said::Models if told == BusHeard::News && state.live().config.models.store.is_some() => state.models_moved.notify_one(),
        Said::Models if told == BusHeard::News => state.poll_models(),
        Said::Flag(flag, at) if told == BusHeard::News => follow(state, fleet, (*flag, at)),
        Said::Config if told == BusHeard::News => state.shared_config.get().into_iter().for_each(|shared| shared.wake()),
        Said::Models | Said::Flag(..) | Said::Config => {}
    }
}

/// Takes over the flags that are up, where what was told of them may have been missed.
fn raise(state: &State, fleet: &Fleet, news: &BusNews) {
    let mut flags: Vec<&BusFlag> = news.flags.iter().collect();
    // What holds for all routes before what holds for one.
    flags.sort_by(|a, b| a.name.cmp(&b.name));
    for flag in flags {
        match serde_json::from_slice::<Flag>(&flag.value) {
            Ok(order) => {
                let at = flag.at.max(order.given());
                follow(state, fleet, (order, at));
            }
            Err(error) => tracing::warn!(name = flag.name, %error, "a flag of the fleet cannot be read"),
        }
    }
}

/// Carries out an operator's order that was given to another instance, unless a later one is known here.
fn follow(state: &State, fleet: &Fleet, (flag, at): (Flag, Time)) {
    let mut stamps = fleet.stamps.lock();
    let subjects = stamps.admit(subjects(&flag, &fleet.routes.load()), at);
    if subjects.is_empty() {
        tracing::info!(?flag, "an order of the fleet is known here, or is older than the one that is");
        return;
    }
    let fault = match flag {
        Flag::Freeze { order, reason, .. } => {
            let (on, changes) = (order.is_some(), order.is_some() != state.freeze.is_on());
            if changes { state.freeze(on, &reason).err().map(|fault| fault.to_string()) } else { None }
        }
        Flag::BypassOn(order) if !order.holds(state.clock.now()) => None,
        Flag::BypassOn(order) => state.bypass_on(order).err().map(|fault| fault.to_string()),
        Flag::BypassOff { reason, .. } => {
            let ended = state.bypass_end(&reason, |of| subjects.contains(&bypass_of(of)));
            ended.err().map(|fault| fault.to_string())
        }
    };
    drop(stamps);
    if let Some(fault) = fault {
        tracing::warn!(fault, "an order to the fleet was not carried out here as it was given");
    }
}

/// Tells what is to be told, until the end and a little longer.
async fn tell(fleet: Arc<Fleet>, stop: CancellationToken) {
    let mut pause = PAUSES.0;
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            () = fleet.outbox.filled() => {}
        }
        while fleet.outbox.waiting().0 > 0 && !stop.is_cancelled() {
            if tell_next(&fleet).await {
                pause = PAUSES.0;
                continue;
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(PAUSES.1),
            }
        }
    }
    let until = Instant::now() + LAST_WORDS;
    while fleet.outbox.waiting().0 > 0 && Instant::now() < until {
        if !tell_next(&fleet).await {
            tokio::time::sleep(PAUSES.0).await;
        }
    }
    let left = fleet.outbox.waiting().0;
    if left > 0 {
        tracing::warn!(left, "the others were not told of all that was purged here: the process ends");
    }
}

/// Tells the next message; whether that went well.
async fn tell_next(fleet: &Fleet) -> bool {
    let Some(parcel) = fleet.outbox.next() else { return true };
    let (nonce, known) = (fleet.nonce(), fleet.hearing.position());
    let (flags, of) = (fleet.flags(&parcel.things), message::place(&parcel.things));
    let said = BusSaid { nonce: nonce.clone(), body: parcel.bytes.clone(), flags, of };
    match fleet.bus.tell(&said, &fleet.nonce(), known).await {
        Ok(BusTold { number, after, told }) => {
            fleet.counts.told(if told { parcel.things.len() } else { 0 });
            let at = BusPosition { number, nonce: Bytes::from(nonce) };
            fleet.told(&parcel, (at, &after), told);
            fleet.outbox.told(&parcel);
            true
        }
        Err(fault) => {
            fleet.trouble(fault);
            fleet.outbox.failed();
            false
        }
    }
}

/// How long a caller waits until the others have been told of what it did.
pub const TOLD_WITHIN: Span = Span::from_millis(500);

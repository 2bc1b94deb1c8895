//! The two loops on the bus: one hears what the others say and does it here, one tells them what was done here.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use farthing_cache::Purge;
use farthing_fleet::{BusMessage, BusNews, BusPosition, BusTold};
use farthing_types::{Span, Time};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::Fleet;
use super::message::{self, Flag, Said};
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
    let position = fleet.position.lock().clone();
    let news = match fleet.bus.hear(&position, &fleet.nonce(), (&fleet.member, &fleet.says)).await {
        Ok(news) => news,
        Err(fault) => {
            fleet.trouble(fault);
            return false;
        }
    };
    let more = news.more;
    if !news.follows || !news.messages.is_empty() {
        let (state, fleet) = (state.clone(), fleet.clone());
        // Each purge goes through the whole memory.
        let counters = state.clone();
        if tokio::task::spawn_blocking(move || take(&state, &fleet, &position, &news)).await.is_err() {
            counters.counters.panics.fetch_add(1, Ordering::Relaxed);
            tracing::error!("carrying out what the fleet said broke off: it is tried again, and answers with tags are doubted meanwhile");
            return false;
        }
    } else {
        fleet.see(news.members, asked);
    }
    if !more {
        fleet.hearing.heard(asked);
    }
    more
}

/// Does what was heard, in order.
fn take(state: &State, fleet: &Fleet, position: &BusPosition, news: &BusNews) {
    let now = state.clock.now();
    fleet.see(news.members.clone(), now);
    if !news.follows {
        // These come too late to be news; what came into memory since it was emptied is still to be judged by them.
        fleet.old_until.store(news.newest, Ordering::Relaxed);
        let first = news.messages.first().map_or(news.newest, |first| first.at.number);
        lost(state, fleet, (first.saturating_sub(1), position.number > 0), now);
        raise(state, news);
    }
    let mut heard = Heard::default();
    for message in &news.messages {
        // Told by this instance, and heard already when it was told.
        if !(news.follows && message.at.number <= fleet.hearing.position()) {
            one(state, fleet, (message, &mut heard), now);
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

fn one(state: &State, fleet: &Fleet, (message, heard): (&BusMessage, &mut Heard), now: Time) {
    let number = message.at.number;
    let news = number > fleet.old_until.load(Ordering::Relaxed);
    match &message.body {
        // What was told before may never have been heard by anybody else.
        None => lost(state, fleet, (number, news), now),
        Some(body) => match message::decode(body) {
            Ok(things) => {
                let told = match (news, fleet.is_own(&message.at.nonce)) {
                    (false, _) => Told::Old,
                    (true, true) => Told::Own,
                    (true, false) => Told::News,
                };
                things.into_iter().for_each(|said| obey(state, fleet, (said, number, told), heard));
            }
            Err(message::Foreign) => {
                tracing::warn!("another release of Farthing has said something that this one does not understand: memory is emptied");
                lost(state, fleet, (number, news), now);
            }
        },
    }
    heard.last = Some(message.at.clone());
}

/// What a message is to this instance.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    /// It has told it, and done it before.
    Own,
    /// Somebody has just told it.
    News,
    /// It was told before memory was emptied last. Of orders, the flags tell what is in force.
    Old,
}

/// Does one thing; purges are remembered at once, and carried out together.
fn obey(state: &State, fleet: &Fleet, (said, number, told): (Said, u64, Told), heard: &mut Heard) {
    match said {
        Said::Purge(purge, soft) => {
            fleet.hearing.note(number, &purge, soft);
            match told {
                Told::Own => {}
                Told::News => {
                    fleet.counts.heard();
                    heard.purges.push((purge, soft));
                }
                Told::Old => heard.old.push((purge, soft)),
            }
        }
        // A server is not asked here: purges wait for nothing.
        Said::Models if told == Told::News && state.config.models.store.is_some() => state.models_moved.notify_one(),
        Said::Models if told == Told::News => state.poll_models(),
        Said::Flag(flag) if told == Told::News => follow(state, *flag),
        Said::Models | Said::Flag(_) => {}
    }
}

/// Takes over the flags that are up, where what was told of them may have been missed.
fn raise(state: &State, news: &BusNews) {
    let mut flags: Vec<&(String, Bytes)> = news.flags.iter().collect();
    // What holds for all routes before what holds for one.
    flags.sort();
    for (name, text) in flags {
        match serde_json::from_slice(text) {
            // What this instance was ordered since, and could not tell, is news to the others.
            Ok(flag) if is_outdated(state, &flag) => tracing::info!(name, "a flag of the fleet is older than the order here"),
            Ok(flag) => follow(state, flag),
            Err(error) => tracing::warn!(name, %error, "a flag of the fleet cannot be read"),
        }
    }
}

/// Whether an order that ends something is older than what it would end.
fn is_outdated(state: &State, flag: &Flag) -> bool {
    match flag {
        Flag::Freeze { order: None, at, .. } => state.freeze.order().is_some_and(|order| order.since > *at),
        Flag::BypassOff { route, at, .. } => {
            let orders = state.bypass.orders(state.clock.now());
            orders.iter().any(|order| (route.is_none() || order.route == *route) && order.since > *at)
        }
        Flag::Freeze { .. } | Flag::BypassOn(_) => false,
    }
}

/// Carries out an operator's order that was given to another instance.
fn follow(state: &State, flag: Flag) {
    let fault = match flag {
        Flag::Freeze { order, reason, .. } => {
            let (on, changes) = (order.is_some(), order.is_some() != state.freeze.is_on());
            if changes { state.freeze(on, &reason).err().map(|fault| fault.to_string()) } else { None }
        }
        Flag::BypassOn(order) if !order.holds(state.clock.now()) => None,
        Flag::BypassOn(order) => state.bypass_on(order).err().map(|fault| fault.to_string()),
        Flag::BypassOff { route, reason, .. } => state.bypass_off(route.as_deref(), &reason).err().map(|fault| fault.to_string()),
    };
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
    let flags = fleet.flags(&parcel.things);
    match fleet.bus.tell((&nonce, &parcel.bytes), &flags, &fleet.nonce(), known).await {
        Ok(BusTold { number, after }) => {
            fleet.counts.told(parcel.things.len());
            fleet.told(&parcel, (BusPosition { number, nonce: Bytes::from(nonce) }, &after));
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

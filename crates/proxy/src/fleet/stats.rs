//! How the fleet is seen from here.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use farthing_fleet::{BusMember, Fault, HandleStats};
use farthing_types::{Span, Time};
use parking_lot::Mutex;

use super::{Fleet, Identity};

/// A member that was not heard of for so long is gone.
const GONE: Span = Span::from_secs(5);
const MOMENT: Span = Span::from_secs(1);

#[derive(Debug, Default)]
pub(super) struct Counts {
    told: AtomicU64,
    heard: AtomicU64,
    gaps: AtomicU64,
    silences: AtomicU64,
    silent: AtomicBool,
    /// When something was heard first, ns; 0 before.
    first: AtomicI64,
    trouble: Mutex<Option<Fault>>,
}

impl Counts {
    pub fn told(&self, things: usize) {
        self.told.fetch_add(things as u64, Ordering::Relaxed);
    }
    pub fn heard(&self) {
        self.heard.fetch_add(1, Ordering::Relaxed);
    }
    fn first_heard(&self) -> Time {
        Time::from_nanos(self.first.load(Ordering::Relaxed))
    }
    pub fn gap(&self) {
        self.gaps.fetch_add(1, Ordering::Relaxed);
    }
}

/// Figures of the fleet.
#[derive(Clone, Debug)]
pub struct FleetStats {
    /// The fleet's name.
    pub name: Arc<str>,
    /// This instance.
    pub identity: Identity,
    /// Whether its Redis answers, as far as is known.
    pub connected: bool,
    /// Of the handle.
    pub redis: HandleStats,
    /// The number up to which what was said has been done here.
    pub position: u64,
    /// Whether nothing was heard for a second.
    pub silent: bool,
    /// Times that it fell silent.
    pub silences: u64,
    /// Times that something may have been missed, so that memory was emptied.
    pub gaps: u64,
    /// Purges and orders that the others were told of.
    pub told: u64,
    /// Purges that were heard of.
    pub heard: u64,
    /// Purges and orders that are still to be told.
    pub waiting: usize,
    /// Times that purges which could not be told became one of everything, for want of room.
    pub widened: u64,
    /// Names of those who were heard of lately, this instance included.
    pub members: Vec<String>,
}

impl Fleet {
    /// Figures at `now`.
    pub fn stats(&self, now: Time) -> FleetStats {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (waiting, widened) = self.outbox.waiting();
        FleetStats {
            name: self.config.name.clone(),
            identity: self.identity.clone(),
            connected: !self.handle.is_away(),
            redis: self.handle.stats(),
            position: self.hearing.position(),
            silent: self.hearing.is_silent(now),
            silences: load(&self.counts.silences),
            gaps: load(&self.counts.gaps),
            told: load(&self.counts.told),
            heard: load(&self.counts.heard),
            waiting,
            widened,
            members: self.near(),
        }
    }

    /// What is wrong, for the list of parts.
    pub fn problem(&self, now: Time) -> Option<String> {
        if self.hearing.heard_at().is_none() && self.opened.elapsed() < MOMENT {
            // It has only just begun to listen.
            return None;
        }
        if self.hearing.is_silent(now) {
            let why = self.counts.trouble.lock().map_or_else(|| "not connected yet".to_owned(), |fault| fault.to_string());
            let used = if self.config.bypass_on_partition { "answers with tags are used for a second only" } else { "purges come late" };
            return Some(format!("redis does not answer ({why}): this instance is on its own until it does; {used}"));
        }
        if self.handle.is_away() {
            return Some("some nodes of redis do not answer".to_owned());
        }
        self.stranger(now)
    }

    /// Somebody who cannot belong to this fleet as it is configured.
    fn stranger(&self, now: Time) -> Option<String> {
        let members = self.members.lock();
        members.iter().filter(|member| member.ago < GONE && member.name != self.member).find_map(|member| {
            let name = instance(member);
            // Not the run before this one.
            if name == &*self.identity.name && member.ago + MOMENT < now.since(self.counts.first_heard()) {
                return Some(format!("another process is instance `{name}` of this fleet, too: give each its own state_dir"));
            }
            (member.says != self.says).then(|| format!("instance `{name}` has another salt: purges of keys and tenants mean nothing to it"))
        })
    }

    fn near(&self) -> Vec<String> {
        let name = |member| instance(member).to_owned();
        let mut names: Vec<String> = self.members.lock().iter().filter(|member| member.ago < GONE).map(name).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Notes who was heard of.
    pub(super) fn see(&self, members: Vec<BusMember>, now: Time) {
        let _not_the_first = self.counts.first.compare_exchange(0, now.nanos(), Ordering::Relaxed, Ordering::Relaxed);
        *self.members.lock() = members;
    }

    pub(crate) fn trouble(&self, fault: Fault) {
        *self.counts.trouble.lock() = Some(fault);
    }

    /// Says so when it falls silent, and when it does not any more.
    pub(super) fn watch(&self, now: Time) {
        let silent = self.hearing.is_silent(now);
        if self.counts.silent.swap(silent, Ordering::Relaxed) == silent {
            return;
        }
        let fleet = &*self.config.name;
        if silent {
            self.counts.silences.fetch_add(1, Ordering::Relaxed);
            let fault = self.counts.trouble.lock().map(Fault::as_str);
            let careful = self.config.bypass_on_partition;
            tracing::warn!(
                fleet,
                fault,
                careful,
                "nothing is heard of the fleet: answers with tags may have been purged without our knowledge"
            );
        } else {
            tracing::info!(fleet, "the fleet is heard");
        }
    }
}

/// The name of a member's instance, whichever run of it that is.
fn instance(member: &BusMember) -> &str {
    member.name.split(' ').next().unwrap_or_default()
}

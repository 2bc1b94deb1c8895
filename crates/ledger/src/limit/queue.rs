//! All who wait, and who gives way when they are too many.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use farthing_types::{Priority, Time};

use super::counter::Cost;
use super::line::{Place, WaiterId};

/// Calls that wait at a time.
pub const MAX_WAITING: usize = 10_000;
/// Most bytes of request bodies that wait.
pub const MAX_BYTES: usize = 64 << 20;

/// A call that waits.
#[derive(Debug)]
pub struct Waiter {
    pub place: Place,
    /// It waits, whatever limits say of its priority.
    pub always: bool,
    pub cost: Cost,
    pub bytes: usize,
    pub deadline: Time,
    /// Its counters, in the order of their limits.
    pub counters: Vec<u32>,
    /// Before which of them it waits.
    pub at: usize,
}

/// All who wait.
#[derive(Debug, Default)]
pub struct Queue {
    waiters: HashMap<WaiterId, Waiter>,
    /// By priority and tenant, the latest last.
    crowds: [HashMap<Arc<str>, BTreeSet<WaiterId>>; 3],
    bytes: usize,
    came: u64,
}

impl Queue {
    pub fn len(&self) -> usize {
        self.waiters.len()
    }
    pub fn get(&self, id: WaiterId) -> Option<&Waiter> {
        self.waiters.get(&id)
    }
    pub fn get_mut(&mut self, id: WaiterId) -> Option<&mut Waiter> {
        self.waiters.get_mut(&id)
    }

    pub fn enter(&mut self, waiter: Waiter) -> WaiterId {
        let id = WaiterId(self.came);
        self.came += 1;
        self.bytes += waiter.bytes;
        self.crowds[waiter.place.priority as usize].entry(waiter.place.tenant.clone()).or_default().insert(id);
        self.waiters.insert(id, waiter);
        id
    }

    pub fn leave(&mut self, id: WaiterId) -> Option<Waiter> {
        let waiter = self.waiters.remove(&id)?;
        self.bytes -= waiter.bytes;
        let crowds = &mut self.crowds[waiter.place.priority as usize];
        if let Some(crowd) = crowds.get_mut(&waiter.place.tenant) {
            crowd.remove(&id);
            if crowd.is_empty() {
                crowds.remove(&waiter.place.tenant);
            }
        }
        Some(waiter)
    }

    /// Whether there is room for one more; else who has to give way for it, if anybody: one that matters less, or one of a tenant that has more
    /// places. Of those the last that came.
    pub fn room(&self, tenant: &str, priority: Priority, bytes: usize) -> Result<(), Option<WaiterId>> {
        if self.len() < MAX_WAITING && self.bytes.saturating_add(bytes) <= MAX_BYTES {
            return Ok(());
        }
        let rank = self.crowds.iter().rposition(|crowds| !crowds.is_empty()).unwrap_or_default();
        let largest = self.crowds[rank].values().max_by_key(|crowd| (crowd.len(), crowd.last().copied()));
        let own = self.crowds[rank].get(tenant).map_or(0, BTreeSet::len);
        let gives = match rank.cmp(&(priority as usize)) {
            std::cmp::Ordering::Greater => largest,
            std::cmp::Ordering::Equal => largest.filter(|crowd| crowd.len() > own + 1),
            std::cmp::Ordering::Less => None,
        };
        Err(gives.and_then(|crowd| crowd.last().copied()))
    }
}

//! Who may be connected.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use farthing_types::neighbours;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Room for connections: so many in all, so many of one address.
pub(crate) struct Places {
    all: Arc<Semaphore>,
    by_address: Arc<Mutex<HashMap<IpAddr, usize>>>,
    per_address: usize,
}

/// Room for one more connection.
pub(crate) type Room = Option<OwnedSemaphorePermit>;

/// A connection's place, given back on drop.
pub(crate) struct Place {
    address: IpAddr,
    by_address: Arc<Mutex<HashMap<IpAddr, usize>>>,
    _room: Room,
}

impl Places {
    pub(crate) fn new(all: usize, per_address: usize) -> Self {
        Self { all: Arc::new(Semaphore::new(all)), by_address: Arc::default(), per_address }
    }

    /// Waits for room.
    pub(crate) async fn room(&self) -> Room {
        // Nobody closes it.
        self.all.clone().acquire_owned().await.ok()
    }

    /// A place for a client in room that there is; `None` where its address has all that it gets.
    pub(crate) fn of(&self, client: IpAddr, room: Room) -> Option<Place> {
        let address = neighbours(client);
        let mut counts = self.by_address.lock();
        let count = counts.get(&address).copied().unwrap_or_default();
        if count >= self.per_address {
            return None;
        }
        counts.insert(address, count + 1);
        Some(Place { address, by_address: self.by_address.clone(), _room: room })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.by_address.lock();
        if let Some(count) = counts.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_address_cannot_take_all_places() {
        let places = Places::new(3, 2);
        let of = |addr: &str, room| places.of(addr.parse().unwrap(), room);
        let first = of("10.0.0.1", places.room().await);
        let second = of("::ffff:10.0.0.1", places.room().await);
        assert!(first.is_some() && second.is_some());
        assert!(of("10.0.0.1", places.room().await).is_none(), "its room is free again");
        let other = of("10.0.0.2", places.room().await);
        assert!(other.is_some() && places.all.available_permits() == 0);
        drop(first);
        assert!(of("10.0.0.1", places.room().await).is_some());
        drop((second, other));
        assert!(places.by_address.lock().is_empty() && places.all.available_permits() == 3);
    }
}

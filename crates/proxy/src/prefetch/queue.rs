//! Requests on their way from the clients' path to where they are learned from. Bounded in bytes; what finds no room is not learned from, and
//! counted.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use futures_util::FutureExt;
use http::{HeaderMap, Method, Uri};
use parking_lot::Mutex;

use super::consider;
use crate::request::{CacheControl, Planned};
use crate::settle::Account;
use crate::state::State;

/// Bytes that wait.
const BYTES: usize = 4 << 20;

/// A request as it is learned from.
pub struct Seen {
    /// Who asked for what.
    pub account: Account,
    /// With which headers; held until it has been learned from.
    pub headers: Arc<HeaderMap>,
    /// For which target, below the route's prefix; `None` where the key was met before.
    pub target: Option<Uri>,
    /// Whether the cache had nothing fresh.
    pub missed: bool,
}

impl Seen {
    fn bytes(&self) -> usize {
        let fields: usize = self.headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        let target = self.target.as_ref().and_then(Uri::path_and_query).map_or(0, |target| target.as_str().len());
        size_of::<Self>() + fields + target
    }
}

#[derive(Default)]
struct Waiting {
    seen: VecDeque<Seen>,
    bytes: usize,
    /// A task is at work on them.
    drained: bool,
}

/// See the module.
#[derive(Default)]
pub struct Queue {
    waiting: Mutex<Waiting>,
    dropped: AtomicU64,
}

impl Queue {
    /// Requests that found no room.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }

    /// Forgets what waits.
    pub fn clear(&self) {
        let mut waiting = self.waiting.lock();
        waiting.bytes = 0;
        waiting.seen.clear();
    }

    /// Takes a request; true where nobody is at work on them yet.
    fn put(&self, seen: Seen) -> bool {
        let bytes = seen.bytes();
        let mut waiting = self.waiting.lock();
        if waiting.bytes + bytes > BYTES {
            self.dropped.fetch_add(1, Relaxed);
            return false;
        }
        waiting.bytes += bytes;
        waiting.seen.push_back(seen);
        !std::mem::replace(&mut waiting.drained, true)
    }

    /// The next request; without one the work is done.
    fn take(&self) -> Option<Seen> {
        let mut waiting = self.waiting.lock();
        let next = waiting.seen.pop_front();
        match &next {
            Some(seen) => waiting.bytes -= seen.bytes(),
            None => waiting.drained = false,
        }
        next
    }
}

/// Whether a request is learned from: its route fetches ahead, and the cache has a part in it.
fn teaches(planned: &Planned) -> bool {
    let plain = planned.cache.is_ok() && planned.control == CacheControl::On && planned.account.method == Method::GET;
    planned.account.route.ahead.is_ok() && plain && !planned.account.route.switches.is_lean()
}

/// Lets a request be learned from, where it teaches. Adds to the client's path what it takes to put it into a queue.
pub fn saw(state: &Arc<State>, planned: Planned, missed: bool) {
    if !teaches(&planned) {
        return;
    }
    let Planned { account, headers, outbound, .. } = planned;
    hand_over(state, Seen { account, headers: Arc::new(headers), target: Some(outbound.target), missed });
}

/// As [`saw`], for a request that goes on to be answered by a call.
pub fn saw_missing(state: &Arc<State>, planned: &Planned) {
    if !teaches(planned) {
        return;
    }
    let (account, headers) = (planned.account.clone(), Arc::new(planned.headers.clone()));
    hand_over(state, Seen { account, headers, target: Some(planned.outbound.target.clone()), missed: true });
}

/// Lets a request be learned from off the client's path.
pub fn hand_over(state: &Arc<State>, mut seen: Seen) {
    // It may wait here for longer than it is under way.
    seen.account.load = None;
    if !state.prefetch.queue.put(seen) {
        return;
    }
    let state = state.clone();
    let tasks = state.tasks.clone();
    tasks.spawn(async move {
        while let Some(seen) = state.prefetch.queue.take() {
            // What goes wrong with one must not end the learning.
            if std::panic::AssertUnwindSafe(async { consider(&state, &seen) }).catch_unwind().await.is_err() {
                state.counters.panics.fetch_add(1, Relaxed);
                tracing::error!("a decision to fetch ahead panicked");
            }
            tokio::task::yield_now().await;
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identify::Identity;
    use farthing_types::{KeyHash, RequestId, Span, Time};

    fn seen(route: &Arc<crate::route::RouteState>, bytes: usize) -> Seen {
        let mut headers = HeaderMap::new();
        headers.insert("x", "y".repeat(bytes).parse().unwrap());
        let account = Account {
            id: RequestId(1),
            at: Time::ZERO,
            started: Time::ZERO,
            route: route.clone(),
            identity: Identity::unknown(),
            method: Method::GET,
            key: KeyHash(1),
            tags: None,
            variant: None,
            side: None,
            holdout: false,
            measured: false,
            compared: false,
            noted: None,
            asked: None,
            invalidates: None,
            load: None,
            part: None,
            priority: None,
            sla: None,
            queued: Span::ZERO,
            failed: Span::ZERO,
            elsewhere: Span::ZERO,
            l2: Span::ZERO,
            looked: None,
            laps: crate::switches::Laps::default(),
            slice: None,
            plan: None,
            trace: None,
        };
        Seen { account, headers: Arc::new(headers), target: None, missed: false }
    }

    #[test]
    fn what_waits_is_bounded_in_bytes_and_what_finds_no_room_is_counted() {
        let config = farthing_config::Config {
            providers: vec![Arc::new(farthing_config::Provider::default())],
            routes: vec![Arc::new(farthing_config::Route::default())],
            ..farthing_config::Config::default()
        };
        let clock: Arc<dyn farthing_types::Clock> = Arc::new(farthing_types::VirtualClock::default());
        let build = move |spec| farthing_upstream::build(spec, clock.clone());
        let around = crate::compile::Around { events: &[], hearing: None, before: None, build: &build };
        let routes = crate::compile::compile(&config, around).unwrap().routes;
        let queue = Queue::default();
        assert!(queue.put(seen(&routes[0], 1_000)) && !queue.put(seen(&routes[0], 1_000)), "one task is enough");
        (0..10_000).for_each(|_| assert!(!queue.put(seen(&routes[0], 1_000))));
        assert!(queue.waiting.lock().bytes <= BYTES && queue.dropped() > 5_000);
        while queue.take().is_some() {}
        assert_eq!(queue.waiting.lock().bytes, 0);
        assert!(queue.put(seen(&routes[0], 10)), "the task has ended");
        queue.clear();
        assert_eq!(queue.waiting.lock().bytes, 0);
    }
}

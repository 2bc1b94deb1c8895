//! Outcomes per key and day: the blocks that are resampled when a difference gets its interval.

use farthing_types::Money;

use crate::engine::{Came, Chooser, Engine, Outcome};
use crate::event::{Event, Trace};

/// Nanoseconds of a day.
const DAY_NS: i64 = 86_400_000_000_000;

/// What came of the requests of one key on one day (UTC).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockOutcome {
    /// The key.
    pub key: u32,
    /// Index of its route.
    pub route: u16,
    /// Days since 1970 UTC.
    pub day: i32,
    /// Requests.
    pub requests: u64,
    /// Calls that were paid for.
    pub calls: u64,
    /// Answers that differed from what the origin would have said.
    pub stale: u64,
    /// Paid to the provider.
    pub bill: Money,
}

/// Sums per key and day while a replay runs. Events come in the order of time, so each key has one open block at most: a read costs one
/// look into a list.
#[derive(Clone, Debug, Default)]
pub struct Blocks {
    open: Vec<Option<BlockOutcome>>,
    done: Vec<BlockOutcome>,
}

impl Blocks {
    /// Counts a read at `price` per call.
    pub fn count(&mut self, event: &Event, came: Came, price: Money) {
        let (place, day) = (event.key as usize, i32::try_from(event.at.nanos().div_euclid(DAY_NS)).unwrap_or(i32::MAX));
        if self.open.len() <= place {
            self.open.resize(place + 1, None);
        }
        let Some(slot) = self.open.get_mut(place) else { return };
        if slot.is_some_and(|block| block.day != day || block.route != event.route) {
            self.done.extend(slot.take());
        }
        let fresh = BlockOutcome { key: event.key, route: event.route, day, requests: 0, calls: 0, stale: 0, bill: Money::ZERO };
        let block = slot.get_or_insert(fresh);
        block.requests += 1;
        block.stale += u64::from(came == Came::Stale);
        if came == Came::Call {
            block.calls += 1;
            block.bill += price;
        }
    }

    /// All blocks. Their order follows from the reads alone: replays of the same events under two policies give lists that pair up.
    pub fn finish(self) -> Vec<BlockOutcome> {
        let Self { open, mut done } = self;
        done.extend(open.into_iter().flatten());
        done
    }
}

impl Engine {
    /// [`Engine::run`] with the outcome of each key and day.
    pub fn run_blocks(&mut self, trace: &Trace, events: &[Event], chooser: &mut dyn Chooser) -> (Outcome, Vec<BlockOutcome>) {
        let mut blocks = Blocks::default();
        let price = |event: &Event| trace.routes.get(usize::from(event.route)).map_or(Money::ZERO, |route| route.price);
        let outcome = self.run_counted(trace, events, chooser, &mut |event, came| blocks.count(event, came, price(event)));
        (outcome, blocks.finish())
    }
}

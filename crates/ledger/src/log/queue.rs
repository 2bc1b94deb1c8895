//! Where rows wait for the writer's thread.
//!
//! A row is moved into a vector of its own type: no allocation per row that another thread would have to free, no
//! wake-up. Threads spread over a few shards, so that they seldom meet at a lock; it is held for one push.

use std::any::Any;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use farthing_contract::log::{ALL, Request, Row, Table};
use parking_lot::Mutex;

use crate::journal::AnyRow;

/// Lock shards; a power of two.
const SHARDS: usize = 8;
/// Rows in one vector: what is moved at once, and at most the growth a push may cause.
const ROWS: usize = 256;
/// The tables of the contract, and one place for any other.
const PLACES: usize = ALL.len() + 1;

/// Rows of whatever table.
pub(super) trait Batch: Send {
    fn table(&self) -> &'static Table;
    fn len(&self) -> usize;
    /// Bytes the rows are taken to hold.
    fn bytes(&self) -> usize;
    /// The row at a place; `None` behind the last.
    fn row(&self, place: usize) -> Option<&dyn AnyRow>;
    fn as_any(&mut self) -> &mut dyn Any;
}

/// Takes the rows out of a batch of request rows; none from others.
pub(super) fn requests(batch: &mut dyn Batch) -> Option<Vec<Request>> {
    batch.as_any().downcast_mut::<Rows<Request>>().map(|batch| std::mem::take(&mut batch.rows))
}

struct Rows<R> {
    rows: Vec<R>,
    bytes: usize,
}

impl<R: Row> Batch for Rows<R> {
    fn table(&self) -> &'static Table {
        R::TABLE
    }
    fn len(&self) -> usize {
        self.rows.len()
    }
    fn bytes(&self) -> usize {
        self.bytes
    }
    fn row(&self, place: usize) -> Option<&dyn AnyRow> {
        self.rows.get(place).map(|row| row as &dyn AnyRow)
    }
    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
}

/// The waiting rows of one table in one shard.
#[derive(Default)]
struct Place {
    open: Option<Box<dyn Batch>>,
    full: Vec<Box<dyn Batch>>,
    closed: bool,
}

/// What became of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pushed {
    Queued,
    /// Queued, and it was this row that filled half of the queue.
    QueuedHalf,
    /// Full or closed.
    Refused,
}

/// The queue: bounded in bytes, never blocking for longer than another push takes.
pub(super) struct Queue {
    shards: [[Mutex<Place>; PLACES]; SHARDS],
    bytes: AtomicUsize,
    limit: usize,
}

impl Queue {
    pub(super) fn new(limit: usize) -> Self {
        Self { shards: Default::default(), bytes: AtomicUsize::new(0), limit }
    }

    /// Bytes that wait.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Relaxed)
    }

    pub(super) fn push<R: Row>(&self, row: R) -> Pushed {
        let weight = weight(&row);
        let before = self.bytes.fetch_add(weight, Relaxed);
        if before + weight > self.limit || !self.place::<R>().lock().push(row, weight) {
            self.bytes.fetch_sub(weight, Relaxed);
            return Pushed::Refused;
        }
        let half = self.limit / 2;
        if before < half && before + weight >= half { Pushed::QueuedHalf } else { Pushed::Queued }
    }

    fn place<R: Row>(&self) -> &Mutex<Place> {
        let index = ALL.iter().position(|table| table.name == R::TABLE.name).unwrap_or(ALL.len());
        &self.shards[shard()][index]
    }

    /// Takes all that waits, the rows of one thread in the order they came. Nothing is accepted any more afterwards
    /// when `close` is set.
    pub(super) fn take(&self, close: bool, each: &mut dyn FnMut(Box<dyn Batch>)) {
        for place in self.shards.iter().flatten() {
            let (full, open) = {
                let mut place = place.lock();
                place.closed |= close;
                (std::mem::take(&mut place.full), place.open.take())
            };
            for batch in full.into_iter().chain(open) {
                self.bytes.fetch_sub(batch.bytes(), Relaxed);
                each(batch);
            }
        }
    }
}

impl Place {
    fn push<R: Row>(&mut self, row: R, weight: usize) -> bool {
        if self.closed {
            return false;
        }
        if let Some(batch) = self.open.as_mut().and_then(|batch| batch.as_any().downcast_mut::<Rows<R>>())
            && batch.rows.len() < ROWS
        {
            batch.rows.push(row);
            batch.bytes += weight;
            return true;
        }
        // A busy table gets its next vector in one piece; a quiet one must not hold a large one.
        let capacity = if self.open.is_some() { ROWS } else { 4 };
        self.full.extend(self.open.take());
        let mut rows = Vec::with_capacity(capacity);
        rows.push(row);
        self.open = Some(Box::new(Rows { rows, bytes: weight }));
        true
    }
}

/// Bytes that a waiting row is taken to hold: itself, its texts and lists.
fn weight<R: Row>(row: &R) -> usize {
    size_of::<R>() + row.extent()
}

fn shard() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static SHARD: usize = NEXT.fetch_add(1, Relaxed) % SHARDS;
    }
    // A thread that is being torn down has lost its own number; any will do.
    SHARD.try_with(|shard| *shard).unwrap_or(0)
}

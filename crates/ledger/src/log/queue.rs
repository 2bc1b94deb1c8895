//! Where rows wait for the writer's thread.
//!
//! A row is moved into a vector of its own type: no allocation per row that another thread would have to free, no
//! wake-up. Vectors come back when their rows are recorded: memory that one thread takes and another frees, again and again, costs more than
//! the rows in it. Threads spread over a few shards, so that they seldom meet at a lock; it is held for one push.

use std::any::Any;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use farthing_contract::log::{ALL, Request, Row, Table};
use parking_lot::Mutex;

use super::columns::Gather;

/// Lock shards; a power of two.
const SHARDS: usize = 8;
/// Rows in one vector: what is moved at once, and at most the growth a push may cause.
const ROWS: usize = 256;
/// The tables of the contract, and one place for any other.
const PLACES: usize = ALL.len() + 1;

/// Rows of whatever table.
pub(super) trait Batch: Any + Send {
    fn table(&self) -> &'static Table;
    fn len(&self) -> usize;
    /// Bytes the rows are taken to hold.
    fn bytes(&self) -> usize;
    /// The row at a place; `None` behind the last.
    fn row(&self, place: usize) -> Option<&dyn Gather>;
    /// The shard it came from.
    fn home(&self) -> usize;
    /// Drops the rows, and keeps the room for others.
    fn clear(&mut self);
}

/// The rows of a batch of request rows; `None` of others.
pub(super) fn requests(batch: &dyn Batch) -> Option<&[Request]> {
    let batch: &dyn Any = batch;
    batch.downcast_ref::<Rows<Request>>().map(|batch| batch.rows.as_slice())
}

/// The same, to take rows out.
pub(super) fn requests_mut(batch: &mut dyn Batch) -> Option<&mut [Request]> {
    rows_mut::<Request>(batch).map(|batch| batch.rows.as_mut_slice())
}

fn rows_mut<R: Row>(batch: &mut dyn Batch) -> Option<&mut Rows<R>> {
    let batch: &mut dyn Any = batch;
    batch.downcast_mut()
}

struct Rows<R> {
    rows: Vec<R>,
    bytes: usize,
    home: usize,
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
    fn row(&self, place: usize) -> Option<&dyn Gather> {
        self.rows.get(place).map(|row| row as &dyn Gather)
    }
    fn home(&self) -> usize {
        self.home
    }
    fn clear(&mut self) {
        self.rows.clear();
        self.bytes = 0;
    }
}

/// The waiting rows of one table in one shard.
#[derive(Default)]
struct Place {
    open: Option<Box<dyn Batch>>,
    full: Vec<Box<dyn Batch>>,
    /// Empty ones, no more than are `usual`.
    spare: Vec<Box<dyn Batch>>,
    /// How many are taken at once: what a burst has needed is given up one by one, each time that fewer are taken.
    usual: usize,
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
        let home = shard();
        if before + weight > self.limit || !self.shards[home][const { place_of(R::TABLE) }].lock().push(row, weight, home) {
            self.bytes.fetch_sub(weight, Relaxed);
            return Pushed::Refused;
        }
        let half = self.limit / 2;
        if before < half && before + weight >= half { Pushed::QueuedHalf } else { Pushed::Queued }
    }

    /// Takes all that waits, the rows of one thread in the order they came. Nothing is accepted any more afterwards
    /// when `close` is set.
    pub(super) fn take(&self, close: bool, each: &mut dyn FnMut(Box<dyn Batch>)) {
        for place in self.shards.iter().flatten() {
            let (full, open, unused) = {
                let mut place = place.lock();
                place.closed |= close;
                let taken = place.full.len() + usize::from(place.open.is_some());
                place.usual = if place.closed { 0 } else { taken.max(place.usual.saturating_sub(1)) };
                let wanted = place.usual.min(place.spare.len());
                (std::mem::take(&mut place.full), place.open.take(), place.spare.split_off(wanted))
            };
            drop(unused);
            for batch in full.into_iter().chain(open) {
                self.bytes.fetch_sub(batch.bytes(), Relaxed);
                each(batch);
            }
        }
    }

    /// Takes back a batch whose rows are not needed any more, for others to come.
    pub(super) fn give_back(&self, mut batch: Box<dyn Batch>) {
        batch.clear();
        let Some(place) = self.shards.get(batch.home()).map(|places| &places[place_of(batch.table())]) else { return };
        let mut place = place.lock();
        if place.spare.len() < place.usual {
            place.spare.push(batch);
        }
    }
}

impl Place {
    fn push<R: Row>(&mut self, row: R, weight: usize, home: usize) -> bool {
        if self.closed {
            return false;
        }
        if let Some(batch) = self.open.as_mut().and_then(|batch| rows_mut::<R>(&mut **batch))
            && batch.rows.len() < ROWS
        {
            batch.rows.push(row);
            batch.bytes += weight;
            return true;
        }
        // A busy table gets its next vector in one piece; a quiet one must not hold a large one.
        let capacity = if self.open.is_some() || self.usual > 1 { ROWS } else { 4 };
        self.full.extend(self.open.take());
        let spare = self.spare.pop().and_then(|spare| {
            let spare: Box<dyn Any> = spare;
            spare.downcast::<Rows<R>>().ok()
        });
        let mut next = spare.unwrap_or_else(|| Box::new(Rows { rows: Vec::with_capacity(capacity), bytes: 0, home }));
        next.rows.push(row);
        next.bytes = weight;
        self.open = Some(next);
        true
    }
}

/// The place of a table's rows in a shard.
const fn place_of(table: &Table) -> usize {
    let mut place = 0;
    while place < ALL.len() && !same(ALL[place].name.as_bytes(), table.name.as_bytes()) {
        place += 1;
    }
    place
}

/// Strings cannot be compared with `==` at compile time.
const fn same(one: &[u8], other: &[u8]) -> bool {
    let mut at = 0;
    while at < one.len() && at < other.len() && one[at] == other[at] {
        at += 1;
    }
    at == one.len() && at == other.len()
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use farthing_contract::log::{OutcomeRow, Value};

    use super::*;

    fn fill(queue: &Queue, rows: i64) {
        (0..rows).for_each(|hits| assert_eq!(queue.push(OutcomeRow { hits, ..OutcomeRow::default() }), Pushed::Queued));
    }

    fn take(queue: &Queue) -> Vec<Box<dyn Batch>> {
        let mut taken = Vec::new();
        queue.take(false, &mut |batch| taken.push(batch));
        taken
    }

    fn spares(queue: &Queue) -> usize {
        queue.shards.iter().flatten().map(|place| place.lock().spare.len()).sum()
    }

    fn hits(batches: &[Box<dyn Batch>]) -> Vec<i64> {
        let rows = batches.iter().flat_map(|batch| (0..batch.len()).filter_map(|place| batch.row(place)));
        let mut hits = Vec::new();
        let column = OutcomeRow::TABLE.columns.iter().position(|column| column.name == "hits");
        rows.for_each(|row| {
            row.visit(&mut |index, value| {
                if let (Some(at), Value::I64(n)) = (column, value)
                    && at == index
                {
                    hits.push(n);
                }
            });
        });
        hits
    }

    fn rooms(batches: &[Box<dyn Batch>]) -> BTreeSet<usize> {
        batches.iter().filter_map(|batch| batch.row(0)).map(|row| std::ptr::from_ref(row).addr()).collect()
    }

    #[test]
    fn vectors_come_back_and_what_a_burst_has_needed_is_not_kept() {
        let (queue, rows) = (Queue::new(64 << 20), 3 * ROWS as i64);
        fill(&queue, rows);
        let first = take(&queue);
        let used = rooms(&first);
        assert_eq!((first.len(), hits(&first)), (3, (0..rows).collect()));
        first.into_iter().for_each(|batch| queue.give_back(batch));
        assert_eq!((spares(&queue), queue.bytes()), (3, 0));
        fill(&queue, rows);
        let second = take(&queue);
        assert_eq!((spares(&queue), rooms(&second), hits(&second)), (0, used, (0..rows).collect()));
        second.into_iter().for_each(|batch| queue.give_back(batch));
        fill(&queue, 1);
        let third = take(&queue);
        assert_eq!((spares(&queue), hits(&third)), (2, vec![0]));
        third.into_iter().for_each(|batch| queue.give_back(batch));
        let left = std::array::from_fn(|_| {
            assert!(take(&queue).is_empty());
            spares(&queue)
        });
        assert_eq!(left, [1, 0], "a quiet table holds none");
    }

    #[test]
    fn a_vector_of_another_type_is_none_for_a_row() {
        struct Other;
        impl Row for Other {
            const TABLE: &'static Table = OutcomeRow::TABLE;
            fn ts_ns(&self) -> i64 {
                0
            }
            fn cells<P: FnMut(usize, Value<'_>) + ?Sized>(&self, put: &mut P) {
                (0..OutcomeRow::TABLE.columns.len()).for_each(|index| put(index, Value::I64(7)));
            }
        }
        let queue = Queue::new(1 << 20);
        fill(&queue, 2);
        take(&queue).into_iter().for_each(|batch| queue.give_back(batch));
        assert_eq!((spares(&queue), queue.push(Other)), (1, Pushed::Queued));
        fill(&queue, 1);
        assert_eq!(hits(&take(&queue)), [7, 0]);
    }

    #[test]
    fn nothing_is_kept_of_a_closed_queue() {
        let queue = Queue::new(1 << 20);
        fill(&queue, 2);
        let mut taken = Vec::new();
        queue.take(true, &mut |batch| taken.push(batch));
        taken.into_iter().for_each(|batch| queue.give_back(batch));
        assert_eq!((spares(&queue), queue.push(OutcomeRow::default())), (0, Pushed::Refused));
    }

    #[test]
    fn each_table_has_a_place() {
        assert_eq!(ALL.map(place_of), [0, 1, 2, 3]);
        assert_eq!(place_of(&Table { name: "calls ", ..*ALL[1] }), ALL.len());
    }
}

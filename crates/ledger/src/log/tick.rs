//! What the writer's thread took out of the queue at once.

use farthing_contract::log::{CallRow, Request, Row, Table};
use farthing_types::Time;

use super::columns::Gather;
use super::queue::{Batch, requests, requests_mut};
use super::thin::Thin;

/// Batches as they were taken.
#[derive(Default)]
pub(super) struct Tick {
    requests: Vec<Box<dyn Batch>>,
    others: Vec<Box<dyn Batch>>,
    /// What is left of the requests, where they were thinned.
    thinned: Option<Vec<Request>>,
    /// Bytes that each of these is taken to hold.
    request_bytes: usize,
}

/// A row of a tick.
#[derive(Clone, Copy)]
pub(super) struct Entry<'a> {
    pub(super) table: &'static Table,
    pub(super) row: &'a dyn Gather,
    pub(super) bytes: usize,
    /// Whether it is a record of money, which is never dropped for want of space.
    pub(super) billing: bool,
}

impl Tick {
    pub(super) fn add(&mut self, batch: Box<dyn Batch>) {
        let batches = if requests(&*batch).is_some() { &mut self.requests } else { &mut self.others };
        batches.push(batch);
    }

    /// Thins the requests; answers how many of them went into others.
    pub(super) fn thin(&mut self, thin: &mut Thin, now: Time, always: bool) -> usize {
        let (before, bytes) = self.requests.iter().fold((0, 0), |(rows, bytes), batch| (rows + batch.len(), bytes + batch.bytes()));
        self.request_bytes = bytes / before.max(1);
        self.thinned = thin.apply(self.requests.iter_mut().filter_map(|batch| requests_mut(&mut **batch)).collect(), now, always);
        before - self.thinned.as_ref().map_or(before, Vec::len)
    }

    /// All rows, in the order of each table.
    pub(super) fn entries<'a>(&'a self) -> Vec<Entry<'a>> {
        let rows = |batches: &[Box<dyn Batch>]| batches.iter().map(|batch| batch.len()).sum::<usize>();
        let mut entries = Vec::with_capacity(rows(&self.others) + self.thinned.as_ref().map_or_else(|| rows(&self.requests), Vec::len));
        for batch in &self.others {
            let (table, bytes) = (batch.table(), batch.bytes() / batch.len().max(1));
            let billing = table.name == CallRow::TABLE.name;
            entries.extend((0..batch.len()).filter_map(|place| Some(Entry { table, row: batch.row(place)?, bytes, billing })));
        }
        let request = |row: &'a Request| Entry { table: Request::TABLE, row, bytes: self.request_bytes, billing: is_billing(row) };
        match &self.thinned {
            Some(rows) => entries.extend(rows.iter().map(request)),
            None => entries.extend(self.requests.iter().filter_map(|batch| requests(&**batch)).flatten().map(request)),
        }
        entries
    }

    /// The batches, when their rows are recorded.
    pub(super) fn into_batches(self) -> impl Iterator<Item = Box<dyn Batch>> {
        self.requests.into_iter().chain(self.others)
    }
}

/// A request that cost something or saved something.
fn is_billing(row: &Request) -> bool {
    row.base_nanousd.is_some_and(|money| money != 0) || row.cost_nanousd.is_some_and(|money| money != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_makes_a_record_of_money() {
        let row = |base, cost| Request { base_nanousd: base, cost_nanousd: cost, ..Request::default() };
        let billing = [row(Some(5), Some(0)), row(None, Some(5)), row(Some(5), None)];
        let others = [row(None, None), row(Some(0), Some(0)), row(None, Some(0))];
        assert!(billing.iter().all(is_billing) && !others.iter().any(is_billing));
    }
}

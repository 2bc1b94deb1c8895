//! What the writer's thread took out of the queue at once.

use farthing_contract::log::{CallRow, Request, Row, Table};

use super::queue::Batch;
use crate::journal::AnyRow;

/// Rows, thinned already.
pub(super) struct Tick {
    pub(super) requests: Vec<Request>,
    /// Bytes that each of them is taken to hold.
    pub(super) request_bytes: usize,
    pub(super) others: Vec<Box<dyn Batch>>,
}

/// A row of a tick.
#[derive(Clone, Copy)]
pub(super) struct Entry<'a> {
    pub(super) table: &'static Table,
    pub(super) row: &'a dyn AnyRow,
    pub(super) bytes: usize,
    /// Whether it is a record of money, which is never dropped for want of space.
    pub(super) billing: bool,
}

impl Tick {
    /// All rows, in the order of each table.
    pub(super) fn entries(&self) -> Vec<Entry<'_>> {
        let mut entries = Vec::with_capacity(self.requests.len() + self.others.iter().map(|batch| batch.len()).sum::<usize>());
        for batch in &self.others {
            let (table, bytes) = (batch.table(), batch.bytes() / batch.len().max(1));
            let billing = table.name == CallRow::TABLE.name;
            entries.extend((0..batch.len()).filter_map(|place| Some(Entry { table, row: batch.row(place)?, bytes, billing })));
        }
        for row in &self.requests {
            entries.push(Entry { table: Request::TABLE, row, bytes: self.request_bytes, billing: is_billing(row) });
        }
        entries
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

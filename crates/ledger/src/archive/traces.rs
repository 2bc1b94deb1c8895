//! What belongs to a tenant, also where rows do not name it.

use std::collections::HashSet;
use std::path::Path;

use arrow::array::{Array, BooleanArray, PrimitiveArray, StringArray, UInt64Array};
use arrow::datatypes::UInt64Type;
use arrow::record_batch::RecordBatch;
use farthing_contract::log::{CallRow, Decision, OutcomeRow, Request, Row, Table};

use super::Selection;
use super::batches::{column, hours, parts, visit};

/// Ids and keys of a tenant.
#[derive(Debug, Default)]
pub(super) struct Traces {
    tenant: String,
    requests: HashSet<u64>,
    calls: HashSet<u64>,
    decisions: HashSet<u64>,
    /// Keys that no other tenant has used.
    keys: HashSet<u64>,
}

/// The columns that tell whose a row is.
pub(super) const COLUMNS: [&str; 6] = ["tenant", "key_hash", "stat_key", "request_id", "call_id", "decision_id"];

/// Whether a row belongs to the tenant.
pub(super) type Of<'a> = Box<dyn Fn(usize) -> bool + 'a>;

impl Traces {
    /// Reads the log for what belongs to `tenant`, within what `selection` says of time.
    pub(super) fn find(dir: &Path, tenant: &str, selection: &Selection) -> Self {
        let mut traces = Self::of_tenant(tenant);
        for table in [Request::TABLE, CallRow::TABLE] {
            each(dir, table, selection, &mut |batch| traces.learn(table, batch));
        }
        for table in [Request::TABLE, CallRow::TABLE] {
            each(dir, table, selection, &mut |batch| traces.share(batch));
        }
        each(dir, Decision::TABLE, selection, &mut |batch| traces.decided(batch));
        traces
    }

    /// Nothing is known yet.
    pub(super) fn of_tenant(tenant: &str) -> Self {
        Self { tenant: tenant.to_owned(), ..Self::default() }
    }

    /// Whether no request and no call names the tenant.
    pub(super) fn is_empty(&self) -> bool {
        self.requests.is_empty() && self.calls.is_empty()
    }

    /// Learns ids and keys of rows that name the tenant, of requests and calls.
    pub(super) fn learn(&mut self, table: &Table, batch: &RecordBatch) {
        let Some(tenants) = column::<StringArray>(batch, "tenant") else { return };
        let ids = |name| column::<UInt64Array>(batch, name);
        let (own, keys, decisions) = (if table.name == Request::TABLE.name { "request_id" } else { "call_id" }, "key_hash", "decision_id");
        let (own, keys, selected) = (ids(own), ids(keys), ids("stat_key"));
        let decisions = if table.name == CallRow::TABLE.name { ids(decisions) } else { None };
        for row in (0..batch.num_rows()).filter(|row| tenants.value(*row) == self.tenant) {
            let set = if table.name == Request::TABLE.name { &mut self.requests } else { &mut self.calls };
            set.extend(at(own, row));
            self.keys.extend(at(keys, row).into_iter().chain(at(selected, row)));
            self.decisions.extend(at(decisions, row));
        }
    }

    /// Keys of other tenants are nobody's own.
    pub(super) fn share(&mut self, batch: &RecordBatch) {
        let Some(tenants) = column::<StringArray>(batch, "tenant") else { return };
        let keys = ["key_hash", "stat_key"].map(|name| column::<UInt64Array>(batch, name));
        for row in (0..batch.num_rows()).filter(|row| tenants.value(*row) != self.tenant) {
            keys.iter().filter_map(|keys| at(*keys, row)).for_each(|key| {
                self.keys.remove(&key);
            });
        }
    }

    /// Learns which decisions are its.
    pub(super) fn decided(&mut self, batch: &RecordBatch) {
        let ids = column::<UInt64Array>(batch, "decision_id");
        let own: Vec<u64> = {
            let of = self.of(Decision::TABLE, batch);
            (0..batch.num_rows()).filter(|row| of(*row)).filter_map(|row| at(ids, row)).collect()
        };
        self.decisions.extend(own);
    }

    /// Tells which rows of a batch belong to the tenant.
    pub(super) fn of<'a>(&'a self, table: &Table, batch: &'a RecordBatch) -> Of<'a> {
        let ids = |name| column::<UInt64Array>(batch, name);
        let within = |set: &'a HashSet<u64>, ids: Option<&'a UInt64Array>| move |row| at(ids, row).is_some_and(|id| set.contains(&id));
        let by_key = within(&self.keys, ids("key_hash"));
        match table.name {
            name if name == Decision::TABLE.name => {
                let (call, request) = (within(&self.calls, ids("call_id")), within(&self.requests, ids("request_id")));
                Box::new(move |row| call(row) || request(row) || by_key(row))
            }
            name if name == OutcomeRow::TABLE.name => {
                // 0 is no decision.
                let (decisions, ids) = (&self.decisions, ids("decision_id"));
                Box::new(move |row| at(ids, row).is_some_and(|id| id != 0 && decisions.contains(&id)) || by_key(row))
            }
            _ => {
                let tenants = column::<StringArray>(batch, "tenant");
                Box::new(move |row| tenants.is_some_and(|tenants| tenants.value(row) == self.tenant))
            }
        }
    }

    /// The same of all rows of a batch.
    pub(super) fn rows(&self, table: &Table, batch: &RecordBatch) -> BooleanArray {
        let of = self.of(table, batch);
        (0..batch.num_rows()).map(|row| Some(of(row))).collect()
    }

    /// Keys that only this tenant has used.
    pub(super) const fn keys(&self) -> &HashSet<u64> {
        &self.keys
    }
}

fn at(ids: Option<&PrimitiveArray<UInt64Type>>, row: usize) -> Option<u64> {
    ids.filter(|ids| ids.is_valid(row)).map(|ids| ids.value(row))
}

/// The columns of `table` that tell whose a row is, in batches. What cannot be read is passed over: whoever copies or removes
/// rows meets it again, and says so.
fn each(dir: &Path, table: &'static Table, selection: &Selection, look: &mut dyn FnMut(&RecordBatch)) {
    for (_, partition) in hours(dir, table).into_iter().filter(|(hour, _)| selection.may_be_in(*hour)) {
        for file in parts(&partition) {
            let read = visit(&file, table, Some(&COLUMNS), &mut |batch| {
                look(&batch);
                Ok(())
            });
            if let Err(error) = read {
                tracing::warn!(%error, "a file of the log was passed over");
            }
        }
    }
}

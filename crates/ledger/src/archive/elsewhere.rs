//! Forgetting a tenant in files of the log that lie elsewhere: the same rows go as from the log's own folder.

use std::path::Path;

use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use farthing_contract::log::Table;

use super::ArchiveError;
use super::batches::visit_in;
use super::export::parquet_writer;
use super::retain::copy;
use super::traces::{COLUMNS, Traces};

/// A file of the log, wherever it is.
#[derive(Clone, Debug)]
pub struct Elsewhere<'a> {
    /// The table of its rows.
    pub table: &'static Table,
    /// What names it in errors.
    pub name: &'a str,
    /// All of it.
    pub bytes: Bytes,
}

/// Finds what belongs to a tenant in many logs that lie together, and removes it.
///
/// # Contract
/// Each step goes over all files before the next begins: [`Self::learn`] and then [`Self::share`] over those of requests and calls,
/// [`Self::decide`] over decisions; then [`Self::without`] over outcomes, decisions, calls and requests, in this order: were the calls gone, nothing would
/// tell any more which decisions were its.
#[derive(Debug)]
pub struct Forgetter(Traces);

impl Forgetter {
    /// Of a tenant, by the name that the log has for it.
    pub fn new(tenant: &str) -> Self {
        Self(Traces::of_tenant(tenant))
    }

    /// Learns what the tenant has in a file of requests or calls.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn learn(&mut self, file: &Elsewhere<'_>) -> Result<(), ArchiveError> {
        each(file, &mut |batch| self.0.learn(file.table, batch))
    }

    /// Learns which of its keys others have used, too.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn share(&mut self, file: &Elsewhere<'_>) -> Result<(), ArchiveError> {
        each(file, &mut |batch| self.0.share(batch))
    }

    /// Learns which decisions are its.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn decide(&mut self, file: &Elsewhere<'_>) -> Result<(), ArchiveError> {
        each(file, &mut |batch| self.0.decided(batch))
    }

    /// Whether the tenant has nothing, as far as was learned: then nothing needs to be removed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The file without the tenant's rows, and how many these were; `None` when it has none. A file without any row stays a file.
    ///
    /// # Errors
    /// The file cannot be read or written anew.
    pub fn without(&self, file: &Elsewhere<'_>) -> Result<Option<(Bytes, u64)>, ArchiveError> {
        let mut removed = 0;
        each(file, &mut |batch| removed += self.0.rows(file.table, batch).true_count() as u64)?;
        if removed == 0 {
            return Ok(None);
        }
        let written =
            copy(file.bytes.clone(), Vec::new(), (Path::new(file.name), file.table), &mut |batch| self.0.rows(file.table, batch))?;
        Ok(Some((written.into(), removed)))
    }
}

/// A file of a table without any row.
///
/// # Errors
/// It cannot be written as Parquet.
pub fn without_rows(table: &'static Table) -> Result<Bytes, ArchiveError> {
    let path = Path::new(table.name);
    let written = parquet_writer(Vec::new(), table, path)?.into_inner();
    Ok(written.map_err(|source| ArchiveError::Parquet { path: path.to_owned(), source })?.into())
}

fn each(file: &Elsewhere<'_>, look: &mut dyn FnMut(&RecordBatch)) -> Result<(), ArchiveError> {
    visit_in(file.bytes.clone(), (Path::new(file.name), file.table), &COLUMNS, &mut |batch| {
        look(&batch);
        Ok(())
    })
}

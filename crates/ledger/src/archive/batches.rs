//! Batches of a file's rows, and their columns.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, new_null_array};
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use farthing_contract::log::{Column, Table};
use parquet::arrow::arrow_reader::ParquetRecordBatchReader;
use parquet::errors::ParquetError;
use parquet::file::reader::ChunkReader;

use super::{ArchiveError, HOUR_NS, day_number};
use crate::log::{list, plain_schema};
use crate::read::{ReadError, open, open_in};

/// The partition folders of a table with their hours since 1970, oldest first.
pub(super) fn hours(dir: &Path, table: &Table) -> Vec<(i64, PathBuf)> {
    hours_within(dir, table, &(i64::MIN..i64::MAX))
}

/// Those of some hours; folders of other days are not looked into.
pub(super) fn hours_within(dir: &Path, table: &Table, wanted: &Range<i64>) -> Vec<(i64, PathBuf)> {
    let dates = list(&dir.join(table.name)).into_iter().filter_map(|date| Some((day_number(&value(&date, "date")?)? * 24, date)));
    let dates = dates.filter(|(first, _)| first + 24 > wanted.start && *first < wanted.end);
    let hours = dates.flat_map(|(first, date)| list(&date).into_iter().map(move |hour| (first, hour)));
    let hours = hours.filter_map(|(first, hour)| Some((first + hour_of_day(&hour)?, hour)));
    hours.filter(|(hour, _)| wanted.contains(hour)).collect()
}

fn hour_of_day(hour: &Path) -> Option<i64> {
    value(hour, "hour")?.parse::<i64>().ok().filter(|hour| (0..24).contains(hour))
}

fn value(path: &Path, key: &str) -> Option<String> {
    path.file_name()?.to_str()?.strip_prefix(key)?.strip_prefix('=').map(str::to_owned)
}

/// The Parquet files of a partition.
pub(super) fn parts(partition: &Path) -> Vec<PathBuf> {
    list(partition).into_iter().filter(|path| crate::read::is_part(path)).collect()
}

/// When the partition of an hour begins, ns since 1970.
pub(super) const fn begin_ns(hour: i64) -> i64 {
    hour.saturating_mul(HOUR_NS)
}

/// Hands each batch of a file to `each`; of the columns those named, or all.
///
/// # Errors
/// [`ReadError`], and whatever `each` says.
pub(super) fn visit(
    file: &Path,
    table: &'static Table,
    columns: Option<&[&str]>,
    each: &mut dyn FnMut(RecordBatch) -> Result<(), ArchiveError>,
) -> Result<(), ArchiveError> {
    each_batch(open(file, table, &chosen(table, columns))?, file, each)
}

/// The same of a file's bytes, wherever they are; `file` names it in errors.
pub(super) fn visit_in<R: ChunkReader + 'static>(
    source: R,
    (file, table): (&Path, &'static Table),
    columns: &[&str],
    each: &mut dyn FnMut(RecordBatch) -> Result<(), ArchiveError>,
) -> Result<(), ArchiveError> {
    each_batch(open_in(source, (file, table), &chosen(table, Some(columns)))?, file, each)
}

fn chosen(table: &'static Table, columns: Option<&[&str]>) -> Vec<Column> {
    let wanted = |column: &&Column| columns.is_none_or(|names| names.contains(&column.name));
    table.columns.iter().filter(wanted).copied().collect()
}

fn each_batch(
    reader: ParquetRecordBatchReader,
    file: &Path,
    each: &mut dyn FnMut(RecordBatch) -> Result<(), ArchiveError>,
) -> Result<(), ArchiveError> {
    for batch in reader {
        let damaged = |source: ParquetError| ReadError::File { file: file.to_owned(), source };
        each(batch.map_err(|error| damaged(error.into()))?)?;
    }
    Ok(())
}

/// The batch with all columns of today's table, those that its file does not have yet absent in each row.
///
/// # Errors
/// A column is missing that may not be absent, or is of another type.
pub(super) fn conform(batch: &RecordBatch, table: &'static Table) -> Result<RecordBatch, ArchiveError> {
    let schema: SchemaRef = plain_schema(table);
    let column = |field: &Arc<arrow::datatypes::Field>| -> ArrayRef {
        batch.column_by_name(field.name()).cloned().unwrap_or_else(|| new_null_array(field.data_type(), batch.num_rows()))
    };
    let columns = schema.fields().iter().map(column).collect();
    RecordBatch::try_new(schema, columns).map_err(|source| ArchiveError::Rows { table: table.name, source })
}

/// A column of a known type; `None` where the file does not have it.
pub(super) fn column<'a, T: Array + 'static>(batch: &'a RecordBatch, name: &str) -> Option<&'a T> {
    batch.column_by_name(name)?.as_any().downcast_ref()
}

//! Removes rows from a file by putting another in its place.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use arrow::array::BooleanArray;
use arrow::compute::{filter_record_batch, not};
use arrow::record_batch::RecordBatch;
use farthing_contract::log::Table;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::metadata::KeyValue;
use parquet::file::reader::ChunkReader;

use super::ArchiveError;
use super::batches::visit;
use crate::log::{TEMP_END, options, properties};

/// Rows of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Retained {
    pub(super) kept: u64,
    pub(super) removed: u64,
}

/// Which rows of a batch go.
pub(super) type Goes<'a> = dyn FnMut(&RecordBatch) -> BooleanArray + 'a;

/// Removes the rows of `file` that `goes` names; it needs `columns` of them to tell. A file without such rows is not touched, one
/// without others is removed.
///
/// # Errors
/// [`ArchiveError`]; the file is as it was then.
pub(super) fn retain(file: &Path, table: &'static Table, columns: &[&str], goes: &mut Goes<'_>) -> Result<Retained, ArchiveError> {
    let counted = count(file, table, columns, goes)?;
    match (counted.kept, counted.removed) {
        (_, 0) => {}
        (0, _) => fs::remove_file(file).map_err(ArchiveError::io(file))?,
        _ => rewrite(file, table, goes)?,
    }
    Ok(counted)
}

/// How many rows would go.
///
/// # Errors
/// A file that cannot be read.
pub(super) fn count(file: &Path, table: &'static Table, columns: &[&str], goes: &mut Goes<'_>) -> Result<Retained, ArchiveError> {
    let mut counted = Retained::default();
    visit(file, table, Some(columns), &mut |batch| {
        let removed = goes(&batch).true_count() as u64;
        counted.removed += removed;
        counted.kept += batch.num_rows() as u64 - removed;
        Ok(())
    })?;
    Ok(counted)
}

fn rewrite(file: &Path, table: &'static Table, goes: &mut Goes<'_>) -> Result<(), ArchiveError> {
    let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let temp = file.with_file_name(format!(".{name}{TEMP_END}"));
    let written = write(file, &temp, table, goes).and_then(|()| {
        fs::rename(&temp, file).map_err(ArchiveError::io(file))?;
        let folder = file.parent().unwrap_or(file);
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(ArchiveError::io(folder))
    });
    if written.is_err() {
        let _ = fs::remove_file(&temp);
    }
    written
}

fn write(file: &Path, temp: &Path, table: &'static Table, goes: &mut Goes<'_>) -> Result<(), ArchiveError> {
    let source = File::open(file).map_err(ArchiveError::io(file))?;
    let target = File::create(temp).map_err(ArchiveError::io(temp))?;
    copy(source, target, (file, table), goes)?.sync_all().map_err(ArchiveError::io(temp))
}

/// Writes the rows of `source` that do not go; `file` names it in errors. No row may be left.
///
/// # Errors
/// What cannot be read or written.
pub(super) fn copy<R: ChunkReader + 'static, W: Write + Send>(
    source: R,
    target: W,
    (file, table): (&Path, &'static Table),
    goes: &mut Goes<'_>,
) -> Result<W, ArchiveError> {
    let refused = |source| ArchiveError::Parquet { path: file.to_owned(), source };
    let reader = ParquetRecordBatchReaderBuilder::try_new(source).map_err(refused)?;
    // The file keeps the version of its columns.
    let own = reader.metadata().file_metadata().key_value_metadata().cloned().unwrap_or_default();
    let own = own.into_iter().filter(|pair| pair.key.starts_with("farthing.")).map(|pair| KeyValue::new(pair.key, pair.value)).collect();
    let mut writer = ArrowWriter::try_new_with_options(target, Arc::clone(reader.schema()), options(properties(own))).map_err(refused)?;
    for batch in reader.build().map_err(refused)? {
        let rows = |source| ArchiveError::Rows { table: table.name, source };
        let batch = batch.map_err(rows)?;
        let stays = not(&goes(&batch)).map_err(rows)?;
        writer.write(&filter_record_batch(&batch, &stays).map_err(rows)?).map_err(refused)?;
    }
    writer.into_inner().map_err(refused)
}

//! Reading request traces from Parquet files of the documented format.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type, UInt32Type};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

/// One row of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Milliseconds on the trace's own time line.
    pub ts_ms: i64,
    /// Index into [`Trace::endpoints`].
    pub endpoint: u16,
    /// The document.
    pub key: u32,
    /// A change of the document (true) or a request for it.
    pub is_write: bool,
}

/// A trace in order of time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// Route templates.
    pub endpoints: Vec<Arc<str>>,
    /// Requests and changes.
    pub events: Vec<Event>,
}

/// Why a file is not a trace.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The file cannot be opened.
    #[error("trace {path}: {source}")]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not Parquet, or is damaged.
    #[error("trace {path} cannot be read as Parquet: {detail}")]
    Parquet {
        /// The file.
        path: PathBuf,
        /// Why.
        detail: String,
    },
    /// A column is missing or of the wrong type.
    #[error(
        "trace {path}, column {column}: {detail}; a trace needs ts_ms (int64), key (uint32), endpoint (text) and may have is_write (bool)"
    )]
    Column {
        /// The file.
        path: PathBuf,
        /// The column.
        column: &'static str,
        /// What is wrong with it.
        detail: String,
    },
    /// There is nothing in it.
    #[error("trace {path} holds no requests")]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// More endpoints than can be routed.
    #[error("trace {path} has more than {most} endpoints")]
    Endpoints {
        /// The file.
        path: PathBuf,
        /// The bound.
        most: usize,
    },
}

/// Endpoints a trace may have.
const MAX_ENDPOINTS: usize = 4096;

impl Trace {
    /// Reads `path`. Columns other than `ts_ms`, `key`, `endpoint` and `is_write` are not looked at.
    ///
    /// # Errors
    /// Names the file, and the column where one is at fault.
    pub fn read(path: &Path) -> Result<Self, TraceError> {
        let file = File::open(path).map_err(|source| TraceError::Open { path: path.into(), source })?;
        let parquet = |e: &dyn std::fmt::Display| TraceError::Parquet { path: path.into(), detail: e.to_string() };
        let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|e| parquet(&e))?;
        let wanted = ["ts_ms", "key", "endpoint", "is_write"];
        let indexes: Vec<usize> =
            builder.schema().fields().iter().enumerate().filter(|(_, f)| wanted.contains(&f.name().as_str())).map(|(i, _)| i).collect();
        let mask = ProjectionMask::roots(builder.parquet_schema(), indexes);
        let reader = builder.with_projection(mask).build().map_err(|e| parquet(&e))?;
        let mut rows = Rows { path, trace: Self::default(), names: HashMap::new(), unknown: 0 };
        for batch in reader {
            rows.add(&batch.map_err(|e| parquet(&e))?)?;
        }
        let mut trace = rows.trace;
        if !trace.events.iter().any(|e| !e.is_write) {
            return Err(TraceError::Empty { path: path.into() });
        }
        trace.events.sort_by_key(|e| (e.ts_ms, !e.is_write));
        Ok(trace)
    }

    /// Time from the first to the last event, ms.
    pub fn span_ms(&self) -> i64 {
        let at = |event: Option<&Event>| event.map_or(0, |e| e.ts_ms);
        at(self.events.last()) - at(self.events.first())
    }
}

struct Rows<'a> {
    path: &'a Path,
    trace: Trace,
    names: HashMap<Arc<str>, u16>,
    unknown: u32,
}

impl Rows<'_> {
    fn add(&mut self, batch: &RecordBatch) -> Result<(), TraceError> {
        let ts = self.column(batch, "ts_ms", &DataType::Int64)?;
        let key = self.keys(batch)?;
        let endpoint = self.column(batch, "endpoint", &DataType::Utf8)?;
        let write = batch.column_by_name("is_write").map(|_| self.column(batch, "is_write", &DataType::Boolean)).transpose()?;
        let (ts, key, endpoint) = (ts.as_primitive::<Int64Type>(), key.as_primitive::<UInt32Type>(), endpoint.as_string::<i32>());
        for row in 0..batch.num_rows() {
            let endpoint = self.endpoint(endpoint.value(row))?;
            let is_write = write.as_ref().is_some_and(|w| w.as_boolean().value(row));
            let key = if key.is_null(row) { self.unknown() } else { key.value(row) };
            self.trace.events.push(Event { ts_ms: ts.value(row), endpoint, key, is_write });
        }
        Ok(())
    }

    /// Keys; one that is absent stands for a request that is like no other.
    fn keys(&self, batch: &RecordBatch) -> Result<ArrayRef, TraceError> {
        match batch.column_by_name("key").filter(|c| c.data_type() == &DataType::UInt32) {
            Some(column) => Ok(column.clone()),
            None => self.column(batch, "key", &DataType::UInt32),
        }
    }

    /// A number for a key that is not known, counted down so that it meets none of the dense ones.
    fn unknown(&mut self) -> u32 {
        self.unknown = self.unknown.wrapping_sub(1);
        self.unknown
    }

    fn column(&self, batch: &RecordBatch, column: &'static str, ty: &DataType) -> Result<ArrayRef, TraceError> {
        let fault = |detail: String| TraceError::Column { path: self.path.into(), column, detail };
        let found = batch.column_by_name(column).ok_or_else(|| fault("is missing".into()))?;
        let cast = cast(found, ty).map_err(|e| fault(format!("is {}, not {ty}: {e}", found.data_type())))?;
        if cast.null_count() > 0 {
            return Err(fault(format!("has {} values that are null or not {ty}", cast.null_count())));
        }
        Ok(cast)
    }

    fn endpoint(&mut self, name: &str) -> Result<u16, TraceError> {
        if let Some(&index) = self.names.get(name) {
            return Ok(index);
        }
        let index = self.trace.endpoints.len();
        if index >= MAX_ENDPOINTS {
            return Err(TraceError::Endpoints { path: self.path.into(), most: MAX_ENDPOINTS });
        }
        let name: Arc<str> = name.into();
        self.trace.endpoints.push(name.clone());
        let index = index as u16; // below MAX_ENDPOINTS
        self.names.insert(name, index);
        Ok(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{BooleanArray, Int32Array, Int64Array, StringArray, UInt32Array};
    use parquet::arrow::ArrowWriter;

    fn write(dir: &Path, columns: Vec<(&str, ArrayRef)>) -> PathBuf {
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let path = dir.join("t.parquet");
        let mut writer = ArrowWriter::try_new(File::create(&path).unwrap(), batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        path
    }

    #[test]
    fn rows_come_sorted_with_changes_first() {
        let dir = tempfile::tempdir().unwrap();
        let endpoint = cast(
            &StringArray::from(vec!["/a/{id}", "/b/{id}", "/a/{id}"]),
            &DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8)),
        )
        .unwrap();
        let path = write(
            dir.path(),
            vec![
                ("ts_ms", Arc::new(Int64Array::from(vec![20, 10, 10]))),
                ("key", Arc::new(UInt32Array::from(vec![1, 2, 3]))),
                ("endpoint", endpoint),
                ("is_write", Arc::new(BooleanArray::from(vec![false, false, true]))),
                ("bytes", Arc::new(Int32Array::from(vec![0, 0, 0]))),
            ],
        );
        let trace = Trace::read(&path).unwrap();
        assert_eq!(trace.endpoints, vec!["/a/{id}".into(), "/b/{id}".into()]);
        let rows: Vec<_> = trace.events.iter().map(|e| (e.ts_ms, e.endpoint, e.key, e.is_write)).collect();
        assert_eq!(rows, vec![(10, 0, 3, true), (10, 1, 2, false), (20, 0, 1, false)]);
        assert_eq!(trace.span_ms(), 10);
    }

    #[test]
    fn a_request_without_a_key_is_like_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let path = write(
            dir.path(),
            vec![
                ("ts_ms", Arc::new(Int64Array::from(vec![1, 2, 3]))),
                ("key", Arc::new(UInt32Array::from(vec![None, Some(0), None]))),
                ("endpoint", Arc::new(StringArray::from(vec!["/chat", "/chat", "/chat"]))),
            ],
        );
        let keys: Vec<_> = Trace::read(&path).unwrap().events.iter().map(|e| e.key).collect();
        assert_eq!(keys, vec![u32::MAX, 0, u32::MAX - 1]);
    }

    #[test]
    fn foreign_files_are_refused_by_file_and_column() {
        let dir = tempfile::tempdir().unwrap();
        let path = write(dir.path(), vec![("ts_ms", Arc::new(Int64Array::from(vec![1])))]);
        let error = Trace::read(&path).unwrap_err().to_string();
        assert!(error.contains("t.parquet") && error.contains("column key") && error.contains("missing"), "{error}");
        let path = write(
            dir.path(),
            vec![("ts_ms", Arc::new(StringArray::from(vec!["x"])) as ArrayRef), ("key", Arc::new(UInt32Array::from(vec![1])))],
        );
        let error = Trace::read(&path).unwrap_err().to_string();
        assert!(error.contains("column ts_ms"), "{error}");
        std::fs::write(dir.path().join("no.parquet"), b"hello").unwrap();
        assert!(matches!(Trace::read(&dir.path().join("no.parquet")), Err(TraceError::Parquet { .. })));
        assert!(matches!(Trace::read(&dir.path().join("absent")), Err(TraceError::Open { .. })));
    }
}

//! Reads rows into groups: several files at a time, only the columns that are asked about.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::{Array, BooleanArray, Int64Array, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::record_batch::RecordBatch;
use farthing_contract::log::{Request, Row, TABLE_KEY, Table};
use farthing_types::Purpose;
use foldhash::quality::RandomState;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};

use super::axis::Axis;
use super::groups::{Groups, Key, SKIPPED};
use super::query::CostQuery;
use super::store::{CostError, Limits};
use super::sums::{CallSums, CostSums, RequestSums};

/// Rows that are decoded at a time.
const BATCH: usize = 32_768;
/// Bytes of one file's columns that are held at once.
const MOST_OF_A_FILE: usize = 256 << 20;

/// One thing to read.
#[derive(Debug)]
pub(super) enum Task {
    File(&'static Table, PathBuf),
    Batch(&'static Table, RecordBatch),
}

/// What has been read.
#[derive(Default)]
pub(super) struct Part {
    pub(super) groups: HashMap<Key, CostSums, RandomState>,
    /// Requests by what saved their money.
    pub(super) causes: HashMap<Option<Arc<str>>, RequestSums, RandomState>,
    /// Calls by what they were made for.
    pub(super) purposes: HashMap<Option<Arc<str>>, CallSums, RandomState>,
    pub(super) rows: u64,
    pub(super) files: u64,
    pub(super) unreadable: Vec<String>,
}

/// One reading.
pub(super) struct Scan<'a> {
    pub(super) query: &'a CostQuery,
    pub(super) tasks: Vec<Task>,
    pub(super) limits: Limits,
    pub(super) late: &'a (dyn Fn() -> bool + Sync),
}

/// Why a file's rows are not in the answer, or why there is none.
enum Stop {
    File(String),
    All(CostError),
}

impl From<CostError> for Stop {
    fn from(error: CostError) -> Self {
        Self::All(error)
    }
}

impl Scan<'_> {
    /// Reads everything.
    ///
    /// # Errors
    /// Too many groups, or too late.
    pub(super) fn run(&self) -> Result<Part, CostError> {
        let threads = self.limits.threads.clamp(1, self.tasks.len().max(1));
        let next = AtomicUsize::new(0);
        let work = || self.work(&next, self.limits.bytes / threads);
        let parts: Vec<Result<Part, CostError>> = std::thread::scope(|scope| {
            let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
            let own = work();
            let joined = others.into_iter().map(|other| other.join().unwrap_or(Err(CostError::Broken)));
            std::iter::once(own).chain(joined).collect()
        });
        parts.into_iter().try_fold(Part::default(), |mut whole, part| {
            whole.add(part?);
            Ok(whole)
        })
    }

    fn work(&self, next: &AtomicUsize, bytes: usize) -> Result<Part, CostError> {
        let mut reader = Reader::new(self.query, bytes);
        let mut part = Part::default();
        while let Some(task) = self.tasks.get(next.fetch_add(1, Ordering::Relaxed)) {
            let read = match task {
                Task::File(table, file) => self.file(&mut reader, table, file),
                Task::Batch(table, batch) => reader.batch(table, batch).map(|()| 0),
            };
            match read {
                Ok(files) => part.files += files,
                Err(Stop::File(problem)) => part.unreadable.push(problem),
                Err(Stop::All(error)) => return Err(error),
            }
        }
        reader.into_part(&mut part);
        Ok(part)
    }

    /// A file that cannot be read to its end counts with nothing: its rows are held back until all are there.
    fn file(&self, reader: &mut Reader<'_>, table: &'static Table, file: &Path) -> Result<u64, Stop> {
        let damaged = |problem: String| Stop::File(format!("{}: {problem}", file.display()));
        let mut batches = Vec::new();
        let opened = open(file, table, &columns(table, self.query)).map_err(damaged)?;
        let mut held = 0;
        for batch in opened {
            if (self.late)() {
                return Err(Stop::All(CostError::Late));
            }
            let batch = batch.map_err(|error| damaged(error.to_string()))?;
            held += batch.get_array_memory_size();
            if held > MOST_OF_A_FILE {
                return Err(damaged(format!("its rows take more than {MOST_OF_A_FILE} bytes")));
            }
            batches.push(batch);
        }
        for batch in &batches {
            reader.batch(table, batch).map_err(|stop| match stop {
                Stop::File(problem) => damaged(problem),
                all => all,
            })?;
        }
        Ok(1)
    }
}

/// The columns of a table that a question needs.
fn columns(table: &'static Table, query: &CostQuery) -> Vec<&'static str> {
    let measures: &[&'static str] = if table.name == Request::TABLE.name {
        &["ts_ns", "weight", "outcome", "base_nanousd", "cost_nanousd", "saved_by"]
    } else {
        &["ts_ns", "sent", "purpose", "cost_nanousd", "call_id", "batch_id"]
    };
    let asked = query.by.iter().chain(query.filters.iter().map(|filter| &filter.by));
    let mut columns: Vec<&'static str> = measures.to_vec();
    columns.extend(asked.filter_map(|dimension| dimension.cell(table)).map(|cell| cell.column()));
    columns.sort_unstable();
    columns.dedup();
    columns
}

type Batches = parquet::arrow::arrow_reader::ParquetRecordBatchReader;

/// Opens a file for some columns, text as dictionaries.
fn open(file: &Path, table: &'static Table, columns: &[&str]) -> Result<Batches, String> {
    let told = |error: parquet::errors::ParquetError| error.to_string();
    let handle = File::open(file).map_err(|error| error.to_string())?;
    let plain = ArrowReaderMetadata::load(&handle, ArrowReaderOptions::new()).map_err(told)?;
    let pairs = plain.metadata().file_metadata().key_value_metadata();
    let named = pairs.and_then(|pairs| pairs.iter().find(|pair| pair.key == TABLE_KEY)?.value.clone());
    if named.as_deref() != Some(table.name) {
        return Err(format!("is no file of table `{}`", table.name));
    }
    let schema = Arc::new(Schema::new(plain.schema().fields().iter().map(|field| by_dictionary(field)).collect::<Vec<_>>()));
    let metadata = ArrowReaderMetadata::try_new(plain.metadata().clone(), ArrowReaderOptions::new().with_schema(schema)).map_err(told)?;
    let mask = ProjectionMask::columns(plain.metadata().file_metadata().schema_descr(), columns.iter().copied());
    let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(handle, metadata);
    builder.with_projection(mask).with_batch_size(BATCH).build().map_err(told)
}

fn by_dictionary(field: &Field) -> Field {
    match field.data_type() {
        DataType::Utf8 => field.clone().with_data_type(DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))),
        _ => field.clone(),
    }
}

/// Gathers the rows of one thread.
struct Reader<'a> {
    query: &'a CostQuery,
    groups: Groups,
    sums: Vec<CostSums>,
    causes: Groups,
    by_cause: Vec<RequestSums>,
    purposes: Groups,
    by_purpose: Vec<CallSums>,
    rows: u64,
}

impl<'a> Reader<'a> {
    fn new(query: &'a CostQuery, bytes: usize) -> Self {
        let few = || Groups::new(1 << 20, size_of::<RequestSums>());
        Self {
            query,
            groups: Groups::new(bytes, size_of::<CostSums>()),
            sums: Vec::new(),
            causes: few(),
            by_cause: Vec::new(),
            purposes: few(),
            by_purpose: Vec::new(),
            rows: 0,
        }
    }

    fn batch(&mut self, table: &'static Table, batch: &RecordBatch) -> Result<(), Stop> {
        let ts = numbers(batch, "ts_ns")?;
        let mut taken: Vec<bool> = ts.values().iter().map(|ts| self.query.window.contains(*ts)).collect();
        let axis = |dimension: &super::Dimension| match dimension.cell(table) {
            Some(cell) => Axis::new(batch, &cell).map_err(Stop::File),
            None => Ok(Axis::empty()),
        };
        for filter in &self.query.filters {
            axis(&filter.by)?.keep(&filter.values, &mut taken);
        }
        let axes: Vec<Axis> = self.query.by.iter().map(axis).collect::<Result<_, _>>()?;
        let steps: Option<Vec<i64>> = self.query.step.map(|step| ts.values().iter().map(|ts| ts.div_euclid(step)).collect());
        let groups = self.groups.of_batch(&axes, steps.as_deref(), &taken)?;
        self.sums.resize(self.groups.len(), CostSums::none((false, false)));
        self.rows += taken.iter().filter(|taken| **taken).count() as u64;
        if table.name == Request::TABLE.name { self.requests(batch, &groups, &taken) } else { self.calls(batch, &groups, &taken) }
    }

    fn requests(&mut self, batch: &RecordBatch, groups: &[u32], taken: &[bool]) -> Result<(), Stop> {
        let (weight, base, cost) = (numbers(batch, "weight")?, numbers(batch, "base_nanousd")?, numbers(batch, "cost_nanousd")?);
        let text = |column| Axis::new(batch, &super::dimension::Cell::Text(column)).map_err(Stop::File);
        let (outcome, saved_by) = (text("outcome")?, text("saved_by")?);
        let outcomes = Outcomes::new(&outcome);
        let causes = self.causes.of_batch(std::slice::from_ref(&saved_by), None, taken)?;
        self.by_cause.resize(self.causes.len(), RequestSums::default());
        for (row, (group, cause)) in groups.iter().zip(causes).enumerate() {
            if *group == SKIPPED {
                continue;
            }
            let priced = |column: &Int64Array| column.is_valid(row).then(|| i128::from(column.value(row)));
            let row = RequestFacts {
                weight: i128::from(weight.value(row)),
                base: priced(base),
                cost: priced(cost),
                saves: saved_by.at(row) > 0,
                outcome: outcomes.of(outcome.at(row)),
            };
            let sums = row.sums();
            if let Some(group) = self.sums.get_mut(*group as usize) {
                *group.requests.get_or_insert_default() += sums;
            }
            if let Some(cause) = self.by_cause.get_mut(cause as usize) {
                *cause += sums;
            }
        }
        Ok(())
    }

    fn calls(&mut self, batch: &RecordBatch, groups: &[u32], taken: &[bool]) -> Result<(), Stop> {
        let cost = numbers(batch, "cost_nanousd")?;
        let sent = batch.column_by_name("sent").and_then(|array| array.as_any().downcast_ref::<BooleanArray>());
        let sent = sent.ok_or_else(|| Stop::File("column `sent` is missing or no flag".to_owned()))?;
        let counts = counted(batch)?;
        let purpose = Axis::new(batch, &super::dimension::Cell::Text("purpose")).map_err(Stop::File)?;
        let waited = |name: &Arc<str>| Purpose::parse(name).is_some_and(Purpose::is_waited_for);
        let background: Vec<bool> = std::iter::once(false).chain(purpose.names.iter().map(|name| !waited(name))).collect();
        let ahead: Vec<bool> =
            std::iter::once(false).chain(purpose.names.iter().map(|name| **name == *Purpose::Prefetch.as_str())).collect();
        let purposes = self.purposes.of_batch(std::slice::from_ref(&purpose), None, taken)?;
        self.by_purpose.resize(self.purposes.len(), CallSums::default());
        for (row, (group, of_purpose)) in groups.iter().zip(purposes).enumerate() {
            if *group == SKIPPED {
                continue;
            }
            let bill = if cost.is_valid(row) { i128::from(cost.value(row)) } else { 0 };
            let number = purpose.at(row) as usize;
            let part = |is: &[bool]| if is.get(number).copied().unwrap_or(false) { bill } else { 0 };
            let sums = CallSums {
                calls: i128::from(sent.value(row) && counts(row)),
                bill,
                background: part(&background),
                prefetch: part(&ahead),
                unpriced: i128::from(cost.is_null(row)),
            };
            if let Some(group) = self.sums.get_mut(*group as usize) {
                *group.calls.get_or_insert_default() += sums;
            }
            if let Some(of_purpose) = self.by_purpose.get_mut(of_purpose as usize) {
                *of_purpose += sums;
            }
        }
        Ok(())
    }

    fn into_part(self, part: &mut Part) {
        fn named<T: Copy>(groups: Groups, sums: &[T]) -> impl Iterator<Item = (Key, T)> {
            groups.into_keys().into_iter().filter_map(|(key, number)| Some((key, *sums.get(number as usize)?)))
        }
        fn alone(key: Key) -> Option<Arc<str>> {
            key.0.into_vec().into_iter().next().flatten()
        }
        part.rows += self.rows;
        part.groups = named(self.groups, &self.sums).collect();
        part.causes = named(self.causes, &self.by_cause).map(|(key, sums)| (alone(key), sums)).collect();
        part.purposes = named(self.purposes, &self.by_purpose).map(|(key, sums)| (alone(key), sums)).collect();
    }
}

impl Part {
    fn add(&mut self, other: Self) {
        for (key, sums) in other.groups {
            *self.groups.entry(key).or_default() += sums;
        }
        for (cause, sums) in other.causes {
            *self.causes.entry(cause).or_default() += sums;
        }
        for (purpose, sums) in other.purposes {
            *self.purposes.entry(purpose).or_default() += sums;
        }
        self.rows += other.rows;
        self.files += other.files;
        self.unreadable.extend(other.unreadable);
    }
}

/// What a request's row says about money.
pub(super) struct RequestFacts {
    pub(super) weight: i128,
    pub(super) base: Option<i128>,
    pub(super) cost: Option<i128>,
    pub(super) saves: bool,
    pub(super) outcome: Answered,
}

/// How a request was answered, as far as sums tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answered {
    Hit,
    Failed,
    Other,
}

impl Answered {
    pub(super) fn of(outcome: &str) -> Self {
        match outcome {
            "hit" | "stale" | "follow" => Self::Hit,
            "failed" => Self::Failed,
            _ => Self::Other,
        }
    }
}

impl RequestFacts {
    #[inline]
    pub(super) fn sums(&self) -> RequestSums {
        let saved = if self.saves { self.base.zip(self.cost).map_or(0, |(base, cost)| base - cost) } else { 0 };
        let count = |is: bool| if is { self.weight } else { 0 };
        RequestSums {
            requests: self.weight,
            hits: count(self.outcome == Answered::Hit),
            failed: count(self.outcome == Answered::Failed),
            base: self.base.unwrap_or(0) * self.weight,
            cost: self.cost.unwrap_or(0) * self.weight,
            saved: saved * self.weight,
            unpriced: count(self.base.is_none() || self.cost.is_none()),
        }
    }
}

/// Outcomes of a batch by their numbers.
struct Outcomes(Vec<Answered>);

impl Outcomes {
    fn new(axis: &Axis) -> Self {
        Self(std::iter::once(Answered::Other).chain(axis.names.iter().map(|name| Answered::of(name))).collect())
    }
    #[inline]
    fn of(&self, number: u32) -> Answered {
        self.0.get(number as usize).copied().unwrap_or(Answered::Other)
    }
}

/// Whether a row is to be counted as an attempt: one that was made for several calls has a row for each, of which the first stands for it.
fn counted(batch: &RecordBatch) -> Result<impl Fn(usize) -> bool, Stop> {
    let ids = |name: &str| match batch.column_by_name(name) {
        // Before there were batches each row was one.
        None => Ok(None),
        Some(array) => {
            let ids = array.as_any().downcast_ref::<UInt64Array>().cloned();
            ids.map(Some).ok_or_else(|| Stop::File(format!("column `{name}` is no id")))
        }
    };
    let ids = ids("call_id")?.zip(ids("batch_id")?);
    let counts = move |row: usize| ids.as_ref().is_none_or(|(call, batch)| batch.is_null(row) || batch.value(row) == call.value(row));
    Ok(counts)
}

fn numbers<'b>(batch: &'b RecordBatch, column: &str) -> Result<&'b Int64Array, Stop> {
    let found = batch.column_by_name(column).and_then(|array| array.as_any().downcast_ref::<Int64Array>());
    found.ok_or_else(|| Stop::File(format!("column `{column}` is missing or no number")))
}

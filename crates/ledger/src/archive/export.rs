//! A verified copy of some of the log, for the trainer and for whoever else reads it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use arrow::array::Int64Array;
use arrow::compute::{filter_record_batch, max, min};
use arrow::record_batch::RecordBatch;
use farthing_contract::log::{ALL, CallRow, Column, Row, SCHEMA_VERSION, Table, Value, partition};
use parquet::arrow::ArrowWriter;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::batches::{column, conform, hours, parts, visit};
use super::focus::{Focus, READ};
use super::traces::Traces;
use super::{ArchiveError, JournalHolding, Selection, holdings::in_journal};
use crate::log::{names, options, plain_schema, properties};
use crate::read::{Cells, text};

/// How rows are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// As in the log: `<table>/date=YYYY-MM-DD/hour=HH/*.parquet`, so that the trainer reads the folder as a log.
    #[default]
    Parquet,
    /// `<table>.csv` with a head line; ids in 16 hexadecimal digits, absent values empty.
    Csv,
    /// `<table>.jsonl`, an object for each row; ids in 16 hexadecimal digits.
    Jsonl,
    /// `focus.csv`: the bill by day, as the FinOps Open Cost and Usage Specification has it, version 1.0.
    Focus,
}

/// What is to be exported.
#[derive(Clone, Debug)]
pub struct Order {
    /// The log.
    pub dir: PathBuf,
    /// The folder to write, new or empty.
    pub out: PathBuf,
    /// Which rows.
    pub selection: Selection,
    /// How.
    pub format: Format,
}

/// A file of an export.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ExportedFile {
    /// Its path below the folder.
    pub path: String,
    /// Table of its rows.
    pub table: &'static str,
    /// Rows.
    pub rows: u64,
    /// Bytes.
    pub bytes: u64,
    /// SHA-256 of the bytes, hexadecimal.
    pub sha256: String,
    /// The earliest row, ns since 1970 UTC.
    pub first_ns: Option<i64>,
    /// The latest row.
    pub last_ns: Option<i64>,
}

/// `manifest.json` of an export: written last, so that a folder without one is unfinished.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Manifest {
    /// Version of Farthing.
    pub farthing: &'static str,
    /// Version of the tables.
    pub schema_version: u32,
    /// How rows are written.
    pub format: Format,
    /// Which rows were asked for.
    pub selection: Selection,
    /// Rows by table.
    pub rows: BTreeMap<&'static str, u64>,
    /// The files.
    pub files: Vec<ExportedFile>,
    /// Files of the log that could not be read, and why: their rows are missing.
    pub skipped: Vec<String>,
    /// Rows that are in no file of the log yet, of whatever tenant and time: not exported.
    pub in_journal: JournalHolding,
    /// Of [`Format::Focus`]: calls whose cost is not known, which have no row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unpriced_calls: Option<u64>,
}

/// Copies rows of the log into a folder; every file read and written is read whole.
///
/// # Errors
/// A folder that is not empty, or cannot be written. Files of the log that cannot be read are in [`Manifest::skipped`].
pub fn export(order: &Order) -> Result<Manifest, ArchiveError> {
    fs::create_dir_all(&order.out).map_err(ArchiveError::io(&order.out))?;
    if fs::read_dir(&order.out).map_err(ArchiveError::io(&order.out))?.next().is_some() {
        return Err(ArchiveError::NotEmpty(order.out.clone()));
    }
    let traces = order.selection.tenant.as_deref().map(|tenant| Traces::find(&order.dir, tenant, &order.selection));
    let mut manifest = Manifest {
        farthing: env!("CARGO_PKG_VERSION"),
        schema_version: SCHEMA_VERSION,
        format: order.format,
        selection: order.selection.clone(),
        rows: ALL.iter().map(|table| (table.name, 0)).collect(),
        files: Vec::new(),
        skipped: Vec::new(),
        in_journal: in_journal(&order.dir),
        unpriced_calls: None,
    };
    if order.format == Format::Focus {
        manifest.rows.clear();
        charges(order, traces.as_ref(), &mut manifest)?;
    } else {
        for table in ALL {
            copy_table(order, table, traces.as_ref(), &mut manifest)?;
        }
    }
    let path = order.out.join("manifest.json");
    let json = serde_json::to_vec_pretty(&manifest).map_err(|error| ArchiveError::Io { path: path.clone(), source: error.into() })?;
    fs::write(&path, json).map_err(ArchiveError::io(&path))?;
    Ok(manifest)
}

fn charges(order: &Order, traces: Option<&Traces>, manifest: &mut Manifest) -> Result<(), ArchiveError> {
    let (table, mut focus) = (CallRow::TABLE, Focus::default());
    let columns: Vec<Column> = READ.iter().filter_map(|name| table.columns.iter().find(|column| column.name == *name)).copied().collect();
    for (_, folder) in hours(&order.dir, table).into_iter().filter(|(hour, _)| order.selection.may_be_in(*hour)) {
        for file in parts(&folder) {
            for batch in &manifest.meant(&file, table, traces) {
                lines(&columns, batch, &mut |cells| focus.add(cells)).map_err(ArchiveError::io(&file))?;
            }
        }
    }
    let path = order.out.join("focus.csv");
    let mut out = BufWriter::new(File::create(&path).map_err(ArchiveError::io(&path))?);
    focus.write(&mut out).map_err(ArchiveError::io(&path))?;
    let file = out.into_inner().map_err(|error| ArchiveError::Io { path: path.clone(), source: error.into_error() })?;
    file.sync_all().map_err(ArchiveError::io(&path))?;
    let (bytes, sha256) = digest(&path).map_err(ArchiveError::io(&path))?;
    let (rows, first_ns, last_ns) = focus.span();
    manifest.unpriced_calls = Some(focus.unpriced);
    manifest.add(ExportedFile { path: "focus.csv".to_owned(), table: "charges", rows, bytes, sha256, first_ns, last_ns });
    Ok(())
}

fn copy_table(order: &Order, table: &'static Table, traces: Option<&Traces>, manifest: &mut Manifest) -> Result<(), ArchiveError> {
    let mut open: Option<Target> = None;
    for (hour, folder) in hours(&order.dir, table).into_iter().filter(|(hour, _)| order.selection.may_be_in(*hour)) {
        for file in parts(&folder) {
            for batch in manifest.meant(&file, table, traces).iter().filter(|batch| batch.num_rows() > 0) {
                if open.is_none() {
                    open = Some(Target::create(order, table, hour)?);
                }
                if let Some(target) = &mut open {
                    target.write(batch)?;
                }
            }
        }
        // One file for each hour of Parquet, one for all of the others.
        if order.format == Format::Parquet
            && let Some(target) = open.take()
        {
            manifest.add(target.finish(order)?);
        }
    }
    if let Some(target) = open {
        manifest.add(target.finish(order)?);
    }
    Ok(())
}

/// The rows of a file that are meant. A file is in memory as a whole, so that a damaged one adds nothing.
fn selected(file: &Path, table: &'static Table, selection: &Selection, traces: Option<&Traces>) -> Result<Vec<RecordBatch>, ArchiveError> {
    let mut rows = Vec::new();
    visit(file, table, None, &mut |batch| {
        let mask = selection.mask(table, &batch, traces);
        let meant = filter_record_batch(&batch, &mask).map_err(|source| ArchiveError::Rows { table: table.name, source })?;
        rows.push(conform(&meant, table)?);
        Ok(())
    })?;
    Ok(rows)
}

impl Manifest {
    /// The rows of a file that are meant: none of one that cannot be read, which is noted.
    fn meant(&mut self, file: &Path, table: &'static Table, traces: Option<&Traces>) -> Vec<RecordBatch> {
        selected(file, table, &self.selection, traces).unwrap_or_else(|error| {
            self.skipped.push(error.to_string());
            Vec::new()
        })
    }

    fn add(&mut self, file: ExportedFile) {
        *self.rows.entry(file.table).or_default() += file.rows;
        self.files.push(file);
    }
}

/// A file being written.
struct Target {
    table: &'static Table,
    path: PathBuf,
    rows: u64,
    first_ns: Option<i64>,
    last_ns: Option<i64>,
    writer: Writer,
}

enum Writer {
    Parquet(Box<ArrowWriter<File>>),
    Csv(BufWriter<File>),
    Jsonl(BufWriter<File>),
}

impl Target {
    fn create(order: &Order, table: &'static Table, hour: i64) -> Result<Self, ArchiveError> {
        let path = match order.format {
            Format::Parquet => order.out.join(table.name).join(partition(hour)).join("part-export.parquet"),
            Format::Csv | Format::Focus => order.out.join(format!("{}.csv", table.name)),
            Format::Jsonl => order.out.join(format!("{}.jsonl", table.name)),
        };
        let folder = path.parent().unwrap_or(&order.out);
        fs::create_dir_all(folder).map_err(ArchiveError::io(folder))?;
        let file = File::create(&path).map_err(ArchiveError::io(&path))?;
        let writer = match order.format {
            Format::Parquet => Writer::Parquet(Box::new(parquet_writer(file, table, &path)?)),
            Format::Csv | Format::Focus => {
                let names: Vec<&str> = table.columns.iter().map(|column| column.name).collect();
                let mut writer = BufWriter::new(file);
                writeln!(writer, "{}", names.join(",")).map_err(ArchiveError::io(&path))?;
                Writer::Csv(writer)
            }
            Format::Jsonl => Writer::Jsonl(BufWriter::new(file)),
        };
        Ok(Self { table, path, rows: 0, first_ns: None, last_ns: None, writer })
    }

    fn write(&mut self, batch: &RecordBatch) -> Result<(), ArchiveError> {
        self.rows += batch.num_rows() as u64;
        if let Some(times) = column::<Int64Array>(batch, "ts_ns") {
            self.first_ns = [self.first_ns, min(times)].into_iter().flatten().min();
            self.last_ns = [self.last_ns, max(times)].into_iter().flatten().max();
        }
        match &mut self.writer {
            Writer::Parquet(writer) => writer.write(batch).map_err(|source| ArchiveError::Parquet { path: self.path.clone(), source }),
            Writer::Csv(out) => lines(self.table.columns, batch, &mut |cells| csv_line(out, cells)).map_err(ArchiveError::io(&self.path)),
            Writer::Jsonl(out) => {
                let table = self.table;
                lines(table.columns, batch, &mut |cells| json_line(out, table, cells)).map_err(ArchiveError::io(&self.path))
            }
        }
    }

    /// Syncs the file and reads it back.
    fn finish(self, order: &Order) -> Result<ExportedFile, ArchiveError> {
        let path = self.path;
        let file = match self.writer {
            Writer::Parquet(writer) => writer.into_inner().map_err(|source| ArchiveError::Parquet { path: path.clone(), source })?,
            Writer::Csv(out) | Writer::Jsonl(out) => {
                out.into_inner().map_err(|error| ArchiveError::Io { path: path.clone(), source: error.into_error() })?
            }
        };
        file.sync_all().map_err(ArchiveError::io(&path))?;
        let mut found = self.rows;
        if order.format == Format::Parquet {
            found = 0;
            visit(&path, self.table, None, &mut |batch| {
                found += batch.num_rows() as u64;
                Ok(())
            })?;
        }
        if found != self.rows {
            return Err(ArchiveError::Unverified { path, found, written: self.rows });
        }
        let (bytes, sha256) = digest(&path).map_err(ArchiveError::io(&path))?;
        let below = path.strip_prefix(&order.out).unwrap_or(&path).display().to_string();
        let (first_ns, last_ns) = (self.first_ns, self.last_ns);
        Ok(ExportedFile { path: below, table: self.table.name, rows: self.rows, bytes, sha256, first_ns, last_ns })
    }
}

/// Begins a file of a table; `path` names it in errors.
pub(super) fn parquet_writer<W: Write + Send>(target: W, table: &Table, path: &Path) -> Result<ArrowWriter<W>, ArchiveError> {
    let refused = |source| ArchiveError::Parquet { path: path.to_owned(), source };
    ArrowWriter::try_new_with_options(target, plain_schema(table), options(properties(names(table)))).map_err(refused)
}

fn digest(path: &Path) -> io::Result<(u64, String)> {
    let mut hasher = Sha256::new();
    let bytes = io::copy(&mut File::open(path)?, &mut hasher)?;
    Ok((bytes, hex::encode(hasher.finalize())))
}

fn lines(columns: &[Column], batch: &RecordBatch, each: &mut dyn FnMut(&[Value<'_>]) -> io::Result<()>) -> io::Result<()> {
    let cells = columns.iter().map(|column| Cells::new(batch, column)).collect::<Result<Vec<_>, _>>().map_err(io::Error::other)?;
    for row in 0..batch.num_rows() {
        let values: Vec<Value<'_>> = cells.iter().map(|cells| cells.get(row)).collect();
        each(&values)?;
    }
    Ok(())
}

/// A line of RFC 4180, but for the line feed alone at its end.
pub(super) fn csv_line(out: &mut impl Write, values: &[Value<'_>]) -> io::Result<()> {
    for (place, value) in values.iter().enumerate() {
        let cell = text(value);
        let comma = if place > 0 { "," } else { "" };
        // An empty text is told from an absent value by its quotes.
        if cell.contains([',', '"', '\n', '\r']) || matches!(value, Value::Text("")) {
            write!(out, "{comma}\"{}\"", cell.replace('"', "\"\""))?;
        } else {
            write!(out, "{comma}{cell}")?;
        }
    }
    writeln!(out)
}

fn json_line(out: &mut impl Write, table: &Table, values: &[Value<'_>]) -> io::Result<()> {
    for (place, (column, value)) in table.columns.iter().zip(values).enumerate() {
        let begin = if place == 0 { "{" } else { "," };
        write!(out, "{begin}\"{}\":", column.name)?;
        match value {
            Value::Null => write!(out, "null")?,
            Value::U64(_) => write!(out, "\"{}\"", text(value))?,
            Value::Text(text) => serde_json::to_writer(&mut *out, text)?,
            Value::F64(number) => serde_json::to_writer(&mut *out, number)?,
            Value::F32(number) => serde_json::to_writer(&mut *out, number)?,
            Value::F32List(list) => serde_json::to_writer(&mut *out, list)?,
            Value::I64(_) | Value::I32(_) | Value::Bool(_) => write!(out, "{}", text(value))?,
        }
    }
    writeln!(out, "}}")
}

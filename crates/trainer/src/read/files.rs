//! Finds files by pattern, checks that they are what they should be, and opens the columns that are wanted.

use std::fs::File;
use std::path::{Path, PathBuf};

use farthing_contract::log::{ColumnType, SCHEMA_VERSION, TABLE_KEY, Table, VERSION_KEY};
use polars::prelude::{Column, DataFrame, DataType, PolarsError};
use polars_io::SerReader;
use polars_io::parquet::read::ParquetReader;
use sha2::{Digest, Sha256};

use crate::error::TrainError;

/// Where the files of a log are: a pattern, or the files themselves.
pub trait Files {
    /// The files, in order of their paths.
    ///
    /// # Errors
    /// [`TrainError::NoFiles`] when there are none.
    fn files(&self) -> Result<Vec<PathBuf>, TrainError>;
    /// For messages.
    fn name(&self) -> PathBuf;
}

impl Files for str {
    fn files(&self) -> Result<Vec<PathBuf>, TrainError> {
        find(self)
    }
    fn name(&self) -> PathBuf {
        PathBuf::from(self)
    }
}

impl Files for String {
    fn files(&self) -> Result<Vec<PathBuf>, TrainError> {
        find(self)
    }
    fn name(&self) -> PathBuf {
        PathBuf::from(self)
    }
}

impl Files for [PathBuf] {
    fn files(&self) -> Result<Vec<PathBuf>, TrainError> {
        if self.is_empty() { Err(TrainError::NoFiles("no file".to_owned())) } else { Ok(self.to_vec()) }
    }
    fn name(&self) -> PathBuf {
        self.first().cloned().unwrap_or_default()
    }
}

/// The Parquet files that a pattern matches, in order of their paths; a folder stands for all Parquet files below it.
///
/// # Errors
/// [`TrainError::NoFiles`] when there are none.
pub fn find(pattern: &str) -> Result<Vec<PathBuf>, TrainError> {
    let none = || TrainError::NoFiles(pattern.to_owned());
    let whole = if Path::new(pattern).is_dir() { format!("{}/**/*.parquet", pattern.trim_end_matches('/')) } else { pattern.to_owned() };
    let mut found: Vec<PathBuf> = glob::glob(&whole).map_err(|_| none())?.filter_map(Result::ok).filter(|p| p.is_file()).collect();
    found.sort();
    if found.is_empty() { Err(none()) } else { Ok(found) }
}

/// SHA-256 over the sorted digests of the files: the identity of the training data, whatever the files are called.
///
/// # Errors
/// A file that cannot be read.
pub fn digest(files: &[PathBuf]) -> Result<String, TrainError> {
    let mut digests = Vec::with_capacity(files.len());
    for path in files {
        let mut hasher = Sha256::new();
        let mut file = File::open(path).map_err(TrainError::io(path))?;
        std::io::copy(&mut file, &mut hasher).map_err(TrainError::io(path))?;
        digests.push(hex::encode(hasher.finalize()));
    }
    digests.sort();
    Ok(hex::encode(Sha256::digest(digests.join("\n"))))
}

/// What to do about a file whose columns are not those of its table.
pub(super) const CHANGED: &str = "the file says it is of this log but was changed by another program: restore or remove it";

/// A column that is wanted of a file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    /// Its name.
    pub name: &'static str,
    /// Its type.
    pub ty: ColumnType,
    /// The schema version that added it: for rows of older files it is null.
    pub since: u32,
}

/// A Parquet file whose footer has been read.
pub(super) struct Opened {
    path: PathBuf,
    reader: ParquetReader<File>,
    /// Of the schema; the highest for foreign files, which are to have all that is wanted.
    version: u32,
}

impl Opened {
    pub(super) fn open(path: &Path) -> Result<Self, TrainError> {
        let file = File::open(path).map_err(TrainError::io(path))?;
        let mut reader = ParquetReader::new(file);
        let bad = |e: polars::prelude::PolarsError| TrainError::Unreadable { path: path.to_path_buf(), reason: e.to_string() };
        reader.get_metadata().map_err(bad)?;
        reader.schema().map_err(bad)?;
        Ok(Self { path: path.to_path_buf(), reader, version: u32::MAX })
    }

    /// The log table that the file says it is.
    pub(super) fn table(&mut self) -> Result<&'static Table, TrainError> {
        let named = self.property(TABLE_KEY);
        let Some(table) = named.as_deref().and_then(|name| farthing_contract::log::ALL.into_iter().find(|t| t.name == name)) else {
            return Err(self.foreign_table());
        };
        let version: u32 = self.property(VERSION_KEY).and_then(|v| v.parse().ok()).unwrap_or(0);
        if version == 0 || version > SCHEMA_VERSION {
            let what = format!("schema version {version}, this farthing-train reads 1 to {SCHEMA_VERSION}");
            return Err(self.foreign(what, "use the farthing-train of the proxy that wrote it".to_owned()));
        }
        self.version = version;
        Ok(table)
    }

    fn property(&mut self, key: &str) -> Option<String> {
        let metadata = self.reader.get_metadata().ok()?;
        metadata.key_value_metadata().as_ref()?.iter().find(|kv| kv.key == key)?.value.clone()
    }

    /// Says which column gives the file away.
    fn foreign_table(&mut self) -> TrainError {
        let names: Vec<String> = self.types().into_iter().map(|(name, _)| name).collect();
        let calls = farthing_contract::log::ALL[1];
        let missing = calls.columns.iter().find(|c| !names.iter().any(|n| n == c.name)).map_or("ts_ns", |c| c.name);
        let first = names.first().map_or("none", String::as_str);
        let what = format!(
            "not a table of Farthing's log: it has no column `{missing}` and no metadata `{TABLE_KEY}` (its first column is `{first}`)"
        );
        self.foreign(
            what,
            "give the log folder of the proxy, or move this file out of it; traces of reads and changes go to `evaluate ttl --trace`"
                .to_owned(),
        )
    }

    fn foreign(&self, what: String, remedy: String) -> TrainError {
        TrainError::Foreign { path: self.path.clone(), what, remedy }
    }

    /// Names and types of the columns.
    pub(super) fn types(&mut self) -> Vec<(String, DataType)> {
        let Ok(schema) = self.reader.schema() else { return Vec::new() };
        schema.iter().map(|(name, field)| (name.to_string(), DataType::from_arrow_field(field))).collect()
    }

    /// Reads the wanted columns. `fits` says whether a column's type will do.
    pub(super) fn columns(
        mut self,
        wanted: &[Wanted],
        fits: fn(ColumnType, &DataType) -> bool,
        remedy: &str,
    ) -> Result<DataFrame, TrainError> {
        let types = self.types();
        let version = self.version;
        let lacking = |want: &&Wanted| want.since > version;
        for want in wanted.iter().filter(|want| !lacking(want)) {
            let what = match types.iter().find(|(name, _)| name == want.name) {
                None => format!("column `{}` is missing", want.name),
                Some((_, ty)) if !fits(want.ty, ty) => format!("column `{}` is {ty}, wanted {:?}", want.name, want.ty),
                Some(_) => continue,
            };
            return Err(self.foreign(what, remedy.to_owned()));
        }
        let Self { path, reader, .. } = self;
        let there = wanted.iter().filter(|w| !lacking(w)).map(|w| w.name.to_owned()).collect();
        let bad = |e: PolarsError| TrainError::Unreadable { path: path.clone(), reason: e.to_string() };
        let mut frame = reader.with_columns(Some(there)).finish().map_err(bad)?;
        for want in wanted.iter().filter(lacking) {
            frame.with_column(Column::full_null(want.name.into(), frame.height(), &data_type(want.ty))).map_err(bad)?;
        }
        let names: Vec<_> = wanted.iter().map(|w| w.name).collect();
        frame.select(names).map_err(bad)
    }
}

/// The type of a column in memory.
pub(crate) fn data_type(ty: ColumnType) -> DataType {
    match ty {
        ColumnType::I64 => DataType::Int64,
        ColumnType::U64 => DataType::UInt64,
        ColumnType::I32 => DataType::Int32,
        ColumnType::F64 => DataType::Float64,
        ColumnType::F32 => DataType::Float32,
        ColumnType::Bool => DataType::Boolean,
        ColumnType::Text => DataType::String,
        ColumnType::F32List => DataType::List(Box::new(DataType::Float32)),
    }
}

/// Exactly the declared type; text may be dictionary-encoded.
pub(super) fn exact(wanted: ColumnType, found: &DataType) -> bool {
    match (wanted, found) {
        (ColumnType::I64, DataType::Int64)
        | (ColumnType::U64, DataType::UInt64)
        | (ColumnType::I32, DataType::Int32)
        | (ColumnType::F64, DataType::Float64)
        | (ColumnType::F32, DataType::Float32)
        | (ColumnType::Bool, DataType::Boolean)
        | (ColumnType::Text, DataType::String | DataType::Categorical(..)) => true,
        (ColumnType::F32List, DataType::List(inner)) => **inner == DataType::Float32,
        _ => false,
    }
}

/// Any integer for an integer: foreign writers choose their own widths.
pub(super) fn roughly(wanted: ColumnType, found: &DataType) -> bool {
    match wanted {
        ColumnType::I64 | ColumnType::U64 | ColumnType::I32 => found.is_integer(),
        _ => exact(wanted, found),
    }
}

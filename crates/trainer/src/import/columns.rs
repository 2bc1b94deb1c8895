//! `columns`: Parquet or CSV with the columns of `data/README.md`, or others under a mapping.

use std::borrow::Cow;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::cells::{Cell, Row, record};
use super::copies::Identity;
use super::fingerprint::Fingerprint;
use super::format::{Format, Sink, each_line};
use super::mapping::{Field, Mapping, Unit};
use super::record::Record;
use super::skipped::Reason;
use super::time::TimeFormat;
use crate::error::TrainError;
use crate::read::{ForeignColumn, ForeignTable};

/// The format.
pub struct Columns;

impl Format for Columns {
    fn name(&self) -> &'static str {
        "columns"
    }
    fn about(&self) -> &'static str {
        "Parquet or CSV (with a header) with ts_ms, key, endpoint ... as in data/README.md, or other columns under --mapping"
    }
    fn read(&self, mapping: &Mapping, path: &Path, sink: &mut dyn Sink) -> Result<(), TrainError> {
        let usual = usual();
        let given = !mapping.is_empty();
        let all = if given { mapping.clone() } else { Mapping { prices: mapping.prices.clone(), ..usual } };
        if is_parquet(path)? { parquet(&all, given, path, sink) } else { csv(&all, given, path, sink) }
    }
}

/// The columns of `data/README.md`.
fn usual() -> Mapping {
    let pairs = [
        (Field::Time, "ts_ms"),
        (Field::Method, "method"),
        (Field::Endpoint, "endpoint"),
        (Field::Key, "key"),
        (Field::Status, "status"),
        (Field::Bytes, "bytes"),
        (Field::Latency, "latency_ms"),
        (Field::Cost, "cost_usd"),
        (Field::Client, "client"),
        (Field::TtlS, "ttl_s"),
        (Field::TokensInput, "tokens_in"),
        (Field::TokensOutput, "tokens_out"),
        (Field::IsWrite, "is_write"),
    ];
    Mapping { time_format: TimeFormat::EpochMs, latency_unit: Unit::Ms, ..Mapping::of(&pairs) }
}

pub(super) fn is_parquet(path: &Path) -> Result<bool, TrainError> {
    if path == Path::new("-") {
        return Ok(false);
    }
    let mut magic = Vec::with_capacity(4);
    File::open(path).and_then(|file| file.take(4).read_to_end(&mut magic)).map_err(TrainError::io(path))?;
    Ok(magic == b"PAR1")
}

/// Columns that the mapping names but the file does not have are an error; of the usual ones only time and endpoint are needed.
fn check(mapping: &Mapping, given: bool, path: &Path, names: &[&str]) -> Result<(), TrainError> {
    for field in Field::ALL {
        let Some(place) = mapping.place(*field) else { continue };
        let needed = given || matches!(field, Field::Time | Field::Endpoint);
        if needed && !names.contains(&place) {
            return Err(TrainError::Foreign {
                path: path.to_path_buf(),
                what: format!("no column `{place}` for `{}` (it has {})", field.name(), names.join(", ")),
                remedy: "name the file's own columns in a mapping file (--mapping), like `time = \"timestamp\"`".to_owned(),
            });
        }
    }
    Ok(())
}

/// Rows read at once.
const SLICE: usize = 65_536;

struct TableRow<'t> {
    columns: &'t [Option<ForeignColumn>],
    row: usize,
}

impl<'t> Row<'t> for TableRow<'t> {
    fn cell(&self, field: Field) -> Option<Cell<'t>> {
        Some(match self.columns.get(field as usize)?.as_ref()? {
            ForeignColumn::Ints(values) => Cell::Int((*values.get(self.row)?)?),
            ForeignColumn::Floats(values) => Cell::Float((*values.get(self.row)?)?),
            ForeignColumn::Bools(values) => Cell::Bool((*values.get(self.row)?)?),
            ForeignColumn::Texts(values, places) => Cell::Text(Cow::Borrowed(values.get((*places.get(self.row)?)? as usize)?)),
        })
    }
}

fn parquet(mapping: &Mapping, given: bool, path: &Path, sink: &mut dyn Sink) -> Result<(), TrainError> {
    let mut table = ForeignTable::open(path)?;
    let names = table.names();
    check(mapping, given, path, &names.iter().map(String::as_str).collect::<Vec<_>>())?;
    let places: Vec<Option<&str>> = Field::ALL.iter().map(|f| mapping.place(*f).filter(|p| names.iter().any(|n| n == p))).collect();
    let print = file_fingerprint(path)?;
    let bytes = std::fs::metadata(path).map_err(TrainError::io(path))?.len();
    let rows = table.rows();
    for start in (0..rows).step_by(SLICE) {
        let count = SLICE.min(rows - start);
        let columns = table.slice((start, count), &places)?;
        for row in 0..count {
            let place = (start + row) as u64 + 1;
            match record(&TableRow { columns: &columns, row }, mapping) {
                Ok(record) => sink.take((place, print.row(place)), record)?,
                Err(reason) => sink.skip(place, reason, b""),
            }
        }
        sink.progress(bytes * (start + count) as u64 / rows.max(1) as u64);
    }
    sink.end(Some(Identity::of_whole(print)));
    Ok(())
}

pub(super) fn file_fingerprint(path: &Path) -> Result<Fingerprint, TrainError> {
    let mut file = File::open(path).map_err(TrainError::io(path))?;
    let (mut print, mut block) = (Fingerprint::default(), vec![0; 256 * 1024]);
    loop {
        match file.read(&mut block).map_err(TrainError::io(path))? {
            0 => return Ok(print),
            n => print.update(block.get(..n).unwrap_or_default()),
        }
    }
}

fn csv(mapping: &Mapping, given: bool, path: &Path, sink: &mut dyn Sink) -> Result<(), TrainError> {
    let mut header: Option<Header> = None;
    let mut wrong = None;
    each_line(path, sink, |line| {
        let text = std::str::from_utf8(line).map_err(|_| Reason::NotText)?;
        let Some(header) = &header else {
            let read = Header::read(text, mapping);
            let names: Vec<&str> = read.names.iter().map(String::as_str).collect();
            wrong = check(mapping, given, path, &names).err();
            header = Some(read);
            return Ok(None);
        };
        if wrong.is_some() {
            return Ok(None);
        }
        let cells = cells(text, header.mark).ok_or(Reason::Shape)?;
        if cells.len() != header.names.len() {
            return Err(Reason::Cells);
        }
        let made: Result<Record<'_>, Reason> = record(&CsvRow { cells: &cells, places: &header.places }, mapping);
        made.map(|r| Some(r.into_owned()))
    })?;
    wrong.map_or(Ok(()), Err)
}

struct Header {
    names: Vec<String>,
    /// Column of each field.
    places: Vec<Option<usize>>,
    mark: char,
}

impl Header {
    fn read(line: &str, mapping: &Mapping) -> Self {
        let mark = [',', '\t', ';'].into_iter().max_by_key(|mark| line.matches(*mark).count()).unwrap_or(',');
        let names: Vec<String> = cells(line, mark).unwrap_or_default().into_iter().map(|c| c.trim().to_owned()).collect();
        let places = Field::ALL.iter().map(|f| names.iter().position(|n| mapping.place(*f) == Some(n))).collect();
        Self { names, places, mark }
    }
}

struct CsvRow<'r, 'l> {
    cells: &'r [Cow<'l, str>],
    places: &'r [Option<usize>],
}

impl<'r> Row<'r> for CsvRow<'r, '_> {
    fn cell(&self, field: Field) -> Option<Cell<'r>> {
        let place = (*self.places.get(field as usize)?)?;
        self.cells.get(place).filter(|text| !text.is_empty()).map(|text| Cell::Text(Cow::Borrowed(text)))
    }
}

/// Cells of a line (RFC 4180, but a line feed ends a row also within quotes); `None` when a quote does not end.
fn cells(line: &str, mark: char) -> Option<Vec<Cow<'_, str>>> {
    let mut cells = Vec::new();
    let mut rest = line;
    loop {
        let (cell, after) = match rest.strip_prefix('"') {
            Some(inner) => quoted(inner)?,
            None => {
                let end = rest.find(mark).unwrap_or(rest.len());
                let (cell, after) = rest.split_at(end);
                (Cow::Borrowed(cell), after)
            }
        };
        cells.push(cell);
        match after.strip_prefix(mark) {
            Some(next) => rest = next,
            None => return after.is_empty().then_some(cells),
        }
    }
}

/// The text up to the closing quote, with doubled quotes undone, and what follows it.
fn quoted(inner: &str) -> Option<(Cow<'_, str>, &str)> {
    let mut from = 0;
    loop {
        let at = from + inner.get(from..)?.find('"')?;
        let after = inner.get(at + 1..)?;
        if after.starts_with('"') {
            from = at + 2;
            continue;
        }
        let text = inner.get(..at)?;
        return Some((if text.contains('"') { Cow::Owned(text.replace("\"\"", "\"")) } else { Cow::Borrowed(text) }, after));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn cells_of_csv() {
        let seen = |line| cells(line, ',').map(|c| c.into_iter().map(Cow::into_owned).collect::<Vec<_>>());
        assert_eq!(seen("a,,\"b,\"\"c\"\"\",d").unwrap(), ["a", "", "b,\"c\"", "d"]);
        assert_eq!(seen("").unwrap(), [""]);
        assert_eq!(seen("\"open,1"), None);
        assert_eq!(seen("\"a\"b,1"), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
        #[test]
        fn what_is_written_as_csv_is_read(values in proptest::collection::vec("[a-z\", ;]{0,8}", 1..6)) {
            let line = values.iter().map(|v| format!("\"{}\"", v.replace('"', "\"\""))).collect::<Vec<_>>().join(";");
            let read: Vec<String> = cells(&line, ';').unwrap().into_iter().map(Cow::into_owned).collect();
            prop_assert_eq!(read, values);
        }

        #[test]
        fn no_text_makes_it_panic(line in ".{0,80}") {
            let _ = cells(&line, ',');
        }
    }
}

//! A file's rows as one block of ClickHouse's format `Native`.
//!
//! The layout is that of ClickHouse's documentation of the format: the number of columns and of rows, and for each column its name, its type and all of its cells.
//! A block that ends early cannot be read, so a server takes all rows of a file or none, also one that takes a broken-off request for a whole one.

use std::collections::HashMap;
use std::hash::Hasher;

use bytes::Bytes;
use farthing_contract::log::{Column, ColumnType, Table, Value};
use siphasher::sip::SipHasher13;

use super::schema::{FILE, LOG, ROW_ID, TAKES_UNTIL, is_plain_text, type_of};

/// Of words of a dictionary that come with the block: flags of the serialization, which has a version before it.
const DICTIONARY_VERSION: u64 = 1;
const OWN_DICTIONARY: u64 = 0x600;

/// What a block may have: a file of our own is far below, for its rows were in memory.
const LARGEST: usize = 512 << 20;
/// What a cell takes besides its text, at most.
const CELL: usize = 9;

/// Where rows come from.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The log.
    pub log: String,
    /// The file: `hour=HH/NAME`.
    pub file: String,
}

/// Rows on their way, by column.
pub struct Encoder {
    table: &'static Table,
    origin: Origin,
    columns: Vec<Cells>,
    ids: Ids,
    row_ids: Vec<u8>,
    rows: u64,
    bytes: usize,
}

impl Encoder {
    /// No rows yet.
    pub fn new(table: &'static Table, origin: Origin) -> Self {
        let columns = table.columns.iter().map(Cells::of).collect();
        Self { table, columns, ids: Ids::of_file(&origin), origin, row_ids: Vec::new(), rows: 0, bytes: 0 }
    }

    /// Appends a row: all cells in the order of the table's columns. One for which there is no room is left out, see [`Encoder::is_too_large`].
    pub fn row(&mut self, cells: &[Value<'_>]) {
        self.bytes = self.bytes.saturating_add(cells.iter().map(extent).sum());
        if self.is_too_large() {
            return;
        }
        self.row_ids.extend(self.ids.of(cells).to_le_bytes());
        self.columns.iter_mut().zip(cells).for_each(|(column, cell)| column.push(cell));
        self.rows += 1;
    }

    /// Rows so far.
    pub const fn rows(&self) -> u64 {
        self.rows
    }

    /// Whether rows were left out.
    pub const fn is_too_large(&self) -> bool {
        self.bytes > LARGEST
    }

    /// The block; its rows are refused by the server after `takes_until`, seconds since 1970 on its clock. The bytes of most columns are not copied.
    pub fn finish(self, takes_until: u32) -> Vec<Bytes> {
        let mut head = Vec::new();
        varint(&mut head, self.columns.len() as u64 + 4);
        varint(&mut head, self.rows);
        for (name, text) in [(LOG, &self.origin.log), (FILE, &self.origin.file)] {
            column_head(&mut head, name, "LowCardinality(String)");
            Words::constant(text, self.rows).write(&mut head);
        }
        column_head(&mut head, ROW_ID, "UInt64");
        let mut chunks = vec![Bytes::from(head), self.row_ids.into()];
        let mut until = Vec::new();
        column_head(&mut until, TAKES_UNTIL, "UInt32");
        (0..self.rows).for_each(|_| until.extend(takes_until.to_le_bytes()));
        chunks.push(until.into());
        for (column, cells) in self.table.columns.iter().zip(self.columns) {
            let mut bytes = Vec::new();
            column_head(&mut bytes, column.name, &type_of(column));
            chunks.push(bytes.into());
            chunks.extend(cells.finish());
        }
        chunks
    }
}

fn extent(cell: &Value<'_>) -> usize {
    CELL + match cell {
        Value::Text(text) => text.len(),
        Value::F32List(list) => size_of_val(*list),
        _ => 0,
    }
}

/// What names a row: a digest of its log and file, of what is in it, and of how many equal ones came before. It is the same after other rows were removed from the
/// file, and after later versions have added columns, whose cells are absent.
struct Ids {
    file: SipHasher13,
    seen: HashMap<u64, u64>,
}

impl Ids {
    fn of_file(origin: &Origin) -> Self {
        let mut file = SipHasher13::new();
        [&origin.log, &origin.file].into_iter().for_each(|text| hash(&mut file, &Value::Text(text)));
        Self { file, seen: HashMap::new() }
    }

    fn of(&mut self, cells: &[Value<'_>]) -> u64 {
        let mut hasher = self.file;
        for (place, cell) in cells.iter().enumerate().filter(|(_, cell)| **cell != Value::Null) {
            hasher.write_u64(place as u64);
            hash(&mut hasher, cell);
        }
        let id = hasher.finish();
        let before = self.seen.entry(id).or_default();
        *before += 1;
        if *before == 1 { id } else { id.wrapping_mul(31).wrapping_add(*before) }
    }
}

fn hash(hasher: &mut SipHasher13, cell: &Value<'_>) {
    match *cell {
        Value::Null => {}
        Value::I64(value) => hasher.write(&value.to_le_bytes()),
        Value::U64(value) => hasher.write(&value.to_le_bytes()),
        Value::I32(value) => hasher.write(&value.to_le_bytes()),
        Value::F64(value) => hasher.write(&value.to_bits().to_le_bytes()),
        Value::F32(value) => hasher.write(&value.to_bits().to_le_bytes()),
        Value::Bool(value) => hasher.write(&[u8::from(value)]),
        Value::Text(text) => {
            hasher.write(&(text.len() as u64).to_le_bytes());
            hasher.write(text.as_bytes());
        }
        Value::F32List(list) => {
            hasher.write(&(list.len() as u64).to_le_bytes());
            list.iter().for_each(|value| hasher.write(&value.to_bits().to_le_bytes()));
        }
    }
}

/// The cells of a column.
enum Cells {
    /// Of a fixed width.
    Fixed { nulls: Option<Vec<u8>>, bytes: Vec<u8>, width: usize },
    /// Texts of which few are equal.
    Text { nulls: Option<Vec<u8>>, bytes: Vec<u8> },
    /// Texts of which many are.
    Words(Words),
    /// Lists: where each ends, and their elements.
    Lists { ends: Vec<u8>, length: u64, bytes: Vec<u8> },
}

impl Cells {
    fn of(column: &Column) -> Self {
        let nulls = column.nullable.then(Vec::new);
        let fixed = |nulls, width| Self::Fixed { nulls, bytes: Vec::new(), width };
        match column.ty {
            ColumnType::I64 | ColumnType::U64 | ColumnType::F64 => fixed(nulls, 8),
            ColumnType::I32 | ColumnType::F32 => fixed(nulls, 4),
            ColumnType::Bool => fixed(nulls, 1),
            ColumnType::Text if is_plain_text(column) => Self::Text { nulls, bytes: Vec::new() },
            ColumnType::Text => Self::Words(Words::new(column.nullable)),
            ColumnType::F32List => Self::Lists { ends: Vec::new(), length: 0, bytes: Vec::new() },
        }
    }

    /// A cell of another type than the column's cannot come: reading checks types.
    fn push(&mut self, cell: &Value<'_>) {
        match self {
            Self::Fixed { nulls, bytes, width } => {
                mark(nulls, cell);
                match *cell {
                    Value::I64(value) => bytes.extend(value.to_le_bytes()),
                    Value::U64(value) => bytes.extend(value.to_le_bytes()),
                    Value::I32(value) => bytes.extend(value.to_le_bytes()),
                    Value::F64(value) => bytes.extend(value.to_le_bytes()),
                    Value::F32(value) => bytes.extend(value.to_le_bytes()),
                    Value::Bool(value) => bytes.push(u8::from(value)),
                    _ => bytes.resize(bytes.len() + *width, 0),
                }
            }
            Self::Text { nulls, bytes } => {
                mark(nulls, cell);
                text(bytes, if let Value::Text(text) = cell { text } else { "" });
            }
            Self::Words(words) => words.push(if let Value::Text(text) = cell { Some(text) } else { None }),
            Self::Lists { ends, length, bytes } => {
                let list = if let Value::F32List(list) = cell { list } else { &[][..] };
                list.iter().for_each(|value| bytes.extend(value.to_le_bytes()));
                *length += list.len() as u64;
                ends.extend(length.to_le_bytes());
            }
        }
    }

    fn finish(self) -> Vec<Bytes> {
        match self {
            Self::Fixed { nulls, bytes, .. } | Self::Text { nulls, bytes } => nulls.into_iter().chain([bytes]).map(Bytes::from).collect(),
            Self::Words(words) => {
                let mut bytes = Vec::new();
                words.write(&mut bytes);
                vec![bytes.into()]
            }
            Self::Lists { ends, bytes, .. } => vec![ends.into(), bytes.into()],
        }
    }
}

fn mark(nulls: &mut Option<Vec<u8>>, cell: &Value<'_>) {
    if let Some(nulls) = nulls {
        nulls.push(u8::from(*cell == Value::Null));
    }
}

/// `LowCardinality(String)`, or of texts that may be absent: a dictionary, and for each row a place in it.
struct Words {
    places: HashMap<Box<str>, u32>,
    words: Vec<u8>,
    count: u32,
    rows: Vec<u32>,
}

impl Words {
    fn new(nullable: bool) -> Self {
        let mut new = Self { places: HashMap::new(), words: Vec::new(), count: 0, rows: Vec::new() };
        if nullable {
            // The first place is that of what is absent.
            text(&mut new.words, "");
            new.count = 1;
        }
        new
    }

    fn constant(word: &str, rows: u64) -> Self {
        let mut new = Self::new(false);
        let place = new.add(word);
        new.rows.extend((0..rows).map(|_| place));
        new
    }

    fn push(&mut self, word: Option<&str>) {
        let place = match word {
            None => 0,
            Some(word) => match self.places.get(word) {
                Some(place) => *place,
                None => self.add(word),
            },
        };
        self.rows.push(place);
    }

    fn add(&mut self, word: &str) -> u32 {
        let place = self.count;
        text(&mut self.words, word);
        self.places.insert(word.into(), place);
        self.count += 1;
        place
    }

    fn write(&self, to: &mut Vec<u8>) {
        to.extend(DICTIONARY_VERSION.to_le_bytes());
        if self.rows.is_empty() {
            return;
        }
        let (kind, width) = if self.count <= 1 << 8 {
            (0_u64, 1)
        } else if self.count <= 1 << 16 {
            (1, 2)
        } else {
            (2, 4)
        };
        to.extend((kind | OWN_DICTIONARY).to_le_bytes());
        to.extend(u64::from(self.count).to_le_bytes());
        to.extend(&self.words);
        to.extend((self.rows.len() as u64).to_le_bytes());
        self.rows.iter().for_each(|place| to.extend(&place.to_le_bytes()[..width]));
    }
}

fn column_head(to: &mut Vec<u8>, name: &str, ty: &str) {
    text(to, name);
    text(to, ty);
}

fn text(to: &mut Vec<u8>, text: &str) {
    varint(to, text.len() as u64);
    to.extend(text.as_bytes());
}

/// Seven bits a byte, the lowest first; the eighth says that more follow.
fn varint(to: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        to.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    to.push(number as u8);
}

#[cfg(test)]
mod tests {
    use farthing_contract::log::{Decision, Row};

    use super::*;

    fn of(column: Column, cells: &[Value<'_>]) -> Vec<u8> {
        let mut made = Cells::of(&column);
        cells.iter().for_each(|cell| made.push(cell));
        made.finish().concat()
    }

    fn column(ty: ColumnType, nullable: bool) -> Column {
        Column { name: "c", ty, nullable, since: 1, doc: "" }
    }

    /// Written out by hand after the documentation of the format; that servers read it is shown in `tests/clickhouse`.
    #[test]
    fn columns_are_laid_out_as_documented() {
        let numbers = of(column(ColumnType::I32, true), &[Value::I32(-1), Value::Null]);
        assert_eq!(numbers, [0, 1, 255, 255, 255, 255, 0, 0, 0, 0]);
        assert_eq!(of(column(ColumnType::Bool, false), &[Value::Bool(true)]), [1]);
        let lists = of(column(ColumnType::F32List, false), &[Value::F32List(&[1.0, 0.0]), Value::F32List(&[])]);
        assert_eq!(lists, [&[2, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0][..], &1f32.to_le_bytes(), &[0; 4]].concat());
        let words = of(column(ColumnType::Text, true), &[Value::Text("é"), Value::Null, Value::Text("é")]);
        let head = [1_u64, 0x600, 2].map(u64::to_le_bytes).concat();
        assert_eq!(words, [&head[..], &[0, 2], "é".as_bytes(), &3_u64.to_le_bytes(), &[1, 0, 1]].concat());
        let plain = Column { name: "tags", ..column(ColumnType::Text, true) };
        assert_eq!(of(plain, &[Value::Null, Value::Text("a\0")]), [1, 0, 0, 2, b'a', 0]);
    }

    #[test]
    fn large_dictionaries_have_wider_places() {
        let mut words = Words::new(false);
        (0..257).for_each(|n| words.push(Some(&format!("{n:03}"))));
        let mut bytes = Vec::new();
        words.write(&mut bytes);
        assert_eq!(bytes.len(), 3 * 8 + 257 * 4 + 8 + 257 * 2);
        assert_eq!((&bytes[8..16], &bytes[bytes.len() - 2..]), (&0x601_u64.to_le_bytes()[..], &[0, 1][..]));
    }

    fn ids(file: &str) -> Ids {
        Ids::of_file(&Origin { log: "l".to_owned(), file: file.to_owned() })
    }

    #[test]
    fn a_row_keeps_its_id_when_others_go_and_columns_come() {
        let (a, b) = ([Value::I64(1), Value::Text("a")], [Value::I64(1), Value::Text("b")]);
        let mut all = ids("f");
        let found = [all.of(&a), all.of(&b), all.of(&b)];
        assert!(found[0] != found[1] && found[1] != found[2], "equal rows are two rows");
        let mut later = ids("f");
        assert_eq!([later.of(&[b[0], b[1], Value::Null]), later.of(&b)], [found[1], found[2]]);
        assert_ne!(ids("g").of(&a), found[0], "equal rows of two files, too");
        let apart = |cells: &[Value<'_>]| ids("f").of(cells);
        assert_ne!(apart(&[Value::Text("ab"), Value::Text("c")]), apart(&[Value::Text("a"), Value::Text("bc")]));
        assert_ne!(apart(&[Value::Null, Value::I64(1)]), apart(&[Value::I64(1), Value::Null]));
    }

    #[test]
    fn a_block_says_how_many_columns_and_rows_it_has_and_is_bounded() {
        let mut encoder = Encoder::new(Decision::TABLE, Origin { log: "l".to_owned(), file: "f".to_owned() });
        let absent = vec![Value::Null; Decision::TABLE.columns.len()];
        encoder.row(&absent);
        encoder.bytes = LARGEST;
        encoder.row(&absent);
        assert!((encoder.rows(), encoder.is_too_large()) == (1, true));
        let bytes = encoder.finish(5).concat();
        assert_eq!((usize::from(bytes[0]), bytes[1]), (Decision::TABLE.columns.len() + 4, 1));
    }
}

//! Bytes of a segment: a header, then frames of rows.
//!
//! Little endian. The header is `FRTHJRNL`, version u32, length u32 of what follows, then for each table its name (length
//! u8), columns u16, one byte for the type of each; then 4 bytes of blake3 of all that. A frame is the length of its
//! content u32, its number u64, 4 bytes of blake3 of the content, 4 bytes of blake3 of the sixteen bytes before; then the
//! content: place of the table in the header u8, rows u32, the rows (see [`super::cells`]). Numbers of frames only grow
//! within a segment, so that remains of a write that failed are never taken for what was written after it. Zeros up to the
//! end are space that was set aside.

use std::fmt;

use farthing_contract::log::{ALL, ColumnType, Table};

use super::AnyRow;
use super::cells::{RawRow, Rows};

const MAGIC: &[u8; 8] = b"FRTHJRNL";
const VERSION: u32 = 1;
const HEAD: usize = 16;
const SUM: usize = 4;
const FRAME: usize = 20;
/// Of these, what its own sum covers.
const FIELDS: usize = FRAME - SUM;
/// Bytes of rows from which a frame is ended: what damage in one place can cost.
const FRAME_BYTES: usize = 16 << 10;
/// Longest content that is believed; a longer length is damage.
const LONGEST: usize = 64 << 20;

fn sum(bytes: &[u8]) -> [u8; SUM] {
    blake3::hash(bytes).as_bytes().first_chunk().copied().unwrap_or_default()
}

const TYPES: [ColumnType; 8] = [
    ColumnType::I64,
    ColumnType::U64,
    ColumnType::I32,
    ColumnType::F64,
    ColumnType::F32,
    ColumnType::Bool,
    ColumnType::Text,
    ColumnType::F32List,
];

/// The header of a segment as this version writes it.
pub(crate) fn header() -> Vec<u8> {
    let mut body = Vec::new();
    for table in ALL {
        body.push(table.name.len() as u8);
        body.extend_from_slice(table.name.as_bytes());
        body.extend_from_slice(&(table.columns.len() as u16).to_le_bytes());
        body.extend(table.columns.iter().map(|column| TYPES.iter().position(|ty| *ty == column.ty).unwrap_or_default() as u8));
    }
    let mut out = MAGIC.to_vec();
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&(body.len() as u32).to_le_bytes());
    out.append(&mut body);
    let sum = sum(&out);
    out.extend_from_slice(&sum);
    out
}

/// Writes rows into frames.
#[derive(Default)]
pub(crate) struct Framer {
    /// Number of the next frame.
    next: u64,
    out: Vec<u8>,
    /// Begin, table and rows of the frame under construction.
    open: Option<(usize, &'static Table, u32)>,
}

impl Framer {
    /// Adds a row.
    ///
    /// # Errors
    /// As [`AnyRow::put`]; `(table)` when the contract does not list the row's table.
    pub(crate) fn put(&mut self, table: &'static Table, row: &dyn AnyRow) -> Result<(), &'static str> {
        let place = ALL.iter().position(|known| known.name == table.name).ok_or("(table)")? as u8;
        if self.open.is_some_and(|(start, open, _)| open.name != table.name || self.out.len() - start > FRAME_BYTES) {
            self.end();
        }
        if self.open.is_none() {
            self.open = Some((self.out.len(), table, 0));
            self.out.resize(self.out.len() + FRAME, 0);
            self.out.push(place);
            self.out.extend_from_slice(&[0; 4]);
        }
        row.put(&mut self.out, table)?;
        if let Some((_, _, rows)) = &mut self.open {
            *rows += 1;
        }
        Ok(())
    }

    fn end(&mut self) {
        let Some((start, _, rows)) = self.open.take() else { return };
        let frame = self.out.get_mut(start..).unwrap_or_default();
        let Some((head, content)) = frame.split_first_chunk_mut::<FRAME>() else { return };
        if rows == 0 {
            self.out.truncate(start);
            return;
        }
        if let Some(count) = content.get_mut(1..5) {
            count.copy_from_slice(&rows.to_le_bytes());
        }
        let (length, number) = ((content.len() as u32).to_le_bytes(), self.next.to_le_bytes());
        let fields = [&length[..], &number, &sum(content)].concat();
        let (covered, own) = head.split_at_mut(FIELDS);
        covered.copy_from_slice(&fields);
        own.copy_from_slice(&sum(&fields));
        self.next += 1;
    }

    /// The frames so far, whole; they are taken out by [`Framer::clear`].
    pub(crate) fn bytes(&mut self) -> &[u8] {
        self.end();
        &self.out
    }

    /// Bytes of the frames so far.
    pub(crate) fn len(&self) -> usize {
        self.out.len()
    }

    /// Begins anew behind frames that were written, or given up.
    pub(crate) fn clear(&mut self) {
        self.open = None;
        self.out.clear();
    }
}

/// What a segment holds.
pub(crate) struct Segment<'a> {
    tables: Vec<(&'static Table, Vec<ColumnType>)>,
    frames: Vec<&'a [u8]>,
    /// What could not be read.
    pub(crate) loss: Loss,
}

/// What of a segment could not be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Loss {
    /// Bytes at the end of a write that did not come to its end.
    pub(crate) torn: u64,
    /// Damaged places before the end.
    pub(crate) damaged: u64,
    /// Their bytes.
    pub(crate) damaged_bytes: u64,
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.damaged > 0 {
            write!(
                f,
                "{} damaged places of together {} bytes skipped, what stands behind them was read",
                self.damaged, self.damaged_bytes
            )?;
        }
        if self.torn > 0 {
            let and = if self.damaged > 0 { "; " } else { "" };
            write!(f, "{and}torn tail of {} bytes cut: the process died while it wrote", self.torn)?;
        }
        Ok(())
    }
}

/// Why a segment is not read at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoSegment {
    /// Nothing but an unfinished header: nothing was ever written into it.
    #[error("it is empty")]
    Empty,
    #[error("its header is damaged")]
    Damaged,
    #[error("it was written by a newer version; start that one to have it read")]
    Newer,
}

impl<'a> Segment<'a> {
    /// Reads the bytes of a segment file.
    ///
    /// # Errors
    /// No segment, or one that this version cannot read.
    pub(crate) fn read(bytes: &'a [u8]) -> Result<Self, NoSegment> {
        let (tables, rest, damaged) = match read_header(bytes) {
            Ok((tables, rest)) => (tables, rest, false),
            // Each frame vouches for itself, so what was written under today's layout can be read without the header.
            Err(NoSegment::Damaged) => (today(), bytes, true),
            Err(other) => return Err(other),
        };
        let mut segment = Self { tables, frames: Vec::new(), loss: Loss::default() };
        segment.scan(rest);
        if damaged && segment.frames.is_empty() { Err(NoSegment::Damaged) } else { Ok(segment) }
    }

    fn scan(&mut self, mut rest: &'a [u8]) {
        let mut next = 0;
        while let Some((content, number, after)) = self.find(rest, next) {
            let skipped = rest.len() - after.len() - FRAME - content.len();
            self.loss.damaged += u64::from(skipped > 0);
            self.loss.damaged_bytes += skipped as u64;
            self.frames.push(content);
            (rest, next) = (after, number + 1);
        }
        // What follows the last frame: nothing, space set aside, or a write that did not come to its end.
        let torn = rest.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        self.loss.torn = torn as u64;
    }

    /// The first whole frame from the begin of `rest` on with a number from `next` on, and what follows it.
    fn find(&self, rest: &'a [u8], next: u64) -> Option<(&'a [u8], u64, &'a [u8])> {
        (0..rest.len()).take_while(|at| *at == 0 || rest.len() - at >= FRAME).find_map(|at| self.frame(rest.get(at..)?, next))
    }

    fn frame(&self, bytes: &'a [u8], next: u64) -> Option<(&'a [u8], u64, &'a [u8])> {
        let (head, after) = bytes.split_first_chunk::<FRAME>()?;
        let (length, number) = (u32_at(head, 0)? as usize, u64::from_le_bytes(head.get(4..)?.first_chunk().copied()?));
        if length == 0 || length > LONGEST || number < next || sum(head.get(..FIELDS)?) != *head.get(FIELDS..)? {
            return None;
        }
        let (content, after) = after.split_at_checked(length)?;
        (sum(content) == *head.get(12..FIELDS)? && self.is_whole(content)).then_some((content, number, after))
    }

    fn is_whole(&self, content: &[u8]) -> bool {
        let Some((table, rows, count)) = self.rows_of(content) else { return false };
        let mut rest = rows;
        (0..count).all(|_| rest.next(table).is_some()) && rest.bytes.is_empty()
    }

    fn rows_of<'b>(&'b self, content: &'b [u8]) -> Option<(&'static Table, Rows<'b>, u32)> {
        let ((place, rest), count) = (content.split_first()?, u32_at(content, 1)?);
        let (table, types) = self.tables.get(usize::from(*place))?;
        Some((table, Rows { bytes: rest.get(4..)?, types }, count))
    }

    /// Hands each row to `each`.
    pub(crate) fn rows(&self, each: &mut dyn FnMut(&'static Table, &RawRow<'_>)) {
        for content in &self.frames {
            let Some((table, mut rows, _)) = self.rows_of(content) else { continue };
            while let Some(row) = rows.next(table) {
                each(table, &row);
            }
        }
    }
}

fn today() -> Tables {
    ALL.iter().map(|table| (*table, table.columns.iter().map(|column| column.ty).collect())).collect()
}

type Tables = Vec<(&'static Table, Vec<ColumnType>)>;

fn read_header(bytes: &[u8]) -> Result<(Tables, &[u8]), NoSegment> {
    let Some(head) = bytes.first_chunk::<HEAD>() else {
        return Err(if MAGIC.starts_with(bytes.get(..8).unwrap_or(bytes)) { NoSegment::Empty } else { NoSegment::Damaged });
    };
    if bytes.iter().all(|byte| *byte == 0) {
        return Err(NoSegment::Empty);
    }
    if head.first_chunk() != Some(MAGIC) {
        return Err(NoSegment::Damaged);
    }
    if u32_at(head, 8).is_some_and(|version| version > VERSION) {
        return Err(NoSegment::Newer);
    }
    let length = u32_at(head, 12).ok_or(NoSegment::Damaged)? as usize;
    let Some((covered, rest)) = bytes.split_at_checked(HEAD + length) else { return Err(cut_header(bytes)) };
    let Some((wanted, rest)) = rest.split_first_chunk::<SUM>() else { return Err(cut_header(bytes)) };
    if sum(covered) != *wanted {
        return Err(NoSegment::Damaged);
    }
    Ok((read_tables(covered.get(HEAD..).unwrap_or_default())?, rest))
}

/// A header whose writing did not come to its end, or one that is damaged.
fn cut_header(bytes: &[u8]) -> NoSegment {
    if header().starts_with(bytes) { NoSegment::Empty } else { NoSegment::Damaged }
}

fn read_tables(mut body: &[u8]) -> Result<Tables, NoSegment> {
    let mut tables = Vec::new();
    let take = |body: &mut &[u8], count: usize| {
        let (head, rest) = body.split_at_checked(count)?;
        *body = rest;
        Some(head.to_vec())
    };
    while let Some(length) = take(&mut body, 1) {
        let name = take(&mut body, usize::from(length[0])).ok_or(NoSegment::Damaged)?;
        let columns = take(&mut body, 2).and_then(|count| count.first_chunk().copied()).ok_or(NoSegment::Damaged)?;
        let types = take(&mut body, usize::from(u16::from_le_bytes(columns))).ok_or(NoSegment::Damaged)?;
        let types: Option<Vec<ColumnType>> = types.iter().map(|ty| TYPES.get(usize::from(*ty)).copied()).collect();
        let (table, types) = (ALL.iter().find(|table| table.name.as_bytes() == name), types.ok_or(NoSegment::Newer)?);
        let table = table.filter(|table| types.len() <= table.columns.len() && table.columns.iter().zip(&types).all(|(c, ty)| c.ty == *ty));
        tables.push((*table.ok_or(NoSegment::Newer)?, types));
    }
    Ok(tables)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use farthing_contract::log::{CallRow, OutcomeRow, Request, Row, Value};
    use proptest::prelude::*;

    use super::*;

    fn segment(rows: usize) -> Vec<u8> {
        let (mut bytes, mut framer) = (header(), Framer::default());
        for n in 0..rows {
            let row = CallRow { ts_ns: n as i64, call_id: n as u64, tenant: "acme".into(), ..CallRow::default() };
            framer.put(CallRow::TABLE, &row).unwrap();
            // Frames of one to three rows, as rows came.
            if n % 3 == 0 || n % 7 == 0 {
                bytes.extend_from_slice(framer.bytes());
                framer.clear();
            }
        }
        bytes.extend_from_slice(framer.bytes());
        bytes
    }

    /// Numbers of the rows read, and what was lost; none when the header is gone.
    fn read(bytes: &[u8]) -> Option<(Vec<u64>, Loss)> {
        let segment = Segment::read(bytes).ok()?;
        let mut ids = Vec::new();
        segment.rows(&mut |table, row| {
            assert_eq!(table.name, "calls");
            row.visit(&mut |index, value| {
                if let (1, Value::U64(id)) = (index, value) {
                    ids.push(id)
                }
            });
        });
        Some((ids, segment.loss))
    }

    #[test]
    fn rows_of_several_tables_come_back_in_order() {
        let mut framer = Framer::default();
        for n in 0..2_000 {
            framer.put(OutcomeRow::TABLE, &OutcomeRow { hits: n, ..OutcomeRow::default() }).unwrap();
        }
        framer.put(Request::TABLE, &Request { status: 200, ..Request::default() }).unwrap();
        let bytes = [&header(), framer.bytes()].concat();
        let segment = Segment::read(&bytes).unwrap();
        let mut seen = Vec::new();
        segment.rows(&mut |table, row| seen.push((table.name, row.at_ns())));
        assert!(segment.frames.len() > 2, "a long table is cut into frames");
        assert_eq!((seen.len(), seen[1_999].0, seen[2_000].0), (2_001, "outcomes", "requests"));
        assert_eq!(segment.loss, Loss::default());
    }

    #[test]
    fn space_set_aside_is_no_loss_and_an_empty_header_no_segment() {
        let bytes = [segment(9), vec![0; 5_000]].concat();
        assert_eq!(read(&bytes).unwrap(), ((0..9).collect(), Loss::default()));
        for cut in 0..header().len() {
            assert_eq!(Segment::read(&header()[..cut]).err(), Some(NoSegment::Empty), "{cut}");
        }
        assert_eq!(Segment::read(&[0; 5_000]).err(), Some(NoSegment::Empty));
        assert_eq!(Segment::read(b"something else altogether").err(), Some(NoSegment::Damaged));
        let mut newer = header();
        newer[8] = 2;
        assert_eq!(Segment::read(&newer).err(), Some(NoSegment::Newer));
    }

    /// Of writes at one place the later counts, and nothing of the earlier comes back.
    #[test]
    fn remains_of_a_failed_write_are_not_read_behind_the_next_one() {
        let mut framer = Framer::default();
        let mut frame = |id: u64, name: &str| {
            framer.put(CallRow::TABLE, &CallRow { call_id: id, tenant: name.into(), ..CallRow::default() }).unwrap();
            let bytes = framer.bytes().to_vec();
            framer.clear();
            bytes
        };
        let start = [header(), frame(1, "acme")].concat();
        let mut bytes = [start.clone(), frame(2, "a long name that is overwritten"), frame(3, "acme")].concat();
        assert_eq!(read(&bytes).unwrap().0, [1, 2, 3]);
        let again = frame(4, "x");
        bytes[start.len()..start.len() + again.len()].copy_from_slice(&again);
        let (ids, loss) = read(&bytes).unwrap();
        assert_eq!(ids, [1, 4]);
        assert!(loss.torn > 0 && loss.damaged == 0);
    }

    /// A segment of an earlier layout of the tables, byte by byte, is read for ever.
    #[test]
    fn segments_of_schema_version_two_are_read() {
        let bytes = include_bytes!("../../tests/data/journal-v1-schema-2.fj");
        let segment = Segment::read(bytes).unwrap();
        let mut seen = Vec::new();
        segment.rows(&mut |table, row| {
            let mut cells = 0;
            row.visit(&mut |_, value| cells += usize::from(value != Value::Null));
            seen.push((table.name, row.at_ns(), cells));
        });
        assert_eq!(seen, [("requests", 7, 11), ("calls", 8, 14), ("decisions", 9, 12), ("outcomes", 10, 9)]);
        assert_eq!(segment.loss, Loss::default());
    }

    proptest! {
        #[test]
        fn of_a_cut_segment_all_whole_frames_survive(rows in 0usize..40, cut: prop::sample::Index) {
            let whole = segment(rows);
            let cut = cut.index(whole.len() + 1);
            let Some((ids, loss)) = read(&whole[..cut]) else {
                prop_assert!(cut < header().len());
                return Ok(());
            };
            prop_assert_eq!(&ids, &(0..ids.len() as u64).collect::<Vec<_>>());
            prop_assert_eq!(loss.damaged, 0);
            // The next frame is the torn one: with one more byte each, nothing is lost between.
            prop_assert!(cut == whole.len() || ids.len() < rows);
            prop_assert!(cut < whole.len() || ids.len() == rows && loss.torn == 0);
        }

        #[test]
        fn a_flipped_bit_costs_one_frame_at_most(rows in 1usize..40, at: prop::sample::Index, bit in 0u8..8) {
            let mut bytes = segment(rows);
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            let Some((ids, loss)) = read(&bytes) else {
                // The version's number says that a newer one wrote it.
                prop_assert!(at < 12);
                return Ok(());
            };
            prop_assert!(ids.windows(2).all(|pair| pair[0] < pair[1]), "nothing twice, in order");
            let lost = rows - ids.len();
            let bound = if at < header().len() { 0..=0 } else { 1..=3 };
            prop_assert!(bound.contains(&lost));
            prop_assert!(loss.torn > 0 || loss.damaged == 1);
        }

        #[test]
        fn whatever_bytes_come_nothing_breaks(bytes: Vec<u8>, behind: bool) {
            let bytes = if behind { [header(), bytes].concat() } else { bytes };
            if let Ok(segment) = Segment::read(&bytes) {
                segment.rows(&mut |_, _| {});
            }
        }
    }
}

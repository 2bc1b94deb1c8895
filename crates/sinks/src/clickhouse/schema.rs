//! Tables in ClickHouse, made of the one declaration in `contract`: statements as text, pure.
//!
//! Rows of `calls` are in `calls_rows`, a table that keeps one of rows with the same key; the view `calls` is what is asked, and has each row once at all times.

use std::collections::BTreeMap;

use farthing_contract::log::{CallRow, Column, ColumnType, Decision, Request, Row, Table};
use farthing_types::civil;

/// Column of a row's log.
pub const LOG: &str = "log";
/// Column of a row's file, `hour=HH/NAME`.
pub const FILE: &str = "file";
/// Column that names a row.
pub const ROW_ID: &str = "row_id";
/// Column of the time until which the server may take the row.
pub const TAKES_UNTIL: &str = "takes_until";
/// Column that fails what comes after that time.
const ON_TIME: &str = "on_time";
/// Files that are not shipped again, though rows of theirs are gone.
pub const DONE: &str = "done_files";
/// Texts of which few are equal: a dictionary of them would be as long as the column.
const PLAIN_TEXTS: &[&str] = &["tags", "trace_id", "metered"];

/// Whether a column's texts are kept as they are, without a dictionary.
pub fn is_plain_text(column: &Column) -> bool {
    PLAIN_TEXTS.contains(&column.name)
}

/// The type that a column has in ClickHouse.
pub fn type_of(column: &Column) -> String {
    let plain = match column.ty {
        ColumnType::I64 => "Int64",
        ColumnType::U64 => "UInt64",
        ColumnType::I32 => "Int32",
        ColumnType::F64 => "Float64",
        ColumnType::F32 => "Float32",
        // `Bool` is younger than the oldest servers that we work with.
        ColumnType::Bool => "UInt8",
        ColumnType::Text => "String",
        // Lists are never absent.
        ColumnType::F32List => return "Array(Float32)".to_owned(),
    };
    let ty = if column.nullable { format!("Nullable({plain})") } else { plain.to_owned() };
    if column.ty == ColumnType::Text && !is_plain_text(column) { format!("LowCardinality({ty})") } else { ty }
}

/// Our own columns with their types, in front of the log's.
pub const OWN: [(&str, &str, &str); 4] = [
    (LOG, "LowCardinality(String)", "The log that the row is from, as in <log>/sinks/log-id."),
    (FILE, "LowCardinality(String)", "The file of that log within the table and the day."),
    (ROW_ID, "UInt64", "Names the row among all: of rows with the same key one is kept."),
    (TAKES_UNTIL, "UInt32", "Until when the server was to take the row, seconds since 1970: what comes later is refused."),
];

/// `DATABASE.calls_rows`.
pub fn rows(database: &str, table: &Table) -> String {
    format!("{}.{}", quoted_name(database), rows_name(table))
}

/// `calls_rows`.
pub fn rows_name(table: &Table) -> String {
    format!("{}_rows", table.name)
}

/// `DATABASE.calls`: the view.
pub fn view(database: &str, table: &Table) -> String {
    format!("{}.{}", quoted_name(database), table.name)
}

/// `DATABASE.done_files`.
pub fn done(database: &str) -> String {
    format!("{}.{DONE}", quoted_name(database))
}

/// What makes the list of files that are not shipped again.
pub fn create_done(database: &str) -> String {
    format!(
        "CREATE TABLE IF NOT EXISTS {} ({LOG} LowCardinality(String), table_name String, day Date, {FILE} LowCardinality(String)) ENGINE = ReplacingMergeTree \
         PARTITION BY (table_name, day) ORDER BY (table_name, day, {LOG}, {FILE})",
        done(database)
    )
}

/// What makes a table that is not there. The hour of a row goes first in its key: it is what every question has. `at` is in it, too: what is not, rules no partition out where a question
/// asks for one of rows with the same key. The column `on_time` takes no place
/// that counts: with it the server itself refuses what it takes up too late.
pub fn create(database: &str, table: &Table) -> String {
    let own = OWN.iter().map(|(name, ty, doc)| format!("{name} {ty} COMMENT {}", quoted(doc.trim())));
    let columns: Vec<String> = own.chain(table.columns.iter().map(definition)).collect();
    format!(
        "CREATE TABLE IF NOT EXISTS {} ({}, at DateTime('UTC') DEFAULT toDateTime(intDiv(ts_ns, 1000000000)), \
         {ON_TIME} UInt8 MATERIALIZED throwIf(toUnixTimestamp(now()) > {TAKES_UNTIL})) \
         ENGINE = ReplacingMergeTree PARTITION BY toYYYYMMDD(at) ORDER BY (toStartOfHour(at), {}, at, ts_ns, {ROW_ID})",
        rows(database, table),
        columns.join(", "),
        order(table)
    )
}

/// What rows of an hour are ordered by.
fn order(table: &Table) -> &'static str {
    match table.name {
        name if name == Request::TABLE.name || name == CallRow::TABLE.name => "tenant, route",
        name if name == Decision::TABLE.name => "route, kind",
        _ => "route, closed_by",
    }
}

/// What makes the view of a table: each row once, whatever the server has not merged yet.
pub fn create_view(database: &str, table: &Table) -> String {
    let columns: Vec<String> = table.columns.iter().map(|column| quoted_name(column.name)).collect();
    format!("CREATE VIEW IF NOT EXISTS {} AS SELECT at, {} FROM {} FINAL", view(database, table), columns.join(", "), rows(database, table))
}

/// What adds the columns that a table lacks; `None` when it has them all. Later columns may be null, so nothing is written anew.
pub fn extend(database: &str, table: &Table, there: &BTreeMap<String, String>) -> Option<String> {
    let lacking = table.columns.iter().filter(|column| !there.contains_key(column.name));
    let added: Vec<String> = lacking.map(|column| format!("ADD COLUMN {}", definition(column))).collect();
    (!added.is_empty()).then(|| format!("ALTER TABLE {} {}", rows(database, table), added.join(", ")))
}

/// A column that is there with another type, or none of our own: not a table of ours. Columns that only the database has are its owner's matter.
pub fn foreign(table: &Table, there: &BTreeMap<String, String>) -> Option<String> {
    let name = rows_name(table);
    let needed = OWN.iter().map(|(name, ..)| *name).chain(["at", ON_TIME]);
    if let Some(lacking) = needed.into_iter().find(|name| !there.contains_key(*name)) {
        return Some(format!("`{name}` has no column `{lacking}`"));
    }
    let own = OWN.iter().map(|(name, ty, _)| (*name, (*ty).to_owned()));
    let mut all = own.chain(table.columns.iter().map(|column| (column.name, type_of(column))));
    all.find_map(|(column, ty)| {
        let found = there.get(column).filter(|found| **found != ty)?;
        Some(format!("column `{column}` of `{name}` is {found}, not {ty}"))
    })
}

/// What is wrong with how a table keeps its rows: it must be one of a family that keeps one of rows with the same key, and tell all rows of ours apart.
pub fn unfit(table: &Table, engine: &str, sorting_key: &str) -> Option<String> {
    let name = rows_name(table);
    if !engine.ends_with("ReplacingMergeTree") {
        return Some(format!("`{name}` is a table of the engine {engine}, not ReplacingMergeTree"));
    }
    let has = |wanted: &str| sorting_key.split(',').any(|part| part.trim().trim_matches(['`', '"']) == wanted);
    let lacking = ["ts_ns", ROW_ID].into_iter().find(|column| !has(column))?;
    Some(format!("`{name}` is not ordered by `{lacking}` among others, so rows would be lost"))
}

/// What the rows of a file are sent after.
pub fn insert(database: &str, table: &Table) -> String {
    let own = OWN.iter().map(|(name, ..)| (*name).to_owned());
    let columns: Vec<String> = own.chain(table.columns.iter().map(|column| quoted_name(column.name))).collect();
    format!("INSERT INTO {} ({}) FORMAT Native", rows(database, table), columns.join(", "))
}

/// That a row is of an hour: what lets the server read little.
pub fn within_hour(hour: i64) -> String {
    format!("toYYYYMMDD(at) = {} AND toStartOfHour(at) = toDateTime({})", partition(hour.div_euclid(24)), hour * 3_600)
}

/// The partition of a day: `20261127`.
pub fn partition(day: i64) -> i64 {
    let (year, month, date) = civil(day);
    year * 10_000 + month * 100 + date
}

/// A day as a text of SQL: `'2026-11-27'`.
pub fn date(day: i64) -> String {
    let (year, month, date) = civil(day);
    format!("'{year:04}-{month:02}-{date:02}'")
}

/// A text as SQL has it.
pub fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// A name as SQL has it: `window` and others are words of SQL.
pub fn quoted_name(name: &str) -> String {
    format!("\"{name}\"")
}

fn definition(column: &Column) -> String {
    format!("{} {} COMMENT {}", quoted_name(column.name), type_of(column), quoted(column.doc.trim()))
}

#[cfg(test)]
mod tests {
    use farthing_contract::log::ALL;

    use super::*;

    fn columns(table: &Table) -> BTreeMap<String, String> {
        let own = OWN.iter().map(|(name, ty, _)| (*name, *ty)).chain([("at", "DateTime('UTC')"), (ON_TIME, "UInt8")]);
        let own = own.map(|(name, ty)| (name.to_owned(), ty.to_owned()));
        own.chain(table.columns.iter().map(|column| (column.name.to_owned(), type_of(column)))).collect()
    }

    #[test]
    fn only_what_is_lacking_is_added_and_what_is_not_ours_is_said() {
        for table in ALL {
            let mut there = columns(table);
            there.insert("mine".to_owned(), "UUID".to_owned());
            assert_eq!((extend("d", table, &there), foreign(table, &there)), (None, None));
        }
        let table = CallRow::TABLE;
        let mut there = columns(table);
        there.remove("team");
        let text = extend("d", table, &there).unwrap();
        assert!(
            text.starts_with("ALTER TABLE \"d\".calls_rows ADD COLUMN \"team\" LowCardinality(Nullable(String)) COMMENT 'Team"),
            "{text}"
        );
        there.insert("attempt".to_owned(), "String".to_owned());
        assert_eq!(foreign(table, &there).unwrap(), "column `attempt` of `calls_rows` is String, not Int32");
        for lacking in [ON_TIME, ROW_ID] {
            there.remove(lacking);
            assert_eq!(foreign(table, &there).unwrap(), format!("`calls_rows` has no column `{lacking}`"));
        }
    }

    #[test]
    fn a_table_that_would_lose_or_double_rows_is_not_used() {
        let key = "toStartOfHour(at), tenant, at, ts_ns, row_id";
        let unfit = |engine: &str, key: &str| unfit(CallRow::TABLE, engine, key).unwrap_or_default();
        assert_eq!(unfit("SharedReplacingMergeTree", key) + &unfit("ReplicatedReplacingMergeTree", key), "");
        assert!(unfit("MergeTree", key).contains("engine MergeTree"));
        for (lacking, key) in [("row_id", "ts_ns, log"), ("ts_ns", "toStartOfHour(at), log, row_id")] {
            assert!(unfit("ReplacingMergeTree", key).contains(&format!("ordered by `{lacking}`")), "{key}");
        }
    }

    #[test]
    fn what_may_be_absent_is_null_and_lists_are_never() {
        for column in ALL.iter().flat_map(|table| table.columns) {
            assert_eq!(type_of(column).contains("Nullable"), column.nullable, "{}", column.name);
            assert!(column.ty != ColumnType::F32List || !column.nullable, "{}", column.name);
        }
        let known = |name: &&&str| ALL.iter().any(|table| table.columns.iter().any(|c| c.name == **name && c.ty == ColumnType::Text));
        assert!(PLAIN_TEXTS.iter().all(|name| known(&name)));
        assert!(ALL.iter().all(|table| table.columns.iter().all(|c| OWN.iter().all(|(own, ..)| *own != c.name) && c.name != "at")));
    }

    #[test]
    fn texts_cannot_end_their_statement() {
        assert_eq!(quoted(" a "), "' a '");
        assert_eq!(quoted("o'brien\\"), "'o\\'brien\\\\'");
        assert_eq!((partition(20_784), &*date(20_784)), (20_261_127, "'2026-11-27'"));
    }
}

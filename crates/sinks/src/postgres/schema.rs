//! Tables in PostgreSQL, made of the one declaration in `contract`: statements as text, pure.

use std::collections::BTreeMap;

use farthing_contract::log::{Column, Table};
use farthing_types::{civil, day_number};

use super::copy::type_of;

/// Nanoseconds of a day.
const DAY_NS: i64 = 86_400_000_000_000;
/// The row's time as PostgreSQL's own functions understand it; made by the server.
const AT: &str = "at timestamptz GENERATED ALWAYS AS (to_timestamp(ts_ns / 1000000000.0)) STORED";
/// The table of the files that are there.
pub const FILES: &str = "shipped_files";
/// Held while tables are made or changed, so that instances do not stand in each other's way: any number of our own.
pub const DDL_LOCK: i64 = 0x6661_7274_6869_6e67;

/// The table that makes shipping idempotent: a file's name is written in the transaction that copies its rows.
pub fn files_table(schema: &str) -> String {
    format!(
        "CREATE TABLE IF NOT EXISTS \"{schema}\".{FILES} (log text NOT NULL, table_name text NOT NULL, day integer NOT NULL, file text NOT NULL, \
         rows bigint, shipped_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (log, table_name, day, file));\n\
         COMMENT ON TABLE \"{schema}\".{FILES} IS 'Files of the log whose rows are in the tables: written by farthing, in the transaction that brought the rows. day: days since 1970.'"
    )
}

/// What makes a table that is not there.
pub fn create(schema: &str, table: &Table) -> String {
    let columns: Vec<String> = table.columns.iter().map(definition).collect();
    let name = name(schema, table);
    let mut text = format!(
        "CREATE TABLE {name} ({}, {AT}) PARTITION BY RANGE (ts_ns);\nCOMMENT ON TABLE {name} IS {}",
        columns.join(", "),
        quoted(table.doc)
    );
    table.columns.iter().for_each(|column| text += &comment(schema, table, column));
    text
}

/// What adds the columns that a table lacks; `None` when it has them all. Later columns may be null, so nothing is written anew.
pub fn extend(schema: &str, table: &Table, there: &BTreeMap<String, String>) -> Option<String> {
    let lacking: Vec<&Column> = table.columns.iter().filter(|column| !there.contains_key(column.name)).collect();
    let added: Vec<String> = lacking.iter().map(|column| format!("ADD COLUMN {}", definition(column))).collect();
    let mut text = format!("ALTER TABLE {} {}", name(schema, table), added.join(", "));
    lacking.iter().for_each(|column| text += &comment(schema, table, column));
    (!lacking.is_empty()).then_some(text)
}

/// A column that is there with another type: not a table of ours. Columns that only the database has are its owner's matter.
pub fn foreign(table: &Table, there: &BTreeMap<String, String>) -> Option<String> {
    let odd = |column: &&Column| there.get(column.name).is_some_and(|ty| ty != type_of(column.ty));
    let column = table.columns.iter().find(odd)?;
    Some(format!("column `{}` of `{}` is {}, not {}", column.name, table.name, there.get(column.name)?, type_of(column.ty)))
}

/// What makes the partition of a day and joins it to its table. Not `PARTITION OF`, which would wait for every query under way and hold up all
/// after it.
pub fn partition(schema: &str, table: &Table, day: i64) -> String {
    let (whole, part) = (name(schema, table), partition_name(table, day));
    let (from, to) = (day * DAY_NS, (day + 1) * DAY_NS);
    format!(
        "CREATE TABLE \"{schema}\".{part} (LIKE {whole} INCLUDING ALL, CHECK (ts_ns >= {from} AND ts_ns < {to}));\n\
         ALTER TABLE {whole} ATTACH PARTITION \"{schema}\".{part} FOR VALUES FROM ({from}) TO ({to})"
    )
}

/// `calls_20261127`.
pub fn partition_name(table: &Table, day: i64) -> String {
    let (year, month, date) = civil(day);
    format!("{}_{year:04}{month:02}{date:02}", table.name)
}

/// The day of a partition's name; `None` for one that is not ours.
pub fn partition_day(table: &Table, part: &str) -> Option<i64> {
    let date = part.strip_prefix(table.name)?.strip_prefix('_').filter(|date| date.len() == 8)?;
    let number = |range: std::ops::Range<usize>| date.get(range)?.parse::<i64>().ok();
    let day = day_number(number(0..4)?, number(4..6)?, number(6..8)?);
    (partition_name(table, day) == part).then_some(day)
}

/// What the rows of a file are sent after.
pub fn copy(schema: &str, table: &Table) -> String {
    let columns: Vec<String> = table.columns.iter().map(|column| format!("\"{}\"", column.name)).collect();
    format!("COPY {} ({}) FROM STDIN (FORMAT binary)", name(schema, table), columns.join(", "))
}

/// The table's name with that of its schema.
pub fn name(schema: &str, table: &Table) -> String {
    format!("\"{schema}\".{}", table.name)
}

fn definition(column: &Column) -> String {
    // `window` and others are words of SQL.
    format!("\"{}\" {}{}", column.name, type_of(column.ty), if column.nullable { "" } else { " NOT NULL" })
}

fn comment(schema: &str, table: &Table, column: &Column) -> String {
    format!(";\nCOMMENT ON COLUMN {}.\"{}\" IS {}", name(schema, table), column.name, quoted(column.doc))
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.trim().replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use farthing_contract::log::{ALL, CallRow, Row};

    use super::*;

    fn columns(table: &Table) -> BTreeMap<String, String> {
        table.columns.iter().map(|column| (column.name.to_owned(), type_of(column.ty).to_owned())).collect()
    }

    #[test]
    fn only_what_is_lacking_is_added_and_what_is_not_ours_is_said() {
        for table in ALL {
            let mut there = columns(table);
            there.insert("mine".to_owned(), "uuid".to_owned());
            assert_eq!((extend("s", table, &there), foreign(table, &there)), (None, None));
        }
        let table = CallRow::TABLE;
        let mut there = columns(table);
        there.remove("team");
        let text = extend("s", table, &there).unwrap();
        assert!(
            text.starts_with("ALTER TABLE \"s\".calls ADD COLUMN \"team\" text;\nCOMMENT ON COLUMN \"s\".calls.\"team\" IS '"),
            "{text}"
        );
        there.insert("attempt".to_owned(), "text".to_owned());
        assert_eq!(foreign(table, &there).unwrap(), "column `attempt` of `calls` is text, not integer");
    }

    #[test]
    fn partitions_are_named_after_their_day() {
        let table = CallRow::TABLE;
        for day in [0, 11_016, 20_784, 20_785] {
            assert_eq!(partition_day(table, &partition_name(table, day)), Some(day));
        }
        assert_eq!(partition_name(table, 20_784), "calls_20261127");
        for other in ["calls", "calls_2026", "calls_20261327", "calls_20260230", "calls_2026112x", "requests_20261127", "calls_default"] {
            assert_eq!(partition_day(table, other), None, "{other}");
        }
    }
}

"""Reads a request log as users do, with polars, pandas and DuckDB, and checks that the three agree.

Usage: read_logs.py LOG_DIR [--min-rows TABLE=N ...]

Checked for each table that has files: the same row count and columns in all three; column types as documented in
docs/request-log.md; the partition of each row is that of its time; sums of the integer and counts of the text columns
agree. Prints one JSON object with the row counts. Exit code 1 with the reason otherwise.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars as pl

TABLES = ("requests", "calls", "decisions", "outcomes")
REFERENCE = Path(__file__).resolve().parents[2] / "docs" / "request-log.md"
POLARS = {
    "int64": pl.Int64,
    "uint64": pl.UInt64,
    "int32": pl.Int32,
    "double": pl.Float64,
    "float": pl.Float32,
    "bool": pl.Boolean,
    "text": pl.String,
    "list of float": pl.List(pl.Float32),
}


class Disagreement(Exception):
    """Two readers differ, or one differs from the documents."""


class Duck:
    """The files of one table, asked in SQL."""

    def __init__(self, pattern: str, *, hive: bool = False) -> None:
        self.connection = duckdb.connect()
        self.source = f"read_parquet('{pattern}', hive_partitioning = {str(hive).lower()})"

    def one(self, expressions: str) -> tuple[Any, ...]:
        return self.connection.execute(f"select {expressions} from {self.source}").fetchall()[0]

    def columns(self) -> list[str]:
        return [row[0] for row in self.connection.execute(f"describe select * from {self.source}").fetchall()]


def require(what: str, left: object, right: object) -> None:
    if left != right:
        raise Disagreement(f"{what}: {left!r} against {right!r}")


def documented() -> dict[str, dict[str, tuple[str, bool]]]:
    """Type and nullability of the columns by table, from the reference page."""
    tables: dict[str, dict[str, tuple[str, bool]]] = {}
    for line in REFERENCE.read_text().splitlines():
        if heading := re.fullmatch(r"## `(\w+)`", line):
            tables[heading[1]] = columns = {}
        elif row := re.match(r"\| `(\w+)` \| ([\w ]+) \| (yes)? *\|", line):
            columns[row[1]] = (row[2], bool(row[3]))
    return tables


def check_types(table: str, frame: pl.DataFrame, columns: dict[str, tuple[str, bool]]) -> None:
    require(f"columns of {table}", frame.columns, list(columns))
    for name, (kind, nullable) in columns.items():
        require(f"type of {table}.{name}", frame.schema[name], POLARS[kind])
        if not nullable:
            require(f"nulls in {table}.{name}", frame[name].null_count(), 0)


def check_partitions(table: str, files: list[Path]) -> None:
    for file in files:
        hours = pl.read_parquet(file, columns=["ts_ns"], hive_partitioning=False)["ts_ns"].cast(pl.Datetime("ns"))
        partition = f"{file.parent.parent.name}/{file.parent.name}"
        require(f"partition of {file}", set(hours.dt.strftime("date=%Y-%m-%d/hour=%H")), {partition})


def check_sums(table: str, readers: tuple[pl.DataFrame, pd.DataFrame, Duck]) -> None:
    by_polars, by_pandas, by_duckdb = readers
    for name, kind in by_polars.schema.items():
        count = by_polars[name].count()
        require(f"values in {table}.{name}, polars and pandas", count, int(by_pandas[name].count()))
        require(f"values in {table}.{name}, polars and duckdb", count, by_duckdb.one(f'count("{name}")')[0])
        if kind.is_integer():
            whole = sum(int(value) for value in by_polars[name].drop_nulls())
            summed = by_duckdb.one(f'sum("{name}"::hugeint)')[0] or 0
            require(f"sum of {table}.{name}, polars and duckdb", whole, int(summed))
        elif kind == pl.String:
            texts = set(by_polars[name].drop_nulls())
            require(f"texts in {table}.{name}, polars and pandas", texts, set(by_pandas[name].dropna()))
        elif kind.is_nested():
            lengths = int(by_polars[name].list.len().sum() or 0)
            require(f"elements of {table}.{name}, polars and pandas", lengths, sum(len(value) for value in by_pandas[name].dropna()))


def check_table(log: Path, table: str, columns: dict[str, tuple[str, bool]]) -> int:
    files = sorted((log / table).rglob("*.parquet"))
    if not files:
        return 0
    pattern = str(log / table / "**" / "*.parquet")
    by_polars = pl.read_parquet(pattern, hive_partitioning=False)
    by_pandas = pd.concat([pd.read_parquet(file, engine="pyarrow", partitioning=None) for file in files], ignore_index=True)
    by_duckdb = Duck(pattern)
    require(f"rows of {table}, polars and pandas", len(by_polars), len(by_pandas))
    require(f"rows of {table}, polars and duckdb", len(by_polars), by_duckdb.one("count(*)")[0])
    require(f"columns of {table}, polars and pandas", by_polars.columns, list(by_pandas.columns))
    require(f"columns of {table}, polars and duckdb", by_polars.columns, by_duckdb.columns())
    check_types(table, by_polars, columns)
    check_partitions(table, files)
    check_sums(table, (by_polars, by_pandas, by_duckdb))
    # The partitions as columns, as DuckDB reads them when asked to.
    rows, first, last = Duck(pattern, hive=True).one("count(*), min(date), max(date)")
    require(f"rows of {table} by partition", len(by_polars), rows)
    days = sorted({file.parent.parent.name for file in files})
    require(f"days of {table}", [days[0], days[-1]], [f"date={first}", f"date={last}"])
    return len(by_polars)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("log", type=Path)
    parser.add_argument("--min-rows", action="append", default=[], metavar="TABLE=N")
    arguments = parser.parse_args()
    try:
        columns = documented()
        require("tables in the reference", set(columns), set(TABLES))
        rows = {table: check_table(arguments.log, table, columns[table]) for table in TABLES}
        for table, least in (item.split("=") for item in arguments.min_rows):
            if rows[table] < int(least):
                raise Disagreement(f"rows of {table}: {rows[table]} instead of at least {least}")
    except Disagreement as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())

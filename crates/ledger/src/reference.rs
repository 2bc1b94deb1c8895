//! `docs/request-log.md`, generated from the declaration of the tables.

use std::fmt::Write;

use farthing_contract::log::{ALL, Column, SCHEMA_VERSION, TABLE_KEY, Table, VERSION_KEY};

/// The reference page of the request log.
pub fn request_log_markdown() -> String {
    let mut page = format!(
        "# The request log\n\n\
         <!-- Generated from crates/contract/src/log/tables.rs; `UPDATE_DOCS=1 cargo test -p farthing-ledger reference` rewrites it. -->\n\n\
         Four Parquet tables (zstd), one folder each: `<log>/<table>/date=YYYY-MM-DD/hour=HH/part-<instance>-<start>-<n>.parquet`. \
         Date and hour are those of `ts_ns` in UTC. A file under its final name is whole; files in the making have hidden names that end in `.tmp`. \
         No bodies, no headers and no credentials are logged; key digests are salted per deployment.\n\n\
         Schema version {SCHEMA_VERSION}, in each file's metadata under `{VERSION_KEY}`, beside the table's name under `{TABLE_KEY}`. \
         Columns are only ever added. Money is in nano-dollars (1e-9 USD); null means unknown, never zero.\n\n"
    );
    for table in ALL {
        section(&mut page, table);
    }
    page.push_str(
        "## Reading it\n\n\
         ```python\n\
         import polars as pl\n\
         requests = pl.scan_parquet(\"logs/requests/**/*.parquet\")\n\
         ```\n\n\
         ```sql\n\
         -- DuckDB\n\
         select route, sum(weight * base_nanousd) / 1e9 as base_usd, sum(weight * cost_nanousd) / 1e9 as cost_usd\n\
         from 'logs/requests/**/*.parquet' group by route;\n\
         ```\n",
    );
    page
}

fn section(page: &mut String, table: &Table) {
    let _ = write!(page, "## `{}`\n\n{}\n\n| column | type | null | meaning |\n|---|---|---|---|\n", table.name, table.doc.trim());
    for Column { name, ty, nullable, since, doc } in table.columns {
        let null = if *nullable { "yes" } else { "" };
        let since = if *since > 1 { format!(" (Since version {since}.)") } else { String::new() };
        let _ = writeln!(page, "| `{name}` | {} | {null} | {}{since} |", ty.as_str(), doc.trim().replace('|', "\\|"));
    }
    page.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_reference_is_current() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/request-log.md");
        let page = request_log_markdown();
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, &page).unwrap();
        }
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        assert!(committed == page, "docs/request-log.md is not current: UPDATE_DOCS=1 cargo test -p farthing-ledger reference");
    }

    #[test]
    fn every_column_is_described() {
        let page = request_log_markdown();
        for table in ALL {
            assert!(page.contains(&format!("## `{}`", table.name)));
            assert!(table.columns.iter().all(|column| page.contains(&format!("| `{}` |", column.name))));
        }
    }
}

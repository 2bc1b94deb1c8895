//! `farthing logs schema`.

use std::process::ExitCode;

use farthing_contract::log::{ALL, Column, SCHEMA_VERSION, Table};
use serde_json::{Value, json};

use crate::table::{out, render};

/// Flags of `farthing logs schema`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// One table instead of all four.
    #[arg(value_parser = clap::builder::PossibleValuesParser::new(ALL.map(|table| table.name)))]
    table: Option<String>,
    /// Print JSON instead of tables.
    #[arg(long)]
    json: bool,
}

/// Prints the tables.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let tables: Vec<&Table> = ALL.into_iter().filter(|table| args.table.as_deref().is_none_or(|name| name == table.name)).collect();
    if args.json {
        let tables: Vec<Value> = tables.iter().map(|table| as_json(table)).collect();
        let schema = json!({ "schema_version": SCHEMA_VERSION, "tables": tables });
        out(&(serde_json::to_string_pretty(&schema)? + "\n"));
    } else {
        out(&format!("Schema version {SCHEMA_VERSION}\n"));
        tables.iter().for_each(|table| out(&told(table)));
    }
    Ok(ExitCode::SUCCESS)
}

fn told(table: &Table) -> String {
    let row = |column: &Column| {
        let null = if column.nullable { "null" } else { "" };
        vec![column.name.to_owned(), column.ty.as_str().to_owned(), null.to_owned(), column.since.to_string(), column.doc.trim().to_owned()]
    };
    let columns = render(&["column", "type", "null", "since", "meaning"], table.columns.iter().map(row));
    format!("\n{}: {}\n{columns}", table.name, table.doc.trim())
}

fn as_json(table: &Table) -> Value {
    let column = |column: &Column| {
        json!({
            "name": column.name,
            "type": column.ty.as_str(),
            "nullable": column.nullable,
            "since": column.since,
            "doc": column.doc.trim(),
        })
    };
    json!({ "name": table.name, "doc": table.doc.trim(), "columns": table.columns.iter().map(column).collect::<Vec<_>>() })
}

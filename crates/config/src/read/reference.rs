//! The reference page, printed from the registry.

use std::fmt::Write;

use super::registry::{Kind, TABLES, Table};

/// `docs/config.md`.
pub fn reference() -> String {
    let mut page = String::from(HEAD);
    for table in TABLES {
        section(&mut page, table);
    }
    page
}

const HEAD: &str = "# Configuration\n\n\
    Printed from the registry of keys in `crates/config/src/read/registry.rs`; a test keeps the two equal.\n\n\
    One TOML file, `farthing serve --config farthing.toml`; `farthing check --config farthing.toml` reads it without serving and\n\
    prints everything that is wrong with file, line, key and remedy. Unknown keys are errors. Flags override the file.\n\n\
    Forms: a *time* is `\"500ms\"`, `\"60s\"`, `\"1h30m\"`, `\"7d\"`; a *size* is `\"64KiB\"`, `\"100MB\"` or a number of bytes; *dollars* are a\n\
    decimal text such as `\"0.002\"`, never a number; a *secret* is `{ env = \"NAME\" }` or `{ file = \"path\" }`; a *share* is a number\n\
    from 0 to 1. Relative paths start at the working directory.\n\n\
    The smallest file:\n\n\
    ```toml\n\
    [providers.openai]          # a preset: nothing else is needed\n\n\
    [providers.geo]\n\
    base_url = \"https://maps.example.com\"\n\
    price = \"0.002\"\n\
    ```\n";

fn section(page: &mut String, table: &Table) {
    // Writing to a String cannot fail.
    let _ = write!(page, "\n## `{}`\n\n{}\n\n| key | form | default | meaning |\n|---|---|---|---|\n", table.heading, table.doc);
    for key in table.keys {
        let form = match key.kind {
            Kind::Value(form) => form,
            Kind::Table => "table",
            Kind::Named => "named tables",
            Kind::Array => "array of tables",
        };
        let default = if key.default.is_empty() { String::new() } else { format!("`{}`", key.default) };
        let _ = writeln!(page, "| `{}` | {form} | {default} | {} |", key.name, key.doc);
    }
}

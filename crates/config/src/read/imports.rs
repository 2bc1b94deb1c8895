//! Files of imported prices: between a preset and what the configuration itself says.

use super::prices::prices;
use super::registry;
use super::section::{Document, Section};
use super::values as v;
use crate::Prices;

/// A file that was read: its name and its text.
pub(crate) struct Imported {
    file: String,
    text: String,
}

/// Reads the files of `[prices] import`.
pub(crate) fn read(top: &Section<'_, '_>) -> Vec<Imported> {
    let Some(table) = top.table("prices") else { return Vec::new() };
    let s = Section::open(top.doc, table, "prices", registry::PRICE_FILES);
    let mut files = Vec::new();
    for file in s.opt("import", v::list(v::text)).unwrap_or_default() {
        match top.doc.surroundings.file(&file) {
            Ok(text) => files.push(Imported { file, text }),
            Err(error) => {
                s.wrong("import", format!("\"{file}\" cannot be read: {error}"), "correct the path; it starts at the working directory")
            }
        }
    }
    files
}

/// Lays what the files say of a provider over its preset's prices; later files over earlier ones.
pub(crate) fn lay(top: &Section<'_, '_>, files: &[Imported], provider: &str, into: &mut Option<Prices>) {
    for Imported { file, text } in files {
        let doc = Document::new(file, text, top.doc.surroundings);
        let table = doc.parse();
        let s = Section::open(&doc, &table, "", registry::IMPORTED);
        for (name, table) in s.tables("providers") {
            let path = format!("providers.{name}");
            let s = Section::open(&doc, table, &path, registry::IMPORTED_PROVIDER);
            if name == provider {
                prices(&s, &path, into);
            }
        }
        top.doc.absorb(doc.into_problems());
    }
}

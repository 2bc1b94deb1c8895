//! Reads tables of a TOML document against the registry of keys, collecting every problem on the way.

use std::cell::RefCell;
use std::ops::Range;

use farthing_types::{Clock, RealClock, Time};
use toml::de::{DeTable, DeValue};

use super::registry::{self, Keys};
use super::shared::is_own;
use crate::Problem;

/// Where secrets and the salt come from: the environment and the file system, or a test's stand-in.
pub trait Surroundings {
    /// The value of an environment variable.
    fn var(&self, name: &str) -> Option<String>;
    /// The content of a file.
    ///
    /// # Errors
    /// What the system says.
    fn file(&self, path: &str) -> std::io::Result<String>;
    /// The time, by which certificates are valid.
    fn now(&self) -> Time {
        RealClock::default().wall()
    }
}

/// The process's own environment and files.
#[derive(Debug, Default)]
pub struct System;
impl Surroundings for System {
    fn var(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }
    fn file(&self, path: &str) -> std::io::Result<String> {
        std::fs::read_to_string(path)
    }
}

/// A value that cannot be taken, and what to write instead.
pub(crate) struct Bad {
    pub found: String,
    pub remedy: String,
}

/// One document and what was found wrong in it so far.
pub(crate) struct Document<'a> {
    file: &'a str,
    text: &'a str,
    /// Where the keys stand that are an instance's own, where that is another text: its name, and it.
    own: Option<(&'a str, &'a str)>,
    /// It is about an instance's own part alone, which needs no provider.
    pub alone: bool,
    pub surroundings: &'a dyn Surroundings,
    problems: RefCell<Vec<Problem>>,
}

impl<'a> Document<'a> {
    pub fn new(file: &'a str, text: &'a str, surroundings: &'a dyn Surroundings) -> Self {
        Self { file, text, own: None, alone: false, surroundings, problems: RefCell::default() }
    }

    /// Keys that are an instance's own stand in another text, called `file` in errors.
    pub const fn with_own(mut self, (file, text): (&'a str, &'a str)) -> Self {
        self.own = Some((file, text));
        self
    }

    /// It is about an instance's own part alone.
    pub const fn of_own_alone(mut self) -> Self {
        self.alone = true;
        self
    }

    /// Parses the text; what is not TOML becomes problems, and what is left of it is still read.
    pub fn parse(&self) -> DeTable<'a> {
        let mut table = self.parse_text((self.file, self.text));
        if let Some(own) = self.own {
            let mine = self.parse_text(own);
            for key in mine.keys().filter(|key| !registry::TOP.iter().any(|known| known.name == key.get_ref().as_ref())) {
                self.note(own, Some(key.span()), key.get_ref(), ("unknown key".to_owned(), nearest(key.get_ref(), registry::TOP)));
            }
            let theirs = table.into_iter().filter(|(key, _)| !is_own(key.get_ref()));
            table = theirs.chain(mine.into_iter().filter(|(key, _)| is_own(key.get_ref()))).collect();
        }
        table
    }

    fn parse_text(&self, (file, text): (&'a str, &'a str)) -> DeTable<'a> {
        let (table, errors) = DeTable::parse_recoverable(text);
        for error in errors {
            let message = error.message().lines().collect::<Vec<_>>().join(", ");
            let words = (format!("not TOML: {message}"), "correct the line; text values need double quotes".to_owned());
            self.note((file, text), error.span(), "", words);
        }
        table.into_inner()
    }

    pub fn problem(&self, span: Option<Range<usize>>, key: &str, found: impl Into<String>, remedy: impl Into<String>) {
        let top = key.split('.').next().unwrap_or_default();
        let source = self.own.filter(|_| is_own(top)).unwrap_or((self.file, self.text));
        self.note(source, span, key, (found.into(), remedy.into()));
    }

    fn note(&self, (file, text): (&str, &str), span: Option<Range<usize>>, key: &str, (found, remedy): (String, String)) {
        let line = span.map(|span| line_of(text, span.start));
        self.problems.borrow_mut().push(Problem { file: file.to_owned(), line, key: key.to_owned(), found, remedy });
    }

    /// A problem with a command-line flag.
    pub fn flag(&self, flag: &str, found: impl Into<String>, remedy: impl Into<String>) {
        self.problems.borrow_mut().push(Problem {
            file: "command line".to_owned(),
            line: None,
            key: flag.to_owned(),
            found: found.into(),
            remedy: remedy.into(),
        });
    }

    /// Takes over what is wrong in a file that this one names.
    pub fn absorb(&self, problems: Vec<Problem>) {
        self.problems.borrow_mut().extend(problems);
    }

    /// All problems in order of lines, each once.
    pub fn into_problems(self) -> Vec<Problem> {
        let mut problems = self.problems.into_inner();
        problems.sort_by_key(|p| p.line);
        problems.dedup();
        problems
    }
}

/// One table of a document.
#[derive(Clone, Copy)]
pub(crate) struct Section<'d, 'a> {
    pub doc: &'d Document<'a>,
    table: &'d DeTable<'a>,
    path: &'d str,
}

impl<'d, 'a> Section<'d, 'a> {
    /// A table under `path`; keys that `keys` does not list are problems.
    pub fn open(doc: &'d Document<'a>, table: &'d DeTable<'a>, path: &'d str, keys: Keys) -> Self {
        let section = Self { doc, table, path };
        for key in table.keys() {
            if !keys.iter().any(|k| k.name == key.get_ref().as_ref()) {
                section.doc.problem(Some(key.span()), &section.full(key.get_ref()), "unknown key", nearest(key.get_ref(), keys));
            }
        }
        section
    }

    /// A table under `path` whose keys are names that somebody chose.
    pub const fn free(doc: &'d Document<'a>, table: &'d DeTable<'a>, path: &'d str) -> Self {
        Self { doc, table, path }
    }

    /// Its keys, as they stand.
    pub fn names(&self) -> impl Iterator<Item = &'d str> {
        self.table.keys().map(|key| key.get_ref().as_ref())
    }

    /// The path of `key` in this table.
    pub fn full(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// Whether the table has `key`.
    pub fn has(&self, key: &str) -> bool {
        self.table.get(key).is_some()
    }

    /// Reads `key` when it is there.
    pub fn opt<T>(&self, key: &str, parse: impl Fn(&DeValue<'_>) -> Result<T, Bad>) -> Option<T> {
        let value = self.table.get(key)?;
        match parse(value.get_ref()) {
            Ok(parsed) => Some(parsed),
            Err(bad) => {
                self.doc.problem(Some(value.span()), &self.full(key), format!("found {}", bad.found), bad.remedy);
                None
            }
        }
    }

    /// Reads `key` over the default that `into` holds.
    pub fn set<T>(&self, key: &str, parse: impl Fn(&DeValue<'_>) -> Result<T, Bad>, into: &mut T) {
        if let Some(value) = self.opt(key, parse) {
            *into = value;
        }
    }

    /// Reads `key` into an option that stays as it is when the key is absent.
    pub fn set_opt<T>(&self, key: &str, parse: impl Fn(&DeValue<'_>) -> Result<T, Bad>, into: &mut Option<T>) {
        if let Some(value) = self.opt(key, parse) {
            *into = Some(value);
        }
    }

    /// Reads `key`, which must be there.
    pub fn need<T>(&self, key: &str, parse: impl Fn(&DeValue<'_>) -> Result<T, Bad>, remedy: &str) -> Option<T> {
        if !self.has(key) {
            self.wrong(key, "missing", remedy);
        }
        self.opt(key, parse)
    }

    /// A problem with the value of `key`, or with its absence.
    pub fn wrong(&self, key: &str, found: impl Into<String>, remedy: impl Into<String>) {
        self.doc.problem(self.span(key), &self.full(key), found, remedy);
    }

    fn span(&self, key: &str) -> Option<Range<usize>> {
        // The first key of the table stands near enough for one that is missing.
        self.table.get(key).map(|value| value.span()).or_else(|| self.table.keys().map(|key| key.span()).min_by_key(|span| span.start))
    }

    /// The table under `key`.
    pub fn table(&self, key: &str) -> Option<&'d DeTable<'a>> {
        let value = self.table.get(key)?;
        self.as_table(&self.full(key), value)
    }

    fn as_table(&self, full: &str, value: &'d toml::Spanned<DeValue<'a>>) -> Option<&'d DeTable<'a>> {
        let table = value.get_ref().as_table();
        if table.is_none() {
            let found = format!("found {}", show(value.get_ref()));
            self.doc.problem(Some(value.span()), full, found, "write a table, with its name in brackets");
        }
        table
    }

    /// The named tables under `key`, such as `[routes.geo]`: name and table.
    pub fn tables(&self, key: &str) -> Vec<(&'d str, &'d DeTable<'a>)> {
        let Some(outer) = self.table(key) else { return Vec::new() };
        let named = |name: &str| format!("{}.{name}", self.full(key));
        outer.iter().filter_map(|(name, value)| Some((name.get_ref().as_ref(), self.as_table(&named(name.get_ref()), value)?))).collect()
    }

    /// The tables of the array under `key`, such as `[[keys]]`.
    pub fn array(&self, key: &str) -> Vec<&'d DeTable<'a>> {
        let Some(value) = self.table.get(key) else { return Vec::new() };
        let Some(array) = value.get_ref().as_array() else {
            self.wrong(key, format!("found {}", show(value.get_ref())), format!("write an array of tables: [[{}]]", self.full(key)));
            return Vec::new();
        };
        array.iter().filter_map(|value| self.as_table(&self.full(key), value)).collect()
    }
}

/// A value as an error names it; long ones cut.
pub(crate) fn show(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) if text.len() > 60 => "a long text".to_owned(),
        DeValue::String(text) => show_text(text),
        DeValue::Integer(number) => number.as_str().to_owned(),
        DeValue::Float(number) => number.as_str().to_owned(),
        DeValue::Boolean(flag) => flag.to_string(),
        DeValue::Datetime(time) => time.to_string(),
        DeValue::Array(_) => "an array".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

/// A text as an error names it. Errors go to logs, alerts and people who may only look: what often holds a credential is not shown.
pub(crate) fn show_text(text: &str) -> String {
    let Some((_, rest)) = text.split_once("://") else { return format!("\"{text}\"") };
    // A password may hold what ends an authority elsewhere.
    if rest.contains('@') {
        "a URL with a user or password".to_owned()
    } else if rest.contains('?') {
        "a URL with a query".to_owned()
    } else {
        format!("\"{text}\"")
    }
}

/// The remedy for an unknown key.
fn nearest(found: &str, keys: Keys) -> String {
    best(found, keys.iter().map(|key| key.name)).map_or_else(
        || format!("known here: {}", keys.iter().map(|key| key.name).collect::<Vec<_>>().join(", ")),
        |name| format!("did you mean `{name}`?"),
    )
}

/// The remedy for the name of something that does not exist: the name that is most likely meant, or `otherwise`.
pub(crate) fn meant<'n>(found: &str, names: impl Iterator<Item = &'n str>, otherwise: impl FnOnce() -> String) -> String {
    best(found, names).map_or_else(otherwise, |near| format!("did you mean \"{near}\"?"))
}

/// The name that `found` most likely means.
pub(crate) fn best<'n>(found: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    names
        .map(|name| (strsim::jaro_winkler(found, name), name))
        .filter(|(likeness, _)| *likeness > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}

/// The line of a text on which a byte stands.
pub(super) fn line_of(text: &str, at: usize) -> usize {
    text.as_bytes().iter().take(at).filter(|&&b| b == b'\n').count() + 1
}

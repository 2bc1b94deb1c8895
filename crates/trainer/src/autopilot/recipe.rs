//! What a loop is told to do: a TOML file, strictly read.

use std::fmt::Display;
use std::path::{Path, PathBuf};

use farthing_config::parse_span;
use farthing_contract::bundle::Kind;
use farthing_types::Span;
use serde::Deserialize;
use toml::Spanned;

use crate::error::TrainError;

/// Most rows of the log that a fit may be given, unless the recipe says otherwise.
const ROWS: u64 = 5_000_000;
/// Versions of a kind that stay on disk, unless the recipe says otherwise.
const VERSIONS: u32 = 50;

/// A checked recipe.
#[derive(Clone, Debug, PartialEq)]
pub struct Recipe {
    /// Folders of logs, or of exports of them.
    pub logs: Vec<PathBuf>,
    /// The store of bundles.
    pub models: PathBuf,
    /// What is trained.
    pub kinds: Vec<Kind>,
    /// How much new log makes it worth while.
    pub every: Span,
    /// The same after a drift, until a version has come of it; the first time an hour will do.
    pub after_drift: Span,
    /// How long after its end an hour of the log is taken for closed.
    pub grace: Span,
    /// How far back is learned from.
    pub window: Span,
    /// Least log to begin with.
    pub least: Span,
    /// Most rows; the newest hours that fit.
    pub rows: u64,
    /// How long a challenger is waited for before a newer version takes its place.
    pub challenger_for: Span,
    /// How often is looked.
    pub look: Span,
    /// Versions that this loop has made and nobody names or remembers stay on disk up to this number; 0: all.
    pub versions: u32,
    /// File with the key that signs its versions.
    pub sign: Option<PathBuf>,
    /// Seed of every fit.
    pub seed: u64,
    /// Largest share of stale answers, for `ttl`.
    pub stale_budget: f64,
    /// Prices and promises, for `strategy`.
    pub terms: Option<PathBuf>,
    /// How far ahead a request counts as following, for `prefetch`.
    pub horizon: Span,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    logs: Spanned<OneOrMore>,
    models: Option<PathBuf>,
    kinds: Option<Spanned<Vec<String>>>,
    every: Option<Spanned<String>>,
    after_drift: Option<Spanned<String>>,
    grace: Option<Spanned<String>>,
    window: Option<Spanned<String>>,
    least: Option<Spanned<String>>,
    rows: Option<Spanned<u64>>,
    challenger_for: Option<Spanned<String>>,
    look: Option<Spanned<String>>,
    versions: Option<u32>,
    sign: Option<PathBuf>,
    seed: Option<u64>,
    ttl: Option<RawTtl>,
    strategy: Option<RawStrategy>,
    prefetch: Option<RawPrefetch>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(PathBuf),
    More(Vec<PathBuf>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTtl {
    stale_budget: Spanned<f64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawStrategy {
    terms: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPrefetch {
    horizon: Spanned<String>,
}

/// Says where in the file something is wrong.
struct Place<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Place<'_> {
    fn wrong<T>(&self, at: &Spanned<T>, key: &str, what: impl Display) -> TrainError {
        let line = 1 + self.text.as_bytes().iter().take(at.span().start).filter(|byte| **byte == b'\n').count();
        TrainError::Recipe { path: self.path.to_path_buf(), reason: format!("line {line}, `{key}`: {what}") }
    }

    fn span(&self, of: Option<Spanned<String>>, key: &str, (least, most): (&str, &str), usual: &str) -> Result<Span, TrainError> {
        let read = |text: &str| parse_span(text).unwrap_or(Span::ZERO);
        let Some(text) = of else { return Ok(read(usual)) };
        let parsed = parse_span(text.get_ref()).filter(|span| (read(least)..=read(most)).contains(span));
        parsed.ok_or_else(|| {
            let what = format!("`{}` is no time from {least} to {most}: write one with its unit, such as \"{usual}\"", text.get_ref());
            self.wrong(&text, key, what)
        })
    }
}

impl Recipe {
    /// Reads a recipe. Paths are relative to the working directory, as those of other commands.
    ///
    /// # Errors
    /// Names the file, the line, the key and the remedy.
    pub fn read(path: &Path) -> Result<Self, TrainError> {
        let text = std::fs::read_to_string(path).map_err(TrainError::io(path))?;
        Self::parse(path, &text)
    }

    /// Checks the text of the file at `path` (for messages).
    ///
    /// # Errors
    /// As [`Recipe::read`].
    pub fn parse(path: &Path, text: &str) -> Result<Self, TrainError> {
        let place = Place { path, text };
        let raw: Raw = toml::from_str(text).map_err(|e| TrainError::Recipe { path: path.to_path_buf(), reason: e.to_string() })?;
        let logs = match raw.logs.get_ref() {
            OneOrMore::One(one) => vec![one.clone()],
            OneOrMore::More(more) => more.clone(),
        };
        if logs.is_empty() || logs.iter().any(|folder| folder.as_os_str().is_empty()) {
            return Err(place.wrong(&raw.logs, "logs", "no folder: name the log folder of the proxy, such as \"logs\""));
        }
        let recipe = Self {
            logs,
            models: raw.models.unwrap_or_else(|| PathBuf::from("models")),
            kinds: kinds(&place, raw.kinds)?,
            every: place.span(raw.every, "every", ("1h", "90d"), "6h")?,
            after_drift: place.span(raw.after_drift, "after_drift", ("1h", "90d"), "3h")?,
            grace: place.span(raw.grace, "grace", ("0s", "7d"), "10m")?,
            window: place.span(raw.window.clone(), "window", ("2h", "400d"), "14d")?,
            least: place.span(raw.least.clone(), "least", ("1h", "90d"), "12h")?,
            rows: raw.rows.as_ref().map_or(ROWS, |rows| *rows.get_ref()),
            challenger_for: place.span(raw.challenger_for, "challenger_for", ("1h", "400d"), "15d")?,
            look: place.span(raw.look, "look", ("1s", "1d"), "5m")?,
            versions: raw.versions.unwrap_or(VERSIONS),
            sign: raw.sign,
            seed: raw.seed.unwrap_or(1),
            stale_budget: raw.ttl.as_ref().map_or(0.005, |ttl| *ttl.stale_budget.get_ref()),
            terms: raw.strategy.map(|strategy| strategy.terms),
            horizon: place.span(raw.prefetch.map(|prefetch| prefetch.horizon), "prefetch.horizon", ("100ms", "1d"), "30s")?,
        };
        if let Some(rows) = raw.rows.filter(|rows| !(10_000..=1_000_000_000).contains(rows.get_ref())) {
            return Err(place.wrong(&rows, "rows", "out of range: write a number from 10000 to 1000000000"));
        }
        if let Some(ttl) = raw.ttl.filter(|ttl| !(0.0..1.0).contains(ttl.stale_budget.get_ref()) || *ttl.stale_budget.get_ref() == 0.0) {
            return Err(place.wrong(&ttl.stale_budget, "ttl.stale_budget", "no share: write a number between 0 and 1, such as 0.005"));
        }
        if recipe.least > recipe.window {
            let at = raw.least.or(raw.window);
            let what = "least log is longer than the window: nothing would ever be trained; make `least` at most as long as `window`";
            return Err(at.map_or_else(
                || TrainError::Recipe { path: path.to_path_buf(), reason: what.to_owned() },
                |at| place.wrong(&at, "least", what),
            ));
        }
        Ok(recipe)
    }
}

fn kinds(place: &Place<'_>, names: Option<Spanned<Vec<String>>>) -> Result<Vec<Kind>, TrainError> {
    let Some(names) = names else { return Ok(vec![Kind::Ttl]) };
    let mut found = Vec::new();
    for name in names.get_ref() {
        let kind = Kind::parse(name)
            .ok_or_else(|| place.wrong(&names, "kinds", format!("`{name}` is no kind: write ttl, strategy, prefetch or cost")))?;
        if found.contains(&kind) {
            return Err(place.wrong(&names, "kinds", format!("`{name}` stands there twice: name each once")));
        }
        found.push(kind);
    }
    if found.is_empty() { Err(place.wrong(&names, "kinds", "nothing to train: write at least \"ttl\"")) } else { Ok(found) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Recipe, String> {
        Recipe::parse(Path::new("loop.toml"), text).map_err(|e| e.to_string())
    }

    #[test]
    fn the_example_of_the_docs_says_what_holds_without_it() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let example = Recipe::read(&root.join("docs/examples/loop.toml")).unwrap();
        assert_eq!(example, parse("logs = \"logs\"").unwrap());
    }

    #[test]
    fn what_is_wrong_is_told_with_line_key_and_remedy() {
        for (text, wanted) in [
            ("models = \"m\"", "logs"),
            ("logs = []", "line 1, `logs`: no folder"),
            ("logs = \"l\"\nevery = \"6\"", "line 2, `every`: `6` is no time from 1h to 90d: write one with its unit, such as \"6h\""),
            ("logs = \"l\"\nevery = \"1m\"", "from 1h"),
            ("logs = \"l\"\n\nkinds = [\"tll\"]", "line 3, `kinds`: `tll` is no kind"),
            ("logs = \"l\"\nkinds = []", "nothing to train"),
            ("logs = \"l\"\nkinds = [\"ttl\", \"ttl\"]", "twice"),
            ("logs = \"l\"\nrows = 7", "line 2, `rows`"),
            ("logs = \"l\"\nevry = \"6h\"", "evry"),
            ("logs = \"l\"\nleast = \"20d\"", "`least`: least log is longer than the window"),
            ("logs = \"l\"\n[ttl]\nstale_budget = 1.5", "line 3, `ttl.stale_budget`: no share"),
            ("logs = \"l\"\n[ttl]\nstale_buget = 0.1", "stale_buget"),
            ("logs = \"l\"\n[prefetch]\nhorizon = \"2d\"", "`prefetch.horizon`"),
            ("logs = 5", "logs"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains("loop.toml") && error.contains(wanted), "{text}: {error}");
        }
        let all =
            parse("logs = [\"a\", \"b\"]\nkinds = [\"ttl\", \"cost\"]\nrows = 20000\nseed = 7\n[strategy]\nterms = \"t.toml\"").unwrap();
        assert_eq!((all.logs.len(), all.kinds, all.rows, all.seed), (2, vec![Kind::Ttl, Kind::Cost], 20_000, 7));
    }
}

//! What a section of the results is.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::error::TrainError;
use crate::learn::Watch;

/// What sections stand on.
#[derive(Clone, Copy)]
pub struct Ground<'a> {
    /// Folder of the real traces; none when it was not given.
    pub data: Option<&'a Path>,
    /// Folder for what is made on the way and kept for the next run.
    pub scratch: &'a Path,
    /// A Python with pandas and pyarrow, for the data's own scripts.
    pub python: &'a str,
    /// Seeds 1 to this are measured, at most five: promises are about all five, fewer are for a quick look.
    pub seeds: u64,
    /// Told of the progress.
    pub watch: &'a dyn Watch,
}

impl Ground<'_> {
    /// A file of the data folder; `Err` says in a sentence what is absent.
    pub fn trace(&self, name: &str) -> Result<PathBuf, String> {
        let Some(data) = self.data else { return Err("no folder of real traces was given (`--data DIR`)".to_owned()) };
        let path = data.join(name);
        if path.is_file() { Ok(path) } else { Err(format!("`{name}` is not in the folder of real traces")) }
    }

    /// Seeded reads laid over the changes of `api_changes.parquet`, made once and kept; `Err` says what is absent.
    pub fn overlay(&self, seed: u64) -> Result<PathBuf, String> {
        let (script, changes) = (self.trace("make_reads.py")?, self.trace("api_changes.parquet")?);
        let (out, part) = (self.scratch.join(format!("reads{seed}.parquet")), self.scratch.join(format!("reads{seed}.part")));
        if out.is_file() {
            return Ok(out);
        }
        std::fs::create_dir_all(self.scratch).map_err(|e| format!("{}: {e}", self.scratch.display()))?;
        let mut command = Command::new(self.python);
        command.arg(script).arg(changes).arg(&part).args(["--seed", &seed.to_string(), "--keyfrac", "0.12", "--speed", "1.0"]);
        command.stdout(std::process::Stdio::null());
        match command.status() {
            Ok(status) if status.success() => std::fs::rename(&part, &out).map_err(|e| format!("{}: {e}", out.display())).map(|()| out),
            Ok(status) => Err(format!("`{} make_reads.py` ended with {status}: it needs pandas and pyarrow", self.python)),
            Err(e) => Err(format!("`{}` did not start ({e}): name a Python with pandas and pyarrow in FARTHING_PYTHON", self.python)),
        }
    }
}

/// Something promised, and what was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bar {
    /// What was measured, with its unit.
    pub what: String,
    /// The figure.
    pub measured: f64,
    /// What it may be at most, or must be at least.
    pub limit: f64,
    /// Whether less is better.
    pub at_most: bool,
    /// What is aimed at beyond the limit, where anything is.
    pub aim: Option<f64>,
}

impl Bar {
    /// A figure that may be at most `limit`.
    pub fn at_most(what: impl Into<String>, measured: f64, limit: f64) -> Self {
        Self { what: what.into(), measured, limit, at_most: true, aim: None }
    }
    /// A figure that must be at least `limit`.
    pub fn at_least(what: impl Into<String>, measured: f64, limit: f64) -> Self {
        Self { at_most: false, ..Self::at_most(what, measured, limit) }
    }
    /// With an aim beyond the limit.
    #[must_use]
    pub fn aiming_at(self, aim: f64) -> Self {
        Self { aim: Some(aim), ..self }
    }
    /// Whether the promise holds.
    pub fn holds(&self) -> bool {
        if self.at_most { self.measured <= self.limit } else { self.measured >= self.limit }
    }
}

/// What a section measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// How it was measured and what is to be seen, Markdown without headings.
    pub text: String,
    /// The promises.
    pub bars: Vec<Bar>,
    /// Further figures for machines.
    pub figures: serde_json::Value,
}

/// What a section came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Found {
    /// Figures.
    Measured(Measured),
    /// Its data is absent: what is missing, in a sentence.
    Absent(String),
}

/// One part of the results.
pub trait Section: Sync {
    /// Short name: key in the JSON and argument of `--only`.
    fn name(&self) -> &'static str;
    /// Heading on the page.
    fn title(&self) -> &'static str;
    /// Measures. Absent data is [`Found::Absent`], not an error.
    ///
    /// # Errors
    /// When something fails that should not.
    fn run(&self, ground: &Ground<'_>) -> Result<Found, TrainError>;
}

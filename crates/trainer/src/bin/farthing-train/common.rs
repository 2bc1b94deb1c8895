//! What the commands share: parsers of arguments, the progress bar.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use anyhow::Context;
use farthing_contract::bundle::{Alias, Kind, disk};
use farthing_replay::Trace;
use farthing_trainer::evaluate::{read_recipe, stream};
use farthing_trainer::history::History;
use farthing_trainer::learn::Watch;
use farthing_trainer::read::{Log, read_log, read_trace};
use indicatif::{ProgressBar, ProgressStyle};

/// Prints to the standard output; a reader that has left (`| head`) is no error.
pub fn out(text: &str) {
    use std::io::Write;
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}

/// A number strictly between 0 and 1.
pub fn share(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| format!("`{text}` is not a number"))?;
    if value > 0.0 && value < 1.0 { Ok(value) } else { Err(format!("{value} is not a share: give a number between 0 and 1, like 0.005")) }
}

/// An alias by name.
pub fn alias(text: &str) -> Result<Alias, String> {
    Alias::parse(text).ok_or_else(|| format!("`{text}` is no alias: give champion, challenger or shadow"))
}

/// A kind of predictor by name.
pub fn kind(text: &str) -> Result<Kind, String> {
    Kind::parse(text).ok_or_else(|| format!("`{text}` is no kind: give ttl, strategy, prefetch or cost"))
}

/// Requests to learn from or to judge by.
#[derive(clap::Args)]
#[group(required = true, multiple = false)]
pub struct Source {
    /// Files of the log, as a quoted pattern or a folder: 'logs/**/*.parquet'.
    #[arg(long)]
    logs: Option<String>,
    /// The pass-through log of a generated world instead, such as data/demo.toml.
    #[arg(long)]
    recipe: Option<PathBuf>,
    /// A trace of reads and changes instead: Parquet with ts_ms, key, endpoint, is_write, bytes.
    #[arg(long)]
    trace: Option<PathBuf>,
}

impl Source {
    /// The log, or what a pass-through proxy would have logged.
    pub fn log(&self, seed: u64) -> anyhow::Result<Log> {
        match (&self.logs, &self.recipe, &self.trace) {
            (Some(pattern), ..) => Ok(read_log(pattern)?),
            (_, Some(path), _) => generated_log(path, seed),
            (.., Some(path)) => {
                let trace = stream::of_trace(&read_trace(path)?);
                let mut log = stream::pass_through(&trace, trace.events.len());
                log.digest = disk::sha256(&std::fs::read(path).with_context(|| path.display().to_string())?);
                Ok(log)
            }
            _ => anyhow::bail!("give --logs, --recipe or --trace"),
        }
    }

    /// The events: of a log those that it tells of, else all of them.
    pub fn trace(&self, seed: u64) -> anyhow::Result<Trace> {
        match (&self.recipe, &self.trace) {
            (Some(path), _) => read_recipe(path)?.generate(seed).with_context(|| path.display().to_string()),
            (_, Some(path)) => Ok(stream::of_trace(&read_trace(path)?)),
            _ => {
                let log = self.log(seed)?;
                Ok(stream::of_log(&log, &History::of(&log).nondeterministic))
            }
        }
    }
}

/// The log that a pass-through proxy would write of a generated world; its digest is that of recipe and seed.
pub fn generated_log(path: &Path, seed: u64) -> anyhow::Result<Log> {
    let recipe = read_recipe(path)?;
    let trace = recipe.generate(seed).with_context(|| path.display().to_string())?;
    let mut log = stream::pass_through(&trace, trace.events.len());
    let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
    log.digest = disk::sha256(&[bytes.as_slice(), &seed.to_le_bytes()].concat());
    log.files = 1;
    Ok(log)
}

/// A progress bar on a terminal, nothing elsewhere.
pub struct Bar(ProgressBar);

impl Bar {
    /// Shown on a terminal unless `quiet`.
    pub fn new(quiet: bool) -> Self {
        let bar = if quiet || !std::io::stderr().is_terminal() { ProgressBar::hidden() } else { ProgressBar::new(1) };
        let style = ProgressStyle::with_template("{msg:<18} {wide_bar} {pos}/{len}").unwrap_or_else(|_| ProgressStyle::default_bar());
        bar.set_style(style);
        Self(bar)
    }
}

impl Watch for Bar {
    fn step(&self, what: &'static str, done: usize, of: usize) {
        self.0.set_message(what);
        self.0.set_length(of as u64);
        self.0.set_position(done as u64);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

//! What the commands share: parsers of arguments, the progress bar.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use farthing_contract::bundle::{ALIASES_FILE, Alias, Bundle, Kind, Published, SigningKey, Target, disk, signing};
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

/// Read before anything is trained.
fn signing_key(path: &str) -> Result<Arc<SigningKey>, String> {
    signing::read_key(Path::new(path)).map(Arc::new).map_err(|error| error.to_string())
}

/// Exit code when a model was fitted but not published.
const NOT_PUBLISHED: u8 = 3;

/// Where a bundle goes and whether it is moved to an alias.
#[derive(clap::Args)]
pub struct Publishing {
    /// Folder of the bundles.
    #[arg(long, default_value = "models")]
    pub out: PathBuf,
    /// Publish even when it was judged not better; the manifest records it where there is a gate.
    #[arg(long)]
    pub force: bool,
    /// Move this alias (champion, challenger, shadow) to the new version. Without any aliases.json the champion is set; of strategy and
    /// cost the first version of the kind becomes its champion.
    #[arg(long, value_parser = alias)]
    promote: Option<Alias>,
    /// Sign the bundle with the key in this file (`farthing models keygen`), for proxies that have `models.trusted_keys`.
    #[arg(long, value_name = "FILE", env = "FARTHING_SIGNING_KEY_FILE", value_parser = signing_key)]
    sign: Option<Arc<SigningKey>>,
    /// Seed: the same data and seed give the same bundle, byte for byte.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Print one JSON object instead of the report.
    #[arg(long)]
    pub json: bool,
}

impl Publishing {
    /// Whether nothing was published to the folder yet.
    pub fn is_new(&self) -> bool {
        !self.out.join(ALIASES_FILE).exists()
    }

    /// The key that signs, where one is given.
    pub fn signer(&self) -> Option<&SigningKey> {
        self.sign.as_deref()
    }

    /// Digest of the present champion of a kind.
    pub fn champion(&self, kind: Kind) -> anyhow::Result<Option<String>> {
        Ok(disk::read_aliases(&self.out)?.get(kind, Alias::Champion).map(|state| state.current.digest.clone()))
    }

    /// Moves the alias that was asked for to what was just published, the champion when it is the `first`. `at_ns` is the end of the
    /// training data.
    pub fn promote(&self, published: &Published, first: bool, at_ns: i64) -> anyhow::Result<()> {
        let kind = published.manifest.kind;
        // What is promoted is what can be read back, every byte against its digest.
        let version = Bundle::read(&self.out, kind, published.manifest.version)?.manifest.version;
        if let Some(alias) = self.promote.or(first.then_some(Alias::Champion)) {
            let target = Target { version, digest: published.digest.clone() };
            disk::change_aliases(&self.out, |aliases| Ok(aliases.promote(kind, alias, target, at_ns)))?;
        }
        Ok(())
    }
}

/// The `published` member of a JSON report.
pub fn bundle_json(published: Option<&Published>) -> serde_json::Value {
    published.map_or(serde_json::Value::Null, |p| serde_json::json!({"version": p.manifest.version, "path": p.dir, "digest": p.digest}))
}

/// The last line of a report: where the bundle is, or that there is none, and `why` where that is known.
pub fn tell(published: Option<&Published>, why: Option<&str>) {
    match (published, why) {
        (Some(done), _) => println!("published   {} ({})", done.dir.display(), &done.digest[..12.min(done.digest.len())]),
        (None, Some(why)) => println!("published   nothing ({why}): give --force to publish all the same"),
        (None, None) => println!("published   nothing: give --force to publish all the same"),
    }
}

/// The exit code of a fit.
pub fn ended(published: Option<&Published>) -> ExitCode {
    if published.is_some() { ExitCode::SUCCESS } else { ExitCode::from(NOT_PUBLISHED) }
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

//! `advise`: what a log says that Farthing could save.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use farthing_trainer::advise::bundle::published;
use farthing_trainer::advise::{Base, Options, advise};
use farthing_trainer::read::read_observed;

use crate::common::{out, share};

#[derive(clap::Args)]
pub struct AdviseLog {
    /// Files of the log, as a folder or a quoted pattern: 'logs/**/*.parquet'.
    #[arg(long)]
    logs: String,
    /// Largest share of stale answers of what is advised; savings are also shown for 0, 0.1 and 1 %.
    #[arg(long, default_value_t = 0.005, value_parser = share)]
    stale: f64,
    /// The present configuration: the advice is written into a copy of it.
    #[arg(long)]
    config: Option<PathBuf>,
    /// Folder of the bundles whose table is tried as well.
    #[arg(long, default_value = "models")]
    models: PathBuf,
    /// Share of the time on which settings are chosen; savings are counted on the rest.
    #[arg(long, default_value_t = 0.6, value_parser = share)]
    train_share: f64,
    /// Newest requests that are looked at.
    #[arg(long, default_value_t = 5_000_000)]
    most: usize,
    /// Write the advised configuration here as well.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Seed of the intervals.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print one JSON object instead of the text.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: &AdviseLog) -> anyhow::Result<ExitCode> {
    let base = match &args.config {
        Some(path) => Base::read(path, args.models.clone())?,
        None => Base { models: args.models.clone(), ..Base::default() },
    };
    let table = published(&args.models)?;
    let observed = read_observed(&args.logs, args.most)?;
    let options = Options { stale: args.stale, train_share: args.train_share, seed: args.seed };
    let advice = advise(&observed, table.as_ref(), &base, options)?;
    if let Some(path) = &args.out {
        std::fs::write(path, &advice.toml).with_context(|| path.display().to_string())?;
    }
    if args.json {
        out(&(serde_json::to_string_pretty(&advice)? + "\n"));
    } else {
        out(&advice.text());
    }
    Ok(ExitCode::SUCCESS)
}

//! `evaluate ttl`: learns from the first part of a trace with known changes and compares bills on the rest.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use farthing_trainer::evaluate::{Evaluated, Evaluation, evaluate, read_recipe, stream};
use farthing_trainer::read::read_trace;

use crate::common::{Bar, share};

#[derive(clap::Args)]
pub struct EvaluateTtl {
    /// Parquet file with ts_ms, key, endpoint, is_write, bytes.
    #[arg(long, conflicts_with = "recipe", required_unless_present = "recipe")]
    trace: Option<PathBuf>,
    /// A generated world instead, such as data/demo.toml.
    #[arg(long)]
    recipe: Option<PathBuf>,
    /// Staleness budget.
    #[arg(long, default_value_t = 0.01, value_parser = share)]
    stale: f64,
    /// Share of the time that is learned from.
    #[arg(long, default_value_t = 0.6, value_parser = share)]
    train_share: f64,
    /// Seed of the world and of the learners.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print one JSON object instead of the table.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn evaluate_ttl(args: &EvaluateTtl) -> anyhow::Result<ExitCode> {
    let mut evaluation = Evaluation { stale: args.stale, train_share: args.train_share, seed: args.seed, ..Evaluation::default() };
    let trace = match (&args.trace, &args.recipe) {
        (Some(path), _) => stream::of_trace(&read_trace(path)?),
        (None, Some(path)) => {
            let recipe = read_recipe(path)?;
            evaluation.stale_price = Some(recipe.stale_price);
            recipe.generate(args.seed).context(path.display().to_string())?
        }
        (None, None) => bail!("give --trace or --recipe"),
    };
    let bar = Bar::new(args.json);
    let evaluated: Evaluated = evaluate(&trace, evaluation, &bar)?;
    drop(bar);
    if args.json {
        println!("{}", serde_json::to_string_pretty(&evaluated)?);
    } else {
        print!("{}", evaluated.text());
    }
    Ok(ExitCode::SUCCESS)
}

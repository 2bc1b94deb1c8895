//! `evaluate policy`: what another policy would have cost, from decisions whose probabilities are logged.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use farthing_contract::bundle::Kind;
use farthing_trainer::ope::{self, Decisions, Options, PolicyReport, Target, dsjson};
use farthing_trainer::read::{read_decisions, read_pmf};
use farthing_trainer::trees::Ensemble;

use crate::common::Bar;
use crate::compare::bundle;

/// Exit code when the log says too little.
const REFUSED: u8 = 3;

#[derive(clap::Args)]
pub struct EvaluatePolicy {
    /// Files of the log, as a quoted pattern or a folder: 'logs/**/*.parquet'.
    #[arg(long)]
    logs: String,
    /// Kind of the decisions, as in the log.
    #[arg(long, default_value = "strategy")]
    kind: String,
    /// Experiment whose decisions they are, for `--kind assignment`; needed where the log has several.
    #[arg(long, value_name = "NAME")]
    experiment: Option<String>,
    /// What to evaluate: `fixed:2` (always action 2), `uniform`, `logged`, `bundle:models/strategy/3` (the action with the lowest answer of
    /// its model), or `pmf:FILE` (Parquet with `decision_id` and `pmf`).
    #[arg(long, default_value = "logged")]
    target: String,
    /// Leave out decisions younger than so many seconds at the end of the log.
    #[arg(long, default_value_t = 3_600)]
    mature_s: i64,
    /// Also write the decisions as Vowpal Wabbit's dsjson to this file.
    #[arg(long, value_name = "FILE")]
    dsjson: Option<PathBuf>,
    /// Seed of the model of the cost.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print one JSON object instead of the table.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn evaluate_policy(args: &EvaluatePolicy) -> anyhow::Result<ExitCode> {
    let target = target(&args.target)?;
    let decisions = read_decisions(&args.logs, (&args.kind, args.experiment.as_deref()))?;
    // Actions of several experiments are not those of one policy.
    if let Some(path) = args.dsjson.as_ref().filter(|_| decisions.experiments().len() < 2) {
        let lines = write_dsjson(path, &decisions, &args.kind).with_context(|| path.display().to_string())?;
        eprintln!("{lines} decisions written to {}", path.display());
    }
    let options = Options { mature_ns: args.mature_s.saturating_mul(1_000_000_000), seed: args.seed, ..Options::default() };
    let bar = Bar::new(args.json);
    let report = PolicyReport::new(&args.target, ope::evaluate(&decisions, &target, options, &bar)?);
    drop(bar);
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{}", report.text());
    }
    Ok(if report.refused.is_some() { ExitCode::from(REFUSED) } else { ExitCode::SUCCESS })
}

fn target(text: &str) -> anyhow::Result<Target> {
    Ok(match text.split_once(':') {
        None if text == "uniform" => Target::Uniform,
        None if text == "logged" => Target::Logged,
        Some(("fixed", action)) => Target::Fixed(action.parse().with_context(|| format!("`{action}` is no number of an action"))?),
        Some(("bundle", path)) => Target::Cheapest(Ensemble::of_bundle(&bundle(Path::new(path))?).map_err(anyhow::Error::msg)?),
        Some(("pmf", path)) => Target::Given(read_pmf(Path::new(path))?),
        _ => bail!("`{text}` is no policy: give fixed:ACTION, uniform, logged, bundle:DIR or pmf:FILE"),
    })
}

fn write_dsjson(path: &Path, decisions: &Decisions, kind: &str) -> anyhow::Result<usize> {
    let spec = Kind::parse(kind).and_then(Kind::spec);
    let hash = spec.map(farthing_contract::features::FeatureSpec::hash);
    let mut out = std::io::BufWriter::new(std::fs::File::create(path)?);
    let mut lines = 0;
    for row in &decisions.rows {
        let known = hash.is_some() && row.spec_hash == hash;
        let names = spec.filter(|_| known).map_or(&[] as &[&str], |spec| spec.names);
        if let Some(line) = dsjson::line(row, names) {
            writeln!(out, "{line}")?;
            lines += 1;
        }
    }
    out.flush()?;
    Ok(lines)
}

//! `farthing replay`: the proxy's own decisions over a log or a generated world, in virtual time.

mod kinds;
mod progress;
mod world;

use std::path::PathBuf;
use std::process::ExitCode;

use farthing_config::{Config, Flags, System};
use farthing_models::{Runtime, Store, StoreOptions};
use serde::Serialize;

use crate::check;
use crate::table::out;
use kinds::{KindReport, Scene};
use progress::Progress;

/// Share of a generated world that only warms the live statistics, as in the trainer's held-out evaluation.
const WARM: f64 = 0.6;

/// Flags of `farthing replay`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A recipe of a generated world (data/README.md), in place of a log.
    #[arg(long, value_name = "FILE")]
    world: PathBuf,
    /// Seed of the world; the recipe's when absent.
    #[arg(long)]
    seed: Option<u64>,
    /// The policy: a configuration file.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Directory of the model store; the policy's, else `models`.
    #[arg(long, value_name = "DIR")]
    models: Option<PathBuf>,
    /// The ONNX Runtime library.
    #[arg(long, value_name = "FILE", env = "FARTHING_ONNXRUNTIME")]
    onnxruntime: Option<PathBuf>,
    /// Print JSON instead of tables.
    #[arg(long)]
    json: bool,
}

/// Everything the command says.
#[derive(Debug, Serialize)]
struct Report {
    /// What was replayed.
    about: String,
    /// Why no ONNX model can run; tables and rules decide then.
    #[serde(skip_serializing_if = "Option::is_none")]
    runtime_problem: Option<String>,
    /// Each kind of predictor against the rules.
    kinds: Vec<KindReport>,
}

/// Replays and prints.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let config = match args.policy.as_deref().map(|path| Config::build(Some(path), &Flags::default(), &System)).transpose() {
        Ok(config) => config,
        Err(error) => return Ok(check::refuse(&error)),
    };
    let progress = Progress::new();
    progress.say("world");
    let (recipe, trace, seed) = world::generate(&args.world, args.seed)?;
    let (store, runtime_problem) = open_store(args, config.as_ref());
    let routes = world::routes(&trace, Some(&recipe), config.as_ref());
    let scene = Scene { trace: &trace, routes: &routes, warm: WARM, recipe: Some(&recipe), store: &store, seed };
    let about = format!("{}, seed {seed}: {} events, {} routes", args.world.display(), trace.events.len(), trace.routes.len());
    let report = Report { about, runtime_problem, kinds: kinds::replay_all(&scene, &progress) };
    drop(progress);
    print(args, &report)?;
    Ok(ExitCode::SUCCESS)
}

/// The store and, where only tables can run, why.
fn open_store(args: &Args, config: Option<&Config>) -> (Store, Option<String>) {
    let dir = args.models.clone().or_else(|| config.map(|c| c.models.dir.clone())).unwrap_or_else(|| "models".into());
    let library = args.onnxruntime.clone().or_else(|| config.and_then(|c| c.models.onnxruntime.clone()));
    let runtime = Runtime::load(library.as_deref());
    let problem = runtime.as_ref().err().map(ToString::to_string);
    (Store::open(dir, StoreOptions { runtime: runtime.ok(), slots: 1, ..StoreOptions::default() }), problem)
}

fn print(args: &Args, report: &Report) -> anyhow::Result<()> {
    if args.json {
        out(&(serde_json::to_string_pretty(report)? + "\n"));
        return Ok(());
    }
    out(&format!("{}\n", report.about));
    if let Some(problem) = &report.runtime_problem {
        out(&format!("no ONNX model runs here: {problem}; tables and rules decide\n"));
    }
    out(&format!("\nPredictors against rules\n{}", kinds::table(&report.kinds)));
    Ok(())
}

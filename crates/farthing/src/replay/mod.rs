//! `farthing replay`: the proxy's own decisions over a log or a generated world, in virtual time.

mod kinds;
mod log;
mod policy;
mod progress;
mod report;
mod world;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use farthing_config::Config;
use farthing_models::{Runtime, Store, StoreOptions};
use farthing_replay::Paired;
use farthing_replay::path::{Log, Settings, replay};
use serde::Serialize;

use crate::check;
use crate::table::out;
use kinds::{KindReport, Scene};
use progress::Progress;
use report::{ComparisonReport, PolicyReport};

/// Share of a generated world that only warms the live statistics, as in the trainer's held-out evaluation.
const WARM: f64 = 0.6;
/// Exit code of `--check` for a replay that does not agree with its log.
const NOT_FAITHFUL: u8 = 3;

/// Flags of `farthing replay`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Directory of the log to replay.
    #[arg(long, value_name = "DIR", requires = "policy", required_unless_present = "world")]
    log: Option<PathBuf>,
    /// A recipe of a generated world (data/README.md), in place of a log.
    #[arg(long, value_name = "FILE", conflicts_with = "log")]
    world: Option<PathBuf>,
    /// Seed of the world and of everything that is drawn; the recipe's, or 7, when absent.
    #[arg(long)]
    seed: Option<u64>,
    /// The policy: a configuration file.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Another configuration file, which the policy is compared with over the same requests.
    #[arg(long, value_name = "FILE", requires = "log")]
    against: Option<PathBuf>,
    /// Fail (exit code 3) unless the replay agrees with the log: 99.5 % of the outcomes, 0.5 % of the bill. For the policy that wrote it.
    #[arg(long, requires = "log")]
    check: bool,
    /// Also replay each kind of predictor against the rules on the log's reads and changes; always done for a world.
    #[arg(long, requires = "log")]
    kinds: bool,
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
#[derive(Debug, Default, Serialize)]
struct Report {
    /// What was replayed.
    about: String,
    /// Why no ONNX model can run; tables and rules decide then.
    #[serde(skip_serializing_if = "Option::is_none")]
    runtime_problem: Option<String>,
    /// Routes of the log that the policy does not have: their requests are left out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    absent_routes: Vec<Arc<str>>,
    /// The replay under the policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<PolicyReport>,
    /// The replay under the policy it is compared with.
    #[serde(skip_serializing_if = "Option::is_none")]
    against: Option<PolicyReport>,
    /// Both.
    #[serde(skip_serializing_if = "Option::is_none")]
    comparison: Option<ComparisonReport>,
    /// Each kind of predictor against the rules.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    kinds: Vec<KindReport>,
}

/// Replays and prints.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let read = |path: &Option<PathBuf>| path.as_deref().map(policy::read).transpose();
    let (config, old) = match (read(&args.policy), read(&args.against)) {
        (Ok(config), Ok(old)) => (config, old),
        (Err(error), _) | (_, Err(error)) => return Ok(check::refuse(&error)),
    };
    let progress = Progress::new();
    let report = match (&args.world, &args.log, &config) {
        (Some(world), ..) => of_world(args, world, config.as_ref(), &progress)?,
        (None, Some(dir), Some(config)) => of_log(args, dir, (config, old.as_ref()), &progress)?,
        _ => anyhow::bail!("name what to replay: --log DIR --policy FILE, or --world FILE"),
    };
    drop(progress);
    print(args, &report)?;
    let unfaithful = args.check && report.policy.as_ref().is_some_and(|p| !p.fidelity.faithful);
    Ok(if unfaithful { ExitCode::from(NOT_FAITHFUL) } else { ExitCode::SUCCESS })
}

fn of_world(args: &Args, path: &Path, config: Option<&Config>, progress: &Progress) -> anyhow::Result<Report> {
    progress.say("world");
    let (recipe, trace, seed) = world::generate(path, args.seed)?;
    let (store, runtime_problem) = open_store(args, config);
    let routes = world::routes(&trace, Some(&recipe), config);
    let scene = Scene { trace: &trace, routes: &routes, warm: WARM, recipe: Some(&recipe), store: &store, seed };
    let about = format!("{}, seed {seed}: {} events, {} routes", path.display(), trace.events.len(), trace.routes.len());
    Ok(Report { about, runtime_problem, kinds: kinds::replay_all(&scene, progress), ..Report::default() })
}

fn of_log(args: &Args, dir: &Path, (config, old): (&Config, Option<&Config>), progress: &Progress) -> anyhow::Result<Report> {
    let seed = args.seed.unwrap_or(7);
    let log = log::load(dir, progress)?;
    let (store, runtime_problem) = open_store(args, Some(config));
    let mut money = Paired::default();
    let run = Run { log: &log, seed, progress };
    let (new, absent_routes) = run.under(config, &store, args.policy.as_deref(), &mut |key, at, nanos| money.first(key, at, nanos))?;
    let against = match old {
        None => None,
        Some(old) => {
            let (store, _) = open_store(args, Some(old));
            Some(run.under(old, &store, args.against.as_deref(), &mut |key, at, nanos| money.second(key, at, nanos))?.0)
        }
    };
    let comparison = against.as_ref().map(|old| ComparisonReport::of(&new, old, &money, seed));
    let about = format!("{}: {} requests, {} calls, {} keys", dir.display(), log.asked.len(), log.called.len(), log.keys.len());
    let kinds = if args.kinds { kinds_of_log(&run, config, &store) } else { Vec::new() };
    Ok(Report { about, runtime_problem, absent_routes, policy: Some(new), against, comparison, kinds })
}

/// A log under replay.
struct Run<'a> {
    log: &'a Log,
    seed: u64,
    progress: &'a Progress,
}

impl Run<'_> {
    fn under(
        &self,
        config: &Config,
        store: &Store,
        path: Option<&Path>,
        pay: &mut dyn FnMut(u64, farthing_types::Time, i64),
    ) -> anyhow::Result<(PolicyReport, Vec<Arc<str>>)> {
        let name = path.map(|path| path.display().to_string()).unwrap_or_default();
        let (policy, absent) = policy::compile(config, &self.log.routes, store).with_context(|| name.clone())?;
        self.progress.say(&format!("replay of {name}"));
        let settings = Settings { seed: self.seed, pay, progress: &mut |done| self.progress.at(done, self.log.asked.len()) };
        let (tally, fidelity) = replay(self.log, &policy, settings);
        Ok((PolicyReport::of(name, self.log, &tally, &fidelity), absent))
    }
}

/// The kinds on the reads and changes that the log tells.
fn kinds_of_log(run: &Run<'_>, config: &Config, store: &Store) -> Vec<KindReport> {
    let trace = farthing_replay::path::trace_of(run.log, run.seed);
    let routes = world::routes(&trace, None, Some(config));
    kinds::replay_all(&Scene { trace: &trace, routes: &routes, warm: WARM, recipe: None, store, seed: run.seed }, run.progress)
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
    for route in &report.absent_routes {
        out(&format!("route `{route}` is in the log and not in the policy: its requests are left out\n"));
    }
    if let Some(policy) = &report.policy {
        out(&format!("\n{}\n{}{}", policy.policy, policy.table(), policy.agreement()));
        if let Some(old) = &report.against {
            out(&format!("\n{}\n{}{}", old.policy, old.table(), old.agreement()));
            if let Some(comparison) = &report.comparison {
                out(&format!("\nSide by side\n{}", comparison.table(policy, old)));
            }
        }
    }
    if !report.kinds.is_empty() {
        out(&format!("\nPredictors against rules\n{}", kinds::table(&report.kinds)));
    }
    Ok(())
}

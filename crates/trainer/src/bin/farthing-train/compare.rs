//! `compare A B`: two bundles on the same requests.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use farthing_contract::bundle::{Bundle, Kind};
use farthing_trainer::gate::versus::{Report, Side, versus};

use crate::common::{Bar, Source, share};

/// Exit code when A is not shown to be cheaper at every budget.
const NOT_CHEAPER: u8 = 3;

#[derive(clap::Args)]
pub struct Compare {
    /// The version in question, as its folder: models/ttl/4.
    a: PathBuf,
    /// The version it is compared with: models/ttl/3.
    b: PathBuf,
    #[command(flatten)]
    source: Source,
    /// Staleness budgets.
    #[arg(long, value_delimiter = ',', default_values_t = [0.001, 0.01, 0.05], value_parser = share)]
    stale: Vec<f64>,
    /// Share of the time that only warms the statistics up.
    #[arg(long, default_value_t = 0.3, value_parser = share)]
    warm_share: f64,
    /// Seed of generated world and bootstrap.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print one JSON object instead of the tables.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn compare(args: &Compare) -> anyhow::Result<ExitCode> {
    let (a, b) = (side(&args.a)?, side(&args.b)?);
    let trace = args.source.trace(args.seed)?;
    let cut = trace.split(args.warm_share);
    let bar = Bar::new(args.json);
    let report: Report = versus((&trace, cut), (&a, &b), &args.stale, (args.seed, &bar));
    drop(bar);
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{}", report.text());
    }
    Ok(if report.cheaper() { ExitCode::SUCCESS } else { ExitCode::from(NOT_CHEAPER) })
}

/// The bundle in `ROOT/KIND/VERSION`.
fn side(path: &Path) -> anyhow::Result<Side> {
    let bundle = bundle(path)?;
    if bundle.manifest.kind != Kind::Ttl {
        bail!(
            "{}: bundles of kind {} are compared by the gate when one is fitted; here only kind ttl",
            path.display(),
            bundle.manifest.kind
        );
    }
    Side::of(&bundle).map_err(anyhow::Error::msg)
}

/// Reads the version whose folder is `path`.
pub fn bundle(path: &Path) -> anyhow::Result<Bundle> {
    let wanted = || format!("{}: give a version's folder, like models/ttl/3", path.display());
    let version: u32 = path.file_name().and_then(|n| n.to_str()).and_then(|n| n.parse().ok()).with_context(wanted)?;
    let dir = path.parent().with_context(wanted)?;
    let kind = dir.file_name().and_then(|n| n.to_str()).and_then(Kind::parse).with_context(wanted)?;
    Ok(Bundle::read(dir.parent().with_context(wanted)?, kind, version)?)
}

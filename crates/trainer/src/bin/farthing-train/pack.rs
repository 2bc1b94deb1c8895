//! `features` and `pack`: a model of another program, from the rows to a bundle.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use farthing_contract::bundle::{ALIASES_FILE, Alias, Bundle, Kind, Target, disk};
use farthing_contract::features::TTL_SPEC;
use farthing_trainer::fit::Options;
use farthing_trainer::gate::ttl::Champion;
use farthing_trainer::pack::{self, Matrix};

use crate::common::{Bar, Source, alias, kind, share};
use crate::fit::NOT_PUBLISHED;

#[derive(clap::Args)]
pub struct Features {
    /// Kind of predictor.
    #[arg(long, default_value = "ttl", value_parser = kind)]
    kind: Kind,
    #[command(flatten)]
    source: Source,
    /// Folder to write rows.parquet to.
    #[arg(long, default_value = "features")]
    out: PathBuf,
    /// Seed of a generated world.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Writes the matrix that the learners see.
pub fn features(args: &Features) -> anyhow::Result<ExitCode> {
    only_ttl(args.kind)?;
    let log = args.source.log(args.seed)?;
    let bar = Bar::new(false);
    let parts = pack::ttl_parts(&log, &bar)?;
    drop(bar);
    let path = pack::write(&args.out, &Matrix { spec: &TTL_SPEC, parts: &parts, digest: &log.digest })?;
    println!("{}: {} rows to train on, {} to test on, spec {}", path.display(), parts.train.len(), parts.test.len(), TTL_SPEC.hash());
    Ok(ExitCode::SUCCESS)
}

#[derive(clap::Args)]
pub struct Pack {
    /// Kind of predictor.
    #[arg(long, default_value = "ttl", value_parser = kind)]
    kind: Kind,
    /// The model: input of as many 32-bit floats as there are features, in their order; output one number per age interval, or one for all.
    #[arg(long)]
    onnx: PathBuf,
    #[command(flatten)]
    source: Source,
    /// Folder of the bundles.
    #[arg(long, default_value = "models")]
    out: PathBuf,
    /// Largest share of stale answers, as configured on the routes.
    #[arg(long, default_value_t = 0.005, value_parser = share)]
    stale_budget: f64,
    /// Publish even when the gate says no; the manifest records it.
    #[arg(long)]
    force: bool,
    /// Move this alias (champion, challenger, shadow) to the new version. Without any aliases.json the champion is set.
    #[arg(long, value_parser = alias)]
    promote: Option<Alias>,
    /// Seed of bootstrap and generated world.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print one JSON object instead of the report.
    #[arg(long)]
    json: bool,
}

/// Checks, judges, publishes.
pub fn pack(args: &Pack) -> anyhow::Result<ExitCode> {
    only_ttl(args.kind)?;
    let onnx = std::fs::read(&args.onnx).with_context(|| args.onnx.display().to_string())?;
    let log = args.source.log(args.seed)?;
    let champion = Champion::read(&args.out);
    let options = Options { stale_budget: args.stale_budget, seed: args.seed };
    let packed = {
        let bar = Bar::new(args.json);
        let against = champion.as_ref().map_err(String::as_str);
        pack::ttl(&log, &onnx, (options, against), &bar).with_context(|| args.onnx.display().to_string())?
    };
    let wanted = packed.judgement.passed() || args.force;
    let first = !args.out.join(ALIASES_FILE).exists();
    let published = if wanted {
        let parent = disk::read_aliases(&args.out)?.get(Kind::Ttl, Alias::Champion).map(|state| state.current.digest.clone());
        let published = packed.publish(&args.out, parent)?;
        // What is promoted is what can be read back, every byte against its digest.
        let version = Bundle::read(&args.out, Kind::Ttl, published.manifest.version)?.manifest.version;
        if let Some(alias) = args.promote.or(first.then_some(Alias::Champion)) {
            let (target, at) = (Target { version, digest: published.digest.clone() }, log.range_ns().1);
            disk::change_aliases(&args.out, |aliases| Ok(aliases.promote(Kind::Ttl, alias, target, at)))?;
        }
        Some(published)
    } else {
        None
    };
    if args.json {
        let bundle = published.as_ref().map(|p| serde_json::json!({"version": p.manifest.version, "path": p.dir, "digest": p.digest}));
        let value = serde_json::json!({"published": bundle, "verdict": packed.judgement.sentence(), "judgement": packed.judgement});
        println!("{}", serde_json::to_string_pretty(&value)?);
    } else {
        print!("{}", packed.text());
        match &published {
            Some(done) => println!("published   {} ({})", done.dir.display(), &done.digest[..12.min(done.digest.len())]),
            None => println!("published   nothing ({}): give --force to publish all the same", packed.judgement.sentence()),
        }
    }
    Ok(if published.is_some() { ExitCode::SUCCESS } else { ExitCode::from(NOT_PUBLISHED) })
}

fn only_ttl(kind: Kind) -> anyhow::Result<()> {
    if kind != Kind::Ttl {
        bail!("kind {kind}: only models of kind ttl can be brought so far");
    }
    Ok(())
}

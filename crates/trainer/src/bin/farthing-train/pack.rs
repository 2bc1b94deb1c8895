//! `features` and `pack`: a model of another program, from the rows to a bundle.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use farthing_contract::bundle::Kind;
use farthing_contract::features::TTL_SPEC;
use farthing_trainer::fit::Options;
use farthing_trainer::gate::Champion;
use farthing_trainer::pack::{self, Matrix};

use crate::common::{Bar, Publishing, Source, bundle_json, ended, kind, share, tell};

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
    /// Largest share of stale answers, as configured on the routes.
    #[arg(long, default_value_t = 0.005, value_parser = share)]
    stale_budget: f64,
    #[command(flatten)]
    publishing: Publishing,
}

/// Checks, judges, publishes.
pub fn pack(args: &Pack) -> anyhow::Result<ExitCode> {
    only_ttl(args.kind)?;
    let publishing = &args.publishing;
    let onnx = std::fs::read(&args.onnx).with_context(|| args.onnx.display().to_string())?;
    let log = args.source.log(publishing.seed)?;
    let champion = Champion::read(&publishing.out, Kind::Ttl);
    let options = Options { stale_budget: args.stale_budget, seed: publishing.seed };
    let packed = {
        let bar = Bar::new(publishing.json);
        let against = champion.as_ref().map_err(String::as_str);
        pack::ttl(&log, &onnx, (options, against), &bar).with_context(|| args.onnx.display().to_string())?
    };
    let published = if packed.judgement.passed() || publishing.force {
        let (first, parent) = (publishing.is_new(), publishing.champion(Kind::Ttl)?);
        let published = packed.publish(&publishing.out, parent, publishing.signer())?;
        publishing.promote(&published, first, log.range_ns().1)?;
        Some(published)
    } else {
        None
    };
    let verdict = packed.judgement.sentence();
    if publishing.json {
        let value = serde_json::json!({"published": bundle_json(published.as_ref()), "verdict": verdict, "judgement": packed.judgement});
        println!("{}", serde_json::to_string_pretty(&value)?);
    } else {
        print!("{}", packed.text());
        tell(published.as_ref(), Some(&verdict));
    }
    Ok(ended(published.as_ref()))
}

fn only_ttl(kind: Kind) -> anyhow::Result<()> {
    if kind != Kind::Ttl {
        bail!("kind {kind}: only models of kind ttl can be brought so far");
    }
    Ok(())
}

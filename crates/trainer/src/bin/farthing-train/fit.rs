//! `fit ttl`: learns from a log, judges what it learned, publishes it.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;
use farthing_contract::bundle::{ALIASES_FILE, Alias, Bundle, Kind, Published, Target, disk};
use farthing_trainer::fit::{self, Fit, Options};
use farthing_trainer::gate;
use farthing_trainer::publish::{CARD_FILE, Draft, SHIPPED_METRIC, publish};
use farthing_trainer::read::{Log, read_log};

use crate::common::{Bar, alias, generated_log, share};

/// Exit code when a model was fitted but not published.
pub const NOT_PUBLISHED: u8 = 3;

#[derive(clap::Args)]
pub struct FitTtl {
    /// Files of the log, as a quoted pattern or a folder: 'logs/**/*.parquet'.
    #[arg(long, conflicts_with = "recipe", required_unless_present = "recipe")]
    logs: Option<String>,
    /// Learn from the pass-through log of a generated world instead.
    #[arg(long)]
    recipe: Option<PathBuf>,
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
    /// Seed: the same log and seed give the same bundle, byte for byte.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print one JSON object instead of the report.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn fit_ttl(args: &FitTtl) -> anyhow::Result<ExitCode> {
    let log = source(args)?;
    let champion = gate::ttl::Champion::read(&args.out).map_err(|why| why.to_string());
    let mut fit = {
        let bar = Bar::new(args.json);
        let options = Options { stale_budget: args.stale_budget, seed: args.seed };
        fit::fit_against(&log, options, champion.as_ref().map_err(String::as_str), &bar)?
    };
    if args.logs.is_none() {
        fit.metrics.insert(SHIPPED_METRIC.to_owned(), 1.0);
    }
    let published = if fit.report.passes() || args.force { Some(write(&fit, args)?) } else { None };
    if args.json {
        println!("{}", json(&fit, published.as_ref())?);
    } else {
        print!("{}", fit.report.text());
        match &published {
            Some(done) => {
                println!("published   {} ({})", done.dir.display(), &done.digest[..12.min(done.digest.len())]);
                println!("card        {}", done.dir.join(CARD_FILE).display());
            }
            None => println!("published   nothing ({}): give --force to publish all the same", fit.report.judgement.sentence()),
        }
    }
    Ok(if published.is_some() { ExitCode::SUCCESS } else { ExitCode::from(NOT_PUBLISHED) })
}

fn source(args: &FitTtl) -> anyhow::Result<Log> {
    match (&args.logs, &args.recipe) {
        (Some(pattern), _) => Ok(read_log(pattern)?),
        (None, Some(path)) => generated_log(path, args.seed),
        (None, None) => bail!("give --logs or --recipe"),
    }
}

fn write(fit: &Fit, args: &FitTtl) -> anyhow::Result<Published> {
    let first = !args.out.join(ALIASES_FILE).exists();
    let parent = disk::read_aliases(&args.out)?.get(Kind::Ttl, Alias::Champion).map(|state| state.current.digest.clone());
    let draft = Draft {
        kind: Kind::Ttl,
        model: &fit.learned.model,
        table: &fit.learned.table,
        rows: &fit.learned.rows,
        training: fit.training.clone(),
        metrics: fit.metrics.clone(),
        operating_points: fit.report.operating_points.clone(),
        gate: Some(fit.report.judgement.record()),
        parent,
        card: fit.report.card(&fit.training.data_digest, args.seed),
    };
    let published = publish(&args.out, &draft)?;
    // What is promoted is what can be read back, every byte against its digest.
    let version = Bundle::read(&args.out, Kind::Ttl, published.manifest.version)?.manifest.version;
    if let Some(alias) = args.promote.or(first.then_some(Alias::Champion)) {
        let target = Target { version, digest: published.digest.clone() };
        let at = fit.training.to_ns;
        disk::change_aliases(&args.out, |aliases| Ok(aliases.promote(Kind::Ttl, alias, target, at)))?;
    }
    Ok(published)
}

fn json(fit: &Fit, published: Option<&Published>) -> anyhow::Result<String> {
    let bundle = published.map(|p| serde_json::json!({"version": p.manifest.version, "path": p.dir, "digest": p.digest}));
    let value = serde_json::json!({
        "published": bundle,
        "verdict": fit.report.verdict(),
        "report": fit.report,
        "training": fit.training,
    });
    Ok(serde_json::to_string_pretty(&value)?)
}

//! `fit ttl`: learns from a log, judges what it learned, publishes it.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;
use farthing_contract::bundle::{Kind, Published};
use farthing_trainer::fit::{self, Fit, Options};
use farthing_trainer::gate;
use farthing_trainer::publish::{CARD_FILE, Draft, SHIPPED_METRIC, publish};
use farthing_trainer::read::{Log, read_log};

use crate::common::{Bar, Publishing, bundle_json, ended, generated_log, share, tell};

#[derive(clap::Args)]
pub struct FitTtl {
    /// Files of the log, as a quoted pattern or a folder: 'logs/**/*.parquet'.
    #[arg(long, conflicts_with = "recipe", required_unless_present = "recipe")]
    logs: Option<String>,
    /// Learn from the pass-through log of a generated world instead.
    #[arg(long)]
    recipe: Option<PathBuf>,
    /// Largest share of stale answers, as configured on the routes.
    #[arg(long, default_value_t = 0.005, value_parser = share)]
    stale_budget: f64,
    #[command(flatten)]
    publishing: Publishing,
}

/// Runs the command.
pub fn fit_ttl(args: &FitTtl) -> anyhow::Result<ExitCode> {
    let log = source(args)?;
    let champion = gate::Champion::read(&args.publishing.out, Kind::Ttl).map_err(|why| why.to_string());
    let mut fit = {
        let bar = Bar::new(args.publishing.json);
        let options = Options { stale_budget: args.stale_budget, seed: args.publishing.seed };
        fit::fit_against(&log, options, champion.as_ref().map_err(String::as_str), &bar)?
    };
    if args.logs.is_none() {
        fit.metrics.insert(SHIPPED_METRIC.to_owned(), 1.0);
    }
    let wanted = fit.report.passes() || args.publishing.force;
    let published = if wanted { Some(write(&fit, &args.publishing)?) } else { None };
    if args.publishing.json {
        println!("{}", json(&fit, published.as_ref())?);
    } else {
        print!("{}", fit.report.text());
        tell(published.as_ref(), Some(&fit.report.judgement.sentence()));
        if let Some(done) = &published {
            println!("card        {}", done.dir.join(CARD_FILE).display());
        }
    }
    Ok(ended(published.as_ref()))
}

fn source(args: &FitTtl) -> anyhow::Result<Log> {
    match (&args.logs, &args.recipe) {
        (Some(pattern), _) => Ok(read_log(pattern)?),
        (None, Some(path)) => generated_log(path, args.publishing.seed),
        (None, None) => bail!("give --logs or --recipe"),
    }
}

fn write(fit: &Fit, publishing: &Publishing) -> anyhow::Result<Published> {
    let (first, parent) = (publishing.is_new(), publishing.champion(Kind::Ttl)?);
    let published = publish(&publishing.out, &Draft { parent, sign: publishing.signer(), ..fit.draft() })?;
    publishing.promote(&published, first, fit.training.to_ns)?;
    Ok(published)
}

fn json(fit: &Fit, published: Option<&Published>) -> anyhow::Result<String> {
    let value = serde_json::json!({
        "published": bundle_json(published),
        "verdict": fit.report.verdict(),
        "report": fit.report,
        "training": fit.training,
    });
    Ok(serde_json::to_string_pretty(&value)?)
}

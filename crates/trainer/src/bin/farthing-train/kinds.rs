//! `fit strategy` and `fit cost`: learn, judge, publish.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;
use farthing_contract::bundle::{Kind, Published};
use farthing_trainer::gate::Champion;
use farthing_trainer::publish::{Draft, SHIPPED_METRIC, publish};
use farthing_trainer::{cost, strategy};

use crate::common::{Bar, Publishing, bundle_json, ended, tell};

/// What both commands take.
#[derive(clap::Args)]
pub struct Common {
    /// Files of the log, as a quoted pattern or a folder: 'logs/**/*.parquet'.
    #[arg(long, conflicts_with = "recipe", required_unless_present = "recipe")]
    logs: Option<String>,
    /// Learn from a generated world instead.
    #[arg(long)]
    recipe: Option<PathBuf>,
    #[command(flatten)]
    publishing: Publishing,
}

#[derive(clap::Args)]
pub struct FitStrategy {
    #[command(flatten)]
    common: Common,
    /// Prices and promises that the log does not hold, as TOML: `stale_calls`, and per route `stale_price`, `wait_price`, `sla_ms`, `batch`.
    #[arg(long, requires = "logs")]
    terms: Option<PathBuf>,
}

#[derive(clap::Args)]
pub struct FitCost {
    #[command(flatten)]
    common: Common,
}

/// Runs `fit strategy`.
pub fn fit_strategy(args: &FitStrategy) -> anyhow::Result<ExitCode> {
    let common = &args.common;
    let source = match (&common.logs, &common.recipe) {
        (Some(pattern), _) => {
            let terms = args.terms.as_deref().map(strategy::TermsFile::read).transpose()?;
            strategy::Source::of_log(pattern, &terms.unwrap_or_else(strategy::TermsFile::usual))?
        }
        (None, Some(path)) => strategy::Source::of_recipe(path, common.publishing.seed)?,
        (None, None) => bail!("give --logs or --recipe"),
    };
    let champion = Champion::read(&common.publishing.out, Kind::Strategy);
    let mut fit = {
        let bar = Bar::new(common.publishing.json);
        let options = strategy::Options { seed: common.publishing.seed, ..strategy::Options::default() };
        strategy::fit(&source, options, champion.as_ref().map_err(String::as_str), &bar)?
    };
    if source.generated {
        fit.metrics.insert(SHIPPED_METRIC.to_owned(), 1.0);
    }
    finish(common, &fit.draft(), fit.passes(), (strategy::text(&fit), serde_json::to_value(fit.judged.as_ref().ok())?))
}

/// Runs `fit cost`.
pub fn fit_cost(args: &FitCost) -> anyhow::Result<ExitCode> {
    let common = &args.common;
    let source = match (&common.logs, &common.recipe) {
        (Some(pattern), _) => cost::Source::of_log(pattern)?,
        (None, Some(path)) => cost::Source::of_recipe(path, common.publishing.seed)?,
        (None, None) => bail!("give --logs or --recipe"),
    };
    let mut fit = {
        let bar = Bar::new(common.publishing.json);
        cost::fit(&source, cost::Options { seed: common.publishing.seed, ..cost::Options::default() }, &bar)?
    };
    if source.generated {
        fit.metrics.insert(SHIPPED_METRIC.to_owned(), 1.0);
    }
    finish(common, &fit.draft(), fit.passes(), (cost::text(&fit), serde_json::to_value(fit.judged.as_ref().ok())?))
}

/// Publishes what passes and prints the report.
fn finish(common: &Common, draft: &Draft<'_>, passes: bool, (text, verdict): (String, serde_json::Value)) -> anyhow::Result<ExitCode> {
    let publishing = &common.publishing;
    let published = if passes || publishing.force { Some(write(publishing, draft)?) } else { None };
    if publishing.json {
        let bundle = bundle_json(published.as_ref());
        let value = serde_json::json!({ "published": bundle, "passes": passes, "verdict": verdict, "training": draft.training });
        println!("{}", serde_json::to_string_pretty(&value)?);
    } else {
        print!("{text}");
        tell(published.as_ref(), None);
    }
    Ok(ended(published.as_ref()))
}

fn write(publishing: &Publishing, draft: &Draft<'_>) -> anyhow::Result<Published> {
    let champion = publishing.champion(draft.kind)?;
    let first = champion.is_none();
    let published = publish(&publishing.out, &Draft { parent: champion, sign: publishing.signer(), ..draft.clone() })?;
    publishing.promote(&published, first, draft.training.to_ns)?;
    Ok(published)
}

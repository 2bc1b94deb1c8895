//! `fit prefetch`: learns what is asked for next, judges it, publishes it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use farthing_contract::bundle::{Kind, Published, disk};
use farthing_policy::prefetch::PrefetchParams;
use farthing_replay::prefetch::SessionRecipe;
use farthing_trainer::prefetch::{Fit, Options, fit};
use farthing_trainer::publish::{Draft, SHIPPED_METRIC, publish};
use farthing_trainer::read::{SessionLog, read_session_log, read_session_trace};

use crate::common::{Bar, Publishing, bundle_json, ended, tell};

#[derive(clap::Args)]
pub struct FitPrefetch {
    /// Files of the log, as a quoted pattern or a folder: 'logs/**/*.parquet'. A session is a tenant with its team, service and tags.
    #[arg(long, required_unless_present_any = ["recipe", "trace"])]
    logs: Option<String>,
    /// A trace with the columns ts_ms, client, key, endpoint, is_write instead.
    #[arg(long, conflicts_with_all = ["logs", "recipe"])]
    trace: Option<PathBuf>,
    /// Generated sessions instead, such as data/sessions.toml.
    #[arg(long, conflicts_with = "logs")]
    recipe: Option<PathBuf>,
    /// How far ahead a request counts as following, seconds: about half the usual lifetime of a copy.
    #[arg(long, default_value_t = 30.0, value_parser = seconds)]
    horizon: f64,
    #[command(flatten)]
    publishing: Publishing,
}

fn seconds(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| format!("`{text}` is not a number"))?;
    if (0.1..=86_400.0).contains(&value) { Ok(value) } else { Err(format!("{value} is out of range: give seconds from 0.1 to 86400")) }
}

/// Runs the command.
pub fn fit_prefetch(args: &FitPrefetch) -> anyhow::Result<ExitCode> {
    let log = source(args)?;
    let mut fit = {
        let bar = Bar::new(args.publishing.json);
        fit(&log, Options { horizon: Duration::from_secs_f64(args.horizon), seed: args.publishing.seed }, &bar)?
    };
    if args.recipe.is_some() {
        fit.metrics.insert(SHIPPED_METRIC.to_owned(), 1.0);
    }
    let wanted = fit.report.passes() || args.publishing.force;
    let published = if wanted { Some(write(&fit, &args.publishing)?) } else { None };
    if args.publishing.json {
        println!("{}", json(&fit, published.as_ref())?);
    } else {
        print!("{}", fit.report.text());
        tell(published.as_ref(), None);
    }
    Ok(ended(published.as_ref()))
}

fn source(args: &FitPrefetch) -> anyhow::Result<SessionLog> {
    match (&args.logs, &args.trace, &args.recipe) {
        (Some(pattern), ..) => Ok(read_session_log(pattern)?),
        (None, Some(path), _) => Ok(read_session_trace(path)?),
        (None, None, Some(path)) => generated(path, args.publishing.seed),
        (None, None, None) => bail!("give --logs, --trace or --recipe"),
    }
}

/// Generated sessions; their digest is that of recipe and seed.
fn generated(path: &Path, seed: u64) -> anyhow::Result<SessionLog> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let recipe: SessionRecipe =
        toml::from_str(&text).with_context(|| format!("{}: not a recipe of sessions (data/README.md)", path.display()))?;
    let sessions = recipe.generate(seed, PrefetchParams::default()).map_err(|e| anyhow::anyhow!("{}: {e}", path.display()))?;
    let digest = disk::sha256(&[text.as_bytes(), &seed.to_le_bytes()].concat());
    Ok(SessionLog { sessions, digest, files: 1, anonymous: 0 })
}

fn write(fit: &Fit, publishing: &Publishing) -> anyhow::Result<Published> {
    let (first, parent) = (publishing.is_new(), publishing.champion(Kind::Prefetch)?);
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

//! `fit prefetch`: learns what is asked for next, judges it, publishes it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use farthing_contract::bundle::{ALIASES_FILE, Alias, Bundle, Kind, Published, Target, disk};
use farthing_policy::prefetch::PrefetchParams;
use farthing_replay::prefetch::SessionRecipe;
use farthing_trainer::prefetch::{Fit, Options, fit};
use farthing_trainer::publish::{Draft, SHIPPED_METRIC, publish};
use farthing_trainer::read::{SessionLog, read_session_log, read_session_trace};

use crate::common::{Bar, alias};

/// Exit code when a model was fitted but not published.
const NOT_PUBLISHED: u8 = 3;

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
    /// Folder of the bundles.
    #[arg(long, default_value = "models")]
    out: PathBuf,
    /// How far ahead a request counts as following, seconds: about half the usual lifetime of a copy.
    #[arg(long, default_value_t = 30.0, value_parser = seconds)]
    horizon: f64,
    /// Publish even when it is not better than the rule.
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

fn seconds(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| format!("`{text}` is not a number"))?;
    if (0.1..=86_400.0).contains(&value) { Ok(value) } else { Err(format!("{value} is out of range: give seconds from 0.1 to 86400")) }
}

/// Runs the command.
pub fn fit_prefetch(args: &FitPrefetch) -> anyhow::Result<ExitCode> {
    let log = source(args)?;
    let mut fit = {
        let bar = Bar::new(args.json);
        fit(&log, Options { horizon: Duration::from_secs_f64(args.horizon), seed: args.seed }, &bar)?
    };
    if args.recipe.is_some() {
        fit.metrics.insert(SHIPPED_METRIC.to_owned(), 1.0);
    }
    let published = if fit.report.passes() || args.force { Some(write(&fit, args)?) } else { None };
    if args.json {
        println!("{}", json(&fit, published.as_ref())?);
    } else {
        print!("{}", fit.report.text());
        match &published {
            Some(done) => println!("published   {} ({})", done.dir.display(), &done.digest[..12.min(done.digest.len())]),
            None => println!("published   nothing: give --force to publish all the same"),
        }
    }
    Ok(if published.is_some() { ExitCode::SUCCESS } else { ExitCode::from(NOT_PUBLISHED) })
}

fn source(args: &FitPrefetch) -> anyhow::Result<SessionLog> {
    match (&args.logs, &args.trace, &args.recipe) {
        (Some(pattern), ..) => Ok(read_session_log(pattern)?),
        (None, Some(path), _) => Ok(read_session_trace(path)?),
        (None, None, Some(path)) => generated(path, args.seed),
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

fn write(fit: &Fit, args: &FitPrefetch) -> anyhow::Result<Published> {
    let first = !args.out.join(ALIASES_FILE).exists();
    let parent = disk::read_aliases(&args.out)?.get(Kind::Prefetch, Alias::Champion).map(|state| state.current.digest.clone());
    let draft = Draft {
        kind: Kind::Prefetch,
        model: &fit.learned.model,
        table: &fit.learned.table,
        rows: &fit.learned.rows,
        training: fit.training.clone(),
        metrics: fit.metrics.clone(),
        operating_points: Vec::new(),
        gate: None,
        parent,
        card: fit.report.card(&fit.training.data_digest, args.seed).into(),
    };
    let published = publish(&args.out, &draft)?;
    // What is promoted is what can be read back, every byte against its digest.
    let version = Bundle::read(&args.out, Kind::Prefetch, published.manifest.version)?.manifest.version;
    if let Some(alias) = args.promote.or(first.then_some(Alias::Champion)) {
        let target = Target { version, digest: published.digest.clone() };
        let at = fit.training.to_ns;
        disk::change_aliases(&args.out, |aliases| Ok(aliases.promote(Kind::Prefetch, alias, target, at)))?;
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

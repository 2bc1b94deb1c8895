//! `fit strategy` and `fit cost`: learn, judge, publish.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;
use farthing_contract::bundle::{ALIASES_FILE, Alias, Bundle, Kind, Published, Target, disk};
use farthing_trainer::publish::{Draft, SHIPPED_METRIC, publish};
use farthing_trainer::{cost, strategy};

use crate::common::{Bar, alias};

/// Exit code when a model was fitted but not published.
const NOT_PUBLISHED: u8 = 3;

/// What both commands take.
#[derive(clap::Args)]
pub struct Common {
    /// Files of the log, as a quoted pattern or a folder: 'logs/**/*.parquet'.
    #[arg(long, conflicts_with = "recipe", required_unless_present = "recipe")]
    logs: Option<String>,
    /// Learn from a generated world instead.
    #[arg(long)]
    recipe: Option<PathBuf>,
    /// Folder of the bundles.
    #[arg(long, default_value = "models")]
    out: PathBuf,
    /// Publish even when it is not better than the rules.
    #[arg(long)]
    force: bool,
    /// Move this alias (champion, challenger, shadow) to the new version. The first version of a kind becomes its champion.
    #[arg(long, value_parser = alias)]
    promote: Option<Alias>,
    /// Seed: the same log and seed give the same bundle, byte for byte.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print one JSON object instead of the report.
    #[arg(long)]
    json: bool,
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
            let usual = || toml::from_str::<strategy::TermsFile>("");
            strategy::Source::of_log(pattern, &terms.map_or_else(usual, Ok)?)?
        }
        (None, Some(path)) => strategy::Source::of_recipe(path, common.seed)?,
        (None, None) => bail!("give --logs or --recipe"),
    };
    let mut fit = {
        let bar = Bar::new(common.json);
        strategy::fit(&source, strategy::Options { seed: common.seed, ..strategy::Options::default() }, &bar)?
    };
    if source.generated {
        fit.metrics.insert(SHIPPED_METRIC.to_owned(), 1.0);
    }
    let draft = Draft {
        kind: Kind::Strategy,
        model: &fit.learned.model,
        table: &fit.learned.table,
        rows: &fit.learned.rows,
        training: fit.training.clone(),
        metrics: fit.metrics.clone(),
        operating_points: Vec::new(),
        gate: None,
        parent: None,
        card: strategy::card(&fit).into(),
    };
    finish(common, &draft, fit.passes(), (strategy::text(&fit), serde_json::to_value(fit.judged.as_ref().ok())?))
}

/// Runs `fit cost`.
pub fn fit_cost(args: &FitCost) -> anyhow::Result<ExitCode> {
    let common = &args.common;
    let source = match (&common.logs, &common.recipe) {
        (Some(pattern), _) => cost::Source::of_log(pattern)?,
        (None, Some(path)) => cost::Source::of_recipe(path, common.seed)?,
        (None, None) => bail!("give --logs or --recipe"),
    };
    let mut fit = {
        let bar = Bar::new(common.json);
        cost::fit(&source, cost::Options { seed: common.seed, ..cost::Options::default() }, &bar)?
    };
    if source.generated {
        fit.metrics.insert(SHIPPED_METRIC.to_owned(), 1.0);
    }
    let draft = Draft {
        kind: Kind::Cost,
        model: &fit.learned.model,
        table: &fit.learned.table,
        rows: &fit.learned.rows,
        training: fit.training.clone(),
        metrics: fit.metrics.clone(),
        operating_points: Vec::new(),
        gate: None,
        parent: None,
        card: cost::card(&fit).into(),
    };
    finish(common, &draft, fit.passes(), (cost::text(&fit), serde_json::to_value(fit.judged.as_ref().ok())?))
}

/// Publishes what passes and prints the report.
fn finish(common: &Common, draft: &Draft<'_>, passes: bool, (text, verdict): (String, serde_json::Value)) -> anyhow::Result<ExitCode> {
    let published = if passes || common.force { Some(write(common, draft)?) } else { None };
    if common.json {
        let bundle = published.as_ref().map(|p| serde_json::json!({"version": p.manifest.version, "path": p.dir, "digest": p.digest}));
        let value = serde_json::json!({ "published": bundle, "passes": passes, "verdict": verdict, "training": draft.training });
        println!("{}", serde_json::to_string_pretty(&value)?);
    } else {
        print!("{text}");
        match &published {
            Some(done) => println!("published   {} ({})", done.dir.display(), &done.digest[..12.min(done.digest.len())]),
            None => println!("published   nothing: give --force to publish all the same"),
        }
    }
    Ok(if published.is_some() { ExitCode::SUCCESS } else { ExitCode::from(NOT_PUBLISHED) })
}

fn write(common: &Common, draft: &Draft<'_>) -> anyhow::Result<Published> {
    let kind = draft.kind;
    let champion = if common.out.join(ALIASES_FILE).exists() {
        disk::read_aliases(&common.out)?.get(kind, Alias::Champion).map(|state| state.current.digest.clone())
    } else {
        None
    };
    let first = champion.is_none();
    let published = publish(&common.out, &Draft { parent: champion, ..draft.clone() })?;
    // What is promoted is what can be read back, every byte against its digest.
    let version = Bundle::read(&common.out, kind, published.manifest.version)?.manifest.version;
    if let Some(alias) = common.promote.or(first.then_some(Alias::Champion)) {
        let target = Target { version, digest: published.digest.clone() };
        let at = draft.training.to_ns;
        disk::change_aliases(&common.out, |aliases| Ok(aliases.promote(kind, alias, target, at)))?;
    }
    Ok(published)
}

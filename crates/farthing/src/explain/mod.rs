//! Why a request was answered as it was: its decision from the log, taken apart with the trees of the bundle that made it.

mod chosen;
mod find;
mod plan;
mod show;

use std::path::Path;

use farthing_admin::{ControlError, EconomicsView, ExplanationView, FeatureMove, IntervalView};
use farthing_contract::bundle::{Bundle, Explainer, Kind, Manifest, TREES_FILE, Table, disk};
use farthing_contract::features::FeatureSpec;

pub use plan::{plan, plan_text};
pub use show::text;

use find::{Asked, Decided};

/// Where to look, and what the log does not say.
#[derive(Clone, Copy)]
pub struct Places<'a> {
    /// Folder of the log.
    pub log: &'a Path,
    /// Folder of the bundles.
    pub models: &'a Path,
    /// Staleness budget of a route, where it is known.
    pub stale_budget: &'a dyn Fn(&str) -> Option<f64>,
}

/// Explains the request with that id. Reads files: blocking.
///
/// # Errors
/// The request or its decision is not in the log, or a file cannot be read.
pub fn request(places: &Places<'_>, id: u64) -> Result<ExplanationView, ControlError> {
    let failed = |e: farthing_ledger::read::ReadError| ControlError::Failed(e.to_string());
    let asked = find::request(places.log, id).map_err(failed)?;
    let asked = asked.ok_or_else(|| not_found(places.log, id))?;
    let decided = find::decision_of(places.log, &asked).map_err(failed)?;
    let Some(decided) = decided else {
        let why = asked.uncached.clone().map_or_else(|| "none was logged".to_owned(), |why| format!("it was not to be kept ({why})"));
        return Err(ControlError::NotFound(format!("no decision stands behind request {id:016x}: {why}")));
    };
    Ok(explanation(places, Some((id, asked)), decided))
}

fn not_found(log: &Path, id: u64) -> ControlError {
    ControlError::NotFound(format!("request {id:016x} is in no finished file of {}; files are finished within minutes", log.display()))
}

fn explanation(places: &Places<'_>, asked: Option<(u64, Asked)>, decided: Decided) -> ExplanationView {
    let spec = Kind::parse(&decided.kind).and_then(Kind::spec).filter(|spec| spec.hash() == decided.spec_hash);
    let found = bundle(places.models, &decided);
    let (bundle, missing) = match found {
        Ok(bundle) => (Some(bundle), None),
        Err(why) => (None, Some(why)),
    };
    let taken = bundle.as_ref().map(|bundle| moves(bundle, &decided));
    let (start, by_feature, apart) = match taken {
        Some(Ok((start, moves))) => (start, moves, None),
        Some(Err(why)) => (Vec::new(), Vec::new(), Some(why)),
        None => (Vec::new(), Vec::new(), missing),
    };
    let manifest = bundle.as_ref().map(|b| &b.manifest);
    ExplanationView {
        request_id: asked.as_ref().map(|(id, _)| format!("{id:016x}")),
        outcome: asked.as_ref().map(|(_, a)| a.outcome.clone()),
        entry_age_ms: asked.as_ref().and_then(|(_, a)| a.age_ms),
        decision_id: format!("{:016x}", decided.id),
        at_ns: decided.at_ns,
        kind: decided.kind.clone(),
        route: decided.route.clone(),
        key: format!("{:016x}", decided.key),
        by: decided.by.clone(),
        bundle: manifest.map(Manifest::name),
        digest: decided.digest.clone(),
        experiment: decided.variant.as_ref().map(|v| v.0.clone()),
        variant: decided.variant.as_ref().map(|v| v.1.clone()),
        value: decided.value,
        intervals: intervals(spec, &decided),
        start,
        features: features(spec, &decided, &by_feature),
        not_taken_apart: apart,
        economics: economics(spec, &decided, manifest, (places.stale_budget)(&decided.route)),
    }
}

/// The bundle whose digest the decision names.
fn bundle(models: &Path, decided: &Decided) -> Result<Bundle, String> {
    let digest = decided.digest.as_deref().ok_or("a rule decided, no predictor was asked")?;
    let kind = Kind::parse(&decided.kind).ok_or_else(|| format!("kind {} has no predictors in this build", decided.kind))?;
    for version in disk::versions(models, kind).map_err(|e| e.to_string())?.into_iter().rev() {
        if Bundle::read_manifest(models, kind, version).is_ok_and(|(_, found, _)| found == digest) {
            return Bundle::read(models, kind, version).map_err(|e| e.to_string());
        }
    }
    let short = digest.get(..12).unwrap_or(digest);
    Err(format!("no version of {kind} in {} has the digest {short}; name the folder with --models", models.display()))
}

type Moves = (Vec<f64>, Vec<Vec<f64>>);

/// The decision's answer taken apart with the trees of what answered: the model, or the table.
fn moves(bundle: &Bundle, decided: &Decided) -> Result<Moves, String> {
    let by_table = decided.by.starts_with("table");
    let file = if by_table { farthing_contract::bundle::TABLE_FILE } else { TREES_FILE };
    let bytes = bundle.file(file).ok_or_else(|| format!("{} has no `{file}`: its model is no tree ensemble", bundle.manifest.name()))?;
    let table = Table::parse(bytes).map_err(str::to_owned)?;
    if table.features() != decided.features.len() {
        return Err(format!("{} features were logged, the trees ask for {}", decided.features.len(), table.features()));
    }
    let golden = if by_table { bundle.manifest.rows_of_table() } else { &bundle.manifest.golden };
    let explainer = Explainer::new(&table, golden.iter().map(|row| row.features.as_slice()));
    let found = explainer.explain(&decided.features);
    Ok((found.start, found.moves))
}

/// Features by name, those that moved the answer most first.
fn features(spec: Option<&FeatureSpec>, decided: &Decided, moves: &[Vec<f64>]) -> Vec<FeatureMove> {
    let name = |i: usize| spec.and_then(|s| s.names.get(i)).map_or_else(|| format!("{i:02}"), |name| (*name).to_owned());
    let mut all: Vec<FeatureMove> = decided
        .features
        .iter()
        .enumerate()
        .map(|(i, value)| FeatureMove { name: name(i), value: f64::from(*value), moves: moves.get(i).cloned().unwrap_or_default() })
        .collect();
    let size = |f: &FeatureMove| f.moves.iter().map(|m| m.abs()).sum::<f64>();
    // Stable: what moved nothing keeps the order of the spec.
    all.sort_by(|a, b| size(b).total_cmp(&size(a)));
    all
}

/// Outputs by age interval (or name), and the hazards that they correct.
fn intervals(spec: Option<&FeatureSpec>, decided: &Decided) -> Vec<IntervalView> {
    let hazard = live_hazard(spec, decided);
    let view = |(i, output): (usize, &f32)| IntervalView {
        name: output_name(spec, i),
        output: f64::from(*output),
        hazard_per_hour: hazard.map(|h| 3_600.0 * h * f64::from(*output).exp()),
    };
    decided.outputs.iter().enumerate().map(view).collect()
}

fn output_name(spec: Option<&FeatureSpec>, i: usize) -> String {
    let Some(spec) = spec else { return format!("{i:02}") };
    if let Some(name) = spec.answers.get(i) {
        return (*name).to_owned();
    }
    match (i.checked_sub(1).and_then(|k| spec.horizons.get(k)), spec.horizons.get(i)) {
        (from, Some(to)) => format!("{} to {}", span(from.copied().unwrap_or(0.0)), span(*to)),
        (from, None) => format!("from {}", span(from.copied().unwrap_or(0.0))),
    }
}

/// `15 min` of seconds.
pub(crate) fn span(seconds: f64) -> String {
    match seconds {
        s if s >= 172_800.0 => format!("{:.3} d", s / 86_400.0),
        s if s >= 7_200.0 => format!("{:.3} h", s / 3_600.0),
        s if s >= 120.0 => format!("{:.3} min", s / 60.0),
        s => format!("{s:.3} s"),
    }
    .replace(".000", "")
}

fn live_hazard(spec: Option<&FeatureSpec>, decided: &Decided) -> Option<f64> {
    logged_rate(spec, decided, "key_log_hazard")
}

/// A rate in 1/s from its feature, which is its scaled logarithm.
fn logged_rate(spec: Option<&FeatureSpec>, decided: &Decided, name: &str) -> Option<f64> {
    let place = spec?.names.iter().position(|n| *n == name)?;
    decided.features.get(place).map(|x| farthing_contract::features::rate_of_feature(*x))
}

fn economics(spec: Option<&FeatureSpec>, decided: &Decided, manifest: Option<&Manifest>, budget: Option<f64>) -> EconomicsView {
    EconomicsView {
        price_nanousd: decided.price_nanousd,
        stale_budget: budget,
        kappa: manifest.zip(budget).and_then(|(manifest, budget)| manifest.kappa(budget)),
        requests_per_hour: logged_rate(spec, decided, "key_log_rate").map(|r| 3_600.0 * r),
        live_hazard_per_hour: live_hazard(spec, decided).map(|h| 3_600.0 * h),
    }
}

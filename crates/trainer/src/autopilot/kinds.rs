//! One way for each kind from files of the log to a bundle: fitted, judged, published where it passes.

use std::path::PathBuf;

use farthing_contract::bundle::{Alias, Kind, Target, disk, signing};

use super::recipe::Recipe;
use crate::error::TrainError;
use crate::gate::Champion;
use crate::learn::Watch;
use crate::publish::{Draft, publish};
use crate::{cost, fit, prefetch, read, strategy};

/// What came of a training.
#[derive(Debug)]
pub(super) enum Made {
    /// A version, and what the gate said.
    Published(Target, String),
    /// The gate refused it, and why.
    Refused(String),
    /// There is too little to learn from.
    TooLittle(String),
    /// Something else forbade it after the training.
    Stopped(String),
}

/// What stops a publication at the last moment; `None` where nothing does.
pub(super) type Stop<'a> = &'a dyn Fn() -> Option<String>;

/// Fits a kind on files and publishes what passes its gate.
pub(super) fn train(kind: Kind, files: &[PathBuf], recipe: &Recipe, (stop, watch): (Stop<'_>, &dyn Watch)) -> Result<Made, TrainError> {
    let made = match kind {
        Kind::Ttl => ttl(files, recipe, (stop, watch)),
        Kind::Strategy => strategies(files, recipe, (stop, watch)),
        Kind::Cost => costs(files, recipe, (stop, watch)),
        Kind::Prefetch => ahead(files, recipe, (stop, watch)),
    };
    match made {
        Err(error @ TrainError::TooLittle(_)) => Ok(Made::TooLittle(error.to_string())),
        made => made,
    }
}

fn ttl(files: &[PathBuf], recipe: &Recipe, (stop, watch): (Stop<'_>, &dyn Watch)) -> Result<Made, TrainError> {
    let log = read::read_log(files)?;
    let champion = Champion::read(&recipe.models, Kind::Ttl);
    let options = fit::Options { stale_budget: recipe.stale_budget, seed: recipe.seed };
    let fit = fit::fit_against(&log, options, champion.as_ref().map_err(String::as_str), watch)?;
    let verdict = || if fit.report.judgement.checks.is_empty() { fit.report.verdict() } else { fit.report.judgement.sentence() };
    finish(recipe, &|| fit.draft(), (fit.report.passes(), verdict()), stop)
}

fn strategies(files: &[PathBuf], recipe: &Recipe, (stop, watch): (Stop<'_>, &dyn Watch)) -> Result<Made, TrainError> {
    let terms = recipe.terms.as_deref().map_or_else(|| Ok(strategy::TermsFile::usual()), strategy::TermsFile::read)?;
    let source = strategy::Source::of_log(files, &terms)?;
    let champion = Champion::read(&recipe.models, Kind::Strategy);
    let options = strategy::Options { seed: recipe.seed, ..strategy::Options::default() };
    let fit = strategy::fit(&source, options, champion.as_ref().map_err(String::as_str), watch)?;
    let verdict = fit.judged.as_ref().map_or_else(Clone::clone, |_| fit.judgement.sentence());
    finish(recipe, &|| fit.draft(), (fit.passes(), verdict), stop)
}

fn costs(files: &[PathBuf], recipe: &Recipe, (stop, watch): (Stop<'_>, &dyn Watch)) -> Result<Made, TrainError> {
    let source = cost::Source::of_log(files)?;
    let fit = cost::fit(&source, cost::Options { seed: recipe.seed, ..cost::Options::default() }, watch)?;
    let verdict = fit.judged.as_ref().map_or_else(Clone::clone, |_| better(fit.passes()).to_owned());
    finish(recipe, &|| fit.draft(), (fit.passes(), verdict), stop)
}

fn ahead(files: &[PathBuf], recipe: &Recipe, (stop, watch): (Stop<'_>, &dyn Watch)) -> Result<Made, TrainError> {
    let log = read::read_session_log(files)?;
    let fit = prefetch::fit(&log, prefetch::Options { horizon: recipe.horizon, seed: recipe.seed }, watch)?;
    finish(recipe, &|| fit.draft(), (fit.report.passes(), fit.report.verdict()), stop)
}

const fn better(passes: bool) -> &'static str {
    if passes { "better than the rules" } else { "not better than the rules beyond chance" }
}

fn finish<'a>(
    recipe: &Recipe,
    draft: &dyn Fn() -> Draft<'a>,
    (passes, verdict): (bool, String),
    stop: Stop<'_>,
) -> Result<Made, TrainError> {
    let root = recipe.models.as_path();
    if !passes {
        return Ok(Made::Refused(verdict));
    }
    if let Some(why) = stop() {
        return Ok(Made::Stopped(why));
    }
    let mut draft = draft();
    let aliases = disk::read_aliases(root).map_err(TrainError::bundle(root))?;
    draft.parent = aliases.get(draft.kind, Alias::Champion).map(|state| state.current.digest.clone());
    let signer = recipe.sign.as_deref().map(|path| signing::read_key(path).map_err(TrainError::bundle(path))).transpose()?;
    let published = publish(root, &Draft { sign: signer.as_ref(), ..draft })?;
    Ok(Made::Published(Target { version: published.manifest.version, digest: published.digest }, verdict))
}

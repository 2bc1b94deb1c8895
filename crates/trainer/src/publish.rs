//! Writes what was learned as a bundle.

use std::collections::BTreeMap;
use std::path::Path;

use farthing_contract::bundle::{
    self, GateRecord, GoldenRow, Kind, MODEL_FILE, Manifest, OperatingPoint, Published, SigningKey, TABLE_FILE, TREES_FILE, Training,
};
use farthing_contract::features::FeatureSpec;

use crate::error::TrainError;
use crate::learn::Examples;
use crate::onnx;
use crate::trees::Ensemble;

/// Rows whose answers travel with the bundle.
const GOLDEN: usize = 256;
/// Rows that are run before the first decision.
const WARM_UP: usize = 16;
/// Metric above zero in bundles that learned from a generated world: they know nothing of the deployment that runs them, so the proxy keeps
/// them in shadow on a route until its operator trusts them (`trust_shipped`).
pub const SHIPPED_METRIC: &str = "shipped";
/// The thin model card within the bundle.
pub const CARD_FILE: &str = "model-card.md";

/// The model card: Markdown, and the plots that it shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Card {
    /// The text.
    pub text: String,
    /// Names and contents of SVG files.
    pub plots: Vec<(String, String)>,
}

impl From<String> for Card {
    fn from(text: String) -> Self {
        Self { text, plots: Vec::new() }
    }
}

/// Everything that goes into a bundle.
#[derive(Clone)]
pub struct Draft<'a> {
    /// What it predicts; its features are those of this build.
    pub kind: Kind,
    /// What decides.
    pub model: &'a Ensemble,
    /// What stands in where the native library is absent.
    pub table: &'a Ensemble,
    /// Rows to take golden rows from.
    pub rows: &'a dyn Examples,
    /// What it was trained on. The end of its time range is also the bundle's date: the same data and seed give the same bytes.
    pub training: Training,
    /// Figures of the held-out time range.
    pub metrics: BTreeMap<String, f64>,
    /// Price ratios that met staleness budgets; for other kinds than `ttl` none.
    pub operating_points: Vec<OperatingPoint>,
    /// How the gate ended.
    pub gate: Option<GateRecord>,
    /// Digest of the bundle that was champion before.
    pub parent: Option<String>,
    /// The model card.
    pub card: Card,
    /// Who signs it.
    pub sign: Option<&'a SigningKey>,
}

/// A model that is no ensemble of ours.
pub struct Foreign<'a> {
    /// The ONNX file.
    pub onnx: &'a [u8],
    /// Answers a row.
    pub answer: &'a dyn Fn(&[f32]) -> Vec<f32>,
    /// Its trees, where it is nothing but trees.
    pub trees: Option<&'a Ensemble>,
}

/// Writes the bundle under the next free version.
///
/// # Errors
/// When the folder cannot be written, or the parts do not make a valid manifest.
pub fn publish(root: &Path, draft: &Draft<'_>) -> Result<Published, TrainError> {
    let spec = spec_of(root, draft.kind)?;
    let onnx = onnx::encode(draft.model, draft.kind.as_str(), &properties(draft, spec));
    put(root, draft, &Foreign { onnx: &onnx, answer: &|row| answer(draft.model, row), trees: Some(draft.model) })
}

/// Writes a bundle around a model that another program has made; of the draft all counts but its model.
///
/// # Errors
/// As [`publish`].
pub fn publish_foreign(root: &Path, draft: &Draft<'_>, model: &Foreign<'_>) -> Result<Published, TrainError> {
    put(root, draft, model)
}

fn spec_of(root: &Path, kind: Kind) -> Result<&'static FeatureSpec, TrainError> {
    kind.spec().ok_or_else(|| {
        let reason = format!("this build computes no features for kind {kind}");
        TrainError::Bundle { path: root.to_path_buf(), reason }
    })
}

fn put(root: &Path, draft: &Draft<'_>, model: &Foreign<'_>) -> Result<Published, TrainError> {
    let spec = spec_of(root, draft.kind)?;
    let mut manifest = Manifest::draft(draft.kind, (spec.version, &spec.hash()), draft.rows.width(), draft.rows.outputs());
    manifest.parent.clone_from(&draft.parent);
    manifest.trainer = concat!("farthing-train ", env!("CARGO_PKG_VERSION")).to_owned();
    manifest.created_ns = draft.training.to_ns;
    manifest.training = draft.training.clone();
    manifest.metrics = draft.metrics.iter().filter(|(_, v)| v.is_finite()).map(|(k, v)| (k.clone(), *v)).collect();
    manifest.operating_points.clone_from(&draft.operating_points);
    manifest.gate.clone_from(&draft.gate);
    manifest.golden = golden(model.answer, draft.rows);
    manifest.table_golden = golden(&|row| answer(draft.table, row), draft.rows);
    manifest.warm_up = manifest.golden.iter().step_by(GOLDEN / WARM_UP).map(|row| row.features.clone()).collect();
    let (table, trees) = (draft.table.to_bytes(), model.trees.map(Ensemble::to_bytes));
    let mut files: Vec<(&str, &[u8])> = vec![(MODEL_FILE, model.onnx), (TABLE_FILE, &table), (CARD_FILE, draft.card.text.as_bytes())];
    files.extend(trees.as_deref().map(|trees| (TREES_FILE, trees)));
    files.extend(draft.card.plots.iter().map(|(name, svg)| (name.as_str(), svg.as_bytes())));
    bundle::publish_signed(root, manifest, &files, draft.sign).map_err(TrainError::bundle(root))
}

fn answer(ensemble: &Ensemble, row: &[f32]) -> Vec<f32> {
    let mut outputs = vec![0.0; ensemble.outputs()];
    ensemble.eval(row, &mut outputs);
    outputs
}

/// Rows spread evenly over the training rows, with what is answered to them.
fn golden(answer: &dyn Fn(&[f32]) -> Vec<f32>, rows: &dyn Examples) -> Vec<GoldenRow> {
    let row = |i: usize| rows.row(i * rows.len() / GOLDEN);
    let filled = (0..GOLDEN).filter(|_| !rows.is_empty());
    filled.map(|i| GoldenRow { features: row(i).to_vec(), outputs: answer(row(i)) }).collect()
}

/// Properties of the ONNX file: what it is, also for those who meet it without its manifest.
fn properties(draft: &Draft<'_>, spec: &FeatureSpec) -> Vec<(&'static str, String)> {
    let edges: Vec<String> = spec.horizons.iter().map(ToString::to_string).collect();
    vec![
        ("farthing.task", draft.kind.to_string()),
        ("farthing.spec_hash", spec.hash()),
        ("farthing.spec_version", spec.version.to_string()),
        ("farthing.features", spec.names.join(",")),
        ("farthing.horizons_s", edges.join(",")),
        ("farthing.answers", spec.answers.join(",")),
        ("farthing.data_digest", draft.training.data_digest.clone()),
        ("farthing.train_from_ns", draft.training.from_ns.to_string()),
        ("farthing.train_to_ns", draft.training.to_ns.to_string()),
        ("farthing.rows", draft.training.rows.to_string()),
        ("farthing.seed", draft.training.seed.to_string()),
        ("farthing.trainer", env!("CARGO_PKG_VERSION").to_owned()),
    ]
}

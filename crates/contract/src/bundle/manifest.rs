//! The manifest: everything that must be known of a version before it may decide.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::disk::sha256;
use super::{BundleError, Check, FORMAT, INPUT_NAME, MODEL_FILE, OUTPUT_NAME, TABLE_FILE, pretty};
use crate::features::{COST_SPEC, FeatureSpec, PREFETCH_SPEC, STRATEGY_SPEC, TTL_SPEC};

/// What a predictor predicts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Log hazards of change of a cached answer, one per age interval.
    Ttl,
    /// The plan for a request.
    Strategy,
    /// The worth of fetching ahead.
    Prefetch,
    /// What a call will cost.
    Cost,
}

impl Kind {
    /// Every kind.
    pub const ALL: &'static [Self] = &[Self::Ttl, Self::Strategy, Self::Prefetch, Self::Cost];

    /// Name of the kind's directory, and the word in tables and labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ttl => "ttl",
            Self::Strategy => "strategy",
            Self::Prefetch => "prefetch",
            Self::Cost => "cost",
        }
    }
    /// The kind of that name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.as_str() == text)
    }
    /// The features this build computes for the kind; `None` where it computes none yet.
    pub const fn spec(self) -> Option<&'static FeatureSpec> {
        match self {
            Self::Ttl => Some(&TTL_SPEC),
            Self::Strategy => Some(&STRATEGY_SPEC),
            Self::Cost => Some(&COST_SPEC),
            Self::Prefetch => Some(&PREFETCH_SPEC),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Element type of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ElementType {
    /// 32-bit float.
    F32,
    /// 64-bit float.
    F64,
    /// 64-bit signed integer.
    I64,
    /// Anything else; no bundle may ask for it, a model found on disk may have it.
    Other,
}

/// Name, element type and shape of an input or output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TensorSpec {
    /// Name within the ONNX graph.
    pub name: String,
    /// Element type.
    #[serde(rename = "type")]
    pub ty: ElementType,
    /// Dimensions; -1 is any number of rows.
    pub shape: Vec<i64>,
}

impl TensorSpec {
    /// The one input every predictor has: rows of `width` features.
    pub fn input(width: usize) -> Self {
        Self::rows(INPUT_NAME, width)
    }
    /// The one output every predictor has: rows of `width` numbers.
    pub fn output(width: usize) -> Self {
        Self::rows(OUTPUT_NAME, width)
    }
    fn rows(name: &str, width: usize) -> Self {
        Self { name: name.to_owned(), ty: ElementType::F32, shape: vec![-1, i64::try_from(width).unwrap_or(i64::MAX)] }
    }
    /// Length of one row, if the tensor is rows of f32.
    pub fn width(&self) -> Option<usize> {
        match (self.ty, self.shape.as_slice()) {
            (ElementType::F32, &[-1 | 1, width]) => usize::try_from(width).ok().filter(|w| *w > 0),
            _ => None,
        }
    }
}

impl fmt::Display for TensorSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` {:?}{:?}", self.name, self.ty, self.shape)
    }
}

/// Length and digest of one file of the bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileRef {
    /// SHA-256, lower-case hexadecimal.
    pub sha256: String,
    /// Length in bytes.
    pub bytes: u64,
}

impl FileRef {
    /// That of a file with these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self { sha256: sha256(bytes), bytes: bytes.len() as u64 }
    }
}

/// One row of features and what the predictor answered to it when it was trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GoldenRow {
    /// The features.
    pub features: Vec<f32>,
    /// The answer.
    pub outputs: Vec<f32>,
}

/// What the predictor was trained on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Training {
    /// SHA-256 over the sorted digests of the input files, lower-case hexadecimal.
    pub data_digest: String,
    /// Start of the time range of the rows used, ns since the epoch.
    pub from_ns: i64,
    /// End of the time range of the rows used, ns since the epoch.
    pub to_ns: i64,
    /// Rows used.
    pub rows: u64,
    /// Seed of every random choice of the fit.
    pub seed: u64,
}

/// A price of staleness that met a staleness budget in the trainer's replay.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OperatingPoint {
    /// Stale responses over all responses, 0 to 1.
    pub stale_budget: f64,
    /// Price of a call over the price of one stale answer.
    pub kappa: f64,
}

/// One check of the gate that a bundle went through before it was published.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GateCheck {
    /// What was asked, as a stable string: `saving-vs-rules`, `calibration` ...
    pub name: String,
    /// What was found; none where there was nothing to measure, or where it is a figure of the machine that trained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// What it was held against.
    pub bound: f64,
    /// `passed`, `failed`, `reported` or `absent`.
    pub verdict: String,
}

/// How the gate ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GateRecord {
    /// Whether no check failed.
    pub passed: bool,
    /// Whether it was published all the same.
    pub forced: bool,
    /// Every check.
    pub checks: Vec<GateCheck>,
}

/// `manifest.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Format of this file; see [`FORMAT`].
    pub format: u32,
    /// What is predicted.
    pub kind: Kind,
    /// Version, from 1; set by [`publish`](super::publish).
    pub version: u32,
    /// Digest of the bundle this one was trained to replace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// Version of the feature spec, for messages; the hash decides.
    pub spec_version: u32,
    /// Hash of the feature spec; a build that computes other features refuses the bundle.
    pub spec_hash: String,
    /// Inputs of the ONNX graph.
    pub inputs: Vec<TensorSpec>,
    /// Outputs of the ONNX graph.
    pub outputs: Vec<TensorSpec>,
    /// The other files, by name; set by [`publish`](super::publish).
    pub files: BTreeMap<String, FileRef>,
    /// Trainer that wrote the bundle, as `farthing-train 0.1.0`.
    pub trainer: String,
    /// When it was written, ns since the epoch.
    pub created_ns: i64,
    /// What it was trained on.
    pub training: Training,
    /// Figures of the held-out time range against the rule, by name: `bill_usd`, `rule_bill_usd`, `stale_share` ...
    pub metrics: BTreeMap<String, f64>,
    /// Prices of staleness by staleness budget, for kind `ttl`; ascending in both.
    #[serde(default)]
    pub operating_points: Vec<OperatingPoint>,
    /// How the gate ended; none for bundles that went through none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<GateRecord>,
    /// Rows whose answers are compared before the version may decide; of the model if there is one, else of the table.
    pub golden: Vec<GoldenRow>,
    /// The same for the table where the bundle has both.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub table_golden: Vec<GoldenRow>,
    /// Rows run before the first decision, so that no request pays for first-use work.
    pub warm_up: Vec<Vec<f32>>,
}

impl Manifest {
    /// A manifest with everything empty but the widths: a start for the trainer and for tests.
    pub fn draft(kind: Kind, spec: (u32, &str), features: usize, outputs: usize) -> Self {
        Self {
            format: FORMAT,
            kind,
            version: 0,
            parent: None,
            spec_version: spec.0,
            spec_hash: spec.1.to_owned(),
            inputs: vec![TensorSpec::input(features)],
            outputs: vec![TensorSpec::output(outputs)],
            files: BTreeMap::new(),
            trainer: String::new(),
            created_ns: 0,
            training: Training::default(),
            metrics: BTreeMap::new(),
            operating_points: Vec::new(),
            gate: None,
            golden: Vec::new(),
            table_golden: Vec::new(),
            warm_up: Vec::new(),
        }
    }

    /// A [`draft`](Self::draft) of kind `ttl` for the feature spec of this build.
    pub fn draft_ttl() -> Self {
        Self::draft(Kind::Ttl, (TTL_SPEC.version, &TTL_SPEC.hash()), TTL_SPEC.names.len(), TTL_SPEC.outputs())
    }

    /// Reads and checks the bytes of a manifest; `bundle` names it in errors.
    pub fn parse(bundle: &str, bytes: &[u8]) -> Result<Self, BundleError> {
        #[derive(Deserialize)]
        struct Probe {
            format: u32,
        }
        let unreadable = |e: serde_json::Error| BundleError::refused(bundle, Check::Manifest, e.to_string());
        let format = serde_json::from_slice::<Probe>(bytes).map_err(unreadable)?.format;
        if format == 0 || format > FORMAT {
            let detail = format!("format {format}, this build reads 1 to {FORMAT}");
            return Err(BundleError::refused(bundle, Check::Format, detail));
        }
        let manifest: Self = serde_json::from_slice(bytes).map_err(unreadable)?;
        manifest.check()?;
        Ok(manifest)
    }

    /// The bytes of `manifest.json`; two equal manifests have equal bytes.
    ///
    /// # Errors
    /// As [`check`](Self::check): what cannot be read back is not written.
    pub fn to_bytes(&self) -> Result<Vec<u8>, BundleError> {
        self.check()?;
        pretty::to_vec(self).map_err(|e| BundleError::refused(self.name(), Check::Manifest, e.to_string()))
    }

    /// `ttl/3`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.kind, self.version)
    }
    /// Features per row.
    pub fn input_width(&self) -> usize {
        self.inputs.first().and_then(TensorSpec::width).unwrap_or(0)
    }
    /// Outputs per row.
    pub fn output_width(&self) -> usize {
        self.outputs.first().and_then(TensorSpec::width).unwrap_or(0)
    }
    /// Whether there is an ONNX predictor.
    pub fn has_model(&self) -> bool {
        self.files.contains_key(MODEL_FILE)
    }
    /// Whether there is a table.
    pub fn has_table(&self) -> bool {
        self.files.contains_key(TABLE_FILE)
    }
    /// The golden rows of the table.
    pub fn rows_of_table(&self) -> &[GoldenRow] {
        if self.has_model() { &self.table_golden } else { &self.golden }
    }

    /// The price ratio for a staleness budget, from the operating points; `None` when there are none.
    ///
    /// Between two points it is interpolated on log scales. Below the lowest it falls with the square of the budget: there the best
    /// TTL is about sqrt(2 kappa / (rate x hazard)) and the stale share half of TTL x hazard, so the share grows at least as fast as
    /// the square root of kappa, and this errs to the fresh side.
    /// Above the highest it stays at the highest: nothing was tried there.
    pub fn kappa(&self, stale_budget: f64) -> Option<f64> {
        let points = &self.operating_points;
        let (first, last) = (points.first()?, points.last()?);
        if stale_budget <= first.stale_budget {
            return Some(first.kappa * (stale_budget.max(0.0) / first.stale_budget).powi(2));
        }
        let Some(above) = points.iter().position(|p| stale_budget < p.stale_budget) else {
            return Some(last.kappa);
        };
        let (a, b) = (&points[above - 1], &points[above]);
        let share = (stale_budget / a.stale_budget).ln() / (b.stale_budget / a.stale_budget).ln();
        Some(a.kappa * (b.kappa / a.kappa).powf(share))
    }

    /// Whether the features this build computes are those the bundle was trained on.
    pub fn check_spec(&self, version: u32, hash: &str) -> Result<(), BundleError> {
        if self.spec_hash == hash {
            return Ok(());
        }
        let detail =
            format!("trained on feature spec {} ({}), this build computes spec {version} ({hash})", self.spec_version, self.spec_hash);
        Err(BundleError::refused(self.name(), Check::FeatureSpec, detail))
    }

    /// Whether this build can feed the bundle and use its answers: spec, number of features, number of outputs.
    pub fn check_build(&self) -> Result<(), BundleError> {
        let Some(spec) = self.kind.spec() else {
            let detail = format!("this build computes no features for kind {}", self.kind);
            return Err(BundleError::refused(self.name(), Check::FeatureSpec, detail));
        };
        self.check_spec(spec.version, &spec.hash())?;
        let (found, wanted) = ((self.input_width(), self.output_width()), (spec.names.len(), spec.outputs()));
        if found == wanted {
            return Ok(());
        }
        let detail = format!("(features, outputs) are {found:?}, the feature spec says {wanted:?}");
        Err(BundleError::refused(self.name(), Check::FeatureSpec, detail))
    }

    /// Whether the tensors of a loaded graph are those of the manifest, in order; a row count of any size fits one of -1.
    pub fn check_signature(&self, inputs: &[TensorSpec], outputs: &[TensorSpec]) -> Result<(), BundleError> {
        for (what, wanted, found) in [("inputs", &self.inputs, inputs), ("outputs", &self.outputs, outputs)] {
            let fits = wanted.len() == found.len() && wanted.iter().zip(found).all(|(w, f)| same_tensor(w, f));
            if !fits {
                let detail = format!("{what} are {}, the manifest says {}", list(found), list(wanted));
                return Err(BundleError::refused(self.name(), Check::Signature, detail));
            }
        }
        Ok(())
    }

    /// Whether an answer to golden row `index` is finite and as recorded.
    pub fn check_golden(&self, index: usize, row: &GoldenRow, answer: &[f32]) -> Result<(), BundleError> {
        let refuse = |check, detail| Err(BundleError::refused(self.name(), check, detail));
        if let Some(bad) = answer.iter().find(|x| !x.is_finite()) {
            return refuse(Check::Finite, format!("golden row {index} gives {bad}"));
        }
        let worst = row.outputs.iter().zip(answer).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        if row.outputs.len() != answer.len() || worst > super::GOLDEN_TOLERANCE {
            let detail = format!("golden row {index} gives {answer:?}, recorded {:?}, difference {worst:e}", row.outputs);
            return refuse(Check::Golden, detail);
        }
        Ok(())
    }

    /// Whether names and numbers fit together; [`parse`](Self::parse) and [`to_bytes`](Self::to_bytes) do this.
    pub fn check(&self) -> Result<(), BundleError> {
        self.problem().map_or(Ok(()), |detail| Err(BundleError::refused(self.name(), Check::Consistency, detail)))
    }

    fn problem(&self) -> Option<String> {
        let (width, answers) = (self.input_width(), self.output_width());
        if self.inputs.len() != 1 || width == 0 || self.outputs.len() != 1 || answers == 0 {
            return Some("wanted one input and one output of f32 rows `[-1, width]`".into());
        }
        if let Some(name) = self.files.keys().find(|name| !plain_name(name)) {
            return Some(format!("file name `{name}` is not a plain name"));
        }
        if !self.has_model() && !self.has_table() {
            return Some(format!("neither `{MODEL_FILE}` nor `{TABLE_FILE}` among the files"));
        }
        if self.golden.is_empty() || self.warm_up.is_empty() || (self.has_model() && self.has_table() && self.table_golden.is_empty()) {
            return Some("no golden rows or no warm-up rows".into());
        }
        let golden = || self.golden.iter().chain(&self.table_golden);
        if golden().any(|row| !is_row(&row.features, width) || !is_row(&row.outputs, answers)) {
            return Some(format!("a golden row is not {width} finite features and {answers} finite outputs"));
        }
        if self.warm_up.iter().any(|row| !is_row(row, width)) {
            return Some(format!("a warm-up row is not {width} finite features"));
        }
        if let Some((name, value)) = self.metrics.iter().find(|(_, value)| !value.is_finite()) {
            return Some(format!("metric `{name}` is {value}"));
        }
        self.bad_points()
    }

    fn bad_points(&self) -> Option<String> {
        let points = &self.operating_points;
        let sane = points.iter().all(|p| p.stale_budget > 0.0 && p.stale_budget <= 1.0 && p.kappa > 0.0 && p.kappa.is_finite());
        let ascending = points.windows(2).all(|w| w[0].stale_budget < w[1].stale_budget && w[0].kappa <= w[1].kappa);
        (!sane || !ascending).then(|| "operating points must be positive and ascend in stale_budget and kappa".into())
    }
}

fn same_tensor(wanted: &TensorSpec, found: &TensorSpec) -> bool {
    wanted.name == found.name && wanted.width().is_some() && wanted.width() == found.width()
}

fn list(specs: &[TensorSpec]) -> String {
    if specs.is_empty() {
        return "none".into();
    }
    specs.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn is_row(row: &[f32], width: usize) -> bool {
    row.len() == width && row.iter().all(|x| x.is_finite())
}

/// No separators, no leading dot: such a name cannot leave the bundle's directory.
fn plain_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with('.')
        && name != super::MANIFEST_FILE
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
}

#[cfg(test)]
#[path = "manifest_tests.rs"]
mod tests;

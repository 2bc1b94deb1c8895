//! One loaded version: whoever decides borrows it, and it is freed with its last borrower.

use std::fmt;
use std::sync::Arc;

use farthing_contract::bundle::{Bundle, BundleError, Check, Kind, Manifest, TABLE_FILE, Target};
use farthing_policy::{Levels, Predictor};

use farthing_types::Span;

use crate::Runtime;
use crate::count::{Counted, Counters};
use crate::onnx::OnnxPredictor;

/// Reads `table.bin` of a bundle into a predictor that answers `By::Table(version)`; the text of an error says what is wrong.
pub type TableReader = fn(&Bundle, &[u8]) -> Result<Arc<dyn Predictor>, String>;

/// What generations are built with.
pub(crate) struct Tools {
    pub(crate) runtime: Option<Runtime>,
    pub(crate) slots: usize,
    pub(crate) read_table: Option<TableReader>,
    pub(crate) deadline: Option<Span>,
    pub(crate) counters: Arc<Counters>,
}

/// A version that passed every check and may decide.
pub struct Generation {
    manifest: Arc<Manifest>,
    digest: Arc<str>,
    levels: Levels,
    /// Its model is damaged, and left out.
    part: bool,
    /// With the model, so that sessions borrowed alone count as well.
    _counted: Arc<Counted>,
}

impl Generation {
    /// Checks a bundle whose files were read and digested, and builds what this process can run of it.
    pub(crate) fn build(bundle: &Bundle, tools: &Tools) -> Result<Self, BundleError> {
        let manifest = &bundle.manifest;
        manifest.check_build()?;
        let counted = Arc::new(Counted::new(&tools.counters));
        let model = match (&tools.runtime, manifest.has_model()) {
            (Some(runtime), true) => Some(OnnxPredictor::build(bundle, (runtime, tools.deadline), tools.slots, Arc::clone(&counted))?),
            _ => None,
        };
        let levels = Levels { model: model.map(|model| Arc::new(model) as Arc<dyn Predictor>), table: table(bundle, tools.read_table)? };
        if levels.model.is_none() && levels.table.is_none() {
            let detail = "there is no ONNX Runtime library here, and the bundle has no table this build can read";
            return Err(BundleError::refused(manifest.name(), Check::Engine, detail));
        }
        Ok(Self { manifest: Arc::new(manifest.clone()), digest: bundle.digest.as_str().into(), levels, part: false, _counted: counted })
    }

    /// What is sound of a bundle whose model is damaged.
    pub(crate) fn build_part(bundle: &Bundle, tools: &Tools) -> Result<Self, BundleError> {
        Ok(Self { part: true, ..Self::build(bundle, tools)? })
    }
    pub(crate) const fn is_part(&self) -> bool {
        self.part
    }

    /// What [`farthing_policy::Guarded`] asks: the model (`None` without the library) and the table (`None` where the bundle has none).
    pub fn levels(&self) -> &Levels {
        &self.levels
    }
    /// What runs of it here: `model`, or `table` alone.
    pub fn engine(&self) -> &'static str {
        if self.levels.model.is_some() { "model" } else { "table" }
    }
    /// What the trainer wrote about it.
    pub fn manifest(&self) -> &Arc<Manifest> {
        &self.manifest
    }
    /// Kind of predictor.
    pub fn kind(&self) -> Kind {
        self.manifest.kind
    }
    /// Version.
    pub fn version(&self) -> u32 {
        self.manifest.version
    }
    /// Digest of the bundle.
    pub fn digest(&self) -> &Arc<str> {
        &self.digest
    }
    pub(crate) fn is(&self, kind: Kind, target: &Target) -> bool {
        self.kind() == kind && self.version() == target.version && *self.digest == *target.digest
    }
}

impl fmt::Debug for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Generation").field("bundle", &self.manifest.name()).field("engine", &self.engine()).finish_non_exhaustive()
    }
}

fn table(bundle: &Bundle, reader: Option<TableReader>) -> Result<Option<Arc<dyn Predictor>>, BundleError> {
    let manifest = &bundle.manifest;
    let (Some(read), Some(bytes)) = (reader, bundle.file(TABLE_FILE)) else { return Ok(None) };
    let refuse = |detail: String| BundleError::refused(manifest.name(), Check::Table, detail);
    let table = read(bundle, bytes).map_err(refuse)?;
    let mut out = vec![0.0; manifest.output_width()];
    for (n, row) in manifest.rows_of_table().iter().enumerate() {
        table.predict(&row.features, &mut out).map_err(|e| refuse(format!("golden row {n}: {e}")))?;
        manifest.check_golden(n, row, &out)?;
    }
    Ok(Some(table))
}

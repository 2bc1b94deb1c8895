//! The table of a published bundle as a candidate: the same numbers that the proxy answers with `ttl = "table"`.

use std::path::Path;
use std::sync::Arc;

use farthing_contract::bundle::{Alias, Bundle, Kind, Manifest, TABLE_FILE, Table, disk};
use farthing_policy::{Levels, PredictError, Predictor};
use farthing_types::By;

use crate::error::TrainError;

/// A published table.
pub struct Published {
    /// The chain with it alone.
    pub levels: Levels,
    /// Its operating points and origin.
    pub manifest: Manifest,
}

struct TablePredictor {
    table: Table,
    version: u32,
    digest: Arc<str>,
}

impl Predictor for TablePredictor {
    fn predict(&self, features: &[f32], out: &mut [f32]) -> Result<(), PredictError> {
        for (expected, got) in [(self.table.features(), features.len()), (self.table.outputs(), out.len())] {
            if expected != got {
                return Err(PredictError::Shape { expected, got });
            }
        }
        self.table.answer(features, out);
        Ok(())
    }
    fn by(&self) -> By {
        By::Table(self.version)
    }
    fn digest(&self) -> Arc<str> {
        Arc::clone(&self.digest)
    }
}

/// The champion of a store, or its newest version; none when there is no store or no table in it that fits this build.
///
/// # Errors
/// When a bundle is there but damaged.
pub fn published(root: &Path) -> Result<Option<Published>, TrainError> {
    if !root.is_dir() {
        return Ok(None);
    }
    let wrong = |reason: String| TrainError::Bundle { path: root.to_path_buf(), reason };
    let champion = disk::read_aliases(root).map_err(|e| wrong(e.to_string()))?.get(Kind::Ttl, Alias::Champion).map(|s| s.current.version);
    let newest = || disk::versions(root, Kind::Ttl).ok().and_then(|v| v.into_iter().max());
    let Some(version) = champion.or_else(newest) else { return Ok(None) };
    let bundle = Bundle::read(root, Kind::Ttl, version).map_err(|e| wrong(e.to_string()))?;
    let spec = farthing_contract::features::TTL_SPEC;
    if bundle.manifest.check_spec(spec.version, &spec.hash()).is_err() {
        return Ok(None);
    }
    let Some(bytes) = bundle.file(TABLE_FILE) else { return Ok(None) };
    let table = Table::parse(bytes).map_err(|e| wrong(e.to_owned()))?;
    let predictor = TablePredictor { table, version, digest: bundle.digest.as_str().into() };
    Ok(Some(Published { levels: Levels { model: None, table: Some(Arc::new(predictor)) }, manifest: bundle.manifest }))
}

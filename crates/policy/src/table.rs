//! The table of a bundle as a predictor: plain Rust, needs no library.

use std::sync::Arc;

use farthing_contract::bundle::{Bundle, Table};
use farthing_types::By;

use crate::predictor::{PredictError, Predictor};

struct TablePredictor {
    table: Table,
    version: u32,
    digest: Arc<str>,
}

/// Reads `table.bin`; see [`farthing_contract::bundle::table`]. Its shape must be that of the manifest.
///
/// # Errors
/// What is wrong with the bytes, for the one who names the bundle.
pub fn read_table(bundle: &Bundle, bytes: &[u8]) -> Result<Arc<dyn Predictor>, String> {
    let table = Table::parse(bytes)?;
    let (found, wanted) = ((table.features(), table.outputs()), (bundle.manifest.input_width(), bundle.manifest.output_width()));
    if found != wanted {
        return Err(format!("(features, outputs) are {found:?}, the manifest says {wanted:?}"));
    }
    Ok(Arc::new(TablePredictor { table, version: bundle.manifest.version, digest: bundle.digest.as_str().into() }))
}

impl Predictor for TablePredictor {
    fn predict(&self, features: &[f32], out: &mut [f32]) -> Result<(), PredictError> {
        for (expected, got) in [(self.table.features(), features.len()), (self.table.outputs(), out.len())] {
            if expected != got {
                return Err(PredictError::Shape { expected, got });
            }
        }
        self.table.answer(features, out);
        if out.iter().all(|x| x.is_finite()) { Ok(()) } else { Err(PredictError::NotFinite) }
    }
    fn by(&self) -> By {
        By::Table(self.version)
    }
    fn digest(&self) -> Arc<str> {
        Arc::clone(&self.digest)
    }
}

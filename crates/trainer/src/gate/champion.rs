//! The bundle that decides at present, for comparison with a candidate.

use std::path::Path;
use std::sync::Arc;

use farthing_contract::bundle::{Alias, Bundle, Kind, MODEL_FILE, disk};
use farthing_policy::Levels;

use crate::foreign::Foreign;
use crate::predictor::Trees;
use crate::trees::Ensemble;

/// The bundle that decides at present.
#[derive(Clone)]
pub struct Champion {
    /// It as the only predictor.
    pub levels: Levels,
    /// Name for reports: `ttl/3`.
    pub name: String,
}

impl Champion {
    /// The champion of a kind among the bundles under `root`.
    ///
    /// # Errors
    /// Why there is none to compare with: none is named, it cannot be read, or this build computes other features than it was trained on
    /// (then the proxy of this build refuses it too).
    pub fn read(root: &Path, kind: Kind) -> Result<Self, String> {
        let aliases = disk::read_aliases(root).map_err(|e| e.to_string())?;
        let target = &aliases.get(kind, Alias::Champion).ok_or("no bundle decides yet")?.current;
        let bundle = Bundle::read(root, kind, target.version).map_err(|e| e.to_string())?;
        Self::of(&bundle)
    }

    /// A bundle of this build's features: its trees, or where it has none the model itself in ONNX Runtime.
    ///
    /// # Errors
    /// Why it cannot be replayed.
    pub fn of(bundle: &Bundle) -> Result<Self, String> {
        bundle.manifest.check_build().map_err(|e| e.to_string())?;
        let levels = match Ensemble::of_bundle(bundle) {
            Ok(trees) => Trees::levels(&trees),
            Err(why) => Levels { model: Some(Arc::new(foreign(bundle, &why)?)), table: None },
        };
        Ok(Self { levels, name: bundle.manifest.name() })
    }
}

fn foreign(bundle: &Bundle, why: &str) -> Result<Foreign, String> {
    let bytes = bundle.file(MODEL_FILE).ok_or_else(|| why.to_owned())?;
    Foreign::load(bytes, (bundle.manifest.input_width(), bundle.manifest.output_width()), &bundle.digest).map_err(|e| format!("{why}; {e}"))
}

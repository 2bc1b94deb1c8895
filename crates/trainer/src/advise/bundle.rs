//! The table of a published bundle as a candidate: the same numbers that the proxy answers with `ttl = "table"`.

use std::path::Path;

use farthing_contract::bundle::{Alias, Bundle, Kind, Manifest, TABLE_FILE, disk};
use farthing_policy::{Levels, read_table};

use crate::error::TrainError;

/// A published table.
pub struct Published {
    /// The chain with it alone.
    pub levels: Levels,
    /// Its operating points and origin.
    pub manifest: Manifest,
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
    let table = read_table(&bundle, bytes).map_err(wrong)?;
    Ok(Some(Published { levels: Levels { model: None, table: Some(table) }, manifest: bundle.manifest }))
}

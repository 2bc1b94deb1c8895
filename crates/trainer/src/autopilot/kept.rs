//! What a loop remembers over restarts: one small file in the store.

use std::collections::BTreeMap;
use std::path::Path;

use farthing_contract::bundle::{Kind, disk};
use serde::{Deserialize, Serialize};

use crate::error::TrainError;

/// File name within the root of the store.
pub const KEPT_FILE: &str = "loop.json";
/// Versions that are remembered of a kind: those beyond are left alone on the disk.
const MOST_MADE: usize = 1_000;

/// The last training of a kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// When, ns since the epoch.
    pub at_ns: i64,
    /// The end of the newest hour that was learned from, in hours since 1970 UTC.
    pub until_hour: i64,
    /// Digest of the files.
    pub data_digest: String,
    /// The version that came of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u32>,
    /// What came of it, for people.
    pub outcome: String,
    /// The drift, ns since the epoch, that a version was made after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drift_ns: Option<i64>,
    /// Versions that this loop has made, oldest first.
    #[serde(default)]
    pub made: Vec<u32>,
}

/// All kinds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    pub kinds: BTreeMap<Kind, Attempt>,
}

impl Kept {
    /// What stands in the store; nothing where there is no file.
    ///
    /// # Errors
    /// A file that cannot be read: without it everything would be trained again at once.
    pub fn read(root: &Path) -> Result<Self, TrainError> {
        let path = root.join(KEPT_FILE);
        let bytes = match std::fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            read => read.map_err(TrainError::io(&path))?,
        };
        serde_json::from_slice(&bytes).map_err(|e| TrainError::Config {
            path,
            reason: format!("{e}; remove the file to begin anew: what the log holds is then trained once more"),
        })
    }

    /// Whole under its name, or as it was.
    ///
    /// # Errors
    /// What the system says.
    pub fn write(&self, root: &Path) -> Result<(), TrainError> {
        let path = root.join(KEPT_FILE);
        let bytes = serde_json::to_vec_pretty(self).map_err(|e| TrainError::Config { path: path.clone(), reason: e.to_string() })?;
        disk::write_atomic(&path, &bytes).map_err(TrainError::bundle(path))
    }
}

impl Attempt {
    /// Remembers a version.
    pub(super) fn has_made(&mut self, version: u32) {
        self.made.retain(|made| *made != version);
        self.made.push(version);
        let excess = self.made.len().saturating_sub(MOST_MADE);
        self.made.drain(..excess);
        self.version = Some(version);
    }
}

//! Batches as they are written down in `state_dir/defer`, one file each, before they are sent: what they are called, and who pays for what. No
//! prompt and no credential is in them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::files;

/// One request of a batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptMember {
    /// What the provider knows it by within the batch.
    pub id: String,
    /// Who pays.
    pub tenant: Arc<str>,
    /// Team of the tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub team: Option<Arc<str>>,
    /// Service of the tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<Arc<str>>,
    /// Public id of the Farthing key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Arc<str>>,
    /// When it was ordered, nanoseconds: the prices of that time hold.
    pub at_ns: i64,
    /// Bytes of its body.
    pub bytes: u64,
}

/// A batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Its name of ours, in the provider's `metadata`.
    pub name: String,
    /// The route.
    pub route: Arc<str>,
    /// Path of the provider's API before its endpoints.
    pub prefix: Arc<str>,
    /// The target of all its requests.
    pub target: Arc<str>,
    /// The version of the API, where requests name one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Arc<str>>,
    /// The provider's id, once that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<String>,
    /// Its requests.
    pub members: Vec<Arc<KeptMember>>,
}

/// The folder.
#[derive(Clone, Debug)]
pub struct Place(PathBuf);

impl Place {
    /// Below `state_dir`; `None` where that is empty.
    pub fn below(state_dir: &Path) -> Option<Self> {
        (!state_dir.as_os_str().is_empty()).then(|| Self(state_dir.join("defer")))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(format!("{name}.json"))
    }

    /// Writes a batch down, durably. Blocks.
    ///
    /// # Errors
    /// What the disk says.
    pub fn write(&self, kept: &Kept) -> io::Result<()> {
        files::write(&self.file(&kept.name), &serde_json::to_vec(kept)?)
    }

    /// A batch has ended, and its bill is known.
    pub fn remove(&self, name: &str) {
        if let Err(error) = fs::remove_file(self.file(name)) {
            tracing::warn!(name, %error, "a batch that has ended will be looked up again after a restart");
        }
    }

    /// How many batches name a tenant; those that cannot be read may.
    ///
    /// # Errors
    /// What the disk says of the folder.
    pub fn naming(&self, tenant: &str) -> io::Result<usize> {
        let (kept, damaged) = self.read()?;
        let of = |batch: &&Kept| batch.members.iter().any(|member| *member.tenant == *tenant);
        Ok(kept.iter().filter(of).count() + damaged.len())
    }

    /// All that are written down, and files that cannot be read. Blocks.
    ///
    /// # Errors
    /// What the disk says of the folder.
    pub fn read(&self) -> io::Result<(Vec<Kept>, Vec<PathBuf>)> {
        let (mut kept, mut damaged) = (Vec::new(), Vec::new());
        let entries = match fs::read_dir(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((kept, damaged)),
            entries => entries?,
        };
        for path in entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path.extension().is_some_and(|e| e == "json")) {
            match fs::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()) {
                Some(one) => kept.push(one),
                None => damaged.push(path),
            }
        }
        Ok((kept, damaged))
    }
}

use std::fmt;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

/// What a bundle was checked for. Each value has one stable string and one remedy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Check {
    /// `manifest.json` is there and can be read.
    Manifest,
    /// The manifest's format is one this build knows.
    Format,
    /// Numbers and names within the manifest fit together.
    Consistency,
    /// Kind and version are those of the directory.
    Place,
    /// The bundle is the one the alias was moved to.
    Digest,
    /// Every listed file is there with the listed length and SHA-256.
    Files,
    /// The features are those this build computes.
    FeatureSpec,
    /// The inference library takes the model.
    Session,
    /// Names, element types and shapes of inputs and outputs.
    Signature,
    /// All outputs are finite numbers.
    Finite,
    /// The golden rows come out as recorded.
    Golden,
    /// The table can be read.
    Table,
    /// The bundle holds something that can decide here.
    Engine,
    /// It answers within the time that a decision has.
    Slow,
    /// One of the trusted keys has signed it, where there are any.
    Signed,
}

impl Check {
    /// Every value.
    pub const ALL: &'static [Self] = &[
        Self::Manifest,
        Self::Format,
        Self::Consistency,
        Self::Place,
        Self::Digest,
        Self::Files,
        Self::FeatureSpec,
        Self::Session,
        Self::Signature,
        Self::Finite,
        Self::Golden,
        Self::Table,
        Self::Engine,
        Self::Slow,
        Self::Signed,
    ];

    /// The stable string, for metric labels and error codes.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Manifest => "manifest",
            Self::Format => "format",
            Self::Consistency => "consistency",
            Self::Place => "place",
            Self::Digest => "digest",
            Self::Files => "files",
            Self::FeatureSpec => "feature-spec",
            Self::Session => "session",
            Self::Signature => "signature",
            Self::Finite => "finite",
            Self::Golden => "golden",
            Self::Table => "table",
            Self::Engine => "engine",
            Self::Slow => "slow",
            Self::Signed => "signed",
        }
    }

    /// What to do about it.
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::Manifest | Self::Files | Self::Place => {
                "copy the bundle again (into a temporary name, then rename), or train it anew with `farthing-train fit`"
            }
            Self::Format => "upgrade Farthing to the release that wrote the bundle, or train it anew with this one",
            Self::Consistency | Self::Finite | Self::Golden => "train the bundle anew with `farthing-train fit`",
            Self::Digest => "the directory changed after the alias moved; restore it, or promote a version again",
            Self::FeatureSpec => "train the bundle anew with the `farthing-train` of this release",
            Self::Session | Self::Signature => "export the model with `farthing-train fit`, opset as the manifest says",
            Self::Table => "train the bundle anew with the `farthing-train` of this release",
            Self::Signed => "sign it with `farthing models sign` or train it with `--sign`, or add the key to `models.trusted_keys`",
            Self::Slow => "train a smaller one, or raise `models.deadline`",
            Self::Engine => "run `make deps` for the native library, or train a bundle that has a table",
        }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a bundle or the alias file was refused or could not be written.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// A check failed: the bundle never decides.
    #[error("bundle {bundle} refused by check `{check}`: {detail}; {}", check.remedy())]
    Refused {
        /// `ttl/3`, or the path where no version is known.
        bundle: String,
        /// The check.
        check: Check,
        /// What was found and what was wanted.
        detail: String,
    },
    /// `aliases.json` cannot be understood.
    #[error("{}: {detail}; restore the file, or delete it and promote a version again", path.display())]
    Aliases {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// A file is no key that signs.
    #[error("{}: {detail}; `farthing models keygen` makes such a file", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// No such version on disk.
    #[error("{kind} version {version} does not exist under {}; `farthing models list` shows what does", root.display())]
    NoVersion {
        /// The kind asked for.
        kind: super::Kind,
        /// The version asked for.
        version: u32,
        /// Root of the store.
        root: PathBuf,
    },
    /// The alias names nothing, or has no earlier version.
    #[error("{kind} has no {what}; promote a version first")]
    NoTarget {
        /// The kind asked for.
        kind: super::Kind,
        /// `champion`, or `earlier champion to roll back to`.
        what: String,
    },
    /// Another instance was quicker.
    #[error("{what}: another instance has changed it meanwhile; look at it, and order again")]
    Moved {
        /// `ttl champion`.
        what: String,
    },
    /// The file system, or the store, refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
}

/// Reads a file of the store that says which format it has: one of 1 to `newest`. `path` is for messages.
pub(super) fn parse_known<T: DeserializeOwned>(
    path: &Path,
    bytes: &[u8],
    newest: u32,
    format: impl FnOnce(&T) -> u32,
) -> Result<T, BundleError> {
    let error = |detail: String| BundleError::Aliases { path: path.to_path_buf(), detail };
    let parsed: T = serde_json::from_slice(bytes).map_err(|e| error(e.to_string()))?;
    match format(&parsed) {
        format if (1..=newest).contains(&format) => Ok(parsed),
        format => Err(error(format!("format {format}, this build reads 1 to {newest}"))),
    }
}

impl BundleError {
    /// A failed check.
    pub fn refused(bundle: impl Into<String>, check: Check, detail: impl Into<String>) -> Self {
        Self::Refused { bundle: bundle.into(), check, detail: detail.into() }
    }
    /// The check that failed, if it was one.
    pub const fn check(&self) -> Option<Check> {
        match self {
            Self::Refused { check, .. } => Some(*check),
            _ => None,
        }
    }
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { path, source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_check_has_its_own_string_and_a_remedy() {
        let mut seen = std::collections::BTreeSet::new();
        for check in Check::ALL {
            assert!(seen.insert(check.as_str()), "{check} twice");
            assert!(check.remedy().len() > 20);
        }
    }

    #[test]
    fn the_message_names_bundle_check_and_remedy() {
        let text = BundleError::refused("ttl/3", Check::Golden, "row 7 gives 0.5, recorded 0.25").to_string();
        assert!(text.contains("ttl/3") && text.contains("`golden`") && text.contains("row 7") && text.contains("train the bundle anew"));
    }
}

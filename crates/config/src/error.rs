//! Errors that say where, what was found, and what to do.

use std::fmt;
use std::path::PathBuf;

/// One thing that is wrong in a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file, or `flags`.
    pub file: String,
    /// Its line, from 1; `None` when no line can be named (a missing key, a flag).
    pub line: Option<usize>,
    /// The key's full path, such as `routes.geo.max_ttl`; empty for the file as a whole.
    pub key: String,
    /// What was found.
    pub found: String,
    /// What to write instead.
    pub remedy: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        f.write_str(": ")?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        write!(f, "{}; {}", self.found, self.remedy)
    }
}

/// Why there is no configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{file}: cannot be read: {reason}; name an existing TOML file with --config")]
    Read {
        /// The file.
        file: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// Everything that is wrong in it, in order of lines.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Problems(Vec<Problem>),
    /// The deployment's salt cannot be kept.
    #[error(
        "{file}: the deployment's salt cannot be kept: {reason}; make the directory writable, or set `salt` to an env or file reference"
    )]
    Salt {
        /// The file.
        file: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// Another instance has just kept another salt at the same place.
    #[error("{file}: another instance wrote its salt there just now; start again to use it")]
    SaltTaken {
        /// The file.
        file: PathBuf,
    },
    /// The system has no random numbers.
    #[error("no random numbers: {0}")]
    Random(String),
}

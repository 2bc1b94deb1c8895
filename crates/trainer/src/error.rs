//! What can go wrong while training, each with its place and remedy.

use std::path::PathBuf;

use farthing_contract::bundle::BundleError;

/// An error of the trainer.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// A pattern matched no file.
    #[error("no Parquet file matches `{0}`: give the log folder's pattern in quotes, like 'logs/**/*.parquet'")]
    NoFiles(String),
    /// A file is not readable as Parquet.
    #[error("{path}: not readable as Parquet ({reason}): a file under its final name is always whole, so remove or restore this one", path = .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the reader said.
        reason: String,
    },
    /// A file is Parquet, but not of our log.
    #[error("{path}: {what}: {remedy}", path = .path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What does not fit, naming the column.
        what: String,
        /// What to do.
        remedy: String,
    },
    /// A mapping file is wrong.
    #[error("mapping {path}: {reason}", path = .path.display())]
    Mapping {
        /// The file.
        path: PathBuf,
        /// The line, the key and what to write instead.
        reason: String,
    },
    /// A configuration cannot be used or written.
    #[error("{path}: {reason}", path = .path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong, with its place and remedy.
        reason: String,
    },
    /// The log has too little to learn from.
    #[error("nothing to learn from: {0}")]
    TooLittle(String),
    /// A learner failed.
    #[error("learner `{learner}`: {reason}")]
    Learner {
        /// Its name.
        learner: &'static str,
        /// What happened.
        reason: String,
    },
    /// A bundle could not be written.
    #[error("bundle {path}: {reason}", path = .path.display())]
    Bundle {
        /// Its folder.
        path: PathBuf,
        /// What happened.
        reason: String,
    },
    /// A file could not be read or written.
    #[error("{path}: {source}", path = .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A recipe of a generated world is wrong.
    #[error("recipe {path}: {reason}", path = .path.display())]
    Recipe {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

impl TrainError {
    /// An I/O error at `path`.
    pub fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }

    /// What the store or the bundle at `path` said.
    pub fn bundle(path: impl Into<PathBuf>) -> impl FnOnce(BundleError) -> Self {
        let path = path.into();
        move |error| Self::Bundle { path, reason: error.to_string() }
    }
}

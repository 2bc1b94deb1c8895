use std::path::PathBuf;

use farthing_contract::bundle::BundleError;

/// Why a predictor or the library is not to be had. Never a panic: whoever asks goes on with tables and rules.
#[derive(Debug, thiserror::Error)]
pub enum ModelsError {
    /// A bundle was refused, or the store on disk could not be read or written.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The version was rolled back before, or the order can do no good.
    #[error("{0}")]
    Rejected(String),
    /// There is no ONNX Runtime library in any of the places.
    #[error("no ONNX Runtime library found (looked for {looked}); run `make deps`, or set FARTHING_ONNXRUNTIME to its path")]
    LibraryNotFound {
        /// The places, as one list.
        looked: String,
    },
    /// The library is there and cannot be used.
    #[error(
        "{}: {detail}; run `make deps`, or set FARTHING_ONNXRUNTIME to ONNX Runtime 1.24 to 1.28, or newer with ORT_DISABLE_TELEMETRY=1 in the environment",
        path.display()
    )]
    Library {
        /// The file.
        path: PathBuf,
        /// What the loader said.
        detail: String,
    },
}

//! The border to whatever predicts: the ONNX Runtime, a table, a tree evaluator.

use std::sync::Arc;

use farthing_types::By;

/// Answers K numbers for a row of features. Implementations are shared by all requests and must not block for long.
pub trait Predictor: Send + Sync {
    /// Fills `out` with the outputs for `features`; both have the lengths of the feature spec.
    ///
    /// # Errors
    /// Any [`PredictError`]; the caller then asks the next level of its chain.
    fn predict(&self, features: &[f32], out: &mut [f32]) -> Result<(), PredictError>;

    /// What to say when the prediction was used: `model:3`, `table:1`.
    fn by(&self) -> By;

    /// Digest of the bundle, for the decision log.
    fn digest(&self) -> Arc<str>;
}

/// Why a prediction could not be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PredictError {
    /// Every session was in use for too long.
    #[error("every session is busy")]
    Busy,
    /// The row or the output has another length than the predictor.
    #[error("expected {expected} numbers, got {got}")]
    Shape {
        /// The predictor's length.
        expected: usize,
        /// The caller's length.
        got: usize,
    },
    /// An output is NaN or infinite.
    #[error("an output is not finite")]
    NotFinite,
    /// The runtime reported an error.
    #[error("the runtime failed: {0}")]
    Runtime(Arc<str>),
}

impl PredictError {
    /// The stable string for `By::Fallback`, metric and log.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::Shape { .. } => "shape",
            Self::NotFinite => "not-finite",
            Self::Runtime(_) => "runtime",
        }
    }
}

//! An ensemble as the predictor of the decision chain: replay runs the very code that the proxy runs.

use std::sync::Arc;

use farthing_contract::bundle::{Bundle, MODEL_FILE, TREES_FILE};
use farthing_policy::{Levels, PredictError, Predictor};
use farthing_types::By;

use crate::onnx;
use crate::trees::Ensemble;

/// Answers from an ensemble evaluated in Rust.
#[derive(Clone, Debug)]
pub struct Trees {
    ensemble: Arc<Ensemble>,
    digest: Arc<str>,
}

impl Trees {
    /// The decision chain with `ensemble` as its model and nothing below it but the rule.
    pub fn levels(ensemble: &Ensemble) -> Levels {
        let trees = Self { ensemble: Arc::new(ensemble.clone()), digest: "in training".into() };
        Levels { model: Some(Arc::new(trees)), table: None }
    }
}

impl Predictor for Trees {
    fn predict(&self, features: &[f32], out: &mut [f32]) -> Result<(), PredictError> {
        let expected = self.ensemble.outputs();
        if out.len() != expected {
            return Err(PredictError::Shape { expected, got: out.len() });
        }
        self.ensemble.eval(features, out);
        Ok(())
    }
    fn by(&self) -> By {
        By::Model(0)
    }
    fn digest(&self) -> Arc<str> {
        Arc::clone(&self.digest)
    }
}

impl Ensemble {
    /// The trees of a bundle's model.
    ///
    /// # Errors
    /// Why there are none: the model is no tree ensemble.
    pub fn of_bundle(bundle: &Bundle) -> Result<Self, String> {
        let wrong = |what: String| format!("{}: {what}", bundle.manifest.name());
        if let Some(bytes) = bundle.file(TREES_FILE) {
            return Self::from_bytes(bytes).map_err(|e| wrong(e.to_string()));
        }
        onnx::decode(bundle.file(MODEL_FILE).ok_or_else(|| wrong(format!("no {MODEL_FILE}")))?).map_err(wrong)
    }
}

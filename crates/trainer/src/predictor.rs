//! An ensemble as the predictor of the decision chain: replay runs the very code that the proxy runs.

use std::sync::Arc;

use farthing_policy::{Levels, PredictError, Predictor};
use farthing_types::By;

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

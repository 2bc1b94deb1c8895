//! Models that another program has made: checked, run here as they will run in the proxy.

mod graph;
mod session;
mod wire;

use farthing_contract::bundle::GOLDEN_TOLERANCE;
use farthing_contract::features::FeatureSpec;

pub use graph::adopt;
pub use session::Foreign;

use crate::learn::Examples;
use crate::onnx;
use crate::trees::Ensemble;

/// Rows that are asked at once.
const BATCH: usize = 4_096;
/// Rows whose single answers are compared with those of the batch.
const SINGLE: usize = 64;

/// A foreign model that passed.
pub struct Checked {
    /// The file as it is published.
    pub onnx: Vec<u8>,
    /// It, loaded.
    pub model: std::sync::Arc<Foreign>,
    /// Its trees, when it is nothing but trees and they answer alike; without them its answers are not taken apart.
    pub trees: Result<Ensemble, String>,
    /// Rows that were asked.
    pub rows: usize,
}

/// Checks a file against a feature spec on every row: shapes, finite answers, the same answer alone and in a batch.
///
/// # Errors
/// What does not fit, and what to do about it.
pub fn check(bytes: &[u8], spec: &FeatureSpec, rows: &dyn Examples) -> Result<Checked, String> {
    let (width, answers) = (spec.names.len(), spec.outputs());
    let onnx = adopt(bytes, width, answers)?;
    let digest = farthing_contract::bundle::disk::sha256(&onnx);
    let model = Foreign::load(&onnx, (width, answers), &digest)?;
    let trees = onnx::decode(bytes).and_then(|ensemble| widened(ensemble, answers));
    let (mut worst, mut at) = (0.0f32, 0);
    while at < rows.len() {
        let end = (at + BATCH).min(rows.len());
        let flat: Vec<f32> = (at..end).flat_map(|i| rows.row(i).iter().copied()).collect();
        let found = model.run(&flat)?;
        if let Some(bad) = found.iter().position(|x| !x.is_finite()) {
            return Err(format!("it answers {} to row {}: every answer must be a finite number", found[bad], at + bad / answers));
        }
        if let Ok(trees) = &trees {
            worst = worst.max(difference(trees, rows, (at, &found)));
        }
        alone(&model, rows, (at, &found), (width, answers))?;
        at = end;
    }
    let trees =
        trees.and_then(
            |trees| {
                if worst <= GOLDEN_TOLERANCE { Ok(trees) } else { Err(format!("its trees read back answer {worst:e} otherwise")) }
            },
        );
    Ok(Checked { onnx, model: std::sync::Arc::new(model), trees, rows: rows.len() })
}

/// One answer for all outputs, where it gives one.
fn widened(ensemble: Ensemble, answers: usize) -> Result<Ensemble, String> {
    if ensemble.outputs() == answers {
        Ok(ensemble)
    } else {
        ensemble.repeated(answers).ok_or_else(|| "its trees answer another number of outputs".to_owned())
    }
}

/// Largest difference between the trees and what the library answered to the rows from `at` on.
fn difference(trees: &Ensemble, rows: &dyn Examples, (at, found): (usize, &[f32])) -> f32 {
    let mut out = vec![0.0; trees.outputs()];
    let of = |(i, answer): (usize, &[f32])| {
        trees.eval(rows.row(at + i), &mut out);
        out.iter().zip(answer).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
    };
    found.chunks(trees.outputs()).enumerate().map(of).fold(0.0, f32::max)
}

/// The proxy asks one row at a time: the answer must not depend on the company.
fn alone(model: &Foreign, rows: &dyn Examples, (at, batch): (usize, &[f32]), (_, answers): (usize, usize)) -> Result<(), String> {
    let count = batch.len() / answers;
    for i in (0..count).step_by((count / SINGLE).max(1)) {
        let single = model.run(rows.row(at + i))?;
        let worst = single.iter().zip(&batch[i * answers..]).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        if worst > GOLDEN_TOLERANCE {
            return Err(format!("row {} is answered {worst:e} otherwise alone than in a batch", at + i));
        }
    }
    Ok(())
}

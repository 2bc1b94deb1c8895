//! Runs a model of another program in ONNX Runtime. No type of the binding leaves this file.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use farthing_contract::bundle::OUTPUT_NAME;
use farthing_contract::native;
use farthing_policy::{PredictError, Predictor};
use farthing_types::By;
use ort::environment::Environment;
use ort::session::Session;
use ort::session::builder::SessionBuilder;
use ort::value::Tensor;
use parking_lot::Mutex;

/// ONNX Runtime allows one environment per process.
static LOADED: Mutex<Option<Environment>> = Mutex::new(None);

/// A loaded model.
pub struct Foreign {
    session: Mutex<Session>,
    width: usize,
    answers: usize,
    digest: Arc<str>,
}

impl Foreign {
    /// Loads a graph that [`super::graph::adopt`] made ours. The library is found as the proxy finds it.
    ///
    /// # Errors
    /// The library is absent or refused, or it does not take the graph; with what to do.
    pub fn load(model: &[u8], (width, answers): (usize, usize), digest: &str) -> Result<Self, String> {
        let session = catch_unwind(AssertUnwindSafe(|| session(model)))
            .unwrap_or_else(|_| Err("the graph uses a type that the binding does not know".into()))?;
        Ok(Self { session: Mutex::new(session), width, answers, digest: digest.into() })
    }

    /// Answers rows of features, row after row.
    ///
    /// # Errors
    /// What the library says, or how the answer's shape is not as it should be.
    pub fn run(&self, rows: &[f32]) -> Result<Vec<f32>, String> {
        let count = rows.len() / self.width.max(1);
        let input = Tensor::from_array(([count, self.width], rows.to_vec())).map_err(|e| e.to_string())?;
        let mut session = self.session.lock();
        let outputs = session.run(ort::inputs![input]).map_err(|e| e.to_string())?;
        let output = outputs.get(OUTPUT_NAME).ok_or("it gives no output")?;
        let (shape, answer) = output.try_extract_tensor::<f32>().map_err(|e| e.to_string())?;
        if answer.len() != count * self.answers {
            return Err(format!("it answers shape {shape:?} to {count} rows, wanted [{count}, {}]", self.answers));
        }
        Ok(answer.to_vec())
    }
}

impl Predictor for Foreign {
    fn predict(&self, features: &[f32], out: &mut [f32]) -> Result<(), PredictError> {
        let answer = self.run(features).map_err(|e| PredictError::Runtime(e.as_str().into()))?;
        if answer.len() != out.len() {
            return Err(PredictError::Shape { expected: answer.len(), got: out.len() });
        }
        out.copy_from_slice(&answer);
        if out.iter().all(|x| x.is_finite()) { Ok(()) } else { Err(PredictError::NotFinite) }
    }
    fn by(&self) -> By {
        By::Model(0)
    }
    fn digest(&self) -> Arc<str> {
        Arc::clone(&self.digest)
    }
}

fn session(model: &[u8]) -> Result<Session, String> {
    let mut loaded = LOADED.lock();
    if loaded.is_none() {
        *loaded = Some(environment()?);
    }
    let environment = loaded.as_ref().ok_or("no environment")?;
    let text = |e: ort::Error<SessionBuilder>| e.to_string();
    // As the proxy builds it: what is judged here is what will decide there.
    Session::builder(environment)
        .map_err(|e| e.to_string())?
        .with_intra_threads(1)
        .map_err(text)?
        .with_inter_threads(1)
        .map_err(text)?
        .with_intra_op_spinning(false)
        .map_err(text)?
        .commit_from_memory(model)
        .map_err(|e| e.to_string())
}

fn environment() -> Result<Environment, String> {
    let remedy = |what: String| format!("{what}; run `make deps`, or set {} to ONNX Runtime 1.24 to 1.28", native::LIBRARY_VARIABLE);
    let path = native::find(None).map_err(|looked| remedy(format!("no ONNX Runtime library found (looked for {looked})")))?;
    native::keeps_to_itself(&path, native::telemetry_is_off()).map_err(|why| remedy(format!("{}: {why}", path.display())))?;
    // The binding asserts on libraries that are no ONNX Runtime at all.
    let built = catch_unwind(AssertUnwindSafe(|| init(&path))).unwrap_or_else(|_| Err("it does not behave like ONNX Runtime".into()));
    built.map_err(|why| remedy(format!("{}: {why}", path.display())))
}

fn init(path: &Path) -> Result<Environment, String> {
    let builder = ort::init_from(path).map_err(|e| e.to_string())?;
    let environment = builder
        .with_name("farthing-train")
        .with_telemetry(false)
        .with_logger(Arc::new(|_, _: &str, _: &str, _: &str, _: &str| {}))
        .build()
        .map_err(|e| e.to_string())?;
    environment.set_log_level(ort::logging::LogLevel::Error);
    Ok(environment)
}

//! A predictor that runs in ONNX Runtime: one session per worker, so that requests do not wait for each other.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use farthing_contract::bundle::{Bundle, BundleError, Check, ElementType, GoldenRow, MODEL_FILE, Manifest, OUTPUT_NAME, TensorSpec};
use farthing_policy::{PredictError, Predictor};
use farthing_types::{By, Clock, RealClock, Span};
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::session::{HasSelectedOutputs, OutputSelector, RunOptions, Session};
use ort::value::{Outlet, Tensor, TensorElementType};
use parking_lot::{Mutex, MutexGuard};

use crate::Runtime;
use crate::count::Counted;

/// How often and how long a caller waits for a session when all are taken; a prediction takes some 10 us, so more means trouble.
const WAITS: u32 = 5;
/// Answers that are timed before a model counts as slow.
const TIMED: u32 = 50;
const WAIT: Duration = Duration::from_millis(1);

/// A session with its tensors: they are filled and read in place, which saves half the time of a small model.
struct Slot {
    session: Session,
    input: Tensor<f32>,
    options: RunOptions<HasSelectedOutputs>,
}

/// The ONNX model of one bundle, ready to be asked from any thread.
pub(crate) struct OnnxPredictor {
    slots: Vec<Mutex<Slot>>,
    version: u32,
    digest: Arc<str>,
    input_width: usize,
    output_width: usize,
    /// Keeps the generation counted as live while anybody can still ask.
    _counted: Arc<Counted>,
}

impl OnnxPredictor {
    /// Builds and verifies `slots` sessions: signature, golden rows, warm-up. Nothing can ask it before this returns.
    pub(crate) fn build(
        bundle: &Bundle,
        (runtime, deadline): (&Runtime, Option<Span>),
        slots: usize,
        counted: Arc<Counted>,
    ) -> Result<Self, BundleError> {
        let manifest = &bundle.manifest;
        let refuse = |check, detail| BundleError::refused(manifest.name(), check, detail);
        let bytes = bundle.file(MODEL_FILE).ok_or_else(|| refuse(Check::Files, format!("no {MODEL_FILE}")))?;
        let mut built = Vec::with_capacity(slots.max(1));
        for _ in 0..slots.max(1) {
            // The binding panics on graphs with types it does not know; a bad bundle must be an error.
            let session = catch_unwind(AssertUnwindSafe(|| session(runtime, bytes)))
                .unwrap_or_else(|_| Err("the graph uses a type that the binding does not know".into()))
                .map_err(|detail| refuse(Check::Session, detail))?;
            manifest.check_signature(&specs(session.inputs()), &specs(session.outputs()))?;
            let slot = Slot::new(session, manifest).map_err(|e| refuse(Check::Session, e.to_string()))?;
            built.push(Mutex::new(slot));
        }
        let predictor = Self {
            slots: built,
            version: manifest.version,
            digest: bundle.digest.as_str().into(),
            input_width: manifest.input_width(),
            output_width: manifest.output_width(),
            _counted: counted,
        };
        predictor.prove(manifest)?;
        deadline.map_or(Ok(()), |deadline| predictor.keeps(deadline, manifest))?;
        Ok(predictor)
    }

    /// Whether it can answer within `deadline`: the quickest of some runs, so that a busy machine condemns nobody.
    fn keeps(&self, deadline: Span, manifest: &Manifest) -> Result<(), BundleError> {
        let (clock, mut out) = (RealClock::default(), vec![0.0; self.output_width]);
        let Some((slot, row)) = self.slots.first().zip(manifest.warm_up.first()) else { return Ok(()) };
        let mut slot = slot.lock();
        let mut quickest = Span::MAX;
        for _ in 0..TIMED {
            let started = clock.now();
            let answered = slot.run(row, &mut out);
            quickest = quickest.min(clock.now().since(started));
            if answered.is_ok() && quickest <= deadline {
                return Ok(());
            }
        }
        let detail = format!("the quickest of {TIMED} answers took {quickest:?}, models.deadline is {deadline:?}");
        Err(BundleError::refused(manifest.name(), Check::Slow, detail))
    }

    /// All golden rows on the first session, one on each other; every warm-up row on each.
    fn prove(&self, manifest: &Manifest) -> Result<(), BundleError> {
        let mut out = vec![0.0; self.output_width];
        for (index, slot) in self.slots.iter().enumerate() {
            let mut slot = slot.lock();
            let rows = if index == 0 { manifest.golden.as_slice() } else { manifest.golden.get(..1).unwrap_or_default() };
            for (n, GoldenRow { features, .. }) in rows.iter().enumerate() {
                let failed = |e: PredictError| BundleError::refused(manifest.name(), Check::Session, format!("golden row {n}: {e}"));
                slot.run(features, &mut out).map_err(failed)?;
                manifest.check_golden(n, &rows[n], &out)?;
            }
            for (n, row) in manifest.warm_up.iter().enumerate() {
                let failed = |e: PredictError| BundleError::refused(manifest.name(), Check::Session, format!("warm-up row {n}: {e}"));
                slot.run(row, &mut out).map_err(failed)?;
                if out.iter().any(|x| !x.is_finite()) {
                    return Err(BundleError::refused(manifest.name(), Check::Finite, format!("warm-up row {n} gives {out:?}")));
                }
            }
        }
        Ok(())
    }

    /// A free session: the thread's own if possible, else any, else the own one after a bounded wait.
    fn slot(&self) -> Option<MutexGuard<'_, Slot>> {
        let own = own_index();
        for _ in 0..WAITS {
            let free = (0..self.slots.len()).find_map(|n| self.slots[(own + n) % self.slots.len()].try_lock());
            if let Some(slot) = free.or_else(|| self.slots[own % self.slots.len()].try_lock_for(WAIT)) {
                return Some(slot);
            }
        }
        None
    }
}

impl Predictor for OnnxPredictor {
    fn predict(&self, features: &[f32], out: &mut [f32]) -> Result<(), PredictError> {
        for (expected, got) in [(self.input_width, features.len()), (self.output_width, out.len())] {
            if expected != got {
                return Err(PredictError::Shape { expected, got });
            }
        }
        self.slot().ok_or(PredictError::Busy)?.run(features, out)?;
        if out.iter().all(|x| x.is_finite()) { Ok(()) } else { Err(PredictError::NotFinite) }
    }
    fn by(&self) -> By {
        By::Model(self.version)
    }
    fn digest(&self) -> Arc<str> {
        Arc::clone(&self.digest)
    }
}

impl Slot {
    fn new(session: Session, manifest: &Manifest) -> ort::Result<Self> {
        let (inputs, outputs) = (manifest.input_width(), manifest.output_width());
        let input = Tensor::from_array(([1, inputs], vec![0.0_f32; inputs]))?;
        let output = Tensor::from_array(([1, outputs], vec![0.0_f32; outputs]))?;
        let selector = OutputSelector::no_default().with(OUTPUT_NAME).preallocate(OUTPUT_NAME, output);
        Ok(Self { session, input, options: RunOptions::new()?.with_outputs(selector) })
    }

    /// `features` has the length of the input and `out` that of the output.
    fn run(&mut self, features: &[f32], out: &mut [f32]) -> Result<(), PredictError> {
        let failed = |e: ort::Error| PredictError::Runtime(e.to_string().into());
        let (_, row) = self.input.try_extract_tensor_mut::<f32>().map_err(failed)?;
        row.copy_from_slice(features);
        let outputs = self.session.run_with_options(ort::inputs![&self.input], &self.options).map_err(failed)?;
        let (_, answer) = outputs[0].try_extract_tensor::<f32>().map_err(failed)?;
        if answer.len() != out.len() {
            return Err(PredictError::Shape { expected: out.len(), got: answer.len() });
        }
        out.copy_from_slice(answer);
        Ok(())
    }
}

/// Index of this thread among those that ever predicted: neighbours in time use different sessions.
fn own_index() -> usize {
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static INDEX: usize = THREADS.fetch_add(1, Ordering::Relaxed);
    }
    INDEX.with(|index| *index)
}

/// One row takes microseconds: threads of the library's own, and their spinning, would only cost.
fn session(runtime: &Runtime, model: &[u8]) -> Result<Session, String> {
    let text = |e: ort::Error<SessionBuilder>| e.to_string();
    Session::builder(runtime.environment())
        .map_err(|e| e.to_string())?
        .with_optimization_level(GraphOptimizationLevel::All)
        .map_err(text)?
        .with_intra_threads(1)
        .map_err(text)?
        .with_inter_threads(1)
        .map_err(text)?
        .with_intra_op_spinning(false)
        .map_err(text)?
        .with_inter_op_spinning(false)
        .map_err(text)?
        .commit_from_memory(model)
        .map_err(|e| e.to_string())
}

fn specs(outlets: &[Outlet]) -> Vec<TensorSpec> {
    let spec = |outlet: &Outlet| {
        let ty = match outlet.dtype().tensor_type() {
            Some(TensorElementType::Float32) => ElementType::F32,
            Some(TensorElementType::Float64) => ElementType::F64,
            Some(TensorElementType::Int64) => ElementType::I64,
            _ => ElementType::Other,
        };
        let shape = outlet.dtype().tensor_shape().map(|shape| shape.to_vec()).unwrap_or_default();
        TensorSpec { name: outlet.name().to_owned(), ty, shape }
    };
    outlets.iter().map(spec).collect()
}

//! The native ONNX Runtime library: found, loaded once per process, errors as values.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use farthing_contract::native;
use ort::environment::Environment;
use ort::logging::LogLevel;
use parking_lot::Mutex;

use crate::ModelsError;

pub use native::LIBRARY_VARIABLE;

/// The loaded library. Cheap to clone; the library stays loaded until the process ends.
#[derive(Clone, Debug)]
pub struct Runtime(Arc<Loaded>);

#[derive(Debug)]
struct Loaded {
    environment: Environment,
    path: PathBuf,
}

/// ONNX Runtime allows one environment per process, so the first success serves everyone.
static LOADED: Mutex<Option<Runtime>> = Mutex::new(None);

impl Runtime {
    /// Loads the library from `explicit` (a file, or a directory that holds it); without it from `FARTHING_ONNXRUNTIME`;
    /// without that from beside the program, from `lib/` beside its directory, or from `target/onnxruntime` of the working directory or
    /// of one above the program. Once loaded, later calls give the same library whatever path they name.
    ///
    /// # Errors
    /// [`ModelsError::LibraryNotFound`] or [`ModelsError::Library`]; a later call may try again.
    pub fn load(explicit: Option<&Path>) -> Result<Self, ModelsError> {
        let mut loaded = LOADED.lock();
        if let Some(runtime) = loaded.as_ref() {
            return Ok(runtime.clone());
        }
        let path = native::find(explicit).map_err(|looked| ModelsError::LibraryNotFound { looked })?;
        // The binding asserts on libraries that are no ONNX Runtime at all; that must not end the proxy.
        let environment = catch_unwind(AssertUnwindSafe(|| initialise(&path)))
            .unwrap_or_else(|_| Err("the library does not behave like ONNX Runtime".into()))
            .map_err(|detail| ModelsError::Library { path: path.clone(), detail })?;
        let runtime = Self(Arc::new(Loaded { environment, path }));
        *loaded = Some(runtime.clone());
        Ok(runtime)
    }

    /// The file that was loaded.
    pub fn path(&self) -> &Path {
        &self.0.path
    }
    pub(crate) fn environment(&self) -> &Environment {
        &self.0.environment
    }
}

fn initialise(path: &Path) -> Result<Environment, String> {
    native::keeps_to_itself(path, native::telemetry_is_off())?;
    let builder = ort::init_from(path).map_err(|e| e.to_string())?;
    let environment =
        builder.with_name("farthing").with_telemetry(false).with_logger(Arc::new(forward)).build().map_err(|e| e.to_string())?;
    // With a logger of ours the library starts at its most verbose level.
    environment.set_log_level(LogLevel::Warning);
    Ok(environment)
}

/// The library's own messages: what matters also comes back as an error value, so they are for diagnosis only.
fn forward(level: LogLevel, category: &str, _id: &str, _place: &str, message: &str) {
    tracing::debug!(?level, category, message, "onnx runtime");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_library_is_an_error_that_says_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("libonnxruntime.so");
        std::fs::write(&path, b"not a library").unwrap();
        let error = ModelsError::Library { path: path.clone(), detail: initialise(&path).unwrap_err() }.to_string();
        assert!(error.contains("libonnxruntime.so") && error.contains("make deps"), "{error}");
        let missing = ModelsError::LibraryNotFound { looked: path.display().to_string() }.to_string();
        assert!(missing.contains("FARTHING_ONNXRUNTIME"), "{missing}");
        let detail = native::keeps_to_itself(Path::new("libonnxruntime.so.1.29.0"), false).unwrap_err();
        let error = ModelsError::Library { path: "x".into(), detail }.to_string();
        let bounds = format!("1.24 to 1.{}, or newer with {}=1", native::REPORTS_SINCE - 1, native::NO_TELEMETRY);
        assert!(error.contains("reports to its maker") && error.contains(&bounds), "{error}");
    }
}

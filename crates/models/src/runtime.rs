//! The native ONNX Runtime library: found, loaded once per process, errors as values.

use std::ffi::OsStr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ort::environment::Environment;
use ort::logging::LogLevel;
use parking_lot::Mutex;

use crate::ModelsError;

/// Environment variable with the path of the library, or of its directory.
pub const LIBRARY_VARIABLE: &str = "FARTHING_ONNXRUNTIME";

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
        let path = find(&places(explicit))?;
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

/// Setting it (to anything but nothing) keeps the library from reporting to its maker.
const NO_TELEMETRY: &str = "ORT_DISABLE_TELEMETRY";
/// The first minor version of 1.x that reports to its maker on Linux unless [`NO_TELEMETRY`] is set before it is loaded.
const REPORTS_SINCE: u32 = 29;

/// Refuses a library that would report to its maker: what runs here is nobody else's business, and switching the reports off after loading
/// comes too late. Goes by the version in the file's name.
fn keeps_to_itself(path: &Path, switched_off: bool) -> Result<(), String> {
    let resolved = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    let minor =
        resolved.file_name().and_then(|n| n.to_str()).and_then(|n| n.split(".so.1.").nth(1)?.split('.').next()?.parse::<u32>().ok());
    if switched_off || minor.is_none_or(|minor| minor < REPORTS_SINCE) {
        return Ok(());
    }
    Err("this version reports to its maker".to_owned())
}

fn initialise(path: &Path) -> Result<Environment, String> {
    keeps_to_itself(path, std::env::var_os(NO_TELEMETRY).is_some_and(|v| !v.is_empty()))?;
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

fn places(explicit: Option<&Path>) -> Vec<PathBuf> {
    if let Some(path) = explicit {
        return vec![path.to_path_buf()];
    }
    if let Some(path) = std::env::var_os(LIBRARY_VARIABLE).filter(|value| !value.is_empty()) {
        return vec![path.into()];
    }
    let mut places = Vec::new();
    if let Some(folder) = std::env::current_exe().ok().as_deref().and_then(Path::parent) {
        places.push(folder.to_path_buf());
        places.extend(folder.parent().map(|above| above.join("lib")));
        places.extend(folder.ancestors().map(|above| above.join("target/onnxruntime")));
    }
    places.push("target/onnxruntime".into());
    places
}

fn find(places: &[PathBuf]) -> Result<PathBuf, ModelsError> {
    places.iter().find_map(|place| library_at(place)).ok_or_else(|| ModelsError::LibraryNotFound { looked: list(places) })
}

fn list(places: &[PathBuf]) -> String {
    // Every directory above the program is looked at; naming the ends of that list is enough to act on.
    let shown: Vec<String> = match places {
        [first, second, .., last] => [first, second, last].iter().map(|p| p.display().to_string()).collect(),
        few => few.iter().map(|p| p.display().to_string()).collect(),
    };
    shown.join(", ")
}

/// The file itself, or the library in a directory; of several the one with the greatest name.
fn library_at(place: &Path) -> Option<PathBuf> {
    if place.is_file() {
        return absolute(place);
    }
    let names = std::fs::read_dir(place).ok()?.filter_map(|entry| Some(entry.ok()?.file_name()));
    names.filter(|name| is_library(name)).max().and_then(|name| absolute(&place.join(name)))
}

/// The loader would search the system's folders for a bare name.
fn absolute(path: &Path) -> Option<PathBuf> {
    std::path::absolute(path).ok()
}

fn is_library(name: &OsStr) -> bool {
    name.to_str()
        .is_some_and(|name| name == "libonnxruntime.so" || name.starts_with("libonnxruntime.so.") || name == "libonnxruntime.dylib")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_that_reports_to_its_maker_is_refused() {
        for (name, switched_off, loads) in [
            ("libonnxruntime.so.1.28.0", false, true),
            ("libonnxruntime.so.1.29.0", false, false),
            ("libonnxruntime.so.1.31.1", false, false),
            ("libonnxruntime.so.1.31.1", true, true),
            ("libonnxruntime.so", false, true),
        ] {
            assert_eq!(keeps_to_itself(Path::new(name), switched_off).is_ok(), loads, "{name} {switched_off}");
        }
        let detail = keeps_to_itself(Path::new("libonnxruntime.so.1.29.0"), false).unwrap_err();
        let error = ModelsError::Library { path: "x".into(), detail }.to_string();
        let bounds = format!("1.24 to 1.{}, or newer with {NO_TELEMETRY}=1", REPORTS_SINCE - 1);
        assert!(error.contains("reports to its maker") && error.contains(&bounds), "{error}");
    }

    #[test]
    fn the_library_is_found_by_file_and_by_directory() {
        let folder = tempfile::tempdir().unwrap();
        let touch = |name: &str| std::fs::write(folder.path().join(name), b"").unwrap();
        assert!(matches!(find(&[folder.path().into()]), Err(ModelsError::LibraryNotFound { .. })));
        touch("libonnxruntime_providers_shared.so");
        assert_eq!(library_at(folder.path()), None);
        touch("libonnxruntime.so.1.31.1");
        touch("libonnxruntime.so.1.32.0");
        let newest = folder.path().join("libonnxruntime.so.1.32.0");
        assert_eq!(find(&["/nowhere".into(), folder.path().into()]).unwrap(), newest);
        assert_eq!(library_at(&newest), Some(newest));
    }

    #[test]
    fn an_explicit_path_is_the_only_one_tried() {
        assert_eq!(places(Some(Path::new("/x"))), [PathBuf::from("/x")]);
    }

    #[test]
    fn what_is_no_library_is_an_error_that_says_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("libonnxruntime.so");
        std::fs::write(&path, b"not a library").unwrap();
        let error = ModelsError::Library { path: path.clone(), detail: initialise(&path).unwrap_err() }.to_string();
        assert!(error.contains("libonnxruntime.so") && error.contains("make deps"), "{error}");
        let missing = ModelsError::LibraryNotFound { looked: list(&[path]) }.to_string();
        assert!(missing.contains("FARTHING_ONNXRUNTIME"), "{missing}");
    }
}

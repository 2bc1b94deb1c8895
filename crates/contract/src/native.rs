//! Where the native ONNX Runtime library lies, and whether it may be loaded: the same answer for the proxy and the trainer. Loading it is
//! theirs; this crate knows no runtime.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// Environment variable with the path of the library, or of its directory.
pub const LIBRARY_VARIABLE: &str = "FARTHING_ONNXRUNTIME";

/// The library at `explicit` (a file, or a directory that holds it); without it at `FARTHING_ONNXRUNTIME`; without that beside the program,
/// in `lib/` beside its directory, or in `target/onnxruntime` of the working directory or of one above the program.
///
/// # Errors
/// Where it was looked for, for a message.
pub fn find(explicit: Option<&Path>) -> Result<PathBuf, String> {
    find_in(&places(explicit))
}

/// Whether the environment tells the library not to report to its maker.
pub fn telemetry_is_off() -> bool {
    std::env::var_os(NO_TELEMETRY).is_some_and(|v| !v.is_empty())
}

/// Setting it (to anything but nothing) keeps the library from reporting to its maker.
pub const NO_TELEMETRY: &str = "ORT_DISABLE_TELEMETRY";
/// The first minor version of 1.x that reports to its maker on Linux unless [`NO_TELEMETRY`] is set before it is loaded.
pub const REPORTS_SINCE: u32 = 29;

/// Refuses a library that would report to its maker: what runs here is nobody else's business, and switching the reports off after loading
/// comes too late. Goes by the version in the file's name.
///
/// # Errors
/// What is wrong, for a message.
pub fn keeps_to_itself(path: &Path, switched_off: bool) -> Result<(), String> {
    let resolved = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    let minor =
        resolved.file_name().and_then(|n| n.to_str()).and_then(|n| n.split(".so.1.").nth(1)?.split('.').next()?.parse::<u32>().ok());
    if switched_off || minor.is_none_or(|minor| minor < REPORTS_SINCE) {
        return Ok(());
    }
    Err("this version reports to its maker".to_owned())
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

fn find_in(places: &[PathBuf]) -> Result<PathBuf, String> {
    places.iter().find_map(|place| library_at(place)).ok_or_else(|| list(places))
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
    }

    #[test]
    fn the_library_is_found_by_file_and_by_directory() {
        let folder = tempfile::tempdir().unwrap();
        let touch = |name: &str| std::fs::write(folder.path().join(name), b"").unwrap();
        assert_eq!(find_in(&[folder.path().into()]).unwrap_err(), folder.path().display().to_string());
        touch("libonnxruntime_providers_shared.so");
        assert_eq!(library_at(folder.path()), None);
        touch("libonnxruntime.so.1.31.1");
        touch("libonnxruntime.so.1.32.0");
        let newest = folder.path().join("libonnxruntime.so.1.32.0");
        assert_eq!(find_in(&["/nowhere".into(), folder.path().into()]).unwrap(), newest);
        assert_eq!(library_at(&newest), Some(newest));
    }

    #[test]
    fn an_explicit_path_is_the_only_one_tried() {
        assert_eq!(places(Some(Path::new("/x"))), [PathBuf::from("/x")]);
    }
}

//! Runs the trainer on the log that the demo has just written.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use farthing_contract::bundle::{Alias, Bundle, GateCheck, Kind, disk};

/// How the trainer ended.
#[derive(Debug)]
pub enum Fitted {
    /// It published a version.
    Published {
        /// Checks of the gate that a log of some seconds did not pass. The demo publishes by force and shows on traffic what the model
        /// is worth, which is what the checks are there to foretell.
        refused: Vec<String>,
    },
    /// Nothing was published; why, and what happens instead.
    Not(String),
}

/// Name of the trainer's program.
const PROGRAM: &str = "farthing-train";

/// The trainer: named by the environment, beside this program, or in a sibling folder of the same build.
pub fn find() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("FARTHING_TRAIN").filter(|p| !p.is_empty()) {
        return Some(PathBuf::from(path)).filter(|p| p.is_file());
    }
    let own = std::env::current_exe().ok()?;
    let beside = own.parent()?;
    let profiles = ["release", "dist", "debug"].into_iter().map(|profile| beside.with_file_name(profile).join(PROGRAM));
    std::iter::once(beside.join(PROGRAM)).chain(profiles).find(|p| p.is_file())
}

/// Fits a `ttl` predictor on the logs below `dir` and publishes it to `dir/models`; gives up after `limit`. Blocks.
pub fn run(dir: &Path, limit: Duration) -> Fitted {
    let Some(program) = find() else {
        return Fitted::Not(format!("{PROGRAM} was not found (build it with `make trainer` or name it in FARTHING_TRAIN); rules decide"));
    };
    match fit(&program, dir, limit) {
        Ok(Some(0)) => Fitted::Published { refused: refused(&dir.join("models")) },
        Ok(code) => {
            let code = code.map_or_else(|| "a signal".to_owned(), |c| format!("code {c}"));
            Fitted::Not(format!("{PROGRAM} ended with {code}: {}; rules decide", last_line(&dir.join("fit.txt"))))
        }
        Err(error) => Fitted::Not(format!("{}: {error}; rules decide", program.display())),
    }
}

fn fit(program: &Path, dir: &Path, limit: Duration) -> std::io::Result<Option<i32>> {
    let output = std::fs::File::create(dir.join("fit.txt"))?;
    let mut child = Command::new(program)
        .args(["fit", "ttl", "--logs"])
        .arg(dir.join("logs").join("**").join("*.parquet"))
        .arg("--out")
        .arg(dir.join("models"))
        .arg("--force")
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .spawn()?;
    // Steps instead of a clock: the limit need not be exact, and it must not depend on the scaled time of the demo.
    let step = Duration::from_millis(50);
    for _ in 0..(limit.as_millis() / step.as_millis()).max(1) {
        if let Some(status) = child.try_wait()? {
            return Ok(status.code());
        }
        std::thread::sleep(step);
    }
    child.kill()?;
    child.wait()?;
    Err(std::io::Error::other(format!("was not done after {} s and was ended", limit.as_secs())))
}

/// The checks that the champion under `root` failed; none when it cannot be read, which its promotion will tell.
fn refused(root: &Path) -> Vec<String> {
    let aliases = disk::read_aliases(root).ok();
    let version = aliases.and_then(|a| a.get(Kind::Ttl, Alias::Champion).map(|target| target.current.version));
    let gate = version.and_then(|v| Bundle::read(root, Kind::Ttl, v).ok()).and_then(|bundle| bundle.manifest.gate);
    let failed = |check: GateCheck| (check.verdict == "failed").then_some(check.name);
    gate.map(|gate| gate.checks.into_iter().filter_map(failed).collect()).unwrap_or_default()
}

fn last_line(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().rev().find(|l| !l.trim().is_empty()).unwrap_or("it said nothing").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn script(dir: &Path, text: &str) -> PathBuf {
        let path = dir.join("train");
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[test]
    fn the_trainers_end_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let long = Duration::from_secs(60);
        assert_eq!(fit(&script(dir.path(), "exit 3"), dir.path(), long).unwrap(), Some(3));
        assert_eq!(fit(&script(dir.path(), "echo \"$@\"; exit 1"), dir.path(), long).unwrap(), Some(1));
        assert!(last_line(&dir.path().join("fit.txt")).starts_with("fit ttl --logs "));
        let error = fit(&script(dir.path(), "exec sleep 600"), dir.path(), Duration::from_millis(100)).unwrap_err();
        assert!(error.to_string().contains("was not done"), "{error}");
        assert!(fit(&dir.path().join("absent"), dir.path(), long).is_err());
    }
}

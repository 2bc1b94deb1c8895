//! Saying what is not tested here, so that nobody takes silence for success.

use std::io::Write;

/// Adds a line to the list that `make test` prints at its end, and says it on the spot. `optional: ` at the beginning marks what
/// even CI may do without.
#[expect(clippy::print_stderr, reason = "a skipped test must be seen")]
pub fn skip(what: &str) {
    eprintln!("SKIPPED: {what}");
    if let Some(path) = std::env::var_os("FARTHING_SKIPPED")
        && let Ok(mut file) = std::fs::OpenOptions::new().append(true).create(true).open(path)
    {
        let _ = writeln!(file, "{what}");
    }
}

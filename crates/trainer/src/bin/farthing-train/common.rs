//! What the commands share: parsers of arguments, the progress bar.

use std::io::IsTerminal;

use farthing_contract::bundle::Alias;
use farthing_trainer::learn::Watch;
use indicatif::{ProgressBar, ProgressStyle};

/// Prints to the standard output; a reader that has left (`| head`) is no error.
pub fn out(text: &str) {
    use std::io::Write;
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}

/// A number strictly between 0 and 1.
pub fn share(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| format!("`{text}` is not a number"))?;
    if value > 0.0 && value < 1.0 { Ok(value) } else { Err(format!("{value} is not a share: give a number between 0 and 1, like 0.005")) }
}

/// An alias by name.
pub fn alias(text: &str) -> Result<Alias, String> {
    Alias::parse(text).ok_or_else(|| format!("`{text}` is no alias: give champion, challenger or shadow"))
}

/// A progress bar on a terminal, nothing elsewhere.
pub struct Bar(ProgressBar);

impl Bar {
    /// Shown on a terminal unless `quiet`.
    pub fn new(quiet: bool) -> Self {
        let bar = if quiet || !std::io::stderr().is_terminal() { ProgressBar::hidden() } else { ProgressBar::new(1) };
        let style = ProgressStyle::with_template("{msg:<18} {wide_bar} {pos}/{len}").unwrap_or_else(|_| ProgressStyle::default_bar());
        bar.set_style(style);
        Self(bar)
    }
}

impl Watch for Bar {
    fn step(&self, what: &'static str, done: usize, of: usize) {
        self.0.set_message(what);
        self.0.set_length(of as u64);
        self.0.set_position(done as u64);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

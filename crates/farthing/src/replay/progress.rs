//! Progress of a replay: a bar on a terminal, nothing elsewhere.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressStyle};

/// A bar on standard error.
pub struct Progress(ProgressBar);

impl Progress {
    /// Shown on a terminal.
    pub fn new() -> Self {
        let bar = if std::io::stderr().is_terminal() { ProgressBar::new(1) } else { ProgressBar::hidden() };
        let style = ProgressStyle::with_template("{msg:<24} {wide_bar} {percent:>3} %").unwrap_or_else(|_| ProgressStyle::default_bar());
        bar.set_style(style);
        Self(bar)
    }
    /// What is being done now, from its beginning.
    pub fn say(&self, what: &str) {
        self.0.set_message(what.to_owned());
        self.0.set_length(1);
        self.0.set_position(0);
    }
    /// How far it is.
    pub fn at(&self, done: usize, of: usize) {
        self.0.set_length(of as u64);
        self.0.set_position(done as u64);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

//! Live figures: one line that renews itself on a terminal, a plain line now and then elsewhere. Always on standard error.

use std::io::{IsTerminal, Write};

use super::report::Phase;

/// Plain lines between two ticks of the progress.
const PLAIN_EVERY: u32 = 20;

/// Where progress goes.
pub struct Progress {
    terminal: bool,
    ticks: u32,
}

impl Progress {
    /// Progress on standard error.
    pub fn new() -> Self {
        Self { terminal: std::io::stderr().is_terminal(), ticks: 0 }
    }

    /// Shows a phase as it stands; call it a few times a second.
    pub fn show(&mut self, phase: &Phase) {
        self.ticks += 1;
        if self.terminal {
            eprint!("\r\x1b[2K{}", line(phase));
            let _ = std::io::stderr().flush(); // progress only
        } else if self.ticks.is_multiple_of(PLAIN_EVERY) {
            eprintln!("{}", line(phase));
        }
    }

    /// Shows a phase that has ended; the line stays.
    pub fn done(&mut self, phase: &Phase) {
        self.say(&line(phase));
    }

    /// Says something that stays.
    pub fn say(&mut self, text: &str) {
        if self.terminal {
            eprint!("\r\x1b[2K");
        }
        eprintln!("{text}");
    }
}

fn line(phase: &Phase) -> String {
    format!(
        "{:<10} {:>8} requests  bill ${:>8.2}  without ${:>8.2}  hits {:>5.1} %  stale {:>5.2} %",
        phase.name,
        phase.requests,
        phase.actual_usd,
        phase.baseline_usd,
        phase.hit_ratio * 100.0,
        phase.stale_share * 100.0
    )
}

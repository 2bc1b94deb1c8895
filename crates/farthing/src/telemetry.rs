//! Messages of the program on standard error.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// Text, or JSON lines with `FARTHING_LOG_FORMAT=json`; `FARTHING_LOG` filters (`info`, `farthing_proxy=debug` ...).
pub fn init() {
    let filter = EnvFilter::try_from_env("FARTHING_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    let builder = builder.with_ansi(std::io::stderr().is_terminal());
    let json = std::env::var("FARTHING_LOG_FORMAT").is_ok_and(|format| format == "json");
    // A second call (tests) leaves the first in place.
    let _ = if json { builder.json().try_init() } else { builder.try_init() };
}

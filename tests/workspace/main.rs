//! What must hold for the tree as a whole: arrows between crates, documents that follow the code.
//! A test belongs here when it reads files of the repository instead of running the program.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a test says what went wrong by failing, and may spawn what ends with it"
)]

mod arrows;
mod deploy;
mod requirements;

use std::path::PathBuf;

/// The root of the repository.
fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

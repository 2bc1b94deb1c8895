//! The loop that nobody attends (SPEC M7): a proxy in virtual time writes a real log, the built trainer learns from it between times, challengers prove themselves and are promoted or
//! taken back. Nobody touches anything.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a test says what went wrong by failing, and runs the trainer to its end"
)]

mod jump;
#[path = "../e2e/program.rs"]
#[allow(dead_code, reason = "it serves other tests, too")]
mod program;
mod world;

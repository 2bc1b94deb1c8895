//! M3, M5, M7 on the path that serves, in virtual time: candidates that are sound and poisoned ones, a champion that misleads, audits, and the
//! freeze. What they cost is the bill with stale answers at their price, against the same day without them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, reason = "helpers of tests may fail the test")]

mod audits;
mod beside;
mod candidates;
mod doubted;
mod named;
mod world;

//! Seeded simulations with known truth: false alarms under peeking, coverage at all times, power, regret, guardrails, sample ratio, savings.

#![allow(clippy::print_stdout, reason = "the long forms print their tables")]
#![expect(clippy::unwrap_used, reason = "a simulation that cannot be set up must stop the test")]

mod bandit;
mod conserve;
mod contexts;
mod full;
mod records;
mod savings;
mod short;
mod tuning;
mod world;

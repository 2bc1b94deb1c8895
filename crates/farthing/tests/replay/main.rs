//! `farthing replay` against logs whose making is known.
//!
//! The proxy's own request path runs in virtual time before a provider in memory (`virtually`), writes its Parquet log, and the program
//! replays it: nothing may differ.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a test says what went wrong by failing, and may spawn what ends with it"
)]

mod exact;
mod provider;
mod virtually;
mod world;

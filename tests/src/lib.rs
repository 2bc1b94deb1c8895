//! Support for the end-to-end tests: an origin that does what a test says and remembers what it was sent, a proxy in front of it,
//! and a plain client. Everything on free ports, nothing outlives the test.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a test says what went wrong by failing, and may spawn what ends with it"
)]

pub mod client;
pub mod origin;
pub mod proxy;
pub mod skip;

pub use client::{Answer, Client};
pub use origin::{Origin, Script, Seen};
pub use proxy::{Setup, Started};

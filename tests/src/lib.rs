//! Support for the end-to-end tests: an origin that does what a test says and remembers what it was sent, a proxy in front of it,
//! and a plain client. Everything on free ports, nothing outlives the test.

pub mod client;
pub mod origin;
pub mod proxy;
pub mod skip;

pub use client::{Answer, Client};
pub use origin::{Origin, Script, Seen};
pub use proxy::{Setup, Started};

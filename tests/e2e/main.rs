//! The whole proxy over loopback. A test belongs here when it needs real sockets, real clients or real processes; everything that a pure
//! core or one crate can show is tested there.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a test says what went wrong by failing, and may spawn what ends with it"
)]

mod answers;
mod badinput;
mod budgets;
mod bundles;
mod clients;
mod compression;
mod content;
mod costs;
mod dashboard;
mod degraded;
mod durability;
mod events;
mod fidelity;
mod fills;
mod fleet;
mod fleet_budgets;
mod fleet_limits;
mod fleet_script;
mod forward;
mod identity;
mod l2;
mod limits;
mod limits_script;
mod live;
mod model_store;
mod parity;
mod program;
mod prompts;
mod purge;
mod refill;
mod reload;
mod rolling;
mod secured;
mod semantics;
mod shortcuts;
mod sinks;
mod stampede;
mod swaps;
mod tls;
mod traces;
mod tunnels;
mod warm;

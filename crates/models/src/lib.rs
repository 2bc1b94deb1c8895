//! Predictors through ONNX Runtime: store, verify, warm, swap.
//!
//! A [`Store`] follows `aliases.json` and holds one [`Generation`] per alias behind an `ArcSwap`. A version goes live only after its
//! files, features, signature, golden rows and speed were checked and its sessions are warm; the two champions before stay warm, older ones
//! are freed with their last borrower. Who moved what and why is kept in the store's history.
//! Where instances share an object store ([`Remote`]), the folder is a mirror of it: versions and aliases come from there, and what is ordered goes there first.
//! Without the native library ([`Runtime::load`] says why) generations run on their tables, or are refused, and rules decide.

mod changes;
mod count;
mod error;
mod generation;
mod info;
mod mirror;
mod onnx;
mod remote;
mod runtime;
mod share;
mod store;
mod unattended;

pub use changes::Order;
pub use count::Counts;
pub use error::ModelsError;
pub use farthing_contract::bundle::{Action, Alias, Event, Kind};
pub use farthing_policy::read_table;
pub use generation::{Generation, TableReader};
pub use info::{AliasInfo, Status, VersionInfo};
pub use mirror::{Differing, Instance};
pub use remote::{Got, Remote, When};
pub use runtime::{LIBRARY_VARIABLE, Runtime};
pub use store::{Change, Store, StoreOptions};

//! Predictors through ONNX Runtime: store, verify, warm, swap.
//!
//! A [`Store`] follows `aliases.json` and holds one [`Generation`] per alias behind an `ArcSwap`. A version goes live only after its
//! files, features, signature and golden rows were checked and its sessions are warm; the old generation is freed with its last borrower.
//! Without the native library ([`Runtime::load`] says why) generations run on their tables, or are refused, and rules decide.

mod count;
mod error;
mod generation;
mod info;
mod onnx;
mod runtime;
mod store;

pub use count::Counts;
pub use error::ModelsError;
pub use farthing_contract::bundle::{Alias, Kind};
pub use farthing_policy::read_table;
pub use generation::{Generation, TableReader};
pub use info::{AliasInfo, Status, VersionInfo};
pub use runtime::{LIBRARY_VARIABLE, Runtime};
pub use store::{Change, Store, StoreOptions};

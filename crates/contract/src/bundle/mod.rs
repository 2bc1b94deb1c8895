//! Bundles: how a trained predictor lies on disk, what must hold before it may decide, and which version decides now.
//!
//! ```text
//! models/
//!   aliases.json              which version each alias of each kind names (module `aliases`)
//!   history.jsonl             who moved them, when and why (module `history`)
//!   frozen.json               who has frozen automation (module `frozen`)
//!   named.json                versions that experiments name (module `named`)
//!   ttl/
//!     1/ manifest.json        everything about the version (module `manifest`)
//!        model.onnx           the predictor, and/or
//!        table.bin            trees (module `table`) for proxies without the native library
//!        manifest.sig         who has signed it (module `signing`), where somebody has
//!     2/ ...
//! ```
//! Instances that share an object store have the same versions there, and aliases and history in one object (module `shared`).
//! A version is a directory that appears complete, by a rename (module `disk`), and never changes afterwards.
//! Its digest is the SHA-256 of `manifest.json` as stored; the manifest holds the digests of the other files.

pub mod aliases;
mod attribution;
pub mod disk;
mod error;
pub mod frozen;
pub mod history;
pub mod manifest;
pub mod named;
mod pretty;
pub mod shared;
pub mod signing;
pub mod table;

pub use aliases::{Alias, AliasState, Aliases, Target};
pub use attribution::{Attribution, Explainer};
pub use disk::{Bundle, Published, publish, publish_signed};
use error::parse_known;
pub use error::{BundleError, Check};
pub use frozen::Frozen;
pub use history::{Action, Event, History};
pub use manifest::{ElementType, FileRef, GateCheck, GateRecord, GoldenRow, Kind, Manifest, OperatingPoint, TensorSpec, Training};
pub use named::Named;
pub use shared::{SHARED_FILE, Shared};
pub use signing::{PublicKey, SIGNATURE_FILE, SigningKey};
pub use table::Table;

/// Newest manifest and alias format this build writes; it reads this one and all before it.
pub const FORMAT: u32 = 1;
/// File name of the manifest within a version's directory.
pub const MANIFEST_FILE: &str = "manifest.json";
/// File name of the ONNX predictor.
pub const MODEL_FILE: &str = "model.onnx";
/// File name of the table that stands in for the ONNX predictor where the native library is absent.
pub const TABLE_FILE: &str = "table.bin";
/// File name of the predictor's trees in the form of [`TABLE_FILE`], for explaining it and for judging its successors; absent where the
/// predictor is no tree ensemble. What decides is [`MODEL_FILE`].
pub const TREES_FILE: &str = "trees.bin";
/// File name of the aliases within the root of the store.
pub const ALIASES_FILE: &str = "aliases.json";
/// File name of the changes of aliases within the root of the store.
pub const HISTORY_FILE: &str = "history.jsonl";
/// File name of who has frozen automation, within the root of the store.
pub const FROZEN_FILE: &str = "frozen.json";
/// File name of the versions that experiments name, within the root of the store.
pub const NAMED_FILE: &str = "named.json";
/// Golden rows agree when no output differs by more than this.
pub const GOLDEN_TOLERANCE: f32 = 1e-5;
/// Name of the single input of every predictor: one row of features per decision, `[batch, features]`.
pub const INPUT_NAME: &str = "features";
/// Name of the single output of every predictor: `[batch, outputs]`; for `ttl` one log hazard (ln 1/s) per age interval.
pub const OUTPUT_NAME: &str = "outputs";

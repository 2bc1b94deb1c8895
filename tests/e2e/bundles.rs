//! Bundles to swap: sound ones and such as must never go live.

use std::path::{Path, PathBuf};

pub use common::runtime;
use farthing_contract::bundle::disk::versions;
use farthing_contract::bundle::{Bundle, Kind, MODEL_FILE, Manifest, OperatingPoint, Published, TABLE_FILE, publish};
use farthing_contract::features::{TTL_FEATURES, TTL_OUTPUTS};

/// The bundles of the store's own tests: one place knows how to make one by hand.
#[path = "../../crates/models/tests/common/mod.rs"]
#[allow(clippy::print_stderr, missing_docs, reason = "a skipped test must be seen; a test's helpers")]
mod common;

/// Output of every table made here.
const TABLE_OUTPUT: f32 = -7.5;

/// A sound manifest for the model of `bias`. Its operating point makes keeping pay whatever the model answers, so that a stored
/// answer tells who decided.
fn manifest(bias: f32) -> Manifest {
    let mut manifest = common::manifest(bias);
    manifest.operating_points = vec![OperatingPoint { stale_budget: 0.005, kappa: 1e12 }];
    manifest
}

/// A sound version, with a model alone.
pub fn good(root: &Path, bias: f32) -> Published {
    publish(root, manifest(bias), &[(MODEL_FILE, &common::model(bias))]).unwrap()
}

/// A sound version with a model and a table.
pub fn with_table(root: &Path) -> Published {
    let mut manifest = manifest(1.0);
    manifest.table_golden = manifest.golden[..1].to_vec();
    manifest.table_golden[0].outputs.fill(TABLE_OUTPUT);
    publish(root, manifest, &[(MODEL_FILE, &common::model(1.0)), (TABLE_FILE, &constant_table())]).unwrap()
}

/// A table of no trees: it answers the same to everything.
fn constant_table() -> Vec<u8> {
    let word = |n: usize| (n as u32).to_le_bytes();
    let head = [b"FTREES01".as_slice(), &word(TTL_FEATURES), &word(TTL_OUTPUTS)].concat();
    [head, TABLE_OUTPUT.to_le_bytes().repeat(TTL_OUTPUTS), word(0).to_vec()].concat()
}

/// Versions that must be refused, each with the check that refuses it.
pub fn bad(root: &Path) -> Vec<(u32, &'static str)> {
    let corrupt = good(root, 3.0);
    let path = corrupt.dir.join(MODEL_FILE);
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x40;
    std::fs::write(path, bytes).unwrap();

    let mut foreign = manifest(4.0);
    foreign.spec_hash = "0123456789abcdef".into();
    let foreign = publish(root, foreign, &[(MODEL_FILE, &common::model(4.0))]).unwrap();

    let nan = publish(root, manifest(5.0), &[(MODEL_FILE, &common::model(f32::NAN))]).unwrap();
    [(corrupt, "files"), (foreign, "feature-spec"), (nan, "finite")].map(|(bundle, check)| (bundle.manifest.version, check)).into()
}

/// The folder of the bundles that come with the program.
pub fn shipped_root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../models")
}

/// Copies the newest shipped version into `root` under a new number; `None` when none is shipped.
pub fn shipped(root: &Path) -> Option<Published> {
    let from = shipped_root();
    let newest = *versions(&from, Kind::Ttl).unwrap().last()?;
    let bundle = Bundle::read(&from, Kind::Ttl, newest).unwrap();
    let files: Vec<_> = bundle.manifest.files.keys().map(|name| (name.as_str(), bundle.file(name).unwrap())).collect();
    Some(publish(root, bundle.manifest.clone(), &files).unwrap())
}

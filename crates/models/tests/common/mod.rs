//! Bundles made in the test, the library if there is one.
#![allow(dead_code)] // each test binary uses its part

pub mod onnx;

use std::io::Write;
use std::path::Path;

use farthing_contract::bundle::{GoldenRow, MODEL_FILE, Manifest, Published, publish};
use farthing_contract::features::{TTL_FEATURES, TTL_OUTPUTS};
use farthing_models::{Runtime, Store, StoreOptions};
use farthing_types::Time;

pub const NOW: Time = Time::from_nanos(1_000);

/// The library, or a loud skip; with STRICT=1 its absence fails the test.
pub fn runtime() -> Option<Runtime> {
    let error = match Runtime::load(None) {
        Ok(runtime) => return Some(runtime),
        Err(error) => error.to_string(),
    };
    assert!(std::env::var("STRICT").as_deref() != Ok("1"), "STRICT=1: {error}");
    eprintln!("SKIPPED: {error}");
    if let Some(list) = std::env::var_os("FARTHING_SKIPPED") {
        let mut file = std::fs::File::options().create(true).append(true).open(list).unwrap();
        // One write: tests run at once and must not tear each other's lines.
        file.write_all(format!("farthing-models, tests of predictors: {error}\n").as_bytes()).unwrap();
    }
    None
}

pub fn open(root: &Path, runtime: &Runtime, slots: usize) -> Store {
    Store::open(root, StoreOptions { runtime: Some(runtime.clone()), slots, ..StoreOptions::default() })
}

/// Output k of the test model: `sum(features) + bias + k`.
pub fn answer(features: &[f32], bias: f32) -> Vec<f32> {
    let sum: f32 = features.iter().sum();
    (0..TTL_OUTPUTS).map(|k| sum + bias + k as f32).collect()
}

pub fn model(bias: f32) -> Vec<u8> {
    onnx::sums_plus(TTL_FEATURES, &(0..TTL_OUTPUTS).map(|k| bias + k as f32).collect::<Vec<_>>())
}

pub fn row(step: f32) -> Vec<f32> {
    (0..TTL_FEATURES).map(|i| i as f32 * step).collect()
}

/// A sound manifest for [`model`].
pub fn manifest(bias: f32) -> Manifest {
    let mut manifest = Manifest::draft_ttl();
    manifest.golden = [0.0, 0.25, -0.5].map(|step| GoldenRow { features: row(step), outputs: answer(&row(step), bias) }).into();
    manifest.warm_up = vec![row(0.125)];
    manifest.trainer = "test".into();
    manifest
}

pub fn put(root: &Path, bias: f32) -> Published {
    publish(root, manifest(bias), &[(MODEL_FILE, &model(bias))]).unwrap()
}

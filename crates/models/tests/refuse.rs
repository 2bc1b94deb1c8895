//! What must never go live, and that the old version stays when it comes.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "a test, its helpers included, fails by panicking")]

mod common;

use std::fs;
use std::path::Path;

use common::{NOW, answer, manifest, model, open, put, row, runtime};
use farthing_contract::bundle::disk::{change_aliases, version_dir};
use farthing_contract::bundle::{Check, GoldenRow, MANIFEST_FILE, MODEL_FILE, Manifest, Target, publish};
use farthing_contract::features::{TTL_FEATURES, TTL_OUTPUTS};
use farthing_models::{Alias, Change, Kind, ModelsError, Store, StoreOptions};

fn check(error: &ModelsError) -> Option<Check> {
    match error {
        ModelsError::Bundle(error) => error.check(),
        _ => None,
    }
}

/// Version 1 is sound and live; `bad` writes version 2; promoting it must fail by `wanted` and change nothing.
fn never_goes_live(wanted: Check, bad: impl FnOnce(&Path)) {
    let Some(runtime) = runtime() else { return };
    let root = tempfile::tempdir().unwrap();
    put(root.path(), 1.0);
    let store = open(root.path(), &runtime, 2);
    store.promote(Kind::Ttl, 1, Alias::Champion, NOW).unwrap();
    let aliases = fs::read(root.path().join("aliases.json")).unwrap();
    bad(root.path());
    let error = store.promote(Kind::Ttl, 2, Alias::Champion, NOW).unwrap_err();
    assert_eq!(check(&error), Some(wanted), "{error}");
    assert!(error.to_string().contains("ttl/2") && error.to_string().contains(wanted.remedy()), "{error}");
    assert_eq!(store.current(Kind::Ttl, Alias::Champion).unwrap().version(), 1);
    assert_eq!(fs::read(root.path().join("aliases.json")).unwrap(), aliases);

    // The same when somebody else moves the alias file, and after a restart.
    let digest = fs::read(version_dir(root.path(), Kind::Ttl, 2).join(MANIFEST_FILE)).map(|b| farthing_contract::bundle::disk::sha256(&b));
    let target = Target { version: 2, digest: digest.unwrap() };
    change_aliases(root.path(), |a| Ok(a.promote(Kind::Ttl, Alias::Champion, target, 2))).unwrap();
    assert!(matches!(store.poll().as_slice(), [Change::Refused { version: 2, .. }]));
    assert_eq!(store.current(Kind::Ttl, Alias::Champion).unwrap().version(), 1);
    let restarted = open(root.path(), &runtime, 1);
    assert_eq!(restarted.current(Kind::Ttl, Alias::Champion).unwrap().version(), 1, "the version before stands in");
    assert!(!restarted.status().is_ok());
    assert!(restarted.status().aliases[0].problem.as_ref().unwrap().contains(wanted.as_str()));
    assert_eq!(store.counts().live, 1);
}

fn put_with(root: &Path, change: impl FnOnce(&mut Manifest), model: &[u8]) {
    let mut manifest = manifest(2.0);
    change(&mut manifest);
    publish(root, manifest, &[(MODEL_FILE, model)]).unwrap();
}

#[test]
fn a_corrupt_model_file() {
    never_goes_live(Check::Files, |root| {
        let path = put(root, 2.0).dir.join(MODEL_FILE);
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x40;
        fs::write(path, bytes).unwrap();
    });
}

#[test]
fn a_model_file_cut_short() {
    never_goes_live(Check::Files, |root| {
        let path = put(root, 2.0).dir.join(MODEL_FILE);
        let bytes = fs::read(&path).unwrap();
        fs::write(path, &bytes[..bytes.len() - 1]).unwrap();
    });
}

#[test]
fn a_manifest_cut_short() {
    never_goes_live(Check::Manifest, |root| {
        let path = put(root, 2.0).dir.join(MANIFEST_FILE);
        let bytes = fs::read(&path).unwrap();
        fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
    });
}

#[test]
fn another_feature_spec() {
    never_goes_live(Check::FeatureSpec, |root| put_with(root, |m| m.spec_hash = "0123456789abcdef".into(), &model(2.0)));
}

#[test]
fn another_width_than_the_spec() {
    never_goes_live(Check::FeatureSpec, |root| {
        let mut other = Manifest::draft_ttl();
        other.inputs[0].shape[1] += 1;
        other.golden = vec![GoldenRow { features: vec![0.0; TTL_FEATURES + 1], outputs: vec![0.0; TTL_OUTPUTS] }];
        other.warm_up = vec![vec![0.0; TTL_FEATURES + 1]];
        publish(root, other, &[(MODEL_FILE, &common::onnx::sums_plus(TTL_FEATURES + 1, &[0.0; TTL_OUTPUTS]))]).unwrap();
    });
}

#[test]
fn another_input_name() {
    never_goes_live(Check::Signature, |root| put_with(root, |_| (), &common::onnx::linear("x", TTL_FEATURES, &[2.0; TTL_OUTPUTS])));
}

#[test]
fn another_output_width() {
    never_goes_live(Check::Signature, |root| put_with(root, |_| (), &common::onnx::sums_plus(TTL_FEATURES, &[2.0; TTL_OUTPUTS - 1])));
}

#[test]
fn not_a_number() {
    never_goes_live(Check::Finite, |root| put_with(root, |_| (), &model(f32::NAN)));
}

#[test]
fn not_a_number_on_a_warm_up_row_alone() {
    // Each feature is finite, their sum is not.
    never_goes_live(Check::Finite, |root| put_with(root, |m| m.warm_up = vec![vec![f32::MAX; TTL_FEATURES]], &model(2.0)));
}

#[test]
fn another_answer_to_a_golden_row() {
    never_goes_live(Check::Golden, |root| put_with(root, |m| m.golden[2].outputs[TTL_OUTPUTS - 1] += 1e-3, &model(2.0)));
}

#[test]
fn what_is_no_onnx_at_all() {
    never_goes_live(Check::Session, |root| put_with(root, |_| (), b"no protobuf"));
}

#[test]
fn a_directory_exchanged_after_the_alias_moved() {
    let Some(runtime) = runtime() else { return };
    let root = tempfile::tempdir().unwrap();
    let first = put(root.path(), 1.0);
    open(root.path(), &runtime, 1).promote(Kind::Ttl, 1, Alias::Champion, NOW).unwrap();
    fs::remove_dir_all(&first.dir).unwrap();
    put_with(root.path(), |m| m.created_ns = 77, &model(2.0));
    fs::rename(version_dir(root.path(), Kind::Ttl, 2), &first.dir).unwrap();
    let text = fs::read_to_string(first.dir.join(MANIFEST_FILE)).unwrap().replace("\"version\": 2", "\"version\": 1");
    fs::write(first.dir.join(MANIFEST_FILE), text).unwrap();
    let store = open(root.path(), &runtime, 1);
    assert!(store.current(Kind::Ttl, Alias::Champion).is_none());
    assert!(store.status().aliases[0].problem.as_ref().unwrap().contains("`digest`"));
}

#[test]
fn a_half_copied_directory_goes_live_only_when_whole() {
    let Some(runtime) = runtime() else { return };
    let (root, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let whole = put(elsewhere.path(), 3.0);
    let store = open(root.path(), &runtime, 1);
    let target = Target { version: 1, digest: whole.digest };
    change_aliases(root.path(), |a| Ok(a.promote(Kind::Ttl, Alias::Champion, target, 1))).unwrap();
    let dir = version_dir(root.path(), Kind::Ttl, 1);
    fs::create_dir_all(&dir).unwrap();
    let never_live = || {
        // Refused at once, then left alone for a growing number of polls.
        for _ in 0..3 {
            store.poll();
            assert!(store.current(Kind::Ttl, Alias::Champion).is_none());
        }
    };
    never_live();
    fs::copy(whole.dir.join(MANIFEST_FILE), dir.join(MANIFEST_FILE)).unwrap();
    never_live();
    let model = fs::read(whole.dir.join(MODEL_FILE)).unwrap();
    fs::write(dir.join(MODEL_FILE), &model[..100]).unwrap();
    never_live();
    fs::write(dir.join(MODEL_FILE), &model).unwrap();
    let polls = (1..=64).find(|_| !store.poll().is_empty()).unwrap();
    assert!(store.current(Kind::Ttl, Alias::Champion).is_some(), "after {polls} polls");
    assert!(store.status().is_ok());
}

#[test]
fn an_unreadable_alias_file_changes_nothing() {
    let Some(runtime) = runtime() else { return };
    let root = tempfile::tempdir().unwrap();
    put(root.path(), 1.0);
    let store = open(root.path(), &runtime, 1);
    store.promote(Kind::Ttl, 1, Alias::Champion, NOW).unwrap();
    fs::write(root.path().join("aliases.json"), b"{\"format\": 1, \"ki").unwrap();
    assert_eq!(store.poll(), []);
    assert_eq!(store.current(Kind::Ttl, Alias::Champion).unwrap().version(), 1);
    assert!(store.status().aliases_problem.unwrap().contains("aliases.json"));
    assert!(store.promote(Kind::Ttl, 1, Alias::Shadow, NOW).is_err(), "a file that cannot be read is not overwritten");
}

#[test]
fn without_the_library_a_model_alone_is_refused_and_says_why() {
    let root = tempfile::tempdir().unwrap();
    put(root.path(), 1.0);
    let store = Store::open(root.path(), StoreOptions::default());
    let error = store.promote(Kind::Ttl, 1, Alias::Champion, NOW).unwrap_err();
    assert_eq!(check(&error), Some(Check::Engine), "{error}");
    assert!(error.to_string().contains("make deps"));
    assert!(store.current(Kind::Ttl, Alias::Champion).is_none());
    assert_eq!(store.counts().built, store.counts().freed);
}

#[test]
fn features_of_another_length_are_an_error() {
    let Some(runtime) = runtime() else { return };
    let root = tempfile::tempdir().unwrap();
    put(root.path(), 1.0);
    let generation = open(root.path(), &runtime, 1).load(Kind::Ttl, 1).unwrap();
    let model = generation.levels().model.clone().unwrap();
    let mut out = [0.0; TTL_OUTPUTS];
    model.predict(&row(1.0), &mut out).unwrap();
    assert_eq!(out.as_slice(), answer(&row(1.0), 1.0));
    assert!(model.predict(&row(1.0)[1..], &mut out).is_err());
    assert!(model.predict(&row(1.0), &mut out[1..]).is_err());
    assert!(model.predict(&[f32::MAX; TTL_FEATURES], &mut out).is_err(), "an infinite answer is an error");
}

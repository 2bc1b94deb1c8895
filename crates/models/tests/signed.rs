//! Signatures: what nobody trusted has signed never decides, whichever way it comes in.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "a test, its helpers included, fails by panicking")]

mod common;

use std::fs;
use std::path::Path;

use common::{NOW, manifest, model, put, runtime};
use farthing_contract::bundle::disk::{change_aliases, publish_signed};
use farthing_contract::bundle::{
    BundleError, Check, MANIFEST_FILE, MODEL_FILE, PublicKey, Published, SIGNATURE_FILE, SigningKey, Target, signing,
};
use farthing_models::{Alias, Change, Kind, ModelsError, Order, Runtime, Store, StoreOptions};

fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed([seed; 32]).unwrap()
}

fn signed(root: &Path, bias: f32, by: &SigningKey) -> Published {
    publish_signed(root, manifest(bias), &[(MODEL_FILE, &model(bias))], Some(by)).unwrap()
}

fn trusting(root: &Path, runtime: &Runtime, keys: &[&SigningKey]) -> Store {
    let trusted: Vec<PublicKey> = keys.iter().map(|key| key.public()).collect();
    Store::open(root, StoreOptions { runtime: Some(runtime.clone()), trusted, ..StoreOptions::default() })
}

fn version(store: &Store) -> Option<u32> {
    store.current(Kind::Ttl, Alias::Champion).map(|generation| generation.version())
}

fn name_champion(root: &Path, published: &Published) {
    let target = Target { version: published.manifest.version, digest: published.digest.clone() };
    change_aliases(root, |aliases| Ok(aliases.promote(Kind::Ttl, Alias::Champion, target, 9))).unwrap();
}

fn refused(result: Result<impl Sized, ModelsError>) -> String {
    match result.err().unwrap() {
        ModelsError::Bundle(BundleError::Refused { check: Check::Signed, detail, .. }) => detail,
        other => panic!("{other}"),
    }
}

#[test]
fn an_unsigned_version_comes_in_by_no_way_and_what_decides_stays() {
    let Some(runtime) = runtime() else { return };
    let (dir, own) = (tempfile::tempdir().unwrap(), key(1));
    let root = dir.path();
    signed(root, 1.0, &own);
    let store = trusting(root, &runtime, &[&own]);
    store.promote(Kind::Ttl, 1, Alias::Champion, NOW).unwrap();
    let unsigned = put(root, 2.0);
    let stranger = signed(root, 3.0, &key(9));
    assert!(refused(store.load(Kind::Ttl, 2)).contains("has no manifest.sig"));
    assert!(refused(store.promote(Kind::Ttl, 3, Alias::Champion, NOW)).contains("trusted_keys"));
    let force = Order { force: true, ..Order::new(NOW, "operator", "it is good, believe me") };
    assert!(refused(store.promote(Kind::Ttl, 2, Alias::Challenger, force)).contains("manifest.sig"), "force does not make it trusted");
    // By the alias file, as another program moves it.
    for published in [&unsigned, &stranger] {
        name_champion(root, published);
        assert!(
            matches!(store.poll().as_slice(), [Change::Refused { problem, .. }] if problem.contains("`signed`")),
            "{:?}",
            store.status()
        );
        assert_eq!(version(&store), Some(1), "what decided goes on");
    }
    assert_eq!(store.counts().refused, 5);
    let listed = store.list().unwrap();
    assert!(listed[0].problem.is_none() && listed[1].problem.is_some() && listed[2].problem.is_some());

    // At a start the version before stands in; with nobody who signed, rules decide, and it starts all the same.
    let again = trusting(root, &runtime, &[&own]);
    assert_eq!((version(&again), again.status().is_ok()), (Some(1), false));
    let other = trusting(root, &runtime, &[&key(4)]);
    assert_eq!(version(&other), None);
    assert!(other.status().aliases[0].problem.as_ref().unwrap().contains("`signed`"));
    // Who asks for no signature takes what is named.
    assert_eq!(version(&trusting(root, &runtime, &[])), Some(3));

    // Signed afterwards it is taken with the next look, as soon as it is tried again.
    signing::sign_version(root, (Kind::Ttl, 3), &own).unwrap();
    (0..3).for_each(|_| drop(store.poll()));
    assert_eq!(version(&store), Some(3));
}

#[test]
fn keys_change_one_after_the_other_and_a_changed_byte_is_seen() {
    let Some(runtime) = runtime() else { return };
    let (dir, old, new) = (tempfile::tempdir().unwrap(), key(1), key(2));
    let root = dir.path();
    let first = signed(root, 1.0, &old);
    name_champion(root, &first);
    assert_eq!(version(&trusting(root, &runtime, &[&old, &new])), Some(1));
    assert_eq!(version(&trusting(root, &runtime, &[&new])), None);
    signing::sign_version(root, (Kind::Ttl, 1), &new).unwrap();
    assert_eq!(version(&trusting(root, &runtime, &[&new])), Some(1));
    // A model that was exchanged together with its digest in the manifest, and the alias moved to that.
    let path = first.dir.join(MANIFEST_FILE);
    let tampered = fs::read_to_string(&path).unwrap().replace("\"trainer\": \"test\"", "\"trainer\": \"tess\"");
    fs::write(&path, &tampered).unwrap();
    let digest = farthing_contract::bundle::disk::sha256(tampered.as_bytes());
    change_aliases(root, |aliases| Ok(aliases.promote(Kind::Ttl, Alias::Champion, Target { version: 1, digest }, 10))).unwrap();
    let store = trusting(root, &runtime, &[&new]);
    assert_eq!(version(&store), None);
    assert!(refused(store.load(Kind::Ttl, 1)).contains("not of this manifest"));
    fs::remove_file(first.dir.join(SIGNATURE_FILE)).unwrap();
    assert_eq!(version(&trusting(root, &runtime, &[])), Some(1), "without keys it is what the alias names");
}

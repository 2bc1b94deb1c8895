//! Rolled back, rejected, frozen, damaged: who decides then, and what is remembered of it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "a test, its helpers included, fails by panicking")]

mod common;

use std::fs;
use std::path::Path;
use std::time::Duration;

use common::{NOW, manifest, model, open, put, runtime};
use farthing_contract::bundle::disk::{change_aliases, version_dir};
use farthing_contract::bundle::{ALIASES_FILE, Check, MODEL_FILE, TABLE_FILE, Target, publish};
use farthing_contract::features::{TTL_FEATURES, TTL_OUTPUTS};
use farthing_models::{Action, Alias, Change, Kind, ModelsError, Order, Runtime, Store, StoreOptions};

fn version(store: &Store) -> Option<u32> {
    store.current(Kind::Ttl, Alias::Champion).map(|generation| generation.version())
}

fn promote(store: &Store, version: u32) {
    store.promote(Kind::Ttl, version, Alias::Champion, NOW).unwrap();
}

fn with_own(root: &Path, runtime: &Runtime, own: &Path) -> Store {
    let options = StoreOptions { runtime: Some(runtime.clone()), own_history: Some(own.join("models.jsonl")), ..StoreOptions::default() };
    Store::open(root, options)
}

#[test]
fn what_was_rolled_back_is_let_in_by_force_alone_and_all_of_it_is_told() {
    let Some(runtime) = runtime() else { return };
    let root = tempfile::tempdir().unwrap();
    (1..=2).for_each(|version| drop(put(root.path(), version as f32)));
    let store = open(root.path(), &runtime, 1);
    (1..=2).for_each(|version| promote(&store, version));
    store.rollback(Kind::Ttl, Alias::Champion, Order::new(NOW, "operator anna", "bills rise")).unwrap();
    let error = store.promote(Kind::Ttl, 2, Alias::Champion, NOW).unwrap_err();
    assert!(matches!(&error, ModelsError::Rejected(why) if why.contains("operator anna") && why.contains("--force")), "{error}");
    // The same after a restart, and for who moves the file by hand.
    let restarted = open(root.path(), &runtime, 1);
    assert!(restarted.promote(Kind::Ttl, 2, Alias::Challenger, NOW).is_err());
    let bad = Target { version: 2, digest: restarted.list().unwrap()[1].digest.clone().unwrap() };
    change_aliases(root.path(), |aliases| Ok(aliases.promote(Kind::Ttl, Alias::Champion, bad, 9))).unwrap();
    assert!(matches!(restarted.poll().as_slice(), [Change::Refused { version: 2, .. }]));
    assert_eq!(restarted.poll(), [], "told once");
    assert_eq!(version(&restarted), Some(1));
    assert!(restarted.list().unwrap()[1].rejected.as_ref().unwrap().contains("bills rise"));
    assert_eq!(version(&open(root.path(), &runtime, 1)), Some(1), "the version before stands in at a start");
    restarted.promote(Kind::Ttl, 2, Alias::Champion, Order { force: true, ..Order::new(NOW, "operator", "it was the weather") }).unwrap();
    assert_eq!((version(&restarted), version(&open(root.path(), &runtime, 1))), (Some(2), Some(2)));
    let told: Vec<_> =
        restarted.history().iter().map(|event| (event.action, event.to.as_ref().map(|to| to.version), event.forced)).collect();
    let promoted = |version, forced| (Action::Promote, Some(version), forced);
    assert_eq!(told, [promoted(1, false), promoted(2, false), (Action::Rollback, Some(1), false), promoted(2, true)]);
}

#[test]
fn a_rollback_needs_no_store() {
    let Some(runtime) = runtime() else { return };
    let (dir, own) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (root, away) = (dir.path().join("models"), dir.path().join("away"));
    (1..=2).for_each(|version| drop(put(&root, version as f32)));
    let store = with_own(&root, &runtime, own.path());
    (1..=2).for_each(|version| promote(&store, version));
    let built = store.counts().built;
    fs::rename(&root, &away).unwrap();
    // Nothing can be made there either: what stands in its place is no folder.
    fs::write(&root, b"").unwrap();
    store.rollback(Kind::Ttl, Alias::Champion, Order::new(NOW, "canary", "changes")).unwrap();
    assert_eq!((version(&store), store.counts().built), (Some(1), built));
    store.poll();
    assert_eq!(version(&store), Some(1));

    // The store is there again, and still names the bad one: a restart of this instance knows better.
    fs::remove_file(&root).unwrap();
    fs::rename(&away, &root).unwrap();
    assert_eq!(version(&open(&root, &runtime, 1)), Some(2), "another one cannot");
    assert_eq!(version(&with_own(&root, &runtime, own.path())), Some(1));
    assert_eq!(version(&open(&root, &runtime, 1)), Some(1), "until the store was told, which a restart does, too");
    store.poll();
    assert_eq!(version(&store), Some(1));
    assert!(open(&root, &runtime, 1).promote(Kind::Ttl, 2, Alias::Champion, NOW).is_err());
}

#[test]
fn a_store_that_is_gone_takes_nothing_away() {
    let Some(runtime) = runtime() else { return };
    let (dir, own) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let root = dir.path().join("models");
    (1..=2).for_each(|version| drop(put(&root, version as f32)));
    let store = with_own(&root, &runtime, own.path());
    (1..=2).for_each(|version| promote(&store, version));
    fs::rename(&root, dir.path().join("away")).unwrap();
    assert_eq!((store.poll().len(), version(&store)), (0, Some(2)));
    assert!(store.status().aliases_problem.unwrap().contains("is gone"));
    store.rollback(Kind::Ttl, Alias::Champion, NOW).unwrap();
    store.poll();
    assert_eq!((version(&store), root.exists()), (Some(1), false), "nothing is made in its place");
    store.reject(Kind::Ttl, Alias::Champion, "another", NOW).unwrap();
    assert_eq!(version(&store), Some(1), "what was said of another version is nothing about this one");
    fs::rename(dir.path().join("away"), &root).unwrap();
    store.poll();
    assert_eq!((version(&store), version(&open(&root, &runtime, 1))), (Some(1), Some(1)));
}

#[test]
fn a_candidate_is_rejected_while_the_store_is_gone_and_the_store_is_told_later() {
    let Some(runtime) = runtime() else { return };
    let (dir, own) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let root = dir.path().join("models");
    (1..=2).for_each(|version| drop(put(&root, version as f32)));
    let store = with_own(&root, &runtime, own.path());
    promote(&store, 1);
    let candidate = store.promote(Kind::Ttl, 2, Alias::Challenger, NOW).unwrap();
    fs::rename(&root, dir.path().join("away")).unwrap();
    store.reject(Kind::Ttl, Alias::Challenger, candidate.digest(), Order::new(NOW, "canary", "changes")).unwrap();
    assert_eq!((store.current(Kind::Ttl, Alias::Challenger).is_none(), root.exists()), (true, false), "nothing is made in its place");
    fs::rename(dir.path().join("away"), &root).unwrap();
    store.poll();
    let other = open(&root, &runtime, 1);
    assert!(other.current(Kind::Ttl, Alias::Challenger).is_none() && other.promote(Kind::Ttl, 2, Alias::Champion, NOW).is_err());
}

/// A table of no trees.
fn table(base: f32) -> Vec<u8> {
    let words = |n: usize| (n as u32).to_le_bytes();
    let head = [b"FTREES01".as_slice(), &words(TTL_FEATURES), &words(TTL_OUTPUTS)].concat();
    [head, base.to_le_bytes().repeat(TTL_OUTPUTS), words(0).to_vec()].concat()
}

#[test]
fn a_start_with_a_truncated_champion_goes_down_step_by_step() {
    let Some(runtime) = runtime() else { return };
    let root = tempfile::tempdir().unwrap();
    put(root.path(), 1.0);
    let mut second = manifest(2.0);
    second.table_golden = second.golden[..1].to_vec();
    second.table_golden[0].outputs.fill(-7.5);
    let second = publish(root.path(), second, &[(MODEL_FILE, &model(2.0)), (TABLE_FILE, &table(-7.5))]).unwrap();
    let store = open(root.path(), &runtime, 1);
    (1..=2).for_each(|version| promote(&store, version));
    let cut = |path: &Path| fs::write(path, &fs::read(path).unwrap()[..20]).unwrap();
    cut(&second.dir.join(MODEL_FILE));
    let started = || open(root.path(), &runtime, 1);
    let seen = |store: &Store| store.current(Kind::Ttl, Alias::Champion).map(|g| (g.version(), g.engine()));
    let degraded = |store: &Store| store.status().aliases[0].problem.clone().is_some_and(|why| why.contains("`files`"));
    assert_eq!((seen(&started()), degraded(&started())), (Some((1, "model")), true), "the version before");
    fs::remove_dir_all(version_dir(root.path(), Kind::Ttl, 1)).unwrap();
    assert_eq!((seen(&started()), degraded(&started())), (Some((2, "table")), true), "its own table");
    cut(&second.dir.join(TABLE_FILE));
    assert_eq!((seen(&started()), degraded(&started())), (None, true), "rules");
    // Mended, it decides again by itself.
    let store = started();
    fs::write(second.dir.join(MODEL_FILE), model(2.0)).unwrap();
    fs::write(second.dir.join(TABLE_FILE), table(-7.5)).unwrap();
    assert!((0..70).any(|_| !store.poll().is_empty()));
    assert_eq!((seen(&store), store.status().is_ok()), (Some((2, "model")), true));
}

#[test]
fn what_was_named_last_decides_where_the_alias_file_is_damaged() {
    let Some(runtime) = runtime() else { return };
    let root = tempfile::tempdir().unwrap();
    (1..=2).for_each(|version| drop(put(root.path(), version as f32)));
    let store = open(root.path(), &runtime, 1);
    (1..=2).for_each(|version| promote(&store, version));
    fs::write(root.path().join(ALIASES_FILE), b"{\"format\": 1, \"ki").unwrap();
    let started = open(root.path(), &runtime, 1);
    assert_eq!(version(&started), Some(2));
    assert!(!started.status().is_ok() && started.status().aliases_problem.is_some());
}

#[test]
fn frozen_it_follows_operators_alone() {
    let Some(runtime) = runtime() else { return };
    let root = tempfile::tempdir().unwrap();
    (1..=3).for_each(|version| drop(put(root.path(), version as f32)));
    let store = open(root.path(), &runtime, 1);
    promote(&store, 1);
    store.freeze(true);
    let trained = Target { version: 2, digest: store.list().unwrap()[1].digest.clone().unwrap() };
    change_aliases(root.path(), |aliases| Ok(aliases.promote(Kind::Ttl, Alias::Champion, trained, 2))).unwrap();
    assert!(matches!(store.poll().as_slice(), [Change::Refused { version: 2, problem, .. }] if problem.contains("freeze off")));
    assert_eq!((version(&store), store.status().is_ok()), (Some(1), false));
    let other = open(root.path(), &runtime, 1);
    other.promote(Kind::Ttl, 3, Alias::Champion, Order::new(NOW, "operator anna", "by hand")).unwrap();
    store.poll();
    assert_eq!((version(&store), store.status().is_ok()), (Some(3), true));
    let again = Target { version: 2, digest: store.list().unwrap()[1].digest.clone().unwrap() };
    change_aliases(root.path(), |aliases| Ok(aliases.promote(Kind::Ttl, Alias::Champion, again, 4))).unwrap();
    store.poll();
    assert_eq!(version(&store), Some(3));
    store.freeze(false);
    assert_eq!(store.poll(), [Change::Moved { kind: Kind::Ttl, alias: Alias::Champion, version: 2 }]);
}

#[test]
fn a_model_that_is_always_late_is_refused() {
    let Some(runtime) = runtime() else { return };
    let root = tempfile::tempdir().unwrap();
    put(root.path(), 1.0);
    let store = |deadline| {
        let options = StoreOptions { runtime: Some(runtime.clone()), deadline: Some(deadline), ..StoreOptions::default() };
        Store::open(root.path(), options)
    };
    let error = store(Duration::from_nanos(1)).load(Kind::Ttl, 1).unwrap_err();
    assert!(matches!(&error, ModelsError::Bundle(error) if error.check() == Some(Check::Slow)), "{error}");
    assert!(store(Duration::from_secs(10)).load(Kind::Ttl, 1).is_ok());
}

#[test]
fn a_candidate_is_rejected_at_once() {
    let Some(runtime) = runtime() else { return };
    let root = tempfile::tempdir().unwrap();
    (1..=2).for_each(|version| drop(put(root.path(), version as f32)));
    let store = open(root.path(), &runtime, 1);
    promote(&store, 1);
    let candidate = store.promote(Kind::Ttl, 2, Alias::Challenger, NOW).unwrap();
    store.reject(Kind::Ttl, Alias::Challenger, "another", NOW).unwrap();
    assert!(store.current(Kind::Ttl, Alias::Challenger).is_some(), "what was decided about one version is no news about the next");
    store.reject(Kind::Ttl, Alias::Challenger, candidate.digest(), Order::new(NOW, "canary", "changes")).unwrap();
    assert!(store.current(Kind::Ttl, Alias::Challenger).is_none());
    assert_eq!(store.poll(), []);
    assert!(store.promote(Kind::Ttl, 2, Alias::Champion, NOW).is_err());
    assert_eq!(version(&store), Some(1));
}

#[test]
fn instances_that_share_a_store_take_one_champion_back_once() {
    let Some(runtime) = runtime() else { return };
    let root = tempfile::tempdir().unwrap();
    (1..=3).for_each(|version| drop(put(root.path(), version as f32)));
    let one = open(root.path(), &runtime, 1);
    (1..=3).for_each(|version| promote(&one, version));
    let two = open(root.path(), &runtime, 1);
    let bad = two.current(Kind::Ttl, Alias::Champion).unwrap();
    // Both see what it does, and neither knows of the other.
    for store in [&one, &two] {
        store.reject(Kind::Ttl, Alias::Champion, bad.digest(), Order::new(NOW, "drift", "answers change otherwise")).unwrap();
        assert_eq!(version(store), Some(2));
    }
    assert_eq!(version(&open(root.path(), &runtime, 1)), Some(2), "and not the version before that");
    assert!(two.promote(Kind::Ttl, 3, Alias::Champion, NOW).is_err());
}

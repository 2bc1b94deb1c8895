//! Instances that share an object store: each promotion and rollback is everywhere with the next look, and nothing that is not whole decides.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "a test, its helpers included, fails by panicking")]

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use common::{NOW, put, runtime};
use farthing_contract::bundle::disk::{change_aliases, version_dir};
use farthing_contract::bundle::{
    ALIASES_FILE, Aliases, BundleError, MODEL_FILE, PublicKey, SHARED_FILE, SIGNATURE_FILE, Shared, SigningKey, Target, signing,
};
use farthing_models::{Action, Alias, Change, Got, Kind, ModelsError, Order, Remote, Runtime, Store, StoreOptions, When};
use parking_lot::Mutex;
use tempfile::TempDir;

/// Objects in memory, with conditional writes.
#[derive(Default)]
struct Objects {
    held: Mutex<BTreeMap<String, (Vec<u8>, u64)>>,
    faults: Mutex<Faults>,
}

#[derive(Default)]
struct Faults {
    away: bool,
    asked: u64,
    /// What somebody else does just before the next conditional write of the aliases.
    before: Option<Box<dyn FnOnce() + Send>>,
    /// The next write is done, and its answer lost.
    lose: bool,
}

impl Objects {
    fn ask(&self) -> Result<(), String> {
        let mut faults = self.faults.lock();
        faults.asked += 1;
        if faults.away { Err("nobody answers".to_owned()) } else { Ok(()) }
    }
    fn away(&self, away: bool) {
        self.faults.lock().away = away;
    }
    fn before_the_next_move(&self, what: impl FnOnce() + Send + 'static) {
        self.faults.lock().before = Some(Box::new(what));
    }
    fn bytes(&self, object: &str) -> Option<Vec<u8>> {
        self.held.lock().get(object).map(|(bytes, _)| bytes.clone())
    }
    fn set(&self, object: &str, bytes: Vec<u8>) {
        let mut held = self.held.lock();
        let next = held.values().map(|(_, tag)| tag + 1).max().unwrap_or(1);
        held.insert(object.to_owned(), (bytes, next));
    }
    fn remove(&self, object: &str) -> Option<Vec<u8>> {
        self.held.lock().remove(object).map(|(bytes, _)| bytes)
    }
    fn shared(&self) -> Shared {
        Shared::parse(Path::new("store.json"), &self.bytes(SHARED_FILE).unwrap()).unwrap()
    }
    /// Moves the champion, as an operator does who edits the object.
    fn name_champion(&self, target: Target) {
        let mut shared = self.shared();
        shared.aliases.promote(Kind::Ttl, Alias::Champion, target, 9);
        self.set(SHARED_FILE, shared.to_bytes().unwrap());
    }
}

impl Remote for Objects {
    fn name(&self) -> String {
        "s3://tests/models".to_owned()
    }
    fn get(&self, object: &str, most: u64, unless: Option<&str>) -> Result<Got, String> {
        self.ask()?;
        let held = self.held.lock();
        let Some((bytes, tag)) = held.get(object) else { return Ok(Got::Absent) };
        if unless == Some(tag.to_string().as_str()) {
            return Ok(Got::Unchanged);
        }
        if bytes.len() as u64 > most { Err("too long".to_owned()) } else { Ok(Got::Is { bytes: bytes.clone(), tag: tag.to_string() }) }
    }
    fn put(&self, object: &str, bytes: Vec<u8>, when: When<'_>) -> Result<Option<String>, String> {
        self.ask()?;
        let before = if object == SHARED_FILE { self.faults.lock().before.take() } else { None };
        before.into_iter().for_each(|before| before());
        let there = self.held.lock().get(object).map(|(_, tag)| tag.to_string());
        let holds = match when {
            When::Always => true,
            When::Absent => there.is_none(),
            When::Is(tag) => there.as_deref() == Some(tag),
        };
        if !holds {
            return Ok(None);
        }
        self.set(object, bytes);
        if std::mem::take(&mut self.faults.lock().lose) {
            return Err("the answer is lost".to_owned());
        }
        Ok(Some(self.held.lock()[object].1.to_string()))
    }
    fn list(&self, folder: &str) -> Result<Vec<String>, String> {
        self.ask()?;
        Ok(self.held.lock().keys().filter(|name| name.starts_with(&format!("{folder}/"))).cloned().collect())
    }
    fn remove(&self, object: &str) -> Result<(), String> {
        self.ask()?;
        drop(Objects::remove(self, object));
        Ok(())
    }
}

/// An instance with a folder of its own.
struct Instance {
    dir: TempDir,
    name: &'static str,
    store: Arc<Store>,
}

struct World {
    runtime: Runtime,
    objects: Arc<Objects>,
    trusted: Vec<PublicKey>,
}

impl World {
    fn new() -> Option<Self> {
        Some(Self { runtime: runtime()?, objects: Arc::default(), trusted: Vec::new() })
    }
    fn instance(&self, name: &'static str) -> Instance {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(self.open(&dir, name));
        Instance { dir, name, store }
    }
    fn open(&self, dir: &TempDir, name: &str) -> Store {
        let options = StoreOptions {
            runtime: Some(self.runtime.clone()),
            own_history: Some(dir.path().join("own.jsonl")),
            remote: Some((self.objects.clone(), name.into())),
            trusted: self.trusted.clone(),
            ..StoreOptions::default()
        };
        Store::open(dir.path().join("models"), options)
    }
}

impl Instance {
    fn root(&self) -> std::path::PathBuf {
        self.dir.path().join("models")
    }
    fn restart(&mut self, world: &World) {
        self.store = Arc::new(world.open(&self.dir, self.name));
    }
    fn champion(&self) -> Option<u32> {
        self.named(Alias::Champion)
    }
    fn named(&self, alias: Alias) -> Option<u32> {
        self.store.current(Kind::Ttl, alias).map(|generation| generation.version())
    }
    fn promote(&self, version: u32) -> Result<(), ModelsError> {
        self.store.promote(Kind::Ttl, version, Alias::Champion, Order::new(NOW, format!("operator {}", self.name), "a test")).map(drop)
    }
    fn rollback(&self) -> Result<(), ModelsError> {
        self.store.rollback(Kind::Ttl, Alias::Champion, Order::new(NOW, format!("operator {}", self.name), "bills rise")).map(drop)
    }
    fn told(&self) -> Vec<(Action, Option<u32>)> {
        self.store.history().iter().map(|event| (event.action, event.to.as_ref().map(|to| to.version))).collect()
    }
}

/// Two instances, of which one has two versions; the first is champion on both.
fn two(world: &World) -> (Instance, Instance, Vec<Target>) {
    let (one, other) = (world.instance("one"), world.instance("other"));
    let versions: Vec<Target> =
        (1..=2).map(|version| put(&one.root(), version as f32)).map(|p| Target { version: p.manifest.version, digest: p.digest }).collect();
    one.promote(1).unwrap();
    other.store.poll();
    assert_eq!(other.champion(), Some(1), "brought here");
    (one, other, versions)
}

#[test]
fn what_one_instance_orders_is_everywhere_with_the_next_look() {
    let Some(world) = World::new() else { return };
    let (one, mut other, _) = two(&world);
    one.promote(2).unwrap();
    assert_eq!(other.store.poll(), [Change::Moved { kind: Kind::Ttl, alias: Alias::Champion, version: 2 }]);
    other.rollback().unwrap();
    assert_eq!(one.store.poll(), [Change::Moved { kind: Kind::Ttl, alias: Alias::Champion, version: 1 }]);
    let story = [(Action::Promote, Some(1)), (Action::Promote, Some(2)), (Action::Rollback, Some(1))];
    assert_eq!((one.told(), other.told()), (story.to_vec(), story.to_vec()), "one story, told everywhere");
    // What was rolled back anywhere stays out everywhere.
    assert!(matches!(one.promote(2), Err(ModelsError::Rejected(why)) if why.contains("operator other")));
    other.restart(&world);
    assert_eq!((other.champion(), other.told()), (Some(1), story.to_vec()));
    // A look at what has not changed asks one question.
    let asked = world.objects.faults.lock().asked;
    (0..3).for_each(|_| assert_eq!(one.store.poll(), []));
    assert_eq!(world.objects.faults.lock().asked, asked + 3);
}

#[test]
fn who_has_signed_a_version_is_known_everywhere() {
    let Some(mut world) = World::new() else { return };
    let [first, next] = [1, 2].map(|seed| SigningKey::from_seed([seed; 32]).unwrap());
    world.trusted = vec![first.public()];
    let (one, mut other) = (world.instance("one"), world.instance("other"));
    for (version, bias) in [(1, 1.0), (2, 2.0)] {
        put(&one.root(), bias);
        signing::sign_version(&one.root(), (Kind::Ttl, version), &first).unwrap();
    }
    one.promote(1).unwrap();
    one.promote(2).unwrap();
    other.store.poll();
    assert_eq!(other.champion(), Some(2), "it came with its signature");
    // The key changes: what is signed by the next one, too, goes on where the first one is trusted no more.
    signing::sign_version(&one.root(), (Kind::Ttl, 1), &next).unwrap();
    one.promote(1).unwrap();
    other.store.poll();
    world.trusted = vec![next.public()];
    other.restart(&world);
    assert_eq!(other.champion(), Some(1));
    // Two who sign at once are both heard.
    let sign = format!("ttl/2/{SIGNATURE_FILE}");
    let third = SigningKey::from_seed([3; 32]).unwrap();
    world.objects.set(&sign, third.sign(Kind::Ttl, 2, "of another manifest").into_bytes());
    signing::sign_version(&one.root(), (Kind::Ttl, 2), &next).unwrap();
    one.promote(2).unwrap();
    let lines = |bytes: &[u8]| String::from_utf8_lossy(bytes).lines().count();
    assert_eq!(lines(&world.objects.bytes(&sign).unwrap()), 3);
    other.store.poll();
    assert_eq!(other.champion(), Some(2));
    assert_eq!(lines(&std::fs::read(version_dir(&other.root(), Kind::Ttl, 2).join(SIGNATURE_FILE)).unwrap()), 3);
}

#[test]
fn of_two_orders_at_once_one_is_carried_out() {
    let Some(world) = World::new() else { return };
    let (one, other, _) = two(&world);
    put(&one.root(), 3.0);
    one.store.promote(Kind::Ttl, 3, Alias::Shadow, NOW).unwrap();
    let (one, other) = (Arc::new(one), Arc::new(other));
    let quicker = other.clone();
    world.objects.before_the_next_move(move || quicker.promote(3).unwrap());
    let error = one.promote(2).unwrap_err();
    assert!(matches!(&error, ModelsError::Bundle(BundleError::Moved { what }) if what == "ttl champion"), "{error}");
    one.store.poll();
    assert_eq!((one.champion(), other.champion()), (Some(3), Some(3)));
    // Another alias is no matter of contention.
    let quicker = other.clone();
    world.objects.before_the_next_move(move || drop(quicker.store.promote(Kind::Ttl, 1, Alias::Challenger, NOW).unwrap()));
    one.promote(2).unwrap();
    [&one, &other].iter().for_each(|instance| drop(instance.store.poll()));
    for instance in [&one, &other] {
        assert_eq!((instance.champion(), instance.named(Alias::Challenger), instance.named(Alias::Shadow)), (Some(2), Some(1), Some(3)));
    }
    assert_eq!(one.told().len(), 5, "{:?}", one.told());
    // An order whose answer is lost is not given twice.
    world.objects.faults.lock().lose = true;
    assert!(one.promote(1).is_err());
    (0..8).for_each(|_| drop(one.store.poll()));
    assert_eq!((one.champion(), world.objects.shared().history.events().len()), (Some(1), 6), "it was carried out there");
}

#[test]
fn without_the_store_what_is_here_goes_on_and_goes_back() {
    let Some(world) = World::new() else { return };
    let (mut one, other, _) = two(&world);
    one.promote(2).unwrap();
    other.store.poll();
    world.objects.away(true);
    assert_eq!((one.store.poll(), other.store.poll()), (vec![], vec![]));
    assert!(one.store.status().aliases_problem.unwrap().contains("nobody answers; what is here goes on"));
    let refused = other.promote(1).unwrap_err().to_string();
    assert!(refused.contains("s3://tests/models") && refused.contains("nobody answers"), "{refused}");
    assert!(other.store.clear(Kind::Ttl, Alias::Champion, NOW).is_err());
    assert_eq!(other.champion(), Some(2), "nothing is done by half");
    one.rollback().unwrap();
    assert_eq!(one.champion(), Some(1));
    one.restart(&world);
    assert_eq!(one.champion(), Some(1), "and a restart does not forget it");
    world.objects.away(false);
    // It rests for at most seven looks.
    (0..9).for_each(|_| drop(one.store.poll()));
    (0..9).for_each(|_| drop(other.store.poll()));
    assert_eq!((one.champion(), other.champion()), (Some(1), Some(1)));
    assert_eq!(world.objects.shared().history.events().last().unwrap().action, Action::Rollback, "told when it was back");
    assert!(one.store.status().aliases_problem.is_none());
}

#[test]
fn nothing_that_is_not_whole_decides() {
    let Some(world) = World::new() else { return };
    let (one, other, versions) = two(&world);
    one.promote(2).unwrap();
    one.store.rollback(Kind::Ttl, Alias::Champion, NOW).unwrap();
    let fresh = world.instance("fresh");
    assert_eq!(fresh.champion(), Some(1));
    let model = format!("ttl/2/{MODEL_FILE}");
    let whole = world.objects.remove(&model).unwrap();
    let mut forced = world.objects.shared();
    forced.history = farthing_contract::bundle::History::default();
    world.objects.set(SHARED_FILE, forced.to_bytes().unwrap());
    let fresh = world.instance("fresh");
    world.objects.name_champion(versions[1].clone());
    // Half of it is there; then all, of which a byte is another; then all.
    fresh.store.poll();
    assert_eq!((fresh.champion(), version_dir(&fresh.root(), Kind::Ttl, 2).exists()), (Some(1), false));
    assert!(fresh.store.status().aliases_problem.unwrap().contains("ttl/2/model.onnx is not there"));
    let mut damaged = whole.clone();
    damaged[100] ^= 1;
    world.objects.set(&model, damaged);
    fresh.store.poll();
    assert_eq!((fresh.champion(), version_dir(&fresh.root(), Kind::Ttl, 2).exists()), (Some(1), false));
    assert!(fresh.store.status().aliases_problem.unwrap().contains("is not what the manifest says"));
    let differing = fresh.store.instances().unwrap().into_iter().find(|(of, _)| of.name == "fresh").unwrap().1;
    assert_eq!((differing.len(), &*differing[0].place, differing[0].live.as_ref().unwrap().version), (1, "ttl/champion", 1));
    world.objects.set(&model, whole);
    (0..8).for_each(|_| drop(fresh.store.poll()));
    assert_eq!((fresh.champion(), fresh.store.status().aliases_problem), (Some(2), None));
    drop(other);
}

#[test]
fn an_end_in_the_middle_of_an_order_undoes_nothing() {
    let Some(world) = World::new() else { return };
    let (mut one, other, _) = two(&world);
    let files = [ALIASES_FILE, ".mirror.json", "history.jsonl"];
    let before: Vec<Vec<u8>> = files.iter().map(|file| std::fs::read(one.root().join(file)).unwrap()).collect();
    one.promote(2).unwrap();
    // As if it had been killed when the store had the order and the folder had not.
    files.iter().zip(&before).for_each(|(file, bytes)| std::fs::write(one.root().join(file), bytes).unwrap());
    one.restart(&world);
    other.store.poll();
    assert_eq!((one.champion(), other.champion()), (Some(2), Some(2)));
    assert_eq!(one.told(), [(Action::Promote, Some(1)), (Action::Promote, Some(2))]);
}

#[test]
fn an_emptied_folder_is_filled_again_and_empties_no_other() {
    let Some(world) = World::new() else { return };
    let (mut one, other, _) = two(&world);
    one.promote(2).unwrap();
    std::fs::remove_file(one.root().join(ALIASES_FILE)).unwrap();
    one.store.poll();
    other.store.poll();
    assert_eq!((one.champion(), other.champion()), (Some(2), Some(2)));
    // All of it is lost, what had been mirrored too: nothing but the store is needed to go on, and back.
    std::fs::remove_dir_all(one.root()).unwrap();
    one.restart(&world);
    assert_eq!(one.champion(), Some(2));
    one.rollback().unwrap();
    other.store.poll();
    assert_eq!((one.champion(), other.champion()), (Some(1), Some(1)));
}

#[test]
fn a_trainer_beside_an_instance_names_candidates_for_all() {
    let Some(world) = World::new() else { return };
    let (mut one, other, _) = two(&world);
    let trained = put(&one.root(), 3.0);
    let target = Target { version: trained.manifest.version, digest: trained.digest };
    change_aliases(&one.root(), |aliases| Ok(aliases.promote(Kind::Ttl, Alias::Challenger, target.clone(), 5))).unwrap();
    // Also when the instance was not running then.
    one.restart(&world);
    other.store.poll();
    assert_eq!((one.named(Alias::Challenger), other.named(Alias::Challenger), other.champion()), (Some(3), Some(3), Some(1)));
    other.promote(3).unwrap();
    one.store.poll();
    assert_eq!((one.champion(), one.named(Alias::Challenger)), (Some(3), None));
}

#[test]
fn one_number_is_one_version() {
    let Some(world) = World::new() else { return };
    let (one, other, _) = two(&world);
    put(&other.root(), 7.0);
    assert_eq!(other.store.list().unwrap().len(), 2);
    one.promote(2).unwrap();
    let changes = other.store.poll();
    assert!(
        matches!(changes.as_slice(), [Change::Refused { version: 2, problem, .. }] if problem.contains("the alias was moved to")),
        "{changes:?}"
    );
    let error = other.promote(2).unwrap_err().to_string();
    assert!(error.contains("s3://tests/models has another ttl/2: give this one another number"), "{error}");
    assert_eq!((one.champion(), other.champion()), (Some(2), Some(1)));
}

#[test]
fn a_store_begins_with_what_the_first_instance_has_and_lists_what_is_elsewhere() {
    let Some(world) = World::new() else { return };
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("models");
    (1..=2).for_each(|version| drop(put(&root, version as f32)));
    let alone = common::open(&root, &world.runtime, 1);
    (1..=2).for_each(|version| drop(alone.promote(Kind::Ttl, version, Alias::Champion, NOW).unwrap()));
    let first = world.open(&dir, "first");
    assert_eq!(first.current(Kind::Ttl, Alias::Champion).unwrap().version(), 2);
    let second = world.instance("second");
    assert_eq!((second.champion(), second.told().len()), (Some(2), 2));
    assert!(version_dir(&second.root(), Kind::Ttl, 1).is_dir(), "to go back to");
    // What nobody names lies there until it is asked for.
    let third = put(&root, 3.0);
    for name in [MODEL_FILE, "manifest.json"] {
        world.objects.set(&format!("ttl/3/{name}"), std::fs::read(third.dir.join(name)).unwrap());
    }
    let listed = second.store.list().unwrap();
    assert!(listed.last().unwrap().version == 3 && listed.last().unwrap().problem.as_ref().unwrap().contains("not here yet"));
    second.promote(3).unwrap();
    assert!(second.store.list().unwrap().last().unwrap().problem.is_none());
    let all = second.store.instances().unwrap();
    assert_eq!(all.iter().map(|(of, _)| &*of.name).collect::<Vec<_>>(), ["first", "second"]);
    assert!(all[0].1[0].live.as_ref().unwrap().version == 2 && all[0].1[0].wanted.as_ref().unwrap().version == 3, "has not looked yet");
    first.poll();
    second.store.poll();
    assert!(second.store.instances().unwrap().iter().all(|(_, differs)| differs.is_empty()));
    assert_ne!(world.objects.shared().aliases, Aliases::default());
}

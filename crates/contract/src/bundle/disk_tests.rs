use super::*;
use crate::bundle::{Alias, GoldenRow, MODEL_FILE, Target};

pub fn draft() -> Manifest {
    let mut manifest = Manifest::draft(Kind::Ttl, (1, "abc"), 2, 1);
    manifest.golden = vec![GoldenRow { features: vec![0.0, 1.0], outputs: vec![2.0] }];
    manifest.warm_up = vec![vec![0.0, 0.0]];
    manifest
}
fn put(root: &Path) -> Published {
    publish(root, draft(), &[(MODEL_FILE, b"onnx bytes")]).unwrap()
}

#[test]
fn a_published_bundle_is_read_back() {
    let root = tempfile::tempdir().unwrap();
    let published = put(root.path());
    let bundle = Bundle::read(root.path(), Kind::Ttl, 1).unwrap();
    assert_eq!((&bundle.manifest, &bundle.digest, &bundle.dir), (&published.manifest, &published.digest, &published.dir));
    assert_eq!(bundle.file(MODEL_FILE), Some(b"onnx bytes".as_slice()));
    assert_eq!(bundle.file("table.bin"), None);
    assert_eq!(put(root.path()).manifest.version, 2);
    assert_eq!(versions(root.path(), Kind::Ttl).unwrap(), [1, 2]);
    assert_eq!(versions(root.path(), Kind::Cost).unwrap(), [] as [u32; 0]);
    let names: Vec<_> = fs::read_dir(root.path().join("ttl")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "nothing temporary is left: {names:?}");
}

#[test]
fn publishers_at_once_never_share_a_version() {
    let root = tempfile::tempdir().unwrap();
    let versions: Vec<u32> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| [(); 4].map(|()| put(root.path()).manifest.version))).collect();
        threads.into_iter().flat_map(|t| t.join().unwrap()).collect()
    });
    let mut sorted = versions;
    sorted.sort_unstable();
    assert_eq!(sorted, (1..=16).collect::<Vec<u32>>());
}

#[test]
fn every_damaged_byte_is_found() {
    let root = tempfile::tempdir().unwrap();
    let dir = put(root.path()).dir;
    let model = dir.join(MODEL_FILE);
    let good = fs::read(&model).unwrap();
    let check = || Bundle::read(root.path(), Kind::Ttl, 1).unwrap_err().check();
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1;
        fs::write(&model, &bad).unwrap();
        assert_eq!(check(), Some(Check::Files));
    }
    fs::write(&model, &good[1..]).unwrap();
    assert_eq!(check(), Some(Check::Files));
    fs::write(&model, [good.as_slice(), b"x"].concat()).unwrap();
    assert_eq!(check(), Some(Check::Files));
    fs::remove_file(&model).unwrap();
    assert_eq!(check(), Some(Check::Files));
    fs::remove_file(dir.join(MANIFEST_FILE)).unwrap();
    assert_eq!(check(), Some(Check::Manifest));
    assert_eq!(versions(root.path(), Kind::Ttl).unwrap(), [] as [u32; 0], "without a manifest it is no version");
    assert_eq!(next_version(root.path(), Kind::Ttl).unwrap(), 2, "but its number is taken");
    assert!(matches!(Bundle::read(root.path(), Kind::Ttl, 9), Err(BundleError::NoVersion { version: 9, .. })));
}

#[test]
fn a_bundle_under_another_number_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let dir = put(root.path()).dir;
    fs::rename(&dir, version_dir(root.path(), Kind::Ttl, 7)).unwrap();
    assert_eq!(Bundle::read(root.path(), Kind::Ttl, 7).unwrap_err().check(), Some(Check::Place));
}

#[test]
fn only_plain_numbers_are_versions() {
    for name in ["03", "0", "+3", "-1", "3 ", "", ".tmp-1-0", "99999999999"] {
        assert_eq!(version_of(name), None, "{name}");
    }
    assert_eq!(version_of("12"), Some(12));
}

#[test]
fn a_failed_publication_leaves_nothing() {
    let root = tempfile::tempdir().unwrap();
    let mut bad = draft();
    bad.golden.clear();
    assert_eq!(publish(root.path(), bad, &[(MODEL_FILE, b"x")]).unwrap_err().check(), Some(Check::Consistency));
    assert_eq!(publish(root.path(), draft(), &[("../x", b"x"), (MODEL_FILE, b"x")]).unwrap_err().check(), Some(Check::Consistency));
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
}

#[test]
fn changes_of_aliases_at_once_are_all_kept() {
    let root = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        for (kind, alias) in Kind::ALL.iter().flat_map(|kind| Alias::ALL.iter().map(move |alias| (*kind, *alias))) {
            let root = root.path();
            scope.spawn(move || {
                let target = Target { version: 5, digest: "d".into() };
                change_aliases(root, |aliases| Ok(aliases.promote(kind, alias, target, 1))).unwrap();
            });
        }
    });
    assert_eq!(read_aliases(root.path()).unwrap().iter().count(), Kind::ALL.len() * Alias::ALL.len());
    assert_eq!(next_version(root.path(), Kind::Ttl).unwrap(), 6, "numbers in the aliases are taken");
    let failed = change_aliases(root.path(), |aliases| aliases.rollback(Kind::Ttl, Alias::Champion, 2));
    assert!(matches!(failed, Err(BundleError::NoTarget { .. })));
    assert_eq!(read_aliases(root.path()).unwrap().get(Kind::Ttl, Alias::Champion).unwrap().moved_ns, 1);
}

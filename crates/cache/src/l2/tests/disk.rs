//! The conformance suite on a disk store.

use super::conformance::suite;

suite!(disk, async {
    let dir = tempfile::tempdir().unwrap();
    let options = DiskOptions { segment_bytes: 512 << 10, ..DiskOptions::new(8 << 20) };
    let store = DiskStore::open(dir.path(), options, crate::l2::tests::now()).unwrap();
    Some((dir, Arc::new(store) as Arc<dyn Store>))
});

use super::*;

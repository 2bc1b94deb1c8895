//! Versions of a document on a real server and a real Cluster: each over the one that its writer knew, and the last ones stay.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, clippy::disallowed_methods, reason = "a test")]

mod handles;
mod servers;

use farthing_fleet::{RedisConfig, Shelf, ShelfFront, ShelfPut, ShelfSaid};
use handles::{SOON, connected, patient};
use servers::{Cluster, Server};

async fn shelf(config: RedisConfig) -> Shelf {
    let keys = ["document", "members"].map(|what| format!("farthing:{{t:config}}:{what}").into_bytes());
    Shelf::new(connected(patient(config)).await, keys, SOON)
}

async fn walk(shelf: &Shelf) {
    assert_eq!(shelf.turn(("one", "a b"), true).await.unwrap().0, ShelfFront::default());
    assert_eq!((shelf.read(1).await.unwrap(), shelf.versions().await.unwrap()), (None, vec![]));
    let put = |over, becomes, mark, body: &'static [u8]| ShelfPut { over, becomes, mark, body };
    assert_eq!(shelf.put(&put(0, 1, "m1", b"first")).await.unwrap(), ShelfSaid::Done);
    assert_eq!(shelf.put(&put(0, 1, "m1", b"first")).await.unwrap(), ShelfSaid::Done, "the same once more");
    assert_eq!(shelf.put(&put(0, 1, "m2", b"other")).await.unwrap(), ShelfSaid::Version(1), "made from nothing, and there is something");
    assert_eq!(shelf.put(&put(1, 7, "m7", b"seventh \xff")).await.unwrap(), ShelfSaid::Done);
    assert_eq!(shelf.read(7).await.unwrap().unwrap(), b"seventh \xff".as_slice());
    let (front, members) = shelf.turn(("two", ""), true).await.unwrap();
    assert_eq!(front, ShelfFront { version: 7, mark: "m7".to_owned() });
    let mut says: Vec<(String, String)> = members.into_iter().map(|of| (of.name, of.says)).collect();
    says.sort();
    assert_eq!(says, [("one".to_owned(), "a b".to_owned()), ("two".to_owned(), String::new())]);
    let (_, unasked) = shelf.turn(("one", "c"), false).await.unwrap();
    assert!(unasked.is_empty());
    // The oldest go, by number and not as text.
    for version in 8..=(7 + Shelf::KEPT as u64) {
        assert_eq!(shelf.put(&put(version - 1, version, "m", b"next")).await.unwrap(), ShelfSaid::Done);
    }
    let numbers: Vec<u64> = shelf.versions().await.unwrap().into_iter().map(|(number, _)| number).collect();
    assert_eq!(numbers, (8..=(7 + Shelf::KEPT as u64)).rev().collect::<Vec<_>>());
    assert_eq!(shelf.read(7).await.unwrap(), None);
}

#[tokio::test]
async fn a_server_keeps_the_last_versions() {
    let Some(server) = Server::start(&[]) else { return };
    walk(&shelf(RedisConfig::single(server.url())).await).await;
    assert_eq!(server.ask(&["TTL", "farthing:{t:config}:document"]), ":-1", "it does not expire");
}

#[tokio::test]
async fn so_does_a_cluster() {
    let Some(cluster) = Cluster::start() else { return };
    walk(&shelf(RedisConfig::cluster(cluster.urls())).await).await;
}

//! A fleet's documents on a real server and a real Cluster: one version after the other, and nothing by who has lost the lease.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, clippy::disallowed_methods, reason = "a test")]

mod handles;
mod servers;

use std::time::Duration;

use farthing_fleet::lease::{Ask, Claim, Ending, Holding, LeaseOp, LeaseSaid, Token};
use farthing_fleet::{Board, BoardDocument, BoardPlace, BoardSaid, BoardWrite, RedisConfig};
use handles::{SOON, connected, patient};
use servers::{Cluster, Server};

const HOUR: Duration = Duration::from_secs(3_600);

async fn board(config: RedisConfig) -> Board {
    Board::new(connected(patient(config)).await, "farthing:{t:experiments}:".to_owned(), SOON)
}

async fn granted(board: &Board, claim: u128) -> Holding {
    let ask = Ask { claim: Claim(claim), lasts: HOUR, floor: Token(0), past: Token(0) };
    match board.lease_step("a", LeaseOp::Ask(ask)).await.unwrap() {
        LeaseSaid::Yours(token) => Holding { claim: ask.claim, token },
        said => panic!("{said:?}"),
    }
}

fn place(name: &str, windows: [i64; 2]) -> BoardPlace {
    BoardPlace { name: name.to_owned(), windows, lasts: HOUR }
}

async fn walk(board: &Board) {
    // Seats are given once.
    let places = [place("a", [7, 7]), place("b", [3, 4])];
    let first = board.turn(("one", 0), &places).await.unwrap();
    assert_eq!((first.seat, first.versions), (1, vec![0, 0]));
    assert_eq!(board.turn(("two", 0), &places).await.unwrap().seat, 2);
    assert_eq!(board.turn(("one", 1), &places).await.unwrap().seat, 1, "who has one keeps it");
    assert_eq!(board.turn(("three", 0), &places).await.unwrap().seat, 3);
    // A version is changed once, and only over what the writer knows.
    assert_eq!(board.read("a").await.unwrap(), BoardDocument::default());
    let write = BoardWrite { name: "a", body: b"first", evidence: Some((4, b"proof")), rows_last: HOUR, ..BoardWrite::default() };
    assert_eq!(board.publish(&write).await.unwrap(), BoardSaid::Done(1));
    assert_eq!(board.publish(&write).await.unwrap(), BoardSaid::Version(1), "sent twice");
    assert_eq!(board.read("a").await.unwrap(), BoardDocument { version: 1, body: b"first".as_slice().into() });
    assert_eq!(board.evidence("a").await.unwrap(), (4, b"proof".as_slice().into()));
    assert_eq!(board.turn(("one", 1), &places).await.unwrap().versions, [1, 0]);
    // Reports.
    board.report(("a", 7), ("one", b"report"), HOUR).await.unwrap();
    board.turn(("one", 1), &places).await.unwrap();
    board.leave(("a", 7), "one").await.unwrap();
    board.leave(("a", 7), "three").await.unwrap();
    let mut there = board.there("a", 7).await.unwrap();
    there.sort();
    assert_eq!(there, [("one".to_owned(), 6), ("two".to_owned(), 0)], "a report stays; who has left without one is not waited for");
    assert_eq!(board.report_of("a", 7, "one").await.unwrap(), b"report".as_slice());
    assert!(board.report_of("a", 7, "two").await.unwrap().is_empty() && board.there("a", 8).await.unwrap().is_empty());
    // On behalf of the fleet, by who holds the lease.
    let old = granted(board, 1).await;
    let by = |holding, over| BoardWrite {
        name: "a",
        over,
        holding: Some(holding),
        body: b"next",
        decided: Some((7, b"rows\n".as_slice())),
        rows_last: HOUR,
        ..BoardWrite::default()
    };
    assert_eq!(board.publish(&by(Holding { claim: Claim(2), ..old }, 1)).await.unwrap(), BoardSaid::NoLease, "another's claim");
    assert_eq!(
        board.publish(&by(Holding { token: Token(old.token.0 - 1), ..old }, 1)).await.unwrap(),
        BoardSaid::NoLease,
        "an older token"
    );
    assert_eq!(board.publish(&by(old, 0)).await.unwrap(), BoardSaid::Version(1));
    assert_eq!(board.there("a", 7).await.unwrap().len(), 2, "what was refused has changed nothing");
    assert_eq!(board.publish(&by(old, 1)).await.unwrap(), BoardSaid::Done(2));
    assert_eq!(board.there("a", 7).await.unwrap(), [], "decided about");
    assert_eq!(board.rows("a", 7).await.unwrap(), b"rows\n".as_slice());
    assert_eq!(board.evidence("a").await.unwrap(), (4, b"proof".as_slice().into()), "as it was");
    board.lease_step("a", LeaseOp::End(old, Ending::Released, HOUR)).await.unwrap();
    assert_eq!(board.publish(&by(old, 2)).await.unwrap(), BoardSaid::NoLease, "given back");
    let new = granted(board, 2).await;
    assert_eq!(board.publish(&by(old, 2)).await.unwrap(), BoardSaid::NoLease, "an old holder writes nothing");
    assert_eq!(board.publish(&by(new, 2)).await.unwrap(), BoardSaid::Done(3));
    // A lease that nobody renewed.
    let short = Ask { claim: Claim(2), lasts: Duration::from_millis(1), floor: new.token, past: Token(0) };
    let LeaseSaid::Yours(_) = board.lease_step("a", LeaseOp::Ask(short)).await.unwrap() else { panic!("it has it already") };
    let over = loop {
        match board.publish(&by(new, 3)).await.unwrap() {
            // Its millisecond is not over yet, on a server that is quick.
            BoardSaid::Done(version) => assert_eq!(version, 4),
            other => break other,
        }
    };
    assert!(matches!(over, BoardSaid::NoLease | BoardSaid::Version(4)), "{over:?}");
}

#[tokio::test]
async fn a_server_keeps_one_version_after_the_other() {
    let Some(server) = Server::start(&[]) else { return };
    walk(&board(RedisConfig::single(server.url())).await).await;
}

#[tokio::test]
async fn so_does_a_cluster() {
    let Some(cluster) = Cluster::start() else { return };
    walk(&board(RedisConfig::cluster(cluster.urls())).await).await;
}

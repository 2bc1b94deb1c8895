//! The data listener against hostile, odd and slow clients. `corpus` holds the requests; here they go through the edge and the upstream client
//! to an origin that records every byte; `pace` has the slow clients, on a paused clock; `life` the listener's start, caps and end.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests may fail the test")]

mod corpus;
mod early;
mod life;
mod pace;
mod recall;
mod streams;
mod support;

use std::sync::Arc;

use corpus::{Expect, cases};
use farthing_proxy::edge::{EdgeConfig, PeerInfo, Refusal, Server};
use support::{Forward, Origin, exchange, read_answers, requests, start};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

#[tokio::test]
async fn every_request_is_refused_or_reaches_the_origin_unambiguously() {
    let origin = Origin::start().await;
    let edge = start(EdgeConfig::default(), Arc::new(Forward::to(origin.addr))).await;
    let cases = cases();
    assert!(cases.len() >= 100, "{} cases", cases.len());
    for case in &cases {
        origin.forget();
        match case.expect {
            Expect::Refused(status) => {
                let answer = exchange(edge.addr, &case.bytes).await;
                let text = String::from_utf8_lossy(&answer);
                assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{}: {text}", case.name);
                assert_eq!(text.matches("\r\ncontent-type: application/problem+json\r\n").count(), 1, "{}: {text}", case.name);
                assert_eq!(String::from_utf8_lossy(&origin.recorded()), "", "{}", case.name);
            }
            Expect::Passed(expected) => {
                let mut client = TcpStream::connect(edge.addr).await.unwrap();
                client.write_all(&case.bytes).await.unwrap();
                let statuses = read_answers(&mut client, expected.len()).await;
                assert!(statuses.iter().all(|status| *status == 200), "{}: {statuses:?}", case.name);
                let seen = requests(&origin.recorded()).unwrap_or_else(|fault| panic!("{}: {fault}", case.name));
                assert_eq!(seen, expected, "{}", case.name);
            }
        }
    }
    edge.stop().await;
}

/// The same through a pipe of seven bytes: no verdict may depend on how the bytes are cut. A fault in a body may then come to light when its
/// head is already at the origin, but the origin must never see a complete request.
#[tokio::test]
async fn small_pieces_change_no_verdict() {
    let origin = Origin::start().await;
    let server = Server::new(EdgeConfig::default(), Arc::new(Forward::to(origin.addr)), Arc::default(), CancellationToken::new());
    for case in &cases() {
        origin.forget();
        let (client, io) = tokio::io::duplex(7);
        let (mut reads, mut writes) = tokio::io::split(client);
        let addr = "127.0.0.1:1".parse().unwrap();
        let serving = server.serve(io, PeerInfo { addr, local: addr, connection: 1 });
        let sending = async {
            drop(writes.write_all(&case.bytes).await); // a refusal may close the pipe before its end
            std::future::pending::<()>().await;
        };
        let receiving = async {
            match case.expect {
                Expect::Refused(_) => vec![status(&support::to_end(&mut reads).await)],
                Expect::Passed(expected) => read_answers(&mut reads, expected.len()).await,
            }
        };
        let statuses = tokio::select! {
            statuses = receiving => statuses,
            () = sending => unreachable!("it never ends"),
            () = async { serving.await; std::future::pending().await } => unreachable!("it never ends"),
        };
        match case.expect {
            Expect::Refused(status) => {
                assert_eq!(statuses, [status], "{}", case.name);
                assert!(requests(&origin.recorded()).map_or(true, |seen| seen.is_empty()), "{}: a whole request passed", case.name);
            }
            Expect::Passed(expected) => {
                assert!(statuses.iter().all(|status| *status == 200), "{}: {statuses:?}", case.name);
                assert_eq!(requests(&origin.recorded()).unwrap(), expected, "{}", case.name);
            }
        }
    }
}

fn status(answer: &[u8]) -> u16 {
    let text = String::from_utf8_lossy(answer);
    text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("no status in {text:?}"))
}

#[tokio::test]
async fn pipelined_answers_come_in_order_before_the_refusal() {
    let origin = Origin::start().await;
    let edge = start(EdgeConfig::default(), Arc::new(Forward::to(origin.addr))).await;
    let answer = exchange(edge.addr, b"GET /a HTTP/1.1\r\nHost: h\r\n\r\nGET /b HTTP/1.1\r\n\r\nGET /c HTTP/1.1\r\nHost: h\r\n\r\n").await;
    let text = String::from_utf8_lossy(&answer);
    let (ok, refused) = (text.find("HTTP/1.1 200 ").unwrap(), text.find("HTTP/1.1 400 ").unwrap());
    assert!(ok < refused && text.contains("missing-host"), "{text}");
    assert_eq!(requests(&origin.recorded()).unwrap(), ["GET /a HTTP/1.1 "]);
    assert_eq!(edge.stats.refused(Refusal::NoHost), 1);
    edge.stop().await;
}

#[tokio::test]
async fn a_body_that_goes_wrong_later_is_never_complete_at_the_origin() {
    let origin = Origin::start().await;
    let edge = start(EdgeConfig::default(), Arc::new(Forward::to(origin.addr))).await;
    let mut client = TcpStream::connect(edge.addr).await.unwrap();
    client.write_all(b"POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n").await.unwrap();
    origin.wait_for(b"hello").await;
    client.write_all(b"zz\r\nGET /b HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
    let text = String::from_utf8_lossy(&support::to_end(&mut client).await).into_owned();
    assert!(text.starts_with("HTTP/1.1 400 ") && text.contains("chunk-size"), "{text}");
    assert!(requests(&origin.recorded()).is_err(), "the origin saw a whole request");
    assert_eq!(edge.stats.refused(Refusal::ChunkSize), 1);
    edge.stop().await;
}

//! Connections of HTTP/2, which many calls share: none of them may be kept from its answer by another, or lost with it.

use std::future::poll_fn;

use futures_util::future::join_all;
use h2::server::SendResponse;
use tokio::sync::Barrier;

use super::*;

/// Longer than anything here takes; only a broken test waits so long.
const PATIENCE: Duration = Duration::from_secs(20);

/// Answers 200 with so many bytes, as fast as they are taken.
async fn give(mut respond: SendResponse<Bytes>, bytes: usize) {
    let mut body = respond.send_response(Response::new(()), false).unwrap();
    let mut left = bytes;
    while left > 0 {
        body.reserve_capacity(left);
        let Some(Ok(room)) = poll_fn(|cx| body.poll_capacity(cx)).await else { return };
        let piece = room.min(left);
        left -= piece;
        if body.send_data(vec![b'x'; piece].into(), left == 0).is_err() {
            return;
        }
    }
}

fn http2(server: &Server) -> UpstreamSpec {
    UpstreamSpec { protocol: Protocol::Http2, head_deadline: PATIENCE, ..spec(&format!("http://{}", server.addr)) }
}

#[tokio::test]
async fn an_answer_that_nobody_reads_keeps_no_other_from_its_connection() {
    let server = Server::raw(|stream| async move {
        let mut connection = h2::server::handshake(stream).await.unwrap();
        let mut answers = JoinSet::new();
        while let Some(Ok((request, respond))) = connection.accept().await {
            answers.spawn(give(respond, if request.uri().path() == "/large" { 8 << 20 } else { 12 }));
        }
    })
    .await;
    let origin = counted(http2(&server));
    let ask = |path| origin.fetch(call(Method::GET, path, Body::empty(), &Arc::default()));
    let large = ask("/large").await.unwrap();
    for _ in 0..20 {
        let small = tokio::time::timeout(PATIENCE, text(ask("/small").await.unwrap().body)).await.expect("it comes");
        assert_eq!(small, "x".repeat(12));
    }
    assert_eq!(large.body.collect().await.unwrap().to_bytes().len(), 8 << 20);
    assert_eq!(origin.traffic().opened(Version::HTTP_2), 1);
}

/// The 150 are answered when all of them are there.
#[tokio::test]
async fn more_calls_than_a_connection_takes_go_over_another() {
    let all = Arc::new(Barrier::new(150));
    let server = Server::raw(move |stream| {
        let all = all.clone();
        async move {
            let mut connection = h2::server::Builder::new().max_concurrent_streams(100).handshake::<_, Bytes>(stream).await.unwrap();
            let mut answers = JoinSet::new();
            while let Some(Ok((request, respond))) = connection.accept().await {
                let all = all.clone();
                answers.spawn(async move {
                    if request.uri().path() == "/together" {
                        all.wait().await;
                    }
                    give(respond, 12).await;
                });
            }
        }
    })
    .await;
    let origin = counted(http2(&server));
    let ask = |path| origin.fetch(call(Method::POST, path, Body::full("x"), &Arc::default()));
    assert_eq!(text(ask("/first").await.unwrap().body).await.len(), 12);
    let answers = join_all((0..150).map(|_| ask("/together"))).await;
    assert_eq!(origin.traffic().opened(Version::HTTP_2), 2);
    for answer in answers {
        let reply = answer.unwrap();
        assert_eq!((reply.status, text(reply.body).await.len()), (StatusCode::OK, 12));
    }
    // There is room again for those after them, on the first.
    for _ in 0..3 {
        assert_eq!(text(ask("/after").await.unwrap().body).await.len(), 12);
    }
    assert_eq!(origin.traffic().opened(Version::HTTP_2), 2);
}

const HEADERS: u8 = 1;

/// Answers the client's settings, and reads frames up to the head of a request.
async fn read_request(stream: &mut TcpStream) {
    stream.read_exact(&mut [0u8; 24]).await.unwrap();
    stream.write_all(&frame(4, 0, 0, &[])).await.unwrap();
    loop {
        let mut head = [0u8; 9];
        stream.read_exact(&mut head).await.unwrap();
        let length = usize::from(head[1]) << 8 | usize::from(head[2]);
        stream.read_exact(&mut vec![0u8; length]).await.unwrap();
        if head[3] == HEADERS {
            return;
        }
    }
}

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    [&[0, 0, u8::try_from(payload.len()).unwrap(), kind, flags, 0, 0, 0, stream], payload].concat()
}

/// Reads until the client leaves.
async fn read_out(mut stream: TcpStream) {
    while matches!(stream.read(&mut [0u8; 1_024]).await, Ok(1..)) {}
}

#[tokio::test]
async fn what_a_leaving_upstream_did_not_process_counts_as_unsent() {
    const ENHANCE_YOUR_CALM: u8 = 11;
    for (last, reason, sent) in [(0, 0, false), (0, ENHANCE_YOUR_CALM, false), (1, 0, true)] {
        let server = Server::raw(move |mut stream| async move {
            read_request(&mut stream).await;
            stream.write_all(&frame(7, 0, 0, &[0, 0, 0, last, 0, 0, 0, reason])).await.unwrap();
            if last == 0 {
                read_out(stream).await;
            }
        })
        .await;
        let reports = Arc::new(Reports::default());
        let failure = upstream(http2(&server)).fetch(call(Method::POST, "/", Body::full("x"), &reports)).await.unwrap_err();
        assert_eq!((failure.kind, failure.sent), (FailureKind::Broken, sent), "{last} {reason}: {failure}");
        assert_eq!(reports.single().sent, sent);
    }
}

#[tokio::test]
async fn a_post_that_a_leaving_upstream_did_not_process_goes_over_another_connection() {
    let accepted = Arc::new(Mutex::new(0));
    let server = Server::raw(move |mut stream| {
        let first = {
            let mut accepted = accepted.lock();
            *accepted += 1;
            *accepted == 1
        };
        async move {
            read_request(&mut stream).await;
            // It leaves; or it answers 200 and nothing more (RFC 7541, appendix A).
            let answer = if first { frame(7, 0, 0, &[0; 8]) } else { frame(HEADERS, 5, 1, &[0x88]) };
            stream.write_all(&answer).await.unwrap();
            read_out(stream).await;
        }
    })
    .await;
    let retry = RetrySpec { attempts: 2, backoff: Duration::from_millis(1), ..RetrySpec::default() };
    let origin = counted(UpstreamSpec { retry, ..http2(&server) });
    let reply = origin.fetch(call(Method::POST, "/", Body::full("x"), &Arc::default())).await.unwrap();
    assert_eq!((reply.status, origin.traffic().opened(Version::HTTP_2), origin.traffic().repeated()), (StatusCode::OK, 2, 1));
}

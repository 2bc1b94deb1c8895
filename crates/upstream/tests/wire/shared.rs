//! Connections of HTTP/2, which many calls share: none of them may be kept from its answer by another, or lost with it.

use std::future::poll_fn;

use h2::server::SendResponse;

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

//! Answers whose head says more than one thing of where they end.

use super::*;

/// What goes on to the client is framed anew: a length that is not the body's would cut it short or split it in two.
#[tokio::test]
async fn an_answer_tells_no_length_but_that_of_its_body() {
    for (lines, length, body) in [
        // The coding decides (RFC 9112 section 6.3).
        ("content-length: 5\r\ntransfer-encoding: chunked\r\n\r\nb\r\nhello world\r\n0\r\n\r\n", None, "hello world"),
        ("transfer-encoding: chunked\r\ncontent-length: 11\r\n\r\n5\r\nhello\r\n0\r\n\r\n", None, "hello"),
        ("content-length: 5, 5\r\n\r\nhello", Some("5"), "hello"),
        ("content-length: 5\r\ncontent-length: 5\r\n\r\nhello", Some("5"), "hello"),
        ("content-length: 5\r\n\r\nhello", Some("5"), "hello"),
    ] {
        let server = Server::raw(move |mut stream| async move {
            read_head(&mut stream).await;
            stream.write_all(format!("HTTP/1.1 200 OK\r\n{lines}").as_bytes()).await.unwrap();
            read_head(&mut stream).await;
        })
        .await;
        let origin = upstream(spec(&format!("http://{}", server.addr)));
        let reply = origin.fetch(call(Method::GET, "/", Body::empty(), &Arc::default())).await.unwrap();
        let lengths: Vec<_> = reply.headers.get_all("content-length").iter().map(|value| value.to_str().unwrap().to_owned()).collect();
        assert_eq!(lengths, Vec::from_iter(length), "{lines}");
        assert!(!reply.headers.contains_key("transfer-encoding"));
        assert_eq!(text(reply.body).await, body, "{lines}");
    }
}

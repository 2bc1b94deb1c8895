//! Connections: shared, counted, waited for.

use std::sync::atomic::{AtomicUsize, Ordering};

use farthing_upstream::Traffic;
use tokio::sync::Notify;
use tokio::sync::mpsc::unbounded_channel;

use super::*;

/// Connections that were opened, that are open, and answers that came over them, by version.
fn connections(traffic: &Traffic) -> [(u64, u64, u64); 2] {
    Traffic::VERSIONS.map(|(version, _)| (traffic.opened(version), traffic.open(version), traffic.answered(version)))
}

#[tokio::test]
async fn many_calls_share_one_connection_where_the_upstream_speaks_http2() {
    let (tls, roots) = certificate(&[b"h2", b"http/1.1"]);
    let server = Server::start(Some(tls), true).await;
    let origin = counted(UpstreamSpec { roots, ..spec(&format!("https://{}", server.addr)) });
    let reports = Arc::new(Reports::default());
    let ask = || origin.fetch(call(Method::POST, "/", Body::full("hello"), &reports));
    assert_eq!(text(ask().await.unwrap().body).await, "hello");
    for reply in futures_util::future::join_all((0..100).map(|_| ask())).await {
        assert_eq!(text(reply.unwrap().body).await, "hello");
    }
    assert_eq!(connections(origin.traffic()), [(0, 0, 0), (1, 1, 101)]);
}

#[tokio::test]
async fn connections_are_counted_by_what_became_of_them() {
    let server = Server::start(None, false).await;
    let origin = counted(spec(&format!("http://{}", server.addr)));
    let reports = Arc::new(Reports::default());
    for _ in 0..3 {
        assert_eq!(text(origin.fetch(call(Method::GET, "/", Body::empty(), &reports)).await.unwrap().body).await, "");
    }
    // The first answer tells for how long connections are kept, which ends the first of them.
    while origin.traffic().open(Version::HTTP_11) > 1 {
        tokio::task::yield_now().await;
    }
    assert_eq!(connections(origin.traffic()), [(2, 1, 3), (0, 0, 0)]);
    drop(server);
    while origin.traffic().open(Version::HTTP_11) > 0 {
        tokio::task::yield_now().await;
    }
    assert!(origin.fetch(call(Method::GET, "/", Body::empty(), &reports)).await.is_err());
    assert_eq!((connections(origin.traffic())[0], origin.traffic().unconnected()), ((2, 0, 3), 1));
}

#[tokio::test]
async fn an_attempt_that_may_be_repeated_has_a_shorter_time() {
    let server = Server::raw(|mut stream| async move { while !read_head(&mut stream).await.is_empty() {} }).await;
    let times = |head| UpstreamSpec {
        head_deadline: head,
        try_deadline: Some(Duration::from_millis(100)),
        ..spec(&format!("http://{}", server.addr))
    };
    let retry = RetrySpec { attempts: 3, backoff: Duration::from_millis(1), ..RetrySpec::default() };
    let origin = upstream(UpstreamSpec { retry, ..times(Duration::from_secs(600)) });
    let reports = Arc::new(Reports::default());
    assert_eq!(origin.fetch(call(Method::GET, "/", Body::empty(), &reports)).await.unwrap_err().kind, FailureKind::Timeout);
    let timeouts = reports.0.lock().iter().filter(|report| report.failure == Some(FailureKind::Timeout) && report.sent).count();
    assert_eq!(timeouts, 3);
    // What cannot be made again has the whole time.
    let origin = upstream(UpstreamSpec { retry, ..times(Duration::from_millis(300)) });
    let reports = Arc::new(Reports::default());
    assert_eq!(origin.fetch(call(Method::POST, "/", Body::full("x"), &reports)).await.unwrap_err().kind, FailureKind::Timeout);
    assert!(reports.single().head_after >= Duration::from_millis(300));
}

/// Answers one request of each connection, with these lines, and closes it in the moment in which the next one comes.
async fn closes_when_used_again(lines: &'static str) -> Server {
    Server::raw(move |mut stream| async move {
        read_head(&mut stream).await;
        let answer = format!("HTTP/1.1 200 OK\r\n{lines}content-length: 2\r\n\r\nok");
        stream.write_all(answer.as_bytes()).await.unwrap();
        stream.read_exact(&mut [0]).await.ok();
    })
    .await
}

async fn post(origin: &Upstream, reports: &Arc<Reports>) -> Result<String, farthing_types::Failure> {
    // Without a body, so that nothing of it lies unread when the connection is closed.
    let reply = origin.fetch(call(Method::POST, "/", Body::empty(), reports)).await?;
    Ok(text(reply.body).await)
}

/// A balancer that has just closed a connection: nobody knows what became of the request, so only what may be repeated is.
#[tokio::test]
async fn a_request_on_a_connection_that_is_being_closed_is_repeated_where_it_may_be() {
    let server = closes_when_used_again("").await;
    let retry = RetrySpec { attempts: 2, backoff: Duration::from_millis(1), ..RetrySpec::default() };
    let origin = counted(UpstreamSpec { retry, ..spec(&format!("http://{}", server.addr)) });
    let reports = Arc::new(Reports::default());
    assert_eq!(post(&origin, &reports).await.unwrap(), "ok");
    let failure = post(&origin, &reports).await.unwrap_err();
    assert_eq!((failure.kind, failure.sent, reports.0.lock().len()), (FailureKind::Broken, true, 2), "{failure:?}");
    assert_eq!(post(&origin, &reports).await.unwrap(), "ok");
    let reply = origin.fetch(call(Method::PUT, "/", Body::empty(), &reports)).await.unwrap();
    assert_eq!((&*text(reply.body).await, reports.0.lock().len(), origin.traffic().repeated()), ("ok", 5, 1));
}

#[tokio::test]
async fn a_connection_is_left_before_the_other_end_closes_it() {
    for (lines, pool_idle) in [("keep-alive: timeout=0\r\n", Duration::from_secs(50)), ("", Duration::ZERO)] {
        let server = closes_when_used_again(lines).await;
        let origin = counted(UpstreamSpec { pool_idle, ..spec(&format!("http://{}", server.addr)) });
        let reports = Arc::new(Reports::default());
        for _ in 0..20 {
            assert_eq!(post(&origin, &reports).await.unwrap(), "ok", "{lines}");
        }
        assert_eq!((origin.traffic().opened(Version::HTTP_11), reports.0.lock().len()), (20, 20));
    }
}

/// Nothing is lost on a connection that was closed at once after an answer: it is found closed.
#[tokio::test]
async fn a_connection_that_was_closed_after_an_answer_is_not_used_again() {
    let server = Server::raw(|mut stream| async move {
        read_head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
    })
    .await;
    let origin = counted(spec(&format!("http://{}", server.addr)));
    let reports = Arc::new(Reports::default());
    for _ in 0..20 {
        assert_eq!(post(&origin, &reports).await.unwrap(), "ok");
        while origin.traffic().open(Version::HTTP_11) > 0 {
            tokio::task::yield_now().await;
        }
    }
    assert!(reports.0.lock().iter().all(|report| report.status == Some(StatusCode::OK)));
}

/// What is here with its head is handed on as a whole; what comes later, or without a length, as it comes. The connection is used again after each.
#[tokio::test]
async fn answers_come_whole_or_bit_by_bit_over_one_connection() {
    let server = Server::raw(|mut stream| async move {
        for parts in [
            &["content-length: 2\r\n\r\nok"][..],
            &["content-length: 0\r\n\r\n"],
            &["content-length: 4\r\n\r\n", "oo", "kk"],
            &["transfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n", "2\r\nok\r\n", "0\r\nx-sum: 2\r\n\r\n"],
            &["transfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"],
        ] {
            read_head(&mut stream).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\n").await.unwrap();
            for part in parts {
                // Each goes out by itself: the reader has it before the next is written.
                tokio::task::yield_now().await;
                stream.write_all(part.as_bytes()).await.unwrap();
            }
        }
        read_head(&mut stream).await;
    })
    .await;
    let origin = counted(spec(&format!("http://{}", server.addr)));
    let reports = Arc::new(Reports::default());
    for (body, trailer) in [("ok", false), ("", false), ("ookk", false), ("ok", true), ("ok", false)] {
        let reply = origin.fetch(call(Method::GET, "/", Body::empty(), &reports)).await.unwrap();
        let collected = reply.body.collect().await.unwrap();
        assert_eq!(collected.trailers().is_some(), trailer);
        assert_eq!(collected.to_bytes(), body);
    }
    assert_eq!(connections(origin.traffic())[0], (1, 1, 5));
}

/// A short answer of known length waits for nobody: its place and its connection are free when its head is there.
#[tokio::test]
async fn a_short_answer_needs_its_connection_no_more_when_its_head_is_there() {
    let server = Server::raw(|mut stream| async move {
        while !read_head(&mut stream).await.is_empty() {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
        }
    })
    .await;
    let origin = counted(UpstreamSpec { max_concurrent: 1, ..spec(&format!("http://{}", server.addr)) });
    let reports = Arc::new(Reports::default());
    let mut unread = Vec::new();
    for _ in 0..3 {
        let reply = origin.fetch(call(Method::GET, "/", Body::empty(), &reports)).await.unwrap();
        assert!(reply.body.is_full());
        unread.push(reply);
    }
    assert_eq!((origin.traffic().opened(Version::HTTP_11), origin.traffic().under_way()), (1, 0));
}

/// Whoever sends may not be kept from it by whoever does not read: the upstream answers before it has the whole request.
#[tokio::test]
async fn a_body_goes_on_up_while_nobody_reads_the_answer() {
    let (tell, mut told) = unbounded_channel();
    let server = Server::raw(move |mut stream| {
        let tell = tell.clone();
        async move {
            while !read_head(&mut stream).await.is_empty() {
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
                let mut body = [0u8; 6];
                stream.read_exact(&mut body).await.unwrap();
                tell.send(body).unwrap();
            }
        }
    })
    .await;
    let origin = counted(spec(&format!("http://{}", server.addr)));
    let reports = Arc::new(Reports::default());
    for _ in 0..2 {
        let (send, receive) = unbounded_channel::<&'static str>();
        let frames = stream::unfold(receive, |mut receive| async move {
            let part = receive.recv().await?;
            Some((Ok::<_, BodyError>(Frame::data(Bytes::from_static(part.as_bytes()))), receive))
        });
        let mut call = call(Method::POST, "/", Body::stream(StreamBody::new(frames)), &reports);
        call.headers.insert("content-length", HeaderValue::from_static("6"));
        send.send("hel").unwrap();
        let unread = origin.fetch(call).await.unwrap();
        send.send("lo!").unwrap();
        assert_eq!(&told.recv().await.unwrap(), b"hello!");
        assert_eq!(text(unread.body).await, "ok");
    }
    assert_eq!(connections(origin.traffic())[0].2, 2);
}

/// An answer that ends with its connection is whole only where its length says so.
#[tokio::test]
async fn an_answer_that_breaks_off_with_its_head_is_no_whole_one() {
    let server = Server::raw(|mut stream| async move {
        let length = if read_head(&mut stream).await.starts_with("GET /whole") { 2 } else { 9 };
        let answer = format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {length}\r\n\r\nok");
        stream.write_all(answer.as_bytes()).await.unwrap();
    })
    .await;
    let origin = counted(spec(&format!("http://{}", server.addr)));
    let reports = Arc::new(Reports::default());
    for calls in 1..=20 {
        let reply = origin.fetch(call(Method::GET, "/broken", Body::empty(), &reports)).await.unwrap();
        assert!(reply.body.collect().await.is_err());
        let reply = origin.fetch(call(Method::GET, "/whole", Body::empty(), &reports)).await.unwrap();
        assert_eq!(text(reply.body).await, "ok");
        assert_eq!(connections(origin.traffic())[0], (2 * calls, 0, 2 * calls));
    }
}

#[tokio::test]
async fn an_answer_that_is_left_before_its_end_takes_its_connection_with_it() {
    let server = Server::raw(|mut stream| async move {
        read_head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok").await.unwrap();
        read_head(&mut stream).await;
    })
    .await;
    let origin = counted(spec(&format!("http://{}", server.addr)));
    let reports = Arc::new(Reports::default());
    for calls in 1..=2 {
        let mut reply = origin.fetch(call(Method::GET, "/", Body::empty(), &reports)).await.unwrap();
        assert!(reply.body.frame().await.is_some());
        drop(reply);
        assert_eq!(connections(origin.traffic())[0], (calls, 0, calls));
    }
}

/// A new connection may take long to be made: what another call gives back meanwhile is taken.
#[tokio::test]
async fn a_call_takes_a_connection_that_comes_free_before_its_own_stands() {
    let (tls, roots) = certificate(&[]);
    let answers = Arc::new(Notify::new());
    let (listener, accepted) = (TcpListener::bind("127.0.0.1:0").await.unwrap(), Arc::new(AtomicUsize::new(0)));
    let addr = listener.local_addr().unwrap();
    let (may_answer, counter) = (answers.clone(), accepted.clone());
    let serving = async move {
        let mut stream = tls.accept(listener.accept().await.unwrap().0).await.unwrap();
        counter.fetch_add(1, Ordering::SeqCst);
        // The second has no handshake.
        let accepting = async {
            let second = listener.accept().await.unwrap();
            counter.fetch_add(1, Ordering::SeqCst);
            std::future::pending::<()>().await;
            drop(second);
        };
        let answering = async {
            for answered in 0..2 {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.unwrap());
                }
                if answered == 0 {
                    may_answer.notified().await;
                }
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
            }
        };
        futures_util::future::join(accepting, answering).await;
    };
    let mut tasks = JoinSet::new();
    tasks.spawn(serving);
    let origin = counted(UpstreamSpec { roots, protocol: Protocol::Http1, ..spec(&format!("https://{addr}")) });
    let reports = Arc::new(Reports::default());
    let ask = || origin.fetch(call(Method::GET, "/", Body::empty(), &reports));
    let release = async {
        while accepted.load(Ordering::SeqCst) < 2 {
            tokio::task::yield_now().await;
        }
        answers.notify_one();
    };
    let (first, second, ()) = futures_util::future::join3(ask(), ask(), release).await;
    assert_eq!((text(first.unwrap().body).await, text(second.unwrap().body).await), ("ok".to_owned(), "ok".to_owned()));
    assert_eq!(connections(origin.traffic())[0], (1, 1, 2));
}

/// An answer may come before all of its request has gone out: the rest follows, though nobody reads any more.
#[tokio::test]
async fn what_is_held_of_a_request_follows_when_its_answer_was_early() {
    // More than the sockets take.
    const BYTES: usize = 32 << 20;
    let (tell, mut told) = unbounded_channel();
    let left = Arc::new(Notify::new());
    let go = left.clone();
    let server = Server::raw(move |mut stream| {
        let (tell, go) = (tell.clone(), go.clone());
        async move {
            read_head(&mut stream).await;
            stream.write_all(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n").await.unwrap();
            go.notified().await;
            let (mut came, mut piece) = (0, vec![0u8; 1 << 16]);
            while came < BYTES {
                match stream.read(&mut piece).await {
                    Ok(0) | Err(_) => break,
                    Ok(bytes) => came += bytes,
                }
            }
            tell.send(came).unwrap();
        }
    })
    .await;
    let origin = counted(spec(&format!("http://{}", server.addr)));
    let reports = Arc::new(Reports::default());
    drop(origin.fetch(call(Method::POST, "/", Body::full(vec![0u8; BYTES]), &reports)).await.unwrap());
    left.notify_one();
    assert_eq!(told.recv().await, Some(BYTES));
}

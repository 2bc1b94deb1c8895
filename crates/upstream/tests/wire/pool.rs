//! Connections: shared, counted, waited for.

use farthing_upstream::Traffic;

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
    assert_eq!(connections(origin.traffic()), [(1, 1, 3), (0, 0, 0)]);
    drop(server);
    while origin.traffic().open(Version::HTTP_11) > 0 {
        tokio::task::yield_now().await;
    }
    assert!(origin.fetch(call(Method::GET, "/", Body::empty(), &reports)).await.is_err());
    assert_eq!((connections(origin.traffic())[0], origin.traffic().unconnected()), ((1, 0, 3), 1));
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

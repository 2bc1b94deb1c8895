//! E3, E4, Z3: a page asks for twenty things at once over real sockets.

use farthing_config::{BatchConfig, BatchFormat, BatchWindow};
use farthing_tests::origin::{answer_of, ok};
use farthing_tests::{Origin, Setup};
use farthing_types::Span;
use futures_util::future::join_all;
use http::StatusCode;
use serde_json::{Value, json};

/// Twenty widgets are one call, and the one that is broken is broken for its own client only.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_widgets_are_one_call() {
    let origin = Origin::simple(|seen, _| {
        if seen.target != "/batch" {
            return answer_of(StatusCode::INTERNAL_SERVER_ERROR, &[], "only batches are expected");
        }
        let asked: Value = serde_json::from_slice(&seen.body).unwrap();
        let one = |request: &Value| {
            let status = if request["url"] == "/widgets/7" { 500 } else { 200 };
            json!({ "id": request["id"], "status": status, "body": { "is": request["url"] } })
        };
        let responses: Vec<Value> = asked["requests"].as_array().unwrap().iter().rev().map(one).collect();
        ok(json!({ "responses": responses }).to_string())
    })
    .await;
    let setup = Setup::new(origin.addr).route(|route| {
        // It goes when it is full, so no clock has a part in it.
        let format = BatchFormat::Rest { path: "/batch".into() };
        let window = BatchWindow::Fixed(Span::from_secs(10));
        route.batch = Some(BatchConfig { window, max_size: 20, min_rate: 0.0, ..BatchConfig::new(format) });
    });
    let started = setup.start().await;
    let client = &started.client;
    let paths: Vec<String> = (0..20).map(|n| format!("/widgets/{n}")).collect();
    let targets: Vec<String> = paths.iter().map(|path| format!("/api{path}")).collect();
    let answers = join_all(targets.iter().map(|target| client.get(target, &[]))).await;
    for (path, answer) in paths.iter().zip(answers) {
        let expected = if path == "/widgets/7" { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::OK };
        assert_eq!((answer.status, answer.text()), (expected, json!({ "is": path }).to_string()));
    }
    assert_eq!(origin.calls(), 1);
    assert!(client.get("/api/widgets/3", &[]).await.is_hit());
    assert_eq!(started.proxy.batches()[0].stats.members(), 20);
}

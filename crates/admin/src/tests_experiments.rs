//! Experiments over the API.

use http::StatusCode;
use serde_json::{Value, json};

use crate::tests::{Fake, call};
use crate::*;

fn summary(stage: &str) -> ExperimentSummary {
    ExperimentSummary {
        name: "ttl".to_owned(),
        hypothesis: "it is cheaper".to_owned(),
        routes: Vec::new(),
        window_s: 60.0,
        variants: Vec::new(),
        stage: stage.to_owned(),
        verdict: "keep running (about 3 days)".to_owned(),
        unit: "key".to_owned(),
        traffic: 0.1,
        ramps: true,
        windows: 3,
        leader: "rule".to_owned(),
        started_ns: None,
        stopped_ns: None,
        differs: false,
        found: Vec::new(),
    }
}

impl ExperimentsView for Fake {
    fn list(&self) -> Vec<ExperimentSummary> {
        vec![summary("draft")]
    }
    fn show(&self, name: &str) -> Option<ExperimentDetail> {
        (name == "ttl").then(|| ExperimentDetail { summary: summary("draft"), answers: json!([]), report: json!({}), fleet: json!(null) })
    }
    fn tunings(&self) -> Vec<RouteTuning> {
        let waits = Some("waiting for experiment ttl".to_owned());
        vec![RouteTuning { route: "geo".to_owned(), values: Vec::new(), trying: None, waits, past: Vec::new() }]
    }
    fn order(&self, name: &str, order: &str, request: &ExperimentRequest) -> Result<ExperimentDetail, ControlError> {
        match (ExperimentsView::show(self, name), order, request.reason.as_str()) {
            (None, ..) => Err(ControlError::NotFound(format!("there is no experiment `{name}`"))),
            (_, _, "") => Err(ControlError::Refused("reason: say why".to_owned())),
            (Some(detail), "start", _) => Ok(ExperimentDetail { summary: summary("running"), ..detail }),
            (_, other, _) => Err(ControlError::Refused(format!("it is draft: {other}"))),
        }
    }
    fn audit(&self, name: &str) -> Result<Vec<ExperimentAudit>, ControlError> {
        let line = ExperimentAudit { at: "then".to_owned(), by: "operator".to_owned(), what: "draft -> running".to_owned(), reason: None };
        ExperimentsView::show(self, name).map(|_| vec![line]).ok_or_else(|| ControlError::NotFound("none".to_owned()))
    }
    fn export(&self, _name: &str, from: u64) -> Result<ExperimentRows, ControlError> {
        Ok(ExperimentRows { csv: format!("from {from}\n"), next: (from == 0).then_some(7) })
    }
}

#[tokio::test]
async fn an_experiment_is_ordered_about_and_its_rows_are_fetched_piece_by_piece() {
    let path = |end: &str| format!("/api/v1/experiments/ttl/{end}");
    let (status, body) = call("POST", &path("start"), json!({"reason": "the review said so"})).await;
    assert_eq!((status, &body["summary"]["stage"]), (StatusCode::OK, &json!("running")));
    for (order, request, wanted) in [
        ("start", json!({}), StatusCode::UNPROCESSABLE_ENTITY),
        ("start", json!({"reason": ""}), StatusCode::UNPROCESSABLE_ENTITY),
        ("decide", json!({"reason": "x", "variant": "model"}), StatusCode::UNPROCESSABLE_ENTITY),
        ("start", json!({"reason": "x", "until": 3}), StatusCode::UNPROCESSABLE_ENTITY),
    ] {
        assert_eq!(call("POST", &path(order), request.clone()).await.0, wanted, "{order} {request}");
    }
    let (status, tuning) = call("GET", "/api/v1/tuning", Value::Null).await;
    assert_eq!((status, &tuning[0]["waits"]), (StatusCode::OK, &json!("waiting for experiment ttl")));
    assert_eq!(call("POST", "/api/v1/experiments/none/start", json!({"reason": "x"})).await.0, StatusCode::NOT_FOUND);
    let (status, audit) = call("GET", &path("audit"), Value::Null).await;
    assert_eq!((status, &audit[0]["what"]), (StatusCode::OK, &json!("draft -> running")));
    let (_, first) = call("GET", &path("export"), Value::Null).await;
    let (_, last) = call("GET", &path("export?from=7"), Value::Null).await;
    assert_eq!((first, last), (json!({"csv": "from 0\n", "next": 7}), json!({"csv": "from 7\n", "next": null})));
}

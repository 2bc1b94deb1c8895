use http::StatusCode;
use serde_json::{Value, json};

use crate::tests::{Fake, call};
use crate::*;

impl BypassControl for Fake {
    fn bypasses(&self) -> Vec<BypassInfo> {
        vec![BypassInfo { route: Some("geo".to_owned()), ..BypassInfo::default() }]
    }
    fn bypass_on(&self, request: &BypassRequest) -> Result<Vec<BypassInfo>, ControlError> {
        match request.route.as_deref() {
            Some("gee") => Err(ControlError::NotFound("there is no route `gee`".to_owned())),
            _ if request.reason.is_empty() => Err(ControlError::Refused("reason: say why".to_owned())),
            route => Ok(vec![BypassInfo {
                route: route.map(str::to_owned),
                until: request.seconds.map(|seconds| format!("in {seconds} s")),
                reason: request.reason.clone(),
                ..BypassInfo::default()
            }]),
        }
    }
    fn bypass_off(&self, _request: &BypassRequest) -> Result<Vec<BypassInfo>, ControlError> {
        Ok(Vec::new())
    }
}

#[tokio::test]
async fn the_bypass_is_shown_switched_on_and_off() {
    let (status, body) = call("GET", "/api/v1/bypass", Value::Null).await;
    assert_eq!((status, &body[0]["route"]), (StatusCode::OK, &json!("geo")));
    let (status, body) = call("POST", "/api/v1/bypass/on", json!({"seconds": 600, "reason": "wrong answers"})).await;
    assert_eq!((status, &body[0]["route"], &body[0]["until"]), (StatusCode::OK, &Value::Null, &json!("in 600 s")));
    assert_eq!(call("POST", "/api/v1/bypass/off", json!({"reason": "mended"})).await, (StatusCode::OK, json!([])));
    for (order, wanted) in [
        (json!({"route": "gee", "reason": "x"}), StatusCode::NOT_FOUND),
        (json!({"reason": ""}), StatusCode::UNPROCESSABLE_ENTITY),
        (json!({}), StatusCode::UNPROCESSABLE_ENTITY),
        (json!({"reason": "x", "minutes": 3}), StatusCode::UNPROCESSABLE_ENTITY),
    ] {
        assert_eq!(call("POST", "/api/v1/bypass/on", order.clone()).await.0, wanted, "{order}");
    }
}

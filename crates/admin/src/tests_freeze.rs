use http::StatusCode;
use serde_json::{Value, json};

use crate::tests::{Fake, call};
use crate::*;

impl FreezeControl for Fake {
    fn frozen(&self) -> FreezeInfo {
        FreezeInfo::default()
    }
    fn freeze(&self, on: bool, request: &FreezeRequest) -> Result<FreezeInfo, ControlError> {
        match (on, request.reason.as_str()) {
            (_, "") => Err(ControlError::Refused("reason: say why".to_owned())),
            (false, _) => Err(ControlError::NotFound("automation is not frozen".to_owned())),
            (true, reason) => Ok(FreezeInfo { frozen: true, since: None, reason: Some(reason.to_owned()) }),
        }
    }
}

#[tokio::test]
async fn automation_is_frozen_with_a_reason() {
    assert_eq!(call("GET", "/api/v1/freeze", Value::Null).await.1["frozen"], json!(false));
    let (status, body) = call("POST", "/api/v1/freeze/on", json!({"reason": "a launch"})).await;
    assert_eq!((status, &body["frozen"], &body["reason"]), (StatusCode::OK, &json!(true), &json!("a launch")));
    assert_eq!(call("POST", "/api/v1/freeze/on", json!({"reason": ""})).await.0, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(call("POST", "/api/v1/freeze/on", json!({})).await.0, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(call("POST", "/api/v1/freeze/off", json!({"reason": "over"})).await.0, StatusCode::NOT_FOUND);
    assert_eq!(call("GET", "/api/v1/models/candidates", Value::Null).await, (StatusCode::OK, json!([])));
    assert_eq!(call("GET", "/api/v1/models/drift", Value::Null).await.0, StatusCode::OK);
}

use http::StatusCode;
use serde_json::Value;

use crate::tests::{Fake, call};
use crate::*;

impl SinksView for Fake {
    fn sinks(&self) -> Vec<SinkInfo> {
        vec![SinkInfo { name: "warehouse".to_owned(), waiting: 7, ..SinkInfo::default() }]
    }
}

#[tokio::test]
async fn sinks_are_told() {
    let (status, body) = call("GET", "/api/v1/sinks", Value::Null).await;
    assert_eq!((status, &body[0]["name"], &body[0]["waiting"]), (StatusCode::OK, &"warehouse".into(), &7.into()));
    assert!(body[0]["problem"].is_null() && body[0]["faults"].is_object(), "{body}");
}

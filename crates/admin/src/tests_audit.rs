use std::sync::Arc;

use http::{StatusCode, header};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::tests::{Fake, call, parts, request, send};
use crate::*;

impl ConfigControl for Fake {
    fn config(&self) -> ConfigInfo {
        ConfigInfo { digest: "aa".to_owned(), ..ConfigInfo::default() }
    }
    fn access(&self) -> Option<Arc<farthing_config::Config>> {
        None
    }
    fn reload(&self) -> Result<ConfigReport, ControlError> {
        Err(ControlError::Refused("restart needed, nothing was changed: data.listen".to_owned()))
    }
    fn diff(&self, question: &ConfigQuestion) -> Result<ConfigReport, ControlError> {
        Ok(ConfigReport { digest: question.text.clone().unwrap_or_default(), ..ConfigReport::default() })
    }
}

impl FleetConfigControl for Fake {
    fn standing(&self) -> Result<FleetConfig, ControlError> {
        Ok(FleetConfig { version: 2, ..FleetConfig::default() })
    }
    fn versions(&self) -> Result<Vec<ConfigVersion>, ControlError> {
        Err(ControlError::Unavailable("redis does not answer".to_owned()))
    }
    fn version(&self, version: u64) -> Result<ConfigText, ControlError> {
        Err(ControlError::NotFound(format!("version {version} is not there")))
    }
    fn push(&self, order: &ConfigPush, by: &OrderedBy) -> Result<ConfigPushed, ControlError> {
        match order.over {
            Some(2) => Ok(ConfigPushed { version: Some(3), digest: format!("{} {:?}", by.by, by.said), ..ConfigPushed::default() }),
            _ => Err(ControlError::Conflict("the fleet has version 2".to_owned())),
        }
    }
    fn rollback(&self, order: &ConfigRollback, by: &OrderedBy) -> Result<ConfigPushed, ControlError> {
        self.push(&ConfigPush { over: Some(order.over), ..ConfigPush::default() }, by)
    }
}

#[derive(Default)]
pub struct Notes(Mutex<Vec<ChangeNote>>);

impl AuditControl for Notes {
    fn note(&self, change: ChangeNote) {
        self.0.lock().push(change);
    }
    fn changes(&self, most: usize) -> Result<Vec<ChangeNote>, ControlError> {
        Ok(self.0.lock().iter().take(most).cloned().collect())
    }
    fn digest(&self) -> String {
        self.0.lock().len().to_string()
    }
}

#[tokio::test]
async fn the_configuration_is_shown_compared_and_reloaded() {
    assert_eq!(call("GET", "/api/v1/config", Value::Null).await.1["digest"], "aa");
    assert_eq!(call("POST", "/api/v1/config/diff", json!({"text": "x"})).await.1["digest"], "x");
    assert_eq!(call("POST", "/api/v1/config/diff", json!({"file": "x"})).await.0, StatusCode::UNPROCESSABLE_ENTITY);
    let (status, body) = call("POST", "/api/v1/config/reload", Value::Null).await;
    assert_eq!((status, &body["detail"]), (StatusCode::UNPROCESSABLE_ENTITY, &json!("restart needed, nothing was changed: data.listen")));
}

#[tokio::test]
async fn a_fleets_configuration_is_pushed_over_what_is_there_and_by_whom_is_known() {
    let push = |over: u64| json!({"over": over, "text": "x"});
    let (status, body) = call("POST", "/api/v1/config/push", push(1)).await;
    assert_eq!((status, &body["detail"]), (StatusCode::CONFLICT, &json!("the fleet has version 2")));
    let mut order = request("POST", "/api/v1/config/push", push(2));
    order.headers_mut().insert("x-farthing-actor", "anna".parse().unwrap());
    let (status, _, body) = send(&crate::tests::app(None), order).await;
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &body["version"], &body["digest"]), (StatusCode::OK, &json!(3), &json!("loopback Some(\"anna\")")));
    let back = json!({"version": 1, "over": 2});
    assert_eq!(call("POST", "/api/v1/config/rollback", back).await.1["version"], 3);
    assert_eq!(call("GET", "/api/v1/config/fleet", Value::Null).await.1["version"], 2);
    assert_eq!(call("GET", "/api/v1/config/versions", Value::Null).await.0, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(call("GET", "/api/v1/config/versions/9", Value::Null).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn changes_are_noted_with_who_and_what_came_of_them() {
    let notes = Arc::new(Notes::default());
    let parts = Parts { audit: notes.clone(), ..parts(Phase::Ok) };
    let open = farthing_config::AdminConfig { max_body: 3_000, ..farthing_config::AdminConfig::default() };
    let app = router(parts.clone(), &open);
    let mut order = request("POST", "/api/v1/freeze/on", json!({"reason": "a launch"}));
    order.headers_mut().insert("x-farthing-actor", "anna".parse().unwrap());
    assert_eq!(send(&app, order).await.0, StatusCode::OK);
    assert_eq!(send(&app, request("POST", "/api/v1/freeze/off", json!({"reason": ""}))).await.0, StatusCode::UNPROCESSABLE_ENTITY);
    // Questions, and deliveries of events, change nothing that an operator orders.
    for (method, path, body) in
        [("GET", "/api/v1/status", Value::Null), ("POST", "/api/v1/config/diff", json!({})), ("POST", "/api/v1/events/shop", json!({}))]
    {
        send(&app, request(method, path, body)).await;
    }
    let long = send(&app, request("POST", "/api/v1/freeze/on", json!({"reason": "x".repeat(2_000)}))).await;
    assert_eq!(
        (long.0, send(&app, request("POST", "/api/v1/freeze/on", json!({"reason": "x".repeat(4_000)}))).await.0),
        (StatusCode::OK, StatusCode::PAYLOAD_TOO_LARGE)
    );
    let (_, _, told) = send(&app, request("GET", "/api/v1/audit?last=9", Value::Null)).await;
    let told: Vec<ChangeNote> = serde_json::from_str(&told).unwrap();
    let of = |n: usize| (&*told[n].by, told[n].said.as_deref(), &*told[n].what, &*told[n].outcome, &*told[n].before);
    assert_eq!(told.len(), 3);
    assert_eq!(of(0), ("loopback", Some("anna"), "POST /api/v1/freeze/on", "200", "0"));
    assert_eq!(of(1), ("loopback", None, "POST /api/v1/freeze/off", "422", "1"));
    assert_eq!((&*told[0].with, told[0].peer.as_deref()), ("{\"reason\":\"a launch\"}", Some("127.0.0.1:5")));
    assert!(told[2].with.ends_with("bytes)") && told[2].with.len() < 1_100, "{}", told[2].with);
}

/// Who is not let in fills no record.
#[tokio::test]
async fn strangers_are_not_noted() {
    let notes = Arc::new(Notes::default());
    let parts = Parts { audit: notes.clone(), ..parts(Phase::Ok) };
    let token = Some(farthing_config::Secret::new("a token of some length"));
    let app = router(parts, &farthing_config::AdminConfig { token, ..farthing_config::AdminConfig::default() });
    let order = || request("POST", "/api/v1/freeze/on", json!({"reason": "a launch"}));
    assert_eq!(send(&app, order()).await.0, StatusCode::UNAUTHORIZED);
    for path in ["/livez", "/", "/dashboard/main.js"] {
        send(&app, request("POST", path, Value::Null)).await;
    }
    assert!(notes.0.lock().is_empty());
    let mut known = order();
    known.headers_mut().insert(header::AUTHORIZATION, "Bearer a token of some length".parse().unwrap());
    assert_eq!(send(&app, known).await.0, StatusCode::OK);
    assert_eq!(notes.0.lock()[0].by, "token");
    assert!(!format!("{:?}", notes.0.lock()).contains("some length"));
}

/// S2: who may look may not order, and who may order may not change who may what.
#[tokio::test]
async fn each_role_may_what_it_is_for() {
    use farthing_config::{AdminConfig, AdminToken, Role};
    let notes = Arc::new(Notes::default());
    let parts = Parts { audit: notes.clone(), ..parts(Phase::Ok) };
    let made = Role::ALL.iter().map(|role| AdminToken::generate(&format!("of-{role}"), *role).unwrap());
    let (texts, tokens): (Vec<_>, Vec<_>) = made.unzip();
    let app = router(parts, &AdminConfig { tokens, ..AdminConfig::default() });
    let freeze = json!({"reason": "a launch"});
    let cases = [
        ("GET", "/api/v1/status", Value::Null, [200, 200, 200]),
        ("GET", "/metrics", Value::Null, [200, 200, 200]),
        ("GET", "/api/v1/audit", Value::Null, [403, 200, 200]),
        ("POST", "/api/v1/freeze/on", freeze, [403, 200, 200]),
        ("POST", "/api/v1/cache/purge", json!({"tags": ["a"]}), [403, 200, 200]),
        ("POST", "/api/v1/forget", json!({"tenant": "acme"}), [403, 403, 200]),
        ("POST", "/api/v1/config/diff", json!({}), [403, 403, 200]),
        ("POST", "/api/v1/config/reload", Value::Null, [403, 403, 422]),
        ("POST", "/api/v1/config/push", json!({"over": 2, "text": "x"}), [403, 403, 200]),
        ("POST", "/api/v1/config/rollback", json!({"version": 1, "over": 2}), [403, 403, 200]),
        ("GET", "/api/v1/config/fleet", Value::Null, [200, 200, 200]),
        ("GET", "/api/v1/config/versions", Value::Null, [403, 503, 503]),
        ("GET", "/api/v1/config/versions/9", Value::Null, [403, 404, 404]),
        // Whatever comes to be: an order takes an operator.
        ("POST", "/api/v1/not/there/yet", Value::Null, [403, 404, 404]),
    ];
    for (method, path, body, wanted) in cases {
        for (text, wanted) in texts.iter().zip(wanted) {
            let mut asked = request(method, path, body.clone());
            asked.headers_mut().insert(header::AUTHORIZATION, format!("Bearer {}", text.expose()).parse().unwrap());
            let (status, _, said) = send(&app, asked).await;
            assert_eq!(status.as_u16(), wanted, "{method} {path}: {said}");
        }
        assert_eq!(send(&app, request(method, path, body)).await.0, StatusCode::UNAUTHORIZED, "without a token, also on loopback");
    }
    let by: Vec<String> = notes.0.lock().iter().map(|note| note.by.clone()).collect();
    assert!(by.contains(&"of-operator (operator)".to_owned()) && by.iter().all(|by| !by.starts_with("of-viewer")), "{by:?}");
}

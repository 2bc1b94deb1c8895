//! Z3 Dashboard: twenty widgets ask at once; on every fifth dashboard three of them fail at first.

use farthing_types::Span;
use serde_json::{Value, json};

use crate::draws::latency;
use crate::world::{Answer, Asked, Got, Judgement, On, Scenario, Step, Truth, What};

/// Nano-dollars of a call.
const PRICE: i64 = 1_000_000;
const DASHBOARDS: f64 = 2_000.0;
const WIDGETS: u64 = 20;
/// Of twenty, so many fail within a batch now and then: less than a fifth.
const FAIL: u64 = 3;
const FAILS_EVERY: u64 = 5;

pub struct Dashboard;

fn widget(path: &str) -> String {
    format!("{{\"widget\":\"{path}\",\"series\":[1,2,3]}}")
}

/// Whether a widget fails within a batch; alone it does not.
fn fails(path: &str) -> bool {
    let number = |after: &str| path.split(after).nth(1).and_then(|rest| rest.split(['/', '?']).next()?.parse::<u64>().ok());
    number("dashboards/").is_some_and(|dashboard| dashboard % FAILS_EVERY == 0) && number("widgets/").is_some_and(|widget| widget < FAIL)
}

impl Scenario for Dashboard {
    fn name(&self) -> &'static str {
        "Z3"
    }

    fn strategies(&self) -> &'static [&'static str] {
        &["batch"]
    }

    fn short(&self) -> f64 {
        0.05
    }

    /// A call for twenty, and three more on each fifth: 1.6 of 20.
    fn reduction(&self) -> f64 {
        0.919
    }

    fn sla(&self) -> Span {
        Span::from_secs(2)
    }

    fn mean_batch(&self) -> Option<f64> {
        Some(5.0)
    }

    fn config(&self, on: &On) -> String {
        let batch = "[routes.widgets.batch]\nformat = \"rest\"\npath = \"/batch\"\nmax_size = 20\nwindow = \"200ms\"\nmin_rate = 0\n";
        format!(
            r#"
            [providers.reports]
            base_url = "http://reports.test"
            [providers.reports.prices]
            per_call = "0.001"
            [routes.widgets]
            provider = "reports"
            path_prefix = "/"
            {}
            "#,
            if on.contains("batch") { batch } else { "" },
        )
    }

    fn script(&self, size: f64) -> Vec<Step> {
        let one = |dashboard: u64| {
            (0..WIDGETS).map(move |widget| {
                let path = format!("/dashboards/{dashboard}/widgets/{widget}?days=7");
                let headers = vec![("authorization", format!("Bearer viewer-{}", dashboard % 50))];
                Step { at: Span::from_secs(dashboard), what: What::Ask { method: "GET", path, headers, body: String::new() } }
            })
        };
        (0..(DASHBOARDS * size) as u64).flat_map(one).collect()
    }

    fn answer(&self, _truth: &Truth, call: &Asked) -> Answer {
        let body = if call.path == "/batch" { batch(&call.body) } else { widget(&call.path) };
        let headers = vec![("content-type", "application/json".to_owned())];
        Answer { status: 200, headers, body, after: latency(&call.path, 100, 400), nanos: PRICE }
    }

    fn judge(&self, _truth: &Truth, step: &Step, got: &Got) -> Judgement {
        let What::Ask { path, .. } = &step.what else { return Judgement::Right };
        let same = serde_json::from_str::<Value>(&got.body).ok() == serde_json::from_str(&widget(path)).ok();
        if got.status == 200 && same { Judgement::Right } else { Judgement::Wrong }
    }
}

/// Answers an envelope part by part.
fn batch(body: &[u8]) -> String {
    let envelope: Value = serde_json::from_slice(body).unwrap();
    let part = |part: &Value| {
        let url = part["url"].as_str().unwrap();
        if fails(url) {
            return json!({"id": part["id"], "status": 503, "body": {"error": "busy"}});
        }
        json!({"id": part["id"], "status": 200, "headers": {"content-type": "application/json"}, "body": serde_json::from_str::<Value>(&widget(url)).unwrap()})
    };
    json!({"responses": envelope["requests"].as_array().unwrap().iter().map(part).collect::<Vec<_>>()}).to_string()
}

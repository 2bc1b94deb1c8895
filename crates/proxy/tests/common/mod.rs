//! A shop and a route to it: what tests of the whole request path share.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use farthing_types::{Body, Reply, Span};
use http::{HeaderMap, HeaderValue, StatusCode, Uri};
use parking_lot::Mutex;

mod configs;

pub use configs::*;

/// A provider of things and of envelopes of them, as slow as the test says.
#[derive(Default)]
pub struct Shop {
    pub calls: Mutex<Vec<String>>,
    pub slow_ms: AtomicU64,
}

impl Shop {
    /// What it answers to a call.
    pub async fn answer(&self, target: Uri, body: Bytes) -> Reply {
        let slow = Span::from_millis(self.slow_ms.load(Ordering::Relaxed));
        if !slow.is_zero() {
            tokio::time::sleep(slow).await;
        }
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
        self.calls.lock().push(target.to_string());
        let answer = match body["requests"].as_array() {
            None if target.path() == "/long" => format!("[{}0]", "0,".repeat(10_000)),
            None => "{}".to_owned(),
            Some(requests) => {
                let one = |request: &serde_json::Value| format!("{{\"id\":{},\"status\":200,\"body\":{{}}}}", request["id"]);
                format!("{{\"responses\":[{}]}}", requests.iter().map(one).collect::<Vec<_>>().join(","))
            }
        };
        let headers = HeaderMap::from_iter([("content-type".parse().unwrap(), HeaderValue::from_static("application/json"))]);
        Reply { status: StatusCode::OK, headers, body: Body::full(answer) }
    }
}

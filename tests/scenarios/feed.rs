//! Z2 Feed: everybody's own, reused softly for 30 s, fetched by several devices of a user at once.

use farthing_types::Span;

use crate::draws::{Draws, latency};
use crate::world::{Answer, Asked, Got, Judgement, On, Scenario, Step, Truth, What};

/// Nano-dollars of a call.
const PRICE: i64 = 2_000_000;
const USERS: u64 = 400;
const SESSIONS: f64 = 2_000.0;
const SESSIONS_PER_SECOND: f64 = 1.0;

pub struct Feed;

impl Scenario for Feed {
    fn name(&self) -> &'static str {
        "Z2"
    }

    fn strategies(&self) -> &'static [&'static str] {
        &["cache", "dedupe"]
    }

    fn short(&self) -> f64 {
        0.05
    }

    fn reduction(&self) -> f64 {
        0.60
    }

    fn sla(&self) -> Span {
        Span::from_millis(500)
    }

    fn config(&self, on: &On) -> String {
        format!(
            r#"
            [providers.feeds]
            base_url = "http://feeds.test"
            [providers.feeds.prices]
            per_call = "0.002"
            [routes.feed]
            provider = "feeds"
            path_prefix = "/"
            mode = "override"          # the origin says max-age=0; the operator takes 30 s
            ttl = "fixed:30s"
            cache = {}
            dedupe = {}
            "#,
            on.contains("cache"),
            on.contains("dedupe"),
        )
    }

    fn script(&self, size: f64) -> Vec<Step> {
        let (mut draws, mut begins, mut steps) = (Draws::new(2), Span::ZERO, Vec::new());
        for _ in 0..(SESSIONS * size) as u64 {
            begins += draws.until_next(SESSIONS_PER_SECOND);
            let (user, mut at) = (draws.below(USERS), begins);
            for _ in 0..4 + draws.below(12) {
                for device in 0..1 + draws.below(3) {
                    let headers = vec![("authorization", format!("Bearer user-{user}"))];
                    // Devices do not meet to the millisecond.
                    let at = at + Span::from_millis(device * draws.below(40));
                    steps.push(Step { at, what: What::Ask { method: "GET", path: "/feed".to_owned(), headers, body: String::new() } });
                }
                at += draws.until_next(1.0 / 8.0);
            }
        }
        steps.sort_by_key(|step| step.at);
        steps
    }

    fn answer(&self, _truth: &Truth, call: &Asked) -> Answer {
        let user = call.headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or("nobody");
        Answer {
            status: 200,
            headers: vec![("content-type", "application/json".to_owned()), ("cache-control", "private, max-age=0".to_owned())],
            body: format!("{{\"feed_of\":\"{user}\",\"items\":[\"{}\"]}}", "y".repeat(2_000)),
            after: latency(user, 80, 200),
            nanos: PRICE,
        }
    }

    fn judge(&self, _truth: &Truth, step: &Step, got: &Got) -> Judgement {
        let What::Ask { headers, .. } = &step.what else { return Judgement::Right };
        let own = headers.iter().any(|(_, value)| got.body.contains(&format!("\"feed_of\":\"{value}\"")));
        if got.status == 200 && own { Judgement::Right } else { Judgement::Wrong }
    }
}

//! Z5 A day of a million calls at a tenth of a cent: 70 % repeat what was asked before, 15 % come while the same call is under way, 10 % could be
//! asked for by ten, 5 % are new.

use farthing_types::Span;

use crate::draws::{Draws, latency};
use crate::world::{Answer, Asked, Got, Judgement, On, Scenario, Step, Truth, What};

/// Nano-dollars of a call.
const PRICE: i64 = 1_000_000;
const DAY: f64 = 86_400.0;
/// New questions of a day, each with three that come at the same time and fourteen later.
const NEW: f64 = 50_000.0;
const AT_ONCE: u64 = 3;
const LATER: u64 = 14;
/// Groups of ten that could be one call.
const GROUPS: f64 = 10_000.0;
const GROUP: u64 = 10;

pub struct Day;

fn ask(at: Span, path: String) -> Step {
    Step { at, what: What::Ask { method: "GET", path, headers: Vec::new(), body: String::new() } }
}

fn user(id: &str) -> String {
    format!("{{\"id\":\"{id}\",\"name\":\"user {id}\"}}")
}

impl Scenario for Day {
    fn name(&self) -> &'static str {
        "Z5"
    }

    fn strategies(&self) -> &'static [&'static str] {
        &["batch", "cache", "dedupe"]
    }

    fn short(&self) -> f64 {
        0.003
    }

    fn reduction(&self) -> f64 {
        0.94
    }

    fn sla(&self) -> Span {
        Span::from_secs(1)
    }

    fn config(&self, on: &On) -> String {
        let batch = "[routes.users.batch]\nformat = \"id-list\"\nsingle = \"/users/{id}\"\nlist = \"/users?ids={ids}\"\nwindow = \"20ms\"\nmin_rate = 0\n";
        format!(
            r#"
            [providers.paid]
            base_url = "http://paid.test"
            [providers.paid.prices]
            per_call = "0.001"
            [routes.users]
            provider = "paid"
            path_prefix = "/users"
            strip_prefix = "/"         # nothing
            mode = "override"
            ttl = "fixed:24h"
            cache = {cache}
            dedupe = {dedupe}
            {batch}
            [routes.questions]
            provider = "paid"
            path_prefix = "/"
            mode = "override"
            ttl = "fixed:24h"
            cache = {cache}
            dedupe = {dedupe}
            "#,
            cache = on.contains("cache"),
            dedupe = on.contains("dedupe"),
            batch = if on.contains("batch") { batch } else { "" },
        )
    }

    fn script(&self, size: f64) -> Vec<Step> {
        let (mut draws, mut steps) = (Draws::new(5), Vec::new());
        let day = DAY * size;
        let mut at = |from: f64| Span::from_secs_f64(from + (day - from) * draws.unit());
        for question in 0..(NEW * size) as u64 {
            let first = at(0.0);
            let path = || format!("/questions/{question}");
            steps.push(ask(first, path()));
            steps.extend((1..=AT_ONCE).map(|nth| ask(first + Span::from_millis(nth * 7), path())));
            steps.extend((0..LATER).map(|_| ask(at(first.as_secs_f64() + 1.0), path())));
        }
        for group in 0..(GROUPS * size) as u64 {
            let when = at(0.0);
            steps.extend((0..GROUP).map(|member| ask(when, format!("/users/{}", group * GROUP + member))));
        }
        steps.sort_by_key(|step| step.at);
        steps
    }

    fn answer(&self, _truth: &Truth, call: &Asked) -> Answer {
        let body = match call.path.split_once("?ids=") {
            Some((_, ids)) => format!("[{}]", ids.split(',').map(user).collect::<Vec<_>>().join(",")),
            None if call.path.starts_with("/users/") => user(call.path.trim_start_matches("/users/")),
            None => format!("{{\"answer_to\":\"{}\"}}", call.path),
        };
        let headers = vec![("content-type", "application/json".to_owned())];
        Answer { status: 200, headers, body, after: latency(&call.path, 40, 120), nanos: PRICE }
    }

    fn judge(&self, _truth: &Truth, step: &Step, got: &Got) -> Judgement {
        let What::Ask { path, .. } = &step.what else { return Judgement::Right };
        let right = match path.strip_prefix("/users/") {
            Some(id) => got.body == user(id),
            None => got.body == format!("{{\"answer_to\":\"{path}\"}}"),
        };
        if got.status == 200 && right { Judgement::Right } else { Judgement::Wrong }
    }
}

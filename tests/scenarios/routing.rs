//! Z6 Routing and limits: rates of exchange from two providers of different shapes, three priorities, a client that runs away. The cheap provider
//! is slower, lacks the rate now and then, and is down for a tenth of the time.

use farthing_types::Span;
use serde_json::{Value, json};

use crate::ablation::Report;
use crate::draws::{Draws, latency};
use crate::world::{Answer, Asked, Got, Judgement, On, Scenario, Step, Truth, What, parameter};

/// Nano-dollars of a call.
const DEAR: i64 = 4_000_000;
const CHEAP: i64 = 1_000_000;
/// Seconds of the full size.
const LASTS: f64 = 3_000.0;
/// Requests a second of all clients that behave, and how many clients they are.
const RATE: f64 = 20.0;
const CLIENTS: u64 = 50;
/// Requests a second of the one that does not.
const RUNAWAY: f64 = 15.0;
/// What each client may send in a second, and at once.
const ALLOWED: (f64, f64) = (2.0, 10.0);
/// Of so many answers of the cheap provider one lacks its rate.
const LACKS: u64 = 100;

pub struct Routing;

/// A number that follows from a text.
fn number(text: &str, below: u64) -> u64 {
    latency(text, 0, below).as_millis() as u64
}

/// In ten thousandths.
fn rate(pair: &str) -> u64 {
    10_000 + number(pair, 10_000)
}

/// The cheap provider is down from 30 % to 40 % of each five minutes.
fn is_down(at: Span) -> bool {
    let part = at.as_secs_f64() % 300.0 / 300.0;
    (0.3..0.4).contains(&part)
}

/// The pair and the serial number that a path of either shape asks for.
fn asked(target: &str) -> (String, &str) {
    let path = target.split_once('?').map_or(target, |(path, _)| path);
    let pair = match path.strip_prefix("/rates/") {
        Some(pair) => pair.to_owned(),
        None => path.trim_start_matches("/v2/").trim_end_matches("/latest").to_owned(),
    };
    let serial = parameter(target, "serial");
    (pair, if serial.is_empty() { parameter(target, "ref") } else { serial })
}

impl Scenario for Routing {
    fn name(&self) -> &'static str {
        "Z6"
    }

    fn strategies(&self) -> &'static [&'static str] {
        &["limit", "route"]
    }

    fn short(&self) -> f64 {
        0.05
    }

    /// With both; of routing alone see `also`.
    fn reduction(&self) -> f64 {
        0.5
    }

    fn sla(&self) -> Span {
        Span::from_secs(2)
    }

    fn config(&self, on: &On) -> String {
        let limit = format!(
            "[[limits]]\nname = \"each\"\nscope = \"tenant\"\nrequests = \"{}/s\"\nburst = {}\nhard = true\n",
            ALLOWED.0, ALLOWED.1
        );
        let route = r#"
            required = ["/pair", "/rate"]
            [[routes.rates.providers]]
            provider = "prime"
            [[routes.rates.providers]]
            provider = "thrift"
            quality = 0.9
            [routes.rates.providers.adapter]
            path = "/rates/{pair}"
            to = "/v2/{pair}/latest"
            rename_query = { serial = "ref" }
            set_query = { format = "json" }
            answer = { "/pair" = "/data/symbol", "/rate" = "/data/quote/value" }
            error = { "/error" = "/fault/text" }
        "#;
        format!(
            r#"
            [providers.prime]
            base_url = "http://prime.test"
            price = "0.004"
            [providers.thrift]
            base_url = "http://thrift.test"
            price = "0.001"
            {}
            [routes.rates]
            path_prefix = "/"
            cache = false
            dedupe = false
            {}
            "#,
            if on.contains("limit") { limit.as_str() } else { "" },
            if on.contains("route") { route } else { "provider = \"prime\"" },
        )
    }

    fn script(&self, size: f64) -> Vec<Step> {
        let mut draws = Draws::new(6);
        let end = Span::from_secs_f64(LASTS * size);
        let mut steps = Vec::new();
        for (rate, runs_away) in [(RATE, false), (RUNAWAY, true)] {
            let mut at = draws.until_next(rate);
            while at < end {
                let (serial, pair) = (steps.len(), draws.below(400));
                let client = if runs_away { "runaway".to_owned() } else { format!("client-{}", draws.below(CLIENTS)) };
                let priority = match draws.below(10) {
                    _ if runs_away => "low",
                    0..2 => "high",
                    2..5 => "medium",
                    _ => "low",
                };
                let tag = if runs_away { "&by=runaway" } else { "" };
                let path = format!("/rates/P{pair}?serial={serial}{tag}");
                let headers = vec![("authorization", format!("Bearer {client}")), ("x-farthing-priority", priority.to_owned())];
                steps.push(Step { at, what: What::Ask { method: "GET", path, headers, body: String::new() } });
                at += draws.until_next(rate);
            }
        }
        steps.sort_by_key(|step| step.at);
        steps
    }

    fn answer(&self, _truth: &Truth, call: &Asked) -> Answer {
        // No provider ever sees what a client shows.
        assert!(!call.headers.contains_key("authorization") || call.path.starts_with("/rates/"), "{}", call.path);
        let (pair, serial) = asked(&call.path);
        let headers = vec![("content-type", "application/json".to_owned())];
        let (status, body, after, nanos) = if call.path.starts_with("/v2/") {
            let after = latency(&call.path, 150, 400);
            if is_down(call.at) {
                (503, json!({"fault": {"text": "down"}}), Span::from_millis(5), 0)
            } else if number(serial, 1 << 20).is_multiple_of(LACKS) {
                (200, json!({"data": {"symbol": pair, "quote": {}}}), after, CHEAP)
            } else {
                (200, json!({"data": {"symbol": pair, "quote": {"value": rate(&pair)}}}), after, CHEAP)
            }
        } else {
            (200, json!({"pair": pair, "rate": rate(&pair)}), latency(&call.path, 40, 90), DEAR)
        };
        Answer { status, headers, body: body.to_string(), after, nanos }
    }

    fn judge(&self, _truth: &Truth, step: &Step, got: &Got) -> Judgement {
        let What::Ask { path, .. } = &step.what else { return Judgement::Right };
        if got.status == 429 && path.contains("runaway") {
            return Judgement::Right;
        }
        let (pair, _) = asked(path);
        let right = serde_json::from_str::<Value>(&got.body).ok() == Some(json!({"pair": pair, "rate": rate(&pair)}));
        if got.status == 200 && right { Judgement::Right } else { Judgement::Wrong }
    }

    fn watches(&self, call: &Asked) -> bool {
        call.path.contains("by=runaway")
    }

    /// Every answer has the same names and is complete (`judge`), so routing alone is measured at equal completeness.
    fn also(&self, report: &Report, size: f64) {
        let route = report.reduction_of("all but limit");
        assert!(route >= 0.2, "routing alone: {route}");
        // What the budget of one client comes to, at the dearer price.
        let (rate, burst) = ALLOWED;
        let budget = ((rate * LASTS * size + burst) * DEAR as f64) as i64;
        for (run, holds) in [("all", true), ("only limit", true), ("all but limit", false), ("none", false)] {
            let spent = report.watched(run);
            assert_eq!(spent <= budget, holds, "{run}: {spent} of {budget}");
        }
    }
}

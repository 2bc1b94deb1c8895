//! Z1 Catalogue: a thousand reads for each write, an SLA of 100 ms, prices that change by writes through the proxy and by events from elsewhere.

use farthing_types::Span;
use serde_json::Value;

use crate::draws::{Draws, latency};
use crate::world::{Answer, Asked, Got, Judgement, On, Scenario, Step, Truth, What};

/// Nano-dollars of a call.
const PRICE: i64 = 500_000;
const PRODUCTS: f64 = 1_000.0;
const READS: f64 = 200_000.0;
const READS_PER_SECOND: f64 = 400.0;
const READS_PER_WRITE: u64 = 1_000;
/// So long after an event no older answer may come.
const GRACE: Span = Span::from_secs(1);

pub struct Catalogue;

fn product(path: &str) -> u64 {
    path.rsplit('/').next().and_then(|last| last.parse().ok()).unwrap()
}

fn tag(product: u64) -> String {
    format!("product-{product}")
}

fn ask(at: Span, method: &'static str, product: u64) -> Step {
    Step { at, what: What::Ask { method, path: format!("/products/{product}"), headers: Vec::new(), body: String::new() } }
}

impl Scenario for Catalogue {
    fn name(&self) -> &'static str {
        "Z1"
    }

    fn strategies(&self) -> &'static [&'static str] {
        &["cache", "dedupe", "events"]
    }

    fn short(&self) -> f64 {
        0.02
    }

    fn reduction(&self) -> f64 {
        0.85
    }

    fn sla(&self) -> Span {
        Span::from_millis(100)
    }

    fn config(&self, on: &On) -> String {
        format!(
            r#"
            [providers.shop]
            base_url = "http://shop.test"
            [providers.shop.prices]
            per_call = "0.0005"
            [routes.catalogue]
            provider = "shop"
            path_prefix = "/"
            mode = "override"          # the shop says nothing of freshness; its events and writes tell of changes
            ttl = "fixed:1h"
            shared = true
            cache = {}
            dedupe = {}
            "#,
            on.contains("cache"),
            on.contains("dedupe"),
        )
    }

    fn script(&self, size: f64) -> Vec<Step> {
        let (mut draws, mut at, mut steps) = (Draws::new(1), Span::ZERO, Vec::new());
        // A short run reads each product about as often.
        let products = (PRODUCTS * size).max(80.0) as u64;
        for read in 1..=(READS * size) as u64 {
            at += draws.until_next(READS_PER_SECOND);
            steps.push(ask(at, "GET", draws.zipf(products, 0.9)));
            if read % READS_PER_WRITE == 0 {
                let thing = draws.zipf(products, 0.9);
                let told_after = Span::from_millis(draws.below(800));
                let elsewhere = What::Change { thing, tag: tag(thing), told_after };
                steps.push(if draws.chance(0.5) { ask(at, "PUT", thing) } else { Step { at, what: elsewhere } });
            }
        }
        steps
    }

    fn answer(&self, truth: &Truth, call: &Asked) -> Answer {
        let thing = product(&call.path);
        if call.method == "PUT" {
            truth.change(thing, call.at);
        }
        Answer {
            status: 200,
            headers: vec![("content-type", "application/json".to_owned()), ("surrogate-key", tag(thing))],
            body: format!("{{\"product\":{thing},\"version\":{},\"text\":\"{}\"}}", truth.version(thing), "x".repeat(400)),
            after: latency(&call.path, 20, 80),
            nanos: PRICE,
        }
    }

    fn judge(&self, truth: &Truth, step: &Step, got: &Got) -> Judgement {
        let What::Ask { path, .. } = &step.what else { return Judgement::Right };
        let (thing, told) = (product(path), serde_json::from_str::<Value>(&got.body).ok());
        let told = told.and_then(|body| Some((body["product"].as_u64()?, body["version"].as_u64()?)));
        match told {
            Some((product, version)) if product == thing && got.status == 200 => {
                // The event comes up to 800 ms after the change; what had been sent before is no matter of the cache.
                let due = truth.changed(thing) + Span::from_millis(800) + GRACE;
                if version < truth.version(thing) && step.at > due { Judgement::Stale } else { Judgement::Right }
            }
            _ => Judgement::Wrong,
        }
    }
}

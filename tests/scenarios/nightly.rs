//! Z4 Nightly job: a million records of three hundred thousand companies, at a rate that the provider's contract allows; the process ends in the
//! middle and the job begins anew.

use std::sync::atomic::Ordering;

use farthing_types::Span;

use crate::draws::{Draws, latency};
use crate::world::{Answer, Asked, Got, Judgement, On, Scenario, Step, Truth, What};

/// Nano-dollars of a call.
const PRICE: i64 = 2_000_000;
const RECORDS: f64 = 1_000_000.0;
/// The share of records about a company that came before.
const RECURRING: f64 = 0.7;
const WORKERS: usize = 64;
/// Calls a second, and at once.
const RATE: (usize, usize) = (20, 20);

pub struct Nightly;

fn company(id: &str) -> String {
    format!("{{\"id\":\"{id}\",\"score\":{}}}", id.parse::<u64>().unwrap() % 997)
}

/// The companies of a call.
fn companies(path: &str) -> Vec<&str> {
    let ids = path.split_once("?ids=").map_or_else(|| path.trim_start_matches("/companies/"), |(_, ids)| ids);
    ids.split(',').collect()
}

impl Scenario for Nightly {
    fn name(&self) -> &'static str {
        "Z4"
    }

    fn strategies(&self) -> &'static [&'static str] {
        &["batch", "cache", "dedupe", "l2"]
    }

    fn short(&self) -> f64 {
        0.0015
    }

    fn reduction(&self) -> f64 {
        0.7
    }

    fn sla(&self) -> Span {
        Span::from_secs(5)
    }

    fn workers(&self) -> Option<usize> {
        Some(WORKERS)
    }

    fn rate(&self) -> Option<(usize, usize)> {
        Some(RATE)
    }

    fn mean_batch(&self) -> Option<f64> {
        Some(5.0)
    }

    fn config(&self, on: &On) -> String {
        let batch = "[routes.companies.batch]\nformat = \"id-list\"\nsingle = \"/companies/{id}\"\nlist = \"/companies?ids={ids}\"\nmax_size = 10\nwindow = \"20ms\"\n";
        let (rate, burst) = RATE;
        format!(
            r#"
            [providers.credit]
            base_url = "http://credit.test"
            [providers.credit.prices]
            per_call = "0.002"
            [routes.companies]
            provider = "credit"
            path_prefix = "/"
            mode = "override"
            ttl = "fixed:24h"
            cache = {cache}
            dedupe = {dedupe}
            {batch}
            [[limits]]
            name = "contract"
            scope = "provider"
            requests = "{rate}/s"
            burst = {burst}
            hard = true
            {l2}
            "#,
            cache = on.contains("cache"),
            dedupe = on.contains("dedupe"),
            batch = if on.contains("batch") { batch } else { "" },
            l2 = if on.contains("l2") { "[l2]" } else { "" },
        )
    }

    fn script(&self, size: f64) -> Vec<Step> {
        let (mut draws, mut known) = (Draws::new(4), 0);
        let record = |number: u64| {
            let old = known > 0 && draws.chance(RECURRING);
            let company = if old { draws.below(known) } else { known };
            known += u64::from(!old);
            let what = What::Ask { method: "GET", path: format!("/companies/{company}"), headers: Vec::new(), body: String::new() };
            // Where nobody waits for answers, a thousand in ten seconds.
            Step { at: Span::from_millis(number * 10), what }
        };
        (0..(RECORDS * size) as u64).map(record).collect()
    }

    fn answer(&self, truth: &Truth, call: &Asked) -> Answer {
        let ids = companies(&call.path);
        for id in &ids {
            let id = id.parse().unwrap();
            truth.again.fetch_add(u64::from(truth.version(id) > 0), Ordering::Relaxed);
            truth.change(id, call.at);
        }
        let all: Vec<String> = ids.into_iter().map(company).collect();
        let body = if call.path.contains("?ids=") { format!("[{}]", all.join(",")) } else { all.join("") };
        let headers = vec![("content-type", "application/json".to_owned())];
        Answer { status: 200, headers, body, after: latency(&call.path, 100, 300), nanos: PRICE }
    }

    fn judge(&self, _truth: &Truth, step: &Step, got: &Got) -> Judgement {
        let What::Ask { path, .. } = &step.what else { return Judgement::Right };
        let right = got.status == 200 && got.body == company(companies(path)[0]);
        if right { Judgement::Right } else { Judgement::Wrong }
    }
}

//! Cache, batch, routing and TTL model.

use farthing_types::Span;
use serde_json::{Value, json};

use super::Study;
use super::run::Visit;
use crate::draws::{Draws, latency};
use crate::world::{Answer, Asked, parameter};

const JSON: &str = "application/json";

pub fn answer(body: String, after: Span, nanos: i64) -> Answer {
    Answer { status: 200, headers: vec![("content-type", JSON.to_owned())], body, after, nanos }
}

/// Requests that come by chance, so many a second on average.
pub fn by_chance(draws: &mut Draws, rate: f64, lasts: Span, mut one: impl FnMut(&mut Draws, Span) -> Visit) -> Vec<Visit> {
    let mut visits = Vec::new();
    let mut at = draws.until_next(rate);
    while at < lasts {
        visits.push(one(draws, at));
        at += draws.until_next(rate);
    }
    visits
}

/// A number that looks drawn (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014).
fn mixed(n: u64) -> u64 {
    let n = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

/// A catalogue that may be kept for eight seconds, some things of which are asked for far more often than others.
pub struct Cached;

impl Study for Cached {
    fn name(&self) -> &'static str {
        "cache"
    }
    fn variants(&self) -> [&'static str; 2] {
        ["without", "with"]
    }
    fn config(&self) -> String {
        r#"
        [providers.shop]
        base_url = "http://shop.test"
        price = "0.002"
        [routes.shop]
        provider = "shop"
        path_prefix = "/"
        mode = "override"
        ttl = "fixed:8s"
        [experiments.cache]
        hypothesis = "keeping answers for eight seconds lowers the bill"
        metric = "bill"
        window = "60s"
        start = "draft"
        min_units = 20
        slice = 1.0
        ramp = [1.0]
        [[experiments.cache.variants]]
        name = "without"
        cache = false
        dedupe = false
        [[experiments.cache.variants]]
        name = "with"
        "#
        .to_owned()
    }
    fn window(&self) -> Span {
        Span::from_secs(60)
    }
    fn windows(&self) -> (u32, u32) {
        (1, 16)
    }
    fn visits(&self, seed: u64, lasts: Span) -> Vec<Visit> {
        by_chance(&mut Draws::new(seed), 4.0, lasts, |draws, at| Visit {
            at,
            path: format!("/things/{}", draws.zipf(40, 0.7)),
            headers: Vec::new(),
        })
    }
    fn answer(&self, _seed: u64, asked: &Asked) -> Answer {
        answer("{}".to_owned(), latency(&asked.path, 20, 90), 2_000_000)
    }
    fn unit(&self, path: &str) -> String {
        path.to_owned()
    }
    fn line(&self) -> &'static str {
        "better"
    }
}

/// Pages that ask for some things at once; the provider bills the call, whatever it asks for. Who waits for whom decides, so windows are compared.
pub struct Batched;

impl Study for Batched {
    fn name(&self) -> &'static str {
        "batch"
    }
    fn variants(&self) -> [&'static str; 2] {
        ["alone", "together"]
    }
    fn config(&self) -> String {
        r#"
        [providers.users]
        base_url = "http://users.test"
        price = "0.001"
        [routes.users]
        provider = "users"
        path_prefix = "/"
        cache = false
        [routes.users.batch]
        format = "id-list"
        single = "/users/{id}"
        list = "/users?ids={ids}"
        max_size = 20
        window = "100ms"
        min_rate = 0
        [experiments.batch]
        hypothesis = "waiting for each other lowers the bill"
        window = "12s"
        start = "draft"
        min_units = 20
        slice = 1.0
        ramp = [1.0]
        [[experiments.batch.variants]]
        name = "alone"
        batch = false
        [[experiments.batch.variants]]
        name = "together"
        "#
        .to_owned()
    }
    fn window(&self) -> Span {
        Span::from_secs(12)
    }
    fn windows(&self) -> (u32, u32) {
        (1, 480)
    }
    fn visits(&self, seed: u64, lasts: Span) -> Vec<Visit> {
        let mut draws = Draws::new(seed);
        let (mut visits, mut at) = (Vec::new(), Span::ZERO);
        while at < lasts {
            // Of one to six things that are asked for within fifty milliseconds.
            for _ in 0..=draws.below(6) {
                let (id, later) = (draws.below(100_000), Span::from_millis(draws.below(50)));
                visits.push(Visit { at: at + later, path: format!("/users/{id}"), headers: Vec::new() });
            }
            at += Span::from_millis(200) + draws.until_next(0.3);
        }
        visits.sort_by_key(|visit| visit.at);
        visits
    }
    fn answer(&self, _seed: u64, asked: &Asked) -> Answer {
        let user = |id: &str| format!("{{\"id\":\"{id}\"}}");
        let ids = parameter(&asked.path, "ids");
        let body = match asked.path.strip_prefix("/users/") {
            Some(id) => user(id),
            None => format!("[{}]", ids.replace("%2C", ",").split(',').map(user).collect::<Vec<_>>().join(",")),
        };
        answer(body, latency(&asked.path, 40, 120), 1_000_000)
    }
    fn unit(&self, _path: &str) -> String {
        String::new()
    }
    fn line(&self) -> &'static str {
        "better"
    }
}

/// Two providers: a dear one that is fast, and a cheap one some of whose answers lack what is asked for.
pub struct Routed;

/// One in so many answers of the cheap provider is of no use.
const LACKS: u64 = 25;

impl Study for Routed {
    fn name(&self) -> &'static str {
        "routing"
    }
    fn variants(&self) -> [&'static str; 2] {
        ["first", "scored"]
    }
    fn config(&self) -> String {
        r#"
        [providers.prime]
        base_url = "http://prime.test"
        price = "0.004"
        [providers.thrift]
        base_url = "http://thrift.test"
        price = "0.001"
        [routes.rates]
        path_prefix = "/"
        cache = false
        dedupe = false
        required = ["/rate"]
        [[routes.rates.providers]]
        provider = "prime"
        [[routes.rates.providers]]
        provider = "thrift"
        quality = 0.9
        [routes.rates.providers.adapter]
        path = "/rates"
        to = "/v2/rates"
        answer = { "/rate" = "/value" }
        error = { "/error" = "/error" }
        [experiments.routing]
        hypothesis = "choosing by score lowers the bill"
        unit = "session"
        window = "60s"
        start = "draft"
        min_units = 20
        slice = 1.0
        ramp = [1.0]
        [[experiments.routing.variants]]
        name = "first"
        routing = false
        [[experiments.routing.variants]]
        name = "scored"
        "#
        .to_owned()
    }
    fn window(&self) -> Span {
        Span::from_secs(60)
    }
    fn windows(&self) -> (u32, u32) {
        (1, 20)
    }
    fn visits(&self, seed: u64, lasts: Span) -> Vec<Visit> {
        by_chance(&mut Draws::new(seed), 4.0, lasts, |draws, at| {
            let (session, serial) = (draws.below(50), draws.below(1 << 40));
            let priority = if draws.chance(0.4) { "high" } else { "low" };
            let headers = vec![("x-farthing-session", format!("s{session}")), ("x-farthing-priority", priority.to_owned())];
            Visit { at, path: format!("/rates?by=s{session}&serial={serial}"), headers }
        })
    }
    fn answer(&self, _seed: u64, asked: &Asked) -> Answer {
        if !asked.path.starts_with("/v2/") {
            return answer(json!({"rate": 1}).to_string(), latency(&asked.path, 40, 90), 4_000_000);
        }
        let lacks = parameter(&asked.path, "serial").parse::<u64>().unwrap().is_multiple_of(LACKS);
        let body = if lacks { json!({}) } else { json!({"value": 1}) };
        answer(body.to_string(), latency(&asked.path, 150, 400), 1_000_000)
    }
    fn unit(&self, path: &str) -> String {
        parameter(path, "by").to_owned()
    }
    fn line(&self) -> &'static str {
        "better"
    }
}

/// Documents that change, most of them rarely; what is stale costs as much as a call.
pub struct Modelled;

/// Documents.
const DOCUMENTS: u64 = 40;

impl Modelled {
    /// Seconds between changes of a document, on average: some change all the time, most hardly ever.
    fn interval(document: u64) -> f64 {
        [120.0, 3_600.0, 40_000.0, 400_000.0][(document % 4) as usize]
    }

    /// The version of a document: changes come by chance, each twentieth of the interval having one or none.
    fn version(seed: u64, document: u64, at: Span) -> u64 {
        let last = (at.as_secs_f64() * 20.0 / Self::interval(document)) as u64;
        (0..=last).rev().find(|n| mixed(seed ^ (document << 20) ^ (n << 32)).is_multiple_of(20)).map_or(0, |n| n + 1)
    }
}

impl Study for Modelled {
    fn name(&self) -> &'static str {
        "ttl"
    }
    fn variants(&self) -> [&'static str; 2] {
        ["rule", "model"]
    }
    fn config(&self) -> String {
        r#"
        [providers.library]
        base_url = "http://library.test"
        price = "0.002"
        [routes.library]
        provider = "library"
        path_prefix = "/"
        mode = "override"
        base_ttl = "60s"
        max_ttl = "20m"
        price_stale = "0.002"
        trust_shipped = true
        [experiments.ttl]
        hypothesis = "the predictor lowers the money cost"
        window = "2h"
        start = "draft"
        min_units = 20
        slice = 1.0
        ramp = [1.0]
        [[experiments.ttl.variants]]
        name = "rule"
        ttl = "rule"
        [[experiments.ttl.variants]]
        name = "model"
        ttl = "model"
        "#
        .to_owned()
    }
    fn models(&self) -> Option<&'static str> {
        Some(concat!(env!("CARGO_MANIFEST_DIR"), "/../models"))
    }
    fn window(&self) -> Span {
        Span::from_secs(7_200)
    }
    fn windows(&self) -> (u32, u32) {
        (2, 14)
    }
    fn visits(&self, seed: u64, lasts: Span) -> Vec<Visit> {
        by_chance(&mut Draws::new(seed), 0.09, lasts, |draws, at| Visit {
            at,
            path: format!("/documents/{}", draws.zipf(DOCUMENTS, 0.6)),
            headers: Vec::new(),
        })
    }
    fn answer(&self, seed: u64, asked: &Asked) -> Answer {
        let document = asked.path.rsplit_once('/').unwrap().1.parse().unwrap();
        let body = json!({"document": document, "version": Self::version(seed, document, asked.at)});
        answer(body.to_string(), latency(&asked.path, 20, 90), 2_000_000)
    }
    fn unit(&self, path: &str) -> String {
        path.to_owned()
    }
    fn stale_usd(&self, seed: u64, (_, body): (&str, &[u8]), at: Span) -> f64 {
        let body: Value = serde_json::from_slice(body).unwrap();
        let [document, version] = ["document", "version"].map(|field| body[field].as_u64().unwrap());
        // What is under way when it changes is not stale: it is what the provider has said.
        let then = Self::version(seed, document, at.saturating_sub(Span::from_millis(100)));
        if version < then { 0.002 } else { 0.0 }
    }
    fn line(&self) -> &'static str {
        "better"
    }
}

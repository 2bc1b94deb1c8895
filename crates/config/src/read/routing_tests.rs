use farthing_types::RoutingWeights;
use http::StatusCode;

use crate::read::{Flags, Surroundings};
use crate::{Config, Route};

struct Salted;
impl Surroundings for Salted {
    fn var(&self, _name: &str) -> Option<String> {
        Some("secret-of-a-provider".to_owned())
    }
    fn file(&self, _path: &str) -> std::io::Result<String> {
        Ok("x".repeat(64))
    }
}

const PROVIDERS: &str = r#"
salt = { file = "salt" }
[providers.one]
base_url = "https://one.test"
price = "0.004"
[providers.two]
base_url = "https://two.test"
price = "0.001"
[providers.two.terms]
max_store = "1h"
[providers.locked]
base_url = "https://locked.test"
credential_place = "bearer"
credential = { env = "LOCKED" }
[providers.llm]
base_url = "https://llm.test"
dialect = "openai"
"#;

const BOTH: &str = "[[routes.w.providers]]\nprovider = \"one\"\n[[routes.w.providers]]\nprovider = \"two\"\n";

fn config(text: &str) -> Result<Config, String> {
    Config::parse(&format!("{PROVIDERS}{text}"), "f.toml", &Flags::default(), &Salted).map_err(|error| error.to_string())
}

fn route(text: &str) -> Route {
    (**config(text).unwrap().route("w").unwrap()).clone()
}

#[test]
fn a_route_names_several_providers() {
    let text = r#"
        [routes.w]
        path_prefix = "/weather"
        required = ["/temp", "/days/*/high"]
        complete = 0.8
        quality_floor = 0.5
        [routes.w.weights.low]
        cost = 9
        reliability = 1
        [[routes.w.providers]]
        provider = "one"
        [[routes.w.providers]]
        provider = "two"
        quality = 0.9
        [routes.w.providers.adapter]
        path = "/current/{city}"
        to = "/v2/{country}/{city}.json"
        rename_query = { units = "u" }
        set_query = { format = "json" }
        drop_query = ["lang"]
        set_headers = { X-Api-Version = "2" }
        set_body = { "/version" = 2, "/kind" = "now" }
        answer = { "/temp" = "/current/temp_c", "/days/*/high" = "/forecast/*/max" }
        set_answer = { "/unit" = "C" }
        error = { "/error/message" = "/message" }
        error_if = [{ pointer = "/status", is = ["none", 3], status = 404 }]
    "#;
    let route = route(text);
    assert_eq!((&*route.provider, route.max_ttl.as_secs()), ("one", 3_600), "the terms of each hold");
    let routing = route.routing.unwrap();
    assert_eq!(routing.weights.low, Some(RoutingWeights { cost: 9.0, reliability: 1.0, ..RoutingWeights::default() }));
    assert_eq!((routing.weights.high, routing.floor, routing.complete), (None, 0.5, 0.8));
    let two = &routing.providers[1];
    let adapter = two.adapter.as_ref().unwrap();
    assert_eq!((&*two.provider, two.quality, adapter.max_answer), ("two", 0.9, 4_000_000));
    assert_eq!(adapter.set_body.iter().map(|(_, json)| &**json).collect::<Vec<_>>(), ["\"now\"", "2"]);
    assert_eq!((adapter.error_if[0].status, adapter.error_if[0].is.len()), (StatusCode::NOT_FOUND, 2));
    assert_eq!(adapter.set_headers[0].0, "x-api-version");
}

#[test]
fn one_provider_stays_as_it_was_and_a_named_one_gets_no_route() {
    let config = config(BOTH).unwrap();
    assert!(config.route("one").is_none() && config.route("two").is_none() && config.route("locked").is_some());
    assert!(config.route("locked").unwrap().routing.is_none());
}

#[test]
fn what_cannot_be_is_named_with_its_remedy() {
    let adapter = |keys: &str| format!("{BOTH}[routes.w.providers.adapter]\n{keys}");
    for (text, expected) in [
        (
            "[routes.w]\nprovider = \"one\"\nweights.low.cost = 1".to_owned(),
            "routes.w.weights: means something for several providers alone",
        ),
        (format!("[routes.w]\nprovider = \"one\"\n{BOTH}"), "routes.w.provider: given beside `providers`; take it out"),
        (format!("{BOTH}[[routes.w.providers]]\nprovider = \"twoo\""), "no provider is called \"twoo\"; did you mean \"two\"?"),
        (format!("{BOTH}[[routes.w.providers]]\nquality = 1.0"), "routes.w.providers.provider: missing"),
        (format!("{BOTH}[[routes.w.providers]]\nprovider = \"one\""), "\"one\" twice; name each provider once"),
        (format!("{BOTH}[[routes.w.providers]]\nprovider = \"locked\""), "set it to \"swap\", and the credential of each provider"),
        (format!("{BOTH}[[routes.w.providers]]\nprovider = \"llm\""), "bodies of language models are not translated"),
        (format!("[routes.w]\nquality_floor = 0.5\n{BOTH}quality = 2"), "write a number from 0 to 1"),
        (format!("[routes.w.weights.urgent]\ncost = 1\n{BOTH}"), "write \"high\", \"medium\" or \"low\""),
        (format!("[routes.w.weights.low]\ncost = 0\n{BOTH}"), "nothing counts"),
        (format!("[routes.w]\nprice = \"1\"\n{BOTH}"), "write prices at each provider"),
        (format!("[routes.w.batch]\nformat = \"rest\"\n{BOTH}"), "a batch has the format of one provider"),
        (adapter("answer = { \"/a\" = \"/b\" }"), "routes.w.providers.adapter.error: missing beside `answer`"),
        (adapter("answer = { \"a\" = \"/b\" }"), "write JSON pointers on the left"),
        (adapter("error = { \"/a/*\" = \"/b\" }"), "write `*` as often in both pointers"),
        (adapter("error = { \"/a\" = \"/x\", \"/a/b\" = \"/y\" }"), "a place has one value"),
        (adapter("set_answer = { \"/a\" = 1 }"), "routes.w.providers.adapter.set_answer: without `answer`"),
        (adapter("path = \"/a/{b}c\""), "write a path whose segments are texts or fields"),
        (adapter("to = \"/a/{b\""), "write the provider's path"),
        (adapter("to = \"/a?b=1\""), "constants of the query go into set_query"),
        (adapter("set_body = { \"/a\" = [1] }"), "write a text, a number or a flag"),
        (adapter("set_headers = { x-farthing-key = \"1\" }"), "write the name of a header of the provider's"),
        (adapter("error_if = [{ pointer = \"/s\", status = 200 }]"), "write a whole number from 400 to 599"),
        (adapter("rename_body = { \"/a\" = \"/b/*\" }"), "write a pointer without `*`"),
        (adapter("anwser = { \"/a\" = \"/b\" }"), "did you mean `answer`?"),
    ] {
        let problem = config(&text).unwrap_err();
        assert!(problem.contains(expected), "{text}\n{problem}");
    }
}

#[test]
fn several_providers_with_credentials_are_for_keys_alone() {
    let text =
        "[routes.w]\ncredential = \"swap\"\n[[routes.w.providers]]\nprovider = \"locked\"\n[[routes.w.providers]]\nprovider = \"one\"\n";
    assert_eq!(route(text).routing.unwrap().providers.len(), 2);
}

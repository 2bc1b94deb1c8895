//! Values of variants, and what they need of a route.

use farthing_types::{Money, Overrides, RoutingWeights, Span, WeightsByPriority};

use crate::ContextualConfig;
use crate::read::tests::{good, problems};

const PROVIDERS: &str = "[providers.one]\nbase_url = \"https://one.test\"\n[providers.two]\nbase_url = \"https://two.test\"\n";
const ROUTES: &str = "[routes.lists]\nprovider = \"one\"\ndeadline = \"1s\"\nmax_ttl = \"10m\"\n[routes.lists.batch]\nformat = \"rest\"\n\
                      [routes.rates]\n[[routes.rates.providers]]\nprovider = \"one\"\n[[routes.rates.providers]]\nprovider = \"two\"\n\
                      [routes.ahead]\nprovider = \"two\"\nprice_wait = \"0.001\"\n[routes.kept]\nprovider = \"one\"\nttl = \"fixed:5m\"\n\
                      [routes.ruled]\nprovider = \"one\"\nttl = \"rule\"\n[routes.passed]\nprovider = \"one\"\ncache = false\n";

/// An experiment on a route whose second variant says this.
fn experiment(route: &str, says: &str) -> String {
    format!(
        "{PROVIDERS}{ROUTES}[experiments.e]\nhypothesis = \"h\"\nroutes = [\"{route}\"]\n[[experiments.e.variants]]\nname = \"a\"\n\
         [[experiments.e.variants]]\nname = \"b\"\n{says}\n"
    )
}

#[test]
fn values_of_variants_are_read() {
    let of = |route: &str, says: &str| good(&experiment(route, says)).experiments[0].variants[1].overrides.clone();
    assert_eq!(of("lists", "batch_window = \"20ms\""), Overrides { batch_window_ms: Some(20), ..Overrides::default() });
    assert_eq!(of("lists", "base_ttl = \"90s\""), Overrides { base_ttl_ms: Some(90_000), ..Overrides::default() });
    assert_eq!(of("lists", "refresh_ahead = \"0s\""), Overrides { refresh_ahead_ms: Some(0), ..Overrides::default() });
    let version = |ttl: Option<&str>| Overrides { model_version: Some(3), ttl: ttl.map(str::to_owned), ..Overrides::default() };
    assert_eq!(of("lists", "model_version = 3"), version(None), "the route asks one");
    assert_eq!(of("kept", "model_version = 3\nttl = \"table\""), version(Some("table")));
    assert_eq!(of("ahead", "prefetch_confidence = 0.6"), Overrides { prefetch_confidence: Some(0.6), ..Overrides::default() });
    let low = RoutingWeights { cost: 9.0, reliability: 1.0, ..RoutingWeights::default() };
    let weights = Some(WeightsByPriority { low: Some(low), ..WeightsByPriority::default() });
    assert_eq!(of("rates", "weights.low = { cost = 9, reliability = 1 }"), Overrides { weights, ..Overrides::default() });
    // As experiments are kept and shown.
    let kept = serde_json::to_string(&of("rates", "weights.low.cost = 9")).unwrap();
    assert_eq!(kept, r#"{"weights":{"low":{"cost":9.0,"latency":0.0,"quality":0.0,"reliability":0.0}}}"#);
    assert_eq!(serde_json::from_str::<Overrides>(&kept).unwrap(), of("rates", "weights.low.cost = 9"));
}

#[test]
fn what_a_route_cannot_do_is_refused_by_name() {
    let place = "experiments.e.variants";
    let cases = [
        ("rates", "batch_window = \"20ms\"", "batch_window: variant \"b\": route \"rates\" makes no batches", "[routes.rates.batch]"),
        ("lists", "batch_window = \"600ms\"", "batch_window: variant \"b\": 600ms on route \"lists\"", "write at most 500ms"),
        ("lists", "batch_window = \"auto\"", "batch_window", "write a time from 1ms to 10s"),
        ("lists", "batch_window = \"20ms\"\nbatch = false", "batch_window: means nothing beside the `batch`", "take one"),
        ("lists", "prefetch_confidence = 0.6", "prefetch_confidence: variant \"b\": route \"lists\" fetches nothing ahead", "price_wait"),
        ("ahead", "prefetch_confidence = 0.6\nprefetch = false", "prefetch_confidence: means nothing beside the `prefetch`", "take one"),
        ("lists", "refresh_ahead = \"2s\"\ncache = false", "refresh_ahead: means nothing beside the `cache`", "take one"),
        ("lists", "weights.low.cost = 1", "weights: variant \"b\": route \"lists\" has one provider", "[[routes.lists.providers]]"),
        ("rates", "weights.low.cost = 1\nrouting = false", "weights: means nothing beside the `routing`", "take one"),
        ("rates", "weights.low.cost = 0", "variants.weights.low.cost: nothing counts", "above 0"),
        ("rates", "weights.urgent.cost = 1", "weights: \"urgent\" is no priority", "write \"high\""),
        ("kept", "base_ttl = \"90s\"", "base_ttl: variant \"b\": the TTL of route \"kept\" is fixed", "not fixed"),
        ("lists", "base_ttl = \"1h\"", "base_ttl: variant \"b\": 3600000ms is outside", "write 1000ms to 600000ms"),
        ("kept", "model_version = 3", "model_version: variant \"b\": no predictor chooses the TTL on route \"kept\"", "ttl = \"model\""),
        ("ruled", "model_version = 3", "model_version: variant \"b\": no predictor chooses the TTL on route \"ruled\"", "ttl = \"model\""),
        ("lists", "model_version = 3\nttl = \"rule\"", "model_version: variant \"b\": no predictor chooses the TTL", "take it out"),
        ("passed", "model_version = 3", "model_version: variant \"b\": route \"passed\" caches nothing", "other `routes`"),
        ("passed", "refresh_ahead = \"2s\"", "refresh_ahead: variant \"b\": route \"passed\" caches nothing", "other `routes`"),
        ("passed", "base_ttl = \"90s\"\ncache = true", "base_ttl: variant \"b\": route \"passed\" caches nothing", "other `routes`"),
        ("lists", "base_ttl = \"90s\"\nttl = \"fixed:5m\"", "base_ttl: means nothing beside the `ttl`", "take one"),
    ];
    for (route, says, found, remedy) in cases {
        let all = problems(&experiment(route, says));
        assert!(
            all.iter().any(|problem| problem.contains(place) && problem.contains(found) && problem.contains(remedy)),
            "{says}: {all:?}"
        );
    }
    // An experiment without `routes` is on all of them.
    let all = problems(&experiment("lists", "batch_window = \"20ms\"").replace("routes = [\"lists\"]\n", ""));
    assert!(all.iter().any(|problem| problem.contains("route \"kept\" makes no batches")), "{all:?}");
}

#[test]
fn allocation_by_context_has_keys_of_its_own() {
    let with = |lines: &str| experiment("lists", "ttl = \"rule\"").replacen("[[experiments", &format!("{lines}\n[[experiments"), 1);
    let by_default = good(&with("allocation = \"contextual\"")).experiments[0].clone();
    let week = ContextualConfig { uniform: 0.04, half_life: Some(Span::from_secs(7 * 86_400)), budget: None };
    assert_eq!((by_default.contextual, by_default.slice, by_default.thompson), (Some(week), 1.0, None));
    let lines = "allocation = \"contextual\"\nuniform = 0.02\nhalf_life = \"0s\"\nexplore_budget = \"2.50\"\nslice = 0.5";
    let said = good(&with(lines)).experiments[0].clone();
    let money = Some(Money::from_nanos(2_500_000_000));
    assert_eq!((said.contextual, said.slice), (Some(ContextualConfig { uniform: 0.02, half_life: None, budget: money }), 0.5));
    let bounded = |lines: &str| good(&with(lines)).experiments[0].clone();
    let (plain, given) = (bounded("may_cost = 0.05"), bounded("may_cost = 0.02\nassumed_worst = 3\nramp = [0.5]"));
    assert_eq!((plain.may_cost, plain.ramp), (Some((0.05, 10.0)), vec![1.0]));
    assert_eq!((given.may_cost, given.ramp), (Some((0.02, 3.0)), vec![0.5]));
    for (lines, says) in [
        ("allocation = \"contextual\"\nfloor = 0.1", "allocation is contextual"),
        ("allocation = \"contextual\"\nuniform = 0.2", "experiments.e.uniform"),
        ("allocation = \"contextual\"\nhalf_life = \"1s\"", "shorter than a window"),
        ("allocation = \"thompson\"\nuniform = 0.03", "does not go by context"),
        ("explore_budget = \"1\"", "does not go by context"),
        ("allocation = \"contextual\"\nmay_cost = 0.05", "`explore_budget` in its place"),
        ("assumed_worst = 4", "write `may_cost`"),
    ] {
        let found = problems(&with(lines));
        assert!(found[0].contains(says), "{lines}: {found:?}");
    }
}

#[test]
fn keys_that_are_trusted_are_keys() {
    let digits = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
    let models = |key: &str| format!("{PROVIDERS}{ROUTES}[models]\ntrusted_keys = [\"{key}\"]\n");
    assert_eq!(good(&models(&format!("ed25519:{digits}"))).models.trusted_keys.len(), 1);
    for wrong in [digits, "ed25519:d75a", "ed25519:zz", ""] {
        let found = problems(&models(wrong));
        assert!(found[0].contains("models.trusted_keys") && found[0].contains("farthing models keygen"), "{wrong}: {found:?}");
    }
}

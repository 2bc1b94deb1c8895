//! Anthropic's own client behind a proxy that marks its prompts for the provider's cache, over loopback.

use std::sync::Arc;

use farthing_config::{CredentialPlace, Dialect, Prices, PromptCacheConfig, TokenRates};
use farthing_sim::{ListedChanges, Provider as SimProvider};
use farthing_tests::Setup;
use farthing_tests::skip::skip;
use farthing_types::RealClock;
use http::HeaderName;
use serde_json::json;
use tokio::process::Command;

use crate::clients::{python, script, text};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn anthropics_client_pays_less_and_sees_what_it_always_saw() {
    let Some(python) = python() else { return skip("Anthropic's Python client: no target/venv (make deps)") };
    let has = Command::new(&python).args(["-c", "import anthropic"]).output().await.unwrap();
    if !has.status.success() {
        return skip("Anthropic's Python client: not in target/venv (make deps)");
    }
    let provider = SimProvider::start(Vec::new(), Arc::new(ListedChanges::new([])), Arc::new(RealClock::default())).await.unwrap();
    let charged = provider.message_prices();
    let rates = TokenRates {
        input: Some(charged.input),
        cached_input: Some(charged.read),
        cache_write: Some(charged.write),
        cache_write_1h: Some(charged.write_1h),
        output: Some(charged.output),
        ..TokenRates::default()
    };
    let setup = Setup::new(provider.addr())
        .provider(|p| {
            (p.dialect, p.credential_place) = (Dialect::Anthropic, CredentialPlace::Header(HeaderName::from_static("x-api-key")));
            p.prices = Some(Prices { targets: [("claude-sonnet-4-5".to_owned(), rates)].into(), ..Prices::default() });
        })
        .route(|r| {
            (r.strip_prefix, r.matcher.path_prefix) = ("/anthropic".into(), "/anthropic".into());
            r.prompt_cache = Some(PromptCacheConfig::default());
        });
    let started = setup.start().await;
    let base = format!("http://{}/anthropic", started.client.addr);
    let output = Command::new(&python).arg(script("anthropic_client.py")).args([&base, "sk-ant-own"]).output().await.unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    // Asked once, written at the second time, read from then on, streamed or not.
    let system = 3_006;
    let seen: Vec<(i64, i64)> =
        told["usage"].as_array().unwrap().iter().map(|usage| (usage[1].as_i64().unwrap(), usage[2].as_i64().unwrap())).collect();
    assert_eq!(seen, [(0, 0), (system, 0), (0, system), (0, system), (0, system)], "{told}");
    assert_eq!(told["streamed"], "You said: streamed? And", "{told}");
    assert!(told["tools"][2].as_i64().unwrap() > 3_000, "{told}");
    assert_eq!((&told["own"][1], &told["own"][2]), (&json!(0), &json!(2_002)), "{told}");
    assert_eq!(told["refused"], 400, "{told}");
    started.proxy.flush_log().await.unwrap();
    let totals = started.proxy.totals().total;
    assert_eq!((totals.bill_usd, totals.unpriced), (provider.bill(), 0));
    let saved = totals.saved["prompt_cache"].usd;
    assert_eq!(totals.base_usd - totals.bill_usd, saved);
    let metrics = farthing_proxy::telemetry::render(&started.proxy).unwrap();
    for line in [
        "farthing_prompt_cache_calls_total{route=\"api\",decision=\"client\"} 2",
        "farthing_prompt_cache_calls_total{route=\"api\",decision=\"few-reads\"}",
        "farthing_prompt_cache_tokens_total{route=\"api\",what=\"written\"}",
        "farthing_strategy_on{route=\"api\",strategy=\"prompt_cache\"} 1",
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
}

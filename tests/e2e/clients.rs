//! A1, A3: clients that people use, with only the base URL changed: curl and OpenAI's Python SDK, with the application's own key and with a
//! key of ours.

use std::path::PathBuf;
use std::process::Output;
use std::sync::Arc;
use std::time::Duration;

use farthing_config::{BatchConfig, BatchFormat, Config, CredentialPlace, Dialect, Mode, Prices, Secret, TokenRates, TtlBy};
use farthing_sim::{ListedChanges, Provider as SimProvider};
use farthing_tests::skip::skip;
use farthing_tests::{Setup, Started};
use farthing_types::{BudgetScope, BudgetSpec, LimitSpec, RateSpec, RealClock};
use tokio::process::Command;

/// A chat provider behind a proxy on `/openai`, and a key of ours.
async fn chat() -> (SimProvider, Started, String) {
    chat_with(|_| ()).await
}

/// The same under a configuration that a test changes.
pub async fn chat_with(change: impl FnOnce(&mut Config)) -> (SimProvider, Started, String) {
    let provider = SimProvider::start(Vec::new(), Arc::new(ListedChanges::new([])), Arc::new(RealClock::default())).await.unwrap();
    let rates = TokenRates { input: Some("0.0000025".parse().unwrap()), output: Some("0.00001".parse().unwrap()), ..TokenRates::default() };
    let mut setup = Setup::new(provider.addr())
        .provider(|p| {
            (p.dialect, p.credential_place, p.credential) = (Dialect::OpenAi, CredentialPlace::Bearer, Some(Secret::new("sk-real")));
            p.prices = Some(Prices { targets: [("gpt-4o".to_owned(), rates)].into(), ..Prices::default() });
        })
        .route(|r| {
            (r.strip_prefix, r.matcher.path_prefix) = ("/openai".into(), "/openai".into());
        });
    let key = setup.key("acme");
    change(&mut setup.config);
    (provider, setup.start().await, key)
}

pub fn python() -> Option<PathBuf> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/venv/bin/python");
    path.exists().then_some(path)
}

pub fn script(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("python").join(name)
}

pub fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openais_client_works_with_its_own_key_and_with_ours() {
    let Some(python) = python() else { return skip("OpenAI's Python client: no target/venv (make deps)") };
    let (provider, started, ours) = chat().await;
    for key in ["sk-the-apps-own", &ours] {
        let base = format!("http://{}/openai/v1", started.client.addr);
        let output = Command::new(&python).arg(script("openai_client.py")).args([&base, key]).output().await.unwrap();
        assert!(output.status.success(), "{}", text(&output));
        let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(!told["text"].as_str().unwrap().is_empty(), "{told}");
        assert_eq!(told["text"], told["streamed"], "{told}");
        assert_eq!(told["refused"], 400, "{told}");
        assert!(told["cache_status"][1].as_str().unwrap().starts_with("farthing"), "{told}");
    }
    // The ledger's bill is the provider's, to the nano-dollar, plain and streamed alike where the provider tells its usage.
    started.proxy.flush_log().await.unwrap();
    let totals = started.proxy.totals().total;
    let unpriced = totals.unpriced;
    if unpriced == 0 {
        assert_eq!(totals.bill_usd, provider.bill());
    } else {
        assert!(totals.bill_usd <= provider.bill(), "{} unpriced answers are not counted as free", unpriced);
    }
}

/// E3: lists of OpenAI's own client share copies with each other and with single texts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openais_client_asks_for_lists_of_embeddings_and_known_texts_are_not_bought_again() {
    let Some(python) = python() else { return skip("OpenAI's Python client and lists: no target/venv (make deps)") };
    let (provider, started, key) = chat_with(|config| {
        let mut route = (*config.routes[0]).clone();
        (route.mode, route.idempotent, route.ttl) = (Mode::Override, true, TtlBy::Fixed(Duration::from_secs(60)));
        route.batch = Some(BatchConfig { split: true, ..BatchConfig::new(BatchFormat::Embeddings) });
        config.routes[0] = Arc::new(route);
    })
    .await;
    let base = format!("http://{}/openai/v1", started.client.addr);
    let output = Command::new(&python).arg(script("openai_embeddings.py")).args([&base, &key]).output().await.unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(told["wrong"], serde_json::json!([]), "{told}");
    let items: Vec<&str> = told["items"].as_array().unwrap().iter().filter_map(|items| items.as_str()).collect();
    assert_eq!(items[0], "known=2, joined=0, called=68, repeated=0, stale=0");
    assert_eq!(items[1], "known=70, joined=0, called=30, repeated=0, stale=0");
    assert_eq!(items[2], "known=3, joined=0, called=0, repeated=1, stale=0");
    assert_eq!(provider.embedded(), 100, "each text was bought once");
    started.proxy.flush_log().await.unwrap();
    let totals = started.proxy.totals().total;
    assert_eq!((totals.unpriced, totals.bill_usd), (0, provider.bill()));
}

/// G2: an application sees what its library has a name for, and is told the one thing that it can do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openais_client_understands_a_used_up_budget() {
    let Some(python) = python() else { return skip("OpenAI's Python client and budgets: no target/venv (make deps)") };
    let state = tempfile::tempdir().unwrap();
    let (provider, started, ours) = chat_with(|config| {
        config.state_dir = state.path().to_owned();
        let scope = BudgetScope { tenant: Some("acme".into()), ..BudgetScope::default() };
        config.budgets = vec![BudgetSpec { name: "acme".into(), limit: "0.02".parse().unwrap(), scope, ..BudgetSpec::default() }];
    })
    .await;
    let base = format!("http://{}/openai/v1", started.client.addr);
    let output = Command::new(&python).arg(script("openai_budget.py")).args([&base, &ours]).output().await.unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let refusal =
        |class: &str, status: u16, code: &str| serde_json::json!({ "class": class, "status": status, "code": code, "type": code });
    assert_eq!(told["unbounded"], refusal("PermissionDeniedError", 403, "budget_unpriced"), "{told}");
    assert_eq!(told["refused"], refusal("RateLimitError", 429, "budget_exceeded"), "{told}");
    assert!(told["answered"].as_u64() > Some(5), "{told}");
    let counter = started.proxy.budgets().unwrap().counters.remove(0);
    assert_eq!((counter.spent, counter.reserved), (provider.bill(), farthing_types::Money::ZERO), "settled to the nano-dollar");
    assert!(counter.spent < counter.limit);
}

/// G1: an application's library knows a rate limit when it sees one, and comes back when it is told to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openais_client_understands_a_rate_limit_and_comes_back_by_itself() {
    let Some(python) = python() else { return skip("OpenAI's Python client and limits: no target/venv (make deps)") };
    let (_provider, started, ours) = chat_with(|config| {
        let requests = Some(RateSpec { count: 1, period: Duration::from_secs(2), burst: 3 });
        config.limits = vec![LimitSpec { name: "each-tenant".into(), requests, ..LimitSpec::default() }];
    })
    .await;
    let base = format!("http://{}/openai/v1", started.client.addr);
    let output = Command::new(&python).arg(script("openai_limit.py")).args([&base, &ours]).output().await.unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let refused = &told["refused"];
    assert_eq!((&refused["class"], &refused["status"]), (&"RateLimitError".into(), &429.into()), "{told}");
    assert_eq!((&refused["code"], &refused["ratelimit-policy"]), (&"rate_limited".into(), &"\"each-tenant\";q=1;w=2".into()), "{told}");
    let seconds: u64 = refused["retry-after"].as_str().unwrap().parse().unwrap();
    assert!((1..=2).contains(&seconds) && refused["ratelimit"].as_str().unwrap().starts_with("\"each-tenant\";r=0;t="), "{told}");
    assert!(told["answered"].as_u64() >= Some(3) && told["again"] == true, "{told}");
    assert!(told["seconds"].as_f64() > Some(0.5), "it waited as it was told: {told}");
    let stats = started.proxy.limits().unwrap().limits.remove(0).stats;
    assert!(stats.refused[0] >= 2 && stats.passed_over == 0, "{stats:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_works_with_only_the_url_changed() {
    let (_provider, started, ours) = chat().await;
    let url = format!("http://{}/openai/v1/chat/completions", started.client.addr);
    for key in ["sk-the-apps-own", &ours] {
        let authorization = format!("authorization: Bearer {key}");
        let body = r#"{"model":"gpt-4o","messages":[{"role":"user","content":"hi"}]}"#;
        let mut curl = Command::new("curl");
        curl.args(["-sS", "-D", "-", &url, "-H", &authorization, "-H", "content-type: application/json", "-d", body]);
        let Ok(output) = curl.output().await else { return skip("curl: not on PATH") };
        let told = text(&output);
        assert!(told.starts_with("HTTP/1.1 200"), "{told}");
        assert!(told.to_ascii_lowercase().contains("x-farthing-request-id:") && told.contains("\"choices\""), "{told}");
    }
}

//! O2: the dashboard in a real browser: it asks for the token, shows what the API says in each view, and says when it cannot.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use farthing_tests::origin::answer_of;
use farthing_tests::skip::skip;
use farthing_tests::{Client, Origin};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::program::{Serving, built};

/// A browser, driven by WebDriver; ends with the test.
struct Browser {
    driver: Client,
    session: String,
    _process: Child,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// None where there is no browser.
    async fn start() -> Option<Self> {
        let mut process = Command::new("chromedriver")
            .args(["--port=0", "--allowed-ips=127.0.0.1"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .ok()?;
        let mut lines = BufReader::new(process.stdout.take()?).lines();
        let port = loop {
            let line = lines.next_line().await.unwrap()?;
            if let Some(port) = line.split("successfully on port ").nth(1) {
                break port.trim_end_matches('.').parse::<u16>().unwrap();
            }
        };
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let profile = tempfile::tempdir().unwrap();
        let folder = format!("--user-data-dir={}", profile.path().display());
        let args = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-quic",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--window-size=1400,1600",
            &folder,
        ];
        let driver = Client { addr: ([127, 0, 0, 1], port).into() };
        let mut browser = Self { driver, session: String::new(), _process: process, _profile: profile };
        let wanted =
            json!({"capabilities": {"alwaysMatch": {"goog:chromeOptions": {"args": args}, "goog:loggingPrefs": {"browser": "ALL"}}}});
        let told = browser.command(Method::POST, "", &wanted).await;
        browser.session = format!("/{}", told["sessionId"].as_str()?);
        Some(browser)
    }

    async fn command(&self, method: Method, path: &str, body: &Value) -> Value {
        let target = format!("/session{}{path}", self.session);
        let body = if body.is_null() { Vec::new() } else { serde_json::to_vec(body).unwrap() };
        let answer = self.driver.send(method, &target, &[("content-type", "application/json")], body).await;
        assert_eq!(answer.status, StatusCode::OK, "{target}: {}", answer.text());
        let told: Value = serde_json::from_slice(&answer.body).unwrap();
        told["value"].clone()
    }

    async fn open(&self, url: &str) {
        self.command(Method::POST, "/url", &json!({ "url": url })).await;
    }

    async fn script(&self, script: &str) -> Value {
        self.command(Method::POST, "/execute/sync", &json!({ "script": script, "args": [] })).await
    }

    /// The page's text, once all of `wanted` stands in it.
    async fn shows(&self, wanted: &[&str]) -> String {
        let mut text = String::new();
        for _ in 0..600 {
            text = self.script("return document.body.innerText").await.as_str().unwrap_or_default().to_owned();
            if wanted.iter().all(|part| text.contains(part)) {
                return text;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{wanted:?} is not all in: {text}")
    }

    /// What the page complained of, but for answers that were refused for want of the token.
    async fn complaints(&self) -> Vec<Value> {
        let told = self.command(Method::POST, "/se/log", &json!({ "type": "browser" })).await;
        let about = |line: &Value| line["message"].as_str().unwrap_or_default().contains("status of 4");
        told.as_array().unwrap().iter().filter(|line| !about(line)).cloned().collect()
    }

    async fn end(self) {
        self.command(Method::DELETE, "", &Value::Null).await;
    }
}

/// What needs no log is shown all the same, and why the rest is not.
async fn without_a_log(browser: &Browser, program: &Path, dir: &Path) {
    let config = "[admin]\nlisten = \"127.0.0.1:0\"\n[data]\nlisten = \"127.0.0.1:0\"\n[log]\nenabled = false\n[providers.geo]\nbase_url = \"http://127.0.0.1:9\"\n";
    std::fs::write(dir.join("silent.toml"), config).unwrap();
    let serving = Serving::start_where_it_says(program, dir, "silent.toml").await;
    browser.open(&format!("http://{}/", serving.admin.addr)).await;
    browser.shows(&["the log is off", "Hit ratio", "Where answers came from"]).await;
    browser.script("location.hash = 'money'").await;
    browser.shows(&["Who spends", "the log is off"]).await;
    serving.end().await;
}

#[tokio::test]
async fn the_dashboard_shows_what_the_api_says() {
    let Some(program) = built("farthing") else { return skip("dashboard: no program beside the tests") };
    let Some(browser) = Browser::start().await else { return skip("dashboard: no Chromium with its driver (make deps gets them)") };
    let dir = tempfile::tempdir().unwrap();
    let origin = Origin::simple(|_, _| answer_of(StatusCode::OK, &[("cache-control", "max-age=600")], "x")).await;
    // A hypothesis that would be markup if it were not text.
    let config = format!(
        r#"
[admin]
listen = "127.0.0.1:0"
token = {{ file = "token" }}
[data]
listen = "127.0.0.1:0"
[providers.geo]
base_url = "http://{0}"
prices = {{ per_call = "0.5" }}
[providers.odd]
base_url = "http://{0}"
[budgets.month]
limit = "100"
window = "month"
unpriced = "allow"
[[limits]]
name = "calm"
scope = "route"
requests = "100/s"
[experiments.longer]
hypothesis = "<img src=x onerror=alert(1)> costs less"
routes = ["geo"]
start = "running"
[[experiments.longer.variants]]
name = "now"
[[experiments.longer.variants]]
name = "long"
base_ttl = "1h"
"#,
        origin.addr
    );
    std::fs::write(dir.path().join("token"), "t0ken-of-the-test").unwrap();
    std::fs::write(dir.path().join("farthing.toml"), config).unwrap();
    let serving = Serving::start_where_it_says(&program, dir.path(), "farthing.toml").await;
    for path in ["/r/geo/a", "/r/geo/a", "/r/geo/b", "/r/odd/a"] {
        assert_eq!(serving.data.get(path, &[]).await.status, StatusCode::OK);
    }
    let page = format!("http://{}/", serving.admin.addr);
    browser.open(&page).await;
    browser.shows(&["Admin token"]).await;
    browser.script("document.querySelector('input').value = 't0ken-of-the-test'; document.querySelector('form').requestSubmit()").await;
    let text = browser.shows(&["Paid to providers", "Saving by the ledger"]).await;
    for figure in ["$1.50 without Farthing", "$1.00\n", "33.3 %", "not measured", "the sums lack them", "What each strategy saved"] {
        assert!(text.contains(figure), "{figure}: {text}");
    }
    for (view, wanted) in [
        ("money", &["Who spends", "anonymous", "$1.00"][..]),
        ("routes", &["Routes since the start", "geo", "odd", "unknown"]),
        ("experiments", &["longer", "<img src=x onerror=alert(1)> costs less", "keep running"]),
        ("models", &["Predictors", "What was done"]),
        ("bounds", &["month", "calm (route)", "$99.00", "This instance is alone."]),
    ] {
        browser.script(&format!("location.hash = '{view}'")).await;
        browser.shows(wanted).await;
        assert_eq!(browser.script("return document.querySelectorAll('img, script:not([src])').length").await, 0, "{view}");
    }
    assert_eq!(browser.complaints().await, Vec::<Value>::new());
    serving.end().await;
    browser.script("location.hash = 'overview'").await;
    browser.shows(&["These figures are not fresh"]).await;
    without_a_log(&browser, &program, dir.path()).await;
    browser.end().await;
}

//! Money as an operator asks for it: of a running proxy, and of its log once it has ended (J3, J5).

use std::time::Duration;

use farthing_tests::Origin;
use farthing_tests::origin::{answer_of, ok};
use farthing_tests::skip::skip;
use http::StatusCode;
use serde_json::Value;

use crate::program::{Serving, built, command, run, said};

fn figure<'a>(answer: &'a Value, route: &str, name: &str) -> &'a Value {
    let groups = answer["groups"].as_array().unwrap();
    let group = groups.iter().find(|group| group["names"]["route"] == route).unwrap_or_else(|| panic!("no route {route}: {answer}"));
    &group["figures"][name]
}

#[tokio::test]
async fn what_was_paid_and_saved_is_told_by_name_and_what_has_no_price_alarms() {
    let Some(program) = built("farthing") else { return skip("costs: no program beside the tests") };
    let dir = tempfile::tempdir().unwrap();
    let origin = Origin::simple(|_, _| answer_of(StatusCode::OK, &[("cache-control", "max-age=600")], "x")).await;
    let hook = Origin::simple(|_, _| ok("")).await;
    let config = format!(
        "[self_cost]\nper_month = \"0.001\"\n[alerts]\nwebhook = \"http://{}/hook\"\n\
         [providers.geo]\nbase_url = \"http://{}\"\nprices = {{ per_call = \"0.5\" }}\n[providers.odd]\nbase_url = \"http://{}\"\n",
        hook.addr, origin.addr, origin.addr
    );
    std::fs::write(dir.path().join("farthing.toml"), config).unwrap();
    let serving = Serving::start(&program, dir.path(), &["--config", "farthing.toml"]).await;
    for path in ["/r/geo/a", "/r/geo/a", "/r/geo/a", "/r/geo/b", "/r/odd/a", "/r/odd/a"] {
        assert_eq!(serving.data.get(path, &[("x-farthing-tags", "feature=map")]).await.status, StatusCode::OK);
        stored_at_least(&serving, 1).await;
    }
    let ask = ["costs", "--window", "1h", "--by", "route,provider", "--filter", "tag:feature:map"];
    let told = serving.json(&ask).await;
    let geo = |name: &str| figure(&told, "geo", name).clone();
    assert_eq!((geo("bill_usd"), geo("base_usd"), geo("saved_usd")), ("1".into(), "2".into(), "1".into()), "{told}");
    assert_eq!((geo("requests"), geo("calls"), geo("hit_ratio"), geo("unpriced_calls")), (4.into(), 2.into(), 0.5.into(), 0.into()));
    assert_eq!((figure(&told, "odd", "unpriced_calls"), figure(&told, "odd", "unpriced_requests")), (&1.into(), &2.into()), "{told}");
    assert_eq!(told["net"], Value::Null, "a part is not set against the cost of the whole");
    let all = serving.json(&["costs", "--window", "1h"]).await;
    assert_eq!(all["strategies"][0]["name"], "l1");
    assert!(all["net"]["return_on_cost"].as_f64().is_some_and(|factor| factor > 1.0), "{all}");
    assert!(all["proved"]["unit_windows"].is_u64(), "{all}");
    let bad = serving.cli(&["costs", "--by", "model"]).await;
    assert!(!bad.status.success() && said(&bad).contains("there is no name `model`; use tenant"), "{}", said(&bad));
    // The same as a table, and of the folder alone once the proxy has ended.
    let table = said(&serving.cli(&["costs", "--window", "1h", "--by", "route"]).await);
    assert!(table.contains("UNPRICED CALLS") && table.contains("net of Farthing's own cost"), "{table}");
    assert_eq!(serving.json(&["alerts", "list"]).await, Value::Array(Vec::new()), "the hour is not over");
    serving.end().await;
    let output =
        run(command(&program, dir.path(), &["costs", "--logs", "logs", "--window", "1h", "--by", "route,provider", "--json"])).await;
    let folder: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", said(&output)));
    assert_eq!((figure(&folder, "geo", "bill_usd"), figure(&folder, "geo", "calls")), (&"1".into(), &2.into()), "{folder}");
    unpriced_is_told(&program, dir.path(), &hook).await;
}

/// Answers are stored a moment after their client has them; who comes in between joins the call, which is another saving.
async fn stored_at_least(serving: &Serving, entries: u64) {
    for _ in 0..10_000 {
        let told: Value = serde_json::from_slice(&serving.admin.get("/api/v1/cache/stats", &[]).await.body).unwrap();
        if told["entries"].as_u64().unwrap() >= entries {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("never stored");
}

/// The next start takes the hours that are over, if only this test's were: rows of the hour before are written by hand.
async fn unpriced_is_told(program: &std::path::Path, dir: &std::path::Path, hook: &Origin) {
    let clock = farthing_types::RealClock::default();
    let before = farthing_types::Clock::now(&clock).nanos() - 2 * 3_600_000_000_000;
    let writer =
        farthing_ledger::LogWriter::open(dir.join("logs"), farthing_ledger::LogConfig::default(), std::sync::Arc::new(clock)).unwrap();
    writer.handle().write(farthing_contract::log::CallRow {
        ts_ns: before,
        tenant: "acme".into(),
        provider: "odd".into(),
        route: "odd".into(),
        purpose: "user",
        sent: true,
        ..Default::default()
    });
    writer.close();
    for start in 0..2 {
        let serving = Serving::start(program, dir, &["--config", "farthing.toml"]).await;
        let mut looks = 0;
        let told = loop {
            looks += 1;
            assert!(looks < 600, "start {start}: nothing was told and delivered within half a minute");
            let told = serving.json(&["alerts", "list"]).await;
            let delivered = told[0]["delivery"]["state"] == "delivered";
            if delivered && !metric(&serving, "farthing_watch_hours_total{}").await.is_empty() {
                break told;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        assert_eq!(told.as_array().unwrap().len(), 1, "start {start}: {told}");
        assert_eq!((&told[0]["kind"], &told[0]["subject"]), (&"unpriced".into(), &"odd/odd".into()), "{told}");
        let counted = metric(&serving, "farthing_alerts_total{kind=\"unpriced\"}").await;
        assert_eq!(counted, "1", "the book counts over restarts");
        serving.end().await;
    }
    let posts = hook.seen();
    assert_eq!(posts.len(), 1, "not told again after a restart");
}

/// The value of a metric; empty while it is absent or zero.
async fn metric(serving: &Serving, name: &str) -> String {
    let text = serving.admin.get("/metrics", &[]).await.text();
    let value =
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).unwrap_or_default().trim_end_matches(".0").to_owned();
    if value == "0" { String::new() } else { value }
}

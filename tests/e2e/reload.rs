//! O3: the configuration of the running program changes under load: no request fails, no counter is lost, and what is wrong changes nothing.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use farthing_tests::origin::answer_of;
use farthing_tests::skip::skip;
use farthing_tests::{Client, Origin};
use http::StatusCode;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::task::JoinSet;

use crate::program::{Serving, built, said};

const CLIENTS: u64 = 6;

fn file(origin: &Origin, more: &str) -> String {
    format!(
        "[models]\ndir = \"no-models\"\n[holdout]\nshare = 0\n[log]\nenabled = false\n[providers.geo]\nbase_url = \"http://{}\"\nprice = \"0.002\"\n{more}",
        origin.addr
    )
}

#[derive(Default)]
struct Seen {
    done: AtomicBool,
    asked: AtomicU64,
    wrong: Mutex<Vec<String>>,
}

/// Asks without a pause, for known and for new documents.
async fn ask(client: Client, seen: Arc<Seen>, who: u64) {
    let mut n = 0_u64;
    while !seen.done.load(Relaxed) {
        n += 1;
        let target = if n.is_multiple_of(4) { format!("/r/geo/new/{who}/{n}") } else { format!("/r/geo/known/{}", n % 20) };
        let answer = client.try_get(&target, &[]).await;
        if answer.as_ref().is_none_or(|answer| answer.status != StatusCode::OK || answer.text() != target.replace("/r/geo", "")) {
            seen.wrong.lock().push(format!("{target}: {answer:?}"));
        }
        seen.asked.fetch_add(1, Relaxed);
    }
}

/// The sum of a metric over its lines of a route.
async fn metric(serving: &Serving, start: &str) -> f64 {
    let text = serving.admin.get("/metrics", &[]).await.text();
    text.lines().filter(|line| line.starts_with(start)).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

async fn more(seen: &Seen, requests: u64) {
    let goal = seen.asked.load(Relaxed) + requests;
    let comes = async {
        while seen.asked.load(Relaxed) < goal {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(120), comes).await.expect("requests go on");
}

fn write(dir: &Path, text: &str) {
    // Whole or not at all, as an operator's tools do it.
    std::fs::write(dir.join("next.toml"), text).unwrap();
    std::fs::rename(dir.join("next.toml"), dir.join("farthing.toml")).unwrap();
}

async fn hang_up(serving: &Serving, counter: &str) {
    let before = metric(serving, counter).await;
    serving.hang_up();
    let done = async {
        while metric(serving, counter).await <= before {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), done).await.expect("the signal is obeyed");
}

fn digest(config: &Value) -> String {
    config["digest"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_under_load_fails_no_request_and_an_error_changes_nothing() {
    let Some(program) = built("farthing") else { return skip("reload: no program beside the tests") };
    let origin = Origin::simple(|seen, _| answer_of(StatusCode::OK, &[("cache-control", "max-age=600")], seen.target.clone())).await;
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &file(&origin, ""));
    let serving = Serving::start(&program, dir.path(), &["--config", "farthing.toml"]).await;
    let (seen, mut clients) = (Arc::new(Seen::default()), JoinSet::new());
    (0..CLIENTS).for_each(|who| _ = clients.spawn(ask(serving.data, seen.clone(), who)));
    more(&seen, 300).await;
    let first = serving.json(&["config", "show"]).await;

    // Another route, other bounds, limits and keys: told beforehand, then in force at once.
    let second = file(
        &origin,
        "[routes.geo]\nprovider = \"geo\"\nmax_ttl = \"90s\"\n[routes.maps]\nprovider = \"geo\"\npath_prefix = \"/r/maps\"\n[overhead]\nlimit = \"9ms\"\n",
    );
    write(dir.path(), &second);
    let told = serving.json(&["config", "diff"]).await;
    let keys: Vec<&str> = told["changes"].as_array().unwrap().iter().map(|change| change["key"].as_str().unwrap()).collect();
    assert!(["overhead.limit", "routes.maps", "routes.geo.max_ttl"].iter().all(|key| keys.contains(key)), "{told}");
    assert_eq!(serving.data.get("/r/maps/x", &[]).await.status, StatusCode::NOT_FOUND, "a question changes nothing");
    let done = serving.json(&["config", "reload"]).await;
    assert_eq!((digest(&done), done["purged"].as_array().unwrap().len()), (digest(&told), 0));
    assert_eq!(serving.data.get("/r/maps/x", &[]).await.text(), "/x");
    assert_ne!(digest(&first), digest(&done));
    more(&seen, 200).await;

    // Errors and restarts: nothing of them is taken over, not even what could be.
    for (text, says) in [
        (second.replace("max_ttl = \"90s\"", "max_ttl = 90"), "farthing.toml"),
        (
            second.replace("[routes.maps]", "[routes.other]").replace("no-models", "elsewhere"),
            "restart needed, nothing was changed: models.dir",
        ),
    ] {
        write(dir.path(), &text);
        let refused = serving.cli(&["config", "reload"]).await;
        assert!(!refused.status.success() && said(&refused).contains(says), "{}", said(&refused));
        assert_eq!(digest(&serving.json(&["config", "show"]).await), digest(&done));
        assert_eq!(serving.data.get("/r/maps/x", &[]).await.status, StatusCode::OK);
        let (answer, ready) = serving.readiness().await;
        assert_eq!(answer.status, StatusCode::OK);
        assert!(ready.to_string().contains("the last reload was refused"), "{ready}");
    }
    hang_up(&serving, "farthing_config_reloads_total{outcome=\"restart\"}").await;

    // By a signal, many times: nobody notices.
    for n in 0..5 {
        write(dir.path(), &format!("{second}[strategies]\nprefetch = {}\n", n % 2 == 1));
        hang_up(&serving, "farthing_config_reloads_total{outcome=\"applied\"}").await;
        more(&seen, 50).await;
    }
    assert_eq!(metric(&serving, "farthing_config_reload_refused").await, 0.0);
    seen.done.store(true, Relaxed);
    while clients.join_next().await.is_some() {}
    let wrong = seen.wrong.lock().clone();
    assert!(wrong.is_empty(), "{} of {}: {:?}", wrong.len(), seen.asked.load(Relaxed), wrong.first());
    assert_eq!(
        metric(&serving, "farthing_requests_total{route=\"geo\"").await,
        seen.asked.load(Relaxed) as f64,
        "each request was counted once"
    );
    let calls = origin.seen().iter().filter(|seen| seen.target != "/x").count();
    let bill = metric(&serving, "farthing_bill_usd_total{route=\"geo\"").await;
    assert!((bill - calls as f64 * 0.002).abs() < 1e-9, "{calls} calls, {bill} $");

    // Who did what is on record, also what was refused.
    let audit = serving.json(&["audit", "show"]).await;
    let audit = audit.as_array().unwrap();
    let of = |by: &str, what: &str| audit.iter().filter(|note| note["by"] == by && note["what"].as_str().unwrap().contains(what)).count();
    assert_eq!((of("loopback", "POST /api/v1/config/reload"), of("signal", "SIGHUP")), (3, 6), "{audit:?}");
    assert!(audit[0]["before"] == first["digest"] && audit[0]["after"] == done["digest"] && audit[1]["outcome"] == "422", "{audit:?}");
    serving.end().await;
}

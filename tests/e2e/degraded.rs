//! H2, M4, R2, R3: parts that are missing, broken or frozen. Requests are answered, and what is not well is said.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use farthing_config::TtlBy;
use farthing_contract::bundle::disk::change_aliases;
use farthing_contract::bundle::{Alias, Kind, Target};
use farthing_tests::origin::{answer_of, ok};
use farthing_tests::skip::skip;
use farthing_tests::{Answer, Client, Origin, Setup};
use farthing_types::{Body, BodyError};
use futures_util::future::{self, FutureExt};
use futures_util::stream::{self, StreamExt};
use http::{Method, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::bundles;
use crate::program::{self, Serving};

/// The document of a problem; it must be one.
fn problem(answer: &Answer) -> Value {
    assert_eq!(answer.header("content-type"), "application/problem+json", "{answer:?}");
    let document: Value = serde_json::from_slice(&answer.body).unwrap_or_else(|e| panic!("{e}: {}", answer.text()));
    assert_eq!(document["status"], answer.status.as_u16(), "{document}");
    document
}

/// The Cache-Status of a stored answer: it tells who decided how long to keep it.
async fn decided(client: Client, path: &str) -> String {
    assert_eq!(client.get(path, &[]).await.status, StatusCode::OK);
    let mut again = client.get(path, &[]).await;
    // The answer is stored a moment after its first client has it.
    for _ in 0..1_000 {
        if again.is_hit() {
            break;
        }
        again = client.get(path, &[]).await;
    }
    assert!(again.is_hit(), "{again:?}");
    again.header("cache-status").to_owned()
}

/// `farthing serve` without the native library.
async fn without_library(dir: &std::path::Path, origin: &Origin) -> Option<Serving> {
    without_library_and(dir, origin, "").await
}

/// The same with more lines of the configuration.
async fn without_library_and(dir: &std::path::Path, origin: &Origin, more: &str) -> Option<Serving> {
    let Some(farthing) = program::built("farthing") else {
        skip("serving without the native library: the program is not built (cargo build -p farthing)");
        return None;
    };
    let config = format!(
        "[holdout]\nshare = 0\n[providers.geo]\nbase_url = \"http://{}\"\nprice = \"0.002\"\n[routes.geo]\n\
         [routes.trusted]\nprovider = \"geo\"\npath_prefix = \"/trusted\"\ntrust_shipped = true\n{more}",
        origin.addr
    );
    std::fs::write(dir.join("farthing.toml"), config).unwrap();
    let flags = ["--config", "farthing.toml", "--onnxruntime", "nowhere/libonnxruntime.so"];
    Some(Serving::start(&farthing, dir, &flags).await)
}

fn part<'a>(readiness: &'a Value, name: &str) -> &'a Value {
    let parts = readiness["parts"].as_array().unwrap_or_else(|| panic!("{readiness}"));
    parts.iter().find(|part| part["name"] == name).unwrap_or_else(|| panic!("{name} in {readiness}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_library_the_table_decides_and_readiness_says_why() {
    let origin = Origin::simple(|_, n| ok(format!("{n}"))).await;
    let dir = tempfile::tempdir().unwrap();
    bundles::with_table(&dir.path().join("models"));
    let Some(serving) = without_library(dir.path(), &origin).await else { return };
    let promoted = serving.json(&["models", "promote", "ttl", "1"]).await;
    assert_eq!((&promoted["live"], &promoted["engine"]), (&1.into(), &"table".into()), "{promoted}");
    let status = decided(serving.data, "/r/geo/a").await;
    assert!(status.contains("table:1"), "{status}");

    let (answer, readiness) = serving.readiness().await;
    assert_eq!((answer.status, &readiness["status"]), (StatusCode::OK, &"degraded".into()), "{readiness}");
    let models = part(&readiness, "models");
    let why = models["detail"].as_str().unwrap();
    assert!(models["ok"] == false && why.contains("ONNX Runtime") && why.contains("nowhere"), "{readiness}");
    assert!(why.contains("make deps") && why.contains("tables and rules decide"), "{readiness}");
    assert!(serving.json(&["models", "list"]).await["library"].is_null());
    serving.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_library_and_table_the_rule_decides() {
    let origin = Origin::simple(|_, n| ok(format!("{n}"))).await;
    let dir = tempfile::tempdir().unwrap();
    bundles::good(&dir.path().join("models"), 1.0);
    let Some(serving) = without_library(dir.path(), &origin).await else { return };
    let refused = serving.cli(&["models", "promote", "ttl", "1"]).await;
    assert_eq!(refused.status.code(), Some(1), "{}", program::said(&refused));
    assert!(program::said(&refused).contains("make deps"), "{}", program::said(&refused));
    let status = decided(serving.data, "/r/geo/a").await;
    assert!(status.contains("fallback:no-model"), "{status}");
    assert_eq!(serving.readiness().await.1["status"], "degraded");
    serving.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_trusted_has_signed_decides_nothing_until_it_is_signed() {
    let Some(farthing) = program::built("farthing") else {
        return skip("signatures of predictors: the program is not built (cargo build -p farthing)");
    };
    let origin = Origin::simple(|_, n| ok(format!("{n}"))).await;
    let dir = tempfile::tempdir().unwrap();
    let models = dir.path().join("models");
    let published = bundles::with_table(&models);
    let target = Target { version: 1, digest: published.digest };
    change_aliases(&models, |aliases| Ok(aliases.promote(Kind::Ttl, Alias::Champion, target, 1))).unwrap();
    let keygen = || {
        let mut command = std::process::Command::new(&farthing);
        command.args(["models", "keygen", "--out", "signing.key"]).current_dir(dir.path()).output().unwrap()
    };
    let made = keygen();
    assert!(made.status.success() && !keygen().status.success(), "a key is not overwritten: {}", program::said(&made));
    let trusted = String::from_utf8(made.stdout).unwrap();
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(dir.path().join("signing.key")).unwrap());
    assert_eq!(mode & 0o077, 0, "nobody else reads it");

    let Some(serving) = without_library_and(dir.path(), &origin, &trusted).await else { return };
    let status = decided(serving.data, "/r/geo/a").await;
    assert!(status.contains("fallback:no-model"), "it starts and answers: {status}");
    let listed = serving.json(&["models", "list"]).await;
    assert!(listed["versions"][0]["problem"].as_str().unwrap().contains("`signed`"), "{listed}");
    let readiness = serving.readiness().await.1;
    assert_eq!((&readiness["status"], &part(&readiness, "models")["ok"]), (&"degraded".into(), &false.into()), "{readiness}");
    let refused = serving.cli(&["models", "promote", "ttl", "1", "--force"]).await;
    assert!(program::said(&refused).contains("farthing models sign"), "{}", program::said(&refused));
    let metrics = serving.admin.get("/metrics", &[]).await;
    let counted = metrics.text().lines().find(|line| line.starts_with("farthing_model_bundles_refused_total")).map(str::to_owned);
    assert!(counted.as_deref().is_some_and(|line| !line.ends_with(" 0")), "{counted:?}");

    let signed = serving.cli(&["models", "sign", "ttl", "1", "--key", "signing.key"]).await;
    assert!(signed.status.success(), "{}", program::said(&signed));
    assert_eq!(serving.json(&["models", "promote", "ttl", "1"]).await["engine"], "table");
    let status = decided(serving.data, "/r/geo/b").await;
    assert!(status.contains("table:1"), "{status}");
    serving.end().await;
}

/// Without the native library, with the shipped bundle as champion.
async fn with_shipped(dir: &std::path::Path, origin: &Origin) -> Option<Serving> {
    if bundles::shipped(&dir.join("models")).is_none() {
        skip(&format!("the shipped table: none in {} (make models)", bundles::shipped_root().display()));
        return None;
    }
    let serving = without_library(dir, origin).await?;
    let promoted = serving.json(&["models", "promote", "ttl", "1"]).await;
    assert_eq!((&promoted["live"], &promoted["engine"]), (&1.into(), &"table".into()), "{promoted}");
    Some(serving)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_shipped_table_decides_where_it_is_trusted() {
    let origin = Origin::simple(|_, n| ok(format!("{n}"))).await;
    let dir = tempfile::tempdir().unwrap();
    let Some(serving) = with_shipped(dir.path(), &origin).await else { return };
    let status = decided(serving.data, "/trusted/a").await;
    assert!(status.contains("table:1"), "{status}");
    serving.end().await;
}

/// It was trained on a generated world and knows nothing of this deployment's traffic.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_shipped_table_does_not_decide_untried() {
    let origin = Origin::simple(|_, n| ok(format!("{n}"))).await;
    let dir = tempfile::tempdir().unwrap();
    let Some(serving) = with_shipped(dir.path(), &origin).await else { return };
    let status = decided(serving.data, "/r/geo/a").await;
    assert!(status.contains("fallback:shipped-untried"), "{status}");
    serving.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_cannot_be_written_drops_rows_and_no_request() {
    let origin = Origin::simple(|_, n| ok(format!("{n}"))).await;
    let mut setup = Setup::new(origin.addr);
    // Below a file there can be no folder, whoever runs the test.
    let file = setup.config.models.dir.with_file_name("file");
    std::fs::write(&file, "in the way").unwrap();
    setup.config.log.dir = file.join("logs");
    let started = setup.start().await;
    for n in 0..20 {
        assert_eq!(started.client.get(&format!("/api/doc/{n}"), &[]).await.status, StatusCode::OK);
    }
    let error = started.proxy.flush_log().await.unwrap_err().to_string();
    let metrics = started.proxy.log_metrics().unwrap();
    assert!(metrics.dropped() >= 20 && metrics.rows() == 0 && !metrics.healthy, "{metrics:?}");
    assert!(metrics.last_error.is_some() && !error.is_empty(), "{metrics:?} {error}");
    let parts = started.proxy.parts();
    let log = parts.iter().find(|part| part.name == "log").unwrap();
    assert!(log.problem.as_ref().is_some_and(|why| why.contains("dropped") && why.ends_with("look at log.dir")), "{parts:?}");
    let journal = parts.iter().find(|part| part.name == "journal").unwrap();
    let folder = file.join("logs").display().to_string();
    assert!(journal.problem.as_ref().is_some_and(|why| why.contains(&folder)), "{parts:?}");
    assert!(started.client.get("/api/doc/0", &[]).await.is_hit());
    let left = started.proxy.shutdown().await.unwrap();
    assert!(left.dropped() > metrics.dropped(), "rows after the failure are counted, too: {left:?}");
}

/// Takes connections and never says a word. Ends with the test.
struct Frozen {
    addr: SocketAddr,
    task: JoinHandle<()>,
}

impl Frozen {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let task = tokio::task::spawn(async move {
            let mut held = Vec::new();
            while let Ok((stream, _)) = listener.accept().await {
                held.push(stream);
            }
        });
        Self { addr, task }
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_provider_is_a_504_at_the_routes_deadline() {
    let frozen = Frozen::start().await;
    let deadline = Duration::from_millis(150);
    let started = Setup::new(frozen.addr).route(|r| r.deadline = deadline).start().await;
    let since = std::time::Instant::now();
    let (first, follower) = tokio::join!(started.client.get("/api/doc", &[]), started.client.get("/api/doc", &[]));
    assert!(since.elapsed() >= deadline, "not before its time");
    for answer in [first, follower] {
        assert_eq!(answer.status, StatusCode::GATEWAY_TIMEOUT);
        assert_eq!(problem(&answer)["type"], "urn:farthing:problem:timeout");
    }
    // A client may ask for less time, never for more.
    let hurried = started.client.get("/api/other", &[("x-farthing-deadline-ms", "20")]).await;
    assert_eq!(hurried.status, StatusCode::GATEWAY_TIMEOUT);
    let patient = started.client.get("/api/third", &[("x-farthing-deadline-ms", "3600000")]).await;
    assert_eq!(patient.status, StatusCode::GATEWAY_TIMEOUT);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stale_answer_stands_in_for_a_frozen_provider() {
    let origin =
        Origin::start(std::sync::Arc::new(|_, n| if n == 0 { future::ready(ok("good")).boxed() } else { future::pending().boxed() })).await;
    let setup = Setup::new(origin.addr).route(|r| {
        (r.ttl, r.deadline) = (TtlBy::Fixed(Duration::from_secs(60)), Duration::from_millis(1_500));
    });
    let (started, clock) = setup.start_virtual().await;
    decided(started.client, "/api/doc").await;
    // The flight is over when its call is settled: a request 100 s later must not join it.
    for _ in 0..1_000 {
        if started.proxy.totals().total.attempts > 0 {
            break;
        }
        started.client.get("/api/doc", &[]).await;
    }
    clock.advance(Duration::from_secs(100));
    let stale = started.client.get("/api/doc", &[]).await;
    assert_eq!((stale.status, stale.text().as_str()), (StatusCode::OK, "good"), "{stale:?}");
    assert!(stale.header("cache-status").contains("ttl=-40"), "{stale:?}");
    assert_eq!(origin.calls(), 2);
}

/// A JSON answer that begins and never ends.
fn begun() -> Response<Body> {
    let first = Frame::data(Bytes::from_static(b"{\"half\":"));
    let frames = stream::once(future::ready(Ok::<_, BodyError>(first))).chain(stream::pending());
    let mut response = Response::new(Body::stream(StreamBody::new(frames)));
    response.headers_mut().insert("content-type", "application/json".parse().unwrap());
    response
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_freezes_half_way_is_cut_and_not_kept() {
    let origin = Origin::simple(|_, n| if n == 0 { begun() } else { ok("{\"half\":0}") }).await;
    let setup = Setup::new(origin.addr).provider(|p| p.upstream.idle_timeout = Duration::from_millis(150));
    let started = setup.start().await;
    let answer = started.client.open(Method::GET, "/api/doc", &[], Bytes::new()).await;
    assert_eq!(answer.status(), StatusCode::OK, "its head had come");
    let read = tokio::time::timeout(Duration::from_secs(60), answer.into_body().collect()).await.expect("it does not hang");
    assert!(read.is_err(), "half an answer does not look like a whole one");
    let again = started.client.get("/api/doc", &[]).await;
    assert_eq!((again.text().as_str(), again.is_hit()), ("{\"half\":0}", false));
    assert_eq!(origin.calls(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failing_provider_is_left_alone() {
    let origin = Origin::simple(|_, _| answer_of(StatusCode::SERVICE_UNAVAILABLE, &[("x-origin", "1")], "down")).await;
    // The breaker must not cool down while the test looks.
    let setup = Setup::new(origin.addr).provider(|p| p.upstream.breaker_cooldown = Duration::from_secs(3_600));
    let started = setup.start().await;
    let mut answers = Vec::new();
    for n in 0..40 {
        answers.push(started.client.get(&format!("/api/doc/{n}"), &[]).await);
    }
    assert!(answers.iter().all(|a| a.status == StatusCode::SERVICE_UNAVAILABLE));
    let (theirs, ours): (Vec<_>, Vec<_>) = answers.iter().partition(|a| a.headers.contains_key("x-origin"));
    assert_eq!(theirs.len(), origin.calls());
    assert!(ours.len() >= 20, "{} calls for 40 requests", origin.calls());
    for answer in ours {
        assert_eq!(problem(answer)["type"], "urn:farthing:problem:breaker-open");
        assert!(answer.headers.contains_key("retry-after"), "{answer:?}");
    }
    let parts = started.proxy.parts();
    assert!(parts.iter().any(|p| p.name.starts_with("upstream:") && p.problem.is_some()), "{parts:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_nobody_reaches_is_left_alone_too() {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let setup = Setup::new(gone).provider(|p| p.upstream.breaker_cooldown = Duration::from_secs(3_600));
    let started = setup.start().await;
    let mut statuses = Vec::new();
    for n in 0..30 {
        let answer = started.client.get(&format!("/api/doc/{n}"), &[]).await;
        let kind = problem(&answer)["type"].as_str().unwrap().to_owned();
        statuses.push((answer.status.as_u16(), kind));
    }
    assert_eq!(statuses.first().unwrap(), &(502, "urn:farthing:problem:connect".to_owned()));
    assert_eq!(statuses.last().unwrap(), &(503, "urn:farthing:problem:breaker-open".to_owned()));
    let bill = started.proxy.totals().total.bill_usd;
    assert_eq!(bill.to_string(), "0", "nobody was asked, nothing is owed");
}

/// Some releases of the native library send reports to their maker and keep a device id for them, unless they are told not to before
/// they are loaded. Whatever it does leaves traces in the user's folders.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_native_library_reports_to_nobody() {
    let Some(farthing) = program::built("farthing") else {
        return skip("what the native library reports: the program is not built (cargo build -p farthing)");
    };
    if bundles::runtime().is_none() {
        return;
    }
    let origin = Origin::simple(|_, n| ok(format!("{n}"))).await;
    let (dir, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    bundles::good(&dir.path().join("models"), 1.0);
    let upstream = format!("geo=http://{}", origin.addr);
    let serving = Serving::start_with(&farthing, dir.path(), &["--upstream", &upstream, "--price", "0.002"], |command| {
        command.env_remove("ORT_DISABLE_TELEMETRY").env_remove("CI").env("HOME", home.path()).env("TMPDIR", home.path());
        command.env_remove("XDG_CACHE_HOME");
    })
    .await;
    assert_eq!(serving.json(&["models", "promote", "ttl", "1"]).await["engine"], "model");
    assert_eq!(serving.data.get("/r/geo/a", &[]).await.status, StatusCode::OK);
    serving.end().await;
    let left: Vec<_> = std::fs::read_dir(home.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.is_empty(), "{left:?}");
}

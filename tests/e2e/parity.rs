//! M1: what the proxy logged is what its log gives when the same code goes through it once more, bit by bit: with evictions,
//! confirmations, variants, bypasses and an experiment, under concurrency, and after both kinds of restart.

use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use farthing_config::{Config, ExperimentConfig, Route, TtlBy, VariantConfig};
use farthing_contract::features::{HeadFacts, KeyStats, TTL_SPEC};
use farthing_contract::log::{CallRow, Decision, Request as RequestRow, Row, Value};
use farthing_contract::statistics::{Entry, FOLDER, Gap, Repeat, Saved, What, differing, run_file};
use farthing_ledger::read::rows;
use farthing_models::{Alias, Kind};
use farthing_proxy::Proxy;
use farthing_tests::origin::answer_of;
use farthing_tests::{Origin, Seen, Setup};
use farthing_types::{Body, Clock, Draw, DrawKind, Overrides, Span, Time, VirtualClock};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use tokio::task::JoinSet;

use crate::bundles;

/// Clients that ask at once.
const CLIENTS: u64 = 4;
const DOCUMENTS: f64 = 3_000.0;

/// What comparing a log has shown.
#[derive(Debug, Default)]
struct Compared {
    rows: usize,
    decisions: usize,
    equal: usize,
    differing: BTreeMap<&'static str, usize>,
    gaps: BTreeMap<Gap, usize>,
    runs: usize,
    forgotten: usize,
    selected: usize,
    confirmed: usize,
    exempt: usize,
}

/// The state from which a run started, and its keys.
type Start = (Saved, HashMap<u64, KeyStats>);

struct Logged {
    entry: Entry,
    call: Option<(u64, HeadFacts)>,
}

/// Goes through a log as it lies on disk.
fn compare(logs: &Path) -> Compared {
    let mut compared = Compared::default();
    let mut parts: BTreeMap<(u64, String), Vec<Logged>> = BTreeMap::new();
    read_requests(logs, &mut parts, &mut compared);
    read_calls(logs, &mut parts, &mut compared);
    let decisions = read_decisions(logs);
    compared.decisions = decisions.values().map(Vec::len).sum();
    let mut starts: HashMap<u64, Option<Start>> = HashMap::new();
    for ((run, route), mut part) in parts {
        let start = starts.entry(run).or_insert_with(|| {
            let saved = Saved::decode(&std::fs::read(logs.join(FOLDER).join(run_file(run))).ok()?).unwrap();
            let keys = saved.keys.iter().map(|k| (k.key, k.stats)).collect();
            Some((saved, keys))
        });
        let mut repeat = Repeat::new(&route, start.as_ref().map(|(saved, keys)| (saved, keys)));
        part.sort_by_key(|logged| logged.entry.seq);
        for Logged { entry, call } in &part {
            let features = call.and_then(|(call, head)| Some((decisions.get(&call)?, head)));
            match (repeat.step(entry), features) {
                (Err(gap), features) => *compared.gaps.entry(gap).or_default() += features.map_or(0, |(logged, _)| logged.len()),
                (Ok(_), None) => {}
                (Ok(stats), Some((logged, head))) => {
                    for features in logged {
                        match differing(features, stats, head, entry.at) {
                            None => compared.equal += 1,
                            Some(at) => *compared.differing.entry(TTL_SPEC.names[at]).or_default() += 1,
                        }
                    }
                }
            }
        }
    }
    compared.runs = starts.len();
    compared
}

fn read_requests(logs: &Path, parts: &mut BTreeMap<(u64, String), Vec<Logged>>, compared: &mut Compared) {
    let columns = ["stat_epoch", "stat_seq", "route", "stat_key", "key_hash", "stat_known", "ts_ns", "weight"];
    rows(logs, RequestRow::TABLE, &columns, &mut |cells| {
        compared.rows += 1;
        let [Value::U64(run), Value::I64(seq), Value::Text(route), selected, Value::U64(key), Value::Bool(known), Value::I64(at), weight] =
            cells
        else {
            return ControlFlow::Continue(());
        };
        assert_eq!(*weight, Value::I64(1), "nothing was thinned");
        compared.forgotten += usize::from(!known);
        let entry = Entry { seq: *seq, key: number(selected, *key), known: *known, at: Time::from_nanos(*at), what: What::Request };
        parts.entry((*run, (*route).to_owned())).or_default().push(Logged { entry, call: None });
        ControlFlow::Continue(())
    })
    .unwrap();
}

fn read_calls(logs: &Path, parts: &mut BTreeMap<(u64, String), Vec<Logged>>, compared: &mut Compared) {
    let columns = [
        "stat_epoch",
        "stat_seq",
        "route",
        "stat_key",
        "key_hash",
        "stat_known",
        "stat_at_ns",
        "stat_hash",
        "steers",
        "call_id",
        "body_bytes",
        "last_modified_ns",
        "origin_ttl_s",
        "has_etag",
        "query_parameters",
        "status",
    ];
    rows(logs, CallRow::TABLE, &columns, &mut |cells| {
        compared.rows += 1;
        let [Value::U64(run), Value::I64(seq), Value::Text(route), selected, Value::U64(key), Value::Bool(known), rest @ ..] = cells else {
            return ControlFlow::Continue(());
        };
        let [Value::I64(at), Value::U64(hash), Value::Bool(steers), Value::U64(call), bytes, modified, ttl, etag, query, status] = rest
        else {
            panic!("a row that entered the statistics says how: {rest:?}")
        };
        let int = |value: &Value<'_>| if let Value::I64(v) = value { Some(*v) } else { None };
        let head = HeadFacts {
            body_bytes: int(bytes).unwrap_or_default() as u64,
            last_modified: int(modified).map(Time::from_nanos),
            origin_ttl: int(ttl).map(|s| Span::from_secs(s as u64)),
            has_etag: *etag == Value::Bool(true),
            query_parameters: int(query).unwrap_or_default() as u32,
        };
        compared.selected += usize::from(*selected != Value::Null);
        compared.confirmed += usize::from(*status == Value::I32(304));
        compared.exempt += usize::from(!steers);
        let what = What::Answer { hash: *hash, steers: *steers };
        let entry = Entry { seq: *seq, key: number(selected, *key), known: *known, at: Time::from_nanos(*at), what };
        parts.entry((*run, (*route).to_owned())).or_default().push(Logged { entry, call: Some((*call, head)) });
        ControlFlow::Continue(())
    })
    .unwrap();
}

fn read_decisions(logs: &Path) -> HashMap<u64, Vec<Vec<f32>>> {
    let mut decisions: HashMap<u64, Vec<Vec<f32>>> = HashMap::new();
    rows(logs, Decision::TABLE, &["call_id", "spec_hash", "features"], &mut |cells| {
        if let [Value::U64(call), Value::Text(spec), Value::F32List(features)] = cells {
            assert_eq!(*spec, TTL_SPEC.hash());
            decisions.entry(*call).or_default().push(features.to_vec());
        }
        ControlFlow::Continue(())
    })
    .unwrap();
    decisions
}

fn number(value: &Value<'_>, otherwise: u64) -> u64 {
    if let Value::U64(number) = value { *number } else { otherwise }
}

/// Answers that change at times of their own; those of `/tagged` can be confirmed, those of `/varied` are selected.
fn origin_answer(seen: &Seen, clock: &VirtualClock) -> Response<Body> {
    let draw = Draw::new(5);
    let period = 20.0 * 4_000f64.powf(draw.uniform(DrawKind::Sample, &seen.target, 1, 0));
    let version = (clock.now().secs_f64() / period) as u64;
    let accept = seen.headers.get("accept-language").and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
    let long = "x".repeat((draw.uniform(DrawKind::Sample, &seen.target, 2, 0) * 3_000.0) as usize);
    let body = format!("{{\"version\":{version},\"language\":\"{accept}\",\"text\":\"{long}\"}}");
    if seen.target.contains("/tagged") {
        let tag = format!("\"{version}\"");
        if seen.headers.get("if-none-match").is_some_and(|v| v.as_bytes() == tag.as_bytes()) {
            return answer_of(StatusCode::NOT_MODIFIED, &[("etag", &tag)], "");
        }
        return answer_of(StatusCode::OK, &[("content-type", "application/json"), ("etag", &tag)], body);
    }
    if seen.target.contains("/varied") {
        return answer_of(StatusCode::OK, &[("content-type", "application/json"), ("vary", "accept-language")], body);
    }
    let modified = "Mon, 06 Nov 2023 10:00:00 GMT";
    match version % 50 {
        0 => answer_of(StatusCode::OK, &[("content-type", "application/json"), ("cache-control", "no-store")], body),
        1 => answer_of(StatusCode::SERVICE_UNAVAILABLE, &[], "later"),
        2 => answer_of(StatusCode::OK, &[("content-type", "application/json"), ("cache-control", "max-age=60")], body),
        _ => answer_of(StatusCode::OK, &[("content-type", "application/json"), ("last-modified", modified)], body),
    }
}

/// A client with one connection, which asks `count` times; the clock goes on with each.
async fn ask(addr: std::net::SocketAddr, clock: Arc<VirtualClock>, (client, first, count): (u64, u64, u64)) {
    let stream = tokio::net::TcpStream::connect(addr).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    let driver = tokio::task::spawn(connection);
    let draw = Draw::new(77);
    for n in first..first + count {
        let u = |k: i64| draw.uniform(DrawKind::Sample, "ask", u128::from(n * CLIENTS + client), k);
        clock.advance(Span::from_micros((u(0) * 1.5e6 / CLIENTS as f64) as u64));
        // A few documents are asked for all the time, most of them seldom.
        let document = (DOCUMENTS.powf(u(1)) - 1.0) as u64;
        let route = ["plain", "tagged", "varied"][(document % 3) as usize];
        let query = ["", "?a=1", "?a=1&b=2"][(document % 7 % 3) as usize];
        let mut request = Request::builder().uri(format!("/{route}/{document}{query}")).header("host", "proxy");
        if route == "varied" {
            request = request.header("accept-language", if u(2) < 0.5 { "de" } else { "en" });
        }
        request = match u(3) {
            x if x < 0.02 => request.method(Method::POST),
            x if x < 0.04 => request.header("x-farthing-cache", "refresh"),
            x if x < 0.06 => request.header("x-farthing-cache", "read-only"),
            x if x < 0.08 => request.header("x-farthing-cache", "off"),
            _ => request,
        };
        let response = sender.send_request(request.body(Full::new(bytes::Bytes::new())).unwrap()).await.unwrap();
        response.into_body().collect().await.unwrap();
        sender.ready().await.unwrap();
    }
    drop(sender);
    driver.await.unwrap().unwrap();
}

async fn traffic(proxy: &Proxy, clock: &Arc<VirtualClock>, (first, count): (u64, u64)) {
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        clients.spawn(ask(proxy.data_addr(), clock.clone(), (client, first, count / CLIENTS)));
    }
    clients.join_all().await;
}

/// Three routes of one origin; caches and tables so small that much is evicted and forgotten.
fn configure(config: &mut Config) {
    let plain = Route::clone(&config.routes[0]);
    let route = |name: &str| {
        let mut route = Route { name: name.into(), trust_shipped: true, ..plain.clone() };
        route.matcher.path_prefix = format!("/{name}").into();
        route.strip_prefix = "".into();
        Arc::new(route)
    };
    config.routes = ["plain", "tagged", "varied"].map(route).into();
    (config.cache.l1_bytes, config.cache.statistics_bytes) = (170_000, 65_536);
    config.holdout.share = 0.05;
    (config.log.row_rate, config.log.queue_bytes) = (u32::MAX, 10_000_000_000);
    let variant = |name: &str, ttl: &str| VariantConfig {
        name: name.into(),
        share: 0.5,
        overrides: Overrides { ttl: Some(ttl.into()), ..Overrides::default() },
    };
    config.experiments = vec![ExperimentConfig {
        name: "fixed-or-table".into(),
        hypothesis: "none".into(),
        routes: vec!["plain".into()],
        variants: vec![variant("table", "table"), variant("fixed", "fixed:30")],
        window: Span::from_secs(3_600),
        slice: 1.0,
        ramp: vec![1.0],
        min_units: 1_000_000,
        ..ExperimentConfig::default()
    }];
    for route in &mut config.routes {
        Arc::make_mut(route).ttl = TtlBy::Table;
    }
}

/// Runs `requests` in three runs of the proxy: the second begins after a shutdown, the third after the second just vanished.
async fn three_runs(requests: u64) -> Compared {
    let clock = Arc::new(VirtualClock::new(Time::from_millis(1_700_000_000_000)));
    let at = clock.clone();
    let origin = Origin::simple(move |seen, _| origin_answer(seen, &at)).await;
    let mut setup = Setup::new(origin.addr);
    configure(&mut setup.config);
    bundles::with_table(&setup.config.models.dir);
    let config = Arc::new(setup.config.clone());
    let third = requests / 3;

    let first = setup.start_on(clock.clone()).await;
    first.proxy.models().promote(Kind::Ttl, 1, Alias::Champion, clock.now()).unwrap();
    traffic(&first.proxy, &clock, (0, third)).await;
    first.proxy.shutdown().await;

    let second = Proxy::start(config.clone(), clock.clone()).await.unwrap();
    traffic(&second, &clock, (third, third)).await;
    second.flush_log().await.unwrap();

    let last = Proxy::start(config.clone(), clock.clone()).await.unwrap();
    traffic(&last, &clock, (2 * third, third)).await;
    last.shutdown().await;
    second.shutdown().await;
    compare(&config.log.dir)
}

fn check(compared: &Compared, requests: usize) {
    assert!(compared.rows >= requests && compared.runs == 3, "{compared:?}");
    assert!(compared.equal >= requests / 10, "too few to tell: {compared:?}");
    assert_eq!((compared.differing.len(), compared.gaps.len(), compared.equal), (0, 0, compared.decisions), "{compared:?}");
    // The cases that would go unseen.
    for (what, count) in [
        ("keys were forgotten", compared.forgotten),
        ("answers were selected", compared.selected),
        ("answers were confirmed", compared.confirmed),
        ("copies did not steer", compared.exempt),
    ] {
        assert!(count > requests / 1_000, "{what}: {compared:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logged_features_are_those_that_the_log_gives() {
    check(&three_runs(21_000).await, 21_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: a million rows"]
async fn logged_features_are_those_that_the_log_gives_in_a_million_rows() {
    let compared = three_runs(900_000).await;
    check(&compared, 900_000);
    assert!(compared.rows >= 1_000_000, "{compared:?}");
}

/// A state that cannot be read is not used, said and counted; the run starts empty and its log is as exact.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_state_is_not_used() {
    let clock = Arc::new(VirtualClock::new(Time::from_millis(1_700_000_000_000)));
    let at = clock.clone();
    let origin = Origin::simple(move |seen, _| origin_answer(seen, &at)).await;
    let mut setup = Setup::new(origin.addr);
    configure(&mut setup.config);
    bundles::with_table(&setup.config.models.dir);
    let config = Arc::new(setup.config.clone());
    let first = setup.start_on(clock.clone()).await;
    first.proxy.models().promote(Kind::Ttl, 1, Alias::Champion, clock.now()).unwrap();
    traffic(&first.proxy, &clock, (0, 200)).await;
    first.proxy.shutdown().await;
    let latest = config.log.dir.join(FOLDER).join("latest-local.stats");
    let mut bytes = std::fs::read(&latest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&latest, bytes).unwrap();

    let second = Proxy::start(config.clone(), clock.clone()).await.unwrap();
    let metrics = farthing_proxy::telemetry::render(&second).unwrap();
    let refused = metrics.lines().find(|line| line.starts_with("farthing_statistics_refused_total")).unwrap();
    assert!(refused.ends_with(" 1") || refused.ends_with(" 1.0"), "{refused}");
    traffic(&second, &clock, (200, 400)).await;
    second.shutdown().await;
    let compared = compare(&config.log.dir);
    assert_eq!((compared.equal, compared.runs), (compared.decisions, 2), "{compared:?}");
    assert!(compared.decisions > 50, "{compared:?}");
}

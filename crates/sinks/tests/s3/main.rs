//! A server that speaks S3: the conformance suite, faults on the way to it, deaths of either side, and what comes late.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test says what went wrong by failing"
)]

mod between;
mod deaths;
mod late;
#[path = "../servers/mod.rs"]
mod servers;
#[path = "../suite/mod.rs"]
mod suite;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use between::{Between, Fate, answers};
use farthing_contract::log::{ALL, CallRow, Request, Row, Table, Value, partition};
use farthing_ledger::archive::FinishedFile;
use farthing_sinks::s3::S3;
use farthing_sinks::{FaultReason, S3Credentials, S3Spec, Shipment, Sink, SinkSpec, Target};
use farthing_types::{Span, Time, VirtualClock};
use http::{Method, StatusCode};
use servers::s3::{BUCKET, Store};
use suite::{CANARY, HOUR, Holds, assert_equal, at_hour, driver_at, log};

const DEADLINE: Span = Span::from_secs(20);
const SECRET: &str = "a secret of tests";
const PREFIX: &str = "spend/prod";

/// The files of a table: the object's name says which.
impl Holds for Store {
    fn rows(&self, table: &'static Table) -> Vec<Vec<String>> {
        rows_named(self, table, |_| true)
    }
}

fn rows_named(store: &Store, table: &'static Table, named: impl Fn(&str) -> bool) -> Vec<Vec<String>> {
    let below = format!("{PREFIX}/{}/", table.name);
    let names = store.names().into_keys().filter(|name| name.starts_with(&below) && named(name));
    let mut rows: Vec<_> = names.flat_map(|name| rows_of(&store.get(&name), table)).collect();
    rows.sort();
    rows
}

fn rows_of(bytes: &[u8], table: &'static Table) -> Vec<Vec<String>> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("object.parquet");
    std::fs::write(&path, bytes).unwrap();
    let file = FinishedFile { table, hour: 0, path, bytes: 0, modified: Time::ZERO };
    let mut rows = Vec::new();
    file.rows(&mut |cells: &[Value<'_>]| rows.push(cells.iter().map(farthing_ledger::read::text).collect())).unwrap();
    rows
}

fn bucket(endpoint: &str) -> S3Spec {
    S3Spec {
        bucket: BUCKET.to_owned(),
        prefix: PREFIX.to_owned(),
        region: "us-east-1".to_owned(),
        endpoint: Some(endpoint.to_owned()),
        path_style: true,
        credentials: S3Credentials::Key { id: "tests".into(), secret: SECRET.into(), session_token: None },
        authorities: None,
    }
}

fn sink_with(endpoint: &str, deadline: Span) -> Arc<dyn Sink> {
    Arc::new(S3::new(&bucket(endpoint), deadline).unwrap())
}

fn sink(endpoint: &str) -> Arc<dyn Sink> {
    sink_with(endpoint, DEADLINE)
}

fn spec(endpoint: &str) -> SinkSpec {
    SinkSpec {
        name: "lake".into(),
        tables: ALL.to_vec(),
        deadline: DEADLINE,
        interval: Span::from_millis(50),
        retention: None,
        target: Target::S3(bucket(endpoint)),
    }
}

/// A driver for which the rows are of today.
fn driver(sink: Arc<dyn Sink>, spec: SinkSpec, dir: &Path) -> farthing_sinks::Driver {
    driver_at(sink, spec, (dir, BTreeMap::new(), Arc::new(VirtualClock::new(at_hour(HOUR + 1)))))
}

fn file_of(dir: &Path, table: &'static Table) -> FinishedFile {
    suite::files(dir).into_iter().find(|file| file.table == table).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_conforms() {
    let Some(store) = Store::start() else { return };
    // What is not ours is neither read nor removed.
    let foreign = ["notes.txt", "spend/prod/calls/readme.md", "spend/prod/calls/date=2026-11-27/mine.parquet"];
    foreign.iter().for_each(|name| store.put(name, b"mine"));
    suite::conforms(sink(&store.endpoint()), &Own(&store)).await;
    let names = store.names();
    assert!(foreign.iter().all(|name| names.contains_key(*name)), "{names:?}");
}

/// Only what is named as we do.
struct Own<'a>(&'a Store);

impl Holds for Own<'_> {
    fn rows(&self, table: &'static Table) -> Vec<Vec<String>> {
        rows_named(self.0, table, |name| name.contains("/hour="))
    }
}

/// What is below the prefix is a log: got from there as it is, our own tools read it.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_there_is_a_log_again() {
    let Some(store) = Store::start() else { return };
    let (dir, back) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let id = log(dir.path());
    driver(sink(&store.endpoint()), spec(&store.endpoint()), dir.path()).round().await.unwrap();
    let first = file_of(dir.path(), CallRow::TABLE);
    let name = format!("{PREFIX}/calls/{}/{id}-{}", partition(HOUR), first.name());
    assert_eq!(store.get(&name), std::fs::read(&first.path).unwrap(), "byte by byte");
    for name in store.names().into_keys() {
        let path = back.path().join(name.strip_prefix(PREFIX).unwrap().trim_start_matches('/'));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, store.get(&name)).unwrap();
    }
    for table in ALL {
        assert_eq!(suite::logged(back.path(), table), suite::logged(dir.path(), table), "{}", table.name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_store_refuses_is_told_apart() {
    let Some(store) = Store::start() else { return };
    let between = Between::start(store.port).await;
    let dir = tempfile::tempdir().unwrap();
    let id = log(dir.path());
    let file = file_of(dir.path(), CallRow::TABLE);
    let none = S3Spec { bucket: "no-such-bucket".to_owned(), ..bucket(&store.endpoint()) };
    let refused = S3::new(&none, DEADLINE).unwrap().prepare().await.unwrap_err();
    assert!(refused.reason == FaultReason::Refused && refused.detail.contains("no bucket `no-such-bucket`: make it"), "{refused}");
    let nobody = sink(&format!("http://127.0.0.1:{}", servers::free_port()));
    assert_eq!(nobody.prepare().await.unwrap_err().reason, FaultReason::Unreachable);
    let sink = sink_with(&between.endpoint(), Span::from_secs(2));
    for (status, said, words, reason) in [
        (403, "<Error><Code>SignatureDoesNotMatch</Code></Error>", "403 Forbidden: SignatureDoesNotMatch", FaultReason::Refused),
        (
            400,
            "<Error><Code>AuthorizationHeaderMalformed</Code></Error>",
            "400 Bad Request: AuthorizationHeaderMalformed",
            FaultReason::Refused,
        ),
        (503, "<Error><Code>SlowDown</Code></Error>", "503 Service Unavailable: SlowDown", FaultReason::Unavailable),
        (500, "<Error><Code>InternalError</Code></Error>", "500 Internal Server Error: InternalError", FaultReason::Unavailable),
        (429, "later", "429 Too Many Requests: later", FaultReason::Unavailable),
    ] {
        between.decide(move |_| Fate::Say(StatusCode::from_u16(status).unwrap(), said));
        for fault in [sink.prepare().await.unwrap_err(), sink.ship(&id, &file).await.unwrap_err()] {
            assert!(fault.reason == reason && fault.detail.ends_with(words), "{fault}");
        }
    }
    between.decide(|_| Fate::Drop);
    assert_eq!(sink.ship(&id, &file).await.unwrap_err().reason, FaultReason::Unreachable);
    store.signal("-STOP");
    between.decide(|_| Fate::Pass);
    assert_eq!(sink.prepare().await.unwrap_err().reason, FaultReason::Timeout);
    store.signal("-CONT");
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_is_verified() {
    let Some(store) = Store::start() else { return };
    let own = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(own.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_no_client_auth().with_single_cert(vec![own.cert.der().clone()], key).unwrap();
    let between = Between::start_with(store.port, Some(Arc::new(config).into())).await;
    let endpoint = between.endpoint().replace("http://", "https://");
    let known = S3Spec { authorities: Some(own.cert.pem()), ..bucket(&endpoint) };
    S3::new(&known, DEADLINE).unwrap().prepare().await.unwrap();
    let refused = sink(&endpoint).prepare().await.unwrap_err();
    assert!(refused.reason == FaultReason::Refused && refused.detail.contains("UnknownIssuer"), "{refused}");
}

/// A store without conditional writes is noticed, and gets each file once all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_without_conditions_is_served_all_the_same() {
    let Some(store) = Store::start() else { return };
    let between = Between::start(store.port).await;
    between.decide(|seen| match seen.conditional {
        true => Fate::Say(StatusCode::NOT_IMPLEMENTED, "<Error><Code>NotImplemented</Code></Error>"),
        false => Fate::Pass,
    });
    suite::conforms(sink(&between.endpoint()), &store).await;
}

/// Without a key the platform is asked who this machine is.
#[tokio::test(flavor = "multi_thread")]
async fn a_machine_signs_by_its_own_identity() {
    let Some(store) = Store::start() else { return };
    let between = Between::start(store.port).await;
    let who = r#"{"AccessKeyId":"OFTHEPOD","SecretAccessKey":"s","Token":"t","Expiration":"2999-01-01T00:00:00Z"}"#;
    let platform = answers(who.to_owned()).await;
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    std::fs::write(&token, "of the pod").unwrap();
    let machine = vec![
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("http://127.0.0.1:{platform}/v1/credentials")),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", token.display().to_string()),
        ("AWS_ROLE_ARN", "arn:aws:iam::1:role/unused".to_owned()),
        ("AWS_ROLE_SESSION_NAME", "unused".to_owned()),
        ("AWS_ENDPOINT_URL_STS", "https://unused.example.com".to_owned()),
    ];
    let spec = S3Spec { credentials: S3Credentials::Machine(machine), ..bucket(&between.endpoint()) };
    let (asked, signed) = std::sync::mpsc::channel();
    between.decide(move |seen| {
        asked.send(seen.authorization.clone()).unwrap();
        Fate::Pass
    });
    S3::new(&spec, DEADLINE).unwrap().prepare().await.unwrap();
    assert!(signed.recv().unwrap().contains("Credential=OFTHEPOD/"));
}

/// Longer files go in parts; an upload that broke off is given up before the next.
#[tokio::test(flavor = "multi_thread")]
async fn long_files_go_in_parts() {
    let Some(store) = Store::start() else { return };
    let between = Between::start(store.port).await;
    let dir = tempfile::tempdir().unwrap();
    let id = farthing_sinks::LogId::of(dir.path()).unwrap();
    let rows = long_log(dir.path());
    let file = file_of(dir.path(), Request::TABLE);
    assert!(file.bytes > 17 << 20, "{} bytes", file.bytes);
    let sink = sink(&between.endpoint());
    let mut parts = 0;
    between.decide(move |seen| {
        parts += u32::from(seen.method == Method::PUT);
        if seen.method == Method::PUT && parts > 1 { Fate::Drop } else { Fate::Pass }
    });
    assert_eq!(sink.ship(&id, &file).await.unwrap_err().reason, FaultReason::Unreachable);
    assert_eq!((store.names().len(), store.uploads()), (0, 1), "nothing is there before all of it is");
    between.decide(|_| Fate::Pass);
    assert_eq!(sink.ship(&id, &file).await.unwrap(), Shipment::Shipped { rows, altered: 0 });
    assert_eq!((store.names().len(), store.uploads()), (1, 0));
    assert_eq!(store.get(store.names().keys().next().unwrap()), std::fs::read(&file.path).unwrap());
    assert_eq!(sink.ship(&id, &file).await.unwrap(), Shipment::Held);
    farthing_ledger::archive::forget(dir.path(), CANARY).unwrap();
    assert_eq!(sink.forget(CANARY).await.unwrap().rows["requests"], rows / 2);
    assert_equal(&store, dir.path());
}

/// One hour of requests whose texts do not compress.
fn long_log(dir: &Path) -> u64 {
    use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
    let config = farthing_ledger::LogConfig {
        journal: false,
        max_file_bytes: 1 << 30,
        queue_bytes: 1 << 30,
        row_rate: u32::MAX,
        ..Default::default()
    };
    let writer = farthing_ledger::LogWriter::open(dir, config, Arc::new(farthing_types::RealClock::default())).unwrap();
    let noise = BuildHasherDefault::<DefaultHasher>::default();
    let text = |row: u64| (0..1_000).map(|word| format!("{:016x}", noise.hash_one((row, word)))).collect::<String>();
    let rows = 3_000_u64;
    for row in 0..rows {
        let tenant = if row % 2 == 0 { "acme" } else { CANARY };
        let ts_ns = HOUR * suite::HOUR_NS + row.cast_signed();
        writer.handle().write(Request {
            ts_ns,
            request_id: row,
            weight: 1,
            tenant: tenant.into(),
            tags: Some(text(row).into()),
            ..Request::default()
        });
    }
    writer.close();
    rows
}

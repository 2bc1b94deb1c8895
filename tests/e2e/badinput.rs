//! A5, M2, O3, S6: what is wrong in configuration, data or requests is named with its place and a remedy.

use std::path::Path;
use std::process::Output;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use bytes::Bytes;
use farthing_contract::log::{CallRow, Row, SCHEMA_VERSION, TABLE_KEY, VERSION_KEY};
use farthing_tests::origin::ok;
use farthing_tests::skip::skip;
use farthing_tests::{Origin, Setup};
use futures_util::stream;
use http::{Method, Request, StatusCode};
use http_body::Frame;
use http_body_util::StreamBody;
use hyper_util::rt::TokioIo;
use parquet::arrow::ArrowWriter;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use tokio::net::TcpStream;

use crate::program::{self, command, run, said};

#[tokio::test]
async fn an_unknown_key_is_told_with_its_line_and_the_nearest_one() {
    let Some(farthing) = program::built("farthing") else {
        return skip("configuration errors: the program is not built (cargo build -p farthing)");
    };
    let dir = tempfile::tempdir().unwrap();
    let config = "[data]\nlisten = \"127.0.0.1:0\"\n\n[providers.geo]\nbase_url = \"http://127.0.0.1:9\"\n\n\
                  [routes.geo]\nprovider = \"geo\"\nstale_buget = 0.01\nmax_tll = \"1h\"\n";
    std::fs::write(dir.path().join("farthing.toml"), config).unwrap();
    for name in ["check", "serve"] {
        let refused = run(command(&farthing, dir.path(), &[name, "--config", "farthing.toml"])).await;
        let text = said(&refused);
        assert_eq!(refused.status.code(), Some(2), "{name}: {text}");
        for (place, nearest) in [("farthing.toml:9", "stale_budget"), ("farthing.toml:10", "max_ttl")] {
            let line = text.lines().find(|line| line.contains(&format!("{place}:"))).unwrap_or_else(|| panic!("{place}: {text}"));
            assert!(line.contains(&format!("did you mean `{nearest}`?")), "{name}: {text}");
        }
        assert!(refused.stdout.is_empty(), "what went wrong goes to the error stream: {text}");
    }
}

#[tokio::test]
async fn configuration_that_is_no_toml_or_not_there_is_told() {
    let Some(farthing) = program::built("farthing") else {
        return skip("configuration errors: the program is not built (cargo build -p farthing)");
    };
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("broken.toml"), "[data\nlisten = 1\n").unwrap();
    for (file, says) in [("broken.toml", "broken.toml:1"), ("absent.toml", "absent.toml")] {
        let refused = run(command(&farthing, dir.path(), &["check", "--config", file])).await;
        assert_eq!(refused.status.code(), Some(2), "{}", said(&refused));
        assert!(said(&refused).contains(says) && !said(&refused).contains("panicked"), "{}", said(&refused));
    }
}

/// Writes one Parquet file.
fn parquet(path: &Path, columns: &[(&str, ArrayRef)], metadata: &[(&str, String)]) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let batch = RecordBatch::try_from_iter(columns.iter().map(|(name, array)| (*name, array.clone()))).unwrap();
    let pairs = metadata.iter().map(|(key, value)| KeyValue::new((*key).to_owned(), value.clone())).collect();
    let properties = WriterProperties::builder().set_key_value_metadata(Some(pairs)).build();
    let mut writer = ArrowWriter::try_new(std::fs::File::create(path).unwrap(), batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

async fn fit(trainer: &Path, dir: &Path) -> Output {
    run(command(trainer, dir, &["fit", "ttl", "--logs", "logs/**/*.parquet", "--out", "models"])).await
}

fn refuses(output: &Output, parts: &[&str]) {
    let text = said(output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    for part in parts {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("panicked"), "{text}");
}

#[tokio::test]
async fn a_foreign_parquet_file_is_named_with_its_column() {
    let Some(trainer) = program::trainer() else {
        return skip("foreign Parquet files: the trainer is not built (make trainer)");
    };
    let whole = |values: &[i64]| -> ArrayRef { Arc::new(Int64Array::from(values.to_vec())) };

    let dir = tempfile::tempdir().unwrap();
    let words: ArrayRef = Arc::new(StringArray::from(vec!["a", "b"]));
    parquet(&dir.path().join("logs/a/taxis.parquet"), &[("pickup", words), ("fare", whole(&[1, 2]))], &[]);
    let output = fit(&trainer, dir.path()).await;
    refuses(&output, &["logs/a/taxis.parquet", "`ts_ns`", "`pickup`"]);

    // It says that it is one of ours, and a column has another type.
    let dir = tempfile::tempdir().unwrap();
    let times: ArrayRef = Arc::new(Float64Array::from(vec![1.5]));
    let ours = [(TABLE_KEY, CallRow::TABLE.name.to_owned()), (VERSION_KEY, SCHEMA_VERSION.to_string())];
    parquet(&dir.path().join("logs/b/calls.parquet"), &[("ts_ns", times)], &ours);
    refuses(&fit(&trainer, dir.path()).await, &["logs/b/calls.parquet", "column `ts_ns`"]);

    // A later release wrote it.
    let dir = tempfile::tempdir().unwrap();
    let later = [(TABLE_KEY, CallRow::TABLE.name.to_owned()), (VERSION_KEY, (SCHEMA_VERSION + 1).to_string())];
    parquet(&dir.path().join("logs/calls.parquet"), &[("ts_ns", whole(&[1]))], &later);
    refuses(&fit(&trainer, dir.path()).await, &["logs/calls.parquet", "schema version"]);

    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("logs")).unwrap();
    std::fs::write(dir.path().join("logs/half.parquet"), b"PAR1 cut").unwrap();
    refuses(&fit(&trainer, dir.path()).await, &["logs/half.parquet"]);

    let dir = tempfile::tempdir().unwrap();
    refuses(&fit(&trainer, dir.path()).await, &["logs/**/*.parquet"]);
    assert!(!dir.path().join("models").exists(), "nothing is published");
}

#[tokio::test]
async fn headers_that_are_too_large_or_too_many_are_431() {
    let origin = Origin::simple(|_, _| ok("{}")).await;
    let mut setup = Setup::new(origin.addr);
    (setup.config.data.max_header_bytes, setup.config.data.max_headers) = (2_000, 20);
    let client = setup.start().await;
    let long = "x".repeat(3_000);
    let large = client.client.get("/api/doc", &[("x-long", &long)]).await;
    assert_eq!(large.status, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    assert!(large.text().contains("urn:farthing:problem:large-head"), "{}", large.text());
    let many = client.client.get("/api/doc", &[("x-one", "1"); 30]).await;
    assert_eq!(many.status, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    assert!(many.text().contains("urn:farthing:problem:many-headers"), "{}", many.text());
    assert_eq!(origin.calls(), 0);
    assert_eq!(client.client.get("/api/doc", &[]).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_body_beyond_the_ports_bound_is_413_also_without_a_length() {
    let origin = Origin::simple(|seen, _| ok(seen.body.clone())).await;
    let mut setup = Setup::new(origin.addr);
    setup.config.data.max_body = 5_000;
    let started = setup.start().await;
    let declared = started.client.send(Method::POST, "/api/doc", &[], vec![b'x'; 6_000]).await;
    assert_eq!(declared.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(declared.header("content-type"), "application/problem+json");
    assert_eq!(chunked(&started.client, 6).await, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(origin.calls(), 0);
    assert_eq!(chunked(&started.client, 5).await, StatusCode::OK);
}

/// Sends a body of so many chunks of 1,000 bytes, without telling its length.
async fn chunked(client: &farthing_tests::Client, chunks: usize) -> StatusCode {
    let stream = TcpStream::connect(client.addr).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::task::spawn(connection);
    let frames = (0..chunks).map(|_| Ok::<_, std::convert::Infallible>(Frame::data(Bytes::from(vec![b'x'; 1_000]))));
    let request = Request::post("/api/doc").header("host", client.addr.to_string());
    sender.send_request(request.body(StreamBody::new(stream::iter(frames))).unwrap()).await.unwrap().status()
}

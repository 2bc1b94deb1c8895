//! A4: TLS towards clients, end to end: curl over HTTP/1.1 and HTTP/2, OpenAI's Python client, the command line; certificates that are renewed.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use farthing_proxy::edge::Refusal;
use farthing_tests::skip::skip;
use farthing_tests::{Origin, Setup, Started};
use farthing_tls::Handshake;
use farthing_types::Body;
use http::{Response, StatusCode};
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::clients::{chat_with, python, script, text};
use crate::program;
use crate::secured::Authority;

async fn origin() -> Origin {
    Origin::simple(|_, _| {
        let answer = Response::builder().header("cache-control", "max-age=60").body(Body::full(Bytes::from_static(b"hello")));
        answer.unwrap()
    })
    .await
}

async fn start(origin: &Origin, authority: &Authority) -> Started {
    let mut setup = Setup::new(origin.addr);
    setup.config.data.tls = Some(authority.tls("data"));
    setup.start().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_speaks_tls_over_either_http() {
    let (origin, authority) = (origin().await, Authority::new());
    let started = start(&origin, &authority).await;
    let url = format!("https://localhost:{}/api/x", started.client.addr.port());
    for (options, expected) in [
        (&["--http1.1", "--tlsv1.3"][..], "hello 200 1.1"),
        (&["--http2", "--tlsv1.3"], "hello 200 2"),
        (&["--http2", "--tls-max", "1.2"], "hello 200 2"),
        (&["--http1.1", "--tls-max", "1.2"], "hello 200 1.1"),
    ] {
        let mut curl = Command::new("curl");
        // The host has addresses of both kinds, and one of them is listened on.
        curl.args(["-sS", "-4", "--cacert"]).arg(authority.file()).args(["-w", " %{http_code} %{http_version}", &url]).args(options);
        let Ok(output) = curl.output().await else { return skip("TLS towards clients: curl is not on PATH") };
        assert_eq!(text(&output), expected, "{options:?}");
    }
    assert_eq!(origin.calls(), 1, "the others are hits");
    let tls = started.proxy.data_tls().unwrap();
    let mut curl = Command::new("curl");
    let refused = curl.args(["-sS", "-4", &url]).output().await.unwrap();
    assert!(!refused.status.success(), "an unknown authority is refused by the client");
    let told = farthing_proxy::telemetry::render(&started.proxy).unwrap();
    assert!(told.contains("farthing_tls_handshakes_total{table=\"data.tls\",outcome=\"done\"} 4"), "{told}");
    assert!(tls.handshakes(Handshake::Done) == 4 && tls.expires() > started.proxy.wall_now());
    started.proxy.shutdown().await;
}

/// Who speaks plain HTTP is told so in its own words.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plain_http_is_answered_with_what_to_do() {
    let (origin, authority) = (origin().await, Authority::new());
    let started = start(&origin, &authority).await;
    let answer = started.client.get("/api/x", &[]).await;
    assert!(answer.status == StatusCode::BAD_REQUEST && answer.text().contains("https://"), "{}", answer.text());
    assert_eq!((origin.calls(), started.proxy.edge_stats().refused(Refusal::PlainHttp)), (0, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openais_client_works_over_tls() {
    let Some(python) = python() else { return skip("OpenAI's Python client over TLS: no target/venv (make deps)") };
    let authority = Authority::new();
    let (_provider, started, key) = chat_with(|config| config.data.tls = Some(authority.tls("data"))).await;
    let base = format!("https://127.0.0.1:{}/openai/v1", started.client.addr.port());
    let mut client = Command::new(&python);
    client.arg(script("openai_client.py")).args([&base, &key]).env("SSL_CERT_FILE", authority.file());
    let output = client.output().await.unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(!told["text"].as_str().unwrap().is_empty() && told["text"] == told["streamed"], "{told}");
}

async fn connect(started: &Started, authority: &Authority) -> TlsStream<TcpStream> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority.file()).unwrap()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    let config = builder.with_root_certificates(roots).with_no_client_auth();
    let stream = TcpStream::connect(started.client.addr).await.unwrap();
    TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("localhost").unwrap(), stream).await.unwrap()
}

/// A connection goes on under the certificate that it began with, while new ones are shown the renewed one; a reload with files that do not fit changes
/// nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_renewed_by_a_reload_and_connections_go_on() {
    let (origin, authority) = (origin().await, Authority::new());
    let started = start(&origin, &authority).await;
    let shown = |stream: &TlsStream<TcpStream>| stream.get_ref().1.peer_certificates().unwrap()[0].to_vec();
    let stream = connect(&started, &authority).await;
    let before = shown(&stream);
    let (mut sender, connection) = hyper::client::conn::http1::handshake::<_, String>(TokioIo::new(stream)).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(connection);
    let mut ask = async || {
        let request = http::Request::builder().uri("/api/x").header("host", "localhost").body(String::new()).unwrap();
        sender.ready().await.unwrap();
        let answer = sender.send_request(request).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        answer.into_body().collect().await.unwrap().to_bytes()
    };
    assert_eq!(&ask().await[..], b"hello");
    let reload = async || {
        let (proxy, config) = (started.proxy.clone(), farthing_config::Config::clone(&started.proxy.config()));
        tokio::task::spawn_blocking(move || proxy.reload(|| Ok((config, "digest".into())))).await.unwrap()
    };
    authority.files("data");
    reload().await.unwrap();
    assert_ne!(shown(&connect(&started, &authority).await), before);
    assert_eq!(&ask().await[..], b"hello");
    // A key of another certificate.
    let renewed = shown(&connect(&started, &authority).await);
    std::fs::copy(authority.files("other").key, authority.files("spare").key).unwrap();
    std::fs::copy(authority.files("other").key, started.proxy.config().data.tls.as_ref().unwrap().first.key.clone()).unwrap();
    let refused = reload().await.unwrap_err().problem;
    assert!(refused.contains("data.tls.key") && refused.contains("not the key of"), "{refused}");
    assert_eq!(shown(&connect(&started, &authority).await), renewed);
    assert_eq!(&ask().await[..], b"hello");
}

/// A client that begins a handshake and says no more is cut off with the stop, and does not keep the process from ending.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handshake_under_way_does_not_hold_up_the_end() {
    let (origin, authority) = (origin().await, Authority::new());
    let started = start(&origin, &authority).await;
    let mut stalled = TcpStream::connect(started.client.addr).await.unwrap();
    stalled.write_all(b"\x16\x03\x01\x02\x00").await.unwrap();
    // Another one is accepted after it.
    drop(connect(&started, &authority).await);
    started.proxy.shutdown().await;
    let mut rest = Vec::new();
    let _it_may_be_reset = stalled.read_to_end(&mut rest).await;
    assert!(rest.is_empty());
}

/// The built program with both ports over TLS, asked by curl and by its own command line.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_admin_port_speaks_tls_to_the_command_line() {
    let Some(farthing) = program::built("farthing") else { return skip("TLS of the program: no binary beside the tests (cargo build)") };
    let (authority, dir) = (Authority::new(), tempfile::tempdir().unwrap());
    let files = authority.files("admin");
    let table = |port: &str| format!("[{port}.tls]\ncert = {:?}\nkey = {:?}\n", files.cert, files.key);
    let text = format!("{}{}[log]\nenabled = false\n[providers.geo]\nbase_url = \"http://127.0.0.1:1\"\n", table("data"), table("admin"));
    std::fs::write(dir.path().join("farthing.toml"), text).unwrap();
    let serving = program::Serving::start(&farthing, dir.path(), &["--config", "farthing.toml"]).await;
    let admin = format!("https://{}", serving.admin.addr);
    let run = async |ca: Option<&Path>| {
        let mut command = program::command(&farthing, dir.path(), &["status", "--admin", &admin]);
        if let Some(ca) = ca {
            command.env("FARTHING_ADMIN_CA", ca);
        }
        program::run(command).await
    };
    let good = run(Some(&authority.file())).await;
    assert!(good.status.success() && program::said(&good).contains("data port"), "{}", program::said(&good));
    let stranger = run(None).await;
    assert!(!stranger.status.success() && program::said(&stranger).contains("UnknownIssuer"), "{}", program::said(&stranger));
}

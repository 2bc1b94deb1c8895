//! A4: answers that end with trailers, as those of gRPC do: they have ended, they are not kept without their trailers, and the provider hears that
//! trailers are taken.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests may fail the test")]

#[path = "common/configs.rs"]
mod common;

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use common::{START, changed, config};
use farthing_config::Config;
use farthing_contract::log::{CallRow, Request as RequestRow, Row, Table};
use farthing_models::{Store, StoreOptions};
use farthing_proxy::Inside;
use farthing_types::{Body, Call, CallReport, Failure, Reply, VirtualClock};
use farthing_upstream::{Origin, UpstreamSpec};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};

/// Answers a call with an error as gRPC does: well in its head, the rest in its trailers.
#[derive(Clone, Default)]
struct Rpc(Arc<AtomicUsize>);

impl Origin for Rpc {
    fn fetch(&self, call: Call) -> BoxFuture<'static, Result<Reply, Failure>> {
        self.0.fetch_add(1, Ordering::SeqCst);
        assert_eq!(call.headers["te"], "trailers");
        call.sink.attempt(CallReport::only(&call, "rpc", Some(StatusCode::OK)));
        let trailers = HeaderMap::from_iter([(HeaderName::from_static("grpc-status"), HeaderValue::from_static("14"))]);
        let frames = [Ok(Frame::data(Bytes::from_static(b"hello"))), Ok(Frame::trailers(trailers))];
        let headers = HeaderMap::from_iter([(http::header::CONTENT_TYPE, HeaderValue::from_static("application/grpc+proto"))]);
        let body = Body::stream(StreamBody::new(futures_util::stream::iter(frames)));
        std::future::ready(Ok(Reply { status: StatusCode::OK, headers, body })).boxed()
    }
}

fn inside(config: Config, rpc: &Rpc, dir: &Path) -> Inside {
    let rpc = rpc.clone();
    let client = move |_: &UpstreamSpec| -> Arc<dyn Origin> { Arc::new(rpc.clone()) };
    let store = Store::open(dir.join("models"), StoreOptions::default());
    Inside::new(&Arc::new(config), Arc::new(VirtualClock::new(START)), store, &client).unwrap()
}

fn request() -> Request<Body> {
    let fields = Request::post("/pkg.Svc/M").header("host", "f.test").header("te", "trailers");
    fields.header("content-type", "application/grpc+proto").body(Body::full("x")).unwrap()
}

/// A column of a table, as text.
fn cells(dir: &Path, table: &'static Table, column: &str) -> Vec<String> {
    let mut all = Vec::new();
    let mut visit = |cells: &[farthing_contract::log::Value<'_>]| {
        all.extend(cells.iter().map(farthing_ledger::read::text));
        ControlFlow::Continue(())
    };
    farthing_ledger::read::rows(dir, table, &[column], &mut visit).unwrap();
    all
}

#[tokio::test]
async fn an_answer_that_ends_with_trailers_has_ended() {
    let (dir, rpc) = (tempfile::tempdir().unwrap(), Rpc::default());
    let mut of = config();
    (of.log.enabled, of.log.dir) = (true, dir.path().join("logs"));
    let logs = of.log.dir.clone();
    let inside = inside(of, &rpc, dir.path());
    let mut body = inside.ask(request()).await.into_body();
    assert!(body.frame().await.unwrap().unwrap().is_data());
    assert!(body.frame().await.unwrap().unwrap().is_trailers());
    drop(body); // as hyper does
    inside.settle().await;
    inside.close().await;
    assert_eq!(cells(&logs, CallRow::TABLE, "bytes_in"), ["5"]);
    assert_eq!(cells(&logs, RequestRow::TABLE, "bytes_out"), ["5"]);
}

#[tokio::test]
async fn what_says_in_its_trailers_how_it_went_is_not_kept() {
    let (dir, rpc) = (tempfile::tempdir().unwrap(), Rpc::default());
    let inside = inside(changed(config(), |route| route.idempotent = true), &rpc, dir.path());
    for n in 1..=2 {
        let body = inside.ask(request()).await.into_body().collect().await.unwrap();
        assert_eq!(body.trailers().unwrap()["grpc-status"], "14");
        assert_eq!(rpc.0.load(Ordering::SeqCst), n, "an error is not kept");
    }
}

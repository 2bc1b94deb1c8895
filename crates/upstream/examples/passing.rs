//! What a call to a provider costs: three small servers to be run where instructions are counted, which do not depend on what else the machine does.
//!
//! `passing origin` answers; `passing bare ADDRESS` passes on to it by hyper-util's pool, `passing ours ADDRESS` by an upstream with its repeats, breaker,
//! places and deadlines. Each says where it listens, and ends with its process:
//!
//! ```text
//! valgrind --tool=callgrind target/release/examples/passing ours 127.0.0.1:40000
//! callgrind_control -z    # after some requests; then a number of them, then
//! callgrind_control -d
//! ```
#![allow(clippy::print_stdout, missing_docs, reason = "it tells where it listens")]

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use farthing_types::call::NoSink;
use farthing_types::{Body, Call, CallId, Claim, Purpose, RealClock, Span};
use farthing_upstream::{Origin, Upstream, UpstreamSpec, build};
use http::{HeaderValue, Request, Response, StatusCode, Uri};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// The program's own.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Failed = Box<dyn std::error::Error + Send + Sync>;
type Forwarder = Client<HttpConnector, Incoming>;

fn main() -> Result<(), Failed> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let arg = |at: usize| args.get(at).map_or("", String::as_str);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match arg(0) {
        "origin" => runtime.block_on(serve(|_| std::future::ready(answer()))),
        "bare" => {
            let (client, origin): (Forwarder, Arc<str>) = (Client::builder(TokioExecutor::new()).build_http(), arg(1).into());
            runtime.block_on(serve(move |request| forward(client.clone(), origin.clone(), request)))
        }
        "ours" => {
            let spec = UpstreamSpec::new("bench", format!("http://{}", arg(1)).parse()?);
            let upstream = build(spec, Arc::new(RealClock::default()))?;
            runtime.block_on(serve(move |request| fetch(upstream.clone(), request)))
        }
        other => Err(format!("`{other}` is none of origin, bare, ours").into()),
    }
}

async fn serve<F, Fut, B>(handle: F) -> Result<(), Failed>
where
    F: Fn(Request<Incoming>) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = Response<B>> + Send,
    B: http_body::Body<Data = Bytes, Error: Into<Failed>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    let mut tasks = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let handle = handle.clone();
        tasks.spawn(async move {
            let service = service_fn(move |request| {
                let answering = handle(request);
                async { Ok::<_, Infallible>(answering.await) }
            });
            drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
        });
        while tasks.try_join_next().is_some() {}
    }
}

fn answer() -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(&[b'x'; 1_024])));
    let headers = response.headers_mut();
    headers.insert("content-type", HeaderValue::from_static("application/octet-stream"));
    headers.insert("cache-control", HeaderValue::from_static("max-age=3600"));
    response
}

async fn forward(client: Forwarder, origin: Arc<str>, mut request: Request<Incoming>) -> Response<Either<Incoming, Full<Bytes>>> {
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    if let Ok(uri) = format!("http://{origin}{path}").parse::<Uri>() {
        *request.uri_mut() = uri;
    }
    match client.request(request).await {
        Ok(response) => response.map(Either::Left),
        Err(_) => failed(Either::Right(Full::default())),
    }
}

async fn fetch(upstream: Arc<Upstream>, request: Request<Incoming>) -> Response<Body> {
    let (head, _) = request.into_parts();
    let call = Call {
        id: CallId(1),
        route: upstream.name().clone(),
        payer: upstream.name().clone(),
        purpose: Purpose::User,
        key: None,
        method: head.method,
        target: head.uri,
        headers: head.headers,
        body: Body::empty(),
        repeatable: false,
        deadline: Span::from_secs(60),
        claim: Claim::default(),
        batch: None,
        routing: None,
        sink: Arc::new(NoSink),
    };
    match upstream.fetch(call).await {
        Ok(reply) => {
            let mut response = Response::new(reply.body);
            (*response.status_mut(), *response.headers_mut()) = (reply.status, reply.headers);
            response
        }
        Err(_) => failed(Body::empty()),
    }
}

fn failed<B>(body: B) -> Response<B> {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::BAD_GATEWAY;
    response
}

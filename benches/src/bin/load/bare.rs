//! Bare hyper: the origin, and the least proxy that forwards. What Farthing is measured against.

use std::convert::Infallible;
use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, Uri};
use http_body_util::{BodyExt, Either, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// Bytes of the answer's body, as in the published comparisons.
const BODY: usize = 1_024;

/// The answer of the origin and of the hit case: the same head and bytes everywhere.
fn answer() -> Response<Full<Bytes>> {
    static PAYLOAD: [u8; BODY] = [b'x'; BODY];
    let mut response = Response::new(Full::new(Bytes::from_static(&PAYLOAD)));
    let headers = response.headers_mut();
    headers.insert("content-type", HeaderValue::from_static("application/octet-stream"));
    headers.insert("cache-control", HeaderValue::from_static("max-age=3600"));
    response
}

/// What an LLM answers, with its usage.
const CHAT: &str = r#"{"id":"chatcmpl-1","object":"chat.completion","created":1700000000,"model":"gpt-4o","choices":[{"index":0,"message":{"role":"assistant","content":"A farthing bought a sparrow, or two for good measure; three of them a pint of small beer at the Cheshire Cheese, and nothing at all on a Sunday."},"finish_reason":"stop"}],"usage":{"prompt_tokens":412,"completion_tokens":34,"total_tokens":446,"prompt_tokens_details":{"cached_tokens":0},"completion_tokens_details":{"reasoning_tokens":0}}}"#;

fn completion() -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(CHAT.as_bytes())));
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/json"));
    response
}

/// A question is read to its end before it is answered.
async fn answered(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
    if request.method() != http::Method::POST {
        return Ok(answer());
    }
    request.into_body().collect().await?;
    Ok(completion())
}

async fn listen() -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    announce(listener.local_addr()?);
    Ok(listener)
}

fn announce(addr: SocketAddr) {
    println!("http://{addr}");
}

/// Answers each GET with the same bytes, and each POST with the same completion.
pub async fn origin() -> anyhow::Result<()> {
    let listener = listen().await?;
    let mut tasks = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tasks.spawn(async move {
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answered)).await;
        });
        while tasks.try_join_next().is_some() {}
    }
}

/// Forwards everything to `origin` over pooled connections.
pub async fn proxy(origin: &str) -> anyhow::Result<()> {
    let listener = listen().await?;
    let client: Client<_, Incoming> = Client::builder(TokioExecutor::new()).build_http();
    let origin: SocketAddr = origin.parse()?;
    let mut tasks = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let client = client.clone();
        tasks.spawn(async move {
            let service = service_fn(move |request: Request<Incoming>| {
                let client = client.clone();
                async move { Ok::<_, Infallible>(forward(&client, origin, request).await) }
            });
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
        while tasks.try_join_next().is_some() {}
    }
}

type Forwarder = Client<hyper_util::client::legacy::connect::HttpConnector, Incoming>;

async fn forward(client: &Forwarder, origin: SocketAddr, mut request: Request<Incoming>) -> Response<Either<Incoming, Full<Bytes>>> {
    let path = request.uri().path_and_query().map_or("/", |p| p.as_str());
    if let Ok(uri) = format!("http://{origin}{path}").parse::<Uri>() {
        *request.uri_mut() = uri;
    }
    match client.request(request).await {
        Ok(response) => response.map(Either::Left),
        Err(_) => {
            let mut response = Response::new(Either::Right(Full::new(Bytes::new())));
            *response.status_mut() = http::StatusCode::BAD_GATEWAY;
            response
        }
    }
}
